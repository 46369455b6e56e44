//! Snapshots: made, read and destroyed through libzfs_core, without starting a process.

use std::{collections::BTreeMap, path::PathBuf};

use libzetta::zfs::{DestroyTiming, ZfsEngine};
use nix::errno::Errno;

use super::{
    OpenZfs, dataset,
    program::{self, Record, core_error},
    property,
};
use crate::{
    os::{Error, Kind, MadeSnapshot, Result, SnapshotFacts},
    types::{
        Epoch,
        ids::Mark,
        names::{DatasetName, SnapshotName},
    },
};

impl OpenZfs {
    pub(super) fn make_snapshots(
        &self,
        names: &[SnapshotName],
        mark: &Mark,
        notes: &BTreeMap<String, String>,
    ) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut properties: std::collections::HashMap<String, String> = notes.clone().into_iter().collect();
        properties.insert(property::MARK.to_owned(), mark.as_str().to_owned());
        let made = self.core.snapshot(&paths(names), Some(properties));
        made.map_err(|error| core_error(action("taking", names), error, |_| None))
    }

    pub(super) fn remove_snapshots(&self, names: &[SnapshotName]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        match self.destroy_now(names) {
            Err(error) if error.kind == Kind::Busy => {
                let texts: Vec<&str> = names.iter().map(SnapshotName::as_str).collect();
                if self.unmount_snapshots(&texts)? { self.destroy_now(names) } else { Err(error) }
            }
            result => result,
        }
    }

    fn destroy_now(&self, names: &[SnapshotName]) -> Result<()> {
        let removed = self.core.destroy_snapshots(&paths(names), DestroyTiming::RightNow);
        // The kernel's word for "it has clones".
        let kind = |number| (number == Errno::EEXIST).then_some(Kind::Busy);
        removed.map_err(|error| core_error(action("destroying", names), error, kind))
    }

    pub(super) fn read_snapshot(&self, name: &SnapshotName) -> Result<Option<SnapshotFacts>> {
        match self.look(name.as_str())? {
            Some(record) => self.with_holds(vec![record])?.first().map(facts).transpose(),
            None => self.require_pool(dataset::pool(name.dataset()), || format!("reading {name}")).map(|()| None),
        }
    }

    /// The same records, but of snapshots with holds those that also have their tags, which only a program knows. They all
    /// are of one pool.
    fn with_holds(&self, records: Vec<Record>) -> Result<Vec<Record>> {
        let (mut all, mut held) = (Vec::new(), Vec::new());
        for record in records {
            if record.number("userrefs")? == 0 { all.push(record) } else { held.push(record.name) }
        }
        if let Some(pool) = held.first().and_then(|name| name.split(['/', '@']).next()).map(str::to_owned) {
            all.extend(self.read_all(&pool, program::SNAPSHOTS, held.iter().map(String::as_str))?);
        }
        Ok(all)
    }

    pub(super) fn read_made(&self, names: &[SnapshotName]) -> Result<Vec<MadeSnapshot>> {
        match names {
            [] => Ok(Vec::new()),
            // Without a line in the pool's history.
            [name] => match self.look(name.as_str())? {
                Some(record) => Ok(vec![made(&record)?]),
                None => {
                    self.require_pool(dataset::pool(name.dataset()), || format!("reading {name}")).map(|()| Vec::new())
                }
            },
            [first, ..] => {
                let texts = names.iter().map(SnapshotName::as_str);
                let records = self.read_all(dataset::pool(first.dataset()), program::MADE, texts)?;
                records.iter().map(made).collect()
            }
        }
    }

    pub(super) fn read_snapshots(&self, name: &DatasetName) -> Result<Vec<SnapshotFacts>> {
        let records = self.with_holds(self.look_at_snapshots(name.as_str())?)?;
        // A list ends early when its dataset goes meanwhile, or the whole pool.
        if self.look(name.as_str())?.is_none() {
            self.require_pool(dataset::pool(name), || format!("reading the snapshots of {name}"))?;
            return Ok(Vec::new());
        }
        let mut snapshots = records.iter().map(facts).collect::<Result<Vec<_>>>()?;
        snapshots.sort_by_key(|snapshot| snapshot.transaction);
        Ok(snapshots)
    }

    pub(super) fn read_written(&self, from: &SnapshotName, to: Option<&SnapshotName>) -> Result<u64> {
        self.check_both(from, to)?;
        let until = to.map_or(from.dataset().as_str(), SnapshotName::as_str);
        // Both names are made of letters, digits and "/@", so they need no quotes of their own.
        let program = format!("lines[1] = \"written\\twritten=\" .. zfs.get_prop(\"{until}\", \"written@{from}\")");
        let records = self.read(dataset::pool(from.dataset()), &program, &[until])?;
        let unread = || Error::new(Kind::Other, format!("reading what was written since {from}"), "no answer");
        records.first().ok_or_else(unread)?.number("written")
    }

    /// `Missing` when one of two snapshots is not there.
    pub(super) fn check_both(&self, from: &SnapshotName, to: Option<&SnapshotName>) -> Result<()> {
        let wanted: Vec<&str> = std::iter::once(from).chain(to).map(SnapshotName::as_str).collect();
        let found = self.read(dataset::pool(from.dataset()), program::EXISTING, &wanted)?;
        match wanted.iter().find(|name| !found.iter().any(|record| record.name == **name)) {
            Some(name) => Err(Error::new(Kind::Missing, format!("reading {name}"), "there is no such snapshot")),
            None => Ok(()),
        }
    }
}

fn paths(names: &[SnapshotName]) -> Vec<PathBuf> {
    names.iter().map(|name| PathBuf::from(name.as_str())).collect()
}

fn action(verb: &str, names: &[SnapshotName]) -> String {
    match names {
        [name] => format!("{verb} snapshot {name}"),
        _ => format!("{verb} {} snapshots", names.len()),
    }
}

fn made(record: &Record) -> Result<MadeSnapshot> {
    Ok(MadeSnapshot {
        name: record.name.clone(),
        guid: record.number("guid")?,
        created: Epoch(record.number("creation")?.cast_signed()),
        mark: record.notes()?.remove(property::MARK).map(Mark::read),
    })
}

fn facts(record: &Record) -> Result<SnapshotFacts> {
    let mut notes = record.notes()?;
    let mut clones = record.list("clone")?;
    // What an interrupted stream left is no clone that anybody made; it goes with `zfs receive -A`.
    clones.retain(|clone| !clone.ends_with("/%recv"));
    Ok(SnapshotFacts {
        name: record.name.clone(),
        guid: record.number("guid")?,
        created: Epoch(record.number("creation")?.cast_signed()),
        transaction: record.number("createtxg")?,
        used: record.number("used")?,
        mark: notes.remove(property::MARK).map(Mark::read),
        notes,
        clones,
        holds: record.list("hold")?,
    })
}
