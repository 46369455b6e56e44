//! What users wait for, measured beside what they would otherwise use: in the same virtual appliance, in the same run,
//! in turns. Started by `make bench` (tests/vm/bench), which runs this program as root in the appliance; the results go
//! back as JSON, of which tables, plots and `docs/performance.md` are made. It judges nothing and fails for nothing but a
//! thing that could not be measured.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod appliance;
mod growth;
mod http;
mod idle;
mod luns;
mod measure;
mod replication;
mod report;
mod snapshots;
mod trace;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::measure::Results;

/// Measures an appliance, and shows what was measured.
#[derive(Parser)]
#[command(name = "appliance")]
struct Arguments {
    /// Given by cargo; without meaning here
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Measures in the appliance that this runs in, as root. Its pools, hosts and partners must be of no use to anybody
    Run {
        /// Where the results go; what is there of other works stays
        #[arg(long)]
        output: PathBuf,
        /// Rounds of what is short; long works take at least ten all the same, or fewer when this is less
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Works whose name begins with this, several times; all without it
        #[arg(long)]
        only: Vec<String>,
        /// Adds the rounds to those that were measured before, so that a long work can be measured in several runs
        #[arg(long)]
        add: bool,
        /// MiB of a full replication
        #[arg(long, default_value_t = 2048)]
        replication_mib: u64,
    },
    /// Measures the server of the API alone, on this machine, with a storage system that is only in memory
    Native {
        #[arg(long)]
        output: PathBuf,
    },
    /// Prints the results as a table
    Table { results: PathBuf },
    /// Puts the results into a document, in the place of all that follows the line that says so
    Report { results: PathBuf, document: PathBuf },
    /// Draws how cost grows, as SVG files in a folder
    Plot { results: PathBuf, folder: PathBuf },
}

fn main() {
    match Arguments::parse().action {
        Some(Action::Run { output, rounds, only, add, replication_mib }) => {
            let mut results = Results::open(output);
            results.add_rounds = add;
            run(results, rounds, &only, replication_mib);
        }
        Some(Action::Native { output }) => {
            let mut results = Results::open(output);
            idle::native(&mut results);
            http::native(&mut results);
            growth::native(&mut results);
        }
        Some(Action::Table { results }) => print!("{}", report::table(&Results::open(results))),
        Some(Action::Report { results, document }) => report::write(&Results::open(results), &document),
        Some(Action::Plot { results, folder }) => report::plot(&Results::open(results), &folder),
        // `cargo bench` alone: there is nothing that can be measured without an appliance.
        None => eprintln!("run `make bench`: this needs a virtual appliance"),
    }
}

type Work<'a> = &'a dyn Fn(&mut Results);

fn run(mut results: Results, rounds: usize, only: &[String], replication_mib: u64) {
    results.describe_machine();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|prefix| name.starts_with(prefix.as_str()));
    let works: [(&str, Work<'_>); 15] = [
        ("snapshot", &|results| snapshots::one(results, rounds)),
        ("group", &|results| snapshots::group(results, rounds)),
        ("clone", &|results| snapshots::clones(results, rounds)),
        ("volume", &|results| snapshots::volume(results, rounds)),
        ("delete", &|results| snapshots::deletion(results, rounds.min(10))),
        ("http", &|results| http::appliance(results, rounds.min(10))),
        ("login", &|results| http::login(results, rounds)),
        ("map", &|results| luns::map(results, rounds.min(10))),
        ("restore", &|results| luns::restore(results, rounds.min(10))),
        ("trace", &trace::run),
        // It leaves 1,000 volumes and 20,000 snapshots to those after it.
        ("lists", &|results| {
            idle::run(results, idle::EMPTY);
            snapshots::lists(results, rounds.min(10));
            idle::run(results, idle::LARGE);
            growth::appliance(results);
        }),
        ("replication-incremental", &|results| replication::incremental(results, rounds.min(10))),
        ("replication-at-once", &replication::at_once),
        ("replication-incompressible", &|results| {
            replication::full(results, rounds.min(10), replication_mib, false);
        }),
        ("replication-compressible", &|results| replication::full(results, rounds.min(10), replication_mib, true)),
    ];
    for (name, work) in works.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("== {name}");
        work(&mut results);
    }
    print!("{}", report::table(&results));
}
