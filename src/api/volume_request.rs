//! What requests about volumes hold, and which of it goes together (contract sections 8.1 and 8.4).

use serde::Deserialize;
use utoipa::ToSchema;

use super::wire::{Decimal, DecimalOrNone};
use crate::{
    error::Error,
    types::{
        HostId, Invalid, Name, PoolId, ShareId, SnapshotId, VolumeId,
        volume::{
            BlockSize, RelativePath, SizeChange, VolumeAction, VolumeOptions, VolumeRequest, VolumeSource, VolumeUpdate,
        },
    },
};

/// A new volume, or a clone of a snapshot.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewVolume {
    /// 1 to 256 printable characters; unique on the appliance.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// Needed, except for a clone, which has that of its origin.
    volume_type: Option<VolumeKind>,
    /// The snapshot to clone; with it only `name` is given.
    snapshot_id: Option<Decimal>,
    /// `filesystem`, `lun`: the pool. Needed.
    pool_id: Option<Decimal>,
    /// `lun`: size in bytes, rounded up to whole blocks. Needed. `filesystem`: limit in bytes; none when it is left out.
    size_total: Option<Decimal>,
    /// `lun`: block size in bytes, a power of two from 512 to 131072; 65536 when it is left out.
    size_block: Option<Decimal>,
    /// `filebackedlun`: the filesystem that has the file. Needed.
    parent_id: Option<Decimal>,
    /// `filebackedlun`: an existing file, relative to the root of that filesystem. Needed.
    parent_path: Option<String>,
    /// `filesystem`, `lun`: as the pool when it is left out.
    compression: Option<bool>,
    /// `filesystem`, `lun`: as the pool when it is left out.
    deduplication: Option<bool>,
    /// `filesystem`, `lun`: as the pool when it is left out.
    syncwrite: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum VolumeKind {
    Filesystem,
    Lun,
    FileBackedLun,
}

impl NewVolume {
    /// Refuses the `members` that were given, because they mean nothing for `what`.
    fn refuse(&self, what: &str, members: &[&str]) -> Result<(), Invalid> {
        let given = [
            ("volume_type", self.volume_type.is_some()),
            ("pool_id", self.pool_id.is_some()),
            ("size_total", self.size_total.is_some()),
            ("size_block", self.size_block.is_some()),
            ("parent_id", self.parent_id.is_some()),
            ("parent_path", self.parent_path.is_some()),
            ("compression", self.compression.is_some()),
            ("deduplication", self.deduplication.is_some()),
            ("syncwrite", self.syncwrite.is_some()),
        ];
        match given.into_iter().find(|(member, given)| *given && members.contains(member)) {
            Some((member, _)) => Err(Invalid::new(member, format!("does not go with {what}; leave it out"))),
            None => Ok(()),
        }
    }

    fn pool(&self) -> Result<PoolId, Invalid> {
        needed("pool_id", self.pool_id)?.id("pool_id").map(PoolId)
    }

    fn options(&self) -> VolumeOptions {
        VolumeOptions { compression: self.compression, deduplication: self.deduplication, syncwrite: self.syncwrite }
    }

    fn clone_of(&self, snapshot: Decimal) -> Result<VolumeSource, Invalid> {
        const OTHERS: [&str; 9] = [
            "volume_type",
            "pool_id",
            "size_total",
            "size_block",
            "parent_id",
            "parent_path",
            "compression",
            "deduplication",
            "syncwrite",
        ];
        self.refuse("snapshot_id, since a clone has that of its origin", &OTHERS)?;
        Ok(VolumeSource::Clone { snapshot: SnapshotId(snapshot.id("snapshot_id")?) })
    }

