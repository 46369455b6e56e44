//! Operations on volumes that are stopped on their way. Whether one fails in the end is not what counts here, only the
//! state afterwards. Volumes 1 and 3 are filesystems, 2 is a lun; snapshots are numbered as they are made.

use vsnap::types::{
    PoolId, SnapshotId, VolumeId,
    volume::{BlockSize, SizeChange, VolumeAction, VolumeOptions, VolumeSource, VolumeUpdate},
};

use crate::{
    appliance::{Appliance, caller},
    scenarios::Scenario,
    volumes::{name, reason},
};
use vsnap::types::snapshot::SnapshotAction;

/// Snapshots 1 to 3 of volume 1, each with what it is called.
fn with_snapshots(appliance: &Appliance) {
    appliance.make_volumes();
    for text in ["a", "b", "c"] {
        appliance.snap(text, &[1]);
    }
    appliance.fake.world().write("vpool1/fs1", b"now").unwrap();
}

/// Beside those: volume 4, a clone of snapshot 2, with snapshot 4, and volume 5, a clone of snapshot 3.
fn with_clones(appliance: &Appliance) {
    with_snapshots(appliance);
    appliance.clone_of("four", 2);
    appliance.snap("d", &[4]);
    appliance.clone_of("five", 3);
}

fn with_file_lun(appliance: &Appliance) {
    appliance.make_volumes();
    appliance.file_lun("file");
}

fn refusing(appliance: &Appliance, prepare: fn(&Appliance), effect: &'static str) {
    prepare(appliance);
    appliance.refuse(effect);
}

fn make_filesystem(appliance: &Appliance) {
    let options = VolumeOptions { compression: Some(false), deduplication: None, syncwrite: Some(false) };
    appliance.create("new", VolumeSource::Filesystem { pool: PoolId(1), limit: Some(1 << 20), options });
}

fn make_lun(appliance: &Appliance) {
    let options = VolumeOptions::default();
    let block = BlockSize::new(8192).unwrap();
    appliance.create("new", VolumeSource::Lun { pool: PoolId(1), bytes: 100_000, block, options });
}

fn make_clone(appliance: &Appliance) {
    appliance.clone_of("clone", 2);
}

fn update(appliance: &Appliance, volume: i64) {
    let update = VolumeUpdate {
        name: Some(name("näme 🦀")),
        size: (volume != 4).then_some(SizeChange::Bytes(4 << 20)),
        options: VolumeOptions { compression: (volume != 4).then_some(false), ..VolumeOptions::default() },
    };
    let _ = appliance.engine().update_volume(&caller(), VolumeId(volume), update);
}

fn delete(appliance: &Appliance, volume: i64) {
    let _ = appliance.engine().delete_volume(&caller(), VolumeId(volume), false);
}

fn delete_snapshot(appliance: &Appliance, snapshot: i64) {
    let _ = appliance.engine().delete_snapshot(&caller(), SnapshotId(snapshot));
}

fn roll_back(appliance: &Appliance) {
    let action = VolumeAction::Rollback {
        snapshot: SnapshotId(1),
        discard_snapshots: vec![SnapshotId(2), SnapshotId(3)],
        discard_clones: vec![VolumeId(4), VolumeId(5)],
        discard_shares: vec![],
        discard_hosts: vec![],
    };
    let _ = appliance.engine().act_on_volume(&caller(), VolumeId(1), action);
}

fn roll_back_without_clones(appliance: &Appliance) {
    let discard_snapshots = vec![SnapshotId(2), SnapshotId(3)];
    let action = VolumeAction::Rollback {
        snapshot: SnapshotId(1),
        discard_snapshots,
        discard_clones: vec![],
        discard_shares: vec![],
        discard_hosts: vec![],
    };
    let _ = appliance.engine().act_on_volume(&caller(), VolumeId(1), action);
}

fn promote(appliance: &Appliance) {
    let _ = appliance.engine().act_on_volume(&caller(), VolumeId(4), VolumeAction::Promote);
}

fn lock(appliance: &Appliance) {
    let after = appliance.retention(true);
    let update = vsnap::types::snapshot::RetentionUpdate { expires: Some(after.expires), locked: Some(after.locked) };
    let _ = appliance.engine().update_snapshot(&caller(), SnapshotId(2), update);
}

fn hold(appliance: &Appliance) {
    appliance.act(2, SnapshotAction::Hold(reason("legal case 5")));
}

fn release(appliance: &Appliance) {
    appliance.act(2, SnapshotAction::Release(reason("legal case 5")));
}

fn with_hold(appliance: &Appliance) {
    with_snapshots(appliance);
    hold(appliance);
}

/// Snapshot 1 of volume 1 is locked no longer; what is left of it is the hold.
fn with_past_lock(appliance: &Appliance) {
    appliance.make_volumes();
    appliance.snap_for("a", &[1], appliance.retention(true));
    appliance.snap("b", &[1]);
    appliance.fake.advance(10_000);
}

/// Of four expired snapshots the first was locked, the second is held and the third has a clone.
fn with_expired(appliance: &Appliance) {
    appliance.make_volumes();
    appliance.snap_for("a", &[1], appliance.retention(true));
    for text in ["b", "c", "d"] {
        appliance.snap_for(text, &[1], appliance.retention(false));
    }
    hold(appliance);
    appliance.clone_of("clone", 3);
    appliance.fake.advance(10_000);
}

