//! `/etc/vsnap/vsnap.toml`. Every key has a default, so the file may be missing; an unknown key is an error, so that
//! a typo is found.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Where the file is looked for when `--config` doesn't say otherwise.
pub const DEFAULT_PATH: &str = "/etc/vsnap/vsnap.toml";

/// The whole configuration. `packaging/deb/vsnap.toml` shows every key with its default and meaning.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses that the HTTPS API listens on.
    pub listen: Vec<SocketAddr>,
    /// Unix socket of the API for root on the appliance itself.
    pub socket: PathBuf,
    /// Folder of the catalog and the self-signed certificate.
    pub state_dir: PathBuf,
    /// TLS certificate and key of the administrator's own.
    pub tls: Tls,
    /// Limits of the HTTP server.
    pub limits: Limits,
    /// Pools and disks.
    pub storage: Storage,
    /// iSCSI.
    pub iscsi: Iscsi,
    /// Replication.
    pub replication: Replication,
    /// What is logged: an `EnvFilter` directive such as `info` or `vsnap=debug`. Of rustls errors alone, unless it says
    /// more of it.
    pub log: String,
}

/// `[tls]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate chain; without it a self-signed one is made at first start.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body in bytes.
    pub body_bytes: usize,
    /// Seconds for the request header to arrive, and for the TLS handshake.
    pub header_seconds: u64,
    /// Seconds after which a request is answered with an error, while its operation goes on.
    pub request_seconds: u64,
    /// Seconds that a correct password is remembered (as a keyed hash) without asking PAM again.
    pub credential_cache_seconds: u64,
    /// Seconds that requests and operations get to end when the daemon is stopped.
    pub shutdown_seconds: u64,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Whether loop devices count as disks. For trying the appliance without spare disks only.
    pub allow_loop_devices: bool,
    /// Largest share of memory, in percent, that the dedup table of a pool may need.
    pub dedup_memory_percent: u8,
    /// When every pool is scrubbed, as a cron expression in local time; empty means never.
    pub scrub_schedule: String,
    /// Seconds to wait at start for the disks of known pools to appear.
    pub import_wait_seconds: u64,
    /// Seconds from one round of upkeep to the next; at least one.
    pub upkeep_seconds: u64,
}

/// `[iscsi]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iscsi {
    /// Naming authority of the target: what stands before the `:` of its IQN.
    pub naming_authority: String,
}

/// `[replication]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replication {
    /// Seconds that a session tries to get on, when the partner can't be reached, before it is given up.
    pub retry_seconds: u64,
    /// Seconds that a stream may stand still before the link is closed and opened anew.
    pub stall_seconds: u64,
    /// Seconds that a link stays open after a session, so that the next one does not wait until SSH has logged in. 0: none.
    pub link_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8900))],
            socket: "/run/vsnap/api.sock".into(),
            state_dir: "/var/lib/vsnap".into(),
            tls: Tls::default(),
            limits: Limits::default(),
            storage: Storage::default(),
            iscsi: Iscsi::default(),
            replication: Replication::default(),
            log: "info".to_owned(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes: 1024 * 1024,
            header_seconds: 15,
            request_seconds: 600,
            credential_cache_seconds: 300,
            shutdown_seconds: 90,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            allow_loop_devices: false,
            dedup_memory_percent: 25,
            scrub_schedule: "0 2 1 * *".to_owned(),
            import_wait_seconds: 60,
            upkeep_seconds: 60,
        }
    }
}

impl Default for Iscsi {
    fn default() -> Self {
        Iscsi { naming_authority: "iqn.2017-08.com.catalogic.vsnap".to_owned() }
    }
}

impl Default for Replication {
    fn default() -> Self {
        Replication { retry_seconds: 900, stall_seconds: 300, link_seconds: 300 }
    }
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there but can't be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no TOML, or has an unknown key or a wrong value.
    #[error("{path}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
}

impl Config {
    /// Reads `path`; a missing file means all defaults when it is [`DEFAULT_PATH`], and is an error otherwise.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => {
                return Ok(Config::default());
            }
            Err(error) => return Err(Error::Read { path: path.into(), error }),
        };
        Self::parse(&text).map_err(|message| Error::Content { path: path.into(), message })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// What types can't say.
    fn check(&self) -> Result<(), String> {
        if self.listen.is_empty() {
            return Err("listen is empty: give at least one address".to_owned());
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err("tls.certificate and tls.key belong together: give both or neither".to_owned());
        }
        if !(1..=90).contains(&self.storage.dedup_memory_percent) {
            return Err("storage.dedup_memory_percent must be from 1 to 90".to_owned());
        }
        if !self.storage.scrub_schedule.is_empty() {
            self.storage
                .scrub_schedule
                .parse::<croner::Cron>()
                .map_err(|error| format!("storage.scrub_schedule is no cron expression: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_states_the_defaults() {
        let shipped = include_str!("../packaging/deb/vsnap.toml");
        assert_eq!(Config::parse(shipped).unwrap(), Config::default());
    }

    #[test]
    fn typos_and_half_answers_are_refused() {
        for bad in ["lisen = []", "listen = []", "[tls]\nkey = '/x'", "[storage]\nscrub_schedule = 'often'"] {
            assert!(Config::parse(bad).is_err(), "{bad}");
        }
    }
}
