use std::{collections::BTreeMap, fs::File, time::Instant};

use vsnap::{
    os::{CloneCreation, DatasetChange, DatasetKind, Kind},
    types::{
        SnapshotId,
        volume::{BlockSize, RelativePath, VolumeOptions},
    },
};

use crate::system::{System, dataset, fails, filesystem, lun, volume_mark};

fn notes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(note, value)| ((*note).to_owned(), (*value).to_owned())).collect()
}

/// Options of the pool of [`System::with_pool`].
const AS_POOL: VolumeOptions = VolumeOptions { compression: None, deduplication: None, syncwrite: None };

#[test]
fn a_new_filesystem_carries_its_mark_limit_and_options() {
    System::with_small_pool(|system| {
        let name = filesystem(1);
        let mut creation = dataset(&name, DatasetKind::Filesystem { limit: Some(64 << 20) });
        creation.options = VolumeOptions { deduplication: Some(false), ..VolumeOptions::default() };
        system.zfs.create_dataset(&creation).unwrap();

        let facts = system.zfs.dataset(&name).unwrap().unwrap();
        assert_eq!(facts.name, name.as_str());
        assert_eq!(facts.kind, DatasetKind::Filesystem { limit: Some(64 << 20) });
        // The pool's own note is inherited, and so none of this filesystem.
        assert_eq!((facts.mark.as_ref(), &facts.notes), (Some(&volume_mark(&name)), &creation.notes));
        assert_eq!(facts.options, VolumeOptions { deduplication: Some(false), ..AS_POOL });
        assert!(facts.mounted && facts.origin.is_none() && facts.guid != 0);
        assert!(facts.numbers.available <= 64 << 20 && facts.numbers.available > 60 << 20, "{:?}", facts.numbers);
        assert!(facts.numbers.referenced <= facts.numbers.used);
        if system.is_real() {
            std::fs::write(format!("{}/a file", name.mountpoint()), "content").unwrap();
        }

        fails(system.zfs.create_dataset(&creation), Kind::Exists);
        assert_eq!(system.zfs.dataset(&name).unwrap().unwrap().guid, facts.guid);
    });
}

#[test]
fn zfs_has_the_same_words_for_options_and_mounts_in_the_same_way() {
    System::with_small_pool(|system| {
        for (at, chosen, words) in [(1, true, "lz4 blake3 standard"), (3, false, "off off disabled")] {
            let names = [filesystem(at), lun(at + 1)];
            let block = BlockSize::new(16 << 10).unwrap();
            for (name, kind) in names
                .iter()
                .zip([DatasetKind::Filesystem { limit: None }, DatasetKind::Zvol { bytes: 16 << 20, block }])
            {
                let mut creation = dataset(name, kind);
                let chosen = Some(chosen);
                creation.options = VolumeOptions { compression: chosen, deduplication: chosen, syncwrite: chosen };
                system.zfs.create_dataset(&creation).unwrap();
                assert_eq!(system.zfs.dataset(name).unwrap().unwrap().options, creation.options);
                if system.is_real() {
                    let said =
                        system.said(&["zfs", "get", "-Ho", "value", "compression,dedup,sync,volmode", name.as_str()]);
                    assert_eq!(said.split_whitespace().collect::<Vec<_>>().join(" "), format!("{words} dev"));
                }
            }
            if system.is_real() {
                let name = names[0].as_str();
                let mounted = || {
                    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
                    mounts.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned()
                };
                let ours = mounted();
                system.run(&["zfs", "unmount", name]);
                system.run(&["zfs", "mount", name]);
                assert_eq!(ours, mounted());
            }
        }
    });
}

#[test]
fn a_new_zvol_has_its_size_and_device() {
    System::with_small_pool(|system| {
        let name = lun(2);
        let block = BlockSize::new(16 << 10).unwrap();
        let kind = DatasetKind::Zvol { bytes: 100 << 20, block };
        system.zfs.create_dataset(&dataset(&name, kind)).unwrap();
        let facts = system.zfs.dataset(&name).unwrap().unwrap();
        assert_eq!((facts.kind, facts.mark, facts.mounted), (kind, Some(volume_mark(&name)), true));
        assert_eq!(facts.options, AS_POOL);
        // It is sparse.
        assert!(facts.numbers.used < 1 << 20, "{:?}", facts.numbers);
        system.zfs.mount_dataset(&name).unwrap();
        if system.is_real() {
            std::fs::metadata(name.device()).unwrap();
        }
        fails(system.zfs.create_dataset(&dataset(&name, kind)), Kind::Exists);
    });
}

