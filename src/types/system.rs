//! The appliance itself (contract section 2).

use serde::{Deserialize, Serialize};

/// How far `init` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitStatus {
    /// Never begun.
    NotInitialized,
    /// Running now.
    Initializing,
    /// Done.
    Ready,
    /// Ended with an error; may be repeated.
    Failed,
}

impl InitStatus {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            InitStatus::NotInitialized => "Not Initialized",
            InitStatus::Initializing => "Initializing",
            InitStatus::Ready => "Ready",
            InitStatus::Failed => "Failed",
        }
    }

    /// The status that `word` stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        use InitStatus::*;
        [NotInitialized, Initializing, Ready, Failed].into_iter().find(|status| status.word() == word)
    }
}

/// Versions of what the appliance is made of, asked from the running system; `None` where a part is not installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// `NAME` of os-release.
    pub os_name: Option<String>,
    /// `VERSION_ID` (or the fuller Debian version).
    pub os_version: Option<String>,
    /// NFS server package.
    pub nfs: Option<String>,
    /// Samba.
    pub samba: Option<String>,
    /// The loaded ZFS kernel module.
    pub zfs: Option<String>,
}

/// Memory that ZFS uses, in bytes (`/proc/spl/kstat/zfs/arcstats` and the dedup tables of our pools).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Most the ARC may take.
    pub arc_max: u64,
    /// What the ARC holds now.
    pub arc_used: u64,
    /// Most of the ARC that metadata may take.
    pub arc_meta_max: u64,
    /// Metadata in the ARC now.
    pub arc_meta_used: u64,
    /// Dedup tables in memory.
    pub ddt_core: u64,
    /// Dedup tables on disk.
    pub ddt_disk: u64,
}

/// What `GET /api/system` is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemInfo {
    /// Identity of the appliance.
    pub id: super::SystemId,
    /// Short host name.
    pub hostname: String,
    /// Fully qualified name, or the short one where there is no domain.
    pub fqdn: String,
    /// How far `init` has come.
    pub init_status: InitStatus,
    /// Why it is [`InitStatus::Failed`].
    pub init_message: Option<String>,
    /// Whether more than one pool is allowed.
    pub multipool: bool,
    /// Versions of the parts.
    pub versions: Versions,
}

/// Parameters of `init` (contract section 2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRequest {
    /// Answer at once and go on in the background.
    pub asynchronous: bool,
    /// Allow more than one pool.
    pub multipool: bool,
    /// Make no pool.
    pub skip_pool: bool,
}
