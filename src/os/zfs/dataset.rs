//! [`Datasets`] of the real system, and the verbs on filesystems and zvols.
//!
//! What a dataset is created with, beside its options, mark and notes:
//!
//! | property | reason |
//! |---|---|
//! | `quota` | the limit counts what snapshots hold as well, so that a volume can't fill the pool with them |
//! | `volsize`, and no `refreservation` | a sparse zvol: it takes space when it is written |
//! | `volblocksize` | the block size that the client asked for |
//!
//! Everything else is inherited from the pool.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    OpenZfs,
    creation::{Made, Properties},
    messages,
    mounting::open_unmounted,
    program::{self, Record},
    property,
    zvol::{open_device, wait_for_link},
};
use crate::{
    os::{
        Change, CloneCreation, DatasetChange, DatasetCreation, DatasetFacts, DatasetKind, Datasets, Error, KeptOpen,
        Kind, MadeSnapshot, Result, SnapshotFacts,
    },
    types::{
        ids::Mark,
        names::{DatasetName, SnapshotName, ZpoolName},
        volume::{BlockSize, RelativePath, VolumeNumbers},
    },
};

/// How long udev and whoever it starts may have a zvol open that is to be destroyed, and the time between two tries.
const OPEN_ELSEWHERE: Duration = Duration::from_secs(6);
const OPEN_WAIT: Duration = Duration::from_millis(250);
/// So many datasets are looked at one by one, which leaves nothing in the pool's history; more of them by a program.
const FEW: usize = 16;
/// What `volblocksize` is by default.
const USUAL_BLOCK: u64 = 16 << 10;
/// Largest block of our zvols.
const LARGEST_BLOCK: u64 = 128 << 10;

impl Datasets for OpenZfs {
    fn dataset(&self, name: &DatasetName) -> Result<Option<DatasetFacts>> {
        match self.look(name.as_str())? {
            Some(record) => facts(&record, &*self.mounts.read()?).map(Some),
            None => self.require_pool(pool(name), || format!("reading {name}")).map(|()| None),
        }
    }

    fn datasets(&self, pool: &ZpoolName) -> Result<Vec<DatasetFacts>> {
        self.require_pool(pool.as_str(), || format!("reading what is in {pool}"))?;
        let mut records = self.look_below(pool.as_str())?;
        records.sort_by(|one, other| one.name.cmp(&other.name));
        let mounts = self.mounts.read()?;
        records.iter().map(|record| facts(record, &mounts)).collect()
    }

    fn names(&self, pool: &ZpoolName) -> Result<Vec<String>> {
        self.require_pool(pool.as_str(), || format!("reading what is in {pool}"))?;
        self.names_below(pool.as_str())
    }

    fn descendants(&self, name: &DatasetName) -> Result<Vec<String>> {
        self.require_pool(pool(name), || format!("reading what is below {name}"))?;
        self.names_below(name.as_str())
    }

    fn numbers(&self, pool: &ZpoolName, names: &[DatasetName]) -> Result<BTreeMap<DatasetName, VolumeNumbers>> {
        // A program may name nothing of another pool.
        let inside = names.iter().filter(|name| self::pool(name) == pool.as_str());
        let by_text: BTreeMap<&str, &DatasetName> = inside.map(|name| (name.as_str(), name)).collect();
        let mut records = Vec::new();
        if by_text.len() <= FEW {
            for name in by_text.keys() {
                records.extend(self.look(name)?);
            }
        }
        // Of many, or when all of them are gone, or the pool.
        if records.is_empty() {
            records = self.read_all(pool.as_str(), program::NUMBERS, by_text.keys().copied())?;
        }
        let mut all = BTreeMap::new();
        for record in &records {
            if let Some(name) = by_text.get(record.name.as_str()) {
                all.insert((*name).clone(), numbers(record)?);
            }
        }
        Ok(all)
    }

