//! Making snapshots, of one volume or of many at one moment (contract section 8.6).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Caller, Engine,
    locks::Key,
    operation::Operation,
    relationship_change::require_no_replica,
    volume::{require_ready, volume_row},
};
use crate::{
    catalog::{self, snapshot::SnapshotRow, volume::VolumeRow},
    error::{Error, Result},
    os::{Kind, MadeSnapshot, SnapshotFacts},
    types::{
        Epoch, Invalid, Name, PoolId, SnapshotId, VolumeId,
        ids::Mark,
        names::SnapshotName,
        snapshot::{LOCK_TAG, Retention, Snapshot, SnapshotRequest},
        volume::VolumeType,
    },
};

/// ZFS takes the time of a snapshot from a coarser clock, in whole seconds.
const CLOCK_SLACK: i64 = 5;

impl Engine {
    /// Makes snapshots of all volumes at one moment, or of none.
    pub fn create_snapshots(&self, caller: &Caller, request: SnapshotRequest) -> Result<Vec<Snapshot>> {
        check_retention(request.retention, self.now())?;
        let rows = self.rows_of(&request.volumes)?;
        let pool = one_pool(&rows)?;
        let mut keys = vec![Key::Within(pool)];
        keys.extend(rows.iter().map(|row| Key::Volume(row.id)));
        let _guard = self.locks.acquire(keys, "a snapshot")?;
        self.require_readable(pool)?;
        // One view for all of them: each new one costs as much as some rows.
        let rows = self.catalog.read(|view| {
            let ready = |id: &VolumeId| {
                require_no_replica(view, *id, "snapshotted here")?;
                volume_row(view, *id).and_then(require_ready)
            };
            request.volumes.iter().map(ready).collect::<Result<Vec<_>>>()
        })?;
        self.require_own_datasets(&rows)?;
        let now = self.now();
        let name = match request.name {
            Some(name) => name,
            None => generated_name(request.volumes[0], now)?,
        };
        let mut made = Vec::new();
        self.perform(caller, |transaction| {
            for volume in &request.volumes {
                if catalog::snapshot::is_taken(transaction, *volume, &name)? {
                    return Err(Error::Exists(format!(
                        "volume {volume} has a snapshot named {:?} already; choose another name",
                        name.as_str()
                    )));
                }
                made.push(catalog::snapshot::insert(transaction, *volume, &name, request.retention, now)?);
            }
            Ok(Operation::CreateSnapshots { snapshots: made.clone() })
        })?;
        self.new_snapshots(&made)
    }

    fn rows_of(&self, volumes: &[VolumeId]) -> Result<Vec<VolumeRow>> {
        if volumes.is_empty() {
            return Err(Invalid::new("vol_ids", "give the id of at least one volume").into());
        }
        let mut seen = HashSet::new();
        for volume in volumes {
            if !seen.insert(volume) {
                return Err(Invalid::new("vol_ids", format!("volume {volume} is given twice")).into());
            }
        }
        let rows: Vec<VolumeRow> =
            self.catalog.read(|view| volumes.iter().map(|id| volume_row(view, *id)).collect::<Result<_>>())?;
        match rows.iter().find(|row| row.volume_type == VolumeType::FileBackedLun) {
            Some(row) => {
                let parent = row.parent.as_ref().map_or(String::new(), |(parent, _)| format!(", volume {parent},"));
                let fault = format!("volume {} is a file; make a snapshot of its filesystem{parent} instead", row.id);
                Err(Invalid::new("vol_ids", fault).into())
            }
            None => Ok(rows),
        }
    }

    pub(super) fn run_create_snapshots(&self, id: i64, snapshots: &[SnapshotId]) -> Result<()> {
        let rows = self.new_rows(snapshots)?;
        let names = rows.iter().map(SnapshotRow::zfs_name).collect::<catalog::Result<Vec<_>>>()?;
        if let Some(row) = rows.first() {
            match self.zfs.snapshot(&names, &self.snapshot_mark(&row.name), &snapshot_notes(row)) {
                Err(error) if error.kind == Kind::Exists => self.require_made_for(&rows, &names)?,
                result => result?,
            }
        }
        let mut made = Vec::new();
        for (row, (name, snapshot)) in rows.iter().zip(self.made_snapshots(&rows)?) {
            if row.retention.locked && !self.is_held_by_lock(&name)? {
                self.zfs.hold(&name, LOCK_TAG)?;
            }
            made.push((row.id, snapshot));
        }
        self.finish(id, |transaction| {
            made.iter().try_for_each(|(id, snapshot)| {
                catalog::snapshot::set_ready(transaction, *id, snapshot.guid, snapshot.created)
            })
        })?;
        self.apply_versions(&rows.iter().map(|row| row.volume).collect::<Vec<_>>());
        Ok(())
    }

