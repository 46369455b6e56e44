//! Replicas: what a partner that has the primary volume may do here with them. Each question names its relationship, and
//! gets at that one replica alone. How they come to be is in `replica_create.rs`.

use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    sync::{Arc, PoisonError},
};

use rusqlite::Connection;

use super::{
    Engine, link_serve::Ends, locks::Key, replica_create::free_name, snapshot::number_in,
    snapshot_create::snapshot_notes, volume::dataset_name, volume_create::volume_notes,
};
use crate::{
    catalog::{self, RowState, relationship::RelationshipRow, snapshot::SnapshotRow},
    error::{Error, Result},
    os::{Kind, SnapshotFacts, link::widen, process::Process, stream::Receiving},
    types::{
        Name, PoolId, RelationshipId, SnapshotId, SystemId,
        ids::Mark,
        link::{Answer, Delivery, ReplicaSnapshot},
        names::DatasetName,
        relationship::Role,
        snapshot::Retention,
    },
};

impl Engine {
    fn ready_replica(&self, partner: &SystemId, id: &RelationshipId) -> Result<RelationshipRow> {
        let row = self.relationship_with(partner, id)?;
        match (row.role, row.state) {
            (Role::Replica, RowState::Ready) => Ok(row),
            (Role::Replica, _) => Err(Error::State(format!("relationship {id} is being made or removed"))),
            (Role::Primary, _) => Err(Error::State(format!("this appliance is the primary of relationship {id}"))),
        }
    }

