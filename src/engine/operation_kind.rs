//! Every kind of operation, with what the journal keeps of it.

use serde::{Deserialize, Serialize};

use super::host::HostProperties;
use crate::types::{
    HostId, Name, PoolId, RelationshipId, ShareId, SnapshotId, SystemId, VolumeId,
    network::Services,
    pool::{PoolOptions, VdevPlan, VdevRole},
    share::ShareProperties,
    snapshot::{HoldReason, Retention},
    system::InitRequest,
    volume::VolumeOptions,
};

/// Every operation that changes more than one thing, with all it needs to be run again. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Operation {
    /// `init`.
    Initialize {
        /// As it was asked for.
        request: InitRequest,
    },
    /// A new pool.
    CreatePool {
        /// Its row.
        pool: PoolId,
        /// Its vdevs.
        vdevs: Vec<VdevPlan>,
        /// Whether groups or disks differ in size.
        uneven: bool,
    },
    /// New name or options.
    UpdatePool {
        /// Which.
        pool: PoolId,
        /// Name and options as they were.
        before: (Name, PoolOptions),
        /// Name and options as they are to be.
        after: (Name, PoolOptions),
    },
    /// Expansion, log, cache or spare disks.
    AddDisks {
        /// To which.
        pool: PoolId,
        /// The new vdevs.
        vdevs: Vec<VdevPlan>,
        /// Whether groups or disks differ in size.
        uneven: bool,
    },
    /// Log, cache or spare disks go.
    RemoveDisks {
        /// From which.
        pool: PoolId,
        /// What they are.
        role: VdevRole,
        /// Names of the vdevs to remove, as ZFS has them.
        vdevs: Vec<String>,
        /// Paths of the disks, to be cleared afterwards.
        paths: Vec<String>,
    },
    /// A disk takes the place of another.
    ReplaceDisk {
        /// In which pool.
        pool: PoolId,
        /// ZFS guid of the disk that goes: its path may be gone already.
        old: u64,
        /// Path of the disk that comes.
        new: String,
    },
    /// A pool goes.
    DeletePool {
        /// Which.
        pool: PoolId,
        /// Paths of its disks, to be cleared afterwards.
        paths: Vec<String>,
    },
    /// A new volume. All about it is in its row.
    CreateVolume {
        /// Its row.
        volume: VolumeId,
    },
    /// New name, size or options.
    UpdateVolume {
        /// Which.
        volume: VolumeId,
        /// As it was.
        before: VolumeProperties,
        /// As it is to be.
        after: VolumeProperties,
    },
    /// A volume goes, with its snapshots.
    DeleteVolume {
        /// Which.
        volume: VolumeId,
    },
    /// A volume becomes what it was.
    RollBack {
        /// Which.
        volume: VolumeId,
        /// To what.
        snapshot: SnapshotId,
        /// Newer snapshots, which go for it.
        #[serde(default)]
        newer: Vec<SnapshotId>,
        /// Clones that go for it.
        clones: Vec<VolumeId>,
        /// The volume's share, which goes for it.
        #[serde(default)]
        share: Option<ShareId>,
        /// Whether hosts see what it changes, so that it is kept from them meanwhile.
        #[serde(default)]
        mapped: bool,
    },
    /// A clone becomes the owner of its origin.
    Promote {
        /// The clone.
        volume: VolumeId,
        /// Whose snapshot its origin is.
        from: VolumeId,
        /// Its origin.
        origin: SnapshotId,
    },
    /// New snapshots of one moment.
    CreateSnapshots {
        /// Their rows.
        snapshots: Vec<SnapshotId>,
    },
    /// A snapshot goes.
    DeleteSnapshot {
        /// Which.
        snapshot: SnapshotId,
    },
    /// A snapshot is kept for another time.
    RetainSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// As it was.
        before: Retention,
        /// As it is to be.
        after: Retention,
    },
    /// Somebody holds a snapshot.
    HoldSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        reason: HoldReason,
        /// Who.
        user: String,
    },
    /// A hold is gone.
    ReleaseSnapshot {
        /// Of which.
        snapshot: SnapshotId,
        /// Why it was held.
        reason: HoldReason,
    },
    /// Other services on a network interface. What they are to be is in its row.
    UpdateNetwork {
        /// Id of the interface.
        interface: String,
        /// Its name.
        name: String,
        /// What it offered.
        before: Services,
    },
    /// A new share. All about it is in its row.
    CreateShare {
        /// Its row.
        share: ShareId,
    },
    /// A share is reached in another way.
    UpdateShare {
        /// Which.
        share: ShareId,
        /// As it was.
        before: ShareProperties,
        /// As it is to be.
        after: ShareProperties,
    },
    /// A share goes; its filesystem stays.
    DeleteShare {
        /// Which.
        share: ShareId,
    },
    /// A new host.
    CreateHost {
        /// Its row.
        host: HostId,
    },
    /// New name, initiators or CHAP.
    UpdateHost {
        /// Which.
        host: HostId,
        /// As it was.
        before: HostProperties,
        /// As it is to be.
        after: HostProperties,
    },
    /// A host goes, with its mappings.
    DeleteHost {
        /// Which.
        host: HostId,
    },
    /// A volume is mapped to a host.
    MapVolume {
        /// To which.
        host: HostId,
        /// Which.
        volume: VolumeId,
    },
    /// A mapping goes.
    UnmapVolume {
        /// Of which host.
        host: HostId,
        /// Of which volume.
        volume: VolumeId,
    },
    /// Another appliance becomes a partner.
    CreatePartner {
        /// Which. All about it is in its row.
        partner: SystemId,
    },
    /// A partnership ends.
    DeletePartner {
        /// With whom.
        partner: SystemId,
        /// Also when it can't be told.
        force: bool,
    },
    /// A volume gets a replica on a partner.
    CreateRelationship {
        /// Its row.
        relationship: RelationshipId,
        /// In which pool there.
        remote_pool: Option<PoolId>,
        /// Under which name there.
        remote_name: Option<Name>,
        /// Whether a volume that is there will do.
        reuse: bool,
    },
    /// A partner's volume gets a replica here.
    CreateReplica {
        /// Row of the relationship.
        relationship: RelationshipId,
        /// Row of the replica.
        volume: VolumeId,
        /// Whether that was there before.
        reuse: bool,
    },
    /// A relationship ends, on whichever side this is.
    EndRelationship {
        /// Which.
        relationship: RelationshipId,
        /// The volume on this side.
        volume: VolumeId,
        /// Whether the replica stays.
        preserve: bool,
        /// Whether the partner is told; if so, whether it ends also when that is not possible.
        tell: Option<bool>,
    },
}

