//! The boundary for what is inside a pool: filesystems, zvols and their snapshots.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use super::Result;
use crate::types::{
    Epoch,
    ids::Mark,
    names::{DatasetName, SnapshotName, ZpoolName},
    volume::{BlockSize, RelativePath, VolumeNumbers, VolumeOptions},
};

/// What a dataset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetKind {
    /// A filesystem, with a limit (`quota`) or without; in bytes.
    Filesystem {
        /// `quota`.
        limit: Option<u64>,
    },
    /// A sparse zvol.
    Zvol {
        /// `volsize` in bytes, whole blocks.
        bytes: u64,
        /// `volblocksize`; of a foreign zvol with blocks that we don't make, the largest that we do.
        block: BlockSize,
    },
}

/// Everything that creates a dataset, in one command, so that it is never there without our mark.
#[derive(Debug, Clone)]
pub struct DatasetCreation {
    /// ZFS name.
    pub name: DatasetName,
    /// Our mark, `vsnap:id`.
    pub mark: Mark,
    /// What else is kept on disk for rebuilding the catalog: user property name (with `vsnap:`) to value.
    pub notes: BTreeMap<String, String>,
    /// What it is.
    pub kind: DatasetKind,
    /// Options; what is `None` is inherited from the pool.
    pub options: VolumeOptions,
}

/// As [`DatasetCreation`], for a clone.
#[derive(Debug, Clone)]
pub struct CloneCreation {
    /// ZFS name.
    pub name: DatasetName,
    /// Our mark, `vsnap:id`.
    pub mark: Mark,
    /// What else is kept on disk.
    pub notes: BTreeMap<String, String>,
    /// Options that differ from the pool's: those of the origin's volume.
    pub options: VolumeOptions,
    /// What it is a clone of.
    pub origin: SnapshotName,
}

/// A change of properties; `None` leaves as is.
#[derive(Debug, Clone, Default)]
pub struct DatasetChange {
    /// `quota` of a filesystem (`Some(None)`: none) or `volsize` of a zvol, in bytes.
    pub size: Option<Option<u64>>,
    /// Options, those that are given.
    pub options: VolumeOptions,
    /// User properties to set.
    pub notes: BTreeMap<String, String>,
    /// User properties to take away, after the rest; no error when one is not there.
    pub dropped_notes: Vec<String>,
}

/// What is known of a filesystem or zvol.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetFacts {
    /// ZFS name, ours or not.
    pub name: String,
    /// ZFS guid.
    pub guid: u64,
    /// What it is, with its limit or size.
    pub kind: DatasetKind,
    /// Local value of `vsnap:id`; `None` when there is none, or only an inherited or received one.
    pub mark: Option<Mark>,
    /// The other local `vsnap:` properties.
    pub notes: BTreeMap<String, String>,
    /// Sizes.
    pub numbers: VolumeNumbers,
    /// Options that were set on it itself; `None` where it follows the pool.
    pub options: VolumeOptions,
    /// Whether it is mounted; true for a zvol.
    pub mounted: bool,
    /// ZFS name of the snapshot that it is a clone of.
    pub origin: Option<String>,
}

/// What is to be known of a snapshot that was made. The rest of [`SnapshotFacts`] takes ZFS twice as long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeSnapshot {
    /// ZFS name.
    pub name: String,
    /// ZFS guid.
    pub guid: u64,
    /// When it was made.
    pub created: Epoch,
    /// Local value of `vsnap:id`.
    pub mark: Option<Mark>,
}

/// What is known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// ZFS name, ours or not: `vpool1/fs2@snap3`.
    pub name: String,
    /// ZFS guid.
    pub guid: u64,
    /// When it was made.
    pub created: Epoch,
    /// Transaction group that made it (`createtxg`): the order of snapshots.
    pub transaction: u64,
    /// Bytes that only it holds.
    pub used: u64,
    /// Local value of `vsnap:id`.
    pub mark: Option<Mark>,
    /// The other local `vsnap:` properties.
    pub notes: BTreeMap<String, String>,
    /// ZFS names of its clones.
    pub clones: Vec<String>,
    /// Tags of its holds.
    pub holds: Vec<String>,
}

/// How a path differs between two points in time (`zfs-diff(8)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content or attributes are others.
    Modified,
    /// It has another name.
    Renamed,
}

/// A path that differs between two points in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// `F` file, `/` folder, `@` symbolic link, and the other letters of `zfs diff -F`.
    pub file_type: char,
    /// Relative to the root of the filesystem, as it was; empty for the root itself. Bytes that are no UTF-8 are
    /// replaced.
    pub path: String,
    /// Its new name, when it was renamed.
    pub new_path: Option<String>,
}

/// A dataset that is open as long as this is there; see [`Datasets::keep_open`].
#[must_use]
pub struct KeptOpen {
    pub(super) _open: Option<OwnedFd>,
}

