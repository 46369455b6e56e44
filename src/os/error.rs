//! Failures of tools and system calls, classified by what they mean to the engine.

/// What a failure means. Unknown texts are [`Kind::Other`]: an error is never taken for "not there".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The thing does not exist.
    Missing,
    /// The thing exists already.
    Exists,
    /// It is in use.
    Busy,
    /// No space or quota left.
    NoSpace,
    /// Refused: not allowed, or not safe.
    Denied,
    /// It took longer than its limit and was ended.
    TimedOut,
    /// It took longer than its limit and was ended, but the kernel may do it all the same.
    Unclear,
    /// Anything else.
    Other,
}

/// A tool or system call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{action} failed: {detail}")]
pub struct Error {
    /// What it means.
    pub kind: Kind,
    /// What was tried, on what: `zpool create vpool1`, `reading /proc/mounts`.
    pub action: String,
    /// What the tool or the kernel said.
    pub detail: String,
}

impl Error {
    /// A failure of `action`.
    pub fn new(kind: Kind, action: impl Into<String>, detail: impl Into<String>) -> Self {
        Error { kind, action: action.into(), detail: detail.into() }
    }

    /// This error of a tool that asks the kernel for everything by one call: what is asked for that way happens also
    /// when the process that asked was ended meanwhile.
    #[must_use]
    pub fn of_one_call(self) -> Self {
        let kind = if self.kind == Kind::TimedOut { Kind::Unclear } else { self.kind };
        Error { kind, ..self }
    }

    /// An input/output error while doing `action`.
    pub fn io(action: impl Into<String>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => Kind::Missing,
            Io::AlreadyExists => Kind::Exists,
            Io::ResourceBusy => Kind::Busy,
            Io::StorageFull | Io::QuotaExceeded => Kind::NoSpace,
            Io::PermissionDenied => Kind::Denied,
            Io::TimedOut => Kind::TimedOut,
            _ => Kind::Other,
        };
        Error::new(kind, action, error.to_string())
    }
}
