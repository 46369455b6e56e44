//! `vsnap target`: iSCSI target ports.

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
  vsnap target show                     the iSCSI name of the appliance
  vsnap --json target show              the same for scripts";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the target ports
    Show,
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        let Verb::Show = self;
        session.show("/api/target", targets_text)
    }
}

fn targets_text(list: &Value) -> String {
    let row = |target: &Value| ["type", "wwn"].map(|member| json::text(target, member)).to_vec();
    let targets = json::items(list, "targets").iter().map(row);
    table::list(&[Text("TYPE"), Text("WWN")], targets, "There are no target ports.")
}
