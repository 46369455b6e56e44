//! How the cost of an answer grows with the number of objects.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::Request,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use vsnap::{
    api::{self, Options, Origin},
    catalog::Catalog,
    config::{Config, Storage},
    engine::{Engine, System},
    os::fake::FakeOs,
};

use crate::{
    appliance::{Appliance, list, shell, text},
    http,
    measure::{Results, median, time},
};

const ROUNDS: usize = 10;
const PAGE: u64 = 100;

/// Objects of each kind in memory.
const SIZES: [u64; 3] = [100, 1000, 10_000];

/// Volumes that are left, one after the other. Each has as many snapshots.
const VOLUMES: [usize; 4] = [1000, 500, 50, 5];

const IN_APPLIANCE: &str = "in the appliance";

/// What the numbers below a picture count.
pub fn what_is_counted(picture: &str) -> &'static str {
    match picture {
        _ if picture.ends_with(IN_APPLIANCE) => "snapshots",
        _ if picture.starts_with("atomic snapshot") => "snapshots of each before",
        _ => "objects of each kind",
    }
}

/// Kinds of objects: in paths, and in the plural, which is also the member of their lists.
const KINDS: [(&str, &str); 4] =
    [("volume", "volumes"), ("snapshot", "snapshots"), ("share", "shares"), ("host", "hosts")];

/// Points by picture and name.
#[derive(Default)]
struct Curves(BTreeMap<(String, String), Vec<(f64, f64)>>);

impl Curves {
    fn measure<T>(&mut self, picture: &str, name: &str, size: u64, mut work: impl FnMut() -> T) {
        // What is only so for the first time is not what grows.
        work();
        let seconds: Vec<f64> = (0..ROUNDS).map(|_| time(&mut work)).collect();
        let points = self.0.entry((picture.to_owned(), name.to_owned())).or_default();
        points.push((size as f64, median(&seconds)));
    }

    fn save(self, results: &mut Results) {
        for ((picture, name), mut points) in self.0 {
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            results.add_curve(&picture, &name, points);
        }
    }
}

/// Storage and catalog in memory, and requests without a network: what the daemon itself does.
pub fn native(results: &mut Results) {
    let memory = InMemory::new();
    make_first_ones(&memory);
    let mut curves = Curves::default();
    for size in SIZES {
        copy_first_ones(&memory, size);
        for (kind, plural) in KINDS {
            let path = format!("/api/{kind}");
            let total = total(&memory.get(&format!("{path}?limit=0")));
            assert_eq!(total, size, "{plural}");
            curves.measure("lists", &format!("{plural}, all"), total, || memory.fetch(&path));
            // The last one is the dearest.
            let page = format!("{path}?limit={PAGE}&offset={}", total - PAGE);
            curves.measure("pages of 100", plural, total, || memory.fetch(&page));
            let middle = memory.get(&format!("{path}?limit=1&offset={}", total / 2));
            let one = format!("{path}/{}", text(&list(&middle, plural)[0]["id"]));
            curves.measure("lookups", plural, total, || memory.fetch(&one));
        }
    }
    curves.save(results);
}

/// One of each kind.
fn make_first_ones(memory: &InMemory) {
    let pool = memory.make_pool();
    let volume = memory.make_volume(&pool, "v1");
    memory.post("/api/snapshot", &json!({"vol_ids": [volume], "name": "first"}));
    memory.post("/api/share", &json!({"vol_id": volume, "share_type": "smb"}));
    memory.post("/api/host", &json!({"name": "host1", "iqns": ["iqn.1994-05.com.example:host1"]}));
}