#[test]
fn datasets_that_are_not_there_are_missing_and_nothing_else() {
    let system = System::new();
    let (name, pool) = (filesystem(1), system.name());
    let kind = DatasetKind::Filesystem { limit: None };
    let change = DatasetChange { size: Some(Some(1 << 30)), ..DatasetChange::default() };
    let path = RelativePath::new("lun.img").unwrap();
    // Of a pool that is not there nothing can be said.
    fails(system.zfs.dataset(&name), Kind::Missing);
    fails(system.zfs.datasets(&pool), Kind::Missing);
    fails(system.zfs.descendants(&name), Kind::Missing);
    fails(system.zfs.numbers(&pool, std::slice::from_ref(&name)), Kind::Missing);
    fails(system.zfs.marks(std::slice::from_ref(&name)), Kind::Missing);
    fails(system.zfs.made_snapshots(&[name.snapshot(SnapshotId(1))]), Kind::Missing);
    fails(system.zfs.create_dataset(&dataset(&name, kind)), Kind::Missing);
    fails(system.zfs.mount_pool(&pool), Kind::Missing);
    System::with_small_pool(|system| {
        assert_eq!(system.zfs.dataset(&name).unwrap(), None);
        assert_eq!(system.zfs.datasets(&pool).unwrap(), []);
        assert_eq!(system.zfs.descendants(&name).unwrap(), [""; 0]);
        assert!(system.zfs.marks(std::slice::from_ref(&name)).unwrap().is_empty());
        assert_eq!(system.zfs.made_snapshots(&[name.snapshot(SnapshotId(1))]).unwrap(), []);
        assert!(system.zfs.numbers(&pool, std::slice::from_ref(&name)).unwrap().is_empty());
        fails(system.zfs.change_dataset(&name, &change), Kind::Missing);
        fails(system.zfs.destroy_dataset(&name), Kind::Missing);
        fails(system.zfs.mount_dataset(&name), Kind::Missing);
        fails(system.zfs.backing_file(&name, &path), Kind::Missing);
    });
}

