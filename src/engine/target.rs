//! Target ports (contract section 5).

use super::Engine;
use crate::error::Result;

/// A port that initiators log in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its IQN.
    pub wwn: String,
}

impl Engine {
    /// The appliance's one iSCSI target.
    pub fn targets(&self) -> Result<Vec<Target>> {
        Ok(vec![Target { wwn: self.target_iqn() }])
    }

    pub(super) fn target_iqn(&self) -> String {
        format!("{}:{}", self.config.iscsi.naming_authority, self.id())
    }
}
