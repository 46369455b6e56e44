//! Partners, and the preferences of replication (contract section 12). What requests hold is read in
//! `partner_request.rs`.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::{Json, Query},
    error::Failure,
    look_up,
    lookup::{self, Asked, Listing},
    partner_request::{IntroductionOfOther, NewPartner, NewPreferences, PartnerProperties},
    wire::{Decimal, Empty, Flag},
};
use crate::{
    error::Error,
    types::{
        SystemId,
        partner::{self, Introduction, PartnerRequest, PartnerUpdate, PreferencesUpdate},
        selection::PartnerField,
    },
};

/// Another appliance that volumes are replicated to and from.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Partner {
    /// The id of its system.
    id: String,
    /// Its management address.
    address: String,
    /// Port of its API.
    api_port: Decimal,
    /// Port of its SSH server.
    ssh_port: Decimal,
    /// Most bytes a second that are sent to it, over all sessions; null for as many as fit.
    #[schema(required)]
    rate_limit: Option<Decimal>,
    time_created: Decimal,
    time_updated: Decimal,
}

impl From<partner::Partner> for Partner {
    fn from(partner: partner::Partner) -> Self {
        Partner {
            id: partner.id.into(),
            address: partner.address.into(),
            api_port: partner.api_port.into(),
            ssh_port: partner.ssh_port.into(),
            rate_limit: partner.rate_limit.map(Decimal::from),
            time_created: partner.created.into(),
            time_updated: partner.updated.into(),
        }
    }
}

/// Partners.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PartnerList {
    partners: Vec<Partner>,
    /// How many there are, also of those that `limit` and `offset` leave out.
    total: u64,
}

/// Partners, or the one asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PartnerAnswer {
    List(PartnerList),
    One(Partner),
}

/// What this appliance tells of itself. Ports are numbers here, since programs of appliances read it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IntroductionOfThis {
    /// The id of this system.
    id: String,
    /// Its management address.
    address: String,
    /// Port of its API.
    api_port: u16,
    /// Port of its SSH server.
    ssh_port: u16,
    /// The key that it logs in with, as `type base64`.
    public_key: String,
    /// The keys by which its SSH server is known, in the same form.
    host_keys: Vec<String>,
    /// Addresses of its interfaces with service `repl`.
    addresses: Vec<String>,
}

