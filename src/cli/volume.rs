//! `vsnap volume`: what stands on the command line.

use clap::{Args, Subcommand, ValueEnum};

use super::{
    Session,
    failure::Result,
    input,
    snapshot::Of,
    volume_action, volume_show,
    which::{Part, Volume, Which},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap volume create --name data --type filesystem --pool demo1
  vsnap volume create --name disk1 --type lun --pool demo1 --size 1.5T
  vsnap volume create --name vm1 --type filebackedlun --parent data --path vms/vm1.img
  vsnap volume clone --name test --snapshot before_upgrade --volume data
  vsnap volume show                     all volumes
  vsnap volume show --pool demo1 --type lun --sort=-size_used --limit 10
  vsnap volume show data                one volume in full
  vsnap volume update disk1 --size 2T
  vsnap volume rollback data --snapshot before_upgrade
  vsnap volume promote test             so that what it was cloned from can be deleted
  vsnap volume delete data --noprompt

VOLUME, and everything else that is named, is an id or a name; --id and --name say which of the two is meant. Where \
several volumes have a snapshot of one name, --volume says which of them is to be cloned. Sizes have \
binary units: 10G are 10 x 1024 x 1024 x 1024 bytes.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a volume
    Create(Create),
    /// Make a volume that holds what a snapshot holds
    Clone {
        /// Its name, up to 256 characters
        #[arg(long)]
        name: String,
        /// The snapshot, by id or name
        #[arg(long, alias = "snapshot_id", alias = "snapshot-id")]
        snapshot: String,
        #[command(flatten)]
        of: Of,
    },
    /// Show all volumes, or some, or one in full
    Show(Show),
    /// Change name, size and options of a volume
    Update(Update),
    /// Make a volume what it was when a snapshot was made
    Rollback(Rollback),
    /// Make a clone independent of the volume that it was cloned from
    ///
    /// The clone takes over the snapshots up to the one that it was cloned from, so that the other volume can be deleted.
    Promote {
        #[command(flatten)]
        which: Which<Volume>,
    },
    /// Delete a volume and its snapshots
    Delete {
        #[command(flatten)]
        which: Which<Volume>,
        /// Also when it has replication relationships
        #[arg(long)]
        force: bool,
    },
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Create(create) => volume_action::create(session, &create),
            Verb::Clone { name, snapshot, of } => volume_action::clone(session, &name, &snapshot, &of),
            Verb::Show(show) => volume_show::show(session, &show),
            Verb::Update(update) => volume_action::update(session, &update),
            Verb::Rollback(rollback) => volume_action::rollback(session, &rollback),
            Verb::Promote { which } => volume_action::promote(session, &which),
            Verb::Delete { which, force } => volume_action::delete(session, &which, force),
        }
    }
}

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Type {
    /// To be shared by NFS or SMB
    Filesystem,
    /// A block device, to be mapped to hosts
    Lun,
    /// A file of a filesystem, to be mapped to hosts
    #[value(name = "filebackedlun")]
    FileBackedLun,
}

impl Type {
    pub(super) fn word(self) -> &'static str {
        match self {
            Type::Filesystem => "filesystem",
            Type::Lun => "lun",
            Type::FileBackedLun => "filebackedlun",
        }
    }
}

/// A new volume.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name, up to 256 characters
    #[arg(long)]
    pub name: String,
    /// What it is
    #[arg(long = "type", value_enum, alias = "volume_type", alias = "volume-type")]
    pub volume_type: Type,
    /// filesystem, lun: the pool, by id or name; where there is only one, it need not be named
    #[arg(long, alias = "pool_id", alias = "pool-id")]
    pub pool: Option<String>,
    /// lun: its size; filesystem: its limit
    #[arg(long, value_parser = input::size, alias = "size_total", alias = "size-total",
        required_if_eq("volume_type", "lun"))]
    pub size: Option<u64>,
    /// lun: size of its blocks, a power of two from 512 to 128K; 64K when it is not given
    #[arg(long, value_name = "SIZE", value_parser = input::size, alias = "size_block", alias = "size-block")]
    pub block_size: Option<u64>,
    /// filebackedlun: the volume that has the file, by id or name
    #[arg(
        long,
        value_name = "VOLUME",
        alias = "parent_id",
        alias = "parent-id",
        required_if_eq("volume_type", "filebackedlun")
    )]
    pub parent: Option<String>,
    /// filebackedlun: an existing file, relative to the root of that volume
    #[arg(long, alias = "parent_path", alias = "parent-path", required_if_eq("volume_type", "filebackedlun"))]
    pub path: Option<String>,
    #[command(flatten)]
    pub options: Options,
}

