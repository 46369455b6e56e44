//! Locks per object: requests on one object are ordered, requests on others don't wait.

use std::{
    collections::HashMap,
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    types::{HostId, PoolId, SystemId, VolumeId, disk::DiskUuid},
};

/// How long a request waits for the one before it. What takes longer is a long operation, and says so by 409.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it waits for all that are before it, when none of them is long: many luns are mapped to one host at once.
const LONGEST: Duration = Duration::from_secs(60);

/// Something that only one operation at a time may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// `init`.
    System,
    /// A pool.
    Pool(PoolId),
    /// Everything inside a pool, for its deletion.
    Contents(PoolId),
    /// Something inside a pool. Any number of operations may hold this at a time, but none beside [`Key::Contents`].
    Within(PoolId),
    /// A volume with its snapshots.
    Volume(VolumeId),
    /// A disk that is being put into a pool or taken out of it.
    Disk(DiskUuid),
    /// An OS account.
    User(String),
    /// The services of all network interfaces.
    Networks,
    /// A partner, while it becomes one or ceases to be one.
    Partner(SystemId),
    /// A host with its mappings.
    Host(HostId),
    /// Names and initiators of all hosts, which no two may share.
    Hosts,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::System => formatter.write_str("the system"),
            Key::Pool(id) => write!(formatter, "pool {id}"),
            Key::Contents(id) | Key::Within(id) => write!(formatter, "pool {id}"),
            Key::Volume(id) => write!(formatter, "volume {id}"),
            Key::Disk(uuid) => write!(formatter, "disk {uuid}"),
            Key::User(name) => write!(formatter, "user {name}"),
            Key::Networks => formatter.write_str("the network"),
            Key::Partner(id) => write!(formatter, "partner {id}"),
            Key::Host(id) => write!(formatter, "host {id}"),
            Key::Hosts => formatter.write_str("the list of hosts"),
        }
    }
}

impl Key {
    /// The keys that nobody may hold when this one is taken.
    fn rivals(&self) -> Vec<Key> {
        match self {
            Key::Contents(id) => vec![Key::Contents(*id), Key::Within(*id)],
            Key::Within(id) => vec![Key::Contents(*id)],
            key => vec![key.clone()],
        }
    }
}

/// For what a key is held, and by how many: more than one only of [`Key::Within`].
#[derive(Debug, Clone, Copy)]
struct Holder {
    work: &'static str,
    count: usize,
    /// Since when the key is held without a break.
    since: Instant,
}

/// Which keys are held, and by what.
#[derive(Default)]
pub struct Locks {
    held: Mutex<HashMap<Key, Holder>>,
    freed: Condvar,
}

/// Keys that are held until this is dropped.
#[must_use]
pub struct Guard<'a> {
    locks: &'a Locks,
    keys: Vec<Key>,
}

impl Locks {
    /// Takes all `keys` at once (so that two requests can't wait for each other) for `work`, named in the error that
    /// others get. Waits a short while for those who hold them.
    pub fn acquire(&self, mut keys: Vec<Key>, work: &'static str) -> Result<Guard<'_>> {
        self.acquire_within(&mut keys, work, PATIENCE)?;
        Ok(Guard { locks: self, keys })
    }

    fn acquire_within(&self, keys: &mut Vec<Key>, work: &'static str, patience: Duration) -> Result<()> {
        let began = Instant::now();
        let mut held = self.lock();
        while let Some((key, holder)) =
            keys.iter().flat_map(Key::rivals).find_map(|rival| held.get_key_value(&rival).map(|(k, h)| (k.clone(), *h)))
        {
            let deadline = (began.max(holder.since) + patience).min(began + LONGEST);
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Err(Error::Busy(format!("{key} is busy with {}; try again when that has ended", holder.work)));
            };
            held = self.freed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut seen = std::collections::HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        for key in keys.iter() {
            held.entry(key.clone()).or_insert(Holder { work, count: 0, since: Instant::now() }).count += 1;
        }
        Ok(())
    }

    /// Whether anyone holds `key` now.
    pub fn is_held(&self, key: &Key) -> bool {
        self.lock().contains_key(key)
    }

    /// The map is consistent after each statement, so a panic elsewhere doesn't spoil it.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Holder>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.lock();
        for key in &self.keys {
            if let Some(holder) = held.get_mut(key) {
                holder.count -= 1;
                if holder.count == 0 {
                    held.remove(key);
                }
            }
        }
        self.locks.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_key_is_busy_and_names_its_holder() {
        let locks = Locks::default();
        let guard = locks.acquire(vec![Key::Pool(PoolId(1)), Key::Pool(PoolId(1))], "the deletion").unwrap();
        let busy = locks.acquire_within(&mut vec![Key::Pool(PoolId(1))], "x", Duration::ZERO).unwrap_err();
        assert!(busy.to_string().contains("pool 1 is busy with the deletion"), "{busy}");
        assert!(locks.acquire_within(&mut vec![Key::Pool(PoolId(2))], "x", Duration::ZERO).is_ok());
        drop(guard);
        assert!(locks.acquire(vec![Key::Pool(PoolId(1))], "x").is_ok());
    }

    #[test]
    fn many_work_within_a_pool_but_not_while_it_goes() {
        let locks = Locks::default();
        let pool = PoolId(1);
        let first = locks.acquire(vec![Key::Within(pool), Key::Volume(VolumeId(1))], "x").unwrap();
        let second = locks.acquire(vec![Key::Within(pool), Key::Volume(VolumeId(2))], "x").unwrap();
        assert!(locks.acquire_within(&mut vec![Key::Volume(VolumeId(2))], "x", Duration::ZERO).is_err());
        drop(first);
        assert!(locks.acquire_within(&mut vec![Key::Contents(pool)], "x", Duration::ZERO).is_err());
        drop(second);
        let deletion = locks.acquire(vec![Key::Contents(pool)], "the deletion").unwrap();
        assert!(locks.acquire_within(&mut vec![Key::Within(pool)], "x", Duration::ZERO).is_err());
        drop(deletion);
        assert!(locks.acquire(vec![Key::Within(pool)], "x").is_ok());
    }

    /// Each is done long before anybody's patience ends, the last one long after.
    #[test]
    fn who_waits_for_many_short_ones_is_patient() {
        let (locks, patience) = (Locks::default(), Duration::from_millis(600));
        let work = || {
            let mut keys = vec![Key::System];
            let taken = locks.acquire_within(&mut keys, "short work", patience);
            let _guard = taken.as_ref().ok().map(|()| Guard { locks: &locks, keys });
            std::thread::sleep(Duration::from_millis(200));
            taken.is_ok()
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
            assert!(workers.into_iter().all(|worker| worker.join().unwrap()));
        });
    }

    #[test]
    fn who_waits_gets_it_when_it_is_freed() {
        let locks = Locks::default();
        let guard = locks.acquire(vec![Key::System], "first").unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| locks.acquire(vec![Key::System], "second").map(drop));
            std::thread::sleep(Duration::from_millis(50));
            drop(guard);
            assert!(second.join().unwrap().is_ok());
        });
    }
}
