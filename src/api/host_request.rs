//! What requests about hosts hold (contract sections 10.1, 10.4 to 10.6 and 8.10).

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::wire::Decimal;
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
    /// How it has to authenticate. Without it the name of the initiator is enough.
    chap: Option<ChapOrNone>,
}

/// New properties of a host. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct HostProperties {
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// All its initiators; those that it had and that are not here lose access.
    iqns: Option<Vec<String>>,
    /// How it has to authenticate from now on, or `none`.
    chap: Option<ChapOrNone>,
}

/// CHAP. Secrets are written only: no answer ever has one.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it describes what `ChapOrNone` reads by hand")]
pub(super) struct Chap {
    /// As whom the host logs in.
    user: String,
    /// 12 to 128 printable ASCII characters; Windows takes at most 16.
    #[schema(format = Password)]
    secret: String,
    /// Mutual CHAP: as whom the appliance proves itself to the host. Goes with `mutual_secret`.
    mutual_user: Option<String>,
    /// Another secret than `secret`.
    #[schema(format = Password)]
    mutual_secret: Option<String>,
}

/// CHAP, or the word `none` to do without: `null` counts as absent.
///
/// Read by hand, since serde's errors would quote a value that may be a secret.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Chap)]
pub(super) struct ChapOrNone(Value);

impl std::fmt::Debug for ChapOrNone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ChapOrNone(..)")
    }
}

impl ChapOrNone {
    fn read(self) -> Result<Option<ChapCredentials>, Invalid> {
        const MEMBERS: [&str; 4] = ["user", "secret", "mutual_user", "mutual_secret"];
        let members = match self.0 {
            Value::String(word) if word == "none" => return Ok(None),
            Value::Object(members) => members,
            _ => return Err(Invalid::new("chap", "is neither an object with user and secret nor \"none\"")),
        };
        if let Some(other) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            // Ignoring a typo could leave a host with less protection than was meant.
            return Err(Invalid::new(format!("chap.{other}"), format!("is none of {}", MEMBERS.join(", "))));
        }
        let text = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(Invalid::new(format!("chap.{name}"), "must be a string")),
        };
        let needed = |name: &str| text(name)?.ok_or_else(|| Invalid::new(format!("chap.{name}"), "is missing"));
        let user = ChapUser::new("chap.user", needed("user")?)?;
        let secret = ChapSecret::new("chap.secret", needed("secret")?)?;
        let mutual = match (text("mutual_user")?, text("mutual_secret")?) {
            (None, None) => None,
            (Some(user), Some(secret)) => {
                let user = ChapUser::new("chap.mutual_user", user)?;
                Some((user, ChapSecret::new("chap.mutual_secret", secret)?))
            }
            (Some(_), None) => return Err(Invalid::new("chap.mutual_secret", "is missing beside mutual_user")),
            (None, Some(_)) => return Err(Invalid::new("chap.mutual_user", "is missing beside mutual_secret")),
        };
        ChapCredentials::new(user, secret, mutual).map(Some)
    }
}

impl TryFrom<NewHost> for HostRequest {
    type Error = Error;

    fn try_from(body: NewHost) -> Result<Self, Error> {
        Ok(HostRequest {
            name: Name::new(body.name)?,
            iqns: iqn_list(&body.iqns)?,
            chap: body.chap.map(ChapOrNone::read).transpose()?.flatten(),
        })
    }
}

impl TryFrom<HostProperties> for HostUpdate {
    type Error = Error;

    fn try_from(body: HostProperties) -> Result<Self, Error> {
        Ok(HostUpdate {
            name: body.name.map(Name::new).transpose()?,
            iqns: body.iqns.as_deref().map(iqn_list).transpose()?,
            chap: body.chap.map(ChapOrNone::read).transpose()?,
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
