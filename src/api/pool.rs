//! Pools (contract section 7).

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::{Json, Query},
    error::Failure,
    lookup::{self, Asked, Lookup},
    wire::{Decimal, Empty, Flag},
};
use crate::{
    error::Error,
    types::{
        Name, PoolId,
        disk::DiskUuid,
        pool::{self, PoolAction, PoolNumbers, PoolOptions, PoolRequest, PoolType, PoolUpdate},
    },
};

/// A pool, in full. Sizes and ratios are null while the pool is not imported.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolDetail {
    compression: bool,
    /// Like `1.00x`, never below.
    #[schema(required)]
    compression_ratio: Option<String>,
    deduplication: bool,
    /// Like `1.00x`, never below.
    #[schema(required)]
    deduplication_ratio: Option<String>,
    /// Disks in the widest group.
    diskgroup_size: Decimal,
    /// Disks by group: `raid0`, `raid5_group1`, `raid6_group1`, ... and, when there are any, `log`, `cache`, `spare`.
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    disks: Groups,
    id: Decimal,
    name: String,
    /// `raid0`, `raid5` or `raid6`.
    #[schema(pattern = "^raid[056]$")]
    pool_type: &'static str,
    /// Bytes as clients wrote them.
    #[schema(required)]
    size_before_compression: Option<Decimal>,
    /// Bytes after compression, before deduplication.
    #[schema(required)]
    size_before_deduplication: Option<Decimal>,
    /// Usable bytes, after parity: `size_free` and `size_used` together.
    #[schema(required)]
    size_total: Option<Decimal>,
    #[schema(required)]
    size_free: Option<Decimal>,
    #[schema(required)]
    size_used: Option<Decimal>,
    /// The word of ZFS: `ONLINE`, `DEGRADED`, `FAULTED`, `SUSPENDED`, `UNAVAIL`, ...
    status: &'static str,
    syncwrite: bool,
    /// 100 when `ONLINE`, 50 when `DEGRADED`, else 0.
    health: Decimal,
    time_created: Decimal,
    time_updated: Decimal,
}

/// Groups in their order, as a JSON object.
#[derive(Debug)]
struct Groups(Vec<(String, Vec<String>)>);

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(group, paths)| (group, paths)))
    }
}

/// Hundredths as `1.00x`.
fn ratio(hundredths: u64) -> String {
    let hundredths = hundredths.max(100);
    format!("{}.{:02}x", hundredths / 100, hundredths % 100)
}

fn total(numbers: PoolNumbers) -> u64 {
    numbers.free.saturating_add(numbers.used)
}

impl From<pool::Pool> for PoolDetail {
    fn from(pool: pool::Pool) -> Self {
        let numbers = pool.numbers;
        PoolDetail {
            compression: pool.options.compression,
            compression_ratio: numbers.map(|it| ratio(it.compression_ratio)),
            deduplication: pool.options.deduplication,
            deduplication_ratio: numbers.map(|it| ratio(it.deduplication_ratio)),
            diskgroup_size: (pool.group_size as u64).into(),
            disks: Groups(pool.disks),
            id: pool.id.into(),
            name: pool.name.into(),
            pool_type: pool.pool_type.word(),
            size_before_compression: numbers.map(|it| it.logical.into()),
            size_before_deduplication: numbers.map(|it| it.before_deduplication.into()),
            size_total: numbers.map(|it| total(it).into()),
            size_free: numbers.map(|it| it.free.into()),
            size_used: numbers.map(|it| it.used.into()),
            status: pool.state.word(),
            syncwrite: pool.options.syncwrite,
            health: pool.state.percent().into(),
            time_created: pool.created.into(),
            time_updated: pool.updated.into(),
        }
    }
}

