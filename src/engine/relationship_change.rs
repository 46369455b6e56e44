//! Making and ending relationships: the side that is asked to by a client. What the partner's question does here is in
//! `replica.rs`.

use rusqlite::Connection;

use super::{
    Caller, Engine,
    link::Trouble,
    locks::Key,
    operation::{Operation, read},
    volume::dataset_name,
};
use crate::{
    catalog::{
        self, RowState,
        relationship::{NewRelationship, RelationshipRow},
    },
    error::{Error, Result},
    types::{
        Name, PoolId, RelationshipId, SystemId, VolumeId,
        link::{Answer, FailureKind, NewReplica, Question},
        names::DatasetName,
        relationship::{Relationship, RelationshipRequest, Role},
        volume::VolumeType,
    },
};

impl Engine {
    /// Makes a replica of a volume on a partner, or takes one that is there.
    pub fn create_relationship(
        &self,
        caller: &Caller,
        volume: VolumeId,
        request: RelationshipRequest,
    ) -> Result<Relationship> {
        let RelationshipRequest { partner, remote_pool, remote_name, reuse } = request;
        let row = self.volume_row(volume)?;
        let partner_row = self.ready_partner(&partner)?;
        let _guard = self.locks.acquire(vec![Key::Within(row.pool), Key::Volume(volume)], "a new relationship")?;
        let row = self.ready_volume(volume)?;
        if row.volume_type == VolumeType::FileBackedLun {
            let fault = "a file-backed lun is a file of its filesystem; replicate that";
            return Err(Error::State(fault.to_owned()));
        }
        self.require_no_replica(volume, "replicated further")?;
        self.require_readable(row.pool)?;
        self.own_dataset(&row)?;
        self.require_reachable(&partner_row)?;
        let id = RelationshipId::random();
        let name = remote_name.clone().unwrap_or_else(|| row.name.clone());
        self.perform(caller, |transaction| {
            let others = catalog::relationship::of_volume(transaction, volume)?;
            if let Some(other) = others.iter().find(|other| other.partner == partner) {
                return Err(Error::Exists(format!(
                    "volume {volume} has relationship {} with partner {partner} already",
                    other.id
                )));
            }
            let remote = (PoolId(0), VolumeId(0));
            let new =
                NewRelationship { id: &id, role: Role::Primary, partner: &partner, volume, remote, remote_name: &name };
            catalog::relationship::insert(transaction, &new, self.now())?;
            Ok(Operation::CreateRelationship { relationship: id.clone(), remote_pool, remote_name, reuse })
        })?;
        self.relationship(&id)
    }

    pub(super) fn run_create_relationship(
        &self,
        id: i64,
        relationship: &RelationshipId,
        remote_pool: Option<PoolId>,
        remote_name: Option<&Name>,
        reuse: bool,
    ) -> Result<()> {
        let row = self.catalog.read(|view| catalog::relationship::find(view, relationship))?;
        let row = row.ok_or_else(|| Error::not_found("relationship", relationship))?;
        let partner = self.partner_row(&row.partner)?;
        let volume = self.volume_row(row.volume)?;
        let dataset = dataset_name(&volume)?;
        let question = Question::CreateReplica(NewReplica {
            relationship: relationship.clone(),
            volume: volume.id,
            volume_name: volume.name,
            pool: volume.pool,
            volume_type: volume.volume_type,
            size: volume.size,
            block: volume.block,
            remote_pool,
            remote_name: remote_name.cloned(),
            reuse,
            // Only of use when there is something to compare with.
            guids: if reuse { self.newest_guids(&dataset)? } else { Vec::new() },
        });
        let ask =
            |question: &Question| self.ask_partner(&partner, question).map_err(|trouble| trouble.into_error(&partner));
        let Answer::Replica { volume, name, pool } = ask(&question)? else { return Err(senseless(&row.partner)) };
        if reuse {
            let question = Question::State { relationship: relationship.clone(), volume_name: None };
            let Answer::State { snapshots, .. } = ask(&question)? else { return Err(senseless(&row.partner)) };
            self.note_base_of_reused(relationship, &dataset, &snapshots)?;
        }
        self.finish(id, |transaction| {
            catalog::relationship::set_ready(transaction, relationship, (pool, volume), &name)
        })
    }

    /// Guids of the newest snapshots and bookmarks of a volume: what a replica to be reused has in common is among them,
    /// or too old to be worth it; and a question has its limits.
    fn newest_guids(&self, dataset: &DatasetName) -> Result<Vec<u64>> {
        const MOST: usize = 2000;
        let snapshots = self.zfs.snapshots(dataset)?.into_iter().map(|facts| (facts.transaction, facts.guid));
        let bookmarks = self.zfs.bookmarks(dataset)?.into_iter().map(|facts| (facts.transaction, facts.guid));
        let mut all: Vec<(u64, u64)> = snapshots.chain(bookmarks).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        Ok(all.into_iter().take(MOST).map(|(_, guid)| guid).collect())
    }

