//! Mapped luns and exports, beside `targetcli` and `exportfs`.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::{
    appliance::{Appliance, run, shell, text},
    measure::{Results, in_turns, time, until},
};

const MIB: u64 = 1 << 20;
/// The initiator of our host, and that of the target that targetcli makes: each sees its own target alone.
const INITIATOR: &str = "iqn.1994-05.com.example:bench";
const PEER_INITIATOR: &str = "iqn.1994-05.com.example:peer";
const PEER: &str = "iqn.2003-01.org.linux-iscsi.peer:bench";
/// Where the target of targetcli listens, beside ours.
const PEER_PORT: u16 = 3261;
/// Luns and exports that are to come back.
const MANY: usize = 500;
const EXPORTS: &str = "/etc/exports.d/bench.exports";
const SAVED: &str = "/root/bench-target.json";

/// Lines for targetcli's own shell: one process for all of them, which is kinder to it than one for each.
fn targetcli(lines: &[String]) {
    let mut child =
        Command::new("targetcli").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let text = lines.join("\n") + "\nexit\n";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "targetcli: {text}");
}

/// Asks a LUN who it is, as an initiator would, with a tool that is not ours. `iscsi-ls` logs in to each target of the
/// machine, and so fails where one of them is not for this initiator.
fn answers(initiator: &str, target: &str, lun: usize) -> bool {
    let port = if initiator == INITIATOR { 3260 } else { PEER_PORT };
    let url = format!("iscsi://127.0.0.1:{port}/{target}/{lun}");
    let asked = Command::new("iscsi-inq").args(["-i", initiator, &url]).stdin(Stdio::null()).output().unwrap();
    asked.status.success()
}

fn wait_answers(initiator: &str, target: &str, lun: usize) {
    until("the LUN answers the initiator", Duration::from_secs(60), || answers(initiator, target, lun));
}

/// What targetcli saves after each session of its own is not wanted.
fn make_peer_target() {
    targetcli(&[
        "set global auto_save_on_exit=false auto_add_default_portal=false".to_owned(),
        format!("/iscsi create {PEER}"),
        format!("/iscsi/{PEER}/tpg1/portals create 127.0.0.1 {PEER_PORT}"),
        format!("/iscsi/{PEER}/tpg1/acls create {PEER_INITIATOR}"),
    ]);
}

fn remove_all_targets() {
    run("targetcli", &["clearconfig", "confirm=true"]);
}

fn make_luns(appliance: &Appliance, pool: &str, name: &str, count: usize) -> Vec<String> {
    let luns: Vec<String> = (0..count).map(|at| appliance.lun(pool, &format!("{name}{at}"), 16 * MIB)).collect();
    let last = format!("/dev/zvol/vpool{pool}/lun{}", luns.last().unwrap());
    until("the devices are there", Duration::from_secs(120), || Path::new(&last).exists());
    luns
}

fn make_host(appliance: &Appliance) -> String {
    text(&appliance.post("/api/host", &json!({"name": "bench", "iqns": [INITIATOR]}))["id"])
}

