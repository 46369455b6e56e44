//! NFS exports through the kernel's nfsd.

use super::{Result, exports::Applied};

/// A filesystem that NFS clients may mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsExport {
    /// Where it is mounted here, and what clients mount.
    pub path: String,
}

/// The kernel's NFS server.
pub struct Nfs {}

impl Nfs {
    /// Looks for its tools.
    pub fn new() -> Result<Self> {
        Ok(Nfs {})
    }

    /// See [`super::Exports::apply_nfs`].
    pub fn apply(&self, _wanted: &[NfsExport]) -> Result<Applied> {
        Ok(Applied::default())
    }
}
