//! What the appliance does by itself: scrubs on schedule, spares that wait again, snapshots that expire, comparing the
//! catalog with ZFS, and keeping the journal short.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, Weak, mpsc},
    time::{Duration, Instant},
};

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    Engine,
    locks::Key,
    pool::{own_status, zpool_name},
};
use crate::{
    catalog::{self, pool::PoolRow},
    error::Result,
    types::{
        Epoch,
        pool::{Health, PoolStatus, Scan, Vdev},
    },
};

/// From one comparison of the catalog with ZFS to the next.
const COMPARE: Duration = Duration::from_secs(3600);

/// How long ended operations stay in the journal, in seconds.
const JOURNAL_SECONDS: i64 = 90 * 24 * 3600;

impl Engine {
    /// Starts the thread that does a round now and then, until the engine is dropped or stops.
    pub(super) fn start_upkeep(self: &Arc<Self>) {
        let (stop, stopped) = mpsc::channel();
        *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        let engine = Arc::downgrade(self);
        let round = Duration::from_secs(self.config.storage.upkeep_seconds.max(1));
        let spawned =
            std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || rounds(&engine, round, &stopped));
        if let Err(error) = spawned {
            tracing::error!(%error, "the upkeep thread could not be started: no scrubs until the next start");
        }
    }

    /// No further round begins.
    pub(super) fn stop_upkeep(&self) {
        *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// One round of upkeep.
    pub fn upkeep(&self) -> Result<()> {
        let now = self.now();
        self.catalog.write(|transaction| catalog::operation::prune(transaction, Epoch(now.0 - JOURNAL_SECONDS)))?;
        self.welcome_pools();
        self.remove_expired_snapshots()?;
        self.restore_exports(true);
        self.forget_unconfirmed_partners()?;
        self.go_on_with_partners()?;
        self.idle_links.close_old(Duration::from_secs(self.config.replication.link_seconds));
        let due = last_due(&self.config.storage.scrub_schedule, now);
        let live = self.zfs.pools()?;
        for row in self.pool_rows()? {
            let Some(status) = own_status(&row, live.iter()) else { continue };
            if !matches!(status.state, Health::Online | Health::Degraded) {
                continue;
            }
            if let Err(error) = self.keep_up(&row, status, due) {
                tracing::error!(pool.id = row.id.0, %error, "upkeep of a pool failed");
            }
        }
        Ok(())
    }

    fn keep_up(&self, row: &PoolRow, status: &PoolStatus, due: Option<Epoch>) -> Result<()> {
        if !spares_done(status).is_empty() {
            let _guard = self.locks.acquire(vec![Key::Pool(row.id)], "the return of a spare")?;
            self.return_spares(row)?;
        }
        if due.is_some_and(|due| is_scrub_due(status.scan.as_ref(), row.created, due)) {
            tracing::info!(pool.id = row.id.0, "starting the scheduled scrub");
            self.zfs.start_scrub(&zpool_name(row.id))?;
        }
        Ok(())
    }

    /// Spares whose disk is back and rebuilt wait again for the next failure: ZFS leaves that to the administrator.
    /// The caller holds the pool's lock.
    pub(super) fn return_spares(&self, row: &PoolRow) -> Result<()> {
        let (status, _) = self.changeable(row)?;
        for spare in spares_done(&status) {
            tracing::info!(pool.id = row.id.0, spare.guid = spare.guid, "a spare is no longer needed and waits again");
            self.zfs.detach_disk(&zpool_name(row.id), &spare.guid.to_string())?;
        }
        Ok(())
    }
}

/// Spares that stand in for a disk that works again.
fn spares_done(status: &PoolStatus) -> Vec<&Vdev> {
    fn collect<'a>(vdevs: &'a [Vdev], found: &mut Vec<&'a Vdev>) {
        for vdev in vdevs {
            match vdev.children.split_first() {
                Some((disk, spares)) if vdev.kind == "spare" && disk.state == Health::Online => found.extend(spares),
                _ => collect(&vdev.children, found),
            }
        }
    }
    let mut found = Vec::new();
    if !status.scan.as_ref().is_some_and(Scan::is_running) {
        collect(&status.data, &mut found);
    }
    found
}

