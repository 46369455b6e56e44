//! Volumes and snapshots of the appliance under test: making them, and comparing catalog and ZFS.

use std::collections::{BTreeMap, BTreeSet};

use vsnap::{
    os::{
        DatasetKind, Machine,
        fake::{FakeDataset, FakePool, FakeSnapshot, FileKind, World},
    },
    types::{
        Epoch, Name, PoolId, SnapshotId, SystemId, VolumeId,
        ids::Mark,
        names::to_property,
        selection::Selection,
        snapshot::{HoldReason, LOCK_TAG, Retention, Snapshot, SnapshotAction, SnapshotRequest},
        volume::{BlockSize, RelativePath, Volume, VolumeOptions, VolumeRequest, VolumeSource},
    },
};

use crate::appliance::{Appliance, caller};

/// A dataset of somebody else in our pool, with a snapshot, and a snapshot of somebody else of our volume 3.
const STRANGERS: [&str; 3] = ["vpool1/theirs", "vpool1/theirs@theirs", "vpool1/fs3@theirs"];

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Appliance {
    /// Pool 1 with filesystems 1 and 3, lun 2, and strangers beside them.
    pub fn make_volumes(&self) {
        self.make_pool();
        let options = VolumeOptions::default();
        let filesystem = || VolumeSource::Filesystem { pool: PoolId(1), limit: None, options };
        let lun = VolumeSource::Lun { pool: PoolId(1), bytes: 1 << 20, block: BlockSize::default(), options };
        for (text, source) in [("one", filesystem()), ("two", lun), ("three", filesystem())] {
            self.create(text, source).unwrap();
        }
        self.strangers.set(true);
        let mut world = self.fake.world();
        world.add_stranger(STRANGERS[0]).unwrap();
        for strange in &STRANGERS[1..] {
            world.write(strange.split('@').next().unwrap(), b"theirs").unwrap();
            world.add_strange_snapshot(strange).unwrap();
        }
        world.add_file("vpool1/fs1", "files/lun.img", FileKind::File(vec![0; 4096])).unwrap();
    }

    pub fn create(&self, text: &str, source: VolumeSource) -> Option<Volume> {
        self.engine().create_volume(&caller(), VolumeRequest { name: name(text), source }).ok()
    }

    pub fn clone_of(&self, text: &str, snapshot: i64) {
        self.create(text, VolumeSource::Clone { snapshot: SnapshotId(snapshot) });
    }

    pub fn file_lun(&self, text: &str) {
        let path = RelativePath::new("files/lun.img").unwrap();
        self.create(text, VolumeSource::File { parent: VolumeId(1), path });
    }

    /// Writes `text` to each volume, and makes a snapshot of that name.
    pub fn snap(&self, text: &str, volumes: &[i64]) {
        self.snap_for(text, volumes, Retention::default());
    }

    pub fn snap_for(&self, text: &str, volumes: &[i64], retention: Retention) {
        {
            let mut world = self.fake.world();
            // A full pool takes no content.
            let full = world.pools["vpool1"].full;
            let datasets: Vec<String> = world.pools["vpool1"].datasets.keys().cloned().collect();
            let is_meant = |dataset: &&String| {
                volumes.iter().any(|id| [format!("vpool1/fs{id}"), format!("vpool1/lun{id}")].contains(dataset))
            };
            for dataset in datasets.iter().filter(is_meant).filter(|_| !full) {
                world.write(dataset, text.as_bytes()).unwrap();
            }
        }
        let volumes = volumes.iter().map(|id| VolumeId(*id)).collect();
        let _ =
            self.engine().create_snapshots(&caller(), SnapshotRequest { volumes, name: Some(name(text)), retention });
    }

    pub fn act(&self, snapshot: i64, action: SnapshotAction) {
        let _ = self.engine().act_on_snapshot(&caller(), SnapshotId(snapshot), action);
    }

    /// Kept for 1000 seconds.
    pub fn retention(&self, locked: bool) -> Retention {
        Retention { expires: Some(Epoch(self.fake.now().0 + 1000)), locked }
    }

    /// Rows and datasets are the same, row by row; strangers were left alone.
    pub fn check_volumes(&self, when: &str) {
        let (volumes, _) = self.engine().volumes(&Selection::default()).unwrap();
        let (snapshots, _) = self.engine().snapshots(&Selection::default()).unwrap();
        // A list has no holds.
        let snapshots: Vec<Snapshot> =
            snapshots.iter().map(|snapshot| self.engine().snapshot(snapshot.id).unwrap()).collect();
        for table in ["volume", "snapshot"] {
            let other = self.stored(&format!("SELECT count(*) FROM {table} WHERE state <> 'ready'"));
            assert_eq!(other, 0, "{when}: a row in {table} is neither ready nor gone");
        }
        let system = self.engine().system().unwrap().id;
        let world = self.fake.world();
        let Some(pool) = world.pools.get("vpool1") else {
            assert!(volumes.is_empty() && snapshots.is_empty(), "{when}: rows without their pool");
            return;
        };
        let view = View { when, now: self.fake.now(), pool, volumes: &volumes, snapshots: &snapshots };
        let rows = volumes.iter().filter_map(|volume| volume.volume_type.dataset(volume.pool, volume.id));
        let rows: BTreeSet<String> = rows.map(|name| name.to_string()).collect();
        let marked = pool.datasets.iter().filter(|(_, dataset)| dataset.mark.is_some());
        assert_eq!(rows, marked.map(|(name, _)| name.clone()).collect(), "{when}: rows and datasets differ");
        for volume in &volumes {
            if let Some(dataset) = volume.volume_type.dataset(volume.pool, volume.id) {
                let real = &pool.datasets[dataset.as_str()];
                assert_eq!(real.mark, Some(Mark::volume(&system, volume.id)), "{when}: {dataset}");
                view.check_dataset(volume, real);
                view.check_snapshots(volume, real, &system);
            }
        }
        view.check_files();
        if self.strangers.get() {
            check_strangers(when, &world);
        }
        drop(world);
        self.check_guids(when);
    }

    fn check_guids(&self, when: &str) {
        let world = self.fake.world();
        let datasets = world.pools["vpool1"].datasets.values();
        let of_snapshots = datasets.clone().flat_map(|dataset| &dataset.snapshots).filter(|it| it.mark.is_some());
        let live: [Vec<u64>; 2] = [
            datasets.filter(|dataset| dataset.mark.is_some()).map(|dataset| dataset.guid).collect(),
            of_snapshots.map(|snapshot| snapshot.guid).collect(),
        ];
        drop(world);
        for (table, guids) in ["volume", "snapshot"].into_iter().zip(live) {
            let known = guids.iter().map(|guid| format!("'{guid}'")).collect::<Vec<_>>().join(",");
            let query = format!("SELECT count(*) FROM {table} WHERE guid IS NOT NULL AND guid NOT IN ({known})");
            assert_eq!(self.stored(&query), 0, "{when}: a guid in {table} is another one in ZFS");
        }
    }
}

