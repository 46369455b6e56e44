//! `vsnap partner`, `vsnap relationship` and `vsnap session`.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    failed, run, stdout, stdout_json,
    stub::{Answers, Stub},
    volumes::volume,
    vsnap,
};

const PARTNER: &str = "5058a20323b943ed925fd92f88f1b926";
const RELATIONSHIP: &str = "ad05bf4db630bfc7ecb706563788f087";

fn partner() -> Value {
    json!({
        "id": PARTNER, "address": "backup2.example.com", "api_port": "8900", "ssh_port": "22",
        "rate_limit": "52428800", "time_created": "1513856343", "time_updated": "1513856344",
    })
}

fn relationship() -> Value {
    json!({
        "id": RELATIONSHIP, "local_pool_id": "1", "local_role": "primary", "local_vol_id": "7",
        "local_vol_name": "data", "partner_id": PARTNER, "remote_pool_id": "1", "remote_vol_id": "4",
        "remote_vol_name": "data_copy", "last_sync_status": "COMPLETED", "last_attempt_snap_id": "22",
        "last_success_snap_id": "22", "time_created": "1513887884", "time_updated": "1513887884",
    })
}

fn session(status: &str, message: Value) -> Value {
    json!({
        "id": "5", "rel_id": RELATIONSHIP, "local_snap_id": "12", "remote_snap_id": null, "local_snap_name": "monday",
        "remote_snap_name": "monday", "repl_address": "172.20.46.6", "size_sent": "1073741824", "status": status,
        "time_queued": "1514562940", "time_started": "1514562941", "time_ended": "1514563002", "message": message,
    })
}

fn preferences() -> Value {
    json!({ "rate_limit": null, "parallel_sessions": "5", "session_history": "10000" })
}

fn list(name: &str, items: Value) -> Value {
    let total = items.as_array().unwrap().len();
    json!({ name: items, "total": total })
}

/// Partner `backup2.example.com`; volume 7 `data`, which has a relationship; session 5.
fn answers() -> Answers {
    let partners = list("partners", json!([partner()]));
    let relationships = list("relationships", json!([relationship()]));
    let sessions = list("sessions", json!([session("ACTIVE", json!("42 %, 12.3 MB/s, 3 min left"))]));
    let snapshot = json!({ "id": "12", "name": "monday", "parent_id": "7" });
    Answers::default()
        .on("GET /api/partner", partners.clone())
        .on("GET /api/partner?limit=5&sort=-address", partners.clone())
        .on("GET /api/partner?address=backup2.example.com", partners)
        .on("GET /api/partner?address=nobody", list("partners", json!([])))
        .on(&format!("GET /api/partner?id={PARTNER}"), partner())
        .on(&format!("GET /api/partner/{PARTNER}"), partner())
        .on("POST /api/partner", partner())
        .on(&format!("PUT /api/partner/{PARTNER}"), partner())
        .on(&format!("DELETE /api/partner/{PARTNER}"), json!({}))
        .on(&format!("DELETE /api/partner/{PARTNER}?force=true"), json!({}))
        .on("GET /api/system/replication", preferences())
        .on("PUT /api/system/replication", preferences())
        .on("GET /api/volume?name=data", volume("7", "data"))
        .on("GET /api/volume?id=7", volume("7", "data"))
        .on("GET /api/volume?name=other", volume("8", "other"))
        .on("GET /api/volume?name=twice", volume("9", "twice"))
        .on("GET /api/volume/7/relationship", relationships.clone())
        .on("GET /api/volume/8/relationship", list("relationships", json!([])))
        .on("GET /api/volume/9/relationship", list("relationships", json!([relationship(), relationship()])))
        .on("POST /api/volume/7/relationship", relationship())
        .on("GET /api/relationship", relationships.clone())
        .on(&format!("GET /api/relationship?local_vol_id=7&partner_id={PARTNER}"), relationships)
        .on(&format!("GET /api/relationship/{RELATIONSHIP}"), relationship())
        .on(&format!("DELETE /api/relationship/{RELATIONSHIP}"), json!({}))
        .on(&format!("DELETE /api/relationship/{RELATIONSHIP}?preserve_replica=true&force=true"), json!({}))
        .on("GET /api/volume/7/snapshot?name=monday", list("snapshots", json!([snapshot])))
        .on("GET /api/volume/7/snapshot?name=none", list("snapshots", json!([])))
        .on(&format!("POST /api/relationship/{RELATIONSHIP}/session"), session("PENDING", Value::Null))
        .on("GET /api/session", sessions.clone())
        .on(&format!("GET /api/session?limit=3&rel_id={RELATIONSHIP}&status=ACTIVE"), sessions)
        .on("POST /api/session/5", session("FAILED", json!("Canceled")))
}

