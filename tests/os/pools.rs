use vsnap::{
    os::{Kind, PoolChange},
    types::pool::{Health, PoolOptions, Vdev, VdevLayout, VdevRole},
};

use crate::system::{System, fails, plan};

#[test]
fn a_new_pool_carries_its_mark_and_options() {
    System::with_pool(|system, disks| {
        let status = system.zfs.pool(&system.name()).unwrap().unwrap();
        assert_eq!((status.state, status.data.len()), (Health::Online, 1));
        let paths: Vec<_> = status.disks().map(|(_, leaf)| leaf.path.clone().unwrap()).collect();
        assert_eq!(paths, disks.iter().map(|disk| disk.path.clone()).collect::<Vec<_>>());
        assert!(system.zfs.pools().unwrap().contains(&status));
        assert_eq!(system.zfs.pool_state(&system.name()).unwrap().as_deref(), Some("ONLINE"));

        let facts = system.zfs.pool_facts(&system.name()).unwrap();
        assert_eq!(facts.mark, Some(system.mark()));
        assert_eq!(facts.notes["vsnap:name"], "demo%20 one");
        assert_eq!(facts.options, PoolOptions { compression: true, deduplication: true, syncwrite: false });
        assert!(facts.mounted && facts.numbers.free > 0);
        assert_eq!((facts.numbers.compression_ratio, facts.numbers.deduplication_ratio), (100, 100));

        fails(system.zfs.create_pool(&system.creation(VdevLayout::Stripe, &system.unused(1))), Kind::Exists);
    });
}

#[test]
fn what_is_not_there_is_missing_and_nothing_else() {
    let system = System::new();
    let name = system.name();
    assert_eq!(system.zfs.pool(&name).unwrap(), None);
    assert_eq!(system.zfs.pool_state(&name).unwrap(), None);
    fails(system.zfs.pool_facts(&name), Kind::Missing);
    fails(system.zfs.destroy_pool(&name), Kind::Missing);
    fails(
        system.zfs.change_pool(&name, &PoolChange { options: Some(PoolOptions::default()), ..PoolChange::default() }),
        Kind::Missing,
    );
    fails(system.zfs.start_scrub(&name), Kind::Missing);
    fails(system.zfs.import_pool(1_234_567), Kind::Missing);
}

#[test]
fn properties_change() {
    System::with_pool(|system, _| {
        let options = PoolOptions { compression: false, deduplication: false, syncwrite: true };
        let notes = [("vsnap:name".to_owned(), "other".to_owned())].into();
        let change = PoolChange { options: Some(options), dedup_table_quota: Some(1 << 30), notes };
        system.zfs.change_pool(&system.name(), &change).unwrap();
        let facts = system.zfs.pool_facts(&system.name()).unwrap();
        assert_eq!((facts.options, facts.notes["vsnap:name"].as_str()), (options, "other"));
        assert_eq!(facts.mark, Some(system.mark()));
    });
}

#[test]
fn log_cache_and_spare_disks_come_and_go() {
    System::with_pool(|system, _| {
        let (name, disks) = (system.name(), system.unused(4));
        system.zfs.add_vdevs(&name, &[plan(VdevRole::Log, VdevLayout::Mirror, &disks[..2])], false).unwrap();
        system.zfs.add_vdevs(&name, &[plan(VdevRole::Cache, VdevLayout::Stripe, &disks[2..3])], false).unwrap();
        system.zfs.add_vdevs(&name, &[plan(VdevRole::Spare, VdevLayout::Stripe, &disks[3..])], false).unwrap();
        let status = system.zfs.pool(&name).unwrap().unwrap();
        assert_eq!([&status.logs, &status.caches, &status.spares].map(Vec::len), [1, 1, 1]);
        assert_eq!(status.spares[0].state, Health::Avail);
        assert_eq!(status.logs[0].kind, "mirror");
        let guid = status.guid;
        for vdev in [&status.logs[0], &status.caches[0], &status.spares[0]] {
            system.zfs.remove_vdev(&name, &vdev.name).unwrap();
        }
        let status = system.zfs.pool(&name).unwrap().unwrap();
        assert_eq!([&status.logs, &status.caches, &status.spares].map(Vec::len), [0, 0, 0]);
        for disk in &disks {
            system.machine.release_disk(&disk.path, &system.owner(Some(guid))).unwrap();
            assert_eq!(system.machine.probe_disk(&disk.path).unwrap(), vsnap::types::disk::DiskUse::Unused);
        }
        fails(system.zfs.remove_vdev(&name, &disks[2].path), Kind::Missing);
    });
}

