//! The one error of the appliance, by meaning. `api/error.rs` maps each meaning to a status code, once.

use crate::{catalog, os, types::Invalid};

/// Why a request could not be carried out. The message of each says what to do next and never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member of the request is wrong; nothing was changed.
    #[error(transparent)]
    Invalid(#[from] Invalid),

    /// A disk can't be used for a pool. The message is fixed by the contract (section 1).
    #[error("Disk UUID {uuid} is not a valid candidate for a pool{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    InvalidCandidate {
        /// The uuid as the client gave it.
        uuid: String,
        /// What it is in use for, when that is known.
        reason: Option<String>,
    },

    /// There is no such object.
    #[error("there is no {kind} {key}")]
    NotFound {
        /// `pool`, `disk`, ...
        kind: &'static str,
        /// How it was asked for.
        key: String,
    },

    /// The name or object is there already.
    #[error("{0}")]
    Exists(String),

    /// Another operation holds the object.
    #[error("{0}")]
    Busy(String),

    /// The object's state does not allow it.
    #[error("{0}")]
    State(String),

    /// The system has not been initialised.
    #[error(
        "the system is not initialised; initialise it with POST /api/system {{\"action\": \"init\"}} or `vsnap system init`"
    )]
    NotInitialized,

    /// The storage is full.
    #[error("{0}")]
    NoSpace(String),

    /// The caller may not do this, though the credentials are good.
    #[error("{0}")]
    Forbidden(String),

    /// A partner can't be reached, or did not do what it was asked for. The message names it.
    #[error("{0}")]
    Partner(String),

    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),

    /// A tool or the kernel failed in a way that no request can mend.
    #[error(transparent)]
    System(#[from] os::Error),

    /// What is on the system contradicts the catalog; nothing was touched.
    #[error("{0}")]
    Contradiction(String),
}

/// Result of everything in the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// There is no `kind` with this id, name or uuid.
    pub fn not_found(kind: &'static str, key: impl ToString) -> Self {
        Error::NotFound { kind, key: key.to_string() }
    }
}
