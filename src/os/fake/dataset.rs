//! [`Datasets`] in the fake's world.

use std::collections::BTreeMap;

use super::{
    Content, FakeOs, World,
    dataset_world::{FakeDataset, fault, pool_of},
};
use crate::{
    os::{
        Change, CloneCreation, DatasetChange, DatasetCreation, DatasetFacts, DatasetKind, Datasets, KeptOpen, Kind,
        MadeSnapshot, Result, SnapshotFacts,
    },
    types::{
        ids::Mark,
        names::{DatasetName, SnapshotName, ZpoolName},
        volume::{RelativePath, VolumeNumbers},
    },
};

fn texts(names: &[SnapshotName]) -> Vec<&str> {
    names.iter().map(SnapshotName::as_str).collect()
}

impl FakeOs {
    /// What comes last when a filesystem or clone is made. The daemon may end before it.
    fn mount_created(&self, name: &DatasetName) -> Result<()> {
        self.effect("mount_created", |world| mount(world, name.as_str()))
    }
}

fn mount(world: &mut World, name: &str) -> Result<()> {
    world.dataset_mut(name)?.mounted = true;
    Ok(())
}

fn check_size(name: &str, kind: DatasetKind) -> Result<()> {
    match kind {
        DatasetKind::Zvol { bytes, block } if bytes == 0 || bytes % u64::from(block.bytes()) != 0 => {
            Err(fault(Kind::Other, name, "volume size must be a multiple of volume block size"))
        }
        _ => Ok(()),
    }
}

fn clone(world: &mut World, creation: &CloneCreation) -> Result<()> {
    let name = creation.name.as_str();
    let origin = world.snapshot(creation.origin.as_str())?.clone();
    if pool_of(creation.origin.as_str()) != pool_of(name) {
        return Err(fault(Kind::Other, name, "source and target pools differ"));
    }
    let kind = match origin.kind {
        // Properties are those of the parent, not of the origin; the size of a zvol is no property.
        DatasetKind::Filesystem { .. } => DatasetKind::Filesystem { limit: None },
        zvol => zvol,
    };
    let guid = world.new_guid();
    let dataset = FakeDataset {
        mark: Some(creation.mark.clone()),
        notes: creation.notes.clone(),
        options: creation.options,
        origin: Some(origin.guid),
        content: origin.content,
        ..FakeDataset::new(guid, kind)
    };
    world.insert_dataset(name, dataset)
}

fn change(world: &mut World, name: &str, change: &DatasetChange) -> Result<()> {
    let used = world.open_pool(name)?.volume_numbers(world.dataset(name)?).used;
    let dataset = world.dataset_mut(name)?;
    let kind = match (dataset.kind, change.size) {
        (kind, None) => kind,
        (DatasetKind::Filesystem { .. }, Some(Some(limit))) if limit < used => {
            return Err(fault(Kind::NoSpace, name, "size is less than current used or reserved space"));
        }
        (DatasetKind::Filesystem { .. }, Some(limit)) => DatasetKind::Filesystem { limit },
        (DatasetKind::Zvol { .. }, Some(None)) => return Err(fault(Kind::Denied, name, "a zvol has a size")),
        (DatasetKind::Zvol { bytes, .. }, Some(Some(new))) if new < bytes => {
            return Err(fault(Kind::Denied, name, "a zvol can't shrink"));
        }
        (DatasetKind::Zvol { block, .. }, Some(Some(bytes))) => DatasetKind::Zvol { bytes, block },
    };
    check_size(name, kind)?;
    dataset.kind = kind;
    let (own, new) = (&mut dataset.options, change.options);
    own.compression = new.compression.or(own.compression);
    own.deduplication = new.deduplication.or(own.deduplication);
    own.syncwrite = new.syncwrite.or(own.syncwrite);
    dataset.notes.extend(change.notes.clone());
    dataset.notes.retain(|note, _| !change.dropped_notes.contains(note));
    Ok(())
}

fn destroy(world: &mut World, name: &str) -> Result<()> {
    let dataset = world.dataset(name)?;
    let below = format!("{name}/");
    let pool = world.open_pool(name)?;
    if !dataset.snapshots.is_empty() || pool.datasets.keys().any(|other| other.starts_with(&below)) {
        return Err(fault(Kind::Busy, name, "filesystem has children"));
    }
    if dataset.busy || world.exports.holds(name) {
        return Err(fault(Kind::Busy, name, "dataset is busy"));
    }
    world.open_pool_mut(name)?.datasets.remove(name);
    Ok(())
}

fn unmount(world: &mut World, name: &str) -> Result<()> {
    let held = world.exports.holds(name);
    let dataset = world.dataset_mut(name)?;
    if dataset.busy || held && dataset.is_filesystem() {
        return Err(fault(Kind::Busy, name, "dataset is busy"));
    }
    (dataset.mounted, dataset.hidden) = (false, false);
    Ok(())
}