fn snap_three(appliance: &Appliance) {
    appliance.snap("set", &[1, 2, 3]);
}

fn snap_locked(appliance: &Appliance) {
    appliance.snap_for("locked", &[1, 2], appliance.retention(true));
}

macro_rules! scenarios {
    ($($name:ident: $prepare:expr => $work:expr;)*) => {$(
        pub fn $name() -> Scenario {
            Scenario { name: stringify!($name), prepare: $prepare, work: $work }
        }
    )*};
}

scenarios! {
    create_filesystem: Appliance::make_volumes => make_filesystem;
    create_filesystem_that_fails: |it| refusing(it, Appliance::make_volumes, "create_dataset") => make_filesystem;
    create_filesystem_that_is_not_mounted: |it| refusing(it, Appliance::make_volumes, "mount_created") => make_filesystem;
    create_lun: Appliance::make_volumes => make_lun;
    create_lun_without_device: |it| refusing(it, Appliance::make_volumes, "mount_created") => make_lun;
    create_file_lun: Appliance::make_volumes => |it| it.file_lun("file");
    create_file_lun_that_fails: |it| refusing(it, Appliance::make_volumes, "change_dataset") => |it| it.file_lun("file");
    create_clone: with_snapshots => make_clone;
    create_clone_that_fails: |it| refusing(it, with_snapshots, "clone_snapshot") => make_clone;
    create_clone_that_is_not_mounted: |it| refusing(it, with_snapshots, "mount_created") => make_clone;
    update_filesystem: Appliance::make_volumes => |it| update(it, 1);
    update_lun: Appliance::make_volumes => |it| update(it, 2);
    update_file_lun: with_file_lun => |it| update(it, 4);
    update_volume_that_fails: |it| refusing(it, Appliance::make_volumes, "change_dataset") => |it| update(it, 1);
    delete_volume: with_snapshots => |it| delete(it, 1);
    delete_lun: Appliance::make_volumes => |it| delete(it, 2);
    delete_file_lun: with_file_lun => |it| delete(it, 4);
    delete_file_lun_that_fails: |it| refusing(it, with_file_lun, "change_dataset") => |it| delete(it, 4);
    delete_clone: with_clones => |it| delete(it, 4);
    delete_volume_with_past_lock: with_past_lock => |it| delete(it, 1);
    delete_volume_with_clones: with_clones => |it| { delete(it, 1); delete(it, 5); };
    delete_volume_that_is_open: |it| { with_snapshots(it); it.fake.world().busy("vpool1/fs1", true).unwrap(); }
        => |it| { delete(it, 1); it.engine().upkeep().unwrap(); };
    delete_volume_refused_at_its_snapshots: |it| refusing(it, with_past_lock, "destroy_snapshots") => |it| delete(it, 1);
    delete_volume_refused_at_its_end: |it| refusing(it, with_snapshots, "destroy_dataset") => |it| delete(it, 1);
    snapshot_of_one: Appliance::make_volumes => |it| it.snap("one", &[1]);
    snapshot_of_three: Appliance::make_volumes => snap_three;
    snapshot_of_three_that_fails: |it| refusing(it, Appliance::make_volumes, "snapshot") => snap_three;
    snapshot_that_is_locked: Appliance::make_volumes => snap_locked;
    snapshot_that_can_not_be_locked: |it| refusing(it, Appliance::make_volumes, "hold") => snap_locked;
    delete_snapshot_in_the_middle: with_snapshots => |it| delete_snapshot(it, 2);
    delete_snapshot_with_past_lock: with_past_lock => |it| delete_snapshot(it, 1);
    delete_snapshot_that_fails: |it| refusing(it, with_past_lock, "destroy_snapshots") => |it| delete_snapshot(it, 1);
    rollback: with_snapshots => roll_back_without_clones;
    rollback_with_clones: with_clones => roll_back;
    rollback_that_fails: |it| refusing(it, with_clones, "rollback") => roll_back;
    rollback_refused_at_snapshots: |it| refusing(it, with_clones, "destroy_snapshots") => roll_back;
    rollback_refused_at_a_clone: |it| refusing(it, with_clones, "destroy_dataset") => roll_back;
    rollback_refused_by_an_open_clone: |it| { with_clones(it); it.fake.world().busy("vpool1/fs5", true).unwrap(); }
        => roll_back;
    promotion: with_clones => promote;
    promotion_that_fails: |it| refusing(it, with_clones, "promote") => promote;
    lock_snapshot: with_snapshots => lock;
    lock_that_fails: |it| refusing(it, with_snapshots, "hold") => lock;
    lock_refused_at_its_notes: |it| refusing(it, with_snapshots, "note_snapshot") => lock;
    hold_snapshot: with_snapshots => hold;
    hold_that_fails: |it| refusing(it, with_snapshots, "hold") => hold;
    release_snapshot: with_hold => release;
    release_that_fails: |it| refusing(it, with_hold, "release") => release;
    expiry: with_expired => |it| it.engine().upkeep().unwrap();
    delete_pool_with_volumes: with_clones => |it| { let _ = it.engine().delete_pool(&caller(), PoolId(1), true); };
}
