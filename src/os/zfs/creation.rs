//! Making filesystems, zvols and clones through libzfs_core. `zfs create` and `zfs clone` do the same, after the time that a
//! process takes, and end with an `exportfs -ra` that takes away what others export by hand.

use std::{collections::BTreeMap, ffi::CString};

use libzetta::libnv::{NvError, nvpair::NvList};
use libzetta_zfs_core_sys::{lzc_clone, lzc_create, lzc_dataset_type};

use super::{OpenZfs, property};
use crate::{
    os::{Error, Kind, Result},
    types::{
        ids::Mark,
        names::{DatasetName, SnapshotName},
    },
};

/// What can be made.
pub(super) enum Made {
    Filesystem,
    Zvol,
}

/// `ZFS_VOLMODE_DEV`.
const DEVICE_ALONE: u64 = 2;

/// Properties that a dataset is made with. The kernel takes numbers where `zfs` takes words.
pub(super) struct Properties {
    numbers: Vec<(&'static str, u64)>,
    marks: Vec<(String, String)>,
}

impl Properties {
    pub(super) fn new(numbers: Vec<(&'static str, u64)>, mark: &Mark, notes: &BTreeMap<String, String>) -> Self {
        let mark = (property::MARK.to_owned(), mark.as_str().to_owned());
        let notes = notes.iter().map(|(note, value)| (note.clone(), value.clone()));
        Properties { numbers, marks: std::iter::once(mark).chain(notes).collect() }
    }

    fn list(&self, action: impl Fn() -> String) -> Result<NvList> {
        let odd = |error: NvError| Error::new(Kind::Other, action(), error.to_string());
        let mut list = NvList::default();
        for (name, number) in &self.numbers {
            list.insert_u64(*name, *number).map_err(odd)?;
        }
        for (name, text) in &self.marks {
            list.insert_string(name.as_str(), text.as_str()).map_err(odd)?;
        }
        Ok(list)
    }
}

impl OpenZfs {
    /// What a zvol inherits of a pool of ours (`pool.rs`), for one in a pool that was made in another way.
    pub(super) fn own_volmode(&self, pool: &str) -> Result<Option<(&'static str, u64)>> {
        let record = self.look(pool)?;
        let is_inherited = record.is_some_and(|record| record.find("volmode") == Some(&DEVICE_ALONE.to_string()));
        Ok((!is_inherited).then_some(("volmode", DEVICE_ALONE)))
    }

    /// Makes a filesystem, which is not mounted, or a zvol.
    pub(super) fn make(&self, name: &DatasetName, made: &Made, properties: &Properties) -> Result<()> {
        let action = || format!("creating {name}");
        let kind = match made {
            Made::Filesystem => lzc_dataset_type::LZC_DATSET_TYPE_ZFS,
            Made::Zvol => lzc_dataset_type::LZC_DATSET_TYPE_ZVOL,
        };
        let (name, list) = (text(action, name.as_str())?, properties.list(action)?);
        #[allow(unsafe_code, reason = "libzetta's own create knows no user properties")]
        // SAFETY: the library is initialised while `self.core` lives; it reads the text and the list and keeps neither, and
        // without a key its length is 0.
        let number = unsafe { lzc_create(name.as_ptr(), kind, list.as_ptr(), std::ptr::null_mut(), 0) };
        outcome(action, number)
    }

    /// Makes a clone, which is not mounted if it is a filesystem.
    pub(super) fn make_clone(&self, name: &DatasetName, origin: &SnapshotName, properties: &Properties) -> Result<()> {
        let action = || format!("cloning {origin} as {name}");
        let (name, origin) = (text(action, name.as_str())?, text(action, origin.as_str())?);
        let list = properties.list(action)?;
        #[allow(unsafe_code, reason = "libzetta has no clone")]
        // SAFETY: the library is initialised while `self.core` lives; it reads the texts and the list and keeps none.
        let number = unsafe { lzc_clone(name.as_ptr(), origin.as_ptr(), list.as_ptr()) };
        outcome(action, number)
    }
}

pub(super) fn text(action: impl FnOnce() -> String, name: &str) -> Result<CString> {
    CString::new(name).map_err(|error| Error::new(Kind::Other, action(), error.to_string()))
}

pub(super) fn outcome(action: impl FnOnce() -> String, number: i32) -> Result<()> {
    match number {
        0 => Ok(()),
        number => Err(Error::io(action(), &std::io::Error::from_raw_os_error(number))),
    }
}
