//! The appliance under test: its API, a root shell on it, and the hands that pull disks.

use std::{
    collections::BTreeMap,
    process::{Command, Output},
    time::Duration,
};

use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::wait::{WHO_WAITS, wait_until};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &str) -> String {
    variable(name).unwrap_or_else(|| panic!("{name} is not set; run `make vm-test`, or see README.md"))
}

/// Address and port at which a service of the appliance (`NFS`, `SMB`, `ISCSI`) is reached from here: the ports of a
/// virtual one are forwarded.
pub fn port(service: &str) -> (String, String) {
    let known = match service {
        "NFS" => "2049",
        "SMB" => "445",
        _ => "3260",
    };
    let port = variable(&format!("VSNAP_TEST_{service}_PORT")).unwrap_or_else(|| known.to_owned());
    (required("VSNAP_TEST_HOST"), port)
}

/// An appliance that is initialised (multipool) and has no pools. When a test has passed, ZFS and the API must tell the
/// same, and there must be no pools but those that the test made over the API.
pub struct Bed {
    client: Client,
    base: String,
    user: String,
    password: String,
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// The message of a failure with this status and type.
    #[track_caller]
    pub fn fails(self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["error"]["type"], kind, "{}", self.body);
        self.body["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Bed {
    /// The appliance as it is.
    pub fn attach() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Bed {
            client: Self::new_client(),
            base: format!(
                "https://{}:{}",
                required("VSNAP_TEST_HOST"),
                variable("VSNAP_TEST_PORT").as_deref().unwrap_or("8900")
            ),
            user: required("VSNAP_TEST_USER"),
            password: required("VSNAP_TEST_PASSWORD"),
        }
    }

    fn new_client() -> Client {
        let builder = Client::builder().tls_danger_accept_invalid_certs(true).timeout(Duration::from_secs(300));
        builder.build().unwrap()
    }

    /// The appliance, initialised and without pools, whatever the test before left behind.
    pub fn fresh() -> Self {
        let bed = Self::attach();
        bed.wait_for_api();
        if bed.get("/api/system").ok()["init_status"] != "Ready" {
            bed.post("/api/system", json!({"action": "init", "multipool": true, "skip_pool": true})).ok();
        }
        bed.remove_pools();
        assert_eq!(bed.zpool_names(), Vec::<String>::new(), "pools that are not the appliance's");
        bed
    }

    pub fn remove_pools(&self) {
        for pool in self.get("/api/pool").ok()["pools"].as_array().unwrap() {
            if pool["status"] == "SUSPENDED" {
                // Left by a test that failed. Without its disks it can't be deleted.
                self.post("/api/disk", json!({"action": "rescan"})).ok();
                self.act(pool["id"].as_str().unwrap(), json!({"action": "clear"})).ok();
            }
            self.delete(&format!("/api/pool/{}?force=true", pool["id"].as_str().unwrap())).ok();
        }
    }

    /// Destroys a pool behind the appliance's back and lets it begin anew: the only way to get rid of a locked snapshot.
    pub fn start_over(&self, pool: &str, disks: &[String]) {
        self.shell("systemctl stop vsnapd");
        self.zpool("destroy", &format!("vpool{pool}"));
        self.shell("rm -f /var/lib/vsnap/catalog.sqlite*; systemctl start vsnapd");
        self.wait_for_api();
        self.post("/api/system", json!({"action": "init", "multipool": true, "skip_pool": true})).ok();
        disks.iter().for_each(|disk| self.wipe(disk));
    }

    /// Exports or destroys a pool by hand. Who looks at all pools, as ZED and upkeep do, has it open for a moment.
    #[track_caller]
    pub fn zpool(&self, verb: &str, pool: &str) {
        self.shell(&format!("for i in $(seq 60); do zpool {verb} {pool} && exit 0; sleep 1; done; exit 1"));
    }

    /// Does this while the daemon stands still, so that no round of upkeep falls into it. It has to be shorter than the
    /// time after which systemd takes the daemon for dead.
    pub fn while_upkeep_waits<T>(&self, work: impl FnOnce() -> T) -> T {
        let pid = self.daemon_pid();
        let _goes_on = self.afterwards(format!("kill -CONT {pid}"));
        self.shell(&format!("kill -STOP {pid}"));
        work()
    }

    /// Reboots the appliance and waits until it answers again.
    pub fn reboot(&self) {
        let boot = self.boot_id().unwrap();
        // The connection may end before the answer has come.
        self.try_shell("(sleep 1; systemctl reboot) >/dev/null 2>&1 &");
        wait_until("the appliance reboots", 600, || self.boot_id().is_some_and(|now| now != boot));
        // It is ready when all is served again, which takes minutes when there is much of it.
        wait_until("the daemon is back", 600, || self.try_shell("systemctl is-active vsnapd").status.success());
        self.wait_for_api();
    }

