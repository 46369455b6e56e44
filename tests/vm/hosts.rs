//! Contract sections 5, 8.10 and 10: hosts and mapped luns, with the kernel's initiator of Linux (open-iscsi) logging
//! in from the appliance itself, so that the data goes through the target and back.

use serde_json::{Value, json};

use crate::{
    bed::Bed,
    volumes::{create, filesystem, id, lun, pool},
    wait::wait_until,
};

const MIB: u64 = 1 << 20;
pub const IQN: &str = "iqn.1994-05.com.example:tester";
const OTHER: &str = "iqn.1994-05.com.example:other";
pub const CONFIGFS: &str = "/sys/kernel/config/target";

pub fn host(bed: &Bed, name: &str, iqns: &[&str]) -> String {
    id(&bed.post("/api/host", json!({"name": name, "iqns": iqns})).ok())
}

pub fn map(bed: &Bed, volume: &str, host: &str) -> Value {
    bed.post(&format!("/api/volume/{volume}/map"), json!({"host_id": host})).ok()["lun"].clone()
}

fn unmap(bed: &Bed, volume: &str, host: &str) {
    bed.post(&format!("/api/host/{host}"), json!({"action": "unmap", "vol_id": volume})).ok();
}

fn target(bed: &Bed) -> String {
    bed.get("/api/target").ok()["targets"][0]["wwn"].as_str().unwrap().to_owned()
}

/// What takes from the initiator all that it remembers of targets: a login to a portal that is gone takes two minutes.
const FORGET: &str = "rm -rf /var/lib/iscsi/nodes/* /var/lib/iscsi/send_targets/*";

/// Becomes the initiator with this name, with the CHAP settings that are given as `name = value` lines.
pub fn become_initiator(bed: &Bed, iqn: &str, chap: &str) {
    bed.shell(&format!(
        "iscsiadm -m node -u >/dev/null 2>&1; {FORGET}; \
         echo InitiatorName={iqn} > /etc/iscsi/initiatorname.iscsi; \
         printf '%b' 'node.startup = manual\\nnode.session.timeo.replacement_timeout = 20\\n{chap}' \
         > /etc/iscsi/iscsid.conf; systemctl reset-failed iscsid; systemctl restart iscsid"
    ));
}

/// Discovers and logs in; tells whether that worked.
pub fn log_in(bed: &Bed) -> bool {
    let line =
        "iscsiadm -m discovery -t st -p 127.0.0.1 >/dev/null && iscsiadm -m node -l >/dev/null && udevadm settle";
    bed.try_shell(line).status.success()
}

pub fn log_out(bed: &Bed) {
    bed.try_shell(&format!("iscsiadm -m node -u; {FORGET}"));
}

/// The initiator's device of a LUN, once it is there.
pub fn device(bed: &Bed, lun: u16) -> String {
    let path = format!("/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-{}-lun-{lun}", target(bed));
    wait_until(&format!("LUN {lun} is there"), 60, || {
        bed.try_shell("iscsiadm -m session --rescan; udevadm settle");
        bed.try_shell(&format!("test -b {path}")).status.success()
    });
    path
}

/// A bed without hosts, sessions and initiator settings of a test before.
fn fresh() -> (Bed, String) {
    let bed = Bed::fresh();
    log_out(&bed);
    remove_hosts(&bed);
    let pool = pool(&bed);
    (bed, pool)
}

pub fn remove_hosts(bed: &Bed) {
    for host in bed.get("/api/host").ok()["hosts"].as_array().unwrap() {
        bed.delete(&format!("/api/host/{}", id(host))).ok();
    }
}

/// Ours is gone from the kernel to the last folder.
pub fn check_nothing_left(bed: &Bed) {
    let left = bed.shell(&format!("find {CONFIGFS}/core {CONFIGFS}/iscsi -name '*vsnap*' 2>/dev/null || true"));
    assert_eq!(left.trim(), "");
}

