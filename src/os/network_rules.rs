//! Which services are reachable through which interface: a table of our own in nftables.
//!
//! ```text
//! table inet vsnap {
//!     chain input {
//!         type filter hook input priority filter; policy accept;
//!         iifname "eth1" tcp dport { 8900 } tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset
//!         iifname "eth1" tcp dport { 111, 2049, ... } reject with tcp reset
//!         iifname "eth1" udp dport { 111, 2049, ... } reject
//!     }
//! }
//! ```
//!
//! Only the ports of services that an interface lacks are closed; all else is the administrator's to decide, in tables
//! of his own. Rules name interfaces, so the loopback is never closed, and a connection that comes in through a closed
//! interface is refused whichever address of the appliance it is for. Refused and not dropped: clients learn at once
//! that they have to take another path.
//!
//! Data services are closed to connections that exist, too. The API and SSH are closed to new ones only: the request
//! that takes `mgmt` from its own interface is still answered. No connection tracking is needed for that.
//!
//! While every interface offers everything there is no table.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{Mutex, PoisonError},
};

use super::{Error, Kind, Result, command::Tool, exports::Applied};
use crate::types::network::{Service, Services};

/// What all interfaces offer that don't offer everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkServices {
    /// Ports that the API listens on.
    pub api_ports: Vec<u16>,
    /// The interfaces; one that is not named here offers everything.
    pub interfaces: Vec<InterfaceServices>,
}

/// What one interface offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceServices {
    /// Name of the interface.
    pub interface: String,
    /// What is reachable through it.
    pub services: Services,
}

impl NetworkServices {
    /// Whether every interface offers everything.
    pub fn is_open(&self) -> bool {
        self.interfaces.iter().all(|interface| interface.services.is_all())
    }

    /// Names of the interfaces that don't offer this.
    pub fn without(&self, service: Service) -> BTreeSet<String> {
        let lacking = self.interfaces.iter().filter(|interface| !interface.services.has(service));
        lacking.map(|interface| interface.interface.clone()).collect()
    }
}

const SSH: u16 = 22;
/// nfsd and rpcbind, and the helpers of NFS 3 where `/etc/nfs.conf.d/vsnap.conf` puts them: mountd, statd, lockd. The
/// same for TCP and UDP.
const NFS: [u16; 5] = [2049, 111, 20048, 32765, 32767];
const SMB_TCP: [u16; 2] = [139, 445];
const SMB_UDP: [u16; 2] = [137, 138];
const ISCSI: u16 = 3260;

/// Ports that an interface does not offer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Closed {
    /// To new connections.
    new: BTreeSet<u16>,
    tcp: BTreeSet<u16>,
    udp: BTreeSet<u16>,
}

impl Closed {
    fn of(services: &Services, api_ports: &[u16]) -> Self {
        let lacks = |service| !services.has(service);
        let mut closed = Closed::default();
        if lacks(Service::Mgmt) {
            closed.new.extend(api_ports);
            // Replication comes over SSH.
            closed.new.extend(lacks(Service::Repl).then_some(SSH));
        }
        if lacks(Service::Nfs) {
            closed.tcp.extend(NFS);
            closed.udp.extend(NFS);
        }
        if lacks(Service::Smb) {
            closed.tcp.extend(SMB_TCP);
            closed.udp.extend(SMB_UDP);
        }
        closed.tcp.extend(lacks(Service::Iscsi).then_some(ISCSI));
        closed
    }
}

/// The packet filter of the kernel.
pub struct NetworkRules {
    nft: Tool,
    /// What was applied last, and how it was listed right then: a listing that differs shows somebody else's hand. So
    /// nothing depends on how this version of nft writes rules.
    applied: Mutex<Option<(String, String)>>,
}

impl NetworkRules {
    /// Looks for its tools.
    pub fn new() -> Result<Self> {
        Ok(NetworkRules { nft: Tool::find("nft", "nftables")?, applied: Mutex::default() })
    }

