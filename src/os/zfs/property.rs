//! Properties: `zfs get -j -p --json-int` and `zpool get -j -p --json-int` read into [`PoolFacts`], and the values
//! that options are written as.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::status::DedupTable;
use crate::{
    os::{Error, Kind, PoolFacts, Result},
    types::{
        ids::Mark,
        pool::{PoolNumbers, PoolOptions},
        volume::VolumeOptions,
    },
};

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

/// Properties of one dataset or pool.
#[derive(Debug, Deserialize)]
pub(super) struct Properties {
    properties: BTreeMap<String, Property>,
}

#[derive(Debug, Deserialize)]
struct Property {
    value: Value,
    source: Source,
}

#[derive(Debug, Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(alias = "pools")]
    datasets: BTreeMap<String, Properties>,
}

impl Properties {
    /// Reads the properties of `name` from the output of `action`.
    pub(super) fn read(action: &str, json: &str, name: &str) -> Result<Self> {
        let unreadable = |detail: String| Error::new(Kind::Other, action, detail);
        let mut document: Document =
            serde_json::from_str(json).map_err(|error| unreadable(format!("its output can't be read: {error}")))?;
        document.datasets.remove(name).ok_or_else(|| unreadable(format!("its output says nothing of {name}")))
    }

    fn value(&self, name: &str) -> Result<&Value> {
        let missing = || Error::new(Kind::Other, format!("reading property {name}"), "ZFS did not give it");
        self.properties.get(name).map(|property| &property.value).ok_or_else(missing)
    }

    /// A property in words.
    fn text(&self, name: &str) -> Result<&str> {
        let value = self.value(name)?;
        value.as_str().ok_or_else(|| wrong(name, value))
    }

    /// A property that is a number of bytes.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        let value = self.value(name)?;
        value.as_u64().ok_or_else(|| wrong(name, value))
    }

    /// A property such as `1.37` in hundredths, at least 100.
    pub(super) fn ratio(&self, name: &str) -> Result<u64> {
        let value = self.value(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        hundredths(&text).map(|ratio| ratio.max(100)).ok_or_else(|| wrong(name, value))
    }

    /// Our user properties that were set on this dataset itself: an inherited or received value is not ours.
    fn ours(&self) -> BTreeMap<String, String> {
        let local = self.properties.iter().filter(|(name, property)| {
            // The type says LOCAL also in later versions; "local" is how text output has it.
            name.starts_with(OURS) && property.source.kind.eq_ignore_ascii_case("local")
        });
        // With --json-int a value of digits only becomes a number.
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        local.map(|(name, property)| (name.clone(), text(&property.value))).collect()
    }
}

fn wrong(name: &str, value: &Value) -> Error {
    Error::new(Kind::Other, format!("reading property {name}"), format!("ZFS gave the unexpected value {value}"))
}

/// `1.37` or `1.37x` as 137.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim_end_matches('x').split_once('.').unwrap_or((text.trim_end_matches('x'), "0"));
    let digits: String = fraction.chars().chain("00".chars()).take(2).collect();
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(digits.parse().ok()?)
}

/// What is known of a pool: properties of its root dataset, of the pool, and its dedup table.
///
/// The `used` of a dataset counts a deduplicated or cloned block once per reference, and ZFS adds what is saved to
/// the capacity. Without both, `free + used` is what the disks hold after parity, and constant.
pub(super) fn facts(root: &Properties, pool: &Properties, table: DedupTable) -> Result<PoolFacts> {
    let mut notes = root.ours();
    let referenced = root.number("used")?;
    let saved = table.referenced.saturating_sub(table.stored).saturating_add(pool.number("bclonesaved")?);
    Ok(PoolFacts {
        mark: notes.remove(MARK).map(Mark::read),
        notes,
        options: PoolOptions {
            compression: root.text("compression")? != "off",
            deduplication: root.text("dedup")? != "off",
            syncwrite: root.text("sync")? != "disabled",
        },
        numbers: PoolNumbers {
            free: root.number("available")?,
            used: referenced.saturating_sub(saved),
            logical: root.number("logicalused")?,
            before_deduplication: referenced,
            compression_ratio: root.ratio("compressratio")?,
            deduplication_ratio: pool.ratio("dedupratio")?,
        },
        mounted: root.text("mounted")? == "yes",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILESYSTEM: &str = include_str!("../../../tests/fixtures/zfs/get-filesystem-int.json");
    const POOL: &str = include_str!("../../../tests/fixtures/zfs/pool-get-all-int.json");

    #[test]
    fn a_real_dataset_and_pool() {
        let root = Properties::read("zfs get", FILESYSTEM, "tank/fs").unwrap();
        let pool = Properties::read("zpool get", POOL, "tank").unwrap();
        let table = DedupTable { stored: 62_830_080, referenced: 188_490_240, ..DedupTable::default() };
        let facts = facts(&root, &pool, table).unwrap();
        assert_eq!(facts.mark, Some(Mark::read("6f1b2b3c-0000-4000-8000-000000000001")));
        assert!(facts.notes.is_empty() && facts.mounted);
        assert_eq!(facts.options, PoolOptions { compression: true, deduplication: true, syncwrite: true });
        assert_eq!(
            facts.numbers,
            PoolNumbers {
                free: 5_782_922_256,
                used: 189_028_368 - 125_660_160,
                logical: 188_907_520,
                before_deduplication: 189_028_368,
                compression_ratio: 100,
                deduplication_ratio: 300,
            }
        );
    }

    #[test]
    fn only_local_marks_count() {
        let json = |kind: &str| {
            format!(
                r#"{{"datasets":{{"p":{{"properties":{{"vsnap:id":{{"value":"x","source":{{"type":"{kind}","data":"-"}}}},
                "vsnap:n":{{"value":12,"source":{{"type":"LOCAL","data":"-"}}}},
                "other:n":{{"value":"y","source":{{"type":"LOCAL","data":"-"}}}}}}}}}}}}"#
            )
        };
        let ours = |kind| Properties::read("zfs get", &json(kind), "p").unwrap().ours();
        assert_eq!(ours("LOCAL"), [("vsnap:id".into(), "x".into()), ("vsnap:n".into(), "12".into())].into());
        for foreign in ["INHERITED", "RECEIVED", "DEFAULT", "TEMPORARY"] {
            assert_eq!(ours(foreign), [("vsnap:n".into(), "12".into())].into(), "{foreign}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert!(Properties::read("zfs get", FILESYSTEM, "tank").is_err());
        assert!(Properties::read("zfs get", &FILESYSTEM[..200], "tank/fs").is_err());
        let root = Properties::read("zfs get", FILESYSTEM, "tank/fs").unwrap();
        assert!(root.number("no-such").is_err() && root.number("type").is_err());
    }

    #[test]
    fn ratios() {
        assert_eq!(hundredths("1.37"), Some(137));
        assert_eq!(hundredths("12.3x"), Some(1230));
        assert_eq!(hundredths("4"), Some(400));
        assert_eq!(hundredths("-"), None);
    }

    #[test]
    fn options_become_assignments() {
        let options = PoolOptions { compression: false, deduplication: true, syncwrite: false };
        assert_eq!(pool_assignments(&options), ["compression=off", "dedup=blake3", "sync=disabled"]);
        assert_eq!(pool_assignments(&PoolOptions::default()), ["compression=lz4", "dedup=off", "sync=standard"]);
        let options = VolumeOptions { syncwrite: Some(true), ..VolumeOptions::default() };
        assert_eq!(assignments(&options), ["sync=standard"]);
    }
}
