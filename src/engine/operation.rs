//! Operations: the journal, and what happens after a crash.
//!
//! 1. [`Engine::begin`] commits the operation's row together with the first row change, before the first effect.
//! 2. [`Engine::carry_out`] does the work. It may be run again from the top: it looks, and does what is missing.
//! 3. The last row change and the end of the operation are one transaction ([`Engine::finish`]).
//! 4. If the work fails, [`Engine::give_up`] takes it back: a failed create turns into the delete. What can't be taken
//!    back at once is noted as failed, is never done again, and upkeep tries to take it back.
//!
//! An operation that has not ended keeps others out of its pool (`absence.rs`), also when all locks are free: what came
//! after it would be overwritten. At start-up [`Engine::recover`] drives each of them through 2 to 4.

use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::Transaction;

pub use super::operation_kind::{Operation, VolumeProperties};
use super::{
    Caller, Engine,
    absence::{Absence, Place, Waiting},
    locks::Key,
    volume_action::Rollback,
};
use crate::{
    catalog,
    error::{Error, Result},
    os::Kind,
    types::PoolId,
};

/// The operation of a row of the journal.
pub(super) fn read(row: &catalog::operation::OperationRow) -> Result<Operation> {
    let read = serde_json::from_str(&row.parameters);
    Ok(read.map_err(|error| catalog::Error::Content(format!("operation {}: {error}", row.id)))?)
}

/// How many operations are running, so that a stop can wait for them.
#[derive(Default)]
pub struct Running {
    count: Mutex<usize>,
    ended: Condvar,
    /// Numbers of those that are being carried out.
    ids: Mutex<BTreeSet<i64>>,
}

/// An operation that is being carried out.
struct AtWork<'a>(&'a Running, i64);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// An operation that has not ended: when this is dropped, it keeps others out of its place until upkeep has brought it
/// to an end.
struct Unended<'a> {
    absence: &'a Absence,
    operation: Option<(i64, Place)>,
    /// Why it could not be taken back.
    why: Option<String>,
}

impl Unended<'_> {
    fn ended(mut self) {
        self.operation = None;
    }
}

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if let Some((operation, place)) = self.operation {
            let waiting = if std::thread::panicking() { Waiting::Panicked } else { Waiting::of(self.why.take()) };
            self.absence.hold_back(operation, place, waiting);
        }
    }
}

/// One running operation.
pub(super) struct Run<'a>(&'a Running);

impl Running {
    fn work_on(&self, id: i64) -> AtWork<'_> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        AtWork(self, id)
    }

    fn has(&self, id: i64) -> bool {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub(super) fn enter(&self) -> Run<'_> {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Run(self)
    }

    /// Waits until nothing runs, at most `limit`; tells whether it came to that.
    fn wait_idle(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            count = self.ended.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_all();
    }
}

impl Engine {
    /// Waits until no operation is running, at most `limit`; tells whether it came to that.
    pub fn drain(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.stop_upkeep();
        self.suspend_sessions(limit);
        self.running.wait_idle(deadline.saturating_duration_since(Instant::now()))
    }

