//! `vsnap operation`.

use serde_json::{Value, json};

use crate::{
    run, stdout, stdout_json,
    stub::{Answers, Stub},
};

fn operations() -> Value {
    json!({ "total": 2, "operations": [
        { "id": "9", "verb": "delete_volume", "subject": "volume 7", "user": "backup", "state": "running",
            "percent": "40", "message": "400 of 1000 snapshots deleted", "time_started": "1497365131", "time_ended": null },
        { "id": "8", "verb": "create_pool", "subject": "pool 1", "user": "root", "state": "failed", "percent": null,
            "message": "the disk is broken", "time_started": "1497365131", "time_ended": "1497365132" },
    ]})
}

#[test]
fn operations_are_shown_whole_to_scripts_and_in_a_table_to_people() {
    let stub = Stub::local(Answers::default().on("GET /api/operation", operations()));
    assert_eq!(stdout_json(&run(&stub, "--json operation show")), operations());
    let text = stdout(&run(&stub, "operation show"));
    let words: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(words[0][..3], ["ID", "OPERATION", "OBJECT"]);
    assert_eq!(words[1][..10], ["9", "delete", "volume", "volume", "7", "backup", "running", "40", "%", "2017-06-13"]);
    assert!(text.contains("400 of 1000") && text.contains("the disk is broken"), "{text}");
}

#[test]
fn what_was_asked_for_is_sent() {
    let nothing = json!({ "total": 0, "operations": [] });
    let stub = Stub::local(
        Answers::default()
            .on("GET /api/operation?state=running", nothing.clone())
            .on("GET /api/operation?subject=system&state=running&limit=5", nothing),
    );
    for line in ["operation show --running", "operation show --limit 5 --running --subject system"] {
        assert_eq!(stdout(&run(&stub, line)), "There is no such operation.\n", "{line}");
    }
}
