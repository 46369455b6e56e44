//! `vsnap host`.

use serde_json::{Value, json};

use crate::{
    run, stdout,
    stub::{Answers, Stub},
    volumes::volume,
};

fn host() -> Value {
    json!({
        "id": "3", "name": "web1", "iqns": ["iqn.1994-05.com.redhat:web1"],
        "mapped_luns": [{ "lun": "0", "vol_id": "7" }], "time_created": "1497365131", "time_updated": "1497365131",
        "chap": { "user": "web1", "mutual_user": null },
    })
}

/// Host 3 `web1`, volume 7 `data`.
fn with_host() -> Answers {
    Answers::default()
        .on("GET /api/host?detail=true", json!({ "hosts": [host()], "total": 1 }))
        .on("GET /api/host?name=web1", host())
        .on("GET /api/host?id=3", host())
        .on("GET /api/host/3", host())
        .on("GET /api/volume?name=data", volume("7", "data"))
        .on("POST /api/host", host())
        .on("PUT /api/host/3", host())
        .on("POST /api/host/3", json!({ "vol_id": "7", "lun": "0" }))
        .on("DELETE /api/host/3", json!({}))
}

#[test]
fn requests_are_what_the_contract_has() {
    let stub = Stub::local(with_host());
    let cases = [
        (
            "host create --name a --iqn iqn.2001-04.com.example:a --iqn iqn.2001-04.com.example:b",
            (
                "POST /api/host",
                json!({ "name": "a", "iqns": ["iqn.2001-04.com.example:a", "iqn.2001-04.com.example:b"] }),
            ),
        ),
        ("host update web1 --new-name b", ("PUT /api/host/3", json!({ "name": "b" }))),
        (
            "host update 3 --iqn iqn.2001-04.com.example:c",
            ("PUT /api/host/3", json!({ "iqns": ["iqn.2001-04.com.example:c"] })),
        ),
        ("host update 3 --no-iqns", ("PUT /api/host/3", json!({ "iqns": [] }))),
        ("host map web1 --volume data", ("POST /api/host/3", json!({ "action": "map", "vol_id": "7" }))),
        ("--noprompt host unmap web1 --volume data", ("POST /api/host/3", json!({ "action": "unmap", "vol_id": "7" }))),
        ("host chap clear web1", ("PUT /api/host/3", json!({ "chap": "none" }))),
        ("--noprompt host delete web1", ("DELETE /api/host/3", Value::Null)),
    ];
    for (line, _) in &cases {
        stdout(&run(&stub, line));
    }
    let expected: Vec<_> = cases.into_iter().map(|(_, (line, body))| (line.to_owned(), body)).collect();
    assert_eq!(stub.changes(), expected);
}

#[test]
fn hosts_are_shown_to_people() {
    let stub = Stub::local(with_host());
    let text = stdout(&run(&stub, "host show"));
    assert!(text.contains("web1") && text.contains("iqn.1994-05.com.redhat:web1"), "{text}");
    let text = stdout(&run(&stub, "host show web1"));
    assert!(text.contains("0: volume 7"), "{text}");
    let text = stdout(&run(&stub, "host map web1 --volume data"));
    assert!(text.contains("LUN 0"), "{text}");
}

#[test]
fn what_is_asked_about_needs_a_yes_and_secrets_are_never_arguments() {
    let stub = Stub::local(with_host());
    for line in [
        "host delete web1",
        "host unmap web1 --volume data",
        "host update web1",
        "host chap set web1 --user a",
        "host chap set web1 --user a --secret secretsecret1",
    ] {
        assert!(!run(&stub, line).status.success(), "{line}");
    }
    assert_eq!(stub.changes(), []);
}
