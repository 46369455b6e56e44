//! Volumes: the shapes of answers, lists, and what can be done with a volume.

use serde_json::{Value, json};
use vsnap::os::Kind;

use crate::appliance::{Appliance, members};

const DETAIL: [&str; 21] = [
    "id",
    "name",
    "volume_type",
    "is_clone",
    "serial",
    "pool_id",
    "pool_name",
    "size_total",
    "size_free",
    "size_used",
    "parent_id",
    "parent_path",
    "snapshot_id",
    "share_id",
    "host_ids",
    "time_created",
    "time_updated",
    "size_block",
    "compression",
    "deduplication",
    "syncwrite",
];

const SUMMARY: [&str; 10] = [
    "id",
    "volume_type",
    "is_clone",
    "name",
    "pool_id",
    "size_total",
    "size_free",
    "size_used",
    "time_created",
    "time_updated",
];

/// Makes a volume; `more` are members beside name, type and pool.
pub async fn make(appliance: &Appliance, name: &str, kind: &str, more: Value) -> Value {
    let mut body = json!({ "name": name, "volume_type": kind, "pool_id": 1 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    appliance.post("/api/volume", &body.to_string()).await.ok()
}

/// Makes a filesystem.
pub async fn filesystem(appliance: &Appliance, name: &str) -> Value {
    make(appliance, name, "filesystem", json!({})).await
}

/// Makes a snapshot and gives its id.
pub async fn snapshot(appliance: &Appliance, volume: &str, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let made = appliance.post(&format!("/api/volume/{volume}/snapshot"), &body).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

/// Ids of the volumes or snapshots in a list.
pub async fn ids(appliance: &Appliance, path: &str) -> (Vec<i64>, Value) {
    let list = appliance.get(path).await.ok();
    let items = list.as_object().unwrap().values().find_map(Value::as_array).unwrap();
    (items.iter().map(|item| item["id"].as_str().unwrap().parse().unwrap()).collect(), list["total"].clone())
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no decimal string")).parse().unwrap()
}

#[tokio::test]
async fn a_filesystem() {
    let appliance = Appliance::with_pools().await;
    let volume = filesystem(&appliance, "größe 1/🦀").await;
    assert_eq!(members(&volume), DETAIL);
    for (member, expected) in [
        ("id", json!("1")),
        ("name", json!("größe 1/🦀")),
        ("volume_type", json!("filesystem")),
        ("is_clone", json!(false)),
        ("pool_id", json!("1")),
        ("pool_name", json!("demo1")),
        ("compression", json!(true)),
        ("deduplication", json!(false)),
        ("syncwrite", json!(true)),
    ] {
        assert_eq!(volume[member], expected, "{member}");
    }
    for member in
        ["serial", "size_total", "parent_id", "parent_path", "snapshot_id", "share_id", "host_ids", "size_block"]
    {
        assert_eq!(volume[member], Value::Null, "{member}");
    }
    for member in ["size_free", "size_used", "time_created", "time_updated"] {
        assert!(number(&volume[member]) > 0, "{member}");
    }
    // Without a limit it has what the pool has.
    let pool = appliance.get("/api/pool/1").await.ok();
    assert!(number(&volume["size_free"]) <= number(&pool["size_free"]));
    assert!(number(&volume["size_free"]) > number(&pool["size_free"]) / 2);

    let limited = make(&appliance, "limited", "filesystem", json!({ "size_total": 1 << 20, "syncwrite": false })).await;
    assert_eq!((&limited["size_total"], &limited["syncwrite"]), (&json!("1048576"), &json!(false)));
    assert!(number(&limited["size_free"]) <= 1 << 20);
}

#[tokio::test]
async fn a_lun() {
    let appliance = Appliance::with_pools().await;
    // Numbers come in as strings, as in the contract, and as numbers.
    let body = r#"{"name": "my_new_vol", "volume_type": "lun", "pool_id": "1", "size_total": "1073741824", "size_block": "512"}"#;
    let volume = appliance.post("/api/volume", body).await.ok();
    assert_eq!(members(&volume), DETAIL);
    assert_eq!([&volume["size_total"], &volume["size_block"]], [&json!("1073741824"), &json!("512")]);
    assert_eq!((&volume["host_ids"], &volume["share_id"]), (&json!([]), &Value::Null));
    assert_eq!(volume["serial"].as_str().unwrap().len(), 36);
    assert!(number(&volume["size_free"]) <= 1 << 30);

    let odd = make(&appliance, "odd", "lun", json!({ "size_total": 100_000, "deduplication": true })).await;
    assert_eq!([&odd["size_block"], &odd["size_total"]], [&json!("65536"), &json!("131072")]);
    assert_eq!(odd["deduplication"], json!(true));
    assert_ne!(odd["serial"], volume["serial"]);
}

#[tokio::test]
async fn a_file_backed_lun() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "files").await;
    appliance
        .os
        .world()
        .add_file("vpool1/fs1", "my_files/file1.img", vsnap::os::fake::FileKind::File(vec![0; 512]))
        .unwrap();
    let body = json!({ "name": "my_file_lun", "volume_type": "filebackedlun", "parent_id": "1",
        "parent_path": "my_files/file1.img" });
    let volume = appliance.post("/api/volume", &body.to_string()).await.ok();
    assert_eq!(members(&volume), DETAIL);
    assert_eq!((&volume["parent_id"], &volume["parent_path"]), (&json!("1"), &json!("my_files/file1.img")));
    assert_eq!((&volume["pool_id"], &volume["host_ids"]), (&json!("1"), &json!([])));
    assert!(volume["serial"].is_string());
    for member in [
        "size_total",
        "size_free",
        "size_used",
        "size_block",
        "compression",
        "deduplication",
        "syncwrite",
        "snapshot_id",
    ] {
        assert_eq!(volume[member], Value::Null, "{member}");
    }
    // Its filesystem can't go before it.
    let answer = appliance.delete("/api/volume/1").await;
    assert_eq!((answer.status, answer.error()), (409, "BusyError"));
    assert!(answer.message().contains("my_file_lun"), "{}", answer.message());
    assert_eq!(appliance.delete("/api/volume/2").await.ok(), json!({}));
    assert_eq!(appliance.delete("/api/volume/1").await.ok(), json!({}));
}

#[tokio::test]
async fn a_clone() {
    let appliance = Appliance::with_pools().await;
    make(&appliance, "disk", "lun", json!({ "size_total": 1 << 20, "size_block": 4096, "compression": false })).await;
    let snapshot = snapshot(&appliance, "1", "s").await;
    let body = json!({ "name": "my_clone_vol", "snapshot_id": snapshot }).to_string();
    let clone = appliance.post("/api/volume", &body).await.ok();
    assert_eq!(members(&clone), DETAIL);
    assert_eq!((&clone["is_clone"], &clone["snapshot_id"]), (&json!(true), &json!(snapshot)));
    assert_eq!([&clone["volume_type"], &clone["pool_id"], &clone["size_total"]], ["lun", "1", "1048576"]);
    assert_eq!((&clone["size_block"], &clone["compression"]), (&json!("4096"), &json!(false)));
    assert_eq!(appliance.get(&format!("/api/snapshot/{snapshot}")).await.ok()["has_clones"], true);
    assert_eq!(ids(&appliance, "/api/volume?is_clone=true").await, (vec![2], json!(1)));
    assert_eq!(ids(&appliance, "/api/volume?snapshot_id=null").await, (vec![1], json!(1)));
}

#[tokio::test]
async fn lookups() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "demo 1/ü").await;
    for path in ["/api/volume/1", "/api/volume?id=1", "/api/volume?name=demo%201/%C3%BC", "/api/volume?id=1&detail=1"] {
        assert_eq!(members(&appliance.get(path).await.ok()), DETAIL, "{path}");
    }
    for path in [
        "/api/volume/2",
        "/api/volume/x",
        "/api/volume/0",
        "/api/volume?id=2",
        "/api/volume?id=x",
        "/api/volume?id=",
        "/api/volume?name=demo",
        "/api/volume/2/snapshot",
        "/api/volume/-1/snapshot",
    ] {
        let answer = appliance.get(path).await;
        assert_eq!((answer.status, answer.error()), (404, "NotFoundError"), "{path}");
    }
    // Beside other parameters they are filters.
    assert_eq!(ids(&appliance, "/api/volume?id=2&limit=5").await, (vec![], json!(0)));
    assert_eq!(ids(&appliance, "/api/volume?name=demo+1/%C3%BC&volume_type=filesystem").await, (vec![1], json!(1)));
    let answer = appliance.get("/api/volume?id=1&typo=2").await;
    assert_eq!(answer.header("x-vsnap-ignored"), Some("typo"));
    assert_eq!(answer.ok()["id"], "1");
}

