//! Operations on shares that are stopped on their way. Volume 1 and 3 are filesystems.

use std::collections::BTreeSet;

use vsnap::{
    os::{Kind, nfs::NfsExport, samba::SmbShare},
    types::{
        PoolId, ShareId, SnapshotId, VolumeId,
        selection::Selection,
        share::{AllowedHosts, ShareProperties, ShareType},
        volume::VolumeAction,
    },
};

use crate::{
    appliance::{Appliance, caller},
    scenarios::Scenario,
};

fn nfs(hosts: &[&str]) -> ShareProperties {
    let allowed_hosts = AllowedHosts::new(hosts).unwrap();
    ShareProperties { share_type: ShareType::Nfs, read_only: false, allowed_hosts, snapshots_visible: false }
}

fn smb() -> ShareProperties {
    ShareProperties { share_type: ShareType::Smb, ..nfs(&[]) }
}

fn share(appliance: &Appliance, volume: i64, properties: &ShareProperties) {
    let _ = appliance.engine().create_share(&caller(), VolumeId(volume), properties);
}

/// Shares 1 and 2, of volume 1 by NFS and of volume 3 by SMB.
pub fn with_shares(appliance: &Appliance) {
    appliance.make_volumes();
    share(appliance, 1, &nfs(&["10.0.0.1"]));
    share(appliance, 3, &smb());
}

/// Beside those snapshots 1 and 2 of volume 1, and volume 4, a clone of 2, with share 3.
fn with_clone(appliance: &Appliance) {
    with_shares(appliance);
    appliance.snap("a", &[1]);
    appliance.snap("b", &[1]);
    appliance.clone_of("four", 2);
    share(appliance, 4, &nfs(&["all"]));
}

/// Volume 4, a clone of snapshot 1 of volume 1; both are shared by SMB.
fn with_smb_clone(appliance: &Appliance) {
    appliance.make_volumes();
    share(appliance, 1, &smb());
    appliance.snap("old", &[1]);
    appliance.clone_of("four", 1);
    share(appliance, 4, &smb());
}

fn refusing(appliance: &Appliance, prepare: fn(&Appliance), effect: &'static str) {
    prepare(appliance);
    appliance.refuse(effect);
}

fn update(appliance: &Appliance, after: ShareProperties) {
    let _ = appliance.engine().update_share(&caller(), ShareId(1), |_| Ok(after));
}

fn delete(appliance: &Appliance) {
    let _ = appliance.engine().delete_share(&caller(), ShareId(1));
}

fn delete_snapshot(appliance: &Appliance) {
    let _ = appliance.engine().delete_snapshot(&caller(), SnapshotId(1));
}

fn delete_volume(appliance: &Appliance) {
    let _ = appliance.engine().delete_volume(&caller(), VolumeId(1), false);
}

fn roll_back(appliance: &Appliance) {
    let action = VolumeAction::Rollback {
        snapshot: SnapshotId(1),
        discard_snapshots: vec![SnapshotId(2)],
        discard_clones: vec![VolumeId(4)],
        discard_shares: vec![ShareId(1)],
        discard_hosts: vec![],
    };
    let _ = appliance.engine().act_on_volume(&caller(), VolumeId(1), action);
}

fn roll_back_alone(appliance: &Appliance) {
    let action = VolumeAction::Rollback {
        snapshot: SnapshotId(2),
        discard_snapshots: vec![],
        discard_clones: vec![],
        discard_shares: vec![ShareId(1)],
        discard_hosts: vec![],
    };
    let _ = appliance.engine().act_on_volume(&caller(), VolumeId(1), action);
}

macro_rules! scenarios {
    ($($name:ident: $prepare:expr => $work:expr;)*) => {$(
        pub fn $name() -> Scenario {
            Scenario { name: stringify!($name), prepare: $prepare, work: $work }
        }
    )*};
}

scenarios! {
    create_nfs_share: Appliance::make_volumes => |it| share(it, 1, &nfs(&["10.0.0.0/8", "host"]));
    create_smb_share: Appliance::make_volumes => |it| share(it, 3, &smb());
    create_share_that_is_not_exported: |it| refusing(it, Appliance::make_volumes, "apply_nfs")
        => |it| { share(it, 1, &nfs(&["all"])); it.fake.allow_all(); };
    create_share_that_is_not_noted: |it| refusing(it, Appliance::make_volumes, "change_dataset")
        => |it| share(it, 1, &nfs(&["all"]));
    update_share: with_shares => |it| update(it, nfs(&["all"]));
    update_type_of_share: with_shares => |it| update(it, smb());
    update_share_that_fails: |it| refusing(it, with_shares, "apply_smb") => |it| { update(it, smb()); it.fake.allow_all(); };
    delete_share: with_shares => delete;
    delete_share_that_fails: |it| { with_shares(it); it.fake.refuse("apply_nfs", Kind::Other); }
        => |it| { delete(it); it.fake.allow_all(); };
    delete_volume_with_share: with_clone => |it| { let _ = it.engine().delete_volume(&caller(), VolumeId(4), false); };
    delete_volume_with_share_refused_at_its_end: |it| refusing(it, with_shares, "destroy_dataset") => delete_volume;
    rollback_with_share: with_clone => roll_back_alone;
    rollback_with_share_that_fails: |it| refusing(it, with_clone, "rollback") => roll_back_alone;
    rollback_with_shared_clone: with_clone => roll_back;
    snapshot_of_smb_share: with_shares => |it| it.snap("new", &[3]);
    delete_snapshot_of_smb_share: |it| { with_shares(it); it.snap("old", &[3]); } => delete_snapshot;
    delete_snapshot_of_smb_share_that_fails: |it| { with_shares(it); it.snap("old", &[3]); it.refuse("destroy_snapshots"); }
        => delete_snapshot;
    promotion_of_smb_share: with_smb_clone
        => |it| { let _ = it.engine().act_on_volume(&caller(), VolumeId(4), VolumeAction::Promote); };
    delete_pool_with_shares: with_clone => |it| { let _ = it.engine().delete_pool(&caller(), PoolId(1), true); };
}

