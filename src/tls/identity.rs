//! Who we are: a certificate, those between it and its authority, and its private key.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use thiserror::Error;

use super::certificate::{self, Certificate};
use super::provider;

/// A certificate with the private key that belongs to it. `Debug` does not show the key.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// When its certificate begins and ends to be valid.
    pub validity: (SystemTime, SystemTime),
}

/// Why there is no identity in two files.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum IdentityError {
    #[error("holds no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")")]
    NoCertificate,
    #[error("holds a certificate that cannot be read")]
    BadCertificate,
    #[error("holds no private key in PEM (\"-----BEGIN PRIVATE KEY-----\", RSA or EC)")]
    NoKey,
    #[error("is encrypted: there is nobody who could type its passphrase")]
    EncryptedKey,
    #[error(
        "holds a private key of a kind that is not supported (RSA of 2048 bits or more, EC P-256 or P-384, Ed25519)"
    )]
    BadKey,
    #[error("is not the private key of the certificate")]
    Mismatch,
}

impl IdentityError {
    /// True if the file of the certificate is to blame, and not that of the key.
    pub const fn is_of_certificate(self) -> bool {
        matches!(self, Self::NoCertificate | Self::BadCertificate)
    }
}

impl Identity {
    /// Reads a PEM text of certificates, ours first, and one of a key in PKCS #8, PKCS #1 or SEC 1.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, IdentityError> {
        let chain = certificate::read_all(certificates).ok_or(IdentityError::NoCertificate)?;
        let ours = chain.first().and_then(Certificate::parse);
        let ours = ours.ok_or(IdentityError::BadCertificate)?;
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_error| {
            if key.contains("ENCRYPTED") {
                IdentityError::EncryptedKey
            } else {
                IdentityError::NoKey
            }
        })?;
        let signer = provider()
            .key_provider
            .load_private_key(der)
            .map_err(|_error| IdentityError::BadKey)?;
        let belongs = signer
            .public_key()
            .is_none_or(|key| ours.public_key().is_some_and(|of_ours| of_ours == key.as_ref()));
        if !belongs {
            return Err(IdentityError::Mismatch);
        }
        let certified = Arc::new(CertifiedKey::new(chain, signer));
        Ok(Self { certified, validity: ours.validity() })
    }

    /// What shows it to every peer that asks.
    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from((*self.certified).clone()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("validity", &self.validity).finish_non_exhaustive()
    }
}
