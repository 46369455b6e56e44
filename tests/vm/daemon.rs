//! The daemon on a real system: TLS, credentials, limits, reload, stop, log.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    bed::{Answer, Bed},
    wait::wait_until,
};

fn curl(bed: &Bed, arguments: &str) -> String {
    bed.shell(&format!("curl -sk -o /dev/null {arguments} https://localhost:8900/api/system"))
}

#[test]
fn tls_1_2_and_1_3_and_http_1_1_and_2() {
    let bed = Bed::fresh();
    let (user, password) = bed.credentials();
    let who = format!("-u '{user}:{password}'");
    for version in ["--tls-max 1.2 --tlsv1.2", "--tlsv1.3"] {
        assert_eq!(curl(&bed, &format!("{who} {version} -w '%{{http_code}}'")), "200", "{version}");
    }
    for (version, word) in [("--http1.1", "1.1"), ("--http2", "2")] {
        assert_eq!(curl(&bed, &format!("{who} {version} -w '%{{http_version}}'")), word);
    }
    let old = bed.try_shell("curl -sk --tls-max 1.1 https://localhost:8900/api/system");
    assert!(!old.status.success(), "TLS 1.1 is refused");
    let names = bed.shell(
        "openssl s_client -connect localhost:8900 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName",
    );
    let host = bed.shell("hostname");
    assert!(names.contains("DNS:localhost") && names.contains(&format!("DNS:{host}")), "{names}");
    let modes = bed.shell("find /var/lib/vsnap /run/vsnap ! -type d ! -name '*.crt' -perm /077");
    assert_eq!(modes, "", "files that others may read");
}

#[test]
fn a_certificate_is_reloaded_without_dropping_connections() {
    let bed = Bed::fresh();
    bed.shell(
        "mkdir -p /etc/vsnap/tls && cd /etc/vsnap/tls && openssl req -x509 -newkey rsa:2048 -nodes -days 2 \
         -subj /CN=first.example -keyout key.pem -out cert.pem 2>/dev/null && chmod 600 key.pem \
         && cp /etc/vsnap/vsnap.toml /root/vsnap.toml \
         && sed -i 's|^# certificate =.*|certificate = \"/etc/vsnap/tls/cert.pem\"|; s|^# key =.*|key = \"/etc/vsnap/tls/key.pem\"|' /etc/vsnap/vsnap.toml \
         && systemctl restart vsnapd",
    );
    bed.wait_for_api();
    let subject = |bed: &Bed| {
        bed.shell("openssl s_client -connect localhost:8900 </dev/null 2>/dev/null | openssl x509 -noout -subject")
    };
    assert!(subject(&bed).contains("first.example"));
    let pid = bed.daemon_pid();
    bed.get("/api/system").ok();
    bed.shell(
        "cd /etc/vsnap/tls && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=second.example \
         -keyout key.pem -out cert.pem 2>/dev/null && systemctl reload vsnapd",
    );
    wait_until("the new certificate is shown", 60, || subject(&bed).contains("second.example"));
    bed.get("/api/system").ok();
    assert_eq!(bed.daemon_pid(), pid);
    bed.shell("echo broken > /etc/vsnap/tls/cert.pem; systemctl reload vsnapd; true");
    assert!(subject(&bed).contains("second.example"), "a broken certificate does not replace a good one");
    bed.shell("mv /root/vsnap.toml /etc/vsnap/vsnap.toml; rm -r /etc/vsnap/tls; systemctl restart vsnapd");
    bed.wait_for_api();
}

#[test]
fn every_answer_is_in_the_envelope() {
    let bed = Bed::fresh();
    bed.get("/api/nothing").fails(404, "NotFoundError");
    bed.get("/nothing/../api").fails(404, "NotFoundError");
    bed.get("/").fails(404, "NotFoundError");
    let without = bed.send(bed.client().get(bed.url("/api/nothing")));
    assert!(without.headers["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    without.fails(401, "UnauthorizedError");
    let answer = bed.post("/api/disk", json!({"action": "rescan", "acton": 1}));
    assert_eq!(answer.headers["x-vsnap-ignored"], "acton");
    let document = bed.get("/api/openapi.json").ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let committed: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    assert_eq!(document, committed);
}

#[test]
fn a_restart_lets_requests_end() {
    let bed = Bed::fresh();
    let disks = bed.equal_disks(4);
    let pool = std::thread::scope(|scope| {
        let create =
            scope.spawn(|| bed.post("/api/pool", json!({"name": "stop", "pool_type": "raid6", "disk_list": disks})));
        // In the middle of it, but never before the request has come.
        bed.shell(
            "for i in $(seq 100); do pgrep -x zpool >/dev/null && break; sleep 0.1; done; systemctl restart vsnapd",
        );
        create.join().unwrap()
    });
    assert_eq!(pool.ok()["name"], "stop");
    bed.wait_for_api();
}

#[test]
fn the_log_tells_who_did_what_and_no_secret() {
    let bed = Bed::fresh();
    let since = bed.shell("date '+%Y-%m-%d %H:%M:%S'");
    let request_id = |answer: &Answer| answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let read = bed.get("/api/pool");
    let answer = bed.post("/api/disk", json!({"action": "rescan"}));
    let (quiet, id) = (request_id(&read), request_id(&answer));
    read.ok();
    answer.ok();
    let (user, password) = bed.credentials();
    let wrong = bed.client().get(bed.url("/api/pool")).basic_auth(user, Some("a-wrong-secret-guess"));
    bed.send(wrong).fails(401, "UnauthorizedError");
    bed.shell("journalctl --sync");
    let log = bed.shell(&format!("journalctl -u vsnapd --since '{since}' -o json"));
    let is_request = |line: &&str| line.contains(&id) && line.to_lowercase().contains("duration_ms");
    let line = log.lines().find(is_request).expect("the request is in the log");
    assert!(!log.contains(&quiet), "a read that went well is not");
    let fields: Value = serde_json::from_str(line).unwrap();
    let text = fields.to_string().to_lowercase();
    assert!(text.contains(user) && text.contains("duration_ms") && text.contains("/api/disk"), "{text}");
    let whole = bed.shell("journalctl -u vsnapd -o json");
    for secret in [password, "a-wrong-secret-guess", "Basic "] {
        assert!(!whole.contains(secret), "a secret is in the log");
    }
}

#[test]
fn the_daemon_is_watched_and_confined() {
    let bed = Bed::fresh();
    let unit = bed.shell("systemctl show vsnapd -p Type,WatchdogUSec,NoNewPrivileges,Restart,Names");
    assert!(unit.contains("Type=notify") && unit.contains("NoNewPrivileges=yes"), "{unit}");
    assert!(unit.contains("vsnap-api.service") && !unit.contains("WatchdogUSec=infinity"), "{unit}");
    let pid = bed.daemon_pid();
    bed.shell(&format!("kill -STOP {pid}"));
    let began = Instant::now();
    wait_until("the watchdog restarts a daemon that hangs", 240, || {
        let now = bed.daemon_pid();
        now != pid && now != "0"
    });
    assert!(began.elapsed() > Duration::from_secs(1));
    bed.wait_for_api();
}