    /// Writes an operation to the journal together with its first row change, and carries it out. `prepare` makes the
    /// row change and tells what is to be done.
    pub(super) fn perform(
        &self,
        caller: &Caller,
        prepare: impl FnOnce(&Transaction<'_>) -> Result<Operation>,
    ) -> Result<()> {
        let _run = self.running.enter();
        let (id, operation) = self.begin(caller, prepare)?;
        self.carry_out_or_give_up(id, &operation)
    }

    /// The first half of [`Engine::perform`], for work that goes on in the background.
    pub(super) fn begin(
        &self,
        caller: &Caller,
        prepare: impl FnOnce(&Transaction<'_>) -> Result<Operation>,
    ) -> Result<(i64, Operation)> {
        self.catalog.write(|transaction| {
            let operation = prepare(transaction)?;
            let (verb, subject) = operation.verb_and_subject();
            let parameters = serde_json::to_string(&operation)
                .map_err(|error| catalog::Error::Content(format!("operation {verb}: {error}")))?;
            let new = catalog::operation::NewOperation {
                verb,
                subject: &subject,
                parameters: &parameters,
                user: &caller.user,
                request_id: &caller.request_id,
            };
            Ok((catalog::operation::insert(transaction, new, self.now())?, operation))
        })
    }

    /// The second half of [`Engine::perform`].
    pub(super) fn carry_out_or_give_up(&self, id: i64, operation: &Operation) -> Result<()> {
        let _run = self.running.enter();
        let _at_work = self.running.work_on(id);
        let (verb, subject) = operation.verb_and_subject();
        let began = Instant::now();
        let unended = self.hold_unended(id, operation);
        let result = self.carry_out(id, operation);
        self.progress.end(id);
        let duration_ms = began.elapsed().as_millis() as u64;
        match result {
            Ok(()) => {
                tracing::info!(operation.id = id, verb, subject, duration_ms, "{verb} of {subject} done");
                unended.ended();
                Ok(())
            }
            Err(Error::System(error)) if error.kind == Kind::Unclear => {
                tracing::error!(operation.id = id, verb, subject, %error, "nobody knows yet whether it happened");
                Err(Error::Busy(format!(
                    "{error}: it may happen all the same, so nothing else is done there before that is known; it goes on \
                     within a minute, see GET /api/operation"
                )))
            }
            Err(error) => {
                tracing::warn!(operation.id = id, verb, subject, duration_ms, %error, "{verb} of {subject} failed");
                self.take_back(id, operation, &error, unended);
                Err(error)
            }
        }
    }

    /// Takes a failed operation back, or notes that this is still to be done.
    fn take_back(&self, id: i64, operation: &Operation, cause: &Error, mut unended: Unended<'_>) {
        let (verb, subject) = operation.verb_and_subject();
        let Err(error) = self.give_up(id, operation, cause) else { return unended.ended() };
        let is_ended = self.catalog.read(|view| catalog::operation::is_ended(view, id));
        if is_ended.as_ref().is_ok_and(|is_ended| *is_ended) {
            // What is left is not of the catalog, and upkeep looks after it.
            tracing::warn!(operation.id = id, verb, subject, %error, "{verb} of {subject} was taken back in part");
            return unended.ended();
        }
        unended.why = Some(error.to_string());
        tracing::error!(operation.id = id, verb, subject, %error, "a failed operation could not be taken back yet");
        if operation.can_be_taken_back()
            && let Err(error) =
                self.catalog.write(|transaction| catalog::operation::set_failure(transaction, id, &cause.to_string()))
        {
            tracing::error!(operation.id = id, verb, subject, %error, "nor could it be noted that it failed");
        }
    }

    /// Until it has ended, an operation keeps others out of its place: also when its thread panics, or when it can't be
    /// taken back.
    fn hold_unended(&self, id: i64, operation: &Operation) -> Unended<'_> {
        let place = if operation.needs_partner() { Ok(None) } else { self.place_of(operation) };
        let place = place.unwrap_or_else(|error| {
            tracing::error!(operation.id = id, %error, "the pool that an operation works in is not known");
            None
        });
        Unended { absence: &self.absence, operation: place.map(|place| (id, place)), why: None }
    }

    fn carry_out(&self, id: i64, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Initialize { request } => self.run_initialize(id, *request),
            Operation::CreatePool { pool, vdevs, uneven } => self.run_create_pool(id, *pool, vdevs, *uneven),
            Operation::UpdatePool { pool, after, .. } => self.run_update_pool(id, *pool, after),
            Operation::AddDisks { pool, vdevs, uneven } => self.run_add_disks(id, *pool, vdevs, *uneven),
            Operation::RemoveDisks { pool, vdevs, paths, .. } => self.run_remove_disks(id, *pool, vdevs, paths),
            Operation::ReplaceDisk { pool, old, new } => self.run_replace_disk(id, *pool, *old, new),
            Operation::DeletePool { pool, paths } => self.run_delete_pool(id, *pool, paths),
            Operation::CreateVolume { volume } => self.run_create_volume(id, *volume),
            Operation::UpdateVolume { volume, after, .. } => self.run_update_volume(id, *volume, after),
            Operation::DeleteVolume { volume } => self.run_delete_volume(id, *volume),
            Operation::RollBack { volume, snapshot, newer, clones, share, mapped } => {
                let rollback = Rollback { snapshot: *snapshot, newer, clones, share: *share, mapped: *mapped };
                self.run_roll_back(id, *volume, &rollback)
            }
            Operation::Promote { volume, from, origin } => self.run_promote(id, *volume, *from, *origin),
            Operation::CreateSnapshots { snapshots } => self.run_create_snapshots(id, snapshots),
            Operation::DeleteSnapshot { snapshot } => self.run_delete_snapshot(id, *snapshot),
            Operation::RetainSnapshot { snapshot, after, .. } => self.run_retain_snapshot(id, *snapshot, *after),
            Operation::HoldSnapshot { snapshot, reason, user } => self.run_hold_snapshot(id, *snapshot, reason, user),
            Operation::ReleaseSnapshot { snapshot, reason } => self.run_release_snapshot(id, *snapshot, reason),
            Operation::UpdateNetwork { .. } => self.run_update_network(id),
            Operation::CreateShare { share } => self.run_create_share(id, *share),
            Operation::UpdateShare { share, before, after } => self.run_update_share(id, *share, before, after),
            Operation::DeleteShare { share } => self.run_delete_share(id, *share),
            Operation::CreateHost { host } => self.run_create_host(id, *host),
            Operation::UpdateHost { host, after, .. } => self.run_update_host(id, *host, after),
            Operation::DeleteHost { host } => self.run_delete_host(id, *host),
            Operation::MapVolume { host, volume } => self.run_map_volume(id, *host, *volume),
            Operation::UnmapVolume { host, volume } => self.run_unmap_volume(id, *host, *volume),
            Operation::CreatePartner { partner } => self.run_create_partner(id, partner),
            Operation::DeletePartner { partner, force } => self.run_delete_partner(id, partner, *force),
            Operation::CreateRelationship { relationship, remote_pool, remote_name, reuse } => {
                self.run_create_relationship(id, relationship, *remote_pool, remote_name.as_ref(), *reuse)
            }
            Operation::CreateReplica { relationship, volume, reuse } => {
                self.run_create_replica(id, relationship, *volume, *reuse)
            }
            Operation::EndRelationship { relationship, preserve, tell, .. } => {
                self.run_end_relationship(id, relationship, *preserve, *tell)
            }
        }
    }

