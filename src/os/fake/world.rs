//! What there is in the fake's world, and the laws that hold there.

use std::collections::BTreeMap;

use super::{FakeDataset, FakeExports};
use crate::{
    os::{Error, Kind, NetworkServices, PoolFacts, Result, peers::PartnerAccess},
    types::{
        disk::{Disk, DiskUse},
        network::Interface,
        pool::{Health, PoolStatus, Scan, Vdev, VdevErrors, VdevLayout, VdevPlan, VdevRole},
        user::User,
    },
};

/// A label that ZFS wrote on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Name of the pool.
    pub pool: String,
    /// Its guid; `None` when the disk was only partitioned for it.
    pub guid: Option<u64>,
}

/// A disk.
#[derive(Debug, Clone)]
pub struct FakeDisk {
    /// As the machine shows it, but for its use.
    pub disk: Disk,
    /// Plugged in.
    pub present: bool,
    /// Left by ZFS.
    pub label: Option<Label>,
    /// What somebody else put on it.
    pub stranger: Option<DiskUse>,
}

impl FakeDisk {
    pub(super) fn use_now(&self) -> DiskUse {
        match (&self.stranger, &self.label) {
            (Some(used), _) => used.clone(),
            (None, Some(Label { guid: Some(_), .. })) => DiskUse::Signature("zfs_member".to_owned()),
            (None, Some(_)) => DiskUse::Partitioned,
            (None, None) => DiskUse::Unused,
        }
    }
}

/// A pool, imported or not.
#[derive(Debug, Clone)]
pub struct FakePool {
    /// Vdev tree and state.
    pub status: PoolStatus,
    /// Properties; its numbers are those of the empty pool.
    pub facts: PoolFacts,
    /// Imported.
    pub imported: bool,
    /// Cap of the dedup table.
    pub dedup_table_quota: u64,
    /// Filesystems and zvols in it, by ZFS name.
    pub datasets: BTreeMap<String, FakeDataset>,
    /// Nothing fits in any longer.
    pub full: bool,
}

/// An account.
#[derive(Debug, Clone)]
pub struct FakeAccount {
    pub(super) user: User,
    /// None yet: nobody can log in with it.
    pub(super) password: Option<String>,
    /// As Samba knows it.
    pub(super) samba: Option<String>,
    pub(super) in_group: bool,
    /// As the appliance makes accounts, and not one of the system.
    pub(super) ours: bool,
}

impl FakePool {
    /// Nobody can have open what is not there.
    pub(super) fn unmount(&mut self) {
        self.facts.mounted = false;
        for dataset in self.datasets.values_mut() {
            (dataset.mounted, dataset.hidden, dataset.busy) = (false, false, false);
        }
    }
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// By slot.
    pub disks: Vec<FakeDisk>,
    /// By ZFS name.
    pub pools: BTreeMap<String, FakePool>,
    /// What clients reach.
    pub exports: FakeExports,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Who may open a link, and is known.
    pub partners: Vec<PartnerAccess>,
    pub(super) accounts: Vec<FakeAccount>,
    pub(super) accounts_version: u64,
    next_guid: u64,
    last_transaction: u64,
}

impl World {
    /// A guid never given before. Beyond 2^63, as real ones are.
    pub fn new_guid(&mut self) -> u64 {
        self.next_guid += 1;
        (1 << 63) + self.next_guid
    }

    pub(super) fn next_transaction(&mut self) -> u64 {
        self.last_transaction += 1;
        self.last_transaction
    }

    pub(super) fn add_user(&mut self, name: &str, password: Option<&str>, in_group: bool) {
        let uid = 1000 + self.accounts.len() as u32;
        let user = User { name: name.to_owned(), uid, gid: uid };
        let password = password.map(str::to_owned);
        self.accounts.push(FakeAccount { user, samba: password.clone(), password, in_group, ours: true });
        self.accounts_version += 1;
    }

    /// An account of the operating system: without a password, as those of daemons are.
    pub fn add_system_account(&mut self, name: &str, uid: u32) {
        let user = User { name: name.to_owned(), uid, gid: uid };
        self.accounts.push(FakeAccount { user, password: None, samba: None, in_group: false, ours: false });
        self.accounts_version += 1;
    }

    pub(super) fn account(&self, name: &str) -> Option<&FakeAccount> {
        self.accounts.iter().find(|account| account.user.name == name)
    }

    /// The password that Samba knows for an account.
    pub fn samba_password(&self, name: &str) -> Option<&str> {
        self.account(name)?.samba.as_deref()
    }

    /// The disk with this link, if it is plugged in.
    pub fn disk_mut(&mut self, path: &str) -> Option<&mut FakeDisk> {
        self.disks.iter_mut().find(|disk| disk.disk.path == path && disk.present)
    }

    /// An imported pool.
    pub fn pool_mut(&mut self, name: &str) -> Result<&mut FakePool> {
        self.pools
            .get_mut(name)
            .filter(|pool| pool.imported)
            .ok_or_else(|| Error::new(Kind::Missing, format!("opening pool {name}"), "no such pool"))
    }

    /// Whether an imported pool has this disk open.
    pub(super) fn is_open(&self, path: &str) -> bool {
        self.pools.values().any(|pool| pool.imported && pool.status.has_disk(path))
    }

