//! Hosts and mappings that are stopped on their way. Afterwards the kernel's target is what the catalog says, and no
//! secrets are kept that nobody needs.

use std::collections::BTreeSet;

use vsnap::{
    os::lio::Access,
    types::{
        HostId, PoolId, SnapshotId, VolumeId,
        host::{ChapCredentials, ChapSecret, ChapUser, HostRequest, HostUpdate, Iqn},
        selection::Selection,
        volume::VolumeAction,
    },
};

use crate::{
    appliance::{Appliance, caller},
    scenarios::Scenario,
    volumes::name,
};

fn iqn(text: &str) -> Iqn {
    Iqn::new("iqns", &format!("iqn.2001-04.com.example:{text}")).unwrap()
}

fn chap(secret: &str) -> ChapCredentials {
    let user = ChapUser::new("chap.user", "user").unwrap();
    ChapCredentials::new(user, ChapSecret::new("chap.secret", secret).unwrap(), None).unwrap()
}

impl Appliance {
    /// Catalog and target agree.
    pub fn check_hosts(&self, when: &str) {
        if ["host_that_", "map_that_"].iter().any(|name| when.contains(name)) {
            // The target itself was what refused; once it does not, upkeep brings it to where the catalog is.
            self.fake.allow_all();
            self.engine().upkeep().unwrap();
        }
        for table in ["host", "mapping"] {
            let other = self.stored(&format!("SELECT count(*) FROM {table} WHERE state <> 'ready'"));
            assert_eq!(other, 0, "{when}: a row in {table} is neither ready nor gone");
        }
        let (hosts, _) = self.engine().hosts(&Selection::default()).unwrap();
        let world = self.fake.world();
        let Some(target) = &world.exports.iscsi else {
            assert!(hosts.is_empty(), "{when}: hosts without a target");
            assert!(world.exports.chap.is_empty(), "{when}: secrets of nobody");
            return;
        };
        let wanted: BTreeSet<_> = hosts
            .iter()
            .flat_map(|host| {
                let luns: Vec<_> = host.mapped_luns.iter().map(|lun| (lun.lun, lun.volume)).collect();
                host.iqns.iter().map(move |iqn| (iqn.clone(), host.chap.is_some(), luns.clone()))
            })
            .collect();
        let live: BTreeSet<_> = target
            .initiators
            .iter()
            .map(|it| {
                assert_ne!(it.access, Access::Closed, "{when}: secrets are lost");
                let luns = it.luns.iter().map(|(lun, volume)| (*lun, *volume)).collect::<Vec<_>>();
                (it.iqn.clone(), it.access != Access::Open, luns)
            })
            .collect();
        assert_eq!(live, wanted, "{when}: hosts and target differ");
        let secrets = hosts.iter().filter(|host| host.chap.is_some()).count();
        assert_eq!(world.exports.chap.len(), secrets, "{when}: secrets of nobody");
    }
}

/// Volumes 1 to 3, file-backed lun 4, host 1 with two initiators and CHAP.
fn with_host(appliance: &Appliance) {
    appliance.make_volumes();
    appliance.file_lun("file");
    create(appliance, "one", &["a", "b"]);
}

/// Beside that, luns 2 and 4 are mapped, to host 1, and 2 to host 2.
fn with_mappings(appliance: &Appliance) {
    with_host(appliance);
    create(appliance, "two", &["c"]);
    for (volume, host) in [(4, 1), (2, 1), (2, 2)] {
        map(appliance, volume, host);
    }
}

fn with_snapshot(appliance: &Appliance) {
    with_mappings(appliance);
    appliance.snap("old", &[2]);
}

fn refusing(appliance: &Appliance, prepare: fn(&Appliance), effect: &'static str) {
    prepare(appliance);
    appliance.refuse(effect);
}

