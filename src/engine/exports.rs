//! Exports are derived: what is to be reached is rendered whole from the catalog, and the system is made so. Called
//! after every change, at start, and by upkeep, which so brings back what somebody took away by hand.

use std::sync::{Mutex, PoisonError};

use super::Engine;
use crate::{
    catalog::{self, RowState, share::ShareRow},
    error::Result,
    os::{Applied, nfs::NfsExport, samba::SmbShare},
    types::{VolumeId, names::DatasetName, network::Service, share::ShareType},
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
        let _turn = self.exporting.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
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
        let _turn = self.exporting.0[Export::Iscsi as usize].lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Shows the snapshots of these volumes as previous versions in SMB shares, and no others, right after some came or
    /// began to go. The rows count by themselves: what fails here is upkeep's to try again.
    pub(super) fn apply_versions(&self, volumes: &[VolumeId]) {
        let any_smb = self.catalog.read(|view| {
            volumes.iter().try_fold(false, |found, volume| -> Result<bool> {
                let share = catalog::share::of_volume(view, *volume)?;
                Ok(found || share.is_some_and(|row| row.properties.share_type == ShareType::Smb))
            })
        });
        match any_smb.and_then(|wanted| if wanted { self.apply_exports(Export::Smb).map(drop) } else { Ok(()) }) {
            Ok(()) => {}
            Err(error) => tracing::warn!(?volumes, %error, "previous versions could not be brought up to date"),
        }
    }

    fn wanted_nfs(&self) -> Result<Vec<NfsExport>> {
        let rows = self.catalog.read(|view| catalog::share::exported(view, ShareType::Nfs))?;
        let export = |row: ShareRow| NfsExport {
            path: row.name,
            hosts: row.properties.allowed_hosts,
            read_only: row.properties.read_only,
            snapshots_visible: row.properties.snapshots_visible,
        };
        Ok(rows.into_iter().map(export).collect())
    }

    fn wanted_smb(&self) -> Result<Vec<SmbShare>> {
        self.catalog.read(|view| {
            let rows = catalog::share::exported(view, ShareType::Smb)?;
            let share = |row: ShareRow| -> Result<SmbShare> {
                let snapshots = catalog::snapshot::of_volume(view, row.volume)?;
                let ready = snapshots.iter().filter(|snapshot| snapshot.state == RowState::Ready);
                Ok(SmbShare {
                    path: DatasetName::filesystem(row.pool, row.volume).mountpoint(),
                    name: row.name,
                    read_only: row.properties.read_only,
                    versions: ready.map(|snapshot| (snapshot.created, format!("snap{}", snapshot.id))).collect(),
                })
            };
            rows.into_iter().map(share).collect()
        })
    }
}
