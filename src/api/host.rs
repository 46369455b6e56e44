//! Hosts and what is mapped to them (contract section 10).

use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::Json,
    error::Failure,
    host_request::{HostActionRequest, HostProperties, HostVerb, NewHost},
    look_up,
    lookup::{self, Asked, Listing},
    volume::volume_id,
    wire::{Decimal, Empty},
};
use crate::{
    error::Error,
    types::{
        HostId,
        host::{self, ChapUsers, HostRequest, HostUpdate},
        selection::HostField,
    },
};

/// Who authenticates; secrets are never shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChapShown {
    /// As whom the host logs in.
    user: String,
    /// As whom the appliance proves itself to the host; null when it does not.
    #[schema(required)]
    mutual_user: Option<String>,
}

impl From<ChapUsers> for ChapShown {
    fn from(users: ChapUsers) -> Self {
        ChapShown {
            user: users.user.as_str().to_owned(),
            mutual_user: users.mutual_user.map(|user| user.as_str().to_owned()),
        }
    }
}

/// A lun that a host sees.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MappedLun {
    /// Its number, of this host.
    lun: Decimal,
    /// The volume.
    vol_id: Decimal,
}

/// A host, in full.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostDetail {
    id: Decimal,
    name: String,
    /// Its iSCSI initiators.
    iqns: Vec<String>,
    /// What is mapped to it, by number.
    mapped_luns: Vec<MappedLun>,
    time_created: Decimal,
    time_updated: Decimal,
    /// When it logs in with CHAP, by which users; a secret is set then. Else null.
    #[schema(required)]
    chap: Option<ChapShown>,
}

impl From<host::Host> for HostDetail {
    fn from(host: host::Host) -> Self {
        let mapped = |lun: &host::MappedLun| MappedLun { lun: lun.lun.into(), vol_id: lun.volume.into() };
        HostDetail {
            id: host.id.into(),
            name: host.name.into(),
            iqns: host.iqns.iter().map(ToString::to_string).collect(),
            mapped_luns: host.mapped_luns.iter().map(mapped).collect(),
            time_created: host.created.into(),
            time_updated: host.updated.into(),
            chap: host.chap.map(ChapShown::from),
        }
    }
}

/// A host, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostSummary {
    id: Decimal,
    name: String,
    iqns: Vec<String>,
    time_created: Decimal,
    time_updated: Decimal,
}

impl From<host::Host> for HostSummary {
    fn from(host: host::Host) -> Self {
        HostSummary {
            id: host.id.into(),
            name: host.name.into(),
            iqns: host.iqns.iter().map(ToString::to_string).collect(),
            time_created: host.created.into(),
            time_updated: host.updated.into(),
        }
    }
}

/// Hosts in short, or in full with `detail`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostList {
    hosts: Vec<HostItem>,
    /// How many there are, also of those that `limit` and `offset` leave out.
    total: u64,
}

/// A host of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum HostItem {
    Summary(HostSummary),
    Detail(HostDetail),
}

/// Hosts, or the one asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum HostAnswer {
    List(HostList),
    One(Box<HostDetail>),
}

/// What a mapping answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Mapping {
    vol_id: Decimal,
    /// Number under which the host sees it.
    lun: Decimal,
}

impl From<host::MappedLun> for Mapping {
    fn from(lun: host::MappedLun) -> Self {
        Mapping { vol_id: lun.volume.into(), lun: lun.lun.into() }
    }
}

/// What an action on a host answers: `map` the mapping, `unmap` nothing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ActionAnswer {
    Mapped(Mapping),
    Unmapped(Empty),
}

fn host_id(text: &str) -> Result<HostId, Error> {
    lookup::id("host", text)
}

