//! Bringing the catalog back from the pools alone, after the database was lost: everything that is ours carries its id,
//! name and times in user properties.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Caller, Engine,
    given_numbers::GAP,
    locks::Key,
    pool::{disk_groups, zpool_name},
    replica_create::free_name,
    share::share_in,
    snapshot::number_in,
    volume::dataset_name,
    volume_create::size_in,
};
use crate::{
    catalog::{self, RowState, pool::PoolRow, share::ShareRow, snapshot::SnapshotRow, volume::VolumeRow},
    error::{Error, Result},
    os::{DatasetFacts, DatasetKind, PoolFacts, SnapshotFacts, stream::REPLICA},
    types::{
        Epoch, Name, PoolId, ShareId, SnapshotId, SystemId, VolumeId,
        ids::Mark,
        names::{ZpoolName, from_property},
        pool::{Health, PoolStatus, PoolType},
        report::Rebuilt,
        snapshot::{Hold, HoldReason, Retention},
        system::InitStatus,
        volume::{RelativePath, VolumeOptions, VolumeType},
    },
};

type Notes = BTreeMap<String, String>;

/// A pool with the name and mark of an appliance's.
struct Candidate {
    status: PoolStatus,
    facts: PoolFacts,
    system: SystemId,
    pool: PoolId,
}

/// All that was found.
#[derive(Default)]
struct Found {
    pools: Vec<PoolRow>,
    volumes: Vec<VolumeRow>,
    /// Those of the volumes that were replicas.
    replicas: Vec<VolumeId>,
    snapshots: Vec<SnapshotRow>,
    holds: Vec<(SnapshotId, Hold)>,
    shares: Vec<ShareRow>,
    skipped: Vec<String>,
    taken: Taken,
}

/// Names and numbers that something found has. A pool that was forgotten while its disks were away, or a catalog that was
/// restored from an older copy, can have left the same ones twice.
#[derive(Default)]
struct Taken {
    pool_names: BTreeSet<String>,
    volume_names: BTreeSet<String>,
    volumes: BTreeSet<VolumeId>,
    snapshots: BTreeSet<SnapshotId>,
    shares: BTreeSet<ShareId>,
}

impl Engine {
    /// Fills an empty catalog from the pools of an appliance, and takes over its identity. `system` says of which, when
    /// there are pools of several.
    pub fn rebuild_catalog(&self, caller: &Caller, system: Option<SystemId>) -> Result<Rebuilt> {
        let _guard = self.locks.acquire(vec![Key::System], "a rebuild of the catalog")?;
        let is_empty = self.catalog.read(catalog::pool::all)?.is_empty();
        if !is_empty || !matches!(self.system_row()?.init_status, InitStatus::NotInitialized | InitStatus::Failed) {
            return Err(Error::State(
                "the catalog is in use, and a rebuild would replace it; it is only for a catalog that was lost"
                    .to_owned(),
            ));
        }
        let mut found = Found::default();
        let imported = self.import_all(&mut found.skipped)?;
        let rebuilt = self.rebuild_from_imported(caller, system, found);
        self.export_others(&imported);
        rebuilt
    }

    fn rebuild_from_imported(&self, caller: &Caller, system: Option<SystemId>, mut found: Found) -> Result<Rebuilt> {
        let candidates = self.candidates(&mut found.skipped)?;
        let system = choose_system(&candidates, system)?;
        for candidate in candidates.iter().filter(|candidate| candidate.system == system) {
            self.find_pool(candidate, &mut found)?;
        }
        drop_orphans(&mut found);
        self.open_pools(&mut found)?;
        self.catalog.write(|transaction| -> Result<()> {
            catalog::system::set_id(transaction, &system)?;
            found.pools.iter().try_for_each(|row| catalog::pool::restore(transaction, row))?;
            found.volumes.iter().try_for_each(|row| catalog::volume::restore(transaction, row))?;
            found.snapshots.iter().try_for_each(|row| catalog::snapshot::restore(transaction, row))?;
            found.holds.iter().try_for_each(|(id, hold)| catalog::snapshot::insert_hold(transaction, *id, hold))?;
            found.shares.iter().try_for_each(|row| catalog::share::restore(transaction, row))?;
            catalog::system::leave_gap(transaction, GAP)?;
            // What was chosen at init is not on disk; this choice takes nothing away.
            catalog::system::set_multipool(transaction, true)?;
            Ok(catalog::system::set_init(transaction, InitStatus::Ready, None)?)
        })?;
        *self.id.write().unwrap_or_else(std::sync::PoisonError::into_inner) = system.clone();
        self.restore_exports(false);
        let rebuilt = Rebuilt {
            pools: found.pools.len(),
            volumes: found.volumes.len(),
            snapshots: found.snapshots.len(),
            shares: found.shares.len(),
            skipped: found.skipped,
        };
        tracing::warn!(by = caller.user, system.id = %system, ?rebuilt, "the catalog was rebuilt from the pools");
        Ok(rebuilt)
    }