/// Runs each line, and compares what was sent.
#[track_caller]
fn check(cases: &[(&str, &str, Value)]) {
    let stub = Stub::local(answers());
    for (line, _, _) in cases {
        stdout(&run(&stub, line));
    }
    let expected: Vec<_> = cases.iter().map(|(_, line, body)| ((*line).to_owned(), body.clone())).collect();
    assert_eq!(stub.changes(), expected);
}

#[test]
fn requests_for_partners_are_what_the_contract_has() {
    let put = format!("PUT /api/partner/{PARTNER}");
    check(&[
        ("partner update BACKUP2.example.com --rate-limit 50M", &put, json!({ "rate_limit": "52428800" })),
        (
            "partner update backup2.example.com --address 10.0.0.7 --port 8901 --ssh-port 2222 --rate-limit none",
            &put,
            json!({ "address": "10.0.0.7", "api_port": "8901", "ssh_port": "2222", "rate_limit": "0" }),
        ),
        (
            "partner preferences --rate-limit 1G --parallel-sessions 3 --session-history 100",
            "PUT /api/system/replication",
            json!({ "parallel_sessions": "3", "session_history": "100", "rate_limit": "1073741824" }),
        ),
        ("partner remove backup2.example.com --noprompt", &format!("DELETE /api/partner/{PARTNER}"), Value::Null),
        (
            &format!("--noprompt partner delete {PARTNER} --force"),
            &format!("DELETE /api/partner/{PARTNER}?force=true"),
            Value::Null,
        ),
    ]);
}

#[test]
fn requests_for_relationships_and_sessions_are_what_the_contract_has() {
    let (create, path) = ("POST /api/volume/7/relationship", format!("/api/relationship/{RELATIONSHIP}"));
    let start = format!("POST {path}/session");
    check(&[
        (
            "relationship create data --partner backup2.example.com",
            create,
            json!({ "partner_id": PARTNER, "reuse": false }),
        ),
        (
            &format!("relationship create 7 --partner {PARTNER} --remote-pool 2 --remote-name copy --reuse"),
            create,
            json!({ "partner_id": PARTNER, "reuse": true, "remote_pool_id": "2", "remote_vol_name": "copy" }),
        ),
        ("--noprompt relationship delete data", &format!("DELETE {path}"), Value::Null),
        (
            &format!("--noprompt relationship delete {RELATIONSHIP} --preserve-replica --force"),
            &format!("DELETE {path}?preserve_replica=true&force=true"),
            Value::Null,
        ),
        ("session start data", &start, json!({})),
        (
            &format!("session start {RELATIONSHIP} --snapshot monday --remote-name copy"),
            &start,
            json!({ "snap_id": "12", "remote_snap_name": "copy" }),
        ),
        ("session cancel 5", "POST /api/session/5", json!({ "action": "cancel" })),
        (
            "--noprompt session cancel 5 --discard",
            "POST /api/session/5",
            json!({ "action": "cancel", "discard": true }),
        ),
    ]);
}

