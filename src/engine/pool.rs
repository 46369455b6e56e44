//! Pools as they are: rows of the catalog beside what ZFS says this moment (contract sections 7.2 and 7.3).

use std::collections::BTreeSet;

use super::Engine;
use crate::{
    catalog::{
        self, RowState,
        pool::{DiskGroups, PoolRow},
    },
    error::{Error, Result},
    os::{self, PoolFacts},
    types::{
        PoolId,
        ids::Mark,
        names::ZpoolName,
        pool::{Health, Pool, PoolReport, PoolStatus, PoolType, Vdev},
    },
};

/// The ZFS name of a pool.
pub(super) fn zpool_name(id: PoolId) -> ZpoolName {
    ZpoolName::of(id)
}

impl Engine {
    /// Every pool.
    pub fn pools(&self) -> Result<Vec<Pool>> {
        let rows = self.pool_rows()?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.zfs.pools()?;
        rows.into_iter().map(|row| self.present(&row, own_status(&row, live.iter()))).collect()
    }

    /// One pool.
    pub fn pool(&self, id: PoolId) -> Result<Pool> {
        let row = self.pool_row(id)?;
        let live = self.zfs.pool(&zpool_name(id))?;
        self.present(&row, own_status(&row, live.iter()))
    }

    /// The pool with this name.
    pub fn pool_by_name(&self, name: &str) -> Result<Pool> {
        let row = self.catalog.read(|view| catalog::pool::find_name(view, name))?;
        match row {
            Some(row) if row.state != RowState::Creating => self.pool(row.id),
            _ => Err(Error::not_found("pool", format!("named {name:?}"))),
        }
    }

    /// What ZFS says about a pool: vdevs, errors, scrub and resilver.
    pub fn pool_report(&self, id: PoolId) -> Result<PoolReport> {
        let row = self.pool_row(id)?;
        let status = self.zfs.pool(&zpool_name(id))?.filter(|status| Some(status.guid) == row.guid);
        Ok(PoolReport { id, name: row.name, status, asked: self.now() })
    }

    /// Rows that clients may see.
    pub(super) fn pool_rows(&self) -> Result<Vec<PoolRow>> {
        let mut rows = self.catalog.read(catalog::pool::all)?;
        rows.retain(|row| row.state != RowState::Creating);
        Ok(rows)
    }

    pub(super) fn pool_row(&self, id: PoolId) -> Result<PoolRow> {
        let row = self.catalog.read(|view| catalog::pool::find(view, id))?;
        row.filter(|row| row.state != RowState::Creating).ok_or_else(|| Error::not_found("pool", id))
    }

    /// ZFS names of those among `live` that are ours.
    pub(super) fn names_of_ours(&self, live: &[PoolStatus]) -> Result<Vec<String>> {
        let rows = self.pool_rows()?;
        let ours = rows.iter().filter_map(|row| own_status(row, live.iter()));
        Ok(ours.map(|status| status.name.clone()).collect())
    }

    /// Pools whose name one of others has on this machine: nothing in that one is ours to show to anybody. Starts no
    /// process.
    pub(super) fn displaced_pools(&self) -> Result<BTreeSet<PoolId>> {
        let mut displaced = BTreeSet::new();
        for row in self.pool_rows()? {
            let imported = self.zfs.pool_guid(&zpool_name(row.id))?;
            if imported.is_some() && imported != row.guid {
                displaced.insert(row.id);
            }
        }
        Ok(displaced)
    }

    pub(super) fn mark(&self, id: PoolId) -> Mark {
        Mark::pool(&self.id(), id)
    }

    /// What ZFS says of a pool that is to be changed: imported, with our guid and our mark, not suspended.
    pub(super) fn changeable(&self, row: &PoolRow) -> Result<(PoolStatus, PoolFacts)> {
        let status = self.imported(row)?;
        if status.state == Health::Suspended {
            return Err(Error::State(format!(
                "pool {} is suspended: its disks are gone or fail; bring them back, then `vsnap pool clear {}`",
                row.id, row.id
            )));
        }
        let facts = self.zfs.pool_facts(&zpool_name(row.id))?;
        self.require_ours(row.id, &facts)?;
        Ok((status, facts))
    }

    /// The status of a pool that is imported under our guid, in whatever state.
    pub(super) fn imported(&self, row: &PoolRow) -> Result<PoolStatus> {
        let status = self.zfs.pool(&zpool_name(row.id))?;
        require_guid(row, status.as_ref().map(|status| status.guid))?;
        status.ok_or_else(|| not_imported(row))
    }

