//! Many shares and mapped luns: what is many comes back as one.

use vsnap::types::{
    HostId, PoolId, VolumeId,
    share::{AllowedHosts, ShareProperties, ShareType},
    volume::{BlockSize, VolumeOptions, VolumeSource},
};

use crate::{
    appliance::{Appliance, caller},
    hosts,
};

const MANY: usize = 500;

/// Half of the shares are of each kind.
fn with_many(appliance: &Appliance) {
    appliance.make_pool();
    hosts::create(appliance, "host", &["a"]);
    let options = VolumeOptions::default();
    for number in 0..MANY {
        let share_type = if number % 2 == 0 { ShareType::Nfs } else { ShareType::Smb };
        let allowed_hosts = AllowedHosts::new(&["10.0.0.0/8"]).unwrap();
        let share = ShareProperties { share_type, read_only: false, allowed_hosts, snapshots_visible: false };
        let source = VolumeSource::Filesystem { pool: PoolId(1), limit: None, options };
        let filesystem = appliance.create(&format!("filesystem {number}"), source).unwrap();
        appliance.engine().create_share(&caller(), filesystem.id, &share).unwrap();
        let source = VolumeSource::Lun { pool: PoolId(1), bytes: 1 << 20, block: BlockSize::default(), options };
        let lun = appliance.create(&format!("lun {number}"), source).unwrap();
        appliance.engine().map_volume(&caller(), lun.id, HostId(1)).unwrap();
    }
}

fn exported(appliance: &Appliance) -> [usize; 4] {
    let world = appliance.fake.world();
    let exports = &world.exports;
    let target = exports.iscsi.as_ref();
    let luns = target.map_or(0, |target| target.initiators.iter().map(|it| it.luns.len()).sum());
    [exports.nfs.len(), exports.smb.len(), target.map_or(0, |target| target.units.len()), luns]
}

#[test]
fn five_hundred_shares_and_luns_come_back_in_one_pass() {
    const EFFECTS: [&str; 4] = ["apply_nfs", "apply_smb", "apply_iscsi", "mount_pool"];
    let mut appliance = Appliance::new();
    with_many(&appliance);
    assert_eq!(exported(&appliance), [MANY / 2, MANY / 2, MANY, MANY]);
    let counts = |appliance: &Appliance| EFFECTS.map(|effect| appliance.fake.count(effect));
    for reboot in [false, true] {
        appliance.kill();
        if reboot {
            appliance.fake.world().reboot();
        }
        appliance.fake.world().exports.nfs.clear();
        appliance.fake.world().exports.smb.clear();
        appliance.fake.world().exports.iscsi = None;
        let before = counts(&appliance);
        appliance.start();
        assert_eq!(exported(&appliance), [MANY / 2, MANY / 2, MANY, MANY], "reboot: {reboot}");
        let after = counts(&appliance);
        let times: Vec<usize> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(times, [1; 4], "{EFFECTS:?}, reboot: {reboot}");
    }
    // A snapshot touches the SMB shares of its own volumes alone: fifty of these, or one.
    let touched = || [counts(&appliance)[1], appliance.fake.count("apply_versions")];
    // Every second volume is a filesystem, and of these every second is shared by SMB.
    let all: Vec<i64> = (0..100).map(|at| 1 + 2 * at).collect();
    for (name, volumes, many) in [("by NFS", &all[..1], 0), ("by SMB", &all[1..2], 1), ("all", &all[..], 50)] {
        let [whole, single] = touched();
        appliance.snap(name, volumes);
        assert_eq!(touched(), [whole, single + many], "{name}");
    }
    assert_eq!(appliance.engine().share_of_volume(VolumeId(1)).unwrap().volume, VolumeId(1));
}
