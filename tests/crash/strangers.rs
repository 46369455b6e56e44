//! What others did in our pool by hand, and failures that no sweep reaches.

use vsnap::{
    error::Error,
    os::{Kind, Streams, fake::FakeOs},
    types::{
        HostId, PoolId, SnapshotId, SystemId, VolumeId,
        ids::Mark,
        snapshot::{Retention, SnapshotRequest},
        volume::{VolumeAction, VolumeSource, VolumeType},
    },
};

use crate::{
    TOO_MANY,
    appliance::{Appliance, caller},
    hosts, keep_quiet, scenarios, share_scenarios, stop_scenario,
    volume_scenarios::{self, update_filesystem},
    volumes::name,
};

/// Volume 1 with snapshots 1 to 3.
fn with_snapshots() -> Appliance {
    let appliance = Appliance::new();
    appliance.make_volumes();
    for text in ["a", "b", "c"] {
        appliance.snap(text, &[1]);
    }
    appliance
}

/// The deletion of volume 1 is refused, and nothing of it is gone.
#[track_caller]
fn stays(appliance: &Appliance) {
    assert!(appliance.engine().delete_volume(&caller(), VolumeId(1), true).is_err());
    assert_eq!(appliance.fake.world().dataset("vpool1/fs1").unwrap().snapshots.len(), 3);
    appliance.check("after a refused deletion");
}

#[test]
fn a_volume_with_a_dataset_of_others_below_it_stays_whole() {
    let appliance = with_snapshots();
    appliance.fake.world().add_stranger("vpool1/fs1/below").unwrap();
    stays(&appliance);
}

#[test]
fn a_volume_with_a_clone_of_others_stays_whole() {
    let appliance = with_snapshots();
    {
        let mut world = appliance.fake.world();
        let origin = world.snapshot("vpool1/fs1@snap2").unwrap().guid;
        world.dataset_mut("vpool1/theirs").unwrap().origin = Some(origin);
    }
    assert!(appliance.engine().delete_volume(&caller(), VolumeId(1), true).is_err());
    let world = appliance.fake.world();
    assert_eq!(world.dataset("vpool1/fs1").unwrap().snapshots.len(), 3);
    assert!(world.dataset("vpool1/fs1").unwrap().mounted);
}

#[test]
fn a_volume_with_a_snapshot_of_others_stays_whole() {
    let appliance = with_snapshots();
    appliance.fake.world().add_strange_snapshot("vpool1/fs1@daily").unwrap();
    assert!(appliance.engine().delete_volume(&caller(), VolumeId(1), true).is_err());
    assert_eq!(appliance.fake.world().dataset("vpool1/fs1").unwrap().snapshots.len(), 4);
    appliance.check("after a refused deletion");
}

#[test]
fn a_rollback_behind_a_snapshot_of_others_destroys_nothing() {
    let appliance = with_snapshots();
    appliance.fake.world().add_strange_snapshot("vpool1/fs1@daily").unwrap();
    appliance.fake.world().write("vpool1/fs1", b"now").unwrap();
    let discard_snapshots = vec![SnapshotId(3)];
    let action = VolumeAction::Rollback {
        snapshot: SnapshotId(2),
        discard_snapshots,
        discard_clones: vec![],
        discard_shares: vec![],
        discard_hosts: vec![],
    };
    assert!(appliance.engine().act_on_volume(&caller(), VolumeId(1), action).is_err());
    assert_eq!(appliance.fake.world().read("vpool1/fs1").unwrap(), b"now");
    assert_eq!(appliance.fake.world().dataset("vpool1/fs1").unwrap().snapshots.len(), 4);
    appliance.check("after a refused rollback");
}

fn rollback(snapshot: i64, newer: &[i64], clones: &[VolumeId]) -> VolumeAction {
    VolumeAction::Rollback {
        snapshot: SnapshotId(snapshot),
        discard_snapshots: newer.iter().copied().map(SnapshotId).collect(),
        discard_clones: clones.to_vec(),
        discard_shares: vec![],
        discard_hosts: vec![],
    }
}

