//! A server that answers every message at once with canned replies.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::messages::message;

const HEAD: usize = 5;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// One column of type int4, and the value 1 in it.
const COLUMNS: &[u8] = b"\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
const ROW: &[u8] = b"\0\x01\0\0\0\x011";
/// What is written in one go at most, as by PostgreSQL (its `PQ_SEND_BUFFER_SIZE`).
const PIECE: usize = 8 * 1024;

/// What is answered, made once.
struct Canned {
    columns: Vec<u8>,
    row: Vec<u8>,
    /// The end of one row.
    selected: Vec<u8>,
    parsed: Vec<u8>,
    bound: Vec<u8>,
    closed: Vec<u8>,
    /// Of a statement without parameters.
    parameters: Vec<u8>,
}

/// Serves until it is killed.
pub(crate) async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let canned: &'static Canned = Box::leak(Box::new(Canned {
        columns: message(b'T', COLUMNS),
        row: message(b'D', ROW),
        selected: message(b'C', b"SELECT 1\0"),
        parsed: message(b'1', b""),
        bound: message(b'2', b""),
        closed: message(b'3', b""),
        parameters: message(b't', b"\0\0"),
    }));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            // One that breaks off is done.
            let _ended = Peer::new(stream, canned).run().await;
        });
    }
}

/// A connection.
struct Peer {
    stream: TcpStream,
    canned: &'static Canned,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    status: u8,
}

impl Peer {
    fn new(stream: TcpStream, canned: &'static Canned) -> Self {
        Self {
            stream,
            canned,
            inbox: Vec::with_capacity(16 * 1024),
            outbox: Vec::with_capacity(16 * 1024),
            status: b'I',
        }
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        self.stream.set_nodelay(true)?;
        if !self.greet().await? {
            return Ok(());
        }
        loop {
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Ok(());
            }
            let mut at = 0;
            while let Some(&[tag, a, b, c, d]) = self.inbox[at..].first_chunk::<HEAD>() {
                let len = u32::from_be_bytes([a, b, c, d]) as usize + 1;
                if self.inbox.len() - at < len {
                    break;
                }
                if tag == b'X' {
                    return Ok(());
                }
                let message = at + HEAD..at + len;
                self.answer(tag, message);
                at += len;
            }
            self.inbox.drain(..at);
            for piece in self.outbox.chunks(PIECE) {
                self.stream.write_all(piece).await?;
            }
            self.outbox.clear();
        }
    }

    /// Takes the startup packet; false if it is not to be talked to.
    async fn greet(&mut self) -> anyhow::Result<bool> {
        loop {
            let len = self.stream.read_u32().await? as usize;
            let mut body = vec![0; len.saturating_sub(4)];
            self.stream.read_exact(&mut body).await?;
            match body.first_chunk().map(|code| u32::from_be_bytes(*code)) {
                Some(SSL_REQUEST | GSS_REQUEST) => self.stream.write_all(b"N").await?,
                Some(CANCEL_REQUEST) | None => return Ok(false),
                Some(_) => break,
            }
        }
        let mut welcome = message(b'R', &[0; 4]);
        for (name, value) in [
            ("server_version", "15.0"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("application_name", ""),
            ("is_superuser", "off"),
            ("session_authorization", "postgres"),
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
        ] {
            welcome.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
        }
        welcome.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]));
        welcome.extend(message(b'Z', b"I"));
        self.stream.write_all(&welcome).await?;
        Ok(true)
    }

    fn answer(&mut self, tag: u8, body: std::ops::Range<usize>) {
        let canned = self.canned;
        match tag {
            b'Q' => {
                self.run_text(body);
                self.ready();
            }
            b'S' => self.ready(),
            b'P' => self.outbox.extend_from_slice(&canned.parsed),
            b'B' => self.outbox.extend_from_slice(&canned.bound),
            b'C' => self.outbox.extend_from_slice(&canned.closed),
            b'D' => {
                if self.inbox[body].first() == Some(&b'S') {
                    self.outbox.extend_from_slice(&canned.parameters);
                }
                self.outbox.extend_from_slice(&canned.columns);
            }
            b'E' => {
                self.outbox.extend_from_slice(&canned.row);
                self.outbox.extend_from_slice(&canned.selected);
            }
            _ => {}
        }
    }

    /// Runs a text as far as its first word goes, and a `limit` at its end: so many rows, or one.
    fn run_text(&mut self, body: std::ops::Range<usize>) {
        let text = &self.inbox[body];
        let end = text.iter().position(|c| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        let word = text[..end].to_ascii_uppercase();
        match &*word {
            b"SELECT" | b"SHOW" => {
                let (canned, rows) = (self.canned, limit(text).unwrap_or(1));
                self.outbox.extend_from_slice(&canned.columns);
                for _ in 0..rows {
                    self.outbox.extend_from_slice(&canned.row);
                }
                match rows {
                    1 => self.outbox.extend_from_slice(&canned.selected),
                    _ => self.outbox.extend(message(b'C', format!("SELECT {rows}\0").as_bytes())),
                }
                return;
            }
            b"BEGIN" => self.status = b'T',
            b"COMMIT" | b"ROLLBACK" | b"END" => self.status = b'I',
            _ => {}
        }
        self.outbox.extend(message(b'C', &[&*word, b"\0"].concat()));
    }

    fn ready(&mut self) {
        self.outbox.extend_from_slice(&[b'Z', 0, 0, 0, 5, self.status]);
    }
}

/// What stands behind the word `limit` at the end of a text, which a zero byte ends.
fn limit(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text.strip_suffix(b"\0")?).ok()?;
    let (_, number) = text.rsplit_once(" limit ")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_at_the_end() {
        assert_eq!(limit(b"select * from t limit 100\0"), Some(100));
        for without in [
            &b"select 1\0"[..],
            b"select 1 limit all\0",
            b"select 1 limit 1 offset 2\0",
            b"\0",
            b"",
        ] {
            assert_eq!(limit(without), None);
        }
    }
}
