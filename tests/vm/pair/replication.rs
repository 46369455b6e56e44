use serde_json::{Value, json};

use crate::node::Pair;

/// The main job, from pairing to a failover and back, with real data.
#[test]
fn data_is_there_and_comes_back() {
    let pair = Pair::new();
    let seen = pair.b.get(&format!("/api/partner/{}", pair.id_a));
    assert_eq!((&seen["address"], &seen["ssh_port"]), (&json!("10.77.0.1"), &json!("22")), "{seen}");
    let (volume, relationship) = pair.filesystem("daily backups ü", 24);
    let folder = pair.folder(&volume);
    pair.a.shell(&format!(
        "cd {folder} && mkdir -p deep/er && ln -s ../data deep/link && echo text >'deep/er/näme with space' && \
         truncate -s 16M sparse && setfattr -n user.note -v kept data 2>/dev/null; chmod 640 data; sync -f ."
    ));
    let first = pair.a.sync(&relationship);
    pair.check(&first);
    assert_eq!(first["repl_address"], "10.77.0.2");
    let sent: u64 = first["size_sent"].as_str().unwrap().parse().unwrap();
    assert!((24 << 20..32 << 20).contains(&sent), "{first}");
    for property in ["readonly=on", "canmount=noauto", "mounted=no"] {
        let (name, value) = property.split_once('=').unwrap();
        let replica = pair.b.dataset(&pair.replica(&relationship));
        assert_eq!(pair.b.shell(&format!("zfs get -H -o value {name} {replica}")), value);
    }

    pair.a.shell(&format!("echo changed >>{folder}/deep/er/more; sync -f {folder}"));
    let snapshot = pair.a.post(&format!("/api/volume/{volume}/snapshot"), json!({"name": "evening"}));
    let body = json!({"snap_id": snapshot["id"], "remote_snap_name": "evening, over there"});
    let second = pair.a.post(&format!("/api/relationship/{relationship}/session"), body);
    let second = pair.a.wait(second["id"].as_str().unwrap());
    assert_eq!((&second["status"], &second["local_snap_id"]), (&json!("COMPLETED"), &snapshot["id"]), "{second}");
    let there = pair.b.get(&format!("/api/snapshot/{}", second["remote_snap_id"].as_str().unwrap()));
    assert_eq!((&there["name"], &second["remote_snap_name"]), (&json!("evening, over there"), &there["name"]));
    both_sides_tell_of_it(&pair, &volume, &relationship, &second);
    pair.check(&second);
    let sent: u64 = second["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 1 << 20, "only what changed: {second}");

    // Failover: the replica becomes a volume, and is written.
    let replica = pair.replica(&relationship);
    pair.a.delete(&format!("/api/relationship/{relationship}?preserve_replica=true"));
    let there = format!("/vsnap/{}", pair.b.dataset(&replica));
    pair.b.shell(&format!("test -f {there}/deep/er/more && echo failover >{there}/written; sync -f {there}"));
    // Back: what was written on the old primary since would be lost, so that is refused.
    pair.a.shell(&format!("echo late >{folder}/late; sync -f {folder}"));
    let back = json!({"partner_id": pair.id_a, "remote_vol_name": "daily backups ü", "reuse": true});
    let path = format!("/api/volume/{replica}/relationship");
    let (status, message) = pair.b.refused("POST", &path, back.clone());
    assert!(status == 409 && message.contains("roll it back"), "{status}: {message}");
    let last = second["local_snap_id"].as_str().unwrap();
    pair.a.post(&format!("/api/volume/{volume}"), json!({"action": "rollback", "snapshot_id": last}));
    let id = pair.b.post(&path, back)["id"].as_str().unwrap().to_owned();
    let session = pair.b.sync(&id);
    let sent: u64 = session["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 2 << 20, "no full copy: {session}");
    let arrived = session["remote_snap_id"].as_str().unwrap();
    assert_eq!(pair.a.sum_of_snapshot(arrived), pair.b.sum(&there));
    pair.b.delete(&format!("/api/relationship/{id}?preserve_replica=true"));
    assert_eq!(pair.a.shell(&format!("cat {folder}/written")), "failover");
}

/// Lists and details of the relationship; and the replica is nobody's to change.
fn both_sides_tell_of_it(pair: &Pair, volume: &str, relationship: &str, last: &Value) {
    let detail = pair.a.get(&format!("/api/relationship/{relationship}"));
    for path in [
        format!("/api/volume/{volume}/relationship"),
        "/api/relationship?vol_name=daily%20backups%20%C3%BC".to_owned(),
        "/api/relationship".to_owned(),
    ] {
        let list = pair.a.get(&path);
        assert_eq!((&list["total"], &list["relationships"][0]), (&json!(1), &detail), "{path}");
    }
    assert_eq!((&detail["local_role"], &detail["last_sync_status"]), (&json!("primary"), &json!("COMPLETED")));
    assert_eq!(detail["last_success_snap_id"], last["local_snap_id"]);
    let other = pair.b.get(&format!("/api/relationship/{relationship}"));
    assert_eq!((&other["local_role"], &other["last_success_snap_id"]), (&json!("replica"), &json!(null)));
    for (one, its) in
        [("local_vol_id", "remote_vol_id"), ("remote_vol_id", "local_vol_id"), ("local_vol_name", "remote_vol_name")]
    {
        assert_eq!(detail[one], other[its], "{one}");
    }
    let (replica, newest) = (other["local_vol_id"].clone(), last["remote_snap_id"].as_str().unwrap());
    let (status, message) = pair.b.refused("POST", "/api/share", json!({"vol_id": replica, "share_type": "nfs"}));
    assert!(status == 409 && message.contains("clone"), "{status}: {message}");
    let (status, message) = pair.b.refused("DELETE", &format!("/api/snapshot/{newest}"), json!({}));
    assert!(status == 409 && message.contains("builds on"), "{status}: {message}");
    let (status, _) = pair.a.refused("DELETE", &format!("/api/partner/{}", pair.id_b), json!({}));
    assert_eq!(status, 409, "a partner with relationships stays");
}

#[test]
fn a_lun_is_replicated_and_grows() {
    let pair = Pair::new();
    let body = json!({"name": "disk", "volume_type": "lun", "pool_id": pair.pool_a, "size_total": 64 << 20});
    let volume = pair.a.post("/api/volume", body)["id"].as_str().unwrap().to_owned();
    let device = format!("/dev/zvol/{}", pair.a.dataset(&volume));
    let write = |seek: u32| {
        pair.a
            .shell(&format!("dd if=/dev/urandom of={device} bs=1M seek={seek} count=8 conv=notrunc,fsync status=none"));
    };
    write(0);
    let relationship = pair.a.replicate(&volume, &pair.id_b);
    pair.a.sync(&relationship);
    pair.a.put(&format!("/api/volume/{volume}"), json!({"size_total": 96 << 20}));
    write(80);
    // From a bookmark, since the snapshot is gone.
    let gone = pair.a.get(&format!("/api/relationship/{relationship}"))["last_success_snap_id"].clone();
    pair.a.delete(&format!("/api/snapshot/{}", gone.as_str().unwrap()));
    let session = pair.a.sync(&relationship);
    let sent: u64 = session["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 12 << 20, "{session}");
    let replica = pair.replica(&relationship);
    assert_eq!(pair.b.get(&format!("/api/volume/{replica}"))["size_total"], (96_u64 << 20).to_string());
    let copy = format!("/dev/zvol/{}", pair.b.dataset(&replica));
    assert_eq!(pair.a.shell(&format!("sha256sum <{device}")), pair.b.shell(&format!("sha256sum <{copy}")));
    assert!(!pair.b.try_shell(&format!("dd if=/dev/zero of={copy} bs=4k count=1 conv=notrunc,fsync")).status.success());
    pair.a.delete(&format!("/api/relationship/{relationship}"));
    assert_eq!(pair.b.get("/api/volume")["total"], 0, "the replica is gone with it");
}

#[test]
fn many_relationships_at_once_and_two_sessions_of_one() {
    let pair = Pair::new();
    let all: Vec<(String, String)> = (0..20).map(|number| pair.filesystem(&format!("volume {number}"), 1)).collect();
    let started: Vec<String> =
        all.iter().flat_map(|(_, relationship)| [pair.a.start(relationship), pair.a.start(relationship)]).collect();
    let active = pair.a.get("/api/session?status=ACTIVE")["total"].as_u64().unwrap();
    assert!((1..=5).contains(&active), "{active}");
    let ended: Vec<_> = started.iter().map(|session| pair.a.wait(session)).collect();
    assert!(ended.iter().all(|session| session["status"] == "COMPLETED"), "{ended:?}");
    pair.check(ended.last().unwrap());
    let path = format!("/api/session?rel_id={}", all[0].1);
    assert_eq!(pair.a.get(&path)["total"], 2);
}

#[test]
fn the_command_line_shows_it_all() {
    let pair = Pair::new();
    let (volume, relationship) = pair.filesystem("cli", 2);
    let shown = pair.a.shell("vsnap partner list; vsnap relationship list");
    assert!(shown.contains(&pair.id_b) && shown.contains(&relationship), "{shown}");
    pair.a.shell(&format!("vsnap session start {relationship} --watch </dev/null"));
    let shown = pair.a.shell("vsnap session list");
    assert!(shown.contains("COMPLETED"), "{shown}");
    pair.a.shell(&format!("vsnap relationship delete {relationship} --preserve-replica --noprompt"));
    assert_eq!(pair.a.get(&format!("/api/volume/{volume}/relationship"))["total"], 0);
}

/// What is encrypted leaves the appliance as it is: the partner can't read it without the key.
#[test]
fn an_encrypted_volume_travels_encrypted() {
    let pair = Pair::new();
    let volume = pair.a.make_filesystem(&pair.pool_a, "secret");
    let dataset = pair.a.dataset(&volume);
    // The appliance makes none that are encrypted; an administrator may have made it so.
    pair.a.shell(&format!(
        "head -c 32 /dev/urandom >/root/key && notes=$(zfs get -H -s local -o property,value all {dataset} | \
         sed -n 's/^\\(vsnap:[^\\t]*\\)\\t\\(.*\\)/-o \\1=\\2/p') && zfs destroy {dataset} && \
         zfs create -o encryption=on -o keyformat=raw -o keylocation=file:///root/key $notes {dataset} && \
         dd if=/dev/urandom of=/vsnap/{dataset}/data bs=1M count=16 status=none && sync -f /vsnap/{dataset}"
    ));
    let relationship = pair.a.replicate(&volume, &pair.id_b);
    pair.limit(4 << 20);
    let discarded = pair.a.start(&relationship);
    pair.a.wait_sent(&discarded, 4 << 20);
    // What is left of the first stream is the replica itself, and the next one needs it all the same.
    pair.a.post(&format!("/api/session/{discarded}"), json!({"action": "cancel", "discard": true}));
    let session = pair.a.start(&relationship);
    pair.a.wait_sent(&session, 6 << 20);
    pair.b.kill_daemon();
    pair.limit(0);
    let ended = pair.a.wait(&session);
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    let sent: u64 = ended["size_sent"].as_str().unwrap().parse().unwrap();
    assert!(sent < 26 << 20, "{ended}");
    let (here, there) = (ended["local_snap_id"].as_str().unwrap(), ended["remote_snap_id"].as_str().unwrap());
    assert_eq!(pair.a.guid(here), pair.b.guid(there));
    pair.a.shell(&format!("echo more >/vsnap/{dataset}/more && sync -f /vsnap/{dataset}"));
    pair.a.sync(&relationship);
    let id = pair.replica(&relationship);
    let replica = pair.b.dataset(&id);
    let properties = format!("zfs get -H -o value encryption,keystatus,readonly,canmount {replica} | tr '\\n' ' '");
    assert_eq!(pair.b.shell(&properties), "aes-256-gcm unavailable on noauto");
    let key = pair.a.shell("base64 -w0 /root/key");
    pair.b.shell(&format!("echo {key} | base64 -d >/root/key && zfs load-key -L file:///root/key {replica}"));
    pair.a.delete(&format!("/api/relationship/{relationship}?preserve_replica=true"));
    assert_eq!(pair.a.sum(&format!("/vsnap/{dataset}")), pair.b.sum(&format!("/vsnap/{replica}")));
    pair.b.delete(&format!("/api/volume/{id}"));
    pair.a.delete(&format!("/api/volume/{volume}"));
}