#[test]
fn all_datasets_of_a_pool_are_listed() {
    System::with_small_pool(|system| {
        let names = [system.make_filesystem(1), system.make_filesystem(3), system.make_lun(2)];
        let listed = system.zfs.datasets(&system.name()).unwrap();
        let found: Vec<&str> = listed.iter().map(|facts| facts.name.as_str()).collect();
        assert_eq!(found, names.each_ref().map(|name| name.as_str()));
        for (name, facts) in names.iter().zip(&listed) {
            let single = system.zfs.dataset(name).unwrap().unwrap();
            assert_eq!((single.guid, &single.mark, &single.notes), (facts.guid, &facts.mark, &facts.notes));
        }
        let mut wanted = names.to_vec();
        wanted.push(filesystem(99));
        let numbers = system.zfs.numbers(&system.name(), &wanted).unwrap();
        assert_eq!(numbers.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        let marks = names.iter().map(|name| (name.clone(), Some(volume_mark(name)))).collect();
        assert_eq!(system.zfs.marks(&wanted).unwrap(), marks);
        assert_eq!(system.zfs.marks(&names[..1]).unwrap(), [(names[0].clone(), Some(volume_mark(&names[0])))].into());
        assert!(numbers.values().all(|numbers| numbers.available > 1 << 20 && numbers.used > 0));

        assert_eq!(system.zfs.descendants(&names[0]).unwrap(), [""; 0]);
        if system.is_real() {
            let inside = ["below", "below/deep"].map(|path| format!("{}/{path}", names[0]));
            inside.iter().for_each(|name| system.run(&["zfs", "create", "-u", name]));
            let mut found = system.zfs.descendants(&names[0]).unwrap();
            found.sort();
            assert_eq!(found, inside);
            system.run(&["zfs", "destroy", "-r", &inside[0]]);
            let stranger = format!("{}/some one's", system.name()).replace('\'', "");
            let below = format!("{stranger}/below");
            system.run(&["zfs", "create", "-o", "other:thing=x", "-u", &stranger]);
            system.run(&["zfs", "create", "-o", "mountpoint=/vsnap/a b", &below]);
            let listed = system.zfs.datasets(&system.name()).unwrap();
            let find = |name: &str| listed.iter().find(|facts| facts.name == name).unwrap();
            assert_eq!((listed.len(), find(&stranger).mounted, find(&below).mounted), (5, false, true));
            // The mark of the pool is inherited, and so none of theirs.
            assert!(find(&below).mark.is_none() && find(&below).notes.is_empty());
            // A zvol whose first stream was cut off.
            let cut = filesystem(4);
            system.run(&["zfs", "snapshot", &format!("{}@all", names[2])]);
            let stream = format!("zfs send {}@all | head -c 1000 | zfs receive -s -u {cut}; test $? = 1", names[2]);
            system.run(&["bash", "-c", &stream]);
            let listed = system.zfs.datasets(&system.name()).unwrap();
            let facts = listed.iter().find(|facts| facts.name == cut.as_str()).unwrap();
            assert!(matches!(facts.kind, DatasetKind::Zvol { bytes: 0, .. }), "{facts:?}");
            assert_eq!(system.zfs.dataset(&cut).unwrap().as_ref(), Some(facts));
        }
    });
}

#[test]
fn numbers_follow_what_is_written() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        if system.is_real() {
            let options = VolumeOptions { compression: Some(false), ..VolumeOptions::default() };
            system.zfs.change_dataset(&name, &DatasetChange { options, ..DatasetChange::default() }).unwrap();
            std::fs::write(format!("{}/data", name.mountpoint()), random(5 << 20)).unwrap();
            system.sync();
            let numbers = system.zfs.numbers(&system.name(), std::slice::from_ref(&name)).unwrap()[&name];
            assert!((5 << 20..6 << 20).contains(&numbers.used), "{numbers:?}");
            assert!((5 << 20..6 << 20).contains(&numbers.referenced), "{numbers:?}");

            let limit = |bytes| DatasetChange { size: Some(Some(bytes)), ..DatasetChange::default() };
            fails(system.zfs.change_dataset(&name, &limit(1 << 20)), Kind::NoSpace);
            let kind = system.zfs.dataset(&name).unwrap().unwrap().kind;
            assert_eq!(kind, DatasetKind::Filesystem { limit: None });
        }
    });
}

#[test]
fn properties_of_a_filesystem_change() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let options = VolumeOptions { compression: Some(false), deduplication: None, syncwrite: Some(true) };
        let added = notes(&[("vsnap:volume", "a=b"), ("vsnap:more", "")]);
        let change = DatasetChange { size: Some(Some(1 << 30)), options, notes: added.clone(), dropped_notes: vec![] };
        system.zfs.change_dataset(&name, &change).unwrap();
        let facts = system.zfs.dataset(&name).unwrap().unwrap();
        assert_eq!(facts.kind, DatasetKind::Filesystem { limit: Some(1 << 30) });
        assert_eq!(facts.options, options);
        assert_eq!((facts.notes, facts.mark), (added, Some(volume_mark(&name))));

        let dropped_notes = vec!["vsnap:volume".to_owned(), "vsnap:never".to_owned()];
        let change = DatasetChange { size: Some(None), dropped_notes, ..DatasetChange::default() };
        system.zfs.change_dataset(&name, &change).unwrap();
        let facts = system.zfs.dataset(&name).unwrap().unwrap();
        assert_eq!(facts.kind, DatasetKind::Filesystem { limit: None });
        assert_eq!(facts.notes, notes(&[("vsnap:more", "")]));
        assert!(facts.options.compression == Some(false));

        system.zfs.change_dataset(&name, &DatasetChange::default()).unwrap();
    });
}