    fn create_dataset(&self, creation: &DatasetCreation) -> Result<()> {
        let mut numbers = property::numbers(&creation.options);
        match creation.kind {
            DatasetKind::Filesystem { limit } => numbers.extend(limit.map(|limit| ("quota", limit))),
            DatasetKind::Zvol { bytes, block } => {
                numbers.extend([("volsize", bytes), ("volblocksize", u64::from(block.bytes()))]);
                numbers.extend(self.own_volmode(pool(&creation.name))?);
            }
        }
        let properties = Properties::new(numbers, &creation.mark, &creation.notes);
        match creation.kind {
            DatasetKind::Filesystem { .. } => {
                self.make(&creation.name, &Made::Filesystem, &properties)?;
                self.mount(&creation.name)
            }
            DatasetKind::Zvol { .. } => {
                self.make(&creation.name, &Made::Zvol, &properties)?;
                wait_for_link(&creation.name.device())
            }
        }
    }

    fn clone_snapshot(&self, creation: &CloneCreation) -> Result<()> {
        let is_zvol = matches!(self.required(creation.origin.dataset())?.kind, DatasetKind::Zvol { .. });
        let mut numbers = property::numbers(&creation.options);
        if is_zvol {
            numbers.extend(self.own_volmode(pool(&creation.name))?);
        }
        let properties = Properties::new(numbers, &creation.mark, &creation.notes);
        self.make_clone(&creation.name, &creation.origin, &properties)?;
        if is_zvol { wait_for_link(&creation.name.device()) } else { self.mount(&creation.name) }
    }

    fn change_dataset(&self, name: &DatasetName, change: &DatasetChange) -> Result<()> {
        let mut values = property::assignments(&change.options);
        if let Some(size) = change.size {
            values.push(self.size_assignment(name, size)?);
        }
        // One command for all of it, or none.
        if values.is_empty() {
            self.note(name.as_str(), &change.notes)?;
        } else {
            values.extend(change.notes.iter().map(|(note, value)| format!("{note}={value}")));
            self.zfs(["set"]).args(values).arg(name.as_str()).output(messages::zfs)?;
        }
        change.dropped_notes.iter().try_for_each(|note| self.drop_note(name.as_str(), note))
    }

    fn destroy_dataset(&self, name: &DatasetName) -> Result<()> {
        let deadline = Instant::now() + OPEN_ELSEWHERE;
        loop {
            match self.zfs(["destroy", name.as_str()]).output(messages::zfs) {
                Err(error) if messages::is_open(&error.detail) && Instant::now() < deadline => {
                    std::thread::sleep(OPEN_WAIT);
                }
                result => return result.map(drop).map_err(Error::of_one_call),
            }
        }
    }

    fn mount_dataset(&self, name: &DatasetName) -> Result<()> {
        let facts = self.required(name)?;
        match facts.kind {
            DatasetKind::Zvol { .. } => wait_for_link(&name.device()),
            DatasetKind::Filesystem { .. } if facts.mounted => Ok(()),
            DatasetKind::Filesystem { .. } => self.mount(name),
        }
    }

    fn unmount_dataset(&self, name: &DatasetName) -> Result<()> {
        let facts = self.required(name)?;
        match facts.kind {
            DatasetKind::Zvol { .. } => self.require_closed(name),
            DatasetKind::Filesystem { .. } if !facts.mounted => Ok(()),
            DatasetKind::Filesystem { .. } => self.unmount(name.as_str()),
        }
    }

    fn snapshot(&self, names: &[SnapshotName], mark: &Mark, notes: &BTreeMap<String, String>) -> Result<()> {
        self.make_snapshots(names, mark, notes)
    }

    fn snapshot_facts(&self, name: &SnapshotName) -> Result<Option<SnapshotFacts>> {
        self.read_snapshot(name)
    }

