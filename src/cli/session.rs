//! `vsnap session`: snapshots on their way to a replica.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    Session,
    client::action,
    failure::Result,
    human, json, relationship, session_watch,
    table::{self, Column::*},
    which::{self, Found, Part, Volume},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap session start data              sends a new snapshot of volume data to its replica
  vsnap session start data --watch      shows how far it is, and waits for its end
  vsnap session start data --snapshot monday --remote-name monday_copy
  vsnap session list --status active
  vsnap session list --relationship data --sort=-id --limit 10
  vsnap session show 5
  vsnap session watch 5
  vsnap session cancel 5                what was received is kept; the next one goes on there

RELATIONSHIP is its id, or its volume here by id or name, when that has only one. `start --watch` and `watch` exit with 0 \
when the session is completed and with 1 when it failed; Ctrl-C ends the watching, and the session goes on.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Send a snapshot to the replica
    Start(Start),
    /// Show all sessions, or some, or one in full
    #[command(visible_alias = "list")]
    Show(Show),
    /// Show how far a session is, and wait for its end
    Watch {
        /// The session
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
    /// End a session that waits or is at work
    Cancel {
        /// The session
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Throw away what the partner has received of the snapshot
        #[arg(long)]
        discard: bool,
    },
}

/// A new session.
#[derive(Debug, Args)]
pub(super) struct Start {
    /// The relationship, by id or by its volume
    #[arg(value_name = "RELATIONSHIP")]
    key: String,
    /// What to send: a snapshot of the volume, by id or name; a new one is made when it is not given
    #[arg(long, alias = "snap_id", alias = "snap-id")]
    snapshot: Option<String>,
    /// Name of the snapshot on the replica; the one that it has here when it is not given
    #[arg(long, value_name = "NAME", alias = "remote_snap_name", alias = "remote-snap-name")]
    remote_name: Option<String>,
    /// Show how far it is, and wait for its end
    #[arg(long)]
    watch: bool,
}

/// Which sessions to show.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// One session
    #[arg(group = "Which", value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// Only those of this relationship, by id or by its volume
    #[arg(long, conflicts_with = "Which", alias = "rel_id", alias = "rel-id")]
    relationship: Option<String>,
    /// Only those with this status
    #[arg(long, value_enum, ignore_case = true, conflicts_with = "Which")]
    status: Option<Status>,
    #[command(flatten)]
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Pending,
    Active,
    Completed,
    Failed,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Active => "ACTIVE",
            Status::Completed => "COMPLETED",
            Status::Failed => "FAILED",
        }
    }
}

fn path(id: u64) -> String {
    format!("/api/session/{id}")
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Start(start) => start.run(session),
            Verb::Show(show) => show.run(session),
            Verb::Watch { id } => {
                let found = session.client.get(&path(id))?;
                session_watch::watch(session, found)
            }
            Verb::Cancel { id, discard } => cancel(session, id, discard),
        }
    }
}

impl Start {
    fn run(&self, session: &Session) -> Result {
        let client = &session.client;
        let relationship = relationship::find(client, &self.key)?;
        let mut body = json!({});
        if let Some(snapshot) = &self.snapshot {
            let member = |name| relationship[name].clone();
            let volume = json!({ "id": member("local_vol_id"), "name": member("local_vol_name") });
            let volume = Found::new::<Volume>(&volume);
            body["snap_id"] = json!(which::find_snapshot_of(client, &volume, snapshot)?.id);
        }
        if let Some(name) = &self.remote_name {
            body["remote_snap_name"] = json!(name);
        }
        let path = format!("/api/relationship/{}/session", json::text(&relationship, "id"));
        let started = client.post(&path, &body)?;
        if self.watch { session_watch::watch(session, started) } else { session.output.show(&started, session_text) }
    }
}

impl Show {
    fn run(&self, session: &Session) -> Result {
        let client = &session.client;
        if let Some(id) = self.id {
            return session.show(&path(id), session_text);
        }
        let mut query: Vec<_> = self.part.parameters().collect();
        if let Some(key) = &self.relationship {
            query.push(("rel_id", json::text(&relationship::find(client, key)?, "id")));
        }
        if let Some(status) = self.status {
            query.push(("status", status.word().to_owned()));
        }
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        session.output.show(&client.find("/api/session", &query)?, sessions_text)
    }
}

fn cancel(session: &Session, id: u64, discard: bool) -> Result {
    let mut body = action("cancel");
    if discard {
        session.prompt.confirm(&format!("What the partner has received in session {id} is thrown away."))?;
        body["discard"] = json!(true);
    }
    session.output.show(&session.client.post(&path(id), &body)?, session_text)
}

/// Several sessions, for people.
fn sessions_text(list: &Value) -> String {
    let row = |it: &Value| {
        let text = |member| json::text(it, member);
        vec![
            text("id"),
            text("rel_id"),
            text("local_snap_name"),
            text("status"),
            human::size_of(it, "size_sent"),
            human::time_of(it, "time_queued"),
            text("message"),
        ]
    };
    let columns = [
        Number("ID"),
        Text("RELATIONSHIP"),
        Text("SNAPSHOT"),
        Text("STATUS"),
        Number("SENT"),
        Text("QUEUED"),
        Text("MESSAGE"),
    ];
    let sessions = json::items(list, "sessions");
    let nothing = "There is no such session; `vsnap session start` makes one.";
    let text = table::list(&columns, sessions.iter().map(row), nothing);
    format!("{text}{}", human::rest(sessions.len(), list))
}

/// One session in full, for people.
fn session_text(it: &Value) -> String {
    let text = |member: &str| json::text(it, member);
    let snapshot = |name: &str, id: &str| format!("{} (id {})", text(name), text(id));
    table::detail([
        ("Id", text("id")),
        ("Relationship", text("rel_id")),
        ("Status", text("status")),
        ("Message", text("message")),
        ("Snapshot here", snapshot("local_snap_name", "local_snap_id")),
        ("Snapshot there", snapshot("remote_snap_name", "remote_snap_id")),
        ("Sent", human::size_of(it, "size_sent")),
        ("Sent to", text("repl_address")),
        ("Queued", human::time_of(it, "time_queued")),
        ("Started", human::time_of(it, "time_started")),
        ("Ended", human::time_of(it, "time_ended")),
    ])
}
