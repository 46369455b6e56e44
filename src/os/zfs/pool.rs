//! Verbs on pools: the argv that each becomes.
//!
//! What a pool is created with, and why:
//!
//! | flag | reason |
//! |---|---|
//! | `-o ashift=12` | 4 KiB sectors whatever the disks say: a disk of 512-byte sectors is replaced by one of 4 KiB one day, and a pool of smaller sectors would refuse it. 13 would waste space on small blocks |
//! | `-o autoexpand=on` | once all disks of a group were replaced by larger ones, the space is there without a further step |
//! | `-o autoreplace=off` | a blank or foreign disk in a slot is never taken without being asked |
//! | `-o cachefile=none` | we import by guid and our own mark; the distribution's import at boot stays out of it |
//! | `-o compatibility=openzfs-2.3-linux` | every OpenZFS from 2.3 on can import it, and `zpool upgrade` by mistake can't change that |
//! | `-o dedup_table_quota` | caps the dedup table; when it is full, new blocks are stored without dedup instead of slowing everything down. Set also without dedup, since volumes may switch it on |
//! | `-O atime=off` | no write for every read |
//! | `-O xattr=sa`, `-O acltype=posixacl`, `-O dnodesize=auto` | ACLs and attributes of SMB and NFS clients inside the dnode, not in hidden folders |
//! | `-O recordsize=128K` | backup software reads large and writes large, but also runs machines right from the backup: 1 MiB would read and rewrite 1 MiB for every 4 KiB of them |
//! | `-O volmode=dev` | a guest's partition table on a zvol is none of our business: udev makes no links of its partitions and probes nothing in them. For all of them, since setting it on a zvol takes its device away and makes it anew |
//! | `-O compression`, `dedup`, `sync` | lz4, blake3; the reasons are beside `assignments` in `property.rs` |
//! | `-O canmount=on`, `-m /vsnap/vpoolN` | mounted where the API says |
//! | `-O vsnap:...` | our mark and notes, in the command that creates it |
//! | `-f` | only for uneven groups, and only after a dry run has shown that nothing but unevenness is in the way: the same flag would overwrite file systems and exported pools |

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{OpenZfs, messages, property};
use crate::{
    os::{
        Error, Kind, PoolChange, PoolCreation, Result, Zfs,
        command::{Command, Limit},
        file,
    },
    types::{
        names::ZpoolName,
        pool::{VdevLayout, VdevPlan, VdevRole},
    },
};

/// How long others may have a pool open that is to be destroyed, and how long to wait between two tries.
const OPEN_ELSEWHERE: Duration = Duration::from_secs(60);
const OPEN_WAIT: Duration = Duration::from_millis(300);
/// How often a verb that opens disks is tried.
const OPEN_TRIES: u32 = 5;
/// Time between two of these tries: udev begins with a partition table only a moment after somebody has closed the
/// disk, so it may have nothing to do yet when it is asked to settle.
const PARTITION_WAIT: Duration = Duration::from_millis(500);
/// What `zpool clear` gets. Of a pool that stays suspended it never returns, since it can't write the pool's history.
const CLEAR_LIMIT: Duration = Duration::from_secs(30);
/// The features that every OpenZFS from 2.3 on has; the file with them comes with OpenZFS.
const COMPATIBILITY: &str = "openzfs-2.3-linux";
/// No progress for this long means that it hangs. Disks that fail retry for up to three minutes before they say so.
pub(super) const STALL: Duration = Duration::from_secs(300);

impl OpenZfs {
    pub(super) fn create(&self, creation: &PoolCreation) -> Result<()> {
        let layout = layout(&creation.vdevs);
        if creation.uneven {
            self.check_only_uneven(|zpool| {
                zpool.args(["create", "-n", "-m", "none", creation.name.as_str()]).args(layout.clone())
            })?;
        }
        let create = || self.zpool(["create"]).args(creation_flags(creation)).arg(creation.name.as_str());
        self.label(|| create().args(layout.clone()))
    }

    pub(super) fn add(&self, name: &ZpoolName, vdevs: &[VdevPlan], uneven: bool) -> Result<()> {
        let layout = layout(vdevs);
        if uneven {
            self.check_only_uneven(|zpool| zpool.args(["add", "-n", name.as_str()]).args(layout.clone()))?;
        }
        let force = if uneven { &["-f"][..] } else { &[] };
        let add = || self.zpool(["add"]).args(force.iter().copied()).arg(name.as_str()).args(layout.clone());
        self.label(add).map_err(Error::of_one_call)
    }

