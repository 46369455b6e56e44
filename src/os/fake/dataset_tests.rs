//! Laws of the fake that the contract tests don't reach, or reach only from outside.

use std::{collections::BTreeMap, sync::Arc};

use super::{FakeOs, FileKind, Stopped};
use crate::{
    os::{
        ChangeKind, CloneCreation, DatasetChange, DatasetCreation, DatasetKind, Datasets, Kind, PoolCreation, Result,
        Zfs,
    },
    types::{
        PoolId, SnapshotId, VolumeId,
        ids::Mark,
        names::{DatasetName, SnapshotName, ZpoolName},
        pool::{PoolOptions, VdevLayout, VdevPlan, VdevRole},
        volume::{BlockSize, RelativePath, VolumeOptions},
    },
};

const POOL: &str = "vpool1";

fn fs(volume: i64) -> DatasetName {
    DatasetName::filesystem(PoolId(1), VolumeId(volume))
}

fn lun(volume: i64) -> DatasetName {
    DatasetName::lun(PoolId(1), VolumeId(volume))
}

fn snap(dataset: &DatasetName, number: i64) -> SnapshotName {
    dataset.snapshot(SnapshotId(number))
}

fn mark() -> Mark {
    Mark::read("system/object")
}

fn create(os: &FakeOs, name: &DatasetName, kind: DatasetKind) -> Result<()> {
    let (name, mark, options) = (name.clone(), mark(), VolumeOptions::default());
    os.create_dataset(&DatasetCreation { name, mark, notes: BTreeMap::new(), kind, options })
}

fn clone(os: &FakeOs, origin: &SnapshotName, name: &DatasetName) -> Result<()> {
    let (name, mark, origin, options) = (name.clone(), mark(), origin.clone(), VolumeOptions::default());
    os.clone_snapshot(&CloneCreation { name, mark, notes: BTreeMap::new(), options, origin })
}

fn take(os: &FakeOs, name: &SnapshotName) {
    os.snapshot(std::slice::from_ref(name), &mark(), &BTreeMap::new()).unwrap();
}

#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T>, kind: Kind) {
    assert_eq!(result.unwrap_err().kind, kind);
}

/// A pool of one disk with an empty filesystem `fs1`.
fn start() -> Arc<FakeOs> {
    let os = FakeOs::new();
    let paths = vec![os.world().disks[0].disk.path.clone()];
    os.create_pool(&PoolCreation {
        name: ZpoolName::of(PoolId(1)),
        mark: mark(),
        notes: BTreeMap::new(),
        options: PoolOptions::default(),
        dedup_table_quota: 0,
        vdevs: vec![VdevPlan { role: VdevRole::Data, layout: VdevLayout::Stripe, paths }],
        uneven: false,
    })
    .unwrap();
    create(&os, &fs(1), DatasetKind::Filesystem { limit: None }).unwrap();
    os
}

/// `fs1` with snapshots 1 to 3, which hold "1" to "3", and "now".
fn with_snapshots() -> Arc<FakeOs> {
    let os = start();
    for number in 1..=3 {
        os.world().write("vpool1/fs1", number.to_string().as_bytes()).unwrap();
        take(&os, &snap(&fs(1), number));
    }
    os.world().write("vpool1/fs1", b"now").unwrap();
    os
}

fn names(os: &FakeOs, dataset: &DatasetName) -> Vec<String> {
    os.snapshots(dataset).unwrap().into_iter().map(|facts| facts.name).collect()
}

fn origin(os: &FakeOs, dataset: &DatasetName) -> Option<String> {
    os.dataset(dataset).unwrap().unwrap().origin
}

#[test]
fn datasets_need_their_pool_and_go_with_it() {
    let os = start();
    let elsewhere = DatasetName::filesystem(PoolId(2), VolumeId(1));
    fails(create(&os, &elsewhere, DatasetKind::Filesystem { limit: None }), Kind::Missing);
    fails(create(&os, &fs(1), DatasetKind::Filesystem { limit: None }), Kind::Exists);
    let guid = os.world().pools[POOL].status.guid;
    os.world().reboot();
    fails(os.dataset(&fs(1)), Kind::Missing);
    fails(os.datasets(&ZpoolName::of(PoolId(1))), Kind::Missing);
    fails(os.mount_dataset(&fs(1)), Kind::Missing);
    os.import_pool(guid).unwrap();
    let facts = os.dataset(&fs(1)).unwrap().unwrap();
    assert!(!facts.mounted && facts.guid > 1 << 63 && facts.mark == Some(mark()));
    os.mount_pool(&ZpoolName::of(PoolId(1))).unwrap();
    assert!(os.dataset(&fs(1)).unwrap().unwrap().mounted);
    os.destroy_pool(&ZpoolName::of(PoolId(1))).unwrap();
    fails(os.dataset(&fs(1)), Kind::Missing);
}

