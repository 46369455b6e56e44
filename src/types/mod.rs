//! Values that are valid by construction. No I/O, no knowledge of JSON on the wire.

pub mod disk;
pub mod host;
pub mod ids;
pub mod link;
pub mod names;
pub mod network;
pub mod operation;
pub mod partner;
pub mod pool;
pub mod relationship;
pub mod report;
pub mod selection;
pub mod session;
pub mod share;
pub mod snapshot;
pub mod system;
pub mod time;
pub mod user;
pub mod vdev;
pub mod volume;

pub use ids::{HostId, PoolId, RelationshipId, SessionId, ShareId, SnapshotId, SystemId, VolumeId};
pub use names::Name;
pub use time::Epoch;

/// A value from outside that cannot be what it is meant to be.
///
/// `field` is the name of the request member (or configuration key), so that the answer can name it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// The member of the request that is wrong.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl Invalid {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Invalid { field: field.into(), message: message.into() }
    }
}
