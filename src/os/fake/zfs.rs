//! Pools in the fake's world.

use std::collections::BTreeMap;

use super::{
    FakeOs, FakePool,
    world::{new_scan, set_leaf_state},
};
use crate::{
    os::{Error, Kind, PoolChange, PoolCreation, PoolFacts, Result, Zfs},
    types::{
        names::ZpoolName,
        pool::{Health, PoolNumbers, PoolStatus, Vdev, VdevErrors, VdevPlan, VdevRole},
        system::CacheStatistics,
    },
};

fn paths(vdevs: &[VdevPlan]) -> Vec<&String> {
    vdevs.iter().flat_map(|vdev| &vdev.paths).collect()
}

fn missing(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Missing, format!("looking for {what}"), "no such vdev")
}

impl Zfs for FakeOs {
    fn pools(&self) -> Result<Vec<PoolStatus>> {
        self.check_refusal("pools")?;
        let world = self.world();
        Ok(world.pools.values().filter(|pool| pool.imported).map(|pool| pool.status.clone()).collect())
    }

    fn pool(&self, name: &ZpoolName) -> Result<Option<PoolStatus>> {
        self.check_refusal("pool")?;
        let world = self.world();
        Ok(world.pools.get(name.as_str()).filter(|pool| pool.imported).map(|pool| pool.status.clone()))
    }

    fn pool_state(&self, name: &ZpoolName) -> Result<Option<String>> {
        Ok(self.pool(name)?.map(|status| status.state.word().to_owned()))
    }

    fn pool_guid(&self, name: &ZpoolName) -> Result<Option<u64>> {
        Ok(self.pool(name)?.map(|status| status.guid))
    }

    fn pool_free(&self, name: &ZpoolName) -> Result<u64> {
        Ok(self.pool_facts(name)?.numbers.free)
    }

    fn pool_facts(&self, name: &ZpoolName) -> Result<PoolFacts> {
        self.check_refusal("pool_facts")?;
        let mut world = self.world();
        let pool = world.pool_mut(name.as_str())?;
        if pool.status.state == Health::Suspended {
            return Err(Error::new(Kind::Other, format!("reading {name}"), "pool I/O is suspended"));
        }
        Ok(PoolFacts { numbers: pool.numbers(), ..pool.facts.clone() })
    }

    fn create_pool(&self, creation: &PoolCreation) -> Result<()> {
        let name = creation.name.as_str();
        self.effect("partition_disks", |world| {
            if world.pools.get(name).is_some_and(|pool| pool.imported) {
                return Err(Error::new(Kind::Exists, format!("creating pool {name}"), "pool already exists"));
            }
            world.partition(&paths(&creation.vdevs), name)
        })?;
        self.effect("create_pool", |world| {
            let guid = world.new_guid();
            let mut status = PoolStatus {
                name: name.to_owned(),
                guid,
                state: Health::Online,
                status: None,
                action: None,
                data: Vec::new(),
                logs: Vec::new(),
                caches: Vec::new(),
                spares: Vec::new(),
                scan: None,
                data_errors: 0,
            };
            world.attach(&mut status, &creation.vdevs);
            world.label(&paths(&creation.vdevs), name, guid);
            let numbers = PoolNumbers {
                free: 1 << 30,
                used: 1 << 16,
                logical: 1 << 16,
                before_deduplication: 1 << 16,
                compression_ratio: 100,
                deduplication_ratio: 100,
            };
            let facts = PoolFacts {
                mark: Some(creation.mark.clone()),
                notes: creation.notes.clone(),
                options: creation.options,
                numbers,
                mounted: true,
            };
            let pool = FakePool {
                status,
                facts,
                imported: true,
                dedup_table_quota: creation.dedup_table_quota,
                datasets: BTreeMap::new(),
                full: false,
            };
            world.pools.insert(name.to_owned(), pool);
            Ok(())
        })
    }

    fn destroy_pool(&self, name: &ZpoolName) -> Result<()> {
        self.effect("destroy_pool", |world| {
            let datasets = world.pool_mut(name.as_str())?.datasets.clone();
            if datasets.iter().any(|(dataset, facts)| facts.busy || world.exports.holds(dataset)) {
                return Err(Error::new(Kind::Busy, format!("destroying {name}"), "pool or dataset is busy"));
            }
            // The labels stay on the disks.
            world.pools.remove(name.as_str());
            Ok(())
        })
    }

    fn change_pool(&self, name: &ZpoolName, change: &PoolChange) -> Result<()> {
        self.effect("change_pool", |world| {
            let pool = world.pool_mut(name.as_str())?;
            pool.facts.options = change.options.unwrap_or(pool.facts.options);
            pool.dedup_table_quota = change.dedup_table_quota.unwrap_or(pool.dedup_table_quota);
            pool.facts.notes.extend(change.notes.clone());
            Ok(())
        })
    }

