//! Network interfaces: names, addresses and MACs from the kernel.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use nix::ifaddrs::getifaddrs;

use super::{Error, Result, file};
use crate::types::network::Interface;

/// Where the kernel describes its interfaces.
const LINKS: &str = "/sys/class/net";
/// `ARPHRD_LOOPBACK`
const LOOPBACK: &str = "772";

/// An interface as sysfs describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    index: u32,
    name: String,
    /// MAC without separators.
    mac: String,
    /// Whether there is hardware, or a hypervisor's, behind it.
    is_device: bool,
}

#[derive(Default)]
struct Addresses {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

/// See [`super::Machine::interfaces`]. Interfaces without a MAC (tunnels) have no identity that lasts and are left out.
pub fn interfaces() -> Result<Vec<Interface>> {
    let entries = std::fs::read_dir(LINKS).map_err(|error| Error::io(format!("reading {LINKS}"), &error))?;
    let mut links = Vec::new();
    for entry in entries.flatten() {
        if let Some(link) = read(&entry.path(), entry.file_name().to_string_lossy().into_owned())? {
            links.push(link);
        }
    }
    let mut addresses = addresses()?;
    let ids = identify(&mut links);
    let interface = |(link, id): (Link, String)| {
        let Addresses { v4, v6 } = addresses.remove(&link.name).unwrap_or_default();
        Interface { id, name: link.name, hw_addr: link.mac, ip4_addrs: v4, ip6_addrs: v6 }
    };
    Ok(links.into_iter().zip(ids).map(interface).collect())
}

/// Reads one link; `None` for the loopback, one without a MAC, and one that has just gone.
fn read(folder: &Path, name: String) -> Result<Option<Link>> {
    let member = |member: &str| file::read(&folder.join(member)).map(|text| text.unwrap_or_default().trim().to_owned());
    // The port of a bond shows the bond's MAC; this is its own.
    let own = member("bonding_slave/perm_hwaddr")?;
    let mac = mac(if own.is_empty() { member("address")? } else { own });
    let (kind, index) = (member("type")?, member("ifindex")?.parse());
    let (Some(mac), Ok(index)) = (mac, index) else { return Ok(None) };
    Ok((kind != LOOPBACK).then(|| Link { index, name, mac, is_device: folder.join("device").exists() }))
}

/// `00:50:56:b4:53:02` without separators; `None` for what is no MAC of 48 bits or nobody's.
fn mac(text: String) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    let is_mac = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_mac && digits != "000000000000").then_some(digits)
}

/// Sorts links in kernel order and gives each its id: the MAC, and where a MAC is shared (VLANs, bridges) for all but
/// one the MAC with the name. Hardware comes before what is built on it, so that its id stays when a VLAN is added.
fn identify(links: &mut [Link]) -> Vec<String> {
    links.sort_by_key(|link| (!link.is_device, link.index));
    let mut taken = HashSet::new();
    let ids = |link: &Link| {
        if taken.insert(link.mac.clone()) { link.mac.clone() } else { format!("{}-{}", link.mac, link.name) }
    };
    let ids: HashMap<u32, String> =
        links.iter().map(|link| link.index).zip(links.iter().map(ids).collect::<Vec<_>>()).collect();
    links.sort_by_key(|link| link.index);
    links.iter().map(|link| ids[&link.index].clone()).collect()
}

fn addresses() -> Result<HashMap<String, Addresses>> {
    let all = getifaddrs().map_err(|error| Error::io("getifaddrs", &error.into()))?;
    let mut by_name: HashMap<String, Addresses> = HashMap::new();
    for entry in all {
        let Some(address) = entry.address else { continue };
        let addresses = by_name.entry(entry.interface_name).or_default();
        if let Some(v4) = address.as_sockaddr_in() {
            addresses.v4.push(v4.ip());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            addresses.v6.push(v6.ip());
        }
    }
    Ok(by_name)
}

/// Every address of this machine that others can connect to without naming a link, with those of the loopback and of
/// interfaces that have no identity.
pub fn local_addresses() -> Result<BTreeSet<IpAddr>> {
    let all = addresses()?.into_values().flat_map(|Addresses { v4, v6 }| {
        let v6 = v6.into_iter().filter(|address| !address.is_unicast_link_local());
        v4.into_iter().map(IpAddr::V4).chain(v6.map(IpAddr::V6))
    });
    Ok(all.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        assert_eq!(mac("00:50:56:B4:53:02".into()).as_deref(), Some("005056b45302"));
        for none in ["", "00:00:00:00:00:00", "0.0.0.0", "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01"]
        {
            assert_eq!(mac(none.into()), None, "{none}");
        }
    }

    #[test]
    fn hardware_keeps_the_plain_id() {
        let link = |index, name: &str, is_device| Link { index, name: name.into(), mac: "aa".repeat(6), is_device };
        let mut links = [link(7, "eth0.5", false), link(9, "eth0", true), link(3, "br0", false)];
        let ids = identify(&mut links);
        let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["br0", "eth0.5", "eth0"]);
        assert_eq!(ids, ["aaaaaaaaaaaa-br0", "aaaaaaaaaaaa-eth0.5", "aaaaaaaaaaaa"]);
    }

    #[test]
    fn this_machine() {
        let interfaces = interfaces().unwrap();
        assert!(interfaces.iter().all(|interface| interface.name != "lo" && interface.hw_addr.len() == 12));
    }
}
