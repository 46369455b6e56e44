//! Contract sections 8.6, 8.7 and 11, and what goes beyond them: atomic sets, rollback, promotion, holds and locks.

use serde_json::{Value, json};

use crate::{
    bed::Bed,
    volumes::{clone, filesystem, id, lun, pool, snapshot},
    wait::wait_until,
};

fn ids(answer: &Value) -> Vec<String> {
    answer["snapshots"].as_array().unwrap().iter().map(id).collect()
}

fn act(bed: &Bed, volume: &str, body: Value) -> crate::bed::Answer {
    bed.post(&format!("/api/volume/{volume}"), body)
}

#[test]
fn snapshots_are_made_listed_and_deleted() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let (one, two) = (filesystem(&bed, &pool, "one"), filesystem(&bed, &pool, "two"));
    let named = bed.post(&format!("/api/volume/{one}/snapshot"), json!({"name": "same"})).ok();
    let dataset = format!("vpool{pool}/fs{one}@snap{}", id(&named));
    assert_eq!(named["version_id"].as_str().unwrap(), bed.zfs_property(&dataset, "guid"));
    assert_eq!(
        (&named["parent_id"], &named["parent_name"], &named["has_clones"]),
        (&json!(one), &json!("one"), &json!(false))
    );
    bed.post(&format!("/api/volume/{one}/snapshot"), json!({"name": "same"})).fails(409, "AlreadyExistsError");
    let other = snapshot(&bed, &two, json!({"name": "same"}));
    let generated = bed.post(&format!("/api/volume/{one}/snapshot"), json!({})).ok();
    assert!(generated["name"].as_str().unwrap().starts_with(&format!("snap_{one}_")), "{generated}");
    assert_eq!(bed.get(&format!("/api/volume/{one}/snapshot")).ok()["total"], 2);
    assert_eq!(ids(&bed.get("/api/snapshot?name=same").ok()), [id(&named), other.clone()]);
    assert_eq!(
        bed.get(&format!("/api/snapshot?name={}", generated["name"].as_str().unwrap())).ok()["id"],
        generated["id"]
    );
    let page = bed.get("/api/snapshot?sort=-id&limit=1&offset=1").ok();
    assert_eq!((&page["total"], ids(&page)), (&json!(3), vec![other]));
    for snapshot in ids(&bed.get("/api/snapshot").ok()) {
        bed.delete(&format!("/api/snapshot/{snapshot}")).ok();
    }
    assert_eq!(bed.shell(&format!("zfs list -H -t snapshot -o name -r vpool{pool} | wc -l")), "0");
}

#[test]
fn many_volumes_are_caught_at_one_moment() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volumes: Vec<String> = (0..5).map(|at| lun(&bed, &pool, &format!("db{at}"), 16 << 20)).collect();
    let set = bed.post("/api/snapshot", json!({"vol_ids": volumes, "name": "point"})).ok();
    assert_eq!((&set["total"], ids(&set).len()), (&json!(5), 5));
    let moments = bed.shell(&format!("zfs get -Hp -o value -t snapshot -r createtxg vpool{pool} | sort -u | wc -l"));
    assert_eq!(moments, "1", "one transaction made them all");
    // One name is taken, so none is made.
    snapshot(&bed, &volumes[3], json!({"name": "next"}));
    bed.post("/api/snapshot", json!({"vol_ids": volumes, "name": "next"})).fails(409, "AlreadyExistsError");
    bed.post("/api/snapshot", json!({"vol_ids": [volumes[0], volumes[0]]})).fails(400, "InvalidParameterError");
    bed.post("/api/snapshot", json!({"vol_ids": []})).fails(400, "InvalidParameterError");
    bed.post("/api/snapshot", json!({"vol_ids": [volumes[0], "999"]})).fails(404, "NotFoundError");
    assert_eq!(bed.get("/api/snapshot").ok()["total"], 6);
    assert_eq!(bed.shell(&format!("zfs list -H -t snapshot -o name -r vpool{pool} | wc -l")), "6");
}

