//! Rows of volumes.

use rusqlite::{Connection, Row, Transaction, params};

use super::{
    Error, Result, RowState, change,
    selection::{clauses, page},
};
use crate::types::{
    Epoch, Name, PoolId, SnapshotId, VolumeId,
    selection::{Selection, VolumeField},
    volume::{BlockSize, RelativePath, VolumeOptions, VolumeType},
};

/// A volume as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// Its number.
    pub id: VolumeId,
    /// Its name.
    pub name: Name,
    /// Where it is in its life.
    pub state: RowState,
    /// Its pool.
    pub pool: PoolId,
    /// The pool's name.
    pub pool_name: Name,
    /// What it is.
    pub volume_type: VolumeType,
    /// ZFS guid, once it is made.
    pub guid: Option<u64>,
    /// Serial number of a lun.
    pub serial: Option<String>,
    /// Filesystem and path of a file-backed lun.
    pub parent: Option<(VolumeId, RelativePath)>,
    /// Snapshot that it is a clone of.
    pub origin: Option<SnapshotId>,
    /// Limit of a filesystem, size of a lun; in bytes.
    pub size: Option<u64>,
    /// Block size of a lun.
    pub block: Option<BlockSize>,
    /// Options; `None` follows the pool.
    pub options: VolumeOptions,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

/// What is written for a new volume.
#[derive(Debug, Clone)]
pub struct NewVolume<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its pool.
    pub pool: PoolId,
    /// What it is.
    pub volume_type: VolumeType,
    /// Serial number of a lun.
    pub serial: Option<String>,
    /// Filesystem and path of a file-backed lun.
    pub parent: Option<(VolumeId, &'a RelativePath)>,
    /// Snapshot that it is a clone of.
    pub origin: Option<SnapshotId>,
    /// Limit or size in bytes.
    pub size: Option<u64>,
    /// Block size of a lun.
    pub block: Option<BlockSize>,
    /// Options.
    pub options: VolumeOptions,
}

const QUERY: &str = "SELECT volume.id, volume.name, volume.state, volume.pool_id, pool.name, volume.volume_type, \
    volume.guid, volume.serial, volume.parent_id, volume.parent_path, volume.snapshot_id, volume.size_total, \
    volume.size_block, volume.compression, volume.deduplication, volume.syncwrite, volume.time_created, \
    volume.time_updated FROM volume JOIN pool ON pool.id = volume.pool_id";

/// Where a field is kept; sizes of the moment are not.
fn column(field: VolumeField) -> Option<&'static str> {
    Some(match field {
        VolumeField::Id => "volume.id",
        VolumeField::Name => "volume.name",
        VolumeField::VolumeType => "volume.volume_type",
        VolumeField::IsClone => "volume.snapshot_id IS NOT NULL",
        VolumeField::Serial => "volume.serial",
        VolumeField::PoolId => "volume.pool_id",
        VolumeField::PoolName => "pool.name",
        VolumeField::SizeTotal => "volume.size_total",
        VolumeField::SizeBlock => "volume.size_block",
        VolumeField::ParentId => "volume.parent_id",
        VolumeField::ParentPath => "volume.parent_path",
        VolumeField::SnapshotId => "volume.snapshot_id",
        VolumeField::TimeCreated => "volume.time_created",
        VolumeField::TimeUpdated => "volume.time_updated",
        VolumeField::SizeFree | VolumeField::SizeUsed => return None,
    })
}

/// The fields that are not in the catalog.
pub const SIZES_OF_THE_MOMENT: &[VolumeField] = &[VolumeField::SizeFree, VolumeField::SizeUsed];

