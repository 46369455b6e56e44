//! Filesystems, zvols and snapshots of the fake's world, and the laws that hold there. They live in their pool: they
//! are gone with it, and out of reach while it is not imported.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    FakeBookmark, FakePool, Partial, World,
    content::{Content, DATA, FileKind},
};
use crate::{
    os::{DatasetFacts, DatasetKind, Error, Kind, Result, SnapshotFacts},
    types::{
        Epoch,
        ids::Mark,
        pool::{Health, PoolNumbers},
        volume::{VolumeNumbers, VolumeOptions},
    },
};

/// Bytes that an empty dataset takes.
const OVERHEAD: u64 = 24 << 10;

/// A filesystem or zvol.
#[derive(Debug, Clone)]
pub struct FakeDataset {
    /// ZFS guid.
    pub guid: u64,
    /// What it is.
    pub kind: DatasetKind,
    /// Local `vsnap:id`.
    pub mark: Option<Mark>,
    /// Other local `vsnap:` properties.
    pub notes: BTreeMap<String, String>,
    /// Local options; what is `None` is inherited from the pool.
    pub options: VolumeOptions,
    /// Mounted; means nothing for a zvol.
    pub mounted: bool,
    /// Mounted, but the pool's root was mounted over it afterwards, so that nobody can reach it.
    pub hidden: bool,
    /// Others have it open.
    pub busy: bool,
    /// Guid of the snapshot that it is a clone of.
    pub origin: Option<u64>,
    /// What it holds.
    pub content: Content,
    /// The oldest first.
    pub snapshots: Vec<FakeSnapshot>,
    /// The oldest first.
    pub bookmarks: Vec<FakeBookmark>,
    /// What an interrupted stream left.
    pub partial: Option<Partial>,
    /// Read-only, and not mounted with the others.
    pub replica: bool,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub struct FakeSnapshot {
    /// What comes after the `@`.
    pub name: String,
    /// ZFS guid.
    pub guid: u64,
    /// When it was made.
    pub created: Epoch,
    /// Transaction group that made it.
    pub transaction: u64,
    /// Local `vsnap:id`.
    pub mark: Option<Mark>,
    /// Other local `vsnap:` properties.
    pub notes: BTreeMap<String, String>,
    /// Tags of its holds.
    pub holds: BTreeSet<String>,
    /// What its dataset was, with the size that a zvol had then.
    pub kind: DatasetKind,
    /// What its dataset held.
    pub content: Content,
}

impl FakeDataset {
    /// A new one, not mounted yet.
    pub(super) fn new(guid: u64, kind: DatasetKind) -> Self {
        FakeDataset {
            guid,
            kind,
            mark: None,
            notes: BTreeMap::new(),
            options: VolumeOptions::default(),
            mounted: false,
            hidden: false,
            busy: false,
            origin: None,
            content: Content::default(),
            snapshots: Vec::new(),
            bookmarks: Vec::new(),
            partial: None,
            replica: false,
        }
    }

    /// Whether it is a filesystem.
    pub fn is_filesystem(&self) -> bool {
        matches!(self.kind, DatasetKind::Filesystem { .. })
    }

    /// Bytes that only snapshot `at` holds.
    fn unique(&self, at: usize) -> u64 {
        let mut blocks = self.snapshots[at].content.blocks();
        let others = self.snapshots.iter().enumerate().filter(|(other, _)| *other != at);
        for content in others.map(|(_, snapshot)| &snapshot.content).chain([&self.content]) {
            let known = content.blocks();
            blocks.retain(|block, _| !known.contains_key(block));
        }
        blocks.values().sum()
    }
}

/// A name as dataset and what comes after the `@`.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

pub(super) fn pool_of(name: &str) -> &str {
    name.split(['/', '@']).next().unwrap_or(name)
}

pub(super) fn missing(name: &str) -> Error {
    Error::new(Kind::Missing, format!("opening {name}"), "dataset does not exist")
}

pub(super) fn fault(kind: Kind, name: &str, detail: &str) -> Error {
    Error::new(kind, format!("changing {name}"), detail)
}

impl FakePool {
    /// Sizes of the pool: `facts.numbers` are those of an empty one.
    pub fn numbers(&self) -> PoolNumbers {
        let empty = self.facts.numbers;
        let all = empty.used + empty.free;
        let stored: u64 = self.datasets.values().map(|dataset| self.used(dataset)).sum();
        let used = if self.full { all } else { all.min(empty.used + stored) };
        let logical = empty.logical + stored;
        PoolNumbers { free: all - used, used, logical, before_deduplication: logical, ..empty }
    }