#[test]
fn a_lun_is_used_through_restart_kill_growth_and_unmap() {
    let (bed, pool) = fresh();
    let volume = lun(&bed, &pool, "disk", 64 * MIB);
    let serial = bed.get(&format!("/api/volume/{volume}")).ok()["serial"].as_str().unwrap().to_owned();
    let host_id = host(&bed, "tester", &[IQN]);
    assert_eq!(map(&bed, &volume, &host_id), "0");
    become_initiator(&bed, IQN, "");
    assert!(log_in(&bed));
    let disk = device(&bed, 0);
    let inquiry = bed.shell(&format!("sg_inq {disk}; sg_inq -p sn {disk}"));
    assert!(inquiry.contains("VSNAP") && inquiry.contains(&serial), "{inquiry}");
    let seen = bed.shell("targetcli ls");
    assert!(seen.contains(&format!("vsnap-volume{volume}")) && seen.contains(IQN), "{seen}");

    // Writes go on while the daemon is restarted and killed: the kernel serves.
    bed.shell(&format!("dd if=/dev/urandom of=/root/data bs=1M count=24 status=none; dd if=/root/data of={disk} bs=1M oflag=direct status=none"));
    bed.shell(&format!(
        "(dd if=/dev/zero of={disk} bs=64k seek=512 count=300 oflag=direct status=none && echo fine > /root/writes) \
         >/dev/null 2>&1 & systemctl kill -s KILL --kill-whom=main vsnapd"
    ));
    wait_until("the daemon is back", 60, || bed.try_shell("systemctl is-active -q vsnapd").status.success());
    bed.wait_for_api();
    wait_until("all is written", 60, || bed.try_shell("test -f /root/writes").status.success());
    bed.shell("rm /root/writes");
    bed.shell(&format!("blockdev --flushbufs {disk}; cmp -n {} /root/data {disk}", 24 * MIB));
    bed.shell(&format!("cmp -n {} /root/data /dev/zvol/vpool{pool}/lun{volume}", 24 * MIB));

    // UNMAP gives space back.
    let referenced = || bed.zfs_property(&format!("vpool{pool}/lun{volume}"), "referenced").parse::<u64>().unwrap();
    wait_until("what was written takes space", 30, || referenced() > 20 * MIB);
    bed.shell(&format!("blkdiscard {disk}"));
    wait_until("what was unmapped takes none", 30, || referenced() < 4 * MIB);

    // It grows under the initiator.
    bed.put(&format!("/api/volume/{volume}"), json!({"size_total": (128 * MIB).to_string()})).ok();
    wait_until("the initiator sees the growth", 60, || {
        bed.shell("iscsiadm -m session --rescan >/dev/null");
        bed.shell(&format!("blockdev --getsize64 {disk}")).trim() == (128 * MIB).to_string()
    });

    // Taken away and deleted under the session, in bounded time.
    let from = std::time::Instant::now();
    unmap(&bed, &volume, &host_id);
    bed.delete(&format!("/api/volume/{volume}")).ok();
    assert!(from.elapsed().as_secs() < 60, "{:?}", from.elapsed());
    bed.delete(&format!("/api/host/{host_id}")).ok();
    log_out(&bed);
    check_nothing_left(&bed);
    assert!(!bed.shell("dmesg").contains("blocked for more than"), "a kernel task hangs");
}