/// What is inside a pool. Errors carry a [`super::Kind`]; what is not there is `Ok(None)` or `Kind::Missing`, and no
/// other error means "missing". When the pool itself is not imported every answer is `Kind::Missing`, never `Ok`, since
/// nothing can be said then of what is inside.
pub trait Datasets: Send + Sync {
    /// A filesystem or zvol, without starting a process.
    fn dataset(&self, name: &DatasetName) -> Result<Option<DatasetFacts>>;
    /// Every filesystem and zvol of a pool but its root, ours or not, at whatever depth; in bulk.
    fn datasets(&self, pool: &ZpoolName) -> Result<Vec<DatasetFacts>>;
    /// Names of the same, in no order: the properties are what takes the time.
    fn names(&self, pool: &ZpoolName) -> Result<Vec<String>>;
    /// Names of all datasets below one, at whatever depth, none when it is not there: the cost does not grow with the pool.
    fn descendants(&self, name: &DatasetName) -> Result<Vec<String>>;
    /// Sizes of many datasets of one pool at once, without starting a process. What is not there is left out.
    fn numbers(&self, pool: &ZpoolName, names: &[DatasetName]) -> Result<BTreeMap<DatasetName, VolumeNumbers>>;
    /// Makes a dataset with its mark; mounts a filesystem, waits for the device of a zvol. `Exists` when it is there.
    fn create_dataset(&self, creation: &DatasetCreation) -> Result<()>;
    /// Makes a clone with its mark; mounts it or waits for its device. `Missing` without the snapshot, `Exists` when
    /// it is there.
    fn clone_snapshot(&self, creation: &CloneCreation) -> Result<()>;
    /// Changes properties, all in one command, but for notes that are taken away. `NoSpace` when a limit is below what
    /// is used, `Denied` when a zvol would shrink or be without a size.
    fn change_dataset(&self, name: &DatasetName, change: &DatasetChange) -> Result<()>;
    /// Destroys a dataset that has no snapshots and no children (else `Busy`). The caller has checked that it is ours.
    /// A device or mount that others have open is `Busy`.
    fn destroy_dataset(&self, name: &DatasetName) -> Result<()>;
    /// Mounts a filesystem, when it is not, or waits for the device of a zvol. `Missing` when it is not there.
    fn mount_dataset(&self, name: &DatasetName) -> Result<()>;
    /// Unmounts a filesystem, or finds that nobody has the device of a zvol open; `Busy` otherwise. A deletion begins
    /// with it, so that nothing is destroyed when it can't come to its end.
    fn unmount_dataset(&self, name: &DatasetName) -> Result<()>;
    /// Makes snapshots of one pool in one transaction, all or none, each with the mark and notes, without starting a
    /// process. `Exists` when one is there, `Missing` when a dataset is not.
    fn snapshot(&self, names: &[SnapshotName], mark: &Mark, notes: &BTreeMap<String, String>) -> Result<()>;
    /// A snapshot, without starting a process.
    fn snapshot_facts(&self, name: &SnapshotName) -> Result<Option<SnapshotFacts>>;
    /// Marks of datasets of one pool, without starting a process; `None` for one without. What is not there is left out.
    fn marks(&self, names: &[DatasetName]) -> Result<BTreeMap<DatasetName, Option<Mark>>>;
    /// Snapshots of one pool that may just have been made, in any order, without starting a process. What is not there is
    /// left out.
    fn made_snapshots(&self, names: &[SnapshotName]) -> Result<Vec<MadeSnapshot>>;
    /// All snapshots of a dataset, ours or not, the oldest first; empty when there is no such dataset.
    fn snapshots(&self, dataset: &DatasetName) -> Result<Vec<SnapshotFacts>>;
    /// Keeps a dataset open, until the answer is dropped, that nobody else has open: an unmounted filesystem, or a zvol.
    /// ZFS would open it anew for each of its snapshots that is destroyed, which costs half as much again.
    fn keep_open(&self, dataset: &DatasetName) -> Result<KeptOpen>;
    /// Destroys snapshots of one pool in one transaction, without starting a process. Those that are gone count as
    /// destroyed; `Busy`, and nothing is destroyed, when one has a clone or a hold.
    fn destroy_snapshots(&self, names: &[SnapshotName]) -> Result<()>;
    /// Sets user properties of a snapshot.
    fn note_snapshot(&self, name: &SnapshotName, notes: &BTreeMap<String, String>) -> Result<()>;
    /// Makes a dataset what it was at the time of its newest snapshot; `Busy` when there is a newer snapshot or bookmark.
    fn rollback(&self, snapshot: &SnapshotName) -> Result<()>;
    /// Makes a clone the owner of its origin and of all older snapshots. `Denied` when it is no clone, `Exists` when it
    /// has a snapshot of its own with the name of one of those.
    fn promote(&self, clone: &DatasetName) -> Result<()>;
    /// Holds a snapshot under a tag; `Exists` when that hold is there.
    fn hold(&self, snapshot: &SnapshotName, tag: &str) -> Result<()>;
    /// Takes a hold away; `Missing` when there is none of this tag.
    fn release(&self, snapshot: &SnapshotName, tag: &str) -> Result<()>;
    /// Bytes that were written to a dataset between one of its snapshots and a later one, or now (what is not on disk
    /// yet does not count). `Missing` when a snapshot is not there.
    fn written_since(&self, from: &SnapshotName, to: Option<&SnapshotName>) -> Result<u64>;
    /// Paths that differ between a snapshot of a mounted filesystem and a later one, or now. `found` gets them one by
    /// one and may say that it wants no more, by `false`. `Missing` when a snapshot is not there, `Other` when the
    /// filesystem is not mounted. While it runs up to now, ZFS keeps a snapshot `zfs-diff-...` of its own.
    fn diff(&self, from: &SnapshotName, to: Option<&SnapshotName>, found: &mut dyn FnMut(Change) -> bool)
    -> Result<()>;
    /// Looks at a file that is to back a lun: a regular file inside the filesystem, not reached over a symbolic link
    /// that leaves it. Gives its size in bytes. `Missing` when there is none, `Denied` when it is something else or
    /// outside, `Other` when the filesystem is not mounted.
    fn backing_file(&self, filesystem: &DatasetName, path: &RelativePath) -> Result<u64>;
}
