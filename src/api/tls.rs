//! The certificate: the administrator's own, or a self-signed one that is made at first start.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{
    config::Config,
    os::{self, file},
    types::partner::Fingerprint,
};

/// Ten years: clients pin this very certificate, since no authority vouches for it, so each renewal means work at
/// every client. An end date protects nobody here; there is no authority that would revoke it sooner.
const VALID: Duration = Duration::from_secs(3650 * DAY);

/// A certificate that ends within this time is made anew at start, at reload and once a day.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// A name that every self-signed certificate has.
const LOCALHOST: &str = "localhost";

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file can be read but holds something else.
    #[error("{path}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A new certificate can't be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A new certificate can't be stored.
    #[error(transparent)]
    Store(#[from] os::Error),
}

/// What a self-signed certificate is made out to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Short host name.
    pub hostname: String,
    /// Fully qualified name.
    pub fqdn: String,
    /// Addresses of the appliance.
    pub addresses: Vec<IpAddr>,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Whether they are ours, to be made and renewed.
    self_signed: bool,
}

impl Files {
    /// The administrator's files, or ours in `state_dir/tls`.
    pub fn of(config: &Config) -> Self {
        match (&config.tls.certificate, &config.tls.key) {
            (Some(certificate), Some(key)) => {
                Files { certificate: certificate.clone(), key: key.clone(), self_signed: false }
            }
            _ => {
                let folder = config.state_dir.join("tls");
                Files {
                    certificate: folder.join("self-signed.crt"),
                    key: folder.join("self-signed.key"),
                    self_signed: true,
                }
            }
        }
    }

    /// Reads the certificate, after making one where that is needed. Blocks.
    pub fn load(&self, subject: impl FnOnce() -> Subject) -> Result<Arc<ServerConfig>, Error> {
        if self.self_signed {
            self.make_when_needed(subject)?;
        }
        let (chain, key) = self.read()?;
        let fingerprint = Fingerprint::of(&chain[0]);
        tracing::info!(certificate = %self.certificate.display(), %fingerprint, "certificate loaded");
        server_config(chain, key)
            .map_err(|error| Error::Content { path: self.certificate.clone(), message: error.to_string() })
    }

    fn make_when_needed(&self, subject: impl FnOnce() -> Subject) -> Result<(), Error> {
        // Only "not there" is not there; a file that can't be read is an error, not a reason to replace it.
        for path in [&self.certificate, &self.key] {
            match path.try_exists() {
                Ok(true) => {}
                Ok(false) => return self.make(&subject(), "there is none"),
                Err(error) => return Err(Error::Read { path: path.clone(), error }),
            }
        }
        let (chain, _) = self.read()?;
        if outlives(&chain[0], SystemTime::now() + RENEW_BEFORE) {
            return Ok(());
        }
        self.make(&subject(), "the old one ends soon")
    }

    fn make(&self, subject: &Subject, why: &str) -> Result<(), Error> {
        let (certificate, key) = self_signed(subject, SystemTime::now())?;
        // The key first: a certificate without its key would look complete to nobody, and the next start makes both.
        file::write(&self.key, key.as_bytes(), 0o600)?;
        file::write(&self.certificate, certificate.as_bytes(), 0o644)?;
        tracing::info!(certificate = %self.certificate.display(), why, "self-signed certificate made");
        Ok(())
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let bytes = |path: &Path| std::fs::read(path).map_err(|error| Error::Read { path: path.into(), error });
        let wrong = |path: &Path, message: String| Error::Content { path: path.into(), message };
        let chain = CertificateDer::pem_slice_iter(&bytes(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&self.certificate, format!("is no PEM file with certificates: {error}")))?;
        if chain.is_empty() {
            return Err(wrong(&self.certificate, "has no certificate".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(bytes(&self.key)?))
            .map_err(|error| wrong(&self.key, format!("has no private key in PEM form: {error}")))?;
        Ok((chain, key))
    }
}

/// The cryptography of this build.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate for `subject`, valid from the day before `now` (clocks differ), and its key, both PEM.
fn self_signed(subject: &Subject, now: SystemTime) -> Result<(String, zeroize::Zeroizing<String>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, subject.hostname.clone());
    params.distinguished_name.push(DnType::OrganizationName, "vSnap appliance");
    let names = [subject.hostname.as_str(), subject.fqdn.as_str(), LOCALHOST];
    for (at, name) in names.into_iter().enumerate() {
        // A host name that no certificate can carry is left out: clients can't check it anyway.
        if let (false, Ok(name)) = (names[..at].contains(&name) || name.is_empty(), name.try_into()) {
            params.subject_alt_names.push(SanType::DnsName(name));
        }
    }
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    params.subject_alt_names.extend(loopback.iter().chain(&subject.addresses).copied().map(SanType::IpAddress));
    let start = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(Duration::from_secs(DAY));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + start;
    params.not_after = params.not_before + VALID;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem().into()))
}

