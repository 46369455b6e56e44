//! Snapshots (contract sections 8.6, 8.7 and 11). What requests hold is read in `snapshot_request.rs`.

use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::Json,
    error::Failure,
    lookup::{self, Asked, Listing, Page},
    snapshot_request::{NewSnapshot, NewSnapshots, SnapshotActionRequest, SnapshotProperties},
    volume::volume_id,
    wire::{Decimal, Empty},
};
use crate::{
    error::Error,
    types::{
        SnapshotId,
        selection::SnapshotField,
        snapshot::{self, RetentionUpdate, SnapshotAction, SnapshotRequest},
    },
};

/// A snapshot, in full.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SnapshotDetail {
    id: Decimal,
    name: String,
    /// The volume that it is of.
    parent_id: Decimal,
    parent_name: String,
    pool_id: Decimal,
    pool_name: String,
    has_clones: bool,
    /// Bytes that only it holds, which would be free without it; null in lists, and while the pool is not imported.
    #[schema(required)]
    size_used: Option<Decimal>,
    /// ZFS guid: the same on every appliance that has this snapshot.
    version_id: Decimal,
    time_created: Decimal,
    time_updated: Decimal,
    /// From then on the appliance deletes it; null for never.
    #[schema(required)]
    expires_at: Option<Decimal>,
    /// Until then nobody can delete it.
    locked: bool,
    /// What keeps it from being deleted; null in lists.
    #[schema(required)]
    holds: Option<Vec<SnapshotHold>>,
}

/// Why somebody keeps a snapshot.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SnapshotHold {
    reason: String,
    /// Who asked for it.
    user: String,
    time_created: Decimal,
}

impl From<snapshot::Snapshot> for SnapshotDetail {
    fn from(snapshot: snapshot::Snapshot) -> Self {
        let hold = |hold: snapshot::Hold| SnapshotHold {
            reason: hold.reason.to_string(),
            user: hold.user,
            time_created: hold.created.into(),
        };
        SnapshotDetail {
            id: snapshot.id.into(),
            name: snapshot.name.into(),
            parent_id: snapshot.volume.into(),
            parent_name: snapshot.volume_name.into(),
            pool_id: snapshot.pool.into(),
            pool_name: snapshot.pool_name.into(),
            has_clones: snapshot.has_clones,
            size_used: snapshot.size_used.map(Decimal::from),
            version_id: snapshot.guid.into(),
            time_created: snapshot.created.into(),
            time_updated: snapshot.updated.into(),
            expires_at: snapshot.retention.expires.map(Decimal::from),
            locked: snapshot.retention.locked,
            holds: Some(snapshot.holds.into_iter().map(hold).collect()),
        }
    }
}

/// A snapshot, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SnapshotSummary {
    id: Decimal,
    name: String,
    /// The volume that it is of.
    parent_id: Decimal,
    time_created: Decimal,
    time_updated: Decimal,
}

impl From<snapshot::Snapshot> for SnapshotSummary {
    fn from(snapshot: snapshot::Snapshot) -> Self {
        SnapshotSummary {
            id: snapshot.id.into(),
            name: snapshot.name.into(),
            parent_id: snapshot.volume.into(),
            time_created: snapshot.created.into(),
            time_updated: snapshot.updated.into(),
        }
    }
}

/// Snapshots in short, or in full with `detail`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SnapshotList {
    snapshots: Vec<SnapshotItem>,
    /// How many there are, also of those that `limit` and `offset` leave out.
    total: u64,
}

/// A snapshot of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum SnapshotItem {
    Summary(SnapshotSummary),
    Detail(Box<SnapshotDetail>),
}

impl SnapshotList {
    fn new((snapshots, total): (Vec<snapshot::Snapshot>, u64), detail: bool) -> Self {
        let item = |snapshot: snapshot::Snapshot| match detail {
            // Holds are not looked up for lists.
            true => SnapshotItem::Detail(Box::new(SnapshotDetail { holds: None, ..snapshot.into() })),
            false => SnapshotItem::Summary(snapshot.into()),
        };
        SnapshotList { snapshots: snapshots.into_iter().map(item).collect(), total }
    }
}

/// Snapshots, or the one asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SnapshotAnswer {
    List(SnapshotList),
    One(Box<SnapshotDetail>),
}

/// Snapshots of one moment, in the order in which their volumes were named.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SnapshotSet {
    snapshots: Vec<SnapshotDetail>,
    total: usize,
}

/// The id of a snapshot in a path or query.
fn snapshot_id(text: &str) -> Result<SnapshotId, Error> {
    lookup::id("snapshot", text)
}

