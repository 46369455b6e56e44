//! Shares: filesystems that clients reach over NFS or SMB (contract sections 8.8, 8.9 and 9).
//!
//! A share is a row, notes on its filesystem from which the row can be rebuilt, and an export that follows from the
//! row. It is up when its export is applied, and gone when its export is gone.

use std::collections::BTreeMap;

use super::{Caller, Engine, exports::Export, locks::Key, operation::Operation, volume::dataset_name};
use crate::{
    catalog::{self, RowState, share::ShareRow, volume::VolumeRow},
    error::{Error, Result},
    os::DatasetChange,
    types::{
        Epoch, Invalid, PoolId, ShareId, VolumeId,
        selection::{Selection, ShareField},
        share::{AllowedHosts, Share, ShareProperties, ShareType},
        volume::VolumeType,
    },
};

/// User properties of a shared filesystem.
const NOTES: [&str; 6] = [
    "vsnap:share.id",
    "vsnap:share.type",
    "vsnap:share.read_only",
    "vsnap:share.hosts",
    "vsnap:share.snapshots",
    "vsnap:share.created",
];

impl Engine {
    /// The shares that are selected, and how many there are without the page.
    pub fn shares(&self, selection: &Selection<ShareField>) -> Result<(Vec<Share>, u64)> {
        let (rows, total) = self.catalog.read(|view| catalog::share::select(view, selection))?;
        Ok((rows.into_iter().map(present).collect(), total))
    }

    /// One share.
    pub fn share(&self, id: ShareId) -> Result<Share> {
        self.share_row(id).map(present)
    }

    /// The share with this path or name.
    pub fn share_by_name(&self, name: &str) -> Result<Share> {
        match self.catalog.read(|view| catalog::share::find_name(view, name))? {
            Some(row) if row.state != RowState::Creating => Ok(present(row)),
            _ => Err(Error::not_found("share", format!("named {name:?}"))),
        }
    }

    /// The share of a volume.
    pub fn share_of_volume(&self, volume: VolumeId) -> Result<Share> {
        self.volume_row(volume)?;
        match self.catalog.read(|view| catalog::share::of_volume(view, volume))? {
            Some(row) if row.state != RowState::Creating => Ok(present(row)),
            _ => Err(Error::not_found("share", format!("of volume {volume}"))),
        }
    }

    fn share_row(&self, id: ShareId) -> Result<ShareRow> {
        let row = self.catalog.read(|view| catalog::share::find(view, id))?;
        row.filter(|row| row.state != RowState::Creating).ok_or_else(|| Error::not_found("share", id))
    }

    /// Shares a filesystem.
    pub fn create_share(&self, caller: &Caller, volume: VolumeId, properties: &ShareProperties) -> Result<Share> {
        let pool = self.volume_row(volume)?.pool;
        let keys = vec![Key::Within(pool), Key::Volume(volume)];
        let _guard = self.locks.acquire(keys, "the creation of a share")?;
        let row = self.ready_volume(volume)?;
        if row.volume_type != VolumeType::Filesystem {
            let fault = format!("volume {volume} is a {}; only filesystems can be shared", row.volume_type.word());
            return Err(Invalid::new("vol_id", fault).into());
        }
        self.require_no_replica(volume, "shared")?;
        self.require_readable(pool)?;
        let (dataset, _) = self.own_dataset(&row)?;
        let name = properties.share_type.name(&dataset);
        let mut made = None;
        self.perform(caller, |transaction| {
            if let Some(other) = catalog::share::of_volume(transaction, volume)? {
                return Err(Error::Exists(format!(
                    "volume {volume} is shared already, as share {} ({}); change or delete that one",
                    other.id, other.name
                )));
            }
            let share = catalog::share::insert(transaction, volume, &name, properties, self.now())?;
            made = Some(share);
            Ok(Operation::CreateShare { share })
        })?;
        self.share(made.ok_or_else(|| Error::Contradiction("a share was made without a row".to_owned()))?)
    }

