//! Many snapshots.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    bed::Bed,
    volumes::{filesystem, pool, snapshot},
    wait::wait_until,
};

/// Far more than are deleted at a time, so that there is time to see it and to kill it. With `make scale`, 1,000.
fn snapshot_count() -> usize {
    let count = std::env::var("VSNAP_TEST_SNAPSHOTS");
    count.map_or(260, |count| count.parse().expect("VSNAP_TEST_SNAPSHOTS is a number"))
}

fn deletion(bed: &Bed, volume: &str) -> Value {
    let operations = bed.get(&format!("/api/operation?subject=volume%20{volume}")).ok();
    let of_volume = operations["operations"].as_array().unwrap();
    of_volume.iter().filter(|operation| operation["verb"] == "delete_volume").for_each(|operation| {
        assert_eq!(operation["id"], of_volume[0]["id"], "one operation and no more: {operations}");
    });
    of_volume[0].clone()
}

/// The deletion of a volume with many snapshots is seen on its way, killed, has to wait for the disks of its pool, and
/// goes on when they are back, without a restart.
#[test]
fn a_long_deletion_shows_its_progress_and_outlives_a_kill_and_its_disks() {
    let bed = Bed::fresh();
    bed.shell("cp -p /etc/vsnap/vsnap.toml /root/vsnap.toml");
    let _restored = bed.afterwards("mv /root/vsnap.toml /etc/vsnap/vsnap.toml; systemctl restart vsnapd");
    bed.shell("sed -i 's/^import_wait_seconds = .*/import_wait_seconds = 1/' /etc/vsnap/vsnap.toml");
    let pool = pool(&bed);
    let (volume, kept) = (filesystem(&bed, &pool, "many"), filesystem(&bed, &pool, "kept"));
    bed.shell(&format!("echo kept > /vsnap/vpool{pool}/fs{kept}/file"));
    // One after the other: ZFS makes one snapshot of a filesystem in each of its transaction groups.
    let count = snapshot_count();
    (0..count).for_each(|at| drop(snapshot(&bed, &volume, json!({"name": format!("s{at}")}))));
    assert_eq!(bed.get("/api/snapshot?limit=10").ok()["total"], count);
    assert_eq!(bed.get("/api/snapshot").ok()["snapshots"].as_array().unwrap().len(), count);

    thread::scope(|scope| {
        scope.spawn(|| {
            let (user, password) = bed.credentials();
            let request = bed.client().delete(bed.url(&format!("/api/volume/{volume}")));
            // The answer is lost with the daemon.
            let _ = request.basic_auth(user, Some(password)).send();
        });
        wait_until("the deletion is on its way", 100, || {
            let operations = bed.get("/api/operation?state=running").ok();
            let percent =
                operations["operations"][0]["percent"].as_str().and_then(|percent| percent.parse::<u8>().ok());
            // Not so late that it ends before it is killed.
            percent.is_some_and(|percent| (1..90).contains(&percent))
        });
        bed.shell("systemctl kill -s KILL vsnapd; systemctl stop vsnapd");
    });

    let disks: Vec<String> = bed
        .shell(&format!("zpool list -H -v -P -o name vpool{pool} | grep -o 'scsi-[0-9a-f]*'"))
        .lines()
        .map(|disk| disk.trim_start_matches("scsi-").to_owned())
        .collect();
    bed.zpool("export", &format!("vpool{pool}"));
    disks.iter().for_each(|disk| bed.pull_disk(disk));
    bed.shell("systemctl start vsnapd");
    bed.wait_for_api();
    assert_eq!((&bed.pool(&pool)["status"], &deletion(&bed, &volume)["state"]), (&json!("UNAVAIL"), &json!("running")));
    bed.delete(&format!("/api/volume/{kept}")).fails(409, "InvalidStateError");

    let daemon = bed.daemon_pid();
    bed.post("/api/disk", json!({"action": "rescan"})).ok();
    wait_until("the pool is taken in", 150, || bed.pool(&pool)["status"] == "ONLINE");
    wait_until("the deletion has gone on to its end", 300, || {
        thread::sleep(Duration::from_secs(1));
        deletion(&bed, &volume)["state"] == "done"
    });
    assert_eq!(bed.daemon_pid(), daemon);
    assert_eq!(
        bed.shell(&format!("zfs list -H -t all -o name -r vpool{pool} | tail -n +2")),
        format!("vpool{pool}/fs{kept}")
    );
    assert_eq!(bed.shell(&format!("cat /vsnap/vpool{pool}/fs{kept}/file")), "kept");
    bed.delete(&format!("/api/volume/{kept}")).ok();
}