#[tokio::test]
async fn lists() {
    let appliance = Appliance::with_pools().await;
    assert_eq!(appliance.get("/api/volume").await.ok(), json!({ "volumes": [], "total": 0 }));
    for (name, kind, more) in [
        ("c", "filesystem", json!({})),
        ("a", "lun", json!({ "size_total": 1 << 20 })),
        ("b", "lun", json!({ "size_total": 3 << 20 })),
        ("d", "lun", json!({ "size_total": 2 << 20, "pool_id": 2 })),
    ] {
        make(&appliance, name, kind, more).await;
    }
    let list = appliance.get("/api/volume").await.ok();
    assert_eq!((members(&list), &list["total"]), (vec!["volumes", "total"], &json!(4)));
    assert_eq!(members(&list["volumes"][0]), SUMMARY);
    let full = appliance.get("/api/volume?detail=true").await.ok();
    assert_eq!(full["volumes"][3], appliance.get("/api/volume/4").await.ok());
    for (query, expected, total) in [
        ("", vec![1, 2, 3, 4], 4),
        ("sort=name", vec![2, 3, 1, 4], 4),
        ("sort=-name", vec![4, 1, 3, 2], 4),
        ("sort=volume_type,-size_total", vec![1, 3, 4, 2], 4),
        ("sort=name&limit=2&offset=1", vec![3, 1], 4),
        ("limit=0", vec![], 4),
        ("offset=9", vec![], 4),
        ("volume_type=lun&limit=1", vec![2], 3),
        ("volume_type=lun&pool_id=1&sort=-id", vec![3, 2], 2),
        ("pool_name=demo2", vec![4], 1),
        ("size_total=null", vec![1], 1),
        ("size_total=1048576", vec![2], 1),
        ("is_clone=0", vec![1, 2, 3, 4], 4),
        ("volume_type=tape", vec![], 0),
        ("sort=-size_free&limit=1&volume_type=filesystem", vec![1], 1),
    ] {
        assert_eq!(ids(&appliance, &format!("/api/volume?{query}")).await, (expected, json!(total)), "{query}");
    }
    for (query, field) in [
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("offset=1.5", "offset"),
        ("sort=colour", "sort"),
        ("is_clone=maybe", "is_clone"),
        ("pool_id=one", "pool_id"),
        ("detail=yes", "detail"),
        ("limit=1&limit=2", "limit"),
        ("id=1&id=2", "id"),
        ("limit=9223372036854775808", "limit"),
    ] {
        let answer = appliance.get(&format!("/api/volume?{query}")).await;
        assert_eq!((answer.status, answer.message().split(':').next()), (400, Some(field)), "{query}");
    }
    let answer = appliance.get("/api/volume?colour=blue&limit=1").await;
    assert_eq!(answer.header("x-vsnap-ignored"), Some("colour"));
}

