//! An appliance whose daemon can be killed and started again on the same machine and catalog.

use std::{
    cell::{Cell, OnceCell},
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use rusqlite::Connection;
use tempfile::TempDir;

use vsnap::{
    catalog::Catalog,
    config::Config,
    engine::{Caller, Engine, System},
    os::{
        Kind,
        fake::{FakeOs, Label},
        listen::Listen,
    },
    types::{
        Name,
        disk::{DiskUse, DiskUuid},
        names::to_property,
        network::Service,
        pool::{Health, PoolOptions, PoolRequest, PoolType},
        system::InitStatus,
    },
};

pub struct Appliance {
    pub fake: Arc<FakeOs>,
    folder: TempDir,
    engine: Option<Arc<Engine>>,
    /// For the test's own questions while the daemon runs.
    catalog: OnceCell<Connection>,
    /// Whether there are strangers in the pool.
    pub strangers: Cell<bool>,
}

/// The first disk that is a stranger's, counted from 1: it holds ext4. The next one is in a stranger's pool.
const STRANGERS: usize = 15;

/// In memory instead of on a disk, since these tests commit thousands of times.
fn new_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// An empty catalog. Making its tables takes longer than most operations.
fn empty_catalog() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = new_folder();
        let path = catalog_in(&folder);
        drop(Catalog::open(&path).unwrap());
        fs::read(path).unwrap()
    })
}

fn catalog_in(folder: &TempDir) -> PathBuf {
    folder.path().join("catalog.sqlite")
}

impl Appliance {
    pub fn new() -> Self {
        let folder = new_folder();
        fs::write(catalog_in(&folder), empty_catalog()).unwrap();
        let fake = FakeOs::new();
        {
            let mut world = fake.world();
            world.disks[STRANGERS - 1].stranger = Some(DiskUse::Signature("ext4".to_owned()));
            world.disks[STRANGERS].label = Some(Label { pool: "tank".to_owned(), guid: Some(7) });
            world.disks[STRANGERS].stranger = Some(DiskUse::Signature("zfs_member".to_owned()));
        }
        let mut appliance =
            Appliance { fake, folder, engine: None, catalog: OnceCell::new(), strangers: Cell::new(false) };
        appliance.start();
        appliance
    }

    pub fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    fn system(&self) -> System {
        System {
            zfs: self.fake.clone(),
            machine: self.fake.clone(),
            exports: self.fake.clone(),
            peers: self.fake.clone(),
        }
    }

    pub fn kill(&mut self) {
        self.engine = None;
        self.catalog.take();
    }

    /// Another appliance on a copy of this one's machine and catalog. Its daemon doesn't run, and this one's must not.
    pub fn copy(&self) -> Self {
        assert!(self.engine.is_none(), "a catalog is copied while it is in use");
        let folder = new_folder();
        for file in fs::read_dir(self.folder.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let (fake, strangers) = (self.fake.copy(), self.strangers.clone());
        Appliance { fake, folder, engine: None, catalog: OnceCell::new(), strangers }
    }

    /// Kills the daemon, and puts a copy's catalog in the place of its own.
    pub fn restore_catalog(&mut self, copy: &Appliance) {
        self.kill();
        for file in fs::read_dir(self.folder.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        for file in fs::read_dir(copy.folder.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), self.folder.path().join(file.file_name())).unwrap();
        }
    }

