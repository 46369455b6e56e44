//! Why a command failed. The text goes to standard error, in one line, and says what to do next.

use std::process::ExitCode;

/// Result of everything in the command line.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The appliance answered with an error.
    #[error("{}{} ({kind})", without_end(message), reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default())]
    Api {
        /// HTTP status.
        status: u16,
        /// Member `type` of the error.
        kind: String,
        /// Member `message`.
        message: String,
        /// Member `reason`, which some errors have.
        reason: Option<String>,
    },

    /// The appliance did what was asked, but it ended badly.
    #[error("{0}")]
    Outcome(String),

    /// The person said no.
    #[error("nothing was changed")]
    Declined,

    /// Nobody answers.
    #[error("the appliance daemon does not answer at {place} ({reason}): is it running? {advice}")]
    Down {
        /// Socket or host.
        place: String,
        /// What the system said.
        reason: String,
        /// What to look at.
        advice: &'static str,
    },

    /// The command could not be carried out from here: no terminal, a wrong option, no access, a strange answer.
    #[error("{0}")]
    Local(String),
}

impl Failure {
    /// A failure on this side.
    pub fn local(message: impl Into<String>) -> Self {
        Failure::Local(message.into())
    }

    /// Whether the appliance said that the object isn't there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Failure::Api { status: 404, .. })
    }

    /// Whether the appliance took longer than its time for a request, and goes on in the background.
    pub fn goes_on(&self) -> bool {
        matches!(self, Failure::Api { kind, .. } if kind == "TimeoutError")
    }

    /// The same failure, with `before` in front of what the appliance said.
    #[must_use]
    pub fn after(self, before: &str) -> Self {
        match self {
            Failure::Api { status, kind, message, reason } => {
                Failure::Api { status, kind, message: format!("{before}: {message}"), reason }
            }
            other => other,
        }
    }

    /// 1 when the appliance was asked and it came to nothing, 2 when it could not be asked.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Api { .. } | Failure::Outcome(_) | Failure::Declined => ExitCode::from(1),
            Failure::Down { .. } | Failure::Local(_) => ExitCode::from(2),
        }
    }
}

fn without_end(message: &str) -> &str {
    message.trim_end_matches('.')
}
