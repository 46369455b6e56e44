//! `vsnap partner`: other appliances, and the preferences of replication.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Session,
    client::Client,
    failure::{Failure, Result},
    human,
    input::{self, Rate},
    json,
    progress::Progress,
    prompt,
    table::{self, Column::*},
    which::{self, Part, Partner},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap partner add backup2.example.com --remote-user admin
                                        asks for that user's password there
  vsnap partner add 192.168.7.2 --remote-user admin --password-stdin < file
  vsnap partner add 10.1.0.7 --remote-user admin --remote-fingerprint AB:01:...
  vsnap partner list                    all partners
  vsnap partner show backup2.example.com
  vsnap partner update backup2.example.com --rate-limit 50M
  vsnap partner preferences             what holds for all replication
  vsnap partner preferences --rate-limit 100M --parallel-sessions 3
  vsnap partner remove backup2.example.com --noprompt

PARTNER is an id or an address. The password of the other appliance is used once and kept nowhere; from elsewhere than \
the terminal it comes with --password-stdin, or in the environment variable VSNAP_REMOTE_PASSWORD. Adding a partner \
again renews its addresses and keys. Rates are bytes a second with binary units: 50M are 50 x 1024 x 1024.";

/// The environment variable that may hold the password of the other appliance.
const PASSWORD_VARIABLE: &str = "VSNAP_REMOTE_PASSWORD";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Become partners with another appliance, on both sides
    #[command(visible_alias = "create")]
    Add(Add),
    /// Show all partners, or one in full
    #[command(visible_alias = "list")]
    Show {
        /// One partner, by id or address
        #[arg(value_name = "PARTNER", group = "Which")]
        key: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// Change where a partner is reached, or how fast data is sent to it
    Update(Update),
    /// Show or change what holds for all partners and sessions
    Preferences(Preferences),
    /// End a partnership, on both sides
    #[command(visible_alias = "delete")]
    Remove {
        /// The partner, by id or address
        #[arg(value_name = "PARTNER")]
        key: String,
        /// Also when it cannot be reached; there it stays
        #[arg(long)]
        force: bool,
    },
}

/// Another appliance.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Its management address: a host name or an IP address
    #[arg(value_name = "REMOTE_ADDR")]
    address: String,
    /// A user of that appliance
    #[arg(long, value_name = "NAME", alias = "remote_user")]
    remote_user: String,
    /// SHA-256 of its certificate, which is checked before it is told anything; on that appliance: `openssl x509 -noout
    /// -fingerprint -sha256 -in /var/lib/vsnap/tls/self-signed.crt`
    #[arg(long, value_name = "HEX", alias = "remote_fingerprint")]
    remote_fingerprint: Option<String>,
    /// Read that user's password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    /// Port of its API; 8900 when it is not given
    #[arg(long, value_name = "PORT", alias = "remote-api-port", alias = "remote_api_port")]
    remote_port: Option<u16>,
    /// Port of its SSH server; 22 when it is not given
    #[arg(long, value_name = "PORT", alias = "remote_ssh_port")]
    remote_ssh_port: Option<u16>,
    /// Where it reaches this appliance; found out when it is not given
    #[arg(long, value_name = "ADDRESS", alias = "local_addr")]
    local_addr: Option<String>,
    /// Port of this appliance's API, as the other one reaches it
    #[arg(long, value_name = "PORT", alias = "local-api-port", alias = "local_api_port")]
    local_port: Option<u16>,
    /// Port of this appliance's SSH server; 22 when it is not given
    #[arg(long, value_name = "PORT", alias = "local_ssh_port")]
    local_ssh_port: Option<u16>,
}

/// A changed partner.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// The partner, by id or address
    #[arg(value_name = "PARTNER")]
    key: String,
    /// New management address
    #[arg(long)]
    address: Option<String>,
    /// New port of its API
    #[arg(long, alias = "api-port", alias = "api_port")]
    port: Option<u16>,
    /// New port of its SSH server
    #[arg(long, value_name = "PORT", alias = "ssh_port")]
    ssh_port: Option<u16>,
    /// Most bytes a second that are sent to it, as in 50M, or "none"
    #[arg(long, value_name = "RATE|none", value_parser = input::rate, alias = "rate_limit")]
    rate_limit: Option<Rate>,
}

/// What holds for all replication.
#[derive(Debug, Args)]
pub(super) struct Preferences {
    /// Most bytes a second that are sent in all, as in 50M, or "none"
    #[arg(long, value_name = "RATE|none", value_parser = input::rate, alias = "rate_limit")]
    rate_limit: Option<Rate>,
    /// Most sessions that are at work at a time
    #[arg(long, value_name = "NUMBER", alias = "parallel_sessions")]
    parallel_sessions: Option<u64>,
    /// How many sessions that are over are kept
    #[arg(long, value_name = "NUMBER", alias = "session_history")]
    session_history: Option<u64>,
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Add(add) => add.run(session),
            Verb::Show { key: Some(key), .. } => {
                session.show(&which::find::<Partner>(&session.client, &key)?.path(), partner_text)
            }
            Verb::Show { key: None, part } => {
                let query: Vec<_> = part.parameters().collect();
                let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
                session.output.show(&session.client.find("/api/partner", &query)?, partners_text)
            }
            Verb::Update(update) => update.run(session),
            Verb::Preferences(preferences) => preferences.run(session),
            Verb::Remove { key, force } => remove(session, &key, force),
        }
    }
}

