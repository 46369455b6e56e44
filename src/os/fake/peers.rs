//! [`Peers`] of the fake: what connects it with other fakes is given by the test.

use std::{
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, PoisonError},
};

use super::FakeOs;
use crate::{
    os::{
        Applied, Error, Kind, Peers, Result,
        peers::{Contact, Link, PartnerAccess},
    },
    types::partner::{Address, Introduction, PartnerRequest, PublicKey},
};

/// The network between fakes.
pub trait Wire: Send + Sync {
    /// What the API at the other end answers.
    fn introduce(&self, request: &PartnerRequest, introduction: &Introduction) -> Result<Introduction>;
    /// Lets the other end serve a link of this one, whose key is `key`.
    fn serve(&self, contact: &Contact, key: &PublicKey, input: OwnedFd, output: OwnedFd) -> Result<()>;
}

impl FakeOs {
    /// Plugs in the network.
    pub fn set_wire(&self, wire: Option<Arc<dyn Wire>>) {
        *self.wire.lock().unwrap_or_else(PoisonError::into_inner) = wire;
    }

    fn wire(&self) -> Result<Arc<dyn Wire>> {
        let wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wire.ok_or_else(|| Error::new(Kind::Other, "connecting", "no route to host"))
    }

    /// A key that no other fake has.
    fn key(&self, of: &str) -> Result<PublicKey> {
        let text = format!("ssh-ed25519 {of}{:x}", std::ptr::from_ref(self).addr());
        PublicKey::new(&text).map_err(|invalid| Error::new(Kind::Other, "making a key", invalid.message))
    }
}

impl Peers for FakeOs {
    fn public_key(&self) -> Result<PublicKey> {
        self.key("AAAAuser")
    }

    fn host_keys(&self) -> Result<Vec<PublicKey>> {
        Ok(vec![self.key("AAAAhost")?])
    }

    fn local_address(&self, _remote: &Address, _port: u16) -> Result<IpAddr> {
        let address = self.world().interfaces.iter().find_map(|interface| interface.reachable().next());
        address.ok_or_else(|| Error::new(Kind::Other, "looking for the way", "network is unreachable"))
    }

    fn introduce(&self, request: &PartnerRequest, introduction: &Introduction) -> Result<Introduction> {
        self.effect("introduce", |_| Ok(()))?;
        self.wire()?.introduce(request, introduction)
    }

    fn apply_partners(&self, wanted: &[PartnerAccess]) -> Result<Applied> {
        self.effect("apply_partners", |world| {
            let changed = world.partners != wanted;
            world.partners = wanted.to_vec();
            Ok(Applied { changes: if changed { vec!["partners changed".to_owned()] } else { Vec::new() } })
        })
    }

    fn connect(&self, contact: &Contact) -> Result<Link> {
        self.check_refusal("connect")?;
        let pipe = || nix::unistd::pipe().map_err(|error| Error::io("pipe", &error.into()));
        let ((their_input, output), (input, their_output)) = (pipe()?, pipe()?);
        // As with SSH, what is wrong shows when the link is read.
        let served = self.wire()?.serve(contact, &self.public_key()?, their_input, their_output);
        Ok(Link { input, output, process: super::stream::ended(served) })
    }
}
