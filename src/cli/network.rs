//! `vsnap network`: network interfaces.

use clap::{Subcommand, builder::PossibleValuesParser};
use serde_json::{Value, json};

use super::{
    Session,
    failure::Result,
    json,
    table::{self, Column::*},
    which::{Network, Which},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap network show                                 all interfaces and the services that each offers
  vsnap --json network show                          the same for scripts
  vsnap network update eth1 --services nfs,iscsi     of its services only NFS and iSCSI through eth1
  vsnap network update 005056b45302 --services all   everything again

An interface is named by its id or its name. Those without a MAC address, such as tunnels, are not listed and stay open. \
At least one interface always keeps mgmt, which is the API; SSH is reachable where mgmt or repl is. While something is \
shared by NFS or SMB, a change of nfs or smb restarts its server: NFS clients wait and go on, SMB clients connect again.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show all interfaces but the loopback and those without a MAC address
    Show,
    /// Set which services are reachable through an interface
    Update {
        #[command(flatten)]
        which: Which<Network>,
        /// The services, with commas; those that are not named can't be reached through it any more
        #[arg(long, value_name = "SERVICE,...", required = true, value_delimiter = ',',
            value_parser = PossibleValuesParser::new(["mgmt", "nfs", "smb", "iscsi", "repl", "all"]))]
        services: Vec<String>,
    },
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Show => session.show("/api/network", networks_text),
            Verb::Update { which, services } => {
                let path = which.find(&session.client)?.path();
                let network = session.client.put(&path, &json!({ "services": services }))?;
                session.output.show(&network, |network| networks_text(&json!({ "networks": [network] })))
            }
        }
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