/// A pool, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolSummary {
    id: Decimal,
    name: String,
    /// `raid0`, `raid5` or `raid6`.
    #[schema(pattern = "^raid[056]$")]
    pool_type: &'static str,
    #[schema(required)]
    size_total: Option<Decimal>,
    #[schema(required)]
    size_free: Option<Decimal>,
    #[schema(required)]
    size_used: Option<Decimal>,
    /// The word of ZFS.
    status: &'static str,
    /// 100 when `ONLINE`, 50 when `DEGRADED`, else 0.
    health: Decimal,
    time_created: Decimal,
    time_updated: Decimal,
}

impl From<pool::Pool> for PoolSummary {
    fn from(pool: pool::Pool) -> Self {
        PoolSummary {
            id: pool.id.into(),
            name: pool.name.into(),
            pool_type: pool.pool_type.word(),
            size_total: pool.numbers.map(|it| total(it).into()),
            size_free: pool.numbers.map(|it| it.free.into()),
            size_used: pool.numbers.map(|it| it.used.into()),
            status: pool.state.word(),
            health: pool.state.percent().into(),
            time_created: pool.created.into(),
            time_updated: pool.updated.into(),
        }
    }
}

/// All pools.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolList {
    pools: Vec<PoolSummary>,
    total: usize,
}

/// A new pool.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewPool {
    /// 1 to 256 printable characters; unique on the appliance.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// `uuid` values of the disks; all unused disks when it is left out or empty.
    #[serde(default)]
    disk_list: Vec<String>,
    /// raid0 needs one disk, raid5 three, raid6 four.
    pool_type: PoolKind,
    #[serde(default = "on")]
    #[schema(default = true)]
    compression: bool,
    #[serde(default)]
    #[schema(default = false)]
    deduplication: bool,
    #[serde(default = "on")]
    #[schema(default = true)]
    syncwrite: bool,
}

fn on() -> bool {
    true
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PoolKind {
    Raid0,
    Raid5,
    Raid6,
}

impl NewPool {
    fn request(self) -> Result<PoolRequest, Error> {
        Ok(PoolRequest {
            name: Name::new(self.name)?,
            disks: uuids("disk_list", self.disk_list)?,
            pool_type: match self.pool_type {
                PoolKind::Raid0 => PoolType::Raid0,
                PoolKind::Raid5 => PoolType::Raid5,
                PoolKind::Raid6 => PoolType::Raid6,
            },
            options: PoolOptions {
                compression: self.compression,
                deduplication: self.deduplication,
                syncwrite: self.syncwrite,
            },
        })
    }
}

/// New properties of a pool. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PoolProperties {
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    compression: Option<bool>,
    deduplication: Option<bool>,
    syncwrite: Option<bool>,
}

/// What to do with a pool.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PoolActionRequest {
    action: PoolVerb,
    /// `uuid` values of disks. `expand`: all unused disks when it is left out or empty, and there is no `disk`. `addlog`,
    /// `addcache`, `addspare`, `removespare`: needed, here or as `disk`. Else not looked at.
    #[serde(default)]
    disk_list: Vec<String>,
    /// `uuid` of a disk. `online`, `offline`: needed. `expand`, `addlog`, `addcache`, `addspare`, `removespare`: the same
    /// as a `disk_list` of one.
    disk: Option<String>,
    /// `replace`: `uuid` of the disk to take out.
    old_disk: Option<String>,
    /// `replace`: `uuid` of the unused disk to put in.
    new_disk: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PoolVerb {
    Expand,
    AddLog,
    RemoveLog,
    AddCache,
    RemoveCache,
    AddSpare,
    RemoveSpare,
    Scrub,
    ScrubStop,
    Replace,
    Online,
    Offline,
    Clear,
}

impl TryFrom<PoolActionRequest> for PoolAction {
    type Error = Failure;