impl Add {
    fn run(&self, session: &Session) -> Result {
        let mut body = json!({ "remote_addr": self.address, "remote_user": self.remote_user });
        if let Some(fingerprint) = &self.remote_fingerprint {
            body["remote_fingerprint"] = json!(fingerprint);
        }
        if let Some(address) = &self.local_addr {
            body["local_addr"] = json!(address);
        }
        let ports = [
            ("remote_api_port", self.remote_port),
            ("remote_ssh_port", self.remote_ssh_port),
            ("local_api_port", self.local_port),
            ("local_ssh_port", self.local_ssh_port),
        ];
        add_numbers(&mut body, ports.map(|(name, port)| (name, port.map(u64::from))));
        body["remote_pass"] = json!(*self.password(session)?);
        let progress = Progress::spinner(format!("Becoming partners with {}", self.address));
        let partner = session.client.post("/api/partner", &body)?;
        drop(progress);
        session.output.show(&partner, partner_text)
    }

    /// Never from the command line, which everybody on the machine can read.
    fn password(&self, session: &Session) -> Result<Zeroizing<String>> {
        if self.password_stdin {
            return prompt::password_line(std::io::stdin().lock());
        }
        match std::env::var(PASSWORD_VARIABLE) {
            Ok(password) => Ok(password.into()),
            Err(_) => session.prompt.password(
                &format!("Password of {} on {}: ", self.remote_user, self.address),
                &format!("use --password-stdin, or set the environment variable {PASSWORD_VARIABLE}"),
            ),
        }
    }
}

impl Update {
    fn run(&self, session: &Session) -> Result {
        let mut body = json!({});
        if let Some(address) = &self.address {
            body["address"] = json!(address);
        }
        add_numbers(
            &mut body,
            [("api_port", self.port), ("ssh_port", self.ssh_port)].map(|(n, it)| (n, it.map(u64::from))),
        );
        if let Some(rate) = self.rate_limit {
            body["rate_limit"] = json!(rate.parameter());
        }
        if body == json!({}) {
            return Err(Failure::local("nothing to change: give --address, --port, --ssh-port or --rate-limit"));
        }
        let found = which::find::<Partner>(&session.client, &self.key)?;
        session.output.show(&session.client.put(&found.path(), &body)?, partner_text)
    }
}

impl Preferences {
    fn run(&self, session: &Session) -> Result {
        const PATH: &str = "/api/system/replication";
        let mut body = json!({});
        add_numbers(
            &mut body,
            [("parallel_sessions", self.parallel_sessions), ("session_history", self.session_history)],
        );
        if let Some(rate) = self.rate_limit {
            body["rate_limit"] = json!(rate.parameter());
        }
        if body == json!({}) {
            return session.show(PATH, preferences_text);
        }
        session.output.show(&session.client.put(PATH, &body)?, preferences_text)
    }
}

fn remove(session: &Session, key: &str, force: bool) -> Result {
    let client = &session.client;
    let found = which::find::<Partner>(client, key)?;
    let consequence = match force {
        true => "Here it is removed even when it cannot be reached; then it keeps its side.",
        false => "Nothing can be replicated to it or from it until it is added again.",
    };
    session.prompt.confirm(&format!("Partner {} is removed, on both sides. {consequence}", found.name))?;
    let query: &[_] = if force { &[("force", "true")] } else { &[] };
    let progress = Progress::spinner(format!("Parting with {}", found.name));
    let answer = client.delete(&found.path(), query)?;
    drop(progress);
    session.output.show(&answer, |_| format!("Removed: partner {}.", found.name))
}

/// Those that are given, as the API has numbers.
fn add_numbers<const N: usize>(body: &mut Value, numbers: [(&str, Option<u64>); N]) {
    for (name, number) in numbers {
        if let Some(number) = number {
            body[name] = json!(number.to_string());
        }
    }
}

/// Addresses by the partners' ids, for people; what is not known is left out.
pub(super) fn addresses(client: &Client) -> Vec<(String, String)> {
    let list = client.get("/api/partner").unwrap_or_default();
    let pair = |partner: &Value| (json::text(partner, "id"), json::text(partner, "address"));
    json::items(&list, "partners").iter().map(pair).collect()
}

fn rate_text(value: &Value) -> String {
    json::number(value, "rate_limit").map_or_else(|| "none".to_owned(), |bytes| format!("{}/s", human::size(bytes)))
}

/// Several partners, for people.
fn partners_text(list: &Value) -> String {
    let row = |partner: &Value| {
        let text = |member| json::text(partner, member);
        vec![text("id"), text("address"), text("api_port"), text("ssh_port"), rate_text(partner)]
    };
    let columns = [Text("ID"), Text("ADDRESS"), Number("API PORT"), Number("SSH PORT"), Number("LIMIT")];
    let partners = json::items(list, "partners");
    let text = table::list(&columns, partners.iter().map(row), "There are no partners; `vsnap partner add` makes one.");
    format!("{text}{}", human::rest(partners.len(), list))
}

/// One partner in full, for people.
fn partner_text(partner: &Value) -> String {
    let text = |member| json::text(partner, member);
    table::detail([
        ("Id", text("id")),
        ("Address", text("address")),
        ("API port", text("api_port")),
        ("SSH port", text("ssh_port")),
        ("Limit", rate_text(partner)),
        ("Made", human::time_of(partner, "time_created")),
        ("Changed", human::time_of(partner, "time_updated")),
    ])
}

fn preferences_text(preferences: &Value) -> String {
    table::detail([
        ("Limit", rate_text(preferences)),
        ("Parallel sessions", json::text(preferences, "parallel_sessions")),
        ("Sessions kept", json::text(preferences, "session_history")),
    ])
}
