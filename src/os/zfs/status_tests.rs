//! Tests of `status.rs` on what OpenZFS 2.3.9 printed.

use rstest::rstest;

use super::*;
use crate::types::pool::VdevRole;

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/zfs/status-", $name, ".json"))
    };
}

fn one(json: &str) -> PoolStatus {
    let pools = pools("zpool status", json).unwrap();
    assert_eq!(pools.len(), 1);
    pools.into_iter().next().unwrap()
}

fn disk(number: u32) -> String {
    format!("/dev/disk/by-id/scsi-35000c5000000a{number:03}")
}

#[test]
fn every_class_of_a_healthy_pool() {
    let pool = one(sample!("online"));
    assert_eq!((pool.name.as_str(), pool.guid, pool.state), ("tank", 17_262_870_485_582_746_023, Health::Online));
    assert_eq!((pool.status.as_ref(), pool.action.as_ref(), pool.scan.as_ref()), (None, None, None));
    assert_eq!((pool.data.len(), pool.logs.len(), pool.caches.len(), pool.spares.len()), (1, 1, 1, 1));
    let raidz = &pool.data[0];
    assert_eq!((raidz.name.as_str(), raidz.kind.as_str(), raidz.path.as_ref()), ("raidz2-0", "raidz", None));
    let roles: Vec<(VdevRole, String)> =
        pool.disks().map(|(role, leaf)| (role, leaf.path.clone().unwrap_or_default())).collect();
    let mut expected: Vec<(VdevRole, String)> = (1..=5).map(|number| (VdevRole::Data, disk(number))).collect();
    expected.extend([(VdevRole::Log, disk(13)), (VdevRole::Log, disk(14))]);
    expected.extend([(VdevRole::Cache, disk(15)), (VdevRole::Spare, disk(8))]);
    assert_eq!(roles, expected);
    assert_eq!(pool.spares[0].state, Health::Avail);
    assert!(pool.has_disk(&disk(15)) && !pool.has_disk(&disk(9)));
}

#[test]
fn a_spare_that_stands_in() {
    let pool = one(sample!("spare-in-use"));
    assert_eq!(pool.state, Health::Degraded);
    let spare = &pool.data[0].children[2];
    assert_eq!((spare.name.as_str(), spare.kind.as_str()), ("spare-2", "spare"));
    let states: Vec<_> = spare.children.iter().map(|leaf| (leaf.name.clone(), leaf.state)).collect();
    assert_eq!(states, [(disk(3), Health::Removed), (disk(8), Health::Online)]);
    assert_eq!((pool.spares[0].state, pool.spares[0].note.as_deref()), (Health::Inuse, Some("currently in use")));
    let scan = pool.scan.unwrap();
    assert_eq!((scan.function.as_str(), scan.state.as_str(), scan.percent()), ("resilver", "finished", 100));
    assert_eq!(pool.action.unwrap().lines().count(), 1);
}

#[test]
fn a_disk_that_is_gone_keeps_its_path() {
    let pool = one(sample!("unavailable-disk"));
    let leaf = &pool.data[0].children[1];
    assert_eq!((leaf.path.clone(), leaf.name.clone(), leaf.state), (Some(disk(2)), disk(2), Health::Unavail));
    assert_eq!(leaf.guid, 17_864_702_553_017_387_019);
    assert_eq!(leaf.note, Some(format!("not present, was {}", disk(2))));
    let leaf = &one(sample!("removed")).data[0].children[2];
    assert_eq!((leaf.path.clone(), leaf.state), (Some(disk(3)), Health::Removed));
}

#[test]
fn a_disk_that_is_being_replaced() {
    let pool = one(sample!("replacing"));
    assert_eq!((pool.data[0].kind.as_str(), pool.data[0].children.len()), ("replacing", 2));
    let scan = pool.scan.unwrap();
    assert!(scan.is_running());
    // "78.9M / 801M issued, 9.86% done" a moment later
    assert_eq!((scan.percent(), scan.total_bytes, scan.ended), (8, 839_535_616 - 50_688, None));
}

#[test]
fn an_expansion_is_a_scan() {
    let scan = one(sample!("raidz-expanding")).scan.unwrap();
    assert_eq!((scan.function.as_str(), scan.total_bytes), ("expansion", 2_362_040_320));
    assert!(scan.is_running());
}

