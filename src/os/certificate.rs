//! The certificate of another appliance. Appliances make their own, so no authority vouches for one: it is the one whose
//! fingerprint the administrator gave, or it is not checked.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::types::partner::Fingerprint;

/// Looks at the certificate of one server.
#[derive(Debug)]
pub(super) struct Check {
    wanted: Option<Fingerprint>,
    shown: Mutex<Option<Fingerprint>>,
    provider: Arc<CryptoProvider>,
}

impl Check {
    /// Only this one passes, or any.
    pub(super) fn new(wanted: Option<Fingerprint>) -> Arc<Self> {
        Arc::new(Check { wanted, shown: Mutex::default(), provider: Arc::new(ring::default_provider()) })
    }

    /// TLS for a client that checks in this way.
    pub(super) fn client_config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let verifier: Arc<Self> = Arc::clone(self);
        Ok(builder
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth())
    }

    /// The one that was shown last.
    pub(super) fn shown(&self) -> Option<Fingerprint> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the one that was shown does not pass, in words.
    pub(super) fn fault(&self) -> Option<String> {
        let (wanted, shown) = (self.wanted.as_ref()?, self.shown()?);
        (*wanted != shown).then(|| {
            format!("it shows another certificate than was asked for, with fingerprint {shown}, and was told nothing")
        })
    }
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Fingerprint::of(end_entity));
        match self.fault() {
            None => Ok(ServerCertVerified::assertion()),
            Some(_) => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
