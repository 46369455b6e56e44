//! Pools whose disks fail.

use serde_json::{Value, json};

use crate::appliance::Appliance;

#[tokio::test]
async fn a_spare_waits_again_when_its_disk_is_back() {
    let appliance = Appliance::initialized().await;
    let disks = appliance.get("/api/disk?used_as=unused").await.ok();
    let uuids: Vec<Value> = disks["disks"].as_array().unwrap()[..4].iter().map(|disk| disk["uuid"].clone()).collect();
    let body = json!({ "name": "demo1", "pool_type": "raid5", "disk_list": uuids[..3] });
    let id = appliance.post("/api/pool", &body.to_string()).await.ok()["id"].as_str().unwrap().to_owned();
    let act = async |body: Value| appliance.post(&format!("/api/pool/{id}"), &body.to_string()).await;
    act(json!({ "action": "addspare", "disk_list": [uuids[3]] })).await.ok();

    let path = format!("/dev/disk/by-id/scsi-{}", uuids[1].as_str().unwrap());
    appliance.os.world().pull(&path);
    appliance.os.world().spare_stands_in(&format!("vpool{id}"), &path);
    let pool = appliance.get(&format!("/api/pool/{id}")).await.ok();
    assert_eq!((&pool["status"], &pool["health"]), (&json!("DEGRADED"), &json!("50")));
    assert_eq!(pool["disks"]["raid5_group1"][1], path.as_str(), "the place is the disk's, not the spare's");
    let refused = act(json!({ "action": "removespare", "disk_list": [uuids[3]] })).await;
    assert_eq!((refused.status, refused.error()), (409, "BusyError"));

    appliance.os.world().disks.iter_mut().for_each(|disk| disk.present = true);
    assert_eq!(act(json!({ "action": "online", "disk": uuids[1] })).await.ok()["status"], "ONLINE");
    let status = appliance.get(&format!("/api/pool/{id}/status")).await.ok();
    let spare = status["vdevs"].as_array().unwrap().iter().find(|vdev| vdev["role"] == "spare").unwrap();
    assert_eq!(spare["status"], "AVAIL", "{status}");
    act(json!({ "action": "removespare", "disk_list": [uuids[3]] })).await.ok();
}
