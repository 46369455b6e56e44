//! Volumes (contract section 8). What requests hold is read in `volume_request.rs`.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::{Json, Query},
    error::Failure,
    lookup::{self, Asked, Listing},
    volume_request::{NewVolume, VolumeActionRequest, VolumeProperties},
    wire::{Decimal, Empty, Flag},
};
use crate::{
    error::Error,
    types::{
        VolumeId,
        selection::VolumeField,
        volume::{self, VolumeAction, VolumeOptions, VolumeRequest, VolumeType, VolumeUpdate},
    },
};

/// A volume, in full. Sizes are null for a file-backed lun, and while the pool is not imported.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VolumeDetail {
    id: Decimal,
    name: String,
    /// `filesystem`, `lun` or `filebackedlun`.
    #[schema(pattern = "^(filesystem|lun|filebackedlun)$")]
    volume_type: &'static str,
    /// Whether it was cloned from a snapshot.
    is_clone: bool,
    /// Serial number that initiators see; null for a filesystem.
    #[schema(required)]
    serial: Option<String>,
    pool_id: Decimal,
    pool_name: String,
    /// Limit of a filesystem, null when it has none; size of a lun.
    #[schema(required)]
    size_total: Option<Decimal>,
    /// What can still be written: what the limit, the size or the pool leaves.
    #[schema(required)]
    size_free: Option<Decimal>,
    /// Taken by the volume and its snapshots.
    #[schema(required)]
    size_used: Option<Decimal>,
    /// File-backed lun: the volume that has the file.
    #[schema(required)]
    parent_id: Option<Decimal>,
    /// File-backed lun: the file, relative to the root of that volume.
    #[schema(required)]
    parent_path: Option<String>,
    /// Clone: the snapshot it was cloned from.
    #[schema(required)]
    snapshot_id: Option<Decimal>,
    /// Its share; null when it has none.
    #[schema(required)]
    share_id: Option<Decimal>,
    /// Hosts that it is mapped to; null for a filesystem.
    #[schema(required)]
    host_ids: Option<Vec<Decimal>>,
    time_created: Decimal,
    time_updated: Decimal,
    /// Block size of a lun in bytes.
    #[schema(required)]
    size_block: Option<Decimal>,
    /// Null for a file-backed lun, which is stored as the volume is that has the file.
    #[schema(required)]
    compression: Option<bool>,
    #[schema(required)]
    deduplication: Option<bool>,
    #[schema(required)]
    syncwrite: Option<bool>,
}

impl From<volume::Volume> for VolumeDetail {
    fn from(volume: volume::Volume) -> Self {
        let free = volume.free();
        let options = match volume.volume_type {
            VolumeType::FileBackedLun => VolumeOptions::default(),
            VolumeType::Filesystem | VolumeType::Lun => volume.options,
        };
        let (parent_id, parent_path) = volume.parent.unzip();
        VolumeDetail {
            id: volume.id.into(),
            name: volume.name.into(),
            volume_type: volume.volume_type.word(),
            is_clone: volume.origin.is_some(),
            serial: volume.serial,
            pool_id: volume.pool.into(),
            pool_name: volume.pool_name.into(),
            size_total: volume.size.map(Decimal::from),
            size_free: free.map(Decimal::from),
            size_used: volume.numbers.map(|numbers| numbers.used.into()),
            parent_id: parent_id.map(Decimal::from),
            parent_path: parent_path.map(|path| path.to_string()),
            snapshot_id: volume.origin.map(Decimal::from),
            share_id: volume.share.map(Decimal::from),
            host_ids: (volume.volume_type != VolumeType::Filesystem)
                .then(|| volume.hosts.iter().copied().map(Decimal::from).collect()),
            time_created: volume.created.into(),
            time_updated: volume.updated.into(),
            size_block: volume.block.map(|block| block.bytes().into()),
            compression: options.compression,
            deduplication: options.deduplication,
            syncwrite: options.syncwrite,
        }
    }
}

/// A volume, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VolumeSummary {
    id: Decimal,
    /// `filesystem`, `lun` or `filebackedlun`.
    #[schema(pattern = "^(filesystem|lun|filebackedlun)$")]
    volume_type: &'static str,
    is_clone: bool,
    name: String,
    pool_id: Decimal,
    #[schema(required)]
    size_total: Option<Decimal>,
    #[schema(required)]
    size_free: Option<Decimal>,
    #[schema(required)]
    size_used: Option<Decimal>,
    time_created: Decimal,
    time_updated: Decimal,
}

impl From<volume::Volume> for VolumeSummary {
    fn from(volume: volume::Volume) -> Self {
        VolumeSummary {
            id: volume.id.into(),
            volume_type: volume.volume_type.word(),
            is_clone: volume.origin.is_some(),
            size_total: volume.size.map(Decimal::from),
            size_free: volume.free().map(Decimal::from),
            size_used: volume.numbers.map(|numbers| numbers.used.into()),
            name: volume.name.into(),
            pool_id: volume.pool.into(),
            time_created: volume.created.into(),
            time_updated: volume.updated.into(),
        }
    }
}

/// Volumes in short, or in full with `detail`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VolumeList {
    volumes: Vec<VolumeItem>,
    /// How many there are, also of those that `limit` and `offset` leave out.
    total: u64,
}

/// A volume of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum VolumeItem {
    Summary(VolumeSummary),
    Detail(Box<VolumeDetail>),
}

