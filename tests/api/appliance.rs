//! An appliance in a temporary folder, and requests to it without a network.

use std::{net::SocketAddr, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use vsnap::{
    api::{self, GuessLimit, Options, Origin},
    catalog::Catalog,
    config::Config,
    engine::{Engine, System},
    os::fake::FakeOs,
};

/// A user that may come in, and the password.
pub const ADMIN: (&str, &str) = ("vsuser", "correct horse");

/// A user outside of the group.
pub const STRANGER: (&str, &str) = ("nobody1", "battery staple");

/// Address that requests come from unless a test says otherwise.
pub const CLIENT: &str = "192.0.2.10:40000";

pub struct Appliance {
    pub os: Arc<FakeOs>,
    pub config: Config,
    router: Router,
    _folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Type of the error; the test fails when it isn't one.
    #[track_caller]
    pub fn error(&self) -> &str {
        assert!(self.status >= 400, "{self:?}");
        assert_eq!(self.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["error"], "{self:?}");
        assert!(!self.message().is_empty());
        self.body["error"]["type"].as_str().unwrap()
    }

    #[track_caller]
    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap()
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Names of an object's members, in their order.
#[track_caller]
pub fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Settings for tests: short waits.
pub fn options(config: &Config) -> Options {
    Options {
        body_time: Duration::from_millis(300),
        guesses: GuessLimit { burst: NonZeroU32::new(3).unwrap(), interval: Duration::from_millis(200) },
        ..Options::from(config)
    }
}

/// Configuration of an appliance in `folder`, on a port that the system chooses.
pub fn config(folder: &Path) -> Config {
    Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        socket: folder.join("run/api.sock"),
        state_dir: folder.into(),
        ..Config::default()
    }
}

impl Appliance {
    /// Fresh from the box, with two users.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with other settings.
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        // Memory instead of a disk, since some tests commit thousands of times.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let os = FakeOs::new();
        for ((name, password), in_group) in [(ADMIN, true), (STRANGER, false)] {
            os.add_user(name, password, in_group);
        }
        let config = config(folder.path());
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let engine = Engine::new(
            catalog,
            System { zfs: os.clone(), machine: os.clone(), exports: os.clone(), peers: os.clone() },
            config.clone(),
        )
        .unwrap();
        engine.start().unwrap();
        let mut options = options(&config);
        change(&mut options);
        let router = api::router(engine, options).unwrap();
        Appliance { os, config, router, _folder: folder }
    }

    /// After init, without a pool.
    pub async fn initialized() -> Self {
        let appliance = Self::new();
        appliance.post("/api/system", r#"{"action": "init", "skip_pool": true, "multipool": true}"#).await.ok();
        appliance
    }

    /// After init, with pool 1 `demo1` of five disks and pool 2 `demo2` of two.
    pub async fn with_pools() -> Self {
        let appliance = Self::initialized().await;
        let disks = appliance.get("/api/disk?used_as=unused").await.ok();
        let uuid = |at: usize| disks["disks"][at]["uuid"].clone();
        for (name, pool_type, range) in [("demo1", "raid6", 0..5), ("demo2", "raid0", 5..7)] {
            let list: Vec<_> = range.map(uuid).collect();
            let body = json!({ "name": name, "pool_type": pool_type, "disk_list": list });
            appliance.post("/api/pool", &body.to_string()).await.ok();
        }
        appliance
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, "")).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(request("POST", path, body)).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.send(request("PUT", path, body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(request("DELETE", path, "")).await
    }

    /// As root on the appliance itself.
    pub async fn local(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(from(plain(method, path, body), Origin::Local { uid: 0 })).await
    }
}

/// A request of the administrator.
pub fn request(method: &str, path: &str, body: &str) -> Request<Body> {
    from(with_login(plain(method, path, body), ADMIN), Origin::Network(CLIENT.parse().unwrap()))
}

/// A request without credentials.
pub fn plain(method: &str, path: &str, body: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap()
}

pub fn from(mut request: Request<Body>, origin: Origin) -> Request<Body> {
    request.extensions_mut().insert(origin);
    request
}

pub fn with_login(mut request: Request<Body>, (user, password): (&str, &str)) -> Request<Body> {
    request.headers_mut().insert("authorization", basic(user, password).parse().unwrap());
    request
}

pub fn with_header(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// Value of an `Authorization` header.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
