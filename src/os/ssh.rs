//! [`OpenSsh`] is the real [`Peers`]: OpenSSH between partners, and their HTTPS API for the introduction.
//!
//! ```text
//! vsnapd ─► ssh ══════════════► sshd ─► vsnap-link ─► /run/vsnap-link.sock ─► vsnapd
//!           │ its key            │ account vsnap-link, no shell    (hands over its stdin and stdout)
//!           │ pinned host keys   │ authorized_keys: restrict,command="... <partner id>"
//! ```
//!
//! Files of ours: `ssh/id_ed25519` and `ssh/known_hosts` in the state folder, open to root only, and
//! `/var/lib/vsnap-link/authorized_keys`, which sshd reads as user `vsnap-link`. A partner is known under its id and not
//! under an address, so it may move.

use std::{
    net::{IpAddr, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Error, Kind, Result,
    certificate::Check,
    command::Tool,
    exports::Applied,
    file,
    peers::{Contact, Link, PartnerAccess, Peers},
};
use crate::types::partner::{Address, Introduction, PartnerRequest, PublicKey};

/// Account that partners log in as.
pub const ACCOUNT: &str = "vsnap-link";
/// Program that is all that this account can run.
pub const PROGRAM: &str = "/usr/lib/vsnap/vsnap-link";
/// Keys of those who may log in as it.
const AUTHORIZED: &str = "/var/lib/vsnap-link/authorized_keys";
/// Where the keys of the SSH server are.
const HOST_KEYS: &str = "/etc/ssh";
/// Seconds that a connection may take, and that a dead one is waited for: three times the interval.
const CONNECT_SECONDS: u32 = 10;
const ALIVE_SECONDS: u32 = 10;
/// What the partner's API gets.
const INTRODUCTION_TIME: Duration = Duration::from_secs(60);

/// OpenSSH.
pub struct OpenSsh {
    ssh: Tool,
    keygen: Tool,
    folder: PathBuf,
    making_key: Mutex<()>,
}

impl OpenSsh {
    /// Looks for its tools. Keys are kept below `state_dir`.
    pub fn new(state_dir: &Path) -> Result<Self> {
        Ok(OpenSsh {
            ssh: Tool::find("ssh", "openssh-client")?,
            keygen: Tool::find("ssh-keygen", "openssh-client")?,
            folder: state_dir.join("ssh"),
            making_key: Mutex::default(),
        })
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("id_ed25519")
    }

    fn known_hosts(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }
}

impl Peers for OpenSsh {
    fn public_key(&self) -> Result<PublicKey> {
        let _turn = self.making_key.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.key_file();
        let public = key.with_extension("pub");
        if file::read(&public)?.is_none() {
            // A key without its public half is what a crash left: nobody knows it yet.
            file::remove(&key)?;
            file::make_private_folder(&self.folder)?;
            let path = key.display().to_string();
            self.keygen.command(["-q", "-t", "ed25519", "-N", "", "-C", "vsnap", "-f", &path]).output(classify)?;
        }
        let text = file::read(&public)?.unwrap_or_default();
        PublicKey::new(text.trim()).map_err(|invalid| Error::new(Kind::Other, "reading the key", invalid.message))
    }

    fn host_keys(&self) -> Result<Vec<PublicKey>> {
        let mut keys = Vec::new();
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let text = file::read(&Path::new(HOST_KEYS).join(format!("ssh_host_{kind}_key.pub")))?;
            keys.extend(text.and_then(|text| PublicKey::new(text.trim()).ok()));
        }
        if keys.is_empty() {
            let detail = format!("there is none in {HOST_KEYS}; is the SSH server installed (package openssh-server)?");
            return Err(Error::new(Kind::Missing, "reading the keys of the SSH server", detail));
        }
        Ok(keys)
    }

    fn local_address(&self, remote: &Address, port: u16) -> Result<IpAddr> {
        let find = || -> std::io::Result<IpAddr> {
            let remote = (remote.as_str(), port).to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
            let any: IpAddr = if remote.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
            // Nothing is sent: the kernel only chooses a route.
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(remote)?;
            Ok(socket.local_addr()?.ip())
        };
        find().map_err(|error| Error::io(format!("looking for the way to {remote}"), &error))
    }

    fn introduce(&self, request: &PartnerRequest, introduction: &Introduction) -> Result<Introduction> {
        let place = request.remote_address.with_port(request.remote_api_port);
        let fault = |kind, detail: String| Error::new(kind, format!("introducing this appliance to {place}"), detail);
        let check = Check::new(request.fingerprint.clone());
        let tls = check.client_config().map_err(|error| fault(Kind::Other, error.to_string()))?;
        let client = reqwest::blocking::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS.into()))
            .timeout(INTRODUCTION_TIME)
            .build()
            .map_err(|error| fault(Kind::Other, innermost(&error)))?;
        let unreachable =
            |error: reqwest::Error| fault(Kind::Other, check.fault().unwrap_or_else(|| innermost(&error)));
        let post = client.post(format!("https://{place}/api/partner/pairing"));
        let answer = post
            .basic_auth(&request.user, Some(request.password.expose()))
            .json(introduction)
            .send()
            .map_err(unreachable)?;
        if let (None, Some(fingerprint)) = (&request.fingerprint, check.shown()) {
            tracing::warn!(%place, %fingerprint, "the certificate was not checked, since no fingerprint was given");
        }
        let status = answer.status();
        let text = answer.text().map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_str(&text)
                .map_err(|error| fault(Kind::Other, format!("what answers there is no vSnap appliance: {error}")));
        }
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let said = value["error"]["message"].as_str().unwrap_or("no vSnap appliance").to_owned();
        Err(fault(classify_status(status), format!("{status}: {said}")))
    }

    fn apply_partners(&self, wanted: &[PartnerAccess]) -> Result<Applied> {
        let mut changes = Vec::new();
        let known = render_known_hosts(wanted);
        if file::read(&self.known_hosts())?.unwrap_or_default() != known {
            file::write(&self.known_hosts(), known.as_bytes(), 0o600)?;
            changes.push("host keys of partners".to_owned());
        }
        let authorized = render_authorized_keys(wanted);
        let path = Path::new(AUTHORIZED);
        if file::read(path)?.unwrap_or_default() != authorized {
            file::write(path, authorized.as_bytes(), 0o644)?;
            changes.push("partners that may open the link".to_owned());
        }
        Ok(Applied { changes })
    }

    fn connect(&self, contact: &Contact) -> Result<Link> {
        let option = |text: String| ["-o".to_owned(), text];
        let options = [
            format!("HostKeyAlias={}", contact.partner),
            format!("UserKnownHostsFile={}", self.known_hosts().display()),
            format!("IdentityFile={}", self.key_file().display()),
            format!("ConnectTimeout={CONNECT_SECONDS}"),
            format!("ServerAliveInterval={ALIVE_SECONDS}"),
            format!("Port={}", contact.port),
            format!("User={ACCOUNT}"),
        ];
        let fixed = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "PreferredAuthentications=publickey",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "VerifyHostKeyDNS=no",
            "CheckHostIP=no",
            "ClearAllForwardings=yes",
            "ControlPath=none",
            "Compression=no",
            "LogLevel=INFO",
            // With hardware for AES the fastest by far.
            "Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com",
        ];
        let command = self
            .ssh
            .command(["-F", "none", "-T"])
            .args(options.into_iter().chain(fixed.map(str::to_owned)).flat_map(option))
            .args(["--", contact.address.as_str(), ACCOUNT]);
        let running = command.start(Stdio::piped(), Stdio::piped(), classify)?;
        let (Some(output), Some(input)) = running.pipes() else {
            return Err(Error::new(Kind::Other, "ssh", "it has no pipes"));
        };
        Ok(Link { input, output, process: Arc::new(running) })
    }
}

