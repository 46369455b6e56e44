//! Sessions: one snapshot goes from a volume to its replica (contract section 14).

use serde::{Deserialize, Serialize};

use super::{Epoch, Invalid, Name, RelationshipId, SessionId, SnapshotId, partner::Address};

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SessionStatus {
    /// Queued.
    Pending,
    /// At work.
    Active,
    /// The snapshot is on the partner, under the same guid.
    Completed,
    /// It came to another end; the message says why.
    Failed,
}

impl SessionStatus {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            SessionStatus::Pending => "PENDING",
            SessionStatus::Active => "ACTIVE",
            SessionStatus::Completed => "COMPLETED",
            SessionStatus::Failed => "FAILED",
        }
    }

    /// The status that `word` stands for.
    pub fn from_word(word: &str) -> Result<Self, Invalid> {
        let all = [SessionStatus::Pending, SessionStatus::Active, SessionStatus::Completed, SessionStatus::Failed];
        let found = all.into_iter().find(|status| status.word() == word);
        found
            .ok_or_else(|| Invalid::new("status", format!("{word:?} is none of PENDING, ACTIVE, COMPLETED and FAILED")))
    }

    /// Whether nothing more happens to it.
    pub fn is_over(self) -> bool {
        matches!(self, SessionStatus::Completed | SessionStatus::Failed)
    }
}

/// A request for a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionRequest {
    /// What is sent; a new snapshot when it is not given.
    pub snapshot: Option<SnapshotId>,
    /// Name of the snapshot on the replica; that of the snapshot here when it is not given.
    pub remote_name: Option<Name>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// For which relationship.
    pub relationship: RelationshipId,
    /// What is sent; `None` until the snapshot is made.
    pub local_snapshot: Option<SnapshotId>,
    /// Its name.
    pub local_name: Option<Name>,
    /// The snapshot on the partner, once it is there.
    pub remote_snapshot: Option<SnapshotId>,
    /// Its name there.
    pub remote_name: Option<Name>,
    /// Where the data goes.
    pub address: Option<Address>,
    /// Bytes that were sent; `None` before the first.
    pub sent: Option<u64>,
    /// Where it is.
    pub status: SessionStatus,
    /// Queued at.
    pub queued: Epoch,
    /// Began at.
    pub started: Option<Epoch>,
    /// Ended at.
    pub ended: Option<Epoch>,
    /// Progress, or why it failed.
    pub message: Option<String>,
}
