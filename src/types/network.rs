//! Network interfaces and the services that are offered on them (contract section 4).

use serde::{Deserialize, Serialize};

use super::Invalid;

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

    /// The service with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Service::ALL.into_iter().find(|service| service.word() == word)
    }
}

/// The services of an interface: one or more, each once, in the order of [`Service::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Service>", into = "Vec<Service>")]
pub struct Services(Vec<Service>);

impl Services {
    /// Every service: what an interface offers unless it was told otherwise.
    pub fn all() -> Self {
        Services(Service::ALL.to_vec())
    }

    /// The words of a request. `all` stands for all services, whatever else is in the list (contract section 4.2).
    pub fn read(words: &[impl AsRef<str>]) -> Result<Self, Invalid> {
        if words.iter().any(|word| word.as_ref() == "all") {
            return Ok(Self::all());
        }
        let known = words.iter().map(|word| {
            let word = word.as_ref();
            Service::from_word(word).ok_or_else(|| {
                let words = Service::ALL.map(Service::word).join(", ");
                Invalid::new("services", format!("{word:?} is no service; give some of {words}, or all"))
            })
        });
        known.collect::<Result<Vec<Service>, Invalid>>()?.try_into()
    }

    /// Whether this service is one of them.
    pub fn has(&self, service: Service) -> bool {
        self.0.contains(&service)
    }

    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.0.len() == Service::ALL.len()
    }

    /// Their words.
    pub fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|service| service.word()).collect()
    }
}

impl TryFrom<Vec<Service>> for Services {
    type Error = Invalid;

    fn try_from(mut services: Vec<Service>) -> Result<Self, Invalid> {
        services.sort_unstable();
        services.dedup();
        if services.is_empty() {
            return Err(Invalid::new("services", "is empty; an interface needs at least one service, or all"));
        }
        Ok(Services(services))
    }
}

impl From<Services> for Vec<Service> {
    fn from(services: Services) -> Self {
        services.0
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
    /// What is reachable through it.
    pub services: Services,
}

impl Interface {
    /// Addresses that others can connect to without naming a link: those of IPv6 that hold on one link only are left
    /// out.
    pub fn reachable(&self) -> impl Iterator<Item = std::net::IpAddr> {
        let v6 = self.ip6_addrs.iter().filter(|address| !address.is_unicast_link_local());
        self.ip4_addrs.iter().copied().map(Into::into).chain(v6.copied().map(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_an_ordered_set() {
        let read = |words: &[&str]| Services::read(words).map(|services| services.words());
        assert_eq!(read(&["smb", "nfs", "smb", "mgmt"]).unwrap(), ["mgmt", "nfs", "smb"]);
        assert!(Services::read(&["nfs", "all", "what"]).unwrap().is_all());
        for bad in [&["ALL"][..], &["nfs", "ftp"], &["nfs "], &[""], &[]] {
            let error = read(bad).unwrap_err();
            assert_eq!(error.field, "services", "{bad:?}");
            assert!(bad.is_empty() || error.message.contains(&format!("{:?}", bad[bad.len() - 1])), "{error:?}");
        }
        assert!(serde_json::from_str::<Services>("[]").is_err());
    }

    #[test]
    fn what_holds_on_one_link_only_is_not_reachable() {
        let interface = Interface {
            id: "a".into(),
            name: "a".into(),
            hw_addr: "a".into(),
            ip4_addrs: vec![[10, 0, 0, 1].into()],
            ip6_addrs: vec!["fe80::1".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        let addresses: Vec<String> = interface.reachable().map(|address| address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
    }
}
