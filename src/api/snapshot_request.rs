//! What requests about snapshots hold (contract section 8.6, and beyond it).

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    volume_request::ids,
    wire::{Decimal, DecimalOrNone},
};
use crate::{
    error::Error,
    types::{
        Epoch, Invalid, Name, VolumeId,
        snapshot::{HoldReason, Retention, RetentionUpdate, SnapshotAction, SnapshotRequest},
    },
};

/// The last second of the year 9999: what is beyond was given in milliseconds, and a lock could not be taken back.
const LAST_SECOND: i64 = 253_402_300_799;

/// A new snapshot of one volume.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewSnapshot {
    /// 1 to 256 printable characters, unique on the volume; one is made when it is left out.
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// When the appliance may delete it, in seconds since 1970; never when it is left out or `none`.
    expires_at: Option<DecimalOrNone>,
    /// Nobody can delete it until then. Needs `expires_at`.
    #[serde(default)]
    locked: bool,
}

impl NewSnapshot {
    /// The request for a snapshot of `volume`.
    pub(super) fn of(self, volume: VolumeId) -> Result<SnapshotRequest, Error> {
        request(vec![volume], self.name, self.expires_at, self.locked)
    }
}

/// New snapshots of several volumes at one moment.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewSnapshots {
    /// Ids of the volumes, all in one pool.
    #[schema(min_items = 1)]
    vol_ids: Vec<Decimal>,
    /// 1 to 256 printable characters, unique on each volume; one is made when it is left out.
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// When the appliance may delete them, in seconds since 1970; never when it is left out or `none`.
    expires_at: Option<DecimalOrNone>,
    /// Nobody can delete them until then. Needs `expires_at`.
    #[serde(default)]
    locked: bool,
}

impl TryFrom<NewSnapshots> for SnapshotRequest {
    type Error = Error;

    fn try_from(body: NewSnapshots) -> Result<Self, Error> {
        let volumes = ids("vol_ids", &body.vol_ids, VolumeId)?;
        if volumes.is_empty() {
            return Err(Invalid::new("vol_ids", "is empty; give the id of at least one volume").into());
        }
        if let Some(at) = (1..volumes.len()).find(|&at| volumes[..at].contains(&volumes[at])) {
            return Err(Invalid::new(format!("vol_ids[{at}]"), format!("volume {} is given twice", volumes[at])).into());
        }
        request(volumes, body.name, body.expires_at, body.locked)
    }
}

fn request(
    volumes: Vec<VolumeId>,
    name: Option<String>,
    expires_at: Option<DecimalOrNone>,
    locked: bool,
) -> Result<SnapshotRequest, Error> {
    let expires = expires_at.map(expiry).transpose()?.flatten();
    if locked && expires.is_none() {
        return Err(Invalid::new("locked", "needs expires_at, the time until which the snapshot is locked").into());
    }
    let name = name.map(Name::new).transpose()?;
    Ok(SnapshotRequest { volumes, name, retention: Retention { expires, locked } })
}

fn expiry(time: DecimalOrNone) -> Result<Option<Epoch>, Invalid> {
    let epoch = |time: Decimal| time.within("expires_at", 0..=LAST_SECOND).map(Epoch);
    time.0.map(epoch).transpose().map_err(|error| Invalid { message: error.message + "; it counts seconds", ..error })
}

/// How long a snapshot is kept from now on. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SnapshotProperties {
    /// When the appliance may delete it, in seconds since 1970, or `none`. Of a locked snapshot it can only be moved
    /// to a later time.
    expires_at: Option<DecimalOrNone>,
    /// Nobody can delete it until then. Cannot be taken back before.
    locked: Option<bool>,
}

impl TryFrom<SnapshotProperties> for RetentionUpdate {
    type Error = Error;

    fn try_from(body: SnapshotProperties) -> Result<Self, Error> {
        Ok(RetentionUpdate { expires: body.expires_at.map(expiry).transpose()?, locked: body.locked })
    }
}

/// What to do with a snapshot.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SnapshotActionRequest {
    action: SnapshotVerb,
    /// Why it is held. Several reasons hold one snapshot independently of each other.
    #[schema(min_length = 1)]
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SnapshotVerb {
    Hold,
    Release,
}

impl TryFrom<SnapshotActionRequest> for SnapshotAction {
    type Error = Error;

    fn try_from(body: SnapshotActionRequest) -> Result<Self, Error> {
        let reason = HoldReason::new(body.reason)?;
        Ok(match body.action {
            SnapshotVerb::Hold => SnapshotAction::Hold(reason),
            SnapshotVerb::Release => SnapshotAction::Release(reason),
        })
    }
}
