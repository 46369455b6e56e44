//! The appliance that is measured: its API, and programs beside it.

use std::{
    cell::Cell,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

/// When the client closes a connection that nothing is asked over. The server does after 15 seconds.
const IDLE: Duration = Duration::from_secs(10);

/// The API of an appliance over one connection that stays open. The client works in the thread that asks: what it would
/// cost to hand a request to another thread and back is not the appliance's.
pub struct Appliance {
    client: Client,
    runtime: Runtime,
    /// When it was last asked.
    asked: Cell<Instant>,
    base: String,
    user: String,
    password: String,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `make bench`"))
}

impl Appliance {
    /// The one that this runs in.
    pub fn here() -> Self {
        Self::at("localhost")
    }

    pub fn at(host: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Appliance {
            client: new_client(),
            runtime: runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            asked: Cell::new(Instant::now()),
            base: format!("https://{host}:8900"),
            user: variable("VSNAP_BENCH_USER"),
            password: variable("VSNAP_BENCH_PASSWORD"),
        }
    }

    /// Initialised, and with nothing on it.
    pub fn empty(&self) {
        if self.get("/api/system")["init_status"] != "Ready" {
            self.post("/api/system", &json!({"action": "init", "multipool": true, "skip_pool": true}));
        }
        for pool in list(&self.get("/api/pool"), "pools") {
            self.delete(&format!("/api/pool/{}?force=true", text(&pool["id"])));
        }
        for host in list(&self.get("/api/host"), "hosts") {
            self.delete(&format!("/api/host/{}", text(&host["id"])));
        }
    }

    /// A pool of the largest unused disks, without redundancy.
    pub fn make_pool(&self, disks: usize) -> String {
        let body = self.get("/api/disk?used_as=unused");
        let mut unused: Vec<(u64, String)> = list(&body, "disks")
            .iter()
            .map(|disk| (text(&disk["size"]).parse().unwrap(), text(&disk["uuid"])))
            .collect();
        unused.sort();
        let chosen: Vec<String> = unused.into_iter().rev().take(disks).map(|(_, disk)| disk).collect();
        text(&self.post("/api/pool", &json!({"name": "bench", "pool_type": "raid0", "disk_list": chosen}))["id"])
    }

    /// An empty appliance with a pool; its id.
    pub fn fresh_pool(&self) -> String {
        self.empty();
        self.make_pool(2)
    }

    pub fn filesystem(&self, pool: &str, name: &str) -> String {
        text(&self.post("/api/volume", &json!({"name": name, "volume_type": "filesystem", "pool_id": pool}))["id"])
    }

    pub fn lun(&self, pool: &str, name: &str, bytes: u64) -> String {
        let body = json!({"name": name, "volume_type": "lun", "pool_id": pool, "size_total": bytes.to_string()});
        text(&self.post("/api/volume", &body)["id"])
    }

    pub fn snapshot(&self, volume: &str, name: &str) -> String {
        text(&self.post(&format!("/api/volume/{volume}/snapshot"), &json!({"name": name}))["id"])
    }

    pub fn get(&self, path: &str) -> Value {
        self.send(self.client.get(self.url(path)))
    }

    /// Reads the answer and does not look into it: what a client makes of it is not the appliance's cost.
    pub fn fetch(&self, path: &str) -> Vec<u8> {
        self.answer(self.client.get(self.url(path)), &self.password)
    }

    /// Asks something when nothing has been asked for long, so that the connection is open for what is measured next.
    pub fn stay_connected(&self) {
        if self.asked.get().elapsed() > IDLE / 2 {
            self.fetch("/api/host?limit=0");
        }
    }

    /// A GET over a new connection, with this password.
    pub fn get_anew(&self, path: &str, password: &str) -> Vec<u8> {
        self.answer(new_client().get(self.url(path)), password)
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.send(self.client.post(self.url(path)).json(body))
    }

    pub fn delete(&self, path: &str) {
        self.send(self.client.delete(self.url(path)));
    }

    pub fn credentials(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn send(&self, request: RequestBuilder) -> Value {
        serde_json::from_slice(&self.answer(request, &self.password)).unwrap()
    }

    #[track_caller]
    fn answer(&self, request: RequestBuilder, password: &str) -> Vec<u8> {
        let request = request.basic_auth(&self.user, Some(password));
        let (answer, body) = self.runtime.block_on(async {
            let mut answer = request.send().await.unwrap();
            let mut body = Vec::new();
            while let Some(part) = answer.chunk().await.unwrap() {
                body.extend_from_slice(&part);
            }
            (answer, body)
        });
        self.asked.set(Instant::now());
        let url = answer.url();
        // What it does not know would be measured as something else.
        assert_eq!(answer.headers().get("x-vsnap-ignored"), None, "{url}");
        assert_eq!(answer.status(), 200, "{url}: {}", String::from_utf8_lossy(&body));
        body
    }
}

/// By HTTP/1.1, as the programs of most who script against an API.
fn new_client() -> Client {
    let builder = Client::builder().tls_danger_accept_invalid_certs(true).timeout(Duration::from_secs(1800));
    builder.tcp_nodelay(true).http1_only().pool_idle_timeout(IDLE).build().unwrap()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

pub fn list<'a>(body: &'a Value, name: &str) -> &'a Vec<Value> {
    body[name].as_array().unwrap_or_else(|| panic!("no {name} in {body}"))
}

/// Runs a program as one would type it, and fails with what it says.
#[track_caller]
pub fn run(program: &str, args: &[&str]) {
    output(program, args);
}

/// What a program prints.
#[track_caller]
pub fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{program} {args:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A line of shell, for what is only prepared.
#[track_caller]
pub fn shell(line: &str) -> String {
    output("bash", &["-ec", line])
}
