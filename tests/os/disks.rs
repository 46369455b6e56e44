use std::{collections::BTreeSet, time::Duration};

use vsnap::{
    os::{Kind, LabelOwner},
    types::{
        PoolId,
        disk::DiskUse,
        names::ZpoolName,
        pool::{VdevLayout, VdevRole},
    },
};

use crate::system::{System, fails, plan};

#[test]
fn every_disk_has_an_identity_of_its_own() {
    let system = System::new();
    let disks = system.machine.disks().unwrap();
    let uuids: BTreeSet<_> = disks.iter().map(|disk| &disk.uuid).collect();
    assert_eq!(uuids.len(), disks.len());
    for disk in &disks {
        assert!(disk.path.starts_with("/dev/disk/") && disk.path.ends_with(disk.uuid.as_str()), "{disk:?}");
    }
    system.machine.rescan_disks().unwrap();
    assert_eq!(system.machine.disks().unwrap(), disks);
}

#[test]
fn a_disk_is_probed_itself() {
    System::with_pool(|system, disks| {
        assert_ne!(system.machine.probe_disk(&disks[0].path).unwrap(), DiskUse::Unused);
        let free = system.unused(1).remove(0);
        assert_eq!(system.machine.probe_disk(&free.path).unwrap(), DiskUse::Unused);
        fails(system.machine.probe_disk("/dev/disk/by-id/scsi-3gone"), Kind::Missing);
    });
}

#[test]
fn only_the_owners_label_is_cleared() {
    System::with_pool(|system, disks| {
        let path = &disks[0].path;
        let guid = system.zfs.pool(&system.name()).unwrap().unwrap().guid;
        fails(system.machine.release_disk(path, &system.owner(Some(guid))), Kind::Busy);
        system.zfs.destroy_pool(&system.name()).unwrap();
        assert_ne!(system.machine.probe_disk(path).unwrap(), DiskUse::Unused, "a label outlives its pool");

        let stranger = LabelOwner { name: ZpoolName::of(PoolId(1)), guid: None };
        fails(system.machine.release_disk(path, &stranger), Kind::Denied);
        fails(system.machine.release_disk(path, &system.owner(Some(guid ^ 1))), Kind::Denied);
        assert_ne!(system.machine.probe_disk(path).unwrap(), DiskUse::Unused);

        for disk in disks {
            system.machine.release_disk(&disk.path, &system.owner(Some(guid))).unwrap();
            assert_eq!(system.machine.probe_disk(&disk.path).unwrap(), DiskUse::Unused);
            system.machine.release_disk(&disk.path, &system.owner(Some(guid))).unwrap();
        }
        let seen = system.machine.disks().unwrap();
        assert!(disks.iter().all(|disk| seen.contains(disk)), "they are listed as unused again");
    });
}

/// The label of a cache disk names no pool; what ZFS writes behind it does.
#[test]
fn a_cache_is_cleared_of_its_own_pool_only() {
    System::with_pool(|system, _| {
        let guid = system.zfs.pool(&system.name()).unwrap().unwrap().guid;
        let disks = system.unused(1);
        system.zfs.add_vdevs(&system.name(), &[plan(VdevRole::Cache, VdevLayout::Stripe, &disks)], false).unwrap();
        system.zfs.destroy_pool(&system.name()).unwrap();
        fails(system.machine.release_disk(&disks[0].path, &system.owner(Some(guid ^ 1))), Kind::Denied);
        system.machine.release_disk(&disks[0].path, &system.owner(Some(guid))).unwrap();
        assert_eq!(system.machine.probe_disk(&disks[0].path).unwrap(), DiskUse::Unused);
    });
}

/// As udev does after every change.
#[test]
fn a_disk_is_cleared_while_somebody_looks_at_its_partition() {
    System::with_pool(|system, disks| {
        let guid = system.zfs.pool(&system.name()).unwrap().unwrap().guid;
        system.zfs.destroy_pool(&system.name()).unwrap();
        let looker = system.is_real().then(|| {
            let partition = std::fs::File::open(format!("{}-part1", disks[0].path)).unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(3));
                drop(partition);
            })
        });
        system.machine.release_disk(&disks[0].path, &system.owner(Some(guid))).unwrap();
        assert_eq!(system.machine.probe_disk(&disks[0].path).unwrap(), DiskUse::Unused);
        looker.into_iter().for_each(|looker| looker.join().unwrap());
    });
}

#[test]
fn a_gone_disk_needs_no_clearing() {
    let system = System::new();
    system.machine.release_disk("/dev/disk/by-id/scsi-3gone", &system.owner(None)).unwrap();
}

#[test]
fn a_pool_is_not_made_of_disks_in_use() {
    System::with_pool(|system, disks| {
        let mut creation = system.creation(VdevLayout::Raidz1, disks);
        creation.name = ZpoolName::of(PoolId(9002));
        fails(system.zfs.create_pool(&creation), Kind::Busy);
        assert_eq!(system.zfs.pool(&creation.name).unwrap(), None);
    });
}
