//! `vsnap pool`: what stands on the command line.

use clap::{Args, Subcommand, ValueEnum};

use super::{
    Session,
    failure::Result,
    pool_action, pool_show, pool_status,
    which::{Pool, Which},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap pool create --name demo1 --type raid6 --disks all
  vsnap pool create --name fast --type raid5 --disks /dev/sdb,/dev/sdc,/dev/sdd --dedup
  vsnap pool show                       all pools
  vsnap pool show demo1                 one pool in full
  vsnap pool status                     disks, errors, and how far a scrub or rebuild is
  vsnap pool expand demo1 --disks all
  vsnap pool add-log demo1 --disks /dev/nvme0n1,/dev/nvme1n1
  vsnap pool replace demo1 --old /dev/sdd --new /dev/sdf --wait
  vsnap pool online demo1 /dev/sdd
  vsnap pool scrub --wait
  vsnap pool delete demo1 --noprompt

POOL is an id or a name; --id and --name say which of the two is meant. Where there is only one \
pool, commands other than delete need neither. A second pool needs an appliance that was set up with \
`vsnap system init --multipool`. Disks are named as `vsnap disk --help` tells.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a pool of unused disks
    Create(Create),
    /// Show all pools, or one in full
    Show {
        #[command(flatten)]
        which: Which<Pool>,
    },
    /// Show the state of a pool's disks, and how far a scrub or rebuild is
    Status {
        #[command(flatten)]
        which: Which<Pool>,
    },
    /// Change name and options of a pool
    Update(Update),
    /// Add groups of disks, of the same type as those there
    Expand {
        #[command(flatten)]
        which: Which<Pool>,
        #[command(flatten)]
        disks: DisksOrAll,
    },
    /// Add a log device (SLOG), mirrored when several disks are given
    #[command(alias = "add_log")]
    AddLog(WithDisks),
    /// Remove all log devices
    #[command(alias = "remove_log")]
    RemoveLog {
        #[command(flatten)]
        which: Which<Pool>,
    },
    /// Add read-cache disks (L2ARC)
    #[command(alias = "add_cache")]
    AddCache(WithDisks),
    /// Remove all read-cache disks
    #[command(alias = "remove_cache")]
    RemoveCache {
        #[command(flatten)]
        which: Which<Pool>,
    },
    /// Add hot spares
    #[command(alias = "add_spare")]
    AddSpare(WithDisks),
    /// Remove hot spares that are not in use
    #[command(alias = "remove_spare")]
    RemoveSpare(WithDisks),
    /// Read and check everything in a pool
    Scrub {
        #[command(flatten)]
        which: Which<Pool>,
        /// Stop the scrub that is running
        #[arg(long, conflicts_with = "wait")]
        stop: bool,
        /// Wait for its end; exit code 1 when it found errors
        #[arg(long)]
        wait: bool,
    },
    /// Replace a disk by an unused one, and rebuild
    Replace(Replace),
    /// Take a disk back into use
    Online(WithDisk),
    /// Take a disk out of use, where the pool can do without it
    Offline(WithDisk),
    /// Reset error counters, and resume a suspended pool whose disks are back
    Clear {
        #[command(flatten)]
        which: Which<Pool>,
    },
    /// Delete a pool and everything in it
    Delete {
        #[command(flatten)]
        which: Which<Pool>,
        /// Also end its replication relationships, destroy snapshots that are held and datasets that the appliance did not
        /// make, and only forget a pool whose disks are absent; a pool with a locked snapshot is kept all the same
        #[arg(long)]
        force: bool,
    },
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Create(create) => pool_action::create(session, &create),
            Verb::Show { which } => pool_show::show(session, &which),
            Verb::Status { which } => pool_status::show(session, &which),
            Verb::Update(update) => pool_action::update(session, &update),
            Verb::Expand { which, disks } => pool_action::expand(session, &which, &disks),
            Verb::AddLog(with) => pool_action::add(session, &with, "addlog"),
            Verb::RemoveLog { which } => pool_action::remove_all(session, &which, "removelog", "log devices"),
            Verb::AddCache(with) => pool_action::add(session, &with, "addcache"),
            Verb::RemoveCache { which } => pool_action::remove_all(session, &which, "removecache", "cache disks"),
            Verb::AddSpare(with) => pool_action::add(session, &with, "addspare"),
            Verb::RemoveSpare(with) => pool_action::remove_spares(session, &with),
            Verb::Scrub { which, stop: true, .. } => pool_action::stop_scrub(session, &which),
            Verb::Scrub { which, wait, .. } => pool_action::scrub(session, &which, wait),
            Verb::Replace(replace) => pool_action::replace(session, &replace),
            Verb::Online(with) => pool_action::online(session, &with),
            Verb::Offline(with) => pool_action::offline(session, &with),
            Verb::Clear { which } => pool_action::clear(session, &which),
            Verb::Delete { which, force } => pool_action::delete(session, &which, force),
        }
    }
}

/// Redundancy of a pool.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Type {
    /// No redundancy: lost with any of its disks
    Raid0,
    /// One disk of each group may fail; three disks at least
    Raid5,
    /// Two disks of each group may fail; four disks at least
    Raid6,
}

impl Type {
    pub(super) fn word(self) -> &'static str {
        match self {
            Type::Raid0 => "raid0",
            Type::Raid5 => "raid5",
            Type::Raid6 => "raid6",
        }
    }
}

/// Disks, or all that are unused.
#[derive(Debug, Args)]
pub(super) struct DisksOrAll {
    /// Disks to use, with commas between them; without this, or with "all", all unused disks
    #[arg(long = "disks", value_name = "DISK,...", value_delimiter = ',', alias = "disk_list", alias = "disk-list")]
    pub disks: Vec<String>,
}

