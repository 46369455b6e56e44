//! What the fake exports: the wanted state of each kind as it was last applied, and what strangers did to it since.

use std::collections::{BTreeMap, BTreeSet};

use super::{FakeOs, World};
use crate::{
    os::{
        Applied, Error, Exports, Kind, Result,
        lio::{Backing, ScsiTarget, ScsiUnit},
        listen::Listen,
        network_rules::NetworkServices,
        nfs::NfsExport,
        samba::SmbShare,
    },
    types::{VolumeId, host::ChapCredentials},
};

/// Everything that is exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeExports {
    /// NFS.
    pub nfs: Vec<NfsExport>,
    /// Where NFS listens.
    pub nfs_listens: Listen,
    /// SMB.
    pub smb: Vec<SmbShare>,
    /// Where SMB listens.
    pub smb_listens: Listen,
    /// iSCSI.
    pub iscsi: Option<ScsiTarget>,
    /// Interfaces.
    pub networks: NetworkServices,
    /// Secrets of CHAP. They are on disk, so they survive a reboot.
    pub chap: BTreeMap<String, ChapCredentials>,
}

/// Replaces `live` by `wanted`.
fn replace<T: PartialEq>(live: &mut T, wanted: T, what: &str) -> Applied {
    if *live == wanted {
        return Applied::default();
    }
    *live = wanted;
    Applied { changes: vec![format!("{what} changed")] }
}

/// As the real servers: with nothing to serve they are only given back to their administrator.
fn listen_there(live: &mut Listen, wanted: &Listen, is_idle: bool) -> Applied {
    if is_idle && *wanted != Listen::Everywhere {
        Applied::default()
    } else {
        replace(live, wanted.clone(), "where it listens")
    }
}

impl Exports for FakeOs {
    fn apply_nfs(&self, wanted: &[NfsExport], listen: &Listen) -> Result<Applied> {
        self.effect("apply_nfs", |world| {
            let here = mounted(world, wanted, |export| &export.path);
            let mut applied = listen_there(&mut world.exports.nfs_listens, listen, here.is_empty());
            applied.changes.extend(replace(&mut world.exports.nfs, here, "NFS").changes);
            Ok(applied)
        })
    }

    fn apply_smb(&self, wanted: &[SmbShare], listen: &Listen) -> Result<Applied> {
        self.effect("apply_smb", |world| {
            let here = mounted(world, wanted, |share| &share.path);
            let mut applied = listen_there(&mut world.exports.smb_listens, listen, here.is_empty());
            applied.changes.extend(replace(&mut world.exports.smb, here, "SMB").changes);
            Ok(applied)
        })
    }

    fn apply_versions(&self, share: &SmbShare) -> Result<()> {
        self.effect("apply_versions", |world| {
            if let Some(live) = world.exports.smb.iter_mut().find(|live| live.name == share.name) {
                live.versions.clone_from(&share.versions);
            }
            Ok(())
        })
    }

    fn apply_iscsi(&self, wanted: Option<&ScsiTarget>) -> Result<Applied> {
        self.effect("apply_iscsi", |world| {
            let wanted = wanted.map(|target| reachable(world, target)).transpose()?;
            Ok(replace(&mut world.exports.iscsi, wanted, "iSCSI"))
        })
    }

    fn is_iscsi_as(&self, wanted: &ScsiTarget) -> Result<bool> {
        let world = self.world();
        Ok(world.exports.iscsi.as_ref() == Some(&reachable(&world, wanted)?))
    }

    fn apply_unit(&self, wanted: &ScsiTarget, volume: VolumeId) -> Result<Applied> {
        self.effect("apply_iscsi", |world| {
            let mut target = reachable(world, wanted)?;
            let unit = target.units.iter().find(|unit| unit.volume == volume).cloned();
            if let Some(live) = &world.exports.iscsi {
                // All others stay as they are.
                let mut units = live.units.clone();
                units.retain(|other| other.volume != volume);
                units.extend(unit);
                units.sort_by_key(|unit| unit.volume);
                for initiator in &mut target.initiators {
                    let before = live.initiators.iter().find(|other| other.iqn == initiator.iqn);
                    initiator.luns.retain(|_, other| *other == volume);
                    initiator.luns.extend(before.into_iter().flat_map(|before| before.luns.clone()));
                }
                target.units = units;
            }
            Ok(replace(&mut world.exports.iscsi, Some(target), "iSCSI"))
        })
    }

