//! The catalog beside ZFS: what differs, and bringing it back after it was lost. Beyond the contract.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, auth::EarlyChangeBy, blocking, body::Json, error::Failure, wire::Decimal};
use crate::{
    error::Error,
    types::{Invalid, SystemId, report},
};

/// What a comparison of the catalog with ZFS found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Report {
    /// When it was made.
    time: Decimal,
    /// Empty when all is well.
    findings: Vec<Finding>,
    total: usize,
}

/// One thing that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Finding {
    /// `object_without_row`, `row_without_object`, `stranger`, `mismatch`, `expired` or `unreadable`.
    kind: &'static str,
    /// A ZFS name, or such as `volume 3`.
    subject: String,
    /// What was found and what can be done about it.
    message: String,
    /// Bytes at stake, where that is known.
    #[schema(required)]
    size_used: Option<Decimal>,
}

impl From<report::Report> for Report {
    fn from(report: report::Report) -> Self {
        let findings: Vec<Finding> = report
            .findings
            .into_iter()
            .map(|finding| Finding {
                kind: finding.kind.word(),
                subject: finding.subject,
                message: finding.message,
                size_used: finding.bytes.map(Decimal::from),
            })
            .collect();
        Report { time: report.made.into(), total: findings.len(), findings }
    }
}

/// Compare the catalog with ZFS
///
/// Lists objects of this appliance that the catalog does not know, rows without an object, objects of others, sizes and
/// origins that differ, and snapshots past their expiry. Nothing is changed. Upkeep does the same every hour and logs
/// what is new.
#[utoipa::path(get, path = "/api/system/report", operation_id = "getSystemReport", tag = "system",
    responses((status = 200, description = "What was found", body = Report)))]
pub(super) async fn report(State(api): State<Api>) -> Result<axum::Json<Report>, Failure> {
    Ok(axum::Json(blocking(&api, |engine| engine.report()).await?.into()))
}

/// How to rebuild the catalog.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Rebuild {
    /// Of which appliance, by its id, when there are pools of several.
    system_id: Option<String>,
}

/// What was brought back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rebuilt {
    pools: usize,
    volumes: usize,
    snapshots: usize,
    shares: usize,
    /// What could not be brought back, or not as it was, and why.
    skipped: Vec<String>,
}

/// Rebuild the catalog
///
/// For an appliance whose database was lost, and that has not been initialised anew: imports its pools, and brings back
/// the identity of the appliance, shares, and ids, names, parents, clones, holds, locks and times of what is in the
/// pools. New ids begin 1000 after the highest one that was found. `multipool` is on afterwards.
///
/// What was in the database alone does not come back: hosts and their mappings, partners, relationships, sessions and
/// preferences of replication, and services of network interfaces. Replicas are ordinary volumes afterwards, and an
/// interface that was closed to a service offers it again from the moment that the database was lost;
/// `PUT /api/network/{id}` closes it before the rebuild, too.
#[utoipa::path(post, path = "/api/system/rebuild", operation_id = "rebuildCatalog", tag = "system",
    request_body = Rebuild, responses((status = 200, description = "What was brought back", body = Rebuilt)))]
pub(super) async fn rebuild(
    State(api): State<Api>,
    EarlyChangeBy(caller): EarlyChangeBy,
    Json(body): Json<Rebuild>,
) -> Result<axum::Json<Rebuilt>, Failure> {
    let named = |text: String| text.parse::<SystemId>().map_err(|error| Invalid::new("system_id", error.message));
    let system = body.system_id.map(named).transpose().map_err(Error::from)?;
    let rebuilt = blocking(&api, move |engine| engine.rebuild_catalog(&caller, system)).await?;
    Ok(axum::Json(Rebuilt {
        pools: rebuilt.pools,
        volumes: rebuilt.volumes,
        snapshots: rebuilt.snapshots,
        shares: rebuilt.shares,
        skipped: rebuilt.skipped,
    }))
}
