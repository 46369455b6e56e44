//! `vsnap volume`.

use serde_json::{Value, json};

use crate::{
    failed, pool, run, stdout, stdout_json,
    stub::{Answers, Stub},
};

pub fn volume(id: &str, name: &str) -> Value {
    json!({
        "id": id, "name": name, "volume_type": "lun", "is_clone": false,
        "serial": "68d65662-0bbf-4fd6-90f0-85a5d62df761", "pool_id": "1", "pool_name": "demo1",
        "size_total": "1073741824", "size_free": "1073741824", "size_used": "35856", "parent_id": null,
        "parent_path": null, "snapshot_id": null, "share_id": null, "host_ids": [], "time_created": "1497365131",
        "time_updated": "1497365131", "size_block": "65536", "compression": true, "deduplication": false,
        "syncwrite": true,
    })
}

fn snapshots(of: &[(&str, &str)], total: u64) -> Value {
    let snapshot = |(id, name): &(&str, &str)| json!({ "id": id, "name": name, "parent_id": "7" });
    json!({ "snapshots": of.iter().map(snapshot).collect::<Vec<_>>(), "total": total })
}

/// Volume 7 `data` with snapshots 11 `old` and 12 `new`, volume 9 `copy`, pool 1 `demo1`.
fn with_volume() -> Answers {
    let list = json!({ "volumes": [volume("7", "data"), volume("9", "copy")], "total": 2 });
    Answers::default()
        .on("GET /api/pool", json!({ "pools": [pool()], "total": 1 }))
        .on("GET /api/pool?name=demo1", pool())
        .on("GET /api/volume?detail=true", list.clone())
        .on("GET /api/volume?limit=5&offset=10&sort=-size_used&pool_id=1&volume_type=lun&detail=true", list)
        .on("GET /api/volume?id=7", volume("7", "data"))
        .on("GET /api/volume?name=data", volume("7", "data"))
        .on("GET /api/volume?name=copy", volume("9", "copy"))
        .on("GET /api/volume/7", volume("7", "data"))
        .on("GET /api/snapshot?name=old", json!({ "id": "11", "name": "old", "parent_id": "7" }))
        .on("GET /api/volume/7/snapshot?name=old", snapshots(&[("11", "old")], 1))
        .on("GET /api/volume/7/snapshot?id=12", snapshots(&[("12", "new")], 1))
        .on("GET /api/volume/7/snapshot?id=13", snapshots(&[], 0))
        .on("GET /api/volume/7/snapshot?name=13", snapshots(&[], 0))
        .on("GET /api/volume/7/snapshot?limit=0", snapshots(&[], 1000))
        .on("POST /api/volume", volume("10", "made"))
        .on("PUT /api/volume/7", volume("7", "data"))
        .on("POST /api/volume/7", volume("7", "data"))
        .on("DELETE /api/volume/7", json!({}))
        .on("DELETE /api/volume/7?force=true", json!({}))
}

#[test]
fn requests_are_what_the_contract_has() {
    let stub = Stub::local(with_volume());
    let cases = [
        (
            "volume create --name a --type filesystem --pool demo1 --dedup on --compression off",
            (
                "POST /api/volume",
                json!({ "name": "a", "volume_type": "filesystem", "pool_id": "1", "compression": false,
                "deduplication": true }),
            ),
        ),
        (
            "volume create --name b --type lun --size 1.5T --block-size 4K --syncwrite off",
            (
                "POST /api/volume",
                json!({ "name": "b", "volume_type": "lun", "pool_id": "1",
                "size_total": "1649267441664", "size_block": "4096", "syncwrite": false }),
            ),
        ),
        (
            "volume create --name c --type filebackedlun --parent data --path vms/1.img",
            (
                "POST /api/volume",
                json!({ "name": "c", "volume_type": "filebackedlun", "parent_id": "7",
                "parent_path": "vms/1.img" }),
            ),
        ),
        ("volume clone --name d --snapshot old", ("POST /api/volume", json!({ "name": "d", "snapshot_id": "11" }))),
        (
            "volume update data --new-name e --size 2G --dedup off",
            ("PUT /api/volume/7", json!({ "name": "e", "size_total": "2147483648", "deduplication": false })),
        ),
        ("volume update 7 --size none", ("PUT /api/volume/7", json!({ "size_total": "none" }))),
        ("volume promote data", ("POST /api/volume/7", json!({ "action": "promote" }))),
        (
            "--noprompt volume rollback data --snapshot old",
            (
                "POST /api/volume/7",
                json!({ "action": "rollback", "snapshot_id": "11", "discard_snapshots": [],
                "discard_clones": [], "discard_hosts": [] }),
            ),
        ),
        (
            "--noprompt volume rollback --name data --snapshot old --discard-snapshots 12 --discard-clones copy",
            (
                "POST /api/volume/7",
                json!({ "action": "rollback", "snapshot_id": "11", "discard_snapshots": ["12"],
                "discard_clones": ["9"], "discard_hosts": [] }),
            ),
        ),
        ("--noprompt volume delete data", ("DELETE /api/volume/7", Value::Null)),
        ("--noprompt volume delete data --force", ("DELETE /api/volume/7?force=true", Value::Null)),
    ];
    for (line, _) in &cases {
        stdout(&run(&stub, line));
    }
    let expected: Vec<_> = cases.into_iter().map(|(_, (line, body))| (line.to_owned(), body)).collect();
    assert_eq!(stub.changes(), expected);
}