    fn source(&self) -> Result<VolumeSource, Invalid> {
        if let Some(snapshot) = self.snapshot_id {
            return self.clone_of(snapshot);
        }
        match needed("volume_type", self.volume_type)? {
            VolumeKind::Filesystem => {
                self.refuse("a filesystem", &["size_block", "parent_id", "parent_path"])?;
                let limit = self.size_total.map(|size| size.bytes("size_total")).transpose()?;
                Ok(VolumeSource::Filesystem { pool: self.pool()?, limit, options: self.options() })
            }
            VolumeKind::Lun => {
                self.refuse("a lun", &["parent_id", "parent_path"])?;
                let bytes = needed("size_total", self.size_total)?.bytes("size_total")?;
                let block = self.size_block.map(block_size).transpose()?.unwrap_or_default();
                Ok(VolumeSource::Lun { pool: self.pool()?, bytes, block, options: self.options() })
            }
            VolumeKind::FileBackedLun => {
                const OTHERS: [&str; 6] =
                    ["pool_id", "size_total", "size_block", "compression", "deduplication", "syncwrite"];
                self.refuse("a filebackedlun, which follows its file", &OTHERS)?;
                let parent = VolumeId(needed("parent_id", self.parent_id)?.id("parent_id")?);
                let path = RelativePath::new(needed("parent_path", self.parent_path.clone())?)?;
                Ok(VolumeSource::File { parent, path })
            }
        }
    }
}

impl TryFrom<NewVolume> for VolumeRequest {
    type Error = Error;

    fn try_from(body: NewVolume) -> Result<Self, Error> {
        let source = body.source()?;
        Ok(VolumeRequest { name: Name::new(body.name)?, source })
    }
}

fn needed<T>(member: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(member, "is missing"))
}

fn block_size(size: Decimal) -> Result<BlockSize, Invalid> {
    BlockSize::new(size.bytes("size_block")?)
}

/// New properties of a volume. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct VolumeProperties {
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// `lun`: new size in bytes, not below the old one. `filesystem`: new limit in bytes, or `none`.
    size_total: Option<DecimalOrNone>,
    compression: Option<bool>,
    deduplication: Option<bool>,
    syncwrite: Option<bool>,
}

impl TryFrom<VolumeProperties> for VolumeUpdate {
    type Error = Error;

    fn try_from(body: VolumeProperties) -> Result<Self, Error> {
        let size = |size: DecimalOrNone| match size.0 {
            Some(bytes) => bytes.bytes("size_total").map(SizeChange::Bytes),
            None => Ok(SizeChange::Unlimited),
        };
        Ok(VolumeUpdate {
            name: body.name.map(Name::new).transpose()?,
            size: body.size_total.map(size).transpose()?,
            options: VolumeOptions {
                compression: body.compression,
                deduplication: body.deduplication,
                syncwrite: body.syncwrite,
            },
        })
    }
}

/// What to do with a volume.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct VolumeActionRequest {
    action: VolumeVerb,
    /// `rollback`: the snapshot to go back to. Needed.
    snapshot_id: Option<Decimal>,
    /// `rollback`: newer snapshots that may be destroyed.
    #[serde(default)]
    discard_snapshots: Vec<Decimal>,
    /// `rollback`: clones of those that may be destroyed.
    #[serde(default)]
    discard_clones: Vec<Decimal>,
    /// `rollback`: the share of the volume, when it has one; it is deleted.
    #[serde(default)]
    discard_shares: Vec<Decimal>,
    /// `rollback`: hosts that it is mapped to, all of which lose what was written since. It is taken away from them
    /// meanwhile, and has the same LUN number afterwards; they must not have it mounted.
    #[serde(default)]
    discard_hosts: Vec<Decimal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum VolumeVerb {
    Rollback,
    Promote,
}

impl TryFrom<VolumeActionRequest> for VolumeAction {
    type Error = Error;

    fn try_from(body: VolumeActionRequest) -> Result<Self, Error> {
        Ok(match body.action {
            VolumeVerb::Promote => VolumeAction::Promote,
            VolumeVerb::Rollback => VolumeAction::Rollback {
                snapshot: SnapshotId(needed("snapshot_id", body.snapshot_id)?.id("snapshot_id")?),
                discard_snapshots: ids("discard_snapshots", &body.discard_snapshots, SnapshotId)?,
                discard_clones: ids("discard_clones", &body.discard_clones, VolumeId)?,
                discard_shares: ids("discard_shares", &body.discard_shares, ShareId)?,
                discard_hosts: ids("discard_hosts", &body.discard_hosts, HostId)?,
            },
        })
    }
}

/// A list of ids; an error names the one that is none.
pub(super) fn ids<T>(member: &str, list: &[Decimal], make: fn(i64) -> T) -> Result<Vec<T>, Invalid> {
    list.iter().enumerate().map(|(at, id)| id.id(&format!("{member}[{at}]")).map(make)).collect()
}
