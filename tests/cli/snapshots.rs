//! `vsnap snapshot`.

use serde_json::{Value, json};

use crate::{
    failed, run, stdout, stdout_json,
    stub::{Answers, Stub},
    volumes::volume,
    vsnap,
};

fn snapshot(id: &str, name: &str, volume: &str) -> Value {
    json!({
        "id": id, "name": name, "parent_id": volume, "parent_name": format!("v{volume}"), "pool_id": "1",
        "pool_name": "demo1", "has_clones": false, "size_used": "35856", "version_id": "6021379531292140614",
        "time_created": "1497365131", "time_updated": "1497365131", "expires_at": null, "locked": false,
        "holds": [{ "reason": "audit", "user": "root", "time_created": "1497365131" }],
    })
}

fn list(snapshots: &[Value], total: usize) -> Value {
    json!({ "snapshots": snapshots, "total": total })
}

/// Snapshot 11 `nightly` and 13 `weekly` of volume 7, snapshot 12 `nightly` of volume 8.
fn with_snapshots() -> Answers {
    let (own, other, weekly) =
        (snapshot("11", "nightly", "7"), snapshot("12", "nightly", "8"), snapshot("13", "weekly", "7"));
    let both = list(&[own.clone(), other.clone()], 2);
    Answers::default()
        .on("GET /api/volume?name=v7", volume("7", "v7"))
        .on("GET /api/volume?id=8", volume("8", "v8"))
        .on("GET /api/snapshot?detail=true", list(&[own.clone(), other.clone(), weekly.clone()], 20_000))
        .on("GET /api/snapshot?name=nightly", both.clone())
        .on("GET /api/snapshot?name=weekly", weekly.clone())
        .on("GET /api/snapshot?id=11", own.clone())
        .on("GET /api/snapshot?id=12", other.clone())
        .on("GET /api/snapshot/11", own.clone())
        .on("GET /api/snapshot/12", other.clone())
        .on(
            "GET /api/snapshot?name=monthly",
            list(&[snapshot("14", "monthly", "7"), snapshot("15", "monthly", "8")], 2),
        )
        .on("GET /api/volume/7/snapshot?name=monthly", list(&[snapshot("14", "monthly", "7")], 1))
        .on("GET /api/volume/8/snapshot?name=monthly", list(&[snapshot("15", "monthly", "8")], 1))
        .on("GET /api/volume/8/snapshot?name=weekly", list(&[], 0))
        .on("GET /api/snapshot/11/diff?to=14", json!({ "size_written": "1024", "changes": null, "total": 0 }))
        .on("GET /api/snapshot/12/diff?to=15", json!({ "size_written": "2048", "changes": null, "total": 0 }))
        .on("GET /api/snapshot/11/diff?to=now", json!({ "size_written": "4096", "changes": null, "total": 0 }))
        .on("POST /api/volume", volume("9", "copy"))
        .on("GET /api/volume/7/snapshot?name=nightly", list(std::slice::from_ref(&own), 1))
        .on("GET /api/volume/7/snapshot?limit=1&sort=-time_created&detail=true", list(std::slice::from_ref(&own), 2))
        .on("POST /api/volume/7/snapshot", own.clone())
        .on("POST /api/snapshot", both)
        .on("PUT /api/snapshot/11", own.clone())
        .on("PUT /api/snapshot/13", weekly)
        .on("POST /api/snapshot/11", own)
        .on("DELETE /api/snapshot/11", json!({}))
        .on("DELETE /api/snapshot/13", json!({}))
        .fail("DELETE /api/snapshot/12", 409, "BusyError", "snapshot 12 has clones: volume 9 (copy)")
}

#[test]
fn requests_are_what_the_contract_has() {
    let stub = Stub::local(with_snapshots());
    let cases = [
        ("snapshot create v7", ("POST /api/volume/7/snapshot", json!({}))),
        (
            "snapshot create v7 --name n --expires 4102444800 --lock",
            ("POST /api/volume/7/snapshot", json!({ "name": "n", "expires_at": "4102444800", "locked": true })),
        ),
        ("snapshot create v7 8 --name n", ("POST /api/snapshot", json!({ "name": "n", "vol_ids": ["7", "8"] }))),
        (
            "snapshot update weekly --expires 2099-12-31",
            ("PUT /api/snapshot/13", json!({ "expires_at": "4102444800" })),
        ),
        ("snapshot update 11 --expires none", ("PUT /api/snapshot/11", json!({ "expires_at": "none" }))),
        ("snapshot update 11 --lock", ("PUT /api/snapshot/11", json!({ "locked": true }))),
        (
            "snapshot hold nightly --volume v7 --reason audit",
            ("POST /api/snapshot/11", json!({ "action": "hold", "reason": "audit" })),
        ),
        (
            "snapshot release 11 --reason audit",
            ("POST /api/snapshot/11", json!({ "action": "release", "reason": "audit" })),
        ),
        ("snapshot delete weekly --noprompt", ("DELETE /api/snapshot/13", Value::Null)),
        (
            "volume clone --name copy --snapshot nightly --volume v7",
            ("POST /api/volume", json!({ "name": "copy", "snapshot_id": "11" })),
        ),
    ];
    for (line, _) in &cases {
        stdout(&run(&stub, line));
    }
    let expected: Vec<_> = cases.into_iter().map(|(_, (line, body))| (line.to_owned(), body)).collect();
    assert_eq!(stub.changes(), expected);
}

