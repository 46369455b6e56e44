//! Bringing the catalog back from the pools, whatever stops it and whatever is found twice.

use vsnap::{
    error::Error,
    os::stream::REPLICA,
    types::{
        Name, PoolId, SystemId,
        ids::Mark,
        pool::{PoolOptions, PoolRequest, PoolType},
        report::Rebuilt,
        selection::Selection,
        volume::{VolumeOptions, VolumeSource},
    },
};

use crate::{
    TOO_MANY,
    appliance::{Appliance, caller},
    is_stopped, keep_quiet,
    volumes::name,
};

fn rebuild(appliance: &Appliance) -> Result<Rebuilt, Error> {
    appliance.engine().rebuild_catalog(&caller(), None)
}

fn add_pool(appliance: &Appliance, text: &str) -> PoolId {
    let request = PoolRequest {
        name: name(text),
        disks: appliance.uuids(5..=8),
        pool_type: PoolType::Raid6,
        options: PoolOptions::default(),
    };
    appliance.engine().create_pool(&caller(), request).unwrap().id
}

fn is_imported(appliance: &Appliance, pool: &str) -> bool {
    appliance.fake.world().pools[pool].imported
}

/// Pool 1 with volumes and a snapshot, and without a catalog; the machine has started anew. Volume 1 was a replica.
fn with_replica() -> Appliance {
    let mut appliance = Appliance::new();
    appliance.make_volumes();
    appliance.snap("a", &[1]);
    {
        let mut world = appliance.fake.world();
        let dataset = world.dataset_mut("vpool1/fs1").unwrap();
        (dataset.replica, dataset.mounted) = (true, false);
        dataset.notes.insert(REPLICA.to_owned(), "yes".to_owned());
        world.reboot();
    }
    appliance.lose_catalog();
    appliance
}

#[track_caller]
fn check_replica(appliance: &Appliance, when: &str) {
    let world = appliance.fake.world();
    let dataset = world.dataset("vpool1/fs1").unwrap();
    assert!(!dataset.replica && dataset.mounted && !dataset.hidden, "{when}: still a replica");
    assert!(!dataset.notes.contains_key(REPLICA), "{when}: still noted as a replica");
}

#[test]
fn a_rebuild_may_be_stopped_at_each_step() {
    keep_quiet();
    for step in 0..TOO_MANY {
        let mut appliance = with_replica();
        appliance.start();
        appliance.fake.stop_at(Some(step));
        let stopped = is_stopped(|| drop(rebuild(&appliance).unwrap()));
        appliance.fake.stop_at(None);
        appliance.kill();
        appliance.start();
        let when = format!("a rebuild stopped at step {step}");
        if appliance.stored("SELECT count(*) FROM pool") == 0 {
            rebuild(&appliance).unwrap();
        }
        check_replica(&appliance, &when);
        appliance.check(&when);
        if !stopped {
            assert!(step > 5, "only {step} steps");
            return;
        }
    }
    panic!("it did not come to an end");
}

#[test]
fn a_replica_that_can_not_be_opened_leaves_the_catalog_empty_for_the_next_rebuild() {
    for refused in ["mount_pool", "set_replica"] {
        let mut appliance = with_replica();
        appliance.start();
        appliance.refuse(refused);
        let error = rebuild(&appliance).unwrap_err();
        assert!(matches!(&error, Error::State(text) if text.contains("volume 1 was a replica")), "{error:?}");
        assert!(!is_imported(&appliance, "vpool1"), "{refused}: as it was before");
        assert_eq!(appliance.stored("SELECT count(*) FROM pool"), 0, "{refused}");
        appliance.fake.allow_all();
        rebuild(&appliance).unwrap();
        check_replica(&appliance, refused);
        appliance.check(refused);
    }
}

#[test]
fn a_pool_that_can_not_be_mounted_is_told_and_mounted_at_the_next_start() {
    let mut appliance = Appliance::new();
    appliance.make_volumes();
    appliance.fake.world().reboot();
    appliance.lose_catalog();
    appliance.start();
    appliance.refuse("mount_pool");
    let rebuilt = rebuild(&appliance).unwrap();
    assert!(rebuilt.skipped.iter().any(|text| text.contains("the mounts of pool 1")), "{rebuilt:?}");
    appliance.fake.allow_all();
    appliance.kill();
    appliance.start();
    appliance.check("after the next start");
}

