//! Where the servers of NFS and SMB listen. They are told by a file of ours beside their own, and read it only when they
//! start: so they are restarted, but only when they listen where they must not, or not where they should.
//!
//! While every interface has a service there is no such file, and its server listens where its administrator says.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use procfs::{
    ProcError,
    net::{TcpNetEntry, TcpState},
};

use super::{Error, Kind, Result, command::Tool, file, network};

/// Where a service is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Listen {
    /// On all addresses, also those that come later.
    #[default]
    Everywhere,
    /// On every address that the machine has but these, which are those of interfaces without the service.
    NotOn(BTreeSet<IpAddr>),
}

/// What the file says while it only says that the server has to be started once more.
const ENDED: &str = "# Every interface has this service again.\n";
/// How often a server is restarted for the same fault: an address that another host has, too, can't be listened on.
const TRIES: u8 = 3;

/// How long ZFS may take to share what it shares itself.
const SHARING: Duration = Duration::from_secs(60);

/// How long a change waits for a server that has been started to listen. Upkeep looks again at one that takes longer.
const OPENING: Duration = Duration::from_secs(10);

/// The addresses of one server that are not as they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fault {
    missing: BTreeSet<IpAddr>,
    open: BTreeSet<IpAddr>,
}

impl Fault {
    fn new(wanted: &BTreeSet<IpAddr>, forbidden: &BTreeSet<IpAddr>, live: &BTreeSet<IpAddr>) -> Self {
        let is_forbidden = |address: &&IpAddr| address.is_unspecified() || forbidden.contains(*address);
        Fault {
            missing: wanted.difference(live).copied().collect(),
            // An address that is gone from the machine does no harm.
            open: live.iter().filter(is_forbidden).copied().collect(),
        }
    }

    fn is_none(&self) -> bool {
        self.missing.is_empty() && self.open.is_empty()
    }
}

/// A server that learns where to listen when it starts.
pub(super) struct Listener {
    /// Our file.
    file: &'static Path,
    port: u16,
    /// The file's content for these addresses.
    render: fn(&[String]) -> String,
    /// What restarts have not mended, and how many there were.
    tried: Mutex<(Fault, u8)>,
}

impl Listener {
    pub(super) fn new(file: &'static str, port: u16, render: fn(&[String]) -> String) -> Self {
        Listener { file: Path::new(file), port, render, tried: Mutex::default() }
    }

    /// Brings the file up to date. `true` when the server has to be restarted if it runs, and then
    /// [`Listener::restarted`] be called. A server that is not `needed`, since nothing of ours is shared by it, is only
    /// given back to its administrator.
    pub(super) fn prepare(&self, listen: &Listen, needed: bool) -> Result<bool> {
        let before = file::read(self.file)?;
        let Listen::NotOn(forbidden) = listen else {
            // It stays until the server has been restarted, in case that this process ends before.
            if before.as_ref().is_some_and(|text| text != ENDED) {
                file::write(self.file, ENDED.as_bytes(), 0o644)?;
            }
            return Ok(before.is_some());
        };
        if !needed {
            return Ok(false);
        }
        let wanted: BTreeSet<IpAddr> = network::local_addresses()?.difference(forbidden).copied().collect();
        let text = (self.render)(&wanted.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        if before.as_ref() != Some(&text) {
            file::write(self.file, text.as_bytes(), 0o644)?;
        }
        let fault = Fault::new(&wanted, forbidden, &listening(self.port)?);
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.is_none() || tried.0 != fault {
            *tried = (fault, 0);
        }
        if tried.0.is_none() || tried.1 > TRIES {
            return Ok(false);
        }
        tried.1 += 1;
        if tried.1 > TRIES {
            let Fault { missing, open } = &tried.0;
            tracing::error!(
                port = self.port,
                ?missing,
                ?open,
                "a server does not listen where it should, and restarts do not help; the packet filter still keeps it to \
                 its interfaces. See its own log, and restart it when the cause is gone"
            );
            return Ok(false);
        }
        Ok(true)
    }

    /// The server has been restarted. Tells what that was for, in words for the log.
    pub(super) fn restarted(&self, listen: &Listen) -> Result<String> {
        if matches!(listen, Listen::Everywhere) {
            file::remove(self.file)?;
            return Ok(format!("the server of port {} listens on all addresses again", self.port));
        }
        // Samba says that it is ready before it listens.
        let deadline = Instant::now() + OPENING;
        while listening(self.port)?.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(format!("the server of port {} listens on the interfaces that have its service alone", self.port))
    }
}

/// systemd restarts `zfs-share.service` with either server, and that ends with an `exportfs -ra`. This waits for it: one
/// that read our file of exports a moment before a change of that would bring back what is exported no longer.
pub(super) fn wait_for_zfs_share(systemctl: &Tool) -> Result<()> {
    let deadline = Instant::now() + SHARING;
    loop {
        let show = systemctl.command(["show", "--property=Job", "--value", "zfs-share.service"]);
        let job = show.output(|_| Kind::Other)?;
        // One that takes longer is none that a change should wait for; upkeep looks again.
        if matches!(job.trim(), "" | "0") || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Addresses at which this TCP port is listened on, by whomever.
fn listening(port: u16) -> Result<BTreeSet<IpAddr>> {
    let sockets = |name: &str, read: fn() -> procfs::ProcResult<Vec<TcpNetEntry>>| match read() {
        Ok(sockets) => Ok(sockets),
        // A kernel without IPv6.
        Err(ProcError::NotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(Error::new(Kind::Other, format!("reading /proc/net/{name}"), error.to_string())),
    };
    let all = sockets("tcp", procfs::net::tcp)?.into_iter().chain(sockets("tcp6", procfs::net::tcp6)?);
    let here = all.filter(|socket| socket.state == TcpState::Listen && socket.local_address.port() == port);
    Ok(here.map(|socket| socket.local_address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn faults() {
        let fault = |live: &[&str]| {
            Fault::new(&addresses(&["127.0.0.1", "10.0.0.1"]), &addresses(&["10.0.0.2"]), &addresses(live))
        };
        assert!(fault(&["127.0.0.1", "10.0.0.1"]).is_none());
        assert!(fault(&["127.0.0.1", "10.0.0.1", "10.0.0.9"]).is_none(), "one that is gone");
        assert_eq!(fault(&["127.0.0.1"]).missing, addresses(&["10.0.0.1"]));
        assert_eq!(fault(&["127.0.0.1", "10.0.0.1", "10.0.0.2"]).open, addresses(&["10.0.0.2"]));
        for everywhere in ["0.0.0.0", "::"] {
            assert!(!fault(&["127.0.0.1", "10.0.0.1", everywhere]).is_none());
        }
        assert!(!fault(&[]).is_none(), "a server that does not run");
    }

    #[test]
    fn sockets_of_this_machine_are_seen() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listening(port).unwrap(), addresses(&["127.0.0.1"]));
        drop(socket);
        assert_eq!(listening(port).unwrap(), addresses(&[]));
    }
}