/// Rows like the first ones, up to so many of each kind: lists come from rows, and the storage in memory would take
/// minutes to make them. It does not know these, so no answer waits for it; what ZFS costs is seen in the appliance.
fn copy_first_ones(memory: &InMemory, size: u64) {
    let catalog = rusqlite::Connection::open(memory.config.state_dir.join("catalog.sqlite")).unwrap();
    let numbers = |table: &str| {
        format!(
            "WITH RECURSIVE new (n) AS (SELECT max(id) + 1 FROM {table} UNION ALL SELECT n + 1 FROM new WHERE n < {size})"
        )
    };
    let (volumes, hosts) = (numbers("volume"), numbers("host"));
    let rows = format!(
        "BEGIN;
         {volumes} INSERT INTO volume (id, name, state, pool_id, volume_type, guid, time_created, time_updated)
             SELECT n, 'v' || n, state, pool_id, volume_type, 100000 + n, time_created + n, time_updated + n
             FROM new, volume WHERE volume.id = 1;
         INSERT INTO snapshot (name, state, volume_id, guid, locked, time_created, time_updated)
             SELECT one.name, one.state, volume.id, 200000 + volume.id, locked, volume.time_created, volume.time_updated
             FROM volume, snapshot AS one
             WHERE one.id = 1 AND volume.id NOT IN (SELECT volume_id FROM snapshot) ORDER BY volume.id;
         INSERT INTO share (volume_id, state, share_type, name, read_only, allowed_hosts, snapshots_visible,
                            time_created, time_updated)
             SELECT volume.id, one.state, share_type, 'vpool1_fs' || volume.id, read_only, allowed_hosts,
                    snapshots_visible, volume.time_created, volume.time_updated
             FROM volume, share AS one
             WHERE one.id = 1 AND volume.id NOT IN (SELECT volume_id FROM share) ORDER BY volume.id;
         {hosts} INSERT INTO host (id, name, state, time_created, time_updated)
             SELECT n, 'host' || n, state, time_created + n, time_updated + n FROM new, host WHERE host.id = 1;
         INSERT INTO host_iqn (iqn, host_id, place)
             SELECT 'iqn.1994-05.com.example:' || name, id, 0
             FROM host WHERE id NOT IN (SELECT host_id FROM host_iqn);
         COMMIT;"
    );
    catalog.execute_batch(&rows).unwrap();
}

/// Begins with the large appliance, of which little is left.
pub fn appliance(results: &mut Results) {
    let appliance = Appliance::here();
    let mut volumes: Vec<String> =
        list(&appliance.get("/api/volume"), "volumes").iter().map(|volume| text(&volume["id"])).collect();
    assert_eq!(volumes.len(), VOLUMES[0]);
    let mut curves = Curves::default();
    for left in VOLUMES {
        for volume in volumes.drain(left..) {
            appliance.delete(&format!("/api/volume/{volume}?force=true"));
        }
        // ZFS frees what was deleted when it likes.
        shell("zpool list -Ho name | xargs -rn 1 zpool wait -t free");
        measure_appliance(&appliance, &volumes, &mut curves);
    }
    curves.save(results);
}

fn measure_appliance(appliance: &Appliance, volumes: &[String], curves: &mut Curves) {
    let snapshots = total(&appliance.get("/api/snapshot?limit=0"));
    let mut measure = |picture: &str, name: &str, path: &str| {
        let picture = format!("{picture} {IN_APPLIANCE}");
        curves.measure(&picture, name, snapshots, || appliance.fetch(path));
    };
    measure("lists", "snapshots, all", "/api/snapshot");
    measure("lists", "volumes, all", "/api/volume");
    for (kind, total) in [("snapshot", snapshots), ("volume", volumes.len() as u64)] {
        // A page that is not full costs less for another reason.
        if total >= PAGE {
            let page = format!("/api/{kind}?limit={PAGE}&offset={}", total - PAGE);
            measure("pages and lookups", &format!("{kind}s, page of {PAGE}"), &page);
        }
    }
    let middle = appliance.get(&format!("/api/snapshot?limit=1&offset={}", snapshots / 2));
    let snapshot = text(&list(&middle, "snapshots")[0]["id"]);
    measure("pages and lookups", "one snapshot", &format!("/api/snapshot/{snapshot}"));
    measure("pages and lookups", "one volume", &format!("/api/volume/{}", volumes[volumes.len() / 2]));
}

