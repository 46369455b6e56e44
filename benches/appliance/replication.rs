//! Replication to a second appliance, beside the tools that do the same over SSH, and a bare pipe.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    appliance::{Appliance, list, run, text},
    measure::{Results, median, time},
};

const MIB: u64 = 1 << 20;
/// The other appliance: its name on the private network.
const THERE: &str = "vsnap-b";
/// Sessions at once.
const AT_ONCE: [usize; 3] = [1, 4, 16];
/// How often a session is looked at; a long one each hundredth of the time that it has taken. Each look takes a few
/// milliseconds from it, on the same processors: 20 of them a second made one of 50 s a tenth longer.
const LOOK: Duration = Duration::from_millis(50);

struct Two {
    here: Appliance,
    pool_here: String,
    pool_there: String,
    partner: String,
}

/// What is sent.
struct Source {
    volume: String,
    dataset: String,
    /// Its newest snapshot: number at the API.
    snapshot: String,
}

impl Two {
    /// Two appliances that are partners, with nothing else on them.
    fn new() -> Self {
        let (here, there) = (Appliance::here(), Appliance::at(THERE));
        for appliance in [&here, &there] {
            appliance.empty();
            for partner in list(&appliance.get("/api/partner"), "partners") {
                appliance.delete(&format!("/api/partner/{}?force=true", text(&partner["id"])));
            }
        }
        let (pool_here, pool_there) = (here.make_pool(3), there.make_pool(3));
        let (user, password) = here.credentials();
        let body = json!({"remote_addr": THERE, "remote_user": user, "remote_pass": password});
        let partner = text(&here.post("/api/partner", &body)["id"]);
        Two { here, pool_here, pool_there, partner }
    }

    fn source(&self, name: &str, bytes: u64, compressible: bool) -> Source {
        let volume = self.here.filesystem(&self.pool_here, name);
        let dataset = format!("vpool{}/fs{volume}", self.pool_here);
        write(Path::new(&format!("/vsnap/{dataset}/data")), bytes, compressible);
        let snapshot = self.here.snapshot(&volume, "base");
        Source { volume, dataset, snapshot }
    }

    fn relate(&self, source: &Source) -> String {
        let path = format!("/api/volume/{}/relationship", source.volume);
        text(&self.here.post(&path, &json!({"partner_id": self.partner}))["id"])
    }

    fn start(&self, relationship: &str, snapshot: &str) -> String {
        let path = format!("/api/relationship/{relationship}/session");
        text(&self.here.post(&path, &json!({"snap_id": snapshot}))["id"])
    }

    fn wait(&self, session: &str) {
        let begin = Instant::now();
        loop {
            let now: Value = self.here.get(&format!("/api/session/{session}"));
            match now["status"].as_str().unwrap() {
                "COMPLETED" => return,
                "FAILED" => panic!("{now}"),
                _ => std::thread::sleep(LOOK.max(begin.elapsed() / 100)),
            }
        }
    }

    /// A session of ours, from the request until it is COMPLETED.
    fn ours(&self, relationship: &str, source: &Source) -> f64 {
        time(|| self.wait(&self.start(relationship, &source.snapshot)))
    }

    /// What the others have made over there.
    fn target(&self, name: &str) -> String {
        format!("vpool{}/{name}", self.pool_there)
    }
}