impl DisksOrAll {
    /// Whether all unused disks are meant.
    pub(super) fn are_all(&self) -> bool {
        self.disks.is_empty() || self.disks == ["all"]
    }
}

/// A pool and disks.
#[derive(Debug, Args)]
pub(super) struct WithDisks {
    #[command(flatten)]
    pub which: Which<Pool>,
    /// Disks, with commas between them
    #[arg(
        long,
        value_name = "DISK,...",
        value_delimiter = ',',
        required = true,
        alias = "disk_list",
        alias = "disk-list"
    )]
    pub disks: Vec<String>,
}

/// A pool and a disk of it.
#[derive(Debug, Args)]
pub(super) struct WithDisk {
    #[command(flatten)]
    pub which: Which<Pool>,
    /// The disk, where POOL stands before it
    #[arg(value_name = "DISK", required_unless_present = "flag", requires = "key")]
    disk: Option<String>,
    /// The disk
    #[arg(long = "disk", id = "flag", value_name = "DISK", conflicts_with = "disk")]
    flag: Option<String>,
}

impl WithDisk {
    /// The disk as it was named.
    pub(super) fn disk(&self) -> &str {
        // One of the two is there, or the parser would have refused.
        self.flag.as_ref().or(self.disk.as_ref()).map_or("", String::as_str)
    }
}

/// A new pool.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name, up to 256 characters
    #[arg(long)]
    pub name: String,
    /// Redundancy
    #[arg(long = "type", value_enum, alias = "pool_type", alias = "pool-type")]
    pub pool_type: Type,
    #[command(flatten)]
    pub disks: DisksOrAll,
    #[command(flatten)]
    pub options: Options,
}

/// Options of a pool that are to be set; those not given stay, or have their default.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pool options")]
pub(super) struct Options {
    /// Compress what is written (default for a new pool)
    #[arg(long, overrides_with = "no_compression")]
    compression: bool,
    /// Do not compress
    #[arg(long)]
    no_compression: bool,
    /// Store equal blocks once; needs memory for its table
    #[arg(long, alias = "deduplication", overrides_with = "no_dedup")]
    dedup: bool,
    /// Store every block (default for a new pool)
    #[arg(long, alias = "no-deduplication")]
    no_dedup: bool,
    /// Synchronous writes are on disk before they are acknowledged (default for a new pool)
    #[arg(long, overrides_with = "no_syncwrite")]
    syncwrite: bool,
    /// Acknowledge synchronous writes at once: faster, but a power cut loses the last seconds
    #[arg(long)]
    no_syncwrite: bool,
}

impl Options {
    /// The members of a request for those that were given.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let pairs = [
            ("compression", self.compression, self.no_compression),
            ("deduplication", self.dedup, self.no_dedup),
            ("syncwrite", self.syncwrite, self.no_syncwrite),
        ];
        pairs.into_iter().filter(|(_, yes, no)| yes != no).map(|(name, yes, _)| (name, yes))
    }
}

/// A changed pool.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    pub which: Which<Pool>,
    /// New name
    #[arg(long, value_name = "NAME")]
    pub new_name: Option<String>,
    #[command(flatten)]
    pub options: Options,
}

/// A disk for a disk.
#[derive(Debug, Args)]
pub(super) struct Replace {
    #[command(flatten)]
    pub which: Which<Pool>,
    /// Disk to take out; it may have failed or be gone already
    #[arg(long, value_name = "DISK")]
    pub old: String,
    /// Unused disk to put in its place
    #[arg(long, value_name = "DISK")]
    pub new: String,
    /// Wait until the new disk is rebuilt
    #[arg(long)]
    pub wait: bool,
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
        Line::try_parse_from(std::iter::once("pool").chain(line.split(' '))).map(|line| line.verb)
    }

    #[test]
    fn a_pool_is_named_in_one_way() {
        for line in ["show", "show demo", "show --id 1", "show --name demo"] {
            assert!(matches!(parse(line), Ok(Verb::Show { which }) if which.is_given() == (line != "show")), "{line}");
        }
        for line in ["show demo --id 1", "show --id 1 --name demo", "show demo demo"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn options_that_are_not_given_are_not_sent() {
        let options = |line: &str| match parse(line) {
            Ok(Verb::Update(update)) => update.options.members().collect::<Vec<_>>(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(options("update demo --no-compression --dedup"), [("compression", false), ("deduplication", true)]);
        assert_eq!(options("update demo --new-name x"), []);
        assert_eq!(options("update demo --no-syncwrite --syncwrite"), [("syncwrite", true)]);
    }

    #[test]
    fn spellings_of_older_scripts_are_understood() {
        let create = parse("create --name a --pool_type raid6 --disk_list a,b").unwrap();
        assert!(matches!(create, Verb::Create(create) if create.disks.disks == ["a", "b"]));
        assert!(parse("add_log --id 1 --disk_list a").is_ok());
        assert!(parse("create --name a --type raid1").is_err());
        assert!(parse("add-log --id 1").is_err());
    }

    #[test]
    fn a_disk_stands_behind_its_pool_or_has_an_option() {
        for line in ["online demo sdb", "online demo --disk sdb", "online --disk sdb", "online --id 1 --disk sdb"] {
            let verb = parse(line).unwrap();
            assert!(matches!(&verb, Verb::Online(with) if with.disk() == "sdb"), "{line}: {verb:?}");
        }
        for line in ["online", "online demo", "online --id 1 sdb", "online demo sdb --disk sdb"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
