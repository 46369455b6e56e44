//! Replicas: what a partner that has the primary volume may do here. Each question names its relationship, and gets at
//! that one replica alone.

use std::{
    os::fd::AsFd,
    sync::{Arc, PoisonError},
};

use super::{
    Caller, Engine, link_serve::Ends, locks::Key, operation::Operation, snapshot::number_in,
    snapshot_create::snapshot_notes, volume::dataset_name,
};
use crate::{
    catalog::{
        self, RowState,
        relationship::{NewRelationship, RelationshipRow},
        snapshot::SnapshotRow,
        volume::{NewVolume, VolumeRow},
    },
    error::{Error, Result},
    os::{Kind, SnapshotFacts, process::Process, stream::Receiving},
    types::{
        Name, PoolId, RelationshipId, SnapshotId, SystemId, VolumeId,
        link::{Answer, Delivery, NewReplica, ReplicaSnapshot},
        names::{DatasetName, SnapshotName},
        relationship::Role,
        snapshot::Retention,
        volume::{VolumeOptions, VolumeType},
    },
};

impl Engine {
    /// [`crate::types::link::Question::CreateReplica`]
    pub(super) fn create_replica(&self, caller: &Caller, partner: &SystemId, new: NewReplica) -> Result<Answer> {
        if new.volume_type == VolumeType::FileBackedLun {
            return Err(Error::State("a file-backed lun has no replica".to_owned()));
        }
        if let Some(row) = self.catalog.read(|view| catalog::relationship::find(view, &new.relationship))? {
            if row.partner != *partner || row.role != Role::Replica {
                return Err(Error::Exists(format!("relationship {} is another one here", new.relationship)));
            }
            if row.state != RowState::Ready {
                return Err(Error::Busy(format!("relationship {} is being made or removed", row.id)));
            }
            return Ok(Answer::Replica { volume: row.volume, name: row.volume_name, pool: row.pool });
        }
        let wanted = new.remote_name.as_ref().unwrap_or(&new.volume_name);
        let found = self.catalog.read(|view| catalog::volume::find_name(view, wanted.as_str()))?;
        match found {
            Some(row) if new.reuse => self.reuse_volume(caller, partner, &new, &row)?,
            Some(row) if new.remote_name.is_some() => {
                return Err(Error::Exists(format!(
                    "there is a volume named {:?} already, volume {}; give another remote_vol_name, or reuse to make it the \
                     replica",
                    wanted.as_str(),
                    row.id
                )));
            }
            _ => self.new_volume(caller, partner, &new)?,
        }
        let row = self.relationship_row(&new.relationship)?;
        Ok(Answer::Replica { volume: row.volume, name: row.volume_name, pool: row.pool })
    }

    fn new_volume(&self, caller: &Caller, partner: &SystemId, new: &NewReplica) -> Result<()> {
        let pool = match new.remote_pool {
            Some(pool) => pool,
            None => self.roomiest_pool()?,
        };
        let _guard = self.locks.acquire(vec![Key::Within(pool)], "a new replica")?;
        self.require_imported(pool)?;
        if let (VolumeType::Lun, Some(bytes)) = (new.volume_type, new.size) {
            self.require_fits(pool, bytes)?;
        }
        self.perform(caller, |transaction| {
            let name = free_name(new.remote_name.as_ref().unwrap_or(&new.volume_name), |name| {
                Ok(catalog::volume::find_name(transaction, name)?.is_some())
            })?;
            let is_lun = new.volume_type == VolumeType::Lun;
            let volume = NewVolume {
                name: &name,
                pool,
                volume_type: new.volume_type,
                serial: is_lun.then(|| uuid::Uuid::new_v4().to_string()),
                parent: None,
                origin: None,
                // A limit is for those who write; a replica must take what comes.
                size: new.size.filter(|_| is_lun),
                block: new.block.filter(|_| is_lun),
                options: VolumeOptions::default(),
            };
            let volume = catalog::volume::insert(transaction, &volume, self.now())?;
            insert_replica(transaction, partner, new, volume, self.now())?;
            Ok(Operation::CreateReplica { relationship: new.relationship.clone(), volume, reuse: false })
        })
    }

