//! Making a pool (contract section 7.1).

use std::collections::BTreeMap;

use super::{Caller, Engine, operation::Operation, pool::disk_groups, pool::zpool_name};
use crate::{
    catalog::{self, pool::PoolRow},
    error::{Error, Result},
    os::{LabelOwner, PoolCreation, PoolFacts},
    types::{
        PoolId,
        disk::{Disk, DiskUuid},
        names::to_property,
        pool::{Pool, PoolRequest, PoolType, VdevLayout, VdevPlan, VdevRole},
    },
};

impl Engine {
    /// Makes a pool of the disks that are asked for, or of all unused ones.
    pub fn create_pool(&self, caller: &Caller, request: PoolRequest) -> Result<Pool> {
        // Told before disks are looked at, since it is what the client can act on.
        self.catalog.read(|view| check_new_pool(view, &request))?;
        let (_guard, disks) = self.choose_disks("disk_list", &request.disks, "the creation of a pool")?;
        let vdevs = plan_groups(request.pool_type, &disks)?;
        let uneven = is_uneven(&disks, &vdevs, None);
        let mut made = None;
        self.perform(caller, |transaction| {
            check_new_pool(transaction, &request)?;
            let id = catalog::pool::insert(transaction, &request.name, request.pool_type, request.options, self.now())?;
            made = Some(id);
            Ok(Operation::CreatePool { pool: id, vdevs, uneven })
        })?;
        let id = made.ok_or_else(|| Error::Contradiction("a pool was made without a row".to_owned()))?;
        self.pool(id)
    }

    pub(super) fn run_create_pool(&self, id: i64, pool: PoolId, vdevs: &[VdevPlan], uneven: bool) -> Result<()> {
        let row = self.catalog.read(|view| catalog::pool::find(view, pool))?;
        let row = row.ok_or_else(|| Error::not_found("pool", pool))?;
        let name = zpool_name(pool);
        if self.zfs.pool(&name)?.is_none() {
            for path in vdevs.iter().flat_map(|vdev| &vdev.paths) {
                self.require_unused(path, &uuid_in_path(path)?)?;
            }
            self.zfs.create_pool(&self.creation(&row, vdevs, uneven)?)?;
        }
        let facts = self.zfs.pool_facts(&name)?;
        self.require_ours(pool, &facts)?;
        if !self.is_pool_made_for(&row, &facts) {
            return Err(Error::Exists(format!(
                "the ZFS pool {name} of this appliance is there already, though the catalog does not know it, so it was \
                 left alone: the catalog may have been restored from an older copy; try again, which takes another number"
            )));
        }
        self.zfs.mount_pool(&name)?;
        let status = self.zfs.pool(&name)?.ok_or_else(|| {
            Error::Contradiction(format!("the ZFS pool {name} was made and is gone; look at `journalctl -u vsnapd`"))
        })?;
        let disks = disk_groups(row.pool_type, &status);
        self.finish(id, |transaction| {
            catalog::pool::set_ready(transaction, pool, status.guid)?;
            catalog::pool::set_disks(transaction, pool, &disks)
        })
    }

    fn creation(&self, row: &PoolRow, vdevs: &[VdevPlan], uneven: bool) -> Result<PoolCreation> {
        Ok(PoolCreation {
            name: zpool_name(row.id),
            mark: self.mark(row.id),
            notes: pool_notes(row),
            options: row.options,
            dedup_table_quota: self.dedup_table_quota()?,
            vdevs: vdevs.to_vec(),
            uneven,
        })
    }

    /// Whether a pool was made for this row of a new one. Another one may have had its number, if the catalog was restored
    /// from an older copy.
    fn is_pool_made_for(&self, row: &PoolRow, facts: &PoolFacts) -> bool {
        facts.mark == Some(self.mark(row.id))
            && pool_notes(row).iter().all(|(note, value)| facts.notes.get(note) == Some(value))
    }

    /// Most bytes that a dedup table may take: a share of the machine's memory, since a table that does not fit there
    /// makes every write wait for reads.
    pub(super) fn dedup_table_quota(&self) -> Result<u64> {
        Ok(self.machine.memory_bytes()? / 100 * u64::from(self.config.storage.dedup_memory_percent))
    }