    /// Kills the daemon, and leaves it no catalog.
    pub fn lose_catalog(&mut self) {
        self.kill();
        for file in fs::read_dir(self.folder.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        fs::write(catalog_in(&self.folder), empty_catalog()).unwrap();
    }

    pub fn start(&mut self) {
        let catalog = Catalog::open(&catalog_in(&self.folder)).unwrap();
        let fake = Arc::clone(&self.fake);
        catalog.set_probe(Box::new(move || fake.step()));
        let mut config = Config::default();
        config.storage.import_wait_seconds = 0;
        let engine = Engine::new(catalog, self.system(), config).unwrap();
        engine.start().unwrap();
        self.engine = Some(engine);
    }

    /// Catalog and system agree, nothing is left half done, strangers were left alone.
    pub fn check(&self, when: &str) {
        self.check_pools(when);
        self.check_volumes(when);
        self.check_shares(when);
        self.check_disks(when);
        self.check_hosts(when);
        self.check_journal(when);
        self.check_networks(when);
    }

    /// What is reachable is what the catalog says.
    fn check_networks(&self, when: &str) {
        let networks = self.engine().networks().unwrap();
        let closed = networks.iter().filter(|network| !network.services.is_all());
        let closed: Vec<_> = closed.map(|network| (network.interface.name.clone(), network.services.clone())).collect();
        let live = self.fake.world().exports.networks.interfaces.clone();
        let live: Vec<_> = live.into_iter().map(|interface| (interface.interface, interface.services)).collect();
        assert_eq!(closed, live, "{when}: services of the catalog and rules of the packet filter differ");
        self.check_servers(when);
        if self.fake.world().exports.iscsi.is_none() {
            return;
        }
        let offering: Vec<_> = networks.iter().filter(|network| network.services.has(Service::Iscsi)).collect();
        let addresses: BTreeSet<IpAddr> = if offering.len() == networks.len() {
            [Ipv6Addr::UNSPECIFIED.into()].into()
        } else {
            offering.iter().flat_map(|network| network.interface.reachable()).collect()
        };
        let portals: Vec<String> = addresses.into_iter().map(|ip| SocketAddr::new(ip, 3260).to_string()).collect();
        assert_eq!(self.portals(), portals, "{when}: the target listens elsewhere");
    }

    /// The servers of shares listen where the catalog says.
    fn check_servers(&self, when: &str) {
        let networks = self.engine().networks().unwrap();
        let expected = |service| {
            let (with, without): (Vec<_>, Vec<_>) = networks.iter().partition(|network| network.services.has(service));
            let addresses = without.iter().flat_map(|network| network.interface.reachable());
            let addresses: BTreeSet<IpAddr> = addresses.collect();
            if with.len() == networks.len() { Listen::Everywhere } else { Listen::NotOn(addresses) }
        };
        let exports = self.fake.world().exports.clone();
        if !exports.nfs.is_empty() {
            assert_eq!(exports.nfs_listens, expected(Service::Nfs), "{when}: the NFS server listens elsewhere");
        }
        if !exports.smb.is_empty() {
            assert_eq!(exports.smb_listens, expected(Service::Smb), "{when}: the SMB server listens elsewhere");
        }
    }

    /// Where the iSCSI target listens.
    pub fn portals(&self) -> Vec<String> {
        let world = self.fake.world();
        world.exports.iscsi.iter().flat_map(|target| &target.portals).map(ToString::to_string).collect()
    }

    fn check_pools(&self, when: &str) {
        let pools = self.engine().pools().unwrap();
        let rows: BTreeSet<String> = pools.iter().map(|pool| format!("vpool{}", pool.id)).collect();
        let world = self.fake.world();
        let live: BTreeSet<String> = world.pools.keys().cloned().collect();
        assert_eq!(rows, live, "{when}: rows and pools differ");
        for pool in &pools {
            let real = &world.pools[&format!("vpool{}", pool.id)];
            let mut leaves = real.status.disks().map(|(_, leaf)| leaf.state);
            // Only by request.
            let offline = leaves.any(|state| state == Health::Offline);
            assert_eq!(pool.state, if offline { Health::Degraded } else { Health::Online }, "{when}");
            assert!(real.facts.mounted, "{when}: not mounted");
            assert_eq!(pool.options, real.facts.options, "{when}");
            assert_eq!(real.facts.notes["vsnap:name"], to_property(pool.name.as_str()), "{when}");
        }
        let other = self.stored("SELECT count(*) FROM pool WHERE state <> 'ready'");
        assert_eq!(other, 0, "{when}: a row is neither ready nor gone");
    }

    fn check_disks(&self, when: &str) {
        let world = self.fake.world();
        for (index, disk) in world.disks.iter().enumerate() {
            if index + 1 >= STRANGERS {
                assert!(disk.stranger.is_some(), "{when}: a stranger's disk was touched");
                assert_eq!(disk.label.is_some(), index == STRANGERS, "{when}: a stranger's label was touched");
                continue;
            }
            let owner = world.pools.values().find(|pool| pool.status.has_disk(&disk.disk.path));
            let label = owner.map(|pool| Label { pool: pool.status.name.clone(), guid: Some(pool.status.guid) });
            assert_eq!(disk.label, label, "{when}: label of {}", disk.disk.path);
        }
    }

    fn check_journal(&self, when: &str) {
        assert_eq!(self.stored("SELECT count(*) FROM operation WHERE state = 'running'"), 0, "{when}: unfinished");
        assert_ne!(self.engine().system().unwrap().init_status, InitStatus::Initializing, "{when}");
    }

    pub fn stored(&self, query: &str) -> i64 {
        let catalog = self.catalog.get_or_init(|| Connection::open(catalog_in(&self.folder)).unwrap());
        catalog.query_row(query, [], |row| row.get(0)).unwrap()
    }

    pub fn uuids(&self, slots: std::ops::RangeInclusive<usize>) -> Vec<DiskUuid> {
        let world = self.fake.world();
        slots.map(|slot| world.disks[slot - 1].disk.uuid.clone()).collect()
    }

    /// Pool 1, raid6 of disks 1 to 4.
    pub fn make_pool(&self) {
        let request = PoolRequest {
            name: Name::new("demo1").unwrap(),
            disks: self.uuids(1..=4),
            pool_type: PoolType::Raid6,
            options: PoolOptions::default(),
        };
        // May be made to fail by the scenario.
        let _ = self.engine().create_pool(&caller(), request);
    }

    /// Plugs the pool's disks in, or pulls them all out.
    pub fn plug(&self, present: bool) {
        self.fake.world().disks[..STRANGERS - 1].iter_mut().for_each(|disk| disk.present = present);
    }

    /// The pool was forgotten, with all that was in it and was to be done there.
    pub fn check_nothing(&self, when: &str) {
        for table in ["pool", "volume", "snapshot", "hold", "share", "mapping"] {
            assert_eq!(self.stored(&format!("SELECT count(*) FROM {table}")), 0, "{when}: rows in {table}");
        }
        // Hosts are of no pool.
        self.check_hosts(when);
        let exports = self.fake.world().exports.clone();
        assert!(exports.nfs.is_empty() && exports.smb.is_empty(), "{when}: exported is {exports:?}");
        let luns = exports.iscsi.iter().flat_map(|target| &target.units).count();
        assert_eq!(luns, 0, "{when}: luns in the target");
        self.check_journal(when);
    }

    pub fn refuse(&self, effect: &'static str) {
        self.fake.refuse(effect, Kind::Busy);
    }
}

pub fn caller() -> Caller {
    Caller { user: "admin".to_owned(), request_id: "test".to_owned() }
}
