//! Rows of pools.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Error, Result, RowState, change};
use crate::types::{
    Epoch, Name, PoolId,
    pool::{PoolOptions, PoolType},
};

/// Paths by group, in the order in which they are shown.
pub type DiskGroups = Vec<(String, Vec<String>)>;

/// A pool as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRow {
    /// Its number.
    pub id: PoolId,
    /// Its name.
    pub name: Name,
    /// Where it is in its life.
    pub state: RowState,
    /// ZFS guid, once it is made.
    pub guid: Option<u64>,
    /// Redundancy.
    pub pool_type: PoolType,
    /// Options last asked for.
    pub options: PoolOptions,
    /// Its disks as last seen.
    pub disks: DiskGroups,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

const COLUMNS: &str = "id, name, state, guid, pool_type, compression, deduplication, syncwrite, disks, \
                       time_created, time_updated";

type Columns = (i64, String, String, Option<String>, String, PoolOptions, String, i64, i64);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    let options = PoolOptions { compression: row.get(5)?, deduplication: row.get(6)?, syncwrite: row.get(7)? };
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        options,
        row.get(8)?,
        row.get(9)?,
        row.get(10)?,
    ))
}

fn decode((id, name, state, guid, pool_type, options, disks, created, updated): Columns) -> Result<PoolRow> {
    let fault = |what: &str| Error::Content(format!("pool {id}: {what}"));
    Ok(PoolRow {
        id: PoolId(id),
        name: Name::new(name).map_err(|_| fault("name"))?,
        state: RowState::read(&state)?,
        guid: guid.map(|text| text.parse().map_err(|_| fault("guid"))).transpose()?,
        pool_type: PoolType::from_word(&pool_type).map_err(|_| fault("pool_type"))?,
        options,
        disks: serde_json::from_str(&disks).map_err(|_| fault("disks"))?,
        created: Epoch(created),
        updated: Epoch(updated),
    })
}

fn groups_text(disks: &DiskGroups) -> Result<String> {
    serde_json::to_string(disks).map_err(|error| Error::Content(error.to_string()))
}

/// Every row, by id.
pub fn all(view: &Connection) -> Result<Vec<PoolRow>> {
    let mut statement = view.prepare_cached(&format!("SELECT {COLUMNS} FROM pool ORDER BY id"))?;
    let rows = statement.query_map([], columns)?.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter().map(decode).collect()
}

/// One row.
pub fn find(view: &Connection, id: PoolId) -> Result<Option<PoolRow>> {
    let mut statement = view.prepare_cached(&format!("SELECT {COLUMNS} FROM pool WHERE id = ?1"))?;
    statement.query_row([id.0], columns).optional()?.map(decode).transpose()
}

/// The row with this name.
pub fn find_name(view: &Connection, name: &str) -> Result<Option<PoolRow>> {
    let mut statement = view.prepare_cached(&format!("SELECT {COLUMNS} FROM pool WHERE name = ?1"))?;
    statement.query_row([name], columns).optional()?.map(decode).transpose()
}

/// A new row in state `creating`.
pub fn insert(
    transaction: &Transaction<'_>,
    name: &Name,
    pool_type: PoolType,
    options: PoolOptions,
    now: Epoch,
) -> Result<PoolId> {
    change(
        transaction,
        "INSERT INTO pool (name, state, pool_type, compression, deduplication, syncwrite, disks, time_created, \
         time_updated) VALUES (?1, 'creating', ?2, ?3, ?4, ?5, '[]', ?6, ?6)",
        params![name.as_str(), pool_type.word(), options.compression, options.deduplication, options.syncwrite, now.0],
    )?;
    Ok(PoolId(transaction.last_insert_rowid()))
}

/// The pool is there, with this guid.
pub fn set_ready(transaction: &Transaction<'_>, id: PoolId, guid: u64) -> Result<()> {
    change(transaction, "UPDATE pool SET state = 'ready', guid = ?2 WHERE id = ?1", params![id.0, guid.to_string()])?;
    Ok(())
}

/// Moves a row on (or back) in its life.
pub fn set_state(transaction: &Transaction<'_>, id: PoolId, state: RowState) -> Result<()> {
    change(transaction, "UPDATE pool SET state = ?2 WHERE id = ?1", params![id.0, state.word()])?;
    Ok(())
}

/// Disks as last seen.
pub fn set_disks(transaction: &Transaction<'_>, id: PoolId, disks: &DiskGroups) -> Result<()> {
    change(transaction, "UPDATE pool SET disks = ?2 WHERE id = ?1", params![id.0, groups_text(disks)?])?;
    Ok(())
}

/// Name and options, changed by a client.
pub fn set_properties(transaction: &Transaction<'_>, id: PoolId, name: &Name, options: PoolOptions) -> Result<()> {
    change(
        transaction,
        "UPDATE pool SET name = ?2, compression = ?3, deduplication = ?4, syncwrite = ?5 WHERE id = ?1",
        params![id.0, name.as_str(), options.compression, options.deduplication, options.syncwrite],
    )?;
    Ok(())
}

/// A client changed the pool now.
pub fn touch(transaction: &Transaction<'_>, id: PoolId, now: Epoch) -> Result<()> {
    change(transaction, "UPDATE pool SET time_updated = ?2 WHERE id = ?1", params![id.0, now.0])?;
    Ok(())
}

/// The pool is gone.
pub fn delete(transaction: &Transaction<'_>, id: PoolId) -> Result<()> {
    change(transaction, "DELETE FROM pool WHERE id = ?1", [id.0])?;
    Ok(())
}

/// Puts a row back as it was, with its id.
pub fn restore(transaction: &Transaction<'_>, row: &PoolRow) -> Result<()> {
    change(
        transaction,
        "INSERT INTO pool (id, name, state, guid, pool_type, compression, deduplication, syncwrite, disks, time_created, \
         time_updated) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            row.id.0,
            row.name.as_str(),
            row.state.word(),
            row.guid.map(|guid| guid.to_string()),
            row.pool_type.word(),
            row.options.compression,
            row.options.deduplication,
            row.options.syncwrite,
            groups_text(&row.disks)?,
            row.created.0,
            row.updated.0
        ],
    )?;
    Ok(())
}
