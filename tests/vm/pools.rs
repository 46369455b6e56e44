//! Contract section 7: create, list, details, modify, delete.

use serde_json::{Value, json};

use crate::bed::Bed;

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn fifteen_disks_in_raid6_are_groups_of_8_and_7() {
    let bed = Bed::fresh();
    let before = bed.unused();
    let disks = before[before.len() - 15..].to_vec();
    let body =
        json!({"name": "demo1", "disk_list": disks, "pool_type": "raid6", "deduplication": true, "syncwrite": false});
    let pool = bed.post("/api/pool", body).ok();
    assert_eq!(pool["diskgroup_size"], "8");
    let groups = pool["disks"].as_object().unwrap();
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["raid6_group1", "raid6_group2"]);
    assert_eq!([8, 7], ["raid6_group1", "raid6_group2"].map(|group| groups[group].as_array().unwrap().len()));
    assert_eq!(number(&pool["size_total"]), number(&pool["size_free"]) + number(&pool["size_used"]));
    assert_eq!((&pool["status"], &pool["health"]), (&json!("ONLINE"), &json!("100")));
    assert_eq!(
        (&pool["compression"], &pool["deduplication"], &pool["syncwrite"]),
        (&json!(true), &json!(true), &json!(false))
    );
    for ratio in ["compression_ratio", "deduplication_ratio"] {
        assert_eq!(pool[ratio], "1.00x");
    }
    bed.check_truth();

    let id = pool["id"].as_str().unwrap();
    let name = format!("vpool{id}");
    data_survives(&bed, &name);
    assert_eq!(bed.get(&format!("/api/pool?id={id}")).ok()["name"], "demo1");
    assert_eq!(bed.delete(&format!("/api/pool/{id}")).ok(), json!({}));
    bed.get(&format!("/api/pool/{id}")).fails(404, "NotFoundError");
    assert_eq!(bed.unused(), before, "the disks are unused again");
    for disk in &disks {
        let left = bed.try_shell(&format!("blkid -p /dev/disk/by-id/scsi-{disk}"));
        assert_eq!(left.status.code(), Some(2), "a signature was left on {disk}");
    }
    assert!(!bed.try_shell(&format!("test -e /vsnap/{name}/data")).status.success());
}

/// Real bytes, compared after the caches were dropped by an export-free remount.
fn data_survives(bed: &Bed, name: &str) {
    bed.shell(&format!(
        "dd if=/dev/urandom of=/vsnap/{name}/data bs=1M count=20 status=none && sha256sum < /vsnap/{name}/data > /tmp/sum \
         && zfs unmount {name} && zfs mount {name} && sha256sum < /vsnap/{name}/data | cmp - /tmp/sum"
    ));
}

#[test]
fn properties_are_chosen_for_backup_storage() {
    let bed = Bed::fresh();
    let id = bed.create_pool("properties", "raid0", &bed.equal_disks(2));
    let name = format!("vpool{id}");
    for (property, value) in [
        ("atime", "off"),
        // That is how OpenZFS 2.3 shows `sa`.
        ("xattr", "on"),
        ("acltype", "posix"),
        ("compression", "lz4"),
        ("dedup", "off"),
        ("sync", "standard"),
        ("mountpoint", &format!("/vsnap/{name}")),
    ] {
        assert_eq!(bed.zfs_property(&name, property), value, "{property}");
    }
    for (property, value) in [("ashift", "12"), ("autoexpand", "on"), ("autoreplace", "off"), ("cachefile", "none")] {
        assert_eq!(bed.zpool_property(&name, property), value, "{property}");
    }
    let system = bed.get("/api/system").ok()["id"].as_str().unwrap().to_owned();
    let mark = bed.shell(&format!("zfs get -H -o value -s local vsnap:id {name}"));
    assert_eq!(mark, format!("{system}/pool/{id}"));
    let memory: u64 = bed.shell("awk '/MemTotal/ {print $2 * 1024}' /proc/meminfo").parse().unwrap();
    let quota: u64 = bed.zpool_property(&name, "dedup_table_quota").parse().unwrap();
    assert!(quota > memory / 5 && quota <= memory / 4 + 1, "the dedup table is capped by memory: {quota} of {memory}");
}

