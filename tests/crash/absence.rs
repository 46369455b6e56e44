//! Pools that are not here when the daemon starts, and come back while it runs.

use vsnap::{
    error::Error,
    os::{Kind, Zfs, fake::Label},
    types::{
        PoolId, VolumeId,
        names::ZpoolName,
        pool::{PoolAction, PoolUpdate},
        volume::{VolumeOptions, VolumeRequest, VolumeSource, VolumeUpdate},
    },
};

use crate::{
    TOO_MANY,
    appliance::{Appliance, caller},
    is_stopped, keep_quiet, scenarios, stop_scenario,
    volume_scenarios::update_filesystem,
    volumes::name,
};

/// A change of volume 1 was interrupted after it was written to the journal; then the pool's disks were gone at the
/// start.
fn interrupted() -> Appliance {
    keep_quiet();
    let mut appliance = stop_scenario(&update_filesystem(), 3).unwrap();
    appliance.fake.world().reboot();
    appliance.plug(false);
    appliance.start();
    assert_eq!(appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 1);
    appliance
}

fn guid(appliance: &Appliance) -> u64 {
    appliance.fake.world().pools["vpool1"].status.guid
}

fn is_imported(appliance: &Appliance) -> bool {
    appliance.fake.world().pools["vpool1"].imported
}

#[test]
fn a_pool_that_an_administrator_imports_is_taken_in_and_nothing_overtakes_what_was_interrupted() {
    let appliance = interrupted();
    appliance.engine().upkeep().unwrap();
    appliance.plug(true);
    appliance.fake.import_pool(guid(&appliance)).unwrap();
    let update = VolumeUpdate { name: Some(name("later")), size: None, options: VolumeOptions::default() };
    let change = || appliance.engine().update_volume(&caller(), VolumeId(1), update.clone());
    assert!(matches!(change(), Err(Error::Busy(message)) if message.contains("interrupted in pool 1")));
    let source = VolumeSource::Filesystem { pool: PoolId(1), limit: None, options: VolumeOptions::default() };
    let create = appliance.engine().create_volume(&caller(), VolumeRequest { name: name("new"), source });
    assert!(matches!(create, Err(Error::Busy(_))), "{create:?}");
    appliance.engine().upkeep().unwrap();
    appliance.check("imported by hand");
    assert_eq!(change().unwrap().name, name("later"));
    appliance.check("changed afterwards");
}

#[test]
fn a_pool_with_a_part_of_its_disks_is_imported_when_no_more_come() {
    let appliance = interrupted();
    for disk in &mut appliance.fake.world().disks[1..4] {
        disk.present = true;
    }
    appliance.engine().upkeep().unwrap();
    assert!(!is_imported(&appliance), "the last disk may be about to come");
    appliance.engine().upkeep().unwrap();
    assert!(is_imported(&appliance));
    assert_eq!(appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 0);
}

