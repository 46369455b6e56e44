//! Shares: filesystems that clients reach over NFS or SMB (contract sections 8.8 and 9).

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Epoch, Invalid, ShareId, VolumeId, names::DatasetName};

/// How a share is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareType {
    /// By NFS, versions 3 and 4.2.
    Nfs,
    /// By SMB, from version 2.1 upwards.
    Smb,
}

impl ShareType {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            ShareType::Nfs => "nfs",
            ShareType::Smb => "smb",
        }
    }

    /// The type that `word` stands for (member `share_type`).
    pub fn from_word(word: &str) -> Result<Self, Invalid> {
        [ShareType::Nfs, ShareType::Smb]
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or_else(|| Invalid::new("share_type", format!("{word:?} is neither nfs nor smb")))
    }

    /// What clients call the share of a filesystem: a path with NFS, a name with SMB.
    pub fn name(self, dataset: &DatasetName) -> String {
        match self {
            ShareType::Nfs => dataset.mountpoint(),
            ShareType::Smb => dataset.as_str().replace('/', "_"),
        }
    }
}

/// Who may mount an NFS share: everyone, an address, a subnet or a host name. The text is in one form only, so that
/// equal ones are equal texts, and has no character that means anything to `exports(5)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowedHost(String);

impl AllowedHost {
    /// The word for everyone.
    pub const ALL: &'static str = "all";

