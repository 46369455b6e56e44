//! What the next session builds on. A replica takes an incremental stream on top of its newest snapshot alone, so that
//! one has a bookmark here from before it is sent until something newer has arrived, whatever happens to the snapshot.

use std::sync::PoisonError;

use rusqlite::Connection;

use super::run::vanished;
use crate::{
    catalog::{self, volume::VolumeRow},
    engine::{Engine, link::Trouble, snapshot::number_in, volume::dataset_name},
    error::Result,
    os,
    types::{
        Name, RelationshipId, SnapshotId, VolumeId, link::ReplicaSnapshot, names::DatasetName, relationship::Role,
    },
};

/// Snapshots that the replicas of a volume may have as their newest.
fn needed(view: &Connection, volume: VolumeId, without: Option<&RelationshipId>) -> Result<Vec<SnapshotId>> {
    let rows = catalog::relationship::of_volume(view, volume)?;
    let sides = rows.iter().filter(|row| row.role == Role::Primary && Some(&row.id) != without);
    Ok(sides.flat_map(|row| [row.base, row.sending]).flatten().collect())
}

impl Engine {
    /// Before anything is sent: whatever happens to the snapshot from now on, what comes next can build on it. One that
    /// is there already is no error.
    pub(super) fn bookmark(&self, dataset: &DatasetName, snapshot: SnapshotId) -> os::Result<()> {
        self.zfs.bookmark(&dataset.snapshot(snapshot), &dataset.bookmark(snapshot))
    }

    /// A snapshot is about to be sent, so from now on it may be the newest of the replica.
    pub(super) fn note_sending(
        &self,
        relationship: &RelationshipId,
        dataset: &DatasetName,
        snapshot: SnapshotId,
    ) -> Result<(), Trouble> {
        let _bookmarks = self.bookmarks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.relationship_row(relationship)?.sending != Some(snapshot) {
            self.catalog
                .write(|transaction| catalog::relationship::set_sending(transaction, relationship, snapshot))?;
        }
        // It has one already, unless it is another than the wanted one.
        self.bookmark(dataset, snapshot).map_err(vanished)
    }

    /// The replica was looked at: the newest snapshot that both sides have, and its name, which may be another one by now.
    pub(super) fn note_replica(
        &self,
        relationship: &RelationshipId,
        base: Option<SnapshotId>,
        name: Option<&Name>,
    ) -> Result<()> {
        let row = self.relationship_row(relationship)?;
        let name = name.filter(|name| **name != row.remote_name);
        if (row.base, row.sending) == (base, None) && name.is_none() {
            return Ok(());
        }
        Ok(self.catalog.write(|transaction| {
            catalog::relationship::set_base(transaction, relationship, base)?;
            name.map_or(Ok(()), |name| catalog::relationship::set_remote_name(transaction, relationship, name))
        })?)
    }

    /// What is built on in a replica that was a volume before: its newest snapshot, which is a snapshot or a bookmark
    /// here, and a bookmark from now on.
    pub(in crate::engine) fn note_base_of_reused(
        &self,
        relationship: &RelationshipId,
        dataset: &DatasetName,
        replica: &[ReplicaSnapshot],
    ) -> Result<()> {
        let Some(newest) = replica.last() else { return Ok(()) };
        let _bookmarks = self.bookmarks.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshots = self.zfs.snapshots(dataset)?;
        let snapshot =
            snapshots.iter().find(|facts| facts.guid == newest.guid).and_then(|facts| number_in(&facts.name));
        if let Some(number) = snapshot {
            self.bookmark(dataset, number)?;
        }
        let bookmarks = self.zfs.bookmarks(dataset)?;
        let bookmarks = bookmarks.iter().filter(|facts| facts.guid == newest.guid);
        let base = bookmarks.filter_map(|facts| bookmark_number(&facts.name)).next();
        Ok(self.catalog.write(|transaction| catalog::relationship::set_base(transaction, relationship, base))?)
    }

    /// Destroys the bookmarks of a volume that no relationship needs any longer; `without`: one that counts no more.
    /// Bookmarks of others are left alone.
    pub(in crate::engine) fn drop_bookmarks(&self, volume: &VolumeRow, without: Option<&RelationshipId>) -> Result<()> {
        let _bookmarks = self.bookmarks.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = self.catalog.read(|view| needed(view, volume.id, without))?;
        let dataset = dataset_name(volume)?;
        for facts in self.zfs.bookmarks(&dataset)? {
            if let Some(snapshot) = bookmark_number(&facts.name)
                && !needed.contains(&snapshot)
            {
                self.zfs.destroy_bookmark(&dataset.bookmark(snapshot))?;
            }
        }
        Ok(())
    }
}

/// The number in a ZFS name such as `vpool1/fs2#snap3`, if that is a bookmark of ours.
pub(in crate::engine) fn bookmark_number(name: &str) -> Option<SnapshotId> {
    number_in(&name.replacen('#', "@", 1))
}