    /// See [`super::Exports::apply_networks`].
    pub fn apply(&self, wanted: &NetworkServices) -> Result<Applied> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.list()?;
        if wanted.is_open() {
            *applied = None;
            if live.is_none() {
                return Ok(Applied::default());
            }
            self.load(REMOVAL.to_owned())?;
            return Ok(Applied { changes: vec!["every service is reachable through every interface".to_owned()] });
        }
        let rules = render(wanted)?;
        if let (Some((loaded, listed)), Some(live)) = (&*applied, &live)
            && *loaded == rules
            && listed == live
        {
            return Ok(Applied::default());
        }
        // One transaction: at no moment is anything open that is to be closed.
        self.load(format!("{REMOVAL}{rules}"))?;
        *applied = self.list()?.map(|listed| (rules, listed));
        Ok(Applied { changes: wanted.interfaces.iter().map(describe).collect() })
    }

    /// Our table as nft shows it; `None` when there is none.
    fn list(&self) -> Result<Option<String>> {
        match self.nft.command(["-j", "list", "table", "inet", "vsnap"]).output(classify) {
            Ok(listing) => Ok(Some(listing)),
            Err(error) if error.kind == Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn load(&self, rules: String) -> Result<()> {
        self.nft.command(["-f", "-"]).stdin(rules.into_bytes()).output(classify).map(drop)
    }
}

/// Removes the table whether it is there or not.
const REMOVAL: &str = "table inet vsnap\ndelete table inet vsnap\n";

fn classify(text: &str) -> Kind {
    if text.contains("No such file or directory") {
        Kind::Missing
    } else if text.contains("Operation not permitted") {
        Kind::Denied
    } else {
        Kind::Other
    }
}

fn render(wanted: &NetworkServices) -> Result<String> {
    let mut rules = String::new();
    for InterfaceServices { interface, services } in &wanted.interfaces {
        let closed = Closed::of(services, &wanted.api_ports);
        let from = format!("        iifname \"{}\"", quotable(interface)?);
        let parts = [
            (&closed.new, "tcp", "tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset"),
            (&closed.tcp, "tcp", "reject with tcp reset"),
            (&closed.udp, "udp", "reject"),
        ];
        for (ports, protocol, verdict) in parts.into_iter().filter(|(ports, ..)| !ports.is_empty()) {
            let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            // Writing to a string can't fail.
            let _ = writeln!(rules, "{from} {protocol} dport {{ {ports} }} {verdict}");
        }
    }
    Ok(format!(
        "table inet vsnap {{\n    chain input {{\n        type filter hook input priority filter; policy accept;\n{rules}    \
         }}\n}}\n"
    ))
}

/// A name that means itself in a rule. The kernel allows almost any character, and a `*` at the end would stand for
/// many interfaces.
fn quotable(name: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if !name.is_empty() && name.len() < 16 && name.chars().all(plain) {
        return Ok(name);
    }
    let action = format!("making rules for network interface {name:?}");
    Err(Error::new(Kind::Denied, action, "its name has characters that rules can't have; give it another name"))
}

fn describe(interface: &InterfaceServices) -> String {
    format!("through {} only {} can be reached", interface.interface, interface.services.words().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(interfaces: &[(&str, &[&str])]) -> NetworkServices {
        let interface = |(name, words): &(&str, &[&str])| InterfaceServices {
            interface: (*name).to_owned(),
            services: Services::read(words).unwrap(),
        };
        NetworkServices { api_ports: vec![8900], interfaces: interfaces.iter().map(interface).collect() }
    }

    #[test]
    fn rules() {
        let text = render(&wanted(&[("eth1", &["mgmt", "smb", "iscsi"]), ("br0.5", &["repl", "nfs"])])).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("iifname")).collect();
        assert_eq!(
            lines,
            [
                "iifname \"eth1\" tcp dport { 111, 2049, 20048, 32765, 32767 } reject with tcp reset",
                "iifname \"eth1\" udp dport { 111, 2049, 20048, 32765, 32767 } reject",
                "iifname \"br0.5\" tcp dport { 8900 } tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset",
                "iifname \"br0.5\" tcp dport { 139, 445, 3260 } reject with tcp reset",
                "iifname \"br0.5\" udp dport { 137, 138 } reject",
            ]
        );
    }

    #[test]
    fn ssh_serves_management_and_replication() {
        let new = |words: &[&str]| Closed::of(&Services::read(words).unwrap(), &[8900, 443]).new;
        assert_eq!(new(&["nfs"]), [22, 443, 8900].into());
        assert_eq!(new(&["nfs", "repl"]), [443, 8900].into());
        assert_eq!(new(&["mgmt"]), [].into());
    }

    #[test]
    fn what_a_rule_could_misread_is_refused() {
        for name in ["", "eth*", "a\"b", "a b", "a{", "a\n", "sixteen-letters-", "ü"] {
            assert_eq!(render(&wanted(&[(name, &["nfs"])])).unwrap_err().kind, Kind::Denied, "{name}");
        }
    }

    #[test]
    fn a_missing_table_is_no_other_error() {
        assert_eq!(
            classify("Error: No such file or directory\nlist table inet vsnap\n                ^^^^^"),
            Kind::Missing
        );
        assert_eq!(
            classify(
                "Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed: Operation not permitted"
            ),
            Kind::Denied
        );
        assert_eq!(classify("Error: syntax error"), Kind::Other);
    }

    #[test]
    fn everything_everywhere_is_open() {
        assert!(wanted(&[]).is_open() && wanted(&[("eth0", &["all"])]).is_open());
        assert!(!wanted(&[("eth0", &["mgmt"])]).is_open());
    }
}