#[test]
fn a_start_at_which_nothing_can_be_listed_waits_for_what_it_does_not_know() {
    keep_quiet();
    for silent in [&["pools"][..], &["disks"], &["pool"], &["pools", "disks", "pool"]] {
        let mut appliance = stop_scenario(&update_filesystem(), 3).unwrap();
        appliance.fake.world().reboot();
        silent.iter().copied().for_each(|question| appliance.refuse(question));
        appliance.start();
        assert_eq!(appliance.stored("SELECT count(*) FROM volume"), 3);
        let waiting = i64::from(silent.contains(&"pool"));
        assert_eq!(appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'"), waiting, "{silent:?}");
        appliance.fake.allow_all();
        appliance.engine().upkeep().unwrap();
        appliance.check("when all is answered again");
    }
}

#[test]
fn a_filesystem_that_can_not_be_mounted_keeps_nothing_else_waiting() {
    let appliance = interrupted();
    appliance.plug(true);
    appliance.refuse("mount_filesystems");
    appliance.engine().upkeep().unwrap();
    assert!(is_imported(&appliance));
    assert_eq!(appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 0);
    assert!(!appliance.fake.world().dataset("vpool1/fs1").unwrap().mounted);
    appliance.fake.allow_all();
    appliance.engine().upkeep().unwrap();
    assert!(appliance.fake.world().dataset("vpool1/fs1").unwrap().mounted, "it is tried again");
    appliance.check("mounted in the end");
}

#[test]
fn a_pool_that_was_exported_by_hand_is_left_alone() {
    let appliance = Appliance::new();
    appliance.make_pool();
    appliance.fake.world().pools.get_mut("vpool1").unwrap().imported = false;
    for _ in 0..3 {
        appliance.engine().upkeep().unwrap();
    }
    assert!(!is_imported(&appliance));
}

#[test]
fn a_pool_that_was_exported_by_hand_is_left_alone_when_an_operation_waits_in_it() {
    let appliance = Appliance::new();
    appliance.make_volumes();
    appliance.fake.refuse("change_dataset", Kind::Unclear);
    let update = VolumeUpdate { name: Some(name("later")), size: None, options: VolumeOptions::default() };
    assert!(appliance.engine().update_volume(&caller(), VolumeId(1), update).is_err());
    appliance.fake.allow_all();
    appliance.fake.world().pools.get_mut("vpool1").unwrap().imported = false;
    for _ in 0..3 {
        appliance.engine().upkeep().unwrap();
    }
    assert!(!is_imported(&appliance));
    assert_eq!(appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 1);
    appliance.fake.import_pool(guid(&appliance)).unwrap();
    appliance.engine().upkeep().unwrap();
    appliance.check("imported again by hand");
}

#[test]
fn new_disks_of_which_nobody_knows_whether_they_are_in_the_pool_are_not_overtaken() {
    let appliance = Appliance::new();
    appliance.make_volumes();
    let engine = appliance.engine();
    appliance.fake.refuse("partition_disks", Kind::Unclear);
    let log = PoolAction::AddLog(appliance.uuids(5..=6));
    let added = engine.act_on_pool(&caller(), PoolId(1), log);
    assert!(matches!(&added, Err(Error::Busy(message)) if message.contains("within a minute")), "{added:?}");
    appliance.fake.allow_all();
    let rename = PoolUpdate { name: Some(name("later")), compression: None, deduplication: None, syncwrite: None };
    let renamed = engine.update_pool(&caller(), PoolId(1), rename.clone());
    assert!(matches!(renamed, Err(Error::Busy(_))), "{renamed:?}");
    let removed = engine.act_on_pool(&caller(), PoolId(1), PoolAction::RemoveLog);
    assert!(matches!(removed, Err(Error::Busy(_))), "{removed:?}");
    let deleted = engine.delete_pool(&caller(), PoolId(1), false);
    assert!(matches!(deleted, Err(Error::Busy(_))), "{deleted:?}");
    // What is in the pool is changed all the same.
    let update = VolumeUpdate { name: Some(name("new")), size: None, options: VolumeOptions::default() };
    engine.update_volume(&caller(), VolumeId(1), update).unwrap();
    engine.upkeep().unwrap();
    appliance.check("added in the end");
    assert_eq!(appliance.fake.world().pools["vpool1"].status.logs.len(), 1);
    assert_eq!(engine.update_pool(&caller(), PoolId(1), rename).unwrap().name, name("later"));

    appliance.fake.refuse("remove_vdev", Kind::Unclear);
    let removed = engine.act_on_pool(&caller(), PoolId(1), PoolAction::RemoveLog);
    assert!(matches!(removed, Err(Error::Busy(_))), "{removed:?}");
    appliance.fake.allow_all();
    // The kernel did it all the same.
    let log = appliance.fake.world().pools["vpool1"].status.logs[0].name.clone();
    appliance.fake.remove_vdev(&ZpoolName::of(PoolId(1)), &log).unwrap();
    engine.upkeep().unwrap();
    appliance.check("removed in the end");
    // Its disks are unused again.
    engine.act_on_pool(&caller(), PoolId(1), PoolAction::AddCache(appliance.uuids(5..=6))).unwrap();
}

#[test]
fn a_pool_that_is_forgotten_while_it_is_awaited_is_not_looked_for_any_more() {
    let appliance = interrupted();
    appliance.engine().delete_pool(&caller(), PoolId(1), true).unwrap();
    appliance.plug(true);
    appliance.engine().upkeep().unwrap();
    appliance.check_nothing("forgotten");
    assert!(!is_imported(&appliance));
}

#[test]
fn a_pool_that_was_only_to_be_forgotten_is_not_destroyed_when_it_is_back() {
    keep_quiet();
    for step in 0..TOO_MANY {
        let mut appliance = Appliance::new();
        appliance.make_volumes();
        appliance.kill();
        appliance.fake.world().reboot();
        appliance.plug(false);
        appliance.start();
        appliance.fake.stop_at(Some(step));
        let stopped = is_stopped(|| appliance.engine().delete_pool(&caller(), PoolId(1), true).unwrap());
        appliance.fake.stop_at(None);
        appliance.kill();
        if !stopped {
            assert!(step >= 4, "there were only {step} steps to stop at");
            return;
        }
        appliance.plug(true);
        appliance.start();
        assert!(appliance.fake.world().pools.contains_key("vpool1"), "destroyed after a stop at step {step}");
        let when = format!("back after a stop at step {step}");
        match appliance.stored("SELECT count(*) FROM pool") {
            0 => appliance.check_nothing(&when),
            _ => appliance.check(&when),
        }
    }
    panic!("the deletion did not come to its end");
}

#[test]
fn disks_of_a_pool_whose_name_another_one_has_keep_their_labels() {
    fn labels(appliance: &Appliance) -> Vec<Option<Label>> {
        appliance.fake.world().disks.iter().map(|disk| disk.label.clone()).collect()
    }
    keep_quiet();
    for scenario in [scenarios::expand(), scenarios::add_log(), scenarios::replace()] {
        for step in 0..TOO_MANY {
            let Some(mut appliance) = stop_scenario(&scenario, step) else { break };
            appliance.fake.world().reboot();
            appliance.take_name();
            let before = labels(&appliance);
            appliance.start();
            assert_eq!(labels(&appliance), before, "{} stopped at step {step}", scenario.name);
        }
    }
}
