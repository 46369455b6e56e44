//! Contract sections 2, 4.1 and 5.

use serde_json::json;

use crate::{bed::Bed, wait::wait_until};

/// An appliance as after the installation: no catalog, no pools.
fn uninitialised() -> Bed {
    let bed = Bed::fresh();
    bed.shell("systemctl stop vsnapd && rm -f /var/lib/vsnap/catalog.sqlite* && systemctl start vsnapd");
    bed.wait_for_api();
    bed
}

#[test]
fn versions_come_from_the_running_system() {
    let bed = Bed::fresh();
    let system = bed.get("/api/system").ok();
    assert_eq!(system["hostname"], bed.shell("hostname -s").as_str());
    assert_eq!(system["fqdn"], bed.shell("hostname -f").as_str());
    assert_eq!(system["zfs_version"], bed.shell("cat /sys/module/zfs/version").as_str());
    for (member, package) in [("samba_version", "samba"), ("nfs_version", "nfs-kernel-server")] {
        assert_eq!(system[member], bed.shell(&format!("dpkg-query -W -f '${{Version}}' {package}")).as_str());
    }
    assert!(system["nginx_version"].is_null() && system["uwsgi_version"].is_null());
    assert_eq!(system["api_version"], "1.0");
    assert_eq!(system["id"].as_str().unwrap().len(), 32);
}

#[test]
fn before_init_reads_answer_and_changes_are_refused() {
    let unused = Bed::fresh().unused();
    let bed = uninitialised();
    assert_eq!(bed.get("/api/system").ok()["init_status"], "Not Initialized");
    assert_eq!(bed.get("/api/pool").ok(), json!({"pools": [], "total": 0}));
    assert_eq!(bed.unused(), unused);
    bed.post("/api/pool", json!({"name": "a", "pool_type": "raid0"})).fails(409, "NotInitializedError");
    assert_eq!(bed.post("/api/disk", json!({"action": "rescan"})).ok(), json!({}));
    assert_eq!(bed.zpool_names(), Vec::<String>::new());
    bed.post("/api/system", json!({"action": "init", "multipool": true, "skip_pool": true})).ok();
}

#[test]
fn init_makes_one_pool_of_all_disks_and_only_once() {
    let bed = uninitialised();
    let disks = bed.unused().len();
    let system = bed.post("/api/system", json!({"action": "init"})).ok();
    assert_eq!((&system["init_status"], &system["multipool"]), (&json!("Ready"), &json!(false)));
    let pool = bed.get("/api/pool?name=primary").ok();
    assert_eq!(pool["pool_type"], "raid0");
    assert_eq!(pool["disks"]["raid0"].as_array().unwrap().len(), disks);
    bed.check_truth();
    bed.post("/api/system", json!({"action": "init"})).fails(409, "InvalidStateError");
    bed.post("/api/pool", json!({"name": "second", "pool_type": "raid0"})).fails(409, "InvalidStateError");
    bed.remove_pools();
    assert_eq!(bed.unused().len(), disks, "deleting the pool frees its disks");
}

#[test]
fn init_in_the_background_can_be_followed() {
    let bed = uninitialised();
    let system = bed.post("/api/system", json!({"action": "init", "async": true, "multipool": true})).ok();
    assert_eq!(system["init_status"], "Initializing");
    wait_until("init ends", 120, || bed.get("/api/system").ok()["init_status"] != "Initializing");
    let system = bed.get("/api/system").ok();
    assert_eq!((&system["init_status"], &system["multipool"]), (&json!("Ready"), &json!(true)));
    assert_eq!(bed.get("/api/pool").ok()["total"], 1);
}

#[test]
fn statistics_are_the_kernels() {
    let bed = Bed::fresh();
    let statistics = bed.get("/api/system/stats").ok();
    let mut names: Vec<&String> = statistics.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(
        names,
        [
            "size_arc_max",
            "size_arc_used",
            "size_ddt_core",
            "size_ddt_disk",
            "size_zfs_arc_meta_max",
            "size_zfs_arc_meta_used"
        ]
    );
    let maximum = bed.shell("awk '$1 == \"c_max\" {print $3}' /proc/spl/kstat/zfs/arcstats");
    assert_eq!(statistics["size_arc_max"], maximum.as_str());
}

#[test]
fn networks_are_the_kernels() {
    let bed = Bed::fresh();
    let body = bed.get("/api/network").ok();
    let networks = body["networks"].as_array().unwrap();
    assert_eq!(body["total"].as_u64().unwrap() as usize, networks.len());
    for network in networks {
        let link = bed.shell_json(&format!("ip -j address show dev {}", network["name"].as_str().unwrap()));
        let address = link[0]["address"].as_str().unwrap().replace(':', "");
        assert_eq!(network["hw_addr"], address.as_str());
        for (member, family) in [("ip4_addrs", "inet"), ("ip6_addrs", "inet6")] {
            let real: Vec<&str> = link[0]["addr_info"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|info| info["family"] == family)
                .map(|info| info["local"].as_str().unwrap())
                .collect();
            assert_eq!(network[member], json!(real));
        }
        assert_eq!(network["services"], json!(["mgmt", "nfs", "smb", "iscsi", "repl"]));
        let id = network["id"].as_str().unwrap();
        assert_eq!(bed.get(&format!("/api/network/{id}")).ok(), *network);
    }
}

#[test]
fn the_target_is_named_for_the_system() {
    let bed = Bed::fresh();
    let id = bed.get("/api/system").ok()["id"].as_str().unwrap().to_owned();
    let wwn = format!("iqn.2017-08.com.catalogic.vsnap:{id}");
    assert_eq!(bed.get("/api/target").ok(), json!({"targets": [{"type": "iqn", "wwn": wwn}], "total": 1}));
}
