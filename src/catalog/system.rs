//! The row of the appliance itself.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Error, Result, change};
use crate::types::{Epoch, SystemId, system::InitStatus};

/// The appliance as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemRow {
    /// Its identity, made with the catalog.
    pub id: SystemId,
    /// How far `init` has come.
    pub init_status: InitStatus,
    /// Why it failed.
    pub init_message: Option<String>,
    /// Whether more than one pool is allowed.
    pub multipool: bool,
}

/// The row, when it has been made.
pub fn find(view: &Connection) -> Result<Option<SystemRow>> {
    let columns = view
        .prepare_cached("SELECT id, init_status, init_message, multipool FROM system")?
        .query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((id, status, init_message, multipool)) = columns else { return Ok(None) };
    Ok(Some(SystemRow {
        id: id.parse().map_err(|_| Error::Content(format!("system id {id:?}")))?,
        init_status: InitStatus::from_word(&status).ok_or_else(|| Error::Content(format!("init status {status:?}")))?,
        init_message,
        multipool,
    }))
}

/// Makes the row.
pub fn insert(transaction: &Transaction<'_>, id: &SystemId, now: Epoch) -> Result<()> {
    change(
        transaction,
        "INSERT INTO system (one, id, init_status, multipool, time_created) VALUES (1, ?1, ?2, 0, ?3)",
        params![id.as_str(), InitStatus::NotInitialized.word(), now.0],
    )?;
    Ok(())
}

/// Gives the appliance another identity: that of the pools from which the catalog is rebuilt.
pub fn set_id(transaction: &Transaction<'_>, id: &SystemId) -> Result<()> {
    change(transaction, "UPDATE system SET id = ?1", [id.as_str()])?;
    Ok(())
}

/// The highest id that a table has given; 0 when it has given none.
pub fn given(view: &Connection, table: &str) -> Result<i64> {
    let mut statement = view.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
    Ok(statement.query_row([table], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Makes ids of a table go on after this one.
pub fn set_given(transaction: &Transaction<'_>, table: &str, id: i64) -> Result<()> {
    if change(transaction, "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1", params![table, id])? == 0 {
        change(transaction, "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", params![table, id])?;
    }
    Ok(())
}

/// Makes ids go on `gap` after the highest: after a rebuild nobody knows which ones were given to what is gone.
pub fn leave_gap(transaction: &Transaction<'_>, gap: i64) -> Result<()> {
    change(transaction, "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name <> 'operation'", [gap])?;
    Ok(())
}

/// Sets how far `init` has come.
pub fn set_init(transaction: &Transaction<'_>, status: InitStatus, message: Option<&str>) -> Result<()> {
    change(transaction, "UPDATE system SET init_status = ?1, init_message = ?2", params![status.word(), message])?;
    Ok(())
}

/// Sets whether more than one pool is allowed.
pub fn set_multipool(transaction: &Transaction<'_>, multipool: bool) -> Result<()> {
    change(transaction, "UPDATE system SET multipool = ?1", params![multipool])?;
    Ok(())
}
