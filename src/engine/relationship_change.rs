//! Making and ending relationships.

use super::{Caller, Engine};
use crate::{
    error::{Error, Result},
    types::{
        RelationshipId, VolumeId,
        relationship::{Relationship, RelationshipRequest},
    },
};

impl Engine {
    /// Makes a replica of a volume on a partner, or takes one that is there.
    pub fn create_relationship(
        &self,
        _caller: &Caller,
        _volume: VolumeId,
        _request: RelationshipRequest,
    ) -> Result<Relationship> {
        Err(Error::State("not yet".to_owned()))
    }

    /// Ends a relationship on both sides. The replica goes unless it is to be preserved. `force`: also when the partner
    /// can't be reached, whose side stays as it is then.
    pub fn delete_relationship(
        &self,
        _caller: &Caller,
        _id: &RelationshipId,
        _preserve_replica: bool,
        _force: bool,
    ) -> Result<()> {
        Err(Error::State("not yet".to_owned()))
    }
}
