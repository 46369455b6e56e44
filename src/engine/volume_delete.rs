//! Deleting a volume with its snapshots (contract section 8.5).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{MutexGuard, PoisonError},
};

use super::{
    Caller, Engine,
    exports::Export,
    locks::Key,
    operation::Operation,
    relationship_change::require_no_relationship,
    snapshot::{number_in, own_number, snapshot_list},
    volume::{dataset_name, volume_list},
};
use crate::{
    catalog::{self, RowState, snapshot::SnapshotRow, volume::VolumeRow},
    error::{Error, Result},
    os::{KeptOpen, SnapshotFacts},
    types::{
        SnapshotId, VolumeId,
        names::{DatasetName, SnapshotName},
        snapshot::LOCK_TAG,
        volume::VolumeType,
    },
};

/// Snapshots that are destroyed in one transaction: enough to be as fast as all at once, few enough to show progress
/// and not to keep the pool from others.
const BATCH: usize = 100;

/// Snapshots that are destroyed in no more time than it takes to keep their dataset open.
const FEW: usize = 2;

impl Engine {
    /// Deletes a volume and its snapshots. `force` is for relationships; nothing else gives way to it.
    pub fn delete_volume(&self, caller: &Caller, id: VolumeId, force: bool) -> Result<()> {
        let row = self.volume_row(id)?;
        let relationships = self.catalog.read(|view| catalog::relationship::of_volume(view, id))?;
        if !relationships.is_empty() {
            // All that would refuse the deletion first: a relationship does not come back.
            self.require_deletable_volume(&row)?;
            self.end_relationships_of(caller, &relationships, force)?;
        }
        let mut keys = vec![Key::Within(row.pool), Key::Volume(id)];
        keys.extend(row.parent.as_ref().map(|(parent, _)| Key::Volume(*parent)));
        let _guard = self.locks.acquire(keys, "the deletion of the volume")?;
        let row = self.volume_row(id)?;
        self.require_readable(row.pool)?;
        // One may have come while this waited.
        require_no_relationship(&self.catalog.read(|view| catalog::relationship::of_volume(view, id))?)?;
        let snapshots = self.require_deletable_volume(&row)?;
        let _run = self.running.enter();
        let (operation_id, operation) = self.begin(caller, |transaction| {
            catalog::volume::set_state(transaction, id, RowState::Deleting)?;
            Ok(Operation::DeleteVolume { volume: id })
        })?;
        self.checked().insert(operation_id, snapshots);
        let result = self.carry_out_or_give_up(operation_id, &operation);
        self.checked().remove(&operation_id);
        result
    }

    fn checked(&self) -> MutexGuard<'_, HashMap<i64, Vec<SnapshotFacts>>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its snapshots. Fails when something needs the volume or one of them, or somebody else's snapshot is on it.
    pub(super) fn require_deletable_volume(&self, row: &VolumeRow) -> Result<Vec<SnapshotFacts>> {
        let id = row.id;
        let (clones, files, held) = self.catalog.read(|view| -> Result<_> {
            let clones = catalog::volume::clones_of_volume(view, id)?;
            Ok((clones, catalog::volume::files_on(view, id)?, catalog::snapshot::held_of_volume(view, id)?))
        })?;
        if !clones.is_empty() {
            return Err(Error::Busy(format!(
                "snapshots of volume {id} have clones: volumes {}; delete or promote them first",
                volume_list(&clones)
            )));
        }
        if !files.is_empty() {
            return Err(Error::Busy(format!(
                "files of volume {id} back the luns {}; delete them first",
                volume_list(&files)
            )));
        }
        let rows = self.catalog.read(|view| catalog::snapshot::of_volume(view, id))?;
        self.require_unlocked(&format!("volume {id}"), &rows)?;
        if !held.is_empty() {
            return Err(Error::Busy(format!(
                "snapshots of volume {id} are held: {}; release them first",
                snapshot_list(&held)
            )));
        }
        match row.volume_type.dataset(row.pool, id) {
            Some(dataset) => self.own_snapshots(id, &dataset),
            None => Ok(Vec::new()),
        }
    }

    /// Fails when one of the snapshots is locked.
    pub(super) fn require_unlocked(&self, what: &str, rows: &[SnapshotRow]) -> Result<()> {
        let now = self.now();
        let locked: Vec<SnapshotRow> = rows.iter().filter(|row| row.retention.is_locked(now)).cloned().collect();
        let last = locked.iter().filter_map(|row| row.retention.expires).max();
        match last {
            Some(last) => Err(Error::State(format!(
                "{what} can't be deleted before {}: these snapshots are locked: {}",
                super::snapshot::date(last),
                snapshot_list(&locked)
            ))),
            None => Ok(()),
        }
    }

    /// The snapshots of a dataset that is to be destroyed: we destroy only what is ours and known, and nothing of it when
    /// something of others hangs on the rest. Of one that a catalog of an older copy does not know nobody can tell whether it
    /// is locked.
    fn own_snapshots(&self, volume: VolumeId, dataset: &DatasetName) -> Result<Vec<SnapshotFacts>> {
        let snapshots = self.zfs.snapshots(dataset)?;
        let rows = self.catalog.read(|view| catalog::snapshot::of_volume(view, volume))?;
        let known: BTreeSet<SnapshotId> = rows.iter().map(|row| row.id).collect();
        let mut strangers: Vec<String> = Vec::new();
        for SnapshotFacts { name, mark, clones, holds, .. } in &snapshots {
            if !self.is_own_mark(mark.as_ref()) {
                strangers.push(name.clone());
            } else if !number_in(name).is_some_and(|number| known.contains(&number)) {
                strangers.push(format!("{name}, which the catalog does not know"));
            }
            strangers.extend(clones.iter().map(|clone| format!("{clone}, a clone of {name}")));
            let holds = holds.iter().filter(|tag| *tag != LOCK_TAG);
            strangers.extend(holds.map(|tag| format!("the hold {tag:?} of {name}")));
        }
        strangers.extend(self.zfs.descendants(dataset)?);
        if strangers.is_empty() {
            return Ok(snapshots);
        }
        strangers.truncate(10);
        Err(Error::Busy(format!(
            "{dataset} has in ZFS what this appliance did not make or does not know: {}; remove it with `zfs destroy` or `zfs release` \
             first, if nobody needs it",
            strangers.join("; ")
        )))
    }

