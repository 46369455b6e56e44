//! Snapshots: points in time of volumes, how long they are kept, and what holds them (contract sections 8.6 and 11).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Epoch, Invalid, Name, PoolId, SnapshotId, VolumeId, names};

/// How long a snapshot is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// From then on upkeep removes it.
    pub expires: Option<Epoch>,
    /// Until then nobody can remove it, nor shorten this.
    pub locked: bool,
}

impl Retention {
    /// Whether the lock holds at `now`.
    pub fn is_locked(&self, now: Epoch) -> bool {
        self.locked && self.expires.is_some_and(|expires| now < expires)
    }
}

/// A change of how long a snapshot is kept; `None` keeps what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionUpdate {
    /// New end; `Some(None)`: none.
    pub expires: Option<Option<Epoch>>,
    /// Lock it, or (only when the lock has ended) not.
    pub locked: Option<bool>,
}

/// Why somebody keeps a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HoldReason(String);

impl HoldReason {
    /// What the tags of all holds begin with that clients asked for.
    const TAG: &'static str = "vsnap:hold:";
    /// Longest tag that is made; ZFS takes 255 bytes.
    const MAX_TAG: usize = 220;

    /// Checks a reason that came in as member `reason`.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        Name::new(text.clone())
            .map_err(|error| Invalid::new("reason", error.message.replace("the name", "the reason")))?;
        let reason = HoldReason(text);
        if reason.tag().len() > Self::MAX_TAG {
            return Err(Invalid::new("reason", "the reason is too long; 60 characters of any script fit"));
        }
        Ok(reason)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of the hold in ZFS, from which the reason can be read again.
    pub fn tag(&self) -> String {
        format!("{}{}", Self::TAG, names::to_property(&self.0))
    }

    /// The reason that a tag stands for; `None` when it is not such a tag.
    pub fn from_tag(tag: &str) -> Option<Self> {
        HoldReason::new(names::from_property(tag.strip_prefix(Self::TAG)?)?).ok()
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Tag of the hold that keeps a locked snapshot also from those who bypass the appliance.
pub const LOCK_TAG: &str = "vsnap:lock";

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// Who asked for it.
    pub user: String,
    /// Since when.
    pub created: Epoch,
}

/// A request for snapshots of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Of which volumes; all in one pool.
    pub volumes: Vec<VolumeId>,
    /// Their name; one is made when there is none.
    pub name: Option<Name>,
    /// How long they are kept.
    pub retention: Retention,
}

/// What `POST /api/snapshot/<id>` can do with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotAction {
    /// Keep it, for this reason.
    Hold(HoldReason),
    /// That reason is gone.
    Release(HoldReason),
}

/// How a snapshot presents itself to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number.
    pub id: SnapshotId,
    /// Its name.
    pub name: Name,
    /// Of which volume.
    pub volume: VolumeId,
    /// That volume's name.
    pub volume_name: Name,
    /// In which pool.
    pub pool: PoolId,
    /// That pool's name.
    pub pool_name: Name,
    /// ZFS guid: the same on every appliance that has this snapshot.
    pub guid: u64,
    /// Whether there are clones of it.
    pub has_clones: bool,
    /// Bytes that only it holds; `None` in lists, or when the pool is not there.
    pub size_used: Option<u64>,
    /// How long it is kept.
    pub retention: Retention,
    /// What holds it; empty in lists.
    pub holds: Vec<Hold>,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_as_tags() {
        for good in ["legal case 5", "50% of ü", "容量 🦀"] {
            let reason = HoldReason::new(good).unwrap();
            assert!(reason.tag().is_ascii());
            assert_eq!(HoldReason::from_tag(&reason.tag()), Some(reason));
        }
        for bad in ["", " a", "a\nb", &"x".repeat(230), &"🦀".repeat(30)] {
            assert_eq!(HoldReason::new(bad).unwrap_err().field, "reason", "{bad}");
        }
        assert_eq!(HoldReason::from_tag(LOCK_TAG), None);
        assert_eq!(HoldReason::from_tag("other"), None);
    }

    #[test]
    fn a_lock_ends_with_its_time() {
        let retention = Retention { expires: Some(Epoch(100)), locked: true };
        assert!(retention.is_locked(Epoch(99)) && !retention.is_locked(Epoch(100)));
        assert!(!Retention { expires: Some(Epoch(100)), locked: false }.is_locked(Epoch(1)));
        assert!(!Retention { expires: None, locked: true }.is_locked(Epoch(1)));
    }
}
