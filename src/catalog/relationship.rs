//! Rows of relationships, and of what is on its way to replicas.

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    Error, Result, RowState, change,
    selection::{clauses, page},
};
use crate::types::{
    Epoch, Name, PoolId, RelationshipId, SnapshotId, SystemId, VolumeId,
    relationship::Role,
    selection::{RelationshipField, Selection},
    session::SessionStatus,
    volume::VolumeType,
};

/// A relationship as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationshipRow {
    /// Its identity.
    pub id: RelationshipId,
    /// Where it is in its life.
    pub state: RowState,
    /// What this appliance is in it.
    pub role: Role,
    /// The other appliance.
    pub partner: SystemId,
    /// The volume here.
    pub volume: VolumeId,
    /// Its pool.
    pub pool: PoolId,
    /// Its name.
    pub volume_name: Name,
    /// What it is.
    pub volume_type: VolumeType,
    /// Pool of the volume there; 0 until the partner has said it.
    pub remote_pool: PoolId,
    /// The volume there; 0 until the partner has said it.
    pub remote_volume: VolumeId,
    /// Its name.
    pub remote_name: Name,
    /// How the last session ended.
    pub last_status: Option<SessionStatus>,
    /// Snapshot of the last session.
    pub last_attempt: Option<SnapshotId>,
    /// Snapshot of the last completed session.
    pub last_success: Option<SnapshotId>,
    /// The newest snapshot that both sides had when the replica was last looked at.
    pub base: Option<SnapshotId>,
    /// What was sent since then, and may have arrived.
    pub sending: Option<SnapshotId>,
    /// Made at.
    pub created: Epoch,
    /// Last changed at.
    pub updated: Epoch,
}

/// What a new row needs.
#[derive(Debug, Clone)]
pub struct NewRelationship<'a> {
    /// Its identity.
    pub id: &'a RelationshipId,
    /// What this appliance is in it.
    pub role: Role,
    /// The other appliance.
    pub partner: &'a SystemId,
    /// The volume here.
    pub volume: VolumeId,
    /// Pool and volume there, 0 when they are not known yet.
    pub remote: (PoolId, VolumeId),
    /// Name of the volume there.
    pub remote_name: &'a Name,
}

const QUERY: &str = "SELECT relationship.id, relationship.state, role, partner_id, relationship.volume_id, \
    volume.pool_id, volume.name, volume.volume_type, remote_pool_id, remote_volume_id, remote_name, last_status, \
    last_attempt, last_success, base, sending, relationship.time_created, relationship.time_updated \
    FROM relationship JOIN volume ON volume.id = relationship.volume_id";

fn column(field: RelationshipField) -> Option<&'static str> {
    Some(match field {
        RelationshipField::Id => "relationship.id",
        RelationshipField::VolName => "volume.name",
        RelationshipField::LocalVolId => "relationship.volume_id",
        RelationshipField::LocalPoolId => "volume.pool_id",
        RelationshipField::LocalRole => "role",
        RelationshipField::PartnerId => "partner_id",
        RelationshipField::LastSyncStatus => "last_status",
        RelationshipField::TimeCreated => "relationship.time_created",
        RelationshipField::TimeUpdated => "relationship.time_updated",
    })
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Result<RelationshipRow>> {
    let text: String = row.get(0)?;
    let fault = |what: &str| Ok(Err(Error::Content(format!("relationship {text}: {what}"))));
    let Ok(id) = text.parse() else { return fault("id") };
    let Ok(state) = RowState::read(&row.get::<_, String>(1)?) else { return fault("state") };
    let Ok(role) = Role::from_word(&row.get::<_, String>(2)?) else { return fault("role") };
    let Ok(partner) = row.get::<_, String>(3)?.parse() else { return fault("partner_id") };
    let [Ok(volume_name), Ok(remote_name)] = [row.get::<_, String>(6)?, row.get(10)?].map(Name::new) else {
        return fault("name");
    };
    let Ok(volume_type) = VolumeType::from_word(&row.get::<_, String>(7)?) else { return fault("volume_type") };
    let last_status = row.get::<_, Option<String>>(11)?.map(|word| SessionStatus::from_word(&word)).transpose();
    let Ok(last_status) = last_status else { return fault("last_status") };
    Ok(Ok(RelationshipRow {
        id,
        state,
        role,
        partner,
        volume: VolumeId(row.get(4)?),
        pool: PoolId(row.get(5)?),
        volume_name,
        volume_type,
        remote_pool: PoolId(row.get(8)?),
        remote_volume: VolumeId(row.get(9)?),
        remote_name,
        last_status,
        last_attempt: row.get::<_, Option<i64>>(12)?.map(SnapshotId),
        last_success: row.get::<_, Option<i64>>(13)?.map(SnapshotId),
        base: row.get::<_, Option<i64>>(14)?.map(SnapshotId),
        sending: row.get::<_, Option<i64>>(15)?.map(SnapshotId),
        created: Epoch(row.get(16)?),
        updated: Epoch(row.get(17)?),
    }))
}

