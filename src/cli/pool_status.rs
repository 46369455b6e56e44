//! `vsnap pool status`: disks, errors and progress; and waiting for the end of a scrub or rebuild.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Session,
    failure::{Failure, Result},
    human, json,
    progress::Progress,
    table::{self, Column::*},
    which::{Found, Pool, Which},
};

/// How often the state is asked for while waiting.
const PAUSE: Duration = Duration::from_secs(2);

/// How long ZFS may take from putting a disk in to beginning its rebuild.
const BEGIN_TIME: Duration = Duration::from_secs(60);

/// Shows the status of the pool that is named, or of all.
pub(super) fn show(session: &Session, which: &Which<Pool>) -> Result {
    if which.is_given() {
        let found = which.find(&session.client)?;
        return session.output.show(&status_of(session, &found)?, status_text);
    }
    let list = session.client.get("/api/pool")?;
    let mut pools = Vec::new();
    for pool in json::items(&list, "pools") {
        match status_of(session, &Found::new::<Pool>(pool)) {
            Ok(status) => pools.push(status),
            // Deleted in between.
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure),
        }
    }
    session.output.show(&json!({ "total": pools.len(), "pools": pools }), |all| {
        let texts: Vec<_> = json::items(all, "pools").iter().map(status_text).collect();
        if texts.is_empty() {
            "There is no pool yet: make one with `vsnap pool create`.".to_owned()
        } else {
            texts.join("\n\n")
        }
    })
}

fn status_of(session: &Session, found: &Found) -> Result<Value> {
    session.client.get(&format!("{}/status", found.path()))
}

/// Waits for the end of the scrub that is running. Errors that it found make the command fail.
pub(super) fn wait_for_scrub(session: &Session, found: &Found) -> Result {
    let status = follow(session, found, "Scrubbing", |_| false)?;
    session.output.show(&status, status_text)?;
    let scan = &status["scan"];
    match (json::text(scan, "state").as_str(), json::number(scan, "errors")) {
        ("finished", Some(0) | None) => Ok(()),
        ("finished", Some(errors)) => Err(Failure::Outcome(format!("the scrub found {errors} errors"))),
        (state, _) => Err(Failure::Outcome(format!("the scrub did not finish: it is {state}"))),
    }
}

/// Waits until a new disk has taken the place of the old one.
pub(super) fn wait_for_rebuild(session: &Session, found: &Found) -> Result {
    let status = follow(session, found, "Rebuilding", is_replacing)?;
    session.output.show(&status, status_text)?;
    if is_replacing(&status) {
        return Err(Failure::Outcome(
            "the old disk is still there: `vsnap pool status` shows what is wrong".to_owned(),
        ));
    }
    Ok(())
}

/// Draws a bar until nothing is running any more, and `soon` does not expect that something begins.
fn follow(session: &Session, found: &Found, doing: &str, soon: impl Fn(&Value) -> bool) -> Result<Value> {
    let progress = Progress::bar(format!("{doing} pool {}", found.name));
    let mut busy = Instant::now();
    loop {
        let status = status_of(session, found)?;
        let scan = &status["scan"];
        if scan["state"] == "scanning" {
            busy = Instant::now();
            let percent = json::number(scan, "percent").and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
            progress.set(percent, time_left(scan).unwrap_or_default());
        } else if !soon(&status) || busy.elapsed() > BEGIN_TIME {
            return Ok(status);
        }
        thread::sleep(PAUSE);
    }
}

/// Whether a disk is being replaced.
fn is_replacing(status: &Value) -> bool {
    fn below(vdevs: &[Value]) -> bool {
        vdevs.iter().any(|vdev| vdev["type"] == "replacing" || below(json::items(vdev, "children")))
    }
    below(json::items(status, "vdevs"))
}

fn time_left(scan: &Value) -> Option<String> {
    json::number(scan, "seconds_left").map(|seconds| format!("{} left", human::duration(seconds)))
}

