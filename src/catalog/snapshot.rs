//! Rows of snapshots and of what holds them.

use std::collections::HashMap;

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    Error, Result, RowState, change,
    selection::{clauses, page},
};
use crate::types::{
    Epoch, Name, PoolId, SnapshotId, VolumeId,
    names::SnapshotName,
    selection::{Selection, SnapshotField},
    snapshot::{Hold, HoldReason, Retention},
    volume::VolumeType,
};

/// A snapshot as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its number.
    pub id: SnapshotId,
    /// Its name.
    pub name: Name,
    /// Where it is in its life.
    pub state: RowState,
    /// Its volume.
    pub volume: VolumeId,
    /// The volume's name.
    pub volume_name: Name,
    /// What its volume is.
    pub volume_type: VolumeType,
    /// Its pool.
    pub pool: PoolId,
    /// The pool's name.
    pub pool_name: Name,
    /// ZFS guid, once it is made.
    pub guid: Option<u64>,
    /// How long it is kept.
    pub retention: Retention,
    /// Whether there are clones of it, also some that are being made or removed.
    pub has_clones: bool,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

impl SnapshotRow {
    /// Its name in ZFS. A file-backed lun has no snapshots.
    pub fn zfs_name(&self) -> Result<SnapshotName> {
        let dataset = self.volume_type.dataset(self.pool, self.volume);
        let dataset = dataset.ok_or_else(|| Error::Content(format!("snapshot {} is of a file-backed lun", self.id)))?;
        Ok(dataset.snapshot(self.id))
    }
}

const QUERY: &str = "SELECT snapshot.id, snapshot.name, snapshot.state, snapshot.volume_id, volume.name, \
    volume.volume_type, volume.pool_id, pool.name, snapshot.guid, snapshot.expires, snapshot.locked, \
    EXISTS (SELECT 1 FROM volume AS clone WHERE clone.snapshot_id = snapshot.id), snapshot.time_created, \
    snapshot.time_updated";
const TABLES: &str = "snapshot JOIN volume ON volume.id = snapshot.volume_id JOIN pool ON pool.id = volume.pool_id";