fn total(answer: &Value) -> u64 {
    answer["total"].as_u64().unwrap()
}

/// The API of an initialised appliance whose operating system is a fake, on a runtime of its own.
pub struct InMemory {
    pub runtime: tokio::runtime::Runtime,
    pub router: Router,
    pub config: Config,
    /// Value of the header of that name.
    pub authorization: String,
    os: Arc<FakeOs>,
    engine: Arc<Engine>,
    _folder: tempfile::TempDir,
}

/// What the daemon does at its start until it can serve requests.
fn start(os: &Arc<FakeOs>, config: &Config) -> (Arc<Engine>, Router) {
    let catalog = Catalog::open(&config.state_dir.join("catalog.sqlite")).unwrap();
    let system = System { zfs: os.clone(), machine: os.clone(), exports: os.clone(), peers: os.clone() };
    let engine = Engine::new(catalog, system, config.clone()).unwrap();
    engine.start().unwrap();
    let router = api::router(engine.clone(), Options::from(config)).unwrap();
    (engine, router)
}

impl InMemory {
    pub fn new() -> Self {
        let (user, password) = ("bench", uuid::Uuid::new_v4().to_string());
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            socket: folder.path().join("api.sock"),
            state_dir: folder.path().into(),
            // Nothing goes on meanwhile.
            storage: Storage { upkeep_seconds: 24 * 60 * 60, ..Storage::default() },
            ..Config::default()
        };
        let os = FakeOs::new();
        os.add_user(user, &password, true);
        let (engine, router) = start(&os, &config);
        let memory = InMemory {
            runtime: tokio::runtime::Runtime::new().unwrap(),
            router,
            config,
            authorization: basic(user, &password),
            os,
            engine,
            _folder: folder,
        };
        memory.post("/api/system", &json!({"action": "init", "multipool": true, "skip_pool": true}));
        memory
    }

    /// Ends and starts again, with the same storage and catalog. Tells the seconds until requests are served.
    pub fn restart(&mut self) -> f64 {
        assert!(self.engine.drain(Duration::from_secs(10)), "an operation is still running");
        let (mut running, os, config) = (None, self.os.clone(), self.config.clone());
        let seconds = time(|| {
            (self.engine, self.router) = start(&os, &config);
            running = Some(http::serve(self));
        });
        self.runtime.block_on(running.unwrap().stop(Duration::from_secs(10)));
        seconds
    }

    pub fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&self.fetch(path)).unwrap()
    }

    pub fn fetch(&self, path: &str) -> Bytes {
        self.send("GET", path, Body::empty())
    }

    /// A pool of all disks that there are. Tells its id.
    pub fn make_pool(&self) -> Value {
        let unused = self.get("/api/disk?used_as=unused");
        let disks: Vec<&Value> = list(&unused, "disks").iter().map(|disk| &disk["uuid"]).collect();
        self.post("/api/pool", &json!({"name": "bench", "pool_type": "raid0", "disk_list": disks}))["id"].clone()
    }

    /// A filesystem. Tells its id.
    pub fn make_volume(&self, pool: &Value, name: &str) -> Value {
        let body = json!({"name": name, "volume_type": "filesystem", "pool_id": pool});
        self.post("/api/volume", &body)["id"].clone()
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        serde_json::from_slice(&self.send("POST", path, Body::from(body.to_string()))).unwrap()
    }

    fn send(&self, method: &str, path: &str, body: Body) -> Bytes {
        let request = Request::builder().method(method).uri(path).header("authorization", &self.authorization);
        let origin = Origin::Network(SocketAddr::from(([127, 0, 0, 1], 1)));
        let request = request.extension(origin).body(body).unwrap();
        let router = self.router.clone();
        self.runtime.block_on(async {
            let response = router.oneshot(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(status, 200, "{method} {path}: {}", String::from_utf8_lossy(&body));
            body
        })
    }
}

/// Value of an `Authorization` header.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
