//! The system under test.

use std::{collections::BTreeMap, process::Command, sync::Arc};

use vsnap::{
    os::{
        DatasetCreation, DatasetKind, Error, Exports, Kind, LabelOwner, LinuxExports, Machine, PoolCreation, Zfs,
        fake::FakeOs, machine::Linux, zfs::OpenZfs,
    },
    types::{
        PoolId, VolumeId,
        disk::{Disk, DiskUse},
        ids::Mark,
        names::{DatasetName, ZpoolName},
        pool::{PoolOptions, VdevLayout, VdevPlan, VdevRole},
        user::{Password, UserName},
        volume::{BlockSize, VolumeOptions},
    },
};

pub struct System {
    pub zfs: Arc<dyn Zfs>,
    pub machine: Arc<dyn Machine>,
    pub exports: Arc<dyn Exports>,
    fake: Option<Arc<FakeOs>>,
}

/// Far from what an appliance on the same machine uses.
pub const POOL: PoolId = PoolId(9001);

impl System {
    pub fn new() -> Self {
        if std::env::var("VSNAP_OS_TEST").as_deref() == Ok("real") {
            let zfs: Arc<dyn Zfs> = Arc::new(OpenZfs::new().unwrap());
            let machine: Arc<dyn Machine> = Arc::new(Linux::new(false).unwrap());
            let exports: Arc<dyn Exports> = Arc::new(LinuxExports::new("/var/lib/vsnap".as_ref()).unwrap());
            return System { zfs, machine, exports, fake: None };
        }
        let fake = FakeOs::new();
        System { zfs: fake.clone(), machine: fake.clone(), exports: fake.clone(), fake: Some(fake) }
    }

    pub fn is_real(&self) -> bool {
        self.fake.is_none()
    }

    /// `count` unused disks of one size.
    pub fn unused(&self, count: usize) -> Vec<Disk> {
        let disks = self.machine.disks().unwrap();
        let unused: Vec<Disk> = disks.into_iter().filter(|disk| disk.used == DiskUse::Unused).collect();
        let same = |bytes| unused.iter().filter(move |disk| disk.bytes == bytes).cloned().collect::<Vec<_>>();
        let mut equal = unused.iter().map(|disk| same(disk.bytes)).find(|disks| disks.len() >= count).unwrap();
        equal.truncate(count);
        equal
    }

    pub fn name(&self) -> ZpoolName {
        ZpoolName::of(POOL)
    }

    pub fn mark(&self) -> Mark {
        Mark::read("0123456789abcdef0123456789abcdef/pool/9001")
    }

    pub fn owner(&self, guid: Option<u64>) -> LabelOwner {
        LabelOwner { name: self.name(), guid }
    }

    pub fn creation(&self, layout: VdevLayout, disks: &[Disk]) -> PoolCreation {
        PoolCreation {
            name: self.name(),
            mark: self.mark(),
            notes: BTreeMap::from([("vsnap:name".to_owned(), "demo%20 one".to_owned())]),
            options: PoolOptions { compression: true, deduplication: true, syncwrite: false },
            dedup_table_quota: 64 << 20,
            vdevs: vec![plan(VdevRole::Data, layout, disks)],
            uneven: false,
        }
    }

    /// A raidz1 pool of three disks, destroyed again when the test ends, however it ends.
    pub fn with_pool(test: impl FnOnce(&System, &[Disk])) {
        Self::with_pool_of(VdevLayout::Raidz1, 3, test);
    }

    /// The same of one disk, for tests of what is in a pool: it takes a third of the time.
    pub fn with_small_pool(test: impl FnOnce(&System)) {
        Self::with_pool_of(VdevLayout::Stripe, 1, |system, _| test(system));
    }