/// Volumes, or the one asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum VolumeAnswer {
    List(VolumeList),
    One(Box<VolumeDetail>),
}

/// The id of a volume in a path or query.
pub(super) fn volume_id(text: &str) -> Result<VolumeId, Error> {
    lookup::id("volume", text)
}

/// List volumes
///
/// With `id` or `name`, and no other field and no paging, the answer is that one volume in full, or 404. `total`
/// counts what the filters leave.
#[utoipa::path(get, path = "/api/volume", operation_id = "listVolumes", tag = "volume",
    params(Listing<VolumeField>),
    responses((status = 200, description = "The volumes, or the one asked for", body = VolumeAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Listing(asked): Listing<VolumeField>,
) -> Result<axum::Json<VolumeAnswer>, Failure> {
    let one = |volume: volume::Volume| VolumeAnswer::One(Box::new(volume.into()));
    let answer = blocking(&api, move |engine| match asked {
        Asked::Id(id) => engine.volume(volume_id(&id)?).map(one),
        Asked::Name(name) => engine.volume_by_name(&name).map(one),
        Asked::List(page) => {
            let (volumes, total) = engine.volumes(&page.selection)?;
            let item = |volume: volume::Volume| match page.detail {
                true => VolumeItem::Detail(Box::new(volume.into())),
                false => VolumeItem::Summary(volume.into()),
            };
            Ok(VolumeAnswer::List(VolumeList { volumes: volumes.into_iter().map(item).collect(), total }))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Create volume
///
/// Either a new one, with `volume_type` and what belongs to that type, or a clone, with `snapshot_id` and `name` only.
/// A member that does not belong to what is asked for is refused.
#[utoipa::path(post, path = "/api/volume", operation_id = "createVolume", tag = "volume", request_body = NewVolume,
    responses((status = 200, description = "The new volume", body = VolumeDetail)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Json(body): Json<NewVolume>,
) -> Result<axum::Json<VolumeDetail>, Failure> {
    let request = VolumeRequest::try_from(body)?;
    let volume = blocking(&api, move |engine| engine.create_volume(&caller, request)).await?;
    Ok(axum::Json(volume.into()))
}

/// Get volume details
#[utoipa::path(get, path = "/api/volume/{id}", operation_id = "getVolume", tag = "volume",
    params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The volume", body = VolumeDetail)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<VolumeDetail>, Failure> {
    let volume = blocking(&api, move |engine| engine.volume(volume_id(&id)?)).await?;
    Ok(axum::Json(volume.into()))
}

/// Update volume
///
/// What is left out stays as it is. A lun can only grow. `size_total` of a filesystem is its limit, which `none`
/// takes away. Compression and deduplication apply to what is written from now on.
#[utoipa::path(put, path = "/api/volume/{id}", operation_id = "updateVolume", tag = "volume",
    request_body = VolumeProperties, params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The volume", body = VolumeDetail)))]
pub(super) async fn update(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<VolumeProperties>,
) -> Result<axum::Json<VolumeDetail>, Failure> {
    let update = VolumeUpdate::try_from(body)?;
    let volume = blocking(&api, move |engine| engine.update_volume(&caller, volume_id(&id)?, update)).await?;
    Ok(axum::Json(volume.into()))
}

/// Act on a volume
///
/// `rollback` makes the volume what it was when snapshot `snapshot_id` was made. What is in the way of that is destroyed
/// only when it is named: newer snapshots in `discard_snapshots`, their clones in `discard_clones`, the share of the
/// volume in `discard_shares`. Hosts that the volume is mapped to, or a lun that a file of it backs, are named in
/// `discard_hosts`: they lose what was written since, must not have it in use, and see it again under the same LUN
/// number afterwards. When something is not named, the answer is 409 and names it.
///
/// `promote` turns a clone into the owner of the snapshots up to its origin, so that the volume that it was cloned from
/// can be deleted.
#[utoipa::path(post, path = "/api/volume/{id}", operation_id = "actOnVolume", tag = "volume",
    request_body = VolumeActionRequest, params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The volume", body = VolumeDetail)))]
pub(super) async fn act(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<VolumeActionRequest>,
) -> Result<axum::Json<VolumeDetail>, Failure> {
    let action = VolumeAction::try_from(body)?;
    let volume = blocking(&api, move |engine| engine.act_on_volume(&caller, volume_id(&id)?, action)).await?;
    Ok(axum::Json(volume.into()))
}

/// How to delete a volume.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct VolumeDeletion {
    /// Delete it even though it has replication relationships. `1`, `true`, `0` or `false`.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    force: Flag,
}

/// Delete volume
///
/// Its snapshots go with it. Refused when a snapshot has clones, is held or is locked, and when a file-backed lun is
/// on the volume; the message names what is in the way. `GET /api/operation?subject=volume%20{id}&state=running`
/// tells how far a long one is.
#[utoipa::path(delete, path = "/api/volume/{id}", operation_id = "deleteVolume", tag = "volume",
    params(("id" = Decimal, Path, description = "Id of the volume"), VolumeDeletion),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Query(deletion): Query<VolumeDeletion>,
) -> Result<axum::Json<Empty>, Failure> {
    let force = deletion.force.0;
    blocking(&api, move |engine| engine.delete_volume(&caller, volume_id(&id)?, force)).await?;
    Ok(axum::Json(Empty {}))
}
