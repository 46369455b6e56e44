//! `vsnap relationship`: volumes and their replicas.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Session,
    client::Client,
    failure::{Failure, Result},
    human, json, operation, partner,
    progress::Progress,
    table::{self, Column::*},
    which::{self, Part, Partner, Volume},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap relationship create data --partner backup2.example.com
  vsnap relationship create data --partner backup2.example.com --remote-pool 1 --remote-name data_copy
  vsnap relationship create data --partner backup1.example.com --remote-name data --reuse
                                        the way back after a failover, without sending everything again
  vsnap relationship list               all, here as primary or as replica
  vsnap relationship show data
  vsnap relationship delete data --preserve-replica --noprompt
                                        the replica becomes an ordinary volume: that is the failover

VOLUME is an id or a name, PARTNER an id or an address. RELATIONSHIP is its id, or its volume here by id or name, when \
that has only one. Data is sent with `vsnap session start`.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a replica of a volume on a partner, or take one that is there
    Create(Create),
    /// Show all relationships, or some, or one in full
    #[command(visible_alias = "list")]
    Show(Show),
    /// End a relationship, on both sides; the replica is deleted unless it is to be preserved
    Delete {
        /// The relationship, by id or by its volume
        #[arg(value_name = "RELATIONSHIP")]
        key: String,
        /// Leave the replica, as an ordinary volume
        #[arg(long, alias = "preserve_replica")]
        preserve_replica: bool,
        /// Also when the partner cannot be reached; there everything stays
        #[arg(long)]
        force: bool,
    },
}

/// A new relationship.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The volume, by id or name
    volume: String,
    /// Who gets the replica, by id or address
    #[arg(long, alias = "partner_id", alias = "partner-id")]
    partner: String,
    /// In which of its pools, by id; it chooses when it is not given
    #[arg(long, value_name = "ID", alias = "remote_pool_id", alias = "remote-pool-id")]
    remote_pool: Option<u64>,
    /// Name of the replica; that of the volume, with a suffix where it is taken, when it is not given
    #[arg(long, value_name = "NAME", alias = "remote_vol_name", alias = "remote-vol-name")]
    remote_name: Option<String>,
    /// Take the volume of that name that the partner has already
    #[arg(long)]
    reuse: bool,
}

/// Which relationships to show.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// One relationship, by id or by its volume
    #[arg(value_name = "RELATIONSHIP", group = "Which")]
    key: Option<String>,
    /// Only those of this volume, by id or name
    #[arg(long, conflicts_with = "Which")]
    volume: Option<String>,
    /// Only those with this partner, by id or address
    #[arg(long, conflicts_with = "Which")]
    partner: Option<String>,
    #[command(flatten)]
    part: Part,
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Create(create) => create.run(session),
            Verb::Show(show) => show.run(session),
            Verb::Delete { key, preserve_replica, force } => delete(session, &key, preserve_replica, force),
        }
    }
}

impl Create {
    fn run(&self, session: &Session) -> Result {
        let client = &session.client;
        let volume = which::find::<Volume>(client, &self.volume)?;
        let partner = which::find::<Partner>(client, &self.partner)?;
        let mut body = json!({ "partner_id": partner.id, "reuse": self.reuse });
        if let Some(pool) = self.remote_pool {
            body["remote_pool_id"] = json!(pool.to_string());
        }
        if let Some(name) = &self.remote_name {
            body["remote_vol_name"] = json!(name);
        }
        let progress = Progress::spinner(format!("Making a replica of volume {} on {}", volume.name, partner.name));
        let made = client.post(&format!("{}/relationship", volume.path()), &body)?;
        drop(progress);
        session.output.show(&made, relationship_text)
    }
}

impl Show {
    fn run(&self, session: &Session) -> Result {
        let client = &session.client;
        if let Some(key) = &self.key {
            return session.output.show(&find(client, key)?, relationship_text);
        }
        let mut query: Vec<_> = self.part.parameters().collect();
        if let Some(volume) = &self.volume {
            query.push(("local_vol_id", which::find::<Volume>(client, volume)?.id));
        }
        if let Some(partner) = &self.partner {
            query.push(("partner_id", which::find::<Partner>(client, partner)?.id));
        }
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let list = client.find("/api/relationship", &query)?;
        session.output.show(&list, |list| relationships_text(list, &partner::addresses(client)))
    }
}

