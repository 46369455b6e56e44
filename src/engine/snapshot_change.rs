//! Keeping snapshots and letting them go: holds, locks, expiry, deletion (contract section 11.3, and beyond).

use super::{
    Caller, Engine,
    locks::{Guard, Key},
    operation::Operation,
    snapshot::{date, require_ready},
    snapshot_create::{check_retention, retention_notes},
    volume::volume_list,
};
use crate::{
    catalog::{self, RowState, snapshot::SnapshotRow},
    error::{Error, Result},
    os::{Kind, SnapshotFacts},
    types::{
        SnapshotId,
        names::SnapshotName,
        relationship::Role,
        snapshot::{Hold, HoldReason, LOCK_TAG, Retention, RetentionUpdate, Snapshot, SnapshotAction},
    },
};

impl Engine {
    /// Changes how long a snapshot is kept. Nobody can shorten a lock.
    pub fn update_snapshot(&self, caller: &Caller, id: SnapshotId, update: RetentionUpdate) -> Result<Snapshot> {
        let (_guard, row) = self.lock_snapshot(id, "a change of the snapshot")?;
        let before = row.retention;
        let after = Retention {
            expires: update.expires.unwrap_or(before.expires),
            locked: update.locked.unwrap_or(before.locked),
        };
        if before.is_locked(self.now()) && (!after.locked || after.expires < before.expires) {
            return Err(Error::State(format!(
                "snapshot {id} is locked until {}; a lock can be made longer, but nobody can shorten it",
                before.expires.map_or_else(String::new, date)
            )));
        }
        check_retention(after, self.now())?;
        self.own_snapshot(&row)?;
        self.perform(caller, |transaction| {
            catalog::snapshot::set_retention(transaction, id, after, self.now())?;
            Ok(Operation::RetainSnapshot { snapshot: id, before, after })
        })?;
        self.snapshot(id)
    }

    pub(super) fn run_retain_snapshot(&self, id: i64, snapshot: SnapshotId, after: Retention) -> Result<()> {
        self.set_retention(snapshot, after)?;
        self.finish(id, |_| Ok(()))
    }

