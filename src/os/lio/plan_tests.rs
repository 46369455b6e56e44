//! The plan as a table: what is wanted and live, and what is to be done.

use std::collections::BTreeMap;

use super::{
    live::{Acl, Hidden, Live, Store, TARGET_ATTRIBUTES, Target},
    plan::{Action, Scope, Step, plan},
    reservations::Saved,
    *,
};
use crate::types::{
    PoolId,
    host::{ChapSecret, ChapUser},
};

const IQN: &str = "iqn.2017-08.x:y";
const GROUP: &str = "iscsi/iqn.2017-08.x:y/tpgt_1";
const ACL: &str = "iscsi/iqn.2017-08.x:y/tpgt_1/acls/iqn.2001-04.com.example:a";

fn unit(volume: i64) -> ScsiUnit {
    ScsiUnit {
        volume: VolumeId(volume),
        serial: format!("serial-{volume}"),
        backing: Backing::Zvol(DatasetName::lun(PoolId(1), VolumeId(volume))),
        needed: false,
    }
}

/// Initiator `a` sees `luns`.
fn wanted(luns: &[(u16, i64)], access: Access) -> ScsiTarget {
    ScsiTarget {
        iqn: IQN.to_owned(),
        portals: vec!["[::]:3260".parse().unwrap()],
        units: luns.iter().map(|(_, volume)| unit(*volume)).collect(),
        initiators: vec![ScsiInitiator {
            iqn: Iqn::new("iqn", "iqn.2001-04.com.example:a").unwrap(),
            access,
            luns: luns.iter().map(|(lun, volume)| (*lun, VolumeId(*volume))).collect(),
        }],
    }
}

fn chap(secret: &str) -> Access {
    let user = ChapUser::new("user", "bob").unwrap();
    Access::Chap(ChapCredentials::new(user, ChapSecret::new("secret", secret).unwrap(), None).unwrap())
}

/// What is live after `wanted` was applied.
fn live_of(wanted: &ScsiTarget) -> Live {
    let link = |to: String| vec![("vsnap".to_owned(), to)];
    let mut live = Live::default();
    let mut target = Target {
        made: true,
        enabled: true,
        attributes: TARGET_ATTRIBUTES.iter().map(|(_, value)| Some((*value).to_owned())).collect(),
        port: Some("8900".to_owned()),
        portals: wanted.portals.iter().map(ToString::to_string).collect(),
        ..Target::default()
    };
    for unit in &wanted.units {
        let store = Store {
            kind: "iblock".to_owned(),
            made: true,
            enabled: true,
            shown: unit.backing.shown(),
            serial: unit.serial.clone(),
            size: None,
            unmap: "1".to_owned(),
            write_cache: "0".to_owned(),
        };
        live.stores.insert(unit.volume, store);
        let folder = live::store_folders("iblock", unit.volume).0;
        target.luns.insert(format!("lun_{}", unit.volume), link(folder));
    }
    for initiator in &wanted.initiators {
        let mut acl = Acl { authentication: "0".to_owned(), ..Acl::default() };
        if let Access::Chap(chap) = &initiator.access {
            acl.authentication = "1".to_owned();
            acl.auth[0] = Hidden(chap.user.as_str().to_owned());
            acl.auth[1] = Hidden(chap.secret.expose().to_owned());
        }
        for (lun, volume) in &initiator.luns {
            acl.luns.insert(format!("lun_{lun}"), link(format!("{GROUP}/lun/lun_{volume}")));
        }
        target.acls.insert(initiator.iqn.to_string(), acl);
    }
    live.targets.insert(wanted.iqn.clone(), target);
    live
}

fn all_there(target: &ScsiTarget) -> Backings {
    let present: BTreeMap<_, _> = target.units.iter().map(|unit| (unit.volume, None)).collect();
    Backings { present, ..Backings::default() }
}

fn steps(wanted: Option<&ScsiTarget>, live: &Live) -> Vec<String> {
    let backings = wanted.map(all_there).unwrap_or_default();
    plan(wanted, live, &backings, &Saved::default()).iter().map(line).collect()
}

