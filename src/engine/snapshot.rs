//! Snapshots as they are (contract sections 8.7, 11.1 and 11.2). Lists come from the catalog alone.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Engine;
use crate::{
    catalog::{self, RowState, snapshot::SnapshotRow},
    error::{Error, Result},
    os::{MadeSnapshot, SnapshotFacts},
    types::{
        Epoch, Name, SnapshotId, VolumeId,
        ids::Mark,
        names::{DatasetName, SnapshotName},
        selection::{Selection, SnapshotField, Value},
        snapshot::{Hold, Snapshot},
    },
};

impl Engine {
    /// The snapshots that are selected, and how many there are without the page.
    pub fn snapshots(&self, selection: &Selection<SnapshotField>) -> Result<(Vec<Snapshot>, u64)> {
        let (rows, total) = self.catalog.read(|view| catalog::snapshot::select(view, selection))?;
        Ok((rows.into_iter().map(|row| present(row, None, Vec::new())).collect(), total))
    }

    /// The same among those of one volume.
    pub fn snapshots_of_volume(
        &self,
        volume: VolumeId,
        selection: &Selection<SnapshotField>,
    ) -> Result<(Vec<Snapshot>, u64)> {
        self.volume_row(volume)?;
        let mut selection = selection.clone();
        selection.filters.push((SnapshotField::ParentId, Value::Number(volume.0)));
        self.snapshots(&selection)
    }

    /// One snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let row = self.snapshot_row(id)?;
        let holds = self.catalog.read(|view| catalog::snapshot::holds(view, id))?;
        let used =
            if self.is_readable(row.pool)? { self.find_own_snapshot(&row)?.map(|facts| facts.used) } else { None };
        Ok(present(row, used, holds))
    }

    /// The snapshots with this name: one, or several in as many volumes.
    pub fn snapshots_by_name(&self, name: &str) -> Result<Vec<Snapshot>> {
        let rows = self.catalog.read(|view| catalog::snapshot::find_name(view, name))?;
        match &rows[..] {
            [] => Err(Error::not_found("snapshot", format!("named {name:?}"))),
            [row] => Ok(vec![self.snapshot(row.id)?]),
            _ => Ok(rows.into_iter().map(|row| present(row, None, Vec::new())).collect()),
        }
    }

    pub(super) fn snapshot_row(&self, id: SnapshotId) -> Result<SnapshotRow> {
        let row = self.catalog.read(|view| catalog::snapshot::find(view, id))?;
        row.filter(|row| row.state != RowState::Creating).ok_or_else(|| Error::not_found("snapshot", id))
    }

    pub(super) fn snapshot_mark(&self, name: &Name) -> Mark {
        Mark::snapshot(&self.id(), name)
    }

    /// Whether this appliance made it.
    pub(super) fn is_own_snapshot(&self, facts: &SnapshotFacts) -> bool {
        self.is_own_mark(facts.mark.as_ref())
    }

    /// Whether a snapshot with this mark is of this appliance.
    pub(super) fn is_own_mark(&self, mark: Option<&Mark>) -> bool {
        mark.is_some_and(|mark| mark.snapshot_name(&self.id()).is_some())
    }

    /// The snapshot of a row in ZFS; `None` when it is gone. One that is not ours, or was put in
    /// its place, is a contradiction.
    pub(super) fn find_own_snapshot(&self, row: &SnapshotRow) -> Result<Option<SnapshotFacts>> {
        let Some(facts) = self.zfs.snapshot_facts(&row.zfs_name()?)? else { return Ok(None) };
        self.require_own_mark(&facts.name, facts.mark.as_ref())?;
        if row.guid.is_some_and(|guid| guid != facts.guid) {
            return Err(Error::Contradiction(format!(
                "{} has another guid than the catalog knows, so it is not snapshot {}, and was left alone; see `vsnap \
                 system report`",
                facts.name, row.id
            )));
        }
        Ok(Some(facts))
    }

    pub(super) fn require_own_mark(&self, snapshot: &str, mark: Option<&Mark>) -> Result<()> {
        if self.is_own_mark(mark) {
            return Ok(());
        }
        let found = mark.map_or("none", Mark::as_str);
        Err(Error::Contradiction(format!(
            "the snapshot {snapshot} does not carry the mark of this appliance (vsnap:id is {found}), so it was left alone"
        )))
    }

    /// The snapshot of a row that is to be used: there, and ours.
    pub(super) fn own_snapshot(&self, row: &SnapshotRow) -> Result<(SnapshotName, SnapshotFacts)> {
        let name = row.zfs_name()?;
        let facts = self.find_own_snapshot(row)?.ok_or_else(|| gone(&name))?;
        Ok((name, facts))
    }

    /// Snapshots of rows in one pool that were made, by one question for all, in the order of the rows.
    pub(super) fn made_snapshots(&self, rows: &[SnapshotRow]) -> Result<Vec<(SnapshotName, MadeSnapshot)>> {
        let names = rows.iter().map(SnapshotRow::zfs_name).collect::<catalog::Result<Vec<_>>>()?;
        let found = self.zfs.made_snapshots(&names)?;
        let mut found: HashMap<String, MadeSnapshot> =
            found.into_iter().map(|snapshot| (snapshot.name.clone(), snapshot)).collect();
        let own = |name: SnapshotName| {
            let snapshot = found.remove(name.as_str()).ok_or_else(|| gone(&name))?;
            self.require_own_mark(&snapshot.name, snapshot.mark.as_ref())?;
            Ok((name, snapshot))
        };
        names.into_iter().map(own).collect()
    }

    /// Snapshots that were just made, which nobody holds yet. None of them has anything that its volume does not have as
    /// well, so that ZFS counts nothing as used by it alone.
    pub(super) fn new_snapshots(&self, ids: &[SnapshotId]) -> Result<Vec<Snapshot>> {
        let rows = self.new_rows(ids)?;
        Ok(rows.into_iter().map(|row| present(row, Some(0), Vec::new())).collect())
    }

    /// Fails when somebody holds it.
    pub(super) fn require_not_held(&self, row: &SnapshotRow) -> Result<()> {
        let holds = self.catalog.read(|view| catalog::snapshot::holds(view, row.id))?;
        if holds.is_empty() {
            return Ok(());
        }
        let reasons: Vec<String> =
            holds.iter().map(|hold| format!("{:?} by {}", hold.reason.as_str(), hold.user)).collect();
        Err(Error::Busy(format!("snapshot {} is held: {}; release it first", row.id, reasons.join(", "))))
    }
}

