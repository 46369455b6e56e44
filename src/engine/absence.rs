//! Pools that were not here, or not to be used, when the daemon started, and operations in pools that have not come to
//! their end: they wait for such a pool, could not be taken back, or nobody knows whether the kernel did what it was told.
//! Upkeep looks after both, so that nobody has to restart the daemon.
//!
//! A pool that was here and was exported by hand meanwhile is not looked for: somebody may be about to carry it away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Engine, locks::Key, pool::zpool_name};
use crate::{
    catalog::{self, pool::PoolRow},
    error::{Error, Result},
    types::PoolId,
};

/// What the daemon waits for.
#[derive(Default)]
pub struct Absence(Mutex<Awaited>);

#[derive(Default)]
struct Awaited {
    pools: BTreeMap<PoolId, Seen>,
    /// Imported, with something in them that could not be mounted.
    unmounted: BTreeSet<PoolId>,
    /// By the number of the operation in the journal.
    operations: BTreeMap<i64, Unended>,
}

/// An operation that has not come to its end.
struct Unended {
    place: Place,
    waiting: Waiting,
}

/// What an operation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Something in a pool.
    In(PoolId),
    /// A pool itself: its disks or properties.
    Of(PoolId),
}

impl Place {
    /// The pool without which nobody can tell how far the operation came.
    pub(super) fn pool(self) -> PoolId {
        match self {
            Place::In(pool) | Place::Of(pool) => pool,
        }
    }
}

/// What an operation that has not ended waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Until its pool can be used, and upkeep goes on with it.
    ForPool,
    /// Until it can be taken back, which was not so for this reason.
    TakenBack(String),
    /// For the next start: a fault of ours stopped it, which would come again.
    Panicked,
}

impl Waiting {
    /// `why`: why it could not be taken back.
    pub(super) fn of(why: Option<String>) -> Self {
        why.map_or(Waiting::ForPool, Waiting::TakenBack)
    }
}

/// Disks of a pool that were here at the last look, and whether an import was tried with them.
struct Seen {
    disks: BTreeSet<String>,
    tried: bool,
}

impl Absence {
    /// The maps are consistent after each statement, so a panic elsewhere doesn't spoil them.
    fn lock(&self) -> MutexGuard<'_, Awaited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on upkeep looks for this pool.
    pub(super) fn look_for(&self, pool: PoolId) {
        self.lock().pools.insert(pool, Seen { disks: BTreeSet::new(), tried: true });
    }

    /// This operation goes on when its pool can be used, or at the next start.
    pub(super) fn hold_back(&self, operation: i64, place: Place, waiting: Waiting) {
        self.lock().operations.insert(operation, Unended { place, waiting });
    }

    fn pools(&self) -> BTreeSet<PoolId> {
        let awaited = self.lock();
        let waiting = awaited.operations.values().filter(|unended| unended.waiting != Waiting::Panicked);
        let waiting = waiting.map(|unended| unended.place.pool());
        awaited.pools.keys().chain(&awaited.unmounted).copied().chain(waiting).collect()
    }

    /// Whether an import should be tried with these disks, all or not: not again with the same ones, and with a part of
    /// them only when no further one came for a whole round, since a pool that is imported too early comes up degraded.
    /// Never of a pool that only operations wait for: that one was here.
    fn is_worth_trying(&self, pool: PoolId, present: BTreeSet<String>, all: bool) -> bool {
        let mut awaited = self.lock();
        let Some(seen) = awaited.pools.get_mut(&pool) else { return false };
        let settled = seen.disks == present;
        if !settled {
            *seen = Seen { disks: present, tried: false };
        }
        if seen.tried || seen.disks.is_empty() || !(all || settled) {
            return false;
        }
        seen.tried = true;
        true
    }
}

impl Engine {
    /// Fails while operations that were interrupted wait to go on there: a change that overtakes them would be
    /// overwritten by them. What is in a pool and the pool itself are in each other's way in nothing.
    pub(super) fn require_nothing_waits(&self, place: Place) -> Result<()> {
        let awaited = self.absence.lock();
        let mut here = awaited.operations.iter().filter(|(_, unended)| unended.place == place);
        let Some((operation, Unended { waiting, .. })) = here.next() else { return Ok(()) };
        let pool = place.pool();
        Err(Error::Busy(match waiting {
            Waiting::ForPool => {
                format!(
                    "what was interrupted in pool {pool}, operation {operation}, goes on within a minute; try again then"
                )
            }
            Waiting::TakenBack(why) => format!(
                "operation {operation} in pool {pool} failed and can't be taken back yet: {why}; that is tried again each \
                 minute, and nothing else is changed there before"
            ),
            Waiting::Panicked => format!(
                "a fault of the appliance stopped operation {operation} in pool {pool}; restart the daemon with `systemctl \
                 restart vsnapd`, so that it comes to its end"
            ),
        }))
    }

