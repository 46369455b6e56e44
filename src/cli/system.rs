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
    table::{self, Column::*},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  vsnap system init                     set up, and make pool \"primary\" (raid0) of all unused disks
  vsnap system init --skip-pool         set up without a pool; make one with `vsnap pool create`
  vsnap system show                     name, state and versions
  vsnap --json system stats             memory used by ZFS, for scripts
  vsnap system report                   does the catalog agree with ZFS?
  vsnap system rebuild-catalog          bring the catalog back from the pools after it was lost";

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
    /// Compare the catalog with ZFS and show what differs
    Report,
    /// Bring the catalog back from the pools, after its database was lost
    ///
    /// Only for an appliance that has not been initialised anew: imports its pools, and brings back shares, and ids, names,
    /// clones, holds, locks and times of all that is in them. Replicas become ordinary volumes.
    ///
    /// What was in the database alone does not come back: hosts and their mappings, partners, relationships, sessions and
    /// preferences of replication, and services of network interfaces. An interface that was closed to a service offers it
    /// again, until `vsnap network update` closes it, which may be done before.
    #[command(alias = "rebuild_catalog")]
    RebuildCatalog {
        /// Whose catalog, when there are pools of several appliances
        #[arg(long, value_name = "ID")]
        system_id: Option<String>,
    },
}

impl Verb {
    pub(super) fn run(self, session: &Session) -> Result {
        match self {
            Verb::Init { skip_pool, multipool, asynchronous } => init(session, skip_pool, multipool, asynchronous),
            Verb::Show => session.show("/api/system", system_text),
            Verb::Stats => {
                let statistics = json::statistics(&session.client.get("/api/system/stats")?);
                session.output.show(&statistics, statistics_text)
            }
            Verb::Report => session.output.show(&session.client.get("/api/system/report")?, report_text),
            Verb::RebuildCatalog { system_id } => {
                let _progress = Progress::spinner("Reading the pools");
                let rebuilt = session.client.post("/api/system/rebuild", &json!({ "system_id": system_id }))?;
                session.output.show(&rebuilt, rebuilt_text)
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

fn report_text(report: &Value) -> String {
    let findings = json::items(report, "findings").iter().map(|finding| {
        let text = |member| json::text(finding, member);
        vec![text("kind").replace('_', " "), text("subject"), human::size_of(finding, "size_used"), text("message")]
    });
    let columns = [Text("KIND"), Text("OBJECT"), Number("SIZE"), Text("WHAT")];
    table::list(&columns, findings, "The catalog and ZFS agree.")
}

fn rebuilt_text(rebuilt: &Value) -> String {
    let count = |member: &str, what: &str| human::count(rebuilt[member].as_u64().unwrap_or(0) as usize, what);
    let mut lines = vec![format!(
        "Brought back {}, {}, {} and {}.",
        count("pools", "pool"),
        count("volumes", "volume"),
        count("snapshots", "snapshot"),
        count("shares", "share")
    )];
    lines.extend(
        json::items(rebuilt, "skipped").iter().map(|skipped| format!("Left out: {}", skipped.as_str().unwrap_or("?"))),
    );
    lines.join("\n")
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
