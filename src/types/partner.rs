//! Partners: other appliances that volumes are replicated to and from (contract section 12).

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Epoch, Invalid, SystemId, share::is_host_name, user::Password};

/// Port of the API when nothing else is said.
pub const API_PORT: u16 = 8900;
/// Port of SSH when nothing else is said.
pub const SSH_PORT: u16 = 22;

/// Where an appliance is reached: an IP address or a host name. Never begins with a hyphen, so that no tool takes it for
/// an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

impl Address {
    /// Checks what came in as member `field`.
    pub fn new(field: &str, text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::from(address));
        }
        if is_host_name(text) {
            return Ok(Address(text.to_ascii_lowercase()));
        }
        Err(Invalid::new(field, format!("{text:?} is neither a host name nor an IP address")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With a port, as it stands in a URL.
    pub fn with_port(&self, port: u16) -> String {
        if self.0.contains(':') { format!("[{}]:{port}", self.0) } else { format!("{}:{port}", self.0) }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Address(address.to_canonical().to_string())
    }
}

impl TryFrom<String> for Address {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Address::new("address", &text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A public key of OpenSSH: type and base64, without options and without a comment, so that nothing else can get into
/// `authorized_keys` or `known_hosts` with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(String);

impl PublicKey {
    /// Types that are taken (`PubkeyAcceptedAlgorithms` of `sshd_config(5)`).
    const TYPES: [&'static str; 5] =
        ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
    /// An RSA key of 16384 bits has less.
    const MAX_BYTES: usize = 4096;

    /// Reads `type base64 [comment]`.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let fault = |why: &str| Invalid::new("public_key", format!("{why} is no public key of OpenSSH"));
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(key)) = (words.next(), words.next()) else { return Err(fault("one word")) };
        let sound = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        if !Self::TYPES.contains(&kind) || !sound || text.len() > Self::MAX_BYTES || text.contains('\n') {
            return Err(fault("this"));
        }
        Ok(PublicKey(format!("{kind} {key}")))
    }

    /// Type and base64.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        PublicKey::new(&text)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.0
    }
}

/// SHA-256 of a certificate, as browsers and `openssl x509 -fingerprint -sha256` show it: `AB:01:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Digits of one, without colons.
    const DIGITS: usize = 64;

    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let digest = Sha256::digest(certificate);
        Fingerprint(digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
    }

    /// Reads what came in as member `field`, with or without colons, in either case.
    pub fn new(field: &str, text: &str) -> Result<Self, Invalid> {
        let digits: Vec<char> = text.chars().filter(|letter| *letter != ':').collect();
        if digits.len() != Self::DIGITS || !digits.iter().all(char::is_ascii_hexdigit) {
            let advice = "is no SHA-256 of a certificate: 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` \
                          prints them";
            return Err(Invalid::new(field, advice));
        }
        let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>().to_ascii_uppercase());
        Ok(Fingerprint(pairs.collect::<Vec<_>>().join(":")))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What two appliances tell each other when they become partners: who they are, where they are reached, and which keys
/// prove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Who.
    pub id: SystemId,
    /// Management address.
    pub address: Address,
    /// Port of the API.
    pub api_port: u16,
    /// Port of SSH.
    pub ssh_port: u16,
    /// The key that it logs in with.
    pub public_key: PublicKey,
    /// The keys by which its SSH server is known.
    pub host_keys: Vec<PublicKey>,
    /// Addresses of its interfaces with service `repl`, without link-local ones.
    pub addresses: Vec<IpAddr>,
}

/// A request to become partners.
#[derive(Debug)]
pub struct PartnerRequest {
    /// Where the partner's API is.
    pub remote_address: Address,
    /// Port of the partner's API.
    pub remote_api_port: u16,
    /// Port of the partner's SSH server.
    pub remote_ssh_port: u16,
    /// A user of the partner.
    pub user: String,
    /// That user's password there: for one exchange, never kept.
    pub password: Password,
    /// The certificate that the partner's API must show before it is told anything; any when it is not given.
    pub fingerprint: Option<Fingerprint>,
    /// Where this appliance is reached; found out when it is not given.
    pub local_address: Option<Address>,
    /// Port of this appliance's API.
    pub local_api_port: Option<u16>,
    /// Port of this appliance's SSH server.
    pub local_ssh_port: u16,
}

