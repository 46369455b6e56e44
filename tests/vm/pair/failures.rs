use serde_json::json;

use crate::{node::Pair, wait::wait_until};

/// Bytes a second at which a session lasts long enough to be disturbed.
const SLOW: u64 = 2 << 20;

#[test]
fn a_cut_link_is_taken_up_where_it_was() {
    let pair = Pair::new();
    let (_, relationship) = pair.filesystem("data", 30);
    pair.limit(SLOW);
    let session = pair.a.start(&relationship);
    pair.a.wait_sent(&session, 8 << 20);
    let message = pair.a.session(&session)["message"].as_str().unwrap().to_owned();
    assert!(message.contains(" %, ") && message.contains("B/s, ") && message.ends_with(" left"), "{message}");
    // What comes has room to wait for ZFS; 1032 is F_GETPIPE_SZ (`fcntl.h`).
    let size = "import fcntl, sys; print(fcntl.fcntl(open(sys.argv[1]), 1032))";
    let size = pair.b.shell(&format!("python3 -c '{size}' /proc/$(pgrep -o -f '[z]fs receive')/fd/0"));
    assert_eq!(size, "1048576", "bytes of the pipe that zfs receive reads");
    pair.b.shell(
        "nft 'add table inet weather; add chain inet weather input { type filter hook input priority -10; }; \
         add rule inet weather input iifname \"eth1\" tcp dport 22 drop'",
    );
    // Both sides find out by themselves.
    wait_until("the session notices", 120, || {
        pair.a.session(&session)["message"].as_str().is_some_and(|message| message.starts_with("interrupted"))
    });
    pair.b.shell("nft delete table inet weather");
    pair.limit(0);
    let ended = pair.a.wait(&session);
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    let sent: u64 = ended["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 40 << 20, "it went on where it was: {ended}");
    pair.check(&ended);
    // The link stays open for the next one, and not for long when there is none. That is 10 s here.
    wait_until("no link is left", 60, || {
        let left = "pgrep -f '[s]sh .*vsnap-link'; pgrep -x vsnap-link; true";
        [&pair.a, &pair.b].iter().all(|node| node.shell(left).is_empty())
    });
}

#[test]
fn daemons_that_are_killed_at_any_moment_lose_nothing() {
    let pair = Pair::new();
    let (volume, relationship) = pair.filesystem("data", 24);
    pair.limit(6 << 20);
    let session = pair.a.start(&relationship);
    for round in 0..10 {
        let victim = if round % 2 == 0 { &pair.b } else { &pair.a };
        std::thread::sleep(std::time::Duration::from_millis(300 + 137 * round));
        victim.kill_daemon();
        // What it had started is gone with it.
        let left = "sleep 1; pgrep -a -x zfs | grep -v vsnapd || true";
        let orphans = victim.shell(&format!("{left}; true"));
        assert!(orphans.lines().count() <= 1, "{orphans}");
    }
    pair.limit(0);
    let ended = pair.a.wait(&session);
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    pair.check(&ended);
    pair.a.shell(&format!("echo more >{}/more", pair.folder(&volume)));
    let next = pair.a.sync(&relationship);
    let sent: u64 = next["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 1 << 20, "it is incremental: {next}");
}

#[test]
fn reboots_of_partner_and_sender_are_no_end() {
    let pair = Pair::new();
    let (_, relationship) = pair.filesystem("data", 24);
    pair.limit(SLOW);
    let session = pair.a.start(&relationship);
    pair.a.wait_sent(&session, 4 << 20);
    // A power cut of the partner, and a reboot of the sender: both at once, since they would do as well alone.
    let boots = [&pair.a, &pair.b].map(|node| (node, node.boot_id().unwrap()));
    // The connections may end before the answers have come.
    pair.b.try_shell("(sleep 1; echo b >/proc/sysrq-trigger) >/dev/null 2>&1 &");
    pair.a.try_shell("(sleep 2; systemctl reboot) >/dev/null 2>&1 &");
    wait_until("both have booted anew and are back", 600, || {
        boots.iter().all(|(node, boot)| {
            node.boot_id().is_some_and(|now| now != *boot)
                && node.try_shell("systemctl is-active vsnapd").status.success()
        })
    });
    pair.a.wait_for_api();
    pair.b.wait_for_api();
    pair.limit(0);
    let ended = pair.a.wait(&session);
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    pair.check(&ended);
    let sent: u64 = ended["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 45 << 20, "{ended}");
}

#[test]
fn hands_on_the_replica_are_told_and_nothing_is_forced() {
    let pair = Pair::new();
    let (volume, relationship) = pair.filesystem("data", 1);
    pair.a.sync(&relationship);
    let replica = pair.b.dataset(&pair.replica(&relationship));
    let change = || pair.a.shell(&format!("date +%N >{}/now; sync -f {0}", pair.folder(&volume)));
    pair.b.shell(&format!("zfs snapshot {replica}@byhand"));
    change();
    let message = pair.a.fail(&relationship);
    assert!(message.contains("byhand"), "{message}");
    pair.b.shell(&format!("zfs destroy {replica}@byhand"));
    pair.a.sync(&relationship);
    pair.b.shell(&format!(
        "zfs set readonly=off {replica} && mount -o zfsutil -t zfs {replica} /mnt && echo x >/mnt/x && umount /mnt && \
         zfs set readonly=on {replica}"
    ));
    change();
    let message = pair.a.fail(&relationship);
    assert!(message.contains("modified"), "{message}");
    pair.b.shell(&format!(
        "zfs rollback {replica}@$(zfs list -H -o name -t snapshot -s createtxg {replica} | tail -1 | cut -d@ -f2)"
    ));
    pair.check(&pair.a.sync(&relationship));
    // The replica itself is gone: no session can mend that, but it says so, and the relationship can be ended.
    pair.b.shell(&format!("zfs destroy -r {replica}"));
    change();
    let message = pair.a.fail(&relationship);
    assert!(message.contains("gone"), "{message}");
    pair.a.delete(&format!("/api/relationship/{relationship}"));
    assert_eq!(pair.b.get("/api/volume")["total"], 0);
}

#[test]
fn full_and_absent_pools_clocks_and_deleted_snapshots() {
    let pair = Pair::new();
    let (volume, relationship) = pair.filesystem("data", 40);
    // Full: room for less than comes.
    let pool = format!("vpool{}", pair.pool_b);
    let replica = pair.b.dataset(&pair.replica(&relationship));
    pair.b.shell(&format!("zfs set quota=20M {replica}"));
    let message = pair.a.fail(&relationship);
    assert!(message.contains("full") || message.contains("quota") || message.contains("space"), "{message}");
    pair.b.shell(&format!("zfs set quota=none {replica}"));
    pair.a.sync(&relationship);
    // Gone.
    pair.b.shell(&format!("for i in $(seq 60); do zpool export {pool} && exit 0; sleep 1; done; exit 1"));
    pair.a.shell(&format!("echo x >{}/x", pair.folder(&volume)));
    let message = pair.a.fail(&relationship);
    assert!(message.contains("not imported"), "{message}");
    pair.b.shell("systemctl restart vsnapd");
    pair.b.wait_for_api();
    // A clock that is an hour off changes nothing.
    pair.b.shell("date -s '+1 hour' >/dev/null");
    let session = pair.a.sync(&relationship);
    pair.b.shell("date -s '-1 hour' >/dev/null");
    pair.check(&session);
    // Deleted while it waits for its turn.
    pair.limit(SLOW);
    pair.a
        .shell(&format!("dd if=/dev/urandom of={0}/big bs=1M count=12 status=none; sync -f {0}", pair.folder(&volume)));
    let (first, second) = (pair.a.start(&relationship), pair.a.start(&relationship));
    let snapshot = pair.a.session(&second)["local_snap_id"].as_str().unwrap().to_owned();
    pair.a.delete(&format!("/api/snapshot/{snapshot}"));
    pair.limit(0);
    assert_eq!(pair.a.wait(&first)["status"], "COMPLETED");
    let ended = pair.a.wait(&second);
    assert!(ended["message"].as_str().unwrap().contains("was deleted"), "{ended}");
    // Canceled while it is at work, this time slowed down by the limit for all partners.
    let overall = |bytes: u64| pair.a.put("/api/system/replication", json!({"rate_limit": bytes}));
    overall(SLOW);
    pair.a
        .shell(&format!("dd if=/dev/urandom of={0}/big bs=1M count=12 status=none; sync -f {0}", pair.folder(&volume)));
    let session = pair.a.start(&relationship);
    pair.a.wait_sent(&session, 2 << 20);
    let ended = pair.a.post(&format!("/api/session/{session}"), json!({"action": "cancel", "discard": true}));
    assert_eq!((&ended["status"], &ended["message"]), (&json!("FAILED"), &json!("Canceled")));
    let sent: u64 = ended["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 8 << 20, "the limit holds: {ended}");
    overall(0);
    assert_eq!(pair.b.shell(&format!("zfs get -H -o value receive_resume_token {replica}")), "-");
    pair.check(&pair.a.sync(&relationship));
}
