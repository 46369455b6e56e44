//! Rows of sessions: the queue, and the history.

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    Error, Result, change,
    selection::{clauses, page},
};
use crate::types::{
    Epoch, Name, RelationshipId, SessionId, SnapshotId,
    partner::Address,
    selection::{Selection, SessionField},
    session::{Session, SessionStatus},
};

/// A session as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// What clients see of it.
    pub session: Session,
    /// ZFS guid of the snapshot that is sent, once it is made.
    pub guid: Option<u64>,
}

const QUERY: &str = "SELECT id, relationship_id, local_snapshot, local_name, local_guid, remote_snapshot, remote_name, \
    address, sent, status, time_queued, time_started, time_ended, message FROM session";

fn column(field: SessionField) -> Option<&'static str> {
    Some(match field {
        SessionField::Id => "id",
        SessionField::RelId => "relationship_id",
        SessionField::LocalSnapId => "local_snapshot",
        SessionField::Status => "status",
        SessionField::TimeQueued => "time_queued",
        SessionField::TimeStarted => "time_started",
        SessionField::TimeEnded => "time_ended",
    })
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Result<SessionRow>> {
    let id: i64 = row.get(0)?;
    let fault = |what: &str| Ok(Err(Error::Content(format!("session {id}: {what}"))));
    let Ok(relationship) = row.get::<_, String>(1)?.parse() else { return fault("relationship_id") };
    let [Ok(local_name), Ok(remote_name)] =
        [row.get::<_, Option<String>>(3)?, row.get(6)?].map(|name| name.map(Name::new).transpose())
    else {
        return fault("name");
    };
    let guid = row.get::<_, Option<String>>(4)?.map(|text| text.parse()).transpose();
    let Ok(guid) = guid else { return fault("local_guid") };
    let address = row.get::<_, Option<String>>(7)?.map(|text| Address::new("address", &text)).transpose();
    let Ok(address) = address else { return fault("address") };
    let Ok(status) = SessionStatus::from_word(&row.get::<_, String>(9)?) else { return fault("status") };
    let session = Session {
        id: SessionId(id),
        relationship,
        local_snapshot: row.get::<_, Option<i64>>(2)?.map(SnapshotId),
        local_name,
        remote_snapshot: row.get::<_, Option<i64>>(5)?.map(SnapshotId),
        remote_name,
        address,
        sent: row.get::<_, Option<i64>>(8)?.map(i64::unsigned_abs),
        status,
        queued: Epoch(row.get(10)?),
        started: row.get::<_, Option<i64>>(11)?.map(Epoch),
        ended: row.get::<_, Option<i64>>(12)?.map(Epoch),
        message: row.get(13)?,
    };
    Ok(Ok(SessionRow { session, guid }))
}

fn query(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<SessionRow>> {
    let mut statement = view.prepare_cached(&format!("{QUERY} {rest}"))?;
    let rows = statement.query_map(values, decode)?.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter().collect()
}

/// Rows that clients want, and how many there are without the page.
pub fn select(view: &Connection, selection: &Selection<SessionField>) -> Result<(Vec<SessionRow>, u64)> {
    let clauses = clauses(selection, "id", column);
    let tables = "session";
    page(view, &clauses, (tables, "1"), |rest, values| query(view, rest, values))
}

/// One row.
pub fn find(view: &Connection, id: SessionId) -> Result<Option<SessionRow>> {
    Ok(query(view, "WHERE id = ?1", [id.0])?.pop())
}

/// Sessions that are not over, the oldest first.
pub fn open(view: &Connection) -> Result<Vec<SessionRow>> {
    query(view, "WHERE status IN ('PENDING', 'ACTIVE') ORDER BY id", [])
}

/// Sessions of a relationship that are not over.
pub fn open_of(view: &Connection, relationship: &RelationshipId) -> Result<Vec<SessionRow>> {
    query(view, "WHERE relationship_id = ?1 AND status IN ('PENDING', 'ACTIVE') ORDER BY id", [relationship.as_str()])
}

/// A new row in the queue.
pub fn insert(
    transaction: &Transaction<'_>,
    relationship: &RelationshipId,
    snapshot: Option<(SnapshotId, &Name, Option<u64>)>,
    remote_name: Option<&Name>,
    now: Epoch,
) -> Result<SessionId> {
    change(
        transaction,
        "INSERT INTO session (relationship_id, local_snapshot, local_name, local_guid, remote_name, status, \
         time_queued) VALUES (?1, ?2, ?3, ?4, ?5, 'PENDING', ?6)",
        params![
            relationship.as_str(),
            snapshot.map(|(id, _, _)| id.0),
            snapshot.map(|(_, name, _)| name.as_str()),
            snapshot.and_then(|(_, _, guid)| guid).map(|guid| guid.to_string()),
            remote_name.map(Name::as_str),
            now.0
        ],
    )?;
    Ok(SessionId(transaction.last_insert_rowid()))
}

/// Writes a session down as it is now; what it is for does not change.
pub fn update(transaction: &Transaction<'_>, row: &SessionRow) -> Result<()> {
    let session = &row.session;
    change(
        transaction,
        "UPDATE session SET remote_snapshot = ?2, remote_name = ?3, address = ?4, sent = ?5, status = ?6, \
         time_started = ?7, time_ended = ?8, message = ?9 WHERE id = ?1",
        params![
            session.id.0,
            session.remote_snapshot.map(|snapshot| snapshot.0),
            session.remote_name.as_ref().map(Name::as_str),
            session.address.as_ref().map(Address::as_str),
            session.sent.map(u64::cast_signed),
            session.status.word(),
            session.started.map(|time| time.0),
            session.ended.map(|time| time.0),
            session.message
        ],
    )?;
    Ok(())
}

/// Forgets the oldest sessions that are over, so that `keep` are left of those.
pub fn prune(transaction: &Transaction<'_>, keep: u64) -> Result<()> {
    change(
        transaction,
        "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE status IN ('COMPLETED', 'FAILED') \
         ORDER BY id DESC LIMIT -1 OFFSET ?1)",
        [keep.cast_signed()],
    )?;
    Ok(())
}