fn rollback(world: &mut World, snapshot: &SnapshotName) -> Result<()> {
    let target = world.snapshot(snapshot.as_str())?.clone();
    let name = snapshot.dataset().as_str();
    let dataset = world.dataset_mut(name)?;
    let newer = dataset.snapshots.iter().map(|other| other.transaction);
    let newer = newer.chain(dataset.bookmarks.iter().map(|other| other.transaction));
    if newer.into_iter().any(|transaction| transaction > target.transaction) {
        return Err(fault(Kind::Busy, name, "more recent snapshots or bookmarks exist"));
    }
    if dataset.busy {
        return Err(fault(Kind::Busy, name, "dataset is busy"));
    }
    if !dataset.is_filesystem() {
        dataset.kind = target.kind;
    }
    dataset.content = target.content;
    Ok(())
}

impl Datasets for FakeOs {
    fn dataset(&self, name: &DatasetName) -> Result<Option<DatasetFacts>> {
        self.check_refusal("dataset")?;
        let world = self.world();
        // Of a pool that is not there nothing can be said, so that is an error.
        Ok(world.open_pool(name.as_str())?.dataset_facts(name.as_str()))
    }

    fn datasets(&self, pool: &ZpoolName) -> Result<Vec<DatasetFacts>> {
        self.check_refusal("datasets")?;
        let world = self.world();
        let pool = world.open_pool(pool.as_str())?;
        Ok(pool.datasets.keys().filter_map(|name| pool.dataset_facts(name)).collect())
    }

    fn names(&self, pool: &ZpoolName) -> Result<Vec<String>> {
        self.check_refusal("names")?;
        Ok(self.world().open_pool(pool.as_str())?.datasets.keys().cloned().collect())
    }

    fn descendants(&self, name: &DatasetName) -> Result<Vec<String>> {
        self.check_refusal("descendants")?;
        let world = self.world();
        let below = format!("{name}/");
        let names = world.open_pool(name.as_str())?.datasets.keys();
        Ok(names.filter(|name| name.starts_with(&below)).cloned().collect())
    }

    fn numbers(&self, pool: &ZpoolName, names: &[DatasetName]) -> Result<BTreeMap<DatasetName, VolumeNumbers>> {
        self.check_refusal("numbers")?;
        let world = self.world();
        let pool = world.open_pool(pool.as_str())?;
        let found = |name: &DatasetName| Some((name.clone(), pool.volume_numbers(pool.datasets.get(name.as_str())?)));
        Ok(names.iter().filter_map(found).collect())
    }

    fn create_dataset(&self, creation: &DatasetCreation) -> Result<()> {
        self.effect("create_dataset", |world| {
            check_size(creation.name.as_str(), creation.kind)?;
            let guid = world.new_guid();
            let dataset = FakeDataset {
                mark: Some(creation.mark.clone()),
                notes: creation.notes.clone(),
                options: creation.options,
                ..FakeDataset::new(guid, creation.kind)
            };
            world.insert_dataset(creation.name.as_str(), dataset)
        })?;
        self.mount_created(&creation.name)
    }

    fn clone_snapshot(&self, creation: &CloneCreation) -> Result<()> {
        self.effect("clone_snapshot", |world| clone(world, creation))?;
        self.mount_created(&creation.name)
    }

    fn change_dataset(&self, name: &DatasetName, new: &DatasetChange) -> Result<()> {
        self.effect("change_dataset", |world| change(world, name.as_str(), new))
    }

    fn destroy_dataset(&self, name: &DatasetName) -> Result<()> {
        self.effect("destroy_dataset", |world| destroy(world, name.as_str()))
    }

    fn mount_dataset(&self, name: &DatasetName) -> Result<()> {
        self.effect("mount_dataset", |world| mount(world, name.as_str()))
    }

    fn unmount_dataset(&self, name: &DatasetName) -> Result<()> {
        self.effect("unmount_dataset", |world| unmount(world, name.as_str()))
    }

    fn snapshot(&self, names: &[SnapshotName], mark: &Mark, notes: &BTreeMap<String, String>) -> Result<()> {
        let now = self.tick();
        self.effect("snapshot", |world| world.make_snapshots(&texts(names), Some(mark), notes, now))
    }

    fn snapshot_facts(&self, name: &SnapshotName) -> Result<Option<SnapshotFacts>> {
        self.check_refusal("snapshot_facts")?;
        let world = self.world();
        let all = world.open_pool(name.as_str())?.snapshot_facts(name.dataset().as_str());
        Ok(all.into_iter().find(|facts| facts.name == name.as_str()))
    }

    fn marks(&self, names: &[DatasetName]) -> Result<BTreeMap<DatasetName, Option<Mark>>> {
        self.check_refusal("marks")?;
        let world = self.world();
        let mark = |name: &DatasetName| -> Result<Option<(DatasetName, Option<Mark>)>> {
            let facts = world.open_pool(name.as_str())?.dataset_facts(name.as_str());
            Ok(facts.map(|facts| (name.clone(), facts.mark)))
        };
        names.iter().filter_map(|name| mark(name).transpose()).collect()
    }

