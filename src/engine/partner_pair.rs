//! Becoming partners, and parting.

use super::{Caller, Engine};
use crate::{
    error::{Error, Result},
    types::{
        SystemId,
        partner::{Introduction, Partner, PartnerRequest},
    },
};

impl Engine {
    /// Makes another appliance a partner, on both sides or on none. With one that is a partner already, keys and
    /// addresses are exchanged anew.
    pub fn create_partner(&self, _caller: &Caller, _request: PartnerRequest) -> Result<Partner> {
        Err(Error::State("not yet".to_owned()))
    }

    /// The other side of [`Engine::create_partner`]: takes what an appliance tells of itself, and tells of this one.
    pub fn accept_introduction(&self, _caller: &Caller, _introduction: Introduction) -> Result<Introduction> {
        Err(Error::State("not yet".to_owned()))
    }

    /// Ends a partnership, on both sides; with `force` also when the other side can't be reached.
    pub fn delete_partner(&self, _caller: &Caller, _id: &SystemId, _force: bool) -> Result<()> {
        Err(Error::State("not yet".to_owned()))
    }
}