#[test]
fn a_zvol_grows_and_never_shrinks() {
    System::with_small_pool(|system| {
        let name = system.make_lun(1);
        let resize = |bytes: Option<u64>| {
            let change = DatasetChange { size: Some(bytes), ..DatasetChange::default() };
            system.zfs.change_dataset(&name, &change)
        };
        resize(Some(32 << 20)).unwrap();
        resize(Some(32 << 20)).unwrap();
        fails(resize(Some(16 << 20)), Kind::Denied);
        fails(resize(None), Kind::Denied);
        let kind = system.zfs.dataset(&name).unwrap().unwrap().kind;
        assert_eq!(kind, DatasetKind::Zvol { bytes: 32 << 20, block: BlockSize::default() });
    });
}

#[test]
fn a_dataset_is_destroyed_when_nothing_hangs_on_it() {
    System::with_small_pool(|system| {
        for name in [system.make_filesystem(1), system.make_lun(2)] {
            let snapshot = name.snapshot(SnapshotId(1));
            let snapshots = std::slice::from_ref(&snapshot);
            system.zfs.snapshot(snapshots, &system.mark(), &BTreeMap::new()).unwrap();
            fails(system.zfs.destroy_dataset(&name), Kind::Busy);
            assert!(system.zfs.snapshot_facts(&snapshot).unwrap().is_some());
            system.zfs.destroy_snapshots(snapshots).unwrap();
            system.zfs.destroy_dataset(&name).unwrap();
            assert_eq!(system.zfs.dataset(&name).unwrap(), None);
            fails(system.zfs.destroy_dataset(&name), Kind::Missing);
        }
    });
}

#[test]
fn a_dataset_that_is_open_is_busy() {
    System::with_small_pool(|system| {
        if !system.is_real() {
            return;
        }
        let (filesystem, lun) = (system.make_filesystem(1), system.make_lun(2));
        let open = File::create(format!("{}/open", filesystem.mountpoint())).unwrap();
        let device = File::open(lun.device()).unwrap();
        let snapshot = lun.snapshot(SnapshotId(3));
        system.zfs.snapshot(std::slice::from_ref(&snapshot), &system.mark(), &BTreeMap::new()).unwrap();
        fails(system.zfs.unmount_dataset(&lun), Kind::Busy);
        assert!(system.zfs.snapshot_facts(&snapshot).unwrap().is_some(), "a deletion ends before anything is lost");
        system.zfs.destroy_snapshots(&[snapshot]).unwrap();
        for name in [&filesystem, &lun] {
            let began = Instant::now();
            fails(system.zfs.destroy_dataset(name), Kind::Busy);
            assert!(began.elapsed().as_secs() < 12, "{:?}", began.elapsed());
            assert!(system.zfs.dataset(name).unwrap().unwrap().mounted);
        }
        drop((open, device));
        system.zfs.destroy_dataset(&filesystem).unwrap();
        system.zfs.destroy_dataset(&lun).unwrap();
    });
}

#[test]
fn a_clone_has_its_own_mark_and_its_origin() {
    System::with_small_pool(|system| {
        let pairs = [(system.make_filesystem(1), filesystem(3)), (system.make_lun(2), lun(4))];
        for (name, clone) in &pairs {
            let origin = name.snapshot(SnapshotId(1));
            let creation = CloneCreation {
                name: clone.clone(),
                mark: volume_mark(clone),
                notes: notes(&[("vsnap:clone", "yes")]),
                options: VolumeOptions { compression: Some(false), ..VolumeOptions::default() },
                origin: origin.clone(),
            };
            fails(system.zfs.clone_snapshot(&creation), Kind::Missing);
            system.zfs.snapshot(std::slice::from_ref(&origin), &system.mark(), &BTreeMap::new()).unwrap();
            system.zfs.clone_snapshot(&creation).unwrap();
            let facts = system.zfs.dataset(clone).unwrap().unwrap();
            assert_eq!((facts.mark, facts.notes), (Some(volume_mark(clone)), creation.notes.clone()));
            assert_eq!((facts.origin.as_deref(), facts.mounted), (Some(origin.as_str()), true));
            assert_eq!(facts.options, VolumeOptions { compression: Some(false), ..AS_POOL });
            assert_eq!(facts.kind, system.zfs.dataset(name).unwrap().unwrap().kind);
            assert_eq!(system.zfs.snapshot_facts(&origin).unwrap().unwrap().clones, [clone.as_str()]);
            fails(system.zfs.clone_snapshot(&creation), Kind::Exists);
            if system.is_real() && matches!(facts.kind, DatasetKind::Zvol { .. }) {
                std::fs::metadata(clone.device()).unwrap();
            }
            system.zfs.destroy_dataset(clone).unwrap();
        }
        let nowhere = CloneCreation {
            name: filesystem(5),
            mark: system.mark(),
            notes: BTreeMap::new(),
            options: VolumeOptions::default(),
            origin: filesystem(98).snapshot(SnapshotId(1)),
        };
        fails(system.zfs.clone_snapshot(&nowhere), Kind::Missing);
    });
}

