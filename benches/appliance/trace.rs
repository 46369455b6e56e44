//! What requests make the daemon do: programs that it starts, and system calls of its threads, counted by `strace`.

use std::{collections::BTreeMap, process::Command, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    appliance::{Appliance, text},
    idle,
    measure::{Results, Trace, until},
};

const LOG: &str = "/root/bench.strace";
/// Calls that cost something, or tell where time goes.
const CALLS: &str = "execve,ioctl,fsync,fdatasync,openat,read,write,recvfrom,sendto,mkdir,symlink,mount";

type Request = Box<dyn Fn(&Appliance)>;

pub fn run(results: &mut Results) {
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let (filesystem, lun) = (appliance.filesystem(&pool, "data"), appliance.lun(&pool, "disk", 64 << 20));
    let host = appliance.post("/api/host", &json!({"name": "bench", "iqns": ["iqn.1994-05.com.example:bench"]}));
    let snapshot = appliance.snapshot(&filesystem, "base");
    let post = |path: String, body: serde_json::Value| move |appliance: &Appliance| drop(appliance.post(&path, &body));
    let get = |path: String| move |appliance: &Appliance| drop(appliance.fetch(&path));
    let requests: [(&str, Request); 12] = [
        ("GET /api/host/<id>", Box::new(get(format!("/api/host/{}", text(&host["id"]))))),
        ("GET /api/pool/<id>", Box::new(get(format!("/api/pool/{pool}")))),
        ("GET /api/disk", Box::new(get("/api/disk".to_owned()))),
        ("GET /api/system", Box::new(get("/api/system".to_owned()))),
        ("GET /api/volume/<id>", Box::new(get(format!("/api/volume/{filesystem}")))),
        ("GET /api/volume", Box::new(get("/api/volume".to_owned()))),
        ("GET /api/snapshot", Box::new(get("/api/snapshot".to_owned()))),
        ("POST /api/volume/<id>/snapshot", Box::new(post(format!("/api/volume/{filesystem}/snapshot"), json!({})))),
        (
            "POST /api/volume (filesystem)",
            Box::new(post(
                "/api/volume".to_owned(),
                json!({"name": "new", "volume_type": "filesystem", "pool_id": pool}),
            )),
        ),
        (
            "POST /api/volume (clone)",
            Box::new(post("/api/volume".to_owned(), json!({"name": "clone", "snapshot_id": snapshot}))),
        ),
        ("POST /api/volume/<id>/map", Box::new(post(format!("/api/volume/{lun}/map"), json!({"host_id": host["id"]})))),
        (
            "POST /api/volume/<id>/share",
            Box::new(post(
                format!("/api/volume/{filesystem}/share"),
                json!({"share_type": "nfs", "share_options": {"allowed_hosts": ["10.9.9.9"]}}),
            )),
        ),
    ];
    for (request, work) in requests {
        results.add_trace(trace(request, &appliance, work.as_ref()));
    }
}

fn trace(request: &str, appliance: &Appliance, work: &dyn Fn(&Appliance)) -> Trace {
    let _ = std::fs::remove_file(LOG);
    let pid = idle::pid();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-s", "200", "-e", &format!("trace={CALLS}"), "-e", "signal=none", "-o", LOG, "-p", &pid])
        .spawn()
        .unwrap();
    // The log begins with the first call: one of ours that must not be counted.
    until("strace is there", Duration::from_secs(20), || {
        let _ = appliance.fetch("/api/user");
        std::fs::metadata(LOG).is_ok_and(|log| log.len() > 0)
    });
    std::thread::sleep(Duration::from_millis(300));
    let before = std::fs::read_to_string(LOG).unwrap().len();
    work(appliance);
    std::thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(strace.id().cast_signed()), Signal::SIGINT).unwrap();
    let _ = strace.wait();
    let log = std::fs::read_to_string(LOG).unwrap();
    let mut calls = BTreeMap::new();
    let mut programs = 0;
    for line in log[before..].lines() {
        // `1234  ioctl(3</dev/zfs>, ...) = 0`; the second half of an interrupted one is not counted.
        let Some((_, rest)) = line.trim_start().split_once(char::is_whitespace) else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        match name {
            "execve" => programs += 1,
            name if name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') => {
                *calls.entry(name.to_owned()).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    Trace { request: request.to_owned(), programs, calls }
}