    fn with_pool_of(layout: VdevLayout, count: usize, test: impl FnOnce(&System, &[Disk])) {
        let system = System::new();
        let disks = system.unused(count);
        system.zfs.create_pool(&system.creation(layout, &disks)).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&system, &disks)));
        let all: Vec<Disk> = system.machine.disks().unwrap();
        let members: Vec<String> = system.zfs.pool(&system.name()).unwrap().map_or_else(Vec::new, |status| {
            all.iter().filter(|disk| status.has_disk(&disk.path)).map(|disk| disk.path.clone()).collect()
        });
        let _ = system.zfs.destroy_pool(&system.name());
        if system.is_real() {
            // Names come again here, unlike on an appliance: the links of zvols that are gone must be, too.
            system.run(&["udevadm", "settle"]);
        }
        for path in members.iter().chain(disks.iter().map(|disk| &disk.path)) {
            let _ = system.machine.release_disk(path, &system.owner(None));
        }
        if let Err(payload) = result {
            std::panic::resume_unwind(payload);
        }
    }

    /// Makes a filesystem without limit.
    pub fn make_filesystem(&self, number: i64) -> DatasetName {
        let name = filesystem(number);
        self.zfs.create_dataset(&dataset(&name, DatasetKind::Filesystem { limit: None })).unwrap();
        name
    }

    /// Makes a zvol of 16 MiB.
    pub fn make_lun(&self, number: i64) -> DatasetName {
        let name = lun(number);
        let kind = DatasetKind::Zvol { bytes: 16 << 20, block: BlockSize::default() };
        self.zfs.create_dataset(&dataset(&name, kind)).unwrap();
        name
    }

    /// Runs a program of the real system, which must succeed.
    pub fn run(&self, argv: &[&str]) {
        assert!(self.is_real());
        assert!(Command::new(argv[0]).args(&argv[1..]).status().unwrap().success(), "{argv:?}");
    }

    /// What a program says.
    pub fn said(&self, argv: &[&str]) -> String {
        assert!(self.is_real());
        let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
        assert!(output.status.success(), "{argv:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes sizes count what was written.
    pub fn sync(&self) {
        if self.is_real() {
            self.run(&["sync"]);
            self.run(&["zpool", "sync", self.name().as_str()]);
        }
    }

    /// Leaves an account behind as `create_user` does when it is interrupted after its first step.
    pub fn half_make_user(&self, name: &UserName) {
        match &self.fake {
            Some(fake) => {
                // Before it is step 0.
                fake.stop_at(Some(1));
                let create = || fake.create_user(name, &Password::new("never in force").unwrap());
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(create)).unwrap_err();
                fake.stop_at(None);
            }
            None => {
                let flags = "--no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --groups vsnap";
                let mut useradd = Command::new("useradd");
                useradd.args(flags.split(' ')).args(["--comment", "vSnap account"]);
                assert!(useradd.arg(name.as_str()).status().unwrap().success());
            }
        }
    }

    /// An account that every system has, without a home, a shell and a password.
    pub fn system_account(&self) -> UserName {
        let name = UserName::new("nobody").unwrap();
        if let Some(fake) = &self.fake {
            fake.world().add_system_account(name.as_str(), 65534);
        }
        name
    }

    /// Takes the pool away without destroying it, as a reboot does.
    pub fn export(&self) {
        match &self.fake {
            Some(fake) => fake.world().reboot(),
            None => {
                // ZED may have it open for a moment.
                let export =
                    || Command::new("zpool").args(["export", self.name().as_str()]).status().unwrap().success();
                let wait = || std::thread::sleep(std::time::Duration::from_secs(1));
                assert!((0..30).any(|_| export() || {
                    wait();
                    false
                }));
            }
        }
    }
}

pub fn filesystem(number: i64) -> DatasetName {
    DatasetName::filesystem(POOL, VolumeId(number))
}

pub fn lun(number: i64) -> DatasetName {
    DatasetName::lun(POOL, VolumeId(number))
}

pub fn volume_mark(name: &DatasetName) -> Mark {
    Mark::read(format!("0123456789abcdef0123456789abcdef/{name}"))
}

pub fn dataset(name: &DatasetName, kind: DatasetKind) -> DatasetCreation {
    DatasetCreation {
        name: name.clone(),
        mark: volume_mark(name),
        notes: BTreeMap::from([("vsnap:volume".to_owned(), "one %25 two".to_owned())]),
        kind,
        options: VolumeOptions::default(),
    }
}

pub fn plan(role: VdevRole, layout: VdevLayout, disks: &[Disk]) -> VdevPlan {
    VdevPlan { role, layout, paths: disks.iter().map(|disk| disk.path.clone()).collect() }
}

/// The result is an error of this kind.
#[track_caller]
pub fn fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: Kind) {
    let error = result.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
}
