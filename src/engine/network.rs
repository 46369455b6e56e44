//! Network interfaces and what is offered on them (contract section 4).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use super::{Caller, Engine, exports::Export, locks::Key, operation::Operation};
use crate::{
    catalog::{self, network::NetworkRow},
    error::{Error, Result},
    os::{InterfaceServices, NetworkServices, listen::Listen},
    types::network::{Interface, Network, Service, Services},
};

/// Where initiators connect: the port that IANA gave to iSCSI.
const ISCSI: u16 = 3260;

/// Makes the API listen on all interfaces but these.
pub type Follower = Box<dyn Fn(&BTreeSet<String>) + Send + Sync>;

impl Engine {
    /// Has the API listen where `mgmt` is offered, from now on.
    pub fn follow_management(&self, follower: Follower) {
        if self.api.set(follower).is_ok() {
            self.restore_export(Export::Networks, false);
        }
    }

    /// Every interface with its services. One that nobody has restricted offers them all.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let rows = self.catalog.read(catalog::network::all)?;
        let with_services = |interface: Interface| {
            let row = rows.iter().find(|row| row.id == interface.id);
            Network { services: row.map_or_else(Services::all, |row| row.services.clone()), interface }
        };
        Ok(self.machine.interfaces()?.into_iter().map(with_services).collect())
    }

    /// The interface with this id.
    pub fn network(&self, id: &str) -> Result<Network> {
        find(self.networks()?, id)
    }

    /// Sets what is offered on an interface.
    pub fn update_network(&self, caller: &Caller, id: &str, services: Services) -> Result<Network> {
        // One for all of them: that one of them keeps `mgmt` is a rule about all.
        let _guard = self.locks.acquire(vec![Key::Networks], "a change of network services")?;
        let networks = self.networks()?;
        require_management(&networks, id, &services)?;
        let Network { interface, services: before } = find(networks, id)?;
        self.perform(caller, |transaction| {
            catalog::network::set(transaction, id, &interface.name, &services, self.now())?;
            Ok(Operation::UpdateNetwork { interface: interface.id, name: interface.name, before })
        })?;
        self.network(id)
    }

    pub(super) fn run_update_network(&self, id: i64) -> Result<()> {
        // Servers and the target listen on the addresses of the interfaces that have their service.
        Export::ALL.into_iter().try_for_each(|kind| self.apply_exports(kind).map(drop))?;
        self.finish(id, |_| Ok(()))
    }

    /// The row goes back first: what is live is rendered from it, now or, if that fails too, by upkeep.
    pub(super) fn undo_update_network(
        &self,
        id: i64,
        (interface, name): (&str, &str),
        before: &Services,
        cause: &Error,
    ) -> Result<()> {
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::network::set(transaction, interface, name, before, self.now())
        })?;
        for kind in Export::ALL {
            if let Err(error) = self.apply_exports(kind) {
                tracing::warn!(network.id = interface, ?kind, %error, "the former services could not be set again");
            }
        }
        Ok(())
    }

    /// What the packet filter has to know: the interfaces that don't offer everything, by the name that each has now.
    pub(super) fn wanted_networks(&self) -> Result<NetworkServices> {
        let rows = self.catalog.read(catalog::network::all)?;
        let mut api_ports: Vec<u16> = self.config.listen.iter().map(|address| address.port()).collect();
        api_ports.sort_unstable();
        api_ports.dedup();
        let mut wanted = NetworkServices { api_ports, interfaces: Vec::new() };
        if rows.is_empty() {
            return Ok(wanted);
        }
        let interfaces = self.machine.interfaces()?;
        for row in &rows {
            if let Some(interface) = self.name_now(row, &interfaces)? {
                wanted.interfaces.push(InterfaceServices { interface, services: row.services.clone() });
            }
        }
        Ok(wanted)
    }

    /// Where the server of a service listens.
    pub(super) fn listen_on(&self, service: Service) -> Result<Listen> {
        let rows = self.catalog.read(catalog::network::all)?;
        if rows.iter().all(|row| row.services.has(service)) {
            return Ok(Listen::Everywhere);
        }
        let (with, without): (Vec<_>, Vec<_>) =
            self.networks()?.into_iter().partition(|network| network.services.has(service));
        let addresses = |networks: &[Network]| -> BTreeSet<IpAddr> {
            networks.iter().flat_map(|network| network.interface.reachable()).collect()
        };
        // Two interfaces may have the same address.
        Ok(Listen::NotOn(addresses(&without).difference(&addresses(&with)).copied().collect()))
    }

    /// Where the iSCSI target listens: on all addresses while no interface lacks the service, otherwise on those of the
    /// interfaces that have it. Not always on the latter, since discovery tells an initiator every single address that
    /// is listened on, and it would try in vain those of networks that it can't reach; on all addresses, discovery
    /// tells it the one that it came in by.
    pub(super) fn iscsi_portals(&self) -> Result<Vec<SocketAddr>> {
        let rows = self.catalog.read(catalog::network::all)?;
        if rows.iter().all(|row| row.services.has(Service::Iscsi)) {
            return Ok(vec![(Ipv6Addr::UNSPECIFIED, ISCSI).into()]);
        }
        let mut addresses = BTreeSet::new();
        for network in self.networks()?.iter().filter(|network| network.services.has(Service::Iscsi)) {
            addresses.extend(network.interface.reachable());
        }
        Ok(addresses.into_iter().map(|address| (address, ISCSI).into()).collect())
    }

    /// The name of an interface, or the one that it had when it was last here, so that it is restricted from the moment
    /// that it appears; unless that is another one's now.
    fn name_now(&self, row: &NetworkRow, interfaces: &[Interface]) -> Result<Option<String>> {
        match interfaces.iter().find(|interface| interface.id == row.id) {
            Some(interface) => {
                if interface.name != row.name {
                    self.catalog
                        .write(|transaction| catalog::network::set_name(transaction, &row.id, &interface.name))?;
                }
                Ok(Some(interface.name.clone()))
            }
            None => Ok(interfaces.iter().all(|other| other.name != row.name).then(|| row.name.clone())),
        }
    }
}

fn find(networks: Vec<Network>, id: &str) -> Result<Network> {
    networks.into_iter().find(|network| network.interface.id == id).ok_or_else(|| Error::not_found("network", id))
}

/// Nobody locks himself out: `mgmt` goes from an interface only when another one keeps it, that is there now with an
/// address.
fn require_management(networks: &[Network], id: &str, services: &Services) -> Result<()> {
    let Some(network) = networks.iter().find(|network| network.interface.id == id) else { return Ok(()) };
    if services.has(Service::Mgmt) || !network.services.has(Service::Mgmt) {
        return Ok(());
    }
    let keeps = |other: &&Network| {
        other.interface.id != id && other.services.has(Service::Mgmt) && other.interface.reachable().next().is_some()
    };
    if networks.iter().any(|other| keeps(&other)) {
        return Ok(());
    }
    Err(Error::State(format!(
        "interface {} is the last one with an address that has mgmt, and without it nobody could reach the API; give \
         mgmt to another interface first",
        network.interface.name
    )))
}
