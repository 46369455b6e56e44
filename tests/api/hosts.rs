//! Hosts and mappings: the shapes of answers, what goes together, and bad input that changes nothing.

use serde_json::{Value, json};
use vsnap::os::{
    Kind,
    fake::FileKind,
    lio::{Access, ScsiTarget},
};

use crate::{
    appliance::{Appliance, members, request},
    volumes::{filesystem, make, snapshot},
};

const IQN: &str = "iqn.1988-12.com.oracle:devoracle47";
const OTHER: &str = "iqn.1988-12.com.oracle:devoracle45";
const DETAIL: [&str; 7] = ["id", "name", "iqns", "mapped_luns", "time_created", "time_updated", "chap"];

/// Luns 1 and 2, filesystem 3 and file-backed lun 4 in it, host 1 with [`IQN`].
async fn appliance() -> Appliance {
    let appliance = Appliance::with_pools().await;
    for name in ["one", "two"] {
        make(&appliance, name, "lun", json!({ "size_total": 1 << 20 })).await;
    }
    filesystem(&appliance, "fs").await;
    appliance.os.world().add_file("vpool1/fs3", "a.img", FileKind::File(vec![0; 512])).unwrap();
    let body = json!({ "name": "file", "volume_type": "filebackedlun", "parent_id": 3, "parent_path": "a.img" });
    appliance.post("/api/volume", &body.to_string()).await.ok();
    appliance.post("/api/host", &json!({ "name": "sid-oracle-47", "iqns": [IQN] }).to_string()).await.ok();
    appliance
}

async fn post(appliance: &Appliance, path: &str, body: Value) -> crate::appliance::Answer {
    appliance.post(path, &body.to_string()).await
}

fn target(appliance: &Appliance) -> ScsiTarget {
    appliance.os.world().exports.iscsi.clone().expect("there is a target")
}

/// LUN numbers and volumes that an initiator sees.
fn seen(appliance: &Appliance, iqn: &str) -> Vec<(u16, i64)> {
    let target = target(appliance);
    let found = target.initiators.iter().find(|it| it.iqn.as_str() == iqn);
    found.into_iter().flat_map(|it| &it.luns).map(|(lun, volume)| (*lun, volume.0)).collect()
}

async fn state(appliance: &Appliance) -> Vec<Value> {
    let mut state = vec![json!(format!("{:?}", appliance.os.world().exports))];
    for path in ["/api/host?detail=true", "/api/volume?detail=true", "/api/operation?limit=1000"] {
        state.push(appliance.get(path).await.ok());
    }
    state
}

#[tokio::test]
async fn answers_are_those_of_the_contract() {
    let appliance = appliance().await;
    let host = appliance.get("/api/host/1").await.ok();
    assert_eq!(members(&host), DETAIL);
    assert_eq!((&host["id"], &host["iqns"], &host["mapped_luns"]), (&json!("1"), &json!([IQN]), &json!([])));
    assert_eq!(host["chap"], Value::Null);
    for path in ["/api/host?id=1", "/api/host?name=sid-oracle-47"] {
        assert_eq!(appliance.get(path).await.ok(), host);
    }
    let list = appliance.get("/api/host").await.ok();
    assert_eq!(members(&list), ["hosts", "total"]);
    assert_eq!(list["total"], 1);
    assert_eq!(members(&list["hosts"][0]), ["id", "name", "iqns", "time_created", "time_updated"]);
    let mapped = post(&appliance, "/api/volume/2/map", json!({ "host_id": "1" })).await.ok();
    assert_eq!(mapped, json!({ "vol_id": "2", "lun": "0" }));
    assert_eq!(members(&mapped), ["vol_id", "lun"]);
    let mapped = post(&appliance, "/api/host/1", json!({ "action": "map", "vol_id": 4 })).await.ok();
    assert_eq!(mapped, json!({ "vol_id": "4", "lun": "1" }));
    let again = post(&appliance, "/api/host/1", json!({ "action": "map", "vol_id": "2" })).await.ok();
    assert_eq!(again, json!({ "vol_id": "2", "lun": "0" }));
    let host = appliance.get("/api/host/1").await.ok();
    assert_eq!(members(&host["mapped_luns"][0]), ["lun", "vol_id"]);
    assert_eq!(host["mapped_luns"], json!([{ "lun": "0", "vol_id": "2" }, { "lun": "1", "vol_id": "4" }]));
    assert_eq!(seen(&appliance, IQN), [(0, 2), (1, 4)]);
    for (volume, hosts) in [(1, json!([])), (2, json!(["1"])), (3, Value::Null), (4, json!(["1"]))] {
        assert_eq!(appliance.get(&format!("/api/volume/{volume}")).await.ok()["host_ids"], hosts);
    }
    let gone = post(&appliance, "/api/volume/2/unmap", json!({ "host_id": 1 })).await.ok();
    assert_eq!(gone, json!({}));
    let lowest = post(&appliance, "/api/host/1", json!({ "action": "map", "vol_id": 1 })).await.ok();
    assert_eq!(lowest["lun"], "0", "the lowest free number");
    assert_eq!(appliance.delete("/api/host/1").await.ok(), json!({}));
    assert_eq!(appliance.os.world().exports.iscsi, None, "no host, no target");
    assert_eq!(appliance.get("/api/volume/1").await.ok()["host_ids"], json!([]));
}