    pub(super) fn require_ours(&self, id: PoolId, facts: &PoolFacts) -> Result<()> {
        let wanted = self.mark(id);
        if facts.mark.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let found = facts.mark.as_ref().map_or("none", Mark::as_str);
        Err(Error::Contradiction(format!(
            "the ZFS pool {} does not carry the mark of this appliance (vsnap:id is {found}), so it was left alone",
            zpool_name(id)
        )))
    }

    /// Disks of a pool by group, when it is imported.
    pub(super) fn live_disks(&self, id: PoolId) -> Result<Option<DiskGroups>> {
        let Some(row) = self.catalog.read(|view| catalog::pool::find(view, id))? else { return Ok(None) };
        let status = self.zfs.pool(&zpool_name(id))?;
        Ok(own_status(&row, status.iter()).map(|status| disk_groups(row.pool_type, status)))
    }

    fn present(&self, row: &PoolRow, status: Option<&PoolStatus>) -> Result<Pool> {
        let mut state = status.map_or(Health::Unavail, |status| status.state);
        let mut facts = None;
        if matches!(state, Health::Online | Health::Degraded) {
            match self.zfs.pool_facts(&zpool_name(row.id)) {
                Ok(found) => facts = Some(found),
                // Exported or destroyed since it was listed.
                Err(error) if error.kind == os::Kind::Missing => state = Health::Unavail,
                Err(error) => return Err(error.into()),
            }
        }
        let disks = status.map_or_else(|| row.disks.clone(), |status| disk_groups(row.pool_type, status));
        let data = disks.iter().filter(|(group, _)| group.starts_with(row.pool_type.word()));
        Ok(Pool {
            id: row.id,
            name: row.name.clone(),
            pool_type: row.pool_type,
            options: facts.as_ref().map_or(row.options, |facts| facts.options),
            group_size: data.map(|(_, paths)| paths.len()).max().unwrap_or(0),
            disks,
            state,
            numbers: facts.map(|facts| facts.numbers),
            created: row.created,
            updated: row.updated,
        })
    }
}

/// Fails unless the pool that is imported is this one, by its guid.
pub(super) fn require_guid(row: &PoolRow, imported: Option<u64>) -> Result<()> {
    match imported {
        Some(guid) if Some(guid) == row.guid => Ok(()),
        Some(guid) => {
            let name = zpool_name(row.id);
            Err(Error::Contradiction(format!(
                "the ZFS pool {name} on this machine (guid {guid}) is not pool {} of this appliance; export it with \
                 `zpool export {name}` and restart vsnapd",
                row.id
            )))
        }
        None => Err(not_imported(row)),
    }
}

pub(super) fn not_imported(row: &PoolRow) -> Error {
    Error::State(format!(
        "pool {} is not imported: its disks are not here; bring them back, and if it is not there two minutes later, \
         restart vsnapd",
        row.id
    ))
}

/// The status among `live` that belongs to `row`: by name and by guid.
pub(super) fn own_status<'a>(row: &PoolRow, mut live: impl Iterator<Item = &'a PoolStatus>) -> Option<&'a PoolStatus> {
    let name = zpool_name(row.id);
    live.find(|status| status.name == name.as_str() && Some(status.guid) == row.guid)
}

/// Disks in the contract's groups: `raid0`, `raid6_group1`, ..., `log`, `cache`, `spare`; only groups that have disks.
pub(super) fn disk_groups(pool_type: PoolType, status: &PoolStatus) -> DiskGroups {
    let mut groups = DiskGroups::new();
    if pool_type == PoolType::Raid0 {
        groups.push((pool_type.word().to_owned(), status.data.iter().map(slot).collect()));
    } else {
        for (index, group) in status.data.iter().enumerate() {
            let slots = group.children.iter().map(slot).collect();
            groups.push((format!("{}_group{}", pool_type.word(), index + 1), slots));
        }
    }
    for (name, vdevs) in [("log", &status.logs), ("cache", &status.caches), ("spare", &status.spares)] {
        let paths: Vec<String> = vdevs.iter().flat_map(Vdev::leaves).map(path_or_name).collect();
        if !paths.is_empty() {
            groups.push((name.to_owned(), paths));
        }
    }
    groups
}

/// The disk that a place in a group belongs to: the new one while a disk is being replaced, the old one while a spare
/// stands in for it.
fn slot(vdev: &Vdev) -> String {
    let leaves = vdev.leaves();
    let leaf = if vdev.kind == "replacing" { leaves.last() } else { leaves.first() };
    leaf.map_or_else(|| vdev.name.clone(), |leaf| path_or_name(leaf))
}

/// How to name a disk of a pool to ZFS and to clients.
pub(super) fn path_or_name(leaf: &Vdev) -> String {
    leaf.path.clone().unwrap_or_else(|| leaf.name.clone())
}
