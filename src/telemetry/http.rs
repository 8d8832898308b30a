//! The HTTP side: metrics, health and status.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;
use super::snapshot::{DomainSnapshot, Observe};
use super::status::Status;

/// Answers HTTP on `listener` until `stop`, then lets the answers under way go out and returns.
///
/// `stop` is the end of a drain and not its beginning: `/readyz` has to tell balancers that one is
/// going on. Connections are bounded in number and in age, so that one that never reads its answer
/// holds its place for a minute at most.
///
/// # Errors
/// If the table of metrics is not acceptable, which a test rules out.
pub async fn serve(
    listener: TcpListener,
    observe: Arc<dyn Observe>,
    stop: CancellationToken,
) -> Result<(), prometheus::Error> {
    let pages = Arc::new(Pages::new(observe)?);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        // The place comes before the connection: who finds none waits in the kernel's queue.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let (place, stream) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => match accepted {
                Some((place, Ok((stream, _)))) => (place, stream),
                Some((_, Err(error))) => {
                    tracing::warn!(%error, "http accept failed");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                None => break,
            },
        };
        let (pages, stop) = (Arc::clone(&pages), stop.clone());
        connections.spawn(async move {
            converse(stream, pages, stop).await;
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, pages: Arc<Pages>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = pages.answer(request.method(), request.uri().path(), request.uri().query());
        async move { Ok::<_, Infallible>(answer.into_response()) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // An error here is the other side's: it left, or did not speak HTTP. Nobody is to be told.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(MAX_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(FAREWELL, connection).await);
}

/// What can be asked for. Decides; the socket is elsewhere.
#[derive(Debug)]
struct Pages {
    observe: Watched,
    metrics: Metrics,
}

/// A status, a content type and a body.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Pages {
    fn new(observe: Arc<dyn Observe>) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::new(Arc::clone(&observe))?;
        Ok(Self { observe: Watched(observe), metrics })
    }

    fn answer(&self, method: &Method, path: &str, query: Option<&str>) -> Answer {
        if method != Method::GET && method != Method::HEAD {
            let body = format!("{method} is not for this server: GET and HEAD are\n");
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, body);
        }
        match path {
            "/" => Answer { content_type: HTML, ..Answer::text(StatusCode::OK, INDEX.into()) },
            "/livez" => Answer::text(StatusCode::OK, "ok\n".into()),
            "/metrics" => self.metrics(),
            "/readyz" => self.ready(query),
            "/status" => self.status(),
            _ => {
                let body = format!("no such page; there are: {}\n", PATHS.join(" "));
                Answer::text(StatusCode::NOT_FOUND, body)
            }
        }
    }

    fn metrics(&self) -> Answer {
        match self.metrics.text() {
            Ok(body) => Answer { status: StatusCode::OK, content_type: METRICS, body },
            Err(error) => Answer::failure(&error),
        }
    }

    fn status(&self) -> Answer {
        match serde_json::to_string_pretty(&Status::new(&*self.observe.0, SystemTime::now())) {
            Ok(body) => Answer { status: StatusCode::OK, content_type: JSON, body },
            Err(error) => Answer::failure(&error),
        }
    }

    fn ready(&self, query: Option<&str>) -> Answer {
        if self.observe.0.process().draining {
            return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".into());
        }
        let Some(name) = query.and_then(|query| parameter(query, "domain")) else {
            return Answer::text(StatusCode::OK, "ok\n".into());
        };
        let domains = self.observe.0.domains();
        match domains.iter().find(|domain| *domain.config.name == *name) {
            Some(DomainSnapshot { usable: Ok(()), .. }) => {
                Answer::text(StatusCode::OK, "ok\n".into())
            }
            Some(DomainSnapshot { usable: Err(reason), .. }) => {
                Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
            }
            None => Answer::text(StatusCode::NOT_FOUND, format!("no such domain: {name}\n")),
        }
    }
}

impl Answer {
    fn text(status: StatusCode, body: String) -> Self {
        Self { status, content_type: TEXT, body }
    }

    fn failure(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "http answer failed");
        Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
    }

    /// For HEAD too: hyper leaves the body out and keeps its length.
    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// A snapshot source that can be printed.
struct Watched(Arc<dyn Observe>);

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observe")
    }
}

/// The value of `name` in a query string, percent-decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escape = after.split_at_checked(2).filter(|_| *byte == b'%');
        let code = escape.and_then(|(digits, _)| {
            let digits = std::str::from_utf8(digits).ok()?;
            digits.bytes().all(|d| d.is_ascii_hexdigit()).then_some(digits)
        });
        if let (Some(digits), Some((_, beyond))) = (code, escape) {
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            rest = beyond;
        } else {
            decoded.push(if *byte == b'+' { b' ' } else { *byte });
            rest = after;
        }
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

const PATHS: [&str; 5] = ["/", "/livez", "/metrics", "/readyz", "/status"];
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = prometheus::TEXT_FORMAT;
const INDEX: &str = "<!DOCTYPE html>\n<html lang=\"en\"><title>pgweir</title>\n<h1>pgweir</h1>\n<ul>\n\
    <li><a href=\"/metrics\">/metrics</a>: numbers for Prometheus\n\
    <li><a href=\"/status\">/status</a>: pools, as JSON\n\
    <li><a href=\"/livez\">/livez</a>: the process answers\n\
    <li><a href=\"/readyz\">/readyz</a>: it serves clients; /readyz?domain=x: so does that domain\n\
    </ul></html>\n";

/// Enough for several scrapers and balancers; each costs a descriptor and a few KB.
const MAX_CONNECTIONS: usize = 64;
/// Longest wait for the head of a request, between two requests too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest head of a request in bytes. hyper asks for 8 KiB at least.
const MAX_HEAD: usize = 16 * 1024;
/// After this a connection ends with the answer in hand.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How long that answer may take to be read.
const FAREWELL: Duration = Duration::from_secs(1);
/// After a failed accept (no descriptor left, as a rule), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