    /// Runs a verb that partitions disks and opens the partitions.
    fn label(&self, command: impl Fn() -> Command) -> Result<()> {
        self.open_disks(|| command().limit(Limit::Stall(STALL)).output(messages::zpool).map(drop))
    }

    /// Runs a verb that opens partitions. When udev reads a partition table again in that moment, as it does whenever
    /// somebody has closed a disk, the partitions are gone for an instant and ZFS finds them unavailable; the verb has
    /// changed nothing then that it would not change again, so it may be tried again.
    fn open_disks(&self, verb: impl Fn() -> Result<()>) -> Result<()> {
        for last in (0..OPEN_TRIES).rev().map(|left| left == 0) {
            self.settle();
            match verb() {
                Err(error) if !last && messages::is_unavailable(&error.detail) => {
                    tracing::warn!(%error, "trying again");
                    std::thread::sleep(PARTITION_WAIT);
                }
                result => {
                    self.settle();
                    return result;
                }
            }
        }
        Ok(())
    }

    /// Destroys a pool. ZED opens a pool again and again for a while after udev has seen its disks change, to look
    /// whether they have grown (`autoexpand`), and whoever has it open keeps it from being destroyed: so that is tried
    /// again. A mount that is in use has another message, and is told at once.
    pub(super) fn destroy(&self, name: &ZpoolName) -> Result<()> {
        self.end("destroy", name)
    }

    /// Exports a pool; ZED is in the way of that as well.
    pub(super) fn export(&self, name: &ZpoolName) -> Result<()> {
        self.end("export", name)
    }

    fn end(&self, verb: &str, name: &ZpoolName) -> Result<()> {
        let deadline = Instant::now() + OPEN_ELSEWHERE;
        loop {
            match self.verb([verb, name.as_str()]) {
                Err(error) if messages::is_open_elsewhere(&error.detail) && Instant::now() < deadline => {
                    std::thread::sleep(OPEN_WAIT);
                }
                result => {
                    self.settle();
                    return result;
                }
            }
        }
    }

    /// A dry run without `-f`: passes when ZFS has no objection, or none but uneven groups.
    fn check_only_uneven(&self, dry_run: impl Fn(Command) -> Command) -> Result<()> {
        let command = dry_run(self.zpool([]));
        let action = command.to_string();
        let output = command.run()?;
        if output.succeeded() || messages::is_only_uneven(&output.stderr) {
            return Ok(());
        }
        Err(output.failure(action, messages::zpool))
    }

