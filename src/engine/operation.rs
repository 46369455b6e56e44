//! Operations: the journal, and what happens after a crash.
//!
//! 1. [`Engine::begin`] commits the operation's row together with the first row change, before the first effect.
//! 2. [`Engine::carry_out`] does the work. It may be run again from the top: it looks, and does what is missing.
//! 3. The last row change and the end of the operation are one transaction ([`Engine::finish`]).
//! 4. If the work fails, [`Engine::give_up`] takes it back: a failed create turns into the delete.
//!
//! At start-up [`Engine::recover`] drives every operation that has not ended through 2 to 4.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::{Caller, Engine, host::HostProperties};
use crate::{
    catalog,
    error::{Error, Result},
    types::{
        HostId, Name, PoolId, SnapshotId, VolumeId,
        pool::{PoolOptions, VdevPlan, VdevRole},
        snapshot::{HoldReason, Retention},
        system::InitRequest,
        volume::VolumeOptions,
    },
};

/// Every operation that changes more than one thing, with all it needs to be run again. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Operation {
    /// `init`.
    Initialize {
        /// As it was asked for.
        request: InitRequest,
    },
    /// A new pool.
    CreatePool {
        /// Its row.
        pool: PoolId,
        /// Its vdevs.
        vdevs: Vec<VdevPlan>,
        /// Whether groups or disks differ in size.
        uneven: bool,
    },
    /// New name or options.
    UpdatePool {
        /// Which.
        pool: PoolId,
        /// Name and options as they were.
        before: (Name, PoolOptions),
        /// Name and options as they are to be.
        after: (Name, PoolOptions),
    },
    /// Expansion, log, cache or spare disks.
    AddDisks {
        /// To which.
        pool: PoolId,
        /// The new vdevs.
        vdevs: Vec<VdevPlan>,
        /// Whether groups or disks differ in size.
        uneven: bool,
    },
    /// Log, cache or spare disks go.
    RemoveDisks {
        /// From which.
        pool: PoolId,
        /// What they are.
        role: VdevRole,
        /// Names of the vdevs to remove, as ZFS has them.
        vdevs: Vec<String>,
        /// Paths of the disks, to be cleared afterwards.
        paths: Vec<String>,
    },
    /// A disk takes the place of another.
    ReplaceDisk {
        /// In which pool.
        pool: PoolId,
        /// ZFS guid of the disk that goes: its path may be gone already.
        old: u64,
        /// Path of the disk that comes.
        new: String,
    },
    /// A pool goes.
    DeletePool {
        /// Which.
        pool: PoolId,
        /// Paths of its disks, to be cleared afterwards.
        paths: Vec<String>,
    },
    /// A new volume. All about it is in its row.
    CreateVolume {
        /// Its row.
        volume: VolumeId,
    },
    /// New name, size or options.
    UpdateVolume {
        /// Which.
        volume: VolumeId,
        /// As it was.
        before: VolumeProperties,
        /// As it is to be.
        after: VolumeProperties,
    },
    /// A volume goes, with its snapshots.
    DeleteVolume {
        /// Which.
        volume: VolumeId,
    },
    /// A volume becomes what it was.
    RollBack {
        /// Which.
        volume: VolumeId,
        /// To what.
        snapshot: SnapshotId,
        /// Clones that go for it.
        clones: Vec<VolumeId>,
        /// Whether hosts see what it changes, so that it is kept from them meanwhile.
        #[serde(default)]
        mapped: bool,
    },
    /// A clone becomes the owner of its origin.
    Promote {
        /// The clone.
        volume: VolumeId,
        /// Whose snapshot its origin is.
        from: VolumeId,
        /// Its origin.
        origin: SnapshotId,
    },
    /// New snapshots of one moment.
    CreateSnapshots {
        /// Their rows.
        snapshots: Vec<SnapshotId>,
    },
    /// A snapshot goes.
    DeleteSnapshot {
        /// Which.
        snapshot: SnapshotId,
    },
    /// A snapshot is kept for another time.
    RetainSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// As it was.
        before: Retention,
        /// As it is to be.
        after: Retention,
    },
    /// Somebody holds a snapshot.
    HoldSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        reason: HoldReason,
        /// Who.
        user: String,
    },
    /// A hold is gone.
    ReleaseSnapshot {
        /// Of which.
        snapshot: SnapshotId,
        /// Why it was held.
        reason: HoldReason,
    },
    /// A new host.
    CreateHost {
        /// Its row.
        host: HostId,
    },
    /// New name, initiators or CHAP.
    UpdateHost {
        /// Which.
        host: HostId,
        /// As it was.
        before: HostProperties,
        /// As it is to be.
        after: HostProperties,
    },
    /// A host goes, with its mappings.
    DeleteHost {
        /// Which.
        host: HostId,
    },
    /// A volume is mapped to a host.
    MapVolume {
        /// To which.
        host: HostId,
        /// Which.
        volume: VolumeId,
    },
    /// A mapping goes.
    UnmapVolume {
        /// Of which host.
        host: HostId,
        /// Of which volume.
        volume: VolumeId,
    },
}