    fn marks(&self, names: &[DatasetName]) -> Result<BTreeMap<DatasetName, Option<Mark>>> {
        let Some(first) = names.first() else { return Ok(BTreeMap::new()) };
        let records = match names {
            [name] => self.look(name.as_str())?.into_iter().collect(),
            _ => Vec::new(),
        };
        // Of many, or to tell one that is not there from a pool that is not.
        let records = match records.is_empty() {
            true => self.read_all(pool(first), program::MARKS, names.iter().map(DatasetName::as_str))?,
            false => records,
        };
        let by_text: BTreeMap<&str, &DatasetName> = names.iter().map(|name| (name.as_str(), name)).collect();
        let mut marks = BTreeMap::new();
        for record in &records {
            if let Some(name) = by_text.get(record.name.as_str()) {
                marks.insert((*name).clone(), record.notes()?.remove(property::MARK).map(Mark::read));
            }
        }
        Ok(marks)
    }

    fn made_snapshots(&self, names: &[SnapshotName]) -> Result<Vec<MadeSnapshot>> {
        self.read_made(names)
    }

    fn snapshots(&self, dataset: &DatasetName) -> Result<Vec<SnapshotFacts>> {
        self.read_snapshots(dataset)
    }

    fn keep_open(&self, dataset: &DatasetName) -> Result<KeptOpen> {
        let open = match self.required(dataset)?.kind {
            DatasetKind::Zvol { .. } => open_device(dataset)?,
            DatasetKind::Filesystem { .. } => open_unmounted(dataset)?,
        };
        Ok(KeptOpen { _open: Some(open) })
    }

    fn destroy_snapshots(&self, names: &[SnapshotName]) -> Result<()> {
        self.remove_snapshots(names)
    }

    fn note_snapshot(&self, name: &SnapshotName, notes: &BTreeMap<String, String>) -> Result<()> {
        self.note(name.as_str(), notes)
    }

    fn rollback(&self, snapshot: &SnapshotName) -> Result<()> {
        // Without -r, so that it never destroys what is newer.
        self.zfs(["rollback", snapshot.as_str()]).output(messages::zfs).map(drop).map_err(Error::of_one_call)
    }

    fn promote(&self, clone: &DatasetName) -> Result<()> {
        self.zfs(["promote", clone.as_str()]).output(messages::zfs).map(drop).map_err(Error::of_one_call)
    }

    fn hold(&self, snapshot: &SnapshotName, tag: &str) -> Result<()> {
        self.zfs(["hold", tag, snapshot.as_str()]).output(messages::zfs).map(drop)
    }

    fn release(&self, snapshot: &SnapshotName, tag: &str) -> Result<()> {
        self.zfs(["release", tag, snapshot.as_str()]).output(messages::zfs).map(drop)
    }

    fn written_since(&self, from: &SnapshotName, to: Option<&SnapshotName>) -> Result<u64> {
        self.read_written(from, to)
    }

    fn diff(
        &self,
        from: &SnapshotName,
        to: Option<&SnapshotName>,
        found: &mut dyn FnMut(Change) -> bool,
    ) -> Result<()> {
        self.find_changes(from, to, found)
    }

    fn backing_file(&self, filesystem: &DatasetName, path: &RelativePath) -> Result<u64> {
        let folder = self.mount_point(filesystem)?;
        super::backing_file::size(&folder, path)
    }
}

impl OpenZfs {
    /// A dataset that must be there.
    fn required(&self, name: &DatasetName) -> Result<DatasetFacts> {
        let missing = || Error::new(Kind::Missing, format!("reading {name}"), "there is no such dataset");
        self.dataset(name)?.ok_or_else(missing)
    }

    /// Where a filesystem is mounted, which must be there and be mounted.
    pub(super) fn mount_point(&self, name: &DatasetName) -> Result<String> {
        let kind = self.required(name)?.kind;
        let wrong = |detail| Error::new(Kind::Other, format!("looking for the mount point of {name}"), detail);
        match kind {
            DatasetKind::Zvol { .. } => Err(wrong("it is a zvol")),
            DatasetKind::Filesystem { .. } => {
                self.mounts.read()?.get(name.as_str()).cloned().ok_or_else(|| wrong("it is not mounted"))
            }
        }
    }

