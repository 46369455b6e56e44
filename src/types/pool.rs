//! Pools: redundancy, how disks are grouped, and what ZFS says about a pool (contract section 7).

use serde::{Deserialize, Serialize};

pub use super::vdev::{Health, PoolStatus, Scan, Vdev, VdevErrors};
use super::{Epoch, Invalid, Name, PoolId, disk::DiskUuid};

/// Redundancy of a pool's disk groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolType {
    /// Striped, no redundancy.
    Raid0,
    /// One disk of a group may fail (raidz1).
    Raid5,
    /// Two disks of a group may fail (raidz2).
    Raid6,
}

impl PoolType {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            PoolType::Raid0 => "raid0",
            PoolType::Raid5 => "raid5",
            PoolType::Raid6 => "raid6",
        }
    }

    /// The type that `word` stands for (member `pool_type`).
    pub fn from_word(word: &str) -> Result<Self, Invalid> {
        [PoolType::Raid0, PoolType::Raid5, PoolType::Raid6]
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or_else(|| Invalid::new("pool_type", format!("{word:?} is none of raid0, raid5, raid6")))
    }

    /// Fewest disks that make one group.
    pub fn min_group(self) -> usize {
        match self {
            PoolType::Raid0 => 1,
            PoolType::Raid5 => 3,
            PoolType::Raid6 => 4,
        }
    }

    /// Most disks in one group. Wider groups rebuild slower and are likelier to lose a second disk meanwhile:
    /// 8 with one parity disk and 12 with two are the widths OpenZFS documents recommend as upper bounds.
    fn max_group(self) -> usize {
        match self {
            PoolType::Raid0 => usize::MAX,
            PoolType::Raid5 => 8,
            PoolType::Raid6 => 12,
        }
    }

    /// Sizes of the groups that `disks` disks make: as few groups as the widest group allows, of sizes that
    /// differ by one at most, larger ones first. 15 disks in raid6 are groups of 8 and 7.
    ///
    /// Too few disks for one group is an error about member `disk_list`.
    pub fn groups(self, disks: usize) -> Result<Vec<usize>, Invalid> {
        if disks < self.min_group() {
            return Err(Invalid::new(
                "disk_list",
                format!("{} needs at least {} disks, {disks} given", self.word(), self.min_group()),
            ));
        }
        if self == PoolType::Raid0 {
            return Ok(vec![disks]);
        }
        let count = disks.div_ceil(self.max_group());
        let (width, wider) = (disks / count, disks % count);
        Ok((0..count).map(|group| width + usize::from(group < wider)).collect())
    }
}

/// What a disk does in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VdevRole {
    /// Holds data.
    Data,
    /// Holds the intent log.
    Log,
    /// Read cache.
    Cache,
    /// Stands by to replace a failed disk.
    Spare,
}

/// A disk that was checked and may be given to ZFS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolDisk {
    /// Its identity.
    pub uuid: DiskUuid,
    /// The stable link ZFS is given.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// One top-level vdev that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VdevPlan {
    /// What it does.
    pub role: VdevRole,
    /// How its disks are combined.
    pub layout: VdevLayout,
    /// Paths of its disks.
    pub paths: Vec<String>,
}

/// How the disks of a vdev are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VdevLayout {
    /// Each disk is a vdev of its own.
    Stripe,
    /// All disks hold the same.
    Mirror,
    /// One parity disk.
    Raidz1,
    /// Two parity disks.
    Raidz2,
}

impl From<PoolType> for VdevLayout {
    fn from(kind: PoolType) -> Self {
        match kind {
            PoolType::Raid0 => VdevLayout::Stripe,
            PoolType::Raid5 => VdevLayout::Raidz1,
            PoolType::Raid6 => VdevLayout::Raidz2,
        }
    }
}

/// Properties of a pool that a client may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolOptions {
    /// Blocks are compressed.
    pub compression: bool,
    /// Equal blocks are stored once.
    pub deduplication: bool,
    /// Synchronous writes are honoured (`sync=standard`), not just acknowledged (`sync=disabled`).
    pub syncwrite: bool,
}

impl Default for PoolOptions {
    /// The contract's defaults (section 7.1).
    fn default() -> Self {
        PoolOptions { compression: true, deduplication: false, syncwrite: true }
    }
}

