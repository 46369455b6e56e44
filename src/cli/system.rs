//! `vsnap system`: the appliance itself.

use std::{thread, time::Duration};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Session,
    client::action,
    disk,
    failure::{Failure, Result},
    human, json,
    progress::Progress,
    table,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap system init                     set up, and make pool \"primary\" (raid0) of all unused disks
  vsnap system init --skip-pool         set up without a pool; make one with `vsnap pool create`
  vsnap system show                     name, state and versions
  vsnap --json system stats             memory used by ZFS, for scripts";

/// How often the state is asked for while init runs.
const PAUSE: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Set the appliance up, once
    ///
    /// Unless --skip-pool is given, all unused disks become a pool named "primary". It is a raid0: as large as the
    /// disks, and lost when one of them fails. For a pool with redundancy use --skip-pool, then `vsnap pool create`.
    Init {
        /// Make no pool
        #[arg(long, alias = "skip_pool")]
        skip_pool: bool,
        /// Allow more than one pool on this appliance
        #[arg(long)]
        multipool: bool,
        /// Return at once; `vsnap system show` tells how far it is
        #[arg(long = "async")]
        asynchronous: bool,
    },
    /// Show name, state and versions
    Show,
    /// Show how much memory ZFS uses for its cache and for deduplication
    Stats,
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Init { skip_pool, multipool, asynchronous } => init(session, skip_pool, multipool, asynchronous),
            Verb::Show => session.output.show(&session.client.get("/api/system")?, system_text),
            Verb::Stats => {
                let statistics = json::statistics(&session.client.get("/api/system/stats")?);
                session.output.show(&statistics, statistics_text)
            }
        }
    }
}

fn init(session: &Session, skip_pool: bool, multipool: bool, asynchronous: bool) -> Result {
    if !skip_pool {
        confirm_pool(session)?;
    }
    // Always asynchronous: how long a pool takes is not known, and a request has a time limit.
    let mut body = action("init");
    body["async"] = json!(true);
    body["multipool"] = json!(multipool);
    body["skip_pool"] = json!(skip_pool);
    let mut system = session.client.post("/api/system", &body)?;
    if !asynchronous {
        let _progress = Progress::spinner("Setting up the appliance");
        while system["init_status"] == "Initializing" {
            thread::sleep(PAUSE);
            system = session.client.get("/api/system")?;
        }
    }
    if system["init_status"] == "Failed" {
        return Err(Failure::Outcome(format!(
            "init failed: {}; mend that, then call `vsnap system init` again",
            json::text(&system, "init_message")
        )));
    }
    session.output.show(&system, system_text)
}

/// Says which disks are taken, and asks. There is nothing to ask when there are none.
fn confirm_pool(session: &Session) -> Result {
    let disks = disk::unused(&session.client)?;
    if disks.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = disks.iter().map(|disk| json::text(disk, "name")).collect();
    session.prompt.confirm(&format!(
        "{} ({}) will become the pool \"primary\", raid0: without redundancy.",
        human::count(disks.len(), "unused disk"),
        names.join(", ")
    ))
}

fn system_text(system: &Value) -> String {
    const MEMBERS: [(&str, &str); 11] = [
        ("Id", "id"),
        ("Host name", "hostname"),
        ("Full name", "fqdn"),
        ("State", "init_status"),
        ("More than one pool", "multipool"),
        ("vSnap", "vsnap_version"),
        ("API", "api_version"),
        ("ZFS", "zfs_version"),
        ("NFS", "nfs_version"),
        ("Samba", "samba_version"),
        ("System", "os_name"),
    ];
    table::detail(MEMBERS.into_iter().map(|(name, member)| {
        let value = match member {
            "multipool" => if system[member] == true { "allowed" } else { "not allowed" }.to_owned(),
            "os_name" => format!("{} {}", json::text(system, member), json::text(system, "os_version")),
            "init_status" => match system["init_message"].as_str() {
                Some(message) => format!("{}: {message}", json::text(system, member)),
                None => json::text(system, member),
            },
            _ => json::text(system, member),
        };
        (name, value)
    }))
}

fn statistics_text(statistics: &Value) -> String {
    const NAMES: [&str; 6] = [
        "Read cache (ARC), most",
        "Read cache (ARC), now",
        "Dedup tables in memory",
        "Dedup tables on disk",
        "Metadata in the ARC, most",
        "Metadata in the ARC, now",
    ];
    let members = NAMES.into_iter().zip(json::STATISTICS);
    table::detail(members.map(|(name, member)| (name, human::size_of(statistics, member))))
}
