//! What requests about partners and the preferences of replication hold (contract section 12.1).

use serde::Deserialize;
use utoipa::ToSchema;

use super::wire::{Decimal, DecimalOrNone, Secret};
use crate::{
    error::Error,
    types::{
        Invalid,
        partner::{
            API_PORT, Address, Fingerprint, Introduction, PartnerRequest, PartnerUpdate, PreferencesUpdate, PublicKey,
            SSH_PORT, check_rate,
        },
        user::Password,
    },
};

/// Another appliance, and how to log in there once.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewPartner {
    /// Its management address: a host name or an IP address.
    remote_addr: String,
    /// A user of that appliance.
    remote_user: String,
    /// That user's password there: for one exchange of addresses and keys, then forgotten. No answer ever has it.
    #[schema(value_type = String, format = Password)]
    remote_pass: Secret,
    /// SHA-256 of the certificate that the other one must show, 64 hexadecimal digits, as `openssl x509 -fingerprint
    /// -sha256` prints them there. Another certificate is 502, and is told nothing. When this is left out the certificate
    /// is not checked, since appliances make their own.
    remote_fingerprint: Option<String>,
    /// Where the other one reaches this appliance. When it is left out: the address that this appliance has on the way
    /// to the other one.
    local_addr: Option<String>,
    /// Port of this appliance's API; the one that it listens on when it is left out.
    local_api_port: Option<Decimal>,
    /// Port of the other one's API; 8900 when it is left out.
    remote_api_port: Option<Decimal>,
    /// Port of this appliance's SSH server; 22 when it is left out.
    local_ssh_port: Option<Decimal>,
    /// Port of the other one's SSH server; 22 when it is left out.
    remote_ssh_port: Option<Decimal>,
}

/// New properties of a partner. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PartnerProperties {
    /// Its management address: a host name or an IP address.
    address: Option<String>,
    /// Port of its API.
    api_port: Option<Decimal>,
    /// Port of its SSH server.
    ssh_port: Option<Decimal>,
    /// Most bytes a second that are sent to it, over all sessions: 65536 or more; `0` or `none` for as many as fit.
    rate_limit: Option<DecimalOrNone>,
}

/// New preferences. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewPreferences {
    /// Most bytes a second that are sent in all: 65536 or more; `0` or `none` for as many as fit.
    rate_limit: Option<DecimalOrNone>,
    /// Most sessions that are at work at a time, 1 to 64; more wait.
    parallel_sessions: Option<Decimal>,
    /// How many sessions that are over are kept, 1 to 1000000.
    session_history: Option<Decimal>,
}

/// What the other appliance tells of itself.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct IntroductionOfOther {
    /// Who it is: the id of its system.
    id: String,
    /// Its management address.
    address: String,
    /// Port of its API.
    api_port: Decimal,
    /// Port of its SSH server.
    ssh_port: Decimal,
    /// The key that it logs in with, as `type base64`.
    public_key: String,
    /// The keys by which its SSH server is known, in the same form.
    host_keys: Vec<String>,
    /// Addresses of its interfaces with service `repl`.
    #[serde(default)]
    addresses: Vec<String>,
}

/// Most addresses of one appliance.
const MAX_ADDRESSES: usize = 256;

/// Most host keys of one appliance; OpenSSH makes three.
const MAX_HOST_KEYS: usize = 16;

fn port(member: &str, number: Decimal) -> Result<u16, Invalid> {
    let port = number.within(member, 1..=i64::from(u16::MAX))?;
    u16::try_from(port).map_err(|_| Invalid::new(member, "is no port"))
}

fn port_or(member: &str, number: Option<Decimal>, default: u16) -> Result<u16, Invalid> {
    number.map_or(Ok(default), |number| port(member, number))
}

fn rate(given: DecimalOrNone) -> Result<Option<u64>, Invalid> {
    let Some(number) = given.0 else { return Ok(None) };
    let bytes = number.within("rate_limit", 0..=i64::MAX)?.unsigned_abs();
    check_rate(Some(bytes).filter(|bytes| *bytes > 0))
}

/// A name as HTTP basic authentication can carry it (RFC 7617).
fn login_name(member: &str, text: String) -> Result<String, Invalid> {
    if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
        return Err(Invalid::new(member, "is no user name: it is empty, or has a colon or a control character"));
    }
    Ok(text)
}

impl TryFrom<NewPartner> for PartnerRequest {
    type Error = Error;

    fn try_from(body: NewPartner) -> Result<Self, Error> {
        let password = body.remote_pass.expose();
        if password.is_empty() || password.chars().any(char::is_control) {
            return Err(Invalid::new("remote_pass", "is no password: it is empty, or has a control character").into());
        }
        let local_address = body.local_addr.map(|text| Address::new("local_addr", &text)).transpose()?;
        let fingerprint =
            body.remote_fingerprint.map(|text| Fingerprint::new("remote_fingerprint", &text)).transpose()?;
        let local_api_port = body.local_api_port.map(|number| port("local_api_port", number)).transpose()?;
        Ok(PartnerRequest {
            remote_address: Address::new("remote_addr", &body.remote_addr)?,
            remote_api_port: port_or("remote_api_port", body.remote_api_port, API_PORT)?,
            remote_ssh_port: port_or("remote_ssh_port", body.remote_ssh_port, SSH_PORT)?,
            user: login_name("remote_user", body.remote_user)?,
            password: Password::given(password),
            fingerprint,
            local_address,
            local_api_port,
            local_ssh_port: port_or("local_ssh_port", body.local_ssh_port, SSH_PORT)?,
        })
    }
}

impl TryFrom<PartnerProperties> for PartnerUpdate {
    type Error = Error;