    /// A volume that is there becomes the replica, if it is one that nobody uses and that the primary can build on.
    fn reuse_volume(&self, caller: &Caller, partner: &SystemId, new: &NewReplica, found: &VolumeRow) -> Result<()> {
        let id = found.id;
        let _guard = self.locks.acquire(vec![Key::Within(found.pool), Key::Volume(id)], "the reuse of the volume")?;
        let row = self.ready_volume(id)?;
        self.require_readable(row.pool)?;
        let unfit = |why: String| Err(Error::State(format!("volume {id} can't be reused as a replica: {why}")));
        if row.volume_type != new.volume_type {
            return unfit(format!("it is a {}", row.volume_type.word()));
        }
        if new.remote_pool.is_some_and(|pool| pool != row.pool) {
            return unfit(format!("it is in pool {}", row.pool));
        }
        let (share, hosts, files, relationships) = self.catalog.read(|view| -> Result<_> {
            Ok((
                catalog::share::of_volume(view, id)?,
                catalog::host::mappings_of_volume(view, id)?,
                catalog::volume::files_on(view, id)?,
                catalog::relationship::of_volume(view, id)?,
            ))
        })?;
        if let Some(share) = share {
            return unfit(format!("it is shared by share {}; delete that first", share.id));
        }
        if !hosts.is_empty() || !files.is_empty() || !relationships.is_empty() {
            return unfit("it is mapped to hosts, has files that back luns, or has a relationship already".to_owned());
        }
        self.require_base(&row, &new.guids)?;
        self.perform(caller, |transaction| {
            insert_replica(transaction, partner, new, id, self.now())?;
            Ok(Operation::CreateReplica { relationship: new.relationship.clone(), volume: id, reuse: true })
        })
    }

    /// Fails unless a volume is as it was at the time of a snapshot that the primary knows, or blank.
    fn require_base(&self, row: &VolumeRow, guids: &[u64]) -> Result<()> {
        let (dataset, _) = self.own_dataset(row)?;
        let snapshots = self.zfs.snapshots(&dataset)?;
        let unfit = |why: String| Err(Error::State(format!("volume {} can't be reused as a replica: {why}", row.id)));
        let Some(newest) = snapshots.last() else {
            return match self.zfs.is_blank(&dataset)? {
                true => Ok(()),
                false => unfit("it has data, but no snapshot in common with the primary".to_owned()),
            };
        };
        let Some(common) = snapshots.iter().rev().find(|facts| guids.contains(&facts.guid)) else {
            return unfit("it has no snapshot in common with the primary".to_owned());
        };
        if common.guid != newest.guid {
            return unfit(format!(
                "it has snapshots newer than {}, the last one that it has in common with the primary; roll it back to that \
                 one, if what came later may be lost",
                common.name
            ));
        }
        let names = self.snapshot_names(&dataset, std::slice::from_ref(newest))?;
        self.zfs.sync(&dataset)?;
        match self.changed_since(row, &names[0])? {
            None => Ok(()),
            Some(what) => unfit(format!(
                "{what} since {}, the last snapshot that it has in common with the primary; roll it back to that one, if \
                 that may be lost",
                newest.name
            )),
        }
    }

    /// What was changed in a volume since its newest snapshot, in words. ZFS itself writes a little into what is rolled
    /// back or mounted, so of a lun a little is not told; that the replica was changed is then seen by ZFS when it is to
    /// take a stream.
    fn changed_since(&self, row: &VolumeRow, snapshot: &SnapshotName) -> Result<Option<String>> {
        const LITTLE: u64 = 64 << 10;
        let bytes = self.zfs.written_since(snapshot, None)?;
        if bytes == 0 {
            return Ok(None);
        }
        if row.volume_type == VolumeType::Lun {
            return Ok((bytes > LITTLE).then(|| format!("{bytes} bytes were written to it")));
        }
        let mut changed = None;
        self.zfs.diff(snapshot, None, &mut |change| {
            changed = Some(change.path);
            false
        })?;
        Ok(changed.map(|path| format!("/{path} was changed")))
    }

    /// The pool with most room of those that can be written.
    fn roomiest_pool(&self) -> Result<PoolId> {
        let pools = self.pools()?;
        let writable = pools.iter().filter(|pool| self.require_readable(pool.id).is_ok());
        let roomiest = writable.max_by_key(|pool| pool.numbers.map_or(0, |numbers| numbers.free));
        roomiest.map(|pool| pool.id).ok_or_else(|| Error::State("there is no pool for a replica".to_owned()))
    }

