//! Appliances on fakes of their own, and the network between them, which can be cut.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vsnap::{
    catalog::Catalog,
    config::Config,
    engine::{Caller, Engine, System},
    os::{
        self, Error, Kind, Peers,
        fake::{FakeOs, Wire},
        peers::Contact,
    },
    types::{
        Name, PoolId, RelationshipId, SessionId, SystemId, VolumeId,
        partner::{Address, Introduction, PartnerRequest, PublicKey},
        pool::{PoolOptions, PoolRequest, PoolType},
        relationship::RelationshipRequest,
        session::{Session, SessionRequest, SessionStatus},
        system::InitRequest,
        user::Password,
        volume::{VolumeOptions, VolumeRequest, VolumeSource},
    },
};

pub const USER: &str = "admin";
pub const PASSWORD: &str = "correct horse";

pub struct Node {
    pub os: Arc<FakeOs>,
    pub address: Address,
    /// From the next start.
    pub link_seconds: AtomicU64,
    folder: tempfile::TempDir,
    engine: Mutex<Option<Arc<Engine>>>,
}

impl Node {
    pub fn new(number: u8) -> Arc<Self> {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let os = FakeOs::new();
        let ip = [192, 0, 2, number];
        os.world().interfaces[0].ip4_addrs = vec![ip.into()];
        let address = Address::from(std::net::IpAddr::from(ip));
        let node = Arc::new(Node { os, address, link_seconds: AtomicU64::new(300), folder, engine: Mutex::default() });
        node.start();
        let request = InitRequest { multipool: true, skip_pool: true, ..InitRequest::default() };
        node.engine().initialize(&caller(), request).unwrap();
        node
    }

    pub fn engine(&self) -> Arc<Engine> {
        self.engine.lock().unwrap().clone().expect("the node is down")
    }

    fn running(&self) -> Option<Arc<Engine>> {
        self.engine.lock().unwrap().clone()
    }

    pub fn start(&self) {
        let catalog = Catalog::open(&self.folder.path().join("catalog.sqlite")).unwrap();
        let os = Arc::clone(&self.os);
        catalog.set_probe(Box::new(move || os.step()));
        let mut config = Config::default();
        config.storage.import_wait_seconds = 0;
        config.replication.retry_seconds = 3;
        config.replication.stall_seconds = 1;
        config.replication.link_seconds = self.link_seconds.load(Ordering::Relaxed);
        let os = &self.os;
        let system = System { zfs: os.clone(), machine: os.clone(), exports: os.clone(), peers: os.clone() };
        let engine = Engine::new(catalog, system, config).unwrap();
        engine.start().unwrap();
        *self.engine.lock().unwrap() = Some(engine);
    }

    /// Sessions end where they are, as when the process is told to stop.
    pub fn stop(&self) {
        let engine = self.engine.lock().unwrap().take().expect("the node is down");
        assert!(engine.drain(Duration::from_secs(20)));
    }