/// The number of a snapshot of a dataset that has our mark. With another name than ours, somebody has renamed it.
pub(super) fn own_number(dataset: &DatasetName, snapshot: &str) -> Result<SnapshotId> {
    number_in(snapshot)
        .filter(|id| dataset.snapshot(*id).as_str() == snapshot)
        .ok_or_else(|| Error::Contradiction(format!("{snapshot} has our mark, but no name of ours; it was left alone")))
}

fn gone(name: &SnapshotName) -> Error {
    Error::Contradiction(format!("the snapshot {name} of the catalog is gone; nothing was changed"))
}

/// Fails while a row is on its way out.
pub(super) fn require_ready(row: &SnapshotRow) -> Result<()> {
    match row.state {
        RowState::Ready => Ok(()),
        _ => Err(Error::State(format!("snapshot {} is being deleted", row.id))),
    }
}

/// The number in a ZFS name such as `vpool1/fs2@snap3`.
pub(super) fn number_in(name: &str) -> Option<SnapshotId> {
    name.split_once("@snap").and_then(|(_, number)| number.parse().ok())
}

/// Snapshots by name, for messages.
pub(super) fn snapshot_list(rows: &[SnapshotRow]) -> String {
    const MOST: usize = 10;
    let mut names: Vec<String> =
        rows.iter().take(MOST).map(|row| format!("{} ({:?})", row.id, row.name.as_str())).collect();
    if rows.len() > MOST {
        names.push(format!("{} more", rows.len() - MOST));
    }
    names.join(", ")
}

/// A time for messages, in UTC.
pub(super) fn date(time: Epoch) -> String {
    Timestamp::from_second(time.0).map_or_else(|_| time.to_string(), |timestamp| timestamp.to_string())
}

fn present(row: SnapshotRow, size_used: Option<u64>, holds: Vec<Hold>) -> Snapshot {
    Snapshot {
        id: row.id,
        name: row.name,
        volume: row.volume,
        volume_name: row.volume_name,
        pool: row.pool,
        pool_name: row.pool_name,
        guid: row.guid.unwrap_or(0),
        has_clones: row.has_clones,
        size_used,
        retention: row.retention,
        holds,
        created: row.created,
        updated: row.updated,
    }
}
