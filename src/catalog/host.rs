//! Rows of hosts, of their initiators, and of what is mapped to them.

use std::collections::HashMap;

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    Error, Result, RowState, change,
    selection::{clauses, numbers, page},
};
use crate::types::{
    Epoch, HostId, Name, PoolId, VolumeId,
    host::{ChapUser, ChapUsers, Iqn},
    names::DatasetName,
    selection::{HostField, Selection},
    volume::{RelativePath, VolumeType},
};

/// How a host logs in, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChapRow {
    /// Names the file that has the secrets.
    pub key: String,
    /// Who authenticates.
    pub users: ChapUsers,
}

/// A host as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRow {
    /// Its number.
    pub id: HostId,
    /// Its name.
    pub name: Name,
    /// Where it is in its life.
    pub state: RowState,
    /// Its initiators.
    pub iqns: Vec<Iqn>,
    /// With CHAP: how it logs in.
    pub chap: Option<ChapRow>,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

/// A volume that is mapped to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappingRow {
    /// To which.
    pub host: HostId,
    /// What.
    pub volume: VolumeId,
    /// Under which number.
    pub lun: u16,
    /// Where it is in its life.
    pub state: RowState,
}

/// What is behind a mapping that is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The volume.
    pub volume: VolumeId,
    /// Its pool.
    pub pool: PoolId,
    /// Its serial number.
    pub serial: String,
    /// Its zvol, or the filesystem and the file in it.
    pub backing: (DatasetName, Option<RelativePath>),
}

const QUERY: &str =
    "SELECT id, name, state, chap_key, chap_user, chap_mutual_user, time_created, time_updated FROM host";

fn column(field: HostField) -> Option<&'static str> {
    Some(match field {
        HostField::Id => "host.id",
        HostField::Name => "host.name",
        HostField::TimeCreated => "host.time_created",
        HostField::TimeUpdated => "host.time_updated",
    })
}

fn fault(id: HostId, what: &str) -> Error {
    Error::Content(format!("host {id}: {what}"))
}

/// Without the initiators.
fn decode(row: &Row<'_>) -> rusqlite::Result<Result<HostRow>> {
    let id = HostId(row.get(0)?);
    let chap: (Option<String>, Option<String>, Option<String>) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let (name, state): (String, String) = (row.get(1)?, row.get(2)?);
    let (created, updated) = (Epoch(row.get(6)?), Epoch(row.get(7)?));
    let rest = || {
        let user = |text: String| ChapUser::new("chap", &text).map_err(|_| fault(id, "chap user"));
        let chap = match chap {
            (Some(key), Some(name), mutual) => {
                let users = ChapUsers { user: user(name)?, mutual_user: mutual.map(user).transpose()? };
                Some(ChapRow { key, users })
            }
            (None, None, None) => None,
            _ => return Err(fault(id, "chap")),
        };
        Ok(HostRow {
            id,
            name: Name::new(name).map_err(|_| fault(id, "name"))?,
            state: RowState::read(&state)?,
            iqns: Vec::new(),
            chap,
            created,
            updated,
        })
    };
    Ok(rest())
}

