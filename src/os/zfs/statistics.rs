//! Memory that ZFS uses.

use super::facts::DedupTable;
use crate::{
    os::{Error, Kind, Result},
    types::system::CacheStatistics,
};

/// Where the kernel module counts the use of its cache.
pub(super) const ARCSTATS: &str = "/proc/spl/kstat/zfs/arcstats";

/// `arcstats` (its content) and the dedup tables of our pools together.
pub(super) fn cache(arcstats: &str, tables: impl Iterator<Item = DedupTable>) -> Result<CacheStatistics> {
    let number = |name: &str| -> Result<u64> {
        let value = arcstats.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        });
        value.ok_or_else(|| Error::new(Kind::Other, format!("reading {ARCSTATS}"), format!("it has no {name}")))
    };
    let arc_max = number("c_max")?;
    let mut statistics = CacheStatistics {
        arc_max,
        arc_used: number("size")?,
        // Since OpenZFS 2.2 there is no limit for metadata: all of the cache may hold it.
        arc_meta_max: arc_max,
        arc_meta_used: number("arc_meta_used")?,
        ddt_core: 0,
        ddt_disk: 0,
    };
    for table in tables {
        statistics.ddt_core += table.in_memory;
        statistics.ddt_disk += table.on_disk;
    }
    Ok(statistics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_statistics() {
        let text = include_str!("../../../tests/fixtures/zfs/arcstats.txt");
        let tables = [
            DedupTable { in_memory: 1, on_disk: 10, ..Default::default() },
            DedupTable { in_memory: 2, on_disk: 20, ..Default::default() },
        ];
        assert_eq!(
            cache(text, tables.into_iter()).unwrap(),
            CacheStatistics {
                arc_max: 1_979_547_648,
                arc_used: 73_929_208,
                arc_meta_max: 1_979_547_648,
                arc_meta_used: 7_461_880,
                ddt_core: 3,
                ddt_disk: 30,
            }
        );
        assert!(cache("", std::iter::empty()).is_err());
    }
}
