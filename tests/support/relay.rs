//! What stands between a proxy and a real server: it sees the first packet of each connection, and
//! can hold cancel requests back.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};

use super::messages;
use super::postgres::Postgres;
use super::socket::Address;
use super::wait::{DEADLINE, wait_until};

/// A listener that passes everything on to a server, both ways.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    seen: Arc<Seen>,
    is_closed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The first packets, whole, in the order of arrival.
    packets: Vec<Vec<u8>>,
    holds_cancels: bool,
}

impl Relay {
    /// A relay before `postgres`, which is reached through TCP thereby.
    pub fn before(postgres: &Postgres) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0), postgres)
    }

    /// The same at an address and port of its own.
    pub fn at(address: (impl Into<IpAddr>, u16), postgres: &Postgres) -> Self {
        let Address::Unix(path) = postgres.address() else { panic!("no Unix socket") };
        let listener = TcpListener::bind((address.0.into(), address.1)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let is_closed = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_closed);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Relaxed) {
                    return;
                }
                let (path, seen) = (path.clone(), Arc::clone(&shared));
                std::thread::spawn(move || relay(stream.unwrap(), &path, &seen));
            }
        });
        Self { address, seen, is_closed }
    }

    /// Refuses connections from now on; those that are open stay.
    pub fn close(&self) {
        self.is_closed.store(true, Relaxed);
        // Wakes the listener, which ends.
        drop(TcpStream::connect(self.address).unwrap());
        wait_until("the relay is closed", || TcpStream::connect(self.address).is_err());
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// As a configuration names this host.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The first packets of connections that asked for a login.
    pub fn startups(&self) -> Vec<Vec<u8>> {
        self.packets(|packet| !is_cancel(packet))
    }

    /// Cancel requests so far, those that are held back included.
    pub fn cancels(&self) -> Vec<Vec<u8>> {
        self.packets(is_cancel)
    }

    fn packets(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let state = self.seen.state.lock().unwrap();
        state.packets.iter().filter(|packet| is_wanted(packet)).cloned().collect()
    }

    /// Holds cancel requests back from now on.
    pub fn hold_cancels(&self) {
        self.seen.state.lock().unwrap().holds_cancels = true;
    }

    /// Lets all that were held back go on, and those that come.
    pub fn release_cancels(&self) {
        self.seen.state.lock().unwrap().holds_cancels = false;
        self.seen.changed.notify_all();
    }
}

fn is_cancel(packet: &[u8]) -> bool {
    packet.get(4..8) == Some(&messages::cancel_request(0, &[])[4..8])
}

fn relay(mut client: TcpStream, path: &PathBuf, seen: &Seen) {
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut packet = vec![0; 4];
    if client.read_exact(&mut packet).is_err() {
        return;
    }
    let len = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
    packet.resize(len, 0);
    if client.read_exact(&mut packet[4..]).is_err() {
        return;
    }
    client.set_read_timeout(None).unwrap();
    let mut state = seen.state.lock().unwrap();
    state.packets.push(packet.clone());
    if is_cancel(&packet) {
        let waited = seen.changed.wait_timeout_while(state, DEADLINE * 2, |s| s.holds_cancels);
        drop(waited.unwrap());
    } else {
        drop(state);
    }
    let Ok(mut server) = UnixStream::connect(path) else { return };
    if server.write_all(&packet).is_err() {
        return;
    }
    let (mut from_server, mut to_client) =
        (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        // Either end may break off, which is the other's business.
        let _copied = std::io::copy(&mut from_server, &mut to_client);
        let _shut = to_client.shutdown(Shutdown::Write);
    });
    let _copied = std::io::copy(&mut client, &mut server);
    let _shut = server.shutdown(Shutdown::Write);
    back.join().unwrap();
}
