//! SMB shares through Samba.

use super::{Result, exports::Applied};

/// A filesystem that SMB clients may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbShare {
    /// Name of the share.
    pub name: String,
    /// Where it is mounted here.
    pub path: String,
}

/// Samba.
pub struct Samba {}

impl Samba {
    /// Looks for its tools.
    pub fn new() -> Result<Self> {
        Ok(Samba {})
    }

    /// See [`super::Exports::apply_smb`].
    pub fn apply(&self, _wanted: &[SmbShare]) -> Result<Applied> {
        Ok(Applied::default())
    }
}