fn decode(row: &Row<'_>) -> rusqlite::Result<Result<VolumeRow>> {
    let id: i64 = row.get(0)?;
    let fault = |what: &str| Ok(Err(Error::Content(format!("volume {id}: {what}"))));
    let [Ok(name), Ok(pool_name)] = [row.get::<_, String>(1)?, row.get(4)?].map(Name::new) else {
        return fault("name");
    };
    let Ok(state) = RowState::read(&row.get::<_, String>(2)?) else { return fault("state") };
    let Ok(volume_type) = VolumeType::from_word(&row.get::<_, String>(5)?) else { return fault("volume_type") };
    let guid = row.get::<_, Option<String>>(6)?.map(|text| text.parse()).transpose();
    let Ok(guid) = guid else { return fault("guid") };
    let path = row.get::<_, Option<String>>(9)?.map(RelativePath::new).transpose();
    let Ok(path) = path else { return fault("parent_path") };
    let block = row.get::<_, Option<u32>>(12)?.map(|bytes| BlockSize::new(bytes.into())).transpose();
    let Ok(block) = block else { return fault("size_block") };
    Ok(Ok(VolumeRow {
        id: VolumeId(id),
        name,
        state,
        pool: PoolId(row.get(3)?),
        pool_name,
        volume_type,
        guid,
        serial: row.get(7)?,
        parent: row.get::<_, Option<i64>>(8)?.map(VolumeId).zip(path),
        origin: row.get::<_, Option<i64>>(10)?.map(SnapshotId),
        size: row.get::<_, Option<i64>>(11)?.map(i64::unsigned_abs),
        block,
        options: VolumeOptions { compression: row.get(13)?, deduplication: row.get(14)?, syncwrite: row.get(15)? },
        created: Epoch(row.get(16)?),
        updated: Epoch(row.get(17)?),
    }))
}

