//! Rows of shares.

use std::collections::HashMap;

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    Error, Result, RowState, change,
    selection::{clauses, numbers, page},
};
use crate::types::{
    Epoch, PoolId, ShareId, VolumeId,
    selection::{Selection, ShareField},
    share::{AllowedHosts, ShareProperties, ShareType},
};

/// A share as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRow {
    /// Its number.
    pub id: ShareId,
    /// What is shared.
    pub volume: VolumeId,
    /// The pool that has it.
    pub pool: PoolId,
    /// Where it is in its life.
    pub state: RowState,
    /// NFS path or SMB name.
    pub name: String,
    /// What clients say about it.
    pub properties: ShareProperties,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

const QUERY: &str = "SELECT share.id, share.volume_id, volume.pool_id, share.state, share.name, share.share_type, \
    share.read_only, share.allowed_hosts, share.snapshots_visible, share.time_created, share.time_updated \
    FROM share JOIN volume ON volume.id = share.volume_id";

fn column(field: ShareField) -> Option<&'static str> {
    Some(match field {
        ShareField::Id => "share.id",
        ShareField::Name => "share.name",
        ShareField::VolId => "share.volume_id",
        ShareField::ShareType => "share.share_type",
        ShareField::TimeCreated => "share.time_created",
        ShareField::TimeUpdated => "share.time_updated",
    })
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Result<ShareRow>> {
    let id: i64 = row.get(0)?;
    let fault = |what: &str| Ok(Err(Error::Content(format!("share {id}: {what}"))));
    let Ok(state) = RowState::read(&row.get::<_, String>(3)?) else { return fault("state") };
    let Ok(share_type) = ShareType::from_word(&row.get::<_, String>(5)?) else { return fault("share_type") };
    let Ok(allowed_hosts) = AllowedHosts::split(&row.get::<_, String>(7)?) else { return fault("allowed_hosts") };
    Ok(Ok(ShareRow {
        id: ShareId(id),
        volume: VolumeId(row.get(1)?),
        pool: PoolId(row.get(2)?),
        state,
        name: row.get(4)?,
        properties: ShareProperties {
            share_type,
            read_only: row.get(6)?,
            allowed_hosts,
            snapshots_visible: row.get(8)?,
        },
        created: Epoch(row.get(9)?),
        updated: Epoch(row.get(10)?),
    }))
}

