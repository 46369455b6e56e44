#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]
//! The command line, run as a program. Where it needs somebody to talk to, that is a protocol stub: what an appliance
//! really answers is tested elsewhere; here it is about what is sent and what is shown.

mod hosts;
mod networks;
mod operations;
mod remote;
mod replication;
mod shares;
mod snapshots;
mod stub;
mod volumes;

use std::{
    process::Output,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use serde_json::{Value, json};

use stub::{Answers, Stub};

const NOUNS: [&str; 14] = [
    "system",
    "user",
    "disk",
    "pool",
    "volume",
    "snapshot",
    "share",
    "network",
    "host",
    "target",
    "partner",
    "relationship",
    "session",
    "operation",
];

/// The program, without what the caller's environment would add.
fn vsnap() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("vsnap"));
    for name in ["VSNAP_PASSWORD", "VSNAP_REMOTE_PASSWORD", "VSNAP_INSECURE", "COLUMNS"] {
        command.env_remove(name);
    }
    command.env("TZ", "UTC").timeout(Duration::from_secs(30));
    command
}

fn run(stub: &Stub, line: &str) -> Output {
    vsnap().arg("--socket").arg(stub.socket()).args(line.split(' ')).output().unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn stdout_json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Exit code and the one line on standard error; nothing may be on standard output.
#[track_caller]
fn failed(output: &Output) -> (i32, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("vsnap: "), "{text}");
    (output.status.code().unwrap(), text)
}

fn pool() -> Value {
    json!({
        "compression": true, "compression_ratio": "1.50x", "deduplication": true, "deduplication_ratio": "1.00x",
        "diskgroup_size": "8", "disks": { "raid6_group1": ["/dev/disk/by-id/scsi-36000c29a"] }, "id": "1",
        "name": "demo1", "pool_type": "raid6", "size_before_compression": "2668643328",
        "size_before_deduplication": "904680960", "size_total": "22613000803", "size_free": "22612845766",
        "size_used": "155037", "status": "ONLINE", "syncwrite": false, "health": "100",
        "time_created": "1497365131", "time_updated": "1497365131",
    })
}

fn pools() -> Value {
    let keys = ["id", "name", "pool_type", "size_total", "size_free", "size_used", "status", "health"];
    let summary = keys.into_iter().map(|key| (key.to_owned(), pool()[key].clone())).collect();
    json!({ "pools": [Value::Object(summary)], "total": 1 })
}

fn with_pool() -> Answers {
    let disks = json!({ "total": 1, "disks": [{ "uuid": "36000c29b", "name": "/dev/sdb", "size": "4194304",
        "model": "m", "vendor": "v", "type": "SCSI", "used_as": "unused" }] });
    Answers::default()
        .on("GET /api/pool", pools())
        .on("GET /api/pool/1", pool())
        .on("GET /api/pool?id=1", pool())
        .on("GET /api/pool?name=demo1", pool())
        .on("POST /api/pool", pool())
        .on("POST /api/pool/1", pool())
        .on("PUT /api/pool/1", pool())
        .on("DELETE /api/pool/1", json!({}))
        .on("GET /api/disk", disks.clone())
        .on("GET /api/disk?used_as=unused", disks)
}

#[test]
fn a_daemon_that_is_down_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.sock");
    // A socket that nobody listens on any more, as a killed daemon leaves it.
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for socket in [missing, stale] {
        let begin = Instant::now();
        for noun in NOUNS {
            let output = vsnap().arg("--socket").arg(&socket).args(["--json", noun, "show"]).output().unwrap();
            let (code, text) = failed(&output);
            assert_eq!(code, 2);
            let head = format!("vsnap: the appliance daemon does not answer at {} (", socket.display());
            assert!(text.starts_with(&head) && text.ends_with("): is it running? systemctl status vsnapd\n"), "{text}");
        }
        // On the average, since the machine may be busy with other tests.
        assert!(begin.elapsed() < Duration::from_secs(NOUNS.len() as u64), "{:?}", begin.elapsed());
    }
}