/// A change of a partner; `None` leaves as is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartnerUpdate {
    /// Another management address.
    pub address: Option<Address>,
    /// Another port of its API.
    pub api_port: Option<u16>,
    /// Another port of its SSH server.
    pub ssh_port: Option<u16>,
    /// Most bytes a second that are sent to it, over all sessions; `Some(None)`: as many as fit.
    pub rate_limit: Option<Option<u64>>,
}

/// A partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// Identity of the other appliance.
    pub id: SystemId,
    /// Its management address.
    pub address: Address,
    /// Port of its API.
    pub api_port: u16,
    /// Port of its SSH server.
    pub ssh_port: u16,
    /// Most bytes a second that are sent to it; `None`: as many as fit.
    pub rate_limit: Option<u64>,
    /// Made at.
    pub created: Epoch,
    /// Last changed at.
    pub updated: Epoch,
}

/// System-wide preferences of replication; see [`PartnerUpdate::rate_limit`] for those of a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationPreferences {
    /// Most bytes a second that are sent in all.
    pub rate_limit: Option<u64>,
    /// Most sessions at a time.
    pub parallel_sessions: u64,
    /// Most ended sessions that are kept.
    pub session_history: u64,
}

impl Default for ReplicationPreferences {
    fn default() -> Self {
        ReplicationPreferences { rate_limit: None, parallel_sessions: 5, session_history: 10_000 }
    }
}

/// A change of preferences; `None` leaves as is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PreferencesUpdate {
    /// Another limit in bytes a second; `Some(None)`: none.
    pub rate_limit: Option<Option<u64>>,
    /// Another number of sessions at a time, 1 to 64.
    pub parallel_sessions: Option<u64>,
    /// Another length of the history, 1 to 1000000.
    pub session_history: Option<u64>,
}

/// A limit that would let nothing through, or is no rate, is refused: 64 KiB a second is the slowest.
pub fn check_rate(bytes: Option<u64>) -> Result<Option<u64>, Invalid> {
    const LEAST: u64 = 64 << 10;
    match bytes {
        Some(bytes) if !(LEAST..=i64::MAX as u64).contains(&bytes) => {
            Err(Invalid::new("rate_limit", format!("{bytes} is not a rate from {LEAST} bytes a second upwards")))
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_options_and_no_urls() {
        for good in ["172.20.46.6", "fe80::1", "backup-2.example.org", "vsnap"] {
            assert!(Address::new("remote_addr", good).is_ok(), "{good}");
        }
        for bad in ["", "-oProxyCommand=x", "a b", "user@host", "http://x", "host:22", "[::1]", "a/b", "x\ny", "1.2.3"]
        {
            assert!(Address::new("remote_addr", bad).is_err(), "{bad:?}");
        }
        assert_eq!(Address::new("x", "2001:db8::1").unwrap().with_port(8900), "[2001:db8::1]:8900");
        assert_eq!(Address::new("x", "::ffff:10.0.0.1").unwrap().as_str(), "10.0.0.1");
    }

    #[test]
    fn nothing_comes_in_with_a_key() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxZ root@x";
        assert_eq!(PublicKey::new(key).unwrap().as_str(), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxZ");
        for bad in [
            "",
            "ssh-ed25519",
            "command=\"sh\" ssh-ed25519 AAAA",
            "ssh-ed25519 AA\"AA",
            "ssh-ed25519 AAAA\nssh-ed25519 BBBB",
            "@cert-authority ssh-ed25519",
            "ssh-dss AAAA",
        ] {
            assert!(PublicKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
