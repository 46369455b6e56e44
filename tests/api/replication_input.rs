//! Partners, relationships and sessions: the shapes of answers, and bad input that changes nothing.

use serde_json::{Value, json};
use vsnap::{
    catalog::{self, Catalog, RowState, partner::PartnerRow, relationship::NewRelationship, session::SessionRow},
    types::{
        Epoch, Name, PoolId, RelationshipId, SnapshotId, SystemId, VolumeId,
        partner::{Address, PublicKey},
        relationship::Role,
        session::SessionStatus,
    },
};

use crate::{
    appliance::{Appliance, members, plain, request},
    volumes::{filesystem, snapshot},
};

const PARTNER: &str = "5058a20323b943ed925fd92f88f1b926";
const PRIMARY: &str = "ad05bf4db630bfc7ecb706563788f087";
const REPLICA: &str = "49e435aecdc5d2455d8b20a3be9da67f";
const NOBODY: &str = "46b9beeb33a4a67c2ffa3c517a11e6c8";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxZ";
const SECRET: &str = "catal0gic";

/// Numbers that are no id, no port, no count.
const NUMBERS: [&str; 7] = ["0", "-1", "\"x\"", "1.5", "true", "9223372036854775808", "\"1e3\""];

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Filesystem 1 `data` with snapshot 1, which is replicated, filesystem 2 `copy`, which is a replica, and the sessions 1
/// (completed) and 2 (failed) of the former.
async fn appliance() -> Appliance {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "data").await;
    filesystem(&appliance, "copy").await;
    snapshot(&appliance, "1", "monday").await;
    let catalog = Catalog::open(&appliance.config.state_dir.join("catalog.sqlite")).unwrap();
    let now = Epoch(1_513_856_343);
    let partner: SystemId = PARTNER.parse().unwrap();
    let address = Address::new("address", "172.20.46.6").unwrap();
    catalog
        .write(|transaction| -> catalog::Result<()> {
            let row = PartnerRow {
                id: partner.clone(),
                state: RowState::Ready,
                address: address.clone(),
                api_port: 8900,
                ssh_port: 22,
                public_key: Some(PublicKey::new(KEY).unwrap()),
                host_keys: vec![PublicKey::new(KEY).unwrap()],
                addresses: Vec::new(),
                rate_limit: None,
                created: now,
                updated: now,
            };
            catalog::partner::put(transaction, &row)?;
            for (id, role, volume, there) in [(PRIMARY, Role::Primary, 1, "copy"), (REPLICA, Role::Replica, 2, "data")]
            {
                let id: RelationshipId = id.parse().unwrap();
                let (remote_name, volume) = (name(there), VolumeId(volume));
                let remote = (PoolId(0), VolumeId(0));
                let new =
                    NewRelationship { id: &id, role, partner: &partner, volume, remote, remote_name: &remote_name };
                catalog::relationship::insert(transaction, &new, now)?;
                catalog::relationship::set_ready(transaction, &id, (PoolId(3), VolumeId(4)), &remote_name)?;
                for status in [SessionStatus::Completed, SessionStatus::Failed] {
                    catalog::relationship::set_last(transaction, &id, status, Some(SnapshotId(1)))?;
                }
            }
            sessions(transaction, &address, now)
        })
        .unwrap();
    appliance
}

fn sessions(transaction: &rusqlite::Transaction<'_>, address: &Address, now: Epoch) -> catalog::Result<()> {
    let relationship = PRIMARY.parse().unwrap();
    let ends = [(SessionStatus::Completed, None), (SessionStatus::Failed, Some("Canceled".to_owned()))];
    for (status, message) in ends {
        let snapshot = name("monday");
        let id =
            catalog::session::insert(transaction, &relationship, Some((SnapshotId(1), &snapshot, Some(7))), None, now)?;
        let row = catalog::session::find(transaction, id)?.unwrap();
        let mut session = row.session;
        (session.status, session.message, session.ended) = (status, message, Some(now));
        if status == SessionStatus::Completed {
            session.remote_snapshot = Some(SnapshotId(9));
            session.remote_name = Some(name("monday"));
            (session.address, session.sent, session.started) = (Some(address.clone()), Some(1 << 40), Some(now));
        }
        catalog::session::update(transaction, &SessionRow { session, guid: row.guid })?;
    }
    Ok(())
}

