//! Changing a pool: properties, disks, scrubs (contract section 7.4, and upkeep).

use super::{
    Caller, Engine,
    absence::Place,
    locks::Key,
    operation::Operation,
    pool::{disk_groups, own_status, path_or_name, zpool_name},
    pool_create::{is_uneven, plan_groups, plan_vdev, uuid_in_path},
};
use crate::{
    catalog::{self, pool::PoolRow},
    error::{Error, Result},
    os::{self, LabelOwner, PoolChange},
    types::{
        Invalid, Name, PoolId,
        disk::{Disk, DiskUuid},
        names::to_property,
        pool::{Pool, PoolAction, PoolOptions, PoolStatus, PoolType, PoolUpdate, Vdev, VdevLayout, VdevPlan, VdevRole},
    },
};

impl Engine {
    /// Changes name and options.
    pub fn update_pool(&self, caller: &Caller, id: PoolId, update: PoolUpdate) -> Result<Pool> {
        let _guard = self.locks.acquire(vec![Key::Pool(id)], "a change of the pool")?;
        let row = self.pool_row(id)?;
        let (_, facts) = self.changeable(&row)?;
        self.require_nothing_waits(Place::Of(id))?;
        let before = (row.name, facts.options);
        let after = (
            update.name.unwrap_or_else(|| before.0.clone()),
            PoolOptions {
                compression: update.compression.unwrap_or(before.1.compression),
                deduplication: update.deduplication.unwrap_or(before.1.deduplication),
                syncwrite: update.syncwrite.unwrap_or(before.1.syncwrite),
            },
        );
        self.perform(caller, |transaction| {
            let other = catalog::pool::find_name(transaction, after.0.as_str())?;
            if other.is_some_and(|other| other.id != id) {
                return Err(Error::Exists(format!("there is another pool named {:?}", after.0.as_str())));
            }
            catalog::pool::set_properties(transaction, id, &after.0, after.1)?;
            Ok(Operation::UpdatePool { pool: id, before, after })
        })?;
        self.pool(id)
    }

    pub(super) fn run_update_pool(&self, id: i64, pool: PoolId, after: &(Name, PoolOptions)) -> Result<()> {
        let row = self.pool_row(pool)?;
        self.changeable(&row)?;
        self.set_zfs_properties(pool, after)?;
        self.finish(id, |transaction| catalog::pool::touch(transaction, pool, self.now()))
    }

