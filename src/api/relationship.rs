//! Relationships: a volume here, its replica there (contract section 13).

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::{Json, Query},
    error::Failure,
    look_up,
    lookup::{self, Asked, Listing, Page},
    volume::volume_id,
    wire::{Decimal, Empty, Flag},
};
use crate::{
    error::Error,
    types::{
        Invalid, Name, PoolId, RelationshipId, SystemId,
        relationship::{self, RelationshipRequest, Role},
        selection::RelationshipField,
        session::SessionStatus,
    },
};

/// A volume here and its replica there, or the other way round.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Relationship {
    /// 32 hex digits, the same on both appliances.
    id: String,
    /// Pool of the volume here.
    local_pool_id: Decimal,
    /// What this appliance is: `primary` has the volume that is written, `replica` the copy.
    #[schema(pattern = "^(primary|replica)$")]
    local_role: &'static str,
    /// The volume here.
    local_vol_id: Decimal,
    local_vol_name: String,
    /// The other appliance.
    partner_id: String,
    /// Pool of the volume there; null when it is not known yet.
    #[schema(required)]
    remote_pool_id: Option<Decimal>,
    /// The volume there; null when it is not known yet.
    #[schema(required)]
    remote_vol_id: Option<Decimal>,
    /// Its name when it was last asked for: when the relationship was made, or in the last session.
    remote_vol_name: String,
    /// `primary`: the status of the last session; null before the first one, and on a replica.
    #[schema(required, pattern = "^(PENDING|ACTIVE|COMPLETED|FAILED)$")]
    last_sync_status: Option<&'static str>,
    /// `primary`: the snapshot of the last session, which may be gone by now; else null.
    #[schema(required)]
    last_attempt_snap_id: Option<Decimal>,
    /// `primary`: the snapshot of the last session that completed, which may be gone by now; else null.
    #[schema(required)]
    last_success_snap_id: Option<Decimal>,
    time_created: Decimal,
    time_updated: Decimal,
}

impl From<relationship::Relationship> for Relationship {
    fn from(it: relationship::Relationship) -> Self {
        let is_primary = it.role == Role::Primary;
        let known = |id: i64| (id != 0).then(|| Decimal::from(id));
        Relationship {
            id: it.id.into(),
            local_pool_id: it.local_pool.into(),
            local_role: it.role.word(),
            local_vol_id: it.local_volume.into(),
            local_vol_name: it.local_name.into(),
            partner_id: it.partner.into(),
            remote_pool_id: known(it.remote_pool.0),
            remote_vol_id: known(it.remote_volume.0),
            remote_vol_name: it.remote_name.into(),
            last_sync_status: it.last_status.filter(|_| is_primary).map(SessionStatus::word),
            last_attempt_snap_id: it.last_attempt.filter(|_| is_primary).map(Decimal::from),
            last_success_snap_id: it.last_success.filter(|_| is_primary).map(Decimal::from),
            time_created: it.created.into(),
            time_updated: it.updated.into(),
        }
    }
}

/// Relationships.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RelationshipList {
    relationships: Vec<Relationship>,
    /// How many there are, also of those that `limit` and `offset` leave out.
    total: u64,
}

impl From<(Vec<relationship::Relationship>, u64)> for RelationshipList {
    fn from((found, total): (Vec<relationship::Relationship>, u64)) -> Self {
        RelationshipList { relationships: found.into_iter().map(Relationship::from).collect(), total }
    }
}

/// Relationships, or the one asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum RelationshipAnswer {
    List(RelationshipList),
    One(Box<Relationship>),
}

/// A new relationship of a volume.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewRelationship {
    /// Who gets the replica.
    partner_id: String,
    /// In which of the partner's pools; the partner chooses when it is left out.
    remote_pool_id: Option<Decimal>,
    /// Name of the replica. When it is left out: the name of the volume, with a suffix where that is taken.
    #[schema(min_length = 1, max_length = 256)]
    remote_vol_name: Option<String>,
    /// Take a volume of that name that the partner has already, when it shares a snapshot with this one, or is empty.
    /// What was written there since that snapshot has to go first.
    #[serde(default)]
    reuse: bool,
}

impl TryFrom<NewRelationship> for RelationshipRequest {
    type Error = Error;

    fn try_from(body: NewRelationship) -> Result<Self, Error> {
        let partner: Result<SystemId, Invalid> = body.partner_id.parse();
        let name = |text: String| Name::new(text).map_err(|invalid| Invalid::new("remote_vol_name", invalid.message));
        Ok(RelationshipRequest {
            partner: partner.map_err(|invalid| Invalid::new("partner_id", invalid.message))?,
            remote_pool: body.remote_pool_id.map(|id| id.id("remote_pool_id").map(PoolId)).transpose()?,
            remote_name: body.remote_vol_name.map(name).transpose()?,
            reuse: body.reuse,
        })
    }
}

/// The id of a relationship in a path or query.
pub(super) fn relationship_id(text: &str) -> Result<RelationshipId, Error> {
    lookup::id("relationship", text)
}

