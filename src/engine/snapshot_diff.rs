//! What changed between two points in time.

use super::{Engine, snapshot::require_ready};
use crate::{
    error::{Error, Result},
    os::Change,
    types::{Invalid, SnapshotId, names::SnapshotName, volume::VolumeType},
};

/// Two points in time of a volume: a snapshot, and a later one or now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    from: SnapshotName,
    to: Option<SnapshotName>,
    /// Bytes that were written in between.
    pub written: u64,
    /// Whether paths can be compared: only those of a filesystem.
    pub has_paths: bool,
}

impl Engine {
    /// The time from a snapshot to a later one of the same volume, or to now.
    pub fn span(&self, from: SnapshotId, to: Option<SnapshotId>) -> Result<Span> {
        let row = self.snapshot_row(from)?;
        require_ready(&row)?;
        self.require_readable(row.pool)?;
        let (from_name, _) = self.own_snapshot(&row)?;
        let to_name = match to {
            None => None,
            Some(to) => {
                let later = self.snapshot_row(to)?;
                if later.volume != row.volume || later.id <= row.id {
                    let fault = format!("snapshot {to} is no later snapshot of volume {}", row.volume);
                    return Err(Invalid::new("to", fault).into());
                }
                require_ready(&later)?;
                Some(self.own_snapshot(&later)?.0)
            }
        };
        let written = self.zfs.written_since(&from_name, to_name.as_ref())?;
        let has_paths = row.volume_type == VolumeType::Filesystem;
        Ok(Span { from: from_name, to: to_name, written, has_paths })
    }

    /// Gives the paths that changed in the span to `found`, one by one, until it says `false`.
    pub fn changes(&self, span: &Span, found: &mut dyn FnMut(Change) -> bool) -> Result<()> {
        self.zfs.diff(&span.from, span.to.as_ref(), found).map_err(Error::from)
    }
}
