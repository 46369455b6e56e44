//! What is to be sent: facts of both sides in, a plan out. Pure, so that every combination can be tested.
//!
//! Snapshots are matched by guid, never by name. ZFS takes an incremental stream only on top of the newest snapshot of a
//! replica, so that one must be known here, as a snapshot or as a bookmark; nothing is ever rolled back for it.

/// A snapshot of the volume, or a bookmark that is left of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// ZFS guid.
    pub guid: u64,
    /// Transaction group: the order of points.
    pub transaction: u64,
    /// Only a bookmark: a stream can begin here, but not end.
    pub is_bookmark: bool,
}

/// What an interrupted stream left on the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interrupted {
    /// Guid of the snapshot that it was to make.
    pub guid: u64,
    /// Guid of the snapshot that it began at; `None` for a full stream.
    pub base: Option<u64>,
}

/// What is known of both sides.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Guid of the snapshot that is to be on the replica.
    pub wanted: u64,
    /// Snapshots and bookmarks of the volume.
    pub source: Vec<Point>,
    /// Guids of the snapshots of the replica, the oldest first.
    pub replica: Vec<u64>,
    /// Something interrupted, if its token can be read.
    pub interrupted: Option<Interrupted>,
    /// There is a token, whether it can be read or not.
    pub has_token: bool,
}

/// One stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The rest of an interrupted one, which makes this snapshot on top of that base.
    Resume { to: u64, base: Option<u64> },
    /// All of the wanted snapshot.
    Full,
    /// What differs between this point and the wanted snapshot.
    Incremental { from: Point },
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// The replica has it already.
    UpToDate,
    /// These, one after the other; first, when it says so, what an interrupted stream left is discarded.
    Send { discard: bool, steps: Vec<Step> },
    /// It can't be done without losing something.
    Conflict(Conflict),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Conflict {
    /// The snapshot is gone from the volume.
    Gone,
    /// The replica has snapshots, but none that the volume knows.
    NothingInCommon,
    /// The replica has these after the last one in common.
    Newer(Vec<u64>),
    /// The replica has a snapshot of the volume that is younger than the wanted one.
    Older,
}

/// Decides.
pub(super) fn plan(facts: &Facts) -> Plan {
    if facts.replica.contains(&facts.wanted) {
        return Plan::UpToDate;
    }
    let find = |guid: u64| best(&facts.source, guid);
    let Some(wanted) = find(facts.wanted).filter(|point| !point.is_bookmark) else {
        return Plan::Conflict(Conflict::Gone);
    };
    if let Some(steps) = resume(facts, wanted) {
        return Plan::Send { discard: false, steps };
    }
    let discard = facts.has_token;
    let Some(newest) = facts.replica.last() else { return Plan::Send { discard, steps: vec![Step::Full] } };
    match find(*newest) {
        Some(from) if from.transaction < wanted.transaction => {
            Plan::Send { discard, steps: vec![Step::Incremental { from }] }
        }
        Some(_) => Plan::Conflict(Conflict::Older),
        None => match facts.replica.iter().rposition(|guid| find(*guid).is_some()) {
            Some(common) => Plan::Conflict(Conflict::Newer(facts.replica[common + 1..].to_vec())),
            None => Plan::Conflict(Conflict::NothingInCommon),
        },
    }
}

/// The point with this guid; the snapshot, when there is a bookmark of it as well.
fn best(points: &[Point], guid: u64) -> Option<Point> {
    points.iter().filter(|point| point.guid == guid).min_by_key(|point| point.is_bookmark).copied()
}

/// An interrupted stream goes on when what it makes is still there to be sent, is not younger than what is wanted, and
/// begins where the replica ends. When it makes an older snapshot, the wanted one follows on top of that.
fn resume(facts: &Facts, wanted: Point) -> Option<Vec<Step>> {
    let interrupted = facts.interrupted?;
    let to = best(&facts.source, interrupted.guid).filter(|point| !point.is_bookmark)?;
    if interrupted.base != facts.replica.last().copied() || to.transaction > wanted.transaction {
        return None;
    }
    if let Some(base) = interrupted.base {
        let base = best(&facts.source, base)?;
        if base.transaction >= to.transaction {
            return None;
        }
    }
    let first = Step::Resume { to: to.guid, base: interrupted.base };
    if to.guid == wanted.guid {
        return Some(vec![first]);
    }
    Some(vec![first, Step::Incremental { from: to }])
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
