//! Random requests on volumes and snapshots beside a model, on a real pool with real bytes. After every step the API, the
//! catalog and ZFS must be what the model is, and so after a restart. The crash tests do the same on the fake, longer.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    bed::Bed,
    model_state::{Model, Request, Snapshot, Step, Volume, new_numbers, step},
    volumes::pool,
};

const STEPS: usize = 24;
/// What a write writes, so many times.
const BYTES: usize = 9;

fn number(value: &Value) -> i64 {
    value.as_str().unwrap().parse().unwrap()
}

fn numbers(ids: impl IntoIterator<Item = i64>) -> Vec<String> {
    ids.into_iter().map(|id| id.to_string()).collect()
}

/// Asks the appliance; tells whether it did it.
fn ask(bed: &Bed, pool: &str, model: &Model, request: &Request, at: usize) -> bool {
    let name = format!("object {at}");
    let volume = |id: &i64, body: Value| bed.post(&format!("/api/volume/{id}"), body);
    let snapshot = |id: &i64, body: Value| bed.post(&format!("/api/snapshot/{id}"), body);
    let answer = match request {
        Request::Create { lun: true } => {
            bed.post("/api/volume", json!({"name": name, "volume_type": "lun", "pool_id": pool, "size_total": 1 << 20}))
        }
        Request::Create { lun: false } => {
            bed.post("/api/volume", json!({"name": name, "volume_type": "filesystem", "pool_id": pool}))
        }
        Request::Write(id, byte) => {
            let octal = format!("\\{byte:03o}").repeat(BYTES);
            let to = if model.volumes[id].lun {
                format!("dd of=/dev/zvol/vpool{pool}/lun{id} conv=notrunc,fsync status=none")
            } else {
                format!("cat > /vsnap/vpool{pool}/fs{id}/data")
            };
            bed.shell(&format!("printf '{octal}' | {to}"));
            return true;
        }
        Request::Snapshot(ids) => {
            bed.post("/api/snapshot", json!({"vol_ids": numbers(ids.iter().copied()), "name": name}))
        }
        Request::Clone(id) => bed.post("/api/volume", json!({"name": name, "snapshot_id": id.to_string()})),
        Request::Promote(id) => volume(id, json!({"action": "promote"})),
        Request::Rollback { snapshot, discard } => {
            let newer = if *discard { model.newer(*snapshot) } else { Vec::new() };
            let body = json!({
                "action": "rollback", "snapshot_id": snapshot.to_string(),
                "discard_clones": numbers(model.clones(&newer)), "discard_snapshots": numbers(newer),
            });
            volume(&model.snapshots[snapshot].volume, body)
        }
        Request::Delete(id) => bed.delete(&format!("/api/volume/{id}")),
        Request::DeleteSnapshot(id) => bed.delete(&format!("/api/snapshot/{id}")),
        Request::Hold(id) => snapshot(id, json!({"action": "hold", "reason": "case"})),
        Request::Release(id) => snapshot(id, json!({"action": "release", "reason": "case"})),
        // A real reboot would take longer than all other steps together.
        Request::Restart { reboot } => {
            bed.shell(&format!(
                "{} systemctl restart vsnapd",
                if *reboot { "systemctl kill -s KILL vsnapd;" } else { "" }
            ));
            bed.wait_for_api();
            return true;
        }
    };
    // A hold that is there or not there is no state of the snapshot, so it has other words.
    assert!([200, 404, 409].contains(&answer.status), "{request:?}: {}", answer.body);
    answer.status == 200
}

