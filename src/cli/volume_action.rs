//! `vsnap volume`: the commands that change something.

use serde_json::json;

use super::{
    Session,
    client::action,
    failure::{Failure, Result},
    human, json, operation,
    progress::Progress,
    snapshot::Of,
    volume::{Create, NewSize, Rollback, Type, Update},
    volume_show::volume_text,
    which::{self, Found, Host, Noun, Pool, Share, Volume, Which},
};

pub(super) fn create(session: &Session, create: &Create) -> Result {
    let client = &session.client;
    let mut body = json!({ "name": create.name, "volume_type": create.volume_type.word() });
    // What does not belong to the type is sent all the same: the appliance says what is wrong with it.
    match &create.pool {
        Some(pool) => body["pool_id"] = json!(which::find::<Pool>(client, pool)?.id),
        None if create.volume_type != Type::FileBackedLun => body["pool_id"] = json!(Pool::unnamed(client)?.id),
        None => {}
    }
    if let Some(parent) = &create.parent {
        body["parent_id"] = json!(which::find::<Volume>(client, parent)?.id);
    }
    if let Some(path) = &create.path {
        body["parent_path"] = json!(path);
    }
    for (name, size) in [("size_total", create.size), ("size_block", create.block_size)] {
        if let Some(bytes) = size {
            body[name] = json!(bytes.to_string());
        }
    }
    for (name, on) in create.options.members() {
        body[name] = json!(on);
    }
    let progress = Progress::spinner(format!("Making volume {}", create.name));
    let volume = client.post("/api/volume", &body)?;
    drop(progress);
    session.output.show(&volume, volume_text)
}

pub(super) fn clone(session: &Session, name: &str, snapshot: &str, of: &Of) -> Result {
    let snapshot = of.find(&session.client, snapshot)?;
    let progress = Progress::spinner(format!("Cloning snapshot {}", snapshot.name));
    let volume = session.client.post("/api/volume", &json!({ "name": name, "snapshot_id": snapshot.id }))?;
    drop(progress);
    session.output.show(&volume, volume_text)
}

pub(super) fn update(session: &Session, update: &Update) -> Result {
    let mut body = json!({});
    if let Some(name) = &update.new_name {
        body["name"] = json!(name);
    }
    match update.size {
        Some(NewSize(Some(bytes))) => body["size_total"] = json!(bytes.to_string()),
        Some(NewSize(None)) => body["size_total"] = json!("none"),
        None => {}
    }
    for (name, on) in update.options.members() {
        body[name] = json!(on);
    }
    if body == json!({}) {
        return Err(Failure::local(
            "nothing to change: give --new-name, --size or options; see `vsnap volume update --help`",
        ));
    }
    let found = update.which.find(&session.client)?;
    let volume = session.client.put(&found.path(), &body)?;
    session.output.show(&volume, volume_text)
}

pub(super) fn rollback(session: &Session, rollback: &Rollback) -> Result {
    let client = &session.client;
    let found = rollback.which.find(client)?;
    let snapshot = which::find_snapshot_of(client, &found, &rollback.snapshot)?;
    let discarded: Vec<_> = rollback
        .discard_snapshots
        .iter()
        .map(|key| which::find_snapshot_of(client, &found, key))
        .collect::<Result<_>>()?;
    let clones: Vec<_> =
        rollback.discard_clones.iter().map(|key| which::find::<Volume>(client, key)).collect::<Result<_>>()?;
    let shares: Vec<_> =
        rollback.discard_shares.iter().map(|key| which::find::<Share>(client, key)).collect::<Result<_>>()?;
    let hosts: Vec<_> =
        rollback.discard_hosts.iter().map(|key| which::find::<Host>(client, key)).collect::<Result<_>>()?;
    let mut consequence = format!("What was written to volume {} since snapshot {} is lost", found.name, snapshot.name);
    for (what, found) in [("snapshots", &discarded), ("clones", &clones), ("shares", &shares), ("hosts", &hosts)] {
        if !found.is_empty() {
            consequence.push_str(&format!("; {what} that go with it: {}", names(found)));
        }
    }
    session.prompt.confirm(&format!("{consequence}."))?;
    let mut body = action("rollback");
    body["snapshot_id"] = json!(snapshot.id);
    body["discard_snapshots"] = json!(ids(&discarded));
    body["discard_clones"] = json!(ids(&clones));
    if !shares.is_empty() {
        body["discard_shares"] = json!(ids(&shares));
    }
    body["discard_hosts"] = json!(ids(&hosts));
    let doing = format!("Rolling volume {} back", found.name);
    operation::follow(client, &subject(&found), &doing, || client.post(&found.path(), &body))?;
    session.output.show(&client.get(&found.path())?, |_| {
        format!("Volume {} is as it was when snapshot {} was made.", found.name, snapshot.name)
    })
}

pub(super) fn promote(session: &Session, which: &Which<Volume>) -> Result {
    let found = which.find(&session.client)?;
    let progress = Progress::spinner(format!("Promoting volume {}", found.name));
    let volume = session.client.post(&found.path(), &action("promote"))?;
    drop(progress);
    session.output.show(&volume, volume_text)
}

pub(super) fn delete(session: &Session, which: &Which<Volume>, force: bool) -> Result {
    let client = &session.client;
    let found = which.find(client)?;
    let snapshots = client.find(&format!("{}/snapshot", found.path()), &[("limit", "0")])?;
    let with = match json::number(&snapshots, "total").and_then(|total| usize::try_from(total).ok()) {
        None | Some(0) => String::new(),
        Some(total) => format!(" and its {}", human::count(total, "snapshot")),
    };
    session.prompt.confirm(&format!("Volume {}{with} will be gone for good.", found.name))?;
    let query: &[_] = if force { &[("force", "true")] } else { &[] };
    let doing = format!("Deleting volume {}", found.name);
    let answer = operation::follow(client, &subject(&found), &doing, || client.delete(&found.path(), query))?;
    session.output.show(&answer, |_| format!("Deleted: volume {}{with}.", found.name))
}

/// What the journal calls a volume.
fn subject(volume: &Found) -> String {
    format!("volume {}", volume.id)
}

fn names(found: &[Found]) -> String {
    found.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn ids(found: &[Found]) -> Vec<&str> {
    found.iter().map(|it| it.id.as_str()).collect()
}
