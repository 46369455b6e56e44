//! Rows of partners, and the preferences of replication.

use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{
    Error, Result, RowState, change,
    selection::{clauses, page},
};
use crate::types::{
    Epoch, SystemId,
    partner::{Address, PublicKey, ReplicationPreferences},
    selection::{PartnerField, Selection},
};

/// A partner as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerRow {
    /// Identity of the other appliance.
    pub id: SystemId,
    /// Where it is in its life.
    pub state: RowState,
    /// Where it is reached.
    pub address: Address,
    /// Port of its API.
    pub api_port: u16,
    /// Port of its SSH server.
    pub ssh_port: u16,
    /// The key that it logs in with here, once it is known.
    pub public_key: Option<PublicKey>,
    /// The keys by which its SSH server is known.
    pub host_keys: Vec<PublicKey>,
    /// Addresses of its interfaces with service `repl`, as it last told them.
    pub addresses: Vec<IpAddr>,
    /// Most bytes a second that are sent to it.
    pub rate_limit: Option<u64>,
    /// Made at.
    pub created: Epoch,
    /// Last changed at.
    pub updated: Epoch,
}

const QUERY: &str = "SELECT id, state, address, api_port, ssh_port, public_key, host_keys, rate_limit, time_created, \
    time_updated, addresses FROM partner";

fn column(field: PartnerField) -> Option<&'static str> {
    Some(match field {
        PartnerField::Id => "id",
        PartnerField::Address => "address",
        PartnerField::TimeCreated => "time_created",
        PartnerField::TimeUpdated => "time_updated",
    })
}

fn decode(row: &Row<'_>) -> rusqlite::Result<Result<PartnerRow>> {
    let text: String = row.get(0)?;
    let fault = |what: &str| Ok(Err(Error::Content(format!("partner {text}: {what}"))));
    let Ok(id) = text.parse() else { return fault("id") };
    let Ok(state) = RowState::read(&row.get::<_, String>(1)?) else { return fault("state") };
    let Ok(address) = Address::new("address", &row.get::<_, String>(2)?) else { return fault("address") };
    let public_key = row.get::<_, Option<String>>(5)?.map(|key| PublicKey::new(&key)).transpose();
    let Ok(public_key) = public_key else { return fault("public_key") };
    let host_keys = row.get::<_, String>(6)?.lines().map(PublicKey::new).collect::<std::result::Result<_, _>>();
    let Ok(host_keys) = host_keys else { return fault("host_keys") };
    let addresses = row.get::<_, String>(10)?;
    let addresses = addresses.split_terminator(',').map(str::parse).collect::<std::result::Result<_, _>>();
    let Ok(addresses) = addresses else { return fault("addresses") };
    Ok(Ok(PartnerRow {
        id,
        state,
        address,
        api_port: row.get(3)?,
        ssh_port: row.get(4)?,
        public_key,
        host_keys,
        addresses,
        rate_limit: row.get::<_, Option<i64>>(7)?.map(i64::unsigned_abs),
        created: Epoch(row.get(8)?),
        updated: Epoch(row.get(9)?),
    }))
}

fn query(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<PartnerRow>> {
    let mut statement = view.prepare_cached(&format!("{QUERY} {rest}"))?;
    let rows = statement.query_map(values, decode)?.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter().collect()
}

/// Rows that clients may see and want, and how many there are without the page.
pub fn select(view: &Connection, selection: &Selection<PartnerField>) -> Result<(Vec<PartnerRow>, u64)> {
    let clauses = clauses(selection, "id", column);
    let tables = "partner";
    page(view, &clauses, (tables, "state <> 'creating'"), |rest, values| query(view, rest, values))
}

/// One row.
pub fn find(view: &Connection, id: &SystemId) -> Result<Option<PartnerRow>> {
    Ok(query(view, "WHERE id = ?1", [id.as_str()])?.pop())
}

/// Every row, in whatever state.
pub fn all(view: &Connection) -> Result<Vec<PartnerRow>> {
    query(view, "ORDER BY id", [])
}

/// Puts a row in, or in the place of the one that is there.
pub fn put(transaction: &Transaction<'_>, row: &PartnerRow) -> Result<()> {
    let host_keys: Vec<&str> = row.host_keys.iter().map(PublicKey::as_str).collect();
    change(
        transaction,
        "INSERT INTO partner (id, state, address, api_port, ssh_port, public_key, host_keys, rate_limit, time_created, \
         time_updated, addresses) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO UPDATE SET \
         state = ?2, address = ?3, api_port = ?4, ssh_port = ?5, public_key = ?6, host_keys = ?7, rate_limit = ?8, \
         time_created = ?9, time_updated = ?10, addresses = ?11",
        params![
            row.id.as_str(),
            row.state.word(),
            row.address.as_str(),
            row.api_port,
            row.ssh_port,
            row.public_key.as_ref().map(PublicKey::as_str),
            host_keys.join("\n"),
            row.rate_limit.map(u64::cast_signed),
            row.created.0,
            row.updated.0,
            row.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
        ],
    )?;
    Ok(())
}

/// Where a partner takes data, as it has just told.
pub fn set_addresses(transaction: &Transaction<'_>, id: &SystemId, addresses: &[IpAddr]) -> Result<()> {
    let text = addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    change(transaction, "UPDATE partner SET addresses = ?2 WHERE id = ?1", params![id.as_str(), text])?;
    Ok(())
}

/// Moves a row on (or back) in its life.
pub fn set_state(transaction: &Transaction<'_>, id: &SystemId, state: RowState) -> Result<()> {
    change(transaction, "UPDATE partner SET state = ?2 WHERE id = ?1", params![id.as_str(), state.word()])?;
    Ok(())
}

/// The partner is gone.
pub fn delete(transaction: &Transaction<'_>, id: &SystemId) -> Result<()> {
    change(transaction, "DELETE FROM partner WHERE id = ?1", [id.as_str()])?;
    Ok(())
}

const RATE_LIMIT: &str = "replication.rate_limit";
const PARALLEL_SESSIONS: &str = "replication.parallel_sessions";
const SESSION_HISTORY: &str = "replication.session_history";

/// The preferences; what was never set is at its default.
pub fn preferences(view: &Connection) -> Result<ReplicationPreferences> {
    let mut statement = view.prepare_cached("SELECT value FROM preference WHERE name = ?1")?;
    let mut read = |name: &str| -> rusqlite::Result<Option<u64>> {
        Ok(statement.query_row([name], |row| row.get::<_, i64>(0)).optional()?.map(i64::unsigned_abs))
    };
    let default = ReplicationPreferences::default();
    Ok(ReplicationPreferences {
        rate_limit: read(RATE_LIMIT)?,
        parallel_sessions: read(PARALLEL_SESSIONS)?.unwrap_or(default.parallel_sessions),
        session_history: read(SESSION_HISTORY)?.unwrap_or(default.session_history),
    })
}

/// Keeps them.
pub fn set_preferences(transaction: &Transaction<'_>, preferences: &ReplicationPreferences) -> Result<()> {
    change(transaction, "DELETE FROM preference WHERE name = ?1", [RATE_LIMIT])?;
    let values = [
        (RATE_LIMIT, preferences.rate_limit),
        (PARALLEL_SESSIONS, Some(preferences.parallel_sessions)),
        (SESSION_HISTORY, Some(preferences.session_history)),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            change(
                transaction,
                "INSERT INTO preference (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
                params![name, value.cast_signed()],
            )?;
        }
    }
    Ok(())
}