#[test]
fn volumes_are_shown_whole_to_scripts_and_in_tables_to_people() {
    let stub = Stub::local(with_volume());
    let list = stdout_json(&run(&stub, "--json volume show"));
    assert_eq!((&list["total"], &list["volumes"][0]), (&json!(2), &volume("7", "data")));
    assert_eq!(stdout_json(&run(&stub, "--json volume show data")), volume("7", "data"));
    assert_eq!(stdout_json(&run(&stub, "--json volume create --name a --type filesystem"))["name"], "made");
    let text = stdout(&run(&stub, "volume show"));
    let words: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(words[0][..4], ["ID", "NAME", "TYPE", "POOL"]);
    assert_eq!(words[1], ["7", "data", "lun", "demo1", "1.0", "GiB", "35.0", "KiB", "1.0", "GiB", "-"]);
    assert!(stdout(&run(&stub, "volume show 7")).contains("68d65662-0bbf-4fd6-90f0-85a5d62df761"));
    stdout(&run(&stub, "volume show --pool demo1 --type lun --limit 5 --offset 10 --sort -size_used"));
}

#[test]
fn nothing_is_lost_without_a_yes() {
    let stub = Stub::local(with_volume());
    let (code, text) = failed(&run(&stub, "volume delete data"));
    assert!(code == 2 && text.contains("Volume data and its 1000 snapshots will be gone"), "{text}");
    let (code, text) = failed(&run(&stub, "volume rollback data --snapshot old --discard-snapshots 12"));
    assert!(code == 2 && text.contains("since snapshot old is lost; snapshots that go with it: new."), "{text}");
    // What is named must be there, and belong to this volume.
    let (code, text) = failed(&run(&stub, "--noprompt volume rollback data --snapshot 13"));
    assert!(code == 1 && text.contains("volume data has no snapshot 13"), "{text}");
    assert_eq!(failed(&run(&stub, "--noprompt volume delete other")).0, 1);
    assert_eq!(failed(&run(&stub, "--noprompt volume delete")).0, 2);
    assert_eq!(failed(&run(&stub, "volume update data")).0, 2);
    assert_eq!(stub.changes(), []);
    let text = stdout(&run(&stub, "--noprompt volume delete data"));
    assert_eq!(text, "Deleted: volume data and its 1000 snapshots.\n");
}

#[test]
fn a_deletion_that_outlasts_its_request_is_followed_to_its_end() {
    let operation = |state: &str, message: Value| {
        json!({ "total": 1, "operations": [{ "id": "3", "verb": "delete_volume", "subject": "volume 7", "user": "root",
            "state": state, "percent": "40", "message": message, "time_started": "1", "time_ended": null }] })
    };
    let answers = |end: Value| {
        let line = "GET /api/operation?subject=volume+7&limit=1";
        Answers::default()
            .on("GET /api/volume?name=data", volume("7", "data"))
            .on("GET /api/volume/7/snapshot?limit=0", snapshots(&[], 0))
            .fail("DELETE /api/volume/7", 500, "TimeoutError", "it goes on in the background")
            .on(line, operation("running", json!("400 of 1000 snapshots deleted")))
            .on(line, end)
    };
    let stub = Stub::local(answers(operation("done", Value::Null)));
    assert_eq!(stdout(&run(&stub, "--noprompt volume delete data")), "Deleted: volume data.\n");
    let stub = Stub::local(answers(operation("failed", json!("pool 1 is suspended"))));
    let (code, text) = failed(&run(&stub, "--noprompt volume delete data"));
    assert!(code == 1 && text.contains("pool 1 is suspended"), "{text}");
}
