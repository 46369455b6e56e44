//! The command line: see [`vsnap::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vsnap::cli::main()
}