    /// As after a sudden end: nothing of the engine is left.
    pub fn forget(&self) {
        let engine = Arc::downgrade(&self.engine.lock().unwrap().take().expect("the node is down"));
        let deadline = Instant::now() + Duration::from_secs(20);
        // The thread that had it last may still be closing its catalog, which removes the log of that.
        while engine.upgrade().is_some() || self.files().iter().any(|file| file.to_string_lossy().ends_with("-wal")) {
            assert!(Instant::now() < deadline, "a thread goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The daemon begins without a catalog.
    pub fn lose_catalog(&self) {
        self.forget();
        self.files().into_iter().for_each(|file| std::fs::remove_file(file).unwrap());
        self.start();
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path()).collect()
    }

    /// What the catalog is now; the daemon must be down.
    pub fn copy_catalog(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_files(&self.folder, &copy);
        copy
    }

    /// The daemon begins with this catalog.
    pub fn restore_catalog(&self, copy: &tempfile::TempDir) {
        self.forget();
        self.files().into_iter().for_each(|file| std::fs::remove_file(file).unwrap());
        copy_files(copy, &self.folder);
        self.start();
    }

    pub fn id(&self) -> SystemId {
        self.engine().system().unwrap().id
    }

    pub fn make_pool(&self, name: &str, slots: std::ops::RangeInclusive<usize>) -> PoolId {
        let disks = slots.map(|slot| self.os.world().disks[slot - 1].disk.uuid.clone()).collect();
        let options = PoolOptions::default();
        let request = PoolRequest { name: Name::new(name).unwrap(), disks, pool_type: PoolType::Raid0, options };
        self.engine().create_pool(&caller(), request).unwrap().id
    }

    pub fn make_filesystem(&self, name: &str, pool: PoolId) -> VolumeId {
        let source = VolumeSource::Filesystem { pool, limit: None, options: VolumeOptions::default() };
        let request = VolumeRequest { name: Name::new(name).unwrap(), source };
        self.engine().create_volume(&caller(), request).unwrap().id
    }

    pub fn dataset(&self, volume: VolumeId) -> String {
        let volume = self.engine().volume(volume).unwrap();
        volume.volume_type.dataset(volume.pool, volume.id).unwrap().as_str().to_owned()
    }

    pub fn write(&self, volume: VolumeId, bytes: &[u8]) {
        let dataset = self.dataset(volume);
        self.os.world().write(&dataset, bytes).unwrap();
    }

    pub fn read(&self, volume: VolumeId) -> Option<Vec<u8>> {
        let dataset = self.dataset(volume);
        self.os.world().read(&dataset)
    }

    pub fn replicate(&self, volume: VolumeId, partner: &Node) -> RelationshipId {
        let request = self.request(partner);
        self.engine().create_relationship(&caller(), volume, request).unwrap().id
    }

    pub fn request(&self, partner: &Node) -> RelationshipRequest {
        RelationshipRequest { partner: partner.id(), remote_pool: None, remote_name: None, reuse: false }
    }

    pub fn start_session(&self, relationship: &RelationshipId) -> SessionId {
        self.engine().create_session(&caller(), relationship, SessionRequest::default()).unwrap().id
    }

    #[track_caller]
    pub fn wait(&self, session: SessionId) -> Session {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = self.engine().session(session).unwrap();
            if now.status.is_over() {
                return now;
            }
            assert!(Instant::now() < deadline, "{now:?} does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A session from its start to its good end.
    #[track_caller]
    pub fn sync(&self, relationship: &RelationshipId) -> Session {
        let session = self.wait(self.start_session(relationship));
        assert_eq!(session.status, SessionStatus::Completed, "{session:?}");
        session
    }

    #[track_caller]
    pub fn fail(&self, relationship: &RelationshipId) -> String {
        let session = self.wait(self.start_session(relationship));
        assert_eq!(session.status, SessionStatus::Failed, "{session:?}");
        session.message.unwrap()
    }

    /// Every operation with its end, for messages.
    pub fn journal(&self) -> Vec<String> {
        let catalog = rusqlite::Connection::open(self.folder.path().join("catalog.sqlite")).unwrap();
        let query = "SELECT verb || ' of ' || subject || ': ' || state || ' ' || coalesce(message, '') FROM operation";
        let mut statement = catalog.prepare(query).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    pub fn stored_text(&self, query: &str) -> String {
        let catalog = rusqlite::Connection::open(self.folder.path().join("catalog.sqlite")).unwrap();
        catalog.query_row(query, [], |row| row.get(0)).unwrap()
    }

    pub fn change_catalog(&self, statement: &str) {
        let catalog = rusqlite::Connection::open(self.folder.path().join("catalog.sqlite")).unwrap();
        catalog.execute_batch(statement).unwrap();
    }

    pub fn stored(&self, query: &str) -> i64 {
        let catalog = rusqlite::Connection::open(self.folder.path().join("catalog.sqlite")).unwrap();
        catalog.query_row(query, [], |row| row.get(0)).unwrap()
    }
}

fn copy_files(from: &tempfile::TempDir, to: &tempfile::TempDir) {
    for file in std::fs::read_dir(from.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
}

pub fn caller() -> Caller {
    Caller { user: USER.to_owned(), request_id: "test".to_owned() }
}

/// The network: connects all nodes, as seen from one of them.
pub struct Network {
    nodes: Vec<Arc<Node>>,
    /// Whose end it is.
    own: usize,
    pub control: Arc<Weather>,
}

/// What is the matter with the network.
#[derive(Default)]
pub struct Weather {
    /// Nothing gets through.
    pub down: Mutex<bool>,
    /// The next link that carries so many bytes breaks there.
    pub cut_after: Mutex<Option<usize>>,
    /// The next link that carries so many bytes takes no more, and does not break.
    pub stuck_after: Mutex<Option<usize>>,
    /// Links that were opened so far.
    pub opened: AtomicUsize,
}

/// Nodes that reach each other.
pub fn connect(nodes: &[&Arc<Node>]) -> Arc<Weather> {
    let control = Arc::new(Weather::default());
    for (own, node) in nodes.iter().enumerate() {
        let nodes = nodes.iter().map(|node| Arc::clone(node)).collect();
        node.os.set_wire(Some(Arc::new(Network { nodes, own, control: Arc::clone(&control) })));
    }
    control
}

fn fault(detail: &str) -> Error {
    Error::new(Kind::Other, "connecting", detail)
}

impl Network {
    fn find(&self, address: &Address) -> os::Result<Arc<Engine>> {
        let found = self.nodes.iter().find(|node| node.address == *address).ok_or_else(|| fault("no route to host"))?;
        match *self.control.down.lock().unwrap() {
            true => Err(fault("connection timed out")),
            false => found.running().ok_or_else(|| fault("connection refused")),
        }
    }
}

impl Wire for Network {
    fn introduce(&self, request: &PartnerRequest, introduction: &Introduction) -> os::Result<Introduction> {
        let engine = self.find(&request.remote_address)?;
        if (request.user.as_str(), request.password.expose()) != (USER, PASSWORD) {
            return Err(Error::new(Kind::Denied, "introducing", "401: wrong user or password"));
        }
        // Over the wire it is JSON.
        let text = serde_json::to_string(introduction).unwrap();
        let answer = engine.accept_introduction(&caller(), serde_json::from_str(&text).unwrap());
        answer.map_err(|error| fault(&error.to_string()))
    }

    fn serve(&self, contact: &Contact, key: &PublicKey, input: OwnedFd, output: OwnedFd) -> os::Result<()> {
        let engine = self.find(&contact.address)?;
        let far = self.nodes.iter().find(|node| node.address == contact.address).unwrap();
        let refused = |detail: &str| Err(Error::new(Kind::Denied, "ssh", detail));
        let known = self.nodes[self.own].os.world().partners.clone();
        let expected = known.iter().find(|access| access.id == contact.partner).map(|access| access.host_keys.clone());
        if expected != Some(far.os.host_keys()?) {
            return refused("Host key verification failed");
        }
        let access = far.os.world().partners.iter().find(|access| access.public_key.as_ref() == Some(key)).cloned();
        let Some(access) = access else { return refused("Permission denied (publickey)") };
        self.control.opened.fetch_add(1, Ordering::Relaxed);
        // A link ends with the daemon that serves it.
        let (far, served) = (Arc::clone(far), Arc::downgrade(&engine));
        let is_served =
            move || far.running().is_some_and(|running| std::ptr::eq(Arc::as_ptr(&running), served.as_ptr()));
        let input = self.weathered(input, is_served);
        let address = contact.address.as_str().parse().ok();
        std::thread::spawn(move || engine.serve_link(&access.id, address, &input, &output));
        Ok(())
    }
}

impl Network {
    /// What goes through a link that may break.
    fn weathered(&self, input: OwnedFd, is_served: impl Fn() -> bool + Send + 'static) -> OwnedFd {
        let (reading, writing) = nix::unistd::pipe().unwrap();
        let control = Arc::clone(&self.control);
        std::thread::spawn(move || {
            let (mut from, mut to) = (File::from(input), File::from(writing));
            let (mut piece, mut moved) = (vec![0; 8192], 0);
            loop {
                let is_waiting = is_waiting(&from);
                if !is_served() {
                    return;
                }
                if is_waiting {
                    continue;
                }
                let Ok(count @ 1..) = from.read(&mut piece) else { return };
                moved += count;
                let mut cut = control.cut_after.lock().unwrap();
                if cut.is_some_and(|cut| moved > cut) {
                    *cut = None;
                    return;
                }
                drop(cut);
                let is_stuck = control.stuck_after.lock().unwrap().take_if(|after| moved > *after).is_some();
                if is_stuck {
                    wait_for_hangup(&from);
                    return;
                }
                if to.write_all(&piece[..count]).is_err() || *control.down.lock().unwrap() && moved > 1000 {
                    return;
                }
            }
        });
        reading
    }
}

/// Whether nothing comes for a moment.
fn is_waiting(pipe: &File) -> bool {
    let mut waiting = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut waiting, PollTimeout::from(10_u8)).unwrap() == 0
}

fn wait_for_hangup(pipe: &File) {
    loop {
        let mut waiting = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        if poll(&mut waiting, PollTimeout::from(10_u8)).unwrap() > 0 {
            return;
        }
    }
}

pub fn partner_request(address: &Address) -> PartnerRequest {
    PartnerRequest {
        remote_address: address.clone(),
        remote_api_port: 8900,
        remote_ssh_port: 22,
        user: USER.to_owned(),
        password: Password::given(PASSWORD),
        fingerprint: None,
        local_address: None,
        local_api_port: None,
        local_ssh_port: 22,
    }
}

/// Two appliances that are partners, each with a pool.
pub struct Pair {
    pub a: Arc<Node>,
    pub b: Arc<Node>,
    pub weather: Arc<Weather>,
    pub pool_a: PoolId,
    pub pool_b: PoolId,
}

impl Pair {
    pub fn new() -> Self {
        let (a, b) = (Node::new(1), Node::new(2));
        let weather = connect(&[&a, &b]);
        let partner = a.engine().create_partner(&caller(), partner_request(&b.address)).unwrap();
        assert_eq!(partner.id, b.id());
        let (pool_a, pool_b) = (a.make_pool("pool", 1..=2), b.make_pool("pool", 1..=2));
        Pair { a, b, weather, pool_a, pool_b }
    }

    /// A filesystem with data and its replica.
    pub fn with_relationship() -> (Self, VolumeId, RelationshipId) {
        let pair = Self::new();
        let volume = pair.a.make_filesystem("data", pair.pool_a);
        pair.a.write(volume, b"one");
        let relationship = pair.a.replicate(volume, &pair.b);
        (pair, volume, relationship)
    }

    pub fn replica(&self, relationship: &RelationshipId) -> VolumeId {
        self.b.engine().relationship(relationship).unwrap().local_volume
    }
}
