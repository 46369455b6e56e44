//! What the daemon costs while nobody asks anything of it, and how soon it is there.

use std::time::Duration;

use crate::{
    appliance::{self, output},
    measure::{Results, Row, Unit, time},
};

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
    let large = name.contains("1,000");
    let rounds = 10;
    let starts: Vec<f64> = (0..rounds)
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
        let name = format!("{name}: {what}");
        results.add(Row {
            name,
            beside: String::new(),
            unit,
            ours,
            theirs: Vec::new(),
            goal: Some(goal),
            date: String::new(),
        });
    };
    add("start to READY", Unit::Seconds, starts, 1.0);
    add("resident memory", Unit::Bytes, memory, if large { 80e6 } else { 30e6 });
    add("wake-ups", Unit::PerSecond, wakes, 1.0);
}

fn systemctl(verb: &str) {
    appliance::run("systemctl", &[verb, "vsnapd"]);
}
