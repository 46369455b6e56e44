//! `vsnap user`: accounts that may use the API.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Session,
    client::{action, segment},
    failure::Result,
    json, prompt,
    table::{self, Column::*},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap user create backup              a new account; its password is asked for
  vsnap user create backup --password-stdin < file
  vsnap user update backup              a new password
  vsnap user grant alice                let an existing account of the system use the appliance
  vsnap user revoke alice               no longer; the account itself stays

Accounts are changed on the appliance itself, as root. They are accounts of the operating system in group vsnap; \
their password is set for Samba too.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make an account without a shell, in group vsnap
    Create(NewPassword),
    /// Set the password of an account, also for Samba
    #[command(visible_alias = "password")]
    Update(NewPassword),
    /// Let an existing account use the appliance
    Grant {
        /// Login name
        name: String,
    },
    /// No longer let an account use the appliance; it stays in the system
    Revoke {
        /// Login name
        name: String,
    },
    /// Show all accounts, or one
    Show {
        /// Login name
        name: Option<String>,
    },
}

/// An account and where its password comes from.
#[derive(Debug, Args)]
pub(super) struct NewPassword {
    /// Login name: up to 32 of a-z, 0-9, _ and -
    name: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

impl NewPassword {
    fn read(&self, session: &Session) -> Result<Zeroizing<String>> {
        if self.password_stdin {
            prompt::password_line(std::io::stdin().lock())
        } else {
            session.prompt.new_password(&self.name)
        }
    }
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        let path = |name: &str| format!("/api/user/{}", segment(name));
        let (client, output) = (&session.client, session.output);
        match self {
            Verb::Create(new) => {
                let body = json!({ "name": new.name, "password": *new.read(session)? });
                output.show(&client.post("/api/user", &body)?, |_| format!("User {} may use the appliance.", new.name))
            }
            Verb::Update(new) => {
                let body = json!({ "password": *new.read(session)? });
                output.show(&client.put(&path(&new.name), &body)?, |_| format!("Password of {} is set.", new.name))
            }
            Verb::Grant { name } => {
                let user = client.post(&path(&name), &action("grant"))?;
                output.show(&user, |_| {
                    format!("User {name} may use the appliance. SMB needs a password: `vsnap user update {name}`.")
                })
            }
            Verb::Revoke { name } => {
                let answer = client.post(&path(&name), &action("revoke"))?;
                output.show(&answer, |_| format!("User {name} may no longer use the appliance."))
            }
            Verb::Show { name: Some(name) } => session.show(&path(&name), |user| users_text([user])),
            Verb::Show { name: None } => session.show("/api/user", |list| users_text(json::items(list, "users"))),
        }
    }
}

fn users_text<'a>(users: impl IntoIterator<Item = &'a Value>) -> String {
    let row = |user: &Value| ["name", "uid", "gid", "role"].map(|member| json::text(user, member)).to_vec();
    table::list(
        &[Text("NAME"), Number("UID"), Number("GID"), Text("ROLE")],
        users.into_iter().map(row),
        "There are no users yet: make one with `vsnap user create NAME`.",
    )
}
