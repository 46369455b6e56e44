//! An operating system that behaves, for tests: a pool needs its disks, a label outlives its pool, a disk in use is
//! refused, a snapshot with clones is busy. It can refuse on demand and stop at any step, and what was done before a stop stays done.
//!
//! The contract tests (`tests/os`) run on this and on the real system, so that the two can't drift apart.

mod content;
mod dataset;
#[cfg(test)]
mod dataset_tests;
mod dataset_world;
mod exports;
mod machine;
mod peers;
mod stream;
mod world;
mod zfs;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

pub use content::{Content, FileKind};
pub use dataset_world::{FakeDataset, FakeSnapshot};
pub use exports::FakeExports;
pub use peers::Wire;
pub use stream::{FakeBookmark, Partial};
pub use world::{FakeDisk, FakePool, Label, World};

use super::{Error, Kind, Result};
use crate::types::{
    Epoch,
    disk::{Disk, DiskUse, DiskUuid},
    network::Interface,
};

/// What a panic carries that stands for the sudden end of the process.
#[derive(Debug)]
pub struct Stopped;

/// The fake. Its world stays as it is when the engine on top is dropped, as a machine does when the daemon is killed.
pub struct FakeOs {
    world: Mutex<World>,
    /// With how often each is still allowed.
    refusals: Mutex<HashMap<&'static str, (Error, usize)>>,
    /// Of these, those that are refused only once.
    once: Mutex<HashSet<&'static str>>,
    effects: Mutex<HashMap<&'static str, usize>>,
    steps: AtomicUsize,
    stop_at: AtomicUsize,
    stopped_for_good: AtomicBool,
    clock: AtomicI64,
    password_checks: AtomicUsize,
    wire: Mutex<Option<Arc<dyn Wire>>>,
    this: Weak<FakeOs>,
}

impl FakeOs {
    /// A machine with 16 unused disks: eight of 2 GiB, then others.
    pub fn new() -> Arc<Self> {
        const GIB: u64 = 1 << 30;
        let sizes = [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 1, 1, 5];
        let mut world = World::default();
        for (index, gib) in sizes.into_iter().enumerate() {
            world.disks.push(FakeDisk::new(index + 1, gib * GIB));
        }
        world.interfaces.push(Interface {
            id: "005056b45302".to_owned(),
            name: "ens192".to_owned(),
            hw_addr: "005056b45302".to_owned(),
            ip4_addrs: vec![[172, 20, 46, 61].into()],
            ip6_addrs: vec![[0xfe80, 0, 0, 0, 0x250, 0x56ff, 0xfeb4, 0x5302].into()],
        });
        Self::with(world, HashMap::new(), 1_800_000_000)
    }

    /// Another machine that is as this one is now, without a network to others.
    pub fn copy(&self) -> Arc<Self> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self::with(self.world().clone(), refusals, self.clock.load(Ordering::Relaxed))
    }

    fn with(world: World, refusals: HashMap<&'static str, (Error, usize)>, clock: i64) -> Arc<Self> {
        Arc::new_cyclic(|this| FakeOs {
            world: Mutex::new(world),
            refusals: Mutex::new(refusals),
            once: Mutex::default(),
            effects: Mutex::default(),
            steps: AtomicUsize::new(0),
            stop_at: AtomicUsize::new(usize::MAX),
            stopped_for_good: AtomicBool::new(false),
            clock: AtomicI64::new(clock),
            password_checks: AtomicUsize::new(0),
            wire: Mutex::default(),
            this: this.clone(),
        })
    }

    /// The world, to look at or to change behind the appliance's back.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // A stop unwinds through here; the world is as the stop left it, on purpose.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an account.
    pub fn add_user(&self, name: &str, password: &str, in_group: bool) {
        self.world().add_user(name, Some(password), in_group);
    }

    /// How often a password was checked.
    pub fn password_checks(&self) -> usize {
        self.password_checks.load(Ordering::Relaxed)
    }

    /// From now on `effect` (`create_pool`, ...) fails with this.
    pub fn refuse(&self, effect: &'static str, kind: Kind) {
        self.refuse_later(effect, 0, kind);
    }

    /// As [`FakeOs::refuse`], after it was done so many times more.
    pub fn refuse_later(&self, effect: &'static str, times: usize, kind: Kind) {
        let error = Error::new(kind, effect, "refused by the test");
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).insert(effect, (error, times));
    }

    /// As [`FakeOs::refuse`], once.
    pub fn refuse_once(&self, effect: &'static str, kind: Kind) {
        self.refuse(effect, kind);
        self.once.lock().unwrap_or_else(PoisonError::into_inner).insert(effect);
    }

    /// Nothing is refused any longer.
    pub fn allow_all(&self) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How often `effect` was asked for.
    pub fn count(&self, effect: &str) -> usize {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).get(effect).copied().unwrap_or(0)
    }

    /// Time passes.
    pub fn advance(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Stops (panics with [`Stopped`]) at the `step`th step from now, counted from 0; `None` never.
    pub fn stop_at(&self, step: Option<usize>) {
        self.steps.store(0, Ordering::Relaxed);
        self.stopped_for_good.store(false, Ordering::Relaxed);
        self.stop_at.store(step.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// As [`FakeOs::stop_at`], and at every step after it: for work that has several threads.
    pub fn stop_from(&self, step: usize) {
        self.stop_at(Some(step));
        self.stopped_for_good.store(true, Ordering::Relaxed);
    }

    /// Steps since [`FakeOs::stop_at`].
    pub fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }

    /// A place where the process may end: before, within and after each effect and each commit of the catalog.
    pub fn step(&self) {
        let (step, stop) = (self.steps.fetch_add(1, Ordering::Relaxed), self.stop_at.load(Ordering::Relaxed));
        if step == stop || step > stop && self.stopped_for_good.load(Ordering::Relaxed) {
            std::panic::panic_any(Stopped);
        }
    }

    /// Something that changes the world: may be refused, and may be stopped before and after.
    fn effect<T>(&self, name: &'static str, change: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        self.step();
        *self.effects.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        self.check_refusal(name)?;
        let value = change(&mut self.world());
        self.step();
        value
    }

    fn check_refusal(&self, name: &'static str) -> Result<()> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        match refusals.get_mut(name) {
            Some((error, 0)) => {
                let error = error.clone();
                if self.once.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
                    refusals.remove(name);
                }
                Err(error)
            }
            Some((_, times)) => {
                *times -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn tick(&self) -> Epoch {
        Epoch(self.clock.fetch_add(1, Ordering::Relaxed))
    }
}

impl FakeDisk {
    fn new(number: usize, bytes: u64) -> Self {
        let uuid = format!("35000c5000000a{number:03}");
        let disk = Disk {
            path: format!("/dev/disk/by-id/scsi-{uuid}"),
            // The test fixes the format, so it is a uuid.
            uuid: DiskUuid::new("uuid", uuid).unwrap_or_else(|error| panic!("{error}")),
            name: format!("/dev/fake{number}"),
            bytes,
            sector_bytes: 512,
            bus: "SCSI".to_owned(),
            vendor: "FAKE".to_owned(),
            model: "DISK".to_owned(),
            used: DiskUse::Unused,
        };
        FakeDisk { disk, present: true, label: None, stranger: None }
    }
}
