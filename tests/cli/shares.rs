//! `vsnap share`.

use serde_json::{Value, json};

use crate::{
    failed, run, stdout, stdout_json,
    stub::{Answers, Stub},
    volumes::volume,
};

fn share() -> Value {
    json!({
        "id": "3", "name": "/vsnap/vpool1/fs7", "vol_id": "7", "share_type": "nfs",
        "share_options": { "read_only": false, "allowed_hosts": ["10.0.0.0/8"], "snapshots_visible": false },
        "time_created": "1497365131", "time_updated": "1497365131",
    })
}

fn answers() -> Answers {
    Answers::default()
        .on("GET /api/volume?name=data", volume("7", "data"))
        .on("GET /api/volume?id=7", volume("7", "data"))
        .on("GET /api/share?id=3", share())
        .on("GET /api/share?name=%2Fvsnap%2Fvpool1%2Ffs7", share())
        .on("GET /api/share/3", share())
        .on("GET /api/share?detail=true", json!({ "shares": [share()], "total": 1 }))
        .on("GET /api/share?limit=5&vol_id=7&share_type=nfs&detail=true", json!({ "shares": [share()], "total": 1 }))
        .on("POST /api/volume/7/share", share())
        .on("PUT /api/share/3", share())
        .on("DELETE /api/share/3", json!({}))
}

#[test]
fn requests_are_what_the_contract_has() {
    let stub = Stub::local(answers());
    let nfs = |read_only: bool, hosts: Value, visible: bool| {
        json!({ "share_type": "nfs", "share_options": { "read_only": read_only, "allowed_hosts": hosts,
            "snapshots_visible": visible } })
    };
    let kept = |options: Value| json!({ "share_options": options });
    let cases = [
        (
            "share create --volume data --type nfs --allow 10.0.0.0/8 host1,host2",
            ("POST /api/volume/7/share", nfs(false, json!(["10.0.0.0/8", "host1", "host2"]), false)),
        ),
        (
            "share create --vol_id 7 --share_type nfs --read-only --snapshots-visible",
            ("POST /api/volume/7/share", nfs(true, json!([]), true)),
        ),
        (
            "share create --volume 7 --type smb --read-only",
            ("POST /api/volume/7/share", json!({ "share_type": "smb", "share_options": { "read_only": true } })),
        ),
        (
            "share update 3 --read-only on --allow all",
            (
                "PUT /api/share/3",
                kept(json!({ "read_only": true, "allowed_hosts": ["all"], "snapshots_visible": false })),
            ),
        ),
        (
            "share update /vsnap/vpool1/fs7 --type smb",
            ("PUT /api/share/3", json!({ "share_options": share()["share_options"], "share_type": "smb" })),
        ),
        (
            "share update 3 --allow-none --snapshots-visible on",
            ("PUT /api/share/3", kept(json!({ "read_only": false, "allowed_hosts": [], "snapshots_visible": true }))),
        ),
        ("--noprompt share delete 3", ("DELETE /api/share/3", Value::Null)),
    ];
    for (line, _) in &cases {
        stdout(&run(&stub, line));
    }
    let expected: Vec<_> = cases.into_iter().map(|(_, (line, body))| (line.to_owned(), body)).collect();
    assert_eq!(stub.changes(), expected);
}

#[test]
fn shares_are_shown() {
    let stub = Stub::local(answers());
    assert_eq!(stdout_json(&run(&stub, "--json share show"))["shares"][0], share());
    assert_eq!(stdout_json(&run(&stub, "--json share show 3")), share());
    assert!(stdout(&run(&stub, "share show --volume data --type nfs --limit 5")).contains("/vsnap/vpool1/fs7"));
    assert!(stdout(&run(&stub, "share show 3")).contains("10.0.0.0/8"));
}

#[test]
fn nothing_is_changed_by_mistake() {
    let stub = Stub::local(answers());
    let (code, text) = failed(&run(&stub, "share delete 3"));
    assert!(code == 2 && text.contains("Clients of share /vsnap/vpool1/fs7 will be cut off"), "{text}");
    for line in ["share update 3", "share create --volume data --type smb --allow all"] {
        assert_eq!(failed(&run(&stub, line)).0, 2, "{line}");
    }
    assert_eq!(stub.changes(), []);
}
