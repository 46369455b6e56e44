//! The one error of the appliance, by meaning. `api/error.rs` maps each meaning to a status code, once.

use crate::{
    catalog, os,
    types::{Invalid, system::InitStatus},
};

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
    #[error("{}", not_initialized(*status, message.as_deref()))]
    NotInitialized {
        /// How far `init` has come: anything but ready.
        status: InitStatus,
        /// Why it failed.
        message: Option<String>,
    },

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

/// What is the matter, and what is to be done next: that depends on whether `init` is at work.
fn not_initialized(status: InitStatus, message: Option<&str>) -> String {
    const INIT: &str = "with POST /api/system {\"action\": \"init\"} or `vsnap system init`";
    match status {
        InitStatus::Initializing => {
            "the system is being initialised; follow it with GET /api/system and try again when init_status is Ready"
                .to_owned()
        }
        InitStatus::Failed => format!(
            "the initialisation of the system failed: {}; mend that (init_message of GET /api/system has it, too) and \
             initialise it again {INIT}",
            message.unwrap_or("the reason is not known")
        ),
        InitStatus::NotInitialized | InitStatus::Ready => {
            format!("the system is not initialised; initialise it {INIT}")
        }
    }
}

/// Result of everything in the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// There is no `kind` with this id, name or uuid.
    pub fn not_found(kind: &'static str, key: impl ToString) -> Self {
        Error::NotFound { kind, key: key.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_before_init_depends_on_how_far_it_is() {
        let text = |status, message: Option<&str>| {
            Error::NotInitialized { status, message: message.map(str::to_owned) }.to_string()
        };
        let running = text(InitStatus::Initializing, None);
        assert!(running.contains("GET /api/system") && !running.contains("POST"), "{running}");
        let failed = text(InitStatus::Failed, Some("no such disk"));
        assert!(failed.contains("init_message") && failed.contains("no such disk"), "{failed}");
        let never = text(InitStatus::NotInitialized, None);
        assert!(never.contains(r#"POST /api/system {"action": "init"}"#), "{never}");
    }
}
