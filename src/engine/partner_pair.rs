//! Becoming partners, and parting.
//!
//! The one that is asked to (by `POST /api/partner`) introduces itself to the other's API with the credentials that it was
//! given, and so learns the other's keys. The other keeps what it learnt, but as somebody who is only about to become a
//! partner. Then the first one opens the link with its key and confirms, and both are partners. One that is never
//! confirmed is forgotten by upkeep.

use super::{Caller, Engine, link::Trouble, locks::Key, operation::Operation};
use crate::{
    catalog::{self, RowState, partner::PartnerRow},
    error::{Error, Result},
    os::{Kind, peers::PartnerAccess},
    types::{
        Epoch, Invalid, SystemId,
        link::Question,
        partner::{Address, Introduction, Partner, PartnerRequest},
    },
};

/// How long one that introduced itself may take to confirm, in seconds.
const UNCONFIRMED_SECONDS: i64 = 600;

impl Engine {
    /// Makes another appliance a partner, on both sides or on none. With one that is a partner already, keys and
    /// addresses are exchanged anew.
    pub fn create_partner(&self, caller: &Caller, request: PartnerRequest) -> Result<Partner> {
        let local = match request.local_address.clone() {
            Some(address) => address,
            None => self.local_address(&request.remote_address, request.remote_api_port)?,
        };
        let ours = self.introduction(local, request.local_api_port, request.local_ssh_port)?;
        let theirs = self.peers.introduce(&request, &ours).map_err(|error| refused(&request, &error))?;
        if theirs.id == self.id() {
            return Err(Invalid::new("remote_addr", "that is this appliance itself").into());
        }
        let _guard = self.locks.acquire(vec![Key::Partner(theirs.id.clone())], "pairing")?;
        let row = PartnerRow {
            id: theirs.id,
            state: RowState::Creating,
            address: request.remote_address,
            api_port: request.remote_api_port,
            ssh_port: request.remote_ssh_port,
            public_key: Some(theirs.public_key),
            host_keys: theirs.host_keys,
            addresses: theirs.addresses,
            rate_limit: None,
            created: self.now(),
            updated: self.now(),
        };
        match self.catalog.read(|view| catalog::partner::find(view, &row.id))? {
            Some(before) if before.state == RowState::Ready => self.renew_partner(before, row),
            Some(before) if before.state == RowState::Deleting => {
                Err(Error::State(format!("partner {} is being removed", before.id)))
            }
            _ => {
                let id = row.id.clone();
                self.perform(caller, |transaction| {
                    catalog::partner::put(transaction, &row)?;
                    Ok(Operation::CreatePartner { partner: row.id.clone() })
                })?;
                self.partner(&id)
            }
        }
    }

    fn local_address(&self, remote: &Address, port: u16) -> Result<Address> {
        let found = self.peers.local_address(remote, port);
        Ok(found.map_err(|error| Error::Partner(format!("{remote} can't be reached: {}", error.detail)))?.into())
    }

    fn introduction(&self, address: Address, api_port: Option<u16>, ssh_port: u16) -> Result<Introduction> {
        let own_port = self.config.listen.first().map_or(crate::types::partner::API_PORT, std::net::SocketAddr::port);
        Ok(Introduction {
            id: self.id(),
            address,
            api_port: api_port.unwrap_or(own_port),
            ssh_port,
            public_key: self.peers.public_key()?,
            host_keys: self.peers.host_keys()?,
            addresses: self.replication_addresses()?,
        })
    }

    /// A partner has other keys or is somewhere else: taken over when the link can be opened with them.
    fn renew_partner(&self, before: PartnerRow, found: PartnerRow) -> Result<Partner> {
        let row =
            PartnerRow { state: RowState::Ready, rate_limit: before.rate_limit, created: before.created, ..found };
        self.catalog.write(|transaction| catalog::partner::put(transaction, &row))?;
        self.idle_links.close_those_of(&row.id);
        // Confirmed as well: it may have lost its catalog, and think that this one is new.
        let confirm = |()| self.ask_partner(&row, &Question::Confirm).map_err(|trouble| trouble.into_error(&row));
        let renewed = self.apply_partners().and_then(confirm);
        if let Err(error) = renewed {
            self.catalog.write(|transaction| catalog::partner::put(transaction, &before))?;
            self.apply_partners()?;
            return Err(error);
        }
        self.partner(&row.id)
    }