    /// Fails unless the snapshots that are there were made for these rows, before a crash: all or none, since it is one
    /// transaction.
    fn require_made_for(&self, rows: &[SnapshotRow], names: &[SnapshotName]) -> Result<()> {
        let found = self.zfs.made_snapshots(names)?;
        let by_name: HashMap<&str, &MadeSnapshot> = found.iter().map(|made| (made.name.as_str(), made)).collect();
        for (row, name) in rows.iter().zip(names) {
            let Some(made) = by_name.get(name.as_str()) else { continue };
            self.require_own_mark(&made.name, made.mark.as_ref())?;
            if !self.is_made_for_row(row, made.mark.as_ref(), made.created) {
                return Err(self.number_is_taken(row.pool, name.as_str()));
            }
        }
        Ok(())
    }

    /// Whether a snapshot was made for this row of a new one. Another one may have had its number, if the catalog was
    /// restored from an older copy; but that one was made before the row.
    fn is_made_for_row(&self, row: &SnapshotRow, mark: Option<&Mark>, created: Epoch) -> bool {
        mark == Some(&self.snapshot_mark(&row.name)) && created.0 + CLOCK_SLACK >= row.created.0
    }

    /// Whether it got its hold before a crash.
    fn is_held_by_lock(&self, name: &SnapshotName) -> Result<bool> {
        let facts = self.zfs.snapshot_facts(name)?;
        Ok(facts.is_some_and(|facts| facts.holds.iter().any(|tag| tag == LOCK_TAG)))
    }

    /// A create that failed turns into the delete.
    pub(super) fn undo_create_snapshots(&self, id: i64, snapshots: &[SnapshotId], cause: &Error) -> Result<()> {
        let mut there = Vec::new();
        for snapshot in snapshots {
            let Some(row) = self.catalog.read(|view| catalog::snapshot::find(view, *snapshot))? else { continue };
            let name = row.zfs_name()?;
            let facts = self.zfs.snapshot_facts(&name)?;
            let is_made = |facts: &SnapshotFacts| self.is_made_for_row(&row, facts.mark.as_ref(), facts.created);
            if let Some(facts) = facts.filter(is_made) {
                if facts.holds.iter().any(|tag| tag == LOCK_TAG) {
                    self.zfs.release(&name, LOCK_TAG)?;
                }
                there.push(name);
            }
        }
        if !there.is_empty() {
            self.zfs.destroy_snapshots(&there)?;
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            snapshots.iter().try_for_each(|snapshot| catalog::snapshot::delete(transaction, *snapshot))
        })
    }

    pub(super) fn new_rows(&self, snapshots: &[SnapshotId]) -> Result<Vec<SnapshotRow>> {
        let rows = self.catalog.read(|view| catalog::snapshot::find_all(view, snapshots))?;
        if rows.len() == snapshots.len() {
            return Ok(rows);
        }
        let found: HashSet<SnapshotId> = rows.iter().map(|row| row.id).collect();
        let missing = snapshots.iter().filter(|id| !found.contains(id)).map(ToString::to_string);
        Err(Error::not_found("snapshot", missing.collect::<Vec<_>>().join(", ")))
    }
}

/// What is kept on disk of a new snapshot, beside its mark and the name in it, to rebuild the catalog from: no more than
/// needed, since ZFS takes its time for each property. When it was made ZFS knows itself.
pub(super) fn snapshot_notes(row: &SnapshotRow) -> BTreeMap<String, String> {
    if row.retention == Retention::default() { BTreeMap::new() } else { retention_notes(row.retention) }
}

/// How long a snapshot is kept, as it is kept on disk. An empty text stands for no end, so that a former one is
/// overwritten.
pub(super) fn retention_notes(retention: Retention) -> BTreeMap<String, String> {
    let expires = retention.expires.map_or_else(String::new, |time| time.to_string());
    let locked = if retention.locked { "1" } else { "0" };
    BTreeMap::from([("vsnap:expires".to_owned(), expires), ("vsnap:locked".to_owned(), locked.to_owned())])
}

/// Fails on an end that has passed, and on a lock without an end.
pub(super) fn check_retention(retention: Retention, now: Epoch) -> Result<()> {
    match retention.expires {
        Some(expires) if expires <= now => {
            Err(Invalid::new("expires_at", format!("{expires} has passed; it is {now} now")).into())
        }
        None if retention.locked => {
            Err(Invalid::new("expires_at", "is missing: a lock needs a time at which it ends").into())
        }
        _ => Ok(()),
    }
}

/// The pool that all of them are in: there is no moment that two pools share.
fn one_pool(rows: &[VolumeRow]) -> Result<PoolId> {
    let first = rows.first().map(|row| row.pool).ok_or_else(|| Invalid::new("vol_ids", "is empty"))?;
    match rows.iter().find(|row| row.pool != first) {
        Some(other) => Err(Invalid::new(
            "vol_ids",
            format!(
                "volume {} is in pool {}, volume {} in pool {first}; give volumes of one pool",
                other.id, other.pool, rows[0].id
            ),
        )
        .into()),
        None => Ok(first),
    }
}

/// `snap_<volume id>_<epoch>_<6 digits>`.
fn generated_name(volume: VolumeId, now: Epoch) -> Result<Name> {
    let random = uuid::Uuid::new_v4().as_u128() % 1_000_000;
    Ok(Name::new(format!("snap_{volume}_{now}_{random:06}"))?)
}
