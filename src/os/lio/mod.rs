//! The iSCSI target through the kernel's LIO, by its configfs alone: what is wanted is compared with what is live, and
//! the difference is applied. What it makes of one zvol and one file, each mapped to the host with initiator `iqn.a`:
//!
//! ```text
//! /sys/kernel/config/target/
//!   core/iblock_89000001/vsnap-volume1/        backstore of volume 1, a zvol
//!   core/fileio_89000002/vsnap-volume2/        backstore of volume 2, a file
//!   iscsi/<iqn of the appliance>/tpgt_1/
//!     lun/lun_1/vsnap  -> core/iblock_89000001/vsnap-volume1      the volume's id is its number in the target
//!     lun/lun_2/vsnap  -> core/fileio_89000002/vsnap-volume2
//!     acls/iqn.a/lun_0/vsnap -> lun/lun_1                         the number that the host sees
//!     acls/iqn.a/lun_1/vsnap -> lun/lun_2
//!     np/[::]:3260                                                where initiators connect: everywhere, or
//!     np/10.0.0.1:3260                                            at each address that offers it
//! ```
//!
//! Ours are the backstores with such a name and number, and the targets with our IQN or our alias; all else is left
//! alone. Without an ACL nobody logs in; an ACL without CHAP says so itself, since the default of the target is to want
//! CHAP: an ACL that was left half made lets nobody in.

mod execute;
mod live;
mod plan;
#[cfg(test)]
mod plan_tests;
mod reservations;
mod secrets;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Error, Kind, Result,
    exports::Applied,
    network,
    zfs::{backing_file, zvol},
};
pub(super) use secrets::Secrets;

use crate::types::{
    VolumeId,
    host::{ChapCredentials, Iqn},
    names::DatasetName,
    network::Interface,
    volume::RelativePath,
};

/// Where configfs shows the target.
const ROOT: &str = "/sys/kernel/config/target";

/// How long the kernel may take for one step. Logging out initiators is a matter of seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long devices may take to appear after their pool was imported, counted from the last one that did.
const DEVICE_PATIENCE: Duration = Duration::from_secs(10);

/// The appliance's target with all that is to be reached through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiTarget {
    /// Its IQN.
    pub iqn: String,
    /// Addresses and ports that it is reached at. `[::]` is every address, also those of IPv4. One that the machine
    /// does not have, or not yet, is left out.
    pub portals: Vec<SocketAddr>,
    /// What is mapped.
    pub units: Vec<ScsiUnit>,
    /// Who may log in.
    pub initiators: Vec<ScsiInitiator>,
}

/// A volume that is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiUnit {
    /// Which.
    pub volume: VolumeId,
    /// Its serial number.
    pub serial: String,
    /// What is behind it.
    pub backing: Backing,
    /// Whether it is an error when it can't be brought up. What is not needed is left out until it can be.
    pub needed: bool,
}

/// What is behind a volume that is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A zvol.
    Zvol(DatasetName),
    /// A file in a filesystem.
    File {
        /// The filesystem.
        filesystem: DatasetName,
        /// The file in it.
        path: RelativePath,
    },
}

impl Backing {
    /// What people and `targetcli` are shown; at most 500 bytes, since the kernel keeps 511.
    fn shown(&self) -> String {
        match self {
            Backing::Zvol(dataset) => dataset.device(),
            Backing::File { filesystem, path } => {
                let shown = format!("{}/{path}", filesystem.mountpoint());
                shown.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 500).map(|(_, c)| c).collect()
            }
        }
    }
}

/// Who may log in, and what is there to see then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiInitiator {
    /// Name of the initiator.
    pub iqn: Iqn,
    /// How it proves that it is the one.
    pub access: Access,
    /// Number to volume.
    pub luns: BTreeMap<u16, VolumeId>,
}

/// How an initiator proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// By its name alone.
    Open,
    /// By CHAP.
    Chap(ChapCredentials),
    /// Not at all: its secrets are lost, so it must not come in.
    Closed,
}

/// What is behind the wanted units at this moment.
#[derive(Debug, Default)]
struct Backings {
    /// Units whose device or file is there, with the size of a file in bytes.
    present: BTreeMap<VolumeId, Option<u64>>,
    /// Files that are held so that the kernel opens these and no others.
    files: BTreeMap<VolumeId, OwnedFd>,
}

/// The kernel's SCSI target.
pub struct Lio {
    root: PathBuf,
    /// The thread that changes the target, while it does; how far it is.
    worker: Arc<Mutex<Option<Instant>>>,
    /// Units whose devices did not appear though they were waited for.
    missed: Arc<Mutex<BTreeSet<VolumeId>>>,
}

impl Lio {
    /// Looks for what it needs.
    pub fn new() -> Result<Self> {
        Ok(Lio { root: ROOT.into(), worker: Arc::default(), missed: Arc::default() })
    }