    pub(super) fn undo_retain_snapshot(
        &self,
        id: i64,
        snapshot: SnapshotId,
        before: Retention,
        cause: &Error,
    ) -> Result<()> {
        if let Err(error) = self.set_retention(snapshot, before) {
            tracing::warn!(snapshot.id = snapshot.0, %error, "the former retention could not be set again");
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::snapshot::set_retention(transaction, snapshot, before, self.now())
        })
    }

    fn set_retention(&self, snapshot: SnapshotId, retention: Retention) -> Result<()> {
        let (name, facts) = self.own_snapshot(&self.snapshot_row(snapshot)?)?;
        self.zfs.note_snapshot(&name, &retention_notes(retention))?;
        match (retention.locked, is_lock_held(&facts)) {
            (true, false) => Ok(self.zfs.hold(&name, LOCK_TAG)?),
            (false, true) => Ok(self.zfs.release(&name, LOCK_TAG)?),
            _ => Ok(()),
        }
    }

    /// Carries out an action on a snapshot and tells how the snapshot is afterwards.
    pub fn act_on_snapshot(&self, caller: &Caller, id: SnapshotId, action: SnapshotAction) -> Result<Snapshot> {
        let (_guard, row) = self.lock_snapshot(id, "a hold of the snapshot")?;
        self.own_snapshot(&row)?;
        let holds = self.catalog.read(|view| catalog::snapshot::holds(view, id))?;
        let is_held = |reason: &HoldReason| holds.iter().any(|hold| hold.reason == *reason);
        match action {
            SnapshotAction::Hold(reason) if is_held(&reason) => {
                return Err(Error::Exists(format!("snapshot {id} is held for {:?} already", reason.as_str())));
            }
            SnapshotAction::Hold(reason) => {
                let user = caller.user.clone();
                self.perform(caller, |_| Ok(Operation::HoldSnapshot { snapshot: id, reason, user }))?;
            }
            SnapshotAction::Release(reason) if !is_held(&reason) => {
                return Err(Error::not_found("hold", format!("of snapshot {id} for {:?}", reason.as_str())));
            }
            SnapshotAction::Release(reason) => {
                self.perform(caller, |_| Ok(Operation::ReleaseSnapshot { snapshot: id, reason }))?;
            }
        }
        self.snapshot(id)
    }

    pub(super) fn run_hold_snapshot(
        &self,
        id: i64,
        snapshot: SnapshotId,
        reason: &HoldReason,
        user: &str,
    ) -> Result<()> {
        let (name, facts) = self.own_snapshot(&self.snapshot_row(snapshot)?)?;
        if !facts.holds.contains(&reason.tag()) {
            self.zfs.hold(&name, &reason.tag())?;
        }
        let hold = Hold { reason: reason.clone(), user: user.to_owned(), created: self.now() };
        self.finish(id, |transaction| catalog::snapshot::insert_hold(transaction, snapshot, &hold))
    }

    pub(super) fn undo_hold_snapshot(
        &self,
        id: i64,
        snapshot: SnapshotId,
        reason: &HoldReason,
        cause: &Error,
    ) -> Result<()> {
        let row = self.catalog.read(|view| catalog::snapshot::find(view, snapshot))?;
        if let Some(row) = row
            && let Some(facts) = self.find_own_snapshot(&row)?
            && facts.holds.contains(&reason.tag())
        {
            self.zfs.release(&row.zfs_name()?, &reason.tag())?;
        }
        self.end(id, Some(&cause.to_string()), |_| Ok(()))
    }

    pub(super) fn run_release_snapshot(&self, id: i64, snapshot: SnapshotId, reason: &HoldReason) -> Result<()> {
        let (name, facts) = self.own_snapshot(&self.snapshot_row(snapshot)?)?;
        if facts.holds.contains(&reason.tag()) {
            self.zfs.release(&name, &reason.tag())?;
        }
        self.finish(id, |transaction| catalog::snapshot::delete_hold(transaction, snapshot, reason))
    }

    /// Deletes a snapshot that nothing needs.
    pub fn delete_snapshot(&self, caller: &Caller, id: SnapshotId) -> Result<()> {
        let (_guard, row) = self.lock_snapshot(id, "the deletion of the snapshot")?;
        let clones = self.catalog.read(|view| catalog::volume::clones(view, id))?;
        if !clones.is_empty() {
            return Err(Error::Busy(format!(
                "snapshot {id} has clones: volumes {}; delete or promote them first",
                volume_list(&clones)
            )));
        }
        self.require_unlocked(&format!("snapshot {id}"), std::slice::from_ref(&row))?;
        self.require_not_held(&row)?;
        self.require_no_base(&row)?;
        // Also here, so that one that expired and can't go is no entry in the journal each time.
        if let Some(facts) = self.find_own_snapshot(&row)? {
            require_unneeded(&row.zfs_name()?, &facts)?;
        }
        self.perform(caller, |transaction| {
            catalog::snapshot::set_state(transaction, id, RowState::Deleting)?;
            Ok(Operation::DeleteSnapshot { snapshot: id })
        })
    }

    /// The newest snapshot of a replica is what the next session builds on. (Of the volume that is sent a bookmark is
    /// kept.)
    fn require_no_base(&self, row: &SnapshotRow) -> Result<()> {
        let relationships = self.catalog.read(|view| catalog::relationship::of_volume(view, row.volume))?;
        let Some(relationship) = relationships.iter().find(|relationship| relationship.role == Role::Replica) else {
            return Ok(());
        };
        let all = self.catalog.read(|view| catalog::snapshot::of_volume(view, row.volume))?;
        let newest = all.iter().filter(|other| other.state == RowState::Ready).map(|other| other.id).max();
        if newest != Some(row.id) {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "snapshot {} is what the next session of relationship {} builds on; it can go when that has sent another one",
            row.id, relationship.id
        )))
    }

    pub(super) fn run_delete_snapshot(&self, id: i64, snapshot: SnapshotId) -> Result<()> {
        let row = self.snapshot_row(snapshot)?;
        if let Some(facts) = self.find_own_snapshot(&row)? {
            let name = row.zfs_name()?;
            self.apply_versions(&[row.volume]);
            self.destroy_snapshot(&name, &facts)?;
        }
        self.finish(id, |transaction| catalog::snapshot::delete(transaction, snapshot))
    }

    fn destroy_snapshot(&self, name: &SnapshotName, facts: &SnapshotFacts) -> Result<()> {
        require_unneeded(name, facts)?;
        if is_lock_held(facts) {
            // The lock was found to be over; what is left of it is the hold.
            self.zfs.release(name, LOCK_TAG)?;
        }
        match self.zfs.destroy_snapshots(std::slice::from_ref(name)) {
            Err(error) if error.kind == Kind::Busy => Err(Error::Busy(format!("{name} is in use: {}", error.detail))),
            result => Ok(result?),
        }
    }

    /// The snapshot is still there, so it is shown again.
    pub(super) fn undo_delete_snapshot(&self, id: i64, snapshot: SnapshotId, cause: &Error) -> Result<()> {
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::snapshot::set_state(transaction, snapshot, RowState::Ready)
        })?;
        // None when its pool was forgotten.
        if let Some(row) = self.catalog.read(|view| catalog::snapshot::find(view, snapshot))? {
            self.apply_versions(&[row.volume]);
        }
        Ok(())
    }

    /// Removes snapshots whose time is over and that nothing needs.
    pub(super) fn remove_expired_snapshots(&self) -> Result<()> {
        for row in self.catalog.read(|view| catalog::snapshot::expired(view, self.now()))? {
            let holds = self.catalog.read(|view| catalog::snapshot::holds(view, row.id))?;
            if row.has_clones || !holds.is_empty() || !self.is_readable(row.pool)? {
                continue;
            }
            match self.delete_snapshot(&Caller::system("expiry"), row.id) {
                Ok(()) => tracing::info!(snapshot.id = row.id.0, "a snapshot expired and was removed"),
                Err(error) => {
                    tracing::error!(snapshot.id = row.id.0, %error, "an expired snapshot could not be removed")
                }
            }
        }
        Ok(())
    }

    /// A snapshot that is to be changed, with the lock of its volume.
    fn lock_snapshot(&self, id: SnapshotId, work: &'static str) -> Result<(Guard<'_>, SnapshotRow)> {
        let before = self.snapshot_row(id)?;
        let guard = self.locks.acquire(vec![Key::Within(before.pool), Key::Volume(before.volume)], work)?;
        let row = self.snapshot_row(id)?;
        if row.volume != before.volume {
            return Err(Error::Busy(format!("snapshot {id} was moved by a promotion; try again")));
        }
        require_ready(&row)?;
        self.require_readable(row.pool)?;
        Ok((guard, row))
    }
}

/// Fails when somebody holds a snapshot in ZFS, or has made a clone of it there.
fn require_unneeded(name: &SnapshotName, facts: &SnapshotFacts) -> Result<()> {
    let strangers: Vec<&str> = facts.holds.iter().map(String::as_str).filter(|tag| *tag != LOCK_TAG).collect();
    if !strangers.is_empty() {
        return Err(Error::Busy(format!("{name} is held in ZFS under the tags {}", strangers.join(", "))));
    }
    if !facts.clones.is_empty() {
        return Err(Error::Busy(format!("{name} has clones in ZFS: {}", facts.clones.join(", "))));
    }
    Ok(())
}

fn is_lock_held(facts: &SnapshotFacts) -> bool {
    facts.holds.iter().any(|tag| tag == LOCK_TAG)
}
