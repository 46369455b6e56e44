//! What the daemon costs while nobody asks anything of it, and how soon it is there.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    appliance::{self, output},
    growth::InMemory,
    measure::{Results, Row, Unit, time},
};

pub const EMPTY: &str = "idle, empty";
pub const LARGE: &str = "idle, 1,000 volumes and 20,000 snapshots";

const ROUNDS: usize = 10;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(60);

pub fn pid() -> String {
    output("systemctl", &["show", "-P", "MainPID", "vsnapd"])
}

/// Resident memory in bytes.
fn resident(pid: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).unwrap();
    kib.trim().parse::<f64>().unwrap() * 1024.0
}

/// How often its threads have been put to sleep of their own will: as often they were woken.
fn sleeps(pid: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        // A thread may end meanwhile.
        let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    tasks.filter_map(of_task).sum()
}

pub fn run(results: &mut Results, name: &str) {
    let large = name == LARGE;
    let starts: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            systemctl("stop");
            time(|| systemctl("start"))
        })
        .collect();
    let pid = pid();
    // Until what belongs to the start is over.
    std::thread::sleep(Duration::from_secs(20));
    let (mut memory, mut wakes) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let before = sleeps(&pid);
        std::thread::sleep(WATCHED);
        wakes.push((sleeps(&pid) - before) as f64 / WATCHED.as_secs_f64());
        memory.push(resident(&pid));
    }
    let mut add = |what: &str, unit: Unit, ours: Vec<f64>, goal: f64| {
        results.add(row(format!("{name}: {what}"), unit, ours, goal));
    };
    add("start to READY", Unit::Seconds, starts, 1.0);
    add("resident memory", Unit::Bytes, memory, if large { 80e6 } else { 30e6 });
    add("wake-ups", Unit::PerSecond, wakes, 1.0);
}

/// Nothing stands beside it.
fn row(name: String, unit: Unit, ours: Vec<f64>, goal: f64) -> Row {
    Row { name, beside: String::new(), unit, ours, theirs: Vec::new(), goal: Some(goal), date: String::new() }
}

/// The start on this machine, with storage in memory: what the daemon itself does of it.
pub fn native(results: &mut Results) {
    let mut memory = InMemory::new();
    let mut measure = |name: &str, memory: &mut InMemory| {
        let starts = (0..ROUNDS).map(|_| memory.restart()).collect();
        results.add(row(format!("{name}: start to READY, without VM"), Unit::Seconds, starts, 1.0));
    };
    measure(EMPTY, &mut memory);
    let pool = memory.make_pool();
    let volumes: Vec<Value> = (0..1000).map(|at| memory.make_volume(&pool, &format!("v{at}"))).collect();
    for at in 0..20 {
        memory.post("/api/snapshot", &json!({"vol_ids": volumes, "name": format!("s{at}")}));
    }
    measure(LARGE, &mut memory);
}

fn systemctl(verb: &str) {
    appliance::run("systemctl", &[verb, "vsnapd"]);
}