    /// Checks what came in as an item of `allowed_hosts`. Bits of a subnet's address beyond its prefix are cleared,
    /// and names are made lower-case.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text == Self::ALL {
            return Ok(AllowedHost(text.to_owned()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(AllowedHost(address.to_canonical().to_string()));
        }
        let fault = |why: &str| Invalid::new("allowed_hosts", format!("{text:?} {why}"));
        if let Some((address, prefix)) = text.split_once('/') {
            let Ok(address) = address.parse::<IpAddr>() else {
                return Err(fault("is no subnet; write it as 192.168.1.0/24 or 2001:db8::/32"));
            };
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = prefix.parse::<u32>().ok().filter(|prefix| digits && *prefix <= bits);
            let Some(prefix) = prefix else {
                return Err(fault(&format!("has no prefix length from 0 to {bits}")));
            };
            let network = network(address, prefix);
            let text = if prefix == bits { network.to_string() } else { format!("{network}/{prefix}") };
            return Ok(AllowedHost(text));
        }
        // Names of Windows machines stand in DNS with underscores.
        if is_host_name(&text.replace('_', "x")) {
            return Ok(AllowedHost(text.to_ascii_lowercase()));
        }
        Err(fault("is no host name, IP address or subnet, and not the word all"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether everyone is meant.
    pub fn is_all(&self) -> bool {
        self.0 == Self::ALL
    }
}

/// The first address of a subnet.
fn network(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// RFC 1123: labels of letters, digits and inner hyphens. The last one is not of digits alone, so that a mistyped
/// address is no name.
pub(super) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl TryFrom<String> for AllowedHost {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        AllowedHost::new(&text)
    }
}

impl From<AllowedHost> for String {
    fn from(host: AllowedHost) -> String {
        host.0
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Hosts that may mount a share: each once, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedHosts(Vec<AllowedHost>);

impl AllowedHosts {
    /// More than these are better said as subnets.
    const MOST: usize = 1000;
    /// Must fit into a ZFS property.
    const MAX_BYTES: usize = 8000;

    /// Checks a list that came in as `allowed_hosts`; an error names the item that is wrong.
    pub fn new<T: AsRef<str>>(texts: &[T]) -> Result<Self, Invalid> {
        if texts.len() > Self::MOST {
            return Err(Invalid::new("allowed_hosts", format!("has more than {} items; use subnets", Self::MOST)));
        }
        let mut hosts = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            let host = AllowedHost::new(text.as_ref())
                .map_err(|invalid| Invalid::new(format!("allowed_hosts[{at}]"), invalid.message))?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let hosts = AllowedHosts(hosts);
        if hosts.joined().len() > Self::MAX_BYTES {
            return Err(Invalid::new("allowed_hosts", "is longer than 8000 characters in all; use subnets"));
        }
        Ok(hosts)
    }

    /// The hosts.
    pub fn as_slice(&self) -> &[AllowedHost] {
        &self.0
    }

    /// Separated by commas, as it is kept in the catalog and on disk; no host has one in it.
    pub fn joined(&self) -> String {
        self.0.iter().map(AllowedHost::as_str).collect::<Vec<_>>().join(",")
    }

    /// What [`AllowedHosts::joined`] made.
    pub fn split(text: &str) -> Result<Self, Invalid> {
        let texts: Vec<&str> = text.split(',').filter(|text| !text.is_empty()).collect();
        Self::new(&texts)
    }
}

/// All that a client says about a share. What does not go with its type is at its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareProperties {
    /// How it is reached.
    pub share_type: ShareType,
    /// Nobody can write through it.
    pub read_only: bool,
    /// NFS: who may mount it.
    pub allowed_hosts: AllowedHosts,
    /// NFS: clients find snapshots in `.zfs/snapshot`.
    pub snapshots_visible: bool,
}

/// How a share presents itself to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its number.
    pub id: ShareId,
    /// NFS path or SMB name.
    pub name: String,
    /// What is shared.
    pub volume: VolumeId,
    /// How.
    pub properties: ShareProperties,
    /// Made at.
    pub created: Epoch,
    /// Last changed by a client at.
    pub updated: Epoch,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::PoolId;

    #[test]
    fn hosts_have_one_form() {
        let cases = [
            ("all", "all"),
            ("192.168.1.128", "192.168.1.128"),
            ("192.168.1.0/24", "192.168.1.0/24"),
            ("192.168.1.77/24", "192.168.1.0/24"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("Host.Domain.com", "host.domain.com"),
            ("host-1", "host-1"),
            ("3com", "3com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("BACKUP_01.example.com", "backup_01.example.com"),
            ("_x_", "_x_"),
        ];
        for (text, expected) in cases {
            assert_eq!(AllowedHost::new(text).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = format!("{}.com", "a".repeat(64));
        for bad in [
            "",
            " ",
            "*",
            "*.example.com",
            "@group",
            "a b",
            " a",
            "a ",
            "a,b",
            "a\"b",
            "a'b",
            "a(rw)",
            "a\nb",
            "a\\b",
            "(rw)",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "1_2.3/8",
            "a_b*",
            "_-a_-",
            "a:b",
            "a?",
            "[a-z]",
            "#a",
            "gss/krb5",
            "10.0.0.256",
            "10.0.0",
            "1234",
            "0.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/255.0.0.0",
            "::/129",
            "10.0.0.0/8/8",
            "fe80::1%eth0",
            "host/24",
            "/24",
            "[::1]",
            "ALL,",
            "größe",
            &long,
            "010.0.0.1",
        ] {
            assert_eq!(AllowedHost::new(bad).unwrap_err().field, "allowed_hosts", "{bad:?}");
        }
        let error = AllowedHosts::new(&["all", "b b"]).unwrap_err();
        assert_eq!(error.field, "allowed_hosts[1]");
        assert_eq!(AllowedHosts::new(&["A", "a", "b"]).unwrap().joined(), "a,b");
        assert_eq!(AllowedHosts::new(&vec!["a"; 1001]).unwrap_err().field, "allowed_hosts");
    }

    #[test]
    fn names_are_made_of_ids() {
        let dataset = DatasetName::filesystem(PoolId(1), VolumeId(7));
        assert_eq!(ShareType::Nfs.name(&dataset), "/vsnap/vpool1/fs7");
        assert_eq!(ShareType::Smb.name(&dataset), "vpool1_fs7");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_plain_and_stays(text in "\\PC{0,40}|[0-9a-f:./*@() ,a-z-]{0,24}") {
            if let Ok(host) = AllowedHost::new(&text) {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:/".contains(c);
                prop_assert!(host.as_str().chars().all(plain), "{}", host);
                prop_assert_eq!(AllowedHost::new(host.as_str()).unwrap(), host);
            }
        }
    }
}
