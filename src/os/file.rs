//! The only place that writes files, but for the catalog and configfs: whole files, so that after a crash a reader
//! finds the old content or the new one, never half of it.
#![allow(clippy::disallowed_methods, reason = "this is the place that the ban of these methods leads to")]

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Error, Kind, Result};

/// Makes `path` a file with this content and mode, durable when it returns: a temporary file in the same folder,
/// fsync, rename, fsync of the folder. A folder that is not there is made, open to its owner only.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let action = || format!("writing {}", path.display());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(Kind::Other, action(), "it is no path of a file"));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Error::io(action(), &error))?;
    let temporary = Temporary::new(folder, name);
    let result = temporary.fill(content, mode).and_then(|()| std::fs::rename(&temporary.0, path));
    if result.is_err() {
        // What matters is the first error; a leftover is overwritten by nobody and harmless.
        drop(std::fs::remove_file(&temporary.0));
    }
    result.and_then(|()| sync_folder(folder)).map_err(|error| Error::io(action(), &error))
}

/// The content of a text file; `None` when there is no such file.
pub fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("reading {}", path.display()), &error)),
    }
}

/// The content of a text file that the system must have.
pub fn read_required(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::io(format!("reading {path}"), &error))
}

/// Removes a file, durably; no error when there is none.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match std::fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| Error::io(format!("removing {}", path.display()), &error))
}

/// Gives a value to a file of the kernel (`/sys`, `/proc`), which is an instruction and not a file.
pub fn instruct(path: &Path, value: &str) -> Result<()> {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| Error::io(format!("writing {value:?} to {}", path.display()), &error))
}

/// Names of what is in a folder; none when it is not there. One that is no UTF-8 is shown as such.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = |error: std::io::Error| Error::io(format!("reading {}", folder.display()), &error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

/// Makes a folder that something is to be mounted on, unless it is there.
pub fn make_folder(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|error| Error::io(format!("making the folder {}", folder.display()), &error))
}

/// Makes a folder that only its owner can look into, unless it is there.
pub fn make_private_folder(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Error::io(format!("making the folder {}", folder.display()), &error))
}

/// Makes a folder hold these symbolic links, name to target, and nothing else; makes the folder, readable by all, when it
/// is not there. Tells whether something had to be done. Not durable: for what can be made again.
pub fn set_links(folder: &Path, links: &BTreeMap<String, String>) -> Result<bool> {
    let action = || format!("setting the links in {}", folder.display());
    let set = || -> std::io::Result<bool> {
        std::fs::create_dir_all(folder)?;
        for above in folder.ancestors().take(2) {
            if std::fs::metadata(above)?.permissions().mode() & 0o777 != 0o755 {
                std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755))?;
            }
        }
        let (mut there, mut changed) = (std::collections::BTreeSet::new(), false);
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let target = std::fs::read_link(entry.path()).ok();
            let wanted = links.get(&name);
            if wanted.is_some() && target.as_deref() == wanted.map(Path::new) {
                there.insert(name);
            } else {
                std::fs::remove_file(entry.path())?;
                changed = true;
            }
        }
        for (name, target) in links.iter().filter(|(name, _)| !there.contains(*name)) {
            std::os::unix::fs::symlink(target, folder.join(name))?;
            changed = true;
        }
        Ok(changed)
    };
    set().map_err(|error| Error::io(action(), &error))
}

/// Removes a folder of links; no error when there is none.
pub fn remove_links(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", folder.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Gives a folder that is still root's alone to a group whose members may write in it. What others may do stays.
pub fn open_to_group(folder: &Path, group: nix::unistd::Gid) -> Result<()> {
    let open = || -> std::io::Result<()> {
        let metadata = std::fs::metadata(folder)?;
        if metadata.gid() == 0 {
            std::os::unix::fs::chown(folder, None, Some(group.as_raw()))?;
            let mode = metadata.permissions().mode() & 0o777 | 0o070;
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    open().map_err(|error| Error::io(format!("opening {} to a group", folder.display()), &error))
}

/// Opens a block device for reading with an exclusive claim; `Busy` when anyone holds one on it or a part of it.
pub fn open_exclusively(device: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL).open(device);
    opened.map_err(|error| Error::io(format!("opening {}", device.display()), &error))
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A file beside the one that is to be written; hidden, and unlike that of any other writer.
struct Temporary(PathBuf);

impl Temporary {
    fn new(folder: &Path, name: &std::ffi::OsStr) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        Temporary(folder.join(format!(".{}.{process}.{count}.new", name.to_string_lossy())))
    }

    fn fill(&self, content: &[u8], mode: u32) -> std::io::Result<()> {
        // A file of that name is a leftover of a crashed process that had our pid.
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&self.0)?;
        // The mode at creation is cut by the umask.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_with_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.conf");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o644).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn links_are_what_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("links/one");
        let links = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        set_links(&path, &links(&[("a", "/x"), ("b", "/y")])).unwrap();
        set_links(&path, &links(&[("b", "/z"), ("c", "/y")])).unwrap();
        let target = |name: &str| std::fs::read_link(path.join(name)).ok();
        assert_eq!([target("a"), target("b"), target("c")], [None, Some("/z".into()), Some("/y".into())]);
        remove_links(&path).unwrap();
        remove_links(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A folder can't be replaced by a file.
        let path = folder.path().join("folder");
        std::fs::create_dir(&path).unwrap();
        assert!(write(&path, b"x", 0o600).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    }
}