#[test]
fn help_has_examples_for_each_noun() {
    for noun in NOUNS {
        let text = stdout(&vsnap().args([noun, "--help"]).output().unwrap());
        assert!(text.contains(&format!("Examples:\n  vsnap {noun} ")), "{text}");
        assert!(text.contains("--json") && text.contains("--noprompt") && text.contains("--host"), "{text}");
        assert!(!text.contains("--socket"), "{text}");
    }
    let text = stdout(&vsnap().arg("--help").output().unwrap());
    assert!(text.contains("VSNAP_PASSWORD") && text.contains("Exit codes"), "{text}");
    assert_eq!(stdout(&vsnap().arg("--version").output().unwrap()), concat!("vsnap ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for line in [
        "",
        "pool",
        "pool destroy",
        "pool create --name a",
        "pool create --name a --type raid1",
        "pool show a --id 1",
        "pool scrub --stop --wait",
        "disk show --unused --used-as ext4",
        "user create",
        "user create a --password secret",
        "--host a system show",
        "--user a system show",
        "--ca-file a system show",
        "system show --frobnicate",
    ] {
        let output = vsnap().args(line.split(' ').filter(|word| !word.is_empty())).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{line}: {output:?}");
    }
}

#[test]
fn the_json_of_pools_is_what_scripts_read() {
    let stub = Stub::local(with_pool());
    let list = stdout_json(&run(&stub, "--json pool show"));
    assert_eq!(list["total"], 1);
    let shown = &list["pools"][0];
    assert_eq!(shown["compression_ratio"], "1.50");
    assert_eq!(shown["deduplication_ratio"], "1.00");
    assert_eq!((&shown["health"], &shown["diskgroup_size"]), (&json!(100), &json!(8)));
    assert_eq!(shown["encryption"], json!({ "enabled": false }));
    for (name, value) in pool().as_object().unwrap() {
        assert!(shown.get(name).is_some(), "{name} is missing");
        if !["compression_ratio", "deduplication_ratio", "health", "diskgroup_size"].contains(&name.as_str()) {
            assert_eq!(&shown[name], value, "{name}");
        }
    }
    // One pool, and options behind the command, look the same.
    assert_eq!(&stdout_json(&run(&stub, "pool show demo1 --json")), shown);
    assert_eq!(&stdout_json(&run(&stub, "pool create --name demo1 --type raid6 --json")), shown);
}

#[test]
fn a_pool_that_goes_while_it_is_listed_is_left_out() {
    let gone = Answers::default().on("GET /api/pool", pools()).fail("GET /api/pool/1", 404, "NotFoundError", "gone");
    let stub = Stub::local(gone);
    assert_eq!(stdout_json(&run(&stub, "--json pool show")), json!({ "total": 0, "pools": [] }));
}

#[test]
fn statistics_are_six_numbers() {
    let answer = json!({ "size_arc_max": "6", "size_arc_used": "5", "size_ddt_core": "4", "size_ddt_disk": "3",
        "size_zfs_arc_meta_max": "2", "size_zfs_arc_meta_used": "1", "size_else": "0" });
    let stub = Stub::local(Answers::default().on("GET /api/system/stats", answer));
    let expected = json!({ "size_arc_max": 6, "size_arc_used": 5, "size_ddt_core": 4, "size_ddt_disk": 3,
        "size_zfs_arc_meta_max": 2, "size_zfs_arc_meta_used": 1 });
    assert_eq!(stdout_json(&run(&stub, "--json system stats")), expected);
    assert_eq!(stdout(&run(&stub, "system stats")).lines().count(), 6);
}

#[test]
fn tables_are_for_people() {
    let stub = Stub::local(with_pool());
    let text = stdout(&run(&stub, "pool show"));
    let words: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(words[0][..4], ["ID", "NAME", "TYPE", "STATUS"]);
    assert_eq!(words[1], ["1", "demo1", "raid6", "ONLINE", "21.1", "GiB", "151", "KiB", "21.1", "GiB", "1"]);
    let text = stdout(&run(&stub, "pool show demo1"));
    assert!(text.contains("2017-06-13 14:45:31") && text.contains("ratio 1.50"), "{text}");
    assert!(stdout(&run(&stub, "disk show --unused")).contains("/dev/sdb  36000c29b  2.0 GiB"));
}

#[test]
fn requests_are_what_the_contract_has() {
    let stub = Stub::local(with_pool());
    for line in [
        "pool create --name p --type raid5 --disks all --no-compression --dedup",
        "pool create --name p --type raid6 --disks sdb --no-syncwrite",
        "pool update demo1 --new-name p2 --compression",
        "pool expand --disks /dev/sdb",
        "pool add-log --id 1 --disks 36000c29b",
        "pool remove-cache --noprompt",
        "pool replace 1 --old 36000c29a --new sdb",
        "pool scrub --stop",
        "--noprompt pool offline --name demo1 --disk /dev/disk/by-id/wwn-0x6000c29b",
    ] {
        stdout(&run(&stub, line));
    }
    let expected = [
        (
            "POST /api/pool",
            json!({ "name": "p", "pool_type": "raid5", "disk_list": [], "compression": false, "deduplication": true }),
        ),
        (
            "POST /api/pool",
            json!({ "name": "p", "pool_type": "raid6", "disk_list": ["36000c29b"], "syncwrite": false }),
        ),
        ("PUT /api/pool/1", json!({ "name": "p2", "compression": true })),
        ("POST /api/pool/1", json!({ "action": "expand", "disk_list": ["36000c29b"] })),
        ("POST /api/pool/1", json!({ "action": "addlog", "disk_list": ["36000c29b"] })),
        ("POST /api/pool/1", json!({ "action": "removecache" })),
        ("POST /api/pool/1", json!({ "action": "replace", "old_disk": "36000c29a", "new_disk": "36000c29b" })),
        ("POST /api/pool/1", json!({ "action": "scrubstop" })),
        ("POST /api/pool/1", json!({ "action": "offline", "disk": "36000c29b" })),
    ];
    let expected = expected.map(|(line, body)| (line.to_owned(), body));
    assert_eq!(stub.changes(), expected);
}

#[test]
fn nothing_is_destroyed_without_a_yes() {
    let stub = Stub::local(with_pool());
    for line in [
        "pool delete demo1",
        "pool remove-log",
        "pool remove-spare --disks sdb",
        "pool offline --disk sdb",
        "system init",
    ] {
        let (code, text) = failed(&run(&stub, line));
        assert!(code == 2 && text.contains("--noprompt"), "{line}: {text}");
    }
    // All that force does is told before it is done.
    let text = failed(&run(&stub, "pool delete demo1 --force")).1;
    assert!(
        ["relationships", "held", "did not make", "only forgotten"].iter().all(|effect| text.contains(effect)),
        "{text}"
    );
    // The only pool there is isn't enough of a name for this one.
    assert!(failed(&run(&stub, "pool delete --noprompt")).1.contains("say which pool"));
    assert_eq!(stub.changes(), []);
    assert_eq!(stdout(&run(&stub, "pool delete demo1 --noprompt")), "Pool demo1 is deleted.\n");
    assert_eq!(stub.changes(), [("DELETE /api/pool/1".to_owned(), Value::Null)]);
}

#[test]
fn init_is_followed_to_its_end() {
    let state = |word: &str| json!({ "id": "69813aef", "init_status": word, "multipool": false, "os_name": "Debian" });
    let answers = |end: Value| {
        with_pool()
            .on("POST /api/system", state("Initializing"))
            .on("GET /api/system", state("Initializing"))
            .on("GET /api/system", end)
    };
    let stub = Stub::local(answers(state("Ready")));
    assert_eq!(stdout_json(&run(&stub, "system init --noprompt --json"))["init_status"], "Ready");
    let body = json!({ "action": "init", "async": true, "multipool": false, "skip_pool": false });
    assert_eq!(stub.changes(), [("POST /api/system".to_owned(), body)]);

    let mut end = state("Failed");
    end["init_message"] = "the disk is broken".into();
    let stub = Stub::local(answers(end));
    // Without a pool nothing has to be confirmed.
    let (code, text) = failed(&run(&stub, "system init --skip-pool"));
    assert!(code == 1 && text.contains("the disk is broken"), "{text}");
}

#[test]
fn a_rebuild_tells_all_that_came_back() {
    let answer = json!({ "pools": 1, "volumes": 20, "snapshots": 0, "shares": 3, "skipped": ["vpool2: no disks"] });
    let stub = Stub::local(Answers::default().on("POST /api/system/rebuild", answer));
    let text = stdout(&run(&stub, "system rebuild-catalog"));
    assert_eq!(text, "Brought back 1 pool, 20 volumes, 0 snapshots and 3 shares.\nLeft out: vpool2: no disks\n");
}

#[test]
fn a_scrub_is_followed_to_its_end() {
    let status = |state: &str, errors: &str| {
        json!({ "id": "1", "name": "demo1", "status": "ONLINE", "vdevs": [], "data_errors": "0", "message": null,
            "scan": { "function": "scrub", "state": state, "percent": "50", "errors": errors } })
    };
    let answers = |errors: &str| {
        with_pool()
            .on("GET /api/pool/1/status", status("scanning", "0"))
            .on("GET /api/pool/1/status", status("finished", errors))
    };
    let stub = Stub::local(answers("0"));
    assert_eq!(stdout_json(&run(&stub, "--json pool scrub --wait"))["scan"]["state"], "finished");
    let output = run(&Stub::local(answers("3")), "pool scrub --wait");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "vsnap: the scrub found 3 errors\n");
}

