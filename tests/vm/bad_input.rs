//! Bad input answers 4xx with the reason and changes nothing.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{bed::Bed, wait::wait_until};

/// What a refused request could have changed.
type Everything = (Value, Vec<String>, String);

/// Everything, once udev has caught up with what was done before.
fn everything(bed: &Bed) -> Everything {
    let mut now = read_everything(bed);
    wait_until("udev has come to rest", 60, || {
        let before = std::mem::replace(&mut now, read_everything(bed));
        before == now
    });
    now
}

/// What a request changes by mistake stays changed, but udev may look at a disk at any time.
#[track_caller]
fn check_unchanged(bed: &Bed, before: &Everything, what: &str) {
    let mut now = read_everything(bed);
    for _ in 0..5 {
        if now != *before {
            thread::sleep(Duration::from_secs(1));
            now = read_everything(bed);
        }
    }
    assert_eq!(now, *before, "{what}");
}

fn read_everything(bed: &Bed) -> Everything {
    let mut pools = bed.get("/api/pool").ok();
    // ZFS writes a little by itself.
    for pool in pools["pools"].as_array_mut().unwrap() {
        for size in ["size_total", "size_free", "size_used", "size_before_compression", "size_before_deduplication"] {
            pool[size].take();
        }
    }
    (pools, bed.unused(), bed.shell("lsblk -n -o NAME,FSTYPE,PARTTYPE,MOUNTPOINT | sort"))
}

#[test]
fn disks_that_cannot_be_used() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(6);
    let names: Vec<String> = disks.iter().map(|uuid| bed.kernel_name(uuid)).collect();
    bed.shell(&format!("mkfs.ext4 -q /dev/{0} && mkdir -p /mnt/t && mount /dev/{0} /mnt/t", names[0]));
    bed.shell(&format!(
        "zpool create -f stranger /dev/{} && echo ',,L' | sfdisk -q /dev/{} && udevadm settle",
        names[1], names[2]
    ));
    let before = everything(&bed);
    let system = bed.shell(
        "lsblk -n -d -o NAME -e 11 | while read d; do lsblk -n -o MOUNTPOINT /dev/$d | grep -qx / && echo $d; done",
    );
    let all = bed.get("/api/disk").ok();
    let uuid_of = |name: &str| {
        let mut disks = all["disks"].as_array().unwrap().iter();
        disks.find(|disk| disk["name"] == format!("/dev/{name}")).map(|disk| disk["uuid"].as_str().unwrap().to_owned())
    };
    let mut bad = vec!["36000c29000000000000000000000dead".to_owned()];
    bad.extend(disks[..3].iter().cloned());
    bad.extend(uuid_of(&system));
    for uuid in &bad {
        let list = json!([disks[3], uuid]);
        let body = json!({"name": "bad", "pool_type": "raid0", "disk_list": list});
        let message = bed.post("/api/pool", body).fails(400, "InvalidCandidateError");
        assert_eq!(message, format!("Disk UUID {uuid} is not a valid candidate for a pool"));
        check_unchanged(&bed, &before, uuid);
    }
    bed.shell("umount /mnt/t");
    bed.zpool("destroy", "stranger");
    disks[..3].iter().for_each(|disk| bed.wipe(disk));
}

#[test]
fn requests_that_make_no_sense() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(4);
    let before = everything(&bed);
    let with = |member: &str, value: Value| {
        let mut body = json!({"name": "bad", "pool_type": "raid0", "disk_list": [disks[0]]});
        body[member] = value;
        body
    };
    for (member, value) in [
        ("disk_list", json!([disks[0], disks[0]])),
        ("disk_list", json!([disks[0], disks[0].trim_start_matches('3')])),
        ("disk_list", json!("sda")),
        ("disk_list", json!([7.5])),
        ("disk_list", json!(["../../sda"])),
        ("name", json!("")),
        ("name", json!("n".repeat(257))),
        ("name", json!("a\nb")),
        ("name", json!("a\u{0}b")),
        ("name", json!(" a")),
        ("name", json!(7)),
        ("name", Value::Null),
        ("pool_type", json!("raid7")),
        ("pool_type", Value::Null),
        ("compression", json!("perhaps")),
        ("syncwrite", json!(2)),
    ] {
        let message = bed.post("/api/pool", with(member, value.clone())).fails(400, "InvalidParameterError");
        assert!(message.contains(member), "{member} = {value}: {message}");
    }
    for (kind, count) in [("raid5", 2), ("raid6", 3)] {
        let body = json!({"name": "bad", "pool_type": kind, "disk_list": disks[..count]});
        assert!(bed.post("/api/pool", body).fails(400, "InvalidParameterError").contains("disk_list"));
    }
    for body in ["{", "[]", "\"x\"", "{\"name\": }", "\u{0}"] {
        let (user, password) = bed.credentials();
        let request = bed.client().post(bed.url("/api/pool")).basic_auth(user, Some(password)).body(body);
        bed.send(request).fails(400, "InvalidParameterError");
    }
    let (user, password) = bed.credentials();
    let huge = bed.client().post(bed.url("/api/pool")).basic_auth(user, Some(password)).body(vec![b' '; 2 << 20]);
    bed.send(huge).fails(413, "BodyTooLargeError");
    let patch = bed.client().patch(bed.url("/api/pool")).basic_auth(user, Some(password));
    let answer = bed.send(patch);
    assert!(answer.headers.contains_key("allow"));
    answer.fails(405, "MethodNotAllowedError");
    check_unchanged(&bed, &before, "after all of them");
}

