//! The state of a pool's disks, and how far a scrub or rebuild is. Beyond the contract.

use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, blocking, error::Failure, pool::pool_id, wire::Decimal};
use crate::types::{
    Epoch,
    pool::{Health, PoolReport, Scan, Vdev},
};

/// What ZFS says about a pool and its disks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolStatus {
    id: Decimal,
    name: String,
    /// The word of ZFS; `UNAVAIL` when the pool is not imported.
    status: &'static str,
    /// 100 when `ONLINE`, 50 when `DEGRADED`, else 0.
    health: Decimal,
    /// What is wrong, in the words of ZFS.
    #[schema(required)]
    message: Option<String>,
    /// What ZFS advises.
    #[schema(required)]
    advice: Option<String>,
    /// Blocks or files that are damaged beyond repair.
    data_errors: Decimal,
    /// The scrub or rebuild that is running, or the last one.
    #[schema(required)]
    scan: Option<PoolScan>,
    /// The vdev tree.
    vdevs: Vec<PoolVdev>,
    /// When ZFS was asked.
    time_checked: Decimal,
}

/// A scrub or rebuild.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolScan {
    /// `scrub` or `resilver`.
    function: String,
    /// `scanning`, `finished`, `canceled` or `paused`.
    state: String,
    /// How much is done; `100` only when it is over.
    percent: Decimal,
    /// At the average pace so far; null when it is not running or has just begun.
    #[schema(required)]
    seconds_left: Option<Decimal>,
    /// Bytes to look at.
    size_total: Decimal,
    /// Bytes looked at.
    size_done: Decimal,
    /// Errors found.
    errors: Decimal,
    #[schema(required)]
    time_started: Option<Decimal>,
    #[schema(required)]
    time_ended: Option<Decimal>,
}

/// A disk, or a group of disks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolVdev {
    /// As ZFS calls it.
    name: String,
    /// `disk`, `raidz`, `mirror`, `spare`, `replacing`, ...
    #[serde(rename = "type")]
    kind: String,
    /// `data`, `log`, `cache` or `spare`.
    role: &'static str,
    guid: Decimal,
    /// Path of the disk; null for a group.
    #[schema(required)]
    path: Option<String>,
    /// The word of ZFS: `ONLINE`, `DEGRADED`, `FAULTED`, `OFFLINE`, `REMOVED`, `UNAVAIL`, `AVAIL`, `INUSE`.
    status: &'static str,
    read_errors: Decimal,
    write_errors: Decimal,
    checksum_errors: Decimal,
    /// Why it is not ONLINE, when ZFS says.
    #[schema(required)]
    message: Option<String>,
    /// Its parts.
    #[schema(no_recursion)]
    children: Vec<PoolVdev>,
}

impl PoolVdev {
    fn new(vdev: Vdev, role: &'static str) -> Self {
        PoolVdev {
            name: vdev.name,
            kind: vdev.kind,
            role,
            guid: vdev.guid.into(),
            path: vdev.path,
            status: vdev.state.word(),
            read_errors: vdev.errors.read.into(),
            write_errors: vdev.errors.write.into(),
            checksum_errors: vdev.errors.checksum.into(),
            message: vdev.note,
            children: vdev.children.into_iter().map(|child| PoolVdev::new(child, role)).collect(),
        }
    }
}

impl PoolScan {
    fn new(scan: Scan, now: Epoch) -> Self {
        PoolScan {
            percent: scan.percent().into(),
            seconds_left: scan.seconds_left(now).map(Decimal::from),
            function: scan.function,
            state: scan.state,
            size_total: scan.total_bytes.into(),
            size_done: scan.done_bytes.into(),
            errors: scan.errors.into(),
            time_started: scan.started.map(Decimal::from),
            time_ended: scan.ended.map(Decimal::from),
        }
    }
}

impl From<PoolReport> for PoolStatus {
    fn from(report: PoolReport) -> Self {
        let state = report.status.as_ref().map_or(Health::Unavail, |status| status.state);
        let mut answer = PoolStatus {
            id: report.id.into(),
            name: report.name.into(),
            status: state.word(),
            health: state.percent().into(),
            message: Some("the pool is not imported: its disks are missing or cannot be read".to_owned()),
            advice: Some(
                "check the disks and their cables; if the pool is not there two minutes later, restart vsnapd"
                    .to_owned(),
            ),
            data_errors: 0u8.into(),
            scan: None,
            vdevs: Vec::new(),
            time_checked: report.asked.into(),
        };
        if let Some(status) = report.status {
            let classes =
                [("data", status.data), ("log", status.logs), ("cache", status.caches), ("spare", status.spares)];
            let vdev = |(role, vdevs): (_, Vec<_>)| vdevs.into_iter().map(move |vdev| PoolVdev::new(vdev, role));
            answer.vdevs = classes.into_iter().flat_map(vdev).collect();
            answer.message = status.status;
            answer.advice = status.action;
            answer.data_errors = status.data_errors.into();
            answer.scan = status.scan.map(|scan| PoolScan::new(scan, report.asked));
        }
        answer
    }
}

/// Get pool status
///
/// State and error counters of every disk, and how far a scrub or rebuild is.
#[utoipa::path(get, path = "/api/pool/{id}/status", operation_id = "getPoolStatus", tag = "pool",
    params(("id" = Decimal, Path, description = "Id of the pool")),
    responses((status = 200, description = "The status", body = PoolStatus)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<PoolStatus>, Failure> {
    let report = blocking(&api, move |engine| engine.pool_report(pool_id(&id)?)).await?;
    Ok(axum::Json(report.into()))
}