    /// The row and ZFS get their former values back.
    pub(super) fn undo_update_pool(
        &self,
        id: i64,
        pool: PoolId,
        before: &(Name, PoolOptions),
        cause: &Error,
    ) -> Result<()> {
        let own = self.pool_row(pool).and_then(|row| self.changeable(&row));
        if let Err(error) = own.and_then(|_| self.set_zfs_properties(pool, before)) {
            // Reads show what is in force in ZFS, so nothing false is said.
            tracing::warn!(pool.id = pool.0, %error, "the former properties could not be set again");
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::pool::set_properties(transaction, pool, &before.0, before.1)
        })
    }

    fn set_zfs_properties(&self, pool: PoolId, (name, options): &(Name, PoolOptions)) -> Result<()> {
        let change = PoolChange {
            options: Some(*options),
            dedup_table_quota: options.deduplication.then(|| self.dedup_table_quota()).transpose()?,
            notes: [("vsnap:name".to_owned(), to_property(name.as_str()))].into(),
        };
        Ok(self.zfs.change_pool(&zpool_name(pool), &change)?)
    }

    /// Carries out an action on a pool and tells how the pool is afterwards.
    pub fn act_on_pool(&self, caller: &Caller, id: PoolId, action: PoolAction) -> Result<Pool> {
        let _guard = self.locks.acquire(vec![Key::Pool(id)], "another action on the pool")?;
        let row = self.pool_row(id)?;
        if action == PoolAction::Clear {
            // The one action for a suspended pool, whose properties can't be read.
            self.imported(&row)?;
            self.zfs.clear_pool(&zpool_name(id))?;
            return self.pool(id);
        }
        let (status, _) = self.changeable(&row)?;
        self.require_nothing_waits(Place::Of(id))?;
        let name = zpool_name(id);
        match action {
            PoolAction::Expand(disks) => self.expand(caller, &row, &status, &disks)?,
            PoolAction::AddLog(disks) => self.add_log(caller, id, &disks)?,
            PoolAction::AddCache(disks) => self.add_single(caller, id, VdevRole::Cache, &disks, 0)?,
            PoolAction::AddSpare(disks) => {
                let bytes = self.member_bytes(&status)?;
                self.add_single(caller, id, VdevRole::Spare, &disks, bytes)?;
            }
            PoolAction::RemoveLog => self.remove_all(caller, id, VdevRole::Log, &status.logs)?,
            PoolAction::RemoveCache => self.remove_all(caller, id, VdevRole::Cache, &status.caches)?,
            PoolAction::RemoveSpare(disks) => self.remove_spares(caller, id, &status, &disks)?,
            PoolAction::Scrub => self.zfs.start_scrub(&name)?,
            PoolAction::ScrubStop => self.zfs.stop_scrub(&name).map_err(|error| match error.kind {
                os::Kind::Missing => Error::State(format!("no scrub of pool {id} is running")),
                _ => error.into(),
            })?,
            PoolAction::Replace(old, new) => self.replace(caller, &row, &status, &old, &new)?,
            // By its path: with autoexpand, `zpool online` does not understand a guid.
            PoolAction::Online(disk) => {
                self.zfs.online_disk(&name, &path_or_name(member(&status, &disk)?))?;
                // Now when little was to be rebuilt; upkeep does it otherwise.
                self.return_spares(&row)?;
            }
            PoolAction::Offline(disk) => self.zfs.offline_disk(&name, &member(&status, &disk)?.guid.to_string())?,
            PoolAction::Clear => {}
        }
        self.pool(id)
    }

    fn expand(&self, caller: &Caller, row: &PoolRow, status: &PoolStatus, disks: &[DiskUuid]) -> Result<()> {
        let (_guard, disks) = self.choose_disks("disk_list", disks, "the expansion of a pool")?;
        let vdevs = plan_groups(row.pool_type, &disks)?;
        let width = status.data.first().map(|group| group.children.len()).filter(|_| row.pool_type != PoolType::Raid0);
        let uneven = is_uneven(&disks, &vdevs, width);
        self.perform(caller, |_| Ok(Operation::AddDisks { pool: row.id, vdevs, uneven }))
    }

    fn add_log(&self, caller: &Caller, pool: PoolId, disks: &[DiskUuid]) -> Result<()> {
        let (_guard, disks) = self.choose_named("disk_list", disks, "the addition of a log")?;
        let layout = if disks.len() > 1 { VdevLayout::Mirror } else { VdevLayout::Stripe };
        let vdevs = vec![plan_vdev(VdevRole::Log, layout, &disks)];
        let uneven = is_uneven(&disks, &vdevs, None);
        self.perform(caller, |_| Ok(Operation::AddDisks { pool, vdevs, uneven }))
    }

    /// Cache or spare disks, each for itself, of at least `bytes`.
    fn add_single(&self, caller: &Caller, pool: PoolId, role: VdevRole, disks: &[DiskUuid], bytes: u64) -> Result<()> {
        let (_guard, disks) = self.choose_named("disk_list", disks, "the addition of a disk to a pool")?;
        require_size(&disks, bytes)?;
        let vdevs = vec![plan_vdev(role, VdevLayout::Stripe, &disks)];
        self.perform(caller, |_| Ok(Operation::AddDisks { pool, vdevs, uneven: false }))
    }

    /// As [`Engine::choose_disks`], but no disks doesn't mean all.
    fn choose_named(
        &self,
        field: &str,
        disks: &[DiskUuid],
        work: &'static str,
    ) -> Result<(super::locks::Guard<'_>, Vec<Disk>)> {
        if disks.is_empty() {
            return Err(Invalid::new(field, "give the uuid of at least one disk").into());
        }
        self.choose_disks(field, disks, work)
    }

    /// Bytes that a disk needs to stand in for any member: in a group the smallest one counts, since ZFS uses no more
    /// of the others.
    fn member_bytes(&self, status: &PoolStatus) -> Result<u64> {
        let disks = self.machine.disks()?;
        let size =
            |leaf: &&Vdev| disks.iter().find(|disk| leaf.path.as_ref() == Some(&disk.path)).map(|disk| disk.bytes);
        let smallest = |vdev: &Vdev| vdev.leaves().iter().filter_map(size).min();
        Ok(status.data.iter().filter_map(smallest).max().unwrap_or(0))
    }

    pub(super) fn run_add_disks(&self, id: i64, pool: PoolId, vdevs: &[VdevPlan], uneven: bool) -> Result<()> {
        let row = self.pool_row(pool)?;
        let (status, _) = self.changeable(&row)?;
        let is_there = |vdev: &&VdevPlan| vdev.paths.iter().all(|path| status.has_disk(path));
        if !vdevs.iter().all(|vdev| is_there(&vdev)) {
            for path in vdevs.iter().flat_map(|vdev| &vdev.paths) {
                self.require_unused(path, &uuid_in_path(path)?)?;
            }
            self.zfs.add_vdevs(&zpool_name(pool), vdevs, uneven)?;
        }
        self.finish_with_disks(id, &row)
    }

    /// Those of these disks that did not get into the pool, or have left it, are cleared.
    pub(super) fn undo_disk_change(&self, id: i64, pool: PoolId, paths: &[String], cause: &Error) -> Result<()> {
        // The pool was deleted or forgotten meanwhile, and nobody knows any more which labels were its own.
        let Some(row) = self.catalog.read(|view| catalog::pool::find(view, pool))? else {
            return self.end(id, Some(&cause.to_string()), |_| Ok(()));
        };
        let name = zpool_name(pool);
        let live = self.zfs.pool(&name)?;
        // All of our disks are outside of a pool of others that has its name.
        if let Some(status) = own_status(&row, live.iter()) {
            let outside = paths.iter().filter(|path| !status.has_disk(path));
            self.release_disks(outside, &LabelOwner { name, guid: row.guid });
        }
        self.fail(id, pool, cause)
    }

    fn remove_all(&self, caller: &Caller, pool: PoolId, role: VdevRole, vdevs: &[Vdev]) -> Result<()> {
        if vdevs.is_empty() {
            let what = if role == VdevRole::Log { "log" } else { "cache" };
            return Err(Error::State(format!("pool {pool} has no {what} disk")));
        }
        self.remove(caller, pool, role, &vdevs.iter().collect::<Vec<_>>())
    }

    fn remove_spares(&self, caller: &Caller, pool: PoolId, status: &PoolStatus, disks: &[DiskUuid]) -> Result<()> {
        if disks.is_empty() {
            return Err(Invalid::new("disk_list", "give the uuid of at least one spare").into());
        }
        let mut spares = Vec::new();
        for uuid in disks {
            let spare = status.spares.iter().find(|spare| is_disk(spare, uuid));
            let spare =
                spare.ok_or_else(|| Invalid::new("disk_list", format!("disk {uuid} is no spare of pool {pool}")))?;
            if spare.state == crate::types::pool::Health::Inuse {
                return Err(Error::Busy(format!(
                    "spare {uuid} stands in for a failed disk of pool {pool}; replace that disk first"
                )));
            }
            spares.push(spare);
        }
        self.remove(caller, pool, VdevRole::Spare, &spares)
    }

    fn remove(&self, caller: &Caller, pool: PoolId, role: VdevRole, vdevs: &[&Vdev]) -> Result<()> {
        let names = vdevs.iter().map(|vdev| vdev.name.clone()).collect();
        let paths = vdevs.iter().flat_map(|vdev| vdev.leaves()).filter_map(|leaf| leaf.path.clone()).collect();
        self.perform(caller, |_| Ok(Operation::RemoveDisks { pool, role, vdevs: names, paths }))
    }

    pub(super) fn run_remove_disks(&self, id: i64, pool: PoolId, vdevs: &[String], paths: &[String]) -> Result<()> {
        let row = self.pool_row(pool)?;
        let (status, _) = self.changeable(&row)?;
        let name = zpool_name(pool);
        for vdev in [&status.logs, &status.caches, &status.spares].into_iter().flatten() {
            if vdevs.contains(&vdev.name) {
                self.zfs.remove_vdev(&name, &vdev.name)?;
            }
        }
        self.release_disks(paths, &LabelOwner { name, guid: row.guid });
        self.finish_with_disks(id, &row)
    }

    fn replace(
        &self,
        caller: &Caller,
        row: &PoolRow,
        status: &PoolStatus,
        old: &DiskUuid,
        new: &DiskUuid,
    ) -> Result<()> {
        let old = member(status, old)?.guid;
        let (_guard, disks) = self.choose_named("new_disk", std::slice::from_ref(new), "the replacement of a disk")?;
        require_size(&disks, self.member_bytes(status)?)?;
        let new = disks.iter().map(|disk| disk.path.clone()).collect::<String>();
        self.perform(caller, |_| Ok(Operation::ReplaceDisk { pool: row.id, old, new }))
    }

    pub(super) fn run_replace_disk(&self, id: i64, pool: PoolId, old: u64, new: &str) -> Result<()> {
        let row = self.pool_row(pool)?;
        let (status, _) = self.changeable(&row)?;
        if !status.has_disk(new) {
            self.require_unused(new, &uuid_in_path(new)?)?;
            self.zfs.replace_disk(&zpool_name(pool), &old.to_string(), new)?;
        }
        self.finish_with_disks(id, &row)
    }

    /// The end of an operation that changed a pool's disks: the row follows what is there.
    fn finish_with_disks(&self, id: i64, row: &PoolRow) -> Result<()> {
        let disks = disk_groups(row.pool_type, &self.imported(row)?);
        self.finish(id, |transaction| {
            catalog::pool::set_disks(transaction, row.id, &disks)?;
            catalog::pool::touch(transaction, row.id, self.now())
        })
    }
}

fn require_size(disks: &[Disk], bytes: u64) -> Result<()> {
    match disks.iter().find(|disk| disk.bytes < bytes) {
        Some(disk) => Err(super::disk::candidate_error(
            &disk.uuid,
            &format!("it has {} bytes, fewer than the {bytes} of the disks it must be able to replace", disk.bytes),
        )),
        None => Ok(()),
    }
}

/// The disk of the pool that `uuid` means, also when it is gone: then its link's name or ZFS's guid must do.
fn member<'a>(status: &'a PoolStatus, uuid: &DiskUuid) -> Result<&'a Vdev> {
    let mut leaves = status.disks().map(|(_, leaf)| leaf);
    leaves.find(|leaf| is_disk(leaf, uuid)).ok_or_else(|| {
        Error::not_found("disk", format!("{uuid} in this pool; GET /api/pool/<id>/status lists its disks"))
    })
}

fn is_disk(leaf: &Vdev, uuid: &DiskUuid) -> bool {
    let path = leaf.path.as_deref().unwrap_or(&leaf.name);
    leaf.guid.to_string() == uuid.as_str() || uuid_in_path(path).is_ok_and(|known| known.is_meant_by(uuid))
}
