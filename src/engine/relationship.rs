//! Relationships as they are (contract sections 13.2 and 13.3).

use super::Engine;
use crate::{
    catalog::{self, RowState, relationship::RelationshipRow},
    error::{Error, Result},
    types::{
        RelationshipId, VolumeId,
        relationship::Relationship,
        selection::{RelationshipField, Selection, Value},
    },
};

impl Engine {
    /// The relationships that are selected, and how many there are without the page.
    pub fn relationships(&self, selection: &Selection<RelationshipField>) -> Result<(Vec<Relationship>, u64)> {
        let (rows, total) = self.catalog.read(|view| catalog::relationship::select(view, selection))?;
        Ok((rows.into_iter().map(present).collect(), total))
    }

    /// The same among those of one volume.
    pub fn relationships_of_volume(
        &self,
        volume: VolumeId,
        selection: &Selection<RelationshipField>,
    ) -> Result<(Vec<Relationship>, u64)> {
        self.volume_row(volume)?;
        let mut selection = selection.clone();
        selection.filters.push((RelationshipField::LocalVolId, Value::Number(volume.0)));
        self.relationships(&selection)
    }

    /// One relationship.
    pub fn relationship(&self, id: &RelationshipId) -> Result<Relationship> {
        self.relationship_row(id).map(present)
    }

    pub(super) fn relationship_row(&self, id: &RelationshipId) -> Result<RelationshipRow> {
        let row = self.catalog.read(|view| catalog::relationship::find(view, id))?;
        row.filter(|row| row.state != RowState::Creating).ok_or_else(|| Error::not_found("relationship", id))
    }

    /// A relationship that is at work.
    pub(super) fn ready_relationship(&self, id: &RelationshipId) -> Result<RelationshipRow> {
        let row = self.relationship_row(id)?;
        match row.state {
            RowState::Ready => Ok(row),
            _ => Err(Error::State(format!("relationship {id} is being removed"))),
        }
    }
}

fn present(row: RelationshipRow) -> Relationship {
    Relationship {
        id: row.id,
        role: row.role,
        local_pool: row.pool,
        local_volume: row.volume,
        local_name: row.volume_name,
        partner: row.partner,
        remote_pool: row.remote_pool,
        remote_volume: row.remote_volume,
        remote_name: row.remote_name,
        last_status: row.last_status,
        last_attempt: row.last_attempt,
        last_success: row.last_success,
        created: row.created,
        updated: row.updated,
    }
}