    /// Takes back what [`Engine::carry_out`] could not bring to its end because of `cause`, and ends the operation.
    fn give_up(&self, id: i64, operation: &Operation, cause: &Error) -> Result<()> {
        match operation {
            Operation::Initialize { .. } => self.fail_initialize(id, cause),
            Operation::CreatePool { pool, vdevs, .. } => self.undo_create_pool(id, *pool, vdevs, cause),
            Operation::DeletePool { pool, .. } => self.undo_delete_pool(id, *pool, cause),
            Operation::AddDisks { pool, vdevs, .. } => {
                let paths: Vec<String> = vdevs.iter().flat_map(|vdev| vdev.paths.clone()).collect();
                self.undo_disk_change(id, *pool, &paths, cause)
            }
            Operation::ReplaceDisk { pool, new, .. } => {
                self.undo_disk_change(id, *pool, std::slice::from_ref(new), cause)
            }
            Operation::UpdatePool { pool, before, .. } => self.undo_update_pool(id, *pool, before, cause),
            Operation::RemoveDisks { pool, paths, .. } => self.undo_disk_change(id, *pool, paths, cause),
            Operation::CreateVolume { volume } => self.undo_create_volume(id, *volume, cause),
            Operation::UpdateVolume { volume, before, .. } => self.undo_update_volume(id, *volume, before, cause),
            Operation::DeleteVolume { volume } => self.undo_delete_volume(id, *volume, cause),
            Operation::RollBack { volume, snapshot, newer, clones, share, mapped } => {
                let rollback = Rollback { snapshot: *snapshot, newer, clones, share: *share, mapped: *mapped };
                self.undo_roll_back(id, *volume, &rollback, cause)
            }
            Operation::Promote { volume, from, origin } => self.undo_promote(id, *volume, *from, *origin, cause),
            Operation::CreateSnapshots { snapshots } => self.undo_create_snapshots(id, snapshots, cause),
            Operation::DeleteSnapshot { snapshot } => self.undo_delete_snapshot(id, *snapshot, cause),
            Operation::RetainSnapshot { snapshot, before, .. } => {
                self.undo_retain_snapshot(id, *snapshot, *before, cause)
            }
            Operation::HoldSnapshot { snapshot, reason, .. } => self.undo_hold_snapshot(id, *snapshot, reason, cause),
            Operation::ReleaseSnapshot { .. } => self.end(id, Some(&cause.to_string()), |_| Ok(())),
            Operation::UpdateNetwork { interface, name, before } => {
                self.undo_update_network(id, (interface, name), before, cause)
            }
            Operation::CreateShare { share } => self.undo_create_share(id, *share, cause),
            Operation::UpdateShare { share, before, after } => self.undo_update_share(id, *share, before, after, cause),
            Operation::DeleteShare { share } => self.undo_delete_share(id, *share, cause),
            Operation::CreateHost { host } => self.undo_create_host(id, *host, cause),
            Operation::UpdateHost { host, before, .. } => self.undo_update_host(id, *host, before, cause),
            Operation::DeleteHost { host } => self.undo_delete_host(id, *host, cause),
            Operation::MapVolume { host, volume } => self.undo_map_volume(id, *host, *volume, cause),
            Operation::UnmapVolume { host, volume } => self.undo_unmap_volume(id, *host, *volume, cause),
            Operation::CreatePartner { partner } => self.undo_create_partner(id, partner, cause),
            Operation::DeletePartner { partner, .. } => self.undo_delete_partner(id, partner, cause),
            Operation::CreateRelationship { relationship, reuse, .. } => {
                self.undo_create_relationship(id, relationship, *reuse, cause)
            }
            Operation::CreateReplica { relationship, volume, reuse } => {
                self.undo_create_replica(id, relationship, *volume, *reuse, cause)
            }
            Operation::EndRelationship { relationship, volume, .. } => {
                self.undo_end_relationship(id, relationship, *volume, cause)
            }
        }
    }

