//! Asking a server to stop what it does (PostgreSQL documentation, 55.2.8).

use super::connect::ConnectError;
use super::encrypt::Way;
use super::record::ServerRecord;
use crate::net::stream::Stream;
use crate::tls::Step;
use crate::wire::frontend;

/// Sends a cancel request and waits until PostgreSQL has passed it on: it closes the connection then.
/// The key goes encrypted if it came encrypted.
///
/// Has no deadline of its own. Cancel-safe: a request that is given up may still be heeded.
pub async fn request(server: &ServerRecord) -> Result<(), ConnectError> {
    let mut stream = match &server.encryption {
        Some((_, tls)) => Way::new(Step::Demanded).open(&server.host, tls).await?,
        None => Stream::connect(&server.host).await?,
    };
    let mut out = Vec::with_capacity(16);
    frontend::put_cancel(&mut out, server.key.process_id, &server.key.secret);
    stream.write_all(&out).await?;
    let mut buf = [0; 16];
    while stream.read(&mut buf).await? > 0 {}
    Ok(())
}