#[test]
fn a_filesystem_that_was_mounted_before_its_pool_is_hidden() {
    let os = start();
    let guid = os.world().pools[POOL].status.guid;
    os.world().reboot();
    os.import_pool(guid).unwrap();
    os.mount_dataset(&fs(1)).unwrap();
    os.mount_pool(&ZpoolName::of(PoolId(1))).unwrap();
    assert!(os.world().dataset("vpool1/fs1").unwrap().hidden);
    os.unmount_dataset(&fs(1)).unwrap();
    os.mount_dataset(&fs(1)).unwrap();
    assert!(!os.world().dataset("vpool1/fs1").unwrap().hidden);
}

#[test]
fn snapshots_are_all_or_none() {
    let os = start();
    create(&os, &lun(2), DatasetKind::Zvol { bytes: 65_536, block: BlockSize::default() }).unwrap();
    take(&os, &snap(&lun(2), 1));
    let both = |number| [snap(&fs(1), number), snap(&lun(2), number)];
    fails(os.snapshot(&both(1), &mark(), &BTreeMap::new()), Kind::Exists);
    fails(os.snapshot(&[snap(&fs(1), 2), snap(&fs(9), 2)], &mark(), &BTreeMap::new()), Kind::Missing);
    assert!(names(&os, &fs(1)).is_empty());
    os.snapshot(&both(2), &mark(), &BTreeMap::new()).unwrap();
    let [one, other] = both(2).map(|name| os.snapshot_facts(&name).unwrap().unwrap());
    assert!(one.transaction == other.transaction && one.guid != other.guid && one.guid > 1 << 63);

    os.hold(&snap(&lun(2), 2), "tag").unwrap();
    fails(os.hold(&snap(&lun(2), 2), "tag"), Kind::Exists);
    fails(os.destroy_snapshots(&both(2)), Kind::Busy);
    assert_eq!((names(&os, &fs(1)).len(), names(&os, &lun(2)).len()), (1, 2));
    os.release(&snap(&lun(2), 2), "tag").unwrap();
    fails(os.release(&snap(&lun(2), 2), "tag"), Kind::Missing);
    os.destroy_snapshots(&both(2)).unwrap();
    os.destroy_snapshots(&both(2)).unwrap();
    assert_eq!((names(&os, &fs(1)).len(), names(&os, &lun(2)).len()), (0, 1));
}

#[test]
fn what_others_need_is_busy() {
    let os = with_snapshots();
    fails(os.destroy_dataset(&fs(1)), Kind::Busy);
    clone(&os, &snap(&fs(1), 2), &fs(2)).unwrap();
    fails(os.destroy_snapshots(&[1, 2, 3].map(|number| snap(&fs(1), number))), Kind::Busy);
    os.world().add_stranger("vpool1/fs2/below").unwrap();
    fails(os.destroy_dataset(&fs(2)), Kind::Busy);
    os.world().open_pool_mut(POOL).unwrap().datasets.remove("vpool1/fs2/below");
    os.world().busy("vpool1/fs2", true).unwrap();
    fails(os.destroy_dataset(&fs(2)), Kind::Busy);
    fails(os.unmount_dataset(&fs(2)), Kind::Busy);
    fails(os.destroy_pool(&ZpoolName::of(PoolId(1))), Kind::Busy);
    os.world().busy("vpool1/fs2", false).unwrap();
    os.destroy_dataset(&fs(2)).unwrap();
    os.destroy_snapshots(&[1, 2, 3].map(|number| snap(&fs(1), number))).unwrap();
    os.destroy_dataset(&fs(1)).unwrap();
}

