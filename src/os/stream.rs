//! The boundary for replication inside ZFS: bookmarks, and streams that are sent and received.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc};

use super::{
    Result,
    process::{Process, Stream},
};
use crate::types::{
    ids::Mark,
    names::{BookmarkName, DatasetName, SnapshotName},
};

/// What is known of a bookmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookmarkFacts {
    /// ZFS name, ours or not: `vpool1/fs2#snap3`.
    pub name: String,
    /// ZFS guid of the snapshot that it is of.
    pub guid: u64,
    /// Transaction group that made that snapshot.
    pub transaction: u64,
}

/// What an incremental stream begins at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A snapshot.
    Snapshot(SnapshotName),
    /// What is left of one.
    Bookmark(BookmarkName),
}

impl Base {
    /// Its ZFS name.
    pub fn as_str(&self) -> &str {
        match self {
            Base::Snapshot(name) => name.as_str(),
            Base::Bookmark(name) => name.as_str(),
        }
    }
}

/// What is sent. Large blocks stay large, compressed ones compressed, embedded ones embedded: `-L -c -e`, always, since a
/// replica that got one stream with large blocks can't take the next without. Properties are not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// A whole snapshot, or what differs from a base.
    Snapshot {
        /// What.
        snapshot: SnapshotName,
        /// From where; `None`: all of it.
        base: Option<Base>,
        /// As it is on disk, encrypted (`-w`).
        raw: bool,
    },
    /// The rest of an interrupted stream.
    Rest {
        /// The receive token.
        token: String,
        /// As it is on disk, encrypted, also when the token does not ask for it.
        raw: bool,
    },
}

/// What is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiving {
    /// Snapshot that it makes.
    pub snapshot: SnapshotName,
    /// The dataset is not there: it comes with the stream, as a replica, with this mark and these notes.
    pub new: Option<(Mark, BTreeMap<String, String>)>,
    /// Whether the dataset, which has no snapshots, becomes what is received, or the rest of it. The caller has checked that nothing is lost
    /// with that.
    pub whole: bool,
}

/// What a receive token says (`zfs send -t`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// ZFS name of the snapshot on the side that sends.
    pub name: String,
    /// Guid of the snapshot that was being received.
    pub guid: u64,
    /// Guid of the snapshot that the stream begins at.
    pub base: Option<u64>,
    /// Bytes that had arrived.
    pub bytes: u64,
}

/// The note on a replica, so that it is known as one when the catalog is lost.
pub const REPLICA: &str = "vsnap:replica";

/// Streams of ZFS. Errors carry a [`super::Kind`] as those of [`super::Datasets`].
pub trait Streams: Send + Sync {
    /// All bookmarks of a dataset, ours or not, the oldest first.
    fn bookmarks(&self, dataset: &DatasetName) -> Result<Vec<BookmarkFacts>>;
    /// Bookmarks a snapshot; no error when that bookmark of it is there.
    fn bookmark(&self, snapshot: &SnapshotName, name: &BookmarkName) -> Result<()>;
    /// Destroys a bookmark; no error when it is not there.
    fn destroy_bookmark(&self, name: &BookmarkName) -> Result<()>;
    /// The receive token of a dataset with an interrupted stream.
    fn receive_token(&self, dataset: &DatasetName) -> Result<Option<String>>;
    /// What a token says; `None` when it is none that this ZFS understands.
    fn read_token(&self, token: &str) -> Result<Option<TokenFacts>>;
    /// Forgets what an interrupted stream left; no error when there is nothing.
    fn discard_receive(&self, dataset: &DatasetName) -> Result<()>;
    /// About how many bytes a stream has. `Missing` when what it is made of is not there any longer.
    fn stream_size(&self, sending: &Sending) -> Result<u64>;
    /// Begins to send.
    fn send(&self, sending: &Sending) -> Result<Stream>;
    /// Begins to receive what comes from `input`. When that ends too early what came is kept, and a token with it. `Denied`
    /// when it is more than the stream of one snapshot: properties may come with such a one, and other datasets.
    fn receive(&self, receiving: &Receiving, input: OwnedFd) -> Result<Arc<dyn Process>>;
    /// Waits until all that was written in a pool is on disk, so that it counts in [`super::Datasets::written_since`].
    fn sync(&self, dataset: &DatasetName) -> Result<()>;
    /// Whether what is in a dataset is encrypted. It leaves the machine as it is then.
    fn is_encrypted(&self, dataset: &DatasetName) -> Result<bool>;
    /// Whether a filesystem has no snapshots and nothing in it. Of a zvol that can't be known, so it never is.
    fn is_blank(&self, dataset: &DatasetName) -> Result<bool>;
    /// Makes a dataset a replica (read-only, not mounted, also not later), or one like others again, mounted; an encrypted
    /// one whose key is not here is left unmounted.
    fn set_replica(&self, dataset: &DatasetName, replica: bool) -> Result<()>;
}
