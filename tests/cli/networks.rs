//! `vsnap network`.

use serde_json::{Value, json};

use crate::{
    failed, run, stdout, stdout_json,
    stub::{Answers, Stub},
};

fn network(id: &str, name: &str, services: &[&str]) -> Value {
    json!({ "id": id, "name": name, "hw_addr": id, "ip4_addrs": ["10.0.0.1"], "ip6_addrs": [], "services": services })
}

fn with_networks() -> Answers {
    let all = ["mgmt", "nfs", "smb", "iscsi", "repl"];
    let second = network("005056b45303", "eth1", &["nfs"]);
    Answers::default()
        .on("GET /api/network", json!({ "networks": [network("005056b45302", "eth0", &all), second], "total": 2 }))
        .on("GET /api/network?id=005056b45303", network("005056b45303", "eth1", &all))
        .on("GET /api/network?name=eth1", network("005056b45303", "eth1", &all))
        .on("GET /api/network?name=badcafe", network("005056b45303-badcafe", "badcafe", &all))
        .on("PUT /api/network/005056b45303", network("005056b45303", "eth1", &["mgmt", "nfs"]))
        .on("PUT /api/network/005056b45303-badcafe", network("005056b45303-badcafe", "badcafe", &all))
        .fail("PUT /api/network/005056b45304", 409, "InvalidStateError", "it is the last one")
        .on("GET /api/network?name=eth2", network("005056b45304", "eth2", &all))
}

#[test]
fn services_are_set_by_id_and_by_name() {
    let stub = Stub::local(with_networks());
    let put = |id: &str, services: &[&str]| (format!("PUT /api/network/{id}"), json!({ "services": services }));
    for line in [
        "network update eth1 --services nfs,mgmt",
        "network update 005056b45303 --services all",
        "network update --name eth1 --services smb",
        "network update badcafe --services iscsi,repl",
    ] {
        stdout(&run(&stub, line));
    }
    assert_eq!(
        stub.changes(),
        [
            put("005056b45303", &["nfs", "mgmt"]),
            put("005056b45303", &["all"]),
            put("005056b45303", &["smb"]),
            put("005056b45303-badcafe", &["iscsi", "repl"]),
        ]
    );
    let text = stdout(&run(&stub, "network update eth1 --services nfs,mgmt"));
    assert!(text.contains("eth1") && text.contains("mgmt, nfs"), "{text}");
    let json = stdout_json(&run(&stub, "--json network update eth1 --services nfs,mgmt"));
    assert_eq!(json["services"], json!(["mgmt", "nfs"]));
    assert_eq!(stdout_json(&run(&stub, "--json network show"))["total"], 2);
}

#[test]
fn what_can_not_be_is_refused() {
    let stub = Stub::local(with_networks());
    for line in [
        "network update eth1",
        "network update eth1 --services",
        "network update eth1 --services nfs,ftp",
        "network update --services nfs",
    ] {
        assert_eq!(run(&stub, line).status.code(), Some(2), "{line}");
    }
    assert_eq!(failed(&run(&stub, "network update eth7 --services nfs")).0, 1);
    assert_eq!(stub.changes(), []);
    let (code, text) = failed(&run(&stub, "network update eth2 --services nfs"));
    assert!(code == 1 && text.contains("it is the last one"), "{text}");
}
