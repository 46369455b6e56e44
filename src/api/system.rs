//! The appliance itself (contract section 2).

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, auth::EarlyChangeBy, blocking, body::Json, error::Failure, wire::Decimal};
use crate::types::system::{CacheStatistics, InitRequest, SystemInfo};

/// Version of this API.
const API_VERSION: &str = "1.0";

/// The appliance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct System {
    /// Fully qualified name, or the short one where there is no domain.
    fqdn: String,
    /// Short host name.
    hostname: String,
    /// 32 hex digits that name this appliance.
    id: String,
    /// `Not Initialized`, `Initializing`, `Ready` or `Failed`.
    #[schema(pattern = "^(Not Initialized|Initializing|Ready|Failed)$")]
    init_status: &'static str,
    /// Why init failed. There only when it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    init_message: Option<String>,
    /// Whether more than one pool is allowed.
    multipool: bool,
    /// Version of this API.
    api_version: &'static str,
    /// Version of the NFS server.
    #[schema(required)]
    nfs_version: Option<String>,
    /// Always null: there is no nginx in this appliance.
    #[schema(required)]
    nginx_version: Option<String>,
    /// Name of the operating system.
    #[schema(required)]
    os_name: Option<String>,
    /// Version of the operating system.
    #[schema(required)]
    os_version: Option<String>,
    /// Version of Samba.
    #[schema(required)]
    samba_version: Option<String>,
    /// Always null: there is no uWSGI in this appliance.
    #[schema(required)]
    uwsgi_version: Option<String>,
    /// Version of the appliance software.
    vsnap_version: &'static str,
    /// Version of the loaded ZFS module.
    #[schema(required)]
    zfs_version: Option<String>,
}

impl From<SystemInfo> for System {
    fn from(info: SystemInfo) -> Self {
        System {
            fqdn: info.fqdn,
            hostname: info.hostname,
            id: info.id.to_string(),
            init_status: info.init_status.word(),
            init_message: info.init_message,
            multipool: info.multipool,
            api_version: API_VERSION,
            nfs_version: info.versions.nfs,
            nginx_version: None,
            os_name: info.versions.os_name,
            os_version: info.versions.os_version,
            samba_version: info.versions.samba,
            uwsgi_version: None,
            vsnap_version: env!("CARGO_PKG_VERSION"),
            zfs_version: info.versions.zfs,
        }
    }
}

/// Memory that ZFS uses, in bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SystemStatistics {
    /// Most that the read cache (ARC) may take.
    size_arc_max: Decimal,
    /// What the ARC holds now.
    size_arc_used: Decimal,
    /// Deduplication tables in memory.
    size_ddt_core: Decimal,
    /// Deduplication tables on disk.
    size_ddt_disk: Decimal,
    /// Most of the ARC that metadata may take.
    size_zfs_arc_meta_max: Decimal,
    /// Metadata in the ARC now.
    size_zfs_arc_meta_used: Decimal,
}

impl From<CacheStatistics> for SystemStatistics {
    fn from(statistics: CacheStatistics) -> Self {
        SystemStatistics {
            size_arc_max: statistics.arc_max.into(),
            size_arc_used: statistics.arc_used.into(),
            size_ddt_core: statistics.ddt_core.into(),
            size_ddt_disk: statistics.ddt_disk.into(),
            size_zfs_arc_meta_max: statistics.arc_meta_max.into(),
            size_zfs_arc_meta_used: statistics.arc_meta_used.into(),
        }
    }
}

/// What to do with the system.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SystemAction {
    /// Must be `init`.
    #[allow(dead_code, reason = "there is one action; reading it is the check")]
    action: SystemVerb,
    /// Answer at once, with `Initializing`, and go on in the background.
    #[serde(default, rename = "async")]
    asynchronous: bool,
    /// Allow more than one pool.
    #[serde(default)]
    multipool: bool,
    /// Make no pool; do all other steps.
    #[serde(default)]
    skip_pool: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SystemVerb {
    Init,
}

/// Get system info
///
/// Basic information about the appliance. Versions of parts that are not installed are null.
#[utoipa::path(get, path = "/api/system", operation_id = "getSystem", tag = "system",
    responses((status = 200, description = "The system", body = System)))]
pub(super) async fn show(State(api): State<Api>) -> Result<axum::Json<System>, Failure> {
    let info = blocking(&api, |engine| engine.system()).await?;
    Ok(axum::Json(info.into()))
}

/// Initialize system
///
/// Unless `skip_pool` is true, a pool named `primary` is made of all unused disks, as raid0. With no unused disk
/// there is no pool, and init ends `Ready` all the same. Init of an initialised system is refused; after `Failed`
/// it may be repeated.
#[utoipa::path(post, path = "/api/system", operation_id = "initSystem", tag = "system", request_body = SystemAction,
    responses((status = 200, description = "The system", body = System)))]
pub(super) async fn act(
    State(api): State<Api>,
    EarlyChangeBy(caller): EarlyChangeBy,
    Json(body): Json<SystemAction>,
) -> Result<axum::Json<System>, Failure> {
    let request = InitRequest { asynchronous: body.asynchronous, multipool: body.multipool, skip_pool: body.skip_pool };
    let info = blocking(&api, move |engine| engine.initialize(&caller, request)).await?;
    Ok(axum::Json(info.into()))
}

/// Get memory statistics
///
/// Memory that ZFS uses for its cache and for deduplication.
#[utoipa::path(get, path = "/api/system/stats", operation_id = "getSystemStatistics", tag = "system",
    responses((status = 200, description = "Sizes in bytes", body = SystemStatistics)))]
pub(super) async fn statistics(State(api): State<Api>) -> Result<axum::Json<SystemStatistics>, Failure> {
    let statistics = blocking(&api, |engine| engine.statistics()).await?;
    Ok(axum::Json(statistics.into()))
}