    pub(super) fn run_create_partner(&self, id: i64, partner: &SystemId) -> Result<()> {
        self.apply_partners()?;
        let row = self.catalog.read(|view| catalog::partner::find(view, partner))?;
        let row = row.ok_or_else(|| Error::not_found("partner", partner))?;
        self.ask_partner(&row, &Question::Confirm).map_err(|trouble| trouble.into_error(&row))?;
        self.finish(id, |transaction| catalog::partner::set_state(transaction, partner, RowState::Ready))
    }

    /// The other side may have confirmed all the same, so it is told. While it can't be told, the operation stays in the
    /// journal, and upkeep tries again.
    pub(super) fn undo_create_partner(&self, id: i64, partner: &SystemId, cause: &Error) -> Result<()> {
        if let Some(row) = self.catalog.read(|view| catalog::partner::find(view, partner))?
            && let Err(trouble @ Trouble::Unreachable(_)) = self.ask_partner(&row, &Question::Forget)
        {
            return Err(trouble.into_error(&row));
        }
        self.end(id, Some(&cause.to_string()), |transaction| catalog::partner::delete(transaction, partner))?;
        self.apply_partners_when_parted(partner);
        Ok(())
    }

    /// The other side of [`Engine::create_partner`]: takes what an appliance tells of itself, and tells of this one.
    pub fn accept_introduction(&self, _caller: &Caller, introduction: Introduction) -> Result<Introduction> {
        let Introduction { id, address, api_port, ssh_port, public_key, host_keys, addresses } = introduction;
        if id == self.id() {
            return Err(Error::State("an appliance can't be its own partner".to_owned()));
        }
        let local = self.local_address(&address, api_port)?;
        let ours = self.introduction(local, None, crate::types::partner::SSH_PORT)?;
        let _guard = self.locks.acquire(vec![Key::Partner(id.clone())], "pairing")?;
        self.catalog.write(|transaction| -> Result<()> {
            let before = catalog::partner::find(transaction, &id)?.filter(|row| row.state == RowState::Ready);
            let now = self.now();
            let row = PartnerRow {
                id,
                state: before.as_ref().map_or(RowState::Creating, |row| row.state),
                address,
                api_port,
                ssh_port,
                public_key: Some(public_key),
                host_keys,
                addresses,
                rate_limit: before.as_ref().and_then(|row| row.rate_limit),
                created: before.map_or(now, |row| row.created),
                updated: now,
            };
            Ok(catalog::partner::put(transaction, &row)?)
        })?;
        self.apply_partners()?;
        Ok(ours)
    }

    /// [`Question::Confirm`]
    pub(super) fn confirm_partner(&self, id: &SystemId) -> Result<()> {
        tracing::info!(partner.id = %id, "pairing is complete");
        Ok(self.catalog.write(|transaction| catalog::partner::set_state(transaction, id, RowState::Ready))?)
    }

    /// [`Question::Forget`]
    pub(super) fn forget_partner(&self, id: &SystemId) -> Result<()> {
        self.require_no_relationships(id)?;
        self.catalog.write(|transaction| catalog::partner::delete(transaction, id))?;
        tracing::info!(partner.id = %id, "the partner has ended the partnership");
        self.apply_partners_when_parted(id);
        Ok(())
    }

    fn require_no_relationships(&self, id: &SystemId) -> Result<()> {
        let rows = self.catalog.read(|view| catalog::relationship::of_partner(view, id))?;
        if rows.is_empty() {
            return Ok(());
        }
        let names: Vec<String> =
            rows.iter().take(10).map(|row| format!("{} (volume {})", row.id, row.volume)).collect();
        Err(Error::Busy(format!("partner {id} has relationships: {}; delete them first", names.join(", "))))
    }

