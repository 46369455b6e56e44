//! Whose ZFS labels are on a device, read from it as ZFS does (`vdev_impl.h` and `vdev_label.c` of OpenZFS, which calls
//! this the on-disk format).
//!
//! There are four labels, two at each end. A data or log disk's label names its pool and the pool's guid. That of a
//! spare or a cache disk does not; the header of a cache that has been written to has the guid.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Seek, SeekFrom},
    os::{fd::AsRawFd, unix::fs::FileExt, unix::fs::FileTypeExt},
};

use crate::os::{Error, LabelOwner, Result, nvlist};

const LABEL_BYTES: u64 = 256 << 10;
const LABELS: u64 = 4;
/// Where in a label its list is, after room for other boot loaders, and how long it can be.
const LIST: u64 = 16 << 10;
const LIST_BYTES: usize = 112 << 10;
/// First byte of a list as labels have it: XDR.
const XDR: u8 = 1;
/// State of a label of a cache disk (`pool_state_t`).
const CACHE: u64 = 4;
/// Where a cache disk has its header: after two labels and room for a boot loader.
const CACHE_HEADER: u64 = 4 << 20;
/// What that begins with; its third number is the pool's guid.
const CACHE_MAGIC: u64 = 0x5a46_5343_4143_4845;

/// What the labels of a device say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// Whether there is any.
    pub found: bool,
    names: BTreeSet<String>,
    guids: BTreeSet<u64>,
}

impl Labels {
    /// Reads those that are on a device itself, not what the kernel remembers of it.
    pub(super) fn of(node: &str) -> Result<Self> {
        read(node).map_err(|error| Error::io(format!("reading ZFS labels from {node}"), &error))
    }

    fn add(&mut self, packed: &mut [u8], device: &File) -> io::Result<()> {
        if packed.first() != Some(&XDR) {
            return Ok(());
        }
        // What can't be unpacked is no label.
        let Ok(list) = nvlist::unpack(packed) else { return Ok(()) };
        self.found = true;
        self.names.extend(list.lookup_string("name").ok().and_then(|name| name.into_string().ok()));
        self.guids.extend(list.lookup_uint64("pool_guid"));
        if list.lookup_uint64("state").is_ok_and(|state| state == CACHE) {
            let mut header = [0; 24];
            device.read_exact_at(&mut header, CACHE_HEADER)?;
            self.guids.extend(guid_in_cache(&header));
        }
        Ok(())
    }

    /// Why these labels are not `owner`'s; `None` when nothing contradicts it.
    pub(super) fn contradiction(&self, owner: &LabelOwner) -> Option<String> {
        // With its guid known, the name proves nothing: a pool may be imported under another name.
        let stranger = match owner.guid {
            Some(guid) => self.guids.iter().find(|found| **found != guid).map(|found| format!("the guid {found}")),
            None => {
                self.names.iter().find(|found| **found != owner.name.as_str()).map(|found| format!("the name {found}"))
            }
        };
        stranger.map(|found| format!("it has a label of another pool than {}: one with {found}", owner.name))
    }
}

fn read(node: &str) -> io::Result<Labels> {
    let mut device = File::open(node)?;
    forget_cached(&device)?;
    let size = device.seek(SeekFrom::End(0))? / LABEL_BYTES * LABEL_BYTES;
    let mut labels = Labels::default();
    if size < LABELS * LABEL_BYTES {
        return Ok(labels);
    }
    let mut packed = vec![0; LIST_BYTES];
    for start in [0, LABEL_BYTES, size - 2 * LABEL_BYTES, size - LABEL_BYTES] {
        device.read_exact_at(&mut packed, start + LIST)?;
        labels.add(&mut packed, &device)?;
    }
    Ok(labels)
}

/// ZFS writes past the cache through which this reads, in which an old label may be.
#[allow(unsafe_code, reason = "there is no other way to this ioctl")]
fn forget_cached(device: &File) -> io::Result<()> {
    /// `BLKFLSBUF` of `linux/fs.h`.
    const FLUSH: nix::libc::Ioctl = 0x1261;
    if !device.metadata()?.file_type().is_block_device() {
        return Ok(());
    }
    // SAFETY: it takes no memory of ours.
    nix::errno::Errno::result(unsafe { nix::libc::ioctl(device.as_raw_fd(), FLUSH, 0) })?;
    Ok(())
}

