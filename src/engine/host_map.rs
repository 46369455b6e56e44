//! Mapping luns to hosts (contract sections 8.10, 10.5 and 10.6), and what of it the kernel's target is to show.

use std::collections::{BTreeMap, BTreeSet};

use super::{Caller, Engine, exports::Export, locks::Key, operation::Operation};
use crate::{
    catalog::{
        self, RowState,
        host::{ChapRow, Exported, MappingRow},
        volume::VolumeRow,
    },
    error::{Error, Result},
    os::lio::{Access, Backing, ScsiInitiator, ScsiTarget, ScsiUnit},
    types::{HostId, Invalid, VolumeId, host::MappedLun, volume::VolumeType},
};

/// Highest LUN number: what fits into the flat addressing that all initiators know.
const LAST_LUN: u16 = 16_383;

impl Engine {
    /// Maps a volume to a host and tells under which number; that of the mapping that is there already.
    pub fn map_volume(&self, caller: &Caller, volume: VolumeId, host: HostId) -> Result<MappedLun> {
        let row = self.volume_row(volume)?;
        self.host_row(host)?;
        require_lun(&row)?;
        let _guard = self.locks.acquire(mapping_keys(&row, host), "a mapping")?;
        let row = self.ready_volume(volume)?;
        self.ready_host(host)?;
        match self.catalog.read(|view| catalog::host::mapping(view, host, volume))? {
            Some(MappingRow { state: RowState::Ready, lun, .. }) => return Ok(MappedLun { lun, volume }),
            Some(_) => return Err(unfinished(host, volume)),
            None => {}
        }
        self.require_no_replica(volume, "mapped")?;
        self.require_readable(row.pool)?;
        let mut made = None;
        self.perform(caller, |transaction| {
            let taken = catalog::host::mappings_of_host(transaction, host)?;
            let lun = lowest_free(&taken).ok_or_else(|| {
                Error::State(format!("host {host} has no LUN number left; unmap a volume that it does not need"))
            })?;
            made = Some(lun);
            catalog::host::insert_mapping(transaction, host, volume, lun)?;
            Ok(Operation::MapVolume { host, volume })
        })?;
        let lun = made.ok_or_else(|| Error::Contradiction("a volume was mapped without a number".to_owned()))?;
        Ok(MappedLun { lun, volume })
    }

    pub(super) fn run_map_volume(&self, id: i64, host: HostId, volume: VolumeId) -> Result<()> {
        self.apply_mapping(volume)?;
        self.finish(id, |transaction| catalog::host::set_mapping_state(transaction, host, volume, RowState::Ready))
    }

    /// A failed mapping turns into the unmapping.
    pub(super) fn undo_map_volume(&self, id: i64, host: HostId, volume: VolumeId, cause: &Error) -> Result<()> {
        self.catalog
            .write(|transaction| catalog::host::set_mapping_state(transaction, host, volume, RowState::Deleting))?;
        self.apply_iscsi_after_failure();
        self.end(id, Some(&cause.to_string()), |transaction| catalog::host::delete_mapping(transaction, host, volume))
    }

    /// Takes a volume away from a host, also when the host is logged in.
    pub fn unmap_volume(&self, caller: &Caller, volume: VolumeId, host: HostId) -> Result<()> {
        let row = self.volume_row(volume)?;
        self.host_row(host)?;
        require_lun(&row)?;
        let _guard = self.locks.acquire(mapping_keys(&row, host), "an unmapping")?;
        match self.catalog.read(|view| catalog::host::mapping(view, host, volume))? {
            None => return Err(Error::not_found("mapping", format!("of volume {volume} to host {host}"))),
            Some(MappingRow { state: RowState::Ready, .. }) => {}
            Some(_) => return Err(unfinished(host, volume)),
        }
        self.perform(caller, |transaction| {
            catalog::host::set_mapping_state(transaction, host, volume, RowState::Deleting)?;
            Ok(Operation::UnmapVolume { host, volume })
        })
    }

    pub(super) fn run_unmap_volume(&self, id: i64, host: HostId, volume: VolumeId) -> Result<()> {
        self.apply_exports(Export::Iscsi)?;
        self.finish(id, |transaction| catalog::host::delete_mapping(transaction, host, volume))
    }