#[test]
fn shell_characters_are_just_text() {
    let bed = Bed::fresh();
    let name = "$(touch /tmp/owned); `id` | '\"&& rm -rf / #";
    let id = bed.create_pool(name, "raid0", &bed.equal_disks(1));
    assert_eq!(bed.pool(&id)["name"], name);
    bed.shell("test ! -e /tmp/owned");
}

#[test]
fn changes_of_a_pool_that_make_no_sense() {
    let bed = Bed::fresh();
    let disks = bed.unused();
    let (small, equal) = (disks[0].clone(), bed.equal_disks(7));
    let id = bed.create_pool("changes", "raid6", &equal[..4]);
    let before = everything(&bed);
    for (action, status, kind) in [
        (json!({"action": "expand", "disk_list": [equal[4]]}), 400, "InvalidParameterError"),
        (json!({"action": "addspare", "disk_list": [small]}), 400, "InvalidCandidateError"),
        (json!({"action": "addspare", "disk_list": [equal[0]]}), 400, "InvalidCandidateError"),
        (json!({"action": "addspare", "disk_list": []}), 400, "InvalidParameterError"),
        (json!({"action": "removespare", "disk_list": [equal[0]]}), 400, "InvalidParameterError"),
        (json!({"action": "removespare", "disk_list": [equal[5]]}), 400, "InvalidParameterError"),
        (json!({"action": "addlog"}), 400, "InvalidParameterError"),
        (json!({"action": "addcache"}), 400, "InvalidParameterError"),
        (json!({"action": "explode"}), 400, "InvalidParameterError"),
        (json!({}), 400, "InvalidParameterError"),
        (json!({"action": "replace", "old_disk": equal[0]}), 400, "InvalidParameterError"),
        (json!({"action": "replace", "old_disk": equal[5], "new_disk": equal[4]}), 404, "NotFoundError"),
        (json!({"action": "replace", "old_disk": equal[0], "new_disk": equal[1]}), 400, "InvalidCandidateError"),
        (json!({"action": "offline", "disk": equal[6]}), 404, "NotFoundError"),
    ] {
        bed.act(&id, action.clone()).fails(status, kind);
        check_unchanged(&bed, &before, &action.to_string());
    }
    bed.act("99999", json!({"action": "scrub"})).fails(404, "NotFoundError");
    bed.delete("/api/pool/0").fails(404, "NotFoundError");
    bed.delete("/api/pool/x").fails(404, "NotFoundError");
    // What is meant as an option and is none: a DELETE does not guess.
    let path = format!("/api/pool/{id}");
    let message = bed.delete(&format!("{path}?forced=true")).fails(400, "InvalidParameterError");
    assert!(message.contains("forced"), "{message}");
    let (user, password) = bed.credentials();
    let request = bed.client().delete(bed.url(&path)).basic_auth(user, Some(password)).body(r#"{"force": true}"#);
    let message = bed.send(request).fails(400, "InvalidParameterError");
    assert!(message.contains("query"), "{message}");
    check_unchanged(&bed, &before, "after all of them");
}

#[test]
fn two_requests_that_want_the_same_disk() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(3);
    let create = |name: &str, disks: &[String]| {
        bed.post("/api/pool", json!({"name": name, "pool_type": "raid0", "disk_list": disks})).status
    };
    let mut answers = thread::scope(|scope| {
        let one = scope.spawn(|| create("one", &disks[..2]));
        let other = scope.spawn(|| create("other", &disks[1..]));
        [one.join().unwrap(), other.join().unwrap()]
    });
    answers.sort_unstable();
    assert!(answers[0] == 200 && [400, 409].contains(&answers[1]), "{answers:?}");
    assert_eq!(bed.get("/api/pool").ok()["total"], 1);
}

#[test]
fn a_disk_that_vanishes_between_check_and_create() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(4);
    let uuids = disks.clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            bed.pull_disk(&uuids[3]);
        });
        let answer = bed.post("/api/pool", json!({"name": "vanish", "pool_type": "raid6", "disk_list": disks}));
        // When the disk was pulled late, the pool is there and says that it is degraded.
        if answer.status == 200 {
            return;
        }
        assert!([400, 409, 500].contains(&answer.status), "{}", answer.body);
        assert_eq!(bed.get("/api/pool").ok()["total"], 0);
    });
    bed.post("/api/disk", json!({"action": "rescan"})).ok();
    bed.check_truth();
    bed.remove_pools();
    let unused = bed.unused();
    assert!(disks[..3].iter().all(|disk| unused.contains(disk)), "no label is left behind");
    if !unused.contains(&disks[3]) {
        // It was pulled when ZFS had written to it already, and nobody could clear it while it was away.
        bed.wipe(&disks[3]);
    }
}

#[test]
fn a_strangers_pool_of_our_name_is_not_touched() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(2);
    let id: u64 = bed.create_pool("probe", "raid0", &disks[..1]).parse().unwrap();
    bed.delete(&format!("/api/pool/{id}")).ok();
    let next = id + 1;
    bed.shell(&format!(
        "zpool create -f vpool{next} /dev/disk/by-id/scsi-{} && echo mine > /vpool{next}/file",
        disks[1]
    ));
    let answer = bed.post("/api/pool", json!({"name": "mine", "pool_type": "raid0", "disk_list": [disks[0]]}));
    assert!(answer.status >= 400, "{}", answer.body);
    assert_eq!(bed.get("/api/pool").ok()["total"], 0);
    bed.shell(&format!("grep -q mine /vpool{next}/file"));
    bed.zpool("destroy", &format!("vpool{next}"));
    bed.wipe(&disks[1]);
    bed.create_pool("mine", "raid0", &disks[..1]);
}
