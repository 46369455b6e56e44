//! The first bad day: disks that fail, are pulled and come back; scrubs; reboots.

use serde_json::{Value, json};

use crate::{bed::Bed, wait::wait_until};

fn status(bed: &Bed, id: &str) -> Value {
    bed.get(&format!("/api/pool/{id}/status")).ok()
}

/// The top-level vdevs with this role.
fn vdevs(bed: &Bed, id: &str, role: &str) -> Vec<Value> {
    let status = status(bed, id);
    status["vdevs"].as_array().unwrap().iter().filter(|vdev| vdev["role"] == role).cloned().collect()
}

fn resilvered(bed: &Bed, id: &str) -> bool {
    let status = status(bed, id);
    status["scan"]["function"] == "resilver" && status["scan"]["state"] == "finished"
}

pub fn write_data(bed: &Bed, id: &str) {
    bed.shell(&format!(
        "dd if=/dev/urandom of=/vsnap/vpool{id}/data bs=1M count=30 status=none && sha256sum /vsnap/vpool{id}/data > /tmp/sum && zpool sync"
    ));
}

/// Every block is read from the disks.
fn check_data(bed: &Bed, id: &str) {
    bed.shell("sha256sum -c /tmp/sum");
    // ZFS may still be rebuilding.
    wait_until("a scrub can start", 120, || match bed.act(id, json!({"action": "scrub"})) {
        answer if answer.status == 409 => answer.fails(409, "BusyError").is_empty(),
        answer => answer.ok()["id"] == *id,
    });
    wait_until("the scrub ends", 120, || status(bed, id)["scan"]["state"] == "finished");
    assert_eq!(status(bed, id)["data_errors"], "0");
    assert_eq!(status(bed, id)["scan"]["function"], "scrub");
}

#[test]
fn a_spare_stands_in_for_a_dead_disk() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(5);
    let id = bed.create_pool("spare", "raid5", &disks[..4]);
    bed.act(&id, json!({"action": "addspare", "disk_list": [disks[4]]})).ok();
    write_data(&bed, &id);
    bed.pull_disk(&disks[1]);
    wait_until("the spare stands in", 90, || {
        vdevs(&bed, &id, "spare")[0]["status"] == "INUSE" && resilvered(&bed, &id)
    });
    let pool = bed.pool(&id);
    assert_eq!((&pool["status"], &pool["health"]), (&json!("DEGRADED"), &json!("50")));
    let text = status(&bed, &id).to_string();
    assert!(text.contains("\"REMOVED\""), "{text}");
    assert_eq!(pool["disks"]["raid5_group1"].as_array().unwrap().len(), 4);
    bed.check_truth();
    check_data(&bed, &id);
    bed.act(&id, json!({"action": "removespare", "disk_list": [disks[4]]})).fails(409, "BusyError");

    bed.post("/api/disk", json!({"action": "rescan"})).ok();
    bed.act(&id, json!({"action": "online", "disk": disks[1]})).ok();
    wait_until("the pool is whole again", 90, || bed.pool(&id)["status"] == "ONLINE");
    wait_until("the spare waits again", 90, || vdevs(&bed, &id, "spare")[0]["status"] == "AVAIL");
    bed.check_truth();
    check_data(&bed, &id);
}

#[test]
fn a_disk_is_taken_offline_and_replaced() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(6);
    let id = bed.create_pool("replace", "raid6", &disks[..5]);
    write_data(&bed, &id);
    let pool = bed.act(&id, json!({"action": "offline", "disk": disks[0]})).ok();
    assert_eq!(pool["status"], "DEGRADED");
    bed.check_truth();
    bed.act(&id, json!({"action": "replace", "old_disk": disks[0], "new_disk": disks[0]}))
        .fails(400, "InvalidCandidateError");
    bed.act(&id, json!({"action": "replace", "old_disk": disks[0], "new_disk": disks[5]})).ok();
    wait_until("the new disk is rebuilt", 120, || bed.pool(&id)["status"] == "ONLINE");
    let group = bed.pool(&id)["disks"]["raid6_group1"].to_string();
    assert!(group.contains(&disks[5]) && !group.contains(&disks[0]), "{group}");
    bed.check_truth();
    check_data(&bed, &id);
}

