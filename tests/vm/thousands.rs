//! Many volumes with many snapshots in one pool: made, listed, brought back, and deleted. As many as a pool is to hold,
//! 1,000 with 20,000, with `make scale`; a tenth of them in every run of the tests, since all take a quarter of an hour.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    bed::Bed,
    hosts::{host, map, remove_hosts},
    shares::{nfs, share},
    volumes::{filesystem, id, lun},
};

/// Each volume has so many snapshots.
const POINTS: usize = 20;
const INITIATOR: &str = "iqn.1994-05.com.example:thousands";
const TRACE: &str = "/sys/kernel/tracing";

/// Half of them filesystems with a share, half of them luns that are mapped.
fn volume_count() -> usize {
    std::env::var("VSNAP_TEST_VOLUMES").map_or(100, |count| count.parse().expect("VSNAP_TEST_VOLUMES is a number"))
}

/// Does this work for each number, by a few clients at once.
fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    const CLIENTS: usize = 8;
    let next = AtomicUsize::new(0);
    let numbers = || std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < count));
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let client = |_| scope.spawn(|| numbers().map(|at| (at, work(at))).collect::<Vec<_>>());
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn make(bed: &Bed, pool: &str, host: &str, at: usize) -> String {
    if at % 2 == 1 {
        let volume = lun(bed, pool, &format!("lun{at}"), 16 << 20);
        map(bed, &volume, host);
        return volume;
    }
    let volume = filesystem(bed, pool, &format!("fs{at}"));
    share(bed, &volume, if at.is_multiple_of(20) { json!({"share_type": "smb"}) } else { nfs(&["10.9.9.9"]) });
    volume
}

/// What the kernel and Samba serve.
fn served(bed: &Bed) -> String {
    bed.shell(
        "grep -o '^/vsnap[^(]*' /var/lib/nfs/etab | sort; grep '^\\[vpool' /etc/samba/vsnap.conf; \
         find /sys/kernel/config/target/iscsi -path '*/acls/*' -type l | sort",
    )
}

/// Programs that are started while this is done, but those of upkeep, whose rounds may fall into it.
fn programs(bed: &Bed, work: impl FnOnce()) -> Vec<String> {
    let switch =
        |on| format!("for event in fork exec; do echo {on} > {TRACE}/events/sched/sched_process_$event/enable; done");
    let _off = bed.afterwards(switch(0));
    bed.shell(&format!("echo > {TRACE}/trace; {}", switch(1)));
    work();
    let trace = bed.shell(&format!("grep '^ ' {TRACE}/trace"));
    let field = |line: &str, name: &str| line.split_once(name).unwrap().1.split(' ').next().unwrap().to_owned();
    let (forks, execs): (Vec<_>, Vec<_>) = trace.lines().partition(|line| line.contains("sched_process_fork"));
    let of_upkeep: HashSet<_> =
        forks.iter().filter(|line| line.contains("comm=upkeep pid=")).map(|line| field(line, "child_pid=")).collect();
    let wanted = execs.iter().filter(|line| !of_upkeep.contains(&field(line, " pid=")));
    wanted.map(|line| field(line, "filename=").rsplit('/').next().unwrap().to_owned()).collect()
}

/// How often this program is among [`programs`].
fn runs(programs: &[String], name: &str) -> usize {
    programs.iter().filter(|program| *program == name).count()
}

/// Guids by id.
fn snapshots_of_zfs(bed: &Bed, pool: &str) -> BTreeMap<String, String> {
    let listed = bed.shell(&format!("zfs list -Hp -t snapshot -o name,guid -r vpool{pool}"));
    let snapshot = |line: &str| {
        let (name, guid) = line.split_once('\t').unwrap();
        (name.split_once("@snap").unwrap().1.to_owned(), guid.to_owned())
    };
    listed.lines().map(snapshot).collect()
}

fn snapshots_of(answer: &Value) -> BTreeMap<String, String> {
    let snapshots = answer["snapshots"].as_array().unwrap().iter();
    snapshots.map(|one| (id(one), one["version_id"].as_str().unwrap().to_owned())).collect()
}

fn lists_are_true(bed: &Bed, pool: &str, volumes: usize) {
    let (mut listed, snapshots) = (BTreeMap::new(), volumes * POINTS);
    let started = programs(bed, || {
        let all = bed.get("/api/snapshot?detail=true").ok();
        assert_eq!(all["total"], snapshots);
        listed = snapshots_of(&all);
        assert_eq!(bed.get("/api/volume").ok()["volumes"].as_array().unwrap().len(), volumes);
    });
    assert_eq!(listed, snapshots_of_zfs(bed, pool));
    assert_eq!(["zfs", "zpool"].map(|program| runs(&started, program)), [0, 0], "{started:?}");
    let page = bed.get(&format!("/api/snapshot?sort=id&limit=100&offset={}", snapshots - 60)).ok();
    assert_eq!((&page["total"], page["snapshots"].as_array().unwrap().len()), (&json!(snapshots), 60));
    let point = bed.get("/api/snapshot?name=point7&limit=5").ok();
    assert_eq!((&point["total"], point["snapshots"].as_array().unwrap().len()), (&json!(volumes), 5));
}

#[test]
fn many_volumes_with_many_snapshots_are_served_and_come_back() {
    let bed = Bed::fresh();
    remove_hosts(&bed);
    let began = Instant::now();
    let told = |what: &str| println!("{:4} s: {what}", began.elapsed().as_secs());
    let pool = bed.create_pool("thousands", "raid0", &bed.equal_disks(4));
    let host = host(&bed, "thousands", &[INITIATOR]);
    let count = volume_count();
    let volumes = at_once(count, |at| make(&bed, &pool, &host, at));
    told("all volumes are served");
    for point in 0..POINTS {
        bed.shell(&format!("echo {point} > /vsnap/vpool{pool}/fs{}/file", volumes[0]));
        let set = bed.post("/api/snapshot", json!({"vol_ids": volumes, "name": format!("point{point}")})).ok();
        assert_eq!(set["total"], count);
    }
    told("they have their snapshots");
    lists_are_true(&bed, &pool, count);
    told("lists are compared");

    let before = served(&bed);
    assert_eq!(before.lines().count(), count);
    bed.reboot();
    assert_eq!(served(&bed), before);
    told("it is back after a reboot");
    bed.shell(
        "systemctl stop vsnapd; exportfs -ua; rm /etc/exports.d/vsnap.exports /etc/samba/vsnap.conf; \
         targetcli clearconfig confirm=true >/dev/null",
    );
    assert_eq!(served(&bed), "");
    // What it costs in processes does not depend on how much there is.
    let started = programs(&bed, || {
        bed.shell("systemctl start vsnapd");
        bed.wait_for_api();
    });
    assert_eq!(["exportfs", "testparm", "smbcontrol"].map(|program| runs(&started, program)), [1, 1, 1], "{started:?}");
    assert_eq!(served(&bed), before);
    told("it is back after it was taken away");

    bed.delete(&format!("/api/pool/{pool}?force=true")).ok();
    bed.delete(&format!("/api/host/{host}")).ok();
    assert_eq!((served(&bed), bed.zpool_names()), (String::new(), vec![]));
    told("all is gone");
}