#[test]
fn initiators_see_what_is_theirs_alone() {
    let (bed, pool) = fresh();
    let [one, two] = ["one", "two"].map(|name| lun(&bed, &pool, name, 16 * MIB));
    let parent = filesystem(&bed, &pool, "fs");
    let file = format!("/vsnap/vpool{pool}/fs{parent}/a, b.img");
    bed.shell(&format!("truncate -s 16M '{file}'"));
    let body = json!({"name": "f", "volume_type": "filebackedlun", "parent_id": parent, "parent_path": "a, b.img"});
    let backed = id(&create(&bed, body));
    let (first, second) = (host(&bed, "first", &[IQN]), host(&bed, "second", &[OTHER]));
    assert_eq!((map(&bed, &one, &first), map(&bed, &two, &first)), (json!("0"), json!("1")));
    assert_eq!((map(&bed, &two, &second), map(&bed, &backed, &second)), (json!("0"), json!("1")));

    become_initiator(&bed, "iqn.1994-05.com.example:stranger", "");
    assert!(!log_in(&bed), "an initiator that is not listed");
    become_initiator(&bed, OTHER, "");
    assert!(log_in(&bed));
    let (zvol, fileio) = (device(&bed, 0), device(&bed, 1));
    bed.shell(&format!("echo mine | dd of={zvol} bs=512 conv=sync oflag=direct status=none"));
    assert_eq!(bed.shell(&format!("head -c 4 /dev/zvol/vpool{pool}/lun{two}")), "mine");
    // A file-backed lun: bytes, and growth with its file.
    bed.shell(&format!("echo file | dd of={fileio} bs=512 conv=sync oflag=direct status=none; blockdev --flushbufs {fileio}; sg_sync {fileio}"));
    assert_eq!(bed.shell(&format!("head -c 4 '{file}'")), "file");
    bed.shell(&format!("truncate -s 24M '{file}'"));
    // The next change or round of upkeep notices.
    unmap(&bed, &one, &first);
    wait_until("the initiator sees the growth", 60, || {
        bed.shell("iscsiadm -m session --rescan >/dev/null");
        bed.shell(&format!("blockdev --getsize64 {fileio}")).trim() == (24 * MIB).to_string()
    });

    // CHAP, both ways. Whoever is logged in without it is logged out.
    let chap =
        json!({"user": "ora", "secret": "secret-of-host", "mutual_user": "tgt", "mutual_secret": "secret-of-target"});
    bed.put(&format!("/api/host/{second}"), json!({"chap": chap})).ok();
    let settings = |secret: &str, back: &str| {
        format!(
            "node.session.auth.authmethod = CHAP\\nnode.session.auth.username = ora\\nnode.session.auth.password = {secret}\\n\
             node.session.auth.username_in = tgt\\nnode.session.auth.password_in = {back}\\n"
        )
    };
    become_initiator(&bed, OTHER, "");
    assert!(!log_in(&bed), "without secret");
    become_initiator(&bed, OTHER, &settings("wrong-secret-1", "secret-of-target"));
    assert!(!log_in(&bed), "with a wrong secret");
    become_initiator(&bed, OTHER, &settings("secret-of-host", "wrong-secret-2"));
    assert!(!log_in(&bed), "the appliance can't prove itself with a wrong secret");
    become_initiator(&bed, OTHER, &settings("secret-of-host", "secret-of-target"));
    assert!(log_in(&bed), "with the right secrets");
    device(&bed, 0);
    let files = bed.shell("find /var/lib/vsnap/chap -type f -printf '%m %u\\n'");
    assert_eq!(files.trim(), "600 root");
    let leaked = bed.try_shell("grep -rl secret-of- /var/lib/vsnap/catalog* || journalctl -u vsnapd | grep secret-of-");
    assert!(!leaked.status.success(), "{}", String::from_utf8_lossy(&leaked.stdout));
    log_out(&bed);
    remove_hosts(&bed);
    check_nothing_left(&bed);
}

