//! Volumes as they are: rows of the catalog beside what ZFS says this moment (contract sections 8.2 and 8.3).

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
};

use rusqlite::Connection;

use super::{
    Engine,
    absence::Place,
    pool::{not_imported, require_guid, zpool_name},
};
use crate::{
    catalog::{self, RowState, pool::PoolRow, volume::VolumeRow},
    error::{Error, Result},
    os::{self, DatasetFacts},
    types::{
        HostId, PoolId, VolumeId,
        ids::Mark,
        names::DatasetName,
        pool::PoolOptions,
        selection::{Selection, Value, VolumeField},
        volume::{Volume, VolumeNumbers, VolumeOptions},
    },
};

impl Engine {
    /// The volumes that are selected, and how many there are without the page.
    pub fn volumes(&self, selection: &Selection<VolumeField>) -> Result<(Vec<Volume>, u64)> {
        let ((rows, total), pools) = self
            .catalog
            .read(|view| -> Result<_> { Ok((catalog::volume::select(view, selection)?, catalog::pool::all(view)?)) })?;
        let mut volumes = self.present_volumes(rows, &pools)?;
        if !selection.concerns(catalog::volume::SIZES_OF_THE_MOMENT) {
            return Ok((volumes, total));
        }
        volumes.retain(|volume| selection.filters.iter().all(|(field, value)| has_size(volume, *field, value)));
        sort(&mut volumes, selection);
        let total = volumes.len() as u64;
        let skip = usize::try_from(selection.offset).unwrap_or(usize::MAX);
        let take = selection.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((volumes.into_iter().skip(skip).take(take).collect(), total))
    }

    /// One volume.
    pub fn volume(&self, id: VolumeId) -> Result<Volume> {
        let row = self.volume_row(id)?;
        let pools = self.catalog.read(catalog::pool::all)?;
        let mut volumes = self.present_volumes(vec![row], &pools)?;
        volumes.pop().ok_or_else(|| Error::not_found("volume", id))
    }

    /// The volume with this name.
    pub fn volume_by_name(&self, name: &str) -> Result<Volume> {
        match self.catalog.read(|view| catalog::volume::find_name(view, name))? {
            Some(row) if row.state != RowState::Creating => self.volume(row.id),
            _ => Err(Error::not_found("volume", format!("named {name:?}"))),
        }
    }

    pub(super) fn volume_row(&self, id: VolumeId) -> Result<VolumeRow> {
        self.catalog.read(|view| volume_row(view, id))
    }

    /// Puts sizes beside rows: one question for each pool, however many volumes it has.
    fn present_volumes(&self, rows: Vec<VolumeRow>, pools: &[PoolRow]) -> Result<Vec<Volume>> {
        let mut names: BTreeMap<PoolId, Vec<DatasetName>> = BTreeMap::new();
        for row in &rows {
            names.entry(row.pool).or_default().extend(row.volume_type.dataset(row.pool, row.id));
        }
        let mut numbers = HashMap::new();
        for (pool, names) in names.iter().filter(|(_, names)| !names.is_empty()) {
            if !self.is_readable(*pool)? {
                continue;
            }
            match self.zfs.numbers(&zpool_name(*pool), names) {
                Ok(found) => numbers.extend(found),
                // Exported since it was looked at.
                Err(error) if error.kind == os::Kind::Missing => {}
                Err(error) => return Err(error.into()),
            }
        }
        let volumes = || rows.iter().map(|row| row.id);
        let (shares, mappings) = self.catalog.read(|view| -> Result<_> {
            let shares = catalog::share::by_volume(view, volumes())?;
            Ok((shares, catalog::host::mappings_of_volumes(view, volumes())?))
        })?;
        let mut hosts: HashMap<VolumeId, Vec<HostId>> = HashMap::new();
        for mapping in mappings {
            if mapping.state != RowState::Creating {
                hosts.entry(mapping.volume).or_default().push(mapping.host);
            }
        }
        let options: HashMap<PoolId, PoolOptions> = pools.iter().map(|pool| (pool.id, pool.options)).collect();
        Ok(rows
            .into_iter()
            .map(|row| {
                let hosts = hosts.remove(&row.id).unwrap_or_default();
                Volume { hosts, share: shares.get(&row.id).copied(), ..present(row, &options, &numbers) }
            })
            .collect())
    }