impl From<Introduction> for IntroductionOfThis {
    fn from(own: Introduction) -> Self {
        IntroductionOfThis {
            id: own.id.into(),
            address: own.address.into(),
            api_port: own.api_port,
            ssh_port: own.ssh_port,
            public_key: own.public_key.into(),
            host_keys: own.host_keys.into_iter().map(String::from).collect(),
            addresses: own.addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What holds for all replication.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplicationPreferences {
    /// Most bytes a second that are sent in all; null for as many as fit. Partners have limits of their own, too.
    #[schema(required)]
    rate_limit: Option<Decimal>,
    /// Most sessions that are at work at a time; more wait as `PENDING`.
    parallel_sessions: Decimal,
    /// How many sessions that are over are kept; the oldest are forgotten.
    session_history: Decimal,
}

impl From<partner::ReplicationPreferences> for ReplicationPreferences {
    fn from(preferences: partner::ReplicationPreferences) -> Self {
        ReplicationPreferences {
            rate_limit: preferences.rate_limit.map(Decimal::from),
            parallel_sessions: preferences.parallel_sessions.into(),
            session_history: preferences.session_history.into(),
        }
    }
}

fn partner_id(text: &str) -> Result<SystemId, Error> {
    lookup::id("partner", text)
}

/// List partners
///
/// With `id`, and no other field and no paging, the answer is that one partner, or 404.
#[utoipa::path(get, path = "/api/partner", operation_id = "listPartners", tag = "partner",
    params(Listing<PartnerField>),
    responses((status = 200, description = "The partners, or the one asked for", body = PartnerAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Listing(asked): Listing<PartnerField>,
) -> Result<axum::Json<PartnerAnswer>, Failure> {
    let answer = blocking(&api, move |engine| match asked {
        Asked::Id(id) => engine.partner(&partner_id(&id)?).map(|partner| PartnerAnswer::One(partner.into())),
        Asked::Name(name) => Err(Error::not_found("partner", name)),
        Asked::List(page) => {
            let (partners, total) = engine.partners(&page.selection)?;
            Ok(PartnerAnswer::List(PartnerList { partners: partners.into_iter().map(Partner::from).collect(), total }))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Add partner
///
/// This appliance logs in at the other one, and both tell each other who they are, where they are reached, and which
/// SSH keys prove it. Both have the partner then, or none has. User and password serve that one exchange; they are
/// not kept, logged or shown. From then on only these keys count: a partner whose host key changes is refused.
///
/// A request for a system that is a partner already renews its addresses, ports and keys, on both sides;
/// relationships stay.
#[utoipa::path(post, path = "/api/partner", operation_id = "createPartner", tag = "partner",
    request_body = NewPartner, responses((status = 200, description = "The partner", body = Partner)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Json(body): Json<NewPartner>,
) -> Result<axum::Json<Partner>, Failure> {
    let request = PartnerRequest::try_from(body)?;
    let partner = blocking(&api, move |engine| engine.create_partner(&caller, request)).await?;
    Ok(axum::Json(partner.into()))
}

/// Exchange introductions
///
/// For appliances, not for people: what an appliance sends to the other one while it carries out `POST /api/partner`.
/// Takes what the other one tells of itself, makes it a partner (or renews the one there is), and answers with the
/// same about this appliance.
#[utoipa::path(post, path = "/api/partner/pairing", operation_id = "exchangeIntroductions", tag = "partner",
    request_body = IntroductionOfOther,
    responses((status = 200, description = "What this appliance tells of itself", body = IntroductionOfThis)))]
pub(super) async fn pair(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Json(body): Json<IntroductionOfOther>,
) -> Result<axum::Json<IntroductionOfThis>, Failure> {
    let introduction = Introduction::try_from(body)?;
    let own = blocking(&api, move |engine| engine.accept_introduction(&caller, introduction)).await?;
    Ok(axum::Json(own.into()))
}

/// Get partner details
#[utoipa::path(get, path = "/api/partner/{id}", operation_id = "getPartner", tag = "partner",
    params(("id" = String, Path, description = "Id of the partner's system")),
    responses((status = 200, description = "The partner", body = Partner)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<Partner>, Failure> {
    let partner = look_up(&api, |engine| engine.partner(&partner_id(&id)?))?;
    Ok(axum::Json(partner.into()))
}

/// Update partner
///
/// Sets where it is reached from here, and how fast data is sent to it. What is left out stays as it
/// is. A new limit holds at once, also for sessions that are at work. The partner itself notices nothing; keys are
/// renewed with `POST /api/partner`.
#[utoipa::path(put, path = "/api/partner/{id}", operation_id = "updatePartner", tag = "partner",
    request_body = PartnerProperties, params(("id" = String, Path, description = "Id of the partner's system")),
    responses((status = 200, description = "The partner", body = Partner)))]
pub(super) async fn update(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<PartnerProperties>,
) -> Result<axum::Json<Partner>, Failure> {
    let update = PartnerUpdate::try_from(body)?;
    let partner = blocking(&api, move |engine| engine.update_partner(&caller, &partner_id(&id)?, &update)).await?;
    Ok(axum::Json(partner.into()))
}

/// How to remove a partner.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PartnerRemoval {
    /// Remove it here even though it cannot be reached: there it stays. `1`, `true`, `0` or `false`.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    force: Flag,
}

/// Remove partner
///
/// On both sides. Refused while there are relationships with it. With `force` also when the partner cannot be reached,
/// which otherwise is a `PartnerError`.
#[utoipa::path(delete, path = "/api/partner/{id}", operation_id = "deletePartner", tag = "partner",
    params(("id" = String, Path, description = "Id of the partner's system"), PartnerRemoval),
    responses((status = 200, description = "Done", body = Empty)))]
pub(super) async fn delete(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Query(removal): Query<PartnerRemoval>,
) -> Result<axum::Json<Empty>, Failure> {
    let force = removal.force.0;
    blocking(&api, move |engine| engine.delete_partner(&caller, &partner_id(&id)?, force)).await?;
    Ok(axum::Json(Empty {}))
}

/// Get preferences of replication
///
/// What holds for all partners and sessions.
#[utoipa::path(get, path = "/api/system/replication", operation_id = "getReplicationPreferences", tag = "system",
    responses((status = 200, description = "The preferences", body = ReplicationPreferences)))]
pub(super) async fn preferences(State(api): State<Api>) -> Result<axum::Json<ReplicationPreferences>, Failure> {
    let preferences = look_up(&api, |engine| engine.replication_preferences())?;
    Ok(axum::Json(preferences.into()))
}

/// Update preferences of replication
///
/// What is left out stays as it is. They hold at once: also for sessions that are at work, except that none is
/// stopped when fewer are allowed than there are.
#[utoipa::path(put, path = "/api/system/replication", operation_id = "updateReplicationPreferences", tag = "system",
    request_body = NewPreferences,
    responses((status = 200, description = "The preferences", body = ReplicationPreferences)))]
pub(super) async fn set_preferences(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Json(body): Json<NewPreferences>,
) -> Result<axum::Json<ReplicationPreferences>, Failure> {
    let update = PreferencesUpdate::try_from(body)?;
    let preferences = blocking(&api, move |engine| engine.set_replication_preferences(&caller, &update)).await?;
    Ok(axum::Json(preferences.into()))
}
