//! What the appliance does. Synchronous: handlers reach it through `api::blocking()`.
//!
//! Every change of pools is an [`operation`]: it is written to the journal before its first effect, may be run again
//! from the top, and ends in the same transaction as its last row change. Changes hold [`locks`] on what they touch.

mod absence;
mod disk;
mod exports;
mod given_numbers;
mod host;
mod host_map;
mod link;
mod link_serve;
pub mod locks;
mod network;
pub mod operation;
mod operation_kind;
mod operation_report;
mod partner;
mod partner_pair;
mod pool;
mod pool_change;
mod pool_create;
mod pool_delete;
mod rebuild;
mod relationship;
mod relationship_change;
mod replica;
mod replica_create;
mod report;
mod session;
mod share;
mod snapshot;
mod snapshot_change;
mod snapshot_create;
mod snapshot_diff;
mod startup;
mod system;
mod target;
mod upkeep;
mod user;
mod volume;
mod volume_action;
mod volume_create;
mod volume_delete;
mod volume_update;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, atomic::AtomicBool, mpsc},
};

pub use snapshot_diff::Span;
pub use target::Target;

use crate::{
    catalog::Catalog,
    config::Config,
    error::Result,
    os::{Exports, Machine, Peers, SnapshotFacts, Zfs, process::Process},
    types::{Epoch, RelationshipId, SystemId},
};

/// Who asked for a change, for the journal and the log.
#[derive(Debug, Clone)]
pub struct Caller {
    /// User name; `root` on the Unix socket; `system` for upkeep and recovery.
    pub user: String,
    /// Id of the request.
    pub request_id: String,
}

impl Caller {
    /// The appliance itself.
    fn system(reason: &str) -> Self {
        Caller { user: "system".to_owned(), request_id: reason.to_owned() }
    }
}

/// Everything outside the process that an appliance works with.
pub struct System {
    /// Pools and what is in them.
    pub zfs: Arc<dyn Zfs>,
    /// Disks, accounts, interfaces, clock.
    pub machine: Arc<dyn Machine>,
    /// What clients reach.
    pub exports: Arc<dyn Exports>,
    /// Other appliances.
    pub peers: Arc<dyn Peers>,
}

/// The appliance.
pub struct Engine {
    catalog: Catalog,
    zfs: Arc<dyn Zfs>,
    machine: Arc<dyn Machine>,
    exports: Arc<dyn Exports>,
    peers: Arc<dyn Peers>,
    /// Exports are applied one after the other.
    exporting: exports::Turns,
    /// Who listens for the API.
    api: OnceLock<network::Follower>,
    /// So is who may open a link.
    pairing: Mutex<()>,
    config: Config,
    /// Another one after the catalog was rebuilt.
    id: RwLock<SystemId>,
    locks: locks::Locks,
    running: operation::Running,
    absence: absence::Absence,
    progress: operation_report::Progress,
    /// By the operation that deletes a volume, its snapshots, which were looked at a moment ago: a second look would take
    /// as long as a tenth of the deletion. An operation that goes on after a crash looks again.
    checked: Mutex<HashMap<i64, Vec<SnapshotFacts>>>,
    sessions: session::Sessions,
    throttle: session::throttle::Throttle,
    /// While it is decided which bookmarks are needed, and while one more comes to be.
    bookmarks: Mutex<()>,
    idle_links: link::IdleLinks,
    /// Streams that are being received.
    deliveries: Mutex<HashMap<RelationshipId, Arc<dyn Process>>>,
    /// Nothing new begins, and what can go on at the next start ends.
    stopping: AtomicBool,
    /// Ends the upkeep thread when it is dropped.
    upkeep: Mutex<Option<mpsc::Sender<()>>>,
}

impl Engine {
    /// An appliance on this catalog and system. A new catalog gets the identity of a new appliance.
    pub fn new(catalog: Catalog, os: System, config: Config) -> Result<Arc<Self>> {
        let System { zfs, machine, exports, peers } = os;
        let id = system::identity(&catalog, machine.now())?;
        Ok(Arc::new(Engine {
            catalog,
            zfs,
            machine,
            exports,
            peers,
            exporting: exports::Turns::default(),
            api: OnceLock::new(),
            pairing: Mutex::default(),
            config,
            id: RwLock::new(id),
            locks: locks::Locks::default(),
            running: operation::Running::default(),
            absence: absence::Absence::default(),
            progress: operation_report::Progress::default(),
            checked: Mutex::default(),
            sessions: session::Sessions::default(),
            throttle: session::throttle::Throttle::default(),
            bookmarks: Mutex::default(),
            idle_links: link::IdleLinks::default(),
            deliveries: Mutex::default(),
            stopping: AtomicBool::new(false),
            upkeep: Mutex::default(),
        }))
    }

    /// Identity of the appliance.
    fn id(&self) -> SystemId {
        self.id.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> Epoch {
        self.machine.now()
    }
}