    /// Whether the properties of what is in a pool can be read: those of a suspended one would make us wait for its
    /// disks, and what is in a pool of others that has its name says nothing about ours. Starts no process.
    pub(super) fn is_readable(&self, pool: PoolId) -> Result<bool> {
        let Some(row) = self.catalog.read(|view| catalog::pool::find(view, pool))? else { return Ok(false) };
        let name = zpool_name(pool);
        if self.zfs.pool_guid(&name)? != row.guid {
            return Ok(false);
        }
        let state = self.zfs.pool_state(&name)?;
        Ok(matches!(state.as_deref(), Some("ONLINE" | "DEGRADED")))
    }

    /// Fails unless what is in a pool can be changed. Starts no process.
    pub(super) fn require_readable(&self, pool: PoolId) -> Result<()> {
        let (row, name) = (self.pool_row(pool)?, zpool_name(pool));
        require_guid(&row, self.zfs.pool_guid(&name)?)?;
        match self.zfs.pool_state(&name)?.as_deref() {
            Some("ONLINE" | "DEGRADED") => self.require_nothing_waits(Place::In(pool)),
            Some(state) => Err(Error::State(format!(
                "pool {pool} is {state}; see its disks with `vsnap pool status {pool}`, bring back what is missing, then \
                 `vsnap pool clear {pool}`"
            ))),
            None => Err(not_imported(&row)),
        }
    }

    pub(super) fn volume_mark(&self, id: VolumeId) -> Mark {
        Mark::volume(&self.id(), id)
    }

    /// The dataset of a volume that is to be changed: there, and with our mark.
    pub(super) fn own_dataset(&self, row: &VolumeRow) -> Result<(DatasetName, DatasetFacts)> {
        let name = dataset_name(row)?;
        let facts = self.zfs.dataset(&name)?.ok_or_else(|| gone(row, &name))?;
        self.require_own_dataset(row.id, &facts)?;
        Ok((name, facts))
    }