/// One more LUN, until an initiator sees it.
pub fn map(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let target = text(&appliance.get("/api/target")["targets"][0]["wwn"]);
    let mut until_answer = [Vec::new(), Vec::new()];
    for (there, until_answer) in [1, 250].into_iter().zip(&mut until_answer) {
        let pool = appliance.fresh_pool();
        let host = make_host(&appliance);
        let luns = make_luns(&appliance, &pool, "ours", there + 1);
        let (last, others) = luns.split_last().unwrap();
        let map = |volume: &String| {
            appliance.post(&format!("/api/volume/{volume}/map"), &json!({"host_id": host}));
        };
        others.iter().for_each(map);
        make_peer_target();
        let path = |volume: &String| format!("/dev/zvol/vpool{pool}/lun{volume}");
        let mut lines = Vec::new();
        // Other devices than ours, since two targets can't share one.
        let peers = make_luns(&appliance, &pool, "peer", there + 1);
        for (at, volume) in peers[..there].iter().enumerate() {
            lines.push(format!("/backstores/block create peer{at} {}", path(volume)));
            lines.push(format!("/iscsi/{PEER}/tpg1/luns create /backstores/block/peer{at}"));
        }
        targetcli(&lines);
        let ours = |_| {
            appliance.stay_connected();
            let seconds = time(|| {
                until_answer.push(time(|| map(last)));
                wait_answers(INITIATOR, &target, there);
            });
            appliance.post(&format!("/api/host/{host}"), &json!({"action": "unmap", "vol_id": last}));
            seconds
        };
        let theirs = |_| {
            let seconds = time(|| {
                targetcli(&[
                    format!("/backstores/block create new {}", path(&peers[there])),
                    format!("/iscsi/{PEER}/tpg1/luns create /backstores/block/new"),
                ]);
                wait_answers(PEER_INITIATOR, PEER, there);
            });
            targetcli(&["/backstores/block delete new".to_owned()]);
            seconds
        };
        let seconds = in_turns(rounds, ours, theirs);
        results.compare(
            &format!("map of a LUN with {there} there, until it answers an initiator"),
            "targetcli",
            0.03,
            seconds,
        );
        let devices = (0..there).map(|at| format!("/backstores/block delete peer{at}"));
        targetcli(&std::iter::once(format!("/iscsi delete {PEER}")).chain(devices).collect::<Vec<_>>());
    }
    let [few, many] = until_answer;
    results.compare("map of a LUN with 250 there, until the answer", "the same with 1 there", 1.2, (many, few));
}

/// What a reboot takes away, brought back: the kernel's target and exports, with everything else as it is.
pub fn restore(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let pool = appliance.fresh_pool();
    let host = make_host(&appliance);
    let luns = make_luns(&appliance, &pool, "lun", MANY);
    for volume in &luns {
        appliance.post(&format!("/api/volume/{volume}/map"), &json!({"host_id": host}));
    }
    for at in 0..MANY {
        let volume = appliance.filesystem(&pool, &format!("share{at}"));
        let body = json!({"share_type": "nfs", "share_options": {"allowed_hosts": ["10.9.9.9"]}});
        appliance.post(&format!("/api/volume/{volume}/share"), &body);
    }
    // The same for targetcli and exportfs: what we made, in their own files.
    run("targetcli", &["saveconfig", SAVED]);
    shell(&format!(
        "grep ^/ /etc/exports.d/vsnap.exports >/root/bench.exports; test $(wc -l </root/bench.exports) -ge {MANY}"
    ));
    let take_away = || {
        shell("systemctl stop vsnapd; exportfs -ua; rm -f /etc/exports.d/vsnap.exports");
        remove_all_targets();
    };
    let count = || {
        let links = shell("find /sys/kernel/config/target/iscsi -path '*/acls/*' -type l | wc -l");
        let exports = shell("grep -c ^/vsnap /var/lib/nfs/etab");
        assert!([&links, &exports].iter().all(|count| count.parse::<usize>().unwrap() >= MANY), "{links} {exports}");
    };
    let ours = |_| {
        take_away();
        let seconds = time(|| run("systemctl", &["start", "vsnapd"]));
        count();
        seconds
    };
    let theirs = |_| {
        take_away();
        run("cp", &["/root/bench.exports", EXPORTS]);
        let seconds = time(|| {
            run("targetcli", &["restoreconfig", SAVED]);
            run("exportfs", &["-a"]);
        });
        count();
        run("rm", &[EXPORTS]);
        seconds
    };
    let seconds = in_turns(rounds, ours, theirs);
    // The last round may have been theirs.
    take_away();
    run("systemctl", &["start", "vsnapd"]);
    results.compare("500 LUNs and 500 exports back", "targetcli restoreconfig, exportfs -a", 0.2, seconds);
}
