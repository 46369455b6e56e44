//! What a partner's SSH connection runs: it hands the connection to the daemon and waits until the daemon is done with
//! it. It is also the login shell of the link account, so that nothing else can be run there: sshd calls it as
//! `vsnap-link -c "/usr/lib/vsnap/vsnap-link <partner id>"`, with the command of the key that logged in.

use std::{os::fd::AsRawFd, path::Path, process::ExitCode};

use vsnap::{os::link_socket, types::SystemId};

fn main() -> ExitCode {
    let Some(command) = std::env::args().next_back() else { return refuse("no command") };
    let id = command.split_ascii_whitespace().next_back().unwrap_or_default();
    let Ok(partner) = id.parse::<SystemId>() else {
        return refuse("this account is for replication between vSnap appliances only");
    };
    let ends = (std::io::stdin().as_raw_fd(), std::io::stdout().as_raw_fd());
    let address = std::env::var("SSH_CONNECTION").ok().and_then(|connection| link_socket::server_address(&connection));
    match link_socket::bring(Path::new(link_socket::PATH), &partner, address, ends) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("vsnapd does not answer: {error}")),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("vsnap-link: {why}");
    ExitCode::FAILURE
}
