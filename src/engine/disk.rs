//! Disks: which there are, and which may become part of a pool (contract section 6).

use super::{
    Caller, Engine,
    locks::{Guard, Key},
};
use crate::{
    error::{Error, Result},
    os,
    types::{
        Invalid,
        disk::{Disk, DiskUse, DiskUuid},
        pool::PoolStatus,
    },
};

/// Smaller disks are refused by ZFS (`SPA_MINDEVSIZE`), so they are no candidates.
const MIN_BYTES: u64 = 64 * 1024 * 1024;

impl Engine {
    /// Every disk with its `used_as` word; `used_as` keeps only those with that word.
    pub fn disks(&self, used_as: Option<&str>) -> Result<Vec<(Disk, String)>> {
        let pools = self.zfs.pools()?;
        let ours = self.names_of_ours(&pools)?;
        let words = self.disks_with(&pools)?.into_iter().map(|disk| {
            let word = disk.used.word(|name| ours.iter().any(|known| known == name));
            (disk, word)
        });
        Ok(words.filter(|(_, word)| used_as.is_none_or(|wanted| wanted == word)).collect())
    }

    /// Looks for disks that were plugged in or pulled.
    pub fn rescan_disks(&self, caller: &Caller) -> Result<()> {
        tracing::info!(by = caller.user, "rescanning disks");
        Ok(self.machine.rescan_disks()?)
    }

    /// All disks, those in imported pools marked as such.
    fn known_disks(&self) -> Result<Vec<Disk>> {
        self.disks_with(&self.zfs.pools()?)
    }

    fn disks_with(&self, pools: &[PoolStatus]) -> Result<Vec<Disk>> {
        let mut disks = self.machine.disks()?;
        for disk in &mut disks {
            let member = pools.iter().find(|pool| pool.has_disk(&disk.path) || pool.has_disk(&disk.name));
            if let Some(pool) = member {
                disk.used = DiskUse::Pool(pool.name.clone());
            }
        }
        Ok(disks)
    }

    /// Disks that may become part of a pool and that no operation is working on.
    pub(super) fn unused_disks(&self) -> Result<Vec<Disk>> {
        let mut disks = self.known_disks()?;
        disks.retain(|disk| {
            disk.used == DiskUse::Unused
                && disk.bytes >= MIN_BYTES
                && !self.locks.is_held(&Key::Disk(disk.uuid.clone()))
        });
        Ok(disks)
    }

    /// The disks meant by `wanted` (member `field`; empty means all unused ones), locked for `work` and each looked at
    /// itself once more. Largest first, so that groups made of them in order waste least, and
    /// in the order of `wanted` where they are of one size.
    pub(super) fn choose_disks(
        &self,
        field: &str,
        wanted: &[DiskUuid],
        work: &'static str,
    ) -> Result<(Guard<'_>, Vec<Disk>)> {
        let chosen = if wanted.is_empty() {
            let unused = self.unused_disks()?;
            if unused.is_empty() {
                return Err(Invalid::new(field, "there is no unused disk; add one and rescan").into());
            }
            unused
        } else {
            resolve(field, wanted, &self.machine.disks()?)?
        };
        let keys = chosen.iter().map(|disk| Key::Disk(disk.uuid.clone())).collect();
        let guard = self.locks.acquire(keys, work)?;
        // What was true before the lock may have changed while waiting for it.
        let known = self.known_disks()?;
        let mut disks = Vec::with_capacity(chosen.len());
        for other in &chosen {
            let Some(disk) = known.iter().find(|disk| disk.uuid == other.uuid) else {
                return Err(candidate_error(&other.uuid, "it is gone"));
            };
            self.check_candidate(disk)?;
            disks.push(disk.clone());
        }
        disks.sort_by_key(|disk| std::cmp::Reverse(disk.bytes));
        Ok((guard, disks))
    }

    fn check_candidate(&self, disk: &Disk) -> Result<()> {
        if disk.used != DiskUse::Unused {
            return Err(candidate_error(&disk.uuid, &in_use(&disk.used)));
        }
        if disk.bytes < MIN_BYTES {
            return Err(candidate_error(&disk.uuid, "it is smaller than 64 MiB"));
        }
        self.require_unused(&disk.path, &disk.uuid)
    }

    /// Looks at the disk itself, past every cache.
    pub(super) fn require_unused(&self, path: &str, uuid: &DiskUuid) -> Result<()> {
        match self.machine.probe_disk(path) {
            Ok(DiskUse::Unused) => Ok(()),
            Ok(other) => Err(candidate_error(uuid, &in_use(&other))),
            Err(error) if error.kind == os::Kind::Missing => Err(candidate_error(uuid, "it is gone")),
            Err(error) => Err(error.into()),
        }
    }
}

/// The disks that `wanted` means, in its order.
fn resolve(field: &str, wanted: &[DiskUuid], disks: &[Disk]) -> Result<Vec<Disk>> {
    let mut chosen: Vec<Disk> = Vec::new();
    for uuid in wanted {
        let Some(disk) = disks.iter().find(|disk| disk.uuid.is_meant_by(uuid)) else {
            return Err(candidate_error(uuid, "there is no such disk"));
        };
        if chosen.iter().any(|other| other.uuid == disk.uuid) {
            return Err(Invalid::new(field, format!("disk {uuid} is given twice")).into());
        }
        chosen.push(disk.clone());
    }
    Ok(chosen)
}

fn in_use(used: &DiskUse) -> String {
    match used {
        DiskUse::Pool(name) => format!("it belongs to ZFS pool {name}"),
        DiskUse::Partitioned => "it has a partition table; clear it with `wipefs -a` if nothing on it is needed".into(),
        DiskUse::Signature(kind) => format!("it holds {kind}; clear it with `wipefs -a` if that is not needed"),
        DiskUse::Busy(by) => format!("it is in use ({by})"),
        DiskUse::Unused => "it is unused".into(),
    }
}

pub(super) fn candidate_error(uuid: &DiskUuid, reason: &str) -> Error {
    Error::InvalidCandidate { uuid: uuid.to_string(), reason: Some(reason.to_owned()) }
}
