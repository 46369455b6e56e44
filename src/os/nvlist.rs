//! Lists of names and values, as ZFS packs them.

use foreign_types::ForeignType;
use nvpair::{NvList, NvListRef};

/// Unpacks a list from the beginning of these bytes; what comes after it does not matter. An error is no list.
#[allow(unsafe_code, reason = "the crate nvpair can't unpack")]
pub(super) fn unpack(packed: &mut [u8]) -> std::io::Result<NvList> {
    let mut list = std::ptr::null_mut();
    // SAFETY: libnvpair reads `packed` and no more than its length, and allocates the list.
    let failure = unsafe { nvpair_sys::nvlist_unpack(packed.as_mut_ptr().cast(), packed.len() as u64, &mut list, 0) };
    if failure != 0 || list.is_null() {
        return Err(std::io::Error::from_raw_os_error(failure));
    }
    // SAFETY: it is a list, and nobody else's.
    Ok(unsafe { NvList::from_ptr(list) })
}

/// Packs a list as ZFS keeps it on disks, which its ioctls take as well.
#[allow(unsafe_code, reason = "the crate nvpair can't pack")]
pub(super) fn pack(list: &NvListRef) -> std::io::Result<Vec<u8>> {
    let mut size = 0;
    // SAFETY: libnvpair reads the list and writes a number.
    let failure = unsafe { nvpair_sys::nvlist_size(list.as_ptr().cast_mut(), &mut size, nvpair_sys::NV_ENCODE_XDR) };
    if failure != 0 {
        return Err(std::io::Error::from_raw_os_error(failure));
    }
    let mut packed = vec![0_u8; usize::try_from(size).map_err(std::io::Error::other)?];
    let mut place = packed.as_mut_ptr().cast();
    // SAFETY: libnvpair reads the list and writes as many bytes as it has just asked for, which `packed` has.
    let failure = unsafe {
        nvpair_sys::nvlist_pack(list.as_ptr().cast_mut(), &mut place, &mut size, nvpair_sys::NV_ENCODE_XDR, 0)
    };
    if failure == 0 { Ok(packed) } else { Err(std::io::Error::from_raw_os_error(failure)) }
}
