//! `vsnap pool`: the commands that change something.

use serde_json::{Value, json};

use super::{
    Session,
    client::action,
    disk::Disks,
    failure::{Failure, Result},
    json,
    pool::{Create, DisksOrAll, Replace, Update, WithDisk, WithDisks},
    pool_show::pool_text,
    pool_status,
    progress::Progress,
    which::{Found, Pool, Which},
};

pub(super) fn create(session: &Session, create: &Create) -> Result {
    let mut body = json!({ "name": create.name, "pool_type": create.pool_type.word() });
    body["disk_list"] = disk_list(session, &create.disks)?;
    for (name, on) in create.options.members() {
        body[name] = json!(on);
    }
    let progress = Progress::spinner(format!("Making pool {}", create.name));
    let pool = session.client.post("/api/pool", &body)?;
    drop(progress);
    session.output.show(&json::pool(pool), pool_text)
}

pub(super) fn update(session: &Session, update: &Update) -> Result {
    let mut body = json!({});
    if let Some(name) = &update.new_name {
        body["name"] = json!(name);
    }
    for (name, on) in update.options.members() {
        body[name] = json!(on);
    }
    if body == json!({}) {
        return Err(Failure::local("nothing to change: give --new-name or options; see `vsnap pool update --help`"));
    }
    let found = update.which.find(&session.client)?;
    let pool = session.client.put(&found.path(), &body)?;
    session.output.show(&json::pool(pool), pool_text)
}

pub(super) fn expand(session: &Session, which: &Which<Pool>, disks: &DisksOrAll) -> Result {
    let found = which.find(&session.client)?;
    let mut body = action("expand");
    body["disk_list"] = disk_list(session, disks)?;
    act(session, &found, &body, format!("Expanding pool {}", found.name), None)
}

pub(super) fn add(session: &Session, with: &WithDisks, verb: &str) -> Result {
    let found = with.which.find(&session.client)?;
    let mut body = action(verb);
    body["disk_list"] = json!(Disks::load(&session.client)?.all_present(&with.disks)?);
    act(session, &found, &body, format!("Adding to pool {}", found.name), None)
}

pub(super) fn remove_all(session: &Session, which: &Which<Pool>, verb: &str, what: &str) -> Result {
    let found = which.find(&session.client)?;
    session.prompt.confirm(&format!("All {what} are removed from pool {}.", found.name))?;
    act(session, &found, &action(verb), format!("Removing {what} from pool {}", found.name), None)
}

pub(super) fn remove_spares(session: &Session, with: &WithDisks) -> Result {
    let found = with.which.find(&session.client)?;
    let disks = Disks::load(&session.client)?;
    let uuids: Vec<_> = with.disks.iter().map(|disk| disks.perhaps_gone(disk)).collect::<Result<_>>()?;
    session.prompt.confirm(&format!("{} will no longer be spares of pool {}.", with.disks.join(", "), found.name))?;
    let mut body = action("removespare");
    body["disk_list"] = json!(uuids);
    act(session, &found, &body, format!("Removing spares from pool {}", found.name), None)
}

pub(super) fn scrub(session: &Session, which: &Which<Pool>, wait: bool) -> Result {
    let found = which.find(&session.client)?;
    let pool = session.client.post(&found.path(), &action("scrub"))?;
    if wait {
        return pool_status::wait_for_scrub(session, &found);
    }
    let text = format!("Scrub of pool {} has begun; `vsnap pool status` tells how far it is.", found.name);
    session.output.show(&json::pool(pool), |_| text)
}

pub(super) fn stop_scrub(session: &Session, which: &Which<Pool>) -> Result {
    let found = which.find(&session.client)?;
    let text = format!("Scrub of pool {} is stopped.", found.name);
    act(session, &found, &action("scrubstop"), "Stopping the scrub".to_owned(), Some(text))
}

pub(super) fn replace(session: &Session, replace: &Replace) -> Result {
    let found = replace.which.find(&session.client)?;
    let disks = Disks::load(&session.client)?;
    let mut body = action("replace");
    body["old_disk"] = json!(disks.perhaps_gone(&replace.old)?);
    body["new_disk"] = json!(disks.present(&replace.new)?);
    let progress = Progress::spinner("Putting the new disk in");
    let pool = session.client.post(&found.path(), &body)?;
    drop(progress);
    if replace.wait {
        return pool_status::wait_for_rebuild(session, &found);
    }
    let text = format!("{} is being rebuilt; `vsnap pool status` tells how far it is.", replace.new);
    session.output.show(&json::pool(pool), |_| text)
}

pub(super) fn online(session: &Session, with: &WithDisk) -> Result {
    let found = with.which.find(&session.client)?;
    let mut body = action("online");
    body["disk"] = json!(Disks::load(&session.client)?.perhaps_gone(with.disk())?);
    let text = format!("{} is in use again; what it missed is being rebuilt.", with.disk());
    act(session, &found, &body, "Taking the disk into use".to_owned(), Some(text))
}

pub(super) fn offline(session: &Session, with: &WithDisk) -> Result {
    let found = with.which.find(&session.client)?;
    let mut body = action("offline");
    body["disk"] = json!(Disks::load(&session.client)?.perhaps_gone(with.disk())?);
    session.prompt.confirm(&format!(
        "{} is taken out of use: pool {} has less redundancy until it is online again or replaced.",
        with.disk(),
        found.name
    ))?;
    act(session, &found, &body, "Taking the disk out of use".to_owned(), Some(format!("{} is offline.", with.disk())))
}

pub(super) fn clear(session: &Session, which: &Which<Pool>) -> Result {
    let found = which.find(&session.client)?;
    let text = format!("Error counters of pool {} are reset.", found.name);
    act(session, &found, &action("clear"), "Resetting".to_owned(), Some(text))
}

pub(super) fn delete(session: &Session, which: &Which<Pool>, force: bool) -> Result {
    if !which.is_given() {
        return Err(Failure::local("say which pool to delete: `vsnap pool delete POOL`"));
    }
    let found = which.find(&session.client)?;
    let forced = if force {
        " So will its replication relationships (what is on partners stays), and snapshots in it that are held and \
         datasets that the appliance did not make. If its disks are absent, it is only forgotten, and they keep what is \
         on them."
    } else {
        ""
    };
    session.prompt.confirm(&format!(
        "Pool {} and everything in it (volumes, snapshots, shares) will be gone for good.{forced}",
        found.name
    ))?;
    let progress = Progress::spinner(format!("Deleting pool {}", found.name));
    let query: &[_] = if force { &[("force", "true")] } else { &[] };
    let answer = session.client.delete(&found.path(), query)?;
    drop(progress);
    session.output.show(&answer, |_| format!("Pool {} is deleted.", found.name))
}

/// Sends an action, with a spinner, and shows the pool, or `text` to people.
fn act(session: &Session, found: &Found, body: &Value, doing: String, text: Option<String>) -> Result {
    let progress = Progress::spinner(doing);
    let pool = session.client.post(&found.path(), body)?;
    drop(progress);
    session.output.show(&json::pool(pool), |pool| text.unwrap_or_else(|| pool_text(pool)))
}

/// The member `disk_list`: empty means all unused disks.
fn disk_list(session: &Session, disks: &DisksOrAll) -> Result<Value> {
    if disks.are_all() {
        return Ok(json!([]));
    }
    Ok(json!(Disks::load(&session.client)?.all_present(&disks.disks)?))
}