fn line(step: &Step) -> String {
    let path = step.path.replace(ACL, "ACL").replace(GROUP, "GROUP");
    match &step.action {
        Action::Make => format!("mkdir {path}"),
        Action::Remove => format!("rmdir {path}"),
        Action::Write(value) | Action::TryWrite(value) => format!("{path} = {value}"),
        Action::Hide(_) => format!("{path} = ..."),
        Action::Link(to) => format!("{path} -> {}", to.replace(GROUP, "GROUP")),
        Action::Unlink | Action::Forget => format!("rm {path}"),
    }
}

#[test]
fn from_nothing_all_is_made_and_opened_last() {
    let steps = steps(Some(&wanted(&[(0, 7)], Access::Open)), &Live::default());
    assert_eq!(
        steps,
        [
            "mkdir core/iblock_89000007",
            "mkdir core/iblock_89000007/vsnap-volume7",
            "core/iblock_89000007/vsnap-volume7/control = udev_path=/dev/zvol/vpool1/lun7",
            "core/iblock_89000007/vsnap-volume7/udev_path = /dev/zvol/vpool1/lun7",
            "core/iblock_89000007/vsnap-volume7/wwn/vendor_id = VSNAP",
            "core/iblock_89000007/vsnap-volume7/wwn/product_id = LUN",
            "core/iblock_89000007/vsnap-volume7/wwn/vpd_unit_serial = serial-7",
            "core/iblock_89000007/vsnap-volume7/enable = 1",
            "core/iblock_89000007/vsnap-volume7/attrib/emulate_tpu = 1",
            "mkdir iscsi/iqn.2017-08.x:y",
            "mkdir GROUP",
            "GROUP/attrib/generate_node_acls = 0",
            "GROUP/attrib/demo_mode_discovery = 0",
            "GROUP/attrib/tpg_enabled_sendtargets = 0",
            "GROUP/attrib/cache_dynamic_acls = 0",
            "GROUP/attrib/authentication = 1",
            "GROUP/param/TargetAlias = vSnap",
            "GROUP/rtpi = 8900",
            "mkdir GROUP/lun/lun_7",
            "GROUP/lun/lun_7/vsnap -> core/iblock_89000007/vsnap-volume7",
            "mkdir ACL",
            "ACL/attrib/authentication = 0",
            "mkdir ACL/lun_0",
            "ACL/lun_0/vsnap -> GROUP/lun/lun_7",
            "mkdir GROUP/np/[::]:3260",
            "GROUP/enable = 1",
        ]
    );
}

#[test]
fn what_is_as_wanted_needs_nothing() {
    for access in [Access::Open, chap("secret-number-1")] {
        let wanted = wanted(&[(0, 7), (5, 8)], access);
        assert_eq!(steps(Some(&wanted), &live_of(&wanted)), Vec::<String>::new());
    }
    assert_eq!(steps(None, &Live::default()), Vec::<String>::new());
}

#[test]
fn one_mapping_comes_and_goes_beside_others() {
    let (one, two) = (wanted(&[(0, 7)], Access::Open), wanted(&[(0, 7), (1, 8)], Access::Open));
    let coming = steps(Some(&two), &live_of(&one));
    assert!(coming.iter().all(|step| !step.contains('7')), "the one that is there is left alone: {coming:?}");
    assert_eq!(coming.last().unwrap(), "ACL/lun_1/vsnap -> GROUP/lun/lun_8");
    assert_eq!(
        steps(Some(&one), &live_of(&two)),
        [
            "rm ACL/lun_1/vsnap",
            "rmdir ACL/lun_1",
            "rm GROUP/lun/lun_8/vsnap",
            "rmdir GROUP/lun/lun_8",
            "rmdir core/iblock_89000008/vsnap-volume8",
            "rmdir core/iblock_89000008",
        ]
    );
}

