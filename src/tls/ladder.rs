//! What is asked of servers: the steps of `sslmode`, as libpq climbs them.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;

use super::trust::Verifier;
use super::{Identity, Mode, PROTOCOL, Roots, provider};

/// TLS towards a server.
#[derive(Clone)]
pub struct Ladder {
    mode: Mode,
    /// `None` only for `disable`.
    config: Option<Arc<ClientConfig>>,
}

/// One attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Plain,
    /// With TLS if the server has it.
    IfOffered,
    Demanded,
}

impl Ladder {
    /// A ladder of one step: never any TLS.
    pub const fn disabled() -> Self {
        Self { mode: Mode::Disable, config: None }
    }

    /// With `roots` the server's certificate has to be signed by one of them, whatever the mode; its
    /// name is checked by `verify-full` alone.
    ///
    /// What fails here is a contradiction that no file of the user's leads to.
    pub fn new(
        mode: Mode,
        identity: Option<&Identity>,
        roots: Option<Roots>,
    ) -> Result<Self, String> {
        if mode == Mode::Disable {
            return Ok(Self::disabled());
        }
        let provider = provider();
        let verifier = Verifier::new(roots, mode == Mode::VerifyFull, &provider);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Each connection looks at the certificate that is there now.
        config.resumption = Resumption::disabled();
        Ok(Self { mode, config: Some(Arc::new(config)) })
    }

    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What to try first, and what next if encryption, or its absence, was the matter.
    pub const fn steps(&self) -> (Step, Option<Step>) {
        match self.mode {
            Mode::Disable => (Step::Plain, None),
            Mode::Allow => (Step::Plain, Some(Step::Demanded)),
            Mode::Prefer => (Step::IfOffered, Some(Step::Plain)),
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => (Step::Demanded, None),
        }
    }

    pub fn config(&self) -> Option<Arc<ClientConfig>> {
        self.config.clone()
    }
}

impl fmt::Debug for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ladder({})", self.mode.as_str())
    }
}