    pub(super) fn run_create_replica(
        &self,
        id: i64,
        relationship: &RelationshipId,
        volume: VolumeId,
        reuse: bool,
    ) -> Result<()> {
        let row = self.catalog.read(|view| catalog::volume::find(view, volume))?;
        let row = row.ok_or_else(|| Error::not_found("volume", volume))?;
        let name = dataset_name(&row)?;
        if !reuse && self.zfs.dataset(&name)?.is_none() {
            self.create_dataset(&row, &name)?;
        }
        let (_, facts) = self.own_dataset(&row)?;
        self.zfs.set_replica(&name, true)?;
        let end = self.catalog.read(|view| catalog::relationship::find(view, relationship))?;
        let end = end.ok_or_else(|| Error::not_found("relationship", relationship))?;
        self.finish(id, |transaction| {
            let size = super::volume_create::size_in(&facts);
            catalog::volume::set_ready(transaction, volume, Some(facts.guid), size)?;
            let remote = (end.remote_pool, end.remote_volume);
            catalog::relationship::set_ready(transaction, relationship, remote, &end.remote_name)
        })
    }

    pub(super) fn undo_create_replica(
        &self,
        id: i64,
        relationship: &RelationshipId,
        volume: VolumeId,
        reuse: bool,
        cause: &Error,
    ) -> Result<()> {
        if let Some(row) = self.catalog.read(|view| catalog::volume::find(view, volume))? {
            if reuse {
                self.zfs.set_replica(&dataset_name(&row)?, false)?;
            } else {
                self.remove_trace(&row)?;
            }
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::relationship::delete(transaction, relationship)?;
            if reuse { Ok(()) } else { catalog::volume::delete(transaction, volume) }
        })
    }

    fn ready_replica(&self, partner: &SystemId, id: &RelationshipId) -> Result<RelationshipRow> {
        let row = self.relationship_with(partner, id)?;
        match (row.role, row.state) {
            (Role::Replica, RowState::Ready) => Ok(row),
            (Role::Replica, _) => Err(Error::State(format!("relationship {id} is being made or removed"))),
            (Role::Primary, _) => Err(Error::State(format!("this appliance is the primary of relationship {id}"))),
        }
    }

    /// [`crate::types::link::Question::State`]
    pub(super) fn replica_state(&self, partner: &SystemId, id: &RelationshipId) -> Result<Answer> {
        let row = self.ready_replica(partner, id)?;
        self.end_delivery(id);
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "a replication session")?;
        self.require_readable(row.pool)?;
        self.settle_deliveries(&row)?;
        let (dataset, _) = self.own_dataset(&self.volume_row(row.volume)?)?;
        let facts = self.zfs.snapshots(&dataset)?;
        let rows = self.catalog.read(|view| catalog::snapshot::of_volume(view, row.volume))?;
        let known = |facts: &SnapshotFacts| {
            let number = number_in(&facts.name)?;
            let row = rows.iter().find(|row| row.id == number && row.guid == Some(facts.guid))?;
            Some((row.id, row.name.clone()))
        };
        let snapshot = |facts: &SnapshotFacts| ReplicaSnapshot {
            guid: facts.guid,
            zfs_name: facts.name.split_once('@').map_or_else(String::new, |(_, name)| name.to_owned()),
            known: known(facts),
        };
        Ok(Answer::State {
            snapshots: facts.iter().map(snapshot).collect(),
            token: self.zfs.receive_token(&dataset)?,
            empty: facts.is_empty(),
        })
    }

    /// [`crate::types::link::Question::Discard`]
    pub(super) fn discard_delivery(&self, partner: &SystemId, id: &RelationshipId) -> Result<()> {
        let row = self.ready_replica(partner, id)?;
        self.end_delivery(id);
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "a replication session")?;
        self.require_readable(row.pool)?;
        self.drop_deliveries(&row)
    }

    /// [`crate::types::link::Question::Receive`], with the stream. An error says whether the link can go on: whether
    /// the stream had not begun.
    pub(super) fn receive_delivery(
        self: &Arc<Self>,
        partner: &SystemId,
        delivery: &Delivery,
        ends: &Ends<'_>,
    ) -> Result<Option<Answer>, (Error, bool)> {
        let early = |error: Error| (error, true);
        let row = self.ready_replica(partner, &delivery.relationship).map_err(early)?;
        self.end_delivery(&row.id);
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "a replication session").map_err(early)?;
        let receiving = self.prepare_delivery(&row, delivery).map_err(early)?;
        let late = |error: Error| (error, false);
        if !self.reply(ends, Answer::Ready) {
            return Ok(None);
        }
        let input = ends.input.as_fd().try_clone_to_owned();
        let input = input.map_err(|error| late(crate::os::Error::io("receiving", &error).into()))?;
        let process = self.zfs.receive(&receiving, input).map_err(|error| late(error.into()))?;
        self.deliveries().insert(row.id.clone(), Arc::clone(&process));
        let received = process.wait();
        self.deliveries().remove(&row.id);
        if let Err(error) = received {
            tracing::warn!(relationship.id = %row.id, %error, "a stream was not received");
            // It was cut, or ended by one that takes its place.
            let broken = ["incomplete stream", "failed to read from stream", "a signal ended it"];
            if broken.iter().any(|text| error.detail.contains(text)) {
                return Ok(None);
            }
            return Err(late(failed(error)));
        }
        self.settle_deliveries(&row).map_err(late)?;
        let rows = self.catalog.read(|view| catalog::snapshot::of_volume(view, row.volume));
        let rows = rows.map_err(|error: crate::catalog::Error| late(error.into()))?;
        let arrived = rows.into_iter().find(|row| row.guid == Some(delivery.guid) && row.state == RowState::Ready);
        let arrived = arrived.ok_or_else(|| {
            late(Error::Contradiction(format!("what came is not the snapshot with guid {}", delivery.guid)))
        })?;
        tracing::info!(relationship.id = %row.id, snapshot.id = arrived.id.0, "a snapshot was received");
        Ok(Some(Answer::Received { snapshot: arrived.id, name: arrived.name }))
    }

    /// Rows for what is to come, and where it goes.
    fn prepare_delivery(&self, row: &RelationshipRow, delivery: &Delivery) -> Result<Receiving> {
        self.require_readable(row.pool)?;
        self.settle_deliveries(row)?;
        let (dataset, _) = self.own_dataset(&self.volume_row(row.volume)?)?;
        let token = self.zfs.receive_token(&dataset)?;
        if token.is_some() != delivery.resume {
            let there = if token.is_some() { "there is" } else { "there is not" };
            return Err(Error::Busy(format!("{there} an interrupted stream; ask for the state again")));
        }
        let known = self.catalog.read(|view| catalog::relationship::deliveries(view, &row.id))?;
        let snapshot = match known.iter().find(|(guid, _)| *guid == delivery.guid) {
            Some((_, snapshot)) => *snapshot,
            None => {
                if !delivery.resume {
                    // Of those there is no stream left.
                    self.drop_deliveries(row)?;
                }
                self.insert_delivery(row, delivery)?
            }
        };
        let newest = self.zfs.snapshots(&dataset)?.last().map(|facts| facts.guid);
        if newest != delivery.base {
            return Err(Error::State(format!(
                "the newest snapshot of the replica has guid {}, and not {}, which the stream builds on",
                newest.map_or_else(|| "none".to_owned(), |guid| guid.to_string()),
                delivery.base.map_or_else(|| "none".to_owned(), |guid| guid.to_string())
            )));
        }
        Ok(Receiving { snapshot: dataset.snapshot(snapshot), whole: newest.is_none() })
    }

    fn insert_delivery(&self, row: &RelationshipRow, delivery: &Delivery) -> Result<SnapshotId> {
        self.catalog.write(|transaction| {
            let name = free_name(&delivery.name, |name| {
                let name = Name::new(name)?;
                Ok(catalog::snapshot::is_taken(transaction, row.volume, &name)?)
            })?;
            let retention = Retention { expires: None, locked: false };
            let snapshot = catalog::snapshot::insert(transaction, row.volume, &name, retention, self.now())?;
            catalog::relationship::insert_delivery(transaction, &row.id, delivery.guid, snapshot)?;
            Ok(snapshot)
        })
    }

    /// Gives what has arrived its mark and makes it ready. Run again after a crash at any moment: what arrived is known by
    /// the guid that was written down before.
    pub(super) fn settle_deliveries(&self, row: &RelationshipRow) -> Result<()> {
        let deliveries = self.catalog.read(|view| catalog::relationship::deliveries(view, &row.id))?;
        if deliveries.is_empty() {
            return Ok(());
        }
        let (dataset, _) = self.own_dataset(&self.volume_row(row.volume)?)?;
        for (guid, snapshot) in deliveries {
            let name = dataset.snapshot(snapshot);
            let Some(facts) = self.zfs.snapshot_facts(&name)?.filter(|facts| facts.guid == guid) else { continue };
            let Some(found) = self.catalog.read(|view| catalog::snapshot::find(view, snapshot))? else { continue };
            if facts.mark != Some(self.snapshot_mark()) {
                let arrived = SnapshotRow { created: facts.created, ..found };
                let mut notes = snapshot_notes(&arrived);
                notes.insert("vsnap:id".to_owned(), self.snapshot_mark().as_str().to_owned());
                self.zfs.note_snapshot(&name, &notes)?;
            }
            let size = self.zfs.dataset(&dataset)?.and_then(|facts| super::volume_create::size_in(&facts));
            self.catalog.write(|transaction| -> Result<()> {
                catalog::snapshot::set_ready(transaction, snapshot, guid)?;
                catalog::snapshot::set_created(transaction, snapshot, facts.created)?;
                // A lun may have grown.
                catalog::volume::set_size(transaction, row.volume, size)?;
                Ok(catalog::relationship::delete_delivery(transaction, &row.id, guid)?)
            })?;
        }
        Ok(())
    }

    /// Forgets what was on its way and did not arrive.
    pub(super) fn drop_deliveries(&self, row: &RelationshipRow) -> Result<()> {
        self.settle_deliveries(row)?;
        let volume = self.volume_row(row.volume)?;
        let dataset: DatasetName = dataset_name(&volume)?;
        if self.zfs.dataset(&dataset)?.is_some() {
            self.zfs.discard_receive(&dataset)?;
        }
        self.catalog.write(|transaction| -> Result<()> {
            for (guid, snapshot) in catalog::relationship::deliveries(transaction, &row.id)? {
                catalog::relationship::delete_delivery(transaction, &row.id, guid)?;
                catalog::snapshot::delete(transaction, snapshot)?;
            }
            Ok(())
        })
    }

    /// Ends a stream that may still be on its way, on a link that nobody is at the other end of any longer, and waits
    /// until it has let go of the replica.
    pub(super) fn end_delivery(&self, id: &RelationshipId) {
        let running = self.deliveries().get(id).cloned();
        if let Some(process) = running {
            tracing::info!(relationship.id = %id, "ending a stream that another one takes the place of");
            process.kill();
        }
    }

    pub(super) fn deliveries(
        &self,
    ) -> std::sync::MutexGuard<'_, std::collections::HashMap<RelationshipId, Arc<dyn Process>>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert_replica(
    transaction: &rusqlite::Transaction<'_>,
    partner: &SystemId,
    new: &NewReplica,
    volume: VolumeId,
    now: crate::types::Epoch,
) -> Result<()> {
    let relationship = NewRelationship {
        id: &new.relationship,
        role: Role::Replica,
        partner,
        volume,
        remote: (new.pool, new.volume),
        remote_name: &new.volume_name,
    };
    Ok(catalog::relationship::insert(transaction, &relationship, now)?)
}

/// The name, or the first with a number behind it that is free.
fn free_name(name: &Name, taken: impl Fn(&str) -> Result<bool>) -> Result<Name> {
    if !taken(name.as_str())? {
        return Ok(name.clone());
    }
    for number in 2.. {
        let suffix = format!("_{number}");
        let room = Name::MAX_CHARS - suffix.chars().count();
        let text: String = name.as_str().chars().take(room).collect::<String>().trim_end().to_owned() + &suffix;
        if !taken(&text)? {
            return Ok(Name::new(text)?);
        }
    }
    Ok(name.clone())
}

/// What `zfs receive` said, for the one who sent.
fn failed(error: crate::os::Error) -> Error {
    let detail = &error.detail;
    if error.kind == Kind::NoSpace {
        return Error::NoSpace(format!("the pool is full: {detail}"));
    }
    let diverged = ["has been modified", "does not match incremental source", "destination exists", "has snapshots"];
    if diverged.iter().any(|text| detail.contains(text)) {
        return Error::State(format!("the replica is not what the stream builds on: {detail}"));
    }
    error.into()
}