    fn try_from(body: PoolActionRequest) -> Result<Self, Failure> {
        let PoolActionRequest { action, disk_list, disk, old_disk, new_disk } = body;
        let one = |member: &'static str, value: Option<String>| match value {
            Some(text) => DiskUuid::new(member, text).map_err(|error| Failure::from(Error::from(error))),
            None => Err(Failure::invalid(format!("{member}: is missing; give the uuid of a disk"))),
        };
        let given = |disk: Option<String>, disk_list: Vec<String>| {
            let mut disks = uuids("disk_list", disk_list)?;
            if disk.is_some() {
                disks.push(one("disk", disk)?);
            }
            Ok::<_, Failure>(disks)
        };
        let some = |member: &str, disk: Option<String>, disk_list: Vec<String>| match given(disk, disk_list)? {
            disks if disks.is_empty() => {
                Err(Failure::invalid(format!("{member}: is missing; give the uuid of at least one disk")))
            }
            disks => Ok(disks),
        };
        Ok(match action {
            PoolVerb::Expand => PoolAction::Expand(given(disk, disk_list)?),
            PoolVerb::AddLog => PoolAction::AddLog(some("disk_list", disk, disk_list)?),
            PoolVerb::RemoveLog => PoolAction::RemoveLog,
            PoolVerb::AddCache => PoolAction::AddCache(some("disk", disk, disk_list)?),
            PoolVerb::RemoveCache => PoolAction::RemoveCache,
            PoolVerb::AddSpare => PoolAction::AddSpare(some("disk_list", disk, disk_list)?),
            PoolVerb::RemoveSpare => PoolAction::RemoveSpare(some("disk_list", disk, disk_list)?),
            PoolVerb::Scrub => PoolAction::Scrub,
            PoolVerb::ScrubStop => PoolAction::ScrubStop,
            PoolVerb::Replace => PoolAction::Replace(one("old_disk", old_disk)?, one("new_disk", new_disk)?),
            PoolVerb::Online => PoolAction::Online(one("disk", disk)?),
            PoolVerb::Offline => PoolAction::Offline(one("disk", disk)?),
            PoolVerb::Clear => PoolAction::Clear,
        })
    }
}

fn uuids(member: &str, list: Vec<String>) -> Result<Vec<DiskUuid>, Error> {
    let uuid = |(at, text)| DiskUuid::new(&format!("{member}[{at}]"), text);
    Ok(list.into_iter().enumerate().map(uuid).collect::<Result<_, _>>()?)
}

/// The id of a pool in a path or query.
pub(super) fn pool_id(text: &str) -> Result<PoolId, Error> {
    lookup::id("pool", text)
}