    /// Changes a share: `change` makes of what it is what it is to be.
    pub fn update_share(
        &self,
        caller: &Caller,
        id: ShareId,
        change: impl FnOnce(&ShareProperties) -> Result<ShareProperties>,
    ) -> Result<Share> {
        let row = self.share_row(id)?;
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "a change of the share")?;
        let row = self.ready_share(id)?;
        self.require_readable(row.pool)?;
        let (dataset, _) = self.own_dataset(&self.ready_volume(row.volume)?)?;
        let (before, after) = (row.properties.clone(), change(&row.properties)?);
        let name = after.share_type.name(&dataset);
        self.perform(caller, |transaction| {
            catalog::share::set_properties(transaction, id, &name, &after)?;
            Ok(Operation::UpdateShare { share: id, before, after })
        })?;
        self.share(id)
    }

    /// Ends a share; the filesystem stays.
    pub fn delete_share(&self, caller: &Caller, id: ShareId) -> Result<()> {
        let row = self.share_row(id)?;
        let keys = vec![Key::Within(row.pool), Key::Volume(row.volume)];
        let _guard = self.locks.acquire(keys, "the deletion of the share")?;
        let row = self.ready_share(id)?;
        self.require_readable(row.pool)?;
        self.own_dataset(&self.ready_volume(row.volume)?)?;
        self.perform(caller, |transaction| {
            catalog::share::set_state(transaction, id, RowState::Deleting)?;
            Ok(Operation::DeleteShare { share: id })
        })
    }

    fn ready_share(&self, id: ShareId) -> Result<ShareRow> {
        let row = self.share_row(id)?;
        match row.state {
            RowState::Ready => Ok(row),
            _ => Err(Error::State(format!("share {id} is being deleted"))),
        }
    }

    pub(super) fn run_create_share(&self, id: i64, share: ShareId) -> Result<()> {
        let row = self.any_share(share)?;
        self.write_share_notes(&row, &row.properties)?;
        self.apply_exports(row.properties.share_type.into())?;
        self.finish(id, |transaction| catalog::share::set_state(transaction, share, RowState::Ready))
    }

    /// A create that failed turns into the delete.
    pub(super) fn undo_create_share(&self, id: i64, share: ShareId, cause: &Error) -> Result<()> {
        let row = self.catalog.read(|view| catalog::share::find(view, share))?;
        if let Some(row) = &row {
            self.catalog.write(|transaction| catalog::share::set_state(transaction, share, RowState::Deleting))?;
            self.apply_or_warn(row.properties.share_type.into());
            self.drop_share_notes(row.volume)?;
        }
        self.end(id, Some(&cause.to_string()), |transaction| catalog::share::delete(transaction, share))
    }

    pub(super) fn run_update_share(
        &self,
        id: i64,
        share: ShareId,
        before: &ShareProperties,
        after: &ShareProperties,
    ) -> Result<()> {
        let row = self.any_share(share)?;
        self.write_share_notes(&row, after)?;
        // What is no longer to be reached goes first.
        if before.share_type != after.share_type {
            self.apply_exports(before.share_type.into())?;
        }
        self.apply_exports(after.share_type.into())?;
        self.finish(id, |transaction| catalog::share::touch(transaction, share, self.now()))
    }

    /// Row, notes and exports become what they were.
    pub(super) fn undo_update_share(
        &self,
        id: i64,
        share: ShareId,
        before: &ShareProperties,
        after: &ShareProperties,
        cause: &Error,
    ) -> Result<()> {
        if let Some(row) = self.catalog.read(|view| catalog::share::find(view, share))? {
            let dataset = dataset_name(&self.volume_row(row.volume)?)?;
            let name = before.share_type.name(&dataset);
            self.catalog.write(|transaction| catalog::share::set_properties(transaction, share, &name, before))?;
            if let Err(error) = self.write_share_notes(&row, before) {
                tracing::warn!(share.id = share.0, %error, "the former properties could not be noted again");
            }
            if before.share_type != after.share_type {
                self.apply_or_warn(after.share_type.into());
            }
            self.apply_or_warn(before.share_type.into());
        }
        self.end(id, Some(&cause.to_string()), |_| Ok(()))
    }

    pub(super) fn run_delete_share(&self, id: i64, share: ShareId) -> Result<()> {
        let row = self.any_share(share)?;
        self.apply_exports(row.properties.share_type.into())?;
        self.drop_share_notes(row.volume)?;
        self.finish(id, |transaction| catalog::share::delete(transaction, share))
    }

    /// The share is still there, so it is shown and reached again.
    pub(super) fn undo_delete_share(&self, id: i64, share: ShareId, cause: &Error) -> Result<()> {
        let row = self.catalog.read(|view| catalog::share::find(view, share))?;
        if let Some(row) = &row
            && let Err(error) = self.write_share_notes(row, &row.properties)
        {
            tracing::warn!(share.id = share.0, %error, "a share that was not deleted could not be noted again");
        }
        self.end(id, Some(&cause.to_string()), |transaction| {
            catalog::share::set_state(transaction, share, RowState::Ready)
        })?;
        if let Some(row) = row {
            self.apply_or_warn(row.properties.share_type.into());
        }
        Ok(())
    }

    fn any_share(&self, id: ShareId) -> Result<ShareRow> {
        self.catalog.read(|view| catalog::share::find(view, id))?.ok_or_else(|| Error::not_found("share", id))
    }

    /// For taking back: upkeep and the next start try it again.
    fn apply_or_warn(&self, kind: Export) {
        if let Err(error) = self.apply_exports(kind) {
            tracing::warn!(?kind, %error, "exports could not be made what they were");
        }
    }

    /// Ends the export of a volume that is about to go or to change below its clients. Its row goes with the volume.
    pub(super) fn end_share_of(&self, volume: VolumeId) -> Result<()> {
        let Some(row) = self.catalog.read(|view| catalog::share::of_volume(view, volume))? else { return Ok(()) };
        if row.state != RowState::Deleting {
            self.catalog.write(|transaction| catalog::share::set_state(transaction, row.id, RowState::Deleting))?;
        }
        self.apply_exports(row.properties.share_type.into()).map(drop)
    }

    /// The export of a volume that stays after all; the row has been revived.
    pub(super) fn share_again(&self, volume: VolumeId) -> Result<()> {
        if let Some(row) = self.catalog.read(|view| catalog::share::of_volume(view, volume))? {
            self.apply_or_warn(row.properties.share_type.into());
        }
        Ok(())
    }

    /// Makes the exports right after a pool began to go or came back.
    pub(super) fn apply_exports_of_pool(&self, pool: PoolId) -> Result<()> {
        let rows = self.catalog.read(|view| catalog::share::of_pool(view, pool))?;
        for share_type in [ShareType::Nfs, ShareType::Smb] {
            if rows.iter().any(|row| row.properties.share_type == share_type) {
                self.apply_exports(share_type.into())?;
            }
        }
        Ok(())
    }

    /// The share of a volume that is to be rolled back, which must have been named.
    pub(super) fn discardable_share(&self, volume: VolumeId, named: &[ShareId]) -> Result<Option<ShareId>> {
        let row = self.catalog.read(|view| catalog::share::of_volume(view, volume))?;
        let own = row.as_ref().map(|row| row.id);
        if let Some(other) = named.iter().find(|id| Some(**id) != own) {
            let fault = format!("share {other} is no share of volume {volume}");
            return Err(Invalid::new("discard_shares", fault).into());
        }
        match row {
            Some(row) if named.is_empty() => Err(Error::Busy(format!(
                "volume {volume} is shared as share {} ({}), and its clients would see it change below them; delete \
                 the share first, or name it in discard_shares to delete it",
                row.id, row.name
            ))),
            _ => Ok(own),
        }
    }

    /// Mounts the filesystem and notes on it how it is shared.
    fn write_share_notes(&self, row: &ShareRow, properties: &ShareProperties) -> Result<()> {
        let (dataset, _) = self.own_dataset(&self.volume_row(row.volume)?)?;
        self.zfs.mount_dataset(&dataset)?;
        let notes = notes(row, properties);
        Ok(self.zfs.change_dataset(&dataset, &DatasetChange { notes, ..DatasetChange::default() })?)
    }

    /// Takes away what [`Engine::write_share_notes`] noted.
    pub(super) fn drop_share_notes(&self, volume: VolumeId) -> Result<()> {
        let Some((dataset, facts)) = self.remaining_dataset(&self.volume_row(volume)?)? else { return Ok(()) };
        let there = NOTES.into_iter().filter(|note| facts.notes.contains_key(*note));
        let dropped_notes: Vec<String> = there.map(str::to_owned).collect();
        if dropped_notes.is_empty() {
            return Ok(());
        }
        Ok(self.zfs.change_dataset(&dataset, &DatasetChange { dropped_notes, ..DatasetChange::default() })?)
    }
}

