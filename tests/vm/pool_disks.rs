//! Contract sections 7.4.2 to 7.4.5: expansion, log, cache and spare disks.

use serde_json::json;

use crate::bed::Bed;

fn paths(uuids: &[String]) -> Vec<String> {
    uuids.iter().map(|uuid| format!("/dev/disk/by-id/scsi-{uuid}")).collect()
}

#[test]
fn a_pool_grows_by_whole_groups() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(7);
    let id = bed.create_pool("grows", "raid5", &disks[..3]);
    let before: u64 = bed.pool(&id)["size_total"].as_str().unwrap().parse().unwrap();
    bed.shell(&format!("dd if=/dev/urandom of=/vsnap/vpool{id}/data bs=1M count=5 status=none && sha256sum /vsnap/vpool{id}/data > /tmp/sum"));
    bed.act(&id, json!({"action": "expand", "disk_list": disks[3..5]})).fails(400, "InvalidParameterError");
    let pool = bed.act(&id, json!({"action": "expand", "disk_list": disks[3..]})).ok();
    assert_eq!(pool["disks"]["raid5_group2"], json!(paths(&disks[3..])));
    assert!(pool["size_total"].as_str().unwrap().parse::<u64>().unwrap() > before * 2);
    bed.shell("sha256sum -c /tmp/sum");
    bed.check_truth();
}

#[test]
fn logs_are_mirrored_and_can_be_removed() {
    let bed = Bed::fresh();
    let unused = bed.unused();
    let disks = bed.equal_disks(6);
    let id = bed.create_pool("log", "raid6", &disks[..4]);
    let pool = bed.act(&id, json!({"action": "addlog", "disk_list": disks[4..]})).ok();
    assert_eq!(pool["disks"]["log"], json!(paths(&disks[4..])));
    let status = bed.shell(&format!("zpool status -P vpool{id}"));
    assert!(status.contains("logs") && status.contains("mirror-1"), "{status}");
    bed.check_truth();
    let pool = bed.act(&id, json!({"action": "removelog"})).ok();
    assert!(pool["disks"].get("log").is_none());
    bed.check_truth();
    bed.act(&id, json!({"action": "removelog"})).fails(409, "InvalidStateError");
    bed.delete(&format!("/api/pool/{id}")).ok();
    assert_eq!(bed.unused(), unused);
}

#[test]
fn cache_and_spares_come_and_go() {
    let bed = Bed::fresh();
    let unused = bed.unused();
    let disks = bed.equal_disks(7);
    let id = bed.create_pool("cache", "raid5", &disks[..3]);
    let pool = bed.act(&id, json!({"action": "addcache", "disk": disks[3]})).ok();
    assert_eq!(pool["disks"]["cache"], json!(paths(&disks[3..4])));
    let pool = bed.act(&id, json!({"action": "addspare", "disk_list": disks[4..6]})).ok();
    assert_eq!(pool["disks"]["spare"], json!(paths(&disks[4..6])));
    bed.check_truth();
    // With or without the leading 3.
    let pool = bed.act(&id, json!({"action": "removespare", "disk_list": [disks[4].trim_start_matches('3')]})).ok();
    assert_eq!(pool["disks"]["spare"], json!(paths(&disks[5..6])));
    assert!(bed.unused().contains(&disks[4]), "the removed spare is unused again");
    bed.act(&id, json!({"action": "removespare", "disk_list": [disks[6]]})).fails(400, "InvalidParameterError");
    let pool = bed.act(&id, json!({"action": "removecache"})).ok();
    assert!(pool["disks"].get("cache").is_none());
    assert!(bed.unused().contains(&disks[3]), "the removed cache disk is unused again");
    bed.check_truth();
    bed.delete(&format!("/api/pool/{id}")).ok();
    assert_eq!(bed.unused(), unused);
}
