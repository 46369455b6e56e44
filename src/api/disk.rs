//! Disks (contract section 6).

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::EarlyChangeBy,
    blocking,
    body::{Json, Query},
    error::Failure,
    wire::{Decimal, Empty},
};
use crate::types::disk;

/// The unit of `size`: the only one in which the contract's sample pool adds up.
const SECTOR_BYTES: u64 = 512;

/// A whole disk.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Disk {
    /// Model, as the disk says.
    model: String,
    /// Device of the moment; another one after a reboot, perhaps.
    name: String,
    /// Size in sectors of 512 bytes.
    size: Decimal,
    /// Bus: `SCSI`, `ATA`, `NVME`, ...
    #[serde(rename = "type")]
    bus: String,
    /// Stable identity, to be used in requests.
    uuid: String,
    /// Vendor, as the disk says.
    vendor: String,
    /// `unused`, `vsnap_pool`, `partitioned`, the type of what is on it, as blkid calls it, or what else keeps it: `system`,
    /// `mounted`, `swap`, `read-only`, or the kind of device that is made of it (`mpath`, `crypt`, ...).
    used_as: String,
}

impl From<(disk::Disk, String)> for Disk {
    fn from((disk, used_as): (disk::Disk, String)) -> Self {
        Disk {
            model: disk.model,
            name: disk.name,
            size: (disk.bytes / SECTOR_BYTES).into(),
            bus: disk.bus,
            uuid: disk.uuid.to_string(),
            vendor: disk.vendor,
            used_as,
        }
    }
}

/// Disks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DiskList {
    disks: Vec<Disk>,
    total: usize,
}

/// Which disks are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DiskFilter {
    /// Only disks with this `used_as`. `unused` are those that can be put into a pool.
    used_as: Option<String>,
}

/// What to do with the disks.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct DiskAction {
    /// Must be `rescan`.
    #[allow(dead_code, reason = "there is one action; reading it is the check")]
    action: DiskVerb,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DiskVerb {
    Rescan,
}

/// Get disks
///
/// All whole disks, or with `used_as=unused` those that are available for creating or expanding a pool.
#[utoipa::path(get, path = "/api/disk", operation_id = "listDisks", tag = "disk", params(DiskFilter),
    responses((status = 200, description = "The disks", body = DiskList)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(filter): Query<DiskFilter>,
) -> Result<axum::Json<DiskList>, Failure> {
    let disks = blocking(&api, move |engine| engine.disks(filter.used_as.as_deref())).await?;
    let disks: Vec<_> = disks.into_iter().map(Disk::from).collect();
    Ok(axum::Json(DiskList { total: disks.len(), disks }))
}

/// Rescan disks
///
/// Asks all SCSI hosts for new and removed disks.
#[utoipa::path(post, path = "/api/disk", operation_id = "rescanDisks", tag = "disk", request_body = DiskAction,
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn act(
    State(api): State<Api>,
    EarlyChangeBy(caller): EarlyChangeBy,
    Json(_body): Json<DiskAction>,
) -> Result<axum::Json<Empty>, Failure> {
    blocking(&api, move |engine| engine.rescan_disks(&caller)).await?;
    Ok(axum::Json(Empty {}))
}
