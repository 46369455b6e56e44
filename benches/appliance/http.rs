//! The HTTP server beside nginx, and a login beside one question to PAM.

use std::{
    fs::OpenOptions,
    io::Write,
    net::{TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum_server::tls_rustls::RustlsConfig;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::{Value, json};
use vsnap::api::{
    server::{self, Listeners, Running},
    tls,
};

use crate::{
    appliance::{Appliance, output, text},
    growth::{InMemory, basic},
    measure::{Results, Row, Unit, in_turns, time, until},
};

const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// Rounds where the caller doesn't say.
const ROUNDS: usize = 10;

/// As [`vsnap::api::GuessLimit`] has it: a login that was not seen before is a guess, and guesses beyond the first few
/// wait so long for their turn.
const GUESS_INTERVAL: Duration = Duration::from_millis(2100);

/// What is asked for, and what stands beside it.
struct Subject {
    url: String,
    authorization: String,
    /// The answer, which nginx gives, too.
    body: Vec<u8>,
    /// Folder of the certificate that both use.
    tls: PathBuf,
    /// What names of rows end with.
    suffix: &'static str,
}

/// A small object.
fn host() -> Value {
    json!({"name": "bench", "iqns": ["iqn.1994-05.com.example:bench"]})
}

/// Authenticated GETs of a small object beside a static file of nginx.
pub fn appliance(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    appliance.empty();
    let path = format!("/api/host/{}", text(&appliance.post("/api/host", &host())["id"]));
    let (user, password) = appliance.credentials();
    let subject = Subject {
        // Not by name: that could be IPv6 for one of the two only.
        url: format!("https://127.0.0.1:8900{path}"),
        authorization: basic(user, password),
        body: appliance.fetch(&path),
        tls: "/var/lib/vsnap/tls".into(),
        suffix: "",
    };
    compare(results, rounds, &subject);
    appliance.delete(&path);
}

/// The same with a storage system in memory, on the machine that this runs on.
pub fn native(results: &mut Results) {
    for (program, package) in [("wrk", "wrk"), ("nginx", "nginx")] {
        if find(program).is_none() {
            eprintln!("left out: there is no {program} here; it is in package {package}");
            return;
        }
    }
    let memory = InMemory::new();
    let path = format!("/api/host/{}", text(&memory.post("/api/host", &host())["id"]));
    let running = serve(&memory);
    let subject = Subject {
        url: format!("https://{}{path}", running.addresses()[0]),
        authorization: memory.authorization.clone(),
        body: memory.fetch(&path).into(),
        tls: memory.config.state_dir.join("tls"),
        suffix: ", without VM",
    };
    compare(results, ROUNDS, &subject);
    memory.runtime.block_on(running.stop(Duration::from_secs(10)));
}

/// The server of the API, on a port that was free.
pub fn serve(memory: &InMemory) -> Running {
    let _inside = memory.runtime.enter();
    let subject = || tls::Subject { hostname: "localhost".to_owned(), ..tls::Subject::default() };
    let tls = RustlsConfig::from_config(tls::Files::of(&memory.config).load(subject).unwrap());
    let listeners = Listeners::bind(&memory.config).unwrap();
    server::serve(listeners, memory.router.clone(), tls, &memory.config).unwrap()
}

fn compare(results: &mut Results, rounds: usize, subject: &Subject) {
    let folder = tempfile::tempdir().unwrap();
    let script = write_script(folder.path(), &subject.authorization);
    let nginx = Nginx::start(folder.path(), subject);
    for connections in CONNECTIONS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        in_turns(
            rounds,
            |_| note(&mut ours, wrk(&script, connections, &subject.url)),
            |_| note(&mut theirs, wrk(&script, connections, &nginx.url)),
        );
        let plural = if connections == 1 { "connection" } else { "connections" };
        let name = format!("HTTP GET of a small object, {connections} {plural}");
        let mut add = |what: &str, unit: Unit, goal: Option<f64>, value: fn(&Load) -> f64| {
            let values = |loads: &[Load]| loads.iter().map(value).collect();
            let name = format!("{name}: {what}{}", subject.suffix);
            let beside = "nginx, static file of the same size".to_owned();
            results.add(Row {
                name,
                beside,
                unit,
                ours: values(&ours),
                theirs: values(&theirs),
                goal,
                date: String::new(),
            });
        };
        add("requests", Unit::PerSecond, Some(0.5), |load| load.per_second);
        add("median latency", Unit::Seconds, None, |load| load.median);
        add("99th percentile of latency", Unit::Seconds, None, |load| load.percentile_99);
    }
}

/// What wrk found out.
struct Load {
    per_second: f64,
    median: f64,
    percentile_99: f64,
}

/// Keeps all of it; a round has one number only.
fn note(loads: &mut Vec<Load>, load: Load) -> f64 {
    let per_second = load.per_second;
    loads.push(load);
    per_second
}

/// The credentials are in a file that only its owner reads, since everybody sees arguments.
fn write_script(folder: &Path, authorization: &str) -> PathBuf {
    let path = folder.join("request.lua");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    write!(
        file,
        r#"wrk.headers["Authorization"] = "{authorization}"
function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
    io.write(string.format("result %.0f %.0f %.0f %.0f %.0f\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), failed))
end
"#
    )
    .unwrap();
    path
}

fn wrk(script: &Path, connections: usize, url: &str) -> Load {
    let script = script.to_str().unwrap();
    let text = output("wrk", &["-t", "1", "-c", &connections.to_string(), "-d", "3s", "-s", script, url]);
    let result = text.lines().find_map(|line| line.strip_prefix("result "));
    let numbers: Vec<f64> = result.unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    // Times are in microseconds.
    let [requests, duration, median, percentile_99, failed] = numbers[..] else { panic!("{url}: {text}") };
    assert!(requests > 0.0 && failed == 0.0, "{url}: {text}");
    Load { per_second: requests / duration * 1e6, median: median / 1e6, percentile_99: percentile_99 / 1e6 }
}

/// A program in the path, or where programs of root are.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// An nginx of its own, as fast as its configuration can make it. Ends when dropped.
struct Nginx {
    master: Child,
    url: String,
}

impl Nginx {
    fn start(folder: &Path, subject: &Subject) -> Self {
        let port = free_port();
        std::fs::write(folder.join("object"), &subject.body).unwrap();
        let config = folder.join("nginx.conf");
        std::fs::write(&config, nginx_config(folder, &subject.tls, port)).unwrap();
        let mut command = Command::new(find("nginx").expect("nginx"));
        command.arg("-p").arg(folder).arg("-c").arg(config).arg("-e").arg(folder.join("error.log"));
        let nginx = Nginx {
            master: command.stdin(Stdio::null()).spawn().unwrap(),
            url: format!("https://127.0.0.1:{port}/object"),
        };
        until("nginx", Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Workers outlive a master that is killed.
        let _ = kill(Pid::from_raw(self.master.id() as i32), Signal::SIGTERM);
        let _ = self.master.wait();
    }
}

fn nginx_config(folder: &Path, tls: &Path, port: u16) -> String {
    // Else workers are of a user that can't look into the folder.
    let user = if geteuid().is_root() { "user root root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|part| format!("    {part}_temp_path {}/{part};\n", folder.display()))
        .concat();
    format!(
        "daemon off;
{user}
worker_processes auto;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
{temporary}    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate {tls}/self-signed.crt;
        ssl_certificate_key {tls}/self-signed.key;
        root {folder};
    }}
}}
",
        folder = folder.display(),
        tls = tls.display()
    )
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The first request with credentials that were not seen before, beside one question to PAM.
pub fn login(results: &mut Results, rounds: usize) {
    let appliance = Appliance::here();
    let (user, password) = appliance.credentials();
    let _restored = Restored { user, password };
    let new_password = || {
        let password = uuid::Uuid::new_v4().to_string();
        set_password(user, &password).unwrap();
        password
    };
    let seconds = in_turns(
        rounds,
        |_| {
            std::thread::sleep(GUESS_INTERVAL);
            let password = new_password();
            time(|| appliance.get_anew("/api/host", &password))
        },
        |_| {
            let password = new_password();
            time(|| feed("pamtester", &["vsnap", user, "authenticate"], &password).unwrap())
        },
    );
    results.compare("login with credentials not seen before", "pamtester, one check by PAM", 1.2, seconds);
}

/// Gives the user the first password again, whatever happened meanwhile.
struct Restored<'a> {
    user: &'a str,
    password: &'a str,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        if let Err(message) = set_password(self.user, self.password) {
            eprintln!("the password of {} is not what it was: {message}", self.user);
        }
    }
}

fn set_password(user: &str, password: &str) -> Result<(), String> {
    feed("chpasswd", &[], &format!("{user}:{password}"))
}

/// Runs a program that reads one line.
fn feed(program: &str, args: &[&str], line: &str) -> Result<(), String> {
    let mut command = Command::new(find(program).ok_or_else(|| format!("there is no {program}"))?);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let written = writeln!(child.stdin.take().unwrap(), "{line}");
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    written.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim())) }
}
