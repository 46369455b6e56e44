//! What clients reach over the network: NFS exports, SMB shares, iSCSI LUNs, and which interface offers what.
//!
//! Each call takes the whole wanted state of its kind, compares it with what is live, and applies the difference alone:
//! so it may be repeated at any time, and clients of what does not change notice nothing. What others configured is
//! left alone.

use super::{Result, lio::ScsiTarget, network_rules::NetworkServices, nfs::NfsExport, samba::SmbShare};

/// What had to be done, in words for the log; empty when all was as wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// One line for each change.
    pub changes: Vec<String>,
}

/// The exports of the machine.
pub trait Exports: Send + Sync {
    /// NFS exports, through the kernel's nfsd.
    fn apply_nfs(&self, wanted: &[NfsExport]) -> Result<Applied>;
    /// SMB shares, through Samba.
    fn apply_smb(&self, wanted: &[SmbShare]) -> Result<Applied>;
    /// The iSCSI target with its LUNs and initiators, through LIO; `None` when nothing was ever mapped, so that no
    /// target is needed.
    fn apply_iscsi(&self, wanted: Option<&ScsiTarget>) -> Result<Applied>;
    /// Which services are reachable through which interface, through nftables.
    fn apply_networks(&self, wanted: &NetworkServices) -> Result<Applied>;
}

/// The real exports.
pub struct LinuxExports {
    nfs: super::nfs::Nfs,
    samba: super::samba::Samba,
    lio: super::lio::Lio,
    rules: super::network_rules::NetworkRules,
}

impl LinuxExports {
    /// Looks for all tools.
    pub fn new() -> Result<Self> {
        Ok(LinuxExports {
            nfs: super::nfs::Nfs::new()?,
            samba: super::samba::Samba::new()?,
            lio: super::lio::Lio::new()?,
            rules: super::network_rules::NetworkRules::new()?,
        })
    }
}

impl Exports for LinuxExports {
    fn apply_nfs(&self, wanted: &[NfsExport]) -> Result<Applied> {
        self.nfs.apply(wanted)
    }

    fn apply_smb(&self, wanted: &[SmbShare]) -> Result<Applied> {
        self.samba.apply(wanted)
    }

    fn apply_iscsi(&self, wanted: Option<&ScsiTarget>) -> Result<Applied> {
        self.lio.apply(wanted)
    }

    fn apply_networks(&self, wanted: &NetworkServices) -> Result<Applied> {
        self.rules.apply(wanted)
    }
}