/// Options of a volume that are to be set; a new one follows its pool in those not given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Volume options")]
pub(super) struct Options {
    /// Compress what is written
    #[arg(long, value_name = "on|off", value_enum)]
    compression: Option<Switch>,
    /// Store equal blocks once; needs memory for its table
    #[arg(long, value_name = "on|off", value_enum, alias = "deduplication")]
    dedup: Option<Switch>,
    /// Synchronous writes are on disk before they are acknowledged
    #[arg(long, value_name = "on|off", value_enum)]
    syncwrite: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Options {
    /// The members of a request for those that were given.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let members = [("compression", self.compression), ("deduplication", self.dedup), ("syncwrite", self.syncwrite)];
        members.into_iter().filter_map(|(name, switch)| Some((name, switch? == Switch::On)))
    }
}

/// Which volumes to show.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    pub which: Which<Volume>,
    /// Only those of this pool, by id or name
    #[arg(long, conflicts_with = "Which")]
    pub pool: Option<String>,
    /// Only those of this type
    #[arg(long = "type", value_enum, conflicts_with = "Which")]
    pub volume_type: Option<Type>,
    #[command(flatten)]
    pub part: Part,
}

/// A changed volume.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    pub which: Which<Volume>,
    /// New name
    #[arg(long, value_name = "NAME")]
    pub new_name: Option<String>,
    /// New size of a lun, which can only grow; new limit of a filesystem, or "none"
    #[arg(long, value_name = "SIZE|none", value_parser = size_or_none)]
    pub size: Option<NewSize>,
    #[command(flatten)]
    pub options: Options,
}

/// A size, or none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewSize(pub Option<u64>);

fn size_or_none(text: &str) -> Result<NewSize, String> {
    if text == "none" { Ok(NewSize(None)) } else { input::size(text).map(|bytes| NewSize(Some(bytes))) }
}

/// The way back.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    pub which: Which<Volume>,
    /// The snapshot, by id or name
    #[arg(long)]
    pub snapshot: String,
    /// Newer snapshots that may be destroyed for it, by id or name; all newer ones must be named
    #[arg(long, value_name = "SNAPSHOT,...", value_delimiter = ',')]
    pub discard_snapshots: Vec<String>,
    /// Clones of those that may be destroyed for it, by id or name
    #[arg(long, value_name = "VOLUME,...", value_delimiter = ',')]
    pub discard_clones: Vec<String>,
    /// The volume's share, when it has one, by id or name; it is deleted
    #[arg(long, value_name = "SHARE", value_delimiter = ',')]
    pub discard_shares: Vec<String>,
    /// Hosts that it is mapped to, by id or name; all must be named, and must not use it now
    #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
    pub discard_hosts: Vec<String>,
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
        Line::try_parse_from(std::iter::once("volume").chain(line.split(' '))).map(|line| line.verb)
    }

    #[test]
    fn each_type_has_its_needs() {
        for line in [
            "create --name a --type filesystem",
            "create --name a --type filesystem --pool p --size 10G",
            "create --name a --type lun --size 1T --block-size 4K",
            "create --name a --volume_type lun --pool_id 1 --size_total 1073741824 --size_block 512",
            "create --name a --type filebackedlun --parent 1 --path x/y",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "create --name a",
            "create --type filesystem",
            "create --name a --type lun",
            "create --name a --type filebackedlun --parent 1",
            "create --name a --type filebackedlun --path x",
            "create --name a --type tape",
            "create --name a --type lun --size big",
            "create --name a --type filesystem --compression yes",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn options_that_are_not_given_are_not_sent() {
        let Ok(Verb::Update(update)) = parse("update a --compression off --dedup on") else { panic!("no update") };
        assert_eq!(update.options.members().collect::<Vec<_>>(), [("compression", false), ("deduplication", true)]);
        let Ok(Verb::Update(update)) = parse("update a --size none") else { panic!("no update") };
        assert_eq!((update.options.members().count(), update.size), (0, Some(NewSize(None))));
    }

    #[test]
    fn a_part_is_of_a_list() {
        let Ok(Verb::Show(show)) = parse("show --limit 5 --sort -size_used,name") else { panic!("no show") };
        let expected = [("limit", "5".to_owned()), ("sort", "-size_used,name".to_owned())];
        assert_eq!(show.part.parameters().collect::<Vec<_>>(), expected);
        for line in ["show a --limit 5", "show --id 1 --pool p", "show --name a --type lun", "show --limit -1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