    fn try_from(body: PartnerProperties) -> Result<Self, Error> {
        Ok(PartnerUpdate {
            address: body.address.map(|text| Address::new("address", &text)).transpose()?,
            api_port: body.api_port.map(|number| port("api_port", number)).transpose()?,
            ssh_port: body.ssh_port.map(|number| port("ssh_port", number)).transpose()?,
            rate_limit: body.rate_limit.map(rate).transpose()?,
        })
    }
}

impl TryFrom<NewPreferences> for PreferencesUpdate {
    type Error = Error;

    fn try_from(body: NewPreferences) -> Result<Self, Error> {
        let count = |member: &str, number: Option<Decimal>, most: i64| {
            number.map(|number| number.within(member, 1..=most).map(i64::unsigned_abs)).transpose()
        };
        Ok(PreferencesUpdate {
            rate_limit: body.rate_limit.map(rate).transpose()?,
            parallel_sessions: count("parallel_sessions", body.parallel_sessions, 64)?,
            session_history: count("session_history", body.session_history, 1_000_000)?,
        })
    }
}

impl TryFrom<IntroductionOfOther> for Introduction {
    type Error = Error;

    fn try_from(body: IntroductionOfOther) -> Result<Self, Error> {
        if !(1..=MAX_HOST_KEYS).contains(&body.host_keys.len()) {
            return Err(Invalid::new("host_keys", format!("give 1 to {MAX_HOST_KEYS} keys")).into());
        }
        let host_key = |(at, key): (usize, &String)| {
            PublicKey::new(key).map_err(|invalid| Invalid::new(format!("host_keys[{at}]"), invalid.message))
        };
        if body.addresses.len() > MAX_ADDRESSES {
            return Err(Invalid::new("addresses", format!("are more than {MAX_ADDRESSES}")).into());
        }
        let address = |(at, text): (usize, &String)| {
            let fault = |_| Invalid::new(format!("addresses[{at}]"), format!("{text:?} is no IP address"));
            text.parse().map_err(fault)
        };
        Ok(Introduction {
            id: body.id.parse()?,
            address: Address::new("address", &body.address)?,
            api_port: port("api_port", body.api_port)?,
            ssh_port: port("ssh_port", body.ssh_port)?,
            public_key: PublicKey::new(&body.public_key)?,
            host_keys: body.host_keys.iter().enumerate().map(host_key).collect::<Result<_, _>>()?,
            addresses: body.addresses.iter().enumerate().map(address).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn body() -> serde_json::Value {
        json!({ "remote_addr": "172.20.46.6", "remote_user": "vsuser", "remote_pass": "catal0gic" })
    }

    #[test]
    fn what_is_left_out_is_at_its_default() {
        let request = PartnerRequest::try_from(from_value::<NewPartner>(body()).unwrap()).unwrap();
        let ports = (request.remote_api_port, request.remote_ssh_port, request.local_api_port, request.local_ssh_port);
        assert_eq!(ports, (8900, 22, None, 22));
        assert_eq!((request.local_address, request.password.expose()), (None, "catal0gic"));
        let mut full = body();
        (full["local_addr"], full["local_api_port"]) = (json!("FE80::1"), json!("1"));
        (full["remote_api_port"], full["remote_ssh_port"]) = (json!(65535), json!("2222"));
        let request = PartnerRequest::try_from(from_value::<NewPartner>(full).unwrap()).unwrap();
        assert_eq!((request.local_api_port, request.remote_api_port, request.remote_ssh_port), (Some(1), 65535, 2222));
        assert_eq!(request.local_address.unwrap().as_str(), "fe80::1");
    }

    #[test]
    fn a_fingerprint_may_have_colons() {
        let read = |text: &str| {
            let mut given = body();
            given["remote_fingerprint"] = json!(text);
            PartnerRequest::try_from(from_value::<NewPartner>(given).unwrap()).map(|request| request.fingerprint)
        };
        let bare = "ab".repeat(32);
        let colons = ["AB"; 32].join(":");
        assert_eq!(read(&bare).unwrap().unwrap().to_string(), colons);
        assert_eq!(read(&colons).unwrap(), read(&bare).unwrap());
        for bad in ["", "ab", &bare[1..], &format!("{bare}0"), &bare.replace('a', "g"), &"ä".repeat(64)] {
            assert!(read(bad).unwrap_err().to_string().starts_with("remote_fingerprint: "), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let given = from_value::<NewPartner>(body()).unwrap();
        assert!(!format!("{given:?}").contains("catal0gic"));
        assert!(!format!("{:?}", PartnerRequest::try_from(given).unwrap()).contains("catal0gic"));
        let odd = from_value::<NewPartner>(json!({ "remote_pass": ["catal0gic"] })).unwrap_err();
        assert!(!odd.to_string().contains("catal0gic"), "{odd}");
        let mut broken = body();
        broken["remote_pass"] = json!("catal0gic\n");
        let fault = PartnerRequest::try_from(from_value::<NewPartner>(broken).unwrap()).unwrap_err().to_string();
        assert!(fault.starts_with("remote_pass: ") && !fault.contains("catal0gic"), "{fault}");
    }

    #[test]
    fn a_limit_can_be_taken_away() {
        let limit =
            |value| PartnerUpdate::try_from(from_value::<PartnerProperties>(value).unwrap()).unwrap().rate_limit;
        assert_eq!(limit(json!({})), None);
        for none in [json!(0), json!("0"), json!("none")] {
            assert_eq!(limit(json!({ "rate_limit": none })), Some(None));
        }
        assert_eq!(limit(json!({ "rate_limit": "65536" })), Some(Some(65536)));
    }
}
