//! What ZFS says about a pool: states, the vdev tree, scrub and resilver (`zpool-status(8)`).

use serde::{Deserialize, Serialize};

use super::{Epoch, pool::VdevRole};

/// State word of a pool or vdev, as `zpool status` prints it (`zpoolconcepts(7)`, "Device Failure and Recovery").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// Working.
    Online,
    /// Working with less redundancy than it should have.
    Degraded,
    /// Too many failures to work.
    Faulted,
    /// Taken offline by an administrator.
    Offline,
    /// The disk was pulled.
    Removed,
    /// Cannot be opened.
    Unavail,
    /// I/O has stopped, waiting for disks to come back and for `clear`.
    Suspended,
    /// A spare that waits.
    Avail,
    /// A spare that stands in for a disk.
    Inuse,
}

impl Health {
    /// All of them.
    pub const ALL: [Health; 9] = [
        Health::Online,
        Health::Degraded,
        Health::Faulted,
        Health::Offline,
        Health::Removed,
        Health::Unavail,
        Health::Suspended,
        Health::Avail,
        Health::Inuse,
    ];

    /// The word `zpool status` prints.
    pub fn word(self) -> &'static str {
        match self {
            Health::Online => "ONLINE",
            Health::Degraded => "DEGRADED",
            Health::Faulted => "FAULTED",
            Health::Offline => "OFFLINE",
            Health::Removed => "REMOVED",
            Health::Unavail => "UNAVAIL",
            Health::Suspended => "SUSPENDED",
            Health::Avail => "AVAIL",
            Health::Inuse => "INUSE",
        }
    }

    /// The state that `word` stands for; `None` for a word this version does not know.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.word() == word)
    }

    /// The contract's `health` number of a pool: 100, 50 or 0.
    pub fn percent(self) -> u8 {
        match self {
            Health::Online => 100,
            Health::Degraded => 50,
            _ => 0,
        }
    }
}

/// A node of a pool's vdev tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdev {
    /// ZFS's name: `raidz2-0`, or the path of a disk without its partition suffix.
    pub name: String,
    /// `disk`, `raidz`, `mirror`, `spare`, `replacing`, ... as ZFS calls it.
    pub kind: String,
    /// The vdev's guid, for verbs on a disk whose path is gone.
    pub guid: u64,
    /// Path of the whole disk, for leaves.
    pub path: Option<String>,
    /// State of the moment.
    pub state: Health,
    /// Read, write and checksum errors since the last `clear`.
    pub errors: VdevErrors,
    /// Why it is not ONLINE, in ZFS's words, when it says.
    pub note: Option<String>,
    /// Its parts.
    pub children: Vec<Vdev>,
}

impl Vdev {
    /// All disks below (or at) this node, in order.
    pub fn leaves(&self) -> Vec<&Vdev> {
        if self.children.is_empty() { vec![self] } else { self.children.iter().flat_map(Vdev::leaves).collect() }
    }
}

/// Error counters of a vdev.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VdevErrors {
    /// Failed reads.
    pub read: u64,
    /// Failed writes.
    pub write: u64,
    /// Blocks whose checksum did not match.
    pub checksum: u64,
}

/// A scrub, resilver or expansion, running or the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// `scrub` or `resilver`.
    pub function: String,
    /// `scanning`, `finished`, `canceled`, `paused`.
    pub state: String,
    /// When it began.
    pub started: Option<Epoch>,
    /// When it ended.
    pub ended: Option<Epoch>,
    /// Bytes it has to look at.
    pub total_bytes: u64,
    /// Bytes it has dealt with.
    pub done_bytes: u64,
    /// Errors it found.
    pub errors: u64,
}

impl Scan {
    /// Whether it is going on now.
    pub fn is_running(&self) -> bool {
        self.state == "scanning"
    }

    /// Hundredths done, rounded down, 100 only when it is over.
    pub fn percent(&self) -> u8 {
        if !self.is_running() && self.state == "finished" {
            return 100;
        }
        let share = (self.done_bytes as u128 * 100).checked_div(self.total_bytes as u128).unwrap_or(0);
        // At most 99, so it fits.
        share.min(99) as u8
    }

    /// Seconds left at the average pace so far; `None` when nothing has been done yet or it is not running.
    pub fn seconds_left(&self, now: Epoch) -> Option<u64> {
        let elapsed = u128::try_from(now.0.checked_sub(self.started?.0)?).ok()?;
        if !self.is_running() || self.done_bytes == 0 {
            return None;
        }
        let left = self.total_bytes.saturating_sub(self.done_bytes) as u128;
        u64::try_from(left * elapsed.max(1) / self.done_bytes as u128).ok()
    }
}

/// What `zpool status` says about an imported pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// ZFS name.
    pub name: String,
    /// The pool's own guid.
    pub guid: u64,
    /// State of the pool.
    pub state: Health,
    /// ZFS's explanation of the state.
    pub status: Option<String>,
    /// ZFS's advice.
    pub action: Option<String>,
    /// Data vdevs.
    pub data: Vec<Vdev>,
    /// Log vdevs.
    pub logs: Vec<Vdev>,
    /// Cache disks.
    pub caches: Vec<Vdev>,
    /// Spare disks.
    pub spares: Vec<Vdev>,
    /// Scrub or resilver.
    pub scan: Option<Scan>,
    /// Blocks or files known to be damaged beyond repair.
    pub data_errors: u64,
}

impl PoolStatus {
    /// Every disk of the pool with its role. A disk that stands in for another appears twice: as data and as spare.
    pub fn disks(&self) -> impl Iterator<Item = (VdevRole, &Vdev)> {
        let classes = [
            (VdevRole::Data, &self.data),
            (VdevRole::Log, &self.logs),
            (VdevRole::Cache, &self.caches),
            (VdevRole::Spare, &self.spares),
        ];
        classes.into_iter().flat_map(|(role, vdevs)| vdevs.iter().flat_map(Vdev::leaves).map(move |leaf| (role, leaf)))
    }

    /// Whether a disk with this path belongs to the pool in any role.
    pub fn has_disk(&self, path: &str) -> bool {
        self.disks().any(|(_, leaf)| leaf.path.as_deref() == Some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_says_done_too_early() {
        let scan = Scan {
            function: "scrub".into(),
            state: "scanning".into(),
            started: Some(Epoch(100)),
            ended: None,
            total_bytes: 1000,
            done_bytes: 1000,
            errors: 0,
        };
        assert_eq!(scan.percent(), 99);
        let half = Scan { done_bytes: 500, ..scan };
        assert_eq!((half.percent(), half.seconds_left(Epoch(110))), (50, Some(10)));
    }
}