/// The other end of `stopped` is dropped when no further round is wanted.
fn rounds(engine: &Weak<Engine>, round: Duration, stopped: &mpsc::Receiver<()>) {
    let (mut compared, mut known) = (None::<Instant>, Vec::new());
    while stopped.recv_timeout(round) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(engine) = engine.upgrade() else { return };
        survive(|| {
            if compared.is_none_or(|last| last.elapsed() >= COMPARE) {
                compared = Some(Instant::now());
                if let Err(error) = engine.report_news(&mut known) {
                    tracing::error!(%error, "the catalog could not be compared with ZFS");
                }
            }
            if let Err(error) = engine.upkeep() {
                tracing::error!(%error, "a round of upkeep failed");
            }
            // Those that could not begin when they were queued, or may begin since more are allowed at a time.
            engine.dispatch_sessions();
        });
    }
}

/// Does the work of a round. A fault of ours that stops it, of which the panic has told where, must not be the end of all
/// upkeep: nobody would see that until a scrub or a pool is missed.
fn survive(round: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(round)).is_err() {
        tracing::error!("a fault of the appliance stopped a round of upkeep; the next one begins all the same");
    }
}

/// When the schedule last came due, in local time; `None` when there is no schedule.
fn last_due(schedule: &str, now: Epoch) -> Option<Epoch> {
    // The configuration was checked at start, so a schedule that is no cron expression is an empty one.
    let cron: Cron = schedule.parse().ok()?;
    let local = Timestamp::from_second(now.0).ok()?.to_zoned(TimeZone::system());
    let due = cron.find_previous_occurrence(&local, true).ok()?;
    Some(Epoch(due.timestamp().as_second()))
}

/// Whether a scrub that came due at `due` has not begun. Nothing needs to be remembered: ZFS knows when the last scan
/// began, so a date that was missed while the appliance was off is made up for, too.
fn is_scrub_due(scan: Option<&Scan>, created: Epoch, due: Epoch) -> bool {
    match scan {
        Some(scan) if scan.is_running() || scan.state == "paused" => false,
        Some(scan) if scan.function == "scrub" => scan.started.is_none_or(|started| started < due),
        // A resilver reads only what it rebuilds, so it is no scrub.
        _ => created < due,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(function: &str, state: &str, started: i64) -> Scan {
        Scan {
            function: function.into(),
            state: state.into(),
            started: Some(Epoch(started)),
            ended: None,
            total_bytes: 0,
            done_bytes: 0,
            errors: 0,
        }
    }

    #[test]
    fn a_fault_in_a_round_is_not_the_end_of_upkeep() {
        let mut done = 0;
        for fault in [true, false] {
            survive(|| {
                assert!(!fault, "a fault that the test made");
                done += 1;
            });
        }
        assert_eq!(done, 1);
    }

    #[test]
    fn a_scrub_is_due_once_a_date() {
        let (due, created) = (Epoch(1000), Epoch(10));
        assert!(is_scrub_due(None, created, due));
        assert!(!is_scrub_due(None, Epoch(1001), due), "a pool made after the date");
        assert!(is_scrub_due(Some(&scan("scrub", "finished", 999)), created, due));
        assert!(!is_scrub_due(Some(&scan("scrub", "finished", 1000)), created, due));
        assert!(!is_scrub_due(Some(&scan("resilver", "scanning", 500)), created, due));
        assert!(is_scrub_due(Some(&scan("resilver", "finished", 500)), created, due));
    }

    #[test]
    fn the_default_schedule_is_monthly() {
        let schedule = crate::config::Config::default().storage.scrub_schedule;
        let month = 31 * 24 * 3600;
        let now = Epoch(1_790_000_000);
        let due = last_due(&schedule, now).unwrap();
        assert!(due <= now && due.0 > now.0 - month);
        assert_eq!(last_due("", now), None);
    }
}
