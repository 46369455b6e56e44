//! Hosts: storage clients with their iSCSI initiators, and the luns that they see (contract section 10).

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Epoch, HostId, Invalid, Name, VolumeId};

/// Name of an iSCSI initiator or target in one of the forms of RFC 3720: `iqn.`, `eui.` or `naa.`; in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Iqn(String);

impl Iqn {
    /// Longest name in bytes (RFC 3720, section 3.2.6.1).
    pub const MAX_BYTES: usize = 223;

    /// Checks a name that came in as `member`. Case does not matter in these names, so lower case is kept.
    pub fn new(member: &str, text: &str) -> Result<Self, Invalid> {
        let name = text.to_ascii_lowercase();
        let hex = |digits: &str, lengths: &[usize]| {
            lengths.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let fault = if name.len() > Self::MAX_BYTES {
            Some("is longer than 223 bytes")
        } else if let Some(rest) = name.strip_prefix("iqn.") {
            fault_of_iqn(rest)
        } else if let Some(rest) = name.strip_prefix("eui.") {
            (!hex(rest, &[16])).then_some("needs 16 hex digits after eui.")
        } else if let Some(rest) = name.strip_prefix("naa.") {
            (!hex(rest, &[16, 32])).then_some("needs 16 or 32 hex digits after naa.")
        } else {
            Some("does not begin with iqn., eui. or naa.")
        };
        match fault {
            None => Ok(Iqn(name)),
            Some(fault) => Err(Invalid::new(
                member,
                format!("{text:?} is no name of an initiator, such as iqn.1994-05.com.example:host1: it {fault}"),
            )),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong after `iqn.`: `<year>-<month>.<reversed domain>[:<anything>]`.
fn fault_of_iqn(rest: &str) -> Option<&'static str> {
    let (authority, own) = rest.split_once(':').map_or((rest, None), |(authority, own)| (authority, Some(own)));
    let Some((date, domain)) = authority.split_once('.') else {
        return Some("has no domain after its date");
    };
    let is_date = date.split_once('-').is_some_and(|(year, month)| {
        year.len() == 4
            && year.bytes().all(|byte| byte.is_ascii_digit())
            && month.len() == 2
            && matches!(month.parse::<u8>(), Ok(1..=12))
    });
    if !is_date {
        return Some("has no date like 2017-08 after iqn.");
    }
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !domain.split('.').all(label) {
        return Some("has no domain like com.example after its date");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    match own {
        Some("") => Some("has nothing after the colon"),
        // Underscores are against the letter of the RFC and nevertheless in use; they do no harm.
        Some(own) if !own.bytes().all(|byte| allowed(byte) || byte == b'_') => {
            Some("has other characters than letters, digits, -, ., : and _")
        }
        _ => None,
    }
}

impl fmt::Display for Iqn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that authenticates: wiped from memory when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ChapSecret(String);

impl ChapSecret {
    /// Checks a secret that came in as `member`: at least 96 bits, as RFC 3720 wants it, in characters that every
    /// initiator can send.
    pub fn new(member: &str, text: &str) -> Result<Self, Invalid> {
        let fault = if !(12..=128).contains(&text.len()) {
            "needs 12 to 128 characters; Windows takes at most 16"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "may only have printable ASCII characters, and no space"
        } else if text.starts_with("NULL") {
            "may not begin with NULL, which stands for none"
        } else {
            return Ok(ChapSecret(text.to_owned()));
        };
        Err(Invalid::new(member, format!("the secret {fault}")))
    }

    /// The text, for the one place that hands it over.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChapSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ChapSecret(..)")
    }
}

/// A user name of CHAP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChapUser(String);

impl ChapUser {
    /// Checks a user name that came in as `member`.
    pub fn new(member: &str, text: &str) -> Result<Self, Invalid> {
        let fault = if !(1..=223).contains(&text.len()) {
            "needs 1 to 223 characters"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "may only have printable ASCII characters, and no space"
        } else if text.starts_with("NULL") {
            "may not begin with NULL, which stands for none"
        } else {
            return Ok(ChapUser(text.to_owned()));
        };
        Err(Invalid::new(member, format!("the user name {fault}")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who authenticates: the host, and with a second user also the appliance to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChapUsers {
    /// As whom the host logs in.
    pub user: ChapUser,
    /// As whom the appliance proves itself to the host.
    pub mutual_user: Option<ChapUser>,
}

/// All that CHAP needs to know of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChapCredentials {
    /// As whom the host logs in.
    pub user: ChapUser,
    /// With what.
    pub secret: ChapSecret,
    /// User and secret with which the appliance proves itself to the host.
    pub mutual: Option<(ChapUser, ChapSecret)>,
}

impl ChapCredentials {
    /// Checks what goes together.
    pub fn new(user: ChapUser, secret: ChapSecret, mutual: Option<(ChapUser, ChapSecret)>) -> Result<Self, Invalid> {
        if mutual.as_ref().is_some_and(|(_, other)| *other == secret) {
            let fault = "is the same as secret; a host that knows only one of them could answer for the other";
            return Err(Invalid::new("chap.mutual_secret", fault));
        }
        Ok(ChapCredentials { user, secret, mutual })
    }

    /// Without the secrets.
    pub fn users(&self) -> ChapUsers {
        ChapUsers { user: self.user.clone(), mutual_user: self.mutual.as_ref().map(|(user, _)| user.clone()) }
    }
}

/// A lun that a host sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedLun {
    /// Its number, of this host.
    pub lun: u16,
    /// The volume behind it.
    pub volume: VolumeId,
}

/// A host, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Its name.
    pub name: Name,
    /// Its initiators, in the order in which they were given.
    pub iqns: Vec<Iqn>,
    /// The luns that it sees, by number.
    pub mapped_luns: Vec<MappedLun>,
    /// With CHAP: who authenticates.
    pub chap: Option<ChapUsers>,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

/// A new host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRequest {
    /// Its name.
    pub name: Name,
    /// Its initiators.
    pub iqns: Vec<Iqn>,
    /// With CHAP: how it logs in.
    pub chap: Option<ChapCredentials>,
}

/// A change of a host; `None` leaves as is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostUpdate {
    /// New name.
    pub name: Option<Name>,
    /// All initiators that it has from then on.
    pub iqns: Option<Vec<Iqn>>,
    /// How it logs in from then on; `Some(None)` is without CHAP.
    pub chap: Option<Option<ChapCredentials>>,
}

/// Checks a list of initiators that came in as `iqns`.
pub fn iqn_list(texts: &[String]) -> Result<Vec<Iqn>, Invalid> {
    let mut iqns: Vec<Iqn> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let member = format!("iqns[{at}]");
        let iqn = Iqn::new(&member, text)?;
        if iqns.contains(&iqn) {
            return Err(Invalid::new(member, format!("{iqn} is in the list twice")));
        }
        iqns.push(iqn);
    }
    Ok(iqns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_initiators_have_three_forms() {
        let long = format!("iqn.2001-04.com.example:{}", "x".repeat(Iqn::MAX_BYTES - 24));
        for good in [
            "iqn.1988-12.com.oracle:devoracle47",
            "iqn.2001-04.com.example",
            "iqn.1991-05.com.microsoft:desktop-ab_1.corp.local",
            "iqn.1998-01.com.vmware:esx01:1234:65",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
            &long,
        ] {
            assert_eq!(Iqn::new("iqns[0]", good).unwrap().as_str(), good);
        }
        assert_eq!(Iqn::new("x", "IQN.2001-04.COM.Example:Disk").unwrap().as_str(), "iqn.2001-04.com.example:disk");
    }

    #[test]
    fn what_is_no_name_of_an_initiator_is_refused() {
        let long = format!("iqn.2001-04.com.example:{}", "x".repeat(Iqn::MAX_BYTES - 23));
        for bad in [
            "",
            "iqn.",
            "iqn",
            "iqn.2001-04",
            "iqn.2001-13.com.example:a",
            "iqn.2001-00.com.example:a",
            "iqn.20010-4.com.example:a",
            "iqn.2001-04.:a",
            "iqn.2001-04.com..example:a",
            "iqn.2001-04.com.example:",
            "iqn.2001-04.com.example:a b",
            "iqn.2001-04.com.example:a/../b",
            "iqn.2001-04.com.ex/ample:a",
            "iqn.2001-04.com.example:a\n",
            "iqn.2001-04.com.example:ä",
            " iqn.2001-04.com.example:a",
            "iqn.2001-04.com.example:a,b",
            "eui.02004567a425678",
            "eui.02004567a425678g",
            "naa.0200",
            "wwn.02004567a425678d",
            &long,
        ] {
            assert_eq!(Iqn::new("iqns[0]", bad).unwrap_err().field, "iqns[0]", "{bad:?}");
        }
        let twice = ["iqn.2001-04.com.example:a", "IQN.2001-04.com.example:A"].map(str::to_owned);
        assert_eq!(iqn_list(&twice).unwrap_err().field, "iqns[1]");
    }

    #[test]
    fn secrets_are_long_and_never_shown() {
        for bad in ["", "elevenchars", "with a space in it", "NULLNULLNULL", "ümlaut-and-more", &"x".repeat(129)] {
            let error = ChapSecret::new("chap.secret", bad).unwrap_err();
            assert_eq!(error.field, "chap.secret");
            assert!(bad.is_empty() || !error.message.contains(bad), "{error}");
        }
        let secret = ChapSecret::new("chap.secret", "twelve-chars").unwrap();
        assert_eq!(format!("{secret:?}"), "ChapSecret(..)");
        let user = ChapUser::new("chap.user", "host1").unwrap();
        let same = ChapCredentials::new(user.clone(), secret.clone(), Some((user, secret)));
        assert_eq!(same.unwrap_err().field, "chap.mutual_secret");
        for bad in ["", "a b", "NULL"] {
            assert_eq!(ChapUser::new("chap.user", bad).unwrap_err().field, "chap.user");
        }
    }
}