#[test]
fn special_and_dedup_vdevs_are_data() {
    let pool = one(sample!("special-dedup-offline"));
    let names: Vec<_> = pool.data.iter().map(|vdev| vdev.name.as_str()).collect();
    assert_eq!(names, ["mirror-0", "mirror-1", "mirror-2"]);
    assert_eq!(pool.data[0].children[1].state, Health::Offline);
}

#[test]
fn errors_are_counted() {
    let pool = one(sample!("data-errors"));
    assert_eq!((pool.data_errors, pool.data[0].errors.checksum), (126, 252));
    assert_eq!(pool.scan.unwrap().errors, 126);
    assert_eq!(one(sample!("checksum-errors")).data_errors, 0);
}

#[rstest]
#[case(sample!("draid"))]
#[case(sample!("initializing-trim"))]
#[case(sample!("removed-vdev-indirect"))]
#[case(sample!("removing"))]
#[case(sample!("returned"))]
#[case(sample!("scrubbing"))]
#[case(sample!("spare-resilvering"))]
fn pools_in_any_condition_are_read(#[case] json: &str) {
    assert!(one(json).disks().all(|(_, leaf)| leaf.path.as_deref().is_some_and(|path| !path.contains("-part"))));
}

#[test]
fn unknown_words_and_cut_output_are_errors() {
    let json = sample!("online");
    let refused = |from: &str, to: &str| {
        assert!(json.contains(from));
        pools("zpool status", &json.replacen(from, to, 1)).unwrap_err().to_string()
    };
    assert!(refused(r#""state":"ONLINE""#, r#""state":"NAPPING""#).contains("NAPPING"));
    assert!(refused(r#""state":"AVAIL""#, r#""state":"NAPPING""#).contains("vdev state"));
    assert!(pools("zpool status", &json[..json.len() / 2]).is_err());
    assert_eq!(pools("zpool status", r#"{"output_version":{},"pools":{}}"#).unwrap(), []);
    let scanning = sample!("scrubbing").replacen("SCANNING", "DREAMING", 1);
    assert!(pools("zpool status", &scanning).unwrap_err().to_string().contains("scan state"));
}

#[test]
fn states_are_those_of_the_table() {
    let json = sample!("unavailable-disk");
    let state = |state: &str, aux: &str| {
        let json = json.replace(r#""state":"CANT_OPEN""#, &format!(r#""state":"{state}","aux":"{aux}""#));
        one(&json).data[0].children[1].state
    };
    assert_eq!(state("CANT_OPEN", "OPEN_FAILED"), Health::Unavail);
    assert_eq!(state("CANT_OPEN", "CORRUPT_DATA"), Health::Faulted);
    assert_eq!(state("CLOSED", "NONE"), Health::Offline);
    assert_eq!(state("FAULTED", "ERR_EXCEEDED"), Health::Faulted);
}

#[rstest]
#[case("/dev/disk/by-id/scsi-35000c5000000a001-part1", "/dev/disk/by-id/scsi-35000c5000000a001")]
#[case("/dev/disk/by-id/scsi-35000c5000000a001", "/dev/disk/by-id/scsi-35000c5000000a001")]
#[case("/dev/disk/by-path/pci-0000:00:06.0-scsi-0:0:1:0-part1", "/dev/disk/by-path/pci-0000:00:06.0-scsi-0:0:1:0")]
#[case("/dev/disk/by-path/pci-0000:00:06.0-scsi-0:0:1:0", "/dev/disk/by-path/pci-0000:00:06.0-scsi-0:0:1:0")]
#[case("/dev/sdab1", "/dev/sdab")]
#[case("/dev/sdab", "/dev/sdab")]
#[case("/dev/nvme0n1p1", "/dev/nvme0n1")]
#[case("/dev/nvme0n1", "/dev/nvme0n1")]
#[case("/dev/loop0p1", "/dev/loop0")]
#[case("/dev/loop12", "/dev/loop12")]
#[case("/dev/mapper/mpath1", "/dev/mapper/mpath1")]
#[case("/var/tmp/file1", "/var/tmp/file1")]
fn partitions_are_led_back_to_disks(#[case] path: &str, #[case] disk: &str) {
    assert_eq!(whole_disk(path), disk);
}
