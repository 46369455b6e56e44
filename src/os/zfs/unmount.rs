//! Unmounting, by the kernel and not by `zfs unmount`: that ends with an `exportfs -ra`, which takes away what others
//! export by hand, and it leaves snapshots of the filesystem mounted, which keep it busy.

use nix::mount::{MntFlags, umount2};

use super::mounts;
use crate::os::{Error, Kind, Result, nfs};

/// Unmounts a filesystem and what of its snapshots is mounted. `Busy` when somebody works there.
pub(super) fn unmount(dataset: &str) -> Result<()> {
    let inside = format!("{dataset}@");
    let mounts = mounts::mounted()?;
    for (_, place) in mounts.iter().filter(|(name, _)| name.starts_with(&inside)) {
        detach(place)?;
    }
    mounts.get(dataset).map_or(Ok(()), |place| detach(place))
}

/// Unmounts snapshots that clients of an NFS share have looked into: the kernel's server keeps them. Tells whether any
/// was mounted.
pub(super) fn unmount_snapshots(names: &[&str]) -> Result<bool> {
    let mounts = mounts::mounted()?;
    let places: Vec<&str> = names.iter().filter_map(|name| mounts.get(*name)).map(String::as_str).collect();
    if places.is_empty() {
        return Ok(false);
    }
    nfs::release(&places)?;
    places.iter().try_for_each(|place| detach(place)).map(|()| true)
}

fn detach(place: &str) -> Result<()> {
    match umount2(place, MntFlags::empty()) {
        // Not mounted there any longer.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(nix::Error::EBUSY) => Err(Error::new(Kind::Busy, format!("unmounting {place}"), "it is in use")),
        Err(error) => Err(Error::io(format!("unmounting {place}"), &error.into())),
    }
}
