//! Bookmarks, and the size of a stream before it is sent, through libzfs_core: each session asks for them.

use std::{ffi::CStr, ptr};

use foreign_types::ForeignType;
use libzetta_zfs_core_sys::{lzc_bookmark, lzc_destroy_bookmarks, lzc_get_bookmarks, lzc_send_flags, lzc_send_space};
use nix::errno::Errno;
use nvpair::{NvData, NvList, NvListRef};

use super::{
    OpenZfs,
    creation::{outcome, text},
};
use crate::{
    os::{
        Error, Kind, Result,
        stream::{Base, BookmarkFacts},
    },
    types::names::{BookmarkName, DatasetName, SnapshotName},
};

/// `-L -c -e` of `zfs send`.
const FLAGS: lzc_send_flags::Type = lzc_send_flags::LZC_SEND_FLAG_LARGE_BLOCK
    | lzc_send_flags::LZC_SEND_FLAG_COMPRESS
    | lzc_send_flags::LZC_SEND_FLAG_EMBED_DATA;

impl OpenZfs {
    pub(super) fn read_bookmarks(&self, dataset: &DatasetName) -> Result<Vec<BookmarkFacts>> {
        let action = || format!("reading the bookmarks of {dataset}");
        let io = |error: std::io::Error| Error::io(action(), &error);
        let name = text(action, dataset.as_str())?;
        let mut wanted = NvList::try_new_unique_names().map_err(io)?;
        for property in ["guid", "createtxg"] {
            wanted.add_boolean(property).map_err(io)?;
        }
        let mut found = ptr::null_mut();
        #[allow(unsafe_code, reason = "libzetta knows no bookmarks")]
        // SAFETY: the library is initialised while `self.core` lives; it reads the text and the list and keeps neither.
        let number = unsafe { lzc_get_bookmarks(name.as_ptr(), wanted.as_mut_ptr().cast(), &mut found) };
        outcome(action, number)?;
        #[allow(unsafe_code, reason = "libzetta knows no bookmarks")]
        // SAFETY: without an error it has made a list, which is nobody else's.
        let found = unsafe { NvList::from_ptr(found.cast()) };
        let unreadable = || Error::new(Kind::Other, action(), "the kernel's answer can't be read");
        let facts = found.iter().map(|pair| {
            let NvData::NvListRef(properties) = pair.data() else { return None };
            bookmark(dataset, pair.name().to_str().ok()?, properties)
        });
        let mut bookmarks = facts.collect::<Option<Vec<_>>>().ok_or_else(unreadable)?;
        bookmarks.sort_by_key(|bookmark| bookmark.transaction);
        Ok(bookmarks)
    }

    /// `Exists` when there is a bookmark of that name.
    pub(super) fn make_bookmark(&self, snapshot: &SnapshotName, name: &BookmarkName) -> Result<()> {
        let action = || format!("bookmarking {snapshot} as {name}");
        let mut wanted = NvList::try_new_unique_names().map_err(|error| Error::io(action(), &error))?;
        wanted.insert(name.as_str(), snapshot.as_str()).map_err(|error| Error::io(action(), &error))?;
        #[allow(unsafe_code, reason = "libzetta knows no bookmarks")]
        // SAFETY: the library is initialised while `self.core` lives; it reads the list and doesn't keep it. Of the one
        // bookmark all is said with the number.
        outcome(action, unsafe { lzc_bookmark(wanted.as_mut_ptr().cast(), ptr::null_mut()) })
    }

    /// No error when the bookmark is not there.
    pub(super) fn remove_bookmark(&self, name: &BookmarkName) -> Result<()> {
        let action = || format!("destroying bookmark {name}");
        let mut doomed = NvList::try_new_unique_names().map_err(|error| Error::io(action(), &error))?;
        doomed.add_boolean(name.as_str()).map_err(|error| Error::io(action(), &error))?;
        #[allow(unsafe_code, reason = "libzetta knows no bookmarks")]
        // SAFETY: as above.
        outcome(action, unsafe { lzc_destroy_bookmarks(doomed.as_mut_ptr().cast(), ptr::null_mut()) })
    }

    /// About how many bytes the stream of a snapshot has.
    pub(super) fn estimate(&self, snapshot: &SnapshotName, base: Option<&Base>, raw: bool) -> Result<u64> {
        let action = || format!("asking how much sending {snapshot} is");
        let snapshot = text(action, snapshot.as_str())?;
        let base = base.map(|base| text(action, base.as_str())).transpose()?;
        let flags = if raw { FLAGS | lzc_send_flags::LZC_SEND_FLAG_RAW } else { FLAGS };
        let from = base.as_deref().map_or(ptr::null(), CStr::as_ptr);
        let mut size = 0;
        #[allow(unsafe_code, reason = "libzetta does not know how much it sends")]
        // SAFETY: the library is initialised while `self.core` lives; it reads the texts, keeps neither, and writes a number.
        let number = unsafe { lzc_send_space(snapshot.as_ptr(), from, flags, &mut size) };
        // It has a number of its own for a bookmark that is not there.
        let is_gone = number == Errno::ESRCH as i32;
        outcome(action, if is_gone { Errno::ENOENT as i32 } else { number }).map(|()| size)
    }
}

fn bookmark(dataset: &DatasetName, name: &str, properties: &NvListRef) -> Option<BookmarkFacts> {
    let number = |key: &str| properties.lookup_nvlist(key).and_then(|property| property.lookup_uint64("value")).ok();
    let (guid, transaction) = (number("guid")?, number("createtxg")?);
    Some(BookmarkFacts { name: format!("{dataset}#{name}"), guid, transaction })
}
