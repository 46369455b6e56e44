//! `vsnap snapshot diff`: what changed since a snapshot.

use serde_json::{Value, json};

use super::{
    Session,
    client::Client,
    failure::Result,
    human, json,
    progress::Progress,
    snapshot::Diff,
    table::{self, Column::Text},
    which::{self, Found, Volume},
};

/// Shows what changed between a snapshot and a later one, or now.
pub(super) fn show(session: &Session, diff: &Diff) -> Result {
    let client = &session.client;
    let from = diff.one.find(client)?;
    let to = match &diff.to {
        Some(key) => which::find_snapshot_of(client, &volume_of(client, &from)?, key)?.id,
        None => "now".to_owned(),
    };
    let difference = {
        let _progress = Progress::spinner("Comparing");
        client.find(&format!("{}/diff", from.path()), &[("to", &to)])?
    };
    session.output.show(&difference, text)
}

/// The volume that has the snapshot.
fn volume_of(client: &Client, snapshot: &Found) -> Result<Found> {
    let snapshot = client.get(&snapshot.path())?;
    Ok(Found::new::<Volume>(&json!({ "id": snapshot["parent_id"], "name": snapshot["parent_name"] })))
}

fn text(difference: &Value) -> String {
    let written = format!("{} written.", human::size_of(difference, "size_written"));
    if difference["changes"].is_null() {
        return written;
    }
    let rows = json::items(difference, "changes").iter().map(|change| {
        let path = match change["new_path"].as_str() {
            Some(new) => format!("{} -> {new}", json::text(change, "path")),
            None => json::text(change, "path"),
        };
        vec![json::text(change, "change"), json::text(change, "file_type"), path]
    });
    let list = table::list(&[Text("CHANGE"), Text("TYPE"), Text("PATH")], rows, "No path has changed.");
    format!("{list}\n{written}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_for_people() {
        let changes = json!([
            { "change": "added", "file_type": "F", "path": "a/b", "new_path": null },
            { "change": "renamed", "file_type": "/", "path": "old", "new_path": "new" },
        ]);
        let shown = text(&json!({ "size_written": "2048", "changes": changes, "total": 2 }));
        assert!(shown.contains("old -> new") && shown.ends_with("2.0 KiB written."), "{shown}");
        assert!(!text(&json!({ "size_written": "0", "changes": null, "total": 0 })).contains("CHANGE"));
    }
}