#[test]
fn after_an_import_everything_is_mounted_again() {
    System::with_small_pool(|system| {
        let names = [system.make_filesystem(1), system.make_filesystem(2)];
        let lun = system.make_lun(3);
        let guid = system.zfs.pool(&system.name()).unwrap().unwrap().guid;
        let mounted = || names.each_ref().map(|name| system.zfs.dataset(name).unwrap().unwrap().mounted);
        system.export();
        fails(system.zfs.dataset(&names[0]), Kind::Missing);
        system.zfs.import_pool(guid).unwrap();
        assert_eq!(mounted(), [false, false]);
        system.zfs.mount_pool(&system.name()).unwrap();
        assert_eq!(mounted(), [true, true]);
        system.zfs.mount_pool(&system.name()).unwrap();
        for name in names.iter().chain([&lun]) {
            system.zfs.mount_dataset(name).unwrap();
        }
        if system.is_real() {
            system.run(&["zfs", "unmount", names[1].as_str()]);
            assert_eq!(mounted(), [true, false]);
            system.zfs.mount_dataset(&names[1]).unwrap();
            assert_eq!(mounted(), [true, true]);
            // One alone that is not mounted. It has a folder where a zvol has its device.
            system.run(&["zfs", "create", "-V", "8M", &format!("{}/inside", names[1])]);
            system.run(&["zfs", "unmount", names[1].as_str()]);
            system.zfs.mount_pool(&system.name()).unwrap();
            assert_eq!(mounted(), [true, true]);
            // As when udev could not open it while ZFS was at work.
            std::fs::remove_file(lun.device()).unwrap();
            system.zfs.mount_pool(&system.name()).unwrap();
            assert!(std::fs::metadata(lun.device()).is_ok());
        }
    });
}

#[test]
fn a_backing_file_is_a_regular_file_inside() {
    System::with_small_pool(|system| {
        let name = system.make_filesystem(1);
        let look = |path: &str| system.zfs.backing_file(&name, &RelativePath::new(path).unwrap());
        fails(look("files/lun.img"), Kind::Missing);
        if system.is_real() {
            let root = name.mountpoint();
            std::fs::create_dir(format!("{root}/files")).unwrap();
            File::create(format!("{root}/files/lun.img")).unwrap().set_len(3_000_000).unwrap();
            assert_eq!(look("files/lun.img").unwrap(), 3_000_000);
            fails(look("files"), Kind::Denied);
            std::os::unix::fs::symlink("/etc/passwd", format!("{root}/out")).unwrap();
            std::os::unix::fs::symlink("files/lun.img", format!("{root}/in")).unwrap();
            fails(look("out"), Kind::Denied);
            assert_eq!(look("in").unwrap(), 3_000_000);
            let snapshot = name.snapshot(SnapshotId(1));
            system.zfs.snapshot(&[snapshot], &system.mark(), &BTreeMap::new()).unwrap();
            std::os::unix::fs::symlink(".zfs/snapshot/snap1", format!("{root}/old")).unwrap();
            fails(look("old/files/lun.img"), Kind::Denied);
            system.run(&["zfs", "unmount", name.as_str()]);
            // What lies in the folder below the mount point is not in the filesystem.
            fails(look("files/lun.img"), Kind::Other);
        }
    });
}

/// Bytes that don't compress and are never twice the same.
pub fn random(count: usize) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}