#[tokio::test]
async fn updates() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    make(&appliance, "lun", "lun", json!({ "size_total": 1 << 20 })).await;
    let put = async |path: &str, body: &str| appliance.put(path, body).await.ok();
    let changed = put("/api/volume/1", r#"{"name": "new", "compression": false, "syncwrite": null}"#).await;
    assert_eq!(
        [&changed["name"], &changed["compression"], &changed["syncwrite"]],
        [&json!("new"), &json!(false), &json!(true)]
    );
    assert_eq!(put("/api/volume/1", r#"{"size_total": 1048576}"#).await["size_total"], "1048576");
    assert_eq!(put("/api/volume/1", r#"{"size_total": "2097152"}"#).await["size_total"], "2097152");
    assert_eq!(put("/api/volume/1", r#"{"deduplication": true}"#).await["size_total"], "2097152");
    assert_eq!(put("/api/volume/1", r#"{"size_total": "none"}"#).await["size_total"], Value::Null);
    assert_eq!(put("/api/volume/2", r#"{"size_total": "1048577"}"#).await["size_total"], "1114112");
    let answer = appliance.put("/api/volume/1", r#"{"pool_id": 2, "compression": true}"#).await;
    assert_eq!(answer.header("x-vsnap-ignored"), Some("pool_id"));
    assert_eq!(answer.ok()["compression"], true);
}

#[tokio::test]
async fn rollback_and_promotion() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    let write = |text: &[u8]| appliance.os.world().write("vpool1/fs1", text).unwrap();
    write(b"old");
    let old = snapshot(&appliance, "1", "old").await;
    write(b"new");
    let newer = snapshot(&appliance, "1", "newer").await;
    let clone = appliance.post("/api/volume", &json!({ "name": "copy", "snapshot_id": newer }).to_string()).await.ok();
    let act = async |body: Value| appliance.post("/api/volume/1", &body.to_string()).await;

    let clone_id = clone["id"].as_str().unwrap();
    let plain = json!({ "action": "rollback", "snapshot_id": old });
    let halfway = json!({ "action": "rollback", "snapshot_id": old, "discard_snapshots": [newer] });
    for (body, named) in [(plain, "copy"), (halfway, "copy")] {
        let answer = act(body).await;
        assert_eq!((answer.status, answer.error()), (409, "BusyError"));
        assert!(answer.message().contains(named), "{}", answer.message());
    }
    let without = json!({ "action": "rollback", "snapshot_id": old, "discard_clones": [clone_id] });
    let answer = act(without).await;
    assert!(answer.status == 409 && answer.message().contains("\"newer\""), "{answer:?}");
    assert_eq!(appliance.os.world().read("vpool1/fs1").unwrap(), b"new");

    // A promoted clone owns the newer snapshot, which is in nobody's way then.
    let promoted = appliance.post(&format!("/api/volume/{clone_id}"), r#"{"action": "promote"}"#).await.ok();
    assert_eq!((members(&promoted), &promoted["is_clone"]), (DETAIL.to_vec(), &json!(false)));
    assert_eq!(appliance.get("/api/volume/1").await.ok()["snapshot_id"], json!(newer));
    assert_eq!(appliance.get(&format!("/api/snapshot/{newer}")).await.ok()["parent_id"], json!(clone_id));
    let again = appliance.post(&format!("/api/volume/{clone_id}"), r#"{"action": "promote"}"#).await;
    assert_eq!((again.status, again.error()), (409, "InvalidStateError"));
}

#[tokio::test]
async fn a_rollback_discards_what_is_named() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    let write = |text: &[u8]| appliance.os.world().write("vpool1/fs1", text).unwrap();
    write(b"old");
    let old = snapshot(&appliance, "1", "old").await;
    write(b"new");
    let newer = snapshot(&appliance, "1", "newer").await;
    let clone = json!({ "name": "copy", "snapshot_id": newer }).to_string();
    appliance.post("/api/volume", &clone).await.ok();
    let body = json!({ "action": "rollback", "snapshot_id": old, "discard_snapshots": [newer], "discard_clones": [2] });
    let volume = appliance.post("/api/volume/1", &body.to_string()).await.ok();
    assert_eq!((members(&volume), &volume["id"]), (DETAIL.to_vec(), &json!("1")));
    assert_eq!(appliance.os.world().read("vpool1/fs1").unwrap(), b"old");
    assert_eq!(ids(&appliance, "/api/volume").await, (vec![1], json!(1)));
    assert_eq!(ids(&appliance, "/api/snapshot").await, (vec![1], json!(1)));
}

#[tokio::test]
async fn deletion() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    let first = snapshot(&appliance, "1", "s").await;
    let body = json!({ "name": "copy", "snapshot_id": first }).to_string();
    appliance.post("/api/volume", &body).await.ok();
    for path in ["/api/volume/1", "/api/volume/1?force=true", &format!("/api/snapshot/{first}")] {
        let answer = appliance.delete(path).await;
        assert_eq!((answer.status, answer.error()), (409, "BusyError"), "{path}");
        assert!(answer.message().contains("2 (\"copy\")"), "{}", answer.message());
    }
    assert_eq!(appliance.delete("/api/volume/2?force=false").await.ok(), json!({}));
    assert_eq!(appliance.delete("/api/volume/1").await.ok(), json!({}));
    for path in ["/api/volume/1", "/api/volume/1", "/api/volume/x", "/api/snapshot/1"] {
        assert_eq!(appliance.delete(path).await.error(), "NotFoundError", "{path}");
    }
    assert_eq!(appliance.delete("/api/volume/1?force=perhaps").await.status, 400);
    assert_eq!(appliance.get("/api/snapshot").await.ok(), json!({ "snapshots": [], "total": 0 }));
    // An id is never used again.
    assert_eq!(filesystem(&appliance, "fs").await["id"], "3");
}

#[tokio::test]
async fn a_full_pool_is_507_and_can_be_emptied() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    let old = snapshot(&appliance, "1", "old").await;
    for effect in ["create_dataset", "snapshot", "clone_snapshot", "change_dataset"] {
        appliance.os.refuse(effect, Kind::NoSpace);
    }
    let clone = json!({ "name": "c", "snapshot_id": old }).to_string();
    for (method, path, body) in [
        ("POST", "/api/volume", r#"{"name": "b", "volume_type": "filesystem", "pool_id": 1}"#),
        ("POST", "/api/volume", &clone),
        ("POST", "/api/volume/1/snapshot", "{}"),
        ("POST", "/api/snapshot", r#"{"vol_ids": [1]}"#),
        ("PUT", "/api/volume/1", r#"{"compression": false}"#),
    ] {
        let answer = appliance.send(crate::appliance::request(method, path, body)).await;
        assert_eq!((answer.status, answer.error()), (507, "NoSpaceError"), "{method} {path}");
    }
    assert_eq!(ids(&appliance, "/api/volume").await.0, [1]);
    assert_eq!(ids(&appliance, "/api/snapshot").await.0, [1]);
    assert_eq!(appliance.delete("/api/snapshot/1").await.ok(), json!({}));
    assert_eq!(appliance.delete("/api/volume/1").await.ok(), json!({}));
}

#[tokio::test]
async fn operations_are_told() {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    appliance.delete("/api/volume/1").await.ok();
    let list = appliance.get("/api/operation?subject=volume%201").await.ok();
    assert_eq!((members(&list), &list["total"]), (vec!["operations", "total"], &json!(2)));
    let deletion = &list["operations"][0];
    let expected = ["id", "verb", "subject", "user", "state", "percent", "message", "time_started", "time_ended"];
    assert_eq!(members(deletion), expected);
    assert_eq!([&deletion["verb"], &deletion["subject"], &deletion["state"]], ["delete_volume", "volume 1", "done"]);
    assert_eq!((&deletion["user"], &deletion["message"]), (&json!("vsuser"), &Value::Null));
    assert!(number(&deletion["id"]) > 0 && number(&deletion["time_ended"]) >= number(&deletion["time_started"]));
    assert_eq!(list["operations"][1]["verb"], "create_volume");
    let total = async |query: &str| appliance.get(&format!("/api/operation?{query}")).await.ok()["total"].clone();
    assert_eq!(total("subject=volume%201&state=running").await, 0);
    assert_eq!(total("subject=volume%201&state=ended&limit=1").await, 1);
    assert_eq!(total("subject=volume%207").await, 0);
    for (query, field) in [("state=done", "state"), ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit")]
    {
        let answer = appliance.get(&format!("/api/operation?{query}")).await;
        assert_eq!((answer.status, answer.message().split(':').next()), (400, Some(field)), "{query}");
    }
}
