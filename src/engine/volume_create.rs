//! Making a volume: empty, from a file, or as a clone (contract section 8.1).

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction};

use super::{
    Caller, Engine, locks::Key, operation::Operation, pool::zpool_name, snapshot::require_ready, volume::dataset_name,
};
use crate::{
    catalog::{
        self, RowState,
        volume::{NewVolume, VolumeRow},
    },
    error::{Error, Result},
    os::{CloneCreation, DatasetChange, DatasetCreation, DatasetFacts, DatasetKind},
    types::{
        Invalid, Name, PoolId, SnapshotId, VolumeId,
        names::{DatasetName, to_property},
        volume::{BlockSize, MAX_BYTES, RelativePath, Volume, VolumeOptions, VolumeRequest, VolumeSource, VolumeType},
    },
};

const WORK: &str = "the creation of a volume";

impl Engine {
    /// Makes a volume.
    pub fn create_volume(&self, caller: &Caller, request: VolumeRequest) -> Result<Volume> {
        let VolumeRequest { name, source } = request;
        // Told before anything is looked at; it is checked again in the transaction that takes the name.
        self.catalog.read(|view| require_free_name(view, &name, None))?;
        let id = match source {
            VolumeSource::Filesystem { pool, limit, options } => {
                self.create_empty(caller, &name, pool, VolumeType::Filesystem, limit, None, options)?
            }
            VolumeSource::Lun { pool, bytes, block, options } => {
                let bytes = block.round_up(bytes).unwrap_or(u64::MAX);
                self.create_empty(caller, &name, pool, VolumeType::Lun, Some(bytes), Some(block), options)?
            }
            VolumeSource::File { parent, path } => self.create_file_lun(caller, &name, parent, &path)?,
            VolumeSource::Clone { snapshot } => self.create_clone(caller, &name, snapshot)?,
        };
        self.volume(id)
    }

    #[expect(clippy::too_many_arguments, reason = "what a new volume is made of")]
    fn create_empty(
        &self,
        caller: &Caller,
        name: &Name,
        pool: PoolId,
        volume_type: VolumeType,
        size: Option<u64>,
        block: Option<BlockSize>,
        options: VolumeOptions,
    ) -> Result<VolumeId> {
        let _guard = self.locks.acquire(vec![Key::Within(pool)], WORK)?;
        self.require_imported(pool)?;
        if let Some(bytes) = size {
            self.require_fits(pool, bytes)?;
        }
        let new = NewVolume {
            name,
            pool,
            volume_type,
            serial: (volume_type == VolumeType::Lun).then(new_serial),
            parent: None,
            origin: None,
            size,
            block,
            options,
        };
        self.insert_and_create(caller, &new, |_| Ok(()))
    }

    fn create_file_lun(&self, caller: &Caller, name: &Name, parent: VolumeId, path: &RelativePath) -> Result<VolumeId> {
        let pool = self.volume_row(parent)?.pool;
        let _guard = self.locks.acquire(vec![Key::Within(pool), Key::Volume(parent)], WORK)?;
        let row = self.volume_row(parent)?;
        if row.volume_type != VolumeType::Filesystem {
            return Err(Invalid::new("parent_id", format!("volume {parent} is no filesystem")).into());
        }
        self.require_readable(pool)?;
        let (dataset, _) = self.own_dataset(&row)?;
        self.require_no_replica(parent, "the place of a lun's file")?;
        self.require_backing_file(&dataset, path)?;
        let new = NewVolume {
            name,
            pool,
            volume_type: VolumeType::FileBackedLun,
            serial: Some(new_serial()),
            parent: Some((parent, path)),
            origin: None,
            size: None,
            block: None,
            options: VolumeOptions::default(),
        };
        self.insert_and_create(caller, &new, |transaction| {
            let others = catalog::volume::files_on(transaction, parent)?;
            let same = |other: &&VolumeRow| other.parent.as_ref().is_some_and(|(_, taken)| taken == path);
            match others.iter().find(same) {
                Some(other) => Err(Error::Exists(format!("that file backs volume {} already", other.id))),
                None => Ok(()),
            }
        })
    }

