//! Snapshots, clones, details, lists and deletions, beside `zfs` typed by hand.

use std::{cell::RefCell, path::Path, time::Duration};

use serde_json::json;

use crate::{
    appliance::{Appliance, list, run, text},
    measure::{Results, in_turns, time, until},
};

const MIB: u64 = 1 << 20;
/// Volumes of the large appliance, and how often all of them are snapshotted.
const VOLUMES: usize = 1000;
const TIMES: usize = 20;
/// Volumes that one request snapshots.
const GROUP: usize = 100;

/// One volume over an open connection.
pub fn one(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let (ours, theirs) = (appliance.filesystem(&pool, "ours"), appliance.filesystem(&pool, "theirs"));
    let seconds = in_turns(
        rounds,
        |round| time(|| appliance.snapshot(&ours, &format!("s{round}"))),
        |round| time(|| run("zfs", &["snapshot", &format!("vpool{pool}/fs{theirs}@s{round}")])),
    );
    results.compare("snapshot of one volume", "zfs snapshot", 0.7, seconds);
}

/// Many volumes at one point in time.
pub fn group(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let volumes: Vec<String> = (0..GROUP).map(|at| appliance.filesystem(&pool, &format!("v{at}"))).collect();
    let ours = |round: usize, part: &str| {
        let body = json!({"vol_ids": volumes, "name": format!("{part}{round}")});
        appliance.stay_connected();
        time(|| appliance.post("/api/snapshot", &body))
    };
    let names = |round: usize, part: &str| -> Vec<String> {
        volumes.iter().map(|volume| format!("vpool{pool}/fs{volume}@{part}{round}")).collect()
    };
    let one_command = |names: Vec<String>, options: &[&str]| {
        let args: Vec<&str> =
            ["snapshot"].iter().chain(options).copied().chain(names.iter().map(String::as_str)).collect();
        time(|| run("zfs", &args))
    };
    let many_commands = |round: usize| {
        let names = names(round, "y");
        time(|| names.iter().for_each(|name| run("zfs", &["snapshot", name])))
    };
    let seconds = in_turns(rounds, |round| ours(round, "a"), |round| one_command(names(round, "z"), &[]));
    results.compare("atomic snapshot of 100 volumes", "one zfs snapshot with 100 names", 0.8, seconds);
    // What ZFS takes for the mark that each of ours has.
    let marked = |round| one_command(names(round, "x"), &["-o", "bench:mark=0123456789abcdef0123456789abcdef"]);
    let seconds = in_turns(rounds, |round| ours(round, "c"), marked);
    results.compare("atomic snapshot of 100 volumes", "one zfs snapshot with 100 names and a property", None, seconds);
    let seconds = in_turns(rounds.min(10), |round| ours(round, "b"), many_commands);
    results.compare("atomic snapshot of 100 volumes", "100 × zfs snapshot", 0.05, seconds);
}

/// Until the clone can be used: mounted, or its device there.
pub fn clones(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let (filesystem, lun) = (appliance.filesystem(&pool, "data"), appliance.lun(&pool, "disk", 64 * MIB));
    std::fs::write(format!("/vsnap/vpool{pool}/fs{filesystem}/file"), "data").unwrap();
    for (what, volume, kind) in
        [("filesystem, until it is mounted", filesystem, "fs"), ("lun, until its device is there", lun, "lun")]
    {
        let snapshot = appliance.snapshot(&volume, "base");
        let made = RefCell::new(None);
        let ready = |name: &str| {
            let path = match kind {
                "fs" => format!("/vsnap/{name}/file"),
                _ => format!("/dev/zvol/{name}"),
            };
            until("the clone is ready", Duration::from_secs(30), || Path::new(&path).exists());
        };
        let ours = |round: usize| {
            let body = json!({"name": format!("clone{round}"), "snapshot_id": snapshot});
            let seconds = time(|| {
                let clone = text(&appliance.post("/api/volume", &body)["id"]);
                ready(&format!("vpool{pool}/{kind}{clone}"));
                *made.borrow_mut() = Some(clone);
            });
            appliance.delete(&format!("/api/volume/{}", made.take().unwrap()));
            seconds
        };
        let theirs = |round: usize| {
            let (origin, name) =
                (format!("vpool{pool}/{kind}{volume}@snap{snapshot}"), format!("vpool{pool}/theirs{round}"));
            // Where a volume of ours would be.
            let mount = format!("mountpoint=/vsnap/{name}");
            let options: &[&str] = if kind == "fs" { &["-o", &mount] } else { &[] };
            let args = [&["clone"], options, &[origin.as_str(), name.as_str()]].concat();
            let seconds = time(|| {
                run("zfs", &args);
                ready(&name);
            });
            run("zfs", &["destroy", &name]);
            seconds
        };
        let seconds = in_turns(rounds, ours, theirs);
        results.compare(&format!("clone of a {what}"), "zfs clone", 1.0, seconds);
    }
}

