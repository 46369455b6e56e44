//! Services of network interfaces. An interface that offers everything has no row.

use rusqlite::{Connection, Transaction, params};

use super::{Error, Result, change};
use crate::types::{Epoch, network::Services};

/// An interface that does not offer everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRow {
    /// Id of the interface, made of its MAC.
    pub id: String,
    /// Its name when it was last seen.
    pub name: String,
    /// What it offers.
    pub services: Services,
}

/// All rows, also of interfaces that are not there.
pub fn all(view: &Connection) -> Result<Vec<NetworkRow>> {
    let mut statement = view.prepare_cached("SELECT id, name, services FROM network ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
    rows.map(|row| {
        let (id, name, words) = row?;
        let services = Services::read(&words.split(',').collect::<Vec<_>>())
            .map_err(|_| Error::Content(format!("services {words:?} of network interface {id}")))?;
        Ok(NetworkRow { id, name, services })
    })
    .collect()
}

/// Sets what an interface offers.
pub fn set(transaction: &Transaction<'_>, id: &str, name: &str, services: &Services, now: Epoch) -> Result<()> {
    if services.is_all() {
        change(transaction, "DELETE FROM network WHERE id = ?1", [id])?;
        return Ok(());
    }
    change(
        transaction,
        "INSERT INTO network (id, name, services, time_updated) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET name = ?2, services = ?3, time_updated = ?4",
        params![id, name, services.words().join(","), now.0],
    )?;
    Ok(())
}

/// Notes under which name an interface is there now.
pub fn set_name(transaction: &Transaction<'_>, id: &str, name: &str) -> Result<()> {
    change(transaction, "UPDATE network SET name = ?2 WHERE id = ?1", [id, name])?;
    Ok(())
}
