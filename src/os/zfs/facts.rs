//! What an imported pool is: properties of its root dataset, of the pool, and its dedup tables, by the ioctls that
//! `zfs get`, `zpool get` and `zpool status -D` are made of. Starts no process.

use nix::errno::Errno;
use nvpair::{NvData, NvListRef};

use super::{OpenZfs, objset::value_of, program::Record, property};
use crate::{
    os::{Error, Kind, PoolFacts, Result},
    types::{
        ids::Mark,
        names::ZpoolName,
        pool::{PoolNumbers, PoolOptions},
    },
};

/// `ZFS_IOC_POOL_STATS` and `ZFS_IOC_POOL_GET_PROPS`; see `objset`.
const POOL_STATS: nix::libc::Ioctl = 0x5a05;
const POOL_GET_PROPS: nix::libc::Ioctl = 0x5a27;
/// Enough for both of a pool with some dozens of disks: each disk has its counters in the answer.
const USUAL_ANSWER: usize = 128 << 10;

/// A pool's dedup tables; all zero for a pool without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DedupTable {
    /// Its size on disk, in bytes.
    pub on_disk: u64,
    /// Its size in memory, in bytes.
    pub in_memory: u64,
    /// What its blocks take on disk.
    pub stored: u64,
    /// What they would take if each reference were stored for itself.
    pub referenced: u64,
}

/// What the properties of a pool say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Savings {
    /// Bytes that cloned blocks (`cp --reflink`) save.
    by_cloning: u64,
    /// Hundredths.
    deduplication_ratio: u64,
}

impl OpenZfs {
    /// See [`crate::os::Zfs::pool_facts`].
    pub(super) fn facts_of_pool(&self, name: &ZpoolName) -> Result<PoolFacts> {
        let action = || format!("reading pool {name}");
        let missing = || Error::new(Kind::Missing, action(), "the pool is not imported");
        let failed = |error: std::io::Error| Error::io(action(), &error);
        let root = self.look(name.as_str())?.ok_or_else(missing)?;
        let properties =
            self.device.ask(POOL_GET_PROPS, name.as_str(), USUAL_ANSWER).map_err(failed)?.ok_or_else(missing)?;
        let table = self.dedup_table(name)?.ok_or_else(missing)?;
        let mounted = self.mounts.read()?.contains_key(name.as_str());
        facts(&root, savings(&properties).map_err(failed)?, table, mounted)
    }

    /// `None` unless the pool is imported.
    pub(super) fn dedup_table(&self, name: &ZpoolName) -> Result<Option<DedupTable>> {
        let failed = |error: std::io::Error| Error::io(format!("reading the dedup table of pool {name}"), &error);
        let statistics = self.device.ask(POOL_STATS, name.as_str(), USUAL_ANSWER).map_err(failed)?;
        statistics.map(|statistics| table(&statistics).map_err(failed)).transpose()
    }
}

/// The `used` of a dataset counts a deduplicated or cloned block once per reference, and ZFS adds what is saved to
/// the capacity. Without both, `free + used` is what the disks hold after parity, and constant.
fn facts(root: &Record, savings: Savings, table: DedupTable, mounted: bool) -> Result<PoolFacts> {
    let mut notes = root.notes()?;
    let referenced = root.number("used")?;
    let saved = table.referenced.saturating_sub(table.stored).saturating_add(savings.by_cloning);
    let options = property::options(root.find("compression"), root.find("dedup"), root.find("sync"));
    Ok(PoolFacts {
        mark: notes.remove(property::MARK).map(Mark::read),
        notes,
        // What is not set has the defaults of zfsprops(7).
        options: PoolOptions {
            compression: options.compression.unwrap_or(true),
            deduplication: options.deduplication.unwrap_or(false),
            syncwrite: options.syncwrite.unwrap_or(true),
        },
        numbers: PoolNumbers {
            free: root.number("available")?,
            used: referenced.saturating_sub(saved),
            logical: root.number("logicalused")?,
            before_deduplication: referenced,
            compression_ratio: root.number("compressratio")?.max(100),
            deduplication_ratio: savings.deduplication_ratio.max(100),
        },
        mounted,
    })
}

