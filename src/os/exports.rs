//! What clients reach over the network: NFS exports, SMB shares, iSCSI LUNs, and which interface offers what.
//!
//! Each call but those for one object takes the whole wanted state of its kind, compares it with what is live, and
//! applies the difference alone: so it may be repeated at any time, and clients of what does not change notice nothing.
//! What others configured is left alone.

use super::{Result, lio::ScsiTarget, listen::Listen, network_rules::NetworkServices, nfs::NfsExport, samba::SmbShare};
use crate::types::{VolumeId, host::ChapCredentials};

/// What had to be done, in words for the log; empty when all was as wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// One line for each change.
    pub changes: Vec<String>,
}

/// The exports of the machine.
pub trait Exports: Send + Sync {
    /// NFS exports, through the kernel's nfsd. Where it listens matters while there are any.
    fn apply_nfs(&self, wanted: &[NfsExport], listen: &Listen) -> Result<Applied>;
    /// SMB shares, through Samba. Where it listens matters while there are any.
    fn apply_smb(&self, wanted: &[SmbShare], listen: &Listen) -> Result<Applied>;
    /// Shows the snapshots of one SMB share as its previous versions, and no others, looking at no other share.
    fn apply_versions(&self, share: &SmbShare) -> Result<()>;
    /// The iSCSI target with its LUNs and initiators, through LIO; `None` when nothing was ever mapped, so that no
    /// target is needed.
    fn apply_iscsi(&self, wanted: Option<&ScsiTarget>) -> Result<Applied>;
    /// Whether the target is so already, for those who only look: others may change it meanwhile.
    fn is_iscsi_as(&self, wanted: &ScsiTarget) -> Result<bool>;
    /// [`Exports::apply_iscsi`] for one unit, looking at no other: what it costs does not grow with what else is mapped.
    fn apply_unit(&self, wanted: &ScsiTarget, volume: VolumeId) -> Result<Applied>;
    /// Which services are reachable through which interface, through nftables.
    fn apply_networks(&self, wanted: &NetworkServices) -> Result<Applied>;
    /// Keeps the CHAP secrets of a host, readable by root only, durably.
    fn keep_chap(&self, key: &str, credentials: &ChapCredentials) -> Result<()>;
    /// The secrets that were kept under this key.
    fn chap(&self, key: &str) -> Result<Option<ChapCredentials>>;
    /// Removes them; no error when there are none.
    fn forget_chap(&self, key: &str) -> Result<()>;
    /// Every key.
    fn chap_keys(&self) -> Result<Vec<String>>;
}

/// The real exports.
pub struct LinuxExports {
    nfs: super::nfs::Nfs,
    samba: super::samba::Samba,
    lio: super::lio::Lio,
    rules: super::network_rules::NetworkRules,
    secrets: super::lio::Secrets,
}

impl LinuxExports {
    /// Looks for all tools. Secrets are kept below `state_dir`.
    pub fn new(state_dir: &std::path::Path) -> Result<Self> {
        Ok(LinuxExports {
            nfs: super::nfs::Nfs::new()?,
            samba: super::samba::Samba::new()?,
            lio: super::lio::Lio::new()?,
            rules: super::network_rules::NetworkRules::new()?,
            secrets: super::lio::Secrets::new(state_dir),
        })
    }
}

impl Exports for LinuxExports {
    fn apply_nfs(&self, wanted: &[NfsExport], listen: &Listen) -> Result<Applied> {
        self.nfs.apply(wanted, listen)
    }

    fn apply_smb(&self, wanted: &[SmbShare], listen: &Listen) -> Result<Applied> {
        self.samba.apply(wanted, listen)
    }

    fn apply_versions(&self, share: &SmbShare) -> Result<()> {
        self.samba.apply_versions(share)
    }

    fn apply_iscsi(&self, wanted: Option<&ScsiTarget>) -> Result<Applied> {
        self.lio.apply(wanted, None)
    }

    fn is_iscsi_as(&self, wanted: &ScsiTarget) -> Result<bool> {
        self.lio.is_as(wanted)
    }

    fn apply_unit(&self, wanted: &ScsiTarget, volume: VolumeId) -> Result<Applied> {
        self.lio.apply(Some(wanted), Some(volume))
    }

    fn apply_networks(&self, wanted: &NetworkServices) -> Result<Applied> {
        self.rules.apply(wanted)
    }

    fn keep_chap(&self, key: &str, credentials: &ChapCredentials) -> Result<()> {
        self.secrets.keep(key, credentials)
    }

    fn chap(&self, key: &str) -> Result<Option<ChapCredentials>> {
        self.secrets.find(key)
    }

    fn forget_chap(&self, key: &str) -> Result<()> {
        self.secrets.forget(key)
    }

    fn chap_keys(&self) -> Result<Vec<String>> {
        self.secrets.keys()
    }
}