#[test]
fn a_pool_is_listed_found_and_modified() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(5);
    let first = bed.create_pool("first", "raid5", &disks[..3]);
    let second = bed.create_pool("second", "raid0", &disks[3..]);
    let list = bed.get("//api///pool/").ok();
    assert_eq!(list["total"], 2);
    assert_eq!(list["pools"][0]["id"], first.as_str());
    assert_eq!(list["pools"][1]["name"], "second");
    assert_eq!(bed.get("/api/pool?name=second").ok()["id"], second.as_str());

    let change = json!({"name": "né w '$(id)'", "compression": false, "deduplication": "x"});
    bed.put(&format!("/api/pool/{first}"), change).fails(400, "InvalidParameterError");
    let change = json!({"name": "né w '$(id)'", "compression": false, "deduplication": true, "syncwrite": false});
    let pool = bed.put(&format!("/api/pool/{first}"), change).ok();
    assert_eq!((&pool["name"], &pool["compression"]), (&json!("né w '$(id)'"), &json!(false)));
    let name = format!("vpool{first}");
    for (property, value) in [("compression", "off"), ("sync", "disabled")] {
        assert_eq!(bed.zfs_property(&name, property), value);
    }
    assert_ne!(bed.zfs_property(&name, "dedup"), "off");
    bed.put(&format!("/api/pool/{first}"), json!({"name": "second"})).fails(409, "AlreadyExistsError");
    let kept = bed.put(&format!("/api/pool/{first}"), json!({"syncwrite": true})).ok();
    assert_eq!((&kept["name"], &kept["syncwrite"]), (&json!("né w '$(id)'"), &json!(true)));
    assert_eq!(bed.zfs_property(&name, "sync"), "standard");
}

#[test]
fn ids_are_never_given_twice() {
    let bed = Bed::fresh();
    let disk = bed.equal_disks(1);
    let first: u64 = bed.create_pool("a", "raid0", &disk).parse().unwrap();
    bed.delete(&format!("/api/pool/{first}")).ok();
    bed.shell("systemctl restart vsnapd");
    bed.wait_for_api();
    let second: u64 = bed.create_pool("a", "raid0", &disk).parse().unwrap();
    assert!(second > first);
}

#[test]
fn sizes_follow_what_is_written() {
    let bed = Bed::fresh();
    let body = json!({"name": "sizes", "pool_type": "raid0", "disk_list": bed.equal_disks(2), "deduplication": true});
    let id = bed.post("/api/pool", body).ok()["id"].as_str().unwrap().to_owned();
    let before = bed.pool(&id);
    // 32 MiB of random bytes, twice: the second copy is deduplicated. And 32 MiB of zeros but one byte a block.
    bed.shell(&format!(
        "cd /vsnap/vpool{id} && dd if=/dev/urandom of=a bs=1M count=32 status=none && dd if=a of=b bs=1M status=none \
         && yes vsnap | head -c 33554432 > c && sync && zpool sync"
    ));
    let after = bed.pool(&id);
    let grown = |member: &str| number(&after[member]).saturating_sub(number(&before[member])) >> 20;
    assert!((90..105).contains(&grown("size_before_compression")), "{after}");
    assert!((60..80).contains(&grown("size_before_deduplication")), "{after}");
    assert!((30..50).contains(&grown("size_used")), "{after}");
    assert_eq!(number(&after["size_total"]), number(&after["size_free"]) + number(&after["size_used"]));
    let drift = number(&after["size_total"]).abs_diff(number(&before["size_total"]));
    assert!(drift < number(&before["size_total"]) / 100, "the usable size does not depend on what is written: {drift}");
    let ratio: f64 = after["deduplication_ratio"].as_str().unwrap().trim_end_matches('x').parse().unwrap();
    assert!(ratio > 1.2, "{after}");
}