fn present(row: ShareRow) -> Share {
    Share {
        id: row.id,
        name: row.name,
        volume: row.volume,
        properties: row.properties,
        created: row.created,
        updated: row.updated,
    }
}

fn notes(row: &ShareRow, properties: &ShareProperties) -> BTreeMap<String, String> {
    let flag = |on: bool| if on { "1" } else { "0" }.to_owned();
    let values = [
        row.id.to_string(),
        properties.share_type.word().to_owned(),
        flag(properties.read_only),
        properties.allowed_hosts.joined(),
        flag(properties.snapshots_visible),
        row.created.to_string(),
    ];
    NOTES.into_iter().map(str::to_owned).zip(values).collect()
}

/// The share that is noted on the filesystem of a volume.
pub(super) fn share_in(volume: &VolumeRow, notes: &BTreeMap<String, String>) -> Result<Option<ShareRow>> {
    let note = |name: &str| notes.get(&format!("vsnap:share.{name}")).map(String::as_str);
    let (Some(id), VolumeType::Filesystem) = (note("id"), volume.volume_type) else { return Ok(None) };
    let id: ShareId = id.parse()?;
    let properties = ShareProperties {
        share_type: ShareType::from_word(note("type").unwrap_or_default())?,
        read_only: note("read_only") == Some("1"),
        allowed_hosts: AllowedHosts::split(note("hosts").unwrap_or_default())?,
        snapshots_visible: note("snapshots") == Some("1"),
    };
    let created = note("created").and_then(|time| time.parse().ok()).map_or(volume.created, Epoch);
    let name = properties.share_type.name(&dataset_name(volume)?);
    let (pool, state) = (volume.pool, RowState::Ready);
    Ok(Some(ShareRow { id, volume: volume.id, pool, state, name, properties, created, updated: created }))
}
