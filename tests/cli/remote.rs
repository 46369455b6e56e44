//! Over HTTPS: certificates and logins.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use serde_json::json;

use super::{
    failed, stdout_json,
    stub::{Answers, Stub},
    vsnap,
};

fn appliance() -> Stub {
    Stub::remote(Answers::default().on("GET /api/target", json!({ "targets": [], "total": 0 })))
}

fn ask(stub: &Stub) -> Command {
    let mut command = vsnap();
    command.env("VSNAP_PASSWORD", "open: sesame").args(["--host", &stub.host(), "--user", "aladdin"]);
    command.args(["--json", "target", "show"]);
    command
}

#[test]
fn a_self_signed_certificate_is_not_trusted_by_itself() {
    let stub = appliance();
    let (code, text) = failed(&ask(&stub).output().unwrap());
    assert_eq!(code, 2);
    assert!(text.contains("is not trusted") && text.contains("--insecure") && text.contains("--ca-file"), "{text}");
    assert_eq!(stub.seen(), [], "the password went out");
}

#[test]
fn it_is_when_it_is_given_or_not_checked() {
    let stub = appliance();
    let mut with_file = ask(&stub);
    with_file.arg("--ca-file").arg(stub.certificate());
    let mut unchecked = ask(&stub);
    unchecked.arg("--insecure");
    let mut by_environment = ask(&stub);
    by_environment.env("VSNAP_INSECURE", "1");
    for mut command in [with_file, unchecked, by_environment] {
        assert_eq!(stdout_json(&command.output().unwrap()), json!({ "targets": [], "total": 0 }));
    }
    // "aladdin:open: sesame"
    let login = Some("Basic YWxhZGRpbjpvcGVuOiBzZXNhbWU=".to_owned());
    assert!(stub.seen().iter().all(|seen| seen.login == login), "{:?}", stub.seen());

    let mut switched_off = ask(&stub);
    switched_off.env("VSNAP_INSECURE", "0");
    assert_eq!(failed(&switched_off.output().unwrap()).0, 2);
}

#[test]
fn a_certificate_for_another_name_is_not_trusted() {
    let stub = appliance();
    let mut command = vsnap();
    let host = stub.host().replace("localhost", "127.0.0.1");
    command.env("VSNAP_PASSWORD", "x").args(["--host", &host, "--user", "u", "--ca-file"]).arg(stub.certificate());
    let (code, text) = failed(&command.args(["target", "show"]).output().unwrap());
    assert!(code == 2 && text.contains("is not trusted"), "{text}");
}

#[test]
fn a_wrong_file_of_certificates_is_named() {
    let stub = appliance();
    let empty = stub.folder().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for file in [empty, stub.folder().join("missing.pem")] {
        let (code, text) = failed(&ask(&stub).arg("--ca-file").arg(&file).output().unwrap());
        assert!(code == 2 && text.contains(&file.display().to_string()), "{text}");
    }
}

#[test]
fn a_password_needs_a_terminal_or_the_environment() {
    let stub = appliance();
    let (code, text) = failed(&ask(&stub).env_remove("VSNAP_PASSWORD").output().unwrap());
    assert!(code == 2 && text.contains("VSNAP_PASSWORD"), "{text}");
}

#[test]
fn a_host_without_a_daemon_is_told_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begin = Instant::now();
    let mut command = vsnap();
    command.env("VSNAP_PASSWORD", "x").args(["--insecure", "--user", "u", "--host", &free.to_string()]);
    let (code, text) = failed(&command.args(["system", "show"]).output().unwrap());
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert!(code == 2 && text.contains("does not answer") && text.contains("connection refused"), "{text}");
}

#[test]
fn a_login_that_is_refused_is_an_answer_of_the_appliance() {
    let refused =
        Answers::default().fail("GET /api/target", 401, "UnauthorizedError", "user name or password is wrong");
    let (code, text) = failed(&ask(&Stub::remote(refused)).arg("--insecure").output().unwrap());
    assert_eq!((code, text.as_str()), (1, "vsnap: user name or password is wrong (UnauthorizedError)\n"));
}

#[test]
fn a_stranger_is_no_appliance() {
    let stranger = Answers::default().status("GET /api/target", 502, json!("Bad Gateway"));
    let (code, text) = failed(&ask(&Stub::remote(stranger)).arg("--insecure").output().unwrap());
    assert!(code == 2 && text.contains("is no vSnap appliance (status 502"), "{text}");
}