fn guid_in_cache(header: &[u8; 24]) -> Option<u64> {
    let number = |at: usize| header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
    match number(0)? {
        CACHE_MAGIC => number(16),
        // Made by a machine of the other byte order.
        magic if magic.swap_bytes() == CACHE_MAGIC => number(16).map(u64::swap_bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use nvpair::NvList;
    use tempfile::NamedTempFile;

    use super::*;
    use crate::types::{PoolId, names::ZpoolName};

    /// No whole number of labels: those at the end are not at the very end.
    const SIZE: u64 = (16 << 20) + 4096;
    const STARTS: [u64; 4] = [0, 256 << 10, (16 << 20) - (512 << 10), (16 << 20) - (256 << 10)];

    fn owner(guid: Option<u64>) -> LabelOwner {
        LabelOwner { name: ZpoolName::of(PoolId(1)), guid }
    }

    #[allow(unsafe_code, reason = "the crate nvpair writes no 64 bits")]
    fn add(list: &mut NvList, name: &CStr, value: u64) {
        // SAFETY: it is a list, and a string that ends.
        assert_eq!(unsafe { nvpair_sys::nvlist_add_uint64(list.as_mut_ptr(), name.as_ptr(), value) }, 0);
    }

    fn list(state: u64, pool: Option<(&str, u64)>) -> NvList {
        let mut list = NvList::new_unique_names();
        add(&mut list, c"version", 5000);
        if let Some((name, guid)) = pool {
            list.insert("name", name).unwrap();
            add(&mut list, c"pool_guid", guid);
        }
        add(&mut list, c"state", state);
        add(&mut list, c"guid", 97);
        list
    }

    /// A device with this label in these of the four places.
    fn device(list: &NvList, places: &[usize]) -> NamedTempFile {
        let device = NamedTempFile::new().unwrap();
        device.as_file().set_len(SIZE).unwrap();
        let packed = nvlist::pack(list).unwrap();
        for place in places {
            device.as_file().write_all_at(&packed, STARTS[*place] + (16 << 10)).unwrap();
        }
        device
    }

    fn labels(device: &NamedTempFile) -> Labels {
        Labels::of(device.path().to_str().unwrap()).unwrap()
    }

    #[test]
    fn the_guid_decides_when_it_is_known() {
        let data = device(&list(0, Some(("vpool1", 14))), &[0, 1, 2, 3]);
        let cache = device(&list(CACHE, None), &[0, 1, 2, 3]);
        let header = [CACHE_MAGIC, 1, 14].map(u64::to_ne_bytes).concat();
        cache.as_file().write_all_at(&header, CACHE_HEADER).unwrap();
        let foreign = device(&list(CACHE, None), &[0]);
        let header = [CACHE_MAGIC, 1, 14].map(|number| number.swap_bytes().to_ne_bytes()).concat();
        foreign.as_file().write_all_at(&header, CACHE_HEADER).unwrap();
        for labels in [&data, &cache, &foreign].map(labels) {
            assert!(labels.found);
            assert_eq!(labels.contradiction(&owner(Some(14))), None);
            assert!(labels.contradiction(&owner(Some(15))).unwrap().contains("14"));
        }
        assert_eq!(labels(&data).contradiction(&owner(None)), None);
        let renamed = labels(&device(&list(0, Some(("tank", 14))), &[0, 1, 2, 3]));
        assert_eq!(renamed.contradiction(&owner(Some(14))), None);
        assert!(renamed.contradiction(&owner(None)).unwrap().contains("tank"));
    }

    #[test]
    fn a_spare_names_no_pool() {
        let labels = labels(&device(&list(3, None), &[0, 1, 2, 3]));
        assert!(labels.found);
        assert_eq!(labels.contradiction(&owner(Some(14))), None);
    }

    #[test]
    fn a_clearing_that_was_cut_off_leaves_labels() {
        for place in 0..4 {
            let labels = labels(&device(&list(2, Some(("vpool1", 14))), &[place]));
            assert!(labels.found, "{place}");
            assert_eq!(labels.contradiction(&owner(Some(14))), None);
            assert!(labels.contradiction(&owner(Some(15))).is_some());
        }
    }

    #[test]
    fn no_label_is_not_the_same_as_no_answer() {
        let nothing = device(&list(0, None), &[]);
        assert_eq!(labels(&nothing), Labels::default());
        // Begins like one.
        nothing.as_file().write_all_at(&[XDR; 4096], 16 << 10).unwrap();
        assert_eq!(labels(&nothing), Labels::default());
        let small = NamedTempFile::new().unwrap();
        small.as_file().set_len(512 << 10).unwrap();
        assert_eq!(labels(&small), Labels::default());
        assert!(Labels::of("/dev/nowhere").is_err());
    }
}
