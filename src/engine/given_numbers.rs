//! Numbers are never given twice, not even when the catalog was restored from an older copy: then the pools have volumes
//! and snapshots that it does not know, and new ones would get their numbers.
//!
//! Names show at each start, and when a pool comes back, whether there are such volumes. Snapshots are too many to be
//! listed then; the first comparison of upkeep finds those. What is met before that is told by its notes from what an
//! interrupted operation made, and never taken for it.

use super::{Engine, pool::zpool_name, snapshot::number_in};
use crate::{
    catalog,
    error::{Error, Result},
    os::{DatasetFacts, SnapshotFacts},
    types::{
        PoolId, VolumeId,
        ids::Mark,
        names::DatasetName,
        pool::{Health, PoolStatus},
        report::{Finding, FindingKind},
    },
};

/// New numbers begin this far after the highest that was found: nobody knows which ones were given to what is gone.
pub(super) const GAP: i64 = 1000;

/// The highest numbers that were found, by the table of the catalog that they are of.
type Highest = [(&'static str, i64); 3];

impl Engine {
    /// Passes the numbers of pools that are imported. Asks ZFS nothing when the catalog knows them.
    pub(super) fn pass_pools(&self, live: &[PoolStatus]) -> Result<()> {
        let given = self.given("pool")?;
        let mut highest = 0;
        for status in live.iter().filter(|status| status.state != Health::Suspended) {
            let number = status.name.strip_prefix("vpool").and_then(|number| number.parse().ok());
            let Some(id) = number.filter(|number| *number > given).map(PoolId) else { continue };
            if self.zfs.pool_facts(&zpool_name(id))?.mark == Some(self.mark(id)) {
                highest = highest.max(id.0);
            }
        }
        self.pass(&[("pool", highest)], "this machine")
    }

    /// Passes the numbers in a pool when it has volumes that the catalog has never given a number. Lists names alone, so
    /// that it can be done at each start.
    pub(super) fn pass_volumes_in(&self, pool: PoolId) -> Result<()> {
        let given = self.given("volume")?;
        let mut above = Vec::new();
        for name in self.zfs.names(&zpool_name(pool))? {
            let number = name.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok());
            let id = number.filter(|number| *number > given).map(VolumeId);
            above.extend(id.and_then(|id| Some((id, own_name(pool, id, &name)?))));
        }
        if above.is_empty() {
            return Ok(());
        }
        let names: Vec<DatasetName> = above.iter().map(|(_, name)| name.clone()).collect();
        let marks = self.zfs.marks(&names)?;
        let is_ours = |(id, name): &(VolumeId, DatasetName)| marks.get(name) == Some(&Some(self.volume_mark(*id)));
        if above.iter().any(is_ours) { self.pass_all_in(pool) } else { Ok(()) }
    }

    /// Passes the numbers in a pool when one of these snapshots in it has a number that the catalog has never given.
    pub(super) fn pass_snapshots(&self, pool: PoolId, snapshots: &[SnapshotFacts]) -> Result<()> {
        let given = self.given("snapshot")?;
        let mut ours = snapshots.iter().filter(|facts| self.is_own_snapshot(facts));
        let is_above = |facts: &SnapshotFacts| number_in(&facts.name).is_some_and(|id| id.0 > given);
        if ours.any(is_above) { self.pass_all_in(pool) } else { Ok(()) }
    }

    /// The same after a comparison, for all pools.
    pub(super) fn pass_unknown(&self, findings: &[Finding]) -> Result<()> {
        let given = self.given("snapshot")?;
        let unknown = findings.iter().filter(|finding| finding.kind == FindingKind::ObjectWithoutRow);
        if !unknown.filter_map(|finding| number_in(&finding.subject)).any(|id| id.0 > given) {
            return Ok(());
        }
        for row in self.pool_rows()? {
            if self.is_readable(row.id)? {
                self.pass_all_in(row.id)?;
            }
        }
        Ok(())
    }

    /// For what is in the place of something new, with our mark, but was not made for it. Nothing of it is touched, and
    /// the next request gets a number that nothing has.
    pub(super) fn number_is_taken(&self, pool: PoolId, name: &str) -> Error {
        if let Err(error) = self.pass_all_in(pool) {
            tracing::error!(pool.id = pool.0, %error, "the numbers in a pool could not be looked at");
        }
        Error::Exists(format!(
            "{name} is there already, though the catalog does not know it, so it was left alone: the catalog may have been \
             restored from an older copy; try again, which takes another number, and see what else it does not know with \
             `vsnap system report`"
        ))
    }

    /// Looks at all that is ours in a pool, which takes its time.
    fn pass_all_in(&self, pool: PoolId) -> Result<()> {
        let (mut volume, mut snapshot, mut share) = (0, 0, 0);
        for facts in self.zfs.datasets(&zpool_name(pool))? {
            let Some(id) = self.number_of(&facts) else { continue };
            volume = file_luns(&facts).fold(volume.max(id.0), i64::max);
            share = share.max(facts.notes.get("vsnap:share.id").and_then(|id| id.parse().ok()).unwrap_or(0));
            let Some(name) = own_name(pool, id, &facts.name) else { continue };
            let snapshots = self.zfs.snapshots(&name)?;
            let ours = snapshots.iter().filter(|facts| self.is_own_snapshot(facts));
            snapshot = ours.filter_map(|facts| number_in(&facts.name)).map(|id| id.0).fold(snapshot, i64::max);
        }
        let highest: Highest = [("volume", volume), ("snapshot", snapshot), ("share", share)];
        self.pass(&highest, &format!("pool {pool}"))
    }

    fn pass(&self, highest: &[(&'static str, i64)], place: &str) -> Result<()> {
        let is_behind = self.catalog.write(|transaction| -> Result<bool> {
            let mut is_behind = false;
            for (table, number) in highest {
                if *number > catalog::system::given(transaction, table)? {
                    catalog::system::set_given(transaction, table, *number)?;
                    is_behind = true;
                }
            }
            if is_behind {
                catalog::system::leave_gap(transaction, GAP)?;
            }
            Ok(is_behind)
        })?;
        if is_behind {
            tracing::error!(
                ?highest,
                "the catalog is older than what is on {place}: it was restored from an older copy; new numbers begin {GAP} \
                 after the highest, and what it does not know is told by `vsnap system report`"
            );
        }
        Ok(())
    }

    fn given(&self, table: &str) -> Result<i64> {
        Ok(self.catalog.read(|view| catalog::system::given(view, table))?)
    }

    /// The number of a volume of this appliance.
    fn number_of(&self, facts: &DatasetFacts) -> Option<VolumeId> {
        match facts.mark.as_ref().and_then(Mark::parts)? {
            (owner, "volume", Some(number)) if owner == self.id() => Some(VolumeId(number)),
            _ => None,
        }
    }
}

/// A name of ours, when it is that of this volume's dataset.
fn own_name(pool: PoolId, id: VolumeId, name: &str) -> Option<DatasetName> {
    let names = [DatasetName::filesystem(pool, id), DatasetName::lun(pool, id)];
    names.into_iter().find(|own| own.as_str() == name)
}

/// Numbers of the luns whose files are in a filesystem.
fn file_luns(facts: &DatasetFacts) -> impl Iterator<Item = i64> {
    let keys = facts.notes.keys().filter_map(|key| key.strip_prefix("vsnap:file."));
    keys.filter_map(|key| key.split('.').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use crate::{
        catalog::{self, Catalog},
        config::Config,
        engine::{Caller, Engine, System},
        os::fake::FakeOs,
        types::{
            Name, PoolId, VolumeId,
            pool::{PoolOptions, PoolRequest, PoolType},
            snapshot::{Retention, SnapshotRequest},
            volume::{VolumeOptions, VolumeRequest, VolumeSource},
        },
    };

    #[test]
    fn numbers_of_snapshots_are_passed_by_the_first_comparison() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        let os = FakeOs::new();
        let system = System { zfs: os.clone(), machine: os.clone(), exports: os.clone(), peers: os.clone() };
        let engine = Engine::new(catalog, system, Config::default()).unwrap();
        let caller = Caller::system("test");
        let name = Name::new("a").unwrap();
        let disks = os.world().disks[..2].iter().map(|disk| disk.disk.uuid.clone()).collect();
        let (pool_type, options) = (PoolType::Raid0, PoolOptions::default());
        engine.create_pool(&caller, PoolRequest { name: name.clone(), disks, pool_type, options }).unwrap();
        let source = VolumeSource::Filesystem { pool: PoolId(1), limit: None, options: VolumeOptions::default() };
        engine.create_volume(&caller, VolumeRequest { name: name.clone(), source }).unwrap();
        let (volumes, retention) = (vec![VolumeId(1)], Retention::default());
        engine.create_snapshots(&caller, SnapshotRequest { volumes, name: Some(name), retention }).unwrap();

        engine.report_news(&mut Vec::new()).unwrap();
        assert_eq!(engine.given("snapshot").unwrap(), 1, "the catalog knows it");
        let forget = |transaction: &rusqlite::Transaction<'_>| -> catalog::Result<()> {
            transaction.execute("DELETE FROM snapshot", [])?;
            catalog::system::set_given(transaction, "snapshot", 0)
        };
        engine.catalog.write(forget).unwrap();
        engine.report_news(&mut Vec::new()).unwrap();
        assert_eq!(engine.given("snapshot").unwrap(), 1001);
    }
}