    /// See [`super::Exports::apply_iscsi`] and [`super::Exports::apply_unit`]. The work is done by a thread of its own: the kernel may keep it for ever in
    /// a step, while an initiator or a disk does not answer, and then others must not wait with it.
    pub fn apply(&self, wanted: Option<&ScsiTarget>, only: Option<VolumeId>) -> Result<Applied> {
        if wanted.is_none() && !self.root.join("core").exists() {
            return Ok(Applied::default());
        }
        if self.last_step().is_some() {
            return Err(Error::new(
                Kind::Busy,
                "changing the iSCSI target",
                "the kernel has not finished the change before this one: a disk or an initiator does not answer",
            ));
        }
        *lock(&self.worker) = Some(Instant::now());
        let (sender, receiver) = std::sync::mpsc::channel();
        let (root, worker, missed) = (self.root.clone(), Arc::clone(&self.worker), Arc::clone(&self.missed));
        let wanted = wanted.cloned();
        let work = move || {
            let result = {
                // Also when it panics; and before the result is told, since the next change may come right after that.
                let _end = End(Arc::clone(&worker));
                let step = || *lock(&worker) = Some(Instant::now());
                reconcile(&root, wanted.as_ref(), only, &missed, &step)
            };
            let _ = sender.send(result);
        };
        let spawned = std::thread::Builder::new().name("lio".to_owned()).spawn(work);
        if let Err(error) = spawned {
            *lock(&self.worker) = None;
            return Err(Error::io("starting a thread for the iSCSI target", &error));
        }
        loop {
            match receiver.recv_timeout(Duration::from_secs(1)) {
                Ok(result) => return result,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Kind::Other, "changing the iSCSI target", "its thread ended early"));
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    if self.last_step().is_some_and(|last| last.elapsed() > PATIENCE) {
                        let detail = "the kernel did not finish a step in time: a disk or an initiator does not answer";
                        return Err(Error::new(Kind::TimedOut, "changing the iSCSI target", detail));
                    }
                }
            }
        }
    }

    /// See [`super::Exports::is_iscsi_as`].
    pub fn is_as(&self, wanted: &ScsiTarget) -> Result<bool> {
        let live = live::read(&self.root, Some(wanted.iqn.as_str()), None)?;
        let wanted = with_portals(wanted, &live.others, &addresses)?;
        let mut backings = Backings::default();
        for unit in &wanted.units {
            if !look_at(unit, &mut backings)? {
                return Ok(false);
            }
        }
        let saved = reservations::saved(&self.root, &wanted.units, &live)?;
        Ok(plan::plan(Some(&wanted), &live, &backings, &saved).is_empty())
    }

    fn last_step(&self) -> Option<Instant> {
        *lock(&self.worker)
    }
}

/// The end of the worker.
struct End(Arc<Mutex<Option<Instant>>>);

