//! Partners as they are, and changes of them that concern this appliance alone (contract section 12).

use super::{Caller, Engine};
use crate::{
    catalog::{self, RowState, partner::PartnerRow},
    error::{Error, Result},
    types::{
        Invalid, SystemId,
        partner::{Partner, PartnerUpdate, PreferencesUpdate, ReplicationPreferences},
        selection::{PartnerField, Selection},
    },
};

impl Engine {
    /// The partners that are selected, and how many there are without the page.
    pub fn partners(&self, selection: &Selection<PartnerField>) -> Result<(Vec<Partner>, u64)> {
        let (rows, total) = self.catalog.read(|view| catalog::partner::select(view, selection))?;
        Ok((rows.into_iter().map(present).collect(), total))
    }

    /// One partner.
    pub fn partner(&self, id: &SystemId) -> Result<Partner> {
        self.partner_row(id).map(present)
    }

    pub(super) fn partner_row(&self, id: &SystemId) -> Result<PartnerRow> {
        let row = self.catalog.read(|view| catalog::partner::find(view, id))?;
        row.filter(|row| row.state != RowState::Creating).ok_or_else(|| Error::not_found("partner", id))
    }

    /// A partner that can be talked to.
    pub(super) fn ready_partner(&self, id: &SystemId) -> Result<PartnerRow> {
        let row = self.partner_row(id)?;
        match row.state {
            RowState::Ready => Ok(row),
            _ => Err(Error::State(format!("partner {id} is being removed"))),
        }
    }

    /// Changes where a partner is reached, or how fast data is sent to it: that also for sessions that are at work.
    pub fn update_partner(&self, _caller: &Caller, id: &SystemId, update: &PartnerUpdate) -> Result<Partner> {
        let mut row = self.ready_partner(id)?;
        self.catalog.write(|transaction| -> Result<()> {
            // Read again, since another request may have changed it.
            row = catalog::partner::find(transaction, id)?.ok_or_else(|| Error::not_found("partner", id))?;
            if let Some(address) = &update.address {
                row.address = address.clone();
            }
            row.api_port = update.api_port.unwrap_or(row.api_port);
            row.ssh_port = update.ssh_port.unwrap_or(row.ssh_port);
            row.rate_limit = update.rate_limit.unwrap_or(row.rate_limit);
            row.updated = self.now();
            Ok(catalog::partner::put(transaction, &row)?)
        })?;
        self.partner(id)
    }

    /// Preferences of replication.
    pub fn replication_preferences(&self) -> Result<ReplicationPreferences> {
        Ok(self.catalog.read(catalog::partner::preferences)?)
    }

    /// Changes them, also for sessions that are at work.
    pub fn set_replication_preferences(
        &self,
        _caller: &Caller,
        update: &PreferencesUpdate,
    ) -> Result<ReplicationPreferences> {
        let within = |field: &str, value: Option<u64>, most: u64| match value {
            Some(value) if !(1..=most).contains(&value) => {
                Err(Invalid::new(field, format!("{value} is not from 1 to {most}")))
            }
            _ => Ok(()),
        };
        within("parallel_sessions", update.parallel_sessions, 64)?;
        within("session_history", update.session_history, 1_000_000)?;
        self.catalog.write(|transaction| -> Result<_> {
            let mut preferences = catalog::partner::preferences(transaction)?;
            preferences.rate_limit = update.rate_limit.unwrap_or(preferences.rate_limit);
            preferences.parallel_sessions = update.parallel_sessions.unwrap_or(preferences.parallel_sessions);
            preferences.session_history = update.session_history.unwrap_or(preferences.session_history);
            catalog::partner::set_preferences(transaction, &preferences)?;
            Ok(preferences)
        })
    }
}

fn present(row: PartnerRow) -> Partner {
    Partner {
        id: row.id,
        address: row.address,
        api_port: row.api_port,
        ssh_port: row.ssh_port,
        rate_limit: row.rate_limit,
        created: row.created,
        updated: row.updated,
    }
}
