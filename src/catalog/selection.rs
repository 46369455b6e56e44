//! A [`Selection`] as SQL. Names of columns are fixed texts of ours; what clients gave is bound, never pasted.

use rusqlite::{Connection, ParamsFromIter, params_from_iter, types::Value as SqlValue};

use super::Result;
use crate::types::selection::{Selection, Value};

/// `WHERE`, `ORDER BY` and `LIMIT` of a query, with the values to bind.
pub(super) struct Clauses {
    /// Conditions, each with `AND` before it.
    pub conditions: String,
    /// Order and page.
    pub page: String,
    /// Values of the conditions.
    pub values: Vec<SqlValue>,
}

/// `column` gives the SQL expression of a field, or `None` for one that the catalog does not have: such filters and
/// orders are the caller's, and so is the page then. The order always ends with `id`.
pub(super) fn clauses<F: Copy>(
    selection: &Selection<F>,
    id: &str,
    column: impl Fn(F) -> Option<&'static str>,
) -> Clauses {
    let mut clauses = Clauses { conditions: String::new(), page: String::new(), values: Vec::new() };
    let mut complete = true;
    for (field, value) in &selection.filters {
        match column(*field) {
            // IS, because it compares with NULL as well.
            Some(column) => {
                clauses.values.push(sql_value(value));
                clauses.conditions.push_str(&format!(" AND ({column}) IS ?{}", clauses.values.len()));
            }
            None => complete = false,
        }
    }
    let mut order = Vec::new();
    for (field, descending) in &selection.sort {
        match column(*field) {
            Some(column) => order.push(format!("({column}){}", if *descending { " DESC" } else { "" })),
            None => complete = false,
        }
    }
    order.push(id.to_owned());
    clauses.page = format!(" ORDER BY {}", order.join(", "));
    if complete && (selection.limit.is_some() || selection.offset > 0) {
        let limit = selection.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        clauses.page.push_str(&format!(" LIMIT {limit} OFFSET {}", selection.offset));
    }
    clauses
}

/// Numbers as one value to bind: `column IN (SELECT value FROM json_each(?1))` finds what belongs to the rows of an answer,
/// at a cost that grows with the answer and not with the table.
pub(super) fn numbers(ids: impl IntoIterator<Item = i64>) -> String {
    serde_json::Value::from(ids.into_iter().collect::<Vec<i64>>()).to_string()
}

/// The rows of one page, and how many there are without the page. `tables` is what the rows are read from, `visible` which
/// of them anyone may see, and `query` reads rows with these clauses.
pub(super) fn page<R>(
    view: &Connection,
    clauses: &Clauses,
    (tables, visible): (&str, &str),
    query: impl FnOnce(&str, ParamsFromIter<&Vec<SqlValue>>) -> Result<Vec<R>>,
) -> Result<(Vec<R>, u64)> {
    let wanted = format!("WHERE {visible}{}", clauses.conditions);
    let rows = query(&format!("{wanted}{}", clauses.page), params_from_iter(&clauses.values))?;
    if !clauses.page.contains(" LIMIT ") {
        let total = rows.len() as u64;
        return Ok((rows, total));
    }
    let mut count = view.prepare_cached(&format!("SELECT count(*) FROM {tables} {wanted}"))?;
    let total: i64 = count.query_row(params_from_iter(&clauses.values), |row| row.get(0))?;
    Ok((rows, total.unsigned_abs()))
}

fn sql_value(value: &Value) -> SqlValue {
    match value {
        Value::Number(number) => SqlValue::Integer(*number),
        Value::Text(text) => SqlValue::Text(text.clone()),
        Value::Flag(flag) => SqlValue::Integer((*flag).into()),
        Value::Null => SqlValue::Null,
    }
}
