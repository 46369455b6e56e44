use std::{collections::BTreeMap, fs};

use vsnap::{
    os::{Change, ChangeKind, CloneCreation, Kind, MadeSnapshot, SnapshotFacts},
    types::{
        SnapshotId,
        ids::Mark,
        names::{DatasetName, SnapshotName},
        volume::VolumeOptions,
    },
};

use crate::{
    datasets::random,
    system::{System, fails, filesystem, volume_mark},
};

fn mark() -> Mark {
    Mark::read("0123456789abcdef0123456789abcdef/snapshot/a name")
}

/// Takes snapshot `number` of a dataset.
pub fn take(system: &System, name: &DatasetName, number: i64) -> SnapshotName {
    let snapshot = name.snapshot(SnapshotId(number));
    system.zfs.snapshot(std::slice::from_ref(&snapshot), &mark(), &BTreeMap::new()).unwrap();
    snapshot
}

pub fn facts(system: &System, name: &SnapshotName) -> SnapshotFacts {
    system.zfs.snapshot_facts(name).unwrap().unwrap()
}

fn clone(system: &System, origin: &SnapshotName, number: i64) -> DatasetName {
    let name = filesystem(number);
    let creation = CloneCreation {
        name: name.clone(),
        mark: volume_mark(&name),
        notes: BTreeMap::new(),
        options: VolumeOptions::default(),
        origin: origin.clone(),
    };
    system.zfs.clone_snapshot(&creation).unwrap();
    name
}

#[test]
fn snapshots_of_several_datasets_are_taken_at_once() {
    System::with_small_pool(|system| {
        let names = [system.make_filesystem(1), system.make_lun(2)];
        let notes = BTreeMap::from([("vsnap:reason".to_owned(), "a%20b=c".to_owned())]);
        let snapshots = names.each_ref().map(|name| name.snapshot(SnapshotId(7)));
        let before = system.machine.now();
        system.zfs.snapshot(&snapshots, &mark(), &notes).unwrap();
        let taken = snapshots.each_ref().map(|snapshot| facts(system, snapshot));
        for (taken, name) in taken.iter().zip(&snapshots) {
            assert_eq!((taken.name.as_str(), &taken.mark), (name.as_str(), &Some(mark())));
            // Those of the dataset are inherited, and so none of the snapshot.
            assert_eq!(taken.notes, notes);
            assert!(taken.clones.is_empty() && taken.holds.is_empty() && taken.guid != 0);
            assert!(taken.created.0 >= before.0 - 1 && taken.created.0 <= before.0 + 120, "{taken:?}");
        }
        assert_eq!(taken[0].transaction, taken[1].transaction);
        assert_ne!(taken[0].guid, taken[1].guid);
        let wanted = [snapshots[0].clone(), snapshots[1].clone(), names[0].snapshot(SnapshotId(99))];
        let made = taken.each_ref().map(|snapshot| MadeSnapshot {
            name: snapshot.name.clone(),
            guid: snapshot.guid,
            created: snapshot.created,
            mark: snapshot.mark.clone(),
        });
        let mut named = system.zfs.made_snapshots(&wanted).unwrap();
        named.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(named, made);
        assert_eq!(system.zfs.made_snapshots(&wanted[..1]).unwrap(), made[..1]);
        assert_eq!(system.zfs.made_snapshots(&[]).unwrap(), []);
        system.zfs.snapshot(&[], &mark(), &notes).unwrap();
        assert_eq!(system.zfs.snapshots(&names[0]).unwrap(), [taken[0].clone()]);
    });
}

#[test]
fn all_snapshots_of_a_set_are_taken_or_none() {
    System::with_small_pool(|system| {
        let (one, other) = (system.make_filesystem(1), system.make_filesystem(2));
        let there = take(system, &one, 1);
        let guid = facts(system, &there).guid;
        let refused = [other.snapshot(SnapshotId(1)), there.clone()];
        fails(system.zfs.snapshot(&refused, &mark(), &BTreeMap::new()), Kind::Exists);
        let refused = [other.snapshot(SnapshotId(1)), filesystem(99).snapshot(SnapshotId(1))];
        fails(system.zfs.snapshot(&refused, &mark(), &BTreeMap::new()), Kind::Missing);
        assert_eq!(system.zfs.snapshots(&other).unwrap(), []);
        assert_eq!(facts(system, &there).guid, guid);
    });
}