/// Sizes and ratios of a pool, in bytes and hundredths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolNumbers {
    /// Usable bytes not taken, after parity and reserve.
    pub free: u64,
    /// Usable bytes taken, each stored block counted once.
    pub used: u64,
    /// Bytes as clients wrote them.
    pub logical: u64,
    /// Bytes after compression, before deduplication.
    pub before_deduplication: u64,
    /// Compression ratio in hundredths, at least 100.
    pub compression_ratio: u64,
    /// Deduplication ratio in hundredths, at least 100.
    pub deduplication_ratio: u64,
}

/// How a pool presents itself to clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its number.
    pub id: PoolId,
    /// Its name.
    pub name: Name,
    /// Redundancy.
    pub pool_type: PoolType,
    /// Options as they are in force.
    pub options: PoolOptions,
    /// Disks in the widest data group.
    pub group_size: usize,
    /// Paths by group: `raid6_group1`, ..., `log`, `cache`, `spare`; as last seen when the pool is not imported.
    pub disks: Vec<(String, Vec<String>)>,
    /// State of the moment; [`Health::Unavail`] when it is not imported.
    pub state: Health,
    /// Sizes; `None` when the pool is not imported, since nobody can know them then.
    pub numbers: Option<PoolNumbers>,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

/// What `GET /api/pool/<id>/status` is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReport {
    /// Its number.
    pub id: PoolId,
    /// Its name.
    pub name: Name,
    /// What ZFS says; `None` when the pool is not imported.
    pub status: Option<PoolStatus>,
    /// When it was asked.
    pub asked: Epoch,
}

/// A request for a new pool (contract section 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRequest {
    /// Its name.
    pub name: Name,
    /// Disks to use; empty means all unused ones.
    pub disks: Vec<DiskUuid>,
    /// Redundancy.
    pub pool_type: PoolType,
    /// Options.
    pub options: PoolOptions,
}

/// New properties of a pool (contract section 7.4.1); `None` keeps what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUpdate {
    /// New name.
    pub name: Option<Name>,
    /// Compress new blocks.
    pub compression: Option<bool>,
    /// Deduplicate new blocks.
    pub deduplication: Option<bool>,
    /// Honour synchronous writes.
    pub syncwrite: Option<bool>,
}

/// What `POST /api/pool/<id>` can do with a pool (contract sections 7.4.2 to 7.4.5, and upkeep).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolAction {
    /// Add groups made of these disks; empty means all unused ones.
    Expand(Vec<DiskUuid>),
    /// Add a log, mirrored when there are several disks.
    AddLog(Vec<DiskUuid>),
    /// Remove all logs.
    RemoveLog,
    /// Add cache disks.
    AddCache(Vec<DiskUuid>),
    /// Remove all cache disks.
    RemoveCache,
    /// Add spares.
    AddSpare(Vec<DiskUuid>),
    /// Remove these spares.
    RemoveSpare(Vec<DiskUuid>),
    /// Begin a scrub.
    Scrub,
    /// Stop the scrub.
    ScrubStop,
    /// Replace the first disk by the second.
    Replace(DiskUuid, DiskUuid),
    /// Bring a disk back online.
    Online(DiskUuid),
    /// Take a disk offline.
    Offline(DiskUuid),
    /// Reset error counters and resume.
    Clear,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_contracts_sample_is_grouped_8_and_7() {
        assert_eq!(PoolType::Raid6.groups(15).unwrap(), [8, 7]);
        assert_eq!(PoolType::Raid6.groups(4).unwrap(), [4]);
        assert_eq!(PoolType::Raid5.groups(3).unwrap(), [3]);
        assert_eq!(PoolType::Raid5.groups(9).unwrap(), [5, 4]);
        assert_eq!(PoolType::Raid0.groups(40).unwrap(), [40]);
    }

    #[test]
    fn too_few_disks_name_the_member() {
        for (kind, count) in [(PoolType::Raid0, 0), (PoolType::Raid5, 2), (PoolType::Raid6, 3), (PoolType::Raid6, 1)] {
            assert_eq!(kind.groups(count).unwrap_err().field, "disk_list");
        }
    }

    proptest! {
        #[test]
        fn groups_use_every_disk_and_differ_by_one(disks in 4usize..500) {
            for kind in [PoolType::Raid0, PoolType::Raid5, PoolType::Raid6] {
                let groups = kind.groups(disks).unwrap();
                prop_assert_eq!(groups.iter().sum::<usize>(), disks);
                let (most, least) = (groups.iter().max().unwrap(), groups.iter().min().unwrap());
                prop_assert!(most - least <= 1 && *least >= kind.min_group() && *most <= kind.max_group());
                prop_assert!(groups.is_sorted_by(|a, b| a >= b));
            }
        }
    }
}
