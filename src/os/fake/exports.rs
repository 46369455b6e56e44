//! What the fake exports: the wanted state of each kind as it was last applied, and what strangers did to it since.

use super::FakeOs;
use crate::os::{
    Applied, Exports, Result, lio::ScsiTarget, network_rules::NetworkServices, nfs::NfsExport, samba::SmbShare,
};

/// Everything that is exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeExports {
    /// NFS.
    pub nfs: Vec<NfsExport>,
    /// SMB.
    pub smb: Vec<SmbShare>,
    /// iSCSI.
    pub iscsi: Option<ScsiTarget>,
    /// Interfaces.
    pub networks: NetworkServices,
}

/// Replaces `live` by `wanted`.
fn replace<T: PartialEq>(live: &mut T, wanted: T, what: &str) -> Applied {
    if *live == wanted {
        return Applied::default();
    }
    *live = wanted;
    Applied { changes: vec![format!("{what} changed")] }
}

impl Exports for FakeOs {
    fn apply_nfs(&self, wanted: &[NfsExport]) -> Result<Applied> {
        self.effect("apply_nfs", |world| Ok(replace(&mut world.exports.nfs, wanted.to_vec(), "NFS")))
    }

    fn apply_smb(&self, wanted: &[SmbShare]) -> Result<Applied> {
        self.effect("apply_smb", |world| Ok(replace(&mut world.exports.smb, wanted.to_vec(), "SMB")))
    }

    fn apply_iscsi(&self, wanted: Option<&ScsiTarget>) -> Result<Applied> {
        self.effect("apply_iscsi", |world| Ok(replace(&mut world.exports.iscsi, wanted.cloned(), "iSCSI")))
    }

    fn apply_networks(&self, wanted: &NetworkServices) -> Result<Applied> {
        self.effect("apply_networks", |world| {
            // As the real one: where nothing is closed there are no rules.
            let rules = if wanted.is_open() { NetworkServices::default() } else { wanted.clone() };
            Ok(replace(&mut world.exports.networks, rules, "networks"))
        })
    }
}
