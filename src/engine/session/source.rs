//! The side that is sent: the volume, with every point that a stream can begin or end at.

use std::collections::BTreeMap;

use super::{base::bookmark_number, plan::Point};
use crate::{
    catalog::{relationship::RelationshipRow, volume::VolumeRow},
    engine::{Engine, snapshot::number_in, volume::dataset_name},
    error::Result,
    os::Kind,
    types::{SnapshotId, SystemId, names::DatasetName},
};

/// What is known of the volume that is sent.
pub(super) struct Source {
    pub(super) volume: VolumeRow,
    pub(super) dataset: DatasetName,
    /// Encrypted, and sent so.
    pub(super) raw: bool,
    pub(super) partner: SystemId,
    pub(super) points: Vec<Point>,
    /// Numbers of snapshots and bookmarks by guid.
    pub(super) numbers: BTreeMap<u64, SnapshotId>,
}

impl Engine {
    /// `wanted`: guid of the snapshot that is to be sent.
    pub(super) fn source(&self, relationship: &RelationshipRow, wanted: Option<u64>) -> Result<Source> {
        let volume = self.ready_volume(relationship.volume)?;
        self.require_readable(volume.pool)?;
        self.own_dataset(&volume)?;
        let dataset = dataset_name(&volume)?;
        let mut source = Source {
            volume,
            raw: self.zfs.is_encrypted(&dataset)?,
            dataset,
            partner: relationship.partner.clone(),
            points: Vec::new(),
            numbers: BTreeMap::new(),
        };
        for facts in self.zfs.snapshots(&source.dataset)?.iter().filter(|facts| self.is_own_snapshot(facts)) {
            if let Some(number) = number_in(&facts.name) {
                let (guid, transaction) = (facts.guid, facts.transaction);
                source.points.push(Point { guid, transaction, is_bookmark: false });
                source.numbers.insert(guid, number);
                if wanted == Some(guid) {
                    match self.bookmark(&source.dataset, number) {
                        // It was deleted at this moment; whoever sends it will see.
                        Err(error) if error.kind == Kind::Missing => {}
                        result => result?,
                    }
                }
            }
        }
        for facts in self.zfs.bookmarks(&source.dataset)? {
            if let Some(number) = bookmark_number(&facts.name) {
                let (guid, transaction) = (facts.guid, facts.transaction);
                source.points.push(Point { guid, transaction, is_bookmark: true });
                source.numbers.entry(guid).or_insert(number);
            }
        }
        Ok(source)
    }
}
