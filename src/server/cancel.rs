//! Asking a server to stop what it does (PostgreSQL documentation, 55.2.8).

use super::connect::ConnectError;
use super::encrypt::Way;
use super::record::ServerRecord;
use crate::config::HostAddr;
use crate::net::stream::Stream;
use crate::tls::Step;
use crate::wire::frontend;

/// Opens the connection for a cancel request to `server`, and does not send it yet. It goes to the
/// address where the server was reached: what its name leads to now may be another host. The key will
/// go encrypted if it came encrypted.
///
/// Has no deadline of its own. Cancel-safe: dropping the future closes the connection.
pub async fn connect(server: &ServerRecord) -> Result<Stream, ConnectError> {
    let stream = match server.address {
        Some(address) => Stream::connect_to(address).await?,
        None => server.host.connect().await?.0,
    };
    match (&server.encryption, &server.host.name) {
        (Some((_, tls)), HostAddr::Tcp { host, .. }) => {
            Way::new(Step::Demanded).enter(stream, host, tls).await
        }
        (Some(_) | None, HostAddr::Tcp { .. } | HostAddr::Unix { .. }) => Ok(stream),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;
    use crate::pool::core::{ServerId, Site};
    use crate::server::endpoint::Endpoint;
    use crate::server::record::BackendKey;
    use crate::tls::Ladder;

    #[tokio::test]
    async fn a_cancel_goes_where_its_server_is_whatever_the_hosts_name_leads_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = Stream::connect_to(address).await.unwrap();
        listener.accept().await.unwrap();
        let key = BackendKey { process_id: 7, secret: [1; 4].into() };
        // Nobody is there.
        let name = HostAddr::Tcp { host: "127.0.0.1".into(), port: 1 };
        let host = Arc::new(Endpoint::new(name));
        let mut record =
            ServerRecord::new(ServerId(1), (host, Site(0)), key, &stream, &Ladder::disabled());
        record.address = Some(address);

        let cancel = connect(&record).await.unwrap();

        let (_accepted, from) = listener.accept().await.unwrap();
        assert_eq!(cancel.local().to_string(), from.to_string());
    }
}
