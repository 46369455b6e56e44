//! Properties: what they are called, and the values that options are written as.

use crate::types::{pool::PoolOptions, volume::VolumeOptions};

/// Our mark on everything that we create.
pub(super) const MARK: &str = "vsnap:id";
/// What all our user properties begin with.
pub(super) const OURS: &str = "vsnap:";
const LZ4: u64 = 15;
const BLAKE3: u64 = 14;
const SYNC_STANDARD: u64 = 0;
/// `ZIO_COMPRESS_OFF`, `ZIO_CHECKSUM_OFF` and `ZFS_SYNC_DISABLED`: what stands for "no" in options.
pub(super) const COMPRESS_OFF: u64 = 2;
pub(super) const CHECKSUM_OFF: u64 = 2;
pub(super) const SYNC_DISABLED: u64 = 2;

/// The ZFS properties that say `options`, those that are given, as `name=value`.
///
/// * `compression=lz4`: backup streams arrive at line rate and are often compressed already. lz4 costs next to
///   nothing and gives up early on what it can't shrink; zstd-3 halves the rate of one core for some percent.
/// * `dedup=blake3`: two to four times as fast as `on`, which is SHA-256, on processors with and without SHA
///   instructions; and it is keyed with a secret of the pool, so that nobody can prepare two blocks that collide.
/// * `sync=disabled` acknowledges what is in memory only; that is what the client asks for with `syncwrite: false`.
pub(super) fn assignments(options: &VolumeOptions) -> Vec<String> {
    let choose = |name: &str, chosen: Option<bool>, yes: &str, no: &str| {
        chosen.map(|chosen| format!("{name}={}", if chosen { yes } else { no }))
    };
    let chosen = [
        choose("compression", options.compression, "lz4", "off"),
        choose("dedup", options.deduplication, "blake3", "off"),
        choose("sync", options.syncwrite, "standard", "disabled"),
    ];
    chosen.into_iter().flatten().collect()
}

/// The same as the kernel has it: numbers of `zio_compress`, `zio_checksum` and `zfs_sync_type` (`sys/zio.h`,
/// `sys/fs/zfs.h`). They are on disk, so they stay what they are.
pub(super) fn numbers(options: &VolumeOptions) -> Vec<(&'static str, u64)> {
    let choose = |name, chosen: Option<bool>, yes, no| chosen.map(|chosen| (name, if chosen { yes } else { no }));
    let chosen = [
        choose("compression", options.compression, LZ4, COMPRESS_OFF),
        choose("dedup", options.deduplication, BLAKE3, CHECKSUM_OFF),
        choose("sync", options.syncwrite, SYNC_STANDARD, SYNC_DISABLED),
    ];
    chosen.into_iter().flatten().collect()
}

/// [`assignments`] of all options.
pub(super) fn pool_assignments(options: &PoolOptions) -> Vec<String> {
    assignments(&VolumeOptions {
        compression: Some(options.compression),
        deduplication: Some(options.deduplication),
        syncwrite: Some(options.syncwrite),
    })
}

/// What values of `compression`, `dedup` and `sync` mean, also those that others have set.
pub(super) fn options(compression: Option<&str>, dedup: Option<&str>, sync: Option<&str>) -> VolumeOptions {
    VolumeOptions {
        compression: compression.map(|value| value != "off"),
        deduplication: dedup.map(|value| value != "off"),
        syncwrite: sync.map(|value| value != "disabled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_assignments() {
        let options = PoolOptions { compression: false, deduplication: true, syncwrite: false };
        assert_eq!(pool_assignments(&options), ["compression=off", "dedup=blake3", "sync=disabled"]);
        assert_eq!(pool_assignments(&PoolOptions::default()), ["compression=lz4", "dedup=off", "sync=standard"]);
        let options = VolumeOptions { syncwrite: Some(true), ..VolumeOptions::default() };
        assert_eq!(assignments(&options), ["sync=standard"]);
    }
}
