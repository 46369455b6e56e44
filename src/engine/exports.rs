//! Exports are derived: what is to be reached is rendered whole from the catalog, and the system is made so. Called
//! after every change, at start, and by upkeep, which so brings back what somebody took away by hand.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;

use super::Engine;
use crate::{
    catalog::{self, share::ShareRow},
    error::Result,
    os::{Applied, nfs::NfsExport, samba::SmbShare},
    types::{PoolId, VolumeId, names::DatasetName, network::Service, share::ShareType},
};

/// A kind of export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Export {
    /// NFS shares.
    Nfs,
    /// SMB shares.
    Smb,
    /// The iSCSI target.
    Iscsi,
    /// Services per interface.
    Networks,
}

impl From<ShareType> for Export {
    fn from(share_type: ShareType) -> Self {
        match share_type {
            ShareType::Nfs => Export::Nfs,
            ShareType::Smb => Export::Smb,
        }
    }
}

impl Export {
    /// In the order in which they are brought up: an interface is closed before something can be reached through it.
    pub(super) const ALL: [Export; 4] = [Export::Networks, Export::Nfs, Export::Smb, Export::Iscsi];
}

/// Whose turn it is to apply exports of each kind, in the order of [`Export`]: a client of one kind that does not answer
/// keeps nobody from another kind.
#[derive(Default)]
pub(super) struct Turns([Mutex<()>; 4]);

impl Engine {
    /// Makes the exports of one kind what the catalog says. One at a time: what is read last is applied last, and of
    /// many changes that wait here the first one applies all.
    pub(super) fn apply_exports(&self, kind: Export) -> Result<Applied> {
        let _turn = self.turn(kind);
        Ok(match kind {
            Export::Nfs => self.exports.apply_nfs(&self.wanted_nfs()?, &self.listen_on(Service::Nfs)?)?,
            Export::Smb => self.exports.apply_smb(&self.wanted_smb()?, &self.listen_on(Service::Smb)?)?,
            Export::Iscsi => self.exports.apply_iscsi(self.wanted_iscsi()?.as_ref())?,
            Export::Networks => {
                let wanted = self.wanted_networks()?;
                let applied = self.exports.apply_networks(&wanted)?;
                if let Some(follow) = self.api.get() {
                    follow(&wanted.without(Service::Mgmt));
                }
                applied
            }
        })
    }

    /// Shows a volume to the hosts that it has just been mapped to, without looking at what else is mapped.
    pub(super) fn apply_mapping(&self, volume: VolumeId) -> Result<()> {
        let _turn = self.turn(Export::Iscsi);
        if let Some(wanted) = self.wanted_iscsi()? {
            self.exports.apply_unit(&wanted, volume)?;
        }
        Ok(())
    }

    /// Makes all exports what the catalog says. One kind that fails does not keep the others from it. `surprise` says
    /// that nothing should have to be done, so that what was is worth a warning.
    pub(super) fn restore_exports(&self, surprise: bool) {
        for kind in Export::ALL {
            // Looking at all that is mapped takes its time, and seldom finds anything: no mapping has to wait for that.
            if !(surprise && kind == Export::Iscsi && self.is_target_as_wanted()) {
                self.restore_export(kind, surprise);
            }
        }
    }

    /// What can't be looked at is not as wanted: who restores it tells why.
    fn is_target_as_wanted(&self) -> bool {
        let look = || -> Result<bool> {
            match self.wanted_iscsi()? {
                Some(wanted) => Ok(self.exports.is_iscsi_as(&wanted)?),
                None => Ok(false),
            }
        };
        look().unwrap_or(false)
    }

    /// The same for one kind.
    pub(super) fn restore_export(&self, kind: Export, surprise: bool) {
        match self.apply_exports(kind) {
            Ok(applied) => {
                for change in applied.changes {
                    if surprise {
                        tracing::warn!(?kind, "an export was not as it should be: {change}");
                    } else {
                        tracing::info!(?kind, "{change}");
                    }
                }
            }
            Err(error) => tracing::error!(?kind, %error, "exports could not be brought up"),
        }
    }

    /// Shows the snapshots of these volumes as previous versions in their SMB shares, and no others, right after some came
    /// or began to go; what it costs does not grow with what else is shared. The rows count by themselves: what fails here
    /// is upkeep's to try again.
    pub(super) fn apply_versions(&self, volumes: &[VolumeId]) {
        let shares = |view: &Connection| -> Result<Vec<ShareRow>> {
            let rows = volumes.iter().map(|volume| catalog::share::exported_of_volume(view, *volume));
            let rows = rows.filter_map(catalog::Result::transpose).collect::<catalog::Result<Vec<_>>>()?;
            Ok(rows.into_iter().filter(|row| row.properties.share_type == ShareType::Smb).collect())
        };
        let apply = || -> Result<()> {
            // Most volumes have none, and wait for nobody's turn.
            if self.catalog.read(shares)?.is_empty() {
                return Ok(());
            }
            let _turn = self.turn(Export::Smb);
            let wanted = self
                .catalog
                .read(|view| shares(view)?.into_iter().map(|row| smb_share(view, row)).collect::<Result<Vec<_>>>())?;
            wanted.iter().try_for_each(|share| Ok(self.exports.apply_versions(share)?))
        };
        if let Err(error) = apply() {
            tracing::warn!(?volumes, %error, "previous versions could not be brought up to date");
        }
    }

    fn turn(&self, kind: Export) -> MutexGuard<'_, ()> {
        self.exporting.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted_nfs(&self) -> Result<Vec<NfsExport>> {
        let displaced = self.displaced_pools()?;
        let rows = self.catalog.read(|view| exported(view, ShareType::Nfs, &displaced))?;
        let export = |row: ShareRow| NfsExport {
            path: row.name,
            hosts: row.properties.allowed_hosts,
            read_only: row.properties.read_only,
            snapshots_visible: row.properties.snapshots_visible,
        };
        Ok(rows.into_iter().map(export).collect())
    }

    fn wanted_smb(&self) -> Result<Vec<SmbShare>> {
        let displaced = self.displaced_pools()?;
        self.catalog.read(|view| {
            let rows = exported(view, ShareType::Smb, &displaced)?;
            rows.into_iter().map(|row| smb_share(view, row)).collect()
        })
    }
}

/// The shares that are to be reached: those in pools that are here, or not here, but none in one of others.
fn exported(view: &Connection, share_type: ShareType, displaced: &BTreeSet<PoolId>) -> Result<Vec<ShareRow>> {
    let mut rows = catalog::share::exported(view, share_type)?;
    rows.retain(|row| !displaced.contains(&row.pool));
    Ok(rows)
}

/// An SMB share with the snapshots that are to be seen in it.
fn smb_share(view: &Connection, row: ShareRow) -> Result<SmbShare> {
    let versions = catalog::snapshot::versions(view, row.volume)?;
    Ok(SmbShare {
        path: DatasetName::filesystem(row.pool, row.volume).mountpoint(),
        name: row.name,
        read_only: row.properties.read_only,
        versions: versions.into_iter().map(|(id, created)| (created, format!("snap{id}"))).collect(),
    })
}
