//! Network interfaces and the services that are offered on them (contract section 4).

use serde::{Deserialize, Serialize};

/// A service of the appliance that can be bound to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The API on port 8900 and SSH.
    Mgmt,
    /// NFS exports.
    Nfs,
    /// SMB shares.
    Smb,
    /// The iSCSI target.
    Iscsi,
    /// Replication between appliances.
    Repl,
}

impl Service {
    /// All of them, in the order in which the API shows them.
    pub const ALL: [Service; 5] = [Service::Mgmt, Service::Nfs, Service::Smb, Service::Iscsi, Service::Repl];

    /// Its word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Service::Mgmt => "mgmt",
            Service::Nfs => "nfs",
            Service::Smb => "smb",
            Service::Iscsi => "iscsi",
            Service::Repl => "repl",
        }
    }
}

/// A network interface as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// MAC without separators, made unique for links that share one.
    pub id: String,
    /// Kernel name, `ens192`.
    pub name: String,
    /// MAC without separators.
    pub hw_addr: String,
    /// IPv4 addresses.
    pub ip4_addrs: Vec<std::net::Ipv4Addr>,
    /// IPv6 addresses.
    pub ip6_addrs: Vec<std::net::Ipv6Addr>,
}

/// An interface with the services that are offered on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The link.
    pub interface: Interface,
    /// In the order of [`Service::ALL`].
    pub services: Vec<Service>,
}
