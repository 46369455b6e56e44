//! Changing name, size and options of a volume (the contract's section 8.4).

use super::{
    Caller, Engine,
    locks::Key,
    operation::{Operation, VolumeProperties},
    volume::require_ready,
    volume_create::{file_notes, require_free_name},
};
use crate::{
    catalog::{self, volume::VolumeRow},
    error::{Error, Result},
    os::{DatasetChange, DatasetFacts},
    types::{
        Invalid, VolumeId,
        names::to_property,
        volume::{SizeChange, Volume, VolumeOptions, VolumeType, VolumeUpdate},
    },
};

impl Engine {
    /// Changes a volume.
    pub fn update_volume(&self, caller: &Caller, id: VolumeId, update: VolumeUpdate) -> Result<Volume> {
        let pool = self.volume_row(id)?.pool;
        let _guard = self.locks.acquire(vec![Key::Within(pool), Key::Volume(id)], "a change of the volume")?;
        let row = self.ready_volume(id)?;
        self.require_readable(pool)?;
        if update.size.is_some() {
            self.require_no_replica(id, "resized")?;
        }
        let before = VolumeProperties { name: row.name.clone(), size: row.size, options: row.options };
        let after = VolumeProperties {
            name: update.name.unwrap_or_else(|| row.name.clone()),
            size: self.new_size(&row, update.size)?,
            options: new_options(&row, update.options)?,
        };
        self.perform(caller, |transaction| {
            require_free_name(transaction, &after.name, Some(id))?;
            catalog::volume::set_properties(transaction, id, &after.name, after.size, after.options)?;
            Ok(Operation::UpdateVolume { volume: id, before, after })
        })?;
        self.volume(id)
    }

    /// A row that can be changed.
    pub(super) fn ready_volume(&self, id: VolumeId) -> Result<VolumeRow> {
        self.volume_row(id).and_then(require_ready)
    }

    fn new_size(&self, row: &VolumeRow, change: Option<SizeChange>) -> Result<Option<u64>> {
        let Some(change) = change else { return Ok(row.size) };
        let invalid = |fault: String| Err(Invalid::new("size_total", fault).into());
        match (row.volume_type, change) {
            (VolumeType::FileBackedLun, _) => {
                invalid(format!("volume {} has the size of its file; change that instead", row.id))
            }
            (VolumeType::Filesystem, SizeChange::Unlimited) => Ok(None),
            (VolumeType::Lun, SizeChange::Unlimited) => invalid("a lun always has a size".to_owned()),
            (VolumeType::Filesystem, SizeChange::Bytes(bytes)) => {
                self.require_fits(row.pool, bytes)?;
                let used = self.own_dataset(row)?.1.numbers.used;
                if bytes < used {
                    return invalid(format!("{bytes} bytes are fewer than the {used} that it and its snapshots take"));
                }
                Ok(Some(bytes))
            }
            (VolumeType::Lun, SizeChange::Bytes(bytes)) => {
                let bytes = row.block.unwrap_or_default().round_up(bytes).unwrap_or(u64::MAX);
                self.require_fits(row.pool, bytes)?;
                let now = row.size.unwrap_or(0);
                if bytes < now {
                    return invalid(format!(
                        "a lun can only grow, since what lies beyond its end would be lost; it has {now} bytes"
                    ));
                }
                Ok(Some(bytes))
            }
        }
    }

    pub(super) fn run_update_volume(&self, id: i64, volume: VolumeId, after: &VolumeProperties) -> Result<()> {
        let row = self.volume_row(volume)?;
        self.set_volume_properties(&row, after)?;
        self.finish(id, |transaction| catalog::volume::touch(transaction, volume, self.now()))
    }

    /// The row and ZFS get their former values back.
    pub(super) fn undo_update_volume(
        &self,
        id: i64,
        volume: VolumeId,
        before: &VolumeProperties,
        cause: &Error,
    ) -> Result<()> {
        let row = self.catalog.read(|view| catalog::volume::find(view, volume))?;
        if let Some(Err(error)) = row.map(|row| self.set_volume_properties(&row, before)) {
            tracing::warn!(volume.id = volume.0, %error, "the former properties could not be set again");
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::volume::set_properties(transaction, volume, &before.name, before.size, before.options)
        })
    }

    fn set_volume_properties(&self, row: &VolumeRow, properties: &VolumeProperties) -> Result<()> {
        if let Some((parent, path)) = &row.parent {
            let (dataset, _) = self.own_dataset(&self.volume_row(*parent)?)?;
            let named = VolumeRow { name: properties.name.clone(), ..row.clone() };
            let change = DatasetChange { notes: file_notes(&named, path), ..DatasetChange::default() };
            return Ok(self.zfs.change_dataset(&dataset, &change)?);
        }
        let (dataset, facts) = self.own_dataset(row)?;
        let change = DatasetChange {
            size: size_to_set(row, &facts, properties.size),
            options: properties.options,
            notes: [("vsnap:name".to_owned(), to_property(properties.name.as_str()))].into(),
            dropped_notes: Vec::new(),
        };
        Ok(self.zfs.change_dataset(&dataset, &change)?)
    }
}

/// A size that differs from what is there. A lun never shrinks, not even to take back a growth: somebody may have
/// written beyond the old end.
fn size_to_set(row: &VolumeRow, facts: &DatasetFacts, wanted: Option<u64>) -> Option<Option<u64>> {
    let now = super::volume_create::size_in(facts);
    let shrinks = row.volume_type == VolumeType::Lun && wanted < now;
    (wanted != now && !shrinks).then_some(wanted)
}

fn new_options(row: &VolumeRow, change: VolumeOptions) -> Result<VolumeOptions> {
    if row.volume_type == VolumeType::FileBackedLun && change != VolumeOptions::default() {
        let given = [
            ("compression", change.compression),
            ("deduplication", change.deduplication),
            ("syncwrite", change.syncwrite),
        ];
        let member = given.iter().find(|(_, value)| value.is_some()).map_or("options", |(member, _)| member);
        return Err(
            Invalid::new(member, "a file-backed lun has the options of its filesystem; change them there").into()
        );
    }
    Ok(VolumeOptions {
        compression: change.compression.or(row.options.compression),
        deduplication: change.deduplication.or(row.options.deduplication),
        syncwrite: change.syncwrite.or(row.options.syncwrite),
    })
}
