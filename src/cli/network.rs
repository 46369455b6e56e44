//! `vsnap network`: network interfaces.

use clap::Subcommand;
use serde_json::Value;

use super::{
    Session,
    failure::Result,
    json,
    table::{self, Column::*},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap network show                    all interfaces and the services that each offers
  vsnap --json network show             the same for scripts";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show all interfaces but the loopback
    Show,
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        let Verb::Show = self;
        session.show("/api/network", networks_text)
    }
}

fn networks_text(list: &Value) -> String {
    let lines = |network: &Value, member: &str| json::text(network, member).replace(", ", "\n");
    let row = |network: &Value| {
        vec![
            json::text(network, "name"),
            json::text(network, "id"),
            lines(network, "ip4_addrs"),
            lines(network, "ip6_addrs"),
            json::text(network, "services"),
        ]
    };
    table::list(
        &[Text("NAME"), Text("ID"), Text("IPV4"), Text("IPV6"), Text("SERVICES")],
        json::items(list, "networks").iter().map(row),
        "There are no network interfaces.",
    )
}
