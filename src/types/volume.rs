//! Volumes: filesystems, luns and file-backed luns, and clones of the first two (contract section 8).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Epoch, HostId, Invalid, Name, PoolId, ShareId, SnapshotId, VolumeId, names::DatasetName};

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    /// A ZFS filesystem, to be shared by NFS or SMB.
    Filesystem,
    /// A zvol, to be mapped to hosts.
    Lun,
    /// A file in a filesystem volume, to be mapped to hosts.
    FileBackedLun,
}

impl VolumeType {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            VolumeType::Filesystem => "filesystem",
            VolumeType::Lun => "lun",
            VolumeType::FileBackedLun => "filebackedlun",
        }
    }

    /// The type that `word` stands for (member `volume_type`).
    pub fn from_word(word: &str) -> Result<Self, Invalid> {
        [VolumeType::Filesystem, VolumeType::Lun, VolumeType::FileBackedLun]
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or_else(|| Invalid::new("volume_type", format!("{word:?} is none of filesystem, lun, filebackedlun")))
    }

    /// The dataset of a volume of this type; a file-backed lun has none.
    pub fn dataset(self, pool: PoolId, volume: VolumeId) -> Option<DatasetName> {
        match self {
            VolumeType::Filesystem => Some(DatasetName::filesystem(pool, volume)),
            VolumeType::Lun => Some(DatasetName::lun(pool, volume)),
            VolumeType::FileBackedLun => None,
        }
    }
}

/// Largest size that is understood, in bytes: the catalog's numbers are signed.
pub const MAX_BYTES: u64 = i64::MAX as u64;

/// The block size of a lun in bytes: a power of two from 512 to 131072.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockSize(u32);

impl BlockSize {
    /// Checks a block size that came in as member `size_block`.
    pub fn new(bytes: u64) -> Result<Self, Invalid> {
        let fits = u32::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two() && (512..=131_072).contains(bytes));
        fits.map(BlockSize)
            .ok_or_else(|| Invalid::new("size_block", format!("{bytes} is not a power of two from 512 to 131072")))
    }

    /// Bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// `bytes` rounded up to whole blocks, as ZFS wants the size of a zvol; `None` when there is no such number.
    pub fn round_up(self, bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(u64::from(self.0))
    }
}

impl Default for BlockSize {
    /// The contract's default (section 8.1).
    fn default() -> Self {
        BlockSize(65_536)
    }
}

/// Path of a backing file, relative to the root of its filesystem, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelativePath(String);

impl RelativePath {
    /// Longest path, in bytes: it must fit into a ZFS property, each byte encoded in three.
    const MAX_BYTES: usize = 2700;

    /// Checks a path that came in as member `parent_path`.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let fault = if text.is_empty() {
            "is empty"
        } else if text.starts_with('/') {
            "begins with /; give it relative to the root of the parent filesystem"
        } else if text.len() > Self::MAX_BYTES || text.split('/').any(|part| part.len() > 255) {
            "is longer than 2700 bytes, or a part of it than 255"
        } else if text.chars().any(char::is_control) {
            "has a control character"
        } else if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "has an empty part, `.` or `..`"
        } else if text.split('/').next() == Some(".zfs") {
            "leads into snapshots, which can't be written"
        } else {
            return Ok(RelativePath(text));
        };
        Err(Invalid::new("parent_path", format!("the path {fault}")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Options of a volume; `None` follows the pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOptions {
    /// Blocks are compressed.
    pub compression: Option<bool>,
    /// Equal blocks are stored once.
    pub deduplication: Option<bool>,
    /// Synchronous writes are honoured.
    pub syncwrite: Option<bool>,
}

/// A request for a new volume (contract section 8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRequest {
    /// Its name.
    pub name: Name,
    /// What it is made of.
    pub source: VolumeSource,
}

/// What a new volume is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// An empty filesystem.
    Filesystem {
        /// Where.
        pool: PoolId,
        /// Limit in bytes.
        limit: Option<u64>,
        /// Options.
        options: VolumeOptions,
    },
    /// An empty lun.
    Lun {
        /// Where.
        pool: PoolId,
        /// Size in bytes, rounded up to whole blocks.
        bytes: u64,
        /// Block size.
        block: BlockSize,
        /// Options.
        options: VolumeOptions,
    },
    /// A file.
    File {
        /// The filesystem that has it.
        parent: VolumeId,
        /// Where in it.
        path: RelativePath,
    },
    /// What a snapshot holds.
    Clone {
        /// Which.
        snapshot: SnapshotId,
    },
}