/// Whether a client that trusts this certificate would accept it at that time.
fn outlives(certificate: &CertificateDer<'static>, time: SystemTime) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    let (Ok(()), Ok(name)) = (roots.add(certificate.clone()), ServerName::try_from(LOCALHOST)) else { return false };
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build() else {
        return false;
    };
    let time = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier.verify_server_cert(certificate, &[], &name, &[], time).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn subject() -> Subject {
        Subject {
            hostname: "vsnap1".into(),
            fqdn: "vsnap1.example.com".into(),
            addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        }
    }

    fn files(folder: &Path) -> Files {
        Files::of(&Config { state_dir: folder.into(), ..Config::default() })
    }

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        files.load(subject).unwrap();
        let first = std::fs::read(&files.certificate).unwrap();
        assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        files.load(|| panic!("it is made once")).unwrap();
        assert_eq!(std::fs::read(&files.certificate).unwrap(), first);
    }

    #[test]
    fn it_names_the_appliance_and_ends_in_ten_years() {
        let now = SystemTime::now();
        let (pem, _) = self_signed(&subject(), now).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert!(outlives(&certificate, now));
        assert!(outlives(&certificate, now + Duration::from_secs(3648 * DAY)));
        assert!(!outlives(&certificate, now + Duration::from_secs(3650 * DAY)));
        let parsed = rustls::server::ParsedCertificate::try_from(&certificate).unwrap();
        for name in ["vsnap1", "vsnap1.example.com", "localhost", "192.0.2.7", "2001:db8::7", "::1", "127.0.0.1"] {
            let name = ServerName::try_from(name).unwrap();
            rustls::client::verify_server_name(&parsed, &name).unwrap();
        }
    }

    #[test]
    fn an_ending_certificate_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let long_ago = SystemTime::now() - VALID + Duration::from_secs(20 * DAY);
        let (certificate, key) = self_signed(&subject(), long_ago).unwrap();
        file::write(&files.key, key.as_bytes(), 0o600).unwrap();
        file::write(&files.certificate, certificate.as_bytes(), 0o644).unwrap();
        files.load(subject).unwrap();
        assert_ne!(std::fs::read_to_string(&files.certificate).unwrap(), certificate);
    }

    #[test]
    fn an_own_certificate_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let own = |name: &str| folder.path().join(name);
        let tls = crate::config::Tls { certificate: Some(own("a.crt")), key: Some(own("a.key")) };
        let files = Files::of(&Config { tls, ..Config::default() });
        assert!(matches!(files.load(|| panic!("not ours")), Err(Error::Read { .. })));
        let (certificate, _) = self_signed(&subject(), SystemTime::now()).unwrap();
        let (_, other_key) = self_signed(&subject(), SystemTime::now()).unwrap();
        file::write(&own("a.crt"), certificate.as_bytes(), 0o644).unwrap();
        file::write(&own("a.key"), b"nothing", 0o600).unwrap();
        assert!(matches!(files.load(|| panic!("not ours")), Err(Error::Content { .. })));
        file::write(&own("a.key"), other_key.as_bytes(), 0o600).unwrap();
        assert!(matches!(files.load(|| panic!("not ours")), Err(Error::Content { .. })));
    }
}
