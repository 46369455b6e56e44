//! A thousand volumes and twenty thousand snapshots: lists stay right, and parts of them cheap.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::appliance::Appliance;

const VOLUMES: usize = 1000;
const SETS: usize = 20;

/// Far beyond what any answer takes, also on a busy machine, and far below what one question to ZFS for each object
/// would take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rows of further sets like the first one: to make them all over the API would take minutes, and lists come from rows.
fn add_sets(appliance: &Appliance) {
    let catalog = rusqlite::Connection::open(appliance.config.state_dir.join("catalog.sqlite")).unwrap();
    for set in 1..SETS {
        let rows = catalog.execute(
            "INSERT INTO snapshot (name, state, volume_id, guid, locked, time_created, time_updated)
             SELECT 'set ' || ?1, state, volume_id, CAST(id * 100 + ?1 AS TEXT), locked, time_created + ?1, time_updated + ?1
             FROM snapshot WHERE name = 'set 0'",
            [set as i64],
        );
        assert_eq!(rows.unwrap(), VOLUMES);
    }
}

async fn list(appliance: &Appliance, path: &str, member: &str) -> (Vec<Value>, u64) {
    let began = Instant::now();
    let answer = appliance.get(path).await.ok();
    assert!(began.elapsed() < PATIENCE, "{path} took {:?}", began.elapsed());
    (answer[member].as_array().unwrap().clone(), answer["total"].as_u64().unwrap())
}

fn ids(list: &[Value]) -> Vec<u64> {
    list.iter().map(|object| object["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// The pages of a list, put together.
async fn pages(appliance: &Appliance, path: &str, member: &str, total: usize, page: usize) -> Vec<Value> {
    let mut all = Vec::new();
    for offset in (0..total + page).step_by(page) {
        let path = format!("{path}&limit={page}&offset={offset}");
        let (part, counted) = list(appliance, &path, member).await;
        assert_eq!((counted, part.len()), (total as u64, page.min(total.saturating_sub(offset))), "{path}");
        all.extend(part);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_are_whole_and_so_are_their_parts() {
    let appliance = Appliance::with_pools().await;
    for at in 0..VOLUMES {
        let body = json!({ "name": format!("volume {at}"), "volume_type": "filesystem", "pool_id": 1 });
        appliance.post("/api/volume", &body.to_string()).await.ok();
    }
    let (volumes, total) = list(&appliance, "/api/volume", "volumes").await;
    assert_eq!((volumes.len(), total), (VOLUMES, VOLUMES as u64));
    let volumes = ids(&volumes);
    let body = json!({ "vol_ids": volumes, "name": "set 0" });
    appliance.post("/api/snapshot", &body.to_string()).await.ok();
    assert_eq!(appliance.get("/api/system/report").await.ok()["total"], 0);
    add_sets(&appliance);

    let snapshots = VOLUMES * SETS;
    let (whole, total) = list(&appliance, "/api/snapshot", "snapshots").await;
    assert_eq!((whole.len(), total), (snapshots, snapshots as u64));
    assert_eq!(ids(&whole).into_iter().collect::<BTreeSet<_>>().len(), snapshots, "each one once");
    let (detailed, _) = list(&appliance, "/api/snapshot?detail=true", "snapshots").await;
    assert_eq!(ids(&detailed), ids(&whole));

    let sorted = pages(&appliance, "/api/snapshot?sort=name,-id", "snapshots", snapshots, 3000).await;
    let mut expected = whole.clone();
    expected.sort_by_key(|one| {
        (
            one["name"].as_str().unwrap().to_owned(),
            std::cmp::Reverse(one["id"].as_str().unwrap().parse::<u64>().unwrap()),
        )
    });
    assert_eq!(sorted, expected);
    let of_one = pages(&appliance, "/api/volume/500/snapshot?sort=-id", "snapshots", SETS, 7).await;
    assert!(of_one.iter().all(|snapshot| snapshot["parent_id"] == "500"));
    let (set, total) = list(&appliance, "/api/snapshot?name=set+7&limit=10", "snapshots").await;
    assert_eq!((set.len(), total), (10, VOLUMES as u64));
    let sorted = pages(&appliance, "/api/volume?sort=-name&detail=true", "volumes", VOLUMES, 300).await;
    assert!(sorted.is_sorted_by(|one, other| one["name"].as_str() > other["name"].as_str()));

    // What goes is gone from every list.
    appliance.delete("/api/volume/500").await.ok();
    assert_eq!(list(&appliance, "/api/snapshot?limit=1", "snapshots").await.1, (snapshots - SETS) as u64);
    assert_eq!(list(&appliance, "/api/volume?limit=0", "volumes").await, (Vec::new(), (VOLUMES - 1) as u64));
    assert_eq!(appliance.get("/api/volume/500/snapshot").await.status, 404);
}
