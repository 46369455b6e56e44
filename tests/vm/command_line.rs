//! The command line on the appliance itself, as root.

use serde_json::{Value, json};

use crate::{bed::Bed, wait::wait_until};

#[test]
fn a_pool_from_creation_to_deletion() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(8);
    let shown = bed.shell(&format!("vsnap pool create --name demo --type raid5 --disks {}", disks[..3].join(",")));
    assert!(shown.contains("demo"), "{shown}");
    bed.check_truth();
    let id = bed.get("/api/pool?name=demo").ok()["id"].as_str().unwrap().to_owned();

    // The sizes of a new pool move for a while.
    let told = || {
        let listed: Value = bed.shell_json("vsnap --json pool show");
        let mut api = bed.pool(&id);
        api["compression_ratio"] = json!("1.00");
        api["deduplication_ratio"] = json!("1.00");
        api["health"] = json!(100);
        api["diskgroup_size"] = json!(3);
        api["encryption"] = json!({"enabled": false});
        (listed["pools"][0].clone(), api)
    };
    let (mut listed, mut api) = told();
    for _ in 0..5 {
        if listed != api {
            (listed, api) = told();
        }
    }
    assert_eq!(listed, api, "pure JSON, all details");

    let table = bed.shell("vsnap pool show");
    assert!(table.contains("demo") && table.contains("ONLINE") && table.contains("GiB"), "{table}");
    bed.shell(&format!("vsnap --noprompt pool expand demo --disks {}", disks[3..6].join(",")));
    bed.shell(&format!("vsnap pool add-log demo --disks {}", disks[6]));
    bed.shell("vsnap --noprompt pool remove-log demo");
    bed.shell(&format!("vsnap pool add-cache demo --disks /dev/{}", bed.kernel_name(&disks[6])));
    bed.shell("vsnap --noprompt pool remove-cache demo");
    bed.shell(&format!("vsnap pool add-spare demo --disks {}", disks[7]));
    bed.check_truth();

    // It loses a disk to its spare.
    bed.pull_disk(&disks[0]);
    wait_until("the spare stands in", 90, || bed.shell("vsnap pool status demo").contains("INUSE"));
    let status = bed.shell("vsnap pool status demo");
    assert!(status.contains("DEGRADED") && status.contains("REMOVED"), "{status}");
    bed.shell("vsnap disk rescan");
    bed.shell(&format!("vsnap pool online demo {}", disks[0]));
    wait_until("the spare waits again", 90, || bed.shell("vsnap pool status demo").contains("AVAIL"));
    bed.shell(&format!("vsnap --noprompt pool remove-spare demo --disks {}", disks[7]));

    bed.shell("vsnap pool scrub demo --wait");
    bed.shell("vsnap pool update demo --new-name renamed --no-compression");
    assert_eq!(bed.pool(&id)["compression"], false);
    assert!(
        !bed.try_shell("vsnap pool delete renamed </dev/null").status.success(),
        "without a terminal it must be told"
    );
    assert_eq!(bed.get("/api/pool").ok()["total"], 1);
    bed.shell("vsnap --noprompt pool delete renamed");
    bed.check_truth();
    assert_eq!(bed.get("/api/pool").ok()["total"], 0);
}

#[test]
fn statistics_are_six_numbers() {
    let bed = Bed::fresh();
    let statistics: Value = bed.shell_json("vsnap --json system stats");
    let members = statistics.as_object().unwrap();
    assert_eq!(members.len(), 6);
    assert!(members.values().all(Value::is_u64), "{statistics}");
}

#[test]
fn every_noun_shows() {
    let bed = Bed::fresh();
    for noun in ["system", "user", "disk", "pool", "network", "target"] {
        bed.shell(&format!("vsnap {noun} show"));
        bed.shell_json(&format!("vsnap --json {noun} show"));
        assert!(bed.shell(&format!("vsnap {noun} --help")).contains("Examples"), "{noun}");
    }
    bed.shell("man -w vsnap >/dev/null 2>&1 || test -e /usr/share/man/man1/vsnap.1.gz");
}

#[test]
fn over_the_network_it_needs_a_password() {
    let bed = Bed::fresh();
    let (user, password) = bed.credentials();
    let remote = format!("vsnap --host localhost --user {user} --insecure --json system show");
    let shown: Value = bed.shell_json(&format!("VSNAP_PASSWORD='{password}' {remote}"));
    assert_eq!(shown["init_status"], "Ready");
    assert!(!bed.try_shell(&format!("VSNAP_PASSWORD=wrong {remote}")).status.success());
    let strict = bed.try_shell(&format!("VSNAP_PASSWORD='{password}' {}", remote.replace("--insecure", "")));
    let message = String::from_utf8_lossy(&strict.stderr).into_owned();
    assert!(!strict.status.success() && message.contains("--insecure"), "{message}");
}

#[test]
fn a_daemon_that_is_down_is_told_at_once() {
    let bed = Bed::fresh();
    bed.shell("systemctl stop vsnapd");
    let seconds: f64 = bed
        .shell("s=$(date +%s.%N); vsnap pool show 2>/tmp/error; echo $? > /tmp/code; e=$(date +%s.%N); echo \"$e - $s\" | bc -l 2>/dev/null || awk -v a=$s -v b=$e 'BEGIN {print b - a}'")
        .parse()
        .unwrap();
    let (message, code) = (bed.shell("cat /tmp/error"), bed.shell("cat /tmp/code"));
    bed.shell("systemctl start vsnapd");
    bed.wait_for_api();
    assert_eq!(code, "2");
    assert!(message.contains("systemctl status vsnapd") && message.lines().count() == 1, "{message}");
    assert!(seconds < 3.0, "it took {seconds} s (under emulation)");
}
