//! `vsnap operation`, and following what the appliance does: a bar while a request runs, and waiting for what goes on
//! after it.

use std::{
    io::{self, IsTerminal},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Session,
    client::Client,
    failure::{Failure, Result},
    human, json,
    progress::Progress,
    table::{self, Column::*},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap operation show                  the youngest 100
  vsnap operation show --running        what the appliance is doing, and how far it is
  vsnap operation show --subject \"volume 7\" --limit 1
                                        what was last done to volume 7
  vsnap --json operation show           the same for scripts

Each change of the appliance is an operation: it is written down before it begins, and goes on after a crash or a \
restart. Old ones are forgotten.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show operations, the youngest first
    Show(Show),
}

/// Which operations to show.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Only those that have not ended
    #[arg(long)]
    running: bool,
    /// Only those on this object, by its id: "volume 7", "pool 1", "system"
    #[arg(long)]
    subject: Option<String>,
    /// At most this many, from 1 to 1000; 100 when it is not given
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        let Verb::Show(show) = self;
        let limit = show.limit.map(|limit| limit.to_string());
        let parameters = [
            ("subject", show.subject.as_deref()),
            ("state", show.running.then_some("running")),
            ("limit", limit.as_deref()),
        ];
        let query: Vec<_> = parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        session.output.show(&session.client.find("/api/operation", &query)?, operations_text)
    }
}

fn operations_text(list: &Value) -> String {
    let row = |it: &Value| {
        let text = |member| json::text(it, member);
        vec![
            text("id"),
            text("verb").replace('_', " "),
            text("subject"),
            text("user"),
            text("state"),
            json::number(it, "percent").map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
            human::time_of(it, "time_started"),
            human::time_of(it, "time_ended"),
            text("message"),
        ]
    };
    let columns = [
        Number("ID"),
        Text("OPERATION"),
        Text("OBJECT"),
        Text("USER"),
        Text("STATE"),
        Number("DONE"),
        Text("STARTED"),
        Text("ENDED"),
        Text("MESSAGE"),
    ];
    table::list(&columns, json::items(list, "operations").iter().map(row), "There is no such operation.")
}

/// How often the appliance is asked how far it is.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends a change that can take long, and waits for its end, also when the appliance's time for a request is over.
/// On a terminal a bar shows how far the operation on `subject` (`volume 7`) is.
pub(super) fn follow(
    client: &Client,
    subject: &str,
    doing: &str,
    request: impl FnOnce() -> Result<Value> + Send,
) -> Result<Value> {
    let answer = if io::stderr().is_terminal() { with_bar(client, subject, doing, request) } else { request() };
    match answer {
        Err(failure) if failure.goes_on() => wait(client, subject, doing),
        answer => answer,
    }
}

/// The request on a thread of its own, since this one draws.
fn with_bar(
    client: &Client,
    subject: &str,
    doing: &str,
    request: impl FnOnce() -> Result<Value> + Send,
) -> Result<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        // Nobody is left to hear the answer only when this function has ended.
        scope.spawn(move || drop(sender.send(request())));
        let progress = Progress::bar(doing);
        loop {
            match receiver.recv_timeout(PAUSE) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::local("the request broke off; look whether it was carried out"));
                }
                // How far it is may remain unknown; the answer counts.
                Err(RecvTimeoutError::Timeout) => {
                    if let Ok(Some(operation)) = latest(client, subject) {
                        draw(&progress, &operation);
                    }
                }
            }
        }
    })
}

/// Waits for the end of the operation that goes on in the background.
fn wait(client: &Client, subject: &str, doing: &str) -> Result<Value> {
    let progress = Progress::bar(doing);
    loop {
        let Some(operation) = latest(client, subject)? else {
            return Err(Failure::Outcome(format!("what became of it is not known; look for {subject}")));
        };
        match operation["state"].as_str() {
            Some("running") => draw(&progress, &operation),
            Some("done") => return Ok(json!({})),
            _ => return Err(Failure::Outcome(json::text(&operation, "message"))),
        }
        thread::sleep(PAUSE);
    }
}

/// The youngest operation on `subject`.
fn latest(client: &Client, subject: &str) -> Result<Option<Value>> {
    let list = client.find("/api/operation", &[("subject", subject), ("limit", "1")])?;
    Ok(json::items(&list, "operations").first().cloned())
}

fn draw(progress: &Progress, operation: &Value) {
    if operation["state"] == "running" {
        let percent = json::number(operation, "percent").and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
        progress.set(percent, operation["message"].as_str().unwrap_or_default().to_owned());
    }
}