#[test]
fn rollback_goes_to_the_newest_snapshot_only() {
    let os = with_snapshots();
    fails(os.rollback(&snap(&fs(1), 2)), Kind::Busy);
    os.world().busy("vpool1/fs1", true).unwrap();
    fails(os.rollback(&snap(&fs(1), 3)), Kind::Busy);
    os.world().busy("vpool1/fs1", false).unwrap();
    assert_eq!(os.world().read("vpool1/fs1").unwrap(), b"now");
    os.rollback(&snap(&fs(1), 3)).unwrap();
    assert_eq!(os.world().read("vpool1/fs1").unwrap(), b"3");
    os.destroy_snapshots(&[snap(&fs(1), 3)]).unwrap();
    os.rollback(&snap(&fs(1), 2)).unwrap();
    assert_eq!(os.world().read("vpool1/fs1").unwrap(), b"2");
}

#[test]
fn a_zvol_has_its_former_size_again() {
    let os = start();
    let kind = |bytes| DatasetKind::Zvol { bytes, block: BlockSize::default() };
    fails(create(&os, &lun(2), kind(65_537)), Kind::Other);
    create(&os, &lun(2), kind(65_536)).unwrap();
    take(&os, &snap(&lun(2), 1));
    let grow = |bytes| DatasetChange { size: Some(Some(bytes)), ..DatasetChange::default() };
    os.change_dataset(&lun(2), &grow(131_072)).unwrap();
    fails(os.change_dataset(&lun(2), &grow(65_536)), Kind::Denied);
    clone(&os, &snap(&lun(2), 1), &lun(3)).unwrap();
    os.rollback(&snap(&lun(2), 1)).unwrap();
    for name in [lun(2), lun(3)] {
        assert_eq!(os.dataset(&name).unwrap().unwrap().kind, kind(65_536));
    }
}

#[test]
fn promotion_moves_the_origin_and_what_is_older() {
    let os = with_snapshots();
    clone(&os, &snap(&fs(1), 2), &fs(2)).unwrap();
    clone(&os, &snap(&fs(1), 1), &fs(3)).unwrap();
    os.world().write("vpool1/fs2", b"changed").unwrap();
    take(&os, &snap(&fs(2), 4));
    os.hold(&snap(&fs(1), 1), "tag").unwrap();
    assert_eq!(os.world().read("vpool1/fs2@snap4").unwrap(), b"changed");
    os.promote(&fs(2)).unwrap();
    assert_eq!(names(&os, &fs(2)), ["vpool1/fs2@snap1", "vpool1/fs2@snap2", "vpool1/fs2@snap4"]);
    assert_eq!(names(&os, &fs(1)), ["vpool1/fs1@snap3"]);
    assert_eq!(origin(&os, &fs(2)), None);
    assert_eq!(origin(&os, &fs(1)).unwrap(), "vpool1/fs2@snap2");
    assert_eq!(origin(&os, &fs(3)).unwrap(), "vpool1/fs2@snap1");
    let first = os.snapshot_facts(&snap(&fs(2), 1)).unwrap().unwrap();
    assert_eq!((first.holds, first.clones), (vec!["tag".to_owned()], vec!["vpool1/fs3".to_owned()]));
    assert_eq!(os.world().read("vpool1/fs1").unwrap(), b"now");

    // A clone of what moved takes the place of the one in the middle.
    os.promote(&fs(3)).unwrap();
    assert_eq!((origin(&os, &fs(3)), origin(&os, &fs(2)).unwrap()), (None, "vpool1/fs3@snap1".to_owned()));
    fails(os.promote(&fs(3)), Kind::Denied);
    assert_eq!(os.world().read("vpool1/fs3").unwrap(), b"1");
}

#[test]
fn promotion_fails_on_two_snapshots_of_one_name() {
    let os = with_snapshots();
    clone(&os, &snap(&fs(1), 2), &fs(2)).unwrap();
    os.world().add_strange_snapshot("vpool1/fs2@snap1").unwrap();
    fails(os.promote(&fs(2)), Kind::Exists);
    assert_eq!((names(&os, &fs(1)).len(), names(&os, &fs(2)).len()), (3, 1));
    // What is younger than the origin stays, so its name does no harm.
    os.destroy_snapshots(&[snap(&fs(2), 1)]).unwrap();
    os.world().add_strange_snapshot("vpool1/fs2@snap3").unwrap();
    os.promote(&fs(2)).unwrap();
}

