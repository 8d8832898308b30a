//! What an exchange allocates.

use std::fmt::Write as _;
use std::io::Write as _;

use stats_alloc::Region;

use crate::frames::Frames;
use crate::support::messages::{bind, describe_portal, execute, parse, query, sync};
use crate::support::proxy::Proxy;
use crate::support::socket::Socket;
use crate::{ALLOCATOR, quiet_server, turn};

const TEXT: &str = "select abalance from pgbench_accounts where aid = 4711";

/// After so many exchanges everything has the size that it needs.
const WARM: usize = 200;
/// How many exchanges are counted together.
const COUNTED: usize = 50;
/// Pools are looked after twice a second, which may allocate: of so many counts, some are without.
const COUNTS: usize = 40;

/// A kind of exchange.
struct Kind {
    name: &'static str,
    /// What is sent in one go, and how many `ReadyForQuery` answer it.
    said: Vec<(Vec<u8>, usize)>,
}

fn kinds() -> Vec<Kind> {
    let prepared = [bind("s", &[]), describe_portal(""), execute(), sync()].concat();
    let extended =
        [parse("", TEXT), bind("", &[]), describe_portal(""), execute(), sync()].concat();
    let transaction = ["begin", TEXT, TEXT, "commit"].map(|text| (query(text), 1));
    vec![
        Kind { name: "simple", said: vec![(query(TEXT), 1)] },
        Kind { name: "prepared", said: vec![(prepared.clone(), 1)] },
        Kind { name: "extended", said: vec![(extended, 1)] },
        Kind { name: "transaction", said: transaction.to_vec() },
        Kind { name: "pipeline", said: vec![(prepared.repeat(10), 10)] },
    ]
}

/// A client that allocates nothing once it is there.
struct QuietClient {
    socket: Socket,
    frames: Frames,
}

impl QuietClient {
    /// One that has prepared a statement `s`.
    fn new(proxy: &Proxy) -> Self {
        let mut client = proxy.client();
        client.send(&[parse("s", TEXT), sync()].concat());
        client.read_to(b'Z');
        Self { socket: client.socket, frames: Frames::new() }
    }

    fn exchange(&mut self, said: &[(Vec<u8>, usize)]) {
        for (bytes, boundaries) in said {
            self.socket.write_all(bytes).unwrap();
            self.frames.read_answers(&mut self.socket, *boundaries);
        }
    }

    /// How often the process allocates in [`COUNTED`] exchanges, if it does nothing else meanwhile: the
    /// least of several counts.
    fn count_least(&mut self, said: &[(Vec<u8>, usize)]) -> usize {
        let mut least = usize::MAX;
        for _ in 0..COUNTS {
            least = least.min(self.count(said));
            if least == 0 {
                break;
            }
        }
        least
    }

    fn count(&mut self, said: &[(Vec<u8>, usize)]) -> usize {
        let region = Region::new(ALLOCATOR);
        for _ in 0..COUNTED {
            self.exchange(said);
        }
        let change = region.change();
        change.allocations + change.reallocations
    }
}

/// Where one is that nobody knew: a debugger that stops this test in `__rust_alloc` on the thread
/// `worker-0`, once it counts, shows the line.
#[test]
fn an_exchange_allocates_nothing() {
    let _turn = turn();
    let server = quiet_server::start();
    let proxy = Proxy::before(&server.host(), "runtime.workers = 1\npool.size = 1");
    let mut wrong = String::new();
    for Kind { name, said } in kinds() {
        let mut client = QuietClient::new(&proxy);
        for _ in 0..WARM {
            client.exchange(&said);
        }
        let counted = client.count_least(&said);
        if counted > 0 {
            writeln!(wrong, "{name}: {counted} in {COUNTED} exchanges").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