fn check_strangers(when: &str, world: &World) {
    let strange = world.dataset(STRANGERS[0]).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert!(strange.mark.is_none() && strange.notes.is_empty(), "{when}: a stranger's dataset was touched");
    for name in STRANGERS {
        assert_eq!(world.read(name).as_deref(), Some(&b"theirs"[..]), "{when}: {name} was touched");
    }
    for name in &STRANGERS[1..] {
        let snapshot = world.snapshot(name).unwrap();
        assert!(snapshot.mark.is_none() && snapshot.notes.is_empty() && snapshot.holds.is_empty(), "{when}: {name}");
    }
}

struct View<'a> {
    when: &'a str,
    now: Epoch,
    pool: &'a FakePool,
    volumes: &'a [Volume],
    snapshots: &'a [Snapshot],
}

impl View<'_> {
    fn check_dataset(&self, volume: &Volume, real: &FakeDataset) {
        let when = format!("{}: volume {}", self.when, volume.id);
        assert_eq!(real.notes["vsnap:name"], to_property(volume.name.as_str()), "{when}");
        assert_eq!(real.notes.get("vsnap:serial"), volume.serial.as_ref(), "{when}");
        assert!(!real.is_filesystem() || real.mounted && !real.hidden, "{when}: not mounted");
        let size = match real.kind {
            DatasetKind::Filesystem { limit } => limit,
            DatasetKind::Zvol { bytes, .. } => Some(bytes),
        };
        assert_eq!(volume.size, size, "{when}");
        let pool = self.pool.facts.options;
        let options = VolumeOptions {
            compression: real.options.compression.or(Some(pool.compression)),
            deduplication: real.options.deduplication.or(Some(pool.deduplication)),
            syncwrite: real.options.syncwrite.or(Some(pool.syncwrite)),
        };
        assert_eq!(volume.options, options, "{when}");
        let origin = volume.origin.map(|id| self.snapshots.iter().find(|row| row.id == id).unwrap());
        let real_origin = real.origin.and_then(|guid| self.pool.snapshot_by_guid(guid)).map(|(name, _)| name);
        assert_eq!(origin.map(|row| self.zfs_name(row)), real_origin, "{when}: origin");
    }

    fn zfs_name(&self, snapshot: &Snapshot) -> String {
        let volume = self.volumes.iter().find(|volume| volume.id == snapshot.volume).unwrap();
        volume.volume_type.dataset(volume.pool, volume.id).unwrap().snapshot(snapshot.id).to_string()
    }

    fn check_snapshots(&self, volume: &Volume, real: &FakeDataset, system: &SystemId) {
        let when = format!("{}: volume {}", self.when, volume.id);
        let ours: BTreeMap<String, &FakeSnapshot> = real
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.mark.as_ref().is_some_and(|mark| mark.snapshot_name(system).is_some()))
            .map(|snapshot| (snapshot.name.clone(), snapshot))
            .collect();
        let rows: Vec<&Snapshot> = self.snapshots.iter().filter(|row| row.volume == volume.id).collect();
        let names: BTreeSet<String> = rows.iter().map(|row| format!("snap{}", row.id)).collect();
        assert_eq!(names, ours.keys().cloned().collect(), "{when}: rows and snapshots differ");
        assert!(rows.is_sorted_by_key(|row| ours[&format!("snap{}", row.id)].transaction), "{when}: order");
        for row in rows {
            self.check_snapshot(row, ours[&format!("snap{}", row.id)], system);
        }
    }

    fn check_snapshot(&self, row: &Snapshot, real: &FakeSnapshot, system: &SystemId) {
        let when = format!("{}: snapshot {}", self.when, row.id);
        assert_eq!(row.guid, real.guid, "{when}");
        assert_eq!(real.mark, Some(Mark::snapshot(system, &row.name)), "{when}");
        let expires = row.retention.expires.map_or_else(String::new, |time| time.to_string());
        // A new one that is kept for ever has neither.
        let note = |key: &str| real.notes.get(key).map_or("", String::as_str);
        assert_eq!(note("vsnap:expires"), expires, "{when}");
        assert_eq!(note("vsnap:locked") == "1", row.retention.locked, "{when}");
        assert_eq!(row.has_clones, !self.pool.clones(real.guid).is_empty(), "{when}: clones");
        let mut tags: BTreeSet<String> = row.holds.iter().map(|hold| hold.reason.tag()).collect();
        // What is left of a lock that is over does no harm, and may be gone.
        let is_over = !row.retention.is_locked(self.now);
        if row.retention.locked && (!is_over || real.holds.contains(LOCK_TAG)) {
            tags.insert(LOCK_TAG.to_owned());
        }
        assert_eq!(real.holds, tags, "{when}: holds");
    }

    /// Notes of file-backed luns on their filesystems, and no others.
    fn check_files(&self) {
        let mut wanted = BTreeSet::new();
        for volume in self.volumes {
            if let Some((parent, path)) = &volume.parent {
                let note = |what: &str, value: &str| {
                    (format!("vpool1/fs{parent}"), format!("vsnap:file.{}.{what}", volume.id), to_property(value))
                };
                wanted.insert(note("name", volume.name.as_str()));
                wanted.insert(note("path", path.as_str()));
                wanted.insert(note("serial", volume.serial.as_ref().unwrap()));
                wanted.insert(note("created", &volume.created.to_string()));
            }
        }
        let datasets = self.pool.datasets.iter();
        let notes = datasets.flat_map(|(name, dataset)| {
            let files = dataset.notes.iter().filter(|(note, _)| note.starts_with("vsnap:file."));
            files.map(|(note, value)| (name.clone(), note.clone(), value.clone()))
        });
        assert_eq!(notes.collect::<BTreeSet<_>>(), wanted, "{}: file-backed luns", self.when);
    }
}

pub fn reason(text: &str) -> HoldReason {
    HoldReason::new(text).unwrap()
}
