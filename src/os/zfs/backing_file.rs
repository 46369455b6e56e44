//! A file that backs a lun: looked up so that no symbolic link leads out of its filesystem.

use std::os::fd::OwnedFd;

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{Mode, SFlag, fstat},
};

use crate::{
    os::{Error, Kind, Result},
    types::volume::RelativePath,
};

/// Size in bytes of the regular file `path` in the filesystem that is mounted at `folder`.
pub(super) fn size(folder: &str, path: &RelativePath) -> Result<u64> {
    Ok(find(folder, path)?.1)
}

/// That file, so that it stays the same one whatever happens to its path (`O_PATH`), and its size in bytes.
pub(in crate::os) fn find(folder: &str, path: &RelativePath) -> Result<(OwnedFd, u64)> {
    let action = || format!("looking at {path} in {folder}");
    let failed = |errno: Errno| {
        let kind = match errno {
            // A part of the path is a file, so that there can be nothing below it.
            Errno::ENOENT | Errno::ENOTDIR => Kind::Missing,
            // It leads out of the filesystem, or in circles.
            Errno::EXDEV | Errno::ELOOP | Errno::EACCES => Kind::Denied,
            _ => Kind::Other,
        };
        let detail = if errno == Errno::EXDEV { "it leads out of the filesystem" } else { errno.desc() };
        Error::new(kind, action(), detail)
    };
    // O_PATH: whatever it is, a pipe for instance, it is not opened.
    let root = openat(AT_FDCWD, folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let root = root.map_err(|errno| Error::new(Kind::Other, action(), errno.desc()))?;
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(inside);
    let file = openat2(&root, path.as_str(), how).map_err(failed)?;
    let found = fstat(&file).map_err(failed)?;
    let is_file = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    match u64::try_from(found.st_size) {
        Ok(bytes) if is_file => Ok((file, bytes)),
        _ => Err(Error::new(Kind::Denied, action(), "it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::os::file;

    #[test]
    fn only_regular_files_inside_count() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("filesystem");
        std::fs::create_dir_all(inside.join("files")).unwrap();
        file::write(&inside.join("files/lun.img"), &[0; 1000], 0o600).unwrap();
        file::write(&folder.path().join("outside.img"), &[0; 10], 0o600).unwrap();
        symlink("files/lun.img", inside.join("link")).unwrap();
        symlink("../outside.img", inside.join("out")).unwrap();
        symlink(folder.path().join("outside.img"), inside.join("absolute")).unwrap();
        symlink("circle", inside.join("circle")).unwrap();
        symlink("/proc", inside.join("proc")).unwrap();
        let look = |path: &str| size(inside.to_str().unwrap(), &RelativePath::new(path).unwrap());
        assert_eq!(look("files/lun.img").unwrap(), 1000);
        assert_eq!(look("link").unwrap(), 1000);
        for outside in ["out", "absolute", "circle", "files", "proc/version"] {
            assert_eq!(look(outside).unwrap_err().kind, Kind::Denied, "{outside}");
        }
        for missing in ["nothing", "nothing/at/all", "files/lun.img/x"] {
            assert_eq!(look(missing).unwrap_err().kind, Kind::Missing, "{missing}");
        }
    }
}