    /// The snapshot with this guid and its full name.
    pub fn snapshot_by_guid(&self, guid: u64) -> Option<(String, &FakeSnapshot)> {
        self.datasets.iter().find_map(|(name, dataset)| {
            let found = dataset.snapshots.iter().find(|snapshot| snapshot.guid == guid);
            found.map(|snapshot| (format!("{name}@{}", snapshot.name), snapshot))
        })
    }

    /// Names of the clones of a snapshot.
    pub fn clones(&self, guid: u64) -> Vec<String> {
        self.datasets.iter().filter(|(_, other)| other.origin == Some(guid)).map(|(name, _)| name.clone()).collect()
    }

    /// What a dataset and its snapshots take, without what it shares with its origin.
    fn used(&self, dataset: &FakeDataset) -> u64 {
        let mut blocks = dataset.content.blocks();
        blocks.extend(dataset.snapshots.iter().flat_map(|snapshot| snapshot.content.blocks()));
        if let Some((_, origin)) = dataset.origin.and_then(|guid| self.snapshot_by_guid(guid)) {
            let shared = origin.content.blocks();
            blocks.retain(|block, _| !shared.contains_key(block));
        }
        OVERHEAD + blocks.values().sum::<u64>()
    }

    pub(super) fn volume_numbers(&self, dataset: &FakeDataset) -> VolumeNumbers {
        let used = self.used(dataset);
        let free = self.numbers().free;
        let available = match dataset.kind {
            DatasetKind::Filesystem { limit: Some(limit) } => free.min(limit.saturating_sub(used)),
            _ => free,
        };
        VolumeNumbers { used, available, referenced: OVERHEAD + dataset.content.bytes() }
    }

    pub(super) fn dataset_facts(&self, name: &str) -> Option<DatasetFacts> {
        let dataset = self.datasets.get(name)?;
        Some(DatasetFacts {
            name: name.to_owned(),
            guid: dataset.guid,
            kind: dataset.kind,
            mark: dataset.mark.clone(),
            notes: dataset.notes.clone(),
            numbers: self.volume_numbers(dataset),
            options: dataset.options,
            mounted: dataset.mounted || !dataset.is_filesystem(),
            origin: dataset.origin.and_then(|guid| self.snapshot_by_guid(guid)).map(|(name, _)| name),
        })
    }

    pub(super) fn snapshot_facts(&self, name: &str) -> Vec<SnapshotFacts> {
        let Some(dataset) = self.datasets.get(name) else { return Vec::new() };
        let facts = |(at, snapshot): (usize, &FakeSnapshot)| SnapshotFacts {
            name: format!("{name}@{}", snapshot.name),
            guid: snapshot.guid,
            created: snapshot.created,
            transaction: snapshot.transaction,
            used: dataset.unique(at),
            mark: snapshot.mark.clone(),
            notes: snapshot.notes.clone(),
            clones: self.clones(snapshot.guid),
            holds: snapshot.holds.iter().cloned().collect(),
        };
        dataset.snapshots.iter().enumerate().map(facts).collect()
    }

    /// What is new can't be stored in a full pool. What is changed or destroyed can: ZFS keeps a reserve for that.
    pub(super) fn require_space(&self, name: &str) -> Result<()> {
        if self.numbers().free == 0 { Err(fault(Kind::NoSpace, name, "out of space")) } else { Ok(()) }
    }
}

impl World {
    /// An imported pool whose disks answer.
    pub(super) fn open_pool(&self, name: &str) -> Result<&FakePool> {
        match self.pools.get(pool_of(name)).filter(|pool| pool.imported) {
            None => Err(missing(pool_of(name))),
            Some(pool) if pool.status.state == Health::Suspended => {
                Err(fault(Kind::Other, name, "pool I/O is suspended"))
            }
            Some(pool) => Ok(pool),
        }
    }

