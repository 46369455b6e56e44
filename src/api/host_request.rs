//! What requests about hosts hold (contract sections 10.1, 10.4 to 10.6 and 8.10).

use serde::{Deserialize, Deserializer, de};
use utoipa::ToSchema;

use super::wire::{Decimal, Secret};
use crate::{
    error::Error,
    types::{
        HostId, Invalid, Name, VolumeId,
        host::{ChapCredentials, ChapSecret, ChapUser, HostRequest, HostUpdate, iqn_list},
    },
};

/// A new host.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewHost {
    /// 1 to 256 printable characters; unique on the appliance.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// Its iSCSI initiators, in the forms `iqn.`, `eui.` and `naa.` of RFC 3720.
    #[serde(default)]
    iqns: Vec<String>,
    /// Beyond the contract: how it has to authenticate. Without it the name of the initiator is enough.
    chap: Option<Chap>,
}

/// New properties of a host. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct HostProperties {
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// All its initiators; those that it had and that are not here lose access.
    iqns: Option<Vec<String>>,
    /// Beyond the contract: how it has to authenticate from now on, or `none`.
    chap: Option<ChapOrNone>,
}

/// CHAP. Secrets are written only: no answer ever has one.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Chap {
    /// As whom the host logs in.
    user: String,
    /// 12 to 128 printable ASCII characters; Windows takes at most 16.
    #[schema(value_type = String, format = Password)]
    secret: Secret,
    /// Mutual CHAP: as whom the appliance proves itself to the host. Goes with `mutual_secret`.
    mutual_user: Option<String>,
    /// Another secret than `secret`.
    #[schema(value_type = Option<String>, format = Password)]
    mutual_secret: Option<Secret>,
}

/// CHAP, or the word `none` to do without: `null` counts as absent.
#[derive(Debug, ToSchema)]
#[schema(value_type = Chap)]
pub(super) struct ChapOrNone(Option<Chap>);

impl<'de> Deserialize<'de> for ChapOrNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value == "none" {
            return Ok(ChapOrNone(None));
        }
        // Never serde's own words, which would quote a value that may be a secret.
        if !value.is_object() {
            return Err(de::Error::custom("is neither an object with user and secret nor \"none\""));
        }
        Chap::deserialize(value).map(|chap| ChapOrNone(Some(chap))).map_err(de::Error::custom)
    }
}

impl Chap {
    fn read(self) -> Result<ChapCredentials, Invalid> {
        let user = ChapUser::new("chap.user", &self.user)?;
        let secret = ChapSecret::new("chap.secret", self.secret.expose())?;
        let mutual = match (self.mutual_user, self.mutual_secret) {
            (None, None) => None,
            (Some(user), Some(secret)) => Some((
                ChapUser::new("chap.mutual_user", &user)?,
                ChapSecret::new("chap.mutual_secret", secret.expose())?,
            )),
            (Some(_), None) => return Err(Invalid::new("chap.mutual_secret", "is missing beside mutual_user")),
            (None, Some(_)) => return Err(Invalid::new("chap.mutual_user", "is missing beside mutual_secret")),
        };
        ChapCredentials::new(user, secret, mutual)
    }
}

impl TryFrom<NewHost> for HostRequest {
    type Error = Error;

    fn try_from(body: NewHost) -> Result<Self, Error> {
        Ok(HostRequest {
            name: Name::new(body.name)?,
            iqns: iqn_list(&body.iqns)?,
            chap: body.chap.map(Chap::read).transpose()?,
        })
    }
}

impl TryFrom<HostProperties> for HostUpdate {
    type Error = Error;

    fn try_from(body: HostProperties) -> Result<Self, Error> {
        Ok(HostUpdate {
            name: body.name.map(Name::new).transpose()?,
            iqns: body.iqns.as_deref().map(iqn_list).transpose()?,
            chap: body.chap.map(|chap| chap.0.map(Chap::read).transpose()).transpose()?,
        })
    }
}

/// What to do with a host.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct HostActionRequest {
    action: HostVerb,
    /// The volume.
    vol_id: Decimal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum HostVerb {
    Map,
    Unmap,
}

impl HostActionRequest {
    pub(super) fn read(&self) -> Result<(HostVerb, VolumeId), Error> {
        Ok((self.action, VolumeId(self.vol_id.id("vol_id")?)))
    }
}

/// The host that a volume is mapped to or unmapped from.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct WhichHost {
    /// The host.
    host_id: Decimal,
}

impl WhichHost {
    pub(super) fn read(&self) -> Result<HostId, Error> {
        Ok(HostId(self.host_id.id("host_id")?))
    }
}