#[test]
fn a_rollback_behind_what_others_made_destroys_nothing() {
    let strangers: [fn(&FakeOs); 3] = [
        |fake| {
            let dataset = VolumeType::Filesystem.dataset(PoolId(1), VolumeId(1)).unwrap();
            let newest = SnapshotId(3);
            fake.bookmark(&dataset.snapshot(newest), &dataset.bookmark(newest)).unwrap();
            fake.world().dataset_mut("vpool1/fs1").unwrap().bookmarks[0].name = "zrepl_cursor".to_owned();
        },
        |fake| {
            let mut world = fake.world();
            let dataset = world.dataset_mut("vpool1/fs1").unwrap();
            dataset.snapshots[2].holds.insert("zrepl_step".to_owned());
        },
        |fake| {
            let mut world = fake.world();
            let origin = world.snapshot("vpool1/fs1@snap3").unwrap().guid;
            world.dataset_mut("vpool1/theirs").unwrap().origin = Some(origin);
        },
    ];
    for made in strangers {
        let appliance = with_snapshots();
        let clone = appliance.create("clone", VolumeSource::Clone { snapshot: SnapshotId(3) }).unwrap();
        appliance.fake.world().write("vpool1/fs1", b"now").unwrap();
        made(&appliance.fake);
        let action = rollback(1, &[2, 3], &[clone.id]);
        let error = appliance.engine().act_on_volume(&caller(), VolumeId(1), action).unwrap_err();
        assert!(matches!(&error, Error::Busy(message) if message.contains("did not make")), "{error:?}");
        assert_eq!(appliance.fake.world().read("vpool1/fs1").unwrap(), b"now");
        assert_eq!(appliance.fake.world().dataset("vpool1/fs1").unwrap().snapshots.len(), 3);
        assert!(appliance.engine().volume(clone.id).is_ok());
        assert!(appliance.engine().snapshot(SnapshotId(3)).is_ok(), "it is not hidden");
    }
}

#[test]
fn what_could_not_be_taken_back_keeps_others_out_and_is_never_done_again() {
    for restarts in [false, true] {
        let mut appliance = with_snapshots();
        appliance.fake.world().write("vpool1/fs1", b"now").unwrap();
        // Neither the rollback nor a look at what is left.
        appliance.refuse("rollback");
        appliance.fake.refuse_later("snapshots", 2, Kind::Other);
        assert!(appliance.engine().act_on_volume(&caller(), VolumeId(1), rollback(2, &[3], &[])).is_err());
        appliance.fake.allow_all();
        assert_eq!(appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 1);
        let request = SnapshotRequest {
            volumes: vec![VolumeId(1)],
            name: None,
            retention: Retention { expires: None, locked: false },
        };
        let snap = |appliance: &Appliance| appliance.engine().create_snapshots(&caller(), request.clone());
        let error = snap(&appliance).unwrap_err();
        assert!(matches!(&error, Error::Busy(message) if message.contains("taken back yet")), "{error:?}");
        if restarts {
            appliance.kill();
            appliance.start();
        } else {
            appliance.engine().upkeep().unwrap();
        }
        assert_eq!(appliance.fake.world().read("vpool1/fs1").unwrap(), b"now", "it was told to have failed");
        snap(&appliance).unwrap();
        appliance.check("after a rollback that failed");
    }
}

#[test]
fn a_change_that_the_kernel_may_still_do_is_brought_to_its_end() {
    let mut appliance = with_snapshots();
    appliance.fake.world().write("vpool1/fs1", b"now").unwrap();
    appliance.fake.refuse("rollback", Kind::Unclear);
    let error = appliance.engine().act_on_volume(&caller(), VolumeId(1), rollback(2, &[3], &[])).unwrap_err();
    assert!(matches!(&error, Error::Busy(message) if message.contains("may happen all the same")), "{error:?}");
    let delete = || appliance.engine().delete_snapshot(&caller(), SnapshotId(1));
    assert!(matches!(delete(), Err(Error::Busy(_))));
    appliance.fake.allow_all();
    appliance.engine().upkeep().unwrap();
    assert_ne!(appliance.fake.world().read("vpool1/fs1").unwrap(), b"now", "it is rolled back");
    delete().unwrap();
    appliance.check("after a rollback that took long");
    appliance.kill();
}

