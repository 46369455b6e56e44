//! Mounting and unmounting filesystems, past `zfs mount` and `zfs unmount`: both end with an `exportfs -ra`, which takes
//! away what others export by hand, and makes the kernel's NFS server hold on to filesystems for longer each time. And
//! `zfs unmount` leaves snapshots of the filesystem mounted, which keep it busy.

use nix::mount::{MntFlags, umount2};

use super::{OpenZfs, messages};
use crate::{
    os::{Datasets, Error, Kind, Result, file, nfs_cache},
    types::names::{DatasetName, ZpoolName},
};

impl OpenZfs {
    /// Mounts a filesystem where it belongs, as `zfs mount` does.
    pub(super) fn mount(&self, name: &DatasetName) -> Result<()> {
        let place = name.mountpoint();
        file::make_folder(place.as_ref())?;
        let command = self.mount.command(["-o", "zfsutil", name.as_str(), &place]);
        match command.output(messages::zfs) {
            Err(_) if self.mounts.read()?.contains_key(name.as_str()) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Whether a pool's root and every filesystem in it is mounted.
    pub(super) fn is_all_mounted(&self, pool: &ZpoolName) -> Result<bool> {
        let root = self.mounts.read()?.contains_key(pool.as_str());
        Ok(root && self.datasets(pool)?.iter().all(|facts| facts.mounted))
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

fn detach(place: &str) -> Result<()> {
    match umount2(place, MntFlags::empty()) {
        // Not mounted there any longer.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(nix::Error::EBUSY) => Err(Error::new(Kind::Busy, format!("unmounting {place}"), "it is in use")),
        Err(error) => Err(Error::io(format!("unmounting {place}"), &error.into())),
    }
}
