//! Numbers at and beyond what 63 and 64 bits hold, in every place that takes one: refused, and nothing changes.

use serde_json::{Value, json};

use crate::{
    appliance::{Appliance, request},
    volumes::{filesystem, make, snapshot},
};

const HUGE: [&str; 7] = [
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "100000000000000000000000000000000000000000",
    "1e300",
];

async fn state(appliance: &Appliance) -> Vec<Value> {
    let mut state = Vec::new();
    for path in ["/api/volume?detail=true", "/api/snapshot?detail=true", "/api/pool", "/api/operation?limit=1000"] {
        state.push(appliance.get(path).await.ok());
    }
    state
}

/// Filesystem 1 and lun 2, each with a snapshot.
async fn appliance() -> Appliance {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "fs").await;
    make(&appliance, "lun", "lun", json!({ "size_total": 1 << 20 })).await;
    for volume in ["1", "2"] {
        snapshot(&appliance, volume, "s").await;
    }
    appliance
}

#[tokio::test]
async fn in_bodies() {
    let appliance = appliance().await;
    let before = state(&appliance).await;
    // In each the member `N` stands for the number.
    let places = [
        ("POST", "/api/volume", r#"{"name": "x", "volume_type": "filesystem", "pool_id": N}"#),
        ("POST", "/api/volume", r#"{"name": "x", "volume_type": "filesystem", "pool_id": 1, "size_total": N}"#),
        ("POST", "/api/volume", r#"{"name": "x", "volume_type": "lun", "pool_id": 1, "size_total": N}"#),
        (
            "POST",
            "/api/volume",
            r#"{"name": "x", "volume_type": "lun", "pool_id": 1, "size_total": 4096, "size_block": N}"#,
        ),
        ("POST", "/api/volume", r#"{"name": "x", "volume_type": "filebackedlun", "parent_id": N, "parent_path": "a"}"#),
        ("POST", "/api/volume", r#"{"name": "x", "snapshot_id": N}"#),
        ("PUT", "/api/volume/1", r#"{"size_total": N}"#),
        ("PUT", "/api/volume/2", r#"{"size_total": N}"#),
        ("POST", "/api/volume/1", r#"{"action": "rollback", "snapshot_id": N}"#),
        ("POST", "/api/volume/1", r#"{"action": "rollback", "snapshot_id": 1, "discard_snapshots": [N]}"#),
        ("POST", "/api/volume/1", r#"{"action": "rollback", "snapshot_id": 1, "discard_clones": [N]}"#),
        ("POST", "/api/snapshot", r#"{"vol_ids": [N], "name": "x"}"#),
        ("POST", "/api/snapshot", r#"{"vol_ids": [1, N], "name": "x"}"#),
        ("POST", "/api/volume/1/snapshot", r#"{"name": "x", "expires_at": N, "locked": true}"#),
        ("PUT", "/api/snapshot/1", r#"{"expires_at": N, "locked": true}"#),
    ];
    for (method, path, body) in places {
        for number in HUGE {
            for number in [number.to_owned(), format!("\"{number}\"")] {
                let body = body.replace('N', &number);
                let answer = appliance.send(request(method, path, &body)).await;
                assert!([400, 404, 409].contains(&answer.status), "{method} {path} {body}: {answer:?}");
                assert_eq!(state(&appliance).await, before, "{method} {path} {body}");
            }
        }
    }
}

#[tokio::test]
async fn in_paths_and_queries() {
    let appliance = appliance().await;
    for number in HUGE {
        for kind in ["pool", "volume", "snapshot"] {
            for path in [format!("/api/{kind}/{number}"), format!("/api/{kind}?id={number}")] {
                let answer = appliance.get(&path).await;
                assert_eq!((answer.status, answer.error()), (404, "NotFoundError"), "{path}");
            }
            assert_eq!(appliance.delete(&format!("/api/{kind}/{number}")).await.status, 404, "{kind} {number}");
        }
        for parameter in ["limit", "offset"] {
            for kind in ["volume", "snapshot", "operation"] {
                let answer = appliance.get(&format!("/api/{kind}?{parameter}={number}")).await;
                assert!([200, 400].contains(&answer.status), "{kind} {parameter} {number}: {answer:?}");
            }
        }
        for filter in ["volume?size_total", "volume?pool_id", "snapshot?parent_id", "snapshot?time_created"] {
            // A filter beside another parameter; what no object can have is no object's.
            let answer = appliance.get(&format!("/api/{filter}={number}&limit=5")).await;
            assert!([200, 400].contains(&answer.status), "{filter} {number}: {answer:?}");
            assert!(answer.status == 400 || answer.body["total"] == 0, "{filter} {number}: {answer:?}");
        }
        let diff = appliance.get(&format!("/api/snapshot/1/diff?to={number}")).await;
        assert!([400, 404].contains(&diff.status), "{number}: {diff:?}");
    }
}