    pub(super) fn open_pool_mut(&mut self, name: &str) -> Result<&mut FakePool> {
        self.open_pool(name)?;
        self.pool_mut(pool_of(name))
    }

    /// A dataset in an imported pool.
    pub fn dataset(&self, name: &str) -> Result<&FakeDataset> {
        self.open_pool(name)?.datasets.get(name).ok_or_else(|| missing(name))
    }

    /// The same, to be changed.
    pub fn dataset_mut(&mut self, name: &str) -> Result<&mut FakeDataset> {
        self.open_pool_mut(name)?.datasets.get_mut(name).ok_or_else(|| missing(name))
    }

    /// A snapshot in an imported pool.
    pub fn snapshot(&self, name: &str) -> Result<&FakeSnapshot> {
        let (dataset, short) = split(name);
        let snapshots = &self.dataset(dataset)?.snapshots;
        snapshots.iter().find(|snapshot| snapshot.name == short).ok_or_else(|| missing(name))
    }

    /// The same, to be changed.
    pub fn snapshot_mut(&mut self, name: &str) -> Result<&mut FakeSnapshot> {
        let (dataset, short) = split(name);
        let snapshots = &mut self.dataset_mut(dataset)?.snapshots;
        snapshots.iter_mut().find(|snapshot| snapshot.name == short).ok_or_else(|| missing(name))
    }

    /// Puts a dataset where there is none, into a pool or dataset that is there.
    pub(super) fn insert_dataset(&mut self, name: &str, dataset: FakeDataset) -> Result<()> {
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        if parent != pool_of(name) {
            self.dataset(parent)?;
        }
        let pool = self.open_pool_mut(name)?;
        if pool.datasets.contains_key(name) {
            return Err(fault(Kind::Exists, name, "dataset already exists"));
        }
        pool.require_space(name)?;
        pool.datasets.insert(name.to_owned(), dataset);
        Ok(())
    }

    /// A filesystem that somebody else made, without a mark of ours.
    pub fn add_stranger(&mut self, name: &str) -> Result<()> {
        let guid = self.new_guid();
        let dataset = FakeDataset::new(guid, DatasetKind::Filesystem { limit: None });
        self.insert_dataset(name, FakeDataset { mounted: true, ..dataset })
    }

    /// A snapshot that somebody else made, without a mark of ours.
    pub fn add_strange_snapshot(&mut self, name: &str) -> Result<()> {
        self.make_snapshots(&[name], None, &BTreeMap::new(), Epoch(1))
    }

    /// All or none.
    pub(super) fn make_snapshots(
        &mut self,
        names: &[&str],
        mark: Option<&Mark>,
        notes: &BTreeMap<String, String>,
        now: Epoch,
    ) -> Result<()> {
        for (at, name) in names.iter().enumerate() {
            let dataset = split(name).0;
            self.dataset(dataset)?;
            if self.snapshot(name).is_ok() {
                return Err(fault(Kind::Exists, name, "dataset already exists"));
            }
            if pool_of(name) != pool_of(names[0]) || names[..at].iter().any(|other| split(other).0 == dataset) {
                return Err(fault(Kind::Other, name, "not in one pool, or twice of one dataset"));
            }
            self.open_pool(name)?.require_space(name)?;
        }
        let transaction = self.next_transaction();
        for name in names {
            let guid = self.new_guid();
            let (dataset, short) = split(name);
            let dataset = self.dataset_mut(dataset)?;
            dataset.snapshots.push(FakeSnapshot {
                name: short.to_owned(),
                guid,
                created: now,
                transaction,
                mark: mark.cloned(),
                notes: notes.clone(),
                holds: BTreeSet::new(),
                kind: dataset.kind,
                content: dataset.content.clone(),
            });
        }
        Ok(())
    }

