//! Asking a server to stop what it does (PostgreSQL documentation, 55.2.8).

use super::connect::ConnectError;
use super::encrypt::Way;
use super::record::ServerRecord;
use crate::net::stream::Stream;
use crate::tls::Step;
use crate::wire::frontend;

/// Opens the connection for a cancel request to `server`, and does not send it yet. The key will go
/// encrypted if it came encrypted.
///
/// Has no deadline of its own. Cancel-safe: dropping the future closes the connection.
pub async fn connect(server: &ServerRecord) -> Result<Stream, ConnectError> {
    match &server.encryption {
        Some((_, tls)) => Way::new(Step::Demanded).open(&server.host, tls).await,
        None => Ok(Stream::connect(&server.host).await?),
    }
}

/// Sends a cancel request and waits until PostgreSQL has passed it on: it closes the connection then.
///
/// Has no deadline of its own. Cancel-safe: a request that is given up may still be heeded.
pub async fn send(mut stream: Stream, server: &ServerRecord) -> Result<(), ConnectError> {
    let mut out = Vec::with_capacity(12 + server.key.secret.len());
    frontend::put_cancel(&mut out, server.key.process_id, &server.key.secret);
    stream.write_all(&out).await?;
    let mut buf = [0; 16];
    while stream.read(&mut buf).await? > 0 {}
    Ok(())
}