    /// Mounts what was found, and makes former replicas ordinary volumes: their relationships were in the catalog alone,
    /// and are made anew with `reuse`. All of it comes before the catalog says so, so that whatever stops it here is made
    /// good by the next rebuild.
    fn open_pools(&self, found: &mut Found) -> Result<()> {
        for pool in &found.pools {
            let replicas =
                || found.volumes.iter().filter(|row| row.pool == pool.id && found.replicas.contains(&row.id));
            let name = zpool_name(pool.id);
            if let Err(error) = self.zfs.mount_pool(&name) {
                // Its root, once mounted, would hide what was mounted before.
                let has_root = self.zfs.pool_facts(&name).is_ok_and(|facts| facts.mounted);
                if let Some(replica) = replicas().next().filter(|_| !has_root) {
                    return Err(unopened(replica, &error));
                }
                // Each start tries again.
                found.skipped.push(format!("the mounts of pool {}: {error}", pool.id));
            }
            for row in replicas() {
                self.zfs.set_replica(&dataset_name(row)?, false).map_err(|error| unopened(row, &error))?;
            }
        }
        Ok(())
    }

    /// Imports what has a name like ours: marks can be read then only. One that can't be imported, since disks of it are
    /// missing for instance, does not keep the others from it.
    fn import_all(&self, skipped: &mut Vec<String>) -> Result<Vec<PoolId>> {
        let mut imported = Vec::new();
        for (name, guid) in self.zfs.importable_pools()? {
            let Some(pool) = pool_number(&name) else { continue };
            match self.zfs.import_pool(guid) {
                Ok(()) => imported.push(pool),
                Err(error) => skipped.push(format!("{name}: {error}")),
            }
        }
        Ok(imported)
    }

    /// Lets go of what was imported to look at it and is of others, or could not be brought back.
    fn export_others(&self, imported: &[PoolId]) {
        for pool in imported {
            let name: ZpoolName = zpool_name(*pool);
            let result = self.catalog.read(|view| catalog::pool::find(view, *pool)).map_err(Error::from);
            let result = result.and_then(|row| if row.is_none() { Ok(self.zfs.export_pool(&name)?) } else { Ok(()) });
            if let Err(error) = result {
                tracing::warn!(%error, "{name} was imported to look at it, and could not be exported again");
            }
        }
    }