fn query(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<HostRow>> {
    let mut statement = view.prepare_cached(&format!("{QUERY} {rest}"))?;
    let rows = statement.query_map(values, decode)?.collect::<rusqlite::Result<Result<Vec<_>>>>()?;
    let mut rows = rows?;
    let mut iqns = match rows.as_slice() {
        // Most often, and without a list to be read.
        [row] => iqns(view, "= ?1", [row.id.0])?,
        rows => iqns(view, "IN (SELECT value FROM json_each(?1))", [numbers(rows.iter().map(|row| row.id.0))])?,
    };
    for row in &mut rows {
        row.iqns = iqns.remove(&row.id).unwrap_or_default();
    }
    Ok(rows)
}

/// Initiators of the hosts whose numbers are as wanted.
fn iqns(view: &Connection, wanted: &str, value: impl rusqlite::Params) -> Result<HashMap<HostId, Vec<Iqn>>> {
    let mut statement =
        view.prepare_cached(&format!("SELECT host_id, iqn FROM host_iqn WHERE host_id {wanted} ORDER BY place"))?;
    let rows = statement.query_map(value, |row| Ok((HostId(row.get(0)?), row.get::<_, String>(1)?)))?;
    let mut iqns: HashMap<HostId, Vec<Iqn>> = HashMap::new();
    for row in rows {
        let (host, text) = row?;
        iqns.entry(host).or_default().push(Iqn::new("iqns", &text).map_err(|_| fault(host, "iqn"))?);
    }
    Ok(iqns)
}

/// Rows that clients may see and want, and how many there are without the page.
pub fn select(view: &Connection, selection: &Selection<HostField>) -> Result<(Vec<HostRow>, u64)> {
    let clauses = clauses(selection, "host.id", column);
    let tables = "host";
    page(view, &clauses, (tables, "host.state <> 'creating'"), |rest, values| query(view, rest, values))
}

/// Every row, in whatever state.
pub fn all(view: &Connection) -> Result<Vec<HostRow>> {
    query(view, "ORDER BY id", [])
}

/// One row.
pub fn find(view: &Connection, id: HostId) -> Result<Option<HostRow>> {
    Ok(query(view, "WHERE id = ?1", [id.0])?.pop())
}

/// The row with this name.
pub fn find_name(view: &Connection, name: &str) -> Result<Option<HostRow>> {
    Ok(query(view, "WHERE name = ?1", [name])?.pop())
}

/// The host that an initiator belongs to.
pub fn owner_of(view: &Connection, iqn: &Iqn) -> Result<Option<HostRow>> {
    Ok(query(view, "WHERE id = (SELECT host_id FROM host_iqn WHERE iqn = ?1)", [iqn.as_str()])?.pop())
}

/// A new row in state `creating`.
pub fn insert(
    transaction: &Transaction<'_>,
    name: &Name,
    iqns: &[Iqn],
    chap: Option<&ChapRow>,
    now: Epoch,
) -> Result<HostId> {
    change(
        transaction,
        "INSERT INTO host (name, state, time_created, time_updated) VALUES (?1, 'creating', ?2, ?2)",
        params![name.as_str(), now.0],
    )?;
    let id = HostId(transaction.last_insert_rowid());
    set_properties(transaction, id, name, iqns, chap)?;
    Ok(id)
}

/// Sets what a client can change.
pub fn set_properties(
    transaction: &Transaction<'_>,
    id: HostId,
    name: &Name,
    iqns: &[Iqn],
    chap: Option<&ChapRow>,
) -> Result<()> {
    change(
        transaction,
        "UPDATE host SET name = ?2, chap_key = ?3, chap_user = ?4, chap_mutual_user = ?5 WHERE id = ?1",
        params![
            id.0,
            name.as_str(),
            chap.map(|chap| &chap.key),
            chap.map(|chap| chap.users.user.as_str()),
            chap.and_then(|chap| chap.users.mutual_user.as_ref()).map(ChapUser::as_str)
        ],
    )?;
    change(transaction, "DELETE FROM host_iqn WHERE host_id = ?1", [id.0])?;
    let mut statement = transaction.prepare_cached("INSERT INTO host_iqn (iqn, host_id, place) VALUES (?1, ?2, ?3)")?;
    for (place, iqn) in iqns.iter().enumerate() {
        statement.execute(params![iqn.as_str(), id.0, i64::try_from(place).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}

/// Moves a row on in its life.
pub fn set_state(transaction: &Transaction<'_>, id: HostId, state: RowState) -> Result<()> {
    change(transaction, "UPDATE host SET state = ?2 WHERE id = ?1", params![id.0, state.word()])?;
    Ok(())
}

/// A client changed it.
pub fn touch(transaction: &Transaction<'_>, id: HostId, now: Epoch) -> Result<()> {
    change(transaction, "UPDATE host SET time_updated = ?2 WHERE id = ?1", params![id.0, now.0])?;
    Ok(())
}

/// The host is gone, and its mappings with it.
pub fn delete(transaction: &Transaction<'_>, id: HostId) -> Result<()> {
    change(transaction, "DELETE FROM host WHERE id = ?1", [id.0])?;
    Ok(())
}

fn mappings(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<MappingRow>> {
    let mut statement = view.prepare_cached(&format!("SELECT host_id, volume_id, lun, state FROM mapping {rest}"))?;
    let rows = statement.query_map(values, |row| {
        let state: String = row.get(3)?;
        Ok((HostId(row.get(0)?), VolumeId(row.get(1)?), row.get::<_, u16>(2)?, state))
    })?;
    rows.map(|row| {
        let (host, volume, lun, state) = row?;
        Ok(MappingRow { host, volume, lun, state: RowState::read(&state)? })
    })
    .collect()
}

/// Every mapping, by host and number.
pub fn all_mappings(view: &Connection) -> Result<Vec<MappingRow>> {
    mappings(view, "ORDER BY host_id, lun", [])
}

/// What is mapped to a host, by number.
pub fn mappings_of_host(view: &Connection, host: HostId) -> Result<Vec<MappingRow>> {
    mappings(view, "WHERE host_id = ?1 ORDER BY lun", [host.0])
}

/// What is mapped to these hosts, by number.
pub fn mappings_of_hosts(view: &Connection, hosts: impl IntoIterator<Item = HostId>) -> Result<Vec<MappingRow>> {
    let hosts = numbers(hosts.into_iter().map(|host| host.0));
    mappings(view, "WHERE host_id IN (SELECT value FROM json_each(?1)) ORDER BY host_id, lun", [hosts])
}

/// To whom these volumes are mapped.
pub fn mappings_of_volumes(view: &Connection, volumes: impl IntoIterator<Item = VolumeId>) -> Result<Vec<MappingRow>> {
    let volumes = numbers(volumes.into_iter().map(|volume| volume.0));
    mappings(view, "WHERE volume_id IN (SELECT value FROM json_each(?1)) ORDER BY host_id, lun", [volumes])
}

/// To whom a volume is mapped.
pub fn mappings_of_volume(view: &Connection, volume: VolumeId) -> Result<Vec<MappingRow>> {
    mappings(view, "WHERE volume_id = ?1 ORDER BY host_id", [volume.0])
}

/// One mapping.
pub fn mapping(view: &Connection, host: HostId, volume: VolumeId) -> Result<Option<MappingRow>> {
    Ok(mappings(view, "WHERE host_id = ?1 AND volume_id = ?2", [host.0, volume.0])?.pop())
}

/// A new mapping in state `creating`.
pub fn insert_mapping(transaction: &Transaction<'_>, host: HostId, volume: VolumeId, lun: u16) -> Result<()> {
    change(
        transaction,
        "INSERT INTO mapping (host_id, volume_id, lun, state) VALUES (?1, ?2, ?3, 'creating')",
        params![host.0, volume.0, lun],
    )?;
    Ok(())
}

/// Moves a mapping on in its life.
pub fn set_mapping_state(transaction: &Transaction<'_>, host: HostId, volume: VolumeId, state: RowState) -> Result<()> {
    change(
        transaction,
        "UPDATE mapping SET state = ?3 WHERE host_id = ?1 AND volume_id = ?2",
        params![host.0, volume.0, state.word()],
    )?;
    Ok(())
}

/// The mapping is gone.
pub fn delete_mapping(transaction: &Transaction<'_>, host: HostId, volume: VolumeId) -> Result<()> {
    change(transaction, "DELETE FROM mapping WHERE host_id = ?1 AND volume_id = ?2", [host.0, volume.0])?;
    Ok(())
}

/// The volumes that hosts are to reach: none that is going, or whose pool or filesystem is.
pub fn exported(view: &Connection) -> Result<Vec<Exported>> {
    let mut statement = view.prepare_cached(
        "SELECT volume.id, volume.pool_id, volume.serial, volume.volume_type, volume.parent_id, volume.parent_path \
         FROM volume JOIN pool ON pool.id = volume.pool_id LEFT JOIN volume AS parent ON parent.id = volume.parent_id \
         WHERE volume.state = 'ready' AND pool.state = 'ready' AND (parent.id IS NULL OR parent.state = 'ready') \
         AND EXISTS (SELECT 1 FROM mapping JOIN host ON host.id = mapping.host_id WHERE mapping.volume_id = volume.id \
         AND mapping.state <> 'deleting' AND host.state <> 'deleting') ORDER BY volume.id",
    )?;
    let rows = statement.query_map([], |row| {
        let (volume, pool) = (VolumeId(row.get(0)?), PoolId(row.get(1)?));
        let (serial, kind): (Option<String>, String) = (row.get(2)?, row.get(3)?);
        let (parent, path): (Option<i64>, Option<String>) = (row.get(4)?, row.get(5)?);
        Ok((volume, pool, serial, kind, parent.map(VolumeId).zip(path)))
    })?;
    rows.map(|row| {
        let (volume, pool, serial, kind, parent) = row?;
        let fault = |what: &str| Error::Content(format!("volume {volume}: {what}"));
        let backing = match parent {
            Some((parent, path)) => {
                let path = RelativePath::new(path).map_err(|_| fault("parent_path"))?;
                (DatasetName::filesystem(pool, parent), Some(path))
            }
            None if kind == VolumeType::Lun.word() => (DatasetName::lun(pool, volume), None),
            None => return Err(fault("a filesystem is mapped")),
        };
        let serial = serial.ok_or_else(|| fault("no serial"))?;
        Ok(Exported { volume, pool, serial, backing })
    })
    .collect()
}
