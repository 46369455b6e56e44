//! Where filesystems are mounted.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::os::{Error, Kind, Result};

/// What the kernel has mounted for this process.
const MOUNTS: &str = "/proc/self/mounts";

/// Mount points of all mounted filesystems of ZFS, by ZFS name.
pub(super) type Mounts = Arc<BTreeMap<String, String>>;

/// The table of mounts, read again only when it has changed: it is as long as there are volumes.
#[derive(Default)]
pub(super) struct Table(Mutex<Option<(File, Mounts)>>);

impl Table {
    pub(super) fn read(&self) -> Result<Mounts> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = |error: std::io::Error| Error::io(format!("reading {MOUNTS}"), &error);
        let (mut file, mounts) = match known.take() {
            Some((file, mounts)) => (file, Some(mounts)),
            None => (File::open(MOUNTS).map_err(fault)?, None),
        };
        // The kernel tells once of each change, see proc_pid_mounts(5). Asked first, so that one that comes while the
        // table is read is seen the next time.
        let mut changed = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        let is_changed = poll(&mut changed, PollTimeout::ZERO).map_err(|error| fault(error.into()))? > 0;
        let mounts = match mounts.filter(|_| !is_changed) {
            Some(mounts) => mounts,
            None => {
                // One read takes what fits: small ones would go through the table again and again.
                let mut text = String::with_capacity(64 << 10);
                file.seek(SeekFrom::Start(0)).map_err(fault)?;
                file.read_to_string(&mut text).map_err(fault)?;
                Arc::new(parse(&text)?)
            }
        };
        *known = Some((file, Arc::clone(&mounts)));
        Ok(mounts)
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let mut mounts = BTreeMap::new();
    for line in text.lines() {
        let unreadable = || Error::new(Kind::Other, format!("reading {MOUNTS}"), format!("unexpected line {line:?}"));
        let mut fields = line.split(' ');
        let (Some(source), Some(place), Some(kind)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(unreadable());
        };
        if kind == "zfs" {
            let decode = |text: &str| octal(text, 3).ok_or_else(unreadable);
            mounts.insert(decode(source)?, decode(place)?);
        }
    }
    Ok(mounts)
}

/// Text in which a backslash and so many octal digits stand for a byte; `None` when it is not of this form. Bytes that
/// are no UTF-8 are replaced.
pub(super) fn octal(text: &str, digits: usize) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'\\' {
            let (number, tail) = tail.split_at_checked(digits)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(number).ok()?, 8).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_of_zfs_are_found() {
        let text = "proc /proc proc rw,nosuid 0 0\n/dev/vda / ext4 rw 0 0\n\
                    vpool1/a\\040b /vsnap/vpool1/a\\040b zfs rw,xattr,posixacl 0 0\n\
                    vpool1/fs1@snap1 /vsnap/vpool1/fs1/.zfs/snapshot/snap1 zfs ro 0 0\n";
        let mounts = parse(text).unwrap();
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts["vpool1/a b"], "/vsnap/vpool1/a b");
        assert!(parse("proc /proc\n").is_err() && parse("a\\04 /b zfs rw\n").is_err());
    }

    #[test]
    fn octal_escapes() {
        assert_eq!(octal("a\\0040b\\0303\\0274\\0134c", 4).unwrap(), "a bü\\c");
        assert_eq!(octal("\\0377", 4).unwrap(), "\u{FFFD}");
        for bad in ["\\", "\\004", "\\0999", "\\0777"] {
            assert_eq!(octal(bad, 4), None, "{bad}");
        }
    }
}