/// Pool 1 was forgotten while its disks were away, another one has its name, and then the disks are back.
fn with_names_twice() -> Appliance {
    let mut appliance = Appliance::new();
    appliance.make_volumes();
    appliance.kill();
    appliance.fake.world().reboot();
    appliance.plug(false);
    appliance.start();
    appliance.engine().delete_pool(&caller(), PoolId(1), true).unwrap();
    appliance.plug(true);
    assert_eq!(add_pool(&appliance, "demo1"), PoolId(2));
    let options = VolumeOptions::default();
    appliance.create("one", VolumeSource::Filesystem { pool: PoolId(2), limit: None, options }).unwrap();
    appliance
}

fn names(appliance: &Appliance) -> Vec<(i64, String)> {
    let text = |id: i64, name: &Name| (id, name.as_str().to_owned());
    let pools = appliance.engine().pools().unwrap();
    let (volumes, _) = appliance.engine().volumes(&Selection::default()).unwrap();
    let pools = pools.iter().map(|pool| text(pool.id.0, &pool.name));
    pools.chain(volumes.iter().map(|volume| text(volume.id.0, &volume.name))).collect()
}

#[test]
fn of_two_with_the_same_name_the_younger_one_keeps_it() {
    let mut appliance = with_names_twice();
    appliance.lose_catalog();
    appliance.start();
    let rebuilt = rebuild(&appliance).unwrap();
    let expected = [(1, "demo1_2"), (2, "demo1"), (1, "one_2"), (2, "two"), (3, "three"), (4, "one")];
    assert_eq!(names(&appliance), expected.map(|(id, name)| (id, name.to_owned())));
    for told in ["pool 1: another one has it, so this one is \"demo1_2\"", "volume 1: another one has it"] {
        assert!(rebuilt.skipped.iter().any(|text| text.contains(told)), "{rebuilt:?}");
    }
}

#[test]
fn of_two_with_the_same_number_one_is_left_out_and_told() {
    let mut appliance = with_names_twice();
    {
        let mut world = appliance.fake.world();
        let id = appliance.engine().system().unwrap().id;
        let mark = Some(Mark::snapshot(&id, &name("a")));
        let old = world.pools["vpool1"].datasets["vpool1/fs1"].clone();
        world.pool_mut("vpool2").unwrap().datasets.insert("vpool2/fs1".to_owned(), old);
        for dataset in ["vpool2/fs1", "vpool2/fs4"] {
            world.add_strange_snapshot(&format!("{dataset}@snap7")).unwrap();
            world.snapshot_mut(&format!("{dataset}@snap7")).unwrap().mark = mark.clone();
        }
    }
    appliance.lose_catalog();
    appliance.start();
    let rebuilt = rebuild(&appliance).unwrap();
    assert_eq!((rebuilt.pools, rebuilt.volumes, rebuilt.snapshots), (2, 4, 1));
    for told in ["vpool1/fs1: another volume has the number 1", "vpool2/fs4@snap7: another snapshot"] {
        assert!(rebuilt.skipped.iter().any(|text| text.contains(told)), "{told}: {rebuilt:?}");
    }
}

#[test]
fn pools_of_other_appliances_are_let_go_of() {
    let mut appliance = with_names_twice();
    let own = appliance.engine().system().unwrap().id;
    let other = SystemId::random();
    {
        let mut world = appliance.fake.world();
        world.pools.get_mut("vpool1").unwrap().facts.mark = Some(Mark::pool(&other, PoolId(1)));
        world.reboot();
    }
    appliance.lose_catalog();
    appliance.start();
    let error = rebuild(&appliance).unwrap_err();
    assert!(error.to_string().contains("several appliances"), "{error}");
    assert!(!is_imported(&appliance, "vpool1") && !is_imported(&appliance, "vpool2"));
    let rebuilt = appliance.engine().rebuild_catalog(&caller(), Some(own)).unwrap();
    assert_eq!((rebuilt.pools, rebuilt.volumes), (1, 1));
    assert!(!is_imported(&appliance, "vpool1") && is_imported(&appliance, "vpool2"));
}
