//! The command line `vsnap`. It talks to the daemon over HTTP only, like any other client: over the Unix socket when
//! root calls it on the appliance, over HTTPS from elsewhere.
//!
//! | what | where |
//! |---|---|
//! | the options and commands of a noun, and what they send | `<resource>.rs` |
//! | sockets, TLS, credentials, the error envelope | [`client`] |
//! | which object a command means, by id or name | `which` |
//! | why a command failed, and its exit code | [`failure`] |
//! | what `--json` prints | [`json`] |
//! | tables, sizes and dates for people, and from them | [`table`], [`human`], [`input`] |
//! | questions and passwords | [`prompt`] |
//! | spinner and bar; following a long operation, or a session | [`progress`], `operation`, `session_watch` |
//! | man pages and shell completions | [`pages`] |

pub mod client;
mod disk;
pub mod failure;
mod host;
pub mod human;
pub mod input;
pub mod json;
mod network;
mod operation;
pub mod output;
pub mod pages;
mod partner;
mod pool;
mod pool_action;
mod pool_show;
mod pool_status;
pub mod progress;
pub mod prompt;
mod relationship;
mod session;
mod session_watch;
mod share;
mod snapshot;
mod snapshot_action;
mod snapshot_diff;
mod snapshot_show;
mod system;
pub mod table;
mod target;
mod user;
mod volume;
mod volume_action;
mod volume_show;
mod which;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use client::{Client, Connection};
use failure::Result;
use output::Output;
use prompt::Prompt;

const ABOUT: &str = "Drive a vSnap appliance: pools, volumes, snapshots, shares, luns, replication.";

const EXAMPLES: &str = "\
Examples:
  sudo vsnap system init                    first set-up, with a pool of all unused disks
  sudo vsnap user create backup             an account for backup software
  sudo vsnap pool show                      all pools
  sudo vsnap --json pool show               the same for scripts, with every detail
  vsnap --host appliance1 --user backup system show

As root on the appliance no password is needed: commands go through a Unix socket. From elsewhere, give \
--host and --user; the password is asked for, or taken from the environment variable VSNAP_PASSWORD.

Exit codes: 0 done; 1 the appliance refused or failed; 2 it could not be asked (wrong usage, no connection).";

/// All that stands on the command line.
#[derive(Debug, Parser)]
#[command(name = "vsnap", version, about = ABOUT, after_help = EXAMPLES,
    disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Print JSON on standard output, and nothing else there
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,

    /// Never ask: go on where a question would be asked
    #[arg(long, global = true, help_heading = "Global options")]
    noprompt: bool,

    #[command(flatten)]
    connection: Connection,

    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// The appliance itself: set it up, show it
    #[command(subcommand, arg_required_else_help = true, after_help = system::EXAMPLES)]
    System(system::Verb),
    /// Accounts that may use the API
    #[command(subcommand, arg_required_else_help = true, after_help = user::EXAMPLES)]
    User(user::Verb),
    /// Disks of the appliance
    #[command(subcommand, arg_required_else_help = true, after_help = disk::EXAMPLES)]
    Disk(disk::Verb),
    /// Storage pools
    #[command(subcommand, arg_required_else_help = true, after_help = pool::EXAMPLES)]
    Pool(pool::Verb),
    /// Filesystems, luns and file-backed luns, and clones
    #[command(subcommand, arg_required_else_help = true, after_help = volume::EXAMPLES)]
    Volume(volume::Verb),
    /// Snapshots of volumes
    #[command(subcommand, arg_required_else_help = true, after_help = snapshot::EXAMPLES)]
    Snapshot(snapshot::Verb),
    /// Filesystems that clients reach over NFS or SMB
    #[command(subcommand, arg_required_else_help = true, after_help = share::EXAMPLES)]
    Share(share::Verb),
    /// Network interfaces
    #[command(subcommand, arg_required_else_help = true, after_help = network::EXAMPLES)]
    Network(network::Verb),
    /// Storage clients and the luns mapped to them
    #[command(subcommand, arg_required_else_help = true, after_help = host::EXAMPLES)]
    Host(host::Verb),
    /// iSCSI target ports
    #[command(subcommand, arg_required_else_help = true, after_help = target::EXAMPLES)]
    Target(target::Verb),
    /// Other appliances that volumes are replicated to and from
    #[command(subcommand, arg_required_else_help = true, after_help = partner::EXAMPLES)]
    Partner(partner::Verb),
    /// Volumes and their replicas on partners
    #[command(subcommand, arg_required_else_help = true, after_help = relationship::EXAMPLES)]
    Relationship(relationship::Verb),
    /// Snapshots on their way to a replica
    #[command(subcommand, arg_required_else_help = true, after_help = session::EXAMPLES)]
    Session(session::Verb),
    /// What the appliance is doing and has done
    #[command(subcommand, arg_required_else_help = true, after_help = operation::EXAMPLES)]
    Operation(operation::Verb),
    /// Print a completion script for a shell
    #[command(after_help = pages::COMPLETION_EXAMPLES)]
    Completions(pages::Completions),
    /// Write the man pages into a folder
    Man(pages::Man),
}

/// What every command works with.
pub(crate) struct Session {
    /// The appliance.
    pub client: Client,
    /// Standard output.
    pub output: Output,
    /// The person, if there is one.
    pub prompt: Prompt,
}

impl Session {
    /// Prints what is at `path`, as it is or as what `text` makes of it.
    fn show(&self, path: &str, text: impl FnOnce(&serde_json::Value) -> String) -> Result {
        self.output.show(&self.client.get(path)?, text)
    }
}

/// Reads the command line, carries it out, and says with which code to exit.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vsnap: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result {
    let noun = match cli.noun {
        Noun::Completions(completions) => return completions.print(),
        Noun::Man(man) => return man.write(),
        noun => noun,
    };
    if let Err(message) = cli.connection.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let prompt = Prompt::new(cli.noprompt);
    let client = Client::new(&cli.connection, &prompt)?;
    let session = Session { client, output: Output::new(cli.json), prompt };
    match noun {
        Noun::System(verb) => verb.run(&session),
        Noun::User(verb) => verb.run(&session),
        Noun::Disk(verb) => verb.run(&session),
        Noun::Pool(verb) => verb.run(&session),
        Noun::Volume(verb) => verb.run(&session),
        Noun::Snapshot(verb) => verb.run(&session),
        Noun::Share(verb) => verb.run(&session),
        Noun::Network(verb) => verb.run(&session),
        Noun::Host(verb) => verb.run(&session),
        Noun::Target(verb) => verb.run(&session),
        Noun::Partner(verb) => verb.run(&session),
        Noun::Relationship(verb) => verb.run(&session),
        Noun::Session(verb) => verb.run(&session),
        Noun::Operation(verb) => verb.run(&session),
        Noun::Completions(_) | Noun::Man(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_noun_has_examples_in_its_help() {
        for noun in Cli::command().get_subcommands().filter(|noun| noun.has_subcommands()) {
            let examples = noun.get_after_help().map(ToString::to_string).unwrap_or_default();
            let call = format!("vsnap {} ", noun.get_name());
            assert!(examples.starts_with("Examples:\n") && examples.contains(&call), "{}", noun.get_name());
        }
    }
}