    /// Pools with names like ours, with the appliance and the number in their marks. The youngest comes first, so that it
    /// keeps what an older one has as well.
    fn candidates(&self, skipped: &mut Vec<String>) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for status in self.zfs.pools()? {
            let Some(pool) = pool_number(&status.name) else { continue };
            let facts = if status.state == Health::Suspended {
                Err("it is suspended: its disks are gone or fail".to_owned())
            } else {
                self.zfs.pool_facts(&zpool_name(pool)).map_err(|error| error.to_string())
            };
            let facts = match facts {
                Ok(facts) => facts,
                Err(fault) => {
                    skipped.push(format!("{}: {fault}", status.name));
                    continue;
                }
            };
            if let Some((system, "pool", Some(marked))) = facts.mark.as_ref().and_then(Mark::parts)
                && marked == pool.0
            {
                candidates.push(Candidate { status, system, pool, facts });
            }
        }
        candidates.sort_by_key(|candidate| Reverse(candidate.pool));
        Ok(candidates)
    }

    fn find_pool(&self, candidate: &Candidate, found: &mut Found) -> Result<()> {
        let Candidate { status, facts, system, pool } = candidate;
        let pool_type = facts.notes.get("vsnap:pool_type").and_then(|word| PoolType::from_word(word).ok());
        let (Some(name), Some(pool_type)) = (name_in(&facts.notes, "vsnap:name"), pool_type) else {
            found.skipped.push(format!("{}: its notes can't be read", status.name));
            return Ok(());
        };
        let name = unlike(name, &format!("pool {pool}"), &mut found.taken.pool_names, &mut found.skipped)?;
        let created = time_in(&facts.notes, "vsnap:created").unwrap_or_else(|| self.now());
        found.pools.push(PoolRow {
            id: *pool,
            name: name.clone(),
            state: RowState::Ready,
            guid: Some(status.guid),
            pool_type,
            options: facts.options,
            disks: disk_groups(pool_type, status),
            created,
            updated: created,
        });
        for facts in self.zfs.datasets(&zpool_name(*pool))? {
            match volume_in(system, *pool, &name, &facts, self.now()) {
                Some(row) => self.find_volume(system, row, &facts, found)?,
                None => found
                    .skipped
                    .push(format!("{}: it has no mark of this appliance, or notes that can't be read", facts.name)),
            }
        }
        Ok(())
    }

    fn find_volume(&self, system: &SystemId, row: VolumeRow, facts: &DatasetFacts, found: &mut Found) -> Result<()> {
        let Some(row) = found.take_volume(row, &facts.name)? else { return Ok(()) };
        for lun in file_luns(&row, &facts.notes, self.now()) {
            let place = format!("a lun of a file in {}", facts.name);
            let lun = found.take_volume(lun, &place)?;
            found.volumes.extend(lun);
        }
        match share_in(&row, &facts.notes) {
            Ok(Some(share)) if !found.taken.shares.insert(share.id) => {
                found.skipped.push(format!("the share of {}: another one has the number {}", facts.name, share.id));
            }
            Ok(share) => found.shares.extend(share),
            Err(error) => found.skipped.push(format!("the share of {}: {error}", facts.name)),
        }
        self.find_snapshots(system, &row, found)?;
        if facts.notes.contains_key(REPLICA) {
            found.replicas.push(row.id);
        }
        found.volumes.push(row);
        Ok(())
    }

    fn find_snapshots(&self, system: &SystemId, volume: &VolumeRow, found: &mut Found) -> Result<()> {
        let Some(dataset) = volume.volume_type.dataset(volume.pool, volume.id) else { return Ok(()) };
        let mut names = BTreeSet::new();
        // The newest one keeps what an older one has as well.
        for facts in self.zfs.snapshots(&dataset)?.into_iter().rev() {
            match snapshot_in(system, volume, &facts) {
                Some(row) if !found.taken.snapshots.insert(row.id) => {
                    found.skipped.push(format!("{}: another snapshot has its number", facts.name));
                }
                Some(mut row) => {
                    row.name = unlike(row.name, &format!("snapshot {}", row.id), &mut names, &mut found.skipped)?;
                    let reasons = facts.holds.iter().filter_map(|tag| HoldReason::from_tag(tag));
                    found.holds.extend(
                        reasons
                            .map(|reason| (row.id, Hold { reason, user: "unknown".to_owned(), created: row.created })),
                    );
                    found.snapshots.push(row);
                }
                None => found
                    .skipped
                    .push(format!("{}: it has no mark of this appliance, or notes that can't be read", facts.name)),
            }
        }
        Ok(())
    }
}

impl Found {
    /// A volume under a name of its own; `None` when another one has its number. `place` is where it was found.
    fn take_volume(&mut self, mut row: VolumeRow, place: &str) -> Result<Option<VolumeRow>> {
        if !self.taken.volumes.insert(row.id) {
            self.skipped.push(format!("{place}: another volume has the number {}", row.id));
            return Ok(None);
        }
        let what = format!("volume {}", row.id);
        row.name = unlike(row.name, &what, &mut self.taken.volume_names, &mut self.skipped)?;
        Ok(Some(row))
    }
}

/// The name, or one that is like it when it is taken. What is renamed is told.
fn unlike(name: Name, what: &str, taken: &mut BTreeSet<String>, skipped: &mut Vec<String>) -> Result<Name> {
    let free = free_name(&name, |text| Ok(taken.contains(text)))?;
    if free != name {
        skipped.push(format!(
            "the name {:?} of {what}: another one has it, so this one is {:?} now",
            name.as_str(),
            free.as_str()
        ));
    }
    taken.insert(free.as_str().to_owned());
    Ok(free)
}

fn unopened(replica: &VolumeRow, error: &crate::os::Error) -> Error {
    Error::State(format!(
        "volume {} was a replica and could not be made writable, so nothing was brought back: {error}; mend that, or take \
         the disks of pool {} away, and rebuild again",
        replica.id, replica.pool
    ))
}

fn pool_number(name: &str) -> Option<PoolId> {
    name.strip_prefix("vpool")?.parse().ok()
}

