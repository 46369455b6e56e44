//! What upkeep found when it compared the catalog with ZFS.

use super::Epoch;

/// How catalog and ZFS differ, or what else deserves a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// ZFS has an object with our mark that the catalog does not know.
    ObjectWithoutRow,
    /// The catalog has an object that ZFS does not have.
    RowWithoutObject,
    /// There is an object of somebody else where ours are.
    Stranger,
    /// A size or origin is another than the catalog says.
    Mismatch,
    /// A snapshot is past its expiry and still there.
    Expired,
    /// A pool could not be looked at.
    Unreadable,
}

impl FindingKind {
    /// The word in answers.
    pub fn word(self) -> &'static str {
        match self {
            FindingKind::ObjectWithoutRow => "object_without_row",
            FindingKind::RowWithoutObject => "row_without_object",
            FindingKind::Stranger => "stranger",
            FindingKind::Mismatch => "mismatch",
            FindingKind::Expired => "expired",
            FindingKind::Unreadable => "unreadable",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// What it is about: a ZFS name, or `volume 3`.
    pub subject: String,
    /// What was found and what can be done about it.
    pub message: String,
    /// Bytes that are at stake, where that is known.
    pub bytes: Option<u64>,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When it was made.
    pub made: Epoch,
    /// What was found; nothing when all is well.
    pub findings: Vec<Finding>,
}

/// What a rebuild of the catalog brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Pools.
    pub pools: usize,
    /// Volumes, file-backed luns included.
    pub volumes: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Shares.
    pub shares: usize,
    /// What could not be brought back, or not as it was, and why.
    pub skipped: Vec<String>,
}
