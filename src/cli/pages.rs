//! Shell completions and man pages, made from the definition of the command line. Packages are built with them.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{
    Cli,
    failure::{Failure, Result},
    output::print,
};

pub(super) const COMPLETION_EXAMPLES: &str = "\
Examples:
  vsnap completions bash > /usr/share/bash-completion/completions/vsnap
  vsnap completions zsh > ~/.zfunc/_vsnap

The Debian package brings those of bash, zsh and fish.";

/// `vsnap completions`
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn print(&self) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "vsnap", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

/// `vsnap man`
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Folder for vsnap.1, vsnap-pool.1, ...; it is made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

impl Man {
    pub(super) fn write(&self) -> Result {
        let written =
            std::fs::create_dir_all(&self.dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &self.dir));
        written.map_err(|error| Failure::local(format!("cannot write to {}: {error}", self.dir.display())))
    }
}
