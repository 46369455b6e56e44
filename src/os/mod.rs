//! Everything outside the process, behind small traits, because that is what tests replace.
//!
//! [`Zfs`] (with [`Datasets`] and [`Streams`]), [`Machine`], [`Exports`] and [`Peers`] have two implementations: the real
//! one ([`zfs::OpenZfs`], [`machine::Linux`], [`LinuxExports`], [`ssh::OpenSsh`]) and [`fake::FakeOs`], which behaves like it and can refuse or stop on demand.
//! The same contract tests (`tests/os`) run on both, so that the fake can't drift.

mod certificate;
pub mod command;
mod dataset;
pub mod disks;
mod error;
mod exports;
pub mod fake;
pub mod file;
pub mod link;
pub mod link_socket;
pub mod lio;
pub mod listen;
pub mod machine;
pub mod network;
pub mod network_rules;
pub mod nfs;
mod nfs_cache;
mod nvlist;
pub mod pam;
pub mod peers;
pub mod process;
pub mod samba;
pub mod ssh;
pub mod stream;
pub mod users;
pub mod zfs;

use std::collections::BTreeMap;

pub use dataset::{
    Change, ChangeKind, CloneCreation, DatasetChange, DatasetCreation, DatasetFacts, DatasetKind, Datasets, KeptOpen,
    MadeSnapshot, SnapshotFacts,
};
pub use error::{Error, Kind};
pub use exports::{Applied, Exports, LinuxExports};
pub use network_rules::{InterfaceServices, NetworkServices};
pub use peers::Peers;
pub use stream::Streams;

use crate::types::{
    Epoch,
    disk::Disk,
    ids::Mark,
    names::ZpoolName,
    network::Interface,
    pool::{PoolNumbers, PoolOptions, PoolStatus, VdevPlan},
    system::{CacheStatistics, Versions},
    user::{Password, User, UserName},
};

/// Result of everything in this layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that creates a pool, in one command, so that a pool is never there without our mark.
#[derive(Debug, Clone)]
pub struct PoolCreation {
    /// ZFS name.
    pub name: ZpoolName,
    /// Our mark, `vsnap:id`.
    pub mark: Mark,
    /// What else is kept on disk for rebuilding the catalog: user property name (with `vsnap:`) to value.
    pub notes: BTreeMap<String, String>,
    /// Options of the client.
    pub options: PoolOptions,
    /// Most bytes that the dedup table may take, `dedup_table_quota`.
    pub dedup_table_quota: u64,
    /// Its vdevs.
    pub vdevs: Vec<VdevPlan>,
    /// Whether groups of different width or disks of different size are meant; without it ZFS refuses them.
    pub uneven: bool,
}

/// A change of pool-wide properties; `None` leaves as is.
#[derive(Debug, Clone, Default)]
pub struct PoolChange {
    /// All three options.
    pub options: Option<PoolOptions>,
    /// With deduplication: the cap of its table in bytes.
    pub dedup_table_quota: Option<u64>,
    /// User properties to set.
    pub notes: BTreeMap<String, String>,
}

/// What is known of an imported pool's root dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolFacts {
    /// Local value of `vsnap:id`; `None` when there is none, or only an inherited or received one.
    pub mark: Option<Mark>,
    /// The other local `vsnap:` properties.
    pub notes: BTreeMap<String, String>,
    /// Options in force.
    pub options: PoolOptions,
    /// Sizes and ratios.
    pub numbers: PoolNumbers,
    /// Whether the root dataset is mounted.
    pub mounted: bool,
}

