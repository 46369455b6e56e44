//! SQLite rows and queries, nothing else. Rules live in [`crate::engine`].
//!
//! The file is in WAL mode with `synchronous=FULL`, so that what was committed survives a power cut. There is one
//! writing connection; readers have their own and never wait for it.

pub mod host;
pub mod network;
pub mod operation;
pub mod partner;
pub mod pool;
pub mod relationship;
mod selection;
pub mod session;
pub mod share;
pub mod snapshot;
mod state;
pub mod system;
pub mod volume;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

pub use state::RowState;

use rusqlite::{Connection, OpenFlags, Params, Transaction, TransactionBehavior, config::DbConfig};

mod schema {
    refinery::embed_migrations!("migrations");
}

/// The catalog failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite failed.
    #[error("the catalog failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The schema could not be brought up to date.
    #[error("the catalog's schema could not be brought up to date: {0}")]
    Migration(#[from] refinery::Error),
    /// A row holds what this version can't read.
    #[error("the catalog has a row that can't be read: {0}")]
    Content(String),
}

/// Result of everything in this layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Called before and after every commit. For crash tests, which stop the process there.
pub type Probe = Box<dyn Fn() + Send + Sync>;

/// The catalog of one appliance.
pub struct Catalog {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    probe: OnceLock<Probe>,
}

impl Catalog {
    /// Opens or makes the catalog at `path`, readable by its owner only, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self> {
        let mut writer = connect(path)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        schema::migrations::runner().run(&mut writer)?;
        Ok(Catalog {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            probe: OnceLock::new(),
        })
    }

    /// Sets the probe. Only the first call counts.
    pub fn set_probe(&self, probe: Probe) {
        let _ = self.probe.set(probe);
    }

    /// Runs `change` in one transaction and commits it, unless it fails.
    pub fn write<T, E: From<Error>>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Error::from)?;
        let value = change(&transaction)?;
        self.pass();
        transaction.commit().map_err(Error::from)?;
        self.pass();
        Ok(value)
    }

    /// Runs `query` on a consistent view.
    pub fn read<T, E: From<Error>>(&self, query: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let idle = lock(&self.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => connect(&self.path)?,
        };
        // Of statements that stay prepared: a `Transaction` has them planned anew each time.
        let run = |statement| reader.prepare_cached(statement)?.execute([]);
        run("BEGIN").map_err(Error::from)?;
        let value = query(&reader);
        // SQLite ends the view itself when it fails badly, and `value` tells of what. A reader that can't end its own is
        // closed.
        if reader.is_autocommit() || run("ROLLBACK").is_ok() {
            lock(&self.readers).push(reader);
        }
        value
    }

    fn pass(&self) {
        if let Some(probe) = self.probe.get() {
            probe();
        }
    }
}

/// Statements that a connection keeps prepared: more than a daemon's usual work has.
const STATEMENTS: usize = 100;

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Else SQLite plans a statement anew each time that another value is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Runs a statement that stays prepared, and tells how many rows it changed.
fn change(transaction: &Transaction<'_>, statement: &str, values: impl Params) -> rusqlite::Result<usize> {
    transaction.prepare_cached(statement)?.execute(values)
}

/// A panic while the lock was held rolled its transaction back, so the connection is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_change_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let result: Result<()> = catalog.write(|transaction| {
            system::insert(transaction, &crate::types::SystemId::random(), crate::types::Epoch(1))?;
            Err(Error::Content("no".into()))
        });
        assert!(result.is_err());
        assert!(catalog.read(system::find).unwrap().is_none());
    }

    #[test]
    fn committed_rows_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        let id = crate::types::SystemId::random();
        let catalog = Catalog::open(&path).unwrap();
        catalog.write(|transaction| system::insert(transaction, &id, crate::types::Epoch(1))).unwrap();
        drop(catalog);
        assert_eq!(Catalog::open(&path).unwrap().read(system::find).unwrap().unwrap().id, id);
    }
}
