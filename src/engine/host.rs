//! Hosts: storage clients with their initiators (contract section 10).

use std::collections::HashMap;

use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};

use super::{Caller, Engine, exports::Export, locks::Key, operation::Operation};
use crate::{
    catalog::{
        self, RowState,
        host::{ChapRow, HostRow, MappingRow},
    },
    error::{Error, Result},
    types::{
        HostId, Name,
        host::{ChapCredentials, Host, HostRequest, HostUpdate, Iqn, MappedLun},
        selection::{HostField, Selection},
    },
};

/// What a client can change of a host, as it is or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProperties {
    /// Its name.
    pub name: Name,
    /// Its initiators.
    pub iqns: Vec<Iqn>,
    /// With CHAP: how it logs in. The key of secrets, never these.
    pub chap: Option<ChapRow>,
}

impl Engine {
    /// The hosts that are selected, and how many there are without the page.
    pub fn hosts(&self, selection: &Selection<HostField>) -> Result<(Vec<Host>, u64)> {
        self.catalog.read(|view| {
            let (rows, total) = catalog::host::select(view, selection)?;
            let mut mappings: HashMap<HostId, Vec<MappingRow>> = HashMap::new();
            for mapping in catalog::host::mappings_of_hosts(view, rows.iter().map(|row| row.id))? {
                mappings.entry(mapping.host).or_default().push(mapping);
            }
            let present = |row: HostRow| {
                let own = mappings.remove(&row.id).unwrap_or_default();
                present(row, &own)
            };
            Ok((rows.into_iter().map(present).collect(), total))
        })
    }

    /// One host.
    pub fn host(&self, id: HostId) -> Result<Host> {
        let (row, mappings) = self.catalog.read(|view| -> Result<_> {
            Ok((catalog::host::find(view, id)?, catalog::host::mappings_of_host(view, id)?))
        })?;
        Ok(present(known(row, id)?, &mappings))
    }

    /// The host with this name.
    pub fn host_by_name(&self, name: &str) -> Result<Host> {
        match self.catalog.read(|view| catalog::host::find_name(view, name))? {
            Some(row) if row.state != RowState::Creating => self.host(row.id),
            _ => Err(Error::not_found("host", format!("named {name:?}"))),
        }
    }

    pub(super) fn host_row(&self, id: HostId) -> Result<HostRow> {
        known(self.catalog.read(|view| catalog::host::find(view, id))?, id)
    }

    pub(super) fn ready_host(&self, id: HostId) -> Result<HostRow> {
        let row = self.host_row(id)?;
        match row.state {
            RowState::Ready => Ok(row),
            _ => Err(Error::State(format!("host {id} is being deleted"))),
        }
    }

    /// Makes a host.
    pub fn create_host(&self, caller: &Caller, request: HostRequest) -> Result<Host> {
        let _guard = self.locks.acquire(vec![Key::Hosts], "the creation of a host")?;
        let HostRequest { name, iqns, chap } = request;
        // Told before secrets are written.
        self.catalog.read(|view| require_free(view, &name, &iqns, None))?;
        let chap = chap.map(|credentials| self.keep_secrets(&credentials)).transpose()?;
        let mut made = None;
        let result = self.perform(caller, |transaction| {
            require_free(transaction, &name, &iqns, None)?;
            let id = catalog::host::insert(transaction, &name, &iqns, chap.as_ref(), self.now())?;
            made = Some(id);
            Ok(Operation::CreateHost { host: id })
        });
        self.forget_unused_secrets(chap.as_ref());
        result?;
        self.host(made.ok_or_else(|| Error::Contradiction("a host was made without a row".to_owned()))?)
    }

    pub(super) fn run_create_host(&self, id: i64, host: HostId) -> Result<()> {
        self.apply_exports(Export::Iscsi)?;
        self.finish(id, |transaction| catalog::host::set_state(transaction, host, RowState::Ready))
    }

    /// A host that could not be let in is none.
    pub(super) fn undo_create_host(&self, id: i64, host: HostId, cause: &Error) -> Result<()> {
        self.catalog.write(|transaction| catalog::host::set_state(transaction, host, RowState::Deleting))?;
        self.apply_iscsi_after_failure();
        self.end(id, Some(&cause.to_string()), |transaction| catalog::host::delete(transaction, host))
    }

    /// Changes a host. Initiators that it loses are logged out; those that it gains see its luns at once.
    pub fn update_host(&self, caller: &Caller, id: HostId, update: HostUpdate) -> Result<Host> {
        let _guard = self.locks.acquire(vec![Key::Hosts, Key::Host(id)], "a change of the host")?;
        let row = self.ready_host(id)?;
        let before = HostProperties { name: row.name, iqns: row.iqns, chap: row.chap };
        let (name, iqns) =
            (update.name.unwrap_or_else(|| before.name.clone()), update.iqns.unwrap_or_else(|| before.iqns.clone()));
        self.catalog.read(|view| require_free(view, &name, &iqns, Some(id)))?;
        let chap = match update.chap {
            None => before.chap.clone(),
            Some(None) => None,
            Some(Some(credentials)) => Some(self.keep_secrets(&credentials)?),
        };
        let after = HostProperties { name, iqns, chap };
        let (old, new) = (before.chap.clone(), after.chap.clone());
        let result = self.perform(caller, |transaction| {
            require_free(transaction, &after.name, &after.iqns, Some(id))?;
            set(transaction, id, &after)?;
            Ok(Operation::UpdateHost { host: id, before, after })
        });
        self.forget_unused_secrets(old.as_ref());
        self.forget_unused_secrets(new.as_ref());
        result?;
        self.host(id)
    }