#[test]
fn a_promotion_that_was_done_but_not_seen_is_noted_later() {
    for restarts in [true, false] {
        let mut appliance = with_snapshots();
        let clone = appliance.create("clone", VolumeSource::Clone { snapshot: SnapshotId(2) }).unwrap();
        appliance.refuse("snapshots");
        let promote =
            |appliance: &Appliance| appliance.engine().act_on_volume(&caller(), clone.id, VolumeAction::Promote);
        assert!(promote(&appliance).is_err());
        appliance.fake.allow_all();
        assert!(matches!(promote(&appliance), Err(Error::Busy(_))), "nothing overtakes it");
        if restarts {
            appliance.kill();
            appliance.start();
        } else {
            appliance.engine().upkeep().unwrap();
        }
        appliance.check("after a promotion that was not seen");
        assert_eq!(appliance.engine().volume(clone.id).unwrap().origin, None);
        assert_eq!(appliance.engine().snapshot(SnapshotId(2)).unwrap().volume, clone.id);
    }
}

#[test]
fn a_full_pool_takes_nothing_new_and_lets_go() {
    let appliance = with_snapshots();
    appliance.fake.world().full("vpool1", true).unwrap();
    appliance.snap("never", &[2]);
    assert!(appliance.create("clone", VolumeSource::Clone { snapshot: SnapshotId(2) }).is_none());
    appliance.check("when the pool is full");
    assert!(appliance.engine().snapshots_by_name(name("never").as_str()).is_err());
    appliance.engine().delete_snapshot(&caller(), SnapshotId(2)).unwrap();
    appliance.engine().delete_volume(&caller(), VolumeId(1), false).unwrap();
    appliance.check("after deletions in a full pool");
}

#[test]
fn what_expired_and_is_held_by_others_fills_no_journal() {
    let appliance = with_snapshots();
    appliance.snap_for("expiring", &[1], appliance.retention(false));
    appliance.fake.advance(10_000);
    let held = |holds: bool| {
        let mut world = appliance.fake.world();
        let snapshot = world.dataset_mut("vpool1/fs1").unwrap().snapshots.last_mut().unwrap();
        snapshot.holds = holds.then(|| "zrepl_step".to_owned()).into_iter().collect();
    };
    let (snapshots, operations) = ("SELECT count(*) FROM snapshot", "SELECT count(*) FROM operation");
    held(true);
    let before = [snapshots, operations].map(|query| appliance.stored(query));
    for _ in 0..3 {
        appliance.engine().upkeep().unwrap();
    }
    assert_eq!([snapshots, operations].map(|query| appliance.stored(query)), before);
    held(false);
    appliance.engine().upkeep().unwrap();
    assert_eq!(appliance.stored(snapshots), before[0] - 1);
}

impl Appliance {
    /// Our pool is away, and one of another appliance is imported under its name, on disks of its own, with datasets of
    /// the same names.
    pub fn take_name(&self) {
        let mut world = self.fake.world();
        let mut ours = world.pools.remove("vpool1").unwrap();
        ours.imported = false;
        let mut theirs = ours.clone();
        theirs.imported = true;
        theirs.status.guid = world.new_guid();
        let status = &mut theirs.status;
        for vdevs in [&mut status.data, &mut status.logs, &mut status.caches, &mut status.spares] {
            vdevs.clear();
        }
        theirs.facts.mark = Some(Mark::pool(&SystemId::random(), PoolId(1)));
        theirs.facts.mounted = false;
        for dataset in theirs.datasets.values_mut() {
            dataset.mark = Some(Mark::volume(&SystemId::random(), VolumeId(1)));
            dataset.snapshots.clear();
        }
        world.pools.insert("ours".to_owned(), ours);
        world.pools.insert("vpool1".to_owned(), theirs);
    }

    /// The pool of the other appliance is away again.
    pub fn give_name_back(&self) {
        let mut world = self.fake.world();
        let ours = world.pools.remove("ours").unwrap();
        world.pools.insert("vpool1".to_owned(), ours);
    }
}