async fn state(appliance: &Appliance) -> Vec<Value> {
    let mut state = Vec::new();
    for path in [
        "/api/partner",
        "/api/relationship",
        "/api/session",
        "/api/system/replication",
        "/api/volume?detail=true",
        "/api/snapshot?detail=true",
        "/api/operation?limit=1000",
    ] {
        state.push(appliance.get(path).await.ok());
    }
    state
}

#[tokio::test]
async fn partners_are_shown_as_the_contract_has_them() {
    let appliance = appliance().await;
    let list = appliance.get("/api/partner").await.ok();
    assert_eq!((members(&list), &list["total"]), (vec!["partners", "total"], &json!(1)));
    let partner = json!({
        "id": PARTNER, "address": "172.20.46.6", "api_port": "8900", "ssh_port": "22", "rate_limit": null,
        "time_created": "1513856343", "time_updated": "1513856343",
    });
    assert_eq!(list["partners"][0], partner);
    for path in [format!("/api/partner/{PARTNER}"), format!("/api/partner?id={PARTNER}")] {
        assert_eq!(appliance.get(&path).await.ok(), partner, "{path}");
    }
    assert_eq!(appliance.get("/api/partner?address=172.20.46.6&limit=1").await.ok()["total"], 1);
    assert_eq!(appliance.get("/api/partner?address=172.20.46.7").await.ok(), json!({ "partners": [], "total": 0 }));
}

#[tokio::test]
async fn relationships_are_shown_as_the_contract_has_them() {
    let appliance = appliance().await;
    let primary = json!({
        "id": PRIMARY, "local_pool_id": "1", "local_role": "primary", "local_vol_id": "1", "local_vol_name": "data",
        "partner_id": PARTNER, "remote_pool_id": "3", "remote_vol_id": "4", "remote_vol_name": "copy",
        "last_sync_status": "FAILED", "last_attempt_snap_id": "1", "last_success_snap_id": "1",
        "time_created": "1513856343", "time_updated": "1513856343",
    });
    let replica = json!({
        "id": REPLICA, "local_pool_id": "1", "local_role": "replica", "local_vol_id": "2", "local_vol_name": "copy",
        "partner_id": PARTNER, "remote_pool_id": "3", "remote_vol_id": "4", "remote_vol_name": "data",
        "last_sync_status": null, "last_attempt_snap_id": null, "last_success_snap_id": null,
        "time_created": "1513856343", "time_updated": "1513856343",
    });
    for (id, expected) in [(PRIMARY, &primary), (REPLICA, &replica)] {
        for path in [format!("/api/relationship/{id}"), format!("/api/relationship?id={id}")] {
            let found = appliance.get(&path).await.ok();
            assert_eq!((&found, members(&found)), (expected, members(expected)), "{path}");
        }
    }
    for path in
        ["/api/volume/1/relationship", "/api/relationship?vol_name=data", "/api/relationship?local_role=primary"]
    {
        let list = appliance.get(path).await.ok();
        assert_eq!((members(&list), &list["total"]), (vec!["relationships", "total"], &json!(1)), "{path}");
        assert_eq!(list["relationships"][0], primary, "{path}");
    }
    assert_eq!(appliance.get("/api/relationship").await.ok()["total"], 2);
}