#[test]
fn a_disk_that_was_pulled_is_shown_and_replaced() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(5);
    let (pulled, new) = (&disks[1], &disks[4]);
    let id = bed.create_pool("pulled", "raid5", &disks[..4]);
    write_data(&bed, &id);
    bed.pull_disk(pulled);
    let path = format!("/dev/disk/by-id/scsi-{pulled}");
    wait_until("the disk is missed", 90, || {
        let group = vdevs(&bed, &id, "data").remove(0);
        group["children"][1]["path"] == path.as_str() && group["children"][1]["status"] == "REMOVED"
    });
    let list = bed.get("/api/pool").ok();
    assert_eq!((&list["total"], &list["pools"][0]["status"]), (&json!(1), &json!("DEGRADED")));
    assert_eq!(bed.pool(&id)["disks"]["raid5_group1"][1], path.as_str(), "it keeps its place");
    assert!(bed.get("/api/disk").ok()["disks"].as_array().unwrap().iter().all(|disk| disk["uuid"] != pulled.as_str()));
    bed.check_truth();
    bed.shell("sha256sum -c /tmp/sum");

    bed.act(&id, json!({"action": "replace", "old_disk": pulled, "new_disk": new})).ok();
    wait_until("the new disk is rebuilt", 120, || bed.pool(&id)["status"] == "ONLINE");
    let group = bed.pool(&id)["disks"]["raid5_group1"].clone();
    assert_eq!(group[1], format!("/dev/disk/by-id/scsi-{new}"), "{group}");
    assert_eq!(group.as_array().unwrap().len(), 4);
    check_data(&bed, &id);
    // It comes back, and nobody takes it: what is on it might be wanted.
    bed.post("/api/disk", json!({"action": "rescan"})).ok();
    assert!(!bed.unused().contains(pulled));
    assert!(!bed.pool(&id)["disks"].to_string().contains(pulled.as_str()));
    bed.check_truth();
    bed.wipe(pulled);
}

#[test]
fn errors_are_counted_and_cleared() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(3);
    let id = bed.create_pool("errors", "raid5", &disks);
    write_data(&bed, &id);
    let part = bed.shell(&format!("readlink -f /dev/disk/by-id/scsi-{}-part1", disks[2]));
    // Damage behind ZFS's back, past the labels at the front.
    bed.zpool("export", &format!("vpool{id}"));
    bed.shell(&format!("dd if=/dev/urandom of={part} bs=1M seek=20 count=200 conv=notrunc status=none"));
    assert_eq!(bed.pool(&id)["status"], "UNAVAIL", "an exported pool is said to be gone");
    assert_eq!(bed.pool(&id)["health"], "0");
    bed.shell("systemctl restart vsnapd");
    bed.wait_for_api();
    bed.act(&id, json!({"action": "scrub"})).ok();
    wait_until("the scrub ends", 120, || status(&bed, &id)["scan"]["state"] == "finished");
    let path = format!("/dev/disk/by-id/scsi-{}", disks[2]);
    let leaf = |bed: &Bed| {
        let group = vdevs(bed, &id, "data").remove(0);
        group["children"].as_array().unwrap().iter().find(|leaf| leaf["path"] == path.as_str()).unwrap().clone()
    };
    assert_ne!(leaf(&bed)["checksum_errors"], "0", "{}", status(&bed, &id));
    bed.check_truth();
    bed.shell("sha256sum -c /tmp/sum");
    bed.act(&id, json!({"action": "clear"})).ok();
    assert_eq!(leaf(&bed)["checksum_errors"], "0");
    check_data(&bed, &id);
}

#[test]
fn a_scrub_is_followed_and_stopped() {
    let bed = Bed::fresh();
    let id = bed.create_pool("scrub", "raid0", &bed.equal_disks(1));
    assert!(status(&bed, &id)["scan"].is_null());
    bed.act(&id, json!({"action": "scrubstop"})).fails(409, "InvalidStateError");
    write_data(&bed, &id);
    // Held up, so that it can be watched.
    let _held = bed.zfs_parameter("zfs_scan_suspend_progress", 1);
    bed.act(&id, json!({"action": "scrub"})).ok();
    let scan = status(&bed, &id)["scan"].clone();
    assert_eq!((&scan["function"], &scan["state"]), (&json!("scrub"), &json!("scanning")));
    assert!(scan["percent"].as_str().unwrap().parse::<u8>().unwrap() < 100);
    bed.act(&id, json!({"action": "scrub"})).fails(409, "BusyError");
    bed.act(&id, json!({"action": "scrubstop"})).ok();
    assert_eq!(status(&bed, &id)["scan"]["state"], "canceled");
}

#[test]
fn a_suspended_pool_is_shown_and_comes_back() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(2);
    let id = bed.create_pool("suspended", "raid0", &disks);
    write_data(&bed, &id);
    bed.pull_disk(&disks[1]);
    bed.shell(&format!("(timeout 20 dd if=/dev/urandom of=/vsnap/vpool{id}/more bs=1M count=50 conv=fsync status=none >/dev/null 2>&1 &) ; sleep 1"));
    wait_until("the pool is suspended", 60, || bed.pool(&id)["status"] == "SUSPENDED");
    let pool = bed.pool(&id);
    assert_eq!(pool["health"], "0");
    assert_eq!(bed.get("/api/pool").ok()["total"], 1);
    assert_eq!(status(&bed, &id)["status"], "SUSPENDED");
    bed.act(&id, json!({"action": "scrub"})).fails(409, "InvalidStateError");
    bed.delete(&format!("/api/pool/{id}")).fails(409, "InvalidStateError");
    bed.delete(&format!("/api/pool/{id}?force=true")).fails(409, "InvalidStateError");

    bed.post("/api/disk", json!({"action": "rescan"})).ok();
    bed.act(&id, json!({"action": "clear"})).ok();
    wait_until("the pool works again", 60, || bed.pool(&id)["status"] == "ONLINE");
    bed.shell("sha256sum -c /tmp/sum");
}