/// The appliance as the model has it: rows from the API, holds and bytes from ZFS.
fn seen(bed: &Bed, pool: &str) -> Model {
    let list =
        |kind: &str| bed.get(&format!("/api/{kind}?detail=true")).ok()[format!("{kind}s")].as_array().unwrap().clone();
    let (volumes, snapshots) = (list("volume"), list("snapshot"));
    let is_lun = |id: &Value| volumes.iter().any(|volume| volume["id"] == *id && volume["volume_type"] == "lun");
    let dataset = |id: &Value| format!("{}{}", if is_lun(id) { "lun" } else { "fs" }, id.as_str().unwrap());
    let place = |name: &str| match name.split_once('@') {
        _ if name.starts_with("lun") => format!("/dev/zvol/vpool{pool}/{name}"),
        Some((volume, snapshot)) => format!("/vsnap/vpool{pool}/{volume}/.zfs/snapshot/{snapshot}/data"),
        None => format!("/vsnap/vpool{pool}/{name}/data"),
    };
    let mut names: Vec<String> = volumes.iter().map(|volume| dataset(&volume["id"])).collect();
    names.extend(
        snapshots.iter().map(|one| format!("{}@snap{}", dataset(&one["parent_id"]), one["id"].as_str().unwrap())),
    );
    let wanted: BTreeSet<String> = names.iter().map(|name| format!("vpool{pool}/{name}")).collect();
    let reads: Vec<String> = names
        .iter()
        .map(|name| format!("echo {name} $(head -c {BYTES} {} 2>/dev/null | od -An -v -tu1)", place(name)))
        .collect();
    let told = bed.shell(&format!(
        "udevadm settle; zfs list -H -t all -o name -r vpool{pool} | tail -n +2; echo; \
         zfs list -H -t snapshot -o name -r vpool{pool} | xargs -r zfs holds -H | cut -f 1; echo; {}; echo end",
        if reads.is_empty() { "true".to_owned() } else { reads.join("; ") }
    ));
    let parts: Vec<Vec<&str>> = told.split("\n\n").map(|part| part.lines().collect()).collect();
    let lines = |at: usize| parts.get(at).cloned().unwrap_or_default();
    let live: BTreeSet<String> =
        lines(0).iter().filter(|line| line.starts_with("vpool")).map(|line| (*line).to_owned()).collect();
    assert_eq!(live, wanted, "what ZFS has (left) and the rows");
    let content = |name: &str| {
        let line = told.lines().find(|line| line.split(' ').next() == Some(name)).unwrap_or_default();
        let bytes: Vec<u8> = line.split_whitespace().skip(1).map(|byte| byte.parse().unwrap()).collect();
        (bytes.len() == BYTES && bytes.iter().any(|byte| *byte != 0)).then_some(bytes)
    };
    let is_held = |name: &str| told.lines().filter(|line| *line == format!("vpool{pool}/{name}")).count() > 1;
    let volume = |row: &Value| Volume {
        lun: is_lun(&row["id"]),
        origin: row["snapshot_id"].as_str().map(|id| id.parse().unwrap()),
        content: content(&dataset(&row["id"])),
    };
    let snapshot = |row: &Value| {
        let name = format!("{}@snap{}", dataset(&row["parent_id"]), row["id"].as_str().unwrap());
        Snapshot { volume: number(&row["parent_id"]), held: is_held(&name), content: content(&name) }
    };
    Model {
        volumes: volumes.iter().map(|row| (number(&row["id"]), volume(row))).collect(),
        snapshots: snapshots.iter().map(|row| (number(&row["id"]), snapshot(row))).collect(),
    }
}

#[test]
fn the_appliance_is_what_the_model_is() {
    let bed = Bed::fresh();
    let pool = pool(&bed);
    // So that snapshots of luns can be read.
    bed.shell(&format!("zfs set snapdev=visible vpool{pool}"));
    // Another sequence each time. This one comes again with VSNAP_TEST_SEED.
    let seed = std::env::var("VSNAP_TEST_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let steps = prop::collection::vec(step(), STEPS).new_tree(&mut runner).unwrap().current();
    let mut model = Model::default();
    for (at, step) in steps.iter().enumerate() {
        // Content of nothing but zeros can't be told from none.
        let step = if let Step::Write(volume, byte) = step { &Step::Write(*volume, byte | 1) } else { step };
        let Some(request) = model.request(step) else { continue };
        let when = format!("VSNAP_TEST_SEED={seed}, step {at}, {request:?}");
        let allowed = model.allows(&request);
        assert_eq!(ask(&bed, &pool, &model, &request, at), allowed, "{when}: {model:?}");
        let mut now = seen(&bed, &pool);
        if allowed {
            let new = new_numbers(&model, &now);
            model.carry_out(&request, &new);
        }
        // Links of zvols that have another name now are made by udev, a moment later. The device of a snapshot that has
        // another owner after a promotion keeps the former name, by which it can't be opened (seen with OpenZFS 2.3.9),
        // until it is made anew. The appliance itself has no use for such devices.
        for _ in 0..5 {
            if now != model {
                bed.shell(&format!("for to in hidden visible; do zfs set snapdev=$to vpool{pool}; done"));
                std::thread::sleep(std::time::Duration::from_secs(1));
                now = seen(&bed, &pool);
            }
        }
        assert_eq!(now, model, "{when}");
    }
    bed.shell("systemctl restart vsnapd");
    bed.wait_for_api();
    assert_eq!(seen(&bed, &pool), model, "VSNAP_TEST_SEED={seed}, after a restart");
    assert_eq!(bed.get("/api/system/report").ok()["total"], 0);
    for (id, _) in model.snapshots.iter().filter(|(_, snapshot)| snapshot.held) {
        bed.post(&format!("/api/snapshot/{id}"), json!({"action": "release", "reason": "case"})).ok();
    }
}
