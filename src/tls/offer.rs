//! What clients are offered.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;

use super::callers::ClientVerifier;
use super::{Identity, Mode, PROTOCOL, Roots, provider};

/// TLS towards clients.
#[derive(Clone)]
pub struct Offer {
    mode: Mode,
    config: Arc<ServerConfig>,
}

impl Offer {
    /// Shows clients `identity`. With `roots` they are asked for a certificate, which has to be
    /// good if there is one, as PostgreSQL has it; `verify-ca` and `verify-full` insist on one.
    ///
    /// What fails here is a contradiction that no file of the user's leads to.
    pub fn new(mode: Mode, identity: &Identity, roots: Option<&Roots>) -> Result<Self, String> {
        let failed = |error: &dyn fmt::Display| error.to_string();
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let builder = match roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let is_demanded = mode >= Mode::VerifyCa;
                let verifier = ClientVerifier::new(roots.clone(), is_demanded, &provider)?;
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = builder.with_cert_resolver(identity.resolver());
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // As PostgreSQL has it: each connection proves itself anew, and no ticket is kept.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { mode, config: Arc::new(config) })
    }

    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// True if no client may log in without.
    pub fn is_demanded(&self) -> bool {
        self.mode >= Mode::Require
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({})", self.mode.as_str())
    }
}
