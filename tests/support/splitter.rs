//! A way to a server on which every byte comes on its own.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::socket::{Address, Socket};

/// A listener that passes everything on to a server, and its answers byte by byte.
#[derive(Debug)]
pub struct Splitter {
    port: u16,
}

impl Splitter {
    /// Starts one before the server at `address`.
    pub fn before(address: &Address) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = address.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, Socket::connect(&address)) else { return };
                pass_on(client, server);
            }
        });
        Self { port }
    }

    /// As a configuration names this host.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn pass_on(client: TcpStream, server: Socket) {
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        // Its end is the end of the connection.
        drop(io::copy(&mut from_client, &mut to_server));
        drop(to_server.close_write());
    });
    let (mut to_client, mut from_server) = (client, server);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = from_server.read(&mut chunk) {
            for byte in &chunk[..n] {
                if to_client.write_all(&[*byte]).is_err() {
                    return;
                }
                // Long enough for the other side to be woken by this one.
                std::thread::park_timeout(Duration::from_micros(50));
            }
        }
        drop(to_client.shutdown(std::net::Shutdown::Both));
    });
}
