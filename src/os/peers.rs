//! The boundary to other appliances: how two of them introduce themselves, and the link between partners.

use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc};

use super::{Result, exports::Applied, process::Process};
use crate::types::{
    SystemId,
    partner::{Address, Introduction, PartnerRequest, PublicKey},
};

/// What a partner may do here and how it is known: its key opens the link, its host keys prove that it is it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerAccess {
    /// Who.
    pub id: SystemId,
    /// The key that it logs in with.
    pub public_key: Option<PublicKey>,
    /// The keys of its SSH server.
    pub host_keys: Vec<PublicKey>,
}

/// Where a partner's SSH server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Who must answer there.
    pub partner: SystemId,
    /// Where.
    pub address: Address,
    /// Port.
    pub port: u16,
}

/// An open link: what is written goes to the partner's daemon, what that writes can be read.
pub struct Link {
    /// From the partner.
    pub input: OwnedFd,
    /// To the partner.
    pub output: OwnedFd,
    /// What keeps it open; when it has ended, its error says why.
    pub process: Arc<dyn Process>,
}

/// Other appliances.
pub trait Peers: Send + Sync {
    /// The key that this appliance logs in with at its partners; made when there is none.
    fn public_key(&self) -> Result<PublicKey>;
    /// The keys of this machine's SSH server.
    fn host_keys(&self) -> Result<Vec<PublicKey>>;
    /// The address of this machine from which it reaches another.
    fn local_address(&self, remote: &Address, port: u16) -> Result<IpAddr>;
    /// Tells another appliance's API who this one is, and learns who that is. `Denied` when it refuses the credentials
    /// or the request; `Other` when it can't be reached.
    fn introduce(&self, request: &PartnerRequest, introduction: &Introduction) -> Result<Introduction>;
    /// Makes the partners that may open a link here, and are known when one is opened to them, exactly these.
    fn apply_partners(&self, wanted: &[PartnerAccess]) -> Result<Applied>;
    /// Opens a link. That it can't be opened shows when it is read.
    fn connect(&self, contact: &Contact) -> Result<Link>;
}
