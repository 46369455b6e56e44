//! `vsnap share`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    Session,
    failure::{Failure, Result},
    human, json,
    table::{self, Column::*},
    which::{self, Part, Share, Volume, Which},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap share create --volume data --type nfs --allow 192.168.1.0/24 backup1.example.com
  vsnap share create --volume data --type nfs --allow all --read-only --snapshots-visible
  vsnap share create --volume docs --type smb
  vsnap share show                      all shares
  vsnap share show 1                    one in full
  vsnap share update 1 --allow 192.168.1.7
  vsnap share update vpool1_fs2 --type nfs --allow all
  vsnap share delete 1 --noprompt       the filesystem stays

SHARE is an id, or what clients call it: /vsnap/vpool1/fs1 or vpool1_fs2. Clients mount an NFS share with
  mount -t nfs -o vers=4.2 APPLIANCE:/vsnap/vpool1/fs1 /mnt
and reach an SMB share as \\\\APPLIANCE\\vpool1_fs2, with user and password of the appliance.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Share a filesystem
    Create(Create),
    /// Show all shares, or some, or one in full
    Show(Show),
    /// Change how a share is reached
    ///
    /// What is not given stays as it is.
    Update(Update),
    /// End a share; the filesystem stays
    Delete {
        #[command(flatten)]
        which: Which<Share>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Type {
    /// By NFS, versions 3 and 4.2
    Nfs,
    /// By SMB, from version 2.1 upwards
    Smb,
}

impl Type {
    fn word(self) -> &'static str {
        match self {
            Type::Nfs => "nfs",
            Type::Smb => "smb",
        }
    }
}

/// A new share.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The filesystem, by id or name
    #[arg(long, alias = "vol_id", alias = "vol-id")]
    volume: String,
    /// How it is reached
    #[arg(long = "type", value_enum, alias = "share_type", alias = "share-type")]
    share_type: Type,
    /// Nobody can write through it
    #[arg(long)]
    read_only: bool,
    /// nfs: who may mount it: host names, addresses, subnets, or "all"; nobody when it is not given
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',', alias = "allowed_hosts",
        alias = "allowed-hosts")]
    allow: Vec<String>,
    /// nfs: snapshots can be entered in .zfs/snapshot
    #[arg(long)]
    snapshots_visible: bool,
}

/// Which shares to show.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    which: Which<Share>,
    /// Only that of this volume, by id or name
    #[arg(long, conflicts_with = "Which")]
    volume: Option<String>,
    /// Only those of this type
    #[arg(long = "type", value_enum, conflicts_with = "Which")]
    share_type: Option<Type>,
    #[command(flatten)]
    part: Part,
}

/// A changed share.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    which: Which<Share>,
    /// Reach it in another way
    #[arg(long = "type", value_enum, alias = "share_type", alias = "share-type")]
    share_type: Option<Type>,
    /// Whether nobody can write through it
    #[arg(long, value_name = "on|off", value_parser = switch)]
    read_only: Option<bool>,
    /// nfs: who may mount it from now on: host names, addresses, subnets, or "all"
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',', alias = "allowed_hosts",
        alias = "allowed-hosts")]
    allow: Vec<String>,
    /// nfs: nobody may mount it
    #[arg(long, conflicts_with = "allow")]
    allow_none: bool,
    /// nfs: whether snapshots can be entered in .zfs/snapshot
    #[arg(long, value_name = "on|off", value_parser = switch)]
    snapshots_visible: Option<bool>,
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("neither on nor off".to_owned()),
    }
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Create(create) => create.run(session),
            Verb::Show(show) => show.run(session),
            Verb::Update(update) => update.run(session),
            Verb::Delete { which } => delete(session, &which),
        }
    }
}

impl Create {
    fn run(&self, session: &Session) -> Result {
        if self.share_type == Type::Smb && (!self.allow.is_empty() || self.snapshots_visible) {
            return Err(Failure::local(
                "--allow and --snapshots-visible are for nfs; users decide who may use an smb share",
            ));
        }
        let volume = which::find::<Volume>(&session.client, &self.volume)?;
        let mut options = json!({ "read_only": self.read_only });
        if self.share_type == Type::Nfs {
            options["allowed_hosts"] = json!(self.allow);
            options["snapshots_visible"] = json!(self.snapshots_visible);
        }
        let body = json!({ "share_type": self.share_type.word(), "share_options": options });
        let share = session.client.post(&format!("{}/share", volume.path()), &body)?;
        session.output.show(&share, share_text)
    }
}

impl Show {
    fn run(&self, session: &Session) -> Result {
        let client = &session.client;
        if self.which.is_given() {
            let found = self.which.find(client)?;
            return session.show(&found.path(), share_text);
        }
        let mut query: Vec<_> = self.part.parameters().collect();
        if let Some(volume) = &self.volume {
            query.push(("vol_id", which::find::<Volume>(client, volume)?.id));
        }
        if let Some(share_type) = self.share_type {
            query.push(("share_type", share_type.word().to_owned()));
        }
        query.push(("detail", "true".to_owned()));
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        session.output.show(&client.find("/api/share", &query)?, shares_text)
    }
}

