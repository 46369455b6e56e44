//! Contract section 6.

use serde_json::{Value, json};

use crate::{bed::Bed, wait::wait_until};

fn disk(bed: &Bed, uuid: &str) -> Option<Value> {
    let body = bed.get("/api/disk").ok();
    body["disks"].as_array().unwrap().iter().find(|disk| disk["uuid"] == uuid).cloned()
}

#[test]
fn disks_are_what_udev_says() {
    let bed = Bed::fresh();
    let body = bed.get("/api/disk?used_as=unused").ok();
    let disks = body["disks"].as_array().unwrap();
    assert!(disks.len() >= 16);
    for disk in disks.iter().take(4) {
        let (name, uuid) = (disk["name"].as_str().unwrap(), disk["uuid"].as_str().unwrap());
        assert_eq!(bed.shell(&format!("blockdev --getsz {name}")), disk["size"].as_str().unwrap());
        assert_eq!(bed.shell(&format!("readlink -f /dev/disk/by-id/scsi-{uuid}")), name);
        assert_eq!(uuid, bed.shell(&format!("/lib/udev/scsi_id -g -d {name}")));
        assert_eq!((&disk["vendor"], &disk["type"]), (&json!("QEMU"), &json!("SCSI")));
    }
    let mounted = bed.shell("lsblk -n -o PKNAME,MOUNTPOINT -r | awk '$2 == \"/\" {print $1}'");
    let root = if mounted.is_empty() { bed.shell("findmnt -n -o SOURCE /") } else { format!("/dev/{mounted}") };
    assert!(disks.iter().all(|disk| disk["name"] != root.as_str()), "the system disk is a candidate");
}

#[test]
fn a_disk_that_is_plugged_in_while_running_is_found_by_a_rescan() {
    let bed = Bed::fresh();
    let uuid = bed.equal_disks(1).remove(0);
    bed.pull_disk(&uuid);
    wait_until("the disk is gone", 30, || disk(&bed, &uuid).is_none());
    assert_eq!(bed.post("/api/disk", json!({"action": "rescan"})).ok(), json!({}));
    let back = disk(&bed, &uuid).expect("the disk is back when the rescan has answered");
    assert_eq!(back["used_as"], "unused");
}

/// As when udev has lost the watch that tells it who writes to a disk.
#[test]
fn a_cleared_disk_is_unused_also_when_udev_does_not_watch_it() {
    let bed = Bed::fresh();
    let uuid = bed.equal_disks(1).remove(0);
    let name = bed.kernel_name(&uuid);
    let look = format!("udevadm trigger --action=change --settle /dev/{name}");
    let rules = "/run/udev/rules.d/99-nowatch.rules";
    let _watched = bed.afterwards(format!("rm -f {rules}; udevadm control --reload; {look}"));
    bed.shell(&format!(
        "mkdir -p /run/udev/rules.d && echo 'KERNEL==\"{name}\", OPTIONS+=\"nowatch\"' > {rules} && \
         udevadm control --reload && {look}"
    ));
    let id = bed.create_pool("unwatched", "raid0", std::slice::from_ref(&uuid));
    bed.shell(&look);
    bed.delete(&format!("/api/pool/{id}")).ok();
    assert_eq!(disk(&bed, &uuid).unwrap()["used_as"], "unused");
    // Written to and cleared by hand, which a rescan finds.
    bed.shell(&format!("echo ',,L' | sfdisk -q /dev/{name}; {look}"));
    assert_eq!(disk(&bed, &uuid).unwrap()["used_as"], "partitioned");
    bed.shell(&format!("wipefs -qa /dev/{name} && blockdev --rereadpt /dev/{name}; udevadm settle"));
    assert_eq!(disk(&bed, &uuid).unwrap()["used_as"], "partitioned", "udev has not seen it");
    bed.post("/api/disk", json!({"action": "rescan"})).ok();
    assert_eq!(disk(&bed, &uuid).unwrap()["used_as"], "unused");
}

#[test]
fn what_is_on_a_disk_is_told() {
    let bed = Bed::fresh();
    let uuids = bed.equal_disks(4);
    let names: Vec<String> = uuids.iter().map(|uuid| bed.kernel_name(uuid)).collect();
    bed.shell(&format!("mkfs.ext4 -q /dev/{}", names[0]));
    bed.shell(&format!("echo ',,L' | sfdisk -q /dev/{}", names[1]));
    bed.shell(&format!("zpool create -f stranger /dev/{} && udevadm settle", names[2]));
    let words =
        |bed: &Bed| -> Vec<Value> { uuids.iter().map(|uuid| disk(bed, uuid).unwrap()["used_as"].clone()).collect() };
    let expected = ["ext4", "partitioned", "zfs_member", "unused"];
    wait_until("udev has told what is on the disks", 60, || words(&bed) == expected);
    bed.shell(&format!("mkdir -p /mnt/t && mount /dev/{} /mnt/t", names[0]));
    assert_ne!(words(&bed)[0], "unused");
    bed.shell("umount /mnt/t");
    bed.zpool("destroy", "stranger");
    uuids[..3].iter().for_each(|disk| bed.wipe(disk));
    assert_eq!(words(&bed), ["unused"; 4]);
}
