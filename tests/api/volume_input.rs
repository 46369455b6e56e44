//! Bad input about volumes and snapshots: each is refused, names what is wrong, and changes nothing.

use serde_json::{Value, json};
use vsnap::os::fake::FileKind;

use crate::{
    appliance::{Appliance, request},
    volumes::{filesystem, make, snapshot},
};

/// Filesystem 1 `fs` with files, lun 2 `lun` of 1 MiB, filesystem 3 `other` in pool 2, snapshot 1 `s` of volume 1,
/// snapshot 2 `t` of volume 2.
async fn appliance() -> Appliance {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    make(&appliance, "lun", "lun", json!({ "size_total": 1 << 20 })).await;
    make(&appliance, "other", "filesystem", json!({ "pool_id": 2 })).await;
    for (path, kind) in [
        ("taken.img", FileKind::File(vec![0; 512])),
        ("folder/a.img", FileKind::File(vec![0; 512])),
        ("outside", FileKind::Link(None)),
        ("circle", FileKind::Link(Some("circle".to_owned()))),
        ("pipe", FileKind::Pipe),
    ] {
        appliance.os.world().add_file("vpool1/fs1", path, kind).unwrap();
    }
    for (volume, name) in [("1", "s"), ("2", "t")] {
        snapshot(&appliance, volume, name).await;
    }
    appliance
}

/// All that a client can see of volumes and snapshots, and every operation that was begun.
async fn state(appliance: &Appliance) -> Vec<Value> {
    let mut state = Vec::new();
    for path in ["/api/volume?detail=true", "/api/snapshot?detail=true", "/api/operation?limit=1000"] {
        state.push(appliance.get(path).await.ok());
    }
    state
}

/// Sends each and expects a 400 that begins with the name of the member.
async fn refused(appliance: &Appliance, method: &str, path: &str, cases: &[(Value, &str)]) {
    let before = state(appliance).await;
    for (body, member) in cases {
        let answer = appliance.send(request(method, path, &body.to_string())).await;
        assert_eq!((answer.status, answer.error()), (400, "InvalidParameterError"), "{body}");
        assert!(answer.message().starts_with(&format!("{member}: ")), "{body}: {}", answer.message());
        assert_eq!(state(appliance).await, before, "{body}");
    }
}

fn new(kind: &str, member: &str, value: Value) -> Value {
    let mut body = json!({ "name": "x", "volume_type": kind });
    match kind {
        "filebackedlun" => (body["parent_id"], body["parent_path"]) = (json!(1), json!("taken.img")),
        "lun" => (body["pool_id"], body["size_total"]) = (json!(1), json!(1 << 20)),
        _ => body["pool_id"] = json!(1),
    }
    body[member] = value;
    body
}

#[tokio::test]
async fn new_filesystems_and_luns() {
    let appliance = appliance().await;
    let mut cases = vec![
        (json!({}), "name"),
        (json!({ "name": "x" }), "volume_type"),
        (json!({ "name": "x", "volume_type": "lun", "pool_id": 1 }), "size_total"),
        (json!({ "name": "x", "volume_type": "lun", "size_total": 65_536 }), "pool_id"),
    ];
    let members = [
        ("filesystem", "volume_type", vec![json!("tape"), json!("Lun"), json!(7)]),
        ("filesystem", "name", vec![json!(""), json!(" x"), json!("x\n"), json!("n".repeat(257)), json!(5)]),
        ("filesystem", "pool_id", vec![json!(null), json!("one"), json!(0), json!("-1"), json!(1.5), json!([1])]),
        ("filesystem", "compression", vec![json!("true"), json!(1)]),
        ("filesystem", "size_block", vec![json!(4096)]),
        ("filesystem", "parent_id", vec![json!(1)]),
        ("filesystem", "parent_path", vec![json!("a")]),
        ("lun", "parent_id", vec![json!(1)]),
        ("lun", "parent_path", vec![json!("a")]),
        (
            "lun",
            "size_block",
            vec![
                json!(0),
                json!(256),
                json!(513),
                json!("3000"),
                json!(262_144),
                json!(-4096),
                json!(u64::MAX),
                json!("x"),
            ],
        ),
    ];
    for (kind, member, values) in members {
        cases.extend(values.into_iter().map(|value| (new(kind, member, value), member)));
    }
    for kind in ["filesystem", "lun"] {
        let sizes = [
            json!(0),
            json!("0"),
            json!(-1),
            json!("-1073741824"),
            json!(1.5),
            json!("10G"),
            json!(""),
            json!(1u64 << 63),
            json!("9223372036854775807"),
            json!("9223372036854775808"),
            json!("18446744073709551616"),
            json!("9".repeat(60)),
            // Larger than the pool.
            json!(1u64 << 50),
        ];
        cases.extend(sizes.into_iter().map(|size| (new(kind, "size_total", size), "size_total")));
    }
    refused(&appliance, "POST", "/api/volume", &cases).await;
}