    /// The dataset of a volume that something of ours is to be taken off; `None` when there is nothing of ours left, since
    /// somebody destroyed the dataset by hand or put another one in its place.
    pub(super) fn remaining_dataset(&self, row: &VolumeRow) -> Result<Option<(DatasetName, DatasetFacts)>> {
        match self.own_dataset(row) {
            Err(Error::Contradiction(message)) => {
                tracing::warn!(volume.id = row.id.0, "nothing is taken off a dataset: {message}");
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    pub(super) fn require_own_dataset(&self, id: VolumeId, facts: &DatasetFacts) -> Result<()> {
        self.require_mark(id, &facts.name, facts.mark.as_ref())
    }

    /// Fails unless the datasets of volumes, all in one pool, are there and ours: one question for all.
    pub(super) fn require_own_datasets(&self, rows: &[VolumeRow]) -> Result<()> {
        let names = rows.iter().map(dataset_name).collect::<Result<Vec<_>>>()?;
        let marks = self.zfs.marks(&names)?;
        for (row, name) in rows.iter().zip(&names) {
            let mark = marks.get(name).ok_or_else(|| gone(row, name))?;
            self.require_mark(row.id, name.as_str(), mark.as_ref())?;
        }
        Ok(())
    }

    fn require_mark(&self, id: VolumeId, dataset: &str, mark: Option<&Mark>) -> Result<()> {
        if mark == Some(&self.volume_mark(id)) {
            return Ok(());
        }
        let found = mark.map_or("none", Mark::as_str);
        Err(Error::Contradiction(format!(
            "the dataset {dataset} does not carry the mark of volume {id} of this appliance (vsnap:id is {found}), so it \
             was left alone"
        )))
    }
}

/// The row of a volume that clients may see.
pub(super) fn volume_row(view: &Connection, id: VolumeId) -> Result<VolumeRow> {
    let row = catalog::volume::find(view, id)?;
    row.filter(|row| row.state != RowState::Creating).ok_or_else(|| Error::not_found("volume", id))
}

/// A row that can be changed.
pub(super) fn require_ready(row: VolumeRow) -> Result<VolumeRow> {
    match row.state {
        RowState::Ready => Ok(row),
        _ => Err(Error::State(format!("volume {} is being deleted", row.id))),
    }
}

fn gone(row: &VolumeRow, dataset: &DatasetName) -> Error {
    Error::Contradiction(format!("the dataset {dataset} of volume {} is gone; nothing was changed", row.id))
}

/// The dataset of a filesystem or lun.
pub(super) fn dataset_name(row: &VolumeRow) -> Result<DatasetName> {
    row.volume_type.dataset(row.pool, row.id).ok_or_else(|| {
        Error::State(format!("volume {} is a file-backed lun; this can only be done with its filesystem", row.id))
    })
}

/// Volumes by name, for messages.
pub(super) fn volume_list(rows: &[VolumeRow]) -> String {
    const MOST: usize = 10;
    let mut names: Vec<String> =
        rows.iter().take(MOST).map(|row| format!("{} ({:?})", row.id, row.name.as_str())).collect();
    if rows.len() > MOST {
        names.push(format!("{} more", rows.len() - MOST));
    }
    names.join(", ")
}

fn present(
    row: VolumeRow,
    pools: &HashMap<PoolId, PoolOptions>,
    numbers: &HashMap<DatasetName, VolumeNumbers>,
) -> Volume {
    let pool = pools.get(&row.pool).copied().unwrap_or_default();
    let dataset = row.volume_type.dataset(row.pool, row.id);
    Volume {
        numbers: dataset.and_then(|name| numbers.get(&name).copied()),
        id: row.id,
        name: row.name,
        volume_type: row.volume_type,
        serial: row.serial,
        pool: row.pool,
        pool_name: row.pool_name,
        size: row.size,
        block: row.block,
        parent: row.parent,
        hosts: Vec::new(),
        origin: row.origin,
        share: None,
        options: VolumeOptions {
            compression: row.options.compression.or(Some(pool.compression)),
            deduplication: row.options.deduplication.or(Some(pool.deduplication)),
            syncwrite: row.options.syncwrite.or(Some(pool.syncwrite)),
        },
        created: row.created,
        updated: row.updated,
    }
}

fn size_of(volume: &Volume, field: VolumeField) -> Option<u64> {
    match field {
        VolumeField::SizeFree => volume.free(),
        VolumeField::SizeUsed => volume.numbers.map(|numbers| numbers.used),
        _ => None,
    }
}

/// Whether a filter by a size of the moment lets it through; the catalog has looked at the others.
fn has_size(volume: &Volume, field: VolumeField, value: &Value) -> bool {
    if !catalog::volume::SIZES_OF_THE_MOMENT.contains(&field) {
        return true;
    }
    match value {
        Value::Number(number) => size_of(volume, field).and_then(|size| i64::try_from(size).ok()) == Some(*number),
        Value::Null => size_of(volume, field).is_none(),
        Value::Text(_) | Value::Flag(_) => false,
    }
}

fn sort(volumes: &mut [Volume], selection: &Selection<VolumeField>) {
    let key = |volume: &Volume, field: VolumeField| -> (Option<u64>, Option<i64>, Option<String>) {
        match field {
            VolumeField::SizeFree | VolumeField::SizeUsed => (size_of(volume, field), None, None),
            VolumeField::SizeTotal => (volume.size, None, None),
            VolumeField::Id => (None, Some(volume.id.0), None),
            VolumeField::PoolId => (None, Some(volume.pool.0), None),
            VolumeField::IsClone => (None, Some(volume.origin.is_some().into()), None),
            VolumeField::SizeBlock => (None, volume.block.map(|block| block.bytes().into()), None),
            VolumeField::ParentId => (None, volume.parent.as_ref().map(|(id, _)| id.0), None),
            VolumeField::SnapshotId => (None, volume.origin.map(|id| id.0), None),
            VolumeField::TimeCreated => (None, Some(volume.created.0), None),
            VolumeField::TimeUpdated => (None, Some(volume.updated.0), None),
            VolumeField::Name => (None, None, Some(volume.name.as_str().to_owned())),
            VolumeField::VolumeType => (None, None, Some(volume.volume_type.word().to_owned())),
            VolumeField::Serial => (None, None, volume.serial.clone()),
            VolumeField::PoolName => (None, None, Some(volume.pool_name.as_str().to_owned())),
            VolumeField::ParentPath => (None, None, volume.parent.as_ref().map(|(_, path)| path.as_str().to_owned())),
        }
    };
    volumes.sort_by(|left, right| {
        for (field, descending) in &selection.sort {
            let order = key(left, *field).cmp(&key(right, *field));
            if order != Ordering::Equal {
                return if *descending { order.reverse() } else { order };
            }
        }
        left.id.cmp(&right.id)
    });
}
