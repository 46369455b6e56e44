//! Snapshots: the shapes of answers, lists, how long they are kept, and several at one moment.

use serde_json::{Value, json};
use vsnap::os::fake::FileKind;

use crate::{
    appliance::{Appliance, members},
    volumes::{filesystem, ids, make, snapshot},
};

const DETAIL: [&str; 14] = [
    "id",
    "name",
    "parent_id",
    "parent_name",
    "pool_id",
    "pool_name",
    "has_clones",
    "size_used",
    "version_id",
    "time_created",
    "time_updated",
    "expires_at",
    "locked",
    "holds",
];

const SUMMARY: [&str; 5] = ["id", "name", "parent_id", "time_created", "time_updated"];

/// Later than the clock of the fake, which begins in 2027.
const LATER: i64 = 2_000_000_000;

async fn with_volumes() -> Appliance {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    make(&appliance, "lun", "lun", json!({ "size_total": 1 << 20 })).await;
    appliance
}

#[tokio::test]
async fn one_snapshot() {
    let appliance = with_volumes().await;
    let made = appliance.post("/api/volume/1/snapshot", r#"{"name": "ecx_1007_1234567890_myvol1"}"#).await.ok();
    assert_eq!(members(&made), DETAIL);
    for (member, expected) in [
        ("id", json!("1")),
        ("name", json!("ecx_1007_1234567890_myvol1")),
        ("parent_id", json!("1")),
        ("parent_name", json!("fs")),
        ("pool_id", json!("1")),
        ("pool_name", json!("demo1")),
        ("has_clones", json!(false)),
        ("expires_at", Value::Null),
        ("locked", json!(false)),
        ("holds", json!([])),
    ] {
        assert_eq!(made[member], expected, "{member}");
    }
    for member in ["size_used", "version_id", "time_created", "time_updated"] {
        assert!(made[member].as_str().unwrap().parse::<u64>().is_ok(), "{member}");
    }
    // A name is made of volume, time and six digits.
    let generated = appliance.post("/api/volume/2/snapshot", "").await.ok();
    let parts: Vec<_> = generated["name"].as_str().unwrap().split('_').collect();
    assert_eq!((parts.len(), parts[0], parts[1], parts[3].len()), (4, "snap", "2", 6));
    assert_eq!(appliance.delete("/api/snapshot/1").await.ok(), json!({}));
    assert_eq!(appliance.delete("/api/snapshot/1").await.error(), "NotFoundError");
}

#[tokio::test]
async fn lookups() {
    let appliance = with_volumes().await;
    for (volume, name) in [("1", "own ü"), ("1", "shared"), ("2", "shared")] {
        snapshot(&appliance, volume, name).await;
    }
    for path in ["/api/snapshot/1", "/api/snapshot?id=1", "/api/snapshot?name=own+%C3%BC"] {
        let found = appliance.get(path).await.ok();
        assert_eq!((members(&found), &found["id"]), (DETAIL.to_vec(), &json!("1")), "{path}");
    }
    let several = appliance.get("/api/snapshot?name=shared").await.ok();
    assert_eq!((members(&several), &several["total"]), (vec!["snapshots", "total"], &json!(2)));
    assert_eq!(members(&several["snapshots"][0]), SUMMARY);
    for path in
        ["/api/snapshot/9", "/api/snapshot/x", "/api/snapshot?id=9", "/api/snapshot?id=x", "/api/snapshot?name=none"]
    {
        let answer = appliance.get(path).await;
        assert_eq!((answer.status, answer.error()), (404, "NotFoundError"), "{path}");
    }
}

#[tokio::test]
async fn lists() {
    let appliance = with_volumes().await;
    assert_eq!(appliance.get("/api/volume/1/snapshot").await.ok(), json!({ "snapshots": [], "total": 0 }));
    for (volume, name) in [("1", "c"), ("2", "a"), ("1", "b"), ("1", "a")] {
        snapshot(&appliance, volume, name).await;
    }
    let list = appliance.get("/api/volume/1/snapshot").await.ok();
    assert_eq!((members(&list), &list["total"]), (vec!["snapshots", "total"], &json!(3)));
    assert_eq!(members(&list["snapshots"][0]), SUMMARY);
    let full = appliance.get("/api/snapshot?detail=1&id=1&limit=1").await.ok();
    let one = &full["snapshots"][0];
    assert_eq!((members(one), &one["holds"], &one["size_used"]), (DETAIL.to_vec(), &Value::Null, &Value::Null));
    for (path, expected, total) in [
        ("snapshot", vec![1, 2, 3, 4], 4),
        ("snapshot?sort=name,-id", vec![4, 2, 3, 1], 4),
        ("snapshot?sort=-id&limit=2&offset=1", vec![3, 2], 4),
        ("snapshot?parent_name=fs&limit=1", vec![1], 3),
        ("snapshot?parent_id=2", vec![2], 1),
        ("snapshot?name=a&locked=false", vec![2, 4], 2),
        ("snapshot?has_clones=1", vec![], 0),
        ("snapshot?expires_at=null&pool_id=1&sort=id", vec![1, 2, 3, 4], 4),
        ("volume/1/snapshot?sort=name", vec![4, 3, 1], 3),
        ("volume/1/snapshot?name=a", vec![4], 1),
        ("volume/1/snapshot?id=2", vec![], 0),
        ("volume/1/snapshot?offset=2", vec![4], 3),
    ] {
        assert_eq!(ids(&appliance, &format!("/api/{path}")).await, (expected, json!(total)), "{path}");
    }
    for (path, field) in [
        ("snapshot?limit=x", "limit"),
        ("snapshot?locked=perhaps", "locked"),
        ("snapshot?sort=size_used", "sort"),
        ("volume/1/snapshot?offset=-1", "offset"),
        ("volume/1/snapshot?id=x", "id"),
    ] {
        let answer = appliance.get(&format!("/api/{path}")).await;
        assert_eq!((answer.status, answer.message().split(':').next()), (400, Some(field)), "{path}");
    }
    let answer = appliance.get("/api/volume/1/snapshot?colour=red").await;
    assert_eq!(answer.header("x-vsnap-ignored"), Some("colour"));
    // The guid is unsigned.
    let version = appliance.get("/api/snapshot/1").await.ok()["version_id"].as_str().unwrap().to_owned();
    assert_eq!(ids(&appliance, &format!("/api/snapshot?version_id={version}")).await, (vec![1], json!(1)));
}

#[tokio::test]
async fn several_at_one_moment() {
    let appliance = with_volumes().await;
    let body = json!({ "vol_ids": ["2", 1], "name": "all", "expires_at": LATER, "locked": true }).to_string();
    let set = appliance.post("/api/snapshot", &body).await.ok();
    assert_eq!((members(&set), &set["total"]), (vec!["snapshots", "total"], &json!(2)));
    let parents: Vec<_> = set["snapshots"].as_array().unwrap().iter().map(|one| one["parent_id"].clone()).collect();
    assert_eq!(parents, ["2", "1"]);
    for one in set["snapshots"].as_array().unwrap() {
        assert_eq!(members(one), DETAIL);
        assert_eq!((&one["name"], &one["locked"]), (&json!("all"), &json!(true)));
        assert_eq!(one["expires_at"], json!(LATER.to_string()));
    }
    assert_eq!(ids(&appliance, "/api/snapshot?locked=true").await.1, 2);
}

#[tokio::test]
async fn a_file_has_no_snapshots_of_its_own() {
    let appliance = with_volumes().await;
    appliance.os.world().add_file("vpool1/fs1", "disk.img", FileKind::File(vec![0; 512])).unwrap();
    let body = json!({ "name": "file", "volume_type": "filebackedlun", "parent_id": 1, "parent_path": "disk.img" });
    let made = appliance.post("/api/volume", &body.to_string()).await.ok();
    let file = made["id"].as_str().unwrap();
    let advice = format!("volume {file} is a file; make a snapshot of its filesystem, volume 1, instead");
    let answer = appliance.post(&format!("/api/volume/{file}/snapshot"), "{}").await;
    assert_eq!((answer.status, answer.message()), (400, advice.as_str()), "no member that was not sent");
    let answer = appliance.post("/api/snapshot", &json!({ "vol_ids": [file] }).to_string()).await;
    assert_eq!((answer.status, answer.message()), (400, format!("vol_ids: {advice}").as_str()));
}

#[tokio::test]
async fn a_lock_can_only_grow() {
    let appliance = with_volumes().await;
    let body = json!({ "name": "s", "expires_at": LATER.to_string(), "locked": false }).to_string();
    let made = appliance.post("/api/volume/1/snapshot", &body).await.ok();
    assert_eq!((&made["expires_at"], &made["locked"]), (&json!(LATER.to_string()), &json!(false)));
    let put = async |body: Value| appliance.put("/api/snapshot/1", &body.to_string()).await;
    assert_eq!(put(json!({ "expires_at": "none" })).await.ok()["expires_at"], Value::Null);
    let locked = put(json!({ "expires_at": LATER, "locked": true })).await.ok();
    assert_eq!((members(&locked), &locked["locked"]), (DETAIL.to_vec(), &json!(true)));
    for body in [
        json!({ "expires_at": LATER - 1 }),
        json!({ "expires_at": "none" }),
        json!({ "locked": false }),
        json!({ "expires_at": "none", "locked": false }),
    ] {
        let answer = put(body.clone()).await;
        assert_eq!((answer.status, answer.error()), (409, "InvalidStateError"), "{body}");
        assert_eq!(appliance.get("/api/snapshot/1").await.ok(), locked, "{body}");
    }
    for path in ["/api/snapshot/1", "/api/volume/1", "/api/volume/1?force=true"] {
        let answer = appliance.delete(path).await;
        assert_eq!((answer.status, answer.error()), (409, "InvalidStateError"), "{path}");
    }
    assert_eq!(put(json!({ "expires_at": LATER + 1 })).await.ok()["expires_at"], json!((LATER + 1).to_string()));
    assert_eq!(put(json!({ "locked": null, "expires_at": null })).await.ok()["locked"], true);
}

#[tokio::test]
async fn holds() {
    let appliance = with_volumes().await;
    snapshot(&appliance, "1", "s").await;
    let act = async |verb: &str, reason: &str| {
        let body = json!({ "action": verb, "reason": reason }).to_string();
        appliance.post("/api/snapshot/1", &body).await
    };
    let held = act("hold", "legal case 5/ü").await.ok();
    assert_eq!(members(&held), DETAIL);
    let hold = &held["holds"][0];
    assert_eq!(members(hold), ["reason", "user", "time_created"]);
    assert_eq!((&hold["reason"], &hold["user"]), (&json!("legal case 5/ü"), &json!("vsuser")));
    assert!(hold["time_created"].as_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(act("hold", "audit").await.ok()["holds"].as_array().unwrap().len(), 2);
    assert_eq!(act("hold", "audit").await.error(), "AlreadyExistsError");
    for path in ["/api/snapshot/1", "/api/volume/1", "/api/pool/1"] {
        let answer = appliance.delete(path).await;
        assert_eq!((answer.status, answer.error()), (409, "BusyError"), "{path}");
    }
    assert_eq!(act("release", "other").await.error(), "NotFoundError");
    assert_eq!(act("release", "audit").await.ok()["holds"].as_array().unwrap().len(), 1);
    assert_eq!(act("release", "legal case 5/ü").await.ok()["holds"], json!([]));
    assert_eq!(appliance.delete("/api/snapshot/1").await.ok(), json!({}));
    snapshot(&appliance, "1", "s").await;
    let body = json!({ "action": "hold", "reason": "audit" }).to_string();
    appliance.post("/api/snapshot/2", &body).await.ok();
    assert_eq!(appliance.delete("/api/pool/1").await.error(), "BusyError");
    assert_eq!(appliance.delete("/api/pool/1?force=true").await.ok(), json!({}));
}

#[tokio::test]
async fn what_changed_is_told() {
    let appliance = with_volumes().await;
    let write = |path: &str, text: &str| {
        let file = vsnap::os::fake::FileKind::File(text.as_bytes().to_vec());
        appliance.os.world().add_file("vpool1/fs1", path, file).unwrap();
    };
    write("kept", "as it was");
    let first = snapshot(&appliance, "1", "first").await;
    write("new", "text");
    let second = snapshot(&appliance, "1", "second").await;
    write("newer", "text");
    let answer = appliance.get(&format!("/api/snapshot/{first}/diff?to={second}")).await.ok();
    assert_eq!(members(&answer), ["snapshot_id", "to", "size_written", "changes", "total"]);
    let root = json!({"change": "modified", "file_type": "/", "path": ".", "new_path": null});
    let change = json!({"change": "added", "file_type": "F", "path": "new", "new_path": null});
    assert_eq!((&answer["changes"], &answer["total"]), (&json!([root, change]), &json!(2)));
    assert!(answer["size_written"].as_str().unwrap().parse::<u64>().is_ok());
    let until_now = appliance.get(&format!("/api/snapshot/{first}/diff")).await.ok();
    assert_eq!((&until_now["to"], &until_now["total"]), (&json!("now"), &json!(3)));

    for (path, status) in [
        (format!("/api/snapshot/{second}/diff?to={first}"), 400),
        (format!("/api/snapshot/{first}/diff?to={first}"), 400),
        (format!("/api/snapshot/{first}/diff?to=then"), 400),
        (format!("/api/snapshot/{first}/diff?to=99"), 404),
        ("/api/snapshot/99/diff".to_owned(), 404),
    ] {
        assert_eq!(appliance.get(&path).await.status, status, "{path}");
    }
    let of_lun = snapshot(&appliance, "2", "lun").await;
    let lun = appliance.get(&format!("/api/snapshot/{of_lun}/diff")).await.ok();
    assert_eq!((&lun["changes"], &lun["total"]), (&Value::Null, &json!(0)));
}