#[tokio::test]
async fn new_file_backed_luns() {
    let appliance = appliance().await;
    let taken = new("filebackedlun", "name", json!("first"));
    appliance.post("/api/volume", &taken.to_string()).await.ok();
    let mut cases = Vec::new();
    for path in [
        "",
        "/taken.img",
        "..",
        "../fs1/taken.img",
        "folder/../taken.img",
        "./taken.img",
        "folder//a.img",
        "folder",
        "missing.img",
        "taken.img/x",
        "outside",
        "circle",
        "pipe",
        ".zfs/snapshot/s/taken.img",
        "a\nb",
    ] {
        cases.push((new("filebackedlun", "parent_path", json!(path)), "parent_path"));
    }
    for path in [json!(null), json!(7), json!("n".repeat(300))] {
        cases.push((new("filebackedlun", "parent_path", path), "parent_path"));
    }
    // A lun is no filesystem.
    for parent in [json!(null), json!("x"), json!(0), json!(2)] {
        cases.push((new("filebackedlun", "parent_id", parent), "parent_id"));
    }
    for (member, value) in [
        ("pool_id", json!(1)),
        ("size_total", json!(512)),
        ("size_block", json!(512)),
        ("compression", json!(true)),
        ("deduplication", json!(false)),
        ("syncwrite", json!(true)),
    ] {
        cases.push((new("filebackedlun", member, value), member));
    }
    refused(&appliance, "POST", "/api/volume", &cases).await;
    let again = appliance.post("/api/volume", &new("filebackedlun", "name", json!("second")).to_string()).await;
    assert_eq!((again.status, again.error()), (409, "AlreadyExistsError"));
}

#[tokio::test]
async fn new_clones() {
    let appliance = appliance().await;
    let mut cases = vec![(json!({ "snapshot_id": 1 }), "name")];
    for (member, value) in [
        ("volume_type", json!("filesystem")),
        ("pool_id", json!(1)),
        ("size_total", json!(512)),
        ("size_block", json!(512)),
        ("parent_id", json!(1)),
        ("parent_path", json!("a")),
        ("compression", json!(true)),
    ] {
        cases.push((json!({ "name": "x", "snapshot_id": 1, member: value }), member));
    }
    for id in [json!("x"), json!(0), json!(-1), json!("9223372036854775808"), json!({})] {
        cases.push((json!({ "name": "x", "snapshot_id": id }), "snapshot_id"));
    }
    refused(&appliance, "POST", "/api/volume", &cases).await;
}