/// What a client can change of a volume, as it is or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeProperties {
    /// Its name.
    pub name: Name,
    /// Limit of a filesystem, size of a lun; in bytes.
    pub size: Option<u64>,
    /// Its options; `None` follows the pool.
    pub options: VolumeOptions,
}

impl Operation {
    /// What it does and to what, for the journal and the log.
    fn verb_and_subject(&self) -> (&'static str, String) {
        match self {
            Operation::Initialize { .. } => ("initialize", "system".to_owned()),
            Operation::CreatePool { pool, .. } => ("create_pool", format!("pool {pool}")),
            Operation::UpdatePool { pool, .. } => ("update_pool", format!("pool {pool}")),
            Operation::AddDisks { pool, .. } => ("add_disks", format!("pool {pool}")),
            Operation::RemoveDisks { pool, .. } => ("remove_disks", format!("pool {pool}")),
            Operation::ReplaceDisk { pool, .. } => ("replace_disk", format!("pool {pool}")),
            Operation::DeletePool { pool, .. } => ("delete_pool", format!("pool {pool}")),
            Operation::CreateVolume { volume } => ("create_volume", format!("volume {volume}")),
            Operation::UpdateVolume { volume, .. } => ("update_volume", format!("volume {volume}")),
            Operation::DeleteVolume { volume } => ("delete_volume", format!("volume {volume}")),
            Operation::RollBack { volume, .. } => ("roll_back", format!("volume {volume}")),
            Operation::Promote { volume, .. } => ("promote", format!("volume {volume}")),
            Operation::CreateSnapshots { snapshots } => ("create_snapshot", format!("snapshot {}", first(snapshots))),
            Operation::DeleteSnapshot { snapshot } => ("delete_snapshot", format!("snapshot {snapshot}")),
            Operation::RetainSnapshot { snapshot, .. } => ("retain_snapshot", format!("snapshot {snapshot}")),
            Operation::HoldSnapshot { snapshot, .. } => ("hold_snapshot", format!("snapshot {snapshot}")),
            Operation::ReleaseSnapshot { snapshot, .. } => ("release_snapshot", format!("snapshot {snapshot}")),
            Operation::CreateHost { host } => ("create_host", format!("host {host}")),
            Operation::UpdateHost { host, .. } => ("update_host", format!("host {host}")),
            Operation::DeleteHost { host } => ("delete_host", format!("host {host}")),
            Operation::MapVolume { volume, .. } => ("map_volume", format!("volume {volume}")),
            Operation::UnmapVolume { volume, .. } => ("unmap_volume", format!("volume {volume}")),
        }
    }
}

/// One of an atomic set stands for all.
fn first(snapshots: &[SnapshotId]) -> SnapshotId {
    snapshots.first().copied().unwrap_or(SnapshotId(0))
}

/// How many operations are running, so that a stop can wait for them.
#[derive(Default)]
pub struct Running {
    count: Mutex<usize>,
    ended: Condvar,
}

/// One running operation.
struct Run<'a>(&'a Running);

