//! Rows of the journal.

use rusqlite::{Connection, Transaction, params};

use super::{Error, Result, change};
use crate::types::{
    Epoch,
    operation::{OperationFilter, OperationReport, OperationState},
};

/// An operation that was begun and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// Its number.
    pub id: i64,
    /// JSON of the operation.
    pub parameters: String,
    /// Why it failed, when it is still to be taken back.
    pub failure: Option<String>,
}

/// What is written when an operation begins.
#[derive(Debug, Clone, Copy)]
pub struct NewOperation<'a> {
    /// What it does.
    pub verb: &'a str,
    /// To what, `pool 1`.
    pub subject: &'a str,
    /// JSON of the operation.
    pub parameters: &'a str,
    /// Who asked.
    pub user: &'a str,
    /// In which request.
    pub request_id: &'a str,
}

/// Begins an operation.
pub fn insert(transaction: &Transaction<'_>, new: NewOperation<'_>, now: Epoch) -> Result<i64> {
    change(
        transaction,
        "INSERT INTO operation (verb, subject, parameters, user, request_id, state, time_started) \
         VALUES (?1, ?2, ?3, ?4, ?5, 'running', ?6)",
        params![new.verb, new.subject, new.parameters, new.user, new.request_id, now.0],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// Ends an operation, with a message when it failed.
pub fn end(transaction: &Transaction<'_>, id: i64, failure: Option<&str>, now: Epoch) -> Result<()> {
    let state = if failure.is_some() { "failed" } else { "done" };
    change(
        transaction,
        "UPDATE operation SET state = ?2, message = ?3, time_ended = ?4 WHERE id = ?1",
        params![id, state, failure, now.0],
    )?;
    Ok(())
}

/// An operation has failed, and is still to be taken back.
pub fn set_failure(transaction: &Transaction<'_>, id: i64, failure: &str) -> Result<()> {
    change(transaction, "UPDATE operation SET message = ?2 WHERE id = ?1 AND state = 'running'", params![id, failure])?;
    Ok(())
}

/// Whether an operation has ended, one way or the other.
pub fn is_ended(view: &Connection, id: i64) -> Result<bool> {
    let mut statement = view.prepare_cached("SELECT state <> 'running' FROM operation WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| row.get(0))?)
}

/// Operations that have not ended, the youngest first: one that was begun by another ends before it.
pub fn unfinished(view: &Connection) -> Result<Vec<OperationRow>> {
    let mut statement =
        view.prepare_cached("SELECT id, parameters, message FROM operation WHERE state = 'running' ORDER BY id DESC")?;
    let rows = statement
        .query_map([], |row| Ok(OperationRow { id: row.get(0)?, parameters: row.get(1)?, failure: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Operations that the filter lets through, the youngest first.
pub fn select(view: &Connection, filter: &OperationFilter) -> Result<Vec<OperationReport>> {
    let mut statement = view.prepare_cached(
        "SELECT id, verb, subject, user, state, message, time_started, time_ended FROM operation \
         WHERE (?1 IS NULL OR subject = ?1) AND (?2 IS NULL OR (state = 'running') = ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![filter.subject, filter.running, limit], |row| {
        let report = |state| -> rusqlite::Result<OperationReport> {
            Ok(OperationReport {
                id: row.get(0)?,
                verb: row.get(1)?,
                subject: row.get(2)?,
                user: row.get(3)?,
                state,
                percent: None,
                message: row.get(5)?,
                started: Epoch(row.get(6)?),
                ended: row.get::<_, Option<i64>>(7)?.map(Epoch),
            })
        };
        let word: String = row.get(4)?;
        let states = [OperationState::Running, OperationState::Done, OperationState::Failed];
        let state = states.into_iter().find(|state| state.word() == word);
        Ok(state.map(report).transpose()?.ok_or(word))
    })?;
    rows.map(|row| row?.map_err(|word| Error::Content(format!("an operation in state {word:?}")))).collect()
}

/// Removes operations that ended before `before`, so that the journal doesn't grow for ever.
pub fn prune(transaction: &Transaction<'_>, before: Epoch) -> Result<usize> {
    Ok(change(transaction, "DELETE FROM operation WHERE state <> 'running' AND time_ended < ?1", [before.0])?)
}