#[test]
fn snapshots_that_are_not_there_are_missing_and_nothing_else() {
    let snapshot = filesystem(1).snapshot(SnapshotId(5));
    let system = System::new();
    // Of a pool that is not there nothing can be said.
    fails(system.zfs.snapshot_facts(&snapshot), Kind::Missing);
    fails(system.zfs.snapshots(snapshot.dataset()), Kind::Missing);
    fails(system.zfs.snapshot(std::slice::from_ref(&snapshot), &mark(), &BTreeMap::new()), Kind::Missing);
    fails(system.zfs.destroy_snapshots(std::slice::from_ref(&snapshot)), Kind::Missing);
    System::with_small_pool(|system| {
        let zfs = &system.zfs;
        assert_eq!(zfs.snapshot_facts(&snapshot).unwrap(), None);
        assert_eq!(zfs.snapshots(snapshot.dataset()).unwrap(), []);
        let name = system.make_filesystem(1);
        assert_eq!(zfs.snapshot_facts(&snapshot).unwrap(), None);
        assert_eq!(zfs.snapshots(&name).unwrap(), []);
        zfs.destroy_snapshots(std::slice::from_ref(&snapshot)).unwrap();
        zfs.destroy_snapshots(&[]).unwrap();
        zfs.destroy_snapshots(&[filesystem(99).snapshot(SnapshotId(1))]).unwrap();
        let notes = BTreeMap::from([("vsnap:a".to_owned(), "b".to_owned())]);
        fails(zfs.note_snapshot(&snapshot, &notes), Kind::Missing);
        fails(zfs.rollback(&snapshot), Kind::Missing);
        fails(zfs.hold(&snapshot, "tag"), Kind::Missing);
        fails(zfs.release(&snapshot, "tag"), Kind::Missing);
        fails(zfs.promote(&filesystem(99)), Kind::Missing);
        fails(zfs.written_since(&snapshot, None), Kind::Missing);
        fails(zfs.diff(&snapshot, None, &mut |_| true), Kind::Missing);
        let there = take(system, &name, 4);
        fails(zfs.written_since(&there, Some(&snapshot)), Kind::Missing);
        fails(zfs.diff(&there, Some(&snapshot), &mut |_| true), Kind::Missing);
    });
}

#[test]
fn snapshots_are_listed_oldest_first() {
    System::with_small_pool(|system| {
        let (name, other) = (system.make_filesystem(1), system.make_filesystem(2));
        let taken = [30, 4, 5, 100, 1].map(|number| take(system, &name, number));
        take(system, &other, 6);
        let listed = system.zfs.snapshots(&name).unwrap();
        let names: Vec<&str> = listed.iter().map(|snapshot| snapshot.name.as_str()).collect();
        assert_eq!(names, taken.each_ref().map(SnapshotName::as_str));
        assert!(listed.is_sorted_by(|one, next| one.transaction < next.transaction));
        assert_eq!(listed[2], facts(system, &taken[2]));
    });
}

#[test]
fn snapshots_are_destroyed_together_or_not_at_all() {
    System::with_small_pool(|system| {
        let (name, lun) = (system.make_filesystem(1), system.make_lun(2));
        let snapshots = [take(system, &name, 1), take(system, &name, 2), take(system, &lun, 3)];
        let there = || snapshots.each_ref().map(|name| system.zfs.snapshot_facts(name).unwrap().is_some());
        let clone = clone(system, &snapshots[1], 4);
        fails(system.zfs.destroy_snapshots(&snapshots), Kind::Busy);
        assert_eq!(there(), [true, true, true]);
        system.zfs.destroy_dataset(&clone).unwrap();
        system.zfs.hold(&snapshots[2], "vsnap:job").unwrap();
        fails(system.zfs.destroy_snapshots(&snapshots), Kind::Busy);
        assert_eq!(there(), [true, true, true]);
        system.zfs.release(&snapshots[2], "vsnap:job").unwrap();
        system.zfs.destroy_snapshots(&snapshots[..1]).unwrap();
        assert_eq!(there(), [false, true, true]);
        if system.is_real() {
            // Somebody looks at it over NFS or SMB, which mounts it.
            assert_eq!(fs::read_dir(format!("{}/.zfs/snapshot/snap2", name.mountpoint())).unwrap().count(), 0);
        }
        system.zfs.destroy_snapshots(&snapshots).unwrap();
        assert_eq!(there(), [false, false, false]);
    });
}