#[test]
fn sizes_add_up() {
    let os = start();
    let empty = os.dataset(&fs(1)).unwrap().unwrap().numbers;
    os.world().write("vpool1/fs1", &[1; 1000]).unwrap();
    take(&os, &snap(&fs(1), 1));
    assert_eq!(os.snapshot_facts(&snap(&fs(1), 1)).unwrap().unwrap().used, 0);
    os.world().write("vpool1/fs1", &[2; 300]).unwrap();
    assert_eq!(os.snapshot_facts(&snap(&fs(1), 1)).unwrap().unwrap().used, 1000);
    assert_eq!(os.written_since(&snap(&fs(1), 1), None).unwrap(), 300);
    let numbers = os.dataset(&fs(1)).unwrap().unwrap().numbers;
    assert_eq!((numbers.used - empty.used, numbers.referenced - empty.referenced), (1300, 300));
    assert_eq!(empty.available - numbers.available, 1300);
    clone(&os, &snap(&fs(1), 1), &fs(2)).unwrap();
    let cloned = os.dataset(&fs(2)).unwrap().unwrap().numbers;
    assert_eq!((cloned.used, cloned.referenced), (empty.used, empty.referenced + 1000));
    let pool = os.pool_facts(&ZpoolName::of(PoolId(1))).unwrap().numbers;
    assert_eq!(pool.free, cloned.available);
}

#[test]
fn a_full_pool_takes_nothing_new() {
    let os = with_snapshots();
    os.world().full(POOL, true).unwrap();
    let numbers = os.pool_facts(&ZpoolName::of(PoolId(1))).unwrap().numbers;
    assert_eq!((numbers.free, os.dataset(&fs(1)).unwrap().unwrap().numbers.available), (0, 0));
    fails(create(&os, &fs(2), DatasetKind::Filesystem { limit: None }), Kind::NoSpace);
    fails(clone(&os, &snap(&fs(1), 1), &fs(2)), Kind::NoSpace);
    fails(os.snapshot(&[snap(&fs(1), 4)], &mark(), &BTreeMap::new()), Kind::NoSpace);
    fails(os.world().write("vpool1/fs1", b"x"), Kind::NoSpace);
    os.rollback(&snap(&fs(1), 3)).unwrap();
    os.destroy_snapshots(&[1, 2, 3].map(|number| snap(&fs(1), number))).unwrap();
    os.destroy_dataset(&fs(1)).unwrap();
}

#[test]
fn a_limit_counts_snapshots_too() {
    let os = start();
    os.world().write("vpool1/fs1", &[0; 1000]).unwrap();
    take(&os, &snap(&fs(1), 1));
    os.world().write("vpool1/fs1", b"").unwrap();
    let used = os.dataset(&fs(1)).unwrap().unwrap().numbers.used;
    let limit = |bytes| DatasetChange { size: Some(Some(bytes)), ..DatasetChange::default() };
    fails(os.change_dataset(&fs(1), &limit(used - 1)), Kind::NoSpace);
    os.change_dataset(&fs(1), &limit(used + 10)).unwrap();
    fails(os.world().write("vpool1/fs1", &[0; 20]), Kind::NoSpace);
    os.change_dataset(&fs(1), &DatasetChange { size: Some(None), ..DatasetChange::default() }).unwrap();
    os.world().write("vpool1/fs1", &[0; 20]).unwrap();
}

#[test]
fn notes_and_options_change() {
    let os = start();
    let note = |name: &str| (name.to_owned(), "value".to_owned());
    let options = VolumeOptions { compression: Some(false), ..VolumeOptions::default() };
    let notes = BTreeMap::from([note("vsnap:a"), note("vsnap:b")]);
    os.change_dataset(&fs(1), &DatasetChange { options, notes, ..DatasetChange::default() }).unwrap();
    let dropped_notes = vec!["vsnap:a".to_owned(), "vsnap:none".to_owned()];
    os.change_dataset(&fs(1), &DatasetChange { dropped_notes, ..DatasetChange::default() }).unwrap();
    let facts = os.dataset(&fs(1)).unwrap().unwrap();
    assert_eq!(facts.notes, BTreeMap::from([note("vsnap:b")]));
    assert_eq!(facts.options, options);
}

