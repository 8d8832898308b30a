//! Whom to trust: authorities, and what a server's certificate must have to do with them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use thiserror::Error;

use super::certificate::{self, Certificate};

/// Certificates that are believed.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Those whose signatures are believed.
    store: Arc<RootCertStore>,
    /// All as they were given: the other side may show one of them itself.
    given: Arc<[CertificateDer<'static>]>,
}

/// Why there is nobody to believe.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum RootsError {
    #[error("holds no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")")]
    NoCertificate,
    #[error("holds a certificate that cannot be read")]
    BadCertificate,
    #[error("this system has no certificates of authorities")]
    NoneOfSystem,
}

impl Roots {
    /// Reads a PEM text of one certificate or more.
    pub fn from_pem(pem: &str) -> Result<Self, RootsError> {
        let given = certificate::read_all(pem).ok_or(RootsError::NoCertificate)?;
        let mut store = RootCertStore::empty();
        for certificate in &given {
            let read = Certificate::parse(certificate).ok_or(RootsError::BadCertificate)?;
            // Who has the key of another server must not be believed about this one.
            if read.may_sign() {
                store.add(certificate.clone()).map_err(|_error| RootsError::BadCertificate)?;
            }
        }
        Ok(Self { store: Arc::new(store), given: given.into() })
    }

    /// The system's own, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub fn of_system() -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        // A bundle may hold what nobody can use any more: what can be read counts.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(RootsError::NoneOfSystem);
        }
        Ok(Self { store: Arc::new(store), given: Arc::default() })
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.store)
    }

    /// The names of those that were given.
    pub(super) fn subjects(&self) -> impl Iterator<Item = Vec<u8>> {
        self.given.iter().filter_map(|given| Certificate::parse(given)?.subject())
    }

    /// Checks a certificate that was given itself; `None` if it was not. Who shows it proves to have
    /// its key.
    pub(super) fn check_given(
        &self,
        end_entity: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Option<Result<(), TlsError>> {
        let is_given = self.given.iter().any(|given| given == end_entity);
        is_given.then(|| check_dates(end_entity, now))
    }

    /// How many of those that were given are not valid at `now`, and how many there are.
    pub fn outdated(&self, now: SystemTime) -> (usize, usize) {
        let is_outdated = |certificate: &&CertificateDer<'_>| {
            Certificate::parse(certificate).is_some_and(|certificate| {
                let (from, until) = certificate.validity();
                !(from..=until).contains(&now)
            })
        };
        (self.given.iter().filter(is_outdated).count(), self.given.len())
    }

    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), TlsError> {
        // A self-signed certificate is its own authority, and often says that it is one: OpenSSL
        // takes it where it was given, and so do we.
        if let Some(checked) = self.check_given(end_entity, now) {
            return checked;
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.store,
            between,
            now,
            algorithms.all,
        )
    }
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), TlsError> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    let certificate = Certificate::parse(certificate).ok_or(CertificateError::BadEncoding)?;
    let (from, until) = certificate.validity();
    if now < from {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > until {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Checks the name that a server's certificate is for: the alternative names, and the common name
/// where there are none of that kind, as libpq does.
fn check_name(end_entity: &CertificateDer<'_>, wanted: &ServerName<'_>) -> Result<(), TlsError> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    let Err(error) = verify_server_name(&parsed, wanted) else { return Ok(()) };
    let certificate = Certificate::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
    if certificate.has_names_like(wanted) {
        return Err(error);
    }
    match certificate.common_name() {
        Some(name) if covers(&name, &wanted.to_str()) => Ok(()),
        Some(_) | None => Err(error),
    }
}

/// True if `pattern`, whose leftmost label may be `*`, is or covers the name `wanted`.
fn covers(pattern: &str, wanted: &str) -> bool {
    if pattern.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let (Some(pattern), Some((label, rest))) = (pattern.strip_prefix("*."), wanted.split_once('.'))
    else {
        return false;
    };
    let is_address = wanted.parse::<std::net::IpAddr>().is_ok();
    !is_address && !label.is_empty() && pattern.contains('.') && pattern.eq_ignore_ascii_case(rest)
}

/// Looks at servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: every certificate is good.
    roots: Option<Roots>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(roots: Option<Roots>, checks_name: bool, provider: &CryptoProvider) -> Self {
        Self { roots, checks_name, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if let Some(roots) = &self.roots {
            roots.check(end_entity, intermediates, now, &self.algorithms)?;
        }
        if self.checks_name {
            check_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if self.roots.is_none() {
            // Who accepts every certificate learns nothing from the proof that it has its key, and
            // could not read the old ones (X.509 version 1) that libpq takes.
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if self.roots.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_common_name_covers_itself_and_one_label_in_the_place_of_a_star() {
        for (pattern, wanted, expected) in [
            ("db.example.com", "DB.example.com", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("", "db", false),
        ] {
            assert_eq!(covers(pattern, wanted), expected, "{pattern} {wanted}");
        }
    }
}
