//! The iSCSI target through the kernel's LIO.

use super::{Result, exports::Applied};

/// The appliance's target with all that is to be reached through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiTarget {
    /// Its IQN.
    pub iqn: String,
}

/// The kernel's SCSI target.
pub struct Lio {}

impl Lio {
    /// Looks for what it needs.
    pub fn new() -> Result<Self> {
        Ok(Lio {})
    }

    /// See [`super::Exports::apply_iscsi`].
    pub fn apply(&self, _wanted: Option<&ScsiTarget>) -> Result<Applied> {
        Ok(Applied::default())
    }
}