pub fn create(appliance: &Appliance, text: &str, iqns: &[&str]) {
    let request = HostRequest {
        name: name(text),
        iqns: iqns.iter().map(|text| iqn(text)).collect(),
        chap: Some(chap("secret-number-1")),
    };
    let _ = appliance.engine().create_host(&caller(), request);
}

fn update(appliance: &Appliance) {
    let update = HostUpdate {
        name: Some(name("näme 🦀")),
        iqns: Some(vec![iqn("b"), iqn("d")]),
        chap: Some(Some(chap("secret-number-2"))),
    };
    let _ = appliance.engine().update_host(&caller(), HostId(1), update);
}

fn delete(appliance: &Appliance) {
    let _ = appliance.engine().delete_host(&caller(), HostId(1));
}

fn map(appliance: &Appliance, volume: i64, host: i64) {
    let _ = appliance.engine().map_volume(&caller(), VolumeId(volume), HostId(host));
}

fn unmap_two(appliance: &Appliance) {
    let _ = appliance.engine().unmap_volume(&caller(), VolumeId(2), HostId(1));
}

fn delete_lun(appliance: &Appliance) {
    let _ = appliance.engine().delete_volume(&caller(), VolumeId(2), false);
}

fn delete_pool(appliance: &Appliance) {
    let _ = appliance.engine().delete_pool(&caller(), PoolId(1), true);
}

fn roll_back(appliance: &Appliance) {
    let action = VolumeAction::Rollback {
        snapshot: SnapshotId(1),
        discard_snapshots: vec![],
        discard_clones: vec![],
        discard_shares: vec![],
        discard_hosts: vec![HostId(1), HostId(2)],
    };
    let _ = appliance.engine().act_on_volume(&caller(), VolumeId(2), action);
}

macro_rules! scenarios {
    ($($name:ident: $prepare:expr => $work:expr;)*) => {$(
        pub fn $name() -> Scenario {
            Scenario { name: stringify!($name), prepare: $prepare, work: $work }
        }
    )*};
}

scenarios! {
    create_host: Appliance::make_volumes => |it| create(it, "one", &["a", "b"]);
    create_host_that_fails: |it| refusing(it, Appliance::make_volumes, "apply_iscsi") => |it| {
        create(it, "one", &["a"]);
        it.fake.allow_all();
        it.engine().upkeep().unwrap();
    };
    update_host: with_mappings => update;
    update_host_that_fails: |it| refusing(it, with_mappings, "apply_iscsi") => |it| {
        update(it);
        it.fake.allow_all();
        it.engine().upkeep().unwrap();
    };
    delete_host: with_mappings => delete;
    delete_host_that_is_refused: |it| refusing(it, with_mappings, "apply_iscsi") => |it| {
        delete(it);
        it.fake.allow_all();
        it.engine().upkeep().unwrap();
    };
    map_lun: with_host => |it| map(it, 2, 1);
    map_file_lun: with_host => |it| map(it, 4, 1);
    map_that_fails: |it| refusing(it, with_host, "apply_iscsi") => |it| {
        map(it, 2, 1);
        it.fake.allow_all();
        it.engine().upkeep().unwrap();
    };
    unmap: with_mappings => unmap_two;
    unmap_that_fails: |it| refusing(it, with_mappings, "apply_iscsi") => |it| {
        unmap_two(it);
        it.fake.allow_all();
        it.engine().upkeep().unwrap();
    };
    delete_mapped_lun: with_mappings => delete_lun;
    delete_mapped_lun_that_is_refused: |it| refusing(it, with_mappings, "destroy_dataset") => delete_lun;
    delete_mapped_pool: with_mappings => delete_pool;
    delete_mapped_pool_that_is_refused: |it| refusing(it, with_mappings, "destroy_pool") => delete_pool;
    rollback_of_mapped_lun: with_snapshot => roll_back;
    rollback_of_mapped_lun_that_fails: |it| refusing(it, with_snapshot, "rollback") => roll_back;
}
