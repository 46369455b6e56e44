//! OpenZFS 2.3 or newer: [`OpenZfs`] is the real [`Zfs`].
//!
//! Reading goes through the JSON that `zpool status` prints, writing through their argv ([`pool`] has the flags and
//! their reasons), and what can be done without starting a process is read from `/proc/spl/kstat/zfs` or asked of the
//! kernel module: by an ioctl (`objset`, `facts`), of libzfs_core (`bookmark`, `creation`, `program`, `snapshot`), or
//! by mount(2) (`mounting`).
//! Of `libzetta` only `ZfsLzc` is used: its parsers of `zpool status` and `zpool get`
//! make pools vanish that are expanding, suspended or have a removed disk, and its `destroy` says Ok on failure
//! (`clippy.toml` bans them).

pub(in crate::os) mod backing_file;
mod bookmark;
mod creation;
mod dataset;
mod diff;
mod facts;
mod messages;
mod mounting;
mod mounts;
mod objset;
pub mod pool;
mod program;
mod property;
mod snapshot;
mod statistics;
mod status;
mod stream;
pub(in crate::os) mod zvol;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use libzetta::zfs::{ZfsEngine, ZfsLzc};

use super::{
    Error, Kind, PoolChange, PoolCreation, PoolFacts, Result, Zfs,
    command::{Command, Limit, Tool},
    file,
};
use crate::types::{
    names::ZpoolName,
    pool::{PoolStatus, VdevPlan},
    system::CacheStatistics,
};

/// How long udev gets to make links of new partitions.
const SETTLE_SECONDS: u64 = 30;
/// How often a state is looked at again that the kernel shows in passing.
const TRANSIENT_LOOKS: u32 = 50;
/// Time between two looks.
const TRANSIENT_WAIT: Duration = Duration::from_millis(20);

/// The real ZFS.
pub struct OpenZfs {
    zpool: Tool,
    zfs: Tool,
    udevadm: Tool,
    core: ZfsLzc,
    device: objset::Device,
    mounts: mounts::Table,
}

impl OpenZfs {
    /// Looks for the tools and opens the kernel module's device. `Missing`, with what to install or load, when one of
    /// them is not there.
    pub fn new() -> Result<Self> {
        let absent = |error: String| {
            let advice = "is the ZFS kernel module loaded (modprobe zfs, package zfs-dkms)?";
            Error::new(Kind::Missing, "opening /dev/zfs", format!("{error}; {advice}"))
        };
        let core = ZfsLzc::new().map_err(|error| absent(error.to_string()))?;
        let device = objset::Device::open().map_err(|error| absent(error.to_string()))?;
        Ok(OpenZfs {
            zpool: Tool::find("zpool", "zfsutils-linux")?,
            zfs: Tool::find("zfs", "zfsutils-linux")?,
            udevadm: Tool::find("udevadm", "udev")?,
            core,
            device,
            mounts: mounts::Table::default(),
        })
    }