#[test]
fn a_rollback_says_what_is_in_its_way() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "rolled");
    let file = format!("/vsnap/vpool{pool}/fs{volume}/file");
    bed.shell(&format!("echo one > {file}"));
    let first = snapshot(&bed, &volume, json!({"name": "first"}));
    bed.shell(&format!("echo two > {file}"));
    let second = snapshot(&bed, &volume, json!({"name": "second"}));
    let copy = clone(&bed, &second, "copy");
    let body = |extra: Value| {
        let mut body = json!({"action": "rollback", "snapshot_id": first});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let message = act(&bed, &volume, body(json!({}))).fails(409, "BusyError");
    assert!(message.contains("copy"), "{message}");
    let message = act(&bed, &volume, body(json!({"discard_clones": [copy]}))).fails(409, "BusyError");
    assert!(message.contains("second"), "{message}");
    act(&bed, &volume, body(json!({"discard_snapshots": [first]}))).fails(409, "BusyError");
    // What others hung on it is found before anything of ours goes.
    let all = || body(json!({"discard_clones": [copy], "discard_snapshots": [second]}));
    let dataset = format!("vpool{pool}/fs{volume}");
    let strangers = [
        (format!("bookmark {dataset}@snap{second} {dataset}#cursor"), format!("destroy {dataset}#cursor")),
        (format!("hold step {dataset}@snap{second}"), format!("release step {dataset}@snap{second}")),
        (format!("clone {dataset}@snap{second} vpool{pool}/theirs"), format!("destroy vpool{pool}/theirs")),
    ];
    for (made, gone) in strangers {
        bed.shell(&format!("zfs {made}"));
        let message = act(&bed, &volume, all()).fails(409, "BusyError");
        assert!(message.contains("did not make"), "{made}: {message}");
        bed.shell(&format!("zfs {gone}"));
    }
    assert_eq!(bed.shell(&format!("cat {file}")), "two");
    assert_eq!(bed.get("/api/volume").ok()["total"], 2);
    act(&bed, &volume, all()).ok();
    assert_eq!(bed.shell(&format!("cat {file}")), "one");
    assert_eq!(bed.get("/api/volume").ok()["total"], 1);
    assert_eq!(ids(&bed.get("/api/snapshot").ok()), [first]);
    assert_eq!(bed.get("/api/system/report").ok()["total"], 0);
}

#[test]
fn a_promoted_clone_lets_its_origin_go() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "origin");
    bed.shell(&format!("echo data > /vsnap/vpool{pool}/fs{volume}/file"));
    let (older, origin) = (snapshot(&bed, &volume, json!({})), snapshot(&bed, &volume, json!({})));
    let newer = snapshot(&bed, &volume, json!({}));
    let copy = clone(&bed, &origin, "copy");
    act(&bed, &volume, json!({"action": "promote"})).fails(409, "InvalidStateError");
    let promoted = act(&bed, &copy, json!({"action": "promote"})).ok();
    assert_eq!((&promoted["is_clone"], &promoted["snapshot_id"]), (&json!(false), &Value::Null));
    let parent = |snapshot: &str| bed.get(&format!("/api/snapshot/{snapshot}")).ok()["parent_id"].clone();
    assert_eq!([&older, &origin, &newer].map(|it| parent(it)), [json!(copy), json!(copy), json!(volume)]);
    assert_eq!(bed.get(&format!("/api/volume/{volume}")).ok()["snapshot_id"], json!(origin));
    assert_eq!(bed.get("/api/system/report").ok()["total"], 0);
    bed.delete(&format!("/api/volume/{volume}")).ok();
    assert_eq!(bed.shell(&format!("cat /vsnap/vpool{pool}/fs{copy}/file")), "data");
    bed.delete(&format!("/api/volume/{copy}")).ok();
    assert_eq!(bed.shell(&format!("zfs list -H -o name -t all -r vpool{pool}")), format!("vpool{pool}"));
}

