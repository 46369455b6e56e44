//! A catalog that was restored from an older copy, as by a backup of the system disk: the pools have what it does not know.

use serde_json::json;

use crate::{
    bed::Bed,
    volumes::{filesystem, id, lun, pool, snapshot},
};

#[test]
fn a_catalog_of_an_older_copy_gives_no_number_twice_and_touches_nothing_it_does_not_know() {
    const MIB: u64 = 1 << 20;
    let bed = Bed::fresh();
    let disks = bed.equal_disks(2);
    let pool = pool(&bed);
    let known = filesystem(&bed, &pool, "known");
    bed.shell("systemctl stop vsnapd; rm -rf /root/older; cp -a /var/lib/vsnap /root/older; systemctl start vsnapd");
    bed.wait_for_api();
    let younger = filesystem(&bed, &pool, "younger");
    bed.shell(&format!("echo kept > /vsnap/vpool{pool}/fs{younger}/file; sync"));
    let block = lun(&bed, &pool, "block", 16 * MIB);
    let locked = json!({"expires_at": bed.shell("date -d '+1 hour' +%s"), "locked": true});
    let unknown = snapshot(&bed, &known, locked);
    let guid = bed.zfs_property(&format!("vpool{pool}/fs{known}@snap{unknown}"), "guid");

    bed.shell(
        "systemctl stop vsnapd; rm -f /var/lib/vsnap/catalog.sqlite*; cp -a /root/older/catalog.sqlite* /var/lib/vsnap/; \
         systemctl start vsnapd; rm -r /root/older",
    );
    bed.wait_for_api();
    assert_eq!(bed.get("/api/volume").ok()["total"], 1);
    bed.shell("journalctl -u vsnapd -b --since -2min | grep -q 'the catalog is older than what is on pool'");
    for (kind, size) in [("filesystem", json!(null)), ("lun", json!(16 * MIB))] {
        let request = json!({"name": "younger", "volume_type": kind, "pool_id": pool, "size_total": size});
        let made = bed.post("/api/volume", request).ok();
        assert!(![&younger, &block].contains(&&id(&made)), "{made}");
        bed.delete(&format!("/api/volume/{}", id(&made))).ok();
    }
    assert_eq!(bed.shell(&format!("cat /vsnap/vpool{pool}/fs{younger}/file")), "kept");
    let next = snapshot(&bed, &known, json!({}));
    assert_ne!(bed.zfs_property(&format!("vpool{pool}/fs{known}@snap{next}"), "guid"), guid);
    // The lock of a snapshot that the catalog does not know can't be looked up, so nothing of its volume goes.
    let message = bed.delete(&format!("/api/volume/{known}")).fails(409, "BusyError");
    assert!(message.contains("which the catalog does not know"), "{message}");
    assert_eq!(bed.zfs_property(&format!("vpool{pool}/fs{known}@snap{unknown}"), "guid"), guid);
    let report = bed.get("/api/system/report").ok();
    let subjects: Vec<&str> =
        report["findings"].as_array().unwrap().iter().filter_map(|one| one["subject"].as_str()).collect();
    for subject in [format!("vpool{pool}/fs{younger}"), format!("vpool{pool}/lun{block}")] {
        assert!(subjects.contains(&subject.as_str()), "{report}");
    }

    bed.shell(&format!("zfs release vsnap:lock vpool{pool}/fs{known}@snap{unknown}"));
    bed.start_over(&pool, &disks);
}