/// List pools
///
/// With `id` or `name` the answer is that one pool in full, or 404.
#[utoipa::path(get, path = "/api/pool", operation_id = "listPools", tag = "pool", params(Lookup),
    responses((status = 200, description = "The pools, or the one asked for", body = PoolAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(lookup): Query<Lookup>,
) -> Result<axum::Json<PoolAnswer>, Failure> {
    let one = |pool: pool::Pool| PoolAnswer::One(Box::new(pool.into()));
    let answer = blocking(&api, move |engine| match lookup.asked()? {
        Asked::Id(id) => engine.pool(pool_id(&id)?).map(one),
        Asked::Name(name) => engine.pool_by_name(&name).map(one),
        Asked::List(()) => {
            let pools: Vec<_> = engine.pools()?.into_iter().map(PoolSummary::from).collect();
            Ok(PoolAnswer::List(PoolList { total: pools.len(), pools }))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Create pool
///
/// Disks are put into groups of a width that the number of disks determines: 15 disks in raid6 are groups of 8
/// and 7. On a system without `multipool` a second pool is refused.
#[utoipa::path(post, path = "/api/pool", operation_id = "createPool", tag = "pool", request_body = NewPool,
    responses((status = 200, description = "The new pool", body = PoolDetail)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Json(body): Json<NewPool>,
) -> Result<axum::Json<PoolDetail>, Failure> {
    let request = body.request()?;
    let pool = blocking(&api, move |engine| engine.create_pool(&caller, request)).await?;
    Ok(axum::Json(pool.into()))
}

/// Get pool details
#[utoipa::path(get, path = "/api/pool/{id}", operation_id = "getPool", tag = "pool",
    params(("id" = Decimal, Path, description = "Id of the pool")),
    responses((status = 200, description = "The pool", body = PoolDetail)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<PoolDetail>, Failure> {
    let pool = blocking(&api, move |engine| engine.pool(pool_id(&id)?)).await?;
    Ok(axum::Json(pool.into()))
}

/// Modify pool properties
///
/// Compression and deduplication apply to what is written from now on.
#[utoipa::path(put, path = "/api/pool/{id}", operation_id = "updatePool", tag = "pool", request_body = PoolProperties,
    params(("id" = Decimal, Path, description = "Id of the pool")),
    responses((status = 200, description = "The pool", body = PoolDetail)))]
pub(super) async fn update(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<PoolProperties>,
) -> Result<axum::Json<PoolDetail>, Failure> {
    let update = PoolUpdate {
        name: body.name.map(Name::new).transpose().map_err(Error::from)?,
        compression: body.compression,
        deduplication: body.deduplication,
        syncwrite: body.syncwrite,
    };
    let pool = blocking(&api, move |engine| engine.update_pool(&caller, pool_id(&id)?, update)).await?;
    Ok(axum::Json(pool.into()))
}

/// Act on a pool
///
/// `expand` adds whole groups of the pool's type; `addlog` adds a log, mirrored when several disks
/// are given; `removelog`; `addcache`, `removecache`; `addspare`, `removespare`. `disk` and `disk_list` are both
/// understood for log, cache and spare.
///
/// `scrub` reads and checks everything in the background, `scrubstop` ends that; `replace` puts
/// `new_disk` in the place of `old_disk` and rebuilds in the background; `offline` and `online` take a disk out of
/// use and back; `clear` resets error counters and resumes a suspended pool. `GET /api/pool/{id}/status` shows how
/// far a scrub or rebuild is.
#[utoipa::path(post, path = "/api/pool/{id}", operation_id = "actOnPool", tag = "pool",
    request_body = PoolActionRequest, params(("id" = Decimal, Path, description = "Id of the pool")),
    responses((status = 200, description = "The pool", body = PoolDetail)))]
pub(super) async fn act(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<PoolActionRequest>,
) -> Result<axum::Json<PoolDetail>, Failure> {
    let action = PoolAction::try_from(body)?;
    let pool = blocking(&api, move |engine| engine.act_on_pool(&caller, pool_id(&id)?, action)).await?;
    Ok(axum::Json(pool.into()))
}

/// How to delete a pool.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PoolDeletion {
    /// Delete it even though it has replication relationships, which end, or snapshots that are held or datasets that this
    /// appliance did not make, which are destroyed. A pool whose disks are absent is only forgotten. `1`, `true`, `0` or
    /// `false`.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    force: Flag,
}

/// Delete pool
///
/// Deletes everything in it too: volumes, snapshots, clones and shares. Its disks are unused afterwards. Refused, with
/// `force` too, while a snapshot in it is locked or the pool is suspended. Without `force` it is also refused when the
/// pool has replication relationships, snapshots that are held or datasets that this appliance did not make, and when its
/// disks are absent. With `force` those relationships end, and what is on the partners stays; those snapshots and datasets
/// are destroyed; and a pool whose disks are absent is only forgotten, and the disks keep what is on them.
#[utoipa::path(delete, path = "/api/pool/{id}", operation_id = "deletePool", tag = "pool",
    params(("id" = Decimal, Path, description = "Id of the pool"), PoolDeletion),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Query(deletion): Query<PoolDeletion>,
) -> Result<axum::Json<Empty>, Failure> {
    let force = deletion.force.0;
    blocking(&api, move |engine| engine.delete_pool(&caller, pool_id(&id)?, force)).await?;
    Ok(axum::Json(Empty {}))
}

/// All pools in short, or one in full.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PoolAnswer {
    List(PoolList),
    One(Box<PoolDetail>),
}