    pub(super) fn run_update_host(&self, id: i64, host: HostId, after: &HostProperties) -> Result<()> {
        self.catalog.write(|transaction| set(transaction, host, after))?;
        self.apply_exports(Export::Iscsi)?;
        self.finish(id, |transaction| catalog::host::touch(transaction, host, self.now()))
    }

    /// Gives a host its former properties back.
    pub(super) fn undo_update_host(&self, id: i64, host: HostId, before: &HostProperties, cause: &Error) -> Result<()> {
        self.end(id, Some(&cause.to_string()), |transaction| set(transaction, host, before))?;
        self.apply_iscsi_after_failure();
        Ok(())
    }

    /// Deletes a host. What is mapped to it is unmapped.
    pub fn delete_host(&self, caller: &Caller, id: HostId) -> Result<()> {
        self.host_row(id)?;
        let _guard = self.locks.acquire(vec![Key::Hosts, Key::Host(id)], "the deletion of the host")?;
        let row = self.host_row(id)?;
        let result = self.perform(caller, |transaction| {
            catalog::host::set_state(transaction, id, RowState::Deleting)?;
            Ok(Operation::DeleteHost { host: id })
        });
        self.forget_unused_secrets(row.chap.as_ref());
        result
    }

    pub(super) fn run_delete_host(&self, id: i64, host: HostId) -> Result<()> {
        self.apply_exports(Export::Iscsi)?;
        self.finish(id, |transaction| catalog::host::delete(transaction, host))
    }

    /// The host may still be logged in, so it is shown again.
    pub(super) fn undo_delete_host(&self, id: i64, host: HostId, cause: &Error) -> Result<()> {
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::host::set_state(transaction, host, RowState::Ready)
        })?;
        self.apply_iscsi_after_failure();
        Ok(())
    }

    /// What was taken back in the catalog is taken back in the system; what can't be now, upkeep does.
    pub(super) fn apply_iscsi_after_failure(&self) {
        if let Err(error) = self.apply_exports(Export::Iscsi) {
            tracing::warn!(%error, "the iSCSI target could not be made what it was; upkeep will try again");
        }
    }

    /// Writes secrets down under a key of their own, before any row speaks of them.
    fn keep_secrets(&self, credentials: &ChapCredentials) -> Result<ChapRow> {
        let key = uuid::Uuid::new_v4().simple().to_string();
        self.exports.keep_chap(&key, credentials)?;
        Ok(ChapRow { key, users: credentials.users() })
    }

    /// Removes secrets that no row speaks of, after an operation that began or ended their use.
    fn forget_unused_secrets(&self, chap: Option<&ChapRow>) {
        let Some(ChapRow { key, .. }) = chap else { return };
        let removed = self.catalog.read(catalog::host::all).map_err(Error::from).and_then(|rows| {
            // An operation that could not be taken back may need them.
            let unfinished = self.catalog.read(catalog::operation::unfinished)?;
            let is_used = rows.iter().filter_map(|row| row.chap.as_ref()).any(|used| used.key == *key)
                || unfinished.iter().any(|operation| operation.parameters.contains(key));
            if is_used { Ok(()) } else { Ok(self.exports.forget_chap(key)?) }
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "CHAP secrets that are not needed any longer could not be removed");
        }
    }

    /// Removes what a crash left behind. At start, when nobody is about to use any.
    pub(super) fn forget_orphaned_secrets(&self) -> Result<()> {
        let rows = self.catalog.read(catalog::host::all)?;
        let unfinished = self.catalog.read(catalog::operation::unfinished)?;
        for key in self.exports.chap_keys()? {
            let is_used = rows.iter().filter_map(|row| row.chap.as_ref()).any(|used| used.key == key)
                || unfinished.iter().any(|operation| operation.parameters.contains(&key));
            if !is_used {
                self.exports.forget_chap(&key)?;
            }
        }
        Ok(())
    }
}

fn set(transaction: &Transaction<'_>, id: HostId, to: &HostProperties) -> catalog::Result<()> {
    catalog::host::set_properties(transaction, id, &to.name, &to.iqns, to.chap.as_ref())
}

/// Fails when another host than `own` has the name or one of the initiators.
fn require_free(view: &Connection, name: &Name, iqns: &[Iqn], own: Option<HostId>) -> Result<()> {
    if catalog::host::find_name(view, name.as_str())?.is_some_and(|other| Some(other.id) != own) {
        return Err(Error::Exists(format!("there is a host named {:?} already; choose another name", name.as_str())));
    }
    for iqn in iqns {
        if let Some(other) = catalog::host::owner_of(view, iqn)?.filter(|other| Some(other.id) != own) {
            return Err(Error::Exists(format!(
                "the initiator {iqn} belongs to host {} ({:?}); an initiator is in one host only, so take it out of \
                 that one first",
                other.id,
                other.name.as_str()
            )));
        }
    }
    Ok(())
}

fn present(row: HostRow, mappings: &[MappingRow]) -> Host {
    let own = mappings.iter().filter(|mapping| mapping.state != RowState::Creating);
    Host {
        mapped_luns: own.map(|mapping| MappedLun { lun: mapping.lun, volume: mapping.volume }).collect(),
        id: row.id,
        name: row.name,
        iqns: row.iqns,
        chap: row.chap.map(|chap| chap.users),
        created: row.created,
        updated: row.updated,
    }
}

fn known(row: Option<HostRow>, id: HostId) -> Result<HostRow> {
    row.filter(|row| row.state != RowState::Creating).ok_or_else(|| Error::not_found("host", id))
}