    /// The last row change of an operation, and its end.
    pub(super) fn finish(&self, id: i64, rows: impl FnOnce(&Transaction<'_>) -> catalog::Result<()>) -> Result<()> {
        self.end(id, None, rows)
    }

    /// Ends an operation with `failure` together with a row change.
    pub(super) fn end(
        &self,
        id: i64,
        failure: Option<&str>,
        rows: impl FnOnce(&Transaction<'_>) -> catalog::Result<()>,
    ) -> Result<()> {
        self.catalog.write(|transaction| {
            rows(transaction)?;
            catalog::operation::end(transaction, id, failure, self.now())?;
            Ok(())
        })
    }

    /// Ends an operation that failed without leaving anything to take back: the pool's row follows what is there.
    pub(super) fn fail(&self, id: i64, pool: PoolId, cause: &Error) -> Result<()> {
        let disks = self.live_disks(pool)?;
        self.end(id, Some(&cause.to_string()), |transaction| match &disks {
            Some(disks) => catalog::pool::set_disks(transaction, pool, disks),
            None => Ok(()),
        })
    }

    /// Drives every operation that has not ended to its end, the youngest first.
    pub(super) fn recover(&self) -> Result<()> {
        for row in self.catalog.read(catalog::operation::unfinished)? {
            let operation = read(&row)?;
            let (verb, subject) = operation.verb_and_subject();
            if operation.needs_partner() {
                // The partner may be starting as well, and must not be waited for: upkeep goes on with it.
                tracing::warn!(
                    operation.id = row.id,
                    verb,
                    subject,
                    "{verb} of {subject} goes on when the appliance is up"
                );
                continue;
            }
            // One that can't be asked for keeps the appliance from nothing else.
            let is_readable = |pool| {
                self.is_readable(pool).unwrap_or_else(|error| {
                    tracing::error!(pool.id = pool.0, %error, "the state of a pool could not be read");
                    false
                })
            };
            if let Some(place) = self.place_of(&operation)?
                && !is_readable(place.pool())
            {
                // Nobody can tell how far it came, so it is neither done nor taken back before the pool is here again.
                let pool = place.pool();
                tracing::warn!(operation.id = row.id, verb, subject, "{verb} of {subject} waits for pool {pool}");
                self.absence.hold_back(row.id, place, Waiting::ForPool);
                continue;
            }
            self.go_on(&row)?;
        }
        Ok(())
    }

    /// Drives on the operations in which a partner takes part, those that nobody works on.
    pub(super) fn go_on_with_partners(&self) -> Result<()> {
        for row in self.catalog.read(catalog::operation::unfinished)? {
            let operation = read(&row)?;
            if !operation.needs_partner() || self.running.has(row.id) {
                continue;
            }
            let keys = self.keys_with_partner(&operation)?;
            // Whoever is at it now is either done with it in the next round, or about something else.
            let Ok(_guard) = self.locks.acquire(keys, "an operation that was interrupted") else { continue };
            let still = self.catalog.read(catalog::operation::unfinished)?.iter().any(|other| other.id == row.id);
            if !still {
                continue;
            }
            match self.place_of(&operation)? {
                Some(place) if !self.is_readable(place.pool())? => {}
                _ => self.go_on(&row)?,
            }
        }
        Ok(())
    }

    /// What an operation in which a partner takes part held when it was asked for.
    fn keys_with_partner(&self, operation: &Operation) -> Result<Vec<Key>> {
        let relationship = match operation {
            Operation::CreatePartner { partner } | Operation::DeletePartner { partner, .. } => {
                return Ok(vec![Key::Partner(partner.clone())]);
            }
            Operation::CreateRelationship { relationship, .. } | Operation::EndRelationship { relationship, .. } => {
                relationship
            }
            _ => return Ok(Vec::new()),
        };
        let row = self.catalog.read(|view| catalog::relationship::find(view, relationship))?;
        Ok(row.map_or_else(Vec::new, |row| vec![Key::Within(row.pool), Key::Volume(row.volume)]))
    }

    /// Drives an operation that was interrupted to its end.
    pub(super) fn go_on(&self, row: &catalog::operation::OperationRow) -> Result<()> {
        let operation = read(row)?;
        let (verb, subject) = operation.verb_and_subject();
        tracing::warn!(
            operation.id = row.id,
            verb,
            subject,
            "going on with {verb} of {subject}, which was interrupted"
        );
        // Its failure has been logged and written to the journal; the appliance works on all the same.
        match &row.failure {
            Some(failure) => {
                let _at_work = self.running.work_on(row.id);
                let unended = self.hold_unended(row.id, &operation);
                self.take_back(row.id, &operation, &Error::State(failure.clone()), unended);
            }
            None => drop(self.carry_out_or_give_up(row.id, &operation)),
        }
        Ok(())
    }

    /// The pool that an operation changes, or in which it changes something; `None` when it changes something else, or its
    /// pool was forgotten meanwhile. A pool that comes or goes is not among them: how far that came is asked of its disks.
    fn place_of(&self, operation: &Operation) -> Result<Option<Place>> {
        self.catalog.read(|view| {
            let of_volume = |volume| Ok(catalog::volume::find(view, volume)?.map(|row| Place::In(row.pool)));
            let of_snapshot = |snapshot| Ok(catalog::snapshot::find(view, snapshot)?.map(|row| Place::In(row.pool)));
            match operation {
                Operation::UpdatePool { pool, .. }
                | Operation::AddDisks { pool, .. }
                | Operation::RemoveDisks { pool, .. }
                | Operation::ReplaceDisk { pool, .. } => {
                    Ok(catalog::pool::find(view, *pool)?.map(|row| Place::Of(row.id)))
                }
                Operation::CreateShare { share }
                | Operation::UpdateShare { share, .. }
                | Operation::DeleteShare { share } => {
                    Ok(catalog::share::find(view, *share)?.map(|row| Place::In(row.pool)))
                }
                Operation::CreateVolume { volume }
                | Operation::UpdateVolume { volume, .. }
                | Operation::DeleteVolume { volume }
                | Operation::RollBack { volume, .. }
                | Operation::CreateReplica { volume, .. }
                | Operation::EndRelationship { volume, .. }
                | Operation::Promote { volume, .. } => of_volume(*volume),
                Operation::CreateSnapshots { snapshots } => snapshots.first().copied().map_or(Ok(None), of_snapshot),
                Operation::DeleteSnapshot { snapshot }
                | Operation::RetainSnapshot { snapshot, .. }
                | Operation::HoldSnapshot { snapshot, .. }
                | Operation::ReleaseSnapshot { snapshot, .. } => of_snapshot(*snapshot),
                _ => Ok(None),
            }
        })
    }
}
