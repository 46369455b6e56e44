//! The iSCSI target.

use vsnap::{
    os::{
        Applied, Kind,
        lio::{Access, Backing, ScsiInitiator, ScsiTarget, ScsiUnit},
    },
    types::{
        VolumeId,
        host::{ChapCredentials, ChapSecret, ChapUser, Iqn},
        volume::RelativePath,
    },
};

use crate::{
    exports::{Stranger, alone, changes_once},
    system::{System, fails, filesystem, lun},
};

const ROOT: &str = "/sys/kernel/config/target";
const IQN: &str = "iqn.2017-08.com.example.contract:tests";
const INITIATOR: &str = "iqn.2001-04.com.example:a";

fn unit(number: i64) -> ScsiUnit {
    ScsiUnit {
        volume: VolumeId(9000 + number),
        serial: format!("contract-{number}"),
        backing: Backing::Zvol(lun(number)),
        needed: true,
    }
}

/// A lun whose file is not there.
fn without_file(needed: bool) -> ScsiUnit {
    let path = RelativePath::new("none.img").unwrap();
    ScsiUnit { backing: Backing::File { filesystem: filesystem(1), path }, needed, ..unit(5) }
}

/// A target with these, all of them mapped to one initiator in their order.
fn target(units: &[ScsiUnit], access: Access) -> ScsiTarget {
    let luns = units.iter().zip(0..).map(|(unit, lun)| (lun, unit.volume)).collect();
    ScsiTarget {
        iqn: IQN.to_owned(),
        portals: vec!["[::]:3260".parse().unwrap()],
        units: units.to_vec(),
        initiators: vec![ScsiInitiator { iqn: Iqn::new("iqn", INITIATOR).unwrap(), access, luns }],
    }
}

fn chap() -> Access {
    let user = ChapUser::new("user", "bob").unwrap();
    Access::Chap(ChapCredentials::new(user, ChapSecret::new("secret", "secret-number-1").unwrap(), None).unwrap())
}

/// Names in a folder of our target, on the real system.
#[track_caller]
fn check_folder(system: &System, folder: &str, expected: &[&str]) {
    if !system.is_real() {
        return;
    }
    let path = format!("{ROOT}/iscsi/{IQN}/tpgt_1/{folder}");
    let entries = std::fs::read_dir(&path).into_iter().flatten().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    // Those that the kernel makes by itself.
    names.retain(|name| !["attrib", "auth", "fabric_statistics", "param"].contains(&name.as_str()));
    names.sort();
    assert_eq!(names, expected, "{path}");
}

#[test]
fn the_target_is_what_is_wanted_and_others_stay() {
    alone(|system| {
        let make = "mkdir -p /sys/kernel/config/target/iscsi; cd /sys/kernel/config/target; \
                    mkdir -p core/rd_mcp_77/theirs iscsi/iqn.2003-01.org.example:theirs/tpgt_1/np/127.0.0.2:3261";
        let stays = "cd /sys/kernel/config/target; \
                     test -d core/rd_mcp_77/theirs -a -d iscsi/iqn.2003-01.org.example:theirs/tpgt_1/np/127.0.0.2:3261";
        let remove = "cd /sys/kernel/config/target; theirs=iscsi/iqn.2003-01.org.example:theirs; \
                      rmdir $theirs/tpgt_1/np/127.0.0.2:3261 $theirs/tpgt_1 $theirs core/rd_mcp_77/theirs core/rd_mcp_77";
        Stranger { system, make, stays, remove }.outlives(|| {
            let apply = |wanted: &ScsiTarget| system.exports.apply_iscsi(Some(wanted));
            system.make_filesystem(1);
            [2, 4].into_iter().for_each(|number| drop(system.make_lun(number)));
            assert_eq!(system.exports.apply_iscsi(None).unwrap(), Applied::default(), "nothing to begin with");
            changes_once(|| apply(&target(&[unit(2)], Access::Open)));
            check_folder(system, "lun", &["lun_9002"]);
            let apply_one = |wanted: &ScsiTarget| system.exports.apply_unit(wanted, VolumeId(9004));
            changes_once(|| apply_one(&target(&[unit(2), unit(4)], Access::Open)));
            check_folder(system, &format!("acls/{INITIATOR}"), &["lun_0", "lun_1"]);
            let mut alone = target(&[unit(2), unit(4)], Access::Open);
            alone.units.remove(0);
            alone.initiators[0].luns.remove(&0);
            assert_eq!(apply_one(&alone).unwrap(), Applied::default(), "no other is looked at");
            check_folder(system, "lun", &["lun_9002", "lun_9004"]);
            // What is needed and not there is an error, and all else is as it was; what is not needed is left out.
            fails(apply(&target(&[unit(2), unit(4), without_file(true)], Access::Open)), Kind::Missing);
            let without = target(&[unit(2), unit(4), without_file(false)], Access::Open);
            assert_eq!(apply(&without).unwrap(), Applied::default());
            changes_once(|| apply(&target(&[unit(2), unit(4)], chap())));
            check_portals(system);
            changes_once(|| apply(&target(&[unit(4)], Access::Open)));
            check_folder(system, "lun", &["lun_9004"]);
            changes_once(|| system.exports.apply_iscsi(None));
            check_folder(system, "lun", &[]);
            [2, 4].into_iter().for_each(|number| system.zfs.destroy_dataset(&lun(number)).unwrap());
        });
    });
}

/// From all addresses to single ones and back.
fn check_portals(system: &System) {
    let at = |portals: &[&str]| {
        let portals = portals.iter().map(|portal| portal.parse().unwrap()).collect();
        ScsiTarget { portals, ..target(&[unit(2), unit(4)], chap()) }
    };
    for portals in [&["127.0.0.1:3260", "[::1]:3260"][..], &["127.0.0.2:3260", "[::1]:3260"], &[], &["[::]:3260"]] {
        changes_once(|| system.exports.apply_iscsi(Some(&at(portals))));
        check_folder(system, "np", portals);
    }
}
