//! Making a replica for a partner's volume, or taking the one that is there.

use super::{Caller, Engine, locks::Key, operation::Operation, snapshot::own_number, volume::dataset_name};
use crate::{
    catalog::{
        self, RowState,
        relationship::NewRelationship,
        volume::{NewVolume, VolumeRow},
    },
    error::{Error, Result},
    types::{
        Name, PoolId, RelationshipId, SystemId, VolumeId,
        link::{Answer, NewReplica},
        names::SnapshotName,
        pool::Health,
        relationship::Role,
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
        let name = dataset.snapshot(own_number(&dataset, &newest.name)?);
        self.zfs.sync(&dataset)?;
        match self.changed_since(row, &name)? {
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
        let writable = pools.iter().filter(|pool| matches!(pool.state, Health::Online | Health::Degraded));
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
        if !reuse {
            self.make_dataset(&row, &name)?;
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
pub(super) fn free_name(name: &Name, taken: impl Fn(&str) -> Result<bool>) -> Result<Name> {
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