    /// ZFS partitions a disk before it makes the pool.
    pub(super) fn partition(&mut self, paths: &[&String], pool: &str) -> Result<()> {
        for path in paths {
            let open = self.is_open(path);
            let refuse = |detail: &str| Err(Error::new(Kind::Busy, format!("opening {path}"), detail));
            match self.disk_mut(path) {
                None => return Err(Error::new(Kind::Missing, format!("opening {path}"), "no such device")),
                Some(_) if open => return refuse("is part of active pool"),
                Some(disk) if disk.stranger.is_some() => return refuse("is in use"),
                Some(_) => {}
            }
        }
        for path in paths {
            if let Some(disk) = self.disk_mut(path) {
                disk.label = Some(Label { pool: pool.to_owned(), guid: None });
            }
        }
        Ok(())
    }

    pub(super) fn label(&mut self, paths: &[&String], pool: &str, guid: u64) {
        for path in paths {
            if let Some(disk) = self.disk_mut(path) {
                disk.label = Some(Label { pool: pool.to_owned(), guid: Some(guid) });
            }
        }
    }

    /// Puts vdevs into a pool's tree.
    pub(super) fn attach(&mut self, status: &mut PoolStatus, vdevs: &[VdevPlan]) {
        for plan in vdevs {
            let mut leaves: Vec<Vdev> = plan.paths.iter().map(|path| self.leaf(path, plan.role)).collect();
            let count = status.data.len() + status.logs.len();
            let class = match plan.role {
                VdevRole::Data => &mut status.data,
                VdevRole::Log => &mut status.logs,
                VdevRole::Cache => &mut status.caches,
                VdevRole::Spare => &mut status.spares,
            };
            let (kind, name) = match plan.layout {
                VdevLayout::Stripe => {
                    class.append(&mut leaves);
                    continue;
                }
                VdevLayout::Mirror => ("mirror", format!("mirror-{count}")),
                VdevLayout::Raidz1 => ("raidz", format!("raidz1-{count}")),
                VdevLayout::Raidz2 => ("raidz", format!("raidz2-{count}")),
            };
            class.push(Vdev {
                name,
                kind: kind.to_owned(),
                guid: self.new_guid(),
                path: None,
                state: Health::Online,
                errors: VdevErrors::default(),
                note: None,
                children: leaves,
            });
        }
    }

    pub(super) fn leaf(&mut self, path: &str, role: VdevRole) -> Vdev {
        Vdev {
            name: path.to_owned(),
            kind: "disk".to_owned(),
            guid: self.new_guid(),
            path: Some(path.to_owned()),
            state: if role == VdevRole::Spare { Health::Avail } else { Health::Online },
            errors: VdevErrors::default(),
            note: None,
            children: Vec::new(),
        }
    }

    /// A reboot: nothing is imported any longer.
    pub fn reboot(&mut self) {
        for pool in self.pools.values_mut() {
            pool.imported = false;
            pool.unmount();
        }
        // The kernel forgets its packet filter.
        self.exports.networks = NetworkServices::default();
        // The kernel forgets its target.
        self.exports.iscsi = None;
    }

    /// A pool that is not imported exists in its labels only.
    pub(super) fn forget_unlabelled(&mut self) {
        let guids: Vec<u64> =
            self.disks.iter().filter_map(|disk| disk.label.as_ref().and_then(|label| label.guid)).collect();
        self.pools.retain(|_, pool| pool.imported || guids.contains(&pool.status.guid));
    }

    /// What ZED does when a disk is gone: the pool's first spare stands in for it, already rebuilt.
    pub fn spare_stands_in(&mut self, name: &str, path: &str) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let Some(spare) = pool.status.spares.first_mut() else { return };
        spare.state = Health::Inuse;
        let stand_in = Vdev { state: Health::Online, ..spare.clone() };
        for leaf in pool.status.data.iter_mut().flat_map(|group| &mut group.children) {
            if leaf.path.as_deref() == Some(path) {
                let disk = leaf.clone();
                *leaf = Vdev {
                    name: "spare-0".to_owned(),
                    kind: "spare".to_owned(),
                    path: None,
                    children: vec![disk, stand_in.clone()],
                    ..leaf.clone()
                };
            }
        }
    }

    /// Pulls a disk out: pools that have it degrade, or are suspended when they can't do without it.
    pub fn pull(&mut self, path: &str) {
        if let Some(disk) = self.disk_mut(path) {
            disk.present = false;
        }
        for pool in self.pools.values_mut().filter(|pool| pool.imported && pool.status.has_disk(path)) {
            let redundant = pool.status.data.iter().all(|vdev| !vdev.children.is_empty());
            set_leaf_state(&mut pool.status.data, path, Health::Removed);
            pool.status.state = if redundant { Health::Degraded } else { Health::Suspended };
        }
    }
}

/// Sets the state of the disk with this path or guid; tells whether it was found.
pub(super) fn set_leaf_state(vdevs: &mut [Vdev], disk: &str, state: Health) -> bool {
    let mut found = false;
    for vdev in vdevs {
        if vdev.children.is_empty() && (vdev.path.as_deref() == Some(disk) || vdev.guid.to_string() == disk) {
            vdev.state = state;
            found = true;
        }
        found |= set_leaf_state(&mut vdev.children, disk, state);
    }
    found
}

/// A scan that has just begun.
pub(super) fn new_scan(function: &str, now: crate::types::Epoch) -> Scan {
    Scan {
        function: function.to_owned(),
        state: "scanning".to_owned(),
        started: Some(now),
        ended: None,
        total_bytes: 1000,
        done_bytes: 0,
        errors: 0,
    }
}