    /// Fails when somebody has the device of a zvol with snapshots open, also after udev and what it starts had their
    /// time. Without snapshots there is nothing that a deletion could lose before ZFS refuses it.
    fn require_closed(&self, name: &DatasetName) -> Result<()> {
        let deadline = Instant::now() + OPEN_ELSEWHERE;
        while !self.check(pool(name), program::OPEN, &[name.as_str()])?.is_empty() {
            if Instant::now() >= deadline {
                let action = format!("looking whether {} is in use", name.device());
                return Err(Error::new(Kind::Busy, action, "somebody has the device open"));
            }
            std::thread::sleep(OPEN_WAIT);
        }
        Ok(())
    }

    /// The property that makes `size` the limit or size of a dataset. A zvol is never made smaller, since what is
    /// beyond its new end would be gone.
    fn size_assignment(&self, name: &DatasetName, size: Option<u64>) -> Result<String> {
        let denied = |detail: String| Error::new(Kind::Denied, format!("changing the size of {name}"), detail);
        match (self.required(name)?.kind, size) {
            (DatasetKind::Filesystem { .. }, Some(limit)) => Ok(format!("quota={limit}")),
            (DatasetKind::Filesystem { .. }, None) => Ok("quota=none".to_owned()),
            (DatasetKind::Zvol { .. }, None) => Err(denied("a zvol can't be without a size".to_owned())),
            (DatasetKind::Zvol { bytes, .. }, Some(new)) if new < bytes => {
                Err(denied(format!("it has {bytes} bytes and can't shrink to {new}")))
            }
            (DatasetKind::Zvol { .. }, Some(new)) => Ok(format!("volsize={new}")),
        }
    }
}

/// The pool that a dataset is in.
pub(super) fn pool(name: &DatasetName) -> &str {
    name.as_str().split_once('/').map_or(name.as_str(), |(pool, _)| pool)
}

fn facts(record: &Record, mounts: &BTreeMap<String, String>) -> Result<DatasetFacts> {
    let kind = kind(record)?;
    let mut notes = record.notes()?;
    Ok(DatasetFacts {
        name: record.name.clone(),
        guid: record.number("guid")?,
        kind,
        mark: notes.remove(property::MARK).map(Mark::read),
        notes,
        numbers: numbers(record)?,
        options: property::options(record.find("compression"), record.find("dedup"), record.find("sync")),
        mounted: matches!(kind, DatasetKind::Zvol { .. }) || mounts.contains_key(&record.name),
        origin: record.find("origin").map(str::to_owned),
    })
}

fn kind(record: &Record) -> Result<DatasetKind> {
    let unknown = |detail: String| Error::new(Kind::Other, format!("reading {}", record.name), detail);
    match record.text("type")? {
        "filesystem" => {
            Ok(DatasetKind::Filesystem { limit: Some(record.number("quota")?).filter(|&limit| limit != 0) })
        }
        "volume" => {
            // The kernel says neither of a zvol that has not been received to its end: `zfs list` shows these numbers then.
            let number =
                |property, unfinished| record.find(property).map_or(Ok(unfinished), |_| record.number(property));
            // Others may have made zvols of blocks that we don't.
            let block = BlockSize::new(number("volblocksize", USUAL_BLOCK)?.min(LARGEST_BLOCK));
            let block = block.map_err(|invalid| unknown(invalid.to_string()))?;
            Ok(DatasetKind::Zvol { bytes: number("volsize", 0)?, block })
        }
        other => Err(unknown(format!("it is a {other}"))),
    }
}

fn numbers(record: &Record) -> Result<VolumeNumbers> {
    Ok(VolumeNumbers {
        used: record.number("used")?,
        available: record.number("available")?,
        referenced: record.number("referenced")?,
    })
}