    fn require_backing_file(&self, dataset: &DatasetName, path: &RelativePath) -> Result<()> {
        use crate::os::Kind;
        let fault = match self.zfs.backing_file(dataset, path) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind == Kind::Missing => "there is no such file in the parent filesystem".to_owned(),
            Err(error) if error.kind == Kind::Denied => error.detail,
            Err(error) => return Err(error.into()),
        };
        Err(Invalid::new("parent_path", format!("{path}: {fault}")).into())
    }

    fn create_clone(&self, caller: &Caller, name: &Name, snapshot: SnapshotId) -> Result<VolumeId> {
        let before = self.snapshot_row(snapshot)?;
        let _guard = self.locks.acquire(vec![Key::Within(before.pool), Key::Volume(before.volume)], WORK)?;
        let row = self.snapshot_row(snapshot)?;
        require_ready(&row)?;
        self.require_readable(row.pool)?;
        self.own_snapshot(&row)?;
        let origin = self.volume_row(row.volume)?;
        let new = NewVolume {
            name,
            pool: row.pool,
            volume_type: origin.volume_type,
            serial: origin.serial.as_ref().map(|_| new_serial()),
            parent: None,
            origin: Some(snapshot),
            // A clone has no limit of its own; the size of a lun is that of the snapshot, and known once it is there.
            size: None,
            block: origin.block,
            options: origin.options,
        };
        self.insert_and_create(caller, &new, |_| Ok(()))
    }

    fn insert_and_create(
        &self,
        caller: &Caller,
        new: &NewVolume<'_>,
        check: impl FnOnce(&Transaction<'_>) -> Result<()>,
    ) -> Result<VolumeId> {
        let mut made = None;
        self.perform(caller, |transaction| {
            require_free_name(transaction, new.name, None)?;
            check(transaction)?;
            let volume = catalog::volume::insert(transaction, new, self.now())?;
            made = Some(volume);
            Ok(Operation::CreateVolume { volume })
        })?;
        made.ok_or_else(|| Error::Contradiction("a volume was made without a row".to_owned()))
    }

    /// Fails unless a pool is imported under our guid, and works. Starts no process.
    pub(super) fn require_imported(&self, pool: PoolId) -> Result<()> {
        let row = self.pool_row(pool)?;
        if row.state == RowState::Deleting {
            return Err(Error::State(format!("pool {pool} is being deleted")));
        }
        self.require_readable(pool)
    }

    /// Fails when a size is nothing, or more than the whole pool.
    pub(super) fn require_fits(&self, pool: PoolId, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Err(Invalid::new("size_total", "is 0; give at least 1 byte").into());
        }
        if bytes <= MAX_BYTES && bytes <= self.zfs.pool_free(&zpool_name(pool))? {
            return Ok(());
        }
        let numbers = self.zfs.pool_facts(&zpool_name(pool))?.numbers;
        let all = numbers.free.saturating_add(numbers.used);
        if bytes > all || bytes > MAX_BYTES {
            let fault = format!("{bytes} bytes are more than pool {pool} has in all, which are {all}");
            return Err(Invalid::new("size_total", fault).into());
        }
        Ok(())
    }

    pub(super) fn run_create_volume(&self, id: i64, volume: VolumeId) -> Result<()> {
        let row = self.catalog.read(|view| catalog::volume::find(view, volume))?;
        let row = row.ok_or_else(|| Error::not_found("volume", volume))?;
        if let Some((parent, path)) = &row.parent {
            return self.run_create_file_lun(id, &row, *parent, path);
        }
        let name = dataset_name(&row)?;
        if self.make_dataset(&row, &name)? {
            self.zfs.mount_dataset(&name)?;
        }
        let (_, facts) = self.own_dataset(&row)?;
        let size = size_in(&facts);
        self.finish(id, |transaction| catalog::volume::set_ready(transaction, volume, Some(facts.guid), size))
    }

    /// Makes the dataset of a new volume, unless that was done before a crash, which it tells.
    pub(super) fn make_dataset(&self, row: &VolumeRow, name: &DatasetName) -> Result<bool> {
        let Some(facts) = self.zfs.dataset(name)? else {
            self.create_dataset(row, name)?;
            return Ok(false);
        };
        self.require_own_dataset(row.id, &facts)?;
        if self.is_made_for(row, &facts) { Ok(true) } else { Err(self.number_is_taken(row.pool, name.as_str())) }
    }

    /// Whether a dataset was made for this row of a new volume. Another one may have had its number, if the catalog was
    /// restored from an older copy; but not at the same time the same name, and never the same serial number.
    fn is_made_for(&self, row: &VolumeRow, facts: &DatasetFacts) -> bool {
        facts.mark == Some(self.volume_mark(row.id))
            && volume_notes(row).iter().all(|(note, value)| facts.notes.get(note) == Some(value))
    }

    pub(super) fn create_dataset(&self, row: &VolumeRow, name: &DatasetName) -> Result<()> {
        let (name, mark, notes, options) = (name.clone(), self.volume_mark(row.id), volume_notes(row), row.options);
        if let Some(origin) = row.origin {
            let origin = self.snapshot_row(origin)?.zfs_name()?;
            return Ok(self.zfs.clone_snapshot(&CloneCreation { name, mark, notes, options, origin })?);
        }
        let kind = match (row.volume_type, row.size) {
            (VolumeType::Lun, Some(bytes)) => DatasetKind::Zvol { bytes, block: row.block.unwrap_or_default() },
            (_, limit) => DatasetKind::Filesystem { limit },
        };
        Ok(self.zfs.create_dataset(&DatasetCreation { name, mark, notes, kind, options })?)
    }

    fn run_create_file_lun(&self, id: i64, row: &VolumeRow, parent: VolumeId, path: &RelativePath) -> Result<()> {
        let (dataset, facts) = self.own_dataset(&self.volume_row(parent)?)?;
        if facts.notes.get(&file_serial(row.id)).is_some_and(|serial| Some(serial) != row.serial.as_ref()) {
            return Err(self.number_is_taken(row.pool, &format!("the note of a lun {} on {dataset}", row.id)));
        }
        self.require_backing_file(&dataset, path)?;
        let change = DatasetChange { notes: file_notes(row, path), ..DatasetChange::default() };
        self.zfs.change_dataset(&dataset, &change)?;
        self.finish(id, |transaction| catalog::volume::set_ready(transaction, row.id, None, None))
    }

    /// A create that failed turns into the delete.
    pub(super) fn undo_create_volume(&self, id: i64, volume: VolumeId, cause: &Error) -> Result<()> {
        if let Some(row) = self.catalog.read(|view| catalog::volume::find(view, volume))? {
            self.remove_trace(&row)?;
        }
        self.end(id, Some(&cause.to_string()), |transaction| catalog::volume::delete(transaction, volume))
    }

    /// Takes away what a new volume, or a lun in a file, left in ZFS.
    pub(super) fn remove_trace(&self, row: &VolumeRow) -> Result<()> {
        if let Some((parent, path)) = &row.parent {
            let Some(parent) = self.catalog.read(|view| catalog::volume::find(view, *parent))? else { return Ok(()) };
            let Some((dataset, facts)) = self.remaining_dataset(&parent)? else { return Ok(()) };
            if facts.notes.get(&file_serial(row.id)) != row.serial.as_ref() {
                // None, or those of another lun that had its number.
                return Ok(());
            }
            let mut dropped_notes: Vec<String> = file_notes(row, path).into_keys().collect();
            dropped_notes.retain(|note| facts.notes.contains_key(note));
            if !dropped_notes.is_empty() {
                self.zfs.change_dataset(&dataset, &DatasetChange { dropped_notes, ..DatasetChange::default() })?;
            }
            return Ok(());
        }
        let name = dataset_name(row)?;
        match self.zfs.dataset(&name)? {
            Some(facts) if self.is_made_for(row, &facts) => Ok(self.zfs.destroy_dataset(&name)?),
            _ => Ok(()),
        }
    }
}