#[tokio::test]
async fn sessions_are_shown_as_the_contract_has_them() {
    let appliance = appliance().await;
    let list = appliance.get("/api/session").await.ok();
    assert_eq!((members(&list), &list["total"]), (vec!["sessions", "total"], &json!(2)));
    let completed = json!({
        "id": "1", "rel_id": PRIMARY, "local_snap_id": "1", "remote_snap_id": "9", "local_snap_name": "monday",
        "remote_snap_name": "monday", "repl_address": "172.20.46.6", "size_sent": "1099511627776",
        "status": "COMPLETED", "time_queued": "1513856343", "time_started": "1513856343", "time_ended": "1513856343",
        "message": null,
    });
    assert_eq!((&list["sessions"][0], members(&list["sessions"][0])), (&completed, members(&completed)));
    for path in ["/api/session/1", "/api/session?id=1"] {
        assert_eq!(appliance.get(path).await.ok(), completed, "{path}");
    }
    let failed = appliance.get(&format!("/api/session?rel_id={PRIMARY}&status=FAILED")).await.ok();
    let session = &failed["sessions"][0];
    assert_eq!((&failed["total"], &session["id"], &session["message"]), (&json!(1), &json!("2"), &json!("Canceled")));
    for member in ["remote_snap_id", "repl_address", "size_sent", "time_started"] {
        assert_eq!(session[member], Value::Null, "{member}");
    }
}

