//! What is read of a certificate that rustls does not say.

use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use x509_cert::certificate::Version;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

/// A certificate whose structure is known to be good.
pub(super) struct Certificate(x509_cert::Certificate);

impl Certificate {
    pub(super) fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        x509_cert::Certificate::from_der(der).ok().map(Self)
    }

    /// When it begins and ends to be valid.
    pub(super) fn validity(&self) -> (SystemTime, SystemTime) {
        let validity = self.0.tbs_certificate().validity();
        (validity.not_before.to_system_time(), validity.not_after.to_system_time())
    }

    /// True if it may sign others: it is an authority's, or so old that it cannot say whose it is. As
    /// OpenSSL has it.
    pub(super) fn may_sign(&self) -> bool {
        let certificate = self.0.tbs_certificate();
        let usage = certificate.get_extension::<KeyUsage>();
        let Ok(usage) = usage.map(|found| found.map(|(_, usage)| usage.key_cert_sign())) else {
            return false;
        };
        match certificate.get_extension::<BasicConstraints>() {
            Ok(Some((_, basic))) => basic.ca && usage != Some(false),
            Ok(None) => usage.unwrap_or_else(|| certificate.version() == Version::V1),
            Err(_) => false,
        }
    }

    /// Its subject's name, as it stands in it.
    pub(super) fn subject(&self) -> Option<Vec<u8>> {
        self.0.tbs_certificate().subject().to_der().ok()
    }

    /// Its public key as a `SubjectPublicKeyInfo`.
    pub(super) fn public_key(&self) -> Option<Vec<u8>> {
        self.0.tbs_certificate().subject_public_key_info().to_der().ok()
    }

    pub(super) fn common_name(&self) -> Option<String> {
        let name = self.0.tbs_certificate().subject().common_name().ok()??;
        Some(name.value().into_owned())
    }

    /// True if it has alternative names of the kind that `name` is: a name or an address.
    pub(super) fn has_names_like(&self, name: &ServerName<'_>) -> bool {
        let Ok(Some((_, names))) = self.0.tbs_certificate().get_extension::<SubjectAltName>()
        else {
            return false;
        };
        let is_address = matches!(name, ServerName::IpAddress(_));
        names.0.iter().any(|alternative| {
            if is_address {
                matches!(alternative, GeneralName::IpAddress(_))
            } else {
                matches!(alternative, GeneralName::DnsName(_))
            }
        })
    }
}

/// The certificates in a PEM text; `None` if it is broken or has none.
pub(super) fn read_all(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.ok().filter(|certificates| !certificates.is_empty())
}
