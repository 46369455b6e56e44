//! Operations as clients see them: what the appliance is doing, has done, and failed to do.

use super::Epoch;

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// It has not ended; after a crash it goes on at the next start.
    Running,
    /// It did what it was asked to do.
    Done,
    /// It did not, and what it had begun was taken back.
    Failed,
}

impl OperationState {
    /// The word in answers and in the parameter `state`.
    pub fn word(self) -> &'static str {
        match self {
            OperationState::Running => "running",
            OperationState::Done => "done",
            OperationState::Failed => "failed",
        }
    }
}

/// Which operations to report; what is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only those on this object, such as `volume 7`.
    pub subject: Option<String>,
    /// Only those that are running, or only those that have ended.
    pub running: Option<bool>,
    /// At most this many, the youngest.
    pub limit: u64,
}

/// How an operation presents itself to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationReport {
    /// Its number in the journal.
    pub id: i64,
    /// What it does, such as `delete_volume`.
    pub verb: String,
    /// To what, such as `volume 7`.
    pub subject: String,
    /// Who asked for it.
    pub user: String,
    /// How far it is.
    pub state: OperationState,
    /// How much of it is done, when that can be told.
    pub percent: Option<u8>,
    /// What it is doing, or why it failed.
    pub message: Option<String>,
    /// Begun at.
    pub started: Epoch,
    /// Ended at.
    pub ended: Option<Epoch>,
}