/// The relationship with this id, or else the only one of the volume with this id or name.
pub(super) fn find(client: &Client, key: &str) -> Result<Value> {
    if which::is_hex_id(key) {
        match client.get(&format!("/api/relationship/{key}")) {
            Err(failure) if failure.is_not_found() => {}
            answer => return answer,
        }
    }
    let volume = match which::find::<Volume>(client, key) {
        Err(Failure::Outcome(_)) => {
            let message =
                format!("there is no relationship {key} and no volume of that name; see `vsnap relationship list`");
            return Err(Failure::Outcome(message));
        }
        found => found?,
    };
    let list = client.get(&format!("{}/relationship", volume.path()))?;
    match json::items(&list, "relationships") {
        [one] => Ok(one.clone()),
        [] => Err(Failure::Outcome(format!(
            "volume {} has no relationship; `vsnap relationship create` makes one",
            volume.name
        ))),
        several => {
            let text = |it: &Value| format!("{} (partner {})", json::text(it, "id"), json::text(it, "partner_id"));
            let ids: Vec<_> = several.iter().map(text).collect();
            Err(Failure::local(format!(
                "volume {} has several relationships, say which one by its id: {}",
                volume.name,
                ids.join(", ")
            )))
        }
    }
}

fn delete(session: &Session, key: &str, preserve_replica: bool, force: bool) -> Result {
    let client = &session.client;
    let found = find(client, key)?;
    let (id, name) = (json::text(&found, "id"), json::text(&found, "local_vol_name"));
    let replica = match found["local_role"].as_str() {
        Some("replica") => format!("volume {name} here"),
        _ => {
            format!("volume {} on partner {}", json::text(&found, "remote_vol_name"), json::text(&found, "partner_id"))
        }
    };
    let consequence = match (preserve_replica, force) {
        (true, _) => "stays as an ordinary volume",
        (false, false) => "goes for good, with its snapshots",
        (false, true) => "goes for good, with its snapshots, unless the other side cannot be reached",
    };
    session
        .prompt
        .confirm(&format!("The relationship of volume {name} ends. Its replica, {replica}, {consequence}."))?;
    let given = [("preserve_replica", preserve_replica), ("force", force)];
    let query: Vec<_> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| (name, "true")).collect();
    let (subject, doing) = (format!("relationship {id}"), format!("Ending the relationship of volume {name}"));
    let path = format!("/api/relationship/{id}");
    let answer = operation::follow(client, &subject, &doing, || client.delete(&path, &query))?;
    session.output.show(&answer, |_| format!("Deleted: relationship {id}. Its replica, {replica}, {consequence}."))
}

/// Several relationships, for people, who know partners by their addresses.
fn relationships_text(list: &Value, addresses: &[(String, String)]) -> String {
    let row = |it: &Value| {
        let text = |member| json::text(it, member);
        let partner = text("partner_id");
        let address = addresses.iter().find(|(id, _)| *id == partner).map(|(_, address)| address.clone());
        vec![
            text("id"),
            text("local_role"),
            text("local_vol_name"),
            address.unwrap_or(partner),
            text("remote_vol_name"),
            text("last_sync_status"),
        ]
    };
    let columns =
        [Text("ID"), Text("ROLE"), Text("VOLUME"), Text("PARTNER"), Text("VOLUME THERE"), Text("LAST SESSION")];
    let found = json::items(list, "relationships");
    let nothing = "There is no such relationship; `vsnap relationship create` makes one.";
    let text = table::list(&columns, found.iter().map(row), nothing);
    format!("{text}{}", human::rest(found.len(), list))
}

/// One relationship in full, for people.
fn relationship_text(it: &Value) -> String {
    let text = |member: &str| json::text(it, member);
    let volume = |name: &str, id: &str, pool: &str| format!("{} (id {}, pool {})", text(name), text(id), text(pool));
    let mut members = vec![
        ("Id", text("id")),
        ("Role here", text("local_role")),
        ("Volume here", volume("local_vol_name", "local_vol_id", "local_pool_id")),
        ("Partner", text("partner_id")),
        ("Volume there", volume("remote_vol_name", "remote_vol_id", "remote_pool_id")),
    ];
    if it["local_role"] == "primary" {
        members.push(("Last session", text("last_sync_status")));
        members.push(("Its snapshot", text("last_attempt_snap_id")));
        members.push(("Last replicated", text("last_success_snap_id")));
    }
    members.push(("Made", human::time_of(it, "time_created")));
    members.push(("Changed", human::time_of(it, "time_updated")));
    table::detail(members)
}