fn query(view: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<VolumeRow>> {
    let mut statement = view.prepare_cached(&format!("{QUERY} {rest}"))?;
    let rows = statement.query_map(values, decode)?.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter().collect()
}

/// Rows that clients may see and want, and how many there are without the page. Filters and orders by
/// [`SIZES_OF_THE_MOMENT`] are the caller's, and so is the page then.
pub fn select(view: &Connection, selection: &Selection<VolumeField>) -> Result<(Vec<VolumeRow>, u64)> {
    let clauses = clauses(selection, "volume.id", column);
    let tables = "volume JOIN pool ON pool.id = volume.pool_id";
    page(view, &clauses, (tables, "volume.state <> 'creating'"), |rest, values| query(view, rest, values))
}

/// One row.
pub fn find(view: &Connection, id: VolumeId) -> Result<Option<VolumeRow>> {
    Ok(query(view, "WHERE volume.id = ?1", [id.0])?.pop())
}

/// The row with this name.
pub fn find_name(view: &Connection, name: &str) -> Result<Option<VolumeRow>> {
    Ok(query(view, "WHERE volume.name = ?1", [name])?.pop())
}

/// Every row of a pool, by id.
pub fn of_pool(view: &Connection, pool: PoolId) -> Result<Vec<VolumeRow>> {
    query(view, "WHERE volume.pool_id = ?1 ORDER BY volume.id", [pool.0])
}

/// Clones of a snapshot, also those that are being made or removed.
pub fn clones(view: &Connection, snapshot: SnapshotId) -> Result<Vec<VolumeRow>> {
    query(view, "WHERE volume.snapshot_id = ?1 ORDER BY volume.id", [snapshot.0])
}

/// Clones of any snapshot of a volume.
pub fn clones_of_volume(view: &Connection, volume: VolumeId) -> Result<Vec<VolumeRow>> {
    let rest = "WHERE volume.snapshot_id IN (SELECT id FROM snapshot WHERE volume_id = ?1) ORDER BY volume.id";
    query(view, rest, [volume.0])
}

/// File-backed luns whose files are in a volume.
pub fn files_on(view: &Connection, volume: VolumeId) -> Result<Vec<VolumeRow>> {
    query(view, "WHERE volume.parent_id = ?1 ORDER BY volume.id", [volume.0])
}

fn signed(bytes: Option<u64>) -> Option<i64> {
    bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// A new row in state `creating`.
pub fn insert(transaction: &Transaction<'_>, new: &NewVolume<'_>, now: Epoch) -> Result<VolumeId> {
    change(
        transaction,
        "INSERT INTO volume (name, state, pool_id, volume_type, serial, parent_id, parent_path, snapshot_id, \
         size_total, size_block, compression, deduplication, syncwrite, time_created, time_updated) \
         VALUES (?1, 'creating', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)",
        params![
            new.name.as_str(),
            new.pool.0,
            new.volume_type.word(),
            new.serial,
            new.parent.map(|(parent, _)| parent.0),
            new.parent.map(|(_, path)| path.as_str()),
            new.origin.map(|origin| origin.0),
            signed(new.size),
            new.block.map(BlockSize::bytes),
            new.options.compression,
            new.options.deduplication,
            new.options.syncwrite,
            now.0
        ],
    )?;
    Ok(VolumeId(transaction.last_insert_rowid()))
}

/// The volume is there, with this guid and size.
pub fn set_ready(transaction: &Transaction<'_>, id: VolumeId, guid: Option<u64>, size: Option<u64>) -> Result<()> {
    change(
        transaction,
        "UPDATE volume SET state = 'ready', guid = ?2, size_total = ?3 WHERE id = ?1",
        params![id.0, guid.map(|guid| guid.to_string()), signed(size)],
    )?;
    Ok(())
}

/// Moves a row on (or back) in its life.
pub fn set_state(transaction: &Transaction<'_>, id: VolumeId, state: RowState) -> Result<()> {
    change(transaction, "UPDATE volume SET state = ?2 WHERE id = ?1", params![id.0, state.word()])?;
    Ok(())
}

/// Its size or limit, as it came with a stream.
pub fn set_size(transaction: &Transaction<'_>, id: VolumeId, size: Option<u64>) -> Result<()> {
    change(transaction, "UPDATE volume SET size_total = ?2 WHERE id = ?1", params![id.0, signed(size)])?;
    Ok(())
}

/// Name, size and options, changed by a client.
pub fn set_properties(
    transaction: &Transaction<'_>,
    id: VolumeId,
    name: &Name,
    size: Option<u64>,
    options: VolumeOptions,
) -> Result<()> {
    change(
        transaction,
        "UPDATE volume SET name = ?2, size_total = ?3, compression = ?4, deduplication = ?5, syncwrite = ?6 \
         WHERE id = ?1",
        params![id.0, name.as_str(), signed(size), options.compression, options.deduplication, options.syncwrite],
    )?;
    Ok(())
}

/// What a volume is a clone of, now.
pub fn set_origin(transaction: &Transaction<'_>, id: VolumeId, origin: Option<SnapshotId>) -> Result<()> {
    change(
        transaction,
        "UPDATE volume SET snapshot_id = ?2 WHERE id = ?1",
        params![id.0, origin.map(|origin| origin.0)],
    )?;
    Ok(())
}

/// A client changed the volume now.
pub fn touch(transaction: &Transaction<'_>, id: VolumeId, now: Epoch) -> Result<()> {
    change(transaction, "UPDATE volume SET time_updated = ?2 WHERE id = ?1", params![id.0, now.0])?;
    Ok(())
}

/// The volume is gone, and its snapshots with it.
pub fn delete(transaction: &Transaction<'_>, id: VolumeId) -> Result<()> {
    change(transaction, "DELETE FROM volume WHERE id = ?1", [id.0])?;
    Ok(())
}

/// Puts a row back as it was, with its id; the pool's name is that of its own row.
pub fn restore(transaction: &Transaction<'_>, row: &VolumeRow) -> Result<()> {
    change(
        transaction,
        "INSERT INTO volume (id, name, state, pool_id, volume_type, guid, serial, parent_id, parent_path, snapshot_id, \
         size_total, size_block, compression, deduplication, syncwrite, time_created, time_updated) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        params![
            row.id.0,
            row.name.as_str(),
            row.state.word(),
            row.pool.0,
            row.volume_type.word(),
            row.guid.map(|guid| guid.to_string()),
            row.serial,
            row.parent.as_ref().map(|(parent, _)| parent.0),
            row.parent.as_ref().map(|(_, path)| path.as_str()),
            row.origin.map(|origin| origin.0),
            signed(row.size),
            row.block.map(BlockSize::bytes),
            row.options.compression,
            row.options.deduplication,
            row.options.syncwrite,
            row.created.0,
            row.updated.0
        ],
    )?;
    Ok(())
}