    fn zpool<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        self.zpool.command(args)
    }

    fn zfs<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        self.zfs.command(args)
    }

    /// A verb of `zpool` that says nothing when all is well.
    fn verb<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<()> {
        self.zpool(args).output(messages::zpool).map(drop)
    }

    fn all(&self) -> Result<Vec<PoolStatus>> {
        let command = self.zpool(["status", "-j", "-P", "--json-int"]);
        let action = command.to_string();
        status::pools(&action, &command.output(messages::zpool)?)
    }

    fn status(&self, name: &ZpoolName) -> Result<Option<PoolStatus>> {
        let command = self.zpool(["status", "-j", "-P", "--json-int", name.as_str()]);
        let action = command.to_string();
        match command.output(messages::zpool) {
            Ok(json) => Ok(status::pools(&action, &json)?.into_iter().find(|pool| pool.name == name.as_str())),
            Err(error) if error.kind == Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until udev has made the links of new partitions and read what is on them, so that the list of disks is
    /// right afterwards. If it takes too long the pool is no worse for it.
    fn settle(&self) {
        let limit = Limit::Time(Duration::from_secs(SETTLE_SECONDS + 5));
        let settle = self.udevadm.command(["settle", &format!("--timeout={SETTLE_SECONDS}")]).limit(limit);
        if let Err(error) = settle.output(|_| Kind::Other) {
            tracing::warn!(%error, "udev is slow; lists of disks may be old for a while");
        }
    }
}

/// What the kernel tells of an imported pool in a file.
fn kstat(pool: &ZpoolName, name: &str) -> PathBuf {
    Path::new("/proc/spl/kstat/zfs").join(pool.as_str()).join(name)
}

impl Zfs for OpenZfs {
    fn pools(&self) -> Result<Vec<PoolStatus>> {
        self.all()
    }

    fn pool(&self, name: &ZpoolName) -> Result<Option<PoolStatus>> {
        self.status(name)
    }

    fn pool_guid(&self, name: &ZpoolName) -> Result<Option<u64>> {
        let file = kstat(name, "guid");
        let Some(text) = file::read(&file)? else { return Ok(None) };
        let unreadable =
            |_| Error::new(Kind::Other, format!("reading {}", file.display()), format!("it says {text:?}"));
        text.trim().parse().map(Some).map_err(unreadable)
    }

    fn pool_free(&self, name: &ZpoolName) -> Result<u64> {
        let missing = || Error::new(Kind::Missing, format!("reading {name}"), "the pool is not imported");
        self.look(name.as_str())?.ok_or_else(missing)?.number("available")
    }

    fn pool_state(&self, name: &ZpoolName) -> Result<Option<String>> {
        let file = kstat(name, "state");
        for _ in 0..TRANSIENT_LOOKS {
            match file::read(&file)?.as_deref().map(str::trim) {
                // What it shows while ZFS opens the disks anew, after an event of one of them: no state that lasts.
                Some("OFFLINE" | "TRANSITIONING") => std::thread::sleep(TRANSIENT_WAIT),
                state => return Ok(state.map(str::to_owned)),
            }
        }
        Ok(file::read(&file)?.map(|text| text.trim().to_owned()))
    }

    fn pool_facts(&self, name: &ZpoolName) -> Result<PoolFacts> {
        self.facts_of_pool(name)
    }

    fn create_pool(&self, creation: &PoolCreation) -> Result<()> {
        // It answers "no" on errors as well, so only its "yes" is worth something.
        if self.core.exists(creation.name.as_str()).unwrap_or(false) {
            return Err(Error::new(Kind::Exists, format!("zpool create {}", creation.name), "there is such a pool"));
        }
        self.create(creation)
    }

    fn destroy_pool(&self, name: &ZpoolName) -> Result<()> {
        self.destroy(name)
    }

    fn change_pool(&self, name: &ZpoolName, change: &PoolChange) -> Result<()> {
        self.change(name, change)
    }

    fn add_vdevs(&self, name: &ZpoolName, vdevs: &[VdevPlan], uneven: bool) -> Result<()> {
        self.add(name, vdevs, uneven)
    }

    fn remove_vdev(&self, name: &ZpoolName, vdev: &str) -> Result<()> {
        self.remove(name, vdev)
    }

    fn replace_disk(&self, name: &ZpoolName, old: &str, new: &str) -> Result<()> {
        self.replace(name, old, new)
    }

    fn detach_disk(&self, name: &ZpoolName, disk: &str) -> Result<()> {
        self.verb(["detach", name.as_str(), disk])
    }

    fn online_disk(&self, name: &ZpoolName, disk: &str) -> Result<()> {
        self.online(name, disk)
    }

    fn offline_disk(&self, name: &ZpoolName, disk: &str) -> Result<()> {
        self.verb(["offline", name.as_str(), disk])
    }

    fn clear_pool(&self, name: &ZpoolName) -> Result<()> {
        self.clear(name)
    }

    fn start_scrub(&self, name: &ZpoolName) -> Result<()> {
        self.verb(["scrub", name.as_str()])
    }

    fn stop_scrub(&self, name: &ZpoolName) -> Result<()> {
        self.verb(["scrub", "-s", name.as_str()])
    }

    fn importable_pools(&self) -> Result<Vec<(String, u64)>> {
        self.importable()
    }

    fn import_pool(&self, guid: u64) -> Result<()> {
        self.import(guid)
    }

    fn export_pool(&self, name: &ZpoolName) -> Result<()> {
        self.export(name)
    }

    fn mount_pool(&self, name: &ZpoolName) -> Result<()> {
        self.mount_all(name)
    }

    fn cache_statistics(&self, pools: &[ZpoolName]) -> Result<CacheStatistics> {
        let arcstats = file::read_required(statistics::ARCSTATS)?;
        // A pool that is not here has none in memory.
        let tables = pools.iter().filter_map(|pool| self.dedup_table(pool).transpose()).collect::<Result<Vec<_>>>()?;
        statistics::cache(&arcstats, tables.into_iter())
    }
}
