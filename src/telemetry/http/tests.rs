//! HTTP over a real loopback socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;
use crate::telemetry::fake::Fake;

/// A running server.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), prometheus::Error>>,
}

impl Server {
    async fn start(fake: Fake) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
        let task = tokio::spawn(serve(listener, fake.shared(), stop.clone()));
        Self { address, stop, task }
    }

    /// Sends `request` and reads to the end of the connection.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(Duration::from_secs(20), read).await.expect("an end").unwrap();
        answer
    }

    async fn request(&self, method: &str, target: &str) -> String {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.exchange(&head).await
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn every_path_of_the_index_answers() {
    let server = Server::start(Fake::new()).await;

    for path in PATHS {
        let answer = server.request("GET", path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {answer}");
    }
    let metrics = server.request("GET", "/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"), "{metrics}");
    assert!(body(&metrics).contains("\npgweir_queries_total{domain=\"markets\""));
    let status = server.request("GET", "/status").await;
    let json: serde_json::Value = serde_json::from_str(body(&status)).unwrap();
    assert_eq!(json["pools"][0]["size"], 20);
}

#[tokio::test]
async fn readiness_is_lost_while_draining_and_liveness_is_not() {
    let mut fake = Fake::new();
    fake.process.draining = true;
    let server = Server::start(fake).await;

    let ready = server.request("GET", "/readyz").await;
    let of_domain = server.request("GET", "/readyz?domain=markets").await;
    let live = server.request("GET", "/livez").await;

    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert_eq!(body(&ready), "shutting down\n");
    assert!(of_domain.starts_with("HTTP/1.1 503 "), "{of_domain}");
    assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
}

#[tokio::test]
async fn a_domain_is_ready_or_says_why_not() {
    let mut fake = Fake::new();
    let mut broken = fake.domains[0].clone();
    let mut config = crate::config::Domain::clone(&broken.config);
    config.name = "my domain".into();
    broken.config = Arc::new(config);
    broken.usable = Err("connection refused".into());
    fake.domains.push(broken);
    let server = Server::start(fake).await;

    let fine = server.request("GET", "/readyz?a=b&domain=markets").await;
    let broken = server.request("GET", "/readyz?domain=my%20domain").await;
    let unknown = server.request("GET", "/readyz?domain=nix").await;

    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    assert!(broken.starts_with("HTTP/1.1 503 "), "{broken}");
    assert_eq!(body(&broken), "connection refused\n");
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    assert_eq!(body(&unknown), "no such domain: nix\n");
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_by_name() {
    let server = Server::start(Fake::new()).await;

    let post = server.request("POST", "/metrics").await;
    let missing = server.request("GET", "/metric").await;
    let head = server.request("HEAD", "/livez").await;

    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    assert!(post.contains("allow: GET, HEAD\r\n"), "{post}");
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    assert!(body(&missing).contains("/metrics /readyz /status"), "{missing}");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 3"), "{head}");
    assert_eq!(body(&head), "");
}

#[tokio::test]
async fn what_is_not_http_ends_with_an_answer_or_a_close() {
    let server = Server::start(Fake::new()).await;

    let garbage = server.exchange("\u{1}\u{2}\u{3} nonsense\r\n\r\n").await;
    let huge = server.exchange(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD))).await;

    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    assert!(huge.starts_with("HTTP/1.1 431 "), "{huge}");
}

#[tokio::test]
async fn one_connection_carries_several_requests() {
    let server = Server::start(Fake::new()).await;

    let both = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n\
                GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = server.exchange(both).await;

    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
}

#[tokio::test]
async fn stop_ends_the_server_although_a_connection_is_open() {
    let server = Server::start(Fake::new()).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();

    server.stop.cancel();

    let ended = timeout(Duration::from_secs(10), server.task).await;
    ended.expect("an end").unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let server = Server::start(Fake::new()).await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        held.push(stream);
    }
    let request = server.request("GET", "/livez");
    let mut request = pin!(request);

    let early = timeout(Duration::from_millis(200), request.as_mut()).await;
    assert!(early.is_err(), "answered beyond the bound");

    held.pop();
    let answer = timeout(Duration::from_secs(10), request).await.expect("a place");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_query_parameter_is_decoded() {
    assert_eq!(parameter("domain=a%2Fb+c&x=1", "domain").as_deref(), Some("a/b c"));
    assert_eq!(parameter("domains=a", "domain"), None);
    assert_eq!(parameter("domain=%zz%4", "domain").as_deref(), Some("%zz%4"));
    assert_eq!(parameter("domain=%+1", "domain").as_deref(), Some("% 1"));
}
