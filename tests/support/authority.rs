//! Certificates as a test needs them, in a folder that goes with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// An authority that signs what it is asked to sign.
#[derive(Debug)]
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Issued {
    /// `cert = …, key = …` of a configuration.
    pub fn toml(&self) -> String {
        format!("cert = '{}', key = '{}'", self.cert.display(), self.key.display())
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(&self.cert).unwrap().map(Result::unwrap).collect()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).unwrap()
    }

    /// What a server needs that shows this certificate.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = builder.with_no_client_auth();
        builder.with_single_cert(self.chain(), self.private_key()).unwrap().into()
    }
}

impl Issued {
    /// The same for a server that shows it only to those who ask for `name`.
    pub fn server_config_for(&self, name: &str) -> Arc<ServerConfig> {
        let key = provider().key_provider.load_private_key(self.private_key()).unwrap();
        let mut by_name = ResolvesServerCertUsingSni::new();
        by_name.add(name, CertifiedKey::new(self.chain(), key)).unwrap();
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder.with_no_client_auth().with_cert_resolver(Arc::new(by_name)).into()
    }
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgweir-tls-").tempdir().unwrap();
        // Two of one name would be taken for one, whose signatures are bad.
        let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let mut params = params(&name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.crt"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Where its own certificate is.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Where everything is that it has signed.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Signs a certificate for `name`, with alternative names.
    pub fn issue(&self, name: &str, alternatives: &[&str]) -> Issued {
        self.issue_with(name, alternatives, |_params| {})
    }

    /// The same with something unusual about it.
    pub fn issue_with(
        &self,
        name: &str,
        alternatives: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let mut params = params(name, alternatives);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(name, &certificate.pem(), &key)
    }

    /// A certificate that says of itself that it is an authority, as `openssl req -x509` makes them.
    pub fn self_signed(&self, name: &str) -> Issued {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        self.write(name, &certificate.pem(), &key)
    }

    /// A certificate that says of itself that it is no authority, and one for `forged` that its key has
    /// signed all the same.
    pub fn self_signed_leaf(&self, name: &str, forged: &str) -> (Issued, Issued) {
        let mut leaf = params(name, &[name]);
        leaf.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.self_signed(&key).unwrap();
        let written = self.write(name, &certificate.pem(), &key);
        let issuer = Issuer::new(leaf, key);
        let key = KeyPair::generate().unwrap();
        let certificate = params("forged", &[forged]).signed_by(&key, &issuer).unwrap();
        (written, self.write("forged", &certificate.pem(), &key))
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Issued {
        let path = |extension| self.folder.path().join(format!("{name}.{extension}"));
        let issued = Issued { cert: path("crt"), key: path("key") };
        std::fs::write(&issued.cert, certificate).unwrap();
        std::fs::write(&issued.key, key.serialize_pem()).unwrap();
        issued
    }

    /// What a client needs that believes this authority.
    pub fn client(&self) -> TlsClient {
        TlsClient { ca: self.ca(), identity: None, protocols: Vec::new(), versions: None }
    }
}

fn params(name: &str, alternatives: &[&str]) -> CertificateParams {
    let alternatives: Vec<_> = alternatives.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(alternatives).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A client's side of TLS.
#[derive(Debug, Clone)]
pub struct TlsClient {
    ca: PathBuf,
    identity: Option<Issued>,
    protocols: Vec<Vec<u8>>,
    versions: Option<&'static SupportedProtocolVersion>,
}

impl TlsClient {
    /// Shows this certificate when it is asked for one.
    pub fn with_identity(mut self, identity: &Issued) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Names a protocol (ALPN).
    pub fn with_protocol(mut self, protocol: &str) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Speaks this version alone.
    pub fn with_version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = Some(version);
        self
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let versions = self.versions.map_or_else(|| rustls::DEFAULT_VERSIONS.to_vec(), |v| vec![v]);
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain(), identity.private_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config.into()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