#[test]
fn a_span_is_counted_from_now() {
    let stub = Stub::local(with_snapshots());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    stdout(&run(&stub, "snapshot create v7 --expires 30d"));
    let sent: u64 = stub.changes()[0].1["expires_at"].as_str().unwrap().parse().unwrap();
    assert!((0..60).contains(&(sent - now - 30 * 86_400)), "{sent}");
    let (socket, past) = (stub.socket(), ["snapshot", "create", "v7", "--expires", "2026-01-01"]);
    let output = vsnap().arg("--socket").arg(socket).args(past).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not in the future"));
}

#[test]
fn snapshots_are_shown_whole_to_scripts_and_in_tables_to_people() {
    let stub = Stub::local(with_snapshots());
    let shown = stdout_json(&run(&stub, "--json snapshot show"));
    assert_eq!((&shown["total"], &shown["snapshots"][1]), (&json!(20_000), &snapshot("12", "nightly", "8")));
    assert_eq!(stdout_json(&run(&stub, "--json snapshot show 11")), snapshot("11", "nightly", "7"));
    assert_eq!(stdout_json(&run(&stub, "--json snapshot show nightly --volume v7"))["id"], "11");
    assert_eq!(stdout_json(&run(&stub, "--json snapshot create v7 8"))["total"], 2);
    let text = stdout(&run(&stub, "snapshot show"));
    assert!(text.lines().nth(1).unwrap().starts_with("11  nightly  v7      2017-06-13 14:45:31"), "{text}");
    assert!(text.ends_with("\n3 of 20000 are shown.\n"), "{text}");
    assert!(
        stdout(&run(&stub, "snapshot show --volume v7 --sort -time_created --limit 1")).contains("1 of 2 are shown")
    );
    assert!(stdout(&run(&stub, "snapshot show 11")).contains("audit (root, 2017-06-13 14:45:31)"));
}

#[test]
fn a_name_that_several_volumes_have_is_not_guessed() {
    let stub = Stub::local(with_snapshots());
    for line in [
        "snapshot delete nightly --noprompt",
        "snapshot hold nightly --reason r",
        "volume clone --name c --snapshot nightly",
    ] {
        let (code, text) = failed(&run(&stub, line));
        assert!(code == 2 && text.contains("say which one by its id: 11 (volume 7), 12 (volume 8)"), "{line}: {text}");
    }
    assert_eq!(stub.changes(), []);
}

#[test]
fn a_difference_is_between_snapshots_of_one_volume() {
    let stub = Stub::local(with_snapshots());
    for (line, written) in [
        ("snapshot diff 11 --to monthly", "1.0 KiB written.\n"),
        ("snapshot diff 12 --to monthly", "2.0 KiB written.\n"),
        ("snapshot diff nightly --volume v7 --to monthly", "1.0 KiB written.\n"),
        ("snapshot diff 11", "4.0 KiB written.\n"),
    ] {
        assert_eq!(stdout(&run(&stub, line)), written, "{line}");
    }
    // There is one, but of another volume.
    let (code, text) = failed(&run(&stub, "snapshot diff 12 --to weekly"));
    assert!(code == 1 && text.contains("volume v8 has no snapshot weekly"), "{text}");
}

#[test]
fn deletion_asks_and_tells_how_far_it_came() {
    let stub = Stub::local(with_snapshots());
    let (code, text) = failed(&run(&stub, "snapshot delete 11 weekly"));
    assert!(code == 2 && text.contains("2 snapshots (nightly, weekly) will be gone for good"), "{text}");
    assert_eq!(stub.changes(), []);
    let (code, text) = failed(&run(&stub, "snapshot delete 11 12 weekly --noprompt"));
    assert_eq!(code, 1);
    assert_eq!(
        text,
        "vsnap: 1 of 3 snapshots are deleted, then: snapshot 12 has clones: volume 9 (copy) (BusyError)\n"
    );
    let lines: Vec<_> = stub.changes().into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["DELETE /api/snapshot/11", "DELETE /api/snapshot/12"]);
    assert_eq!(
        stdout(&run(&stub, "snapshot delete 11 weekly --noprompt")),
        "Deleted: 2 snapshots (nightly, weekly).\n"
    );
}