#[test]
fn what_was_interrupted_waits_while_another_pool_has_the_name() {
    keep_quiet();
    let mut appliance = stop_scenario(&update_filesystem(), 3).unwrap();
    appliance.fake.world().reboot();
    appliance.take_name();
    appliance.start();
    appliance.engine().upkeep().unwrap();
    assert_eq!(appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 1);
    let error = appliance.engine().delete_volume(&caller(), VolumeId(1), false).unwrap_err();
    assert!(matches!(&error, Error::Contradiction(message) if message.contains("is not pool 1")), "{error:?}");
    appliance.give_name_back();
    appliance.engine().upkeep().unwrap();
    appliance.check("when the name is free again");
}

#[test]
fn nothing_expires_while_another_pool_has_the_name() {
    let mut appliance = Appliance::new();
    appliance.make_volumes();
    appliance.snap_for("a", &[1], appliance.retention(false));
    appliance.take_name();
    appliance.fake.advance(10_000);
    appliance.engine().upkeep().unwrap();
    assert_eq!(appliance.stored("SELECT count(*) FROM snapshot"), 1);
    appliance.give_name_back();
    appliance.kill();
    appliance.start();
    appliance.check("when the name is free again");
    appliance.engine().upkeep().unwrap();
    appliance.check("when it has expired");
    assert_eq!(appliance.stored("SELECT count(*) FROM snapshot"), 0);
}

#[test]
fn a_pool_that_has_the_name_of_ours_is_not_touched() {
    keep_quiet();
    for scenario in [scenarios::update(), scenarios::delete_that_is_refused()] {
        for step in 0..TOO_MANY {
            let Some(mut appliance) = stop_scenario(&scenario, step) else { break };
            appliance.fake.world().reboot();
            appliance.take_name();
            let before = appliance.fake.world().pools["vpool1"].facts.clone();
            appliance.start();
            let after = appliance.fake.world().pools["vpool1"].facts.clone();
            assert_eq!(after, before, "{} stopped at step {step}", scenario.name);
        }
    }
}

#[test]
fn what_was_begun_on_a_filesystem_that_others_destroyed_comes_to_an_end() {
    keep_quiet();
    let scenarios = [
        share_scenarios::create_nfs_share(),
        share_scenarios::delete_share(),
        volume_scenarios::create_file_lun(),
        volume_scenarios::delete_file_lun(),
    ];
    for scenario in scenarios {
        for step in 0..TOO_MANY {
            let Some(mut appliance) = stop_scenario(&scenario, step) else { break };
            appliance.fake.world().pools.get_mut("vpool1").unwrap().datasets.remove("vpool1/fs1");
            appliance.start();
            let running = appliance.stored("SELECT count(*) FROM operation WHERE state = 'running'");
            assert_eq!(running, 0, "{} stopped at step {step}", scenario.name);
        }
    }
}

#[test]
fn a_filesystem_goes_also_when_the_iscsi_target_is_stuck() {
    let appliance = with_snapshots();
    appliance.refuse("apply_iscsi");
    assert!(appliance.engine().delete_volume(&caller(), VolumeId(2), false).is_err(), "a lun may still be seen");
    appliance.engine().delete_volume(&caller(), VolumeId(1), false).unwrap();
    appliance.fake.allow_all();
    appliance.check("without the filesystem");
}

#[test]
fn nothing_in_another_pool_of_the_name_is_exported() {
    let mut appliance = Appliance::new();
    share_scenarios::with_shares(&appliance);
    hosts::create(&appliance, "one", &["a"]);
    appliance.engine().map_volume(&caller(), VolumeId(2), HostId(1)).unwrap();
    let exported = |appliance: &Appliance| {
        let exports = appliance.fake.world().exports.clone();
        [exports.nfs.len(), exports.smb.len(), exports.iscsi.map_or(0, |target| target.units.len())]
    };
    assert_eq!(exported(&appliance), [1, 1, 1]);
    appliance.take_name();
    appliance.engine().upkeep().unwrap();
    assert_eq!(exported(&appliance), [0, 0, 0]);
    appliance.give_name_back();
    appliance.kill();
    appliance.start();
    assert_eq!(exported(&appliance), [1, 1, 1]);
    appliance.check("when the name is free again");
}