impl Update {
    fn run(&self, session: &Session) -> Result {
        let client = &session.client;
        let is_given = self.share_type.is_some()
            || self.read_only.is_some()
            || !self.allow.is_empty()
            || self.allow_none
            || self.snapshots_visible.is_some();
        if !is_given {
            return Err(Failure::local("nothing to change; see `vsnap share update --help`"));
        }
        let found = self.which.find(client)?;
        // Options are replaced as a whole, so those that stay are sent again.
        let mut body = json!({ "share_options": client.get(&found.path())?["share_options"] });
        let options = &mut body["share_options"];
        if let Some(read_only) = self.read_only {
            options["read_only"] = json!(read_only);
        }
        if self.allow_none || !self.allow.is_empty() {
            options["allowed_hosts"] = json!(self.allow);
        }
        if let Some(visible) = self.snapshots_visible {
            options["snapshots_visible"] = json!(visible);
        }
        if let Some(share_type) = self.share_type {
            body["share_type"] = json!(share_type.word());
        }
        let share = client.put(&found.path(), &body)?;
        session.output.show(&share, share_text)
    }
}

fn delete(session: &Session, which: &Which<Share>) -> Result {
    let found = which.find(&session.client)?;
    session.prompt.confirm(&format!("Clients of share {} will be cut off; the filesystem stays.", found.name))?;
    let answer = session.client.delete(&found.path(), &[])?;
    session.output.show(&answer, |_| format!("Deleted: share {}.", found.name))
}

/// Who may use a share, for people.
fn allowed(share: &Value) -> String {
    let options = &share["share_options"];
    match options["allowed_hosts"].as_array() {
        None => "users of the appliance".to_owned(),
        Some(hosts) if hosts.is_empty() => "nobody".to_owned(),
        Some(_) => json::text(options, "allowed_hosts"),
    }
}

fn access(share: &Value) -> String {
    if share["share_options"]["read_only"] == true { "read" } else { "read, write" }.to_owned()
}

fn shares_text(list: &Value) -> String {
    let row = |share: &Value| {
        let text = |member| json::text(share, member);
        vec![text("id"), text("share_type"), text("name"), text("vol_id"), access(share), allowed(share)]
    };
    let columns = [Number("ID"), Text("TYPE"), Text("NAME"), Number("VOLUME"), Text("ACCESS"), Text("FOR")];
    let shares = json::items(list, "shares");
    let text = table::list(&columns, shares.iter().map(row), "There is no such share; `vsnap share create` makes one.");
    format!("{text}{}", human::rest(shares.len(), list))
}

/// One share in full, for people.
fn share_text(share: &Value) -> String {
    let text = |member| json::text(share, member);
    let mut members = vec![
        ("Id", text("id")),
        ("Name", text("name")),
        ("Type", text("share_type")),
        ("Volume", text("vol_id")),
        ("Access", access(share)),
        ("For", allowed(share)),
    ];
    if let Some(visible) = share["share_options"]["snapshots_visible"].as_bool() {
        members.push(("Snapshots", if visible { "in .zfs/snapshot" } else { "not shown" }.to_owned()));
    }
    members.push(("Made", human::time_of(share, "time_created")));
    members.push(("Changed", human::time_of(share, "time_updated")));
    table::detail(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(subcommand)]
        _verb: Verb,
    }

    #[test]
    fn what_is_missing_or_contradicts_is_refused() {
        use clap::Parser;
        for line in [
            "create --volume data",
            "create --type nfs",
            "create --volume data --type ftp",
            "update 3 --read-only maybe",
            "update 3 --allow a --allow-none",
        ] {
            assert!(Line::try_parse_from(std::iter::once("share").chain(line.split(' '))).is_err(), "{line}");
        }
    }

    #[test]
    fn shares_for_people() {
        let nfs = json!({ "id": "1", "name": "/vsnap/vpool1/fs1", "vol_id": "1", "share_type": "nfs",
            "share_options": { "read_only": true, "allowed_hosts": ["10.0.0.0/8", "h"], "snapshots_visible": true },
            "time_created": "1497365131", "time_updated": "1497365131" });
        let smb = json!({ "id": "2", "name": "vpool1_fs2", "vol_id": "2", "share_type": "smb",
            "share_options": { "read_only": false }, "time_created": "1497365131", "time_updated": "1497365131" });
        let text = shares_text(&json!({ "shares": [nfs, smb], "total": 2 }));
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "1 nfs /vsnap/vpool1/fs1 1 read 10.0.0.0/8, h");
        assert_eq!(lines[2], "2 smb vpool1_fs2 2 read, write users of the appliance");
        assert!(share_text(&nfs).contains("Snapshots:  in .zfs/snapshot"));
        assert!(shares_text(&json!({ "shares": [], "total": 0 })).contains("vsnap share create"));
    }
}