    /// The partner may have made the replica all the same, so it is told. While it can't be told, the operation stays
    /// in the journal, and upkeep tries again.
    pub(super) fn undo_create_relationship(
        &self,
        id: i64,
        relationship: &RelationshipId,
        reuse: bool,
        cause: &Error,
    ) -> Result<()> {
        if let Some(row) = self.catalog.read(|view| catalog::relationship::find(view, relationship))?
            && let Some(partner) = self.catalog.read(|view| catalog::partner::find(view, &row.partner))?
        {
            let question = Question::EndRelationship { relationship: relationship.clone(), preserve: reuse };
            match self.ask_partner(&partner, &question) {
                Err(trouble @ (Trouble::Unreachable(_) | Trouble::Refused(FailureKind::Busy, _))) => {
                    return Err(trouble.into_error(&partner));
                }
                Err(trouble) => {
                    let error = trouble.into_error(&partner);
                    tracing::warn!(relationship.id = %relationship, %error, "the partner kept a replica that failed");
                }
                Ok(_) => {}
            }
        }
        self.end(id, Some(&cause.to_string()), |transaction| catalog::relationship::delete(transaction, relationship))
    }

    /// Ends a relationship on both sides. The replica goes unless it is to be preserved. `force`: also when the partner
    /// can't be reached, whose side stays as it is then. One that can be reached and refuses is heard.
    pub fn delete_relationship(
        &self,
        caller: &Caller,
        id: &RelationshipId,
        preserve_replica: bool,
        force: bool,
    ) -> Result<()> {
        let row = match self.catalog.read(|view| catalog::relationship::find(view, id))? {
            Some(row) if force && row.state == RowState::Creating => row,
            _ => self.ready_relationship(id)?,
        };
        if !force {
            self.require_reachable(&self.partner_row(&row.partner)?)?;
        }
        self.end_relationship(caller, &row, preserve_replica, Some(force))
    }

    /// [`Question::EndRelationship`]
    pub(super) fn end_relationship_for(
        &self,
        caller: &Caller,
        partner: &SystemId,
        id: &RelationshipId,
        preserve: bool,
    ) -> Result<()> {
        match self.relationship_with(partner, id) {
            Ok(row) => self.end_relationship(caller, &row, preserve, None),
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// `tell`: whether the partner is told, and if so, whether it matters that it can't be.
    fn end_relationship(
        &self,
        caller: &Caller,
        row: &RelationshipRow,
        preserve: bool,
        tell: Option<bool>,
    ) -> Result<()> {
        if row.state == RowState::Creating && tell == Some(true) {
            return self.abandon_creation(row, preserve);
        }
        if row.state == RowState::Creating {
            return Err(Error::Busy(format!("relationship {} is still being made", row.id)));
        }
        let goes = row.role == Role::Replica && !preserve;
        let require_endable = || -> Result<()> {
            self.require_readable(row.pool)?;
            if goes {
                // What arrived and has no mark yet would be taken for a snapshot of somebody else.
                self.settle_deliveries(row)?;
                self.require_deletable_volume(&self.volume_row(row.volume)?)?;
            }
            Ok(())
        };
        // Once before a session is ended for it, and once when nobody else is at work any longer.
        require_endable()?;
        self.end_sessions_of(&row.id, "ended because the relationship was to be removed")?;
        self.end_delivery(&row.id);
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "the end of the relationship")?;
        require_endable()?;
        self.perform(caller, |transaction| {
            catalog::relationship::set_state(transaction, &row.id, RowState::Deleting)?;
            if goes {
                catalog::volume::set_state(transaction, row.volume, RowState::Deleting)?;
            }
            Ok(Operation::EndRelationship { relationship: row.id.clone(), volume: row.volume, preserve, tell })
        })
    }

    /// Ends a relationship that could not be made, and could not be taken back since the partner does not answer: nobody has
    /// to wait for that one for ever.
    fn abandon_creation(&self, row: &RelationshipRow, preserve: bool) -> Result<()> {
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "the end of the relationship")?;
        let mut creations = Vec::new();
        for begun in self.catalog.read(catalog::operation::unfinished)? {
            match read(&begun)? {
                Operation::CreateRelationship { relationship, reuse, .. } if relationship == row.id => {
                    creations.push((begun.id, reuse));
                }
                _ => {}
            }
        }
        // What was there before the relationship stays, whatever was asked for.
        let reuse = creations.iter().any(|(_, reuse)| *reuse);
        self.tell_end(row, preserve || reuse, true)?;
        for (operation, _) in creations {
            self.end(operation, Some("given up by force"), |transaction| {
                catalog::relationship::delete(transaction, &row.id)
            })?;
        }
        self.drop_bookmarks(&self.volume_row(row.volume)?, Some(&row.id))
    }