fn query(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<RelationshipRow>> {
    let mut statement = view.prepare_cached(&format!("{QUERY} {rest}"))?;
    let rows = statement.query_map(values, decode)?.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter().collect()
}

/// Rows that clients may see and want, and how many there are without the page.
pub fn select(view: &Connection, selection: &Selection<RelationshipField>) -> Result<(Vec<RelationshipRow>, u64)> {
    let clauses = clauses(selection, "relationship.time_created, relationship.id", column);
    let tables = "relationship JOIN volume ON volume.id = relationship.volume_id";
    page(view, &clauses, (tables, "relationship.state <> 'creating'"), |rest, values| query(view, rest, values))
}

/// One row.
pub fn find(view: &Connection, id: &RelationshipId) -> Result<Option<RelationshipRow>> {
    Ok(query(view, "WHERE relationship.id = ?1", [id.as_str()])?.pop())
}

/// Every relationship of a volume, in whatever state.
pub fn of_volume(view: &Connection, volume: VolumeId) -> Result<Vec<RelationshipRow>> {
    query(view, "WHERE relationship.volume_id = ?1 ORDER BY relationship.id", [volume.0])
}

/// Every relationship of the volumes of a pool, in whatever state.
pub fn of_pool(view: &Connection, pool: PoolId) -> Result<Vec<RelationshipRow>> {
    query(view, "WHERE volume.pool_id = ?1 ORDER BY relationship.id", [pool.0])
}

/// Every relationship with a partner, in whatever state.
pub fn of_partner(view: &Connection, partner: &SystemId) -> Result<Vec<RelationshipRow>> {
    query(view, "WHERE partner_id = ?1 ORDER BY relationship.id", [partner.as_str()])
}

/// A new row in state `creating`.
pub fn insert(transaction: &Transaction<'_>, new: &NewRelationship<'_>, now: Epoch) -> Result<()> {
    change(
        transaction,
        "INSERT INTO relationship (id, state, role, partner_id, volume_id, remote_pool_id, remote_volume_id, \
         remote_name, time_created, time_updated) VALUES (?1, 'creating', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
        params![
            new.id.as_str(),
            new.role.word(),
            new.partner.as_str(),
            new.volume.0,
            new.remote.0.0,
            new.remote.1.0,
            new.remote_name.as_str(),
            now.0
        ],
    )?;
    Ok(())
}

/// The other end of it, and that it is ready.
pub fn set_ready(
    transaction: &Transaction<'_>,
    id: &RelationshipId,
    (pool, volume): (PoolId, VolumeId),
    name: &Name,
) -> Result<()> {
    change(
        transaction,
        "UPDATE relationship SET state = 'ready', remote_pool_id = ?2, remote_volume_id = ?3, remote_name = ?4 \
         WHERE id = ?1",
        params![id.as_str(), pool.0, volume.0, name.as_str()],
    )?;
    Ok(())
}

/// Name that the volume there has by now.
pub fn set_remote_name(transaction: &Transaction<'_>, id: &RelationshipId, name: &Name) -> Result<()> {
    change(transaction, "UPDATE relationship SET remote_name = ?2 WHERE id = ?1", params![id.as_str(), name.as_str()])?;
    Ok(())
}

/// Moves a row on (or back) in its life.
pub fn set_state(transaction: &Transaction<'_>, id: &RelationshipId, state: RowState) -> Result<()> {
    change(transaction, "UPDATE relationship SET state = ?2 WHERE id = ?1", params![id.as_str(), state.word()])?;
    Ok(())
}

/// How its last session stands; a completed one is also its last success.
pub fn set_last(
    transaction: &Transaction<'_>,
    id: &RelationshipId,
    status: SessionStatus,
    snapshot: Option<SnapshotId>,
) -> Result<()> {
    let success = snapshot.filter(|_| status == SessionStatus::Completed);
    change(
        transaction,
        "UPDATE relationship SET last_status = ?2, last_attempt = coalesce(?3, last_attempt), \
         last_success = coalesce(?4, last_success) WHERE id = ?1",
        params![id.as_str(), status.word(), snapshot.map(|snapshot| snapshot.0), success.map(|snapshot| snapshot.0)],
    )?;
    Ok(())
}

/// The replica was looked at, or has got a snapshot: the newest that both sides have.
pub fn set_base(transaction: &Transaction<'_>, id: &RelationshipId, base: Option<SnapshotId>) -> Result<()> {
    change(
        transaction,
        "UPDATE relationship SET base = ?2, sending = NULL WHERE id = ?1",
        params![id.as_str(), base.map(|snapshot| snapshot.0)],
    )?;
    Ok(())
}

/// A snapshot is about to be sent.
pub fn set_sending(transaction: &Transaction<'_>, id: &RelationshipId, snapshot: SnapshotId) -> Result<()> {
    change(transaction, "UPDATE relationship SET sending = ?2 WHERE id = ?1", params![id.as_str(), snapshot.0])?;
    Ok(())
}

/// The relationship is gone.
pub fn delete(transaction: &Transaction<'_>, id: &RelationshipId) -> Result<()> {
    change(transaction, "DELETE FROM relationship WHERE id = ?1", [id.as_str()])?;
    Ok(())
}

/// Snapshots that are on their way to a replica, with their guids.
pub fn deliveries(view: &Connection, id: &RelationshipId) -> Result<Vec<(u64, SnapshotId)>> {
    let mut statement =
        view.prepare_cached("SELECT guid, snapshot_id FROM delivery WHERE relationship_id = ?1 ORDER BY snapshot_id")?;
    let rows = statement.query_map([id.as_str()], |row| Ok((row.get::<_, String>(0)?, SnapshotId(row.get(1)?))))?;
    rows.map(|row| {
        let (guid, snapshot) = row?;
        let guid = guid.parse().map_err(|_| Error::Content(format!("delivery to {id}: guid")))?;
        Ok((guid, snapshot))
    })
    .collect()
}

/// Relationships whose replicas have snapshots on their way.
pub fn with_deliveries(view: &Connection) -> Result<Vec<RelationshipId>> {
    let mut statement =
        view.prepare_cached("SELECT DISTINCT relationship_id FROM delivery ORDER BY relationship_id")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let id = |text: String| text.parse().map_err(|_| Error::Content(format!("delivery to {text}: relationship")));
    rows.into_iter().map(id).collect()
}

/// The snapshots that are on their way to any replica.
pub fn all_deliveries(view: &Connection) -> Result<Vec<SnapshotId>> {
    let mut statement = view.prepare_cached("SELECT snapshot_id FROM delivery")?;
    let rows = statement.query_map([], |row| Ok(SnapshotId(row.get(0)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A snapshot is on its way.
pub fn insert_delivery(
    transaction: &Transaction<'_>,
    id: &RelationshipId,
    guid: u64,
    snapshot: SnapshotId,
) -> Result<()> {
    change(
        transaction,
        "INSERT INTO delivery (relationship_id, guid, snapshot_id) VALUES (?1, ?2, ?3)",
        params![id.as_str(), guid.to_string(), snapshot.0],
    )?;
    Ok(())
}

/// It has arrived, or never will.
pub fn delete_delivery(transaction: &Transaction<'_>, id: &RelationshipId, guid: u64) -> Result<()> {
    change(
        transaction,
        "DELETE FROM delivery WHERE relationship_id = ?1 AND guid = ?2",
        params![id.as_str(), guid.to_string()],
    )?;
    Ok(())
}
