//! Disks as the appliance sees them (contract section 6).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Stable identity of a disk.
///
/// It is the udev SCSI id in the form with the leading type digit (`36000c29...`); for disks that have none, the
/// name of their `/dev/disk/by-id` link (or, last, of their by-path link) without the bus prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskUuid(String);

impl DiskUuid {
    /// Longest identity that udev makes is far below this.
    const MAX_CHARS: usize = 256;

    /// Checks an identity that came in as member `field`.
    pub fn new(field: &str, text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_graphic() && c != '/';
        if text.is_empty() || text.len() > Self::MAX_CHARS || !text.chars().all(allowed) {
            return Err(Invalid::new(
                field,
                format!("{text:?} is not a disk uuid; use the uuid values of GET /api/disk"),
            ));
        }
        Ok(DiskUuid(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other`, as a client wrote it, means this disk: SCSI ids are accepted with and without the `3`.
    pub fn is_meant_by(&self, other: &DiskUuid) -> bool {
        self.0 == other.0 || self.0.strip_prefix('3') == Some(other.as_str())
    }
}

impl fmt::Display for DiskUuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskUse {
    /// No signature, no partition table, nobody has it open: may become part of a pool.
    Unused,
    /// A member of a pool that is imported here, named by its ZFS name.
    Pool(String),
    /// A partition table, with nothing that has a name of its own.
    Partitioned,
    /// A signature, by its blkid type (`ext4`, `LVM2_member`, `zfs_member`, ...).
    Signature(String),
    /// In use in a way that leaves no signature: the system disk, mounted, claimed by another subsystem.
    Busy(String),
}

impl DiskUse {
    /// The word for it in `used_as`, given which ZFS pools are ours.
    pub fn word(&self, is_ours: impl Fn(&str) -> bool) -> String {
        match self {
            DiskUse::Unused => "unused".to_owned(),
            DiskUse::Pool(name) if is_ours(name) => "vsnap_pool".to_owned(),
            DiskUse::Pool(_) => "zfs_member".to_owned(),
            DiskUse::Partitioned => "partitioned".to_owned(),
            DiskUse::Signature(kind) => kind.clone(),
            DiskUse::Busy(by) => by.clone(),
        }
    }
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its stable identity.
    pub uuid: DiskUuid,
    /// Kernel name of the moment, `/dev/sdd`: may be another one after a reboot.
    pub name: String,
    /// The stable link that pools are made from, `/dev/disk/by-id/scsi-36000c29...`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Physical sector size in bytes.
    pub sector_bytes: u32,
    /// Bus in the contract's words: `SCSI`, `ATA`, `NVME`, ...
    pub bus: String,
    /// As the disk says, without padding.
    pub vendor: String,
    /// As the disk says, without padding.
    pub model: String,
    /// What is on it.
    pub used: DiskUse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leading_three_may_be_left_out() {
        let uuid = DiskUuid::new("disk_list", "35000c500a1").unwrap();
        let without = DiskUuid::new("disk_list", "5000c500a1").unwrap();
        assert!(uuid.is_meant_by(&uuid) && uuid.is_meant_by(&without));
        assert!(!without.is_meant_by(&uuid));
    }

    #[test]
    fn uuids_are_no_paths() {
        for bad in ["", "../sda", "a b", "a\n", "é"] {
            assert!(DiskUuid::new("disk", bad).is_err(), "{bad:?}");
        }
    }
}