    pub(super) fn run_end_relationship(
        &self,
        id: i64,
        relationship: &RelationshipId,
        preserve: bool,
        tell: Option<bool>,
    ) -> Result<()> {
        let row = self.catalog.read(|view| catalog::relationship::find(view, relationship))?;
        let row = row.ok_or_else(|| Error::not_found("relationship", relationship))?;
        if let Some(force) = tell {
            self.tell_end(&row, preserve, force)?;
        }
        let volume = self.volume_row(row.volume)?;
        if row.role == Role::Primary {
            self.drop_bookmarks(&volume, Some(relationship))?;
            return self.finish(id, |transaction| catalog::relationship::delete(transaction, relationship));
        }
        self.drop_deliveries(&row, preserve)?;
        if preserve {
            self.zfs.set_replica(&dataset_name(&volume)?, false)?;
            return self.finish(id, |transaction| catalog::relationship::delete(transaction, relationship));
        }
        self.destroy_volume(id, &volume)?;
        self.finish(id, |transaction| {
            catalog::relationship::delete(transaction, relationship)?;
            catalog::volume::delete(transaction, row.volume)
        })
    }

    fn tell_end(&self, row: &RelationshipRow, preserve: bool, force: bool) -> Result<()> {
        let partner = self.partner_row(&row.partner)?;
        let question = Question::EndRelationship { relationship: row.id.clone(), preserve };
        match self.ask_partner(&partner, &question) {
            Ok(_) | Err(Trouble::Refused(FailureKind::NotFound, _)) => Ok(()),
            Err(trouble @ (Trouble::Unreachable(_) | Trouble::Unwelcome(_))) if force => {
                let error = trouble.into_error(&partner);
                tracing::warn!(relationship.id = %row.id, %error, "the relationship ends on this side alone");
                Ok(())
            }
            Err(trouble) => Err(trouble.into_error(&partner)),
        }
    }

    /// The relationship goes on.
    pub(super) fn undo_end_relationship(
        &self,
        id: i64,
        relationship: &RelationshipId,
        volume: VolumeId,
        cause: &Error,
    ) -> Result<()> {
        let row = self.catalog.read(|view| catalog::volume::find(view, volume))?;
        let gone = row.map(|row| self.gone_snapshots(&row)).transpose()?.unwrap_or_default();
        self.end(id, Some(&cause.to_string()), |transaction| {
            gone.iter().try_for_each(|snapshot| catalog::snapshot::delete(transaction, *snapshot))?;
            catalog::volume::set_state(transaction, volume, RowState::Ready)?;
            catalog::relationship::set_state(transaction, relationship, RowState::Ready)
        })
    }

    /// Fails when a volume is a replica: what is done to it would be lost, or make it useless as one.
    pub(super) fn require_no_replica(&self, volume: VolumeId, what: &str) -> Result<()> {
        self.catalog.read(|view| require_no_replica(view, volume, what))
    }

    /// Fails when a volume has relationships; with `force` ends them, keeping replicas.
    pub(super) fn end_relationships_of(&self, caller: &Caller, rows: &[RelationshipRow], force: bool) -> Result<()> {
        if !force {
            return require_no_relationship(rows);
        }
        rows.iter().try_for_each(|row| self.end_relationship(caller, row, true, Some(true)))
    }
}

/// Fails when a volume that is to go has relationships.
pub(super) fn require_no_relationship(rows: &[RelationshipRow]) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let names: Vec<String> = rows.iter().take(10).map(|row| row.id.to_string()).collect();
    Err(Error::Busy(format!(
        "volume {} has relationships: {}; delete them first, or use force, which keeps what is on the other side",
        first.volume,
        names.join(", ")
    )))
}

/// See [`Engine::require_no_replica`].
pub(super) fn require_no_replica(view: &Connection, volume: VolumeId, what: &str) -> Result<()> {
    let rows = catalog::relationship::of_volume(view, volume)?;
    match rows.iter().find(|row| row.role == Role::Replica) {
        Some(row) => Err(Error::State(format!(
            "volume {volume} is the replica of relationship {}, so it can't be {what}; use a clone of one of its \
             snapshots, or end the relationship with preserve_replica",
            row.id
        ))),
        None => Ok(()),
    }
}

pub(super) fn senseless(partner: &SystemId) -> Error {
    Error::Partner(format!("what partner {partner} answered makes no sense; is it of another version?"))
}