    pub fn wait_for_api(&self) {
        wait_until("the API answers", 120, || self.try_get("/api/system").is_some_and(|status| status == 200));
    }

    fn try_get(&self, path: &str) -> Option<u16> {
        let request = self.client.get(format!("{}{path}", self.base)).basic_auth(&self.user, Some(&self.password));
        request.timeout(Duration::from_secs(20)).send().ok().map(|answer| answer.status().as_u16())
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn credentials(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }

    pub fn send(&self, request: RequestBuilder) -> Answer {
        let answer = request.send().unwrap_or_else(|error| panic!("the appliance does not answer: {error:?}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().unwrap();
        let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON ({status}): {text:?}"));
        Answer { status, headers, body }
    }

    fn with_user(&self, request: RequestBuilder) -> Answer {
        self.send(request.basic_auth(&self.user, Some(&self.password)))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.with_user(self.client.get(self.url(path)))
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.with_user(self.client.post(self.url(path)).body(body.to_string()))
    }

    pub fn put(&self, path: &str, body: Value) -> Answer {
        self.with_user(self.client.put(self.url(path)).body(body.to_string()))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.with_user(self.client.delete(self.url(path)))
    }

    /// Makes a pool and tells its id.
    pub fn create_pool(&self, name: &str, kind: &str, disks: &[String]) -> String {
        let pool = self.post("/api/pool", json!({"name": name, "pool_type": kind, "disk_list": disks})).ok();
        pool["id"].as_str().unwrap().to_owned()
    }

    pub fn pool(&self, id: &str) -> Value {
        self.get(&format!("/api/pool/{id}")).ok()
    }

    pub fn act(&self, id: &str, body: Value) -> Answer {
        self.post(&format!("/api/pool/{id}"), body)
    }

    /// Uuids of unused disks, smallest first and by uuid within a size, so that tests get the same disks every time.
    pub fn unused(&self) -> Vec<String> {
        let body = self.get("/api/disk?used_as=unused").ok();
        let mut disks: Vec<(u64, String)> = body["disks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|disk| (disk["size"].as_str().unwrap().parse().unwrap(), disk["uuid"].as_str().unwrap().to_owned()))
            .collect();
        disks.sort();
        disks.into_iter().map(|(_, uuid)| uuid).collect()
    }

    /// `count` unused disks of one size.
    pub fn equal_disks(&self, count: usize) -> Vec<String> {
        let body = self.get("/api/disk?used_as=unused").ok();
        let disks = body["disks"].as_array().unwrap();
        let mut equal: Vec<String> = Vec::new();
        for size in disks.iter().map(|disk| &disk["size"]) {
            equal = disks
                .iter()
                .filter(|disk| disk["size"] == *size)
                .map(|disk| disk["uuid"].as_str().unwrap().to_owned())
                .collect();
            if equal.len() >= count {
                break;
            }
        }
        assert!(equal.len() >= count, "the test needs {count} unused disks of one size");
        equal.sort();
        equal.truncate(count);
        equal
    }

    /// Runs a command as root on the appliance and gives its standard output.
    #[track_caller]
    pub fn shell(&self, command: &str) -> String {
        let output = self.try_shell(command);
        assert!(
            output.status.success(),
            "{command}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn try_shell(&self, command: &str) -> Output {
        let prefix = required("VSNAP_TEST_SSH");
        let mut words = prefix.split_whitespace();
        Command::new(words.next().unwrap()).args(words).arg(command).output().unwrap()
    }

    /// JSON that a command on the appliance prints.
    #[track_caller]
    pub fn shell_json(&self, command: &str) -> Value {
        let text = self.shell(command);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{command} printed no JSON: {text}"))
    }

    pub fn zpool_names(&self) -> Vec<String> {
        self.shell("zpool list -H -o name").lines().map(str::to_owned).collect()
    }

    /// A local property of a dataset, as ZFS has it.
    pub fn zfs_property(&self, dataset: &str, property: &str) -> String {
        self.shell(&format!("zfs get -Hp -o value {property} {dataset}"))
    }

    pub fn zpool_property(&self, pool: &str, property: &str) -> String {
        self.shell(&format!("zpool get -Hp -o value {property} {pool}"))
    }

    /// Runs `command` when what this returns is dropped, also when the test fails: it puts back what the test changed.
    pub fn afterwards(&self, command: impl Into<String>) -> Afterwards<'_> {
        Afterwards { bed: self, command: command.into() }
    }

    /// Sets a parameter of the ZFS module until what this returns is dropped.
    pub fn zfs_parameter(&self, name: &str, value: u64) -> Afterwards<'_> {
        let file = format!("/sys/module/zfs/parameters/{name}");
        let before = self.shell(&format!("cat {file} && echo {value} > {file}"));
        self.afterwards(format!("echo {before} > {file}"))
    }

    /// The machine's boot: another one after each.
    pub fn boot_id(&self) -> Option<String> {
        let output = self.try_shell("cat /proc/sys/kernel/random/boot_id");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> String {
        self.shell("systemctl show -p MainPID --value vsnapd")
    }

    /// ZFS and the API tell the same: the same pools, states, vdevs and disks. A state may change between the two
    /// questions, so both are asked again before they are said to differ.
    #[track_caller]
    pub fn check_truth(&self) {
        let (mut real, mut told) = (self.truth(), self.told());
        for _ in 0..5 {
            if real == told {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
            (real, told) = (self.truth(), self.told());
        }
        assert_eq!(told, real, "what the API tells (left) and what ZFS says (right)");
    }

    /// Name and state of every pool, and path and state of each of its disks, as ZFS says.
    fn truth(&self) -> BTreeMap<String, PoolState> {
        let real = self.shell_json("zpool status -j -P --json-int");
        let pools = real["pools"].as_object().cloned().unwrap_or_default();
        let state = |pool: &Value| PoolState { states: vec![pool["state"].clone(); 3], disks: states(pool) };
        pools.iter().map(|(name, pool)| (name.clone(), state(pool))).collect()
    }

    /// The same as the API tells it, in the list, the status and the details.
    fn told(&self) -> BTreeMap<String, PoolState> {
        let list = self.get("/api/pool").ok();
        let pools = list["pools"].as_array().unwrap().iter().map(|pool| {
            let id = pool["id"].as_str().unwrap();
            let status = self.get(&format!("/api/pool/{id}/status")).ok();
            let states_told = [pool, &status, &self.pool(id)].map(|answer| answer["status"].clone()).to_vec();
            (format!("vpool{id}"), PoolState { states: states_told, disks: states(&status["vdevs"]) })
        });
        pools.collect()
    }

    /// Where the disk with this uuid is now: `sdc`.
    pub fn kernel_name(&self, uuid: &str) -> String {
        let path = self.shell(&format!("readlink -f /dev/disk/by-id/scsi-{uuid}"));
        path.trim_start_matches("/dev/").to_owned()
    }

    /// Clears what a test put on a disk behind the appliance's back.
    #[track_caller]
    pub fn wipe(&self, uuid: &str) {
        let disk = format!("/dev/disk/by-id/scsi-{uuid}");
        self.shell(&format!(
            "udevadm settle; for p in {disk}-part*; do [ -e $p ] || continue; zpool labelclear -f $p; wipefs -qa $p; done; \
             wipefs -qa {disk}; dd if=/dev/zero of={disk} bs=1M count=4 status=none; \
             for i in $(seq 30); do blockdev --rereadpt {disk} && break; udevadm settle; sleep 0.2; done; udevadm settle"
        ));
        wait_until("the disk is unused again", 60, || self.unused().iter().any(|unused| unused == uuid));
    }

    /// Pulls a disk out as a hand would.
    pub fn pull_disk(&self, uuid: &str) {
        let name = self.kernel_name(uuid);
        self.shell(&format!("echo 1 > /sys/block/{name}/device/delete"));
    }
}

/// See [`Bed::afterwards`].
#[must_use]
pub struct Afterwards<'a> {
    bed: &'a Bed,
    command: String,
}

impl Drop for Afterwards<'_> {
    fn drop(&mut self) {
        self.bed.try_shell(&self.command);
    }
}

/// The last check of every test.
impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", String::from_utf8_lossy(&self.try_shell(WHO_WAITS).stdout));
            return;
        }
        self.wait_for_api();
        self.check_truth();
    }
}

#[derive(Debug, PartialEq)]
struct PoolState {
    states: Vec<Value>,
    disks: Vec<(String, String)>,
}

fn states(tree: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect_states(tree, &mut found);
    found.sort();
    found
}

/// Path and state of each disk in a tree of vdevs, ours or that of `zpool status -j`.
fn collect_states(node: &Value, found: &mut Vec<(String, String)>) {
    match node {
        Value::Object(members) => {
            // Ours says `status`, ZFS says `state`.
            let state = members.get("state").or(members.get("status"));
            if let (Some(Value::String(path)), Some(Value::String(state))) = (members.get("path"), state) {
                let whole = path.strip_suffix("-part1").unwrap_or(path);
                // In JSON, ZFS calls it by another name than people.
                let state = if state == "CANT_OPEN" { "UNAVAIL" } else { state };
                found.push((whole.to_owned(), state.to_owned()));
            }
            members.values().for_each(|value| collect_states(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_states(value, found)),
        _ => {}
    }
}
