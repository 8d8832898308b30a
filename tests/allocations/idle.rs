//! What a client that is idle costs: what a session needs, nothing of its login, and no buffer.

use std::io::Write as _;
use std::net::TcpStream;

use rustls::StreamOwned;

use crate::frames::Frames;
use crate::quiet_server::{self, WIDE};
use crate::support::authority::Authority;
use crate::support::messages::{query, startup};
use crate::support::postgres::USER;
use crate::support::proxy::Proxy;
use crate::support::socket::Socket;
use crate::support::wait::wait_until;
use crate::{ALLOCATOR, turn};

const CLIENTS: usize = 200;

/// The most bytes that a client holds after its login, and after queries: behind them it has an alarm and
/// a letter box to wait with.
const LOGGED_IN_MAX: usize = 2250;
const QUERIED_MAX: usize = 2330;
/// The same of one behind TLS. 4 KiB of it are the least that rustls keeps to read into.
const TLS_MAX: usize = 10_000;

/// Of what a client does not read, so much is seen to be kept.
const KEPT_MIN: usize = 4096;

/// The same as `Proxy::client` logs in with.
const LOGIN: [(&str, &str); 2] = [("user", USER), ("database", "main")];

/// A proxy of one worker, a client that is none of those that are weighed, and what there was before them.
struct Weighed {
    proxy: Proxy,
    other: Socket,
    frames: Frames,
    before: usize,
}

impl Weighed {
    fn new(changes: &str) -> Self {
        let server = quiet_server::start();
        let changes = format!("runtime.workers = 1\npool.size = 1\n{changes}");
        let proxy = Proxy::before(&server.host(), &changes);
        let other = proxy.client().socket;
        Self { proxy, other, frames: Frames::new(), before: 0 }
    }

    /// What is there now is not the clients'.
    fn begin(&mut self) {
        self.before = self.live();
    }

    /// Bytes that the process holds. Whatever the worker was about is over: it does one thing after the
    /// other, and has answered something that came behind it.
    fn live(&mut self) -> usize {
        self.other.write_all(&query("select 1")).unwrap();
        self.frames.read_answers(&mut self.other, 1);
        live()
    }

    fn assert_each(&mut self, most: usize, what: &str) {
        let each = (self.live() - self.before) / CLIENTS;
        assert!(each <= most, "{what} holds {each} bytes, and may hold {most}");
    }
}

/// Bytes that the process holds at the moment.
fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn an_idle_client_holds_nothing_of_its_login_and_no_buffer() {
    let _turn = turn();
    let mut weighed = Weighed::new("");
    let mut clients = Vec::with_capacity(CLIENTS);
    weighed.begin();
    for _ in 0..CLIENTS {
        clients.push(weighed.proxy.client().socket);
    }

    weighed.assert_each(LOGGED_IN_MAX, "a client that has logged in");

    let (idle, long) = (weighed.live(), query(&format!("select '{}'", "x".repeat(20_000))));
    let (front, rest) = long.split_at(16_000);
    for client in &mut clients {
        client.write_all(front).unwrap();
    }
    wait_until("all of the fronts are kept", || live() >= idle + CLIENTS * front.len());
    for client in &mut clients {
        client.write_all(rest).unwrap();
        weighed.frames.read_answers(client, 1);
    }
    drop(long);

    weighed.assert_each(QUERIED_MAX, "a client that has asked");

    let before = weighed.live();
    read_late(&mut clients[0], &mut weighed.frames);
    let kept = weighed.live().saturating_sub(before);
    assert!(kept < KEPT_MIN / 2, "{kept} bytes are held of what the client has read late");
}

/// Asks for more than the sockets take, and reads it when some of it was seen to be kept.
fn read_late(client: &mut Socket, frames: &mut Frames) {
    let Socket::Tcp(stream) = client else { panic!("not a TCP socket") };
    // Or the kernel would make it as large as all of the answer.
    socket2::SockRef::from(&*stream).set_recv_buffer_size(64 * 1024).unwrap();
    let before = live();
    client.write_all(&query(WIDE)).unwrap();
    wait_until("what the client does not read is kept", || {
        if live() >= before + KEPT_MIN {
            return true;
        }
        // As little may be left of a write as one byte: it comes to another one.
        assert!(frames.fill(client).unwrap(), "the connection was closed");
        while let Some((tag, _)) = frames.next() {
            assert_eq!(tag, b'D', "all of it has found room");
        }
        false
    });
    frames.read_answers(client, 1);
}

#[test]
fn an_idle_client_behind_tls_holds_little_more() {
    let _turn = turn();
    let authority = Authority::new();
    let identity = authority.issue("localhost", &["localhost"]);
    let offer = format!("listen.tls = {{ mode = 'allow', {} }}", identity.toml());
    let mut weighed = Weighed::new(&offer);
    drop(log_in_encrypted(&weighed.proxy, &authority));
    let mut clients = Vec::with_capacity(CLIENTS);
    weighed.begin();
    for _ in 0..CLIENTS {
        clients.push(log_in_encrypted(&weighed.proxy, &authority));
    }

    weighed.assert_each(TLS_MAX, "a client behind TLS");
}

/// A client that has logged in through TLS and asked something. Its own end of the encryption is given
/// up, for that would be counted too.
fn log_in_encrypted(proxy: &Proxy, authority: &Authority) -> TcpStream {
    let mut client = proxy.connect().encrypted(&authority.client());
    client.send(&startup(&LOGIN));
    client.finish_login().unwrap();
    client.ask("select 1");
    let Socket::Tls(encrypted) = client.socket else { panic!("it is not encrypted") };
    let StreamOwned { conn, sock } = *encrypted;
    drop(conn);
    sock
}
