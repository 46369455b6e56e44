//! Where a row is in its life.

use super::{Error, Result};

/// Where a row is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// Its operation is making it; nobody sees it yet.
    Creating,
    /// There.
    Ready,
    /// Its operation is removing it.
    Deleting,
}

impl RowState {
    pub(super) fn word(self) -> &'static str {
        match self {
            RowState::Creating => "creating",
            RowState::Ready => "ready",
            RowState::Deleting => "deleting",
        }
    }

    pub(super) fn read(word: &str) -> Result<Self> {
        let states = [RowState::Creating, RowState::Ready, RowState::Deleting];
        let known = states.into_iter().find(|state| state.word() == word);
        known.ok_or_else(|| Error::Content(format!("{word:?} is no state of a row")))
    }
}
