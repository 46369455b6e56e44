//! The Unix socket, over which root on the appliance reaches the API without a password.

use std::{
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// A socket that listens, and its file, which goes when this is dropped.
#[derive(Debug)]
pub struct LocalSocket {
    path: PathBuf,
    /// Device and inode of the file, to tell it from one that another process put there.
    file: (u64, u64),
}

impl LocalSocket {
    /// Listens at `path`, with mode 0600. The file of a daemon that is gone is replaced; that of one that runs, or
    /// anything that is no socket, is left alone and is an error.
    pub fn bind(path: &Path) -> io::Result<(Self, UnixListener)> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(ErrorKind::AlreadyExists, format!("{} is no socket", path.display())));
            }
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    let message = format!("another daemon listens on {}", path.display());
                    return Err(io::Error::new(ErrorKind::AddrInUse, message));
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Its mode is set before anyone can know its name; the umask belongs to the whole process.
        let hidden = path.with_extension(format!("{}.new", std::process::id()));
        let listener = UnixListener::bind(&hidden)?;
        let named = std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&hidden, path))
            .and_then(|()| std::fs::symlink_metadata(path))
            .and_then(|found| listener.set_nonblocking(true).map(|()| found));
        match named {
            Ok(found) => Ok((LocalSocket { path: path.into(), file: (found.dev(), found.ino()) }, listener)),
            Err(error) => {
                // Best effort: the error that is told is the first one.
                let _ = std::fs::remove_file(&hidden);
                Err(error)
            }
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::file;

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/api.sock");
        let (socket, listener) = LocalSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(LocalSocket::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);

        // As after a kill: the file is there, nobody listens.
        std::mem::forget(socket);
        drop(listener);
        let (socket, _listener) = LocalSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());

        file::write(&path, b"precious", 0o600).unwrap();
        assert_eq!(LocalSocket::bind(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn another_daemons_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let (old, old_listener) = LocalSocket::bind(&path).unwrap();
        drop(old_listener);
        let (_new, _listener) = LocalSocket::bind(&path).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
    }
}