    /// Takes in those pools that are back, and lets what was interrupted in them go on.
    pub(super) fn welcome_pools(&self) {
        let mut back = false;
        for pool in self.absence.pools() {
            match self.welcome(pool) {
                Ok(is_back) => back |= is_back,
                Err(error) => tracing::warn!(pool.id = pool.0, %error, "a pool could not be taken in"),
            }
        }
        if back {
            self.restore_exports(false);
        }
    }

    /// Tells whether the pool is back.
    fn welcome(&self, pool: PoolId) -> Result<bool> {
        let _guard = self.locks.acquire(vec![Key::Pool(pool), Key::Contents(pool)], "the return of the pool")?;
        let mut is_whole = true;
        // Without a row it was forgotten meanwhile; then what waits for it has nothing left to do.
        if let Some(row) = self.catalog.read(|view| catalog::pool::find(view, pool))? {
            let is_imported = self.zfs.pool_state(&zpool_name(pool))?.is_some();
            if is_imported && !self.is_readable(pool)? || !is_imported && !self.has_new_disks(&row)? {
                return Ok(false);
            }
            if let Err(error) = self.bring_in(&row) {
                // A filesystem that can't be mounted keeps no other one waiting, and is tried again in the next round.
                // Below a root that is not mounted nothing is done: it would be hidden later.
                if !self.changeable(&row).is_ok_and(|(_, facts)| facts.mounted) {
                    return Err(error);
                }
                tracing::error!(pool.id = pool.0, %error, "something in a pool could not be mounted");
                is_whole = false;
            }
            if !is_imported {
                tracing::info!(pool.id = pool.0, "the pool is back");
            }
            if let Err(error) = self.note_disks(&row) {
                tracing::error!(pool.id = pool.0, %error, "the disks of a pool could not be noted");
            }
        }
        let waiting: BTreeSet<i64> = {
            let mut awaited = self.absence.lock();
            awaited.pools.remove(&pool);
            if is_whole {
                awaited.unmounted.remove(&pool);
            } else {
                awaited.unmounted.insert(pool);
            }
            awaited
                .operations
                .iter()
                .filter(|(_, unended)| unended.place.pool() == pool && unended.waiting != Waiting::Panicked)
                .map(|(id, _)| *id)
                .collect()
        };
        for row in self.catalog.read(catalog::operation::unfinished)? {
            if waiting.contains(&row.id) {
                self.go_on(&row)?;
            }
        }
        // Those that are still in the journal wait on.
        let unfinished = self.catalog.read(catalog::operation::unfinished)?;
        let mut awaited = self.absence.lock();
        awaited.operations.retain(|id, _| !waiting.contains(id) || unfinished.iter().any(|row| row.id == *id));
        Ok(true)
    }

    fn has_new_disks(&self, row: &PoolRow) -> Result<bool> {
        let here: BTreeSet<String> = self.machine.disks()?.into_iter().map(|disk| disk.path).collect();
        let known: BTreeSet<String> = row.disks.iter().flat_map(|(_, paths)| paths).cloned().collect();
        let present: BTreeSet<String> = known.intersection(&here).cloned().collect();
        let all = present.len() == known.len();
        Ok(self.absence.is_worth_trying(row.id, present, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_tried_when_the_disks_are_there_or_no_more_come() {
        let absence = Absence::default();
        let pool = PoolId(1);
        absence.look_for(pool);
        let disks = |count: usize| ["a", "b", "c"][..count].iter().map(|disk| (*disk).to_owned()).collect();
        let tried = |count: usize| absence.is_worth_trying(pool, disks(count), count == 3);
        assert_eq!([tried(0), tried(0)], [false, false], "none");
        assert_eq!([tried(1), tried(2), tried(2), tried(2)], [false, false, true, false], "a part, once it is settled");
        assert_eq!([tried(3), tried(3)], [true, false], "all, at once and once");
        assert_eq!([tried(0), tried(3)], [false, true], "all again");
    }
}
