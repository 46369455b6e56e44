//! Rolling a volume back, and promoting a clone.

use std::collections::BTreeSet;

use super::{
    Caller, Engine,
    exports::Export,
    locks::Key,
    operation::Operation,
    relationship_change::require_no_relationship,
    session::base::bookmark_number,
    snapshot::{number_in, require_ready, snapshot_list},
    volume::{dataset_name, volume_list},
};
use crate::{
    catalog::{self, RowState, snapshot::SnapshotRow, volume::VolumeRow},
    error::{Error, Result},
    os::SnapshotFacts,
    types::{
        HostId, Invalid, ShareId, SnapshotId, VolumeId,
        snapshot::LOCK_TAG,
        volume::{Volume, VolumeAction, VolumeType},
    },
};

/// What a rollback may take away.
struct Discard<'a> {
    snapshots: &'a [SnapshotId],
    clones: &'a [VolumeId],
    shares: &'a [ShareId],
    hosts: &'a [HostId],
}

/// A rollback as the journal has it (see [`Operation::RollBack`]).
#[derive(Clone, Copy)]
pub(super) struct Rollback<'a> {
    pub(super) snapshot: SnapshotId,
    pub(super) newer: &'a [SnapshotId],
    pub(super) clones: &'a [VolumeId],
    pub(super) share: Option<ShareId>,
    pub(super) mapped: bool,
}

impl Engine {
    /// Carries out an action on a volume and tells how the volume is afterwards.
    pub fn act_on_volume(&self, caller: &Caller, id: VolumeId, action: VolumeAction) -> Result<Volume> {
        match action {
            VolumeAction::Rollback { snapshot, discard_snapshots, discard_clones, discard_shares, discard_hosts } => {
                let discard = Discard {
                    snapshots: &discard_snapshots,
                    clones: &discard_clones,
                    shares: &discard_shares,
                    hosts: &discard_hosts,
                };
                self.roll_back(caller, id, snapshot, &discard)?;
            }
            VolumeAction::Promote => self.promote(caller, id)?,
        }
        self.volume(id)
    }

    fn roll_back(&self, caller: &Caller, id: VolumeId, snapshot: SnapshotId, discard: &Discard<'_>) -> Result<()> {
        let pool = self.volume_row(id)?.pool;
        let mut keys = vec![Key::Within(pool), Key::Volume(id)];
        keys.extend(discard.clones.iter().map(|clone| Key::Volume(*clone)));
        // Luns that files of it back are rolled back with it.
        keys.extend(self.luns_on(id)?.into_iter().map(Key::Volume));
        let _guard = self.locks.acquire(keys, "a rollback")?;
        self.require_readable(pool)?;
        self.require_no_replica(id, "rolled back")?;
        self.own_dataset(&self.ready_volume(id)?)?;
        let target = self.snapshot_row(snapshot)?;
        if target.volume != id {
            let fault = format!("snapshot {snapshot} is of volume {}, not of volume {id}", target.volume);
            return Err(Invalid::new("snapshot_id", fault).into());
        }
        require_ready(&target)?;
        self.own_snapshot(&target)?;
        let newer = self.newer_snapshots(id, snapshot)?;
        self.require_no_session(id, snapshot)?;
        let clones = self.discardable_clones(&newer, discard.clones)?;
        self.require_discardable(id, &newer, discard.snapshots)?;
        self.require_no_strangers_after(&target, &newer, &clones)?;
        let share = self.discardable_share(id, discard.shares)?;
        self.require_discardable_hosts(id, discard.hosts)?;
        let volumes = self.rolled_back(id, &clones)?;
        let mapped = !self.hosts_of(&volumes)?.is_empty();
        self.perform(caller, |transaction| {
            require_no_open_session(transaction, id)?;
            set_mapped(transaction, &volumes, RowState::Deleting)?;
            let newer: Vec<SnapshotId> = newer.iter().map(|row| row.id).collect();
            // From now on nobody sends, clones, holds or locks them.
            set_snapshots(transaction, &newer, RowState::Deleting)?;
            Ok(Operation::RollBack { volume: id, snapshot, newer, clones, share, mapped })
        })?;
        if mapped {
            self.apply_iscsi_after_failure();
        }
        Ok(())
    }

