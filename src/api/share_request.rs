//! What requests about shares hold (contract sections 8.8 and 9.3).

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::wire::Decimal;
use crate::{
    error::Error,
    types::{
        Invalid, VolumeId,
        share::{AllowedHosts, ShareProperties, ShareType},
    },
};

/// A new share of a volume.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewShareOfVolume {
    /// Needed.
    share_type: Option<ShareKind>,
    pub(super) share_options: Option<ShareOptions>,
}

/// A new share.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewShare {
    /// The filesystem to share. Needed.
    vol_id: Option<Decimal>,
    /// Needed.
    share_type: Option<ShareKind>,
    pub(super) share_options: Option<ShareOptions>,
}

/// How a share is to be reached from now on. Without `share_options` they stay as they are; with them those that are
/// left out are at their defaults.
#[allow(dead_code, reason = "some members are there to be known and not to be used")]
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ShareUpdate {
    /// As it is when it is left out.
    share_type: Option<ShareKind>,
    pub(super) share_options: Option<ShareOptions>,
    /// That of the share, when it is given: a share stays with its volume.
    vol_id: Option<Decimal>,
    /// Without effect, as are `name` and the times: what `GET` answered can be sent back whole.
    #[schema(value_type = Option<String>)]
    id: Option<Value>,
    #[schema(value_type = Option<String>)]
    name: Option<Value>,
    #[schema(value_type = Option<String>)]
    time_created: Option<Value>,
    #[schema(value_type = Option<String>)]
    time_updated: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ShareKind {
    Nfs,
    Smb,
}

impl From<ShareKind> for ShareType {
    fn from(kind: ShareKind) -> Self {
        match kind {
            ShareKind::Nfs => ShareType::Nfs,
            ShareKind::Smb => ShareType::Smb,
        }
    }
}

/// Options of a share.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct ShareOptions {
    /// Nobody can write through the share; `false` when it is left out.
    read_only: Option<bool>,
    /// `nfs`: who may mount it: host names, IP addresses, subnets such as `192.168.1.0/24` or `2001:db8::/32`, or `all`
    /// for everyone. Nobody when it is left out or empty. Bits of a subnet's address beyond its prefix are cleared.
    /// `smb`: without meaning, since users decide there; then it is named in `X-Vsnap-Ignored`.
    allowed_hosts: Option<HostList>,
    /// `nfs`: snapshots can be entered in `.zfs/snapshot`; `false` when it is left out.
    snapshots_visible: Option<bool>,
}

/// Hosts; a single one need not be in a list.
#[derive(Debug, ToSchema)]
#[schema(value_type = Vec<String>)]
struct HostList(Vec<String>);

impl<'de> Deserialize<'de> for HostList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(D::Error::custom(format!("{other} is no text that names a host"))),
        };
        match Value::deserialize(deserializer)? {
            Value::Array(items) => items.into_iter().map(text).collect::<Result<_, _>>().map(HostList),
            single => text(single).map(|text| HostList(vec![text])),
        }
    }
}

/// Members that say something which means nothing for an `smb` share.
pub(super) fn moot_with_smb(options: Option<&ShareOptions>) -> Vec<String> {
    let Some(options) = options else { return Vec::new() };
    let given = [
        ("allowed_hosts", options.allowed_hosts.as_ref().is_some_and(|hosts| !hosts.0.is_empty())),
        ("snapshots_visible", options.snapshots_visible == Some(true)),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    given.map(|(member, _)| format!("share_options.{member}")).collect()
}

impl ShareOptions {
    /// What does not go with the type is left out: a share keeps its options in the request that changes its type.
    fn of(self, share_type: ShareType) -> Result<ShareProperties, Invalid> {
        let hosts = self.allowed_hosts.map(|list| list.0).unwrap_or_default();
        let hosts = AllowedHosts::new(&hosts)
            .map_err(|invalid| Invalid::new(format!("share_options.{}", invalid.field), invalid.message))?;
        let is_nfs = share_type == ShareType::Nfs;
        Ok(ShareProperties {
            share_type,
            read_only: self.read_only.unwrap_or_default(),
            allowed_hosts: if is_nfs { hosts } else { AllowedHosts::default() },
            snapshots_visible: is_nfs && self.snapshots_visible.unwrap_or_default(),
        })
    }
}

fn properties(kind: Option<ShareKind>, options: Option<ShareOptions>) -> Result<ShareProperties, Invalid> {
    let kind = kind.ok_or_else(|| Invalid::new("share_type", "is missing; give nfs or smb"))?;
    options.unwrap_or_default().of(kind.into())
}

impl NewShareOfVolume {
    pub(super) fn properties(self) -> Result<ShareProperties, Error> {
        Ok(properties(self.share_type, self.share_options)?)
    }
}

impl NewShare {
    pub(super) fn read(self) -> Result<(VolumeId, ShareProperties), Error> {
        let volume = self.vol_id.ok_or_else(|| Invalid::new("vol_id", "is missing"))?.id("vol_id")?;
        Ok((VolumeId(volume), properties(self.share_type, self.share_options)?))
    }
}

impl ShareUpdate {
    /// The volume whose share it is about, when that is said.
    pub(super) fn volume(&self) -> Result<Option<VolumeId>, Error> {
        Ok(self.vol_id.map(|id| id.id("vol_id").map(VolumeId)).transpose()?)
    }

    /// Checks what does not depend on how the share is now.
    pub(super) fn check(self) -> Result<impl FnOnce(&ShareProperties) -> Result<ShareProperties, Error>, Error> {
        let share_type = self.share_type.map(ShareType::from);
        let options = self.share_options.map(|options| options.of(ShareType::Nfs)).transpose()?;
        Ok(move |now: &ShareProperties| {
            let share_type = share_type.unwrap_or(now.share_type);
            let wanted = options.unwrap_or_else(|| now.clone());
            Ok(match share_type {
                ShareType::Nfs => ShareProperties { share_type, ..wanted },
                ShareType::Smb => ShareProperties {
                    share_type,
                    read_only: wanted.read_only,
                    allowed_hosts: AllowedHosts::default(),
                    snapshots_visible: false,
                },
            })
        })
    }
}
