//! Lists of names and values, as ZFS packs them.

use foreign_types::ForeignType;
use nvpair::NvList;

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
