//! What appliances say to each other over the partner link: JSON texts of one version, each with its length before it.
//!
//! The one that opened the link asks, the other answers; after [`Answer::Ready`] come the bytes of one stream of
//! `zfs send`, which has its end in itself, and then the answer to it. Everything that comes in is checked by the types
//! of its members; who asks is known from the key that opened the link.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    Name, PoolId, RelationshipId, SnapshotId, SystemId, VolumeId,
    volume::{BlockSize, VolumeType},
};

/// The version of what is said here. Another one is answered by [`Answer::Failed`].
pub const VERSION: u32 = 1;
/// Longest text of a question.
pub const MAX_QUESTION: usize = 64 << 10;
/// Longest text of an answer: a list of snapshots can be long.
pub const MAX_ANSWER: usize = 64 << 20;

/// A question with its version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message<T> {
    /// [`VERSION`] of the one who asks.
    pub version: u32,
    /// What is asked or answered.
    #[serde(flatten)]
    pub body: T,
}

/// What one appliance asks of its partner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Question {
    /// Who are you, and where can data be sent to?
    Hello,
    /// The pairing is whole on this side; make it whole on yours.
    Confirm,
    /// The partnership ends.
    Forget,
    /// Make a replica, or take the volume that is there for it. Asked again it tells the same.
    CreateReplica(NewReplica),
    /// A relationship ends. Not an error when it is not known.
    EndRelationship {
        /// Which.
        relationship: RelationshipId,
        /// Whether the replica stays, as a volume like others.
        preserve: bool,
    },
    /// What has the replica, and how far did an interrupted stream come? Ends a stream that may still be on its way.
    State {
        /// Of which relationship.
        relationship: RelationshipId,
        /// Name that its primary volume has now.
        #[serde(default)]
        volume_name: Option<Name>,
    },
    /// A stream comes.
    Receive(Delivery),
    /// Forget what an interrupted stream left.
    Discard {
        /// Of which relationship.
        relationship: RelationshipId,
    },
}

/// The replica that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewReplica {
    /// The relationship that it is for.
    pub relationship: RelationshipId,
    /// The volume that it is a replica of.
    pub volume: VolumeId,
    /// Name of that volume.
    pub volume_name: Name,
    /// Pool of that volume.
    pub pool: PoolId,
    /// What that volume is.
    pub volume_type: VolumeType,
    /// Its limit or size in bytes.
    pub size: Option<u64>,
    /// Block size of a lun.
    pub block: Option<BlockSize>,
    /// In which pool it shall be.
    pub remote_pool: Option<PoolId>,
    /// Name that it shall have; one that is free is found when it is not given.
    pub remote_name: Option<Name>,
    /// Whether a volume that is there already shall become the replica.
    pub reuse: bool,
    /// Guids of the snapshots and bookmarks of the volume: a volume that is to be reused must have one of them.
    pub guids: Vec<u64>,
}

/// A stream that is about to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// For which relationship.
    pub relationship: RelationshipId,
    /// Guid of the snapshot that it makes.
    pub guid: u64,
    /// Name that this shall have.
    pub name: Name,
    /// Whether it shall have this name and no other, since somebody asked for it; else one that is free is made of it
    /// when it is taken. Partners from before this member make one in any case.
    #[serde(default)]
    pub exact_name: bool,
    /// Guid of the snapshot that it builds on; `None` for a full stream.
    pub base: Option<u64>,
    /// Whether it goes on where an interrupted one ended.
    pub resume: bool,
    /// Whether it is of an encrypted volume, and stays encrypted: then the first one brings the dataset with it.
    #[serde(default)]
    pub raw: bool,
}

/// What the partner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Question::Hello`].
    Hello {
        /// Who it is.
        id: SystemId,
        /// Addresses of its interfaces with service `repl`, without link-local ones.
        addresses: Vec<IpAddr>,
    },
    /// It is done.
    Done,
    /// To [`Question::CreateReplica`].
    Replica {
        /// The replica.
        volume: VolumeId,
        /// Its name.
        name: Name,
        /// Its pool.
        pool: PoolId,
    },
    /// To [`Question::State`].
    State {
        /// Snapshots of the replica, whoever made them; the oldest first.
        snapshots: Vec<ReplicaSnapshot>,
        /// The receive token that an interrupted stream left.
        token: Option<String>,
        /// Name that the replica has now.
        #[serde(default)]
        volume_name: Option<Name>,
    },
    /// To [`Question::Receive`]: the stream may come.
    Ready,
    /// After the stream: it is there.
    Received {
        /// Number of the snapshot.
        snapshot: SnapshotId,
        /// Its name.
        name: Name,
    },
    /// It can't be done, and nothing was.
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// In words.
        message: String,
    },
}

/// A snapshot of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSnapshot {
    /// ZFS guid: the same as that of the snapshot that it was sent from.
    pub guid: u64,
    /// What comes after the `@`.
    pub zfs_name: String,
    /// Its number and name, when the catalog there has it.
    pub known: Option<(SnapshotId, Name)>,
}

/// Why the partner refused, as far as it matters to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// There is no such thing.
    NotFound,
    /// The name is taken.
    Exists,
    /// In use at the moment.
    Busy,
    /// The state of things does not allow it.
    State,
    /// The question makes no sense, or is of another version.
    Invalid,
    /// No space left.
    NoSpace,
    /// The stream ended too early; what came of it is kept.
    Broken,
    /// Anything else.
    Other,
}