#[test]
fn errors_of_the_appliance_are_exit_code_1() {
    let message = "Disk UUID 36000c29b is not a valid candidate for a pool";
    let stub = Stub::local(with_pool().fail("POST /api/system", 400, "InvalidCandidateError", message));
    let (code, text) = failed(&run(&stub, "--json --noprompt system init"));
    assert_eq!((code, text), (1, format!("vsnap: {message} (InvalidCandidateError)\n")));
    let (code, text) = failed(&run(&stub, "pool show demo2"));
    assert!(code == 1 && text.contains("there is no pool demo2"), "{text}");
}

#[test]
fn what_is_named_is_an_id_first_and_then_a_name() {
    let named = |id: &str, name: &str| {
        let mut pool = pool();
        (pool["id"], pool["name"]) = (id.into(), name.into());
        pool
    };
    let (first, second) = (named("1", "2"), named("2", "a b/ü"));
    let stub = Stub::local(
        Answers::default()
            .on("GET /api/pool?id=1", first.clone())
            .on("GET /api/pool?id=2", second.clone())
            .on("GET /api/pool?name=2", first.clone())
            .on("GET /api/pool?name=7", second.clone())
            .on("GET /api/pool?name=a+b%2F%C3%BC", second.clone())
            .on("GET /api/pool/1", first)
            .on("GET /api/pool/2", second)
            .on("GET /api/pool", json!({ "total": 2, "pools": [named("1", "2"), named("2", "a b/ü")] })),
    );
    let id = |words: &[&str]| {
        let output = vsnap().arg("--socket").arg(stub.socket()).args(["--json", "pool", "show"]).args(words).output();
        stdout_json(&output.unwrap())["id"].clone()
    };
    assert_eq!((id(&["2"]), id(&["--name", "2"]), id(&["--id", "1"])), ("2".into(), "1".into(), "1".into()));
    assert_eq!((id(&["7"]), id(&["a b/ü"])), ("2".into(), "2".into()));
    assert!(failed(&run(&stub, "pool show --id 7")).1.contains("there is no pool 7"));
    // Several: one has to be named where one is needed.
    let (code, text) = failed(&run(&stub, "pool scrub"));
    assert!(code == 2 && text.contains("say which one: 2, a b/ü"), "{text}");
    assert!(failed(&run(&stub, "volume promote")).1.contains("say which volume"));
}