#[test]
fn a_target_goes_from_the_outside_in() {
    let live = live_of(&wanted(&[(0, 7)], Access::Open));
    assert_eq!(
        steps(None, &live),
        [
            "rm ACL/lun_0/vsnap",
            "rmdir ACL/lun_0",
            "rmdir ACL",
            "rm GROUP/lun/lun_7/vsnap",
            "rmdir GROUP/lun/lun_7",
            "rmdir GROUP/np/[::]:3260",
            "rmdir GROUP",
            "rmdir iscsi/iqn.2017-08.x:y",
            "rmdir core/iblock_89000007/vsnap-volume7",
            "rmdir core/iblock_89000007",
        ]
    );
}

#[test]
fn secrets_come_before_what_they_protect() {
    let (open, closed) = (wanted(&[(0, 7)], Access::Open), wanted(&[(0, 7)], chap("secret-number-1")));
    let auth = [
        "ACL/auth/userid = ...",
        "ACL/auth/password = ...",
        "ACL/auth/userid_mutual = ...",
        "ACL/auth/password_mutual = ...",
    ];
    let begins_anew = [
        &["rm ACL/lun_0/vsnap", "rmdir ACL/lun_0", "rmdir ACL", "mkdir ACL"][..],
        &auth,
        &["ACL/attrib/authentication = 1", "mkdir ACL/lun_0", "ACL/lun_0/vsnap -> GROUP/lun/lun_7"],
    ]
    .concat();
    assert_eq!(steps(Some(&closed), &live_of(&open)), begins_anew, "whoever is logged in without has to begin anew");
    let other = wanted(&[(0, 7)], chap("secret-number-2"));
    assert_eq!(steps(Some(&other), &live_of(&closed)), auth, "a new secret disturbs no session");
    // The secrets are lost.
    let lost = steps(Some(&wanted(&[(0, 7)], Access::Closed)), &live_of(&open));
    assert!(lost.contains(&"rmdir ACL".to_owned()) && lost.contains(&"ACL/attrib/authentication = 1".to_owned()));
}

#[test]
fn what_was_changed_by_hand_is_put_right() {
    let wanted = wanted(&[(0, 7)], Access::Open);
    let mut live = live_of(&wanted);
    let target = live.targets.get_mut(IQN).unwrap();
    target.luns.insert("lun_9".to_owned(), vec![("x".to_owned(), "core/rd_mcp_0/theirs".to_owned())]);
    target.acls.insert("iqn.2001-04.com.example:intruder".to_owned(), Acl::default());
    target.attributes[0] = Some("1".to_owned());
    target.enabled = false;
    let intruder = "rmdir GROUP/acls/iqn.2001-04.com.example:intruder";
    assert_eq!(
        steps(Some(&wanted), &live),
        [
            intruder,
            "rm GROUP/lun/lun_9/x",
            "rmdir GROUP/lun/lun_9",
            "GROUP/attrib/generate_node_acls = 0",
            "GROUP/enable = 1"
        ]
    );
    // A backstore that leads elsewhere is made anew, with all that leads to it.
    let mut live = live_of(&wanted);
    live.stores.get_mut(&VolumeId(7)).unwrap().serial = "another".to_owned();
    let steps = steps(Some(&wanted), &live);
    assert_eq!(&steps[..2], ["rm ACL/lun_0/vsnap", "rmdir ACL/lun_0"]);
    assert_eq!(steps.last().unwrap(), "ACL/lun_0/vsnap -> GROUP/lun/lun_7");
}

#[test]
fn what_is_not_here_is_left_out_and_what_is_live_stays() {
    let wanted = wanted(&[(0, 7), (1, 8)], Access::Open);
    let mut backings = all_there(&wanted);
    backings.present.remove(&VolumeId(8));
    let made = plan(Some(&wanted), &Live::default(), &backings, &Saved::default());
    assert!(made.iter().all(|step| step.scope != Scope::Unit(VolumeId(8))));
    // A pool that is suspended: its devices may not answer, and must not be touched.
    assert_eq!(plan(Some(&wanted), &live_of(&wanted), &Backings::default(), &Saved::default()), []);
}

