//! Deleting a pool (contract section 7.5).

use super::{
    Caller, Engine, absence::Place, exports::Export, locks::Key, operation::Operation, pool::zpool_name,
    relationship_change::require_no_relationship, snapshot::snapshot_list,
};
use crate::{
    catalog::{self, RowState, pool::PoolRow},
    error::{Error, Result},
    os::LabelOwner,
    types::{
        PoolId,
        ids::Mark,
        pool::{Health, PoolStatus},
    },
};

impl Engine {
    /// Destroys a pool and clears its disks, so that they are unused again. A pool whose disks are not here is only
    /// forgotten, and only with `force`.
    pub fn delete_pool(&self, caller: &Caller, id: PoolId, force: bool) -> Result<()> {
        self.pool_row(id)?;
        let relationships = self.catalog.read(|view| catalog::relationship::of_pool(view, id))?;
        // Of a pool that is not here nothing can be ended; they are forgotten with it.
        if !relationships.is_empty() && (!force || self.is_readable(id)?) {
            // All that would refuse the deletion first: a relationship does not come back.
            self.require_deletable(id, force)?;
            self.end_relationships_of(caller, &relationships, force)?;
        }
        let _guard = self.locks.acquire(vec![Key::Pool(id), Key::Contents(id)], "the deletion of the pool")?;
        let paths = self.require_deletable(id, force)?;
        if !force || self.is_readable(id)? {
            // One may have come while this waited.
            require_no_relationship(&self.catalog.read(|view| catalog::relationship::of_pool(view, id))?)?;
        }
        self.perform(caller, |transaction| {
            catalog::pool::set_state(transaction, id, RowState::Deleting)?;
            Ok(Operation::DeletePool { pool: id, paths })
        })
    }

    /// Disks of a pool that can be deleted; none when it is not here and only to be forgotten.
    fn require_deletable(&self, id: PoolId, force: bool) -> Result<Vec<String>> {
        let row = self.pool_row(id)?;
        let locked = self.catalog.read(|view| catalog::snapshot::locked_in_pool(view, id, self.now()))?;
        self.require_unlocked(&format!("pool {id}"), &locked)?;
        match self.imported(&row) {
            Ok(status) => {
                self.require_destroyable(&row, &status)?;
                if !force && self.is_readable(id)? {
                    self.require_nothing_waits(Place::Of(id))?;
                    self.require_none_held(id)?;
                    self.require_no_strangers(&row)?;
                }
                Ok(disk_paths(&status))
            }
            Err(Error::State(message)) if !force => {
                Err(Error::State(format!("{message}; or delete it with ?force=true, which only forgets it")))
            }
            Err(Error::State(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Fails while snapshots in the pool are held: ZFS destroys a pool with them.
    fn require_none_held(&self, id: PoolId) -> Result<()> {
        let held = self.catalog.read(|view| catalog::snapshot::held_of_pool(view, id))?;
        if held.is_empty() {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "snapshots in pool {id} are held: {}; release them first, or delete the pool with all that is in it with \
             ?force=true",
            snapshot_list(&held)
        )))
    }

    /// Fails when somebody else made datasets in the pool: they would go with it.
    fn require_no_strangers(&self, row: &PoolRow) -> Result<()> {
        let (id, datasets) = (self.id(), self.zfs.datasets(&zpool_name(row.id))?);
        let is_ours = |mark: &Mark| mark.parts().is_some_and(|(owner, _, _)| owner == id);
        let strangers = datasets.iter().filter(|facts| !facts.mark.as_ref().is_some_and(is_ours));
        let names: Vec<&str> = strangers.map(|facts| facts.name.as_str()).take(10).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "pool {} has datasets that this appliance did not make: {}; remove them with `zfs destroy`, or delete the \
             pool with all that is in it with ?force=true",
            row.id,
            names.join(", ")
        )))
    }

    fn require_destroyable(&self, row: &PoolRow, status: &PoolStatus) -> Result<()> {
        if status.state == Health::Suspended {
            return Err(Error::State(format!(
                "pool {} is suspended and can't be deleted now: ZFS would wait for its disks for ever; bring them \
                 back and `vsnap pool clear {}`, or restart the appliance without them and delete it with ?force=true",
                row.id, row.id
            )));
        }
        self.require_ours(row.id, &self.zfs.pool_facts(&zpool_name(row.id))?)
    }

    pub(super) fn run_delete_pool(&self, id: i64, pool: PoolId, paths: &[String]) -> Result<()> {
        let row = self.catalog.read(|view| catalog::pool::find(view, pool))?;
        let row = row.ok_or_else(|| Error::not_found("pool", pool))?;
        let name = zpool_name(pool);
        // What is in a pool that is going is not wanted there, so this takes it away from hosts.
        self.apply_exports(Export::Iscsi)?;
        match self.zfs.pool(&name)? {
            // Not imported because it was destroyed, or because its disks are gone.
            None => {}
            Some(_) => {
                let status = self.imported(&row)?;
                if paths.is_empty() {
                    // Its disks came after the request, when the daemon was killed perhaps; what they hold was to stay.
                    return Err(Error::State(format!(
                        "pool {pool} is here again and was only to be forgotten; delete it once more if it is to be \
                         destroyed"
                    )));
                }
                self.require_destroyable(&row, &status)?;
                self.apply_exports_of_pool(pool)?;
                self.zfs.destroy_pool(&name)?;
            }
        }
        self.release_disks(paths, &LabelOwner { name, guid: row.guid });
        self.finish(id, |transaction| catalog::pool::delete(transaction, pool))
    }

    /// The pool is still there, so it is shown again.
    pub(super) fn undo_delete_pool(&self, id: i64, pool: PoolId, cause: &Error) -> Result<()> {
        // ZFS unmounts before it finds that it can't go on. A pool that is not here needs no mount, and one of others that
        // has its name gets none from us.
        let own = self.pool_row(pool).and_then(|row| self.changeable(&row));
        if let Err(error) = own.and_then(|_| Ok(self.zfs.mount_pool(&zpool_name(pool))?)) {
            tracing::warn!(pool.id = pool.0, %error, "a pool that was not deleted could not be mounted again");
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::pool::set_state(transaction, pool, RowState::Ready)
        })?;
        self.apply_iscsi_after_failure();
        self.apply_exports_of_pool(pool)
    }
}

/// Every disk of the pool once, in whatever role.
fn disk_paths(status: &PoolStatus) -> Vec<String> {
    let mut paths: Vec<String> = status.disks().filter_map(|(_, leaf)| leaf.path.clone()).collect();
    paths.sort();
    paths.dedup();
    paths
}