impl Drop for End {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reconcile(
    root: &Path,
    wanted: Option<&ScsiTarget>,
    only: Option<VolumeId>,
    missed: &Mutex<BTreeSet<VolumeId>>,
    step: &dyn Fn(),
) -> Result<Applied> {
    if wanted.is_some() {
        execute::prepare(root)?;
    }
    let narrowed = wanted.zip(only).map(|(target, volume)| narrowed(target, volume));
    let live = live::read(root, wanted.map(|target| target.iqn.as_str()), narrowed.as_ref())?;
    let wanted = narrowed.as_ref().or(wanted);
    let wanted = wanted.map(|target| with_portals(target, &live.others, &addresses)).transpose()?;
    let backings = match &wanted {
        Some(target) => look_behind(&target.units, &live, missed, step)?,
        None => Backings::default(),
    };
    let units = wanted.as_ref().map_or(&[][..], |target| &target.units);
    let saved = reservations::saved(root, units, &live)?;
    let steps = plan::plan(wanted.as_ref(), &live, &backings, &saved);
    let needed =
        |volume| wanted.iter().flat_map(|target| &target.units).any(|unit| unit.volume == volume && unit.needed);
    execute::execute(root, &steps, &needed, step)
}

/// The target with one unit alone, for those who see it.
fn narrowed(target: &ScsiTarget, volume: VolumeId) -> ScsiTarget {
    let narrowed = |initiator: &ScsiInitiator| {
        let luns: BTreeMap<u16, VolumeId> =
            initiator.luns.iter().filter(|(_, unit)| **unit == volume).map(|(number, unit)| (*number, *unit)).collect();
        (!luns.is_empty()).then(|| ScsiInitiator { luns, ..initiator.clone() })
    };
    ScsiTarget {
        iqn: target.iqn.clone(),
        portals: target.portals.clone(),
        units: target.units.iter().filter(|unit| unit.volume == volume).cloned().collect(),
        initiators: target.initiators.iter().filter_map(narrowed).collect(),
    }
}

/// The portals as this machine can have them. Targets share a portal, but there is none for one address beside one for
/// all of them: where a target of somebody else has all addresses, ours has them as well, and the packet filter alone
/// keeps it to where it is offered; where it has single ones, ours has all of them one by one.
fn with_portals(
    target: &ScsiTarget,
    others: &BTreeSet<SocketAddr>,
    addresses: &dyn Fn() -> Result<Vec<IpAddr>>,
) -> Result<ScsiTarget> {
    let (any4, any6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    let is_taken = |address, port| others.contains(&SocketAddr::new(address, port));
    let without_ipv6 = !Path::new("/proc/net/if_inet6").exists();
    let possible = |portal: &SocketAddr| {
        let port = portal.port();
        let address = match portal.ip() {
            ip if ip == any6 && (without_ipv6 || is_taken(any4, port)) => any4,
            _ if is_taken(any6, port) => any6,
            ip if ip.is_ipv4() && is_taken(any4, port) => any4,
            ip => ip,
        };
        SocketAddr::new(address, port)
    };
    let mut portals = BTreeSet::new();
    for portal in target.portals.iter().map(possible) {
        let is_single = |other: &SocketAddr| other.port() == portal.port() && !other.ip().is_unspecified();
        if portal.ip().is_unspecified() && !others.contains(&portal) && others.iter().any(is_single) {
            portals.extend(addresses()?.into_iter().map(|ip| possible(&SocketAddr::new(ip, portal.port()))));
        } else {
            portals.insert(portal);
        }
    }
    Ok(ScsiTarget { portals: portals.into_iter().collect(), ..target.clone() })
}

/// The addresses of the machine that others can connect to.
fn addresses() -> Result<Vec<IpAddr>> {
    Ok(network::interfaces()?.iter().flat_map(Interface::reachable).collect())
}

/// Looks at devices and files; waits for devices that udev has not made yet, once.
fn look_behind(
    units: &[ScsiUnit],
    live: &live::Live,
    missed: &Mutex<BTreeSet<VolumeId>>,
    step: &dyn Fn(),
) -> Result<Backings> {
    let mut backings = Backings::default();
    let mut last = Instant::now();
    let mut links = zvol::Waiting::new();
    loop {
        let mut waiting = false;
        for unit in units {
            if backings.present.contains_key(&unit.volume) {
                continue;
            }
            if look_at(unit, &mut backings)? {
                lock(missed).remove(&unit.volume);
                last = Instant::now();
            } else {
                let is_new = unit.needed || !lock(missed).contains(&unit.volume);
                let is_zvol = matches!(unit.backing, Backing::Zvol(_));
                waiting |= is_new && is_zvol && !live.stores.contains_key(&unit.volume);
            }
        }
        let mut absent: Vec<_> = units.iter().filter(|unit| !backings.present.contains_key(&unit.volume)).collect();
        if !waiting || last.elapsed() > DEVICE_PATIENCE {
            lock(missed).extend(absent.iter().map(|unit| unit.volume));
            if let Some(unit) = absent.iter().find(|unit| unit.needed) {
                let action = format!("mapping volume {}", unit.volume);
                return Err(Error::new(Kind::Missing, action, format!("{} is not there", unit.backing.shown())));
            }
            absent.retain(|unit| !live.stores.contains_key(&unit.volume));
            if !absent.is_empty() {
                let volumes: Vec<String> = absent.iter().take(20).map(|unit| unit.volume.to_string()).collect();
                tracing::warn!(
                    count = absent.len(),
                    volumes = volumes.join(" "),
                    "mapped volumes are not here, so hosts do not see them"
                );
            }
            return Ok(backings);
        }
        step();
        links.go_on();
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Tells whether it is there.
fn look_at(unit: &ScsiUnit, backings: &mut Backings) -> Result<bool> {
    match &unit.backing {
        Backing::Zvol(dataset) => {
            let device = dataset.device();
            if Path::new(&device).try_exists().map_err(|error| Error::io(format!("looking at {device}"), &error))? {
                backings.present.insert(unit.volume, None);
                return Ok(true);
            }
        }
        Backing::File { filesystem, path } => match backing_file::find(&filesystem.mountpoint(), path) {
            Ok((file, bytes)) => {
                backings.present.insert(unit.volume, Some(bytes));
                backings.files.insert(unit.volume, file);
                return Ok(true);
            }
            Err(error) if error.kind == Kind::Missing || !unit.needed => {
                tracing::debug!(volume.id = unit.volume.0, %error, "the file of a lun can't be used");
            }
            Err(error) => return Err(error),
        },
    }
    Ok(false)
}

impl Backings {
    /// What the kernel is to open. A file is named by our descriptor of it, since its path may have a comma, may be too
    /// long for the kernel, and whoever may write in the filesystem may put something else there meanwhile.
    fn path(&self, unit: &ScsiUnit) -> String {
        match self.files.get(&unit.volume) {
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()),
            None => unit.backing.shown(),
        }
    }
}