    /// A create that failed turns into the delete.
    pub(super) fn undo_create_pool(&self, id: i64, pool: PoolId, vdevs: &[VdevPlan], cause: &Error) -> Result<()> {
        let name = zpool_name(pool);
        if let Some(row) = self.catalog.read(|view| catalog::pool::find(view, pool))?
            && self.zfs.pool(&name)?.is_some()
            && self.is_pool_made_for(&row, &self.zfs.pool_facts(&name)?)
        {
            self.zfs.destroy_pool(&name)?;
        }
        self.release_disks(vdevs.iter().flat_map(|vdev| &vdev.paths), &LabelOwner { name, guid: None });
        self.end(id, Some(&cause.to_string()), |transaction| catalog::pool::delete(transaction, pool))
    }

    /// Clears what a pool left on disks. A disk that can't be cleared, because it holds something else by now or fails,
    /// is left as it is: it is never shown as unused then, and what it was part of is gone all the same.
    pub(super) fn release_disks<'a>(&self, paths: impl IntoIterator<Item = &'a String>, owner: &LabelOwner) {
        for path in paths {
            if let Err(error) = self.machine.release_disk(path, owner) {
                tracing::warn!(path, %error, "a disk was left as it is");
            }
        }
    }
}

/// What is kept on disk of a pool, beside its mark, to rebuild the catalog from.
fn pool_notes(row: &PoolRow) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("vsnap:name".to_owned(), to_property(row.name.as_str())),
        ("vsnap:pool_type".to_owned(), row.pool_type.word().to_owned()),
        ("vsnap:created".to_owned(), row.created.to_string()),
    ])
}

fn check_new_pool(view: &rusqlite::Connection, request: &PoolRequest) -> Result<()> {
    if catalog::pool::find_name(view, request.name.as_str())?.is_some() {
        return Err(Error::Exists(format!(
            "there is a pool named {:?} already; choose another name",
            request.name.as_str()
        )));
    }
    let multipool = catalog::system::find(view)?.is_some_and(|row| row.multipool);
    if !multipool && !catalog::pool::all(view)?.is_empty() {
        return Err(Error::State(
            "there is a pool already and the system was initialised with multipool false; expand that pool instead"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Disks, largest first, as data vdevs of `pool_type`.
pub(super) fn plan_groups(pool_type: PoolType, disks: &[Disk]) -> Result<Vec<VdevPlan>> {
    let mut rest = disks;
    let mut vdevs = Vec::new();
    for size in pool_type.groups(disks.len())? {
        let (group, others) = rest.split_at(size);
        rest = others;
        vdevs.push(plan_vdev(VdevRole::Data, pool_type.into(), group));
    }
    Ok(vdevs)
}

pub(super) fn plan_vdev(role: VdevRole, layout: VdevLayout, disks: &[Disk]) -> VdevPlan {
    VdevPlan { role, layout, paths: disks.iter().map(|disk| disk.path.clone()).collect() }
}

/// Whether `zpool` would call the layout mismatched: groups of different width (also from `width`, that of the pool's
/// groups so far), or disks of different size in one group.
pub(super) fn is_uneven(disks: &[Disk], vdevs: &[VdevPlan], width: Option<usize>) -> bool {
    let grouped: Vec<_> = vdevs.iter().filter(|vdev| vdev.layout != VdevLayout::Stripe).collect();
    let width = width.or_else(|| grouped.first().map(|vdev| vdev.paths.len()));
    let size = |path: &String| disks.iter().find(|disk| &disk.path == path).map(|disk| disk.bytes);
    grouped.iter().any(|vdev| {
        vdev.paths.windows(2).any(|pair| size(&pair[0]) != size(&pair[1]))
            || vdev.role == VdevRole::Data && Some(vdev.paths.len()) != width
    })
}

/// The disk's identity as its link has it, for messages about a disk that may be gone.
pub(super) fn uuid_in_path(path: &str) -> Result<DiskUuid> {
    let link = path.rsplit('/').next().unwrap_or(path);
    let uuid = link.split_once('-').map_or(link, |(_bus, id)| id);
    Ok(DiskUuid::new("disk_list", uuid)?)
}