    fn apply_networks(&self, wanted: &NetworkServices) -> Result<Applied> {
        self.effect("apply_networks", |world| {
            // As the real one: where nothing is closed there are no rules.
            let rules = if wanted.is_open() { NetworkServices::default() } else { wanted.clone() };
            Ok(replace(&mut world.exports.networks, rules, "networks"))
        })
    }

    fn keep_chap(&self, key: &str, credentials: &ChapCredentials) -> Result<()> {
        self.effect("keep_chap", |world| {
            world.exports.chap.insert(key.to_owned(), credentials.clone());
            Ok(())
        })
    }

    fn chap(&self, key: &str) -> Result<Option<ChapCredentials>> {
        self.check_refusal("chap")?;
        Ok(self.world().exports.chap.get(key).cloned())
    }

    fn forget_chap(&self, key: &str) -> Result<()> {
        self.effect("forget_chap", |world| {
            world.exports.chap.remove(key);
            Ok(())
        })
    }

    fn chap_keys(&self) -> Result<Vec<String>> {
        Ok(self.world().exports.chap.keys().cloned().collect())
    }
}

/// Those whose filesystem is mounted: what is in its place otherwise is nobody's to see.
fn mounted<T: Clone>(world: &World, wanted: &[T], path: impl Fn(&T) -> &String) -> Vec<T> {
    let pools = world.pools.values().filter(|pool| pool.imported);
    let here: BTreeSet<String> = pools
        .flat_map(|pool| &pool.datasets)
        .filter(|(_, dataset)| dataset.mounted)
        .map(|(name, _)| format!("/vsnap/{name}"))
        .collect();
    wanted.iter().filter(|one| here.contains(path(one))).cloned().collect()
}

/// What of a target can be reached: LUNs need a zvol, or a file in a filesystem that is mounted, in a pool that is
/// imported.
fn reachable(world: &World, target: &ScsiTarget) -> Result<ScsiTarget> {
    let is_there = |unit: &ScsiUnit| {
        let (dataset, path) = match &unit.backing {
            Backing::Zvol(dataset) => (dataset, None),
            Backing::File { filesystem, path } => (filesystem, Some(path)),
        };
        let pool = dataset.as_str().split('/').next().and_then(|pool| world.pools.get(pool));
        let found = pool.filter(|pool| pool.imported).and_then(|pool| pool.datasets.get(dataset.as_str()));
        found.is_some_and(|found| match path {
            None => !found.is_filesystem(),
            Some(path) => found.mounted && found.content.size_of(path.as_str()).is_ok(),
        })
    };
    if let Some(unit) = target.units.iter().find(|unit| unit.needed && !is_there(unit)) {
        return Err(Error::new(Kind::Missing, format!("mapping volume {}", unit.volume), "its device is not there"));
    }
    let mut target = target.clone();
    target.units.retain(is_there);
    target.units.iter_mut().for_each(|unit| unit.needed = false);
    let there: BTreeSet<VolumeId> = target.units.iter().map(|unit| unit.volume).collect();
    target.initiators.iter_mut().for_each(|it| it.luns.retain(|_, volume| there.contains(volume)));
    Ok(target)
}

impl FakeExports {
    /// Whether a LUN keeps this dataset open.
    pub(super) fn holds(&self, dataset: &str) -> bool {
        self.iscsi.iter().flat_map(|target| &target.units).any(|unit| match &unit.backing {
            Backing::Zvol(held) | Backing::File { filesystem: held, .. } => held.as_str() == dataset,
        })
    }
}
