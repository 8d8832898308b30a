//! Clients' certificates: which of them are good.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme,
};

use super::Roots;

/// Looks at clients' certificates.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    roots: Roots,
    /// `None` if none of the roots may sign.
    signed: Option<Arc<dyn ClientCertVerifier>>,
    is_demanded: bool,
    /// What clients may choose a certificate by.
    names: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(super) fn new(
        roots: Roots,
        is_demanded: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let store = roots.store();
        let signed = if store.is_empty() {
            None
        } else {
            let builder = WebPkiClientVerifier::builder_with_provider(store, Arc::clone(provider));
            Some(builder.build().map_err(|error| error.to_string())?)
        };
        let names = roots.subjects().map(DistinguishedName::from).collect();
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { roots, signed, is_demanded, names, algorithms })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_demanded
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        if let Some(checked) = self.roots.check_given(end_entity, now) {
            return checked.map(|()| ClientCertVerified::assertion());
        }
        match &self.signed {
            Some(signed) => signed.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