fn render_known_hosts(wanted: &[PartnerAccess]) -> String {
    let line = |id: &str, key: &PublicKey| format!("{id} {}\n", key.as_str());
    wanted.iter().flat_map(|access| access.host_keys.iter().map(move |key| line(access.id.as_str(), key))).collect()
}

fn render_authorized_keys(wanted: &[PartnerAccess]) -> String {
    let line = |access: &PartnerAccess| {
        let key = access.public_key.as_ref()?;
        Some(format!("restrict,command=\"{PROGRAM} {}\" {}\n", access.id, key.as_str()))
    };
    wanted.iter().filter_map(line).collect()
}

/// What `ssh` and `ssh-keygen` say.
fn classify(stderr: &str) -> Kind {
    let refused = ["Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "Permission denied"];
    if refused.iter().any(|text| stderr.contains(text)) { Kind::Denied } else { Kind::Other }
}

/// What the status of an introduction that failed means: only these two are about the user.
fn classify_status(status: reqwest::StatusCode) -> Kind {
    match status.as_u16() {
        401 | 403 => Kind::Denied,
        _ => Kind::Other,
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SystemId;

    #[test]
    fn only_what_is_about_the_user_is_denied() {
        for (status, kind) in [
            (401, Kind::Denied),
            (403, Kind::Denied),
            (400, Kind::Other),
            (404, Kind::Other),
            (409, Kind::Other),
            (429, Kind::Other),
            (500, Kind::Other),
        ] {
            assert_eq!(classify_status(reqwest::StatusCode::from_u16(status).unwrap()), kind, "{status}");
        }
    }

    #[test]
    fn files_are_rendered() {
        let id: SystemId = "5058a20323b943ed925fd92f88f1b926".parse().unwrap();
        let key = |text: &str| PublicKey::new(text).unwrap();
        let access = PartnerAccess {
            id,
            public_key: Some(key("ssh-ed25519 AAAA")),
            host_keys: vec![key("ssh-ed25519 BBBB"), key("ssh-rsa CCCC")],
        };
        assert_eq!(
            render_authorized_keys(std::slice::from_ref(&access)),
            "restrict,command=\"/usr/lib/vsnap/vsnap-link 5058a20323b943ed925fd92f88f1b926\" ssh-ed25519 AAAA\n"
        );
        assert_eq!(
            render_known_hosts(&[access]),
            "5058a20323b943ed925fd92f88f1b926 ssh-ed25519 BBBB\n5058a20323b943ed925fd92f88f1b926 ssh-rsa CCCC\n"
        );
    }
}