#[test]
fn of_a_target_that_was_read_in_part_the_rest_is_left_alone() {
    let wanted = wanted(&[(0, 7)], Access::Open);
    let mut live = live_of(&wanted);
    let target = live.targets.get_mut(IQN).unwrap();
    *target = Target { partial: true, attributes: Vec::new(), portals: Vec::new(), port: None, ..target.clone() };
    assert_eq!(steps(Some(&wanted), &live), [""; 0]);
    let target = live.targets.get_mut(IQN).unwrap();
    target.acls.clear();
    assert!(steps(Some(&wanted), &live).iter().all(|step| step.contains("ACL")));
}

#[test]
fn reservations_are_told_before_anyone_can_see_the_unit() {
    let wanted = wanted(&[(0, 7)], Access::Open);
    let registrations = [(VolumeId(7), vec!["initiator_node=a".to_owned()])].into();
    let saved = Saved { folders: vec!["/var/target/pr".to_owned()], registrations };
    let made: Vec<String> =
        plan(Some(&wanted), &Live::default(), &all_there(&wanted), &saved).iter().map(line).collect();
    let at = |text: &str| made.iter().position(|step| step.contains(text)).unwrap();
    assert!(at("res_aptpl_metadata = initiator_node=a") > at("enable = 1"));
    assert!(at("res_aptpl_metadata") < at("mkdir GROUP/lun/lun_7"));
    let gone: Vec<String> = plan(None, &live_of(&wanted), &Backings::default(), &saved).iter().map(line).collect();
    assert_eq!(gone.last().unwrap(), "rm /var/target/pr/aptpl_serial-7", "they end with the last mapping");
}

#[test]
fn portals_follow_addresses_and_those_that_stay_are_not_touched() {
    let at = |portals: &[&str]| {
        let portals = portals.iter().map(|portal| portal.parse().unwrap()).collect();
        ScsiTarget { portals, ..wanted(&[(0, 7)], Access::Open) }
    };
    let live = live_of(&at(&["10.0.0.1:3260", "10.0.0.2:3260"]));
    let moved = steps(Some(&at(&["10.0.0.2:3260", "[fd78::1]:3260"])), &live);
    assert_eq!(moved, ["rmdir GROUP/np/10.0.0.1:3260", "mkdir GROUP/np/[fd78::1]:3260"]);
    // One for all addresses can't be beside one for a single one, so it goes before that comes.
    let narrowed = steps(Some(&at(&["10.0.0.2:3260"])), &live_of(&at(&["[::]:3260"])));
    assert_eq!(narrowed, ["rmdir GROUP/np/[::]:3260", "mkdir GROUP/np/10.0.0.2:3260"]);
    assert_eq!(steps(Some(&at(&[])), &live).len(), 2, "no interface offers it");
}

#[test]
fn portals_give_way_to_those_of_others() {
    let possible = |portals: &[&str], others: &[&str]| {
        let read = |portals: &[&str]| portals.iter().map(|portal| portal.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let target = ScsiTarget { portals: read(portals), ..wanted(&[], Access::Open) };
        let here = || Ok(vec!["10.0.0.1".parse().unwrap(), "fd78::1".parse().unwrap()]);
        let found = with_portals(&target, &read(others).into_iter().collect(), &here).unwrap().portals;
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let addresses = ["10.0.0.1:3260", "10.0.0.2:3260", "[fd78::1]:3260"];
    assert_eq!(possible(&addresses, &["10.0.0.1:3260", "0.0.0.0:860"]), addresses, "one address can be shared");
    assert_eq!(possible(&addresses, &["0.0.0.0:3260"]), ["0.0.0.0:3260", "[fd78::1]:3260"]);
    assert_eq!(possible(&addresses, &["[::]:3260"]), ["[::]:3260"]);
    assert_eq!(possible(&["[::]:3260"], &["0.0.0.0:3260"]), ["0.0.0.0:3260"]);
    assert_eq!(possible(&["[::]:3260"], &["10.0.0.1:3260"]), ["10.0.0.1:3260", "[fd78::1]:3260"]);
    assert_eq!(possible(&["[::]:3260"], &["10.0.0.1:3261", "[::]:3260"]), ["[::]:3260"]);
}
