//! iSCSI target ports (contract section 5).

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, blocking, error::Failure};

/// A target port.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Target {
    /// Always `iqn`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Its name.
    wwn: String,
}

/// All target ports.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TargetList {
    targets: Vec<Target>,
    total: usize,
}

/// Get target ports
#[utoipa::path(get, path = "/api/target", operation_id = "listTargets", tag = "target",
    responses((status = 200, description = "The target ports", body = TargetList)))]
pub(super) async fn list(State(api): State<Api>) -> Result<axum::Json<TargetList>, Failure> {
    let targets = blocking(&api, |engine| engine.targets()).await?;
    let targets: Vec<_> = targets.into_iter().map(|target| Target { kind: "iqn", wwn: target.wwn }).collect();
    Ok(axum::Json(TargetList { total: targets.len(), targets }))
}