/// What is kept on disk of a volume, beside its mark, to rebuild the catalog from.
pub(super) fn volume_notes(row: &VolumeRow) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([
        ("vsnap:name".to_owned(), to_property(row.name.as_str())),
        ("vsnap:created".to_owned(), row.created.to_string()),
    ]);
    notes.extend(row.serial.iter().map(|serial| ("vsnap:serial".to_owned(), serial.clone())));
    notes
}

fn file_serial(lun: VolumeId) -> String {
    format!("vsnap:file.{lun}.serial")
}

/// What is kept on a filesystem of a lun that one of its files backs.
pub(super) fn file_notes(row: &VolumeRow, path: &RelativePath) -> BTreeMap<String, String> {
    let property = |what: &str| format!("vsnap:file.{}.{what}", row.id);
    let mut notes = BTreeMap::from([
        (property("name"), to_property(row.name.as_str())),
        (property("path"), to_property(path.as_str())),
        (property("created"), row.created.to_string()),
    ]);
    notes.extend(row.serial.iter().map(|serial| (property("serial"), serial.clone())));
    notes
}

/// Size of a zvol, limit of a filesystem; in bytes.
pub(super) fn size_in(facts: &DatasetFacts) -> Option<u64> {
    match facts.kind {
        DatasetKind::Filesystem { limit } => limit,
        DatasetKind::Zvol { bytes, .. } => Some(bytes),
    }
}

fn new_serial() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Fails when another volume than `own` has the name.
pub(super) fn require_free_name(view: &Connection, name: &Name, own: Option<VolumeId>) -> Result<()> {
    match catalog::volume::find_name(view, name.as_str())? {
        Some(other) if Some(other.id) != own => {
            Err(Error::Exists(format!("there is a volume named {:?} already; choose another name", name.as_str())))
        }
        _ => Ok(()),
    }
}
