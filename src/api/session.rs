//! Sessions: one snapshot goes from a volume to its replica (contract section 14).

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    auth::ChangeBy,
    blocking,
    body::Json,
    error::Failure,
    look_up,
    lookup::{self, Asked, Listing},
    relationship::relationship_id,
    wire::Decimal,
};
use crate::{
    error::Error,
    types::{
        Invalid, Name, SessionId, SnapshotId,
        selection::SessionField,
        session::{self, SessionRequest},
    },
};

/// The way of one snapshot to the replica. What is not known, or not yet, is null.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    id: Decimal,
    /// For which relationship.
    rel_id: String,
    /// The snapshot here that is sent.
    #[schema(required)]
    local_snap_id: Option<Decimal>,
    /// The snapshot on the partner, once it is there.
    #[schema(required)]
    remote_snap_id: Option<Decimal>,
    #[schema(required)]
    local_snap_name: Option<String>,
    /// Name of the snapshot on the partner.
    #[schema(required)]
    remote_snap_name: Option<String>,
    /// The partner's address that the data goes to: one of an interface with the service `repl`.
    #[schema(required)]
    repl_address: Option<String>,
    /// Bytes that were sent so far; it grows while the session is `ACTIVE`.
    #[schema(required)]
    size_sent: Option<Decimal>,
    /// `PENDING`: queued. `ACTIVE`: at work. `COMPLETED`: the snapshot is on the partner, under the same guid.
    /// `FAILED`: it came to another end.
    #[schema(pattern = "^(PENDING|ACTIVE|COMPLETED|FAILED)$")]
    status: &'static str,
    time_queued: Decimal,
    /// When it became `ACTIVE`.
    #[schema(required)]
    time_started: Option<Decimal>,
    /// When it came to its end.
    #[schema(required)]
    time_ended: Option<Decimal>,
    /// `ACTIVE`: how far it is, such as `42 %, 12.3 MB/s, 3 min left`; the percentage is missing when the size is not
    /// known. `FAILED`: why.
    #[schema(required)]
    message: Option<String>,
}

impl From<session::Session> for Session {
    fn from(session: session::Session) -> Self {
        Session {
            id: session.id.into(),
            rel_id: session.relationship.into(),
            local_snap_id: session.local_snapshot.map(Decimal::from),
            remote_snap_id: session.remote_snapshot.map(Decimal::from),
            local_snap_name: session.local_name.map(String::from),
            remote_snap_name: session.remote_name.map(String::from),
            repl_address: session.address.map(String::from),
            size_sent: session.sent.map(Decimal::from),
            status: session.status.word(),
            time_queued: session.queued.into(),
            time_started: session.started.map(Decimal::from),
            time_ended: session.ended.map(Decimal::from),
            message: session.message,
        }
    }
}

/// Sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    sessions: Vec<Session>,
    /// How many there are, also of those that `limit` and `offset` leave out.
    total: u64,
}

/// Sessions, or the one asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SessionAnswer {
    List(SessionList),
    One(Box<Session>),
}

/// What is to be sent.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewSession {
    /// A snapshot of the volume here; a new one is made when it is left out.
    snap_id: Option<Decimal>,
    /// Name of the snapshot on the partner; the session fails when the replica has another one of that name. When it is
    /// left out: the name that it has here, with a suffix where that is taken.
    #[schema(min_length = 1, max_length = 256)]
    remote_snap_name: Option<String>,
}

impl TryFrom<NewSession> for SessionRequest {
    type Error = Error;

    fn try_from(body: NewSession) -> Result<Self, Error> {
        let name = |text: String| Name::new(text).map_err(|invalid| Invalid::new("remote_snap_name", invalid.message));
        Ok(SessionRequest {
            snapshot: body.snap_id.map(|id| id.id("snap_id").map(SnapshotId)).transpose()?,
            remote_name: body.remote_snap_name.map(name).transpose()?,
        })
    }
}

