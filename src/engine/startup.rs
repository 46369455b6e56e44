//! What happens before the first request: pools are imported, interrupted operations go on, upkeep begins.

use std::{sync::Arc, time::Duration};

use super::{
    Engine,
    exports::Export,
    pool::{disk_groups, zpool_name},
};
use crate::{
    catalog::{self, pool::PoolRow},
    error::Result,
    types::pool::PoolStatus,
};

impl Engine {
    /// Brings the appliance to where its catalog says it is. Fails only when the catalog does: an appliance with a
    /// pool that can't be imported must still answer, and say so.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        // Before anything else, which takes its time: an interface is closed before something can be reached through it.
        self.restore_export(Export::Networks, false);
        let rows = self.catalog.read(catalog::pool::all)?;
        // Nothing follows from a list that is empty: each pool is asked for by itself before anything is done with it.
        let live = self.zfs.pools().unwrap_or_else(|error| {
            tracing::error!(%error, "pools could not be listed");
            Vec::new()
        });
        if let Err(error) = self.pass_pools(&live) {
            tracing::error!(%error, "pools that the catalog does not know could not be looked at");
        }
        self.wait_for_disks(&rows, &live);
        for row in &rows {
            if let Err(error) = self.bring_in(row) {
                tracing::error!(pool.id = row.id.0, %error, "a pool could not be imported");
                self.absence.look_for(row.id);
            }
        }
        self.recover()?;
        for row in self.pool_rows()? {
            if let Err(error) = self.note_disks(&row) {
                tracing::error!(pool.id = row.id.0, %error, "the disks of a pool could not be noted");
            }
        }
        if let Err(error) = self.forget_orphaned_secrets() {
            tracing::warn!(%error, "CHAP secrets that nobody needs could not be removed");
        }
        self.restore_exports(false);
        if let Err(error) = self.apply_partners() {
            tracing::error!(%error, "partners could not be let in");
        }
        self.start_upkeep();
        self.dispatch_sessions();
        Ok(())
    }

    /// Waits until the disks of pools that are still to be imported are there: a pool that is imported too early comes
    /// up degraded. Disks that can't be listed are waited for as well.
    fn wait_for_disks(&self, rows: &[PoolRow], live: &[PoolStatus]) {
        let absent = |row: &&PoolRow| row.guid.is_some_and(|guid| live.iter().all(|status| status.guid != guid));
        let paths: Vec<&String> =
            rows.iter().filter(absent).flat_map(|row| &row.disks).flat_map(|(_, paths)| paths).collect();
        if paths.is_empty() {
            return;
        }
        for second in 0..=self.config.storage.import_wait_seconds {
            let disks = self.machine.disks().unwrap_or_else(|error| {
                tracing::error!(%error, "disks could not be listed");
                Vec::new()
            });
            let missing: Vec<_> = paths.iter().filter(|path| disks.iter().all(|disk| disk.path != ***path)).collect();
            if missing.is_empty() {
                return;
            }
            if second == self.config.storage.import_wait_seconds {
                tracing::warn!(?missing, "importing without disks that did not appear");
            } else {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    /// Imports a pool by its guid, unless it is there, checks that it is ours, and mounts it with all that is in it:
    /// before interrupted operations go on, since a root that is mounted after a filesystem in it hides that one.
    pub(super) fn bring_in(&self, row: &PoolRow) -> Result<()> {
        let Some(guid) = row.guid else { return Ok(()) };
        let name = zpool_name(row.id);
        if self.zfs.pool(&name)?.is_none() {
            self.zfs.import_pool(guid)?;
            tracing::info!(pool.id = row.id.0, "pool imported");
        }
        self.changeable(row)?;
        // Before anything new is made there, or an interrupted operation goes on.
        if let Err(error) = self.pass_volumes_in(row.id) {
            tracing::error!(pool.id = row.id.0, %error, "the numbers in a pool could not be looked at");
        }
        // Also when the root is mounted: the daemon may have ended before the filesystems were.
        self.zfs.mount_pool(&name)?;
        self.settle_deliveries_in(row.id);
        Ok(())
    }

    pub(super) fn note_disks(&self, row: &PoolRow) -> Result<()> {
        let (status, _) = self.changeable(row)?;
        let disks = disk_groups(row.pool_type, &status);
        if disks != row.disks {
            self.catalog.write(|transaction| catalog::pool::set_disks(transaction, row.id, &disks))?;
        }
        Ok(())
    }
}