/// List snapshots
///
/// Of all volumes. With `id` or `name`, and no other field and no paging, the answer is that one snapshot in full, or
/// 404; or the list of them, when several volumes have one of that name. `total` counts what the filters leave.
#[utoipa::path(get, path = "/api/snapshot", operation_id = "listSnapshots", tag = "snapshot",
    params(Listing<SnapshotField>),
    responses((status = 200, description = "The snapshots, or the one asked for", body = SnapshotAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Listing(asked): Listing<SnapshotField>,
) -> Result<axum::Json<SnapshotAnswer>, Failure> {
    let one = |snapshot: snapshot::Snapshot| SnapshotAnswer::One(Box::new(snapshot.into()));
    let answer = blocking(&api, move |engine| match asked {
        Asked::Id(id) => engine.snapshot(snapshot_id(&id)?).map(one),
        Asked::Name(name) => {
            let mut found = engine.snapshots_by_name(&name)?;
            if found.len() == 1 { Ok(one(found.remove(0))) } else { Ok(several(found)) }
        }
        Asked::List(page) => {
            Ok(SnapshotAnswer::List(SnapshotList::new(engine.snapshots(&page.selection)?, page.detail)))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Snapshots of one name, of several volumes.
fn several(found: Vec<snapshot::Snapshot>) -> SnapshotAnswer {
    let total = found.len() as u64;
    SnapshotAnswer::List(SnapshotList::new((found, total), false))
}

/// Create snapshots of several volumes
///
/// All at one moment, and all or none.
#[utoipa::path(post, path = "/api/snapshot", operation_id = "createSnapshots", tag = "snapshot",
    request_body = NewSnapshots, responses((status = 200, description = "The new snapshots", body = SnapshotSet)))]
pub(super) async fn create_several(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Json(body): Json<NewSnapshots>,
) -> Result<axum::Json<SnapshotSet>, Failure> {
    let request = SnapshotRequest::try_from(body)?;
    let made = blocking(&api, move |engine| engine.create_snapshots(&caller, request)).await?;
    let snapshots: Vec<_> = made.into_iter().map(SnapshotDetail::from).collect();
    Ok(axum::Json(SnapshotSet { total: snapshots.len(), snapshots }))
}

/// List snapshots of volume
#[utoipa::path(get, path = "/api/volume/{id}/snapshot", operation_id = "listSnapshotsOfVolume", tag = "volume",
    params(("id" = Decimal, Path, description = "Id of the volume"), Page<SnapshotField>),
    responses((status = 200, description = "The snapshots", body = SnapshotList)))]
pub(super) async fn list_of_volume(
    State(api): State<Api>,
    Path(id): Path<String>,
    page: Page<SnapshotField>,
) -> Result<axum::Json<SnapshotList>, Failure> {
    let list = blocking(&api, move |engine| {
        let found = engine.snapshots_of_volume(volume_id(&id)?, &page.selection)?;
        Ok(SnapshotList::new(found, page.detail))
    });
    Ok(axum::Json(list.await?))
}

/// Create snapshot of volume
#[utoipa::path(post, path = "/api/volume/{id}/snapshot", operation_id = "createSnapshot", tag = "volume",
    request_body = NewSnapshot, params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The new snapshot", body = SnapshotDetail)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<NewSnapshot>,
) -> Result<axum::Json<SnapshotDetail>, Failure> {
    let request = body.of(volume_id(&id)?)?;
    let made = blocking(&api, move |engine| engine.create_snapshots(&caller, request)).await;
    let made = made.map_err(|failure| failure.without_member("vol_ids"))?;
    let none = || Failure::internal("the snapshot cannot be shown", "one volume was named, and no snapshot came back");
    made.into_iter().next().map(|snapshot| axum::Json(snapshot.into())).ok_or_else(none)
}

/// Get snapshot details
#[utoipa::path(get, path = "/api/snapshot/{id}", operation_id = "getSnapshot", tag = "snapshot",
    params(("id" = Decimal, Path, description = "Id of the snapshot")),
    responses((status = 200, description = "The snapshot", body = SnapshotDetail)))]
pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<axum::Json<SnapshotDetail>, Failure> {
    let snapshot = blocking(&api, move |engine| engine.snapshot(snapshot_id(&id)?)).await?;
    Ok(axum::Json(snapshot.into()))
}

/// Update snapshot
///
/// Sets how long it is kept. Of a locked snapshot the time can only be moved to a later one, and the lock cannot be
/// taken back, by nobody.
#[utoipa::path(put, path = "/api/snapshot/{id}", operation_id = "updateSnapshot", tag = "snapshot",
    request_body = SnapshotProperties, params(("id" = Decimal, Path, description = "Id of the snapshot")),
    responses((status = 200, description = "The snapshot", body = SnapshotDetail)))]
pub(super) async fn update(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<SnapshotProperties>,
) -> Result<axum::Json<SnapshotDetail>, Failure> {
    let update = RetentionUpdate::try_from(body)?;
    let snapshot = blocking(&api, move |engine| engine.update_snapshot(&caller, snapshot_id(&id)?, update)).await?;
    Ok(axum::Json(snapshot.into()))
}

/// Act on a snapshot
///
/// `hold` keeps it from being deleted, for a reason; `release` takes that reason back.
#[utoipa::path(post, path = "/api/snapshot/{id}", operation_id = "actOnSnapshot", tag = "snapshot",
    request_body = SnapshotActionRequest, params(("id" = Decimal, Path, description = "Id of the snapshot")),
    responses((status = 200, description = "The snapshot", body = SnapshotDetail)))]
pub(super) async fn act(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<SnapshotActionRequest>,
) -> Result<axum::Json<SnapshotDetail>, Failure> {
    let action = SnapshotAction::try_from(body)?;
    let snapshot = blocking(&api, move |engine| engine.act_on_snapshot(&caller, snapshot_id(&id)?, action)).await?;
    Ok(axum::Json(snapshot.into()))
}

/// Delete snapshot
///
/// Refused when it has clones, which the message names, is held or locked, or is the newest one of a replica, which the next
/// session needs.
#[utoipa::path(delete, path = "/api/snapshot/{id}", operation_id = "deleteSnapshot", tag = "snapshot",
    params(("id" = Decimal, Path, description = "Id of the snapshot")),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
) -> Result<axum::Json<Empty>, Failure> {
    blocking(&api, move |engine| engine.delete_snapshot(&caller, snapshot_id(&id)?)).await?;
    Ok(axum::Json(Empty {}))
}
