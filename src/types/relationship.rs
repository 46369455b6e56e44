//! Relationships: a volume here, its replica there (contract section 13).

use serde::{Deserialize, Serialize};

use super::{Epoch, Invalid, Name, PoolId, RelationshipId, SnapshotId, SystemId, VolumeId, session::SessionStatus};

/// Which end of a relationship an appliance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It has the volume that is written, and sends.
    Primary,
    /// It has the copy, and receives.
    Replica,
}

impl Role {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
        }
    }

    /// The role that `word` stands for.
    pub fn from_word(word: &str) -> Result<Self, Invalid> {
        let roles = [Role::Primary, Role::Replica];
        let found = roles.into_iter().find(|role| role.word() == word);
        found.ok_or_else(|| Invalid::new("local_role", format!("{word:?} is neither primary nor replica")))
    }
}

/// A request for a relationship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationshipRequest {
    /// Who gets the replica.
    pub partner: SystemId,
    /// In which of its pools; the partner chooses when it is not given.
    pub remote_pool: Option<PoolId>,
    /// Name of the replica; that of the volume when it is not given.
    pub remote_name: Option<Name>,
    /// Whether a volume that is there already becomes the replica.
    pub reuse: bool,
}

/// A relationship as one of its two appliances sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// Its identity, the same on both.
    pub id: RelationshipId,
    /// What this appliance is in it.
    pub role: Role,
    /// Pool of the volume here.
    pub local_pool: PoolId,
    /// The volume here.
    pub local_volume: VolumeId,
    /// Its name.
    pub local_name: Name,
    /// The other appliance.
    pub partner: SystemId,
    /// Pool of the volume there.
    pub remote_pool: PoolId,
    /// The volume there.
    pub remote_volume: VolumeId,
    /// Its name when the relationship was made.
    pub remote_name: Name,
    /// How the last session ended, or that one is on its way. Of the primary.
    pub last_status: Option<SessionStatus>,
    /// Snapshot of the last session. Of the primary.
    pub last_attempt: Option<SnapshotId>,
    /// Snapshot of the last session that was completed. Of the primary.
    pub last_success: Option<SnapshotId>,
    /// Made at.
    pub created: Epoch,
    /// Last changed at.
    pub updated: Epoch,
}