    /// ZFS rolls back to what nothing newer is there of, and what others made is not ours to destroy: told before
    /// anything of ours goes. `newer` and `clones`: what goes.
    fn require_no_strangers_after(
        &self,
        target: &SnapshotRow,
        newer: &[SnapshotRow],
        clones: &[VolumeId],
    ) -> Result<()> {
        let name = target.zfs_name()?;
        let all = self.zfs.snapshots(name.dataset())?;
        let Some(at) = all.iter().position(|facts| facts.name == name.as_str()) else {
            return Err(Error::not_found("snapshot", target.id));
        };
        let mut going = BTreeSet::new();
        for clone in clones {
            if let Some(row) = self.catalog.read(|view| catalog::volume::find(view, *clone))? {
                going.insert(dataset_name(&row)?.as_str().to_owned());
            }
        }
        let is_known = |facts: &SnapshotFacts| {
            self.is_own_snapshot(facts)
                && number_in(&facts.name).is_some_and(|number| newer.iter().any(|row| row.id == number))
        };
        let mut strangers: Vec<String> = Vec::new();
        for facts in &all[at + 1..] {
            if !is_known(facts) {
                strangers.push(facts.name.clone());
            }
            let others = facts.clones.iter().filter(|clone| !going.contains(*clone));
            strangers.extend(others.map(|clone| format!("{clone}, a clone of {}", facts.name)));
            let holds = facts.holds.iter().filter(|tag| *tag != LOCK_TAG);
            strangers.extend(holds.map(|tag| format!("the hold {tag:?} of {}", facts.name)));
        }
        let bookmarks = self.zfs.bookmarks(name.dataset())?;
        let bookmarks = bookmarks.iter().filter(|facts| facts.transaction > all[at].transaction);
        strangers
            .extend(bookmarks.filter(|facts| bookmark_number(&facts.name).is_none()).map(|facts| facts.name.clone()));
        if strangers.is_empty() {
            return Ok(());
        }
        strangers.truncate(10);
        Err(Error::Busy(format!(
            "what this appliance did not make is newer and in the way: {}; remove it with `zfs destroy` or `zfs \
             release` first, if nobody needs it",
            strangers.join("; ")
        )))
    }

    /// A replica can't be rolled back with its volume: what it got since then it keeps, and then nothing can follow.
    fn require_no_session(&self, volume: VolumeId, target: SnapshotId) -> Result<()> {
        self.catalog.read(|view| require_no_open_session(view, volume))?;
        for row in self.catalog.read(|view| catalog::relationship::of_volume(view, volume))? {
            if row.base.is_some_and(|base| base > target) {
                return Err(Error::Busy(format!(
                    "the replica of relationship {} has snapshot {} already, so it could not follow; delete the relationship \
                     first",
                    row.id,
                    row.base.map_or(0, |base| base.0)
                )));
            }
        }
        Ok(())
    }

    /// Bookmarks of newer snapshots are in the way of a rollback. What has arrived is not newer, so no relationship needs
    /// them: at worst one whose end was not seen, when all that is lost is that the next session can't be an incremental
    /// one, and that is no reason to keep anybody from his data.
    fn drop_newer_bookmarks(&self, target: &SnapshotRow) -> Result<()> {
        let name = target.zfs_name()?;
        for facts in self.zfs.bookmarks(name.dataset())? {
            if let Some(number) = bookmark_number(&facts.name)
                && number > target.id
            {
                self.zfs.destroy_bookmark(&name.dataset().bookmark(number))?;
            }
        }
        Ok(())
    }

    fn newer_snapshots(&self, volume: VolumeId, snapshot: SnapshotId) -> Result<Vec<SnapshotRow>> {
        let mut rows = self.catalog.read(|view| catalog::snapshot::of_volume(view, volume))?;
        rows.retain(|row| row.id > snapshot);
        Ok(rows)
    }