/// A limit of a filesystem, or the size of a lun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SizeChange {
    /// No limit.
    Unlimited,
    /// This many bytes.
    Bytes(u64),
}

/// New properties of a volume; `None` keeps what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUpdate {
    /// New name.
    pub name: Option<Name>,
    /// New size or limit.
    pub size: Option<SizeChange>,
    /// New options, where given.
    pub options: VolumeOptions,
}

/// What `POST /api/volume/<id>` can do with a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeAction {
    /// Make the volume what it was at the time of a snapshot.
    Rollback {
        /// Which.
        snapshot: SnapshotId,
        /// Newer snapshots that may be destroyed for it. All newer ones must be named.
        discard_snapshots: Vec<SnapshotId>,
        /// Clones of those that may be destroyed for it.
        discard_clones: Vec<VolumeId>,
        /// Shares of the volume that may be deleted for it.
        discard_shares: Vec<ShareId>,
        /// Hosts that may lose what they wrote since: the volume is kept from them meanwhile.
        discard_hosts: Vec<HostId>,
    },
    /// Make a clone the owner of its origin, so that what it was cloned from can be deleted.
    Promote,
}

/// Sizes of a volume in bytes, as ZFS has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeNumbers {
    /// Taken by it and its snapshots.
    pub used: u64,
    /// What the pool, or the limit, leaves.
    pub available: u64,
    /// Taken by what it holds now, without what only snapshots hold.
    pub referenced: u64,
}

/// How a volume presents itself to clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Its number.
    pub id: VolumeId,
    /// Its name.
    pub name: Name,
    /// What it is.
    pub volume_type: VolumeType,
    /// Serial number that initiators see; `None` for filesystems.
    pub serial: Option<String>,
    /// Its pool.
    pub pool: PoolId,
    /// The pool's name.
    pub pool_name: Name,
    /// Limit of a filesystem, size of a lun; in bytes.
    pub size: Option<u64>,
    /// Block size of a lun.
    pub block: Option<BlockSize>,
    /// Filesystem and path of a file-backed lun.
    pub parent: Option<(VolumeId, RelativePath)>,
    /// Hosts that it is mapped to.
    pub hosts: Vec<HostId>,
    /// Snapshot that it is a clone of.
    pub origin: Option<SnapshotId>,
    /// Its share.
    pub share: Option<ShareId>,
    /// Options in force.
    pub options: VolumeOptions,
    /// Sizes of the moment; `None` for a file-backed lun, or when the pool is not there.
    pub numbers: Option<VolumeNumbers>,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

impl Volume {
    /// Bytes that can still be written: what the limit or the pool leaves; of a lun, no more than what of its size is
    /// not taken yet.
    pub fn free(&self) -> Option<u64> {
        let numbers = self.numbers?;
        match (self.volume_type, self.size) {
            (VolumeType::Lun, Some(size)) => Some(size.saturating_sub(numbers.referenced).min(numbers.available)),
            _ => Some(numbers.available),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_are_powers_of_two() {
        for good in [512, 1024, 4096, 65_536, 131_072] {
            assert_eq!(u64::from(BlockSize::new(good).unwrap().bytes()), good);
        }
        for bad in [0, 1, 256, 511, 513, 3000, 262_144, u64::MAX] {
            assert_eq!(BlockSize::new(bad).unwrap_err().field, "size_block", "{bad}");
        }
        assert_eq!(BlockSize::default().round_up(22_613_000_803), Some(22_613_065_728));
        assert_eq!(BlockSize::default().round_up(u64::MAX), None);
    }

    #[test]
    fn paths_stay_inside() {
        for good in ["a", "my_files/file1.img", "a b/ü", "...", "-x"] {
            assert!(RelativePath::new(good).is_ok(), "{good}");
        }
        let long = format!("{}/x", "n".repeat(256));
        for bad in ["", "/a", "..", "a/../b", "a/..", "./a", "a//b", "a/", "a\nb", "a\0", ".zfs/snapshot/x/y", &long] {
            assert_eq!(RelativePath::new(bad).unwrap_err().field, "parent_path", "{bad:?}");
        }
    }
}
