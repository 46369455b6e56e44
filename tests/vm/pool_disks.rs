//! Contract sections 7.4.2 to 7.4.5: expansion, log, cache and spare disks.

use serde_json::{Value, json};

use crate::{bed::Bed, wait::wait_until};

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
}

/// Expansion of a group by one disk, which only an administrator at the console can begin.
#[test]
fn a_pool_that_is_expanding_is_listed() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(4);
    let id = bed.create_pool("expanding", "raid5", &disks[..3]);
    bed.shell(&format!(
        "dd if=/dev/urandom of=/vsnap/vpool{id}/data bs=1M count=40 status=none && sha256sum /vsnap/vpool{id}/data > /tmp/sum && zpool sync"
    ));
    let before = bed.pool(&id);
    let held = bed.zfs_parameter("raidz_expand_max_reflow_bytes", 4 << 20);
    bed.shell(&format!("zpool attach vpool{id} raidz1-0 /dev/disk/by-id/scsi-{}", disks[3]));
    let expansion = |bed: &Bed| {
        let real = bed.shell_json("zpool status -j -P --json-int");
        real["pools"][format!("vpool{id}")]["raidz_expand_stats"]["state"].as_str().map(str::to_owned)
    };
    assert_eq!(expansion(&bed).as_deref(), Some("SCANNING"));
    bed.check_truth();
    let list = bed.get("/api/pool").ok();
    assert_eq!((&list["total"], &list["pools"][0]["status"]), (&json!(1), &json!("ONLINE")));
    let pool = bed.pool(&id);
    assert_eq!(pool["disks"]["raid5_group1"], json!(paths(&disks)));
    assert_eq!((&pool["name"], &pool["diskgroup_size"]), (&json!("expanding"), &json!("4")));
    assert_eq!(bed.get("/api/pool?name=expanding").ok()["id"], id.as_str());
    let scan = bed.get(&format!("/api/pool/{id}/status")).ok()["scan"].clone();
    assert_eq!((&scan["function"], &scan["state"]), (&json!("expansion"), &json!("scanning")));
    assert!(scan["percent"].as_str().unwrap().parse::<u8>().unwrap() < 100, "{scan}");
    assert_eq!(expansion(&bed).as_deref(), Some("SCANNING"), "it went on all the time");

    drop(held);
    wait_until("the expansion ends", 120, || expansion(&bed).as_deref() == Some("FINISHED"));
    bed.check_truth();
    let size = |pool: &Value| pool["size_total"].as_str().unwrap().parse::<u64>().unwrap();
    wait_until("the pool is larger", 30, || size(&bed.pool(&id)) > size(&before));
    bed.shell("sha256sum -c /tmp/sum");
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