    fn add_vdevs(&self, name: &ZpoolName, vdevs: &[VdevPlan], _uneven: bool) -> Result<()> {
        self.effect("partition_disks", |world| {
            world.pool_mut(name.as_str())?;
            world.partition(&paths(vdevs), name.as_str())
        })?;
        self.effect("add_vdevs", |world| {
            let mut status = world.pool_mut(name.as_str())?.status.clone();
            world.attach(&mut status, vdevs);
            world.label(&paths(vdevs), name.as_str(), status.guid);
            world.pool_mut(name.as_str())?.status = status;
            Ok(())
        })
    }

    fn remove_vdev(&self, name: &ZpoolName, vdev: &str) -> Result<()> {
        self.effect("remove_vdev", |world| {
            let status = &mut world.pool_mut(name.as_str())?.status;
            for class in [&mut status.logs, &mut status.caches, &mut status.spares] {
                if let Some(index) = class.iter().position(|known| known.name == vdev) {
                    class.remove(index);
                    return Ok(());
                }
            }
            Err(missing(vdev))
        })
    }

    fn replace_disk(&self, name: &ZpoolName, old: &str, new: &str) -> Result<()> {
        let new = new.to_owned();
        self.effect("partition_disks", |world| world.partition(&[&new], name.as_str()))?;
        let now = self.tick();
        self.effect("replace_disk", |world| {
            let guid = world.pool_mut(name.as_str())?.status.guid;
            world.label(&[&new], name.as_str(), guid);
            let leaf = world.leaf(&new, VdevRole::Data);
            let status = &mut world.pool_mut(name.as_str())?.status;
            if !replace_leaf(&mut status.data, old, &leaf) {
                return Err(missing(old));
            }
            status.scan = Some(new_scan("resilver", now));
            Ok(())
        })
    }

    fn detach_disk(&self, name: &ZpoolName, disk: &str) -> Result<()> {
        self.effect("detach_disk", |world| {
            let status = &mut world.pool_mut(name.as_str())?.status;
            if !detach_leaf(&mut status.data, disk) {
                return Err(missing(disk));
            }
            for spare in &mut status.spares {
                let used = status.data.iter().flat_map(Vdev::leaves).any(|leaf| leaf.path == spare.path);
                spare.state = if used { Health::Inuse } else { Health::Avail };
            }
            Ok(())
        })
    }

    fn online_disk(&self, name: &ZpoolName, disk: &str) -> Result<()> {
        self.effect("online_disk", |world| {
            let status = &mut world.pool_mut(name.as_str())?.status;
            if !set_leaf_state(&mut status.data, disk, Health::Online) {
                return Err(missing(disk));
            }
            let sound = status.data.iter().flat_map(Vdev::leaves).all(|leaf| leaf.state == Health::Online);
            status.state = if sound { Health::Online } else { Health::Degraded };
            Ok(())
        })
    }

    fn offline_disk(&self, name: &ZpoolName, disk: &str) -> Result<()> {
        self.effect("offline_disk", |world| {
            let status = &mut world.pool_mut(name.as_str())?.status;
            if status.data.iter().any(|vdev| vdev.children.is_empty() && vdev.guid.to_string() == disk) {
                return Err(Error::new(Kind::Busy, format!("taking {disk} offline"), "no valid replicas"));
            }
            if !set_leaf_state(&mut status.data, disk, Health::Offline) {
                return Err(missing(disk));
            }
            status.state = Health::Degraded;
            Ok(())
        })
    }

    fn clear_pool(&self, name: &ZpoolName) -> Result<()> {
        self.effect("clear_pool", |world| {
            let status = &mut world.pool_mut(name.as_str())?.status;
            if status.data.iter().flat_map(Vdev::leaves).all(|leaf| leaf.state == Health::Online) {
                status.state = Health::Online;
            }
            reset_errors(&mut status.data);
            Ok(())
        })
    }

    fn start_scrub(&self, name: &ZpoolName) -> Result<()> {
        let now = self.tick();
        self.effect("start_scrub", |world| {
            let status = &mut world.pool_mut(name.as_str())?.status;
            if status.scan.as_ref().is_some_and(|scan| scan.is_running()) {
                return Err(Error::new(Kind::Busy, format!("scrubbing {name}"), "currently scrubbing"));
            }
            status.scan = Some(new_scan("scrub", now));
            Ok(())
        })
    }

