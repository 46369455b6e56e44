//! What others did in our pool by hand, and failures that no sweep reaches.

use vsnap::types::{
    SnapshotId, VolumeId,
    volume::{VolumeAction, VolumeSource},
};

use crate::{
    appliance::{Appliance, caller},
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

#[test]
fn a_promotion_that_was_done_but_not_seen_is_noted_at_the_next_start() {
    let mut appliance = with_snapshots();
    let clone = appliance.create("clone", VolumeSource::Clone { snapshot: SnapshotId(2) }).unwrap();
    appliance.refuse("snapshots");
    assert!(appliance.engine().act_on_volume(&caller(), clone.id, VolumeAction::Promote).is_err());
    appliance.kill();
    appliance.fake.allow_all();
    appliance.start();
    appliance.check("after a promotion that was not seen");
    assert_eq!(appliance.engine().volume(clone.id).unwrap().origin, None);
    assert_eq!(appliance.engine().snapshot(SnapshotId(2)).unwrap().volume, clone.id);
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
