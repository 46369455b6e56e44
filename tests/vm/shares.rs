//! Shares, with clients that are not ours: the kernel's NFS client in network namespaces of the appliance, so that there
//! are several addresses, `smbclient`, and a mounted SMB share.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    bed::{Afterwards, Bed},
    wait::wait_until,
};

/// Two clients, each in a network of its own: number 1 has 10.78.1.2 and fd78:1::2, number 2 has 10.78.2.2 and fd78:2::2.
pub fn clients(bed: &Bed) -> Afterwards<'_> {
    let gone = "for i in 1 2; do umount -fl /mnt/c$i; ip link del veth$i; ip netns del c$i; done 2>/dev/null; true";
    bed.shell(gone);
    bed.shell(
        "for i in 1 2; do ip netns add c$i; ip link add veth$i type veth peer name eth0 netns c$i; \
         ip addr add 10.78.$i.1/24 dev veth$i; ip addr add fd78:$i::1/64 dev veth$i nodad; ip link set veth$i up; \
         ip -n c$i addr add 10.78.$i.2/24 dev eth0; ip -n c$i addr add fd78:$i::2/64 dev eth0 nodad; \
         ip -n c$i link set eth0 up; ip -n c$i link set lo up; \
         mkdir -p /mnt/c$i; done",
    );
    bed.afterwards(gone)
}

/// Mounts a path of the appliance at a client; tells whether it could.
pub fn mount(bed: &Bed, client: u8, version: &str, path: &str) -> bool {
    mount_from(bed, client, &format!("10.78.{client}.1"), version, path)
}

/// The same from another of the appliance's addresses.
fn mount_from(bed: &Bed, client: u8, server: &str, version: &str, path: &str) -> bool {
    let options = format!("vers={version},nolock,soft,timeo=50,retrans=2,retry=0");
    let command = format!(
        "umount -fl /mnt/c{client} 2>/dev/null; timeout 40 nsenter --net=/run/netns/c{client} \
         mount -t nfs -o {options} {server}:{path} /mnt/c{client}"
    );
    bed.try_shell(&command).status.success()
}

fn works(bed: &Bed, command: &str) -> bool {
    bed.try_shell(&format!("timeout 40 {command}")).status.success()
}

fn filesystem(bed: &Bed, pool: &str, name: &str) -> String {
    let volume = bed.post("/api/volume", json!({"name": name, "volume_type": "filesystem", "pool_id": pool})).ok();
    volume["id"].as_str().unwrap().to_owned()
}

pub fn share(bed: &Bed, volume: &str, body: Value) -> Value {
    bed.post(&format!("/api/volume/{volume}/share"), body).ok()
}

pub fn nfs(hosts: &[&str]) -> Value {
    json!({"share_type": "nfs", "share_options": {"allowed_hosts": hosts}})
}

pub fn exported_to(bed: &Bed, path: &str) -> Vec<String> {
    let table = bed.shell("cat /var/lib/nfs/etab");
    let ours = table.lines().filter_map(|line| line.strip_prefix(&format!("{path}\t")));
    let mut clients: Vec<String> = ours.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())).collect();
    clients.sort();
    clients
}

