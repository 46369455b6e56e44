//! Shares (contract sections 8.8, 8.9 and 9). What requests hold is read in `share_request.rs`.

use axum::{
    Extension,
    extract::{Path, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::Json,
    edge::Record,
    error::Failure,
    look_up,
    lookup::{self, Asked, Listing},
    share_request::{NewShare, NewShareOfVolume, ShareUpdate, moot_with_smb},
    volume::volume_id,
    wire::{Decimal, Empty},
};
use crate::{
    error::Error,
    types::{
        Invalid, ShareId, VolumeId,
        selection::ShareField,
        share::{self, AllowedHost, ShareType},
    },
};

/// A share, in full.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShareDetail {
    id: Decimal,
    /// What clients call it: a path with NFS, a name with SMB.
    name: String,
    /// The filesystem that is shared.
    vol_id: Decimal,
    /// `nfs` or `smb`.
    #[schema(pattern = "^(nfs|smb)$")]
    share_type: &'static str,
    share_options: ShareOptionsShown,
    time_created: Decimal,
    time_updated: Decimal,
}

/// Options of a share; an `smb` share has `read_only` alone.
#[derive(Debug, Serialize, ToSchema)]
struct ShareOptionsShown {
    read_only: bool,
    /// `nfs`: who may mount it; nobody when it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    allowed_hosts: Option<Vec<String>>,
    /// `nfs`: snapshots can be entered in `.zfs/snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    snapshots_visible: Option<bool>,
}

impl From<share::Share> for ShareDetail {
    fn from(share: share::Share) -> Self {
        let properties = share.properties;
        let is_nfs = properties.share_type == ShareType::Nfs;
        let hosts = || properties.allowed_hosts.as_slice().iter().map(AllowedHost::to_string).collect();
        ShareDetail {
            id: share.id.into(),
            name: share.name,
            vol_id: share.volume.into(),
            share_type: properties.share_type.word(),
            share_options: ShareOptionsShown {
                read_only: properties.read_only,
                allowed_hosts: is_nfs.then(hosts),
                snapshots_visible: is_nfs.then_some(properties.snapshots_visible),
            },
            time_created: share.created.into(),
            time_updated: share.updated.into(),
        }
    }
}

/// A share, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShareSummary {
    id: Decimal,
    name: String,
    vol_id: Decimal,
    /// `nfs` or `smb`.
    #[schema(pattern = "^(nfs|smb)$")]
    share_type: &'static str,
    time_created: Decimal,
    time_updated: Decimal,
}

impl From<share::Share> for ShareSummary {
    fn from(share: share::Share) -> Self {
        ShareSummary {
            id: share.id.into(),
            name: share.name,
            vol_id: share.volume.into(),
            share_type: share.properties.share_type.word(),
            time_created: share.created.into(),
            time_updated: share.updated.into(),
        }
    }
}

/// Shares in short, or in full with `detail`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShareList {
    shares: Vec<ShareItem>,
    /// How many there are, also of those that `limit` and `offset` leave out.
    total: u64,
}

/// A share of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum ShareItem {
    Summary(ShareSummary),
    Detail(ShareDetail),
}

/// Shares, or the one asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ShareAnswer {
    List(ShareList),
    One(ShareDetail),
}

fn share_id(text: &str) -> Result<ShareId, Error> {
    lookup::id("share", text)
}

/// The answer about a share that was made or changed. `moot`: what was said about it and has no effect with SMB.
fn tell(share: share::Share, moot: Vec<String>, record: &Record) -> axum::Json<ShareDetail> {
    if share.properties.share_type == ShareType::Smb {
        record.note_ignored(moot);
    }
    axum::Json(share.into())
}

