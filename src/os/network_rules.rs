//! Which services are reachable through which interface: a table of our own in nftables.

use super::{Result, exports::Applied};
use crate::types::network::Service;

/// What one interface offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceServices {
    /// Name of the interface.
    pub interface: String,
    /// What is reachable through it.
    pub services: Vec<Service>,
}

/// The packet filter of the kernel.
pub struct NetworkRules {}

impl NetworkRules {
    /// Looks for its tools.
    pub fn new() -> Result<Self> {
        Ok(NetworkRules {})
    }

    /// See [`super::Exports::apply_networks`].
    pub fn apply(&self, _wanted: &[InterfaceServices]) -> Result<Applied> {
        Ok(Applied::default())
    }
}