impl Appliance {
    /// Rows, notes on filesystems and exports are the same.
    pub fn check_shares(&self, when: &str) {
        assert_eq!(self.stored("SELECT count(*) FROM share WHERE state <> 'ready'"), 0, "{when}: a share half done");
        // What was refused may be missing until upkeep comes.
        let exports = self.fake.world().exports.clone();
        if self.stored("SELECT count(*) FROM share") > 0 || !exports.nfs.is_empty() || !exports.smb.is_empty() {
            self.fake.allow_all();
            self.engine().upkeep().unwrap();
        }
        let (shares, _) = self.engine().shares(&Selection::default()).unwrap();
        let (volumes, _) = self.engine().volumes(&Selection::default()).unwrap();
        let (snapshots, _) = self.engine().snapshots(&Selection::default()).unwrap();
        let world = self.fake.world();
        let mut notes: BTreeSet<(String, String)> = BTreeSet::new();
        for (name, dataset) in world.pools.get("vpool1").into_iter().flat_map(|pool| &pool.datasets) {
            notes.extend(dataset.notes.get("vsnap:share.id").map(|id| (name.clone(), id.clone())));
            let many = dataset.notes.keys().filter(|note| note.starts_with("vsnap:share.")).count();
            assert!(many == 0 || many == 6, "{when}: {name} has {many} notes of a share");
        }
        let (mut rows, mut nfs, mut smb) = (BTreeSet::new(), Vec::new(), Vec::new());
        for share in &shares {
            let volume = volumes.iter().find(|volume| volume.id == share.volume).unwrap();
            assert_eq!(volume.share, Some(share.id), "{when}");
            let dataset = volume.volume_type.dataset(volume.pool, volume.id).unwrap();
            rows.insert((dataset.to_string(), share.id.to_string()));
            let properties = share.properties.clone();
            assert_eq!(share.name, properties.share_type.name(&dataset), "{when}");
            match properties.share_type {
                ShareType::Nfs => nfs.push(NfsExport {
                    path: share.name.clone(),
                    hosts: properties.allowed_hosts,
                    read_only: properties.read_only,
                    snapshots_visible: properties.snapshots_visible,
                }),
                ShareType::Smb => {
                    let of_volume = snapshots.iter().filter(|snapshot| snapshot.volume == share.volume);
                    smb.push(SmbShare {
                        name: share.name.clone(),
                        path: dataset.mountpoint(),
                        read_only: properties.read_only,
                        versions: of_volume.map(|one| (one.created, format!("snap{}", one.id))).collect(),
                    });
                }
            }
        }
        assert_eq!(rows, notes, "{when}: rows and notes of shares differ");
        assert_eq!(world.exports.nfs, nfs, "{when}: NFS exports");
        assert_eq!(world.exports.smb, smb, "{when}: SMB shares");
    }
}

#[test]
fn previous_versions_come_and_go_with_snapshots_and_cost_others_nothing() {
    let appliance = Appliance::new();
    with_shares(&appliance);
    let versions = || appliance.fake.world().exports.smb[0].versions.iter().map(|(_, name)| name.clone()).collect();
    let versions = || -> Vec<String> { versions() };
    appliance.snap("a", &[1, 3]);
    appliance.snap("b", &[3]);
    assert_eq!(versions(), ["snap2", "snap3"]);
    appliance.engine().delete_snapshot(&caller(), SnapshotId(2)).unwrap();
    assert_eq!(versions(), ["snap3"]);
    appliance.refuse("destroy_snapshots");
    assert!(appliance.engine().delete_snapshot(&caller(), SnapshotId(3)).is_err());
    assert_eq!(versions(), ["snap3"], "it is still there");
    // Samba is of no interest when it does not share the volume, and a snapshot is one also when Samba fails.
    let touched = || appliance.fake.count("apply_smb") + appliance.fake.count("apply_versions");
    let before = touched();
    appliance.snap("c", &[1, 2]);
    assert_eq!(touched(), before);
    appliance.refuse("apply_versions");
    appliance.snap("d", &[3]);
    appliance.fake.allow_all();
    assert_eq!(versions(), ["snap3"]);
    appliance.engine().upkeep().unwrap();
    assert_eq!(versions(), ["snap3", "snap6"]);
}