#[tokio::test]
async fn what_is_not_there_or_taken_already() {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    let cases = [
        ("POST", "/api/volume", json!({ "name": "x", "snapshot_id": 99 }), 404, "NotFoundError"),
        ("POST", "/api/volume", new("filesystem", "pool_id", json!(99)), 404, "NotFoundError"),
        ("POST", "/api/volume", new("filebackedlun", "parent_id", json!(99)), 404, "NotFoundError"),
        ("POST", "/api/volume", new("filesystem", "name", json!("lun")), 409, "AlreadyExistsError"),
        ("POST", "/api/volume", json!({ "name": "fs", "snapshot_id": 1 }), 409, "AlreadyExistsError"),
        ("PUT", "/api/volume/1", json!({ "name": "lun" }), 409, "AlreadyExistsError"),
        ("PUT", "/api/volume/99", json!({ "name": "x" }), 404, "NotFoundError"),
        ("PUT", "/api/volume/x", json!({ "name": "x" }), 404, "NotFoundError"),
        ("POST", "/api/volume/1", json!({ "action": "rollback", "snapshot_id": 99 }), 404, "NotFoundError"),
        ("POST", "/api/volume/1", json!({ "action": "promote" }), 409, "InvalidStateError"),
        ("POST", "/api/volume/99/snapshot", json!({}), 404, "NotFoundError"),
        ("POST", "/api/volume/x/snapshot", json!({}), 404, "NotFoundError"),
        ("POST", "/api/volume/1/snapshot", json!({ "name": "s" }), 409, "AlreadyExistsError"),
        ("POST", "/api/snapshot", json!({ "vol_ids": [1, 99] }), 404, "NotFoundError"),
        ("POST", "/api/snapshot", json!({ "vol_ids": [2, 1], "name": "s" }), 409, "AlreadyExistsError"),
        ("PUT", "/api/snapshot/99", json!({ "expires_at": "none" }), 404, "NotFoundError"),
        ("POST", "/api/snapshot/x", json!({ "action": "hold", "reason": "r" }), 404, "NotFoundError"),
        ("POST", "/api/snapshot/1", json!({ "action": "release", "reason": "r" }), 404, "NotFoundError"),
        ("DELETE", "/api/snapshot/99", json!({}), 404, "NotFoundError"),
        ("DELETE", "/api/volume/99", json!({}), 404, "NotFoundError"),
    ];
    for (method, path, body, status, kind) in cases {
        let answer = appliance.send(request(method, path, &body.to_string())).await;
        assert_eq!((answer.status, answer.error()), (status, kind), "{method} {path} {body}: {}", answer.message());
        assert_eq!(state(&appliance).await, before, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn changes_and_actions_of_volumes() {
    let appliance = appliance().await;
    appliance.os.world().write("vpool1/fs1", &[0; 100_000]).unwrap();
    let mut sizes: Vec<_> =
        [json!(0), json!(-1), json!("None"), json!("10G"), json!(1u64 << 63), json!("9".repeat(60)), json!(1u64 << 50)]
            .map(|size| (json!({ "size_total": size }), "size_total"))
            .to_vec();
    sizes.push((json!({ "name": "" }), "name"));
    sizes.push((json!({ "syncwrite": "on" }), "syncwrite"));
    sizes.push((json!({ "name": "new", "size_total": 0 }), "size_total"));
    for volume in ["/api/volume/1", "/api/volume/2"] {
        refused(&appliance, "PUT", volume, &sizes).await;
    }
    // A limit below what is there, a lun that would shrink or have no end.
    refused(&appliance, "PUT", "/api/volume/1", &[(json!({ "size_total": 1 }), "size_total")]).await;
    let luns = [json!(1), json!(524_288), json!("none")].map(|size| (json!({ "size_total": size }), "size_total"));
    refused(&appliance, "PUT", "/api/volume/2", &luns).await;
    let actions = [
        (json!({}), "action"),
        (json!({ "action": "explode" }), "action"),
        (json!({ "action": "Promote" }), "action"),
        (json!({ "action": "rollback" }), "snapshot_id"),
        (json!({ "action": "rollback", "snapshot_id": "s" }), "snapshot_id"),
        (json!({ "action": "rollback", "snapshot_id": 0 }), "snapshot_id"),
        // Of another volume.
        (json!({ "action": "rollback", "snapshot_id": 2 }), "snapshot_id"),
        (json!({ "action": "rollback", "snapshot_id": 1, "discard_snapshots": 2 }), "discard_snapshots"),
        (json!({ "action": "rollback", "snapshot_id": 1, "discard_snapshots": [1, "x"] }), "discard_snapshots[1]"),
        (json!({ "action": "rollback", "snapshot_id": 1, "discard_snapshots": [0] }), "discard_snapshots[0]"),
        (json!({ "action": "rollback", "snapshot_id": 1, "discard_snapshots": [2] }), "discard_snapshots"),
        (json!({ "action": "rollback", "snapshot_id": 1, "discard_clones": [2] }), "discard_clones"),
    ];
    refused(&appliance, "POST", "/api/volume/1", &actions).await;
}

#[tokio::test]
async fn snapshots() {
    let appliance = appliance().await;
    let times = [
        (json!({ "expires_at": "soon" }), "expires_at"),
        (json!({ "expires_at": "30d" }), "expires_at"),
        (json!({ "expires_at": -1 }), "expires_at"),
        (json!({ "expires_at": 1.5 }), "expires_at"),
        (json!({ "expires_at": true }), "expires_at"),
        (json!({ "expires_at": "9223372036854775808" }), "expires_at"),
        // Milliseconds.
        (json!({ "expires_at": 1_900_000_000_000i64 }), "expires_at"),
        // The past.
        (json!({ "expires_at": 1_000_000_000 }), "expires_at"),
        (json!({ "expires_at": 4_000_000_000i64, "locked": "yes" }), "locked"),
    ];
    let lock = [(json!({ "locked": true }), "locked"), (json!({ "locked": true, "expires_at": "none" }), "locked")];
    let names = [json!(""), json!("x "), json!("a\u{0}"), json!("n".repeat(257)), json!(7)]
        .map(|name| (json!({ "name": name }), "name"));
    for cases in [&times[..], &lock, &names] {
        refused(&appliance, "POST", "/api/volume/1/snapshot", cases).await;
        let several: Vec<_> = cases
            .iter()
            .map(|(body, member)| {
                let mut body = body.clone();
                body["vol_ids"] = json!([1, 2]);
                (body, *member)
            })
            .collect();
        refused(&appliance, "POST", "/api/snapshot", &several).await;
    }
    refused(&appliance, "PUT", "/api/snapshot/1", &times).await;
    refused(&appliance, "PUT", "/api/snapshot/1", &[(json!({ "locked": true }), "expires_at")]).await;
    let sets = [
        (json!({}), "vol_ids"),
        (json!({ "vol_ids": [] }), "vol_ids"),
        (json!({ "vol_ids": 1 }), "vol_ids"),
        (json!({ "vol_ids": [1, "x"] }), "vol_ids[1]"),
        (json!({ "vol_ids": [0] }), "vol_ids[0]"),
        (json!({ "vol_ids": [1, 2, "1"] }), "vol_ids[2]"),
        // Of two pools.
        (json!({ "vol_ids": [1, 3] }), "vol_ids"),
    ];
    refused(&appliance, "POST", "/api/snapshot", &sets).await;
    let mut actions = vec![
        (json!({ "reason": "r" }), "action"),
        (json!({ "action": "keep", "reason": "r" }), "action"),
        (json!({ "action": "hold" }), "reason"),
        (json!({ "action": "release" }), "reason"),
    ];
    for reason in [json!(""), json!(" r"), json!("a\tb"), json!("r".repeat(300)), json!(7)] {
        actions.push((json!({ "action": "hold", "reason": reason }), "reason"));
    }
    refused(&appliance, "POST", "/api/snapshot/1", &actions).await;
}