/// Bytes that can't be compressed, or to a third by lz4.
fn write(path: &Path, bytes: u64, compressible: bool) {
    let mut random = File::open("/dev/urandom").unwrap();
    let mut file = File::create(path).unwrap();
    let mut block = vec![0_u8; MIB as usize];
    for _ in 0..bytes / MIB {
        if compressible {
            // In each 3 KiB one of noise: the records are compressed to what is noise.
            for part in block.chunks_mut(3072) {
                let noise = part.len().min(1024);
                std::io::Read::read_exact(&mut random, &mut part[..noise]).unwrap();
            }
        } else {
            std::io::Read::read_exact(&mut random, &mut block).unwrap();
        }
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
}

type Peer<'a> = (&'a str, &'a dyn Fn(&Source, &str));

fn syncoid(source: &Source, target: &str) {
    let target = format!("root@{THERE}:{target}");
    run("syncoid", &["--no-sync-snap", "--quiet", &source.dataset, &target]);
}

fn bzfs(source: &Source, target: &str) {
    let target = format!("root@{THERE}:{target}");
    run("env", &["PYTHONPATH=/root/bzfs.whl", "python3", "-m", "bzfs_main.bzfs", "--quiet", &source.dataset, &target]);
}

/// `from`: the snapshot that is there already.
fn pipe(source: &Source, from: Option<&str>, target: &str) {
    let Source { dataset, snapshot, .. } = source;
    let base = from.map(|from| format!("-i @snap{from} ")).unwrap_or_default();
    run(
        "bash",
        &[
            "-o",
            "pipefail",
            "-ec",
            &format!(
                "zfs send -cLe {base}{dataset}@snap{snapshot} | \
             ssh -c aes128-gcm@openssh.com root@{THERE} zfs receive -s -u {target}"
            ),
        ],
    );
}

fn remove(target: &str) {
    run("ssh", &[&format!("root@{THERE}"), "zfs", "destroy", "-r", target]);
}

/// From nothing: MiB that compress to a third, or not at all.
pub fn full(results: &mut Results, rounds: usize, mib: u64, compressible: bool) {
    let two = Two::new();
    let source = two.source("data", mib * MIB, compressible);
    let what = if compressible { "compressed 3:1" } else { "incompressible" };
    compare_full(results, &two, &source, rounds, &format!("full replication of {mib} MiB, {what}"));
}

fn compare_full(results: &mut Results, two: &Two, source: &Source, rounds: usize, name: &str) {
    let from_nothing = |source: &Source, target: &str| pipe(source, None, target);
    let peers: [(Peer<'_>, f64); 3] =
        [(("syncoid", &syncoid), 0.5), (("bzfs", &bzfs), 0.5), (("zfs send | ssh | zfs receive", &from_nothing), 1.05)];
    let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); peers.len()]);
    // Each in its turn begins, also over several runs whose rounds are added.
    let before = results.rounds(name);
    for round in before..before + rounds {
        for turn in 0..=peers.len() {
            match (turn + round) % (peers.len() + 1) {
                0 => {
                    let relationship = two.relate(source);
                    ours.push(two.ours(&relationship, source));
                    two.here.delete(&format!("/api/relationship/{relationship}"));
                }
                which => {
                    let target = two.target(&format!("peer{which}"));
                    let ((_, replicate), _) = peers[which - 1];
                    theirs[which - 1].push(time(|| replicate(source, &target)));
                    remove(&target);
                }
            }
        }
    }
    for (((peer, _), goal), theirs) in peers.into_iter().zip(theirs) {
        results.compare(name, peer, goal, (ours.clone(), theirs));
    }
}

/// Of 1 MiB that was added to a volume.
pub fn incremental(results: &mut Results, rounds: usize) {
    let two = Two::new();
    let mut source = two.source("small", 16 * MIB, false);
    let relationship = two.relate(&source);
    two.ours(&relationship, &source);
    let targets = ["syncoid", "bzfs", "pipe"].map(|name| two.target(name));
    syncoid(&source, &targets[0]);
    bzfs(&source, &targets[1]);
    pipe(&source, None, &targets[2]);
    let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); 3]);
    for round in 0..rounds {
        let before = source.snapshot.clone();
        let path = format!("/vsnap/{}/change{round}", source.dataset);
        write(Path::new(&path), MIB, false);
        source.snapshot = two.here.snapshot(&source.volume, &format!("change{round}"));
        for turn in 0..4 {
            match (turn + round) % 4 {
                0 => ours.push(two.ours(&relationship, &source)),
                1 => theirs[0].push(time(|| syncoid(&source, &targets[0]))),
                2 => theirs[1].push(time(|| bzfs(&source, &targets[1]))),
                _ => theirs[2].push(time(|| pipe(&source, Some(&before), &targets[2]))),
            }
        }
    }
    let peers = [("syncoid", 0.3), ("bzfs", 0.4), ("zfs send | ssh | zfs receive", 1.2)];
    for ((peer, goal), theirs) in peers.into_iter().zip(theirs) {
        results.compare("incremental replication of 1 MiB", peer, goal, (ours.clone(), theirs));
    }
}

/// Sessions of different volumes at once: seconds until all are COMPLETED.
pub fn at_once(results: &mut Results) {
    let two = Two::new();
    let most = AT_ONCE.into_iter().max().unwrap();
    let mut sources: Vec<(Source, String)> = (0..most)
        .map(|at| {
            let source = two.source(&format!("v{at}"), MIB, false);
            let relationship = two.relate(&source);
            two.ours(&relationship, &source);
            (source, relationship)
        })
        .collect();
    let mut points = Vec::new();
    for count in AT_ONCE {
        let mut rounds = Vec::new();
        for round in 0..5 {
            for (source, _) in &mut sources[..count] {
                write(Path::new(&format!("/vsnap/{}/change{count}-{round}", source.dataset)), MIB, false);
                source.snapshot = two.here.snapshot(&source.volume, &format!("change{count}-{round}"));
            }
            rounds.push(time(|| {
                let started: Vec<String> = sources[..count]
                    .iter()
                    .map(|(source, relationship)| two.start(relationship, &source.snapshot))
                    .collect();
                started.iter().for_each(|session| two.wait(session));
            }));
        }
        points.push((count as f64, median(&rounds)));
    }
    results.add_curve("replication sessions at once", "1 MiB each, until all are COMPLETED", points);
}
