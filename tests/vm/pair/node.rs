//! One of the two appliances, and what both have in a test: partners, a pool each, data.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::wait::{WHO_WAITS, deadline, wait_until};

/// Over the private network.
pub const ADDRESS_B: &str = "vsnap-b";
/// More than any answer takes.
const TIME: Duration = Duration::from_secs(300);

fn required(name: &str) -> String {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| panic!("{name} is not set; run `make vm-test`"))
}

pub struct Node {
    client: Client,
    base: String,
    ssh: Vec<String>,
    user: String,
    password: String,
}

impl Node {
    /// `prefix` of the environment variables: `VSNAP_TEST` or `VSNAP_TEST_B`.
    fn attach(prefix: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().tls_danger_accept_invalid_certs(true).timeout(TIME).build().unwrap();
        let base = format!("https://127.0.0.1:{}", required(&format!("{prefix}_PORT")));
        let ssh = required(&format!("{prefix}_SSH")).split_whitespace().map(str::to_owned).collect();
        let (user, password) = (required("VSNAP_TEST_USER"), required("VSNAP_TEST_PASSWORD"));
        let node = Node { client, base, ssh, user, password };
        node.wait_for_api();
        if node.get("/api/system")["init_status"] != "Ready" {
            node.post("/api/system", json!({"action": "init", "multipool": true, "skip_pool": true}));
        }
        node
    }