/// Pools of ZFS; [`Datasets`] and [`Streams`] are the rest of it. Errors carry a [`Kind`]; a missing pool is `Ok(None)` or `Kind::Missing`, and no other error means "missing".
pub trait Zfs: Datasets + Streams {
    /// Every imported pool, ours or not, in whatever state (`zpool status -j -P --json-int`).
    fn pools(&self) -> Result<Vec<PoolStatus>>;
    /// One imported pool.
    fn pool(&self, name: &ZpoolName) -> Result<Option<PoolStatus>>;
    /// The word of the kernel for a pool's state, without starting a process; `None` when it is not imported.
    /// Answers at once also for a suspended pool, where reading properties may hang.
    fn pool_state(&self, name: &ZpoolName) -> Result<Option<String>>;
    /// Guid of a pool, without starting a process; `None` when it is not imported.
    fn pool_guid(&self, name: &ZpoolName) -> Result<Option<u64>>;
    /// Bytes that can still be written to an imported, not suspended pool, without starting a process.
    fn pool_free(&self, name: &ZpoolName) -> Result<u64>;
    /// Properties of an imported, not suspended pool.
    fn pool_facts(&self, name: &ZpoolName) -> Result<PoolFacts>;
    /// Makes a pool with its mark and mounts it. `Exists` when there is a pool of that name.
    fn create_pool(&self, creation: &PoolCreation) -> Result<()>;
    /// Destroys an imported pool. The caller has checked that it is ours.
    fn destroy_pool(&self, name: &ZpoolName) -> Result<()>;
    /// Changes properties.
    fn change_pool(&self, name: &ZpoolName, change: &PoolChange) -> Result<()>;
    /// Adds vdevs; `uneven` as in [`PoolCreation`].
    fn add_vdevs(&self, name: &ZpoolName, vdevs: &[VdevPlan], uneven: bool) -> Result<()>;
    /// Removes a log vdev (`mirror-1` or a path), a cache disk or a spare that is not in use, and waits until it is gone.
    fn remove_vdev(&self, name: &ZpoolName, vdev: &str) -> Result<()>;
    /// Replaces disk `old` (path or guid) by the disk at path `new` and begins to resilver.
    fn replace_disk(&self, name: &ZpoolName, old: &str, new: &str) -> Result<()>;
    /// Detaches a disk that is a half of a mirror, `replacing` or `spare` vdev.
    fn detach_disk(&self, name: &ZpoolName, disk: &str) -> Result<()>;
    /// Brings the disk with this path back online. With `autoexpand` on, `zpool online` understands no guid.
    fn online_disk(&self, name: &ZpoolName, disk: &str) -> Result<()>;
    /// Takes a disk offline. Refused by ZFS where data would be lost (`Busy`).
    fn offline_disk(&self, name: &ZpoolName, disk: &str) -> Result<()>;
    /// Resets error counters and resumes a suspended pool whose disks are back.
    fn clear_pool(&self, name: &ZpoolName) -> Result<()>;
    /// Begins a scrub; `Busy` when one or a resilver is running.
    fn start_scrub(&self, name: &ZpoolName) -> Result<()>;
    /// Stops a scrub; `Missing` when none is running.
    fn stop_scrub(&self, name: &ZpoolName) -> Result<()>;
    /// Name and guid of every pool that could be imported, ours or not: on disks that are here, and not imported.
    fn importable_pools(&self) -> Result<Vec<(String, u64)>>;
    /// Imports the pool with this guid without mounting it, from by-id links, whatever any cache file says.
    /// `Missing` when no disk has it.
    fn import_pool(&self, guid: u64) -> Result<()>;
    /// Exports a pool, with all that is mounted of it. `Busy` when somebody works there.
    fn export_pool(&self, name: &ZpoolName) -> Result<()>;
    /// Mounts a pool's root dataset and the filesystems in it, those that are not mounted, and waits for the devices of
    /// its zvols.
    fn mount_pool(&self, name: &ZpoolName) -> Result<()>;
    /// ARC and dedup-table memory; `pools` are ours.
    fn cache_statistics(&self, pools: &[ZpoolName]) -> Result<CacheStatistics>;
}

/// Whose label may be cleared from a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelOwner {
    /// ZFS name of the pool that the disk was in, or was about to be put into.
    pub name: ZpoolName,
    /// Guid of that pool, when it is known. A label with another guid is not cleared.
    pub guid: Option<u64>,
}

/// Outcome of checking a user's password with PAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// Password right, account good, member of the group.
    Granted,
    /// Password right, but not in group `vsnap`, or the account is locked or expired.
    Forbidden,
    /// Unknown user or wrong password.
    Refused,
}

/// The machine: disks, accounts, interfaces, versions, clock.
pub trait Machine: Send + Sync {
    /// All whole disks, also those in use; never CD-ROMs, zvols, RAM disks or device-mapper nodes.
    fn disks(&self) -> Result<Vec<Disk>>;
    /// Asks all SCSI hosts for new and gone disks, and waits until udev has seen them.
    fn rescan_disks(&self) -> Result<()>;
    /// Looks again at one disk itself, past every cache: signature, partition table, and whether anyone has it open.
    /// `Missing` when it is gone.
    fn probe_disk(&self, path: &str) -> Result<crate::types::disk::DiskUse>;
    /// Clears what a pool left on a disk, so that it is unused again. Nothing happens to a disk that is gone, clean
    /// already, in use (then `Busy`), or that holds anything but a label of `owner` (then `Denied`).
    fn release_disk(&self, path: &str, owner: &LabelOwner) -> Result<()>;
    /// Members of group `vsnap`, primary or supplementary, in uid order.
    fn users(&self) -> Result<Vec<User>>;
    /// An account of the OS, member or not.
    fn find_user(&self, name: &UserName) -> Result<Option<User>>;
    /// Makes an account without home and shell, in the group, with this password, also for Samba. `Exists` if there,
    /// unless it was left half made: then it is completed.
    fn create_user(&self, name: &UserName, password: &Password) -> Result<()>;
    /// Sets the password of an account, also for Samba.
    fn set_password(&self, name: &UserName, password: &Password) -> Result<()>;
    /// Puts an account into the group.
    fn grant_user(&self, name: &UserName) -> Result<()>;
    /// Takes an account out of the group, and out of Samba's password database.
    fn revoke_user(&self, name: &UserName) -> Result<()>;
    /// Checks a password with PAM service `vsnap`, then the group. Blocks, for seconds when it is wrong.
    fn authenticate(&self, user: &str, password: &Password, remote: Option<std::net::IpAddr>)
    -> Result<Authentication>;
    /// A number that changes when any account, password or group does (from `/etc/passwd`, `shadow`, `group`).
    fn accounts_version(&self) -> Result<u64>;
    /// Network interfaces but the loopback, in kernel order.
    fn interfaces(&self) -> Result<Vec<Interface>>;
    /// Versions of the parts, read once and kept.
    fn versions(&self) -> Result<Versions>;
    /// Short host name and fully qualified name.
    fn host_names(&self) -> Result<(String, String)>;
    /// Memory of the machine in bytes.
    fn memory_bytes(&self) -> Result<u64>;
    /// The time.
    fn now(&self) -> Epoch;
}