#[tokio::test]
async fn each_host_has_numbers_of_its_own() {
    let appliance = appliance().await;
    post(&appliance, "/api/host", json!({ "name": "b", "iqns": [OTHER] })).await.ok();
    post(&appliance, "/api/volume/1/map", json!({ "host_id": 1 })).await.ok();
    post(&appliance, "/api/volume/2/map", json!({ "host_id": 1 })).await.ok();
    post(&appliance, "/api/volume/2/map", json!({ "host_id": 2 })).await.ok();
    assert_eq!((seen(&appliance, IQN), seen(&appliance, OTHER)), (vec![(0, 1), (1, 2)], vec![(0, 2)]));
    let put = appliance.put("/api/host/1", r#"{"name": "new-host-name", "iqns": []}"#).await.ok();
    assert_eq!((&put["name"], &put["iqns"]), (&json!("new-host-name"), &json!([])));
    assert!(seen(&appliance, IQN).is_empty());
    // What one host gave up another one can have.
    appliance.put("/api/host/2", &json!({ "iqns": [OTHER, IQN.to_uppercase()] }).to_string()).await.ok();
    assert_eq!(seen(&appliance, IQN), [(0, 2)]);
}

#[tokio::test]
async fn bad_input_changes_nothing() {
    let appliance = appliance().await;
    post(&appliance, "/api/volume/1/map", json!({ "host_id": 1 })).await.ok();
    let before = state(&appliance).await;
    let chap = |chap: Value| json!({ "name": "x", "chap": chap });
    let secret = "secret-of-12-chars";
    let cases = [
        ("POST", "/api/host", json!({}), 400, "name"),
        ("POST", "/api/host", json!({ "name": "" }), 400, "name"),
        ("POST", "/api/host", json!({ "name": "x", "iqns": "iqn.2001-04.com.example:a" }), 400, "iqns"),
        ("POST", "/api/host", json!({ "name": "x", "iqns": ["nonsense"] }), 400, "iqns[0]"),
        ("POST", "/api/host", json!({ "name": "x", "iqns": [OTHER, "iqn.2001-04.com.example:../a"] }), 400, "iqns[1]"),
        ("POST", "/api/host", json!({ "name": "x", "iqns": [OTHER, OTHER.to_uppercase()] }), 400, "iqns[1]"),
        ("POST", "/api/host", json!({ "name": "x", "iqns": [IQN] }), 409, "the initiator"),
        ("POST", "/api/host", json!({ "name": "sid-oracle-47" }), 409, "there is a host named"),
        ("POST", "/api/host", chap(json!({ "user": "a" })), 400, "chap.secret"),
        ("POST", "/api/host", chap(json!({ "user": "a", "secret": "short" })), 400, "chap.secret"),
        ("POST", "/api/host", chap(json!({ "user": "a b", "secret": secret })), 400, "chap.user"),
        ("POST", "/api/host", chap(json!({ "user": "a", "secret": 123_456_789_012_i64 })), 400, "chap.secret"),
        (
            "POST",
            "/api/host",
            chap(json!({ "user": "a", "secret": secret, "mutual_user": "b" })),
            400,
            "chap.mutual_secret",
        ),
        ("PUT", "/api/host/1", json!({ "iqns": ["x"] }), 400, "iqns[0]"),
        ("PUT", "/api/host/1", json!({ "chap": secret }), 400, "chap"),
        ("PUT", "/api/host/9", json!({ "name": "x" }), 404, "there is no host 9"),
        ("POST", "/api/host/1", json!({ "action": "map" }), 400, "vol_id"),
        ("POST", "/api/host/1", json!({ "action": "steal", "vol_id": 2 }), 400, "action"),
        ("POST", "/api/host/1", json!({ "action": "map", "vol_id": 0 }), 400, "vol_id"),
        ("POST", "/api/host/1", json!({ "action": "map", "vol_id": 3 }), 400, "vol_id"),
        ("POST", "/api/host/1", json!({ "action": "map", "vol_id": 99 }), 404, "there is no volume 99"),
        ("POST", "/api/host/9", json!({ "action": "map", "vol_id": 2 }), 404, "there is no host 9"),
        ("POST", "/api/host/1", json!({ "action": "unmap", "vol_id": 2 }), 404, "there is no mapping"),
        ("POST", "/api/volume/2/map", json!({}), 400, "host_id"),
        ("POST", "/api/volume/2/map", json!({ "host_id": 9 }), 404, "there is no host 9"),
        ("POST", "/api/volume/3/map", json!({ "host_id": 1 }), 400, "volume 3 is a filesystem"),
        ("POST", "/api/volume/2/unmap", json!({ "host_id": 1 }), 404, "there is no mapping"),
        ("DELETE", "/api/host/9", json!({}), 404, "there is no host 9"),
    ];
    for (method, path, body, status, beginning) in cases {
        let answer = appliance.send(request(method, path, &body.to_string())).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        assert!(answer.message().starts_with(beginning), "{method} {path} {body}: {}", answer.message());
        assert!(!answer.message().contains(secret), "{}", answer.message());
        assert_eq!(state(&appliance).await, before, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn secrets_come_in_and_never_go_out() {
    let appliance = appliance().await;
    let chap =
        json!({ "user": "ora", "secret": "secret-of-host", "mutual_user": "tgt", "mutual_secret": "secret-of-target" });
    let put = appliance.put("/api/host/1", &json!({ "chap": chap }).to_string()).await.ok();
    assert_eq!(put["chap"], json!({ "user": "ora", "mutual_user": "tgt" }));
    let answers = format!("{:?}", state(&appliance).await);
    assert!(!answers.contains("secret-of"), "{answers}");
    let access = target(&appliance).initiators[0].access.clone();
    let Access::Chap(credentials) = access else { panic!("{access:?}") };
    assert_eq!(credentials.secret.expose(), "secret-of-host");
    appliance
        .put("/api/host/1", &json!({ "chap": { "user": "ora", "secret": "another-secret" } }).to_string())
        .await
        .ok();
    assert_eq!(appliance.os.world().exports.chap.len(), 1, "old secrets are gone");
    // Lost secrets are no reason to do without.
    appliance.os.world().exports.chap.clear();
    post(&appliance, "/api/host/1", json!({ "action": "map", "vol_id": 1 })).await.ok();
    assert_eq!(target(&appliance).initiators[0].access, Access::Closed);
    appliance.put("/api/host/1", r#"{"chap": "none"}"#).await.ok();
    assert_eq!(target(&appliance).initiators[0].access, Access::Open);
    appliance.os.refuse("apply_iscsi", Kind::Busy);
    let body = json!({ "chap": { "user": "x", "secret": "another-secret" } }).to_string();
    assert!(appliance.put("/api/host/1", &body).await.status >= 400);
    assert!(appliance.os.world().exports.chap.is_empty(), "secrets of what was taken back are gone");
    assert_eq!(appliance.get("/api/host/1").await.ok()["chap"], Value::Null);
}

#[tokio::test]
async fn what_is_mapped_is_detached_before_it_goes() {
    let appliance = appliance().await;
    post(&appliance, "/api/volume/1/map", json!({ "host_id": 1 })).await.ok();
    post(&appliance, "/api/volume/4/map", json!({ "host_id": 1 })).await.ok();
    appliance.os.refuse("destroy_dataset", Kind::Busy);
    assert_eq!(appliance.delete("/api/volume/1").await.status, 409);
    assert_eq!(seen(&appliance, IQN), [(0, 1), (1, 4)], "taken back");
    appliance.os.allow_all();
    appliance.delete("/api/volume/1").await.ok();
    assert_eq!(seen(&appliance, IQN), [(1, 4)]);
    assert_eq!(appliance.get("/api/host/1").await.ok()["mapped_luns"], json!([{ "lun": "1", "vol_id": "4" }]));
    appliance.os.refuse("apply_iscsi", Kind::TimedOut);
    assert!(post(&appliance, "/api/volume/4/unmap", json!({ "host_id": 1 })).await.status >= 400);
    assert!(post(&appliance, "/api/volume/2/map", json!({ "host_id": 1 })).await.status >= 400);
    assert_eq!(appliance.get("/api/host/1").await.ok()["mapped_luns"], json!([{ "lun": "1", "vol_id": "4" }]));
    appliance.os.allow_all();
    appliance.delete("/api/pool/1?force=true").await.ok();
    assert!(seen(&appliance, IQN).is_empty());
}

#[tokio::test]
async fn a_mapped_volume_is_rolled_back_only_with_its_hosts_named() {
    let appliance = appliance().await;
    let old = snapshot(&appliance, "1", "old").await;
    post(&appliance, "/api/volume/1/map", json!({ "host_id": 1 })).await.ok();
    let body = |hosts: Value| json!({ "action": "rollback", "snapshot_id": old, "discard_hosts": hosts });
    let answer = post(&appliance, "/api/volume/1", body(json!([]))).await;
    assert_eq!((answer.status, answer.error()), (409, "BusyError"));
    assert!(answer.message().contains("discard_hosts"));
    let answer = post(&appliance, "/api/volume/1", body(json!([1, 2]))).await;
    assert_eq!(answer.status, 400);
    appliance.os.refuse("rollback", Kind::Busy);
    assert_eq!(post(&appliance, "/api/volume/1", body(json!([1]))).await.status, 409);
    assert_eq!(seen(&appliance, IQN), [(0, 1)]);
    appliance.os.allow_all();
    post(&appliance, "/api/volume/1", body(json!([1]))).await.ok();
    assert_eq!(seen(&appliance, IQN), [(0, 1)], "it is there again, under the same number");
}