    /// Clones of the newer snapshots, all of which must have been named, and must be deletable themselves.
    fn discardable_clones(&self, newer: &[SnapshotRow], named: &[VolumeId]) -> Result<Vec<VolumeId>> {
        let mut clones: Vec<VolumeRow> = Vec::new();
        for row in newer.iter().filter(|row| row.has_clones) {
            clones.extend(self.catalog.read(|view| catalog::volume::clones(view, row.id))?);
        }
        if let Some(other) = named.iter().find(|id| clones.iter().all(|clone| clone.id != **id)) {
            let fault = format!("volume {other} is no clone of a newer snapshot");
            return Err(Invalid::new("discard_clones", fault).into());
        }
        let kept: Vec<VolumeRow> = clones.iter().filter(|clone| !named.contains(&clone.id)).cloned().collect();
        if !kept.is_empty() {
            return Err(Error::Busy(format!(
                "newer snapshots have clones: volumes {}; delete or promote them, or name them in discard_clones to \
                 delete them with all they hold",
                volume_list(&kept)
            )));
        }
        for clone in &clones {
            self.require_deletable_volume(clone)?;
            let relationships = self.catalog.read(|view| catalog::relationship::of_volume(view, clone.id))?;
            require_no_relationship(&relationships)?;
        }
        Ok(clones.into_iter().map(|clone| clone.id).collect())
    }

    fn require_discardable(&self, volume: VolumeId, newer: &[SnapshotRow], named: &[SnapshotId]) -> Result<()> {
        if let Some(other) = named.iter().find(|id| newer.iter().all(|row| row.id != **id)) {
            let fault = format!("snapshot {other} is no newer snapshot of volume {volume}");
            return Err(Invalid::new("discard_snapshots", fault).into());
        }
        let kept: Vec<SnapshotRow> = newer.iter().filter(|row| !named.contains(&row.id)).cloned().collect();
        if !kept.is_empty() {
            return Err(Error::Busy(format!(
                "newer snapshots are in the way: {}; name them in discard_snapshots to delete them",
                snapshot_list(&kept)
            )));
        }
        self.require_unlocked(&format!("newer snapshots of volume {volume}"), newer)?;
        for row in newer {
            self.require_not_held(row)?;
        }
        Ok(())
    }

