//! `zpool status -j -P --json-int` read into [`PoolStatus`].
//!
//! State words: those of the pool are the ones a person reads (`zpool_get_state_str`), but those of vdevs are names
//! of the kernel's constants, so that a disk that cannot be opened is `CANT_OPEN` here and `UNAVAIL` in the table
//! that a person gets. They are brought to the table's words. A word that is not known is an error: a disk must not
//! vanish because ZFS has learnt something. Members that are not known are no error.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{
    os::{Error, Kind, Result},
    types::{
        Epoch,
        vdev::{Health, PoolStatus, Scan, Vdev, VdevErrors},
    },
};

/// All pools of a status, in ZFS's order.
pub(super) fn pools(action: &str, json: &str) -> Result<Vec<PoolStatus>> {
    read(action, json)?.iter().map(|pool| pool.status(action)).collect()
}

fn read(action: &str, json: &str) -> Result<Vec<RawPool>> {
    let document: Document = serde_json::from_str(json)
        .map_err(|error| Error::new(Kind::Other, action, format!("its output can't be read: {error}")))?;
    Ok(document.pools.0)
}

#[derive(Deserialize)]
struct Document {
    pools: Members<RawPool>,
}

#[derive(Deserialize)]
struct RawPool {
    name: String,
    state: String,
    pool_guid: u64,
    status: Option<String>,
    action: Option<String>,
    scan_stats: Option<RawScan>,
    raidz_expand_stats: Option<RawExpansion>,
    /// The root vdev, by the pool's name.
    #[serde(default)]
    vdevs: Members<RawVdev>,
    #[serde(default)]
    special: Members<RawVdev>,
    #[serde(default)]
    dedup: Members<RawVdev>,
    #[serde(default)]
    logs: Members<RawVdev>,
    #[serde(default)]
    l2cache: Members<RawVdev>,
    #[serde(default)]
    spares: Members<RawVdev>,
    #[serde(default)]
    error_count: u64,
}

#[derive(Deserialize)]
struct RawVdev {
    name: String,
    vdev_type: String,
    guid: u64,
    path: Option<String>,
    state: String,
    aux: Option<String>,
    /// 1 when the disk is not there; `was` is its path then, and its name is a guid.
    #[serde(default)]
    not_present: u64,
    was: Option<String>,
    #[serde(default)]
    read_errors: u64,
    #[serde(default)]
    write_errors: u64,
    #[serde(default)]
    checksum_errors: u64,
    #[serde(default)]
    vdevs: Members<RawVdev>,
}

#[derive(Deserialize)]
struct RawScan {
    function: String,
    state: String,
    #[serde(default)]
    start_time: i64,
    #[serde(default)]
    end_time: i64,
    #[serde(default)]
    to_examine: u64,
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    issued: u64,
    #[serde(default)]
    errors: u64,
    /// When it was paused; 0 when it is not.
    #[serde(default)]
    scrub_pause: i64,
}

#[derive(Deserialize)]
struct RawExpansion {
    state: String,
    #[serde(default)]
    start_time: i64,
    #[serde(default)]
    to_reflow: u64,
    #[serde(default)]
    reflowed: u64,
}

impl RawPool {
    fn status(&self, action: &str) -> Result<PoolStatus> {
        let unknown = |what: &str, word: &str| {
            Error::new(Kind::Other, action, format!("pool {} has the unknown {what} {word:?}", self.name))
        };
        let vdevs = |of: &Members<RawVdev>| -> Result<Vec<Vdev>> {
            of.0.iter().map(|vdev| vdev.read().map_err(|word| unknown("vdev state", &word))).collect()
        };
        let mut data = Vec::new();
        for root in &self.vdevs.0 {
            data.extend(vdevs(&root.vdevs)?);
        }
        // Vdevs for metadata and dedup tables hold what the pool can't live without, as data vdevs do.
        data.extend(vdevs(&self.special)?);
        data.extend(vdevs(&self.dedup)?);
        Ok(PoolStatus {
            name: self.name.clone(),
            guid: self.pool_guid,
            state: Health::from_word(&self.state).ok_or_else(|| unknown("state", &self.state))?,
            status: self.status.as_deref().map(one_line),
            action: self.action.as_deref().map(one_line),
            data,
            logs: vdevs(&self.logs)?,
            caches: vdevs(&self.l2cache)?,
            spares: vdevs(&self.spares)?,
            scan: self.scan().map_err(|word| unknown("scan state", &word))?,
            data_errors: self.error_count,
        })
    }

    /// What is going on, or went on last. A running expansion stands above a scrub that has ended.
    fn scan(&self) -> Result<Option<Scan>, String> {
        let scan = self.scan_stats.as_ref().map(RawScan::read).transpose()?.flatten();
        let expansion = self.raidz_expand_stats.as_ref().filter(|expansion| expansion.state == "SCANNING");
        Ok(match (scan, expansion) {
            (Some(scan), _) if scan.is_running() => Some(scan),
            (_, Some(expansion)) => Some(expansion.read()),
            (scan, None) => scan,
        })
    }
}

impl RawVdev {
    fn read(&self) -> Result<Vdev, String> {
        let mut children = Vec::new();
        for child in &self.vdevs.0 {
            children.push(child.read()?);
        }
        let is_leaf = children.is_empty();
        let path = self.was.as_deref().or(self.path.as_deref()).filter(|_| is_leaf).map(whole_disk);
        Ok(Vdev {
            name: path.clone().unwrap_or_else(|| self.name.clone()),
            kind: self.vdev_type.clone(),
            guid: self.guid,
            state: self.state()?,
            errors: VdevErrors { read: self.read_errors, write: self.write_errors, checksum: self.checksum_errors },
            note: self.note(path.as_deref()),
            path,
            children,
        })
    }