    fn made_snapshots(&self, names: &[SnapshotName]) -> Result<Vec<MadeSnapshot>> {
        let made = |SnapshotFacts { name, guid, created, mark, .. }| MadeSnapshot { name, guid, created, mark };
        let facts = names.iter().map(|name| Ok(self.snapshot_facts(name)?.map(made)));
        facts.filter_map(Result::transpose).collect()
    }

    fn snapshots(&self, dataset: &DatasetName) -> Result<Vec<SnapshotFacts>> {
        self.check_refusal("snapshots")?;
        let world = self.world();
        Ok(world.open_pool(dataset.as_str())?.snapshot_facts(dataset.as_str()))
    }

    fn keep_open(&self, dataset: &DatasetName) -> Result<KeptOpen> {
        self.check_refusal("keep_open")?;
        let facts = self.world().open_pool(dataset.as_str())?.dataset_facts(dataset.as_str());
        facts.ok_or_else(|| fault(Kind::Missing, dataset.as_str(), "there is no such dataset"))?;
        Ok(KeptOpen { _open: None })
    }

    fn destroy_snapshots(&self, names: &[SnapshotName]) -> Result<()> {
        self.effect("destroy_snapshots", |world| world.destroy_snapshots(&texts(names)))
    }

    fn note_snapshot(&self, name: &SnapshotName, notes: &BTreeMap<String, String>) -> Result<()> {
        self.effect("note_snapshot", |world| {
            let snapshot = world.snapshot_mut(name.as_str())?;
            for (note, value) in notes {
                match note.as_str() {
                    "vsnap:id" => snapshot.mark = Some(Mark::read(value.as_str())),
                    _ => drop(snapshot.notes.insert(note.clone(), value.clone())),
                }
            }
            Ok(())
        })
    }

    fn rollback(&self, snapshot: &SnapshotName) -> Result<()> {
        self.effect("rollback", |world| rollback(world, snapshot))
    }

    fn promote(&self, clone: &DatasetName) -> Result<()> {
        self.effect("promote", |world| world.promote(clone.as_str()))
    }

    fn hold(&self, snapshot: &SnapshotName, tag: &str) -> Result<()> {
        self.effect("hold", |world| match world.snapshot_mut(snapshot.as_str())?.holds.insert(tag.to_owned()) {
            true => Ok(()),
            false => Err(fault(Kind::Exists, snapshot.as_str(), "tag already exists on this dataset")),
        })
    }

    fn release(&self, snapshot: &SnapshotName, tag: &str) -> Result<()> {
        self.effect("release", |world| match world.snapshot_mut(snapshot.as_str())?.holds.remove(tag) {
            true => Ok(()),
            false => Err(fault(Kind::Missing, snapshot.as_str(), "no such tag on this dataset")),
        })
    }

    fn written_since(&self, from: &SnapshotName, to: Option<&SnapshotName>) -> Result<u64> {
        self.check_refusal("written_since")?;
        let world = self.world();
        let (before, after) = two_points(&world, from, to)?;
        Ok(after.written_since(before))
    }

    fn diff(
        &self,
        from: &SnapshotName,
        to: Option<&SnapshotName>,
        found: &mut dyn FnMut(Change) -> bool,
    ) -> Result<()> {
        self.check_refusal("diff")?;
        let changes = {
            let world = self.world();
            require_mounted(&world, from.dataset().as_str())?;
            let (before, after) = two_points(&world, from, to)?;
            before.changes(after)
        };
        // `found` is not ours, so the world is free while it works.
        for change in changes {
            if !found(change) {
                break;
            }
        }
        Ok(())
    }

    fn backing_file(&self, filesystem: &DatasetName, path: &RelativePath) -> Result<u64> {
        self.check_refusal("backing_file")?;
        let world = self.world();
        let dataset = require_mounted(&world, filesystem.as_str())?;
        let size = dataset.content.size_of(path.as_str());
        size.map_err(|(kind, detail)| crate::os::Error::new(kind, format!("looking at {path}"), detail))
    }
}

fn require_mounted<'a>(world: &'a World, name: &str) -> Result<&'a FakeDataset> {
    match world.dataset(name)? {
        dataset if !dataset.is_filesystem() => Err(fault(Kind::Other, name, "it is a zvol")),
        dataset if !dataset.mounted || dataset.hidden => Err(fault(Kind::Other, name, "it is not mounted")),
        dataset => Ok(dataset),
    }
}

/// What a dataset held at the time of a snapshot, and at that of a later one or now.
fn two_points<'a>(
    world: &'a World,
    from: &SnapshotName,
    to: Option<&SnapshotName>,
) -> Result<(&'a Content, &'a Content)> {
    let before = world.snapshot(from.as_str())?;
    let Some(to) = to else { return Ok((&before.content, &world.dataset(from.dataset().as_str())?.content)) };
    let after = world.snapshot(to.as_str())?;
    if to.dataset() != from.dataset() || after.transaction < before.transaction {
        return Err(fault(Kind::Other, to.as_str(), "not a later snapshot of the same dataset"));
    }
    Ok((&before.content, &after.content))
}