    /// All or none. Those that are gone count as destroyed.
    pub(super) fn destroy_snapshots(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let pool = self.open_pool(name)?;
            if let Ok(snapshot) = self.snapshot(name)
                && (!snapshot.holds.is_empty() || !pool.clones(snapshot.guid).is_empty())
            {
                return Err(fault(Kind::Busy, name, "snapshot has dependent clones or holds"));
            }
        }
        for name in names {
            let (dataset, short) = split(name);
            if let Ok(dataset) = self.dataset_mut(dataset) {
                dataset.snapshots.retain(|snapshot| snapshot.name != short);
            }
        }
        Ok(())
    }

    /// The clone gets its origin and all older snapshots, and the place of the dataset that it was cloned from in the
    /// line of descent.
    pub(super) fn promote(&mut self, name: &str) -> Result<()> {
        let no_clone = || fault(Kind::Denied, name, "not a cloned filesystem");
        let guid = self.dataset(name)?.origin.ok_or_else(no_clone)?;
        let pool = self.open_pool_mut(name)?;
        let (origin, snapshot) = pool.snapshot_by_guid(guid).ok_or_else(no_clone)?;
        let last = snapshot.transaction;
        let from = pool.datasets.get(split(&origin).0).ok_or_else(no_clone)?;
        let own = &pool.datasets[name].snapshots;
        let mut moving = from.snapshots.iter().filter(|snapshot| snapshot.transaction <= last);
        if moving.any(|snapshot| own.iter().any(|other| other.name == snapshot.name)) {
            return Err(fault(Kind::Exists, name, "conflicting snapshot name"));
        }
        let (moved, next) = match pool.datasets.get_mut(split(&origin).0) {
            Some(from) => {
                let (moved, kept) = from.snapshots.drain(..).partition(|snapshot| snapshot.transaction <= last);
                from.snapshots = kept;
                (moved, from.origin.replace(guid))
            }
            None => (Vec::new(), None),
        };
        let clone = self.dataset_mut(name)?;
        clone.snapshots.splice(0..0, moved);
        clone.origin = next;
        Ok(())
    }

    /// What a dataset or snapshot holds in the file that [`World::write`] writes; `None` when it was never written or
    /// is not there.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let content = match name.contains('@') {
            true => &self.snapshot(name).ok()?.content,
            false => &self.dataset(name).ok()?.content,
        };
        content.read(DATA).map(<[u8]>::to_vec)
    }

    /// Writes a dataset's content anew.
    pub fn write(&mut self, dataset: &str, content: &[u8]) -> Result<()> {
        self.add_file(dataset, DATA, FileKind::File(content.to_vec()))
    }

    /// Puts a file into a filesystem, or writes it anew.
    pub fn add_file(&mut self, dataset: &str, path: &str, kind: FileKind) -> Result<()> {
        let bytes = if let FileKind::File(bytes) = &kind { bytes.len() as u64 } else { 0 };
        let pool = self.open_pool(dataset)?;
        if self.dataset(dataset)?.replica {
            return Err(fault(Kind::Denied, dataset, "it is read-only"));
        }
        if pool.volume_numbers(self.dataset(dataset)?).available <= bytes {
            return Err(fault(Kind::NoSpace, dataset, "no space left, or quota exceeded"));
        }
        let mut content = std::mem::take(&mut self.dataset_mut(dataset)?.content);
        content.put(path, kind, &mut || self.new_guid());
        self.dataset_mut(dataset)?.content = content;
        Ok(())
    }

    /// Takes a file out of a filesystem.
    pub fn remove_file(&mut self, dataset: &str, path: &str) -> Result<()> {
        if self.dataset_mut(dataset)?.content.remove(path) { Ok(()) } else { Err(missing(path)) }
    }

    /// Gives a file another name.
    pub fn rename_file(&mut self, dataset: &str, from: &str, to: &str) -> Result<()> {
        if self.dataset_mut(dataset)?.content.rename(from, to) { Ok(()) } else { Err(missing(from)) }
    }

    /// Somebody opens a dataset's mount or device, or closes it.
    pub fn busy(&mut self, dataset: &str, busy: bool) -> Result<()> {
        self.dataset_mut(dataset)?.busy = busy;
        Ok(())
    }

    /// A pool is full, or no longer.
    pub fn full(&mut self, pool: &str, full: bool) -> Result<()> {
        self.pool_mut(pool)?.full = full;
        Ok(())
    }
}