/// List relationships
///
/// Of all volumes, here as primary or as replica; `vol_name` asks for those of one volume. With `id`, and no other
/// field and no paging, the answer is that one relationship, or 404.
#[utoipa::path(get, path = "/api/relationship", operation_id = "listRelationships", tag = "relationship",
    params(Listing<RelationshipField>),
    responses((status = 200, description = "The relationships, or the one asked for", body = RelationshipAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Listing(asked): Listing<RelationshipField>,
) -> Result<axum::Json<RelationshipAnswer>, Failure> {
    let one = |found: relationship::Relationship| RelationshipAnswer::One(Box::new(found.into()));
    let answer = blocking(&api, move |engine| match asked {
        Asked::Id(id) => engine.relationship(&relationship_id(&id)?).map(one),
        Asked::Name(name) => Err(Error::not_found("relationship", name)),
        Asked::List(page) => Ok(RelationshipAnswer::List(engine.relationships(&page.selection)?.into())),
    });
    Ok(axum::Json(answer.await?))
}

/// List relationships of volume
#[utoipa::path(get, path = "/api/volume/{id}/relationship", operation_id = "listRelationshipsOfVolume",
    tag = "relationship", params(("id" = Decimal, Path, description = "Id of the volume"), Page<RelationshipField>),
    responses((status = 200, description = "The relationships", body = RelationshipList)))]
pub(super) async fn list_of_volume(
    State(api): State<Api>,
    Path(id): Path<String>,
    page: Page<RelationshipField>,
) -> Result<axum::Json<RelationshipList>, Failure> {
    let found = blocking(&api, move |engine| engine.relationships_of_volume(volume_id(&id)?, &page.selection));
    Ok(axum::Json(found.await?.into()))
}

/// Create relationship for volume
///
/// Makes a replica of a filesystem or lun on a partner; a volume has one relationship with each partner. The replica
/// is empty until the first session, and read-only until the relationship ends: it is looked at through a clone.
///
/// `reuse` is for a volume that is there already, such as the replica of an earlier relationship, or the volume that
/// this one was a replica of: what the two have in common is not sent again.
#[utoipa::path(post, path = "/api/volume/{id}/relationship", operation_id = "createRelationship",
    tag = "relationship", request_body = NewRelationship,
    params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The new relationship", body = Relationship)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<NewRelationship>,
) -> Result<axum::Json<Relationship>, Failure> {
    let request = RelationshipRequest::try_from(body)?;
    let made = blocking(&api, move |engine| engine.create_relationship(&caller, volume_id(&id)?, request)).await?;
    Ok(axum::Json(made.into()))
}

/// Get relationship details
#[utoipa::path(get, path = "/api/relationship/{id}", operation_id = "getRelationship", tag = "relationship",
    params(("id" = String, Path, description = "Id of the relationship")),
    responses((status = 200, description = "The relationship", body = Relationship)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<Relationship>, Failure> {
    let found = look_up(&api, |engine| engine.relationship(&relationship_id(&id)?))?;
    Ok(axum::Json(found.into()))
}

/// How to end a relationship.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RelationshipDeletion {
    /// Leave the replica with all its snapshots: an ordinary volume from then on. `1`, `true`, `0` or `false`.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    preserve_replica: Flag,
    /// End it here even though the partner cannot be reached: there everything stays. `1`, `true`, `0` or `false`.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    force: Flag,
}

/// Delete relationship
///
/// On both sides. The primary volume stays; the replica volume is deleted with its snapshots, unless
/// `preserve_replica` is true. A partner that cannot be reached is a `PartnerError`, unless `force` is true.
#[utoipa::path(delete, path = "/api/relationship/{id}", operation_id = "deleteRelationship", tag = "relationship",
    params(("id" = String, Path, description = "Id of the relationship"), RelationshipDeletion),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Query(deletion): Query<RelationshipDeletion>,
) -> Result<axum::Json<Empty>, Failure> {
    let (preserve_replica, force) = (deletion.preserve_replica.0, deletion.force.0);
    blocking(&api, move |engine| engine.delete_relationship(&caller, &relationship_id(&id)?, preserve_replica, force))
        .await?;
    Ok(axum::Json(Empty {}))
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::types::{Epoch, SnapshotId, VolumeId};

    #[test]
    fn a_replica_knows_nothing_of_sessions_and_zero_is_unknown() {
        let mut it = relationship::Relationship {
            id: RelationshipId::random(),
            role: Role::Primary,
            local_pool: PoolId(1),
            local_volume: VolumeId(11),
            local_name: Name::new("data").unwrap(),
            partner: SystemId::random(),
            remote_pool: PoolId(0),
            remote_volume: VolumeId(0),
            remote_name: Name::new("copy").unwrap(),
            last_status: Some(SessionStatus::Failed),
            last_attempt: Some(SnapshotId(22)),
            last_success: None,
            created: Epoch(1_513_887_884),
            updated: Epoch(1_513_887_884),
        };
        let shown = to_value(Relationship::from(it.clone())).unwrap();
        assert_eq!((&shown["remote_pool_id"], &shown["remote_vol_id"]), (&json!(null), &json!(null)));
        assert_eq!((&shown["last_sync_status"], &shown["last_attempt_snap_id"]), (&json!("FAILED"), &json!("22")));
        (it.role, it.remote_pool, it.remote_volume) = (Role::Replica, PoolId(1), VolumeId(4));
        let shown = to_value(Relationship::from(it)).unwrap();
        assert_eq!((&shown["remote_pool_id"], &shown["remote_vol_id"]), (&json!("1"), &json!("4")));
        for member in ["last_sync_status", "last_attempt_snap_id", "last_success_snap_id"] {
            assert_eq!(shown[member], json!(null), "{member}");
        }
    }
}