#[test]
fn holds_have_tags() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let snapshot = take(system, &name, 1);
        system.zfs.hold(&snapshot, "two words").unwrap();
        system.zfs.hold(&snapshot, "another").unwrap();
        fails(system.zfs.hold(&snapshot, "another"), Kind::Exists);
        assert_eq!(facts(system, &snapshot).holds, ["another", "two words"]);
        fails(system.zfs.release(&snapshot, "third"), Kind::Missing);
        system.zfs.release(&snapshot, "another").unwrap();
        fails(system.zfs.release(&snapshot, "another"), Kind::Missing);
        assert_eq!(facts(system, &snapshot).holds, ["two words"]);
        system.zfs.release(&snapshot, "two words").unwrap();
    });
}

#[test]
fn a_dataset_is_kept_open_where_nobody_sees_it() {
    System::with_small_pool(|system| {
        let names = [system.make_filesystem(1), system.make_lun(2)];
        for name in &names {
            let snapshot = take(system, name, 1);
            system.zfs.unmount_dataset(name).unwrap();
            let open = system.zfs.keep_open(name).unwrap();
            system.zfs.destroy_snapshots(&[snapshot]).unwrap();
            if system.is_real() {
                assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(name.as_str()));
                let destroy = std::process::Command::new("zfs").args(["destroy", name.as_str()]).status();
                assert!(!destroy.unwrap().success(), "{name} is open");
            }
            drop(open);
            system.zfs.destroy_dataset(name).unwrap();
        }
        fails(system.zfs.keep_open(&names[0]).map(drop), Kind::Missing);
    });
}

#[test]
fn notes_of_a_snapshot_are_set() {
    System::with_small_pool(|system| {
        let snapshot = take(system, &system.make_filesystem(1), 1);
        let notes = BTreeMap::from([("vsnap:a".to_owned(), "b".to_owned()), ("vsnap:c".to_owned(), "12".to_owned())]);
        system.zfs.note_snapshot(&snapshot, &notes).unwrap();
        system.zfs.note_snapshot(&snapshot, &BTreeMap::new()).unwrap();
        let facts = facts(system, &snapshot);
        assert_eq!((facts.notes, facts.mark), (notes, Some(mark())));
    });
}

#[test]
fn a_rollback_goes_to_the_newest_snapshot_only() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let file = format!("{}/file", name.mountpoint());
        let write = |text: &str| {
            if system.is_real() {
                fs::write(&file, text).unwrap();
            }
        };
        write("old");
        let old = take(system, &name, 1);
        write("new");
        let new = take(system, &name, 2);
        write("newest");
        fails(system.zfs.rollback(&old), Kind::Busy);
        system.zfs.rollback(&new).unwrap();
        if system.is_real() {
            assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        }
        system.zfs.destroy_snapshots(&[new]).unwrap();
        system.zfs.rollback(&old).unwrap();
        system.zfs.rollback(&old).unwrap();
        if system.is_real() {
            assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        }
        let lun = system.make_lun(2);
        let snapshot = take(system, &lun, 3);
        system.zfs.rollback(&snapshot).unwrap();
    });
}