#[tokio::test]
async fn partners_and_preferences_are_changed() {
    let appliance = appliance().await;
    let path = format!("/api/partner/{PARTNER}");
    let body = json!({ "address": "Backup2.example.com", "api_port": 8901, "ssh_port": "2222", "rate_limit": "65536" });
    let changed = appliance.put(&path, &body.to_string()).await.ok();
    let found = ["address", "api_port", "ssh_port", "rate_limit"].map(|member| changed[member].as_str().unwrap());
    assert_eq!(found, ["backup2.example.com", "8901", "2222", "65536"]);
    let kept = appliance.put(&path, r#"{"rate_limit": null, "ssh_port": null}"#).await.ok();
    assert_eq!((&kept["rate_limit"], &kept["ssh_port"]), (&json!("65536"), &json!("2222")));
    for none in ["0", "\"0\"", "\"none\""] {
        appliance.put(&path, r#"{"rate_limit": 70000}"#).await.ok();
        let body = format!(r#"{{"rate_limit": {none}}}"#);
        assert_eq!(appliance.put(&path, &body).await.ok()["rate_limit"], Value::Null, "{none}");
    }
    let path = "/api/system/replication";
    let preferences = appliance.get(path).await.ok();
    assert_eq!(preferences, json!({ "rate_limit": null, "parallel_sessions": "5", "session_history": "10000" }));
    assert_eq!(members(&preferences), ["rate_limit", "parallel_sessions", "session_history"]);
    let changed = appliance.put(path, r#"{"rate_limit": 1048576, "parallel_sessions": "64"}"#).await.ok();
    let expected = json!({ "rate_limit": "1048576", "parallel_sessions": "64", "session_history": "10000" });
    assert_eq!(changed, expected);
    let changed = appliance.put(path, r#"{"rate_limit": "none", "session_history": 1}"#).await.ok();
    assert_eq!(changed, json!({ "rate_limit": null, "parallel_sessions": "64", "session_history": "1" }));
    assert_eq!(appliance.get(path).await.ok(), changed);
}

/// Sends what is wrong in `member` and checks that it is named, that nothing changes, and that no answer has the secret.
async fn refused(appliance: &Appliance, method: &str, path: &str, body: &str, member: &str, before: &[Value]) {
    let answer = appliance.send(request(method, path, body)).await;
    assert_eq!((answer.status, answer.error()), (400, "InvalidParameterError"), "{method} {path} {body}");
    assert!(answer.message().starts_with(&format!("{member}: ")), "{method} {path} {body}: {}", answer.message());
    assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");
    assert_eq!(state(appliance).await, before, "{method} {path} {body}");
}

/// `good` with one member replaced by the JSON text `value`, or left out.
fn with(good: &Value, member: &str, value: Option<&str>) -> String {
    let mut body = good.as_object().unwrap().clone();
    body.remove(member);
    let text = Value::Object(body).to_string();
    match value {
        Some(value) => format!("{{\"{member}\": {value}, {}", text.strip_prefix('{').unwrap()).replace(", }", "}"),
        None => text,
    }
}

#[tokio::test]
async fn bad_requests_for_partners_change_nothing() {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    let good = json!({ "remote_addr": "172.20.46.6", "remote_user": "vsuser", "remote_pass": SECRET });
    let addresses = ["5", "\"\"", "\"-oProxyCommand=x\"", "\"a b\"", "\"http://x\"", "\"host:22\"", "\"x\\ny\"", "[]"];
    for member in ["remote_addr", "remote_user", "remote_pass"] {
        for missing in [None, Some("null")] {
            refused(&appliance, "POST", "/api/partner", &with(&good, member, missing), member, &before).await;
        }
    }
    for address in addresses {
        for member in ["remote_addr", "local_addr"] {
            refused(&appliance, "POST", "/api/partner", &with(&good, member, Some(address)), member, &before).await;
        }
    }
    for user in ["5", "\"\"", "\"a:b\"", "\"a\\u0000\"", "\"a\\n\""] {
        let body = with(&good, "remote_user", Some(user));
        refused(&appliance, "POST", "/api/partner", &body, "remote_user", &before).await;
    }
    for password in
        ["5", "\"\"", "[\"catal0gic\"]", "{\"x\": \"catal0gic\"}", "\"catal0gic\\n\"", "\"catal0gic\\u0000\""]
    {
        let body = with(&good, "remote_pass", Some(password));
        refused(&appliance, "POST", "/api/partner", &body, "remote_pass", &before).await;
    }
    for port in NUMBERS.iter().chain(&["65536", "\"65536\"", "\"none\""]) {
        for member in ["remote_api_port", "remote_ssh_port", "local_api_port", "local_ssh_port"] {
            refused(&appliance, "POST", "/api/partner", &with(&good, member, Some(port)), member, &before).await;
        }
        for member in ["api_port", "ssh_port"] {
            let (path, body) = (format!("/api/partner/{PARTNER}"), format!("{{\"{member}\": {port}}}"));
            refused(&appliance, "PUT", &path, &body, member, &before).await;
        }
    }
    for address in addresses {
        let (path, body) = (format!("/api/partner/{PARTNER}"), format!("{{\"address\": {address}}}"));
        refused(&appliance, "PUT", &path, &body, "address", &before).await;
    }
}

#[tokio::test]
async fn bad_limits_change_nothing() {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    let partner = format!("/api/partner/{PARTNER}");
    for limit in NUMBERS.iter().filter(|text| **text != "0").chain(&["65535", "\"fast\"", "1"]) {
        for path in [partner.as_str(), "/api/system/replication"] {
            let body = format!("{{\"rate_limit\": {limit}}}");
            refused(&appliance, "PUT", path, &body, "rate_limit", &before).await;
        }
    }
    for (member, beyond) in [("parallel_sessions", "65"), ("session_history", "1000001")] {
        for number in NUMBERS.iter().chain(&[beyond]) {
            let body = format!("{{\"{member}\": {number}}}");
            refused(&appliance, "PUT", "/api/system/replication", &body, member, &before).await;
        }
    }
}

#[tokio::test]
async fn bad_introductions_change_nothing() {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    let good = json!({
        "id": NOBODY, "address": "172.20.46.7", "api_port": 8900, "ssh_port": 22, "public_key": KEY, "host_keys": [KEY],
    });
    let key = "\"command=\\\"sh\\\" ssh-ed25519 AAAA\"";
    let lines = "\"ssh-ed25519 AAAA\\nssh-ed25519 BBBB\"";
    let many = format!("[{}]", vec![format!("\"{KEY}\""); 17].join(", "));
    let bad_host_keys = format!("[\"{KEY}\", {key}]");
    let cases = [
        ("id", "\"x\"", "id"),
        ("id", "\"5058A20323B943ED925FD92F88F1B926\"", "id"),
        ("id", "7", "id"),
        ("address", "\"-x\"", "address"),
        ("api_port", "0", "api_port"),
        ("ssh_port", "65536", "ssh_port"),
        ("public_key", "\"\"", "public_key"),
        ("public_key", key, "public_key"),
        ("public_key", lines, "public_key"),
        ("host_keys", "[]", "host_keys"),
        ("host_keys", "\"x\"", "host_keys"),
        ("host_keys", "[7]", "host_keys[0]"),
        ("host_keys", &bad_host_keys, "host_keys[1]"),
        ("host_keys", &many, "host_keys"),
        ("addresses", "[\"host\"]", "addresses[0]"),
    ];
    for (member, value, named) in cases {
        let body = with(&good, member, Some(value));
        refused(&appliance, "POST", "/api/partner/pairing", &body, named, &before).await;
    }
    for member in ["id", "address", "api_port", "ssh_port", "public_key", "host_keys"] {
        refused(&appliance, "POST", "/api/partner/pairing", &with(&good, member, None), member, &before).await;
    }
    let stranger = appliance.send(plain("POST", "/api/partner/pairing", &good.to_string())).await;
    assert_eq!((stranger.status, stranger.error()), (401, "UnauthorizedError"));
    assert_eq!(state(&appliance).await, before);
}

#[tokio::test]
async fn bad_requests_for_relationships_and_sessions_change_nothing() {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    let good = json!({ "partner_id": PARTNER });
    let long = format!("\"{}\"", "x".repeat(257));
    let names = ["5", "\"\"", "\" x\"", "\"x\\u0000\"", "\"x\\n\"", &long];
    let (volume, session) = ("/api/volume/1/relationship", format!("/api/relationship/{PRIMARY}/session"));
    for partner in ["5", "\"x\"", "\"\"", "\"5058A20323B943ED925FD92F88F1B926\"", "\"../../x\"", "[]"] {
        refused(&appliance, "POST", volume, &with(&good, "partner_id", Some(partner)), "partner_id", &before).await;
    }
    refused(&appliance, "POST", volume, "", "partner_id", &before).await;
    for number in NUMBERS {
        let body = with(&good, "remote_pool_id", Some(number));
        refused(&appliance, "POST", volume, &body, "remote_pool_id", &before).await;
        refused(&appliance, "POST", &session, &format!("{{\"snap_id\": {number}}}"), "snap_id", &before).await;
    }
    for name in names {
        let body = with(&good, "remote_vol_name", Some(name));
        refused(&appliance, "POST", volume, &body, "remote_vol_name", &before).await;
        let body = format!("{{\"remote_snap_name\": {name}}}");
        refused(&appliance, "POST", &session, &body, "remote_snap_name", &before).await;
    }
    for flag in ["\"true\"", "1", "\"1\"", "[]"] {
        refused(&appliance, "POST", volume, &with(&good, "reuse", Some(flag)), "reuse", &before).await;
        let body = format!("{{\"action\": \"cancel\", \"discard\": {flag}}}");
        refused(&appliance, "POST", "/api/session/1", &body, "discard", &before).await;
    }
    for action in ["{}", r#"{"action": "Cancel"}"#, r#"{"action": "pause"}"#, r#"{"action": 1}"#, r#"{"action": null}"#]
    {
        refused(&appliance, "POST", "/api/session/1", action, "action", &before).await;
    }
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    for flag in ["yes", "TRUE", "", "2"] {
        for (path, member) in [
            (format!("/api/partner/{PARTNER}"), "force"),
            (format!("/api/relationship/{PRIMARY}"), "force"),
            (format!("/api/relationship/{PRIMARY}"), "preserve_replica"),
        ] {
            refused(&appliance, "DELETE", &format!("{path}?{member}={flag}"), "", member, &before).await;
        }
    }
    for (path, member) in [
        ("/api/partner?sort=rate_limit", "sort"),
        ("/api/partner?limit=-1", "limit"),
        ("/api/partner?time_created=now", "time_created"),
        ("/api/relationship?local_vol_id=x", "local_vol_id"),
        ("/api/relationship?sort=nothing", "sort"),
        ("/api/volume/1/relationship?offset=x", "offset"),
        ("/api/session?local_snap_id=x", "local_snap_id"),
        ("/api/session?limit=1&limit=2", "limit"),
        ("/api/session?time_ended=later", "time_ended"),
    ] {
        refused(&appliance, "GET", path, "", member, &before).await;
    }
    let ignored = appliance.get("/api/session?relid=1").await;
    assert_eq!(ignored.header("x-vsnap-ignored"), Some("relid"));
}

/// `404` for each, and nothing else happens.
async fn all_unknown(cases: &[(&str, &str, &str)]) {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    for (method, path, body) in cases {
        let answer = appliance.send(request(method, path, body)).await;
        assert_eq!((answer.status, answer.error()), (404, "NotFoundError"), "{method} {path} {body}");
        assert_eq!(state(&appliance).await, before, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn what_is_not_there_cannot_be_seen() {
    let (partner, relationship) = (format!("/api/partner/{NOBODY}"), format!("/api/relationship/{NOBODY}"));
    let upper = format!("/api/partner/{}", PARTNER.to_uppercase());
    all_unknown(&[
        ("GET", &partner, ""),
        ("GET", "/api/partner/7", ""),
        ("GET", "/api/partner?id=7", ""),
        ("GET", &upper, ""),
        ("PUT", &partner, r#"{"api_port": 1}"#),
        ("PUT", "/api/partner/..%2Fx", "{}"),
        ("GET", &relationship, ""),
        ("GET", "/api/relationship?id=x", ""),
        ("GET", "/api/volume/99/relationship", ""),
        ("GET", "/api/volume/x/relationship", ""),
        ("GET", "/api/session/3", ""),
        ("GET", "/api/session/0", ""),
        ("GET", "/api/session?id=x", ""),
        ("GET", "/api/session?id=9223372036854775808", ""),
        ("DELETE", "/api/partner/x", ""),
        ("DELETE", "/api/relationship/x?force=1&preserve_replica=0", ""),
        ("POST", "/api/volume/x/relationship", &json!({ "partner_id": PARTNER }).to_string()),
        ("POST", "/api/relationship/x/session", ""),
        ("POST", "/api/session/x", r#"{"action": "cancel"}"#),
    ])
    .await;
}

#[tokio::test]
async fn what_is_not_there_cannot_be_changed() {
    let (partner, relationship) = (format!("/api/partner/{NOBODY}"), format!("/api/relationship/{NOBODY}"));
    let session = format!("/api/relationship/{NOBODY}/session");
    let primary = format!("/api/relationship/{PRIMARY}/session");
    all_unknown(&[
        ("DELETE", &partner, ""),
        ("DELETE", &format!("{partner}?force=true"), ""),
        ("DELETE", &relationship, ""),
        ("DELETE", &format!("{relationship}?force=true"), ""),
        ("POST", "/api/volume/99/relationship", &json!({ "partner_id": PARTNER }).to_string()),
        ("POST", "/api/volume/1/relationship", &json!({ "partner_id": NOBODY }).to_string()),
        ("POST", &session, ""),
        ("POST", &primary, r#"{"snap_id": 99}"#),
        ("POST", "/api/session/3", r#"{"action": "cancel"}"#),
    ])
    .await;
}

#[tokio::test]
async fn a_password_comes_in_and_never_goes_out() {
    let appliance = appliance().await;
    let bodies = [
        json!({ "remote_addr": "192.0.2.1", "remote_user": "vsuser", "remote_pass": SECRET, "remote_api_port": "1" }),
        json!({ "remote_addr": "192.0.2.1", "remote_user": "vsuser", "remote_pass": SECRET, "local_ssh_port": "0" }),
        json!({ "remote_addr": "192.0.2.1", "remote_pass": SECRET, "remote_password": SECRET }),
    ];
    for body in bodies {
        let answer = appliance.post("/api/partner", &body.to_string()).await;
        assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");
    }
    assert!(!format!("{:?}", state(&appliance).await).contains(SECRET));
}