    pub(super) fn change(&self, name: &ZpoolName, change: &PoolChange) -> Result<()> {
        if let Some(quota) = change.dedup_table_quota {
            self.verb(["set", &format!("dedup_table_quota={quota}"), name.as_str()])?;
        }
        let mut values: Vec<String> = change.options.iter().flat_map(property::pool_assignments).collect();
        values.extend(change.notes.iter().map(|(note, value)| format!("{note}={value}")));
        if !values.is_empty() {
            self.zfs(["set"]).args(values).arg(name.as_str()).output(messages::zfs)?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &ZpoolName, vdev: &str) -> Result<()> {
        let action = || format!("zpool remove {name} {vdev}");
        let status = self.status(name)?.ok_or_else(|| Error::new(Kind::Missing, action(), "there is no such pool"))?;
        let is_vdev = |candidate: &&crate::types::pool::Vdev| {
            candidate.name == vdev || candidate.guid.to_string() == vdev || candidate.path.as_deref() == Some(vdev)
        };
        if status.data.iter().any(|data| is_vdev(&data)) {
            // ZFS would move its data to the others, for hours, and leave the pool with fewer disks.
            return Err(Error::new(Kind::Denied, action(), "it holds data; only log, cache and spare can be removed"));
        }
        let mut spares = status.spares.iter();
        if spares.find(is_vdev).is_some_and(|spare| spare.state == crate::types::pool::Health::Inuse) {
            return Err(Error::new(Kind::Busy, action(), "the spare stands in for a failed disk"));
        }
        let removal = self.zpool(["remove", "-w", name.as_str(), vdev]).limit(Limit::Stall(STALL));
        removal.output(messages::zpool).map(drop).map_err(Error::of_one_call)
    }

    pub(super) fn import(&self, guid: u64) -> Result<()> {
        // A disk whose partition table udev reads in this moment would be missing in the pool.
        self.settle();
        let command = self.zpool(["import", "-N", "-o", "cachefile=none"]).args(search_places()?);
        let result = command.arg(guid.to_string()).limit(Limit::Stall(STALL)).output(messages::zpool);
        match result {
            Ok(_) => {
                self.settle();
                Ok(())
            }
            // It may be there already, and is then either not found among the disks or has its own name against it.
            Err(error)
                if matches!(error.kind, Kind::Missing | Kind::Exists)
                    && self.all()?.iter().any(|pool| pool.guid == guid) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the list that `zpool import` prints for people: it has no JSON.
    pub(super) fn importable(&self) -> Result<Vec<(String, u64)>> {
        let command = self.zpool(["import"]).args(search_places()?).limit(Limit::Stall(STALL));
        let action = command.to_string();
        let output = command.run()?;
        let nothing = "no pools available to import";
        if output.stderr.contains(nothing) || output.text().contains(nothing) {
            return Ok(Vec::new());
        }
        if !output.succeeded() {
            return Err(output.failure(action, messages::zpool));
        }
        importable_in(&action, &output.text())
    }

    pub(super) fn clear(&self, name: &ZpoolName) -> Result<()> {
        // Disks that have just come back: udev may still be at their partitions.
        self.settle();
        let command = self.zpool(["clear", name.as_str()]).limit(Limit::Time(CLEAR_LIMIT));
        let action = command.to_string();
        let result = command.output(messages::zpool);
        if self.pool_state(name)?.as_deref() == Some("SUSPENDED") {
            let advice = "the pool is still suspended: are all of its disks connected again?";
            return Err(Error::new(Kind::Denied, action, advice));
        }
        result.map(drop)
    }

    /// Brings a disk back. ZFS closed it when it went offline, and `zpool online` itself closes it once more before the
    /// kernel opens its partition, since with `autoexpand` it looks whether the disk has grown: both wake udev up.
    pub(super) fn online(&self, name: &ZpoolName, disk: &str) -> Result<()> {
        self.open_disks(|| {
            let command = self.zpool(["online", name.as_str(), disk]);
            let action = command.to_string();
            let said = command.output(messages::zpool)?;
            // "warning: device 'x' onlined, but remains in faulted state", with exit status 0
            if said.contains("remains in") {
                return Err(Error::new(Kind::Other, action, said.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
            Ok(())
        })
    }

    pub(super) fn replace(&self, name: &ZpoolName, old: &str, new: &str) -> Result<()> {
        self.label(|| self.zpool(["replace", name.as_str(), old, new])).map_err(Error::of_one_call)
    }
}

/// Everything of `zpool create` between the verb and the pool's name.
fn creation_flags(creation: &PoolCreation) -> Vec<String> {
    let mut flags: Vec<String> = if creation.uneven { vec!["-f".into()] } else { vec![] };
    let mut give = |flag: &str, value: String| flags.extend([flag.to_owned(), value]);
    for property in ["ashift=12", "autoexpand=on", "autoreplace=off", "cachefile=none"] {
        give("-o", property.to_owned());
    }
    give("-o", format!("compatibility={COMPATIBILITY}"));
    give("-o", format!("dedup_table_quota={}", creation.dedup_table_quota));
    for property in
        ["atime=off", "xattr=sa", "acltype=posixacl", "dnodesize=auto", "recordsize=128K", "volmode=dev", "canmount=on"]
    {
        give("-O", property.to_owned());
    }
    for assignment in property::pool_assignments(&creation.options) {
        give("-O", assignment);
    }
    give("-O", format!("{}={}", property::MARK, creation.mark.as_str()));
    for (note, value) in &creation.notes {
        give("-O", format!("{note}={value}"));
    }
    give("-m", creation.name.mountpoint());
    flags
}

/// Vdevs as `zpool create` and `add` read them: data first, then each class after its word, which may stand once;
/// single disks of a class before its groups, since a disk after `mirror` belongs to the mirror.
fn layout(vdevs: &[VdevPlan]) -> Vec<String> {
    let classes = [
        (VdevRole::Data, None),
        (VdevRole::Log, Some("log")),
        (VdevRole::Cache, Some("cache")),
        (VdevRole::Spare, Some("spare")),
    ];
    let mut words = Vec::new();
    for (role, word) in classes {
        let of_class: Vec<&VdevPlan> = vdevs.iter().filter(|vdev| vdev.role == role).collect();
        if !of_class.is_empty() {
            words.extend(word.map(str::to_owned));
        }
        let (single, groups): (Vec<_>, Vec<_>) = of_class.into_iter().partition(|v| v.layout == VdevLayout::Stripe);
        for vdev in single.into_iter().chain(groups) {
            words.extend(group_word(vdev.layout).map(str::to_owned));
            words.extend(vdev.paths.iter().cloned());
        }
    }
    words
}

fn group_word(layout: VdevLayout) -> Option<&'static str> {
    match layout {
        VdevLayout::Stripe => None,
        VdevLayout::Mirror => Some("mirror"),
        VdevLayout::Raidz1 => Some("raidz1"),
        VdevLayout::Raidz2 => Some("raidz2"),
    }
}

/// Where to look for pools. Given places are searched instead of a cache file or all of /dev, where zvols may hold pools
/// of guests.
fn search_places() -> Result<Vec<String>> {
    let folders = ["/dev/disk/by-id", "/dev/disk/by-path"].into_iter().filter(|place| Path::new(place).is_dir());
    let places = folders.map(str::to_owned).chain(attached_loops()?);
    Ok(places.flat_map(|place| ["-d".to_owned(), place]).collect())
}

/// `pool: NAME` and, after it, `id: GUID`.
fn importable_in(action: &str, text: &str) -> Result<Vec<(String, u64)>> {
    let mut pools = Vec::new();
    let mut name = None;
    for line in text.lines() {
        match line.trim().split_once(": ") {
            Some(("pool", word)) => name = Some(word.trim().to_owned()),
            Some(("id", number)) => {
                let guid = number.trim().parse().ok();
                match name.take().zip(guid) {
                    Some(pool) => pools.push(pool),
                    None => return Err(Error::new(Kind::Other, action, format!("its line {line:?} can't be read"))),
                }
            }
            _ => {}
        }
    }
    Ok(pools)
}

/// Loop devices that have a file behind them: they have no by-id link, and only test systems have pools on them.
fn attached_loops() -> Result<Vec<String>> {
    let mut loops: Vec<String> = file::names(Path::new("/sys/block"))?
        .into_iter()
        .filter(|name| name.starts_with("loop") && Path::new("/sys/block").join(name).join("loop").is_dir())
        .flat_map(|name| [format!("/dev/{name}"), format!("/dev/{name}p1")])
        .filter(|device| Path::new(device).exists())
        .collect();
    loops.sort();
    Ok(loops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PoolId, SystemId, ids::Mark, pool::PoolOptions};

    fn plan(role: VdevRole, layout: VdevLayout, paths: &[&str]) -> VdevPlan {
        VdevPlan { role, layout, paths: paths.iter().map(|path| (*path).to_owned()).collect() }
    }

    #[test]
    fn classes_stand_in_order_and_once() {
        let vdevs = [
            plan(VdevRole::Log, VdevLayout::Mirror, &["/l1", "/l2"]),
            plan(VdevRole::Spare, VdevLayout::Stripe, &["/s1"]),
            plan(VdevRole::Data, VdevLayout::Raidz2, &["/a", "/b", "/c", "/d"]),
            plan(VdevRole::Log, VdevLayout::Stripe, &["/l3"]),
            plan(VdevRole::Cache, VdevLayout::Stripe, &["/c1"]),
            plan(VdevRole::Data, VdevLayout::Raidz2, &["/e", "/f", "/g", "/h"]),
        ];
        assert_eq!(
            layout(&vdevs).join(" "),
            "raidz2 /a /b /c /d raidz2 /e /f /g /h log /l3 mirror /l1 /l2 cache /c1 spare /s1"
        );
    }

    #[test]
    fn the_list_of_importable_pools_is_read() {
        let text = "   pool: vpool1\n     id: 14829332518211943018\n  state: ONLINE\n action: The pool can be imported\n \
                    config:\n\n\tvpool1  ONLINE\n\n   pool: tank\n     id: 7\n  state: DEGRADED\n status: x: y\n";
        let pools = importable_in("zpool import", text).unwrap();
        assert_eq!(pools, [("vpool1".to_owned(), 14_829_332_518_211_943_018), ("tank".to_owned(), 7)]);
        assert!(importable_in("zpool import", "pool: a\nid: x").is_err());
        assert!(importable_in("zpool import", "id: 5").is_err());
    }

    #[test]
    fn a_pool_is_created_with_its_mark() {
        let system = SystemId::random();
        let mut creation = PoolCreation {
            name: ZpoolName::of(PoolId(3)),
            mark: Mark::pool(&system, PoolId(3)),
            notes: [("vsnap:name".to_owned(), "a b".to_owned())].into(),
            options: PoolOptions::default(),
            dedup_table_quota: 1 << 30,
            vdevs: vec![],
            uneven: false,
        };
        let flags = creation_flags(&creation);
        assert!(flags.contains(&format!("vsnap:id={system}/pool/3")));
        assert!(flags.contains(&"vsnap:name=a b".to_owned()));
        assert!(flags.ends_with(&["-m".to_owned(), "/vsnap/vpool3".to_owned()]));
        assert!(!flags.contains(&"-f".to_owned()));
        creation.uneven = true;
        assert_eq!(creation_flags(&creation)[0], "-f");
    }
}
