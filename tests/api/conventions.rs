//! The wire conventions, which hold for every route.

use axum::body::Body;
use serde_json::json;

use crate::appliance::{Appliance, plain, request, with_header};

#[tokio::test]
async fn slashes_are_merged_and_one_at_the_end_is_fine() {
    let appliance = Appliance::initialized().await;
    for path in ["//api/system", "/api/system/", "/api//system", "///api///system//"] {
        assert_eq!(appliance.get(path).await.ok()["init_status"], "Ready", "{path}");
    }
    assert_eq!(appliance.get("/api/pool/?name=none").await.status, 404);
    assert_eq!(appliance.post("//api//disk/", r#"{"action": "rescan"}"#).await.ok(), json!({}));
}

#[tokio::test]
async fn unknown_routes_and_methods_have_the_envelope() {
    let appliance = Appliance::initialized().await;
    for path in ["/", "/api", "/api/nothing", "/api/pool/1/2/3", "/index.html"] {
        assert_eq!(appliance.get(path).await.error(), "NotFoundError", "{path}");
    }
    for (method, path, allowed) in [
        ("DELETE", "/api/system", ["GET", "POST"]),
        ("PATCH", "/api/pool", ["GET", "POST"]),
        ("PUT", "/api/disk", ["GET", "POST"]),
        ("OPTIONS", "/api/pool/1", ["PUT", "DELETE"]),
    ] {
        let answer = appliance.send(request(method, path, "")).await;
        assert_eq!((answer.status, answer.error()), (405, "MethodNotAllowedError"), "{method} {path}");
        let allow = answer.header("allow").unwrap();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{allow}");
    }
    assert_eq!(appliance.get("/api/network/%FF").await.error(), "InvalidParameterError");
    assert_eq!(appliance.send(request("HEAD", "/api/system", "")).await.status, 200);
}

#[tokio::test]
async fn a_body_needs_no_content_type_and_may_be_missing() {
    let appliance = Appliance::initialized().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"] {
        let request = with_header(request("POST", "/api/disk", r#"{"action": "rescan"}"#), "content-type", kind);
        assert_eq!(appliance.send(request).await.ok(), json!({}), "{kind}");
    }
    for nothing in ["", "  \n", "{}", r#"{"action": null}"#] {
        let answer = appliance.post("/api/disk", nothing).await;
        assert_eq!((answer.error(), answer.message()), ("InvalidParameterError", "action: is missing"), "{nothing}");
    }
    for bad in ["{", "[]", "null", "\"x\"", "5", "action=rescan", "{\"action\": \"rescan\"} trailing"] {
        assert_eq!(appliance.post("/api/disk", bad).await.error(), "InvalidParameterError", "{bad}");
    }
    let mut invalid = request("POST", "/api/disk", "");
    *invalid.body_mut() = Body::from(&b"{\"action\": \"\xff\"}"[..]);
    assert_eq!(appliance.send(invalid).await.error(), "InvalidParameterError");
}

#[tokio::test]
async fn a_wrong_member_is_named_and_changes_nothing() {
    let appliance = Appliance::initialized().await;
    let cases = [
        ("{}", "name"),
        (r#"{"name": "p"}"#, "pool_type"),
        (r#"{"name": "p", "pool_type": "raid1"}"#, "pool_type"),
        (r#"{"name": 5, "pool_type": "raid0"}"#, "name"),
        (r#"{"name": " p", "pool_type": "raid0"}"#, "name"),
        (r#"{"name": "p", "pool_type": "raid0", "compression": "true"}"#, "compression"),
        (r#"{"name": "p", "pool_type": "raid0", "disk_list": "x"}"#, "disk_list"),
        (r#"{"name": "p", "pool_type": "raid0", "disk_list": ["36000c290000", 5]}"#, "disk_list[1]"),
        (r#"{"name": "p", "pool_type": "raid0", "disk_list": ["../../dev/sda"]}"#, "disk_list[0]"),
    ];
    for (body, member) in cases {
        let answer = appliance.post("/api/pool", body).await;
        assert_eq!((answer.status, answer.error()), (400, "InvalidParameterError"), "{body}");
        assert!(answer.message().starts_with(&format!("{member}: ")), "{body}: {}", answer.message());
    }
    assert_eq!(appliance.get("/api/pool").await.ok(), json!({ "pools": [], "total": 0 }));
}

#[tokio::test]
async fn unknown_members_are_ignored_and_named() {
    let appliance = Appliance::initialized().await;
    let answer = appliance.post("/api/disk", r#"{"action": "rescan", "asnyc": true, "x y": {"z": 1}}"#).await;
    assert_eq!(answer.header("x-vsnap-ignored"), Some("asnyc, x%20y"));
    answer.ok();
    let answer = appliance.get("/api/disk?usedas=unused").await;
    assert_eq!(answer.header("x-vsnap-ignored"), Some("usedas"));
    answer.ok();
    assert_eq!(appliance.get("/api/disk?used_as=unused").await.header("x-vsnap-ignored"), None);
    let nulls = appliance.post("/api/disk", r#"{"action": "rescan", "asnyc": null}"#).await;
    assert_eq!(nulls.header("x-vsnap-ignored"), None);
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let appliance = Appliance::with(|options| options.body_bytes = 100);
    let answer = appliance.post("/api/disk", &" ".repeat(101)).await;
    assert_eq!((answer.status, answer.error()), (413, "BodyTooLargeError"));
    let mut huge = with_header(request("POST", "/api/disk", ""), "content-length", "99999999999");
    *huge.body_mut() = Body::from("{}");
    assert_eq!(appliance.send(huge).await.status, 413);
    appliance.post("/api/disk", &format!("{:<100}", r#"{"action": "rescan"}"#)).await.ok();
    // An unknown route stays one, whatever is sent to it.
    assert_eq!(appliance.post("/api/nothing", &" ".repeat(101)).await.status, 404);
}

#[tokio::test]
async fn query_parameters_are_checked_like_members() {
    let appliance = Appliance::initialized().await;
    for force in ["yes", "TRUE", "", "2"] {
        let answer = appliance.delete(&format!("/api/pool/1?force={force}")).await;
        assert_eq!((answer.status, answer.message().split(':').next()), (400, Some("force")), "{force}");
    }
    for force in ["1", "0", "true", "false"] {
        assert_eq!(appliance.delete(&format!("/api/pool/1?force={force}")).await.status, 404, "{force}");
    }
    assert_eq!(appliance.get("/api/pool?id=1&name=x").await.error(), "InvalidParameterError");
    assert_eq!(appliance.get("/api/pool?id=1&id=2").await.error(), "InvalidParameterError");
}

#[tokio::test]
async fn a_query_that_no_handler_reads_is_named() {
    let appliance = Appliance::initialized().await;
    for path in ["/api/system?detail=1&x%20y=2", "/api/user/vsuser?detail=1&x%20y=2"] {
        let answer = appliance.get(path).await;
        assert_eq!((answer.status, answer.header("x-vsnap-ignored")), (200, Some("detail, x%20y")), "{path}");
    }
    let answer = appliance.post("/api/disk?force=1", r#"{"action": "rescan", "asnyc": true}"#).await;
    assert_eq!((answer.status, answer.header("x-vsnap-ignored")), (200, Some("asnyc, force")));
    assert_eq!(appliance.get("/api/pool?detail=1").await.header("x-vsnap-ignored"), Some("detail"));
    // Not of what was not carried out.
    assert_eq!(appliance.get("/api/host/7?detail=1").await.header("x-vsnap-ignored"), None);
}

#[tokio::test]
async fn a_delete_takes_nothing_that_it_does_not_know() {
    let appliance = Appliance::with_pools().await;
    let delete = |path: &str, body: &str| appliance.send(request("DELETE", path, body));
    for body in [r#"{"force": true}"#, r#"{"x": {}}"#, "[]", "force=true", "{", "0", "\"\""] {
        for path in ["/api/pool/1", "/api/pool/1?force=true", "/api/host/1", "/api/relationship/1"] {
            let answer = delete(path, body).await;
            assert_eq!((answer.status, answer.error()), (400, "InvalidParameterError"), "{path} {body}");
            assert!(answer.message().contains("query"), "{}", answer.message());
        }
    }
    for query in ["forec=true", "force=true&x=1", "preserve-replica=true", "Force=1"] {
        let name = query.split(['&', '=']).find(|name| !["force", "true"].contains(name)).unwrap();
        for kind in ["pool", "volume", "partner", "relationship"] {
            let answer = delete(&format!("/api/{kind}/1?{query}"), "").await;
            assert_eq!((answer.status, answer.error()), (400, "InvalidParameterError"), "{kind} {query}");
            assert!(answer.message().starts_with(&format!("{name}: ")), "{kind} {query}: {}", answer.message());
        }
    }
    assert_eq!(appliance.get("/api/pool").await.ok()["total"], 2, "nothing was changed");
    // Who may not come in learns nothing of this, and what is not there stays so.
    let anonymous = appliance.send(plain("DELETE", "/api/pool/1", "{\"force\": true}")).await;
    assert_eq!((anonymous.status, anonymous.error()), (401, "UnauthorizedError"));
    assert_eq!(delete("/api/nothing/1", "{\"force\": true}").await.status, 404);
    let large = " ".repeat(appliance.config.limits.body_bytes + 1);
    assert_eq!(delete("/api/pool/1", &large).await.status, 413);
    for (id, nothing) in [(1, " \n"), (2, r#"{"force": null}"#)] {
        assert_eq!(delete(&format!("/api/pool/{id}?force=false"), nothing).await.ok(), json!({}));
    }
    for nothing in ["{}", "null"] {
        assert_eq!(delete("/api/pool/1", nothing).await.status, 404);
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let appliance = Appliance::new();
    let own = appliance.get("/api/system").await;
    assert_eq!(own.header("x-request-id").unwrap().len(), 36);
    let given = appliance.send(with_header(request("GET", "/api/system", ""), "x-request-id", "backup-job-17")).await;
    assert_eq!(given.header("x-request-id"), Some("backup-job-17"));
    let odd = appliance.send(with_header(plain("GET", "/api/x", ""), "x-request-id", "a b\tc")).await;
    assert_eq!((odd.status, odd.header("x-request-id").unwrap().len()), (401, 36));
    assert_eq!(odd.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn before_init_everything_can_be_seen_and_little_changed() {
    let appliance = Appliance::new();
    assert_eq!(appliance.get("/api/system").await.ok()["init_status"], "Not Initialized");
    assert_eq!(appliance.get("/api/pool").await.ok(), json!({ "pools": [], "total": 0 }));
    for name in ["volumes", "snapshots", "operations", "partners", "relationships", "sessions"] {
        let list = appliance.get(&format!("/api/{}", name.trim_end_matches('s'))).await.ok();
        assert_eq!(list, json!({ name: [], "total": 0 }));
    }
    for path in
        ["/api/user", "/api/network", "/api/target", "/api/disk", "/api/system/stats", "/api/system/replication"]
    {
        appliance.get(path).await.ok();
    }
    // Also before anything is said about the body.
    for (method, path) in [
        ("POST", "/api/pool"),
        ("PUT", "/api/pool/1"),
        ("POST", "/api/pool/1"),
        ("DELETE", "/api/pool/1"),
        ("DELETE", "/api/pool/x?force=no"),
        ("POST", "/api/volume"),
        ("PUT", "/api/volume/1"),
        ("POST", "/api/volume/1"),
        ("DELETE", "/api/volume/1?force=no"),
        ("POST", "/api/volume/1/snapshot"),
        ("POST", "/api/snapshot"),
        ("PUT", "/api/snapshot/1"),
        ("POST", "/api/snapshot/1"),
        ("DELETE", "/api/snapshot/1"),
        ("PUT", "/api/system/replication"),
        ("POST", "/api/partner"),
        ("POST", "/api/partner/pairing"),
        ("PUT", "/api/partner/1"),
        ("DELETE", "/api/partner/1?force=no"),
        ("POST", "/api/volume/1/relationship"),
        ("DELETE", "/api/relationship/1?force=no"),
        ("POST", "/api/relationship/1/session"),
        ("POST", "/api/session/1"),
    ] {
        let answer = appliance.send(request(method, path, "")).await;
        assert_eq!((answer.status, answer.error()), (409, "NotInitializedError"), "{method} {path}");
    }
    assert_eq!(appliance.post("/api/nothing", "").await.status, 404);
    assert_eq!(appliance.delete("/api/pool").await.status, 405);
    appliance.post("/api/disk", r#"{"action": "rescan"}"#).await.ok();
    let created = appliance.local("POST", "/api/user", r#"{"name": "first", "password": "long enough"}"#).await.ok();
    assert_eq!(created["name"], "first");
    appliance.post("/api/system", r#"{"action": "init", "skip_pool": true}"#).await.ok();
    assert_eq!(appliance.delete("/api/pool/1").await.error(), "NotFoundError");
}