#[test]
fn backing_files_are_found_inside() {
    let os = start();
    {
        let mut world = os.world();
        let mut add = |path: &str, kind| world.add_file("vpool1/fs1", path, kind).unwrap();
        add("files/lun.img", FileKind::File(vec![0; 1000]));
        add("link", FileKind::Link(Some("files".to_owned())));
        add("out", FileKind::Link(None));
        add("circle", FileKind::Link(Some("circle".to_owned())));
        add("pipe", FileKind::Pipe);
    }
    let look = |path: &str| os.backing_file(&fs(1), &RelativePath::new(path).unwrap());
    assert_eq!((look("files/lun.img").unwrap(), look("link/lun.img").unwrap()), (1000, 1000));
    for denied in ["files", "link", "out", "out/lun.img", "circle", "pipe"] {
        fails(look(denied), Kind::Denied);
    }
    for missing in ["nothing", "files/nothing", "files/lun.img/below", "pipe/below"] {
        fails(look(missing), Kind::Missing);
    }
    os.unmount_dataset(&fs(1)).unwrap();
    fails(look("files/lun.img"), Kind::Other);
}

#[test]
fn changes_are_told_as_zfs_tells_them() {
    let os = start();
    for path in ["kept", "changed", "gone", "old", "folder/inside"] {
        os.world().add_file("vpool1/fs1", path, FileKind::File(b"1".to_vec())).unwrap();
    }
    take(&os, &snap(&fs(1), 1));
    {
        let mut world = os.world();
        world.add_file("vpool1/fs1", "changed", FileKind::File(b"2".to_vec())).unwrap();
        world.remove_file("vpool1/fs1", "gone").unwrap();
        world.rename_file("vpool1/fs1", "old", "folder/new").unwrap();
        world.add_file("vpool1/fs1", "link", FileKind::Link(None)).unwrap();
    }
    take(&os, &snap(&fs(1), 2));
    let mut changes = Vec::new();
    let mut collect = |change: crate::os::Change| {
        changes.push((change.kind, change.file_type, change.path, change.new_path));
        true
    };
    os.diff(&snap(&fs(1), 1), Some(&snap(&fs(1), 2)), &mut collect).unwrap();
    let row = |kind, letter, path: &str, new: Option<&str>| (kind, letter, path.to_owned(), new.map(str::to_owned));
    let expected = [
        row(ChangeKind::Modified, '/', "", None),
        row(ChangeKind::Modified, 'F', "changed", None),
        row(ChangeKind::Modified, '/', "folder", None),
        row(ChangeKind::Removed, 'F', "gone", None),
        row(ChangeKind::Added, '@', "link", None),
        row(ChangeKind::Renamed, 'F', "old", Some("folder/new")),
    ];
    assert_eq!(changes, expected);
    let mut count = 0;
    let mut stop = |_| {
        count += 1;
        false
    };
    os.diff(&snap(&fs(1), 1), None, &mut stop).unwrap();
    assert_eq!(count, 1);
    fails(os.diff(&snap(&fs(1), 2), Some(&snap(&fs(1), 1)), &mut |_| true), Kind::Other);
    fails(os.diff(&snap(&fs(1), 9), None, &mut |_| true), Kind::Missing);
}

#[test]
fn every_change_can_be_refused_and_stopped() {
    let os = with_snapshots();
    os.refuse("mount_created", Kind::Other);
    fails(create(&os, &fs(2), DatasetKind::Filesystem { limit: None }), Kind::Other);
    assert!(!os.dataset(&fs(2)).unwrap().unwrap().mounted, "made, though it could not be mounted");
    os.refuse("promote", Kind::Busy);
    fails(os.promote(&fs(1)), Kind::Busy);
    os.allow_all();
    os.stop_at(Some(1));
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| os.destroy_snapshots(&[snap(&fs(1), 3)])));
    assert!(stopped.unwrap_err().is::<Stopped>());
    os.stop_at(None);
    assert_eq!(names(&os, &fs(1)).len(), 2, "what was done before a stop stays done");
}

#[test]
fn a_suspended_pool_is_no_missing_one() {
    let os = with_snapshots();
    let path = os.world().disks[0].disk.path.clone();
    os.world().pull(&path);
    fails(os.dataset(&fs(1)), Kind::Other);
    fails(os.snapshot_facts(&snap(&fs(1), 1)), Kind::Other);
    fails(os.snapshots(&fs(1)), Kind::Other);
    fails(os.destroy_dataset(&fs(1)), Kind::Other);
}