/// What to do with a session.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SessionActionRequest {
    /// Must be `cancel`.
    #[allow(dead_code, reason = "there is one action; reading it is the check")]
    action: SessionVerb,
    /// Throw away what the partner has received of the snapshot. Otherwise it is kept, and the next session goes on
    /// there.
    #[serde(default)]
    discard: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SessionVerb {
    Cancel,
}

fn session_id(text: &str) -> Result<SessionId, Error> {
    lookup::id("session", text)
}

/// List sessions
///
/// Those that wait or are at work, and as many of those that are over as `GET /api/system/replication` says. They are
/// listed on the appliance with the primary volume. With `id`, and no other field and no paging, the answer is that
/// one session, or 404.
#[utoipa::path(get, path = "/api/session", operation_id = "listSessions", tag = "session",
    params(Listing<SessionField>),
    responses((status = 200, description = "The sessions, or the one asked for", body = SessionAnswer)))]
pub(super) async fn list(
    State(api): State<Api>,
    Listing(asked): Listing<SessionField>,
) -> Result<axum::Json<SessionAnswer>, Failure> {
    let answer = blocking(&api, move |engine| match asked {
        Asked::Id(id) => engine.session(session_id(&id)?).map(|session| SessionAnswer::One(Box::new(session.into()))),
        Asked::Name(name) => Err(Error::not_found("session", name)),
        Asked::List(page) => {
            let (sessions, total) = engine.sessions(&page.selection)?;
            Ok(SessionAnswer::List(SessionList { sessions: sessions.into_iter().map(Session::from).collect(), total }))
        }
    });
    Ok(axum::Json(answer.await?))
}

/// Start session
///
/// Sends a snapshot of the primary volume to the replica; only on the appliance with the primary. The session is
/// `PENDING` in the answer, and goes on in the background: `GET /api/session/{id}` tells how far it is. A relationship
/// has one session at work at a time; more wait.
///
/// Sends what changed since the newest snapshot that both have, or everything when the replica is empty. A session
/// that broke off goes on where it was.
#[utoipa::path(post, path = "/api/relationship/{id}/session", operation_id = "createSession", tag = "session",
    request_body = NewSession, params(("id" = String, Path, description = "Id of the relationship")),
    responses((status = 200, description = "The new session", body = Session)))]
pub(super) async fn create(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<NewSession>,
) -> Result<axum::Json<Session>, Failure> {
    let request = SessionRequest::try_from(body)?;
    let made = blocking(&api, move |engine| engine.create_session(&caller, &relationship_id(&id)?, request)).await?;
    Ok(axum::Json(made.into()))
}

/// Get session details
#[utoipa::path(get, path = "/api/session/{id}", operation_id = "getSession", tag = "session",
    params(("id" = Decimal, Path, description = "Id of the session")),
    responses((status = 200, description = "The session", body = Session)))]
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<axum::Json<Session>, Failure> {
    let session = look_up(&api, |engine| engine.session(session_id(&id)?))?;
    Ok(axum::Json(session.into()))
}

/// Cancel session
///
/// Ends a session that waits or is at work: it is `FAILED` in the answer, with the message `Canceled`. A session that
/// is over already is an `InvalidStateError`.
#[utoipa::path(post, path = "/api/session/{id}", operation_id = "actOnSession", tag = "session",
    request_body = SessionActionRequest, params(("id" = Decimal, Path, description = "Id of the session")),
    responses((status = 200, description = "The session", body = Session)))]
pub(super) async fn act(
    State(api): State<Api>,
    ChangeBy(caller): ChangeBy,
    Path(id): Path<String>,
    Json(body): Json<SessionActionRequest>,
) -> Result<axum::Json<Session>, Failure> {
    let discard = body.discard;
    let session = blocking(&api, move |engine| engine.cancel_session(&caller, session_id(&id)?, discard)).await?;
    Ok(axum::Json(session.into()))
}
