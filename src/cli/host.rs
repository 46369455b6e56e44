//! `vsnap host`: storage clients and what is mapped to them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Session,
    client::action,
    failure::{Failure, Result},
    human, json, prompt,
    table::{self, Column::*},
    which::{self, Host, Part, Volume, Which},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap host create --name web1 --iqn iqn.1994-05.com.redhat:web1
  vsnap host create --name esx --iqn iqn.1998-01.com.vmware:esx01 --iqn iqn.1998-01.com.vmware:esx02
  vsnap host map web1 --volume disk1    the answer has the LUN number
  vsnap host show                       all hosts
  vsnap host show web1                  one host with its LUNs
  vsnap host update web1 --iqn iqn.1994-05.com.redhat:web1-new
  vsnap host chap set web1 --user web1  asks for the secret
  vsnap host chap clear web1
  vsnap host unmap web1 --volume disk1
  vsnap host delete web1 --noprompt

HOST and everything else that is named is an id or a name. `vsnap target show` has the name of the target to log in to.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a host
    Create {
        /// Its name, up to 256 characters
        #[arg(long)]
        name: String,
        /// An iSCSI initiator of it; may be given several times
        #[arg(long = "iqn", value_name = "IQN", alias = "iqns", value_delimiter = ',')]
        iqns: Vec<String>,
    },
    /// Show all hosts, or one with its LUNs
    Show {
        #[command(flatten)]
        which: Which<Host>,
        #[command(flatten)]
        part: Part,
    },
    /// Change name and initiators of a host
    Update(Update),
    /// Let a host see a lun or filebackedlun
    Map(Mapping),
    /// Take a volume away from a host, which must not use it any longer
    Unmap(Mapping),
    /// Whether a host has to authenticate
    #[command(subcommand, arg_required_else_help = true)]
    Chap(Chap),
    /// Delete a host; what is mapped to it is unmapped
    Delete {
        #[command(flatten)]
        which: Which<Host>,
    },
}

/// Changes.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    which: Which<Host>,
    /// New name
    #[arg(long)]
    new_name: Option<String>,
    /// An initiator that it has from now on; may be given several times and replaces those that it had
    #[arg(long = "iqn", value_name = "IQN", alias = "iqns", value_delimiter = ',', conflicts_with = "no_iqns")]
    iqns: Vec<String>,
    /// Take all its initiators away
    #[arg(long)]
    no_iqns: bool,
}

/// A host and a volume.
#[derive(Debug, Args)]
pub(super) struct Mapping {
    #[command(flatten)]
    which: Which<Host>,
    /// The lun or filebackedlun, by id or name
    #[arg(long, alias = "vol_id", alias = "vol-id")]
    volume: String,
}

/// What to do about CHAP.
#[derive(Debug, Subcommand)]
pub(super) enum Chap {
    /// Make a host authenticate; secrets are asked for, or read from standard input
    Set {
        #[command(flatten)]
        which: Which<Host>,
        /// As whom the host logs in
        #[arg(long)]
        user: String,
        /// As whom the appliance proves itself to the host (mutual CHAP)
        #[arg(long)]
        mutual_user: Option<String>,
        /// Read the secret from the first line of standard input, and the mutual one from the second
        #[arg(long)]
        secret_stdin: bool,
    },
    /// Let the name of an initiator be enough
    Clear {
        #[command(flatten)]
        which: Which<Host>,
    },
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        let (client, output) = (&session.client, session.output);
        match self {
            Verb::Create { name, iqns } => {
                output.show(&client.post("/api/host", &json!({ "name": name, "iqns": iqns }))?, host_text)
            }
            Verb::Show { which, .. } if which.is_given() => session.show(&which.find(client)?.path(), host_text),
            Verb::Show { part, .. } => {
                let mut query: Vec<_> = part.parameters().collect();
                query.push(("detail", "true".to_owned()));
                let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
                output.show(&client.find("/api/host", &query)?, hosts_text)
            }
            Verb::Update(update) => update.run(session),
            Verb::Map(Mapping { which, volume }) => {
                let (host, volume) = (which.find(client)?, which::find::<Volume>(client, &volume)?);
                let mut body = action("map");
                body["vol_id"] = json!(volume.id);
                output.show(&client.post(&host.path(), &body)?, |mapping| {
                    let lun = json::text(mapping, "lun");
                    format!("Volume {} is LUN {lun} of host {}.", volume.name, host.name)
                })
            }
            Verb::Unmap(Mapping { which, volume }) => {
                let (host, volume) = (which.find(client)?, which::find::<Volume>(client, &volume)?);
                let consequence = format!("Host {} loses volume {}, also while it uses it.", host.name, volume.name);
                session.prompt.confirm(&consequence)?;
                let mut body = action("unmap");
                body["vol_id"] = json!(volume.id);
                output.show(&client.post(&host.path(), &body)?, |_| {
                    format!("Host {} no longer sees volume {}.", host.name, volume.name)
                })
            }
            Verb::Chap(chap) => chap.run(session),
            Verb::Delete { which } => {
                let host = which.find(client)?;
                session.prompt.confirm(&format!("Host {} loses access to all its LUNs.", host.name))?;
                output.show(&client.delete(&host.path(), &[])?, |_| format!("Deleted: host {}.", host.name))
            }
        }
    }
}