#[test]
fn a_promoted_clone_owns_its_origin_and_what_is_older() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let (old, origin) = (take(system, &name, 1), take(system, &name, 2));
        let newer = take(system, &name, 3);
        let clone = clone(system, &origin, 2);
        let own = take(system, &clone, 4);
        let guids = [&old, &origin, &own].map(|name| facts(system, name).guid);
        fails(system.zfs.promote(&name), Kind::Denied);
        system.zfs.promote(&clone).unwrap();
        let moved = system.zfs.snapshots(&clone).unwrap();
        let names = [1, 2, 4].map(|number| clone.snapshot(SnapshotId(number)).to_string());
        assert_eq!(moved.iter().map(|snapshot| snapshot.name.clone()).collect::<Vec<_>>(), names);
        assert_eq!(moved.iter().map(|snapshot| snapshot.guid).collect::<Vec<_>>(), guids);
        assert!(moved.iter().all(|snapshot| snapshot.mark == Some(mark())));
        assert_eq!(moved[1].clones, [name.as_str()]);
        let left = system.zfs.snapshots(&name).unwrap();
        assert_eq!(left.iter().map(|snapshot| snapshot.name.as_str()).collect::<Vec<_>>(), [newer.as_str()]);
        let origin_of = |name| system.zfs.dataset(name).unwrap().unwrap().origin;
        assert_eq!((origin_of(&clone), origin_of(&name)), (None, Some(names[1].clone())));
        fails(system.zfs.promote(&clone), Kind::Denied);

        // A snapshot that would come back under a name that is taken stands in the way.
        take(system, &name, 1);
        fails(system.zfs.promote(&name), Kind::Exists);
    });
}

#[test]
fn bytes_written_since_a_snapshot() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let write = |file: &str, bytes: usize| {
            if system.is_real() {
                fs::write(format!("{}/{file}", name.mountpoint()), random(bytes)).unwrap();
            }
            system.sync();
        };
        let first = take(system, &name, 1);
        assert_eq!(system.zfs.written_since(&first, None).unwrap(), 0);
        write("a", 2 << 20);
        let second = take(system, &name, 2);
        write("b", 3 << 20);
        let between = system.zfs.written_since(&first, Some(&second)).unwrap();
        let since = system.zfs.written_since(&second, None).unwrap();
        let all = system.zfs.written_since(&first, None).unwrap();
        assert!(all >= since && all >= between);
        if system.is_real() {
            assert!((2 << 20..3 << 20).contains(&between), "{between}");
            assert!((3 << 20..4 << 20).contains(&since), "{since}");
        }
    });
}

/// What differs, sorted by path; at most `most` of it.
fn changes(system: &System, from: &SnapshotName, to: Option<&SnapshotName>, most: usize) -> Vec<Change> {
    let mut found = Vec::new();
    let mut take = |change| {
        found.push(change);
        found.len() < most
    };
    system.zfs.diff(from, to, &mut take).unwrap();
    found.sort_by(|one: &Change, other| one.path.cmp(&other.path));
    found
}

#[test]
fn changes_between_snapshots_are_found() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let path = |text: &str| format!("{}/{text}", name.mountpoint());
        if system.is_real() {
            fs::write(path("changed"), "1").unwrap();
            fs::write(path("removed"), "1").unwrap();
            fs::write(path("before"), "1").unwrap();
        }
        let first = take(system, &name, 1);
        assert_eq!(changes(system, &first, None, 9), []);
        if !system.is_real() {
            return;
        }
        fs::write(path("changed"), "22").unwrap();
        fs::remove_file(path("removed")).unwrap();
        fs::rename(path("before"), path("after \u{1F600}\\")).unwrap();
        fs::create_dir(path("a b")).unwrap();
        fs::write(path("a b/ü\t\n"), "1").unwrap();
        let second = take(system, &name, 2);
        let change = |kind, file_type, path: &str| Change { kind, file_type, path: path.to_owned(), new_path: None };
        let renamed = Some("after \u{1F600}\\".to_owned());
        let expected = [
            change(ChangeKind::Modified, '/', ""),
            change(ChangeKind::Added, '/', "a b"),
            change(ChangeKind::Added, 'F', "a b/ü\t\n"),
            Change { new_path: renamed, ..change(ChangeKind::Renamed, 'F', "before") },
            change(ChangeKind::Modified, 'F', "changed"),
            change(ChangeKind::Removed, 'F', "removed"),
        ];
        assert_eq!(changes(system, &first, Some(&second), 99), expected);
        assert_eq!(changes(system, &first, None, 99), expected);
        assert_eq!(changes(system, &first, None, 2).len(), 2);
        assert_eq!(changes(system, &second, None, 99), []);
        // Nothing is left of what ZFS does for it in passing.
        assert_eq!(system.zfs.snapshots(&name).unwrap().len(), 2);
        system.zfs.mount_dataset(&name).unwrap();
    });
}