#[test]
fn the_password_of_the_partner_is_never_an_argument() {
    let stub = Stub::local(answers());
    let add = || {
        let mut command = vsnap();
        command.arg("--socket").arg(stub.socket());
        command.args(["partner", "add", "backup2.example.com", "--remote-user", "admin"]);
        command
    };
    let text = stdout(&add().arg("--password-stdin").write_stdin("pass: wörd \nmore\n").output().unwrap());
    assert!(text.contains(PARTNER) && text.contains("50.0 MiB/s") && !text.contains("wörd"), "{text}");
    let ports = ["--remote-port", "1", "--remote-ssh-port", "2", "--local-port", "3", "--local-ssh-port", "4"];
    let command = add().args(ports).args(["--local-addr", "h"]).env("VSNAP_REMOTE_PASSWORD", "catal0gic").output();
    stdout(&command.unwrap());
    let short = json!({ "remote_addr": "backup2.example.com", "remote_user": "admin", "remote_pass": "pass: wörd " });
    let long = json!({
        "remote_addr": "backup2.example.com", "remote_user": "admin", "local_addr": "h", "remote_api_port": "1",
        "remote_ssh_port": "2", "local_api_port": "3", "local_ssh_port": "4", "remote_pass": "catal0gic",
    });
    let expected = [("POST /api/partner".to_owned(), short), ("POST /api/partner".to_owned(), long)];
    assert_eq!(stub.changes(), expected);
    // Without a terminal there is nobody to ask.
    let (code, text) = failed(&add().output().unwrap());
    assert!(code == 2 && text.contains("--password-stdin") && text.contains("VSNAP_REMOTE_PASSWORD"), "{text}");
    for option in ["--remote-pass", "--remote-password", "--password"] {
        assert_eq!(add().args([option, "x"]).output().unwrap().status.code(), Some(2), "{option}");
    }
    assert_eq!(stub.changes().len(), 2);
}

#[test]
fn scripts_get_the_answers_of_the_api() {
    let stub = Stub::local(answers());
    assert_eq!(stdout_json(&run(&stub, "--json partner list"))["partners"][0], partner());
    assert_eq!(stdout_json(&run(&stub, "--json partner show --limit 5 --sort=-address"))["total"], 1);
    assert_eq!(stdout_json(&run(&stub, "--json partner show backup2.example.com")), partner());
    assert_eq!(stdout_json(&run(&stub, "--json partner preferences")), preferences());
    assert_eq!(stdout_json(&run(&stub, "--json relationship list"))["relationships"][0], relationship());
    for key in [RELATIONSHIP, "data", "7"] {
        assert_eq!(stdout_json(&run(&stub, &format!("--json relationship show {key}"))), relationship(), "{key}");
    }
    assert_eq!(stdout_json(&run(&stub, "--json session list"))["sessions"][0]["size_sent"], "1073741824");
    let line = "--json session list --relationship data --status active --limit 3";
    assert_eq!(stdout_json(&run(&stub, line))["total"], 1);
    assert_eq!(stdout_json(&run(&stub, "--json session start data"))["status"], "PENDING");
}

#[test]
fn tables_are_for_people() {
    let stub = Stub::local(answers().on("GET /api/session/5", session("ACTIVE", json!("12.3 MB/s"))));
    let row = |line: &str| {
        let text = stdout(&run(&stub, line));
        text.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("partner list"), format!("{PARTNER} backup2.example.com 8900 22 50.0 MiB/s"));
    // Partners are known by their addresses.
    let expected = format!("{RELATIONSHIP} primary data backup2.example.com data_copy COMPLETED");
    assert_eq!(row("relationship list"), expected);
    assert_eq!(row("relationship list --volume data --partner backup2.example.com"), expected);
    let expected = format!("5 {RELATIONSHIP} monday ACTIVE 1.0 GiB 2017-12-29 15:55:40 42 %, 12.3 MB/s, 3 min left");
    assert_eq!(row("session list"), expected);
    for (line, part) in [
        ("partner show backup2.example.com", "Limit:     50.0 MiB/s"),
        ("partner preferences", "Parallel sessions:  5"),
        ("relationship show data", "Volume there:     data_copy (id 4, pool 1)"),
        ("session show 5", "Snapshot there:  monday (id -)"),
    ] {
        let text = stdout(&run(&stub, line));
        assert!(text.lines().any(|it| it == part), "{part:?} in\n{text}");
    }
}

#[test]
fn what_is_not_there_is_told() {
    let stub = Stub::local(answers());
    let cases = [
        ("partner show nobody", 1, "there is no partner nobody"),
        ("relationship show nothing", 1, "there is no relationship nothing and no volume of that name"),
        ("relationship show 46b9beeb33a4a67c2ffa3c517a11e6c8", 1, "there is no relationship 46b9"),
        ("session start other", 1, "volume other has no relationship"),
        ("session start twice", 2, "volume twice has several relationships, say which one by its id: ad05"),
        ("session start data --snapshot none", 1, "volume data has no snapshot none"),
        ("session show 9", 1, "NotFoundError"),
        ("session watch 9", 1, "NotFoundError"),
    ];
    for (line, code, part) in cases {
        let (exit, text) = failed(&run(&stub, line));
        assert!(exit == code && text.contains(part), "{line}: {text}");
    }
    assert_eq!(stub.changes(), []);
}