/// What a client can change of a volume, as it is or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeProperties {
    /// Its name.
    pub name: Name,
    /// Limit of a filesystem, size of a lun; in bytes.
    pub size: Option<u64>,
    /// Its options; `None` follows the pool.
    pub options: VolumeOptions,
}

impl Operation {
    /// Whether a partner takes part in it.
    pub(super) fn needs_partner(&self) -> bool {
        matches!(
            self,
            Operation::CreatePartner { .. }
                | Operation::DeletePartner { .. }
                | Operation::CreateRelationship { .. }
                | Operation::EndRelationship { tell: Some(_), .. }
        )
    }

    /// Whether what it did can be taken back. What can't be has to be brought to its end.
    pub(super) fn can_be_taken_back(&self) -> bool {
        !matches!(self, Operation::Promote { .. })
    }

    /// What it does and to what, for the journal and the log.
    pub(super) fn verb_and_subject(&self) -> (&'static str, String) {
        match self {
            Operation::Initialize { .. } => ("initialize", "system".to_owned()),
            Operation::CreatePool { pool, .. } => ("create_pool", format!("pool {pool}")),
            Operation::UpdatePool { pool, .. } => ("update_pool", format!("pool {pool}")),
            Operation::AddDisks { pool, .. } => ("add_disks", format!("pool {pool}")),
            Operation::RemoveDisks { pool, .. } => ("remove_disks", format!("pool {pool}")),
            Operation::ReplaceDisk { pool, .. } => ("replace_disk", format!("pool {pool}")),
            Operation::DeletePool { pool, .. } => ("delete_pool", format!("pool {pool}")),
            Operation::CreateVolume { volume } => ("create_volume", format!("volume {volume}")),
            Operation::UpdateVolume { volume, .. } => ("update_volume", format!("volume {volume}")),
            Operation::DeleteVolume { volume } => ("delete_volume", format!("volume {volume}")),
            Operation::RollBack { volume, .. } => ("roll_back", format!("volume {volume}")),
            Operation::Promote { volume, .. } => ("promote", format!("volume {volume}")),
            Operation::CreateSnapshots { snapshots } => ("create_snapshot", format!("snapshot {}", first(snapshots))),
            Operation::DeleteSnapshot { snapshot } => ("delete_snapshot", format!("snapshot {snapshot}")),
            Operation::RetainSnapshot { snapshot, .. } => ("retain_snapshot", format!("snapshot {snapshot}")),
            Operation::HoldSnapshot { snapshot, .. } => ("hold_snapshot", format!("snapshot {snapshot}")),
            Operation::ReleaseSnapshot { snapshot, .. } => ("release_snapshot", format!("snapshot {snapshot}")),
            Operation::UpdateNetwork { interface, .. } => ("update_network", format!("network {interface}")),
            Operation::CreateShare { share } => ("create_share", format!("share {share}")),
            Operation::UpdateShare { share, .. } => ("update_share", format!("share {share}")),
            Operation::DeleteShare { share } => ("delete_share", format!("share {share}")),
            Operation::CreateHost { host } => ("create_host", format!("host {host}")),
            Operation::UpdateHost { host, .. } => ("update_host", format!("host {host}")),
            Operation::DeleteHost { host } => ("delete_host", format!("host {host}")),
            Operation::MapVolume { volume, .. } => ("map_volume", format!("volume {volume}")),
            Operation::UnmapVolume { volume, .. } => ("unmap_volume", format!("volume {volume}")),
            Operation::CreatePartner { partner } => ("create_partner", format!("partner {partner}")),
            Operation::DeletePartner { partner, .. } => ("delete_partner", format!("partner {partner}")),
            Operation::CreateRelationship { relationship, .. } => {
                ("create_relationship", format!("relationship {relationship}"))
            }
            Operation::CreateReplica { relationship, .. } => ("create_replica", format!("relationship {relationship}")),
            Operation::EndRelationship { relationship, .. } => {
                ("end_relationship", format!("relationship {relationship}"))
            }
        }
    }
}

/// One of an atomic set stands for all.
fn first(snapshots: &[SnapshotId]) -> SnapshotId {
    snapshots.first().copied().unwrap_or(SnapshotId(0))
}
