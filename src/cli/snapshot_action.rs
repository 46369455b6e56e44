//! `vsnap snapshot`: the commands that change something.

use serde_json::{Value, json};

use super::{
    Session,
    client::action,
    failure::{Failure, Result},
    human,
    progress::Progress,
    snapshot::{Create, Of, One, Until, Update, WithReason},
    snapshot_show::{snapshot_text, snapshots_text},
    which::{self, Volume},
};

pub(super) fn create(session: &Session, create: &Create) -> Result {
    let client = &session.client;
    let volumes: Vec<_> = create.volumes.iter().map(|key| which::find::<Volume>(client, key)).collect::<Result<_>>()?;
    let mut body = json!({});
    if let Some(name) = &create.name {
        body["name"] = json!(name);
    }
    if let Some(time) = create.expires {
        body["expires_at"] = json!(time.to_string());
    }
    if create.lock {
        body["locked"] = json!(true);
    }
    let _progress = Progress::spinner(format!("Making {}", human::count(volumes.len(), "snapshot")));
    if let [volume] = &volumes[..] {
        let snapshot = client.post(&format!("{}/snapshot", volume.path()), &body)?;
        return session.output.show(&snapshot, snapshot_text);
    }
    body["vol_ids"] = volumes.iter().map(|volume| json!(volume.id)).collect();
    session.output.show(&client.post("/api/snapshot", &body)?, snapshots_text)
}

pub(super) fn update(session: &Session, update: &Update) -> Result {
    let mut body = json!({});
    match update.expires {
        Some(Until(Some(time))) => body["expires_at"] = json!(time.to_string()),
        Some(Until(None)) => body["expires_at"] = json!("none"),
        None => {}
    }
    if update.lock {
        body["locked"] = json!(true);
    }
    if body == json!({}) {
        return Err(Failure::local("nothing to change: give --expires or --lock; see `vsnap snapshot update --help`"));
    }
    let found = update.one.find(&session.client)?;
    session.output.show(&session.client.put(&found.path(), &body)?, snapshot_text)
}

pub(super) fn hold(session: &Session, with: &WithReason) -> Result {
    session.output.show(&act(session, &with.one, "hold", &with.reason)?, snapshot_text)
}

pub(super) fn release(session: &Session, with: &WithReason) -> Result {
    session.output.show(&act(session, &with.one, "release", &with.reason)?, snapshot_text)
}

fn act(session: &Session, one: &One, verb: &str, reason: &str) -> Result<Value> {
    let found = one.find(&session.client)?;
    let mut body = action(verb);
    body["reason"] = json!(reason);
    session.client.post(&found.path(), &body)
}

/// One after the other; the first one that is refused ends it, and the message tells how many are gone.
pub(super) fn delete(session: &Session, keys: &[String], of: &Of) -> Result {
    let client = &session.client;
    let found: Vec<_> = keys.iter().map(|key| of.find(client, key)).collect::<Result<_>>()?;
    let names: Vec<_> = found.iter().map(|snapshot| snapshot.name.as_str()).collect();
    let what = format!("{} ({})", human::count(found.len(), "snapshot"), names.join(", "));
    session.prompt.confirm(&format!("{what} will be gone for good."))?;
    let progress = Progress::spinner(format!("Deleting {}", human::count(found.len(), "snapshot")));
    for (at, snapshot) in found.iter().enumerate() {
        if let Err(failure) = client.delete(&snapshot.path(), &[]) {
            return Err(failure.after(&format!("{at} of {} snapshots are deleted, then", found.len())));
        }
    }
    drop(progress);
    session.output.show(&json!({}), |_| format!("Deleted: {what}."))
}
