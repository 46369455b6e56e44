//! Network interfaces (contract section 4.1).

use super::Engine;
use crate::{
    error::{Error, Result},
    types::network::{Network, Service},
};

impl Engine {
    /// Every interface with its services. Services are not restricted to interfaces yet, so each one offers them all.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let interfaces = self.machine.interfaces()?;
        Ok(interfaces.into_iter().map(|interface| Network { interface, services: Service::ALL.to_vec() }).collect())
    }

    /// The interface with this id.
    pub fn network(&self, id: &str) -> Result<Network> {
        let networks = self.networks()?;
        networks.into_iter().find(|network| network.interface.id == id).ok_or_else(|| Error::not_found("network", id))
    }
}