/// List shares
///
/// With `id` or `name`, and no other field and no paging, the answer is that one share in full, or 404.
#[utoipa::path(get, path = "/api/share", operation_id = "listShares", tag = "share",
    params(Listing<ShareField>),
    responses((status = 200, description = "The shares, or the one asked for", body = ShareAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Listing(asked): Listing<ShareField>,
) -> Result<axum::Json<ShareAnswer>, Failure> {
    let one = |share: share::Share| ShareAnswer::One(share.into());
    let answer = blocking(&api, move |engine| match asked {
        Asked::Id(id) => engine.share(share_id(&id)?).map(one),
        Asked::Name(name) => engine.share_by_name(&name).map(one),
        Asked::List(page) => {
            let (shares, total) = engine.shares(&page.selection)?;
            let item = |share: share::Share| match page.detail {
                true => ShareItem::Detail(share.into()),
                false => ShareItem::Summary(share.into()),
            };
            Ok(ShareAnswer::List(ShareList { shares: shares.into_iter().map(item).collect(), total }))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Create share
///
/// The filesystem is reachable for clients when the answer comes. A filesystem has one share at a time.
#[utoipa::path(post, path = "/api/share", operation_id = "createShare", tag = "share", request_body = NewShare,
    responses((status = 200, description = "The new share", body = ShareDetail)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Extension(record): Extension<Record>,
    Json(body): Json<NewShare>,
) -> Result<axum::Json<ShareDetail>, Failure> {
    let moot = moot_with_smb(body.share_options.as_ref());
    let (volume, properties) = body.read()?;
    let share = blocking(&api, move |engine| engine.create_share(&caller, volume, &properties)).await?;
    Ok(tell(share, moot, &record))
}

/// Create share of volume
///
/// The filesystem is reachable for clients when the answer comes. A filesystem has one share at a time.
#[utoipa::path(post, path = "/api/volume/{id}/share", operation_id = "createShareOfVolume", tag = "share",
    request_body = NewShareOfVolume, params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The new share", body = ShareDetail)))]
pub(super) async fn create_of_volume(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Extension(record): Extension<Record>,
    Json(body): Json<NewShareOfVolume>,
) -> Result<axum::Json<ShareDetail>, Failure> {
    let moot = moot_with_smb(body.share_options.as_ref());
    let properties = body.properties()?;
    let share = blocking(&api, move |engine| engine.create_share(&caller, volume_id(&id)?, &properties)).await;
    Ok(tell(share.map_err(|failure| failure.without_member("vol_id"))?, moot, &record))
}

/// Get share details
#[utoipa::path(get, path = "/api/share/{id}", operation_id = "getShare", tag = "share",
    params(("id" = Decimal, Path, description = "Id of the share")),
    responses((status = 200, description = "The share", body = ShareDetail)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<ShareDetail>, Failure> {
    let share = look_up(&api, |engine| engine.share(share_id(&id)?))?;
    Ok(axum::Json(share.into()))
}

/// Fails when a change of the share is meant for that of another volume.
fn require_volume(share: &share::Share, meant: Option<VolumeId>) -> Result<(), Error> {
    match meant {
        Some(meant) if meant != share.volume => {
            let fault = format!("share {} is of volume {}, and stays so; leave vol_id out", share.id, share.volume);
            Err(Invalid::new("vol_id", fault).into())
        }
        _ => Ok(()),
    }
}

/// Update share
///
/// Also its type. Clients of other shares notice nothing. The whole answer to `GET` can be sent back.
#[utoipa::path(put, path = "/api/share/{id}", operation_id = "updateShare", tag = "share",
    request_body = ShareUpdate, params(("id" = Decimal, Path, description = "Id of the share")),
    responses((status = 200, description = "The share", body = ShareDetail)))]
pub(super) async fn update(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Extension(record): Extension<Record>,
    Json(body): Json<ShareUpdate>,
) -> Result<axum::Json<ShareDetail>, Failure> {
    let (volume, moot) = (body.volume()?, moot_with_smb(body.share_options.as_ref()));
    let change = body.check()?;
    let share = blocking(&api, move |engine| {
        let share = engine.share(share_id(&id)?)?;
        require_volume(&share, volume)?;
        engine.update_share(&caller, share.id, change)
    });
    Ok(tell(share.await?, moot, &record))
}

/// Update share of volume
///
/// As `PUT /api/share/{id}`.
#[utoipa::path(put, path = "/api/volume/{id}/share", operation_id = "updateShareOfVolume", tag = "share",
    request_body = ShareUpdate, params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The share", body = ShareDetail)))]
pub(super) async fn update_of_volume(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Extension(record): Extension<Record>,
    Json(body): Json<ShareUpdate>,
) -> Result<axum::Json<ShareDetail>, Failure> {
    let (volume, moot) = (body.volume()?, moot_with_smb(body.share_options.as_ref()));
    let change = body.check()?;
    let share = blocking(&api, move |engine| {
        let share = engine.share_of_volume(volume_id(&id)?)?;
        require_volume(&share, volume)?;
        engine.update_share(&caller, share.id, change)
    });
    Ok(tell(share.await?, moot, &record))
}

/// Delete share
///
/// Ends what clients have open there. The filesystem and what is in it stay.
#[utoipa::path(delete, path = "/api/share/{id}", operation_id = "deleteShare", tag = "share",
    params(("id" = Decimal, Path, description = "Id of the share")),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
) -> Result<axum::Json<Empty>, Failure> {
    blocking(&api, move |engine| engine.delete_share(&caller, share_id(&id)?)).await?;
    Ok(axum::Json(Empty {}))
}

/// Delete share of volume
///
/// As `DELETE /api/share/{id}`.
#[utoipa::path(delete, path = "/api/volume/{id}/share", operation_id = "deleteShareOfVolume", tag = "share",
    params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete_of_volume(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
) -> Result<axum::Json<Empty>, Failure> {
    blocking(&api, move |engine| {
        let share = engine.share_of_volume(volume_id(&id)?)?.id;
        engine.delete_share(&caller, share)
    })
    .await?;
    Ok(axum::Json(Empty {}))
}
