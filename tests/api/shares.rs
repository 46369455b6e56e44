//! Shares.

use serde_json::{Value, json};
use vsnap::os::Kind;

use crate::{
    appliance::{Appliance, members, request},
    volumes::{filesystem, make, snapshot},
};

/// Filesystems 1 and 2, lun 3.
async fn appliance() -> Appliance {
    let appliance = Appliance::with_pools().await;
    filesystem(&appliance, "one").await;
    filesystem(&appliance, "two").await;
    make(&appliance, "lun", "lun", json!({ "size_total": 1 << 20 })).await;
    appliance
}

fn nfs(hosts: Value) -> String {
    json!({ "share_type": "nfs", "share_options": { "allowed_hosts": hosts } }).to_string()
}

const SMB: &str = r#"{"share_type": "smb"}"#;

fn exported(appliance: &Appliance) -> Vec<(String, String)> {
    let world = appliance.os.world();
    let nfs = world.exports.nfs.iter().map(|export| (export.path.clone(), export.hosts.joined()));
    nfs.chain(world.exports.smb.iter().map(|share| (share.name.clone(), share.path.clone()))).collect()
}

#[tokio::test]
async fn a_share_lives() {
    let appliance = appliance().await;
    let made = appliance.post("/api/volume/1/share", &nfs(json!(["172.20.9.9/16", "172.19.1.6"]))).await.ok();
    assert_eq!(members(&made), ["id", "name", "vol_id", "share_type", "share_options", "time_created", "time_updated"]);
    assert_eq!((&made["id"], &made["name"], &made["vol_id"]), (&json!("1"), &json!("/vsnap/vpool1/fs1"), &json!("1")));
    let options = json!({ "read_only": false, "allowed_hosts": ["172.20.0.0/16", "172.19.1.6"],
        "snapshots_visible": false });
    assert_eq!(made["share_options"], options);
    let body = json!({ "vol_id": "2", "share_type": "smb", "share_options": null }).to_string();
    let other = appliance.post("/api/share", &body).await.ok();
    assert_eq!((&other["name"], &other["share_options"]), (&json!("vpool1_fs2"), &json!({ "read_only": false })));
    for path in ["/api/share/1", "/api/share?id=1", "/api/share?name=/vsnap/vpool1/fs1"] {
        assert_eq!(appliance.get(path).await.ok(), made, "{path}");
    }
    let list = appliance.get("/api/share").await.ok();
    assert_eq!(list["total"], 2);
    assert_eq!(members(&list["shares"][0]), ["id", "name", "vol_id", "share_type", "time_created", "time_updated"]);
    let some = appliance.get("/api/share?share_type=smb&detail=1&sort=-id&limit=5").await.ok();
    assert_eq!((&some["total"], &some["shares"][0]), (&json!(1), &other));
    assert_eq!(appliance.get("/api/volume/1").await.ok()["share_id"], "1");
    assert_eq!(appliance.get("/api/volume/3").await.ok()["share_id"], Value::Null);
    let one = ("/vsnap/vpool1/fs1".to_owned(), "172.20.0.0/16,172.19.1.6".to_owned());
    let two = ("vpool1_fs2".to_owned(), "/vsnap/vpool1/fs2".to_owned());
    assert_eq!(exported(&appliance), [one, two.clone()]);

    // The whole body goes back, with another type.
    let mut body = made.clone();
    body["share_type"] = json!("smb");
    let changed = appliance.put("/api/volume/1/share", &body.to_string()).await.ok();
    assert_eq!((&changed["id"], &changed["name"]), (&json!("1"), &json!("vpool1_fs1")));
    assert_eq!(exported(&appliance), [("vpool1_fs1".to_owned(), "/vsnap/vpool1/fs1".to_owned()), two.clone()]);
    let changed = appliance.put("/api/share/1", r#"{"share_options": {"read_only": true}}"#).await.ok();
    assert_eq!((&changed["share_type"], &changed["share_options"]), (&json!("smb"), &json!({ "read_only": true })));
    let changed = appliance.put("/api/share/1", &nfs(json!("all"))).await.ok();
    assert_eq!(changed["share_options"]["allowed_hosts"], json!(["all"]));
    let same = appliance.put("/api/share/1", "{}").await.ok();
    assert_eq!(same["share_options"], changed["share_options"]);

    assert_eq!(appliance.delete("/api/share/1").await.ok(), json!({}));
    assert_eq!(appliance.get("/api/share/1").await.status, 404);
    assert_eq!(appliance.delete("/api/volume/1/share").await.status, 404);
    assert_eq!(exported(&appliance), [two]);
    // An id is never given twice.
    assert_eq!(appliance.post("/api/volume/1/share", SMB).await.ok()["id"], "3");
    assert_eq!(appliance.delete("/api/volume/1/share").await.ok(), json!({}));
    appliance.delete("/api/volume/2").await.ok();
    assert_eq!((exported(&appliance), appliance.get("/api/share").await.ok()["total"].clone()), (vec![], json!(0)));
}

#[tokio::test]
async fn bad_input_changes_nothing() {
    let appliance = appliance().await;
    appliance.post("/api/volume/1/share", &nfs(json!(["10.0.0.1"]))).await.ok();
    let cases = vec![
        ("POST", "/api/volume/2/share", json!({}), 400, "share_type: "),
        ("POST", "/api/share", json!({ "share_type": "nfs" }), 400, "vol_id: "),
        ("POST", "/api/share", json!({ "vol_id": 0, "share_type": "nfs" }), 400, "vol_id: "),
        ("POST", "/api/share", json!({ "vol_id": "x", "share_type": "nfs" }), 400, "vol_id: "),
        ("POST", "/api/volume/2/share", json!({ "share_type": "ftp" }), 400, "share_type: "),
        ("POST", "/api/volume/2/share", json!({ "share_type": "NFS" }), 400, "share_type: "),
        ("POST", "/api/volume/2/share", json!({ "share_type": "nfs", "share_options": [] }), 400, "share_options"),
        (
            "POST",
            "/api/volume/2/share",
            json!({ "share_type": "nfs", "share_options": { "read_only": "yes" } }),
            400,
            "share_options.read_only: ",
        ),
        (
            "POST",
            "/api/volume/2/share",
            json!({ "share_type": "nfs", "share_options": { "snapshots_visible": 1 } }),
            400,
            "share_options.snapshots_visible: ",
        ),
        ("POST", "/api/volume/3/share", json!({ "share_type": "nfs" }), 400, "volume 3 is a lun"),
        ("POST", "/api/volume/3/share", json!({ "share_type": "smb" }), 400, "volume 3 is a lun"),
        ("POST", "/api/share", json!({ "vol_id": 3, "share_type": "smb" }), 400, "vol_id: volume 3 is a lun"),
        ("POST", "/api/volume/1/share", json!({ "share_type": "smb" }), 409, ""),
        ("POST", "/api/volume/99/share", json!({ "share_type": "smb" }), 404, ""),
        ("POST", "/api/share", json!({ "vol_id": 99, "share_type": "smb" }), 404, ""),
        ("PUT", "/api/share/99", json!({ "share_type": "smb" }), 404, ""),
        ("PUT", "/api/volume/2/share", json!({ "share_type": "smb" }), 404, ""),
        ("PUT", "/api/share/1", json!({ "share_type": "x" }), 400, "share_type: "),
        ("PUT", "/api/share/1", json!({ "vol_id": "2", "share_type": "smb" }), 400, "vol_id: "),
        ("PUT", "/api/share/1", json!({ "vol_id": 0 }), 400, "vol_id: "),
        ("PUT", "/api/volume/1/share", json!({ "vol_id": 2, "share_type": "smb" }), 400, "vol_id: "),
        ("PUT", "/api/share/99", json!({ "vol_id": 1 }), 404, ""),
        ("DELETE", "/api/share/99", json!({}), 404, ""),
        ("DELETE", "/api/share/1", json!({ "force": true }), 400, ""),
        ("DELETE", "/api/share/x", json!({}), 404, ""),
    ];
    refuses(&appliance, cases).await;
}

#[tokio::test]
async fn what_has_no_effect_is_named_and_the_whole_answer_goes_back() {
    let appliance = appliance().await;
    let options = json!({ "read_only": true, "allowed_hosts": ["10.0.0.1"], "snapshots_visible": true });
    let moot = Some("share_options.allowed_hosts, share_options.snapshots_visible");
    let with = |share_type: &str| json!({ "share_type": share_type, "share_options": options }).to_string();
    assert_eq!(appliance.post("/api/volume/1/share", &with("smb")).await.header("x-vsnap-ignored"), moot);
    let body = json!({ "vol_id": 2, "share_type": "smb", "share_options": { "allowed_hosts": ["10.0.0.1"] } });
    let answer = appliance.post("/api/share", &body.to_string()).await;
    assert_eq!(answer.header("x-vsnap-ignored"), Some("share_options.allowed_hosts"));
    answer.ok();
    let answer = appliance.put("/api/share/1", &json!({ "share_options": options }).to_string()).await;
    assert_eq!(answer.header("x-vsnap-ignored"), moot, "the type that it has counts");
    let answer = appliance.put("/api/share/1", &with("nfs")).await;
    assert_eq!(answer.header("x-vsnap-ignored"), None);
    answer.ok();
    for (path, get) in [("/api/share/1", "/api/share/1"), ("/api/volume/2/share", "/api/share/2")] {
        let shown = appliance.get(get).await.ok();
        let answer = appliance.put(path, &shown.to_string()).await;
        assert_eq!(answer.header("x-vsnap-ignored"), None, "{path}");
        let mut changed = answer.ok();
        changed["time_updated"] = shown["time_updated"].clone();
        assert_eq!(changed, shown);
    }
    let typo = appliance.put("/api/share/1", r#"{"nmae": "x", "name": "x"}"#).await;
    assert_eq!(typo.header("x-vsnap-ignored"), Some("nmae"));
}

#[tokio::test]
async fn what_is_no_host_changes_nothing() {
    let appliance = appliance().await;
    appliance.post("/api/volume/1/share", &nfs(json!(["10.0.0.1"]))).await.ok();
    let mut cases = Vec::new();
    let hosts = [
        "*",
        "@group",
        "a b",
        "a\"b",
        "a\nb",
        "0.0.0.0/33",
        "",
        "a(rw)",
        "a,b",
        "10.0.0.1/x",
        "'",
        "\\",
        "#",
        "::/129",
        "10.0.0.1(rw,no_root_squash) *",
        "host\n/etc *(rw)",
        "[global]",
        "größe",
        "-o",
        "1.2.3",
    ];
    for host in hosts {
        let body = json!({ "share_type": "nfs", "share_options": { "allowed_hosts": ["all", host] } });
        let member = "share_options.allowed_hosts[1]: ";
        cases.push(("POST", "/api/volume/2/share", body.clone(), 400, member));
        cases.push(("PUT", "/api/share/1", body, 400, member));
    }
    for hosts in [json!(5), json!([5]), json!([null]), json!({}), json!(true), json!([["a"]])] {
        let body = json!({ "share_type": "nfs", "share_options": { "allowed_hosts": hosts } });
        cases.push(("PUT", "/api/share/1", body, 400, "share_options.allowed_hosts"));
    }
    refuses(&appliance, cases).await;
}

/// Sends each and expects that status and a message with this beginning.
async fn refuses(appliance: &Appliance, cases: Vec<(&str, &str, Value, u16, &str)>) {
    let before = (appliance.get("/api/share?detail=1").await.ok(), appliance.get("/api/operation").await.ok());
    for (method, path, body, status, member) in cases {
        let answer = appliance.send(request(method, path, &body.to_string())).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        assert!(answer.message().starts_with(member), "{method} {path} {body}: {}", answer.message());
        let after = (appliance.get("/api/share?detail=1").await.ok(), appliance.get("/api/operation").await.ok());
        assert_eq!(after, before, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn what_can_not_be_exported_is_taken_back() {
    let appliance = appliance().await;
    appliance.os.refuse("apply_smb", Kind::Other);
    assert_eq!(appliance.post("/api/volume/1/share", SMB).await.status, 500);
    assert_eq!(appliance.get("/api/share").await.ok()["total"], 0);
    appliance.post("/api/volume/1/share", &nfs(json!(["10.0.0.1"]))).await.ok();
    let before = appliance.get("/api/share/2").await.ok();
    assert_eq!(appliance.put("/api/share/2", SMB).await.status, 500);
    assert_eq!(appliance.get("/api/share/2").await.ok(), before);
    assert_eq!(exported(&appliance), [("/vsnap/vpool1/fs1".to_owned(), "10.0.0.1".to_owned())]);
    appliance.os.refuse("apply_nfs", Kind::Other);
    assert_eq!(appliance.delete("/api/share/2").await.status, 500);
    assert_eq!(appliance.get("/api/share/2").await.ok(), before);
    // A volume that can't be deleted is shared again.
    appliance.os.allow_all();
    appliance.os.refuse("destroy_dataset", Kind::Busy);
    assert_eq!(appliance.delete("/api/volume/1").await.status, 409);
    assert_eq!(appliance.get("/api/share/2").await.ok(), before);
    assert_eq!(exported(&appliance), [("/vsnap/vpool1/fs1".to_owned(), "10.0.0.1".to_owned())]);
}

#[tokio::test]
async fn a_rollback_asks_for_the_share() {
    let appliance = appliance().await;
    appliance.post("/api/volume/1/share", &nfs(json!(["10.0.0.1"]))).await.ok();
    appliance.post("/api/volume/2/share", SMB).await.ok();
    let id = snapshot(&appliance, "1", "s").await;
    let action =
        |shares: Value| json!({ "action": "rollback", "snapshot_id": id, "discard_shares": shares }).to_string();
    let refused = appliance.post("/api/volume/1", &action(json!([]))).await;
    assert_eq!(refused.status, 409);
    assert!(refused.message().contains("share 1 (/vsnap/vpool1/fs1)"), "{}", refused.message());
    let refused = appliance.post("/api/volume/1", &action(json!([2]))).await;
    assert_eq!((refused.status, refused.message().starts_with("discard_shares: ")), (400, true));
    let done = appliance.post("/api/volume/1", &action(json!(["1"]))).await.ok();
    assert_eq!(done["share_id"], Value::Null);
    assert_eq!(appliance.get("/api/share/1").await.status, 404);
    assert_eq!(appliance.get("/api/share").await.ok()["total"], 1);
}

#[tokio::test]
async fn upkeep_brings_back_what_others_took() {
    let appliance = appliance().await;
    appliance.post("/api/volume/1/share", &nfs(json!(["10.0.0.1"]))).await.ok();
    appliance.os.world().exports.nfs.clear();
    // The next change does, too.
    appliance.post("/api/volume/2/share", &nfs(json!([]))).await.ok();
    assert_eq!(exported(&appliance).len(), 2);
}
