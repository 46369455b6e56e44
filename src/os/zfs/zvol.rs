//! Devices of zvols and the links that udev makes to them, `/dev/zvol/<dataset>`.

use std::{
    collections::HashSet,
    fs::File,
    io::ErrorKind,
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    os::{Error, Kind, Result, file},
    types::names::DatasetName,
};

/// Links by name of the dataset.
const LINKS: &str = "/dev/zvol";
/// Whole block devices.
const DEVICES: &str = "/sys/block";
/// There while udev has events to work on.
const BUSY: &str = "/run/udev/queue";
/// How long udev gets to make a link, and the time between two looks.
const LINK_LIMIT: Duration = Duration::from_secs(30);
const LINK_WAIT: Duration = Duration::from_millis(5);
/// How long after the last time udev may be told again.
const TELL_WAIT: Duration = Duration::from_secs(2);

/// Where the link of a zvol is.
pub(super) fn link(dataset: &str) -> String {
    format!("{LINKS}/{dataset}")
}

/// Whether a dataset has a device, and so is a zvol. A filesystem with zvols in it has a folder in the place of a link.
pub(super) fn has_device(dataset: &str) -> bool {
    std::fs::metadata(link(dataset)).is_ok_and(|device| device.file_type().is_block_device())
}

/// Waits for links. ZFS refuses to open a device while it is at work on its pools, and udev takes that for the end of the
/// event (`ERESTARTSYS`, "Unknown error 512"): after an import of many zvols some have no link, and would never get one.
/// So udev is told of those again, as soon as it has nothing else to do.
pub(in crate::os) struct Waiting {
    told: Instant,
}

impl Waiting {
    pub(in crate::os) fn new() -> Self {
        Waiting { told: Instant::now() }
    }

    /// Call again and again while a link is missing. When udev can't be told it goes on without: what waits says at its
    /// end which link is missing, and all else is not to suffer from it.
    pub(in crate::os) fn go_on(&mut self) {
        if self.told.elapsed() < TELL_WAIT || Path::new(BUSY).exists() {
            return;
        }
        self.told = Instant::now();
        let unlinked = || tell(&devices(Path::new(DEVICES))?, &linked(Path::new(LINKS))?);
        if let Err(error) = unlinked() {
            tracing::warn!(%error, "udev cannot be told of zvols without a link");
        }
    }
}

/// Announces devices without a link once more.
fn tell(devices: &HashSet<String>, linked: &HashSet<String>) -> Result<()> {
    for device in devices.difference(linked) {
        match file::instruct(&Path::new(DEVICES).join(device).join("uevent"), "change\n") {
            // Gone meanwhile.
            Err(error) if error.kind == Kind::Missing => {}
            Err(error) => return Err(error),
            Ok(()) => tracing::info!(device, "udev made no link to this zvol, and is told of it again"),
        }
    }
    Ok(())
}

/// Names of all zvols' devices.
fn devices(folder: &Path) -> Result<HashSet<String>> {
    let names = file::names(folder)?;
    Ok(names.into_iter().filter(|name| name.strip_prefix("zd").is_some_and(|rest| !rest.is_empty())).collect())
}

/// Names of the devices that links in this folder, however deep, lead to.
fn linked(folder: &Path) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    for name in file::names(folder)? {
        let path = folder.join(name);
        match std::fs::read_link(&path) {
            Ok(device) => found.extend(device.file_name().map(|name| name.to_string_lossy().into_owned())),
            // A folder.
            Err(error) if error.kind() == ErrorKind::InvalidInput => found.extend(linked(&path)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format!("reading {}", path.display()), &error)),
        }
    }
    Ok(found)
}

/// Opens a zvol that is not in use.
pub(super) fn open_device(name: &DatasetName) -> Result<OwnedFd> {
    let device = name.device();
    let open = File::open(&device).map_err(|error| Error::io(format!("opening {device}"), &error))?;
    Ok(open.into())
}

/// Waits until udev has made the link of a zvol that is there.
pub(super) fn wait_for_link(device: &str) -> Result<()> {
    let action = || format!("waiting for {device}");
    let deadline = Instant::now() + LINK_LIMIT;
    let mut waiting = Waiting::new();
    loop {
        match std::fs::metadata(device) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_block_device(&found.file_type()) => return Ok(()),
            Ok(_) => return Err(Error::new(Kind::Other, action(), "it is no block device")),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(action(), &error)),
            Err(_) if Instant::now() >= deadline => {
                let detail = format!("udev has not made it within {} s", LINK_LIMIT.as_secs());
                return Err(Error::new(Kind::TimedOut, action(), detail));
            }
            Err(_) => {
                waiting.go_on();
                std::thread::sleep(LINK_WAIT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_found_however_deep() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("vpool1")).unwrap();
        std::fs::create_dir_all(folder.path().join("theirs/deep/er")).unwrap();
        symlink("../../zd0", folder.path().join("vpool1/lun1")).unwrap();
        symlink("../../zd0p1", folder.path().join("vpool1/lun1-part1")).unwrap();
        symlink("../../../../zd16", folder.path().join("theirs/deep/er/vol")).unwrap();
        let expected = ["zd0", "zd0p1", "zd16"].map(str::to_owned).into();
        assert_eq!(linked(folder.path()).unwrap(), expected);
        assert_eq!(linked(&folder.path().join("nowhere")).unwrap(), HashSet::new());
        assert_eq!(devices(&folder.path().join("nowhere")).unwrap(), HashSet::new());
        for name in ["zd0", "zd32", "zd", "sda", "nvme0n1"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(devices(folder.path()).unwrap(), ["zd0", "zd32"].map(str::to_owned).into());
    }
}