fn choose_system(candidates: &[Candidate], wanted: Option<SystemId>) -> Result<SystemId> {
    let systems: BTreeSet<&str> = candidates.iter().map(|candidate| candidate.system.as_str()).collect();
    if let Some(wanted) = wanted {
        return if systems.contains(wanted.as_str()) {
            Ok(wanted)
        } else {
            Err(Error::not_found("pool", format!("of system {wanted}")))
        };
    }
    let mut owners = candidates.iter().map(|candidate| candidate.system.clone());
    match (systems.len(), owners.next()) {
        (1, Some(system)) => Ok(system),
        (0, _) | (_, None) => Err(Error::State(
            "no pool of an appliance is here to rebuild the catalog from; connect its disks".to_owned(),
        )),
        _ => Err(Error::State(format!(
            "there are pools of several appliances: {}; say by system_id whose catalog to rebuild",
            systems.into_iter().collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn name_in(notes: &Notes, property: &str) -> Option<Name> {
    Name::new(from_property(notes.get(property)?)?).ok()
}

fn time_in(notes: &Notes, property: &str) -> Option<Epoch> {
    notes.get(property)?.parse().ok().map(Epoch)
}

fn volume_in(system: &SystemId, pool: PoolId, pool_name: &Name, facts: &DatasetFacts, now: Epoch) -> Option<VolumeRow> {
    let (owner, "volume", Some(number)) = facts.mark.as_ref()?.parts()? else { return None };
    let id = VolumeId(number);
    let (volume_type, block) = match facts.kind {
        DatasetKind::Filesystem { .. } => (VolumeType::Filesystem, None),
        DatasetKind::Zvol { block, .. } => (VolumeType::Lun, Some(block)),
    };
    if owner != *system || volume_type.dataset(pool, id)?.as_str() != facts.name {
        return None;
    }
    let created = time_in(&facts.notes, "vsnap:created").unwrap_or(now);
    Some(VolumeRow {
        id,
        name: name_in(&facts.notes, "vsnap:name")?,
        state: RowState::Ready,
        pool,
        pool_name: pool_name.clone(),
        volume_type,
        guid: Some(facts.guid),
        serial: facts.notes.get("vsnap:serial").cloned(),
        parent: None,
        origin: facts.origin.as_deref().and_then(number_in),
        size: size_in(facts),
        block,
        options: facts.options,
        created,
        updated: created,
    })
}

/// The luns whose files are in a filesystem.
fn file_luns(parent: &VolumeRow, notes: &Notes, now: Epoch) -> Vec<VolumeRow> {
    let ids = notes.keys().filter_map(|key| key.strip_prefix("vsnap:file.")?.strip_suffix(".path")?.parse().ok());
    let lun = |id: VolumeId| {
        let property = |what: &str| format!("vsnap:file.{id}.{what}");
        let path = RelativePath::new(from_property(notes.get(&property("path"))?)?).ok()?;
        let created = time_in(notes, &property("created")).unwrap_or(now);
        Some(VolumeRow {
            id,
            name: name_in(notes, &property("name"))?,
            volume_type: VolumeType::FileBackedLun,
            guid: None,
            serial: notes.get(&property("serial")).cloned(),
            parent: Some((parent.id, path)),
            origin: None,
            size: None,
            block: None,
            options: VolumeOptions::default(),
            created,
            updated: created,
            ..parent.clone()
        })
    };
    ids.filter_map(lun).collect()
}

fn snapshot_in(system: &SystemId, volume: &VolumeRow, facts: &SnapshotFacts) -> Option<SnapshotRow> {
    Some(SnapshotRow {
        id: number_in(&facts.name)?,
        name: facts.mark.as_ref()?.snapshot_name(system)?,
        state: RowState::Ready,
        volume: volume.id,
        volume_name: volume.name.clone(),
        volume_type: volume.volume_type,
        pool: volume.pool,
        pool_name: volume.pool_name.clone(),
        guid: Some(facts.guid),
        retention: Retention {
            expires: time_in(&facts.notes, "vsnap:expires"),
            locked: facts.notes.get("vsnap:locked").is_some_and(|locked| locked == "1"),
        },
        has_clones: !facts.clones.is_empty(),
        created: facts.created,
        updated: facts.created,
    })
}

/// A clone of a snapshot that is not ours is kept as what it is otherwise.
fn drop_orphans(found: &mut Found) {
    let known: BTreeSet<SnapshotId> = found.snapshots.iter().map(|row| row.id).collect();
    for volume in &mut found.volumes {
        if let Some(origin) = volume.origin.filter(|origin| !known.contains(origin)) {
            found.skipped.push(format!("volume {}: snapshot {origin} that it is a clone of is not ours", volume.id));
            volume.origin = None;
        }
    }
}
