//! Services of network interfaces (contract section 4.2).

use serde_json::{Value, json};
use vsnap::{
    os::{Kind, NetworkServices},
    types::network::Interface,
};

use crate::appliance::{Appliance, request};

const FIRST: &str = "/api/network/005056b45302";
const SECOND: &str = "/api/network/005056b45303";

/// Before init, with a second interface.
fn appliance(addresses: Vec<[u8; 4]>) -> Appliance {
    let appliance = Appliance::new();
    appliance.os.world().interfaces.push(Interface {
        id: "005056b45303".to_owned(),
        name: "ens224".to_owned(),
        hw_addr: "005056b45303".to_owned(),
        ip4_addrs: addresses.into_iter().map(Into::into).collect(),
        // Of its own link only.
        ip6_addrs: vec!["fe80::1".parse().unwrap()],
    });
    appliance
}

/// Interface and words of each that is closed for something.
fn rules(appliance: &Appliance) -> Vec<(String, Vec<&'static str>)> {
    let rules = appliance.os.world().exports.networks.clone();
    rules.interfaces.into_iter().map(|closed| (closed.interface, closed.services.words())).collect()
}

async fn state(appliance: &Appliance) -> (Value, Value, NetworkServices) {
    let (networks, operations) = (appliance.get("/api/network").await, appliance.get("/api/operation").await);
    (networks.ok(), operations.ok(), appliance.os.world().exports.networks.clone())
}

#[tokio::test]
async fn services_are_set_shown_and_applied() {
    let appliance = appliance(vec![[10, 0, 0, 1]]);
    assert_eq!(rules(&appliance), []);
    let set = appliance.put(SECOND, r#"{"services": ["smb", "nfs", "smb"]}"#).await.ok();
    assert_eq!((&set["name"], &set["services"]), (&json!("ens224"), &json!(["nfs", "smb"])));
    assert_eq!(appliance.get(SECOND).await.ok(), set);
    let list = appliance.get("/api/network").await.ok();
    assert_eq!(list["networks"][1], set);
    assert_eq!(list["networks"][0]["services"], json!(["mgmt", "nfs", "smb", "iscsi", "repl"]));
    assert_eq!(rules(&appliance), [("ens224".to_owned(), vec!["nfs", "smb"])]);
    appliance.put(FIRST, r#"{"services": ["mgmt", "repl"]}"#).await.ok();
    assert_eq!(rules(&appliance).len(), 2);
    let operation = &appliance.get("/api/operation").await.ok()["operations"][0];
    assert_eq!((&operation["verb"], &operation["state"]), (&json!("update_network"), &json!("done")));
    for path in [FIRST, SECOND] {
        let all = appliance.put(path, r#"{"services": ["nfs", "all", "whatever"]}"#).await.ok();
        assert_eq!(all["services"], json!(["mgmt", "nfs", "smb", "iscsi", "repl"]));
    }
    assert_eq!(rules(&appliance), []);
}

#[tokio::test]
async fn bad_input_changes_nothing() {
    let appliance = appliance(vec![[10, 0, 0, 1]]);
    appliance.put(SECOND, r#"{"services": ["nfs"]}"#).await.ok();
    let before = state(&appliance).await;
    let cases = [
        (r#"{"services": []}"#, "services: is empty"),
        (r#"{"services": ["nfs", "ftp"]}"#, "services: \"ftp\" is no service"),
        (r#"{"services": ["NFS"]}"#, "services: \"NFS\""),
        (r#"{"services": ["nfs; reject"]}"#, "services: \"nfs; reject\""),
        (r#"{"services": ["nfs", 7]}"#, "services[1]: "),
        (r#"{"services": ["nfs", null]}"#, "services[1]: "),
        (r#"{"services": "nfs"}"#, "services: "),
        (r#"{"services": {"nfs": true}}"#, "services: "),
        (r#"{"services": null}"#, "services: is missing"),
        ("{}", "services: is missing"),
        ("", "services: is missing"),
    ];
    for (body, message) in cases {
        let answer = appliance.put(SECOND, body).await;
        assert_eq!((answer.status, answer.error()), (400, "InvalidParameterError"), "{body}");
        assert!(answer.message().starts_with(message), "{body}: {}", answer.message());
        assert_eq!(state(&appliance).await, before, "{body}");
    }
    for path in ["/api/network/none", "/api/network/ens224", "/api/network/005056b45304"] {
        let answer = appliance.put(path, r#"{"services": ["all"]}"#).await;
        assert_eq!((answer.status, answer.error()), (404, "NotFoundError"), "{path}");
    }
    assert_eq!(appliance.send(request("POST", SECOND, r#"{"services": ["all"]}"#)).await.status, 405);
    assert_eq!(state(&appliance).await, before);
}

#[tokio::test]
async fn somebody_can_always_reach_the_api() {
    let appliance = appliance(vec![[10, 0, 0, 1]]);
    appliance.put(SECOND, r#"{"services": ["nfs"]}"#).await.ok();
    let before = state(&appliance).await;
    let answer = appliance.put(FIRST, r#"{"services": ["nfs"]}"#).await;
    assert_eq!((answer.status, answer.error()), (409, "InvalidStateError"));
    assert!(answer.message().contains("ens192 is the last one"), "{}", answer.message());
    assert_eq!(state(&appliance).await, before);
    // One without it may always be changed otherwise, and the first again once the second has it.
    appliance.put(SECOND, r#"{"services": ["smb"]}"#).await.ok();
    appliance.put(SECOND, r#"{"services": ["mgmt"]}"#).await.ok();
    appliance.put(FIRST, r#"{"services": ["nfs"]}"#).await.ok();
    assert_eq!(appliance.put(SECOND, r#"{"services": ["nfs"]}"#).await.status, 409);
}

#[tokio::test]
async fn an_interface_that_nobody_reaches_keeps_no_management() {
    let appliance = appliance(vec![]);
    assert_eq!(appliance.put(FIRST, r#"{"services": ["nfs"]}"#).await.status, 409);
    // That one itself may be closed.
    appliance.put(SECOND, r#"{"services": ["nfs"]}"#).await.ok();
    appliance.os.world().interfaces.remove(0);
    let answer = appliance.put(SECOND, r#"{"services": ["mgmt", "nfs"]}"#).await.ok();
    assert_eq!(answer["services"], json!(["mgmt", "nfs"]));
}

#[tokio::test]
async fn what_the_packet_filter_refuses_is_taken_back() {
    let appliance = appliance(vec![[10, 0, 0, 1]]);
    appliance.put(SECOND, r#"{"services": ["mgmt", "nfs"]}"#).await.ok();
    appliance.os.refuse("apply_networks", Kind::Other);
    assert_eq!(appliance.put(SECOND, r#"{"services": ["mgmt"]}"#).await.status, 500);
    appliance.os.allow_all();
    assert_eq!(appliance.get(SECOND).await.ok()["services"], json!(["mgmt", "nfs"]));
    assert_eq!(rules(&appliance), [("ens224".to_owned(), vec!["mgmt", "nfs"])]);
    let operation = &appliance.get("/api/operation").await.ok()["operations"][0];
    assert_eq!(operation["state"], "failed");
}
