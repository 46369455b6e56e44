//! `vsnap snapshot show`: snapshots in a list, one in full.

use serde_json::Value;

use super::{
    Session,
    failure::Result,
    human, json,
    snapshot::Show,
    table::{self, Column::*},
};

/// Shows the snapshot that is named, or all, or some.
pub(super) fn show(session: &Session, show: &Show) -> Result {
    let client = &session.client;
    if let Some(key) = &show.key {
        let found = show.of.find(client, key)?;
        return session.show(&found.path(), snapshot_text);
    }
    let path = match show.of.volume(client)? {
        Some(volume) => format!("{}/snapshot", volume.path()),
        None => "/api/snapshot".to_owned(),
    };
    let mut query: Vec<_> = show.part.parameters().collect();
    // Scripts get what is known of each, and people the name of its volume, which the short list does not have.
    query.push(("detail", "true".to_owned()));
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    session.output.show(&client.find(&path, &query)?, snapshots_text)
}

/// Several snapshots, for people.
pub(super) fn snapshots_text(list: &Value) -> String {
    let row = |snapshot: &Value| {
        let text = |member| json::text(snapshot, member);
        let yes = |member: &str| if snapshot[member] == true { "yes" } else { "-" }.to_owned();
        vec![
            text("id"),
            text("name"),
            text("parent_name"),
            human::time_of(snapshot, "time_created"),
            human::time_of(snapshot, "expires_at"),
            yes("locked"),
            yes("has_clones"),
        ]
    };
    let columns =
        [Number("ID"), Text("NAME"), Text("VOLUME"), Text("MADE"), Text("EXPIRES"), Text("LOCKED"), Text("CLONES")];
    let snapshots = json::items(list, "snapshots");
    let nothing = "There is no such snapshot; `vsnap snapshot create VOLUME` makes one.";
    let text = table::list(&columns, snapshots.iter().map(row), nothing);
    format!("{text}{}", human::rest(snapshots.len(), list))
}

/// One snapshot in full, for people.
pub(super) fn snapshot_text(snapshot: &Value) -> String {
    let text = |member| json::text(snapshot, member);
    let lock = if snapshot["locked"] == true { ", locked until then" } else { "" };
    let hold = |hold: &Value| {
        let since = human::time_of(hold, "time_created");
        format!("{} ({}, {since})", json::text(hold, "reason"), json::text(hold, "user"))
    };
    let holds: Vec<_> = json::items(snapshot, "holds").iter().map(hold).collect();
    table::detail([
        ("Id", text("id")),
        ("Name", text("name")),
        ("Volume", format!("{} (id {})", text("parent_name"), text("parent_id"))),
        ("Pool", format!("{} (id {})", text("pool_name"), text("pool_id"))),
        ("Only in it", human::size_of(snapshot, "size_used")),
        ("Has clones", if snapshot["has_clones"] == true { "yes" } else { "no" }.to_owned()),
        ("Version", text("version_id")),
        ("Expires", format!("{}{lock}", human::time_of(snapshot, "expires_at"))),
        ("Held for", if holds.is_empty() { "-".to_owned() } else { holds.join("\n") }),
        ("Made", human::time_of(snapshot, "time_created")),
        ("Changed", human::time_of(snapshot, "time_updated")),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nightly() -> Value {
        json!({
            "id": "12", "name": "nightly", "parent_id": "7", "parent_name": "data", "pool_id": "1", "pool_name": "demo1",
            "has_clones": false, "size_used": "35856", "version_id": "6021379531292140614",
            "time_created": "1497365131", "time_updated": "1497365131", "expires_at": "1797365131", "locked": true,
            "holds": [
                { "reason": "legal case 5", "user": "backup", "time_created": "1497365131" },
                { "reason": "audit", "user": "root", "time_created": "1497365131" },
            ],
        })
    }

    #[test]
    fn a_snapshot_in_a_list() {
        let text = snapshots_text(&json!({ "snapshots": [nightly()], "total": 1 }));
        let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["ID", "NAME", "VOLUME", "MADE", "EXPIRES", "LOCKED", "CLONES"]);
        assert_eq!((words[1][..3].to_vec(), words[1][7..].to_vec()), (vec!["12", "nightly", "data"], vec!["yes", "-"]));
        assert_eq!(words.len(), 2);
        assert!(snapshots_text(&json!({ "snapshots": [], "total": 0 })).contains("vsnap snapshot create"));
    }

    #[test]
    fn a_snapshot_in_full() {
        let text = snapshot_text(&nightly());
        for part in ["data (id 7)", "35.0 KiB", ", locked until then", "legal case 5 (backup, ", "audit (root, "] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }
}