    /// Ends a partnership, on both sides; with `force` also when the other side can't be reached.
    pub fn delete_partner(&self, caller: &Caller, id: &SystemId, force: bool) -> Result<()> {
        self.partner_row(id)?;
        let _guard = self.locks.acquire(vec![Key::Partner(id.clone())], "the removal of the partner")?;
        let row = self.partner_row(id)?;
        self.require_no_relationships(id)?;
        if !force {
            self.require_reachable(&row)?;
        }
        self.perform(caller, |transaction| {
            catalog::partner::set_state(transaction, id, RowState::Deleting)?;
            Ok(Operation::DeletePartner { partner: id.clone(), force })
        })
    }

    pub(super) fn run_delete_partner(&self, id: i64, partner: &SystemId, force: bool) -> Result<()> {
        if let Some(row) = self.catalog.read(|view| catalog::partner::find(view, partner))?
            && let Err(trouble) = self.ask_partner(&row, &Question::Forget)
        {
            let error = trouble.into_error(&row);
            if !force {
                return Err(error);
            }
            tracing::warn!(partner.id = %partner, %error, "the partner was removed here alone");
        }
        self.finish(id, |transaction| catalog::partner::delete(transaction, partner))?;
        self.apply_partners_when_parted(partner);
        Ok(())
    }

    pub(super) fn undo_delete_partner(&self, id: i64, partner: &SystemId, cause: &Error) -> Result<()> {
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::partner::set_state(transaction, partner, RowState::Ready)
        })
    }

    /// Both sides have parted by now, which nothing takes back. What one without a row asks for is refused, and each round
    /// of upkeep does this again.
    fn apply_partners_when_parted(&self, partner: &SystemId) {
        if let Err(error) = self.apply_partners() {
            tracing::warn!(partner.id = %partner, %error, "its key is not taken away yet; upkeep tries again");
        }
    }

    /// Makes those who may open a link here, and are known when one is opened to them, what the catalog says.
    pub(super) fn apply_partners(&self) -> Result<()> {
        let _turn = self.pairing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rows = self.catalog.read(catalog::partner::all)?;
        let access =
            |row: PartnerRow| PartnerAccess { id: row.id, public_key: row.public_key, host_keys: row.host_keys };
        let wanted: Vec<PartnerAccess> = rows.into_iter().map(access).collect();
        for change in self.peers.apply_partners(&wanted)?.changes {
            tracing::info!("written anew: {change}");
            // Nobody goes on by what was agreed on before.
            self.idle_links.close_all();
        }
        Ok(())
    }

    /// Forgets those who introduced themselves and never confirmed.
    pub(super) fn forget_unconfirmed_partners(&self) -> Result<()> {
        let rows = self.catalog.read(catalog::partner::all)?;
        let old = |created: Epoch| self.now().0 - created.0 > UNCONFIRMED_SECONDS;
        for row in rows.iter().filter(|row| row.state == RowState::Creating && old(row.updated)) {
            let Ok(_guard) = self.locks.acquire(vec![Key::Partner(row.id.clone())], "upkeep") else { continue };
            tracing::warn!(partner.id = %row.id, "it introduced itself and never confirmed; forgotten");
            self.catalog.write(|transaction| -> Result<()> {
                match catalog::partner::find(transaction, &row.id)? {
                    Some(now) if now.state == RowState::Creating => Ok(catalog::partner::delete(transaction, &row.id)?),
                    _ => Ok(()),
                }
            })?;
        }
        self.apply_partners()
    }
}

fn refused(request: &PartnerRequest, error: &crate::os::Error) -> Error {
    match error.kind {
        Kind::Denied => Invalid::new("remote_user", format!("the partner refused: {}", error.detail)).into(),
        _ => Error::Partner(format!(
            "the appliance at {} could not be paired with: {}",
            request.remote_address, error.detail
        )),
    }
}