fn query(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<ShareRow>> {
    let mut statement = view.prepare_cached(&format!("{QUERY} {rest}"))?;
    let rows = statement.query_map(values, decode)?.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter().collect()
}

/// Rows that clients may see and want, and how many there are without the page.
pub fn select(view: &Connection, selection: &Selection<ShareField>) -> Result<(Vec<ShareRow>, u64)> {
    let clauses = clauses(selection, "share.id", column);
    let tables = "share JOIN volume ON volume.id = share.volume_id";
    page(view, &clauses, (tables, "share.state <> 'creating'"), |rest, values| query(view, rest, values))
}

/// One row.
pub fn find(view: &Connection, id: ShareId) -> Result<Option<ShareRow>> {
    Ok(query(view, "WHERE share.id = ?1", [id.0])?.pop())
}

/// The row with this name.
pub fn find_name(view: &Connection, name: &str) -> Result<Option<ShareRow>> {
    Ok(query(view, "WHERE share.name = ?1", [name])?.pop())
}

/// The share of a volume, in whatever state.
pub fn of_volume(view: &Connection, volume: VolumeId) -> Result<Option<ShareRow>> {
    Ok(query(view, "WHERE share.volume_id = ?1", [volume.0])?.pop())
}

/// Those that are to be reached: of volumes and pools that are not being deleted.
const EXPORTED: &str = "JOIN pool ON pool.id = volume.pool_id \
                        WHERE share.state <> 'deleting' AND volume.state = 'ready' AND pool.state = 'ready'";

/// The shares that are to be reached, by id.
pub fn exported(view: &Connection, share_type: ShareType) -> Result<Vec<ShareRow>> {
    query(view, &format!("{EXPORTED} AND share.share_type = ?1 ORDER BY share.id"), [share_type.word()])
}

/// The same of one volume.
pub fn exported_of_volume(view: &Connection, volume: VolumeId) -> Result<Option<ShareRow>> {
    Ok(query(view, &format!("{EXPORTED} AND share.volume_id = ?1"), [volume.0])?.pop())
}

/// Every row of a pool, by id.
pub fn of_pool(view: &Connection, pool: PoolId) -> Result<Vec<ShareRow>> {
    query(view, "WHERE volume.pool_id = ?1 ORDER BY share.id", [pool.0])
}

/// The share of each volume that has one that clients may see.
pub fn by_volume(view: &Connection, volumes: impl IntoIterator<Item = VolumeId>) -> Result<HashMap<VolumeId, ShareId>> {
    let volumes = numbers(volumes.into_iter().map(|volume| volume.0));
    let mut statement = view.prepare_cached(
        "SELECT volume_id, id FROM share \
         WHERE volume_id IN (SELECT value FROM json_each(?1)) AND state <> 'creating'",
    )?;
    let rows = statement.query_map([volumes], |row| Ok((VolumeId(row.get(0)?), ShareId(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A new row in state `creating`.
pub fn insert(
    transaction: &Transaction<'_>,
    volume: VolumeId,
    name: &str,
    properties: &ShareProperties,
    now: Epoch,
) -> Result<ShareId> {
    change(
        transaction,
        "INSERT INTO share (volume_id, state, name, share_type, read_only, allowed_hosts, snapshots_visible, \
         time_created, time_updated) VALUES (?1, 'creating', ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
        params![
            volume.0,
            name,
            properties.share_type.word(),
            properties.read_only,
            properties.allowed_hosts.joined(),
            properties.snapshots_visible,
            now.0
        ],
    )?;
    Ok(ShareId(transaction.last_insert_rowid()))
}

/// Moves a row on (or back) in its life.
pub fn set_state(transaction: &Transaction<'_>, id: ShareId, state: RowState) -> Result<()> {
    change(transaction, "UPDATE share SET state = ?2 WHERE id = ?1", params![id.0, state.word()])?;
    Ok(())
}

/// The share of a volume that was to go, but stays.
pub fn revive(transaction: &Transaction<'_>, volume: VolumeId) -> Result<()> {
    change(transaction, "UPDATE share SET state = 'ready' WHERE volume_id = ?1 AND state = 'deleting'", [volume.0])?;
    Ok(())
}

/// What a client says about it, and the name that follows from that.
pub fn set_properties(
    transaction: &Transaction<'_>,
    id: ShareId,
    name: &str,
    properties: &ShareProperties,
) -> Result<()> {
    change(
        transaction,
        "UPDATE share SET name = ?2, share_type = ?3, read_only = ?4, allowed_hosts = ?5, snapshots_visible = ?6 \
         WHERE id = ?1",
        params![
            id.0,
            name,
            properties.share_type.word(),
            properties.read_only,
            properties.allowed_hosts.joined(),
            properties.snapshots_visible
        ],
    )?;
    Ok(())
}

/// A client changed the share now.
pub fn touch(transaction: &Transaction<'_>, id: ShareId, now: Epoch) -> Result<()> {
    change(transaction, "UPDATE share SET time_updated = ?2 WHERE id = ?1", params![id.0, now.0])?;
    Ok(())
}

/// The share is gone.
pub fn delete(transaction: &Transaction<'_>, id: ShareId) -> Result<()> {
    change(transaction, "DELETE FROM share WHERE id = ?1", [id.0])?;
    Ok(())
}

/// Puts a row back as it was, with its id.
pub fn restore(transaction: &Transaction<'_>, row: &ShareRow) -> Result<()> {
    change(
        transaction,
        "INSERT INTO share (id, volume_id, state, name, share_type, read_only, allowed_hosts, snapshots_visible, \
         time_created, time_updated) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            row.id.0,
            row.volume.0,
            row.state.word(),
            row.name,
            row.properties.share_type.word(),
            row.properties.read_only,
            row.properties.allowed_hosts.joined(),
            row.properties.snapshots_visible,
            row.created.0,
            row.updated.0
        ],
    )?;
    Ok(())
}