    /// The host may still see it, so it is shown again.
    pub(super) fn undo_unmap_volume(&self, id: i64, host: HostId, volume: VolumeId, cause: &Error) -> Result<()> {
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::host::set_mapping_state(transaction, host, volume, RowState::Ready)
        })?;
        self.apply_iscsi_after_failure();
        Ok(())
    }

    /// Volumes whose content a rollback changes: the volume itself, and the luns that its files back.
    pub(super) fn luns_on(&self, volume: VolumeId) -> Result<Vec<VolumeId>> {
        let files = self.catalog.read(|view| catalog::volume::files_on(view, volume))?;
        Ok(std::iter::once(volume).chain(files.into_iter().map(|row| row.id)).collect())
    }

    /// The hosts that see one of these volumes.
    pub(super) fn hosts_of(&self, volumes: &[VolumeId]) -> Result<BTreeSet<HostId>> {
        let mappings = self.catalog.read(catalog::host::all_mappings)?;
        Ok(mappings.iter().filter(|row| volumes.contains(&row.volume)).map(|row| row.host).collect())
    }

    /// What the kernel's target is to show; `None` while there is no host that could log in.
    pub(super) fn wanted_iscsi(&self) -> Result<Option<ScsiTarget>> {
        let displaced = self.displaced_pools()?;
        let (hosts, mappings, mut exported) = self.catalog.read(|view| -> Result<_> {
            Ok((catalog::host::all(view)?, catalog::host::all_mappings(view)?, catalog::host::exported(view)?))
        })?;
        let hosts: Vec<_> = hosts.into_iter().filter(|host| host.state != RowState::Deleting).collect();
        if hosts.is_empty() {
            return Ok(None);
        }
        exported.retain(|unit| !displaced.contains(&unit.pool));
        let known: BTreeSet<VolumeId> = exported.iter().map(|unit| unit.volume).collect();
        let mappings: Vec<_> =
            mappings.into_iter().filter(|row| row.state != RowState::Deleting && known.contains(&row.volume)).collect();
        let new: BTreeSet<VolumeId> =
            mappings.iter().filter(|row| row.state == RowState::Creating).map(|row| row.volume).collect();
        let mut initiators = Vec::new();
        for host in &hosts {
            let luns: BTreeMap<u16, VolumeId> =
                mappings.iter().filter(|row| row.host == host.id).map(|row| (row.lun, row.volume)).collect();
            let access = self.access(host.id, host.chap.as_ref());
            initiators.extend(host.iqns.iter().map(|iqn| ScsiInitiator {
                iqn: iqn.clone(),
                access: access.clone(),
                luns: luns.clone(),
            }));
        }
        Ok(Some(ScsiTarget {
            iqn: self.target_iqn(),
            portals: self.iscsi_portals()?,
            units: exported.into_iter().map(|unit| scsi_unit(unit, &new)).collect(),
            initiators,
        }))
    }

    /// How a host logs in. One whose secrets can't be read must not come in without them.
    fn access(&self, host: HostId, chap: Option<&ChapRow>) -> Access {
        let Some(chap) = chap else { return Access::Open };
        match self.exports.chap(&chap.key) {
            Ok(Some(credentials)) if credentials.users() == chap.users => Access::Chap(credentials),
            Ok(_) => {
                tracing::error!(
                    host.id = host.0,
                    "the CHAP secrets of a host are lost: it can't log in before they are set again"
                );
                Access::Closed
            }
            Err(error) => {
                tracing::error!(host.id = host.0, %error, "the CHAP secrets of a host can't be read: it can't log in");
                Access::Closed
            }
        }
    }
}

/// A pool is not deleted and a volume not changed while something in it is being mapped.
fn mapping_keys(row: &VolumeRow, host: HostId) -> Vec<Key> {
    let mut keys = vec![Key::Within(row.pool), Key::Volume(row.id), Key::Host(host)];
    keys.extend(row.parent.as_ref().map(|(parent, _)| Key::Volume(*parent)));
    keys
}

fn require_lun(row: &VolumeRow) -> Result<()> {
    if row.volume_type != VolumeType::Filesystem {
        return Ok(());
    }
    let fault = format!("volume {} is a filesystem; share it instead, or map a lun or filebackedlun", row.id);
    Err(Invalid::new("vol_id", fault).into())
}

fn unfinished(host: HostId, volume: VolumeId) -> Error {
    Error::State(format!(
        "an earlier change of the mapping of volume {volume} to host {host} could not be brought to its end; restart \
         vsnapd, which goes on with it"
    ))
}

fn lowest_free(taken: &[MappingRow]) -> Option<u16> {
    (0..=LAST_LUN).find(|lun| taken.iter().all(|row| row.lun != *lun))
}

fn scsi_unit(unit: Exported, new: &BTreeSet<VolumeId>) -> ScsiUnit {
    let Exported { volume, serial, backing: (dataset, path), .. } = unit;
    ScsiUnit {
        volume,
        serial,
        backing: match path {
            None => Backing::Zvol(dataset),
            Some(path) => Backing::File { filesystem: dataset, path },
        },
        needed: new.contains(&volume),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_lowest_free() {
        let row = |lun| MappingRow { host: HostId(1), volume: VolumeId(1), lun, state: RowState::Ready };
        assert_eq!(lowest_free(&[]), Some(0));
        assert_eq!(lowest_free(&[row(0), row(1), row(3)]), Some(2));
        assert_eq!(lowest_free(&[row(1)]), Some(0));
        let all: Vec<_> = (0..=LAST_LUN).map(row).collect();
        assert_eq!(lowest_free(&all), None);
    }
}
