//! The journal as clients see it: what is being done, and how far it is. Beyond the contract.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Api, blocking, body::Query, error::Failure, wire::Decimal};
use crate::{
    error::Error,
    types::operation::{OperationFilter, OperationReport},
};

/// How many operations are listed when the request does not say, and how many at most.
const LIMITS: (i64, i64) = (100, 1000);

/// A change that the appliance makes, has made, or failed to make.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Operation {
    id: Decimal,
    /// What it does: `create_volume`, `delete_pool`, ...
    verb: String,
    /// To what: `volume 7`, `pool 1`, `system`.
    subject: String,
    /// Who asked for it; `system` for the appliance itself.
    user: String,
    /// `running`, `done` or `failed`.
    #[schema(pattern = "^(running|done|failed)$")]
    state: &'static str,
    /// How much of it is done; null when that cannot be told.
    #[schema(required)]
    percent: Option<Decimal>,
    /// What it is doing, or why it failed.
    #[schema(required)]
    message: Option<String>,
    time_started: Decimal,
    /// Null while it is running.
    #[schema(required)]
    time_ended: Option<Decimal>,
}

impl From<OperationReport> for Operation {
    fn from(report: OperationReport) -> Self {
        Operation {
            id: report.id.into(),
            verb: report.verb,
            subject: report.subject,
            user: report.user,
            state: report.state.word(),
            percent: report.percent.map(Decimal::from),
            message: report.message,
            time_started: report.started.into(),
            time_ended: report.ended.map(Decimal::from),
        }
    }
}

/// Operations, the youngest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationList {
    operations: Vec<Operation>,
    total: usize,
}

/// Which operations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OperationQuery {
    /// Only those on this object, such as `volume 7`.
    subject: Option<String>,
    /// Only those that are `running`, or that have `ended`.
    #[param(inline)]
    state: Option<Phase>,
    /// At most this many, from 1 to 1000; 100 when it is left out.
    #[param(value_type = Option<String>, pattern = "^[0-9]+$")]
    limit: Option<Decimal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Phase {
    Running,
    Ended,
}

impl TryFrom<OperationQuery> for OperationFilter {
    type Error = Error;

    fn try_from(query: OperationQuery) -> Result<Self, Error> {
        let (usual, most) = LIMITS;
        let limit = query.limit.map(|limit| limit.within("limit", 1..=most)).transpose()?.unwrap_or(usual);
        Ok(OperationFilter {
            subject: query.subject,
            running: query.state.map(|phase| phase == Phase::Running),
            limit: limit.unsigned_abs(),
        })
    }
}

/// List operations
///
/// What the appliance is doing and has done, the youngest first; old ones are forgotten. While one is `running` its
/// `percent` and `message` tell how far it is.
#[utoipa::path(get, path = "/api/operation", operation_id = "listOperations", tag = "operation",
    params(OperationQuery), responses((status = 200, description = "The operations", body = OperationList)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query): Query<OperationQuery>,
) -> Result<axum::Json<OperationList>, Failure> {
    let filter = OperationFilter::try_from(query)?;
    let found = blocking(&api, move |engine| engine.operations(&filter)).await?;
    let operations: Vec<_> = found.into_iter().map(Operation::from).collect();
    Ok(axum::Json(OperationList { total: operations.len(), operations }))
}