/// The target listens where it is offered. Sessions whose address stays go on.
#[test]
fn portals_follow_services_and_addresses() {
    let (bed, pool) = fresh();
    let all = "for n in eth0 eth1; do vsnap network update $n --services all; done >/dev/null; \
               ip addr del fd78:7::1/64 dev eth1 2>/dev/null; true";
    bed.shell(all);
    let _all = bed.afterwards(all);
    let host_id = host(&bed, "tester", &[IQN]);
    map(&bed, &lun(&bed, &pool, "disk", 16 * MIB), &host_id);
    let portals = || bed.shell(&format!("ls {CONFIGFS}/iscsi/{}/tpgt_1/np", target(&bed)));
    assert_eq!(portals(), "[::]:3260");
    become_initiator(&bed, IQN, "");
    let discover = |address: &str| bed.shell(&format!("iscsiadm -m discovery -t st -p {address}"));
    // Only the address that it came in by.
    assert_eq!(discover("10.77.0.1").lines().count(), 1);
    bed.shell("iscsiadm -m node -l >/dev/null; udevadm settle");
    let path = format!("/dev/disk/by-path/ip-10.77.0.1:3260-iscsi-{}-lun-0", target(&bed));
    wait_until("the disk is there", 60, || bed.try_shell(&format!("test -b {path}")).status.success());
    let session = || bed.shell("iscsiadm -m session | cut -d ' ' -f 2");
    let id = session();
    let writes = |text: &str| {
        bed.shell(&format!("echo {text} | dd of={path} bs=512 conv=sync oflag=direct status=none"));
        assert_eq!((bed.shell(&format!("head -c {} {path}", text.len())).as_str(), session()), (text, id.clone()));
    };
    writes("everywhere");
    bed.shell("vsnap network update eth0 --services mgmt,nfs,smb,repl");
    assert_eq!(portals(), "10.77.0.1:3260");
    writes("on eth1 alone");
    assert_eq!(discover("10.77.0.1").lines().count(), 1);
    assert!(!bed.try_shell("iscsiadm -m discovery -t st -p 127.0.0.1").status.success());
    // An address that comes is one more with the next change, or round of upkeep.
    bed.shell("ip addr add fd78:7::1/64 dev eth1 nodad");
    bed.put(&format!("/api/host/{host_id}"), json!({"name": "renamed"})).ok();
    assert_eq!(portals(), "10.77.0.1:3260\n[fd78:7::1]:3260");
    assert!(discover("[fd78:7::1]").contains("[fd78:7::1]:3260"));
    writes("on both");
    // As on a machine without addresses when the daemon starts; they come later.
    bed.shell("systemctl stop vsnapd; ip addr del fd78:7::1/64 dev eth1; systemctl start vsnapd");
    bed.wait_for_api();
    assert_eq!(portals(), "10.77.0.1:3260");
    writes("on eth1 again");
    bed.shell("vsnap network update eth0 --services all");
    assert_eq!(portals(), "[::]:3260");
    assert!(discover("127.0.0.1").contains("127.0.0.1:3260"));
    writes("everywhere again");
    log_out(&bed);
    remove_hosts(&bed);
    check_nothing_left(&bed);
    assert!(!bed.shell("dmesg").contains("blocked for more than"), "a kernel task hangs");
}

#[test]
fn what_was_taken_away_by_hand_comes_back_and_strangers_stay() {
    let (bed, pool) = fresh();
    let volume = lun(&bed, &pool, "disk", 16 * MIB);
    bed.shell("targetcli /backstores/ramdisk create name=theirs size=4M; targetcli /iscsi create iqn.2003-01.org.example:theirs");
    bed.shell("targetcli /iscsi/iqn.2003-01.org.example:theirs/tpg1/luns create /backstores/ramdisk/theirs");
    let theirs =
        || bed.shell(&format!("find {CONFIGFS}/iscsi/iqn.2003-01.org.example:theirs {CONFIGFS}/core/rd_mcp_* | sort"));
    let before = theirs();
    let host_id = host(&bed, "tester", &[IQN]);
    map(&bed, &volume, &host_id);
    let (iqn, links) = (target(&bed), format!("{CONFIGFS}/iscsi/{}/tpgt_1", target(&bed)));
    bed.while_upkeep_waits(|| {
        bed.shell(&format!("rm {links}/acls/{IQN}/lun_0/*; rmdir {links}/acls/{IQN}/lun_0; rm {links}/lun/lun_{volume}/*; rmdir {links}/lun/lun_{volume}"));
    });
    // Any change, or a round of upkeep.
    bed.put(&format!("/api/host/{host_id}"), json!({"name": "renamed"})).ok();
    bed.shell(&format!("test -d {links}/acls/{IQN}/lun_0"));
    become_initiator(&bed, IQN, "");
    bed.try_shell(&format!("iscsiadm -m discovery -t st -p 127.0.0.1; iscsiadm -m node -T {iqn} -l; udevadm settle"));
    device(&bed, 0);
    log_out(&bed);
    assert_eq!(theirs(), before);
    bed.delete(&format!("/api/host/{host_id}")).ok();
    check_nothing_left(&bed);
    assert_eq!(theirs(), before, "after the target of the appliance is gone");
    bed.shell("targetcli /iscsi delete iqn.2003-01.org.example:theirs; targetcli /backstores/ramdisk delete theirs");
}