impl Update {
    fn run(&self, session: &Session) -> Result {
        let mut body = json!({});
        if let Some(name) = &self.new_name {
            body["name"] = json!(name);
        }
        if self.no_iqns || !self.iqns.is_empty() {
            body["iqns"] = json!(self.iqns);
        }
        if body == json!({}) {
            return Err(Failure::local("nothing to change: give --new-name, --iqn or --no-iqns"));
        }
        let host = self.which.find(&session.client)?;
        session.output.show(&session.client.put(&host.path(), &body)?, host_text)
    }
}

impl Chap {
    fn run(self, session: &Session) -> Result {
        let client = &session.client;
        let (host, chap) = match self {
            Chap::Set { which, user, mutual_user, secret_stdin } => {
                let host = which.find(client)?;
                let mut chap = json!({ "user": user });
                chap["secret"] = json!(*secret(session, &user, secret_stdin)?);
                if let Some(mutual) = mutual_user {
                    chap["mutual_secret"] = json!(*secret(session, &mutual, secret_stdin)?);
                    chap["mutual_user"] = json!(mutual);
                }
                (host, chap)
            }
            Chap::Clear { which } => (which.find(client)?, json!("none")),
        };
        session.output.show(&client.put(&host.path(), &json!({ "chap": chap }))?, host_text)
    }
}

/// Never from the command line, which everybody on the machine can read.
fn secret(session: &Session, user: &str, stdin: bool) -> Result<Zeroizing<String>> {
    if stdin {
        return prompt::password_line(std::io::stdin().lock());
    }
    let otherwise = "use --secret-stdin";
    let first = session.prompt.password(&format!("CHAP secret of {user}: "), otherwise)?;
    let second = session.prompt.password("The same again: ", otherwise)?;
    if first == second { Ok(first) } else { Err(Failure::local("the two secrets differ; nothing was changed")) }
}

fn iqns(host: &Value) -> String {
    json::items(host, "iqns").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn chap_text(host: &Value) -> String {
    match (host["chap"]["user"].as_str(), host["chap"]["mutual_user"].as_str()) {
        (Some(user), Some(mutual)) => format!("{user}, and {mutual} of the appliance"),
        (Some(user), None) => user.to_owned(),
        _ => "-".to_owned(),
    }
}

/// Several hosts, for people.
fn hosts_text(list: &Value) -> String {
    let row = |host: &Value| {
        let luns = json::items(host, "mapped_luns").len().to_string();
        vec![json::text(host, "id"), json::text(host, "name"), luns, chap_text(host), iqns(host)]
    };
    let hosts = json::items(list, "hosts");
    let columns = [Number("ID"), Text("NAME"), Number("LUNS"), Text("CHAP"), Text("INITIATORS")];
    let nothing = "There are no hosts; `vsnap host create` makes one.";
    let text = table::list(&columns, hosts.iter().map(row), nothing);
    format!("{text}{}", human::rest(hosts.len(), list))
}

/// One host in full, for people.
fn host_text(host: &Value) -> String {
    let mut members = vec![
        ("Id", json::text(host, "id")),
        ("Name", json::text(host, "name")),
        ("Initiators", iqns(host)),
        ("CHAP", chap_text(host)),
        ("Made", human::time_of(host, "time_created")),
        ("Changed", human::time_of(host, "time_updated")),
    ];
    for lun in json::items(host, "mapped_luns") {
        members.push(("LUN", format!("{}: volume {}", json::text(lun, "lun"), json::text(lun, "vol_id"))));
    }
    table::detail(members)
}
