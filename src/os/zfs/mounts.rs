//! Where filesystems are mounted.

use std::collections::BTreeMap;

use crate::os::{Error, Kind, Result, file};

/// What the kernel has mounted for this process.
const MOUNTS: &str = "/proc/self/mounts";

/// Mount points of all mounted filesystems of ZFS, by ZFS name.
pub(super) fn mounted() -> Result<BTreeMap<String, String>> {
    parse(&file::read_required(MOUNTS)?)
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