    fn stop_scrub(&self, name: &ZpoolName) -> Result<()> {
        self.effect("stop_scrub", |world| {
            let scan = world.pool_mut(name.as_str())?.status.scan.as_mut();
            match scan.filter(|scan| scan.function == "scrub" && scan.is_running()) {
                Some(scan) => {
                    scan.state = "canceled".to_owned();
                    Ok(())
                }
                None => Err(missing("an active scrub")),
            }
        })
    }

    fn importable_pools(&self) -> Result<Vec<(String, u64)>> {
        self.check_refusal("importable_pools")?;
        let world = self.world();
        let has_disk = |pool: &&FakePool| {
            let mut present = world.disks.iter().filter(|disk| disk.present);
            present.any(|disk| disk.label.as_ref().is_some_and(|label| label.guid == Some(pool.status.guid)))
        };
        let importable = world.pools.values().filter(|pool| !pool.imported).filter(has_disk);
        Ok(importable.map(|pool| (pool.status.name.clone(), pool.status.guid)).collect())
    }

    fn import_pool(&self, guid: u64) -> Result<()> {
        self.effect("import_pool", |world| {
            let labelled: Vec<String> = world
                .disks
                .iter()
                .filter(|disk| disk.present && disk.label.as_ref().is_some_and(|label| label.guid == Some(guid)))
                .map(|disk| disk.disk.path.clone())
                .collect();
            match world.pools.values_mut().find(|pool| pool.status.guid == guid) {
                Some(pool) if !pool.imported && labelled.iter().any(|path| pool.status.has_disk(path)) => {
                    pool.imported = true;
                    pool.unmount();
                    Ok(())
                }
                Some(pool) if pool.imported => {
                    Err(Error::new(Kind::Exists, format!("importing {guid}"), "pool already exists"))
                }
                _ => Err(missing(guid)),
            }
        })
    }

    fn export_pool(&self, name: &ZpoolName) -> Result<()> {
        self.effect("export_pool", |world| {
            let datasets = world.pool_mut(name.as_str())?.datasets.clone();
            if datasets.iter().any(|(dataset, facts)| facts.busy || world.exports.holds(dataset)) {
                return Err(Error::new(Kind::Busy, format!("exporting {name}"), "pool or dataset is busy"));
            }
            let pool = world.pool_mut(name.as_str())?;
            pool.imported = false;
            pool.unmount();
            Ok(())
        })
    }

    fn mount_pool(&self, name: &ZpoolName) -> Result<()> {
        self.effect("mount_pool", |world| {
            let pool = world.pool_mut(name.as_str())?;
            let covers = !pool.facts.mounted;
            pool.facts.mounted = true;
            for dataset in pool.datasets.values_mut() {
                dataset.hidden |= covers && dataset.mounted;
            }
            Ok(())
        })?;
        self.effect("mount_filesystems", |world| {
            let pool = world.pool_mut(name.as_str())?;
            pool.datasets.values_mut().for_each(|dataset| dataset.mounted |= !dataset.replica);
            Ok(())
        })
    }

    fn cache_statistics(&self, pools: &[ZpoolName]) -> Result<CacheStatistics> {
        let dedup = pools.len() as u64;
        Ok(CacheStatistics {
            arc_max: 1 << 30,
            arc_used: 1 << 20,
            arc_meta_max: 1 << 30,
            arc_meta_used: 1 << 19,
            ddt_core: dedup,
            ddt_disk: dedup,
        })
    }
}

fn reset_errors(vdevs: &mut [Vdev]) {
    for vdev in vdevs {
        vdev.errors = VdevErrors::default();
        reset_errors(&mut vdev.children);
    }
}

fn replace_leaf(vdevs: &mut [Vdev], old: &str, new: &Vdev) -> bool {
    vdevs.iter_mut().any(|vdev| {
        if vdev.children.is_empty() && vdev.guid.to_string() == old {
            let before = vdev.clone();
            vdev.name = "replacing-0".to_owned();
            vdev.kind = "replacing".to_owned();
            vdev.path = None;
            vdev.children = vec![before, new.clone()];
            return true;
        }
        replace_leaf(&mut vdev.children, old, new)
    })
}

/// Takes a half out of a `replacing` or `spare` vdev, which the other half then takes the place of.
fn detach_leaf(vdevs: &mut [Vdev], disk: &str) -> bool {
    vdevs.iter_mut().any(|vdev| {
        let doubled = ["replacing", "spare"].contains(&vdev.kind.as_str());
        match vdev.children.iter().position(|leaf| leaf.guid.to_string() == disk) {
            Some(index) if doubled && vdev.children.len() == 2 => {
                vdev.children.remove(index);
                let rest = vdev.children.remove(0);
                *vdev = rest;
                true
            }
            _ => detach_leaf(&mut vdev.children, disk),
        }
    })
}