impl Running {
    fn enter(&self) -> Run<'_> {
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
        self.stop_upkeep();
        self.running.wait_idle(limit)
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
        let (verb, subject) = operation.verb_and_subject();
        let began = Instant::now();
        let result = self.carry_out(id, operation);
        self.progress.end(id);
        let duration_ms = began.elapsed().as_millis() as u64;
        match &result {
            Ok(()) => tracing::info!(operation.id = id, verb, subject, duration_ms, "{verb} of {subject} done"),
            Err(error) => {
                tracing::warn!(operation.id = id, verb, subject, duration_ms, %error, "{verb} of {subject} failed");
                // What can't be taken back now stays in the journal and is tried again at the next start.
                if let Err(error) = self.give_up(id, operation, error) {
                    tracing::error!(operation.id = id, verb, subject, %error, "a failed operation could not be taken back");
                }
            }
        }
        result
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
            Operation::RollBack { volume, snapshot, clones, mapped } => {
                self.run_roll_back(id, *volume, *snapshot, clones, *mapped)
            }
            Operation::Promote { volume, from, origin } => self.run_promote(id, *volume, *from, *origin),
            Operation::CreateSnapshots { snapshots } => self.run_create_snapshots(id, snapshots),
            Operation::DeleteSnapshot { snapshot } => self.run_delete_snapshot(id, *snapshot),
            Operation::RetainSnapshot { snapshot, after, .. } => self.run_retain_snapshot(id, *snapshot, *after),
            Operation::HoldSnapshot { snapshot, reason, user } => self.run_hold_snapshot(id, *snapshot, reason, user),
            Operation::ReleaseSnapshot { snapshot, reason } => self.run_release_snapshot(id, *snapshot, reason),
            Operation::CreateHost { host } => self.run_create_host(id, *host),
            Operation::UpdateHost { host, after, .. } => self.run_update_host(id, *host, after),
            Operation::DeleteHost { host } => self.run_delete_host(id, *host),
            Operation::MapVolume { host, volume } => self.run_map_volume(id, *host, *volume),
            Operation::UnmapVolume { host, volume } => self.run_unmap_volume(id, *host, *volume),
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
                self.undo_add_disks(id, *pool, &paths, cause)
            }
            Operation::ReplaceDisk { pool, new, .. } => {
                self.undo_add_disks(id, *pool, std::slice::from_ref(new), cause)
            }
            Operation::UpdatePool { pool, before, .. } => self.undo_update_pool(id, *pool, before, cause),
            Operation::RemoveDisks { pool, .. } => self.fail(id, *pool, cause),
            Operation::CreateVolume { volume } => self.undo_create_volume(id, *volume, cause),
            Operation::UpdateVolume { volume, before, .. } => self.undo_update_volume(id, *volume, before, cause),
            Operation::DeleteVolume { volume } => self.undo_delete_volume(id, *volume, cause),
            Operation::RollBack { volume, clones, mapped, .. } => {
                self.undo_roll_back(id, *volume, clones, *mapped, cause)
            }
            Operation::Promote { volume, from, origin } => self.undo_promote(id, *volume, *from, *origin, cause),
            Operation::CreateSnapshots { snapshots } => self.undo_create_snapshots(id, snapshots, cause),
            Operation::DeleteSnapshot { snapshot } => self.undo_delete_snapshot(id, *snapshot, cause),
            Operation::RetainSnapshot { snapshot, before, .. } => {
                self.undo_retain_snapshot(id, *snapshot, *before, cause)
            }
            Operation::HoldSnapshot { snapshot, reason, .. } => self.undo_hold_snapshot(id, *snapshot, reason, cause),
            Operation::ReleaseSnapshot { .. } => self.end(id, Some(&cause.to_string()), |_| Ok(())),
            Operation::CreateHost { host } => self.undo_create_host(id, *host, cause),
            Operation::UpdateHost { host, before, .. } => self.undo_update_host(id, *host, before, cause),
            Operation::DeleteHost { host } => self.undo_delete_host(id, *host, cause),
            Operation::MapVolume { host, volume } => self.undo_map_volume(id, *host, *volume, cause),
            Operation::UnmapVolume { host, volume } => self.undo_unmap_volume(id, *host, *volume, cause),
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
            let operation: Operation = serde_json::from_str(&row.parameters)
                .map_err(|error| catalog::Error::Content(format!("operation {}: {error}", row.id)))?;
            let (verb, subject) = operation.verb_and_subject();
            if let Some(pool) = self.pool_worked_in(&operation)?
                && !self.is_readable(pool)?
            {
                // Nobody can tell how far it came, so it is neither done nor taken back before the pool is here again.
                tracing::warn!(operation.id = row.id, verb, subject, "{verb} of {subject} waits for pool {pool}");
                continue;
            }
            tracing::warn!(
                operation.id = row.id,
                verb,
                subject,
                "going on with {verb} of {subject}, which was interrupted"
            );
            // Its failure has been logged and written to the journal; the appliance starts all the same.
            let _ = self.carry_out_or_give_up(row.id, &operation);
        }
        Ok(())
    }

    /// The pool that has what an operation changes inside of a pool; `None` when it changes something else, or its
    /// pool was forgotten meanwhile.
    fn pool_worked_in(&self, operation: &Operation) -> Result<Option<PoolId>> {
        let (volume, snapshot) = match operation {
            Operation::CreateVolume { volume }
            | Operation::UpdateVolume { volume, .. }
            | Operation::DeleteVolume { volume }
            | Operation::RollBack { volume, .. }
            | Operation::Promote { volume, .. } => (Some(*volume), None),
            Operation::CreateSnapshots { snapshots } => (None, snapshots.first().copied()),
            Operation::DeleteSnapshot { snapshot }
            | Operation::RetainSnapshot { snapshot, .. }
            | Operation::HoldSnapshot { snapshot, .. }
            | Operation::ReleaseSnapshot { snapshot, .. } => (None, Some(*snapshot)),
            _ => (None, None),
        };
        self.catalog.read(|view| match (volume, snapshot) {
            (Some(volume), _) => Ok(catalog::volume::find(view, volume)?.map(|row| row.pool)),
            (None, Some(snapshot)) => Ok(catalog::snapshot::find(view, snapshot)?.map(|row| row.pool)),
            (None, None) => Ok(None),
        })
    }
}
