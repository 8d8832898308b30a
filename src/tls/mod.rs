//! What TLS needs that is decided without a socket: certificates, whom to trust, who may do without.
//!
//! `net/tls.rs` moves the bytes.

mod callers;
mod certificate;
mod identity;
mod ladder;
mod offer;
mod trust;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use identity::{Identity, IdentityError};
pub use ladder::{Ladder, Step};
pub use offer::Offer;
pub use trust::{Roots, RootsError};

/// How much TLS is wanted: PostgreSQL's `sslmode`, in the order of its strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// What both sides call PostgreSQL's protocol when they agree on one (ALPN).
pub const PROTOCOL: &[u8] = b"postgresql";

/// The cipher suites, of TLS 1.2 and 1.3: rustls's choice, none of which is known to be weak.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