    pub(super) fn run_delete_volume(&self, id: i64, volume: VolumeId) -> Result<()> {
        let row = self.catalog.read(|view| catalog::volume::find(view, volume))?;
        let row = row.ok_or_else(|| Error::not_found("volume", volume))?;
        // A lun that is going is not wanted there, so this takes it away from hosts. They never see a filesystem, and none
        // goes while its files back luns, so that nothing that hosts hold on to keeps it.
        if row.volume_type != VolumeType::Filesystem {
            self.apply_exports(Export::Iscsi)?;
        }
        self.destroy_volume(id, &row)?;
        self.finish(id, |transaction| catalog::volume::delete(transaction, volume))
    }

    /// Destroys what a volume has in ZFS, if it is there and ours. `id` is the operation that it is done for.
    pub(super) fn destroy_volume(&self, id: i64, row: &VolumeRow) -> Result<()> {
        if row.parent.is_some() {
            return self.remove_trace(row);
        }
        let name = dataset_name(row)?;
        let Some(facts) = self.zfs.dataset(&name)? else { return Ok(()) };
        self.require_own_dataset(row.id, &facts)?;
        let checked = self.checked().remove(&id);
        let snapshots = checked.map_or_else(|| self.own_snapshots(row.id, &name), Ok)?;
        self.end_share_of(row.id)?;
        self.zfs.unmount_dataset(&name)?;
        self.destroy_all_snapshots(id, &name, &snapshots)?;
        Ok(self.zfs.destroy_dataset(&name)?)
    }

    /// The oldest first. Nobody else has the dataset open.
    fn destroy_all_snapshots(&self, id: i64, dataset: &DatasetName, snapshots: &[SnapshotFacts]) -> Result<()> {
        let numbers = snapshots.iter().map(|snapshot| own_number(dataset, &snapshot.name));
        let mut numbers = numbers.collect::<Result<Vec<_>>>()?;
        for (snapshot, number) in snapshots.iter().zip(&numbers) {
            if snapshot.holds.iter().any(|tag| tag == LOCK_TAG) {
                // The lock was found to be over; what is left of it is the hold.
                tracing::debug!(snapshot = snapshot.name, "releasing the hold of a lock that is over");
                self.zfs.release(&dataset.snapshot(*number), LOCK_TAG)?;
            }
        }
        numbers.sort_unstable();
        let known: Vec<SnapshotName> = numbers.into_iter().map(|number| dataset.snapshot(number)).collect();
        let _open = if known.len() > FEW { self.keep_open(dataset) } else { None };
        for (at, batch) in known.chunks(BATCH).enumerate() {
            self.progress.set(id, at * BATCH, known.len() + 1);
            self.zfs.destroy_snapshots(batch)?;
        }
        self.progress.set(id, known.len(), known.len() + 1);
        Ok(())
    }

    /// Without it all takes longer, and that is all.
    fn keep_open(&self, dataset: &DatasetName) -> Option<KeptOpen> {
        let open = self.zfs.keep_open(dataset);
        open.inspect_err(|error| tracing::warn!(%dataset, %error, "the deletion of its snapshots takes longer")).ok()
    }

    /// The volume is still there, so it is shown again; of its snapshots those that are.
    pub(super) fn undo_delete_volume(&self, id: i64, volume: VolumeId, cause: &Error) -> Result<()> {
        let row = self.catalog.read(|view| catalog::volume::find(view, volume))?;
        let gone = match &row {
            Some(row) => self.gone_snapshots(row)?,
            None => Vec::new(),
        };
        if let Some(row) = &row {
            self.mount_again(row);
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            for snapshot in &gone {
                catalog::snapshot::delete(transaction, *snapshot)?;
            }
            catalog::share::revive(transaction, volume)?;
            catalog::volume::set_state(transaction, volume, RowState::Ready)
        })?;
        self.apply_iscsi_after_failure();
        self.share_again(volume)
    }

    /// A volume that was to be deleted was unmounted first.
    pub(super) fn mount_again(&self, row: &VolumeRow) {
        if let Some(name) = row.volume_type.dataset(row.pool, row.id)
            && let Err(error) = self.zfs.mount_dataset(&name)
        {
            tracing::warn!(volume.id = row.id.0, %error, "a volume that was not deleted could not be mounted again");
        }
    }

    /// Snapshots of a volume with a row but without a snapshot in ZFS.
    pub(super) fn gone_snapshots(&self, row: &VolumeRow) -> Result<Vec<SnapshotId>> {
        let Some(dataset) = row.volume_type.dataset(row.pool, row.id) else { return Ok(Vec::new()) };
        let live: BTreeSet<String> = self.zfs.snapshots(&dataset)?.into_iter().map(|facts| facts.name).collect();
        let rows = self.catalog.read(|view| catalog::snapshot::of_volume(view, row.id))?;
        let gone = rows.iter().filter(|row| !live.contains(dataset.snapshot(row.id).as_str()));
        Ok(gone.map(|row| row.id).collect())
    }
}