fn savings(properties: &NvListRef) -> std::io::Result<Savings> {
    let number = |name: &str| {
        let property = properties.lookup_nvlist(name)?;
        match value_of(&property) {
            Some(NvData::Uint64(number)) => Ok(number),
            _ => Err(std::io::Error::other(format!("{name} is no number"))),
        }
    };
    Ok(Savings { by_cloning: number("bclonesaved")?, deduplication_ratio: number("dedupratio")? })
}

/// From `ddt_object_t` and `ddt_stat_t` (`sys/fs/zfs.h`), which are lists of numbers.
fn table(statistics: &NvListRef) -> std::io::Result<DedupTable> {
    let numbers = |name: &str| match statistics.lookup_uint64_array(name) {
        // A pool without tables.
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(Vec::new()),
        numbers => numbers,
    };
    let (objects, blocks) = (numbers("ddt_object_stats")?, numbers("ddt_stats")?);
    let at = |list: &[u64], place: usize| list.get(place).copied().unwrap_or_default();
    Ok(DedupTable {
        on_disk: at(&objects, 1),
        in_memory: at(&objects, 2),
        stored: at(&blocks, 3),
        referenced: at(&blocks, 7),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::nvlist;

    /// Answers of the kernel about a pool with 20 MB that are there three times and a clone of 5 MB.
    macro_rules! answer {
        ($name:literal) => {
            nvlist::unpack(&mut include_bytes!(concat!("../../../tests/fixtures/zfs/", $name)).to_vec()).unwrap()
        };
    }

    #[test]
    fn a_real_pool() {
        let table = table(&answer!("pool-stats-dedup.nvlist")).unwrap();
        // As `zpool status -D` said of it.
        let said = DedupTable { on_disk: 110_592, in_memory: 65_536, stored: 20_000_768, referenced: 60_002_304 };
        assert_eq!(table, said);
        let savings = savings(&answer!("pool-properties-dedup.nvlist")).unwrap();
        assert_eq!(savings, Savings { by_cloning: 5_000_704, deduplication_ratio: 300 });

        let fields = [
            ("used", "66000000"),
            ("available", "900000000"),
            ("logicalused", "65000000"),
            ("compressratio", "99"),
            ("dedup", "on"),
            ("vsnap:id", "6f1b2b3c-0000-4000-8000-000000000001"),
            ("vsnap:name", "x"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let facts = facts(&Record::of("tank", fields), savings, table, true).unwrap();
        assert_eq!(facts.mark, Some(Mark::read("6f1b2b3c-0000-4000-8000-000000000001")));
        assert_eq!((facts.notes, facts.mounted), ([("vsnap:name".to_owned(), "x".to_owned())].into(), true));
        assert_eq!(facts.options, PoolOptions { compression: true, deduplication: true, syncwrite: true });
        assert_eq!(
            facts.numbers,
            PoolNumbers {
                free: 900_000_000,
                used: 66_000_000 - 40_001_536 - 5_000_704,
                logical: 65_000_000,
                before_deduplication: 66_000_000,
                compression_ratio: 100,
                deduplication_ratio: 300,
            }
        );
    }

    #[test]
    fn a_pool_without_tables_has_none_and_what_is_not_there_is_an_error() {
        let other = answer!("pool-properties-dedup.nvlist");
        assert_eq!(table(&other).unwrap(), DedupTable::default());
        assert!(savings(&answer!("pool-stats-dedup.nvlist")).is_err());
        assert!(facts(&Record::of("tank", Vec::new()), savings(&other).unwrap(), DedupTable::default(), true).is_err());
    }
}