#[test]
fn what_ends_something_needs_a_yes() {
    let stub = Stub::local(answers());
    let cases = [
        ("partner remove backup2.example.com", "Partner backup2.example.com is removed, on both sides"),
        ("relationship delete data", "volume data_copy on partner 5058a2"),
        ("relationship delete data --preserve-replica", "stays as an ordinary volume"),
        ("session cancel 5 --discard", "thrown away"),
    ];
    for (line, part) in cases {
        let (code, text) = failed(&run(&stub, line));
        assert!(code == 2 && text.contains(part) && text.contains("--noprompt"), "{line}: {text}");
    }
    for line in [
        "partner update backup2.example.com",
        "partner update backup2.example.com --rate-limit fast",
        "partner add backup2.example.com",
        "partner add backup2.example.com --remote-user a --remote-port 65536",
        "relationship create data",
        "session show x",
        "session show 5 --status active",
        "session list --status done",
        "session watch 0",
        "session cancel",
    ] {
        assert_eq!(run(&stub, line).status.code(), Some(2), "{line}");
    }
    assert_eq!(stub.changes(), []);
}

#[test]
fn a_session_is_watched_until_it_is_completed() {
    let answers = || {
        answers()
            .on("GET /api/session/5", session("PENDING", Value::Null))
            .on("GET /api/session/5", session("ACTIVE", json!("12.3 MB/s")))
            .on("GET /api/session/5", session("ACTIVE", json!("42 %, 12.3 MB/s, 3 min left")))
            .on("GET /api/session/5", session("COMPLETED", Value::Null))
    };
    let expected = "Session 5 is completed: snapshot monday is on the partner, 1.0 GiB sent in 1 min 1 s.\n";
    for line in ["session start data --watch", "session watch 5"] {
        assert_eq!(stdout(&run(&Stub::local(answers()), line)), expected, "{line}");
    }
    let stub = Stub::local(answers());
    assert_eq!(stdout_json(&run(&stub, "--json session start data --watch"))["status"], "COMPLETED");
    let polls = stub.seen().iter().filter(|seen| seen.line == "GET /api/session/5").count();
    assert_eq!((polls, stub.changes().len()), (4, 1));
}

#[test]
fn a_session_is_watched_until_it_fails() {
    let failure = session("FAILED", json!("the partner's pool is full"));
    let answers = || {
        answers()
            .on("GET /api/session/5", session("ACTIVE", json!("42 %, 12.3 MB/s, 3 min left")))
            .on("GET /api/session/5", failure.clone())
    };
    for line in ["session start data --watch", "session watch 5"] {
        let expected = (1, "vsnap: session 5 failed: the partner's pool is full\n".to_owned());
        assert_eq!(failed(&run(&Stub::local(answers()), line)), expected, "{line}");
    }
    let output = run(&Stub::local(answers()), "--json session watch 5");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), failure);
}

#[test]
fn errors_of_partners_are_told() {
    let message = "backup2.example.com answered: user name or password is wrong";
    let stub = Stub::local(Answers::default().fail("POST /api/partner", 502, "PartnerError", message));
    let mut command = vsnap();
    command.arg("--socket").arg(stub.socket()).args([
        "partner",
        "add",
        "backup2.example.com",
        "--remote-user",
        "admin",
    ]);
    let output = command.env("VSNAP_REMOTE_PASSWORD", "catal0gic").output().unwrap();
    assert_eq!(failed(&output), (1, format!("vsnap: {message} (PartnerError)\n")));
}

#[test]
fn a_session_goes_on_when_nobody_watches_it_any_longer() {
    let going = session("ACTIVE", json!("42 %, 12.3 MB/s, 3 min left"));
    let stub = Stub::local(answers().on("GET /api/session/5", going));
    // A test run in the background ignores the signal, and what it starts would, too.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(assert_cmd::cargo::cargo_bin!("vsnap"));
    command.arg("--socket").arg(stub.socket()).args(["session", "start", "data", "--watch"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let polls = || stub.seen().iter().filter(|seen| seen.line == "GET /api/session/5").count();
    let end = Instant::now() + Duration::from_secs(20);
    while polls() == 0 && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    // As Ctrl-C does.
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(stub.changes().len(), 1, "only the start");
    assert!(polls() > 0);
}