/// Details of a volume with the sizes of the moment.
pub fn volume(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let volume = appliance.filesystem(&pool, "data");
    let name = format!("vpool{pool}/fs{volume}");
    let properties = "used,available,referenced,logicalused,compressratio,quota,sync,compression,dedup";
    let seconds = in_turns(
        rounds,
        |_| time(|| appliance.fetch(&format!("/api/volume/{volume}"))),
        |_| time(|| run("zfs", &["get", "-Hp", properties, &name])),
    );
    results.compare("details of a volume, sizes fresh", "zfs get -Hp", 0.3, seconds);
}

/// Volumes with 1,000 snapshots each.
pub fn deletion(results: &mut Results, rounds: usize) {
    const SNAPSHOTS: usize = 1000;
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let make = |part: &str| -> Vec<String> {
        (0..rounds).map(|at| appliance.filesystem(&pool, &format!("{part}{at}"))).collect()
    };
    let (ours, theirs) = (make("ours"), make("theirs"));
    let all: Vec<&String> = ours.iter().chain(&theirs).collect();
    let mut curves = [Vec::new(), Vec::new()];
    for at in 0..SNAPSHOTS {
        let body = json!({"vol_ids": all, "name": format!("s{at}")});
        let seconds = time(|| appliance.post("/api/snapshot", &body));
        if at % 100 == 0 {
            curves[0].push((at as f64, seconds));
            curves[1].push((at as f64, by_hand(&pool, &all)));
        }
    }
    for (name, points) in ["vSnap", "zfs snapshot"].into_iter().zip(curves) {
        results.add_curve(&format!("atomic snapshot of {} volumes", all.len()), name, points);
    }
    let seconds = in_turns(
        rounds,
        |round| time(|| appliance.delete(&format!("/api/volume/{}", ours[round]))),
        |round| time(|| run("zfs", &["destroy", "-r", &format!("vpool{pool}/fs{}", theirs[round])])),
    );
    results.compare("deletion of a volume with 1,000 snapshots", "zfs destroy -r", 1.1, seconds);
}

/// Snapshots of all these volumes in one command, which do not stay.
fn by_hand(pool: &str, volumes: &[&String]) -> f64 {
    let names: Vec<String> = volumes.iter().map(|volume| format!("vpool{pool}/fs{volume}@by-hand")).collect();
    let args: Vec<&str> = std::iter::once("snapshot").chain(names.iter().map(String::as_str)).collect();
    let seconds = time(|| run("zfs", &args));
    names.iter().for_each(|name| run("zfs", &["destroy", name]));
    seconds
}

/// Makes the large appliance, which stays, and lists it.
pub fn lists(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let volumes: Vec<String> = (0..VOLUMES).map(|at| appliance.filesystem(&pool, &format!("v{at}"))).collect();
    for group in volumes.chunks(GROUP) {
        for at in 0..TIMES {
            appliance.post("/api/snapshot", &json!({"vol_ids": group, "name": format!("s{at}")}));
        }
    }
    let all = appliance.get("/api/snapshot");
    assert_eq!(list(&all, "snapshots").len(), VOLUMES * TIMES);
    let peer = |_| time(|| run("zfs", &["list", "-Hp", "-t", "snapshot", "-o", "name,creation,used,guid"]));
    let beside = "zfs list -Hp -t snapshot";
    let seconds = in_turns(rounds, |_| time(|| appliance.fetch("/api/snapshot")), peer);
    results.compare("list of 20,000 snapshots, all of it", beside, 0.1, seconds.clone());
    let theirs = seconds.1;
    let (ours, _) = in_turns(
        rounds,
        |round| time(|| appliance.fetch(&format!("/api/snapshot?limit=100&offset={}", round * 1900))),
        |_| 0.0,
    );
    results.compare("list of 20,000 snapshots, one page of 100", beside, 0.005, (ours, theirs));
}
