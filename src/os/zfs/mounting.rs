//! Mounting and unmounting filesystems, past `zfs mount` and `zfs unmount`: both end with an `exportfs -ra`, which takes
//! away what others export by hand, and makes the kernel's NFS server hold on to filesystems for longer each time. And
//! `zfs unmount` leaves snapshots of the filesystem mounted, which keep it busy.

use std::os::fd::{AsFd, OwnedFd};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::{
    OpenZfs, messages,
    pool::STALL,
    program::Record,
    zvol::{has_device, link, wait_for_link},
};
use crate::{
    os::{Error, Kind, Result, command::Limit, file, nfs_cache},
    types::names::{DatasetName, ZpoolName},
};

/// `ZFS_VOLMODE_NONE`.
const NO_DEVICE: &str = "3";
/// `ZFS_KEYSTATUS_UNAVAILABLE`.
const LOCKED: &str = "1";

impl OpenZfs {
    /// Mounts a filesystem where it belongs, with the flags that `zfs mount` gives.
    pub(super) fn mount(&self, name: &DatasetName) -> Result<()> {
        let place = name.mountpoint();
        let action = || format!("mounting {name} at {place}");
        let record = self.look(name.as_str())?;
        let record = record.ok_or_else(|| Error::new(Kind::Missing, action(), "there is no such dataset"))?;
        file::make_folder(place.as_ref())?;
        match mount(Some(name.as_str()), place.as_str(), Some("zfs"), flags(&record), None::<&str>) {
            Err(_) if self.mounts.read()?.contains_key(name.as_str()) => Ok(()),
            result => result.map_err(|error| Error::io(action(), &error.into())),
        }
    }

    /// Mounts a pool's root and the filesystems in it that are not mounted, and waits for the devices of its zvols.
    pub(super) fn mount_all(&self, pool: &ZpoolName) -> Result<()> {
        self.require_pool(pool.as_str(), || format!("looking at the mounts of {pool}"))?;
        let below = self.names_below(pool.as_str())?;
        if !self.is_all_mounted(pool, &below)? {
            // With -R it passes over what is mounted already.
            self.zfs(["mount", "-R", pool.as_str()]).limit(Limit::Stall(STALL)).output(messages::zfs)?;
        }
        self.wait_for_devices(&below)
    }

    /// Whether a pool's root and every filesystem in it is mounted.
    fn is_all_mounted(&self, pool: &ZpoolName, below: &[String]) -> Result<bool> {
        let mounts = self.mounts.read()?;
        if !mounts.contains_key(pool.as_str()) {
            return Ok(false);
        }
        for name in below.iter().filter(|name| !mounts.contains_key(*name)) {
            // Its device is faster to look at than the dataset.
            if !has_device(name) && self.look(name)?.is_some_and(|record| record.find("type") == Some("filesystem")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whoever is told that the pool is there may open its zvols. One that udev can't be brought to link keeps nobody from
    /// the rest.
    fn wait_for_devices(&self, below: &[String]) -> Result<()> {
        let mounts = self.mounts.read()?;
        for name in below.iter().filter(|name| !mounts.contains_key(*name) && !has_device(name)) {
            if !self.look(name)?.as_ref().is_some_and(has_link) {
                continue;
            }
            match wait_for_link(&link(name)) {
                // In all that time udev was told of the others as well.
                Err(error) if error.kind == Kind::TimedOut => {
                    tracing::error!(%error, "a zvol has no device");
                    return Ok(());
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Unmounts a filesystem and what of its snapshots is mounted. `Busy` when somebody works there.
    pub(super) fn unmount(&self, dataset: &str) -> Result<()> {
        let inside = format!("{dataset}@");
        let mounts = self.mounts.read()?;
        for (_, place) in mounts.iter().filter(|(name, _)| name.starts_with(&inside)) {
            detach(place)?;
        }
        mounts.get(dataset).map_or(Ok(()), |place| detach(place))
    }

    /// Unmounts snapshots that clients of an NFS share have looked into: the kernel's server keeps them. Tells whether any
    /// was mounted.
    pub(super) fn unmount_snapshots(&self, names: &[&str]) -> Result<bool> {
        let mounts = self.mounts.read()?;
        let places: Vec<&str> = names.iter().filter_map(|name| mounts.get(*name)).map(String::as_str).collect();
        if places.is_empty() {
            return Ok(false);
        }
        nfs_cache::release(&places)?;
        places.iter().try_for_each(|place| detach(place)).map(|()| true)
    }
}

/// Opens a filesystem as a mount that is nowhere, so that nobody sees it and it ends with this process.
pub(super) fn open_unmounted(name: &DatasetName) -> Result<OwnedFd> {
    let open = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("zfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", name.as_str())?;
        fsconfig_set_flag(context.as_fd(), "ro")?;
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    open().map_err(|error| Error::io(format!("opening {name}"), &error.into()))
}

/// Whether udev makes a link for it: it is a zvol that is not hidden, whose key, if it has one, is loaded, and received to
/// its end, before which the kernel tells no size.
fn has_link(record: &Record) -> bool {
    let is_hidden = record.find("volmode") == Some(NO_DEVICE) || record.find("keystatus") == Some(LOCKED);
    record.find("volsize").is_some() && !is_hidden
}

/// Flags of mount(2) for what the properties say. The rest of them the kernel module reads itself.
fn flags(record: &Record) -> MsFlags {
    // The kernel gives those that were set somewhere.
    let is = |property: &str, usual: bool| record.find(property).map_or(usual, |value| value != "0");
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_RDONLY, is("readonly", false));
    flags.set(MsFlags::MS_NODEV, !is("devices", true));
    flags.set(MsFlags::MS_NOEXEC, !is("exec", true));
    flags.set(MsFlags::MS_NOSUID, !is("setuid", true));
    flags.set(MsFlags::MS_NOATIME, !is("atime", true));
    // Which is what the kernel does when nothing is said.
    flags.set(MsFlags::MS_STRICTATIME, is("atime", true) && !is("relatime", true));
    flags
}

fn detach(place: &str) -> Result<()> {
    match umount2(place, MntFlags::empty()) {
        // Not mounted there any longer.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(nix::Error::EBUSY) => Err(Error::new(Kind::Busy, format!("unmounting {place}"), "it is in use")),
        Err(error) => Err(Error::io(format!("unmounting {place}"), &error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_for_what_has_a_device() {
        let of = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            has_link(&Record::of("vpool1/lun1", fields.collect()))
        };
        assert!(of(&[("volsize", "8388608")]) && of(&[("volsize", "8388608"), ("volmode", "2")]));
        assert!(of(&[("volsize", "8388608"), ("keystatus", "2")]));
        assert!(!of(&[("volsize", "8388608"), ("keystatus", "1")]));
        assert!(!of(&[("quota", "0")]) && !of(&[("volsize", "8388608"), ("volmode", "3")]));
    }

    #[test]
    fn flags_say_what_the_properties_say() {
        let of = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            flags(&Record::of("vpool1/fs1", fields.collect()))
        };
        assert_eq!(of(&[]), MsFlags::empty());
        assert_eq!(of(&[("atime", "0"), ("relatime", "0"), ("readonly", "0"), ("exec", "1")]), MsFlags::MS_NOATIME);
        assert_eq!(of(&[("relatime", "0")]), MsFlags::MS_STRICTATIME);
        let closed = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID;
        assert_eq!(of(&[("readonly", "1"), ("devices", "0"), ("exec", "0"), ("setuid", "0")]), closed);
    }
}