    /// [`crate::types::link::Question::State`]
    pub(super) fn replica_state(
        &self,
        partner: &SystemId,
        id: &RelationshipId,
        name_there: Option<&Name>,
    ) -> Result<Answer> {
        let row = self.ready_replica(partner, id)?;
        if let Some(name) = name_there.filter(|name| **name != row.remote_name) {
            self.catalog.write(|transaction| catalog::relationship::set_remote_name(transaction, id, name))?;
        }
        self.end_delivery(id);
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "a replication session")?;
        self.require_readable(row.pool)?;
        self.require_dataset(&row)?;
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
            volume_name: Some(row.volume_name),
        })
    }

    /// [`crate::types::link::Question::Discard`]
    pub(super) fn discard_delivery(&self, partner: &SystemId, id: &RelationshipId) -> Result<()> {
        let row = self.ready_replica(partner, id)?;
        self.end_delivery(id);
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "a replication session")?;
        self.require_readable(row.pool)?;
        self.drop_deliveries(&row, true)
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
        // sshd makes a small one: it and ZFS would wait for each other all the time.
        widen(&input);
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
        let there = self.zfs.snapshots(&dataset)?;
        // Before it gets a number: nothing can be received under one that is taken.
        self.pass_snapshots(row.pool, &there)?;
        let known = self.catalog.read(|view| catalog::relationship::deliveries(view, &row.id))?;
        let snapshot = match known.iter().find(|(guid, _)| *guid == delivery.guid) {
            Some((_, snapshot)) => {
                self.rename_delivery(row, delivery, *snapshot)?;
                *snapshot
            }
            None => {
                if !delivery.resume {
                    // Of those there is no stream left.
                    self.drop_deliveries(row, true)?;
                }
                self.insert_delivery(row, delivery)?
            }
        };
        let newest = there.last().map(|facts| facts.guid);
        if newest != delivery.base {
            return Err(Error::State(format!(
                "the newest snapshot of the replica has guid {}, and not {}, which the stream builds on",
                newest.map_or_else(|| "none".to_owned(), |guid| guid.to_string()),
                delivery.base.map_or_else(|| "none".to_owned(), |guid| guid.to_string())
            )));
        }
        if newest.is_none() && !delivery.resume {
            self.require_untouched(row)?;
        }
        let receiving = Receiving { snapshot: dataset.snapshot(snapshot), new: None, whole: newest.is_none() };
        if !delivery.raw || newest.is_some() {
            return Ok(receiving);
        }
        let new = if delivery.resume { None } else { Some(self.make_room(row, &dataset)?) };
        Ok(Receiving { new, whole: false, ..receiving })
    }

    /// Fails when somebody has written into a replica that has no snapshots yet, past its being read-only: a whole stream
    /// takes its place.
    fn require_untouched(&self, row: &RelationshipRow) -> Result<()> {
        /// More than an empty filesystem or zvol takes in any pool.
        const EMPTY: u64 = 1 << 20;
        let (dataset, facts) = self.own_dataset(&self.volume_row(row.volume)?)?;
        match facts.numbers.referenced {
            ..=EMPTY => Ok(()),
            bytes => Err(Error::State(format!(
                "{dataset} has no snapshot, but {bytes} bytes that did not come from the primary; if nobody needs them, \
                 delete the relationship and make a new one"
            ))),
        }
    }

    /// An encrypted stream can't become what is not encrypted: the replica that waits for it, which never had anything in
    /// it, gives way, and comes again with the stream.
    fn make_room(&self, row: &RelationshipRow, dataset: &DatasetName) -> Result<(Mark, BTreeMap<String, String>)> {
        let volume = self.volume_row(row.volume)?;
        if self.zfs.dataset(dataset)?.is_some() {
            self.own_dataset(&volume)?;
            self.zfs.destroy_dataset(dataset)?;
        }
        Ok((self.volume_mark(volume.id), volume_notes(&volume)))
    }

    /// Makes the dataset of a replica again, when it gave way to an encrypted stream that never came.
    fn require_dataset(&self, row: &RelationshipRow) -> Result<()> {
        let volume = self.volume_row(row.volume)?;
        let dataset = dataset_name(&volume)?;
        let arrived = self.catalog.read(|view| catalog::snapshot::of_volume(view, row.volume))?;
        let deliveries = self.catalog.read(|view| catalog::relationship::deliveries(view, &row.id))?;
        let awaited = |snapshot: &SnapshotRow| deliveries.iter().any(|(_, awaited)| *awaited == snapshot.id);
        if deliveries.is_empty() || !arrived.iter().all(awaited) || self.zfs.dataset(&dataset)?.is_some() {
            return Ok(());
        }
        self.create_dataset(&volume, &dataset)?;
        Ok(self.zfs.set_replica(&dataset, true)?)
    }

    fn insert_delivery(&self, row: &RelationshipRow, delivery: &Delivery) -> Result<SnapshotId> {
        self.catalog.write(|transaction| {
            if delivery.exact_name {
                require_free(transaction, row, &delivery.name)?;
            }
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

    /// What an earlier session began may be on its way under another name than the one that is asked for now.
    fn rename_delivery(&self, row: &RelationshipRow, delivery: &Delivery, snapshot: SnapshotId) -> Result<()> {
        if !delivery.exact_name {
            return Ok(());
        }
        self.catalog.write(|transaction| {
            let found = catalog::snapshot::find(transaction, snapshot)?;
            if found.is_some_and(|found| found.name == delivery.name) {
                return Ok(());
            }
            require_free(transaction, row, &delivery.name)?;
            Ok(catalog::snapshot::set_name(transaction, snapshot, &delivery.name)?)
        })
    }

    /// Gives what has arrived its mark and makes it ready. Run again after a crash at any moment: what arrived is known by
    /// the guid that was written down before.
    pub(super) fn settle_deliveries(&self, row: &RelationshipRow) -> Result<()> {
        let deliveries = self.catalog.read(|view| catalog::relationship::deliveries(view, &row.id))?;
        if deliveries.is_empty() {
            return Ok(());
        }
        let dataset = dataset_name(&self.volume_row(row.volume)?)?;
        // Somebody may have destroyed it by hand, and with it what was on its way.
        let Some(facts) = self.zfs.dataset(&dataset)? else { return Ok(()) };
        self.require_own_dataset(row.volume, &facts)?;
        for (guid, snapshot) in deliveries {
            let name = dataset.snapshot(snapshot);
            let Some(facts) = self.zfs.snapshot_facts(&name)?.filter(|facts| facts.guid == guid) else { continue };
            let Some(found) = self.catalog.read(|view| catalog::snapshot::find(view, snapshot))? else { continue };
            if !self.is_own_snapshot(&facts) {
                let mark = self.snapshot_mark(&found.name).as_str().to_owned();
                let mut notes = snapshot_notes(&found);
                notes.insert("vsnap:id".to_owned(), mark);
                self.zfs.note_snapshot(&name, &notes)?;
            }
            let size = self.zfs.dataset(&dataset)?.and_then(|facts| super::volume_create::size_in(&facts));
            self.catalog.write(|transaction| -> Result<()> {
                catalog::snapshot::set_ready(transaction, snapshot, guid, facts.created)?;
                // A lun may have grown.
                catalog::volume::set_size(transaction, row.volume, size)?;
                Ok(catalog::relationship::delete_delivery(transaction, &row.id, guid)?)
            })?;
        }
        Ok(())
    }

    /// Settles what arrived in a pool when the daemon ended before it had its mark: as long as it has none, the replica
    /// can't be removed, since it seems to have a snapshot of somebody else.
    pub(super) fn settle_deliveries_in(&self, pool: PoolId) {
        let result = self.catalog.read(catalog::relationship::with_deliveries).map_err(Error::from).and_then(|ids| {
            for id in ids {
                let row = self.relationship_row(&id)?;
                if row.pool == pool {
                    self.settle_deliveries(&row)?;
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            tracing::warn!(pool.id = pool.0, %error, "what arrived at a replica could not be marked; the next session tries");
        }
    }

    /// Forgets what was on its way and did not arrive. `keep`: whether there is to be a replica afterwards.
    pub(super) fn drop_deliveries(&self, row: &RelationshipRow, keep: bool) -> Result<()> {
        let dataset = dataset_name(&self.volume_row(row.volume)?)?;
        if self.zfs.dataset(&dataset)?.is_some() {
            self.settle_deliveries(row)?;
            self.zfs.discard_receive(&dataset)?;
        }
        if keep {
            // An encrypted one goes with what is discarded of its first stream.
            self.require_dataset(row)?;
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

/// Fails when the replica has a snapshot of this name already.
fn require_free(view: &Connection, row: &RelationshipRow, name: &Name) -> Result<()> {
    match catalog::snapshot::is_taken(view, row.volume, name)? {
        false => Ok(()),
        true => Err(Error::Exists(format!(
            "the replica, volume {}, has a snapshot named {:?} already; choose another remote_snap_name",
            row.volume,
            name.as_str()
        ))),
    }
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