    pub fn wait_for_api(&self) {
        wait_until("the API answers", 120, || self.send(self.client.get(self.url("/api/system"))).is_some());
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// `None` when nobody answers.
    fn send(&self, request: RequestBuilder) -> Option<(u16, Value)> {
        let answer = request.basic_auth(&self.user, Some(&self.password)).send().ok()?;
        let status = answer.status().as_u16();
        Some((status, serde_json::from_str(&answer.text().ok()?).ok()?))
    }

    #[track_caller]
    fn expect(&self, request: RequestBuilder) -> Value {
        let (status, body) = self.send(request).expect("the appliance does not answer");
        assert_eq!(status, 200, "{body}");
        body
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.expect(self.client.get(self.url(path)))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Value {
        self.expect(self.client.post(self.url(path)).body(body.to_string()))
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Value {
        self.expect(self.client.put(self.url(path)).body(body.to_string()))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Value {
        self.expect(self.client.delete(self.url(path)))
    }

    /// Status and message of a request that is refused.
    #[track_caller]
    pub fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let (status, body) = self.send(self.client.request(method, self.url(path)).body(body.to_string())).unwrap();
        (status, body["error"]["message"].as_str().unwrap_or_else(|| panic!("{status}: {body}")).to_owned())
    }

    pub fn try_shell(&self, command: &str) -> Output {
        Command::new(&self.ssh[0]).args(&self.ssh[1..]).arg(command).output().unwrap()
    }

    #[track_caller]
    pub fn shell(&self, command: &str) -> String {
        let output = self.try_shell(command);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "{command}: {}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The machine's boot: another one after each. `None` when it can't be asked.
    pub fn boot_id(&self) -> Option<String> {
        let output = self.try_shell("cat /proc/sys/kernel/random/boot_id");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub fn user(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }

    /// Kills the daemon; systemd starts it again.
    pub fn kill_daemon(&self) {
        self.shell("systemctl kill -s KILL --kill-whom=main vsnapd");
        self.wait_for_api();
    }

    /// Whether it has one pool, of these tests, and this one partner: then the next test can have them.
    fn is_set_up(&self, partner: &str) -> bool {
        let (pools, partners) = (self.get("/api/pool"), self.get("/api/partner"));
        let one_pool =
            pools["total"] == 1 && pools["pools"][0]["name"] == "pair" && pools["pools"][0]["status"] == "ONLINE";
        one_pool && partners["total"] == 1 && partners["partners"][0]["id"] == partner
    }

    /// Takes away what a test left, but for pool and partner when they are to be kept.
    fn clean(&self, keep: bool) {
        for status in ["ACTIVE", "PENDING"] {
            // Of a test that failed.
            for session in self.get(&format!("/api/session?status={status}"))["sessions"].as_array().unwrap() {
                let path = format!("/api/session/{}", session["id"].as_str().unwrap());
                let _ = self.send(self.client.post(self.url(&path)).json(&json!({"action": "cancel"})));
            }
        }
        for volume in self.get("/api/volume?sort=-id")["volumes"].as_array().unwrap().iter().filter(|_| keep) {
            self.delete(&format!("/api/volume/{}?force=true", volume["id"].as_str().unwrap()));
        }
        if keep {
            return;
        }
        for pool in self.get("/api/pool")["pools"].as_array().unwrap() {
            self.delete(&format!("/api/pool/{}?force=true", pool["id"].as_str().unwrap()));
        }
        for partner in self.get("/api/partner")["partners"].as_array().unwrap() {
            self.delete(&format!("/api/partner/{}?force=true", partner["id"].as_str().unwrap()));
        }
    }

    /// The pool, of the largest disk.
    fn pool(&self) -> String {
        if let Some(pool) = self.get("/api/pool")["pools"].as_array().unwrap().first() {
            return pool["id"].as_str().unwrap().to_owned();
        }
        let body = self.get("/api/disk?used_as=unused");
        let mut unused: Vec<(u64, &str)> = body["disks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|disk| (disk["size"].as_str().unwrap().parse().unwrap(), disk["uuid"].as_str().unwrap()))
            .collect();
        unused.sort();
        let disk = unused.last().unwrap().1;
        let pool = self.post("/api/pool", json!({"name": "pair", "pool_type": "raid0", "disk_list": [disk]}));
        pool["id"].as_str().unwrap().to_owned()
    }

    pub fn make_filesystem(&self, pool: &str, name: &str) -> String {
        let body = json!({"name": name, "volume_type": "filesystem", "pool_id": pool});
        self.post("/api/volume", body)["id"].as_str().unwrap().to_owned()
    }

    pub fn replicate(&self, volume: &str, partner: &str) -> String {
        let path = format!("/api/volume/{volume}/relationship");
        self.post(&path, json!({"partner_id": partner}))["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn start(&self, relationship: &str) -> String {
        let session = self.post(&format!("/api/relationship/{relationship}/session"), json!({}));
        session["id"].as_str().unwrap().to_owned()
    }

    pub fn session(&self, id: &str) -> Value {
        self.get(&format!("/api/session/{id}"))
    }

    #[track_caller]
    pub fn wait(&self, session: &str) -> Value {
        let deadline = deadline(180);
        loop {
            let now = self.send(self.client.get(self.url(&format!("/api/session/{session}"))));
            if let Some((200, now)) = now
                && ["COMPLETED", "FAILED"].contains(&now["status"].as_str().unwrap())
            {
                return now;
            }
            if Instant::now() >= deadline {
                panic!("session {session} has no end: {}\n{}", self.session(session), who_waits());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    #[track_caller]
    pub fn sync(&self, relationship: &str) -> Value {
        let session = self.wait(&self.start(relationship));
        assert_eq!(session["status"], "COMPLETED", "{session}");
        session
    }

    #[track_caller]
    pub fn fail(&self, relationship: &str) -> String {
        let session = self.wait(&self.start(relationship));
        assert_eq!(session["status"], "FAILED", "{session}");
        session["message"].as_str().unwrap().to_owned()
    }

    /// Waits until a session has sent so many bytes.
    #[track_caller]
    pub fn wait_sent(&self, session: &str, bytes: u64) {
        wait_until("the session gets on", 60, || {
            let now = self.session(session);
            assert_ne!(now["status"], "COMPLETED", "it was too fast: {now}");
            now["size_sent"].as_str().is_some_and(|sent| sent.parse::<u64>().unwrap() >= bytes)
        });
    }

    /// Name in ZFS of a volume, which is a filesystem.
    pub fn dataset(&self, volume: &str) -> String {
        let volume = self.get(&format!("/api/volume/{volume}"));
        let kind = if volume["volume_type"] == "lun" { "lun" } else { "fs" };
        format!("vpool{}/{kind}{}", volume["pool_id"].as_str().unwrap(), volume["id"].as_str().unwrap())
    }

    /// ZFS guid of the snapshot with this number.
    pub fn guid(&self, snapshot: &str) -> String {
        let row = self.get(&format!("/api/snapshot/{snapshot}"));
        let name = format!("{}@snap{snapshot}", self.dataset(row["parent_id"].as_str().unwrap()));
        self.shell(&format!("zfs get -Hp -o value guid {name}"))
    }

    /// Sum over all files of a folder with names, types, modes and content.
    pub fn sum(&self, folder: &str) -> String {
        self.shell(&format!(
            "cd {folder} && {{ find . -printf '%P %y %m %s %l\\n' | grep -v '^ d' | sort; \
             find . -type f -print0 | sort -z | xargs -0r sha256sum; }} | sha256sum"
        ))
    }

    /// What the newest snapshot of a filesystem holds, by a clone that goes again.
    pub fn sum_of_snapshot(&self, snapshot: &str) -> String {
        let body = json!({"name": format!("look at {snapshot}"), "snapshot_id": snapshot});
        let clone = self.post("/api/volume", body)["id"].as_str().unwrap().to_owned();
        let sum = self.sum(&format!("/vsnap/{}", self.dataset(&clone)));
        self.delete(&format!("/api/volume/{clone}"));
        sum
    }
}

/// What the processes of a session wait for on both appliances, in the kernel's words.
fn who_waits() -> String {
    let of_node = |prefix: &str| {
        let output = Node::attach(prefix).try_shell(WHO_WAITS);
        format!("== {prefix}\n{}", String::from_utf8_lossy(&output.stdout))
    };
    ["VSNAP_TEST", "VSNAP_TEST_B"].map(of_node).concat()
}

/// Two appliances that are partners, each with a pool.
pub struct Pair {
    pub a: Node,
    pub b: Node,
    pub id_a: String,
    pub id_b: String,
    pub pool_a: String,
    pub pool_b: String,
}

impl Pair {
    pub fn new() -> Self {
        let (a, b) = (Node::attach("VSNAP_TEST"), Node::attach("VSNAP_TEST_B"));
        let [id_a, id_b] = [&a, &b].map(|node| node.get("/api/system")["id"].as_str().unwrap().to_owned());
        for node in [&a, &b] {
            node.shell("nft delete table inet weather 2>/dev/null; systemctl start vsnapd");
            node.wait_for_api();
        }
        let keep = a.is_set_up(&id_b) && b.is_set_up(&id_a);
        a.clean(keep);
        b.clean(keep);
        let (pool_a, pool_b) = (a.pool(), b.pool());
        let pair = Pair { a, b, id_a, id_b, pool_a, pool_b };
        if !keep {
            assert_eq!(pair.add_partner()["id"], pair.id_b.as_str());
        }
        pair.limit(0);
        pair
    }

    pub fn add_partner(&self) -> Value {
        let (user, password) = self.b.user();
        self.a.post("/api/partner", json!({"remote_addr": ADDRESS_B, "remote_user": user, "remote_pass": password}))
    }

    /// A filesystem with this many MiB that can't be compressed, and its relationship.
    pub fn filesystem(&self, name: &str, mib: u64) -> (String, String) {
        let volume = self.a.make_filesystem(&self.pool_a, name);
        let folder = format!("/vsnap/{}", self.a.dataset(&volume));
        self.a.shell(&format!("dd if=/dev/urandom of={folder}/data bs=1M count={mib} status=none; sync -f {folder}"));
        let relationship = self.a.replicate(&volume, &self.id_b);
        (volume, relationship)
    }

    pub fn folder(&self, volume: &str) -> String {
        format!("/vsnap/{}", self.a.dataset(volume))
    }

    pub fn replica(&self, relationship: &str) -> String {
        self.b.get(&format!("/api/relationship/{relationship}"))["local_vol_id"].as_str().unwrap().to_owned()
    }

    /// What a completed session brought is what was there, under the same guid.
    #[track_caller]
    pub fn check(&self, session: &Value) {
        let (here, there) = (session["local_snap_id"].as_str().unwrap(), session["remote_snap_id"].as_str().unwrap());
        assert_eq!(self.a.guid(here), self.b.guid(there));
        assert_eq!(self.a.sum_of_snapshot(here), self.b.sum_of_snapshot(there));
    }

    /// At most so many bytes a second.
    pub fn limit(&self, bytes: u64) {
        self.a.put(&format!("/api/partner/{}", self.id_b), json!({"rate_limit": bytes}));
    }
}

/// Nothing is left behind by any of it: no session that never ends, no process, no hold, nothing half.
impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for node in [&self.a, &self.b] {
            let open = node.get("/api/session?status=ACTIVE")["total"].as_u64().unwrap()
                + node.get("/api/session?status=PENDING")["total"].as_u64().unwrap();
            assert_eq!(open, 0, "sessions that are not over");
            wait_until("no process of a session is left", 60, || node.shell("pgrep -a -x zfs; true").is_empty());
            let holds = "zfs list -H -o name -t snapshot 2>/dev/null | xargs -r zfs holds -H";
            assert_eq!(node.shell(holds), "", "holds that nobody needs");
            let report = node.get("/api/system/report");
            assert_eq!(report["findings"], json!([]), "{report}");
        }
        // Some may stay open for the next session, but then at both ends.
        for (from, to) in [(&self.a, &self.b), (&self.b, &self.a)] {
            wait_until("no half of a link is left", 60, || {
                let count = |node: &Node, what: &str| -> usize {
                    node.shell(&format!("pgrep -c {what}; true")).trim().parse().unwrap()
                };
                let links = (count(from, "-f '[s]sh .*vsnap-link'"), count(to, "-x vsnap-link"));
                links.0 == links.1 && links.0 <= 4
            });
        }
    }
}
