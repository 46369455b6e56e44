//! Comparing the catalog with ZFS. Nothing is adopted, mended or removed here: it is told, and an administrator
//! decides.

use std::collections::{BTreeMap, HashMap};

use super::{
    Engine,
    pool::{own_status, zpool_name},
    snapshot::date,
    volume_create::size_in,
};
use crate::{
    catalog::{self, RowState, pool::PoolRow, snapshot::SnapshotRow, volume::VolumeRow},
    error::Result,
    os::{DatasetFacts, SnapshotFacts},
    types::{
        ids::Mark,
        names::DatasetName,
        report::{Finding, FindingKind, Report},
    },
};

impl Engine {
    /// Compares the catalog with ZFS now.
    pub fn report(&self) -> Result<Report> {
        let mut findings = Vec::new();
        let live = self.zfs.pools()?;
        for row in self.pool_rows()? {
            if own_status(&row, live.iter()).is_none() || !self.is_readable(row.id)? {
                let message = "it is not imported or suspended, so what is in it could not be looked at".to_owned();
                findings.push(finding(FindingKind::Unreadable, format!("pool {}", row.id), message, None));
                continue;
            }
            self.compare_pool(&row, &mut findings)?;
        }
        Ok(Report { made: self.now(), findings })
    }

    fn compare_pool(&self, pool: &PoolRow, findings: &mut Vec<Finding>) -> Result<()> {
        // ZFS first: what is made in between is then in the catalog, and rows of what is being made are left out.
        let live = self.zfs.datasets(&zpool_name(pool.id))?;
        let rows = self.catalog.read(|view| catalog::volume::of_pool(view, pool.id))?;
        let mut by_name: BTreeMap<String, &VolumeRow> = BTreeMap::new();
        for row in &rows {
            by_name.extend(row.volume_type.dataset(row.pool, row.id).map(|name| (name.as_str().to_owned(), row)));
        }
        for facts in &live {
            match by_name.remove(&facts.name) {
                Some(row) => self.compare_volume(row, facts, findings)?,
                None => findings.push(self.without_row(&facts.name, facts.mark.as_ref(), facts.numbers.used)),
            }
        }
        for (name, row) in by_name.into_iter().filter(|(_, row)| row.state == RowState::Ready) {
            let message = format!(
                "its dataset {name} is gone; if that was meant, forget it with `vsnap volume delete {}`",
                row.id
            );
            findings.push(finding(FindingKind::RowWithoutObject, format!("volume {}", row.id), message, None));
        }
        Ok(())
    }

    fn without_row(&self, name: &str, mark: Option<&Mark>, bytes: u64) -> Finding {
        let ours = mark.is_some_and(|mark| mark.as_str().starts_with(self.id().as_str()));
        let (kind, message) = if ours {
            let message = "it carries the mark of this appliance, but the catalog does not know it; look at what it \
                           holds, then destroy it by hand or rebuild the catalog";
            (FindingKind::ObjectWithoutRow, message)
        } else {
            (FindingKind::Stranger, "this appliance did not make it, and leaves it alone")
        };
        finding(kind, name.to_owned(), message.to_owned(), Some(bytes))
    }

    fn compare_volume(&self, row: &VolumeRow, facts: &DatasetFacts, findings: &mut Vec<Finding>) -> Result<()> {
        let subject = format!("volume {}", row.id);
        let mut mismatch = |message: String| {
            findings.push(finding(FindingKind::Mismatch, subject.clone(), message, None));
        };
        if facts.mark != Some(self.volume_mark(row.id)) {
            mismatch(format!("{} does not carry its mark, so the appliance will not change it", facts.name));
        } else if row.state == RowState::Ready {
            let real = size_in(facts);
            if real != row.size {
                let text = |size: Option<u64>| size.map_or("none".to_owned(), |bytes| bytes.to_string());
                mismatch(format!("its size or limit is {} in ZFS and {} in the catalog", text(real), text(row.size)));
            }
            let origin = match row.origin {
                Some(origin) => self.catalog.read(|view| catalog::snapshot::find(view, origin))?,
                None => None,
            };
            let origin = origin.map(|origin| origin.zfs_name()).transpose()?;
            if origin.as_ref().map(|name| name.as_str()) != facts.origin.as_deref() {
                let real = facts.origin.as_deref().unwrap_or("nothing");
                mismatch(format!("in ZFS it is a clone of {real}, which is not what the catalog says"));
            }
        }
        if let Some(name) = row.volume_type.dataset(row.pool, row.id) {
            self.compare_snapshots(row, &name, findings)?;
        }
        Ok(())
    }

    fn compare_snapshots(&self, volume: &VolumeRow, dataset: &DatasetName, findings: &mut Vec<Finding>) -> Result<()> {
        let live = self.zfs.snapshots(dataset)?;
        let rows = self.catalog.read(|view| catalog::snapshot::of_volume(view, volume.id))?;
        let mut by_name: HashMap<String, &SnapshotRow> =
            rows.iter().map(|row| (dataset.snapshot(row.id).as_str().to_owned(), row)).collect();
        let now = self.now();
        for facts in &live {
            match by_name.remove(&facts.name) {
                Some(row) if row.state == RowState::Ready && row.guid != Some(facts.guid) => {
                    let message = format!("{} has another guid than the catalog knows: it was replaced", facts.name);
                    findings.push(finding(FindingKind::Mismatch, format!("snapshot {}", row.id), message, None));
                }
                Some(row) if row.retention.expires.is_some_and(|expires| expires <= now) => {
                    findings.push(expired(row, facts));
                }
                Some(_) => {}
                None => findings.push(self.without_row(&facts.name, facts.mark.as_ref(), facts.used)),
            }
        }
        for (name, row) in by_name.into_iter().filter(|(_, row)| row.state == RowState::Ready) {
            let message =
                format!("{name} is gone; if that was meant, forget it with `vsnap snapshot delete {}`", row.id);
            findings.push(finding(FindingKind::RowWithoutObject, format!("snapshot {}", row.id), message, None));
        }
        Ok(())
    }

    /// Compares and logs what is new since the last time.
    pub(super) fn report_news(&self, before: &mut Vec<Finding>) -> Result<()> {
        let report = self.report()?;
        for finding in report.findings.iter().filter(|finding| !before.contains(finding)) {
            let (kind, subject) = (finding.kind.word(), &finding.subject);
            tracing::warn!(kind, subject, "catalog and ZFS: {subject}: {}", finding.message);
        }
        self.pass_unknown(&report.findings)?;
        *before = report.findings;
        Ok(())
    }
}

fn finding(kind: FindingKind, subject: String, message: String, bytes: Option<u64>) -> Finding {
    Finding { kind, subject, message, bytes }
}

fn expired(row: &SnapshotRow, facts: &SnapshotFacts) -> Finding {
    let why = if row.has_clones {
        "it has clones"
    } else if facts.holds.is_empty() {
        "the next round of upkeep removes it"
    } else {
        "it is held"
    };
    let since = row.retention.expires.map_or_else(String::new, date);
    let message = format!("it expired at {since} and still takes space: {why}");
    finding(FindingKind::Expired, format!("snapshot {}", row.id), message, Some(facts.used))
}