    /// As `zpool_state_to_name` of libzfs does it for the table that people read.
    fn state(&self) -> Result<Health, String> {
        let aux = self.aux.as_deref();
        match self.state.as_str() {
            "CANT_OPEN" if matches!(aux, Some("CORRUPT_DATA" | "BAD_LOG")) => Ok(Health::Faulted),
            "CANT_OPEN" => Ok(Health::Unavail),
            "CLOSED" => Ok(Health::Offline),
            "HEALTHY" => Ok(Health::Online),
            word => Health::from_word(word).ok_or_else(|| word.to_owned()),
        }
    }

    fn note(&self, path: Option<&str>) -> Option<String> {
        if self.not_present == 1 {
            return Some(format!("not present, was {}", path.unwrap_or(&self.name)));
        }
        match self.aux.as_deref()? {
            "NONE" | "ACTIVE" => None,
            aux => Some(explain(aux)),
        }
    }
}

/// The kernel's reason for a vdev's state in words, as `zpool status` has them.
fn explain(aux: &str) -> String {
    let text = match aux {
        "OPEN_FAILED" => "cannot open",
        "CORRUPT_DATA" => "corrupted data",
        "NO_REPLICAS" => "insufficient replicas",
        "BAD_GUID_SUM" => "missing device",
        "TOO_SMALL" => "the device is too small",
        "BAD_LABEL" => "the label is damaged",
        "VERSION_NEWER" | "VERSION_OLDER" => "another on-disk version",
        "UNSUP_FEAT" => "unsupported feature(s)",
        "SPARED" => "currently in use",
        "ERR_EXCEEDED" => "too many errors",
        "IO_FAILURE" => "experienced I/O failures",
        "BAD_LOG" => "bad intent log",
        "EXTERNAL" => "external device fault",
        "EXTERNAL_PERSIST" => "external device fault, until cleared",
        "SPLIT_POOL" => "split into new pool",
        "CHILDREN_OFFLINE" => "all children offline",
        "BAD_ASHIFT" | "ASHIFT_TOO_BIG" => "invalid minimum block size",
        word => return word.to_ascii_lowercase().replace('_', " "),
    };
    text.to_owned()
}

impl RawScan {
    fn read(&self) -> Result<Option<Scan>, String> {
        let state = match self.state.as_str() {
            "NONE" => return Ok(None),
            "SCANNING" | "ERRORSCRUBBING" if self.scrub_pause != 0 => "paused",
            "SCANNING" | "ERRORSCRUBBING" => "scanning",
            "FINISHED" => "finished",
            "CANCELED" => "canceled",
            word => return Err(word.to_owned()),
        };
        let function = match self.function.as_str() {
            "NONE" => return Ok(None),
            "SCRUB" | "ERRORSCRUB" => "scrub",
            "RESILVER" => "resilver",
            word => return Err(word.to_owned()),
        };
        Ok(Some(Scan {
            function: function.to_owned(),
            state: state.to_owned(),
            started: time(self.start_time),
            ended: time(self.end_time),
            // Issued is what has been read and checked; examined only what was found in metadata and queued.
            total_bytes: self.to_examine.saturating_sub(self.skipped),
            done_bytes: self.issued,
            errors: self.errors,
        }))
    }
}

impl RawExpansion {
    fn read(&self) -> Scan {
        Scan {
            function: "expansion".to_owned(),
            state: "scanning".to_owned(),
            started: time(self.start_time),
            ended: None,
            total_bytes: self.to_reflow,
            done_bytes: self.reflowed,
            errors: 0,
        }
    }
}

fn time(seconds: i64) -> Option<Epoch> {
    (seconds != 0).then_some(Epoch(seconds))
}

/// ZFS breaks its sentences into indented lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Path of the disk that has the partition `path`: ZFS is given whole disks, makes a partition table on them, and
/// shows partition 1 of it. So it equals the path that the pool was made from.
pub(super) fn whole_disk(path: &str) -> String {
    let digits = path.len() - path.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let stem = &path[..path.len() - digits];
    if digits == 0 {
        return path.to_owned();
    }
    if path.starts_with("/dev/disk/") {
        return stem.strip_suffix("-part").unwrap_or(path).to_owned();
    }
    let Some(node) = path.strip_prefix("/dev/") else { return path.to_owned() };
    let ends_in_digit = |text: &str| text.ends_with(|c: char| c.is_ascii_digit());
    match stem.strip_suffix('p') {
        // nvme0n1p1, loop0p1, mmcblk0p1: disks whose name ends in a digit
        Some(disk) if ends_in_digit(disk) => disk.to_owned(),
        _ if ["sd", "vd", "xvd", "hd"].iter().any(|prefix| node.starts_with(prefix)) => stem.to_owned(),
        _ => path.to_owned(),
    }
}

/// The values of a JSON object in its order, which is that of the pool's layout. Their keys repeat their names.
struct Members<T>(Vec<T>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Members(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
            type Value = Members<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
                let mut values = Vec::new();
                while let Some((_, value)) = map.next_entry::<serde::de::IgnoredAny, T>()? {
                    values.push(value);
                }
                Ok(Members(values))
            }
        }
        deserializer.deserialize_map(Values(PhantomData))
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