    /// A host goes on writing what it has in mind, and reads what it remembers: each must have been named.
    fn require_discardable_hosts(&self, volume: VolumeId, named: &[HostId]) -> Result<()> {
        let hosts = self.hosts_of(&self.luns_on(volume)?)?;
        if let Some(other) = named.iter().find(|id| !hosts.contains(id)) {
            let fault = format!("volume {volume} is not mapped to host {other}");
            return Err(Invalid::new("discard_hosts", fault).into());
        }
        let kept: Vec<String> = hosts.iter().filter(|id| !named.contains(id)).map(ToString::to_string).collect();
        if kept.is_empty() {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "volume {volume}, or a lun that a file of it backs, is mapped to hosts that would lose what was written \
             since: {}; stop using it there and name them in discard_hosts, or unmap it",
            kept.join(", ")
        )))
    }

    /// The volumes that must not be seen by hosts during a rollback.
    fn rolled_back(&self, volume: VolumeId, clones: &[VolumeId]) -> Result<Vec<VolumeId>> {
        Ok(self.luns_on(volume)?.into_iter().chain(clones.iter().copied()).collect())
    }

    pub(super) fn run_roll_back(&self, id: i64, volume: VolumeId, rollback: &Rollback<'_>) -> Result<()> {
        let Rollback { snapshot, clones, share, mapped, .. } = *rollback;
        if mapped {
            self.apply_exports(Export::Iscsi)?;
        }
        let target = self.snapshot_row(snapshot)?;
        let mut newer = self.newer_snapshots(volume, snapshot)?;
        newer.retain(|row| rollback.newer.contains(&row.id));
        self.require_unlocked(&format!("newer snapshots of volume {volume}"), &newer)?;
        self.require_no_strangers_after(&target, &newer, clones)?;
        if share.is_some() {
            self.end_share_of(volume)?;
        }
        for clone in clones {
            if let Some(row) = self.catalog.read(|view| catalog::volume::find(view, *clone))? {
                self.destroy_volume(id, &row)?;
                self.catalog.write(|transaction| catalog::volume::delete(transaction, *clone))?;
            }
        }
        let mut names = Vec::new();
        for row in &newer {
            if let Some(facts) = self.find_own_snapshot(row)? {
                let name = row.zfs_name()?;
                if facts.holds.iter().any(|tag| tag == LOCK_TAG) {
                    self.zfs.release(&name, LOCK_TAG)?;
                }
                names.push(name);
            }
        }
        if !names.is_empty() {
            self.zfs.destroy_snapshots(&names)?;
        }
        self.drop_newer_bookmarks(&target)?;
        self.zfs.rollback(&target.zfs_name()?)?;
        if let Some(share) = share {
            self.drop_share_notes(volume)?;
            self.catalog.write(|transaction| catalog::share::delete(transaction, share))?;
        }
        self.finish_roll_back(id, volume, &newer)
    }

    fn finish_roll_back(&self, id: i64, volume: VolumeId, newer: &[SnapshotRow]) -> Result<()> {
        let row = self.volume_row(volume)?;
        let (_, facts) = self.own_dataset(&row)?;
        let back = self.rolled_back(volume, &[])?;
        // A lun has the size again that it had then.
        let size = if row.volume_type == VolumeType::Lun { super::volume_create::size_in(&facts) } else { row.size };
        self.finish(id, |transaction| {
            for row in newer {
                catalog::snapshot::delete(transaction, row.id)?;
            }
            catalog::volume::set_properties(transaction, volume, &row.name, size, row.options)?;
            set_mapped(transaction, &back, RowState::Ready)?;
            catalog::volume::touch(transaction, volume, self.now())
        })
    }

    fn promote(&self, caller: &Caller, id: VolumeId) -> Result<()> {
        let row = self.ready_volume(id)?;
        let origin = row.origin.ok_or_else(|| Error::State(format!("volume {id} is no clone")))?;
        let from = self.snapshot_row(origin)?.volume;
        let _guard =
            self.locks.acquire(vec![Key::Within(row.pool), Key::Volume(id), Key::Volume(from)], "a promotion")?;
        let row = self.ready_volume(id)?;
        if row.origin != Some(origin) || self.snapshot_row(origin)?.volume != from {
            return Err(Error::Busy(format!("volume {id} was changed by another request; try again")));
        }
        self.require_readable(row.pool)?;
        self.require_no_replica(from, "the origin of a clone that is promoted")?;
        self.own_dataset(&row)?;
        self.own_dataset(&self.volume_row(from)?)?;
        let (moving, staying) = self.catalog.read(|view| -> Result<_> {
            Ok((catalog::snapshot::of_volume(view, from)?, catalog::snapshot::of_volume(view, id)?))
        })?;
        let clash =
            moving.iter().filter(|row| row.id <= origin).find(|row| staying.iter().any(|own| own.name == row.name));
        if let Some(clash) = clash {
            return Err(Error::Exists(format!(
                "volume {id} and volume {from} both have a snapshot named {:?}; delete one of them first",
                clash.name.as_str()
            )));
        }
        self.perform(caller, |_| Ok(Operation::Promote { volume: id, from, origin }))
    }

    pub(super) fn run_promote(&self, id: i64, volume: VolumeId, from: VolumeId, origin: SnapshotId) -> Result<()> {
        let (row, from_row) = (self.volume_row(volume)?, self.volume_row(from)?);
        let (name, _) = self.own_dataset(&row)?;
        let (_, from_facts) = self.own_dataset(&from_row)?;
        let moved = name.snapshot(origin);
        if from_facts.origin.as_deref() != Some(moved.as_str()) {
            self.zfs.promote(&name)?;
        }
        let mut snapshots = Vec::new();
        for facts in self.zfs.snapshots(&name)?.iter().filter(|facts| self.is_own_snapshot(facts)) {
            snapshots.extend(number_in(&facts.name));
        }
        self.finish(id, |transaction| {
            for snapshot in &snapshots {
                catalog::snapshot::set_volume(transaction, *snapshot, volume)?;
            }
            // The clone takes the place of its origin's volume in the line of descent.
            if from_row.origin != Some(origin) {
                catalog::volume::set_origin(transaction, volume, from_row.origin)?;
                catalog::volume::set_origin(transaction, from, Some(origin))?;
            }
            catalog::volume::touch(transaction, volume, self.now())
        })?;
        self.apply_versions(&[volume, from]);
        Ok(())
    }

    /// The end of a rollback that failed: rows of snapshots and clones that went with it go, too, and clones that
    /// are still there are mounted, shared and mapped again.
    pub(super) fn undo_roll_back(
        &self,
        id: i64,
        volume: VolumeId,
        rollback: &Rollback<'_>,
        cause: &Error,
    ) -> Result<()> {
        let Rollback { newer, clones, mapped, .. } = *rollback;
        let (mut gone, mut gone_clones, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for clone in clones.iter().chain([&volume]) {
            let Some(row) = self.catalog.read(|view| catalog::volume::find(view, *clone))? else { continue };
            if *clone != volume && self.zfs.dataset(&dataset_name(&row)?)?.is_none() {
                gone_clones.push(*clone);
                continue;
            }
            gone.extend(self.gone_snapshots(&row)?);
            self.mount_again(&row);
            kept.push(*clone);
        }
        let back = self.rolled_back(volume, clones)?;
        self.end(id, Some(&cause.to_string()), |transaction| {
            set_mapped(transaction, &back, RowState::Ready)?;
            kept.iter().try_for_each(|volume| catalog::share::revive(transaction, *volume))?;
            gone_clones.iter().try_for_each(|clone| catalog::volume::delete(transaction, *clone))?;
            set_snapshots(transaction, newer, RowState::Ready)?;
            gone.iter().try_for_each(|snapshot| catalog::snapshot::delete(transaction, *snapshot))
        })?;
        if mapped {
            self.apply_iscsi_after_failure();
        }
        kept.into_iter().try_for_each(|volume| self.share_again(volume))
    }

    /// A promotion that ZFS has carried out can't be taken back, so it stays in the journal until the rows follow.
    pub(super) fn undo_promote(
        &self,
        id: i64,
        volume: VolumeId,
        from: VolumeId,
        origin: SnapshotId,
        cause: &Error,
    ) -> Result<()> {
        let rows = self.catalog.read(|view| -> Result<_> {
            Ok(catalog::volume::find(view, volume)?.zip(catalog::volume::find(view, from)?))
        })?;
        if let Some((row, from_row)) = rows {
            let moved = dataset_name(&row)?.snapshot(origin);
            let facts = self.zfs.dataset(&dataset_name(&from_row)?)?;
            if facts.is_some_and(|facts| facts.origin.as_deref() == Some(moved.as_str())) {
                return Err(Error::Contradiction(format!("volume {volume} is promoted, but not in the catalog")));
            }
        }
        self.end(id, Some(&cause.to_string()), |_| Ok(()))
    }
}

fn set_snapshots(
    transaction: &rusqlite::Transaction<'_>,
    snapshots: &[SnapshotId],
    state: RowState,
) -> catalog::Result<()> {
    snapshots.iter().try_for_each(|snapshot| catalog::snapshot::set_state(transaction, *snapshot, state))
}

fn require_no_open_session(view: &rusqlite::Connection, volume: VolumeId) -> Result<()> {
    for row in catalog::relationship::of_volume(view, volume)? {
        if let Some(session) = catalog::session::open_of(view, &row.id)?.first() {
            return Err(Error::Busy(format!(
                "session {} of relationship {} is not over; cancel it first",
                session.session.id, row.id
            )));
        }
    }
    Ok(())
}

/// Takes volumes away from the hosts that they are mapped to, or gives them back with the same numbers.
fn set_mapped(transaction: &rusqlite::Transaction<'_>, volumes: &[VolumeId], state: RowState) -> catalog::Result<()> {
    for volume in volumes {
        for row in catalog::host::mappings_of_volume(transaction, *volume)? {
            catalog::host::set_mapping_state(transaction, row.host, *volume, state)?;
        }
    }
    Ok(())
}
