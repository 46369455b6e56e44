//! The shapes of answers, as the contract has them.

use serde_json::{Value, json};
use vsnap::os::Kind;

use crate::appliance::{Appliance, members};

async fn with_pool() -> (Appliance, Value) {
    let appliance = Appliance::initialized().await;
    let disks = appliance.get("/api/disk?used_as=unused").await.ok();
    let uuids: Vec<_> = disks["disks"].as_array().unwrap()[..5].iter().map(|disk| disk["uuid"].clone()).collect();
    let body = json!({ "name": "demo 1/ü", "pool_type": "raid6", "disk_list": uuids, "syncwrite": false });
    let pool = appliance.post("/api/pool", &body.to_string()).await.ok();
    (appliance, pool)
}

#[tokio::test]
async fn system() {
    let appliance = Appliance::initialized().await;
    let system = appliance.get("/api/system").await.ok();
    let expected = [
        "fqdn",
        "hostname",
        "id",
        "init_status",
        "multipool",
        "api_version",
        "nfs_version",
        "nginx_version",
        "os_name",
        "os_version",
        "samba_version",
        "uwsgi_version",
        "vsnap_version",
        "zfs_version",
    ];
    assert_eq!(members(&system), expected);
    assert_eq!((&system["api_version"], &system["nginx_version"]), (&json!("1.0"), &Value::Null));
    assert_eq!(system["multipool"], json!(true));
    let again = appliance.post("/api/system", r#"{"action": "init"}"#).await;
    assert_eq!((again.status, again.error()), (409, "InvalidStateError"));
    let wrong = appliance.post("/api/system", r#"{"action": "explode"}"#).await;
    assert!(wrong.message().starts_with("action: "), "{}", wrong.message());

    let statistics = appliance.get("/api/system/stats").await.ok();
    let expected = [
        "size_arc_max",
        "size_arc_used",
        "size_ddt_core",
        "size_ddt_disk",
        "size_zfs_arc_meta_max",
        "size_zfs_arc_meta_used",
    ];
    assert_eq!(members(&statistics), expected);
    assert!(statistics.as_object().unwrap().values().all(|size| size.as_str().unwrap().parse::<u64>().is_ok()));
}

#[tokio::test]
async fn init_in_the_background_is_answered_as_begun() {
    // It has mostly ended before the answer is on its way.
    for _ in 0..20 {
        let appliance = Appliance::new();
        let body = r#"{"action": "init", "skip_pool": true, "async": true}"#;
        assert_eq!(appliance.post("/api/system", body).await.ok()["init_status"], "Initializing");
        while appliance.get("/api/system").await.ok()["init_status"] != "Ready" {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_to_do_after_an_init_that_failed_is_told() {
    let appliance = Appliance::new();
    appliance.os.refuse("create_pool", Kind::Other);
    assert_eq!(appliance.post("/api/system", r#"{"action": "init"}"#).await.status, 500);
    let system = appliance.get("/api/system").await.ok();
    assert_eq!(system["init_status"], "Failed");
    let refused = appliance.post("/api/pool", "{}").await;
    assert_eq!((refused.status, refused.error()), (409, "NotInitializedError"));
    let message = refused.message();
    assert!(message.contains(system["init_message"].as_str().unwrap()) && message.contains("POST"), "{message}");
}

#[tokio::test]
async fn users_networks_targets_and_disks() {
    let appliance = Appliance::initialized().await;
    let users = appliance.get("/api/user").await.ok();
    assert_eq!((members(&users), &users["total"]), (vec!["total", "users"], &json!(1)));
    let user = &users["users"][0];
    assert_eq!(members(user), ["gid", "name", "role", "uid"]);
    assert!(user["uid"].is_string() && user["gid"].is_string());
    assert_eq!(appliance.get("/api/user/vsuser").await.ok(), *user);
    assert_eq!(appliance.get("/api/user/none").await.error(), "NotFoundError");

    let networks = appliance.get("/api/network").await.ok();
    assert_eq!(members(&networks), ["networks", "total"]);
    let network = &networks["networks"][0];
    assert_eq!(members(network), ["id", "name", "hw_addr", "ip4_addrs", "ip6_addrs", "services"]);
    let (id, name) = (network["id"].as_str().unwrap(), network["name"].as_str().unwrap());
    for path in [format!("/api/network/{id}"), format!("/api/network?id={id}"), format!("/api/network?name={name}")] {
        assert_eq!(appliance.get(&path).await.ok(), *network, "{path}");
    }
    for path in ["/api/network/none", "/api/network?id=none", "/api/network?name=none"] {
        assert_eq!(appliance.get(path).await.error(), "NotFoundError", "{path}");
    }

    let targets = appliance.get("/api/target").await.ok();
    assert_eq!((members(&targets), members(&targets["targets"][0])), (vec!["targets", "total"], vec!["type", "wwn"]));

    let disks = appliance.get("/api/disk").await.ok();
    assert_eq!((members(&disks), &disks["total"]), (vec!["disks", "total"], &json!(16)));
    let disk = &disks["disks"][0];
    assert_eq!(members(disk), ["model", "name", "size", "type", "uuid", "vendor", "used_as"]);
    assert!(disk["size"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(appliance.get("/api/disk?used_as=ext4").await.ok(), json!({ "disks": [], "total": 0 }));
}

#[tokio::test]
async fn pool() {
    let (appliance, pool) = with_pool().await;
    let expected = [
        "compression",
        "compression_ratio",
        "deduplication",
        "deduplication_ratio",
        "diskgroup_size",
        "disks",
        "id",
        "name",
        "pool_type",
        "size_before_compression",
        "size_before_deduplication",
        "size_total",
        "size_free",
        "size_used",
        "status",
        "syncwrite",
        "health",
        "time_created",
        "time_updated",
    ];
    assert_eq!(members(&pool), expected);
    assert_eq!(
        [&pool["compression"], &pool["deduplication"], &pool["syncwrite"]],
        [&json!(true), &json!(false), &json!(false)]
    );
    for member in ["id", "diskgroup_size", "size_total", "size_free", "size_used", "health", "time_created"] {
        assert!(pool[member].as_str().unwrap().parse::<u64>().is_ok(), "{member}");
    }
    let size = |member: &str| pool[member].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(size("size_total"), size("size_free") + size("size_used"));
    assert!(pool["compression_ratio"].as_str().unwrap().ends_with('x'));

    for path in ["/api/pool/1", "/api/pool?id=1", "/api/pool?name=demo%201/%C3%BC", "/api/pool?name=demo+1%2F%C3%BC"] {
        assert_eq!(appliance.get(path).await.ok()["name"], "demo 1/ü", "{path}");
    }
    for path in ["/api/pool/2", "/api/pool/x", "/api/pool/0", "/api/pool?id=2", "/api/pool?name=demo", "/api/pool?id="]
    {
        let answer = appliance.get(path).await;
        assert_eq!((answer.status, answer.error()), (404, "NotFoundError"), "{path}");
    }
    let list = appliance.get("/api/pool").await.ok();
    assert_eq!((members(&list), &list["total"]), (vec!["pools", "total"], &json!(1)));
    let expected = [
        "id",
        "name",
        "pool_type",
        "size_total",
        "size_free",
        "size_used",
        "status",
        "health",
        "time_created",
        "time_updated",
    ];
    assert_eq!(members(&list["pools"][0]), expected);
}

#[tokio::test]
async fn pool_changes() {
    let (appliance, _) = with_pool().await;
    let changed =
        appliance.put("/api/pool/1", r#"{"name": "new", "compression": false, "syncwrite": null}"#).await.ok();
    assert_eq!((&changed["name"], &changed["compression"]), (&json!("new"), &json!(false)));
    let needs = [
        (r#"{"action": "addlog"}"#, "disk_list"),
        (r#"{"action": "addcache", "disk_list": []}"#, "disk"),
        (r#"{"action": "expand", "disk": "a/b"}"#, "disk"),
        (r#"{"action": "addspare"}"#, "disk_list"),
        (r#"{"action": "removespare"}"#, "disk_list"),
        (r#"{"action": "addcache", "disk": "a/b"}"#, "disk"),
        (r#"{"action": "online"}"#, "disk"),
        (r#"{"action": "offline", "disk": 7}"#, "disk"),
        (r#"{"action": "replace", "new_disk": "x"}"#, "old_disk"),
        (r#"{"action": "replace", "old_disk": "x"}"#, "new_disk"),
        (r#"{"action": "Expand"}"#, "action"),
        (r#"{"action": 1}"#, "action"),
    ];
    for (body, member) in needs {
        let answer = appliance.post("/api/pool/1", body).await;
        assert_eq!(answer.error(), "InvalidParameterError", "{body}");
        assert!(answer.message().starts_with(&format!("{member}: ")), "{body}: {}", answer.message());
    }
    let status = appliance.get("/api/pool/1/status").await.ok();
    let expected =
        ["id", "name", "status", "health", "message", "advice", "data_errors", "scan", "vdevs", "time_checked"];
    assert_eq!(members(&status), expected);
    assert_eq!(appliance.get("/api/pool/9/status").await.error(), "NotFoundError");
    assert_eq!(appliance.delete("/api/pool/1?force=true").await.ok(), json!({}));
    assert_eq!(appliance.delete("/api/pool/1").await.error(), "NotFoundError");
}

#[tokio::test]
async fn a_bad_candidate_has_the_contracts_message() {
    let appliance = Appliance::initialized().await;
    let answer = appliance.post("/api/pool", r#"{"name": "p", "pool_type": "raid0", "disk_list": ["12345"]}"#).await;
    assert_eq!((answer.status, answer.error()), (400, "InvalidCandidateError"));
    assert_eq!(answer.message(), "Disk UUID 12345 is not a valid candidate for a pool");
}

#[tokio::test]
async fn accounts() {
    let appliance = Appliance::new();
    let user = appliance.local("POST", "/api/user", r#"{"name": "second", "password": "long enough"}"#).await.ok();
    assert_eq!(members(&user), ["gid", "name", "role", "uid"]);
    let changed = appliance.local("PUT", "/api/user/second", r#"{"password": "even longer"}"#).await.ok();
    assert_eq!(changed, user);
    assert_eq!(appliance.local("POST", "/api/user/second", r#"{"action": "revoke"}"#).await.ok(), json!({}));
    assert_eq!(appliance.get("/api/user/second").await.status, 404);
    assert_eq!(appliance.local("POST", "/api/user/second", r#"{"action": "grant"}"#).await.ok(), user);
    assert_eq!(appliance.local("PUT", "/api/user/-x", r#"{"password": "even longer"}"#).await.status, 400);
    assert_eq!(appliance.local("POST", "/api/user", r#"{"name": "x", "password": "short"}"#).await.status, 400);
}