#[test]
fn a_group_is_added() {
    System::with_pool(|system, disks| {
        let more = system.unused(3);
        fails(
            system.zfs.add_vdevs(&system.name(), &[plan(VdevRole::Data, VdevLayout::Raidz1, disks)], false),
            Kind::Busy,
        );
        system.zfs.add_vdevs(&system.name(), &[plan(VdevRole::Data, VdevLayout::Raidz1, &more)], false).unwrap();
        let status = system.zfs.pool(&system.name()).unwrap().unwrap();
        assert_eq!(status.data.iter().map(|group| group.children.len()).collect::<Vec<_>>(), [3, 3]);
    });
}

#[test]
fn a_disk_goes_offline_comes_back_and_is_replaced() {
    System::with_pool(|system, disks| {
        let name = system.name();
        let leaf = |index: usize| -> Vdev {
            let status = system.zfs.pool(&name).unwrap().unwrap();
            status.data[0].children[index].clone()
        };
        let guid = leaf(1).guid.to_string();
        system.zfs.offline_disk(&name, &guid).unwrap();
        assert_eq!(leaf(1).state, Health::Offline);
        assert_eq!(system.zfs.pool(&name).unwrap().unwrap().state, Health::Degraded);
        system.zfs.online_disk(&name, &disks[1].path).unwrap();
        assert_eq!(system.zfs.pool(&name).unwrap().unwrap().state, Health::Online);
        system.zfs.clear_pool(&name).unwrap();
        fails(system.zfs.offline_disk(&name, "12345"), Kind::Missing);

        let new = system.unused(1).remove(0);
        system.zfs.replace_disk(&name, &leaf(2).guid.to_string(), &new.path).unwrap();
        let status = system.zfs.pool(&name).unwrap().unwrap();
        assert!(status.has_disk(&new.path));
        assert_eq!(status.scan.unwrap().function, "resilver");
        fails(system.zfs.replace_disk(&name, &guid, &disks[0].path), Kind::Busy);
    });
}

#[test]
fn the_last_copy_cannot_be_taken_offline() {
    let system = System::new();
    let disks = system.unused(1);
    system.zfs.create_pool(&system.creation(VdevLayout::Stripe, &disks)).unwrap();
    let status = system.zfs.pool(&system.name()).unwrap().unwrap();
    let refused = system.zfs.offline_disk(&system.name(), &status.data[0].guid.to_string());
    system.zfs.destroy_pool(&system.name()).unwrap();
    system.machine.release_disk(&disks[0].path, &system.owner(Some(status.guid))).unwrap();
    fails(refused, Kind::Busy);
}

#[test]
fn scrubs_start_and_stop() {
    System::with_pool(|system, _| {
        fails(system.zfs.stop_scrub(&system.name()), Kind::Missing);
        system.zfs.start_scrub(&system.name()).unwrap();
        let scan = system.zfs.pool(&system.name()).unwrap().unwrap().scan.unwrap();
        assert_eq!(scan.function, "scrub");
    });
}

#[test]
fn a_pool_is_imported_by_its_guid_and_mounted() {
    System::with_pool(|system, _| {
        let guid = system.zfs.pool(&system.name()).unwrap().unwrap().guid;
        system.export();
        assert_eq!(system.zfs.pool(&system.name()).unwrap(), None);
        system.zfs.import_pool(guid).unwrap();
        assert!(!system.zfs.pool_facts(&system.name()).unwrap().mounted);
        system.zfs.mount_pool(&system.name()).unwrap();
        system.zfs.mount_pool(&system.name()).unwrap();
        let facts = system.zfs.pool_facts(&system.name()).unwrap();
        assert!(facts.mounted && facts.mark == Some(system.mark()));
    });
}

#[test]
fn a_pool_is_exported_and_imported_again() {
    System::with_pool(|system, _| {
        let (name, guid) = (system.name(), system.zfs.pool_guid(&system.name()).unwrap().unwrap());
        system.zfs.export_pool(&name).unwrap();
        assert_eq!(system.zfs.pool(&name).unwrap(), None);
        fails(system.zfs.export_pool(&name), Kind::Missing);
        assert!(system.zfs.importable_pools().unwrap().contains(&(name.as_str().to_owned(), guid)));
        system.zfs.import_pool(guid).unwrap();
        assert_eq!(system.zfs.pool_guid(&name).unwrap(), Some(guid));
    });
}