#[test]
fn held_and_locked_snapshots_stay() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "kept");
    let held = snapshot(&bed, &volume, json!({"name": "held"}));
    let path = format!("/api/snapshot/{held}");
    bed.post(&path, json!({"action": "hold", "reason": "legal case"})).ok();
    bed.post(&path, json!({"action": "hold", "reason": "legal case"})).fails(409, "AlreadyExistsError");
    let dataset = format!("vpool{pool}/fs{volume}@snap{held}");
    assert!(bed.shell(&format!("zfs holds -H {dataset}")).contains("vsnap:hold:legal case"));
    let message = bed.delete(&path).fails(409, "BusyError");
    assert!(message.contains("legal case"), "{message}");
    bed.delete(&format!("/api/volume/{volume}?force=true")).fails(409, "BusyError");
    bed.post(&path, json!({"action": "release", "reason": "other"})).fails(404, "NotFoundError");
    bed.post(&path, json!({"action": "release", "reason": "legal case"})).ok();
    bed.delete(&path).ok();

    let now: i64 = bed.shell("date +%s").parse().unwrap();
    bed.post(&format!("/api/volume/{volume}/snapshot"), json!({"locked": true})).fails(400, "InvalidParameterError");
    bed.post(&format!("/api/volume/{volume}/snapshot"), json!({"expires_at": now - 5}))
        .fails(400, "InvalidParameterError");
    let locked = snapshot(&bed, &volume, json!({"name": "locked", "expires_at": now + 50, "locked": true}));
    let path = format!("/api/snapshot/{locked}");
    bed.delete(&path).fails(409, "InvalidStateError");
    for shorter in [json!({"expires_at": now + 40}), json!({"locked": false}), json!({"expires_at": "none"})] {
        bed.put(&path, shorter).fails(409, "InvalidStateError");
    }
    bed.delete(&format!("/api/volume/{volume}?force=true")).fails(409, "InvalidStateError");
    bed.delete(&format!("/api/pool/{pool}?force=true")).fails(409, "InvalidStateError");
    let by_hand = bed.try_shell(&format!("zfs destroy vpool{pool}/fs{volume}@snap{locked}"));
    assert!(!by_hand.status.success(), "the lock keeps out those who bypass the appliance, too");
    bed.put(&path, json!({"expires_at": now + 60})).ok();
    assert_eq!(bed.get("/api/snapshot?locked=1").ok()["total"], 1);
    // Its time comes, and upkeep removes it.
    wait_until("the expired snapshot is removed", 240, || bed.get("/api/snapshot").ok()["total"] == 0);
    assert!(bed.shell("date +%s").parse::<i64>().unwrap() >= now + 60, "not a moment before");
    assert_eq!(bed.shell(&format!("zfs list -H -t snapshot -o name -r vpool{pool} | wc -l")), "0");
}

#[test]
fn a_snapshot_starts_no_process() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "traced");
    // The daemon's own count of processes that it started and that ended.
    let children = || -> u64 {
        let stat = bed.shell("cat /proc/$(systemctl show -p MainPID --value vsnapd)/stat");
        stat.rsplit(')').next().unwrap().split_whitespace().nth(8).unwrap().parse().unwrap()
    };
    let forked = || {
        let before = children();
        (0..5).for_each(|_| drop(snapshot(&bed, &volume, json!({}))));
        children() != before
    };
    // A round of upkeep may fall into one of them; what a request starts would show in each.
    assert!((0..4).any(|_| !forked()), "faults of children that were waited for");
}

#[test]
fn what_changed_between_snapshots_is_told() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    let volume = filesystem(&bed, &pool, "compared");
    let folder = format!("/vsnap/vpool{pool}/fs{volume}");
    bed.shell(&format!("echo a > {folder}/kept; echo b > {folder}/gone; echo c > {folder}/old"));
    let first = snapshot(&bed, &volume, json!({}));
    bed.shell(&format!("rm {folder}/gone; mv {folder}/old '{folder}/new name ü'; dd if=/dev/urandom of={folder}/big bs=1M count=5 status=none"));
    let second = snapshot(&bed, &volume, json!({}));
    let answer = bed.get(&format!("/api/snapshot/{first}/diff?to={second}")).ok();
    let mut changes: Vec<String> = answer["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["path"] != ".")
        .map(|change| format!("{} {} {}", change["change"], change["path"], change["new_path"]).replace('"', ""))
        .collect();
    changes.sort();
    assert_eq!(changes, ["added big null", "removed gone null", "renamed old new name ü"]);
    assert!(answer["size_written"].as_str().unwrap().parse::<u64>().unwrap() > 5 << 20);
    let now = bed.get(&format!("/api/snapshot/{second}/diff")).ok();
    assert_eq!(now["changes"], json!([]));
}
