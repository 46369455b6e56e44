//! The appliance itself: identity, `init`, statistics (contract section 2).

use std::sync::Arc;

use super::{Caller, Engine, locks::Key, operation::Operation};
use crate::{
    catalog::{self, Catalog, system::SystemRow},
    error::{Error, Result},
    types::{
        Epoch, Name, SystemId,
        pool::{PoolOptions, PoolRequest, PoolType},
        system::{CacheStatistics, InitRequest, InitStatus, SystemInfo},
    },
};

/// Name of the pool that `init` makes.
const PRIMARY: &str = "primary";

/// The identity in the catalog; a new catalog gets a new one.
pub(super) fn identity(catalog: &Catalog, now: Epoch) -> Result<SystemId> {
    catalog.write(|transaction| {
        if let Some(row) = catalog::system::find(transaction)? {
            return Ok(row.id);
        }
        let id = SystemId::random();
        catalog::system::insert(transaction, &id, now)?;
        Ok(id)
    })
}

impl Engine {
    pub(super) fn system_row(&self) -> Result<SystemRow> {
        self.catalog.read(|view| {
            let row = catalog::system::find(view)?;
            row.ok_or_else(|| catalog::Error::Content("the system's row is missing".to_owned()).into())
        })
    }

    /// What the appliance is and is made of.
    pub fn system(&self) -> Result<SystemInfo> {
        let row = self.system_row()?;
        let (hostname, fqdn) = self.machine.host_names()?;
        Ok(SystemInfo {
            id: row.id,
            hostname,
            fqdn,
            init_status: row.init_status,
            init_message: row.init_message,
            multipool: row.multipool,
            versions: self.machine.versions()?,
        })
    }

    /// An error unless `init` has been done.
    pub fn require_initialized(&self) -> Result<()> {
        let row = self.system_row()?;
        match row.init_status {
            InitStatus::Ready => Ok(()),
            status => Err(Error::NotInitialized { status, message: row.init_message }),
        }
    }

    /// `init`: makes pool `primary` of all unused disks, unless it is told not to. Afterwards the system is `Ready`,
    /// or `Failed` and may be initialised again. With `asynchronous` it goes on after this has returned.
    pub fn initialize(self: &Arc<Self>, caller: &Caller, request: InitRequest) -> Result<SystemInfo> {
        let guard = self.locks.acquire(vec![Key::System], "the initialisation")?;
        let (id, operation) =
            self.begin(caller, |transaction| match catalog::system::find(transaction)?.map(|row| row.init_status) {
                Some(InitStatus::Ready) => Err(Error::State("the system is initialised already".to_owned())),
                Some(InitStatus::Initializing) => {
                    Err(Error::Busy("the system is being initialised; follow it with GET /api/system".to_owned()))
                }
                _ => {
                    catalog::system::set_init(transaction, InitStatus::Initializing, None)?;
                    catalog::system::set_multipool(transaction, request.multipool)?;
                    Ok(Operation::Initialize { request })
                }
            })?;
        if !request.asynchronous {
            self.carry_out_or_give_up(id, &operation)?;
            drop(guard);
            return self.system();
        }
        // From here on the status in the catalog keeps a second `init` out.
        drop(guard);
        // What was begun is told, not what has become of it meanwhile.
        let begun = self.system();
        let engine = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("initialize".to_owned()).spawn(move || {
            // Its failure is in the log and in the system's row.
            let _ = engine.carry_out_or_give_up(id, &operation);
        });
        if let Err(error) = spawned {
            let error = Error::System(crate::os::Error::io("starting a thread for init", &error));
            self.fail_initialize(id, &error)?;
            return Err(error);
        }
        begun
    }

    pub(super) fn run_initialize(&self, id: i64, request: InitRequest) -> Result<()> {
        if !request.skip_pool && self.pool_rows()?.is_empty() && !self.unused_disks()?.is_empty() {
            let primary = PoolRequest {
                name: Name::new(PRIMARY)?,
                disks: Vec::new(),
                pool_type: PoolType::Raid0,
                options: PoolOptions::default(),
            };
            self.create_pool(&Caller::system("init"), primary)?;
        }
        self.finish(id, |transaction| catalog::system::set_init(transaction, InitStatus::Ready, None))
    }

    pub(super) fn fail_initialize(&self, id: i64, cause: &Error) -> Result<()> {
        let message = cause.to_string();
        self.end(id, Some(&message), |transaction| {
            catalog::system::set_init(transaction, InitStatus::Failed, Some(&message))
        })
    }

    /// Memory that ZFS uses.
    pub fn statistics(&self) -> Result<CacheStatistics> {
        let names: Vec<_> = self.pool_rows()?.iter().map(|row| super::pool::zpool_name(row.id)).collect();
        Ok(self.zfs.cache_statistics(&names)?)
    }
}