/// List hosts
///
/// With `id` or `name`, and no other field and no paging, the answer is that one host in full, or 404. `total` counts
/// what the filters leave.
#[utoipa::path(get, path = "/api/host", operation_id = "listHosts", tag = "host",
    params(Listing<HostField>),
    responses((status = 200, description = "The hosts, or the one asked for", body = HostAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Listing(asked): Listing<HostField>,
) -> Result<axum::Json<HostAnswer>, Failure> {
    let one = |host: host::Host| HostAnswer::One(Box::new(host.into()));
    let answer = blocking(&api, move |engine| match asked {
        Asked::Id(id) => engine.host(host_id(&id)?).map(one),
        Asked::Name(name) => engine.host_by_name(&name).map(one),
        Asked::List(page) => {
            let (hosts, total) = engine.hosts(&page.selection)?;
            let item = |host: host::Host| match page.detail {
                true => HostItem::Detail(host.into()),
                false => HostItem::Summary(host.into()),
            };
            Ok(HostAnswer::List(HostList { hosts: hosts.into_iter().map(item).collect(), total }))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Create host
///
/// A storage client with its iSCSI initiators. An initiator belongs to one host; one that belongs to none can't log
/// in. With `chap` it has to authenticate.
#[utoipa::path(post, path = "/api/host", operation_id = "createHost", tag = "host", request_body = NewHost,
    responses((status = 200, description = "The new host", body = HostDetail)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Json(body): Json<NewHost>,
) -> Result<axum::Json<HostDetail>, Failure> {
    let request = HostRequest::try_from(body)?;
    let host = blocking(&api, move |engine| engine.create_host(&caller, request)).await?;
    Ok(axum::Json(host.into()))
}

/// Get host details
#[utoipa::path(get, path = "/api/host/{id}", operation_id = "getHost", tag = "host",
    params(("id" = Decimal, Path, description = "Id of the host")),
    responses((status = 200, description = "The host", body = HostDetail)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<HostDetail>, Failure> {
    let host = look_up(&api, |engine| engine.host(host_id(&id)?))?;
    Ok(axum::Json(host.into()))
}

/// Update host
///
/// What is left out stays as it is. `iqns` replaces the list; initiators that are not in it any longer are logged out.
/// New CHAP secrets apply from the next login; a host that gets CHAP for the first time has to log in again.
#[utoipa::path(put, path = "/api/host/{id}", operation_id = "updateHost", tag = "host",
    request_body = HostProperties, params(("id" = Decimal, Path, description = "Id of the host")),
    responses((status = 200, description = "The host", body = HostDetail)))]
pub(super) async fn update(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<HostProperties>,
) -> Result<axum::Json<HostDetail>, Failure> {
    let update = HostUpdate::try_from(body)?;
    let host = blocking(&api, move |engine| engine.update_host(&caller, host_id(&id)?, update)).await?;
    Ok(axum::Json(host.into()))
}

/// Act on a host
///
/// `map` attaches a lun or filebackedlun under the lowest free number of the host, and answers with it; mapping again
/// answers with the number that there is. `unmap` detaches it, also while the host is logged in: stop using it there
/// first.
#[utoipa::path(post, path = "/api/host/{id}", operation_id = "actOnHost", tag = "host",
    request_body = HostActionRequest, params(("id" = Decimal, Path, description = "Id of the host")),
    responses((status = 200, description = "The mapping, or done", body = ActionAnswer)))]
pub(super) async fn act(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<HostActionRequest>,
) -> Result<axum::Json<ActionAnswer>, Failure> {
    let (verb, volume) = body.read()?;
    let answer = blocking(&api, move |engine| {
        let host = host_id(&id)?;
        match verb {
            HostVerb::Map => engine.map_volume(&caller, volume, host).map(|lun| ActionAnswer::Mapped(lun.into())),
            HostVerb::Unmap => engine.unmap_volume(&caller, volume, host).map(|()| ActionAnswer::Unmapped(Empty {})),
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Delete host
///
/// What is mapped to it is unmapped first.
#[utoipa::path(delete, path = "/api/host/{id}", operation_id = "deleteHost", tag = "host",
    params(("id" = Decimal, Path, description = "Id of the host")),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
) -> Result<axum::Json<Empty>, Failure> {
    blocking(&api, move |engine| engine.delete_host(&caller, host_id(&id)?)).await?;
    Ok(axum::Json(Empty {}))
}

/// Map volume to host
///
/// The same as `POST /api/host/{id}` with action `map`.
#[utoipa::path(post, path = "/api/volume/{id}/map", operation_id = "mapVolume", tag = "volume",
    request_body = super::host_request::WhichHost, params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "The mapping", body = Mapping)))]
pub(super) async fn map(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<super::host_request::WhichHost>,
) -> Result<axum::Json<Mapping>, Failure> {
    let host = body.read()?;
    let lun = blocking(&api, move |engine| engine.map_volume(&caller, volume_id(&id)?, host)).await;
    Ok(axum::Json(lun.map_err(|failure| failure.without_member("vol_id"))?.into()))
}

/// Unmap volume from host
///
/// The same as `POST /api/host/{id}` with action `unmap`.
#[utoipa::path(post, path = "/api/volume/{id}/unmap", operation_id = "unmapVolume", tag = "volume",
    request_body = super::host_request::WhichHost, params(("id" = Decimal, Path, description = "Id of the volume")),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn unmap(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<super::host_request::WhichHost>,
) -> Result<axum::Json<Empty>, Failure> {
    let host = body.read()?;
    blocking(&api, move |engine| engine.unmap_volume(&caller, volume_id(&id)?, host)).await?;
    Ok(axum::Json(Empty {}))
}