fn column(field: SnapshotField) -> Option<&'static str> {
    Some(match field {
        SnapshotField::Id => "snapshot.id",
        SnapshotField::Name => "snapshot.name",
        SnapshotField::ParentId => "snapshot.volume_id",
        SnapshotField::ParentName => "volume.name",
        SnapshotField::PoolId => "volume.pool_id",
        SnapshotField::PoolName => "pool.name",
        SnapshotField::HasClones => "EXISTS (SELECT 1 FROM volume AS clone WHERE clone.snapshot_id = snapshot.id)",
        SnapshotField::VersionId => "snapshot.guid",
        SnapshotField::ExpiresAt => "snapshot.expires",
        SnapshotField::Locked => "snapshot.locked",
        SnapshotField::TimeCreated => "snapshot.time_created",
        SnapshotField::TimeUpdated => "snapshot.time_updated",
    })
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Result<SnapshotRow>> {
    let id: i64 = row.get(0)?;
    let fault = |what: &str| Error::Content(format!("snapshot {id}: {what}"));
    let names: [String; 3] = [row.get(1)?, row.get(4)?, row.get(7)?];
    let [Ok(name), Ok(volume_name), Ok(pool_name)] = names.map(Name::new) else { return Ok(Err(fault("name"))) };
    let state = match RowState::read(&row.get::<_, String>(2)?) {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    let Ok(volume_type) = VolumeType::from_word(&row.get::<_, String>(5)?) else {
        return Ok(Err(fault("volume_type")));
    };
    let guid = row.get::<_, Option<String>>(8)?.map(|text| text.parse());
    let Ok(guid) = guid.transpose() else { return Ok(Err(fault("guid"))) };
    Ok(Ok(SnapshotRow {
        id: SnapshotId(id),
        name,
        state,
        volume: VolumeId(row.get(3)?),
        volume_name,
        volume_type,
        pool: PoolId(row.get(6)?),
        pool_name,
        guid,
        retention: Retention { expires: row.get::<_, Option<i64>>(9)?.map(Epoch), locked: row.get(10)? },
        has_clones: row.get(11)?,
        created: Epoch(row.get(12)?),
        updated: Epoch(row.get(13)?),
    }))
}

fn query(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<SnapshotRow>> {
    let mut statement = view.prepare_cached(&format!("{QUERY} FROM {TABLES} {rest}"))?;
    let rows = statement.query_map(values, decode)?.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter().collect()
}

/// Rows that clients may see and want, and how many there are without the page.
pub fn select(view: &Connection, selection: &Selection<SnapshotField>) -> Result<(Vec<SnapshotRow>, u64)> {
    let clauses = clauses(selection, "snapshot.id", column);
    page(view, &clauses, (TABLES, "snapshot.state <> 'creating'"), |rest, values| query(view, rest, values))
}

/// One row.
pub fn find(view: &Connection, id: SnapshotId) -> Result<Option<SnapshotRow>> {
    Ok(query(view, "WHERE snapshot.id = ?1", [id.0])?.pop())
}

/// The rows of these ids, in their order; those that are not there are left out. For ids that were given one after the
/// other: it costs as much as there are rows between the first and the last.
pub fn find_all(view: &Connection, ids: &[SnapshotId]) -> Result<Vec<SnapshotRow>> {
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(Vec::new()) };
    let rows = query(view, "WHERE snapshot.id BETWEEN ?1 AND ?2", [first.0, last.0])?;
    let mut rows: HashMap<SnapshotId, SnapshotRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    Ok(ids.iter().filter_map(|id| rows.remove(id)).collect())
}

/// Rows with this name that clients may see, in all volumes.
pub fn find_name(view: &Connection, name: &str) -> Result<Vec<SnapshotRow>> {
    query(view, "WHERE snapshot.name = ?1 AND snapshot.state <> 'creating' ORDER BY snapshot.id", [name])
}

/// Whether a volume has a snapshot of this name, in whatever state.
pub fn is_taken(view: &Connection, volume: VolumeId, name: &Name) -> Result<bool> {
    let mut statement = view.prepare_cached("SELECT 1 FROM snapshot WHERE volume_id = ?1 AND name = ?2")?;
    Ok(statement.exists(params![volume.0, name.as_str()])?)
}

/// Every row of a volume, the oldest first.
pub fn of_volume(view: &Connection, volume: VolumeId) -> Result<Vec<SnapshotRow>> {
    query(view, "WHERE snapshot.volume_id = ?1 ORDER BY snapshot.id", [volume.0])
}

/// Those of a volume that are there, and when they were made, the oldest first.
pub fn versions(view: &Connection, volume: VolumeId) -> Result<Vec<(SnapshotId, Epoch)>> {
    let mut statement = view
        .prepare_cached("SELECT id, time_created FROM snapshot WHERE volume_id = ?1 AND state = 'ready' ORDER BY id")?;
    let rows = statement.query_map([volume.0], |row| Ok((SnapshotId(row.get(0)?), Epoch(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Rows of a pool that nobody may remove at `now`.
pub fn locked_in_pool(view: &Connection, pool: PoolId, now: Epoch) -> Result<Vec<SnapshotRow>> {
    query(
        view,
        "WHERE volume.pool_id = ?1 AND snapshot.locked AND snapshot.expires > ?2 ORDER BY snapshot.id",
        [pool.0, now.0],
    )
}

/// Snapshots in a pool that are held.
pub fn held_of_pool(view: &Connection, pool: PoolId) -> Result<Vec<SnapshotRow>> {
    let rest = "WHERE volume.pool_id = ?1 AND snapshot.id IN (SELECT snapshot_id FROM hold) ORDER BY snapshot.id";
    query(view, rest, [pool.0])
}

/// Rows whose time is over at `now`.
pub fn expired(view: &Connection, now: Epoch) -> Result<Vec<SnapshotRow>> {
    query(view, "WHERE snapshot.expires <= ?1 AND snapshot.state = 'ready' ORDER BY snapshot.id", [now.0])
}

/// A new row in state `creating`.
pub fn insert(
    transaction: &Transaction<'_>,
    volume: VolumeId,
    name: &Name,
    retention: Retention,
    now: Epoch,
) -> Result<SnapshotId> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO snapshot (name, state, volume_id, expires, locked, time_created, time_updated) \
         VALUES (?1, 'creating', ?2, ?3, ?4, ?5, ?5)",
    )?;
    let expires = retention.expires.map(|time| time.0);
    statement.execute(params![name.as_str(), volume.0, expires, retention.locked, now.0])?;
    Ok(SnapshotId(transaction.last_insert_rowid()))
}

/// The snapshot is there, with this guid, and was made then, where it came from.
pub fn set_ready(transaction: &Transaction<'_>, id: SnapshotId, guid: u64, created: Epoch) -> Result<()> {
    let mut statement = transaction
        .prepare_cached("UPDATE snapshot SET state = 'ready', guid = ?2, time_created = ?3 WHERE id = ?1")?;
    statement.execute(params![id.0, guid.to_string(), created.0])?;
    Ok(())
}

/// What it is called.
pub fn set_name(transaction: &Transaction<'_>, id: SnapshotId, name: &Name) -> Result<()> {
    change(transaction, "UPDATE snapshot SET name = ?2 WHERE id = ?1", params![id.0, name.as_str()])?;
    Ok(())
}

/// Moves a row on (or back) in its life.
pub fn set_state(transaction: &Transaction<'_>, id: SnapshotId, state: RowState) -> Result<()> {
    change(transaction, "UPDATE snapshot SET state = ?2 WHERE id = ?1", params![id.0, state.word()])?;
    Ok(())
}

/// How long it is kept.
pub fn set_retention(transaction: &Transaction<'_>, id: SnapshotId, retention: Retention, now: Epoch) -> Result<()> {
    change(
        transaction,
        "UPDATE snapshot SET expires = ?2, locked = ?3, time_updated = ?4 WHERE id = ?1",
        params![id.0, retention.expires.map(|time| time.0), retention.locked, now.0],
    )?;
    Ok(())
}

/// It belongs to another volume now.
pub fn set_volume(transaction: &Transaction<'_>, id: SnapshotId, volume: VolumeId) -> Result<()> {
    change(transaction, "UPDATE snapshot SET volume_id = ?2 WHERE id = ?1", params![id.0, volume.0])?;
    Ok(())
}

/// The snapshot is gone.
pub fn delete(transaction: &Transaction<'_>, id: SnapshotId) -> Result<()> {
    change(transaction, "DELETE FROM snapshot WHERE id = ?1", [id.0])?;
    Ok(())
}

/// What holds a snapshot.
pub fn holds(view: &Connection, id: SnapshotId) -> Result<Vec<Hold>> {
    let mut statement = view.prepare_cached(
        "SELECT reason, user, time_created FROM hold WHERE snapshot_id = ?1 ORDER BY time_created, reason",
    )?;
    let rows = statement
        .query_map([id.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, Epoch(row.get(2)?))))?;
    rows.map(|row| {
        let (reason, user, created) = row?;
        let reason = HoldReason::new(reason).map_err(|_| Error::Content(format!("snapshot {id}: a hold's reason")))?;
        Ok(Hold { reason, user, created })
    })
    .collect()
}

/// Snapshots of a volume that are held.
pub fn held_of_volume(view: &Connection, volume: VolumeId) -> Result<Vec<SnapshotRow>> {
    let rest = "WHERE snapshot.volume_id = ?1 AND snapshot.id IN (SELECT snapshot_id FROM hold) ORDER BY snapshot.id";
    query(view, rest, [volume.0])
}

/// Someone holds it.
pub fn insert_hold(transaction: &Transaction<'_>, id: SnapshotId, hold: &Hold) -> Result<()> {
    change(
        transaction,
        "INSERT INTO hold (snapshot_id, reason, user, time_created) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![id.0, hold.reason.as_str(), hold.user, hold.created.0],
    )?;
    Ok(())
}

/// That hold is gone.
pub fn delete_hold(transaction: &Transaction<'_>, id: SnapshotId, reason: &HoldReason) -> Result<()> {
    change(transaction, "DELETE FROM hold WHERE snapshot_id = ?1 AND reason = ?2", params![id.0, reason.as_str()])?;
    Ok(())
}

/// Puts a row back as it was, with its id; names of volume and pool are those of their own rows.
pub fn restore(transaction: &Transaction<'_>, row: &SnapshotRow) -> Result<()> {
    change(
        transaction,
        "INSERT INTO snapshot (id, name, state, volume_id, guid, expires, locked, time_created, time_updated) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            row.id.0,
            row.name.as_str(),
            row.state.word(),
            row.volume.0,
            row.guid.map(|guid| guid.to_string()),
            row.retention.expires.map(|time| time.0),
            row.retention.locked,
            row.created.0,
            row.updated.0
        ],
    )?;
    Ok(())
}