pub fn smb(bed: &Bed, login: &str, share: &str, commands: &str) -> (bool, String) {
    let output =
        bed.try_shell(&format!("cd /tmp; timeout 60 smbclient -U '{login}' //127.0.0.1/{share} -c '{commands}' 2>&1"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn login() -> String {
    let variable = |name: &str| std::env::var(name).unwrap();
    format!("{}%{}", variable("VSNAP_TEST_USER"), variable("VSNAP_TEST_PASSWORD"))
}

#[test]
fn nfs_shares_are_for_those_who_are_allowed() {
    let bed = Bed::fresh();
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let volume = filesystem(&bed, &pool, "nfs");
    // Exports of others: one made by hand, on a path that is not ours.
    let _theirs = bed.afterwards("exportfs -u 10.9.9.9:/srv");
    bed.shell("exportfs -i -o ro,no_subtree_check 10.9.9.9:/srv");
    let _clients = clients(&bed);
    let share = share(&bed, &volume, nfs(&["10.78.1.2", "2001:db8::/32", "no-such-host.invalid"]));
    let (id, path) = (share["id"].as_str().unwrap(), share["name"].as_str().unwrap());
    assert_eq!(path, format!("/vsnap/vpool{pool}/fs{volume}"));
    assert_eq!(exported_to(&bed, path), ["10.78.1.2", "2001:db8::/32"]);
    // Over both versions the same bytes arrive, and are there when the client was told so.
    for version in ["3", "4.2"] {
        assert!(mount(&bed, 1, version, path), "version {version}");
        bed.shell(&format!("dd if=/dev/urandom of=/mnt/c1/{version} bs=1M count=4 conv=fsync status=none"));
        bed.shell(&format!("cmp /mnt/c1/{version} {path}/{version}"));
        bed.shell(&format!("test $(stat -c %u /mnt/c1/{version}) = 0"));
    }
    assert!(!mount(&bed, 2, "4.2", path), "a client that is not allowed");
    assert!(!mount(&bed, 2, "3", path), "a client that is not allowed");
    // The daemon's restart is nothing that a client notices.
    bed.shell("systemctl restart vsnapd");
    bed.shell("cmp /mnt/c1/4.2 /mnt/c1/4.2 && echo still >> /mnt/c1/note");
    bed.wait_for_api();
    // Read-only counts at once, also for who has it mounted.
    let change = json!({"share_type": "nfs", "share_options": {"allowed_hosts": ["10.78.1.2"], "read_only": true}});
    bed.put(&format!("/api/share/{id}"), change).ok();
    assert!(!works(&bed, "touch /mnt/c1/more") && works(&bed, "cat /mnt/c1/note"));
    // Another one is allowed, and the first no longer.
    bed.put(&format!("/api/volume/{volume}/share"), nfs(&["10.78.2.0/24"])).ok();
    assert!(!works(&bed, "touch /mnt/c1/again"), "what a client had mounted is closed to it");
    assert!(mount(&bed, 2, "4.2", path) && works(&bed, "touch /mnt/c2/more"));
    assert_eq!(bed.shell("grep -c ^/srv /var/lib/nfs/etab"), "1", "an export of somebody else");
    // The volume goes while a client has a file open.
    let began = Instant::now();
    bed.shell("(sleep 60 > /mnt/c2/open) >/dev/null 2>&1 &");
    bed.delete(&format!("/api/volume/{volume}")).ok();
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    assert_eq!(exported_to(&bed, path), Vec::<String>::new());
    assert!(!works(&bed, &format!("zfs list vpool{pool}/fs{volume}")));
}

#[test]
fn ipv6_clients_are_told_apart() {
    let bed = Bed::fresh();
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let volume = filesystem(&bed, &pool, "nfs");
    let _clients = clients(&bed);
    let share = share(&bed, &volume, nfs(&["fd78:1::2"]));
    let path = share["name"].as_str().unwrap();
    for version in ["3", "4.2"] {
        assert!(mount_from(&bed, 1, "[fd78:1::1]", version, path), "version {version}");
        bed.shell(&format!(
            "echo {version} > /mnt/c1/{version}; sync /mnt/c1/{version}; grep -q {version} {path}/{version}"
        ));
        assert!(!mount_from(&bed, 2, "[fd78:2::1]", version, path), "another address, version {version}");
        assert!(!mount(&bed, 1, version, path), "the same client by IPv4, version {version}");
    }
    bed.put(&format!("/api/volume/{volume}/share"), nfs(&["fd78:2::/64"])).ok();
    assert!(mount_from(&bed, 2, "[fd78:2::1]", "4.2", path) && works(&bed, "grep -q 4.2 /mnt/c2/4.2"), "its subnet");
    assert!(!mount_from(&bed, 1, "[fd78:1::1]", "4.2", path), "allowed no longer");
}

/// While others change shares all the time, a volume that a client has mounted can be deleted.
#[test]
fn a_burst_of_changes_keeps_no_deletion_from_its_end() {
    let bed = Bed::fresh();
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let (one, two) = (filesystem(&bed, &pool, "one"), filesystem(&bed, &pool, "two"));
    let _clients = clients(&bed);
    let path = share(&bed, &one, nfs(&["10.78.1.2"]))["name"].as_str().unwrap().to_owned();
    share(&bed, &two, nfs(&["10.9.9.9"]));
    assert!(mount(&bed, 1, "4.2", &path) && works(&bed, "touch /mnt/c1/file"));
    let deleted = std::sync::atomic::AtomicBool::new(false);
    let change = |host: &str| bed.put(&format!("/api/volume/{two}/share"), nfs(&[host])).ok();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for host in (1..200).map(|host| format!("10.9.9.{host}")) {
                change(&host);
                if deleted.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        // Other runs of exportfs that nobody can hold back book seconds as well.
        bed.shell("for i in 1 2 3 4 5 6 7 8; do exportfs -f; done");
        let began = Instant::now();
        let answer = bed.delete(&format!("/api/volume/{one}"));
        deleted.store(true, std::sync::atomic::Ordering::Relaxed);
        println!("the deletion took {:?}", began.elapsed());
        answer.ok();
    });
    assert!(!works(&bed, &format!("zfs list vpool{pool}/fs{one}")));
    let began = Instant::now();
    bed.delete(&format!("/api/volume/{two}")).ok();
    println!("the other one took {:?}", began.elapsed());
}

#[test]
fn snapshots_are_in_an_nfs_share_when_they_are_wanted() {
    let bed = Bed::fresh();
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let volume = filesystem(&bed, &pool, "nfs");
    let _clients = clients(&bed);
    let options = json!({"allowed_hosts": ["10.78.1.2"], "snapshots_visible": true});
    let share = share(&bed, &volume, json!({"share_type": "nfs", "share_options": options}));
    let path = share["name"].as_str().unwrap();
    bed.shell(&format!("echo before > {path}/f"));
    let snapshot = bed.post(&format!("/api/volume/{volume}/snapshot"), json!({"name": "s"})).ok();
    let snapshot = snapshot["id"].as_str().unwrap();
    bed.shell(&format!("echo after > {path}/f"));
    for version in ["3", "4.2"] {
        assert!(mount(&bed, 1, version, path));
        assert_eq!(bed.shell(&format!("cat /mnt/c1/.zfs/snapshot/snap{snapshot}/f")), "before");
    }
    // The server has it open for the client, and yet it can be deleted.
    bed.delete(&format!("/api/snapshot/{snapshot}")).ok();
    let other = bed.post(&format!("/api/volume/{volume}/snapshot"), json!({"name": "t"})).ok();
    bed.shell(&format!("cat /mnt/c1/.zfs/snapshot/snap{}/f", other["id"].as_str().unwrap()));
    let message = bed
        .post(&format!("/api/volume/{volume}"), json!({"action": "rollback", "snapshot_id": other["id"]}))
        .fails(409, "BusyError");
    assert!(message.contains(&format!("share {}", share["id"].as_str().unwrap())), "{message}");
    let action = json!({"action": "rollback", "snapshot_id": other["id"], "discard_shares": [share["id"]]});
    let volume = bed.post(&format!("/api/volume/{volume}"), action).ok();
    assert_eq!(volume["share_id"], Value::Null);
    bed.delete(&format!("/api/pool/{pool}")).ok();
}

#[test]
fn smb_shares_are_for_users_of_the_appliance() {
    let bed = Bed::fresh();
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let volume = filesystem(&bed, &pool, "smb");
    let _user = bed.afterwards("smbpasswd -x outsider; userdel outsider");
    bed.shell("useradd -M outsider; printf 'Secret12\\nSecret12\\n' | smbpasswd -s -a outsider");
    let before =
        bed.shell("grep -v vsnap.conf /etc/samba/smb.conf | grep -v 'Shares of the vSnap'; pidof -s smbd >/dev/null");
    let share = share(&bed, &volume, json!({"share_type": "smb"}));
    let (id, name) = (share["id"].as_str().unwrap(), share["name"].as_str().unwrap());
    assert_eq!(name, format!("vpool{pool}_fs{volume}"));
    let path = format!("/vsnap/vpool{pool}/fs{volume}");
    bed.shell("dd if=/dev/urandom of=/tmp/one bs=1M count=4 status=none");
    let (done, text) = smb(&bed, &login(), name, "put one; mkdir d; get one two; setea one color blue; geteas one");
    assert!(done && text.contains("color"), "{text}");
    bed.shell(&format!("cmp /tmp/one /tmp/two && cmp /tmp/one {path}/one"));
    for bad in [format!("{}x", login()), "outsider%Secret12".to_owned(), "nobody%".to_owned(), "%".to_owned()] {
        let (done, text) = smb(&bed, &bad, name, "ls");
        assert!(!done && !text.contains("blocks of size"), "{bad}: {text}");
    }
    let (done, text) = smb(&bed, &login(), name, "ls");
    assert!(done, "{text}");
    // An ACL of Windows survives the way there and back.
    let user = login().split('%').next().unwrap().to_owned();
    let acl = |change: &str| bed.shell(&format!("smbcacls -U '{}' //127.0.0.1/{name} one {change}", login()));
    acl(&format!("-a 'ACL:{user}:ALLOWED/0x0/READ'"));
    assert!(acl("").contains("ALLOWED/0x0/READ"), "{}", acl(""));
    // A mounted share, encrypted; the appliance's old state is a previous version as soon as there is a snapshot.
    bed.post(&format!("/api/volume/{volume}/snapshot"), json!({"name": "s"})).ok();
    let (_, text) = smb(&bed, &login(), name, "allinfo one");
    assert!(text.contains("@GMT-20"), "{text}");
    let _mount = bed.afterwards("umount -fl /mnt/smb");
    let (user, password) = (login(), login());
    let (user, password) = (user.split('%').next().unwrap(), password.split('%').nth(1).unwrap());
    bed.shell(&format!(
        "mkdir -p /mnt/smb; mount -t cifs //127.0.0.1/{name} /mnt/smb -o vers=3.1.1,user={user},pass={password}; \
         echo new > /mnt/smb/three; sync /mnt/smb/three; grep -q new {path}/three"
    ));
    let status = bed.shell("smbstatus -S");
    assert!(status.lines().any(|line| line.contains(name) && line.contains("AES")), "not encrypted: {status}");
    // The other users' connections stay when a share comes and goes.
    let other = filesystem(&bed, &pool, "other");
    let other = bed.post("/api/share", json!({"vol_id": other, "share_type": "smb"})).ok();
    bed.delete(&format!("/api/share/{}", other["id"].as_str().unwrap())).ok();
    assert!(bed.shell("smbstatus -S").contains(name), "a share that was not touched lost its client");
    let after = bed.shell("grep -v vsnap.conf /etc/samba/smb.conf | grep -v 'Shares of the vSnap'");
    assert_eq!(before.trim(), after.trim(), "smb.conf of the administrator");
    // From SMB to NFS in one step; the connection ends, and so does the volume.
    bed.shell("(sleep 60 > /mnt/smb/open) >/dev/null 2>&1 &");
    let changed = bed.put(&format!("/api/share/{id}"), nfs(&["10.9.9.9"])).ok();
    assert_eq!((&changed["id"], changed["name"].as_str()), (&share["id"], Some(path.as_str())));
    assert_eq!(exported_to(&bed, &path), ["10.9.9.9"]);
    assert!(!smb(&bed, &login(), name, "ls").0);
    let began = Instant::now();
    bed.delete(&format!("/api/volume/{volume}")).ok();
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

/// What others undo is brought back, and what is shared is shared again after a reboot.
#[test]
fn exports_that_others_removed_come_back() {
    let bed = Bed::fresh();
    let pool = bed.create_pool("shares", "raid0", &bed.equal_disks(1));
    let (one, two) = (filesystem(&bed, &pool, "one"), filesystem(&bed, &pool, "two"));
    let path = share(&bed, &one, nfs(&["10.78.1.2"]))["name"].as_str().unwrap().to_owned();
    let name = share(&bed, &two, json!({"share_type": "smb"}))["name"].as_str().unwrap().to_owned();
    // Upkeep may run at this very moment and bring them back at once; its line in the log tells that they were gone.
    bed.shell("exportfs -ua; rm /etc/exports.d/vsnap.exports /etc/samba/vsnap.conf; systemctl stop smbd");
    wait_until("upkeep brings the exports back", 100, || {
        exported_to(&bed, &path) == ["10.78.1.2"] && smb(&bed, &login(), &name, "ls").0
    });
    let log = bed.shell("journalctl -u vsnapd --since -3min -o cat");
    assert!(log.contains("an export was not as it should be"), "{log}");
    bed.delete(&format!("/api/pool/{pool}")).ok();
    assert_eq!(exported_to(&bed, &path), Vec::<String>::new());
    assert!(!smb(&bed, &login(), &name, "ls").0);
}