#[test]
fn passwords_come_from_standard_input() {
    let user = json!({ "gid": "1000", "name": "backup", "role": "vsnap_admin", "uid": "1000" });
    let stub = Stub::local(Answers::default().on("POST /api/user", user.clone()).on("PUT /api/user/backup", user));
    for (verb, noun) in [("create", "may use"), ("update", "Password of backup")] {
        let mut command = vsnap();
        command.arg("--socket").arg(stub.socket()).args(["user", verb, "backup", "--password-stdin"]);
        let text = stdout(&command.write_stdin("pass: wörd \nmore\n").output().unwrap());
        assert!(text.contains(noun), "{text}");
    }
    let expected = [
        ("POST /api/user".to_owned(), json!({ "name": "backup", "password": "pass: wörd " })),
        ("PUT /api/user/backup".to_owned(), json!({ "password": "pass: wörd " })),
    ];
    assert_eq!(stub.changes(), expected);
    // Without a terminal there is nobody to ask.
    let (code, text) = failed(&run(&stub, "user create backup"));
    assert!(code == 2 && text.contains("--password-stdin"), "{text}");
}

#[test]
fn pages_and_completions_are_made() {
    let folder = tempfile::tempdir().unwrap();
    vsnap().args(["man", "--dir"]).arg(folder.path()).assert().success();
    for page in ["vsnap.1", "vsnap-pool.1", "vsnap-pool-create.1", "vsnap-volume-clone.1", "vsnap-snapshot-hold.1"] {
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&vsnap().args(["completions", shell]).output().unwrap()).contains("add-log"), "{shell}");
    }
}
