//! `vsnap snapshot`: what stands on the command line.

use clap::{Args, Subcommand};

use super::{
    Session,
    client::Client,
    failure::Result,
    input, snapshot_action, snapshot_diff, snapshot_show,
    which::{self, Found, Noun, Part, Snapshot, Volume},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap snapshot create data            its name is made
  vsnap snapshot create log db1 db2 --name before_upgrade
                                        of several volumes at one moment, all or none
  vsnap snapshot create data --expires 30d --lock
                                        nobody can delete it for 30 days
  vsnap snapshot show                   all snapshots
  vsnap snapshot show --volume data --sort=-time_created --limit 10
  vsnap snapshot show before_upgrade --volume db1
  vsnap snapshot diff 12 --to 13        paths that changed, and bytes written
  vsnap snapshot update 12 --expires 2026-12-31
  vsnap snapshot hold 12 --reason \"legal case 5\"
  vsnap snapshot release 12 --reason \"legal case 5\"
  vsnap snapshot delete 12 13 --noprompt

SNAPSHOT is an id or a name. Where several volumes have a snapshot of one name, --volume says which of them is meant.
Times are spans from now on (30d, 12h, 1y), dates (kept through that day) or seconds since 1970.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a snapshot of a volume, or of several at one moment
    Create(Create),
    /// Show all snapshots, or those of a volume, or one in full
    Show(Show),
    /// Show what has changed since a snapshot
    Diff(Diff),
    /// Change how long a snapshot is kept
    Update(Update),
    /// Keep a snapshot from being deleted, for a reason
    Hold(WithReason),
    /// Take the reason for a hold back
    Release(WithReason),
    /// Delete snapshots
    Delete {
        /// The snapshots, by id or name
        #[arg(value_name = Snapshot::PLACEHOLDER, required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        of: Of,
    },
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Create(create) => snapshot_action::create(session, &create),
            Verb::Show(show) => snapshot_show::show(session, &show),
            Verb::Diff(diff) => snapshot_diff::show(session, &diff),
            Verb::Update(update) => snapshot_action::update(session, &update),
            Verb::Hold(with) => snapshot_action::hold(session, &with),
            Verb::Release(with) => snapshot_action::release(session, &with),
            Verb::Delete { keys, of } => snapshot_action::delete(session, &keys, &of),
        }
    }
}

/// Of which volume a snapshot is.
#[derive(Debug, Args)]
pub(super) struct Of {
    /// The volume whose snapshot is meant, by id or name
    #[arg(long)]
    volume: Option<String>,
}

impl Of {
    /// The volume, when one was named.
    pub(super) fn volume(&self, client: &Client) -> Result<Option<Found>> {
        self.volume.as_ref().map(|key| which::find::<Volume>(client, key)).transpose()
    }

    /// The snapshot that `key` means.
    pub(super) fn find(&self, client: &Client, key: &str) -> Result<Found> {
        match self.volume(client)? {
            Some(volume) => which::find_snapshot_of(client, &volume, key),
            None => which::find::<Snapshot>(client, key),
        }
    }
}

/// The snapshot that a command is about.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The snapshot, by id or name
    #[arg(value_name = Snapshot::PLACEHOLDER)]
    key: String,
    #[command(flatten)]
    pub of: Of,
}

impl One {
    /// The snapshot that is meant.
    pub(super) fn find(&self, client: &Client) -> Result<Found> {
        self.of.find(client, &self.key)
    }
}

/// A new snapshot.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The volumes, by id or name; of several the snapshots are of one moment
    #[arg(value_name = Volume::PLACEHOLDER, required = true)]
    pub volumes: Vec<String>,
    /// Name of the snapshot on each of them; one is made when it is not given
    #[arg(long)]
    pub name: Option<String>,
    /// When the appliance may delete it: 30d, 2026-12-31, or seconds since 1970; never when it is not given
    #[arg(long, value_name = "TIME", value_parser = input::expiry)]
    pub expires: Option<i64>,
    /// Nobody can delete it until then, and nobody can take that back
    #[arg(long, requires = "expires")]
    pub lock: bool,
}

/// Which snapshots to show.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// One snapshot, by id or name
    // In the group of `Which`, since it does not go with a part of the list either.
    #[arg(value_name = Snapshot::PLACEHOLDER, group = "Which")]
    pub key: Option<String>,
    #[command(flatten)]
    pub of: Of,
    #[command(flatten)]
    pub part: Part,
}

/// Two points in time.
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    pub one: One,
    /// A later snapshot of the same volume, by id or name; now when it is not given
    #[arg(long, value_name = Snapshot::PLACEHOLDER)]
    pub to: Option<String>,
}

/// How long a snapshot is kept from now on.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    pub one: One,
    /// When the appliance may delete it: 30d, 2026-12-31, seconds since 1970, or none for never
    #[arg(long, value_name = "TIME|none", value_parser = until)]
    pub expires: Option<Until>,
    /// Nobody can delete it until then, and nobody can take that back
    #[arg(long)]
    pub lock: bool,
}

/// A time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Until(pub Option<i64>);

fn until(text: &str) -> Result<Until, String> {
    if text == "none" { Ok(Until(None)) } else { input::expiry(text).map(|time| Until(Some(time))) }
}

/// A snapshot and why it is held.
#[derive(Debug, Args)]
pub(super) struct WithReason {
    #[command(flatten)]
    pub one: One,
    /// Why
    #[arg(long)]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        verb: Verb,
    }

    fn parse(line: &str) -> Result<Verb, clap::Error> {
        Line::try_parse_from(std::iter::once("snapshot").chain(line.split(' '))).map(|line| line.verb)
    }

    #[test]
    fn what_belongs_together_is_needed_together() {
        for line in [
            "create a",
            "create a b c --name n --expires 30d --lock",
            "show",
            "show a --volume v",
            "show --volume v --limit 5",
            "update a --lock",
            "update a --expires none",
            "delete a b",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "create",
            "create a --lock",
            "create a --expires none",
            "create a --expires 1497365131",
            "show a --limit 5",
            "update --lock",
            "hold a",
            "release --reason r",
            "delete",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