fn status_text(status: &Value) -> String {
    let mut members = vec![
        ("Pool", format!("{} (id {})", json::text(status, "name"), json::text(status, "id"))),
        ("Status", json::text(status, "status")),
    ];
    for (name, member) in [("Message", "message"), ("Advice", "advice")] {
        if let Some(text) = status[member].as_str() {
            members.push((name, text.to_owned()));
        }
    }
    members.push(("Scan", scan_text(&status["scan"])));
    if json::number(status, "data_errors").is_some_and(|errors| errors > 0) {
        members.push(("Damaged", format!("{} blocks or files, beyond repair", json::text(status, "data_errors"))));
    }
    let mut rows = Vec::new();
    let mut last_role = "data".to_owned();
    for vdev in json::items(status, "vdevs") {
        let role = json::text(vdev, "role");
        if role != last_role {
            rows.push(vec![role.clone()]);
            last_role = role;
        }
        vdev_rows(vdev, usize::from(last_role != "data"), &mut rows);
    }
    let columns = [Text("VDEV"), Text("STATUS"), Number("READ"), Number("WRITE"), Number("CKSUM"), Text("NOTE")];
    format!("{}\n\n{}", table::detail(members), table::list(&columns, rows, "Its disks are not known."))
}

fn vdev_rows(vdev: &Value, depth: usize, rows: &mut Vec<Vec<String>>) {
    let text = |member| json::text(vdev, member);
    let note = vdev["message"].as_str().unwrap_or_default().to_owned();
    // No-break spaces, since a table may strip others.
    let name = format!("{}{}", "\u{a0}\u{a0}".repeat(depth), text("name"));
    rows.push(vec![name, text("status"), text("read_errors"), text("write_errors"), text("checksum_errors"), note]);
    for child in json::items(vdev, "children") {
        vdev_rows(child, depth + 1, rows);
    }
}

fn scan_text(scan: &Value) -> String {
    let text = |member| json::text(scan, member);
    if scan.is_null() {
        return "none so far".to_owned();
    }
    if scan["state"] == "scanning" {
        let left = time_left(scan).map(|left| format!(", {left}")).unwrap_or_default();
        return format!(
            "{} is running, {} %{left}, {} errors so far",
            text("function"),
            text("percent"),
            text("errors")
        );
    }
    let end = human::time_of(scan, "time_ended");
    format!("{} {} at {end}, {} errors", text("function"), text("state"), text("errors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, status: &str) -> Value {
        json!({ "name": name, "type": "disk", "role": "data", "status": status, "read_errors": "0",
            "write_errors": "3", "checksum_errors": "0", "message": null, "children": [] })
    }

    fn status() -> Value {
        let mut group = disk("raidz1-0", "DEGRADED");
        group["type"] = "raidz".into();
        let mut replacing = disk("replacing-1", "DEGRADED");
        replacing["type"] = "replacing".into();
        replacing["children"] = json!([disk("sdc", "REMOVED"), disk("sdd", "ONLINE")]);
        group["children"] = json!([disk("sdb", "ONLINE"), replacing]);
        let mut log = disk("nvme0n1", "ONLINE");
        log["role"] = "log".into();
        json!({ "id": "1", "name": "demo1", "status": "DEGRADED", "message": "one is gone", "advice": null,
            "data_errors": "0", "vdevs": [group, log],
            "scan": { "function": "resilver", "state": "scanning", "percent": "45", "seconds_left": "7500",
                "errors": "0", "time_ended": null } })
    }

    #[test]
    fn the_tree_is_indented() {
        let text = status_text(&status()).replace('\u{a0}', " ");
        let expected = "\
Pool:     demo1 (id 1)
Status:   DEGRADED
Message:  one is gone
Scan:     resilver is running, 45 %, 2 h 5 min left, 0 errors so far

VDEV           STATUS    READ  WRITE  CKSUM  NOTE
raidz1-0       DEGRADED     0      3      0
  sdb          ONLINE       0      3      0
  replacing-1  DEGRADED     0      3      0
    sdc        REMOVED      0      3      0
    sdd        ONLINE       0      3      0
log
  nvme0n1      ONLINE       0      3      0";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_replacement_is_seen_deep_in_the_tree() {
        assert!(is_replacing(&status()));
        assert!(!is_replacing(&json!({ "vdevs": [disk("sdb", "ONLINE")] })));
    }

    #[test]
    fn a_scan_that_is_over_tells_its_end() {
        let scan = json!({ "function": "scrub", "state": "finished", "errors": "2", "time_ended": null });
        assert_eq!(scan_text(&scan), "scrub finished at -, 2 errors");
        assert_eq!(scan_text(&Value::Null), "none so far");
    }
}
