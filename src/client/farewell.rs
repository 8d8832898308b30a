//! The end of a session: what its client is still told, and what becomes of its server.

use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::registry::Registered;
use super::serve::{End, Session};
use crate::error::{ClientMessage, Fault};
use crate::net::buffer::{HOLD_LEN, with_scratch};
use crate::net::stream::{Stream, flush, send};
use crate::telemetry::counters::CloseReason;
use crate::wire::error_response::{self, Severity};
use crate::wire::frame::FrameError;
use crate::wire::sqlstate;

/// How long a client that reads slowly may take for what it is told last.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to close its end that was told what it did wrong: it may still be sending.
const LINGER: Duration = Duration::from_secs(1);

/// A client that has not heard yet why its session is over.
pub(super) struct Farewell {
    stream: Stream,
    /// What its socket has not taken yet.
    rest: Vec<u8>,
    lingers: bool,
    /// The client counts for as long as its socket is open.
    _registered: Registered,
}

impl Session {
    /// Tells the log, and the client if it can still hear it; what is left to do for it.
    pub(super) fn finish(mut self, end: &End) -> Option<Farewell> {
        let id = self.record().id;
        let link = std::mem::replace(&mut self.link, Link::Free);
        self.registered.record.clear_link();
        let mut last_words = None;
        match end {
            End::ClientLeft => tracing::info!(client = id, "client left"),
            End::Io(error) => tracing::info!(client = id, %error, "client lost"),
            End::Cut(why) => tracing::warn!(client = id, why, "client closed"),
            End::ServerEnded => {
                tracing::info!(client = id, "client closed behind its server's last words");
                last_words = Some(Vec::new());
            }
            End::Fatal { .. } if matches!(&link, Link::Linked(l) if l.server_rest.is_cut()) => {
                tracing::warn!(client = id, "client closed in the middle of a message");
            }
            End::Fatal { fault, message } => {
                self.context.process.errors.increment(message.sqlstate.class(), *fault);
                tracing::info!(
                    client = id,
                    sqlstate = message.sqlstate.as_str(),
                    message = message.message,
                    "client closed"
                );
                let words = last_words.insert(Vec::new());
                error_response::put(words, Severity::Fatal, message);
            }
        }
        if let Link::Linked(linked) = link {
            // Whatever is under way on it is the end of it; a server at rest is only given back.
            if self.client_rest > 0 {
                linked.checkout.close(CloseReason::ClientLeft);
            } else {
                linked.checkout.checkin(Instant::now());
            }
        }
        match last_words {
            Some(words) => {
                let lingers = matches!(end, End::Fatal { fault: Fault::Client, .. });
                self.say_last(&words, lingers)
            }
            None => {
                discard(&mut self.stream);
                None
            }
        }
    }

    /// A frame of the server's that nobody can take.
    pub(super) fn on_bad_frame(&mut self, error: &FrameError) -> Result<bool, End> {
        if matches!(error, FrameError::Length { .. }) {
            return self.on_violation(&error.to_string());
        }
        self.close_server(CloseReason::Protocol);
        let text = "the server sent a message longer than max_message";
        let message = ClientMessage::new(sqlstate::PROGRAM_LIMIT, text)
            .detail(error.to_string())
            .hint("Raise listen.max_message.");
        Err(End::fatal(Fault::Server, message))
    }

    pub(super) fn on_violation(&mut self, what: &str) -> Result<bool, End> {
        tracing::error!(client = self.record().id, domain = %self.record().domain, what,
            "the server broke the protocol");
        self.close_server(CloseReason::Protocol);
        let message = ClientMessage::new(
            sqlstate::PROTOCOL_VIOLATION,
            "the server broke the protocol, and the connection is closed",
        )
        .detail(what);
        Err(End::fatal(Fault::Server, message))
    }

    /// Sends `words` behind what is left over, as far as the socket takes them now.
    fn say_last(self, words: &[u8], lingers: bool) -> Option<Farewell> {
        let Self { mut stream, outbox: mut rest, registered, .. } = self;
        let mut cx = TaskContext::from_waker(Waker::noop());
        // A client that is gone misses nothing.
        flush(&mut stream, &mut rest, &mut cx).ok()?;
        send(&mut stream, &mut rest, words, &mut cx).ok()?;
        discard(&mut stream);
        let is_told = rest.is_empty() && !lingers;
        (!is_told).then_some(Farewell { stream, rest, lingers, _registered: registered })
    }
}

impl Farewell {
    pub(super) async fn send(mut self, hard: &CancellationToken) {
        write_last(&mut self.stream, &self.rest, hard).await;
        if self.lingers {
            self.stream.end_writing();
            read_to_end(&mut self.stream, hard).await;
        }
        discard(&mut self.stream);
    }
}

/// Writes `rest`, for as long as a client may take and the drain leaves time.
async fn write_last(stream: &mut Stream, rest: &[u8], hard: &CancellationToken) {
    tokio::select! {
        sent = timeout(FAREWELL_TIMEOUT, stream.write_all(rest)) => drop(sent),
        () = hard.cancelled() => {}
    }
}

/// Reads what a client still sends that was told something, until it has closed its end.
async fn read_to_end(stream: &mut Stream, hard: &CancellationToken) {
    let mut buf = vec![0; HOLD_LEN];
    let ended = async { while stream.read(&mut buf).await.is_ok_and(|n| n > 0) {} };
    tokio::select! {
        ended = timeout(LINGER, ended) => drop(ended),
        () = hard.cancelled() => {}
    }
}

/// Takes what has come from a client that is answered no more: a socket that is closed with something
/// unread resets the connection, and what the client was told last may be lost with it (RFC 1122,
/// 4.2.2.13).
fn discard(stream: &mut Stream) {
    let mut cx = TaskContext::from_waker(Waker::noop());
    with_scratch(|scratch| {
        for _ in 0..DISCARDS_MOST {
            match stream.poll_read(&mut cx, &mut scratch.input) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
    });
}

/// How many reads that is at most: a client that goes on sending is left to its reset.
const DISCARDS_MOST: usize = 16;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Bytes for a client that reads nothing, of which its socket has taken what it takes.
    fn unread() -> (Stream, Vec<u8>, tokio::net::UnixStream) {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (mut stream, mut rest) = (Stream::from(ours), Vec::new());
        let mut cx = TaskContext::from_waker(Waker::noop());
        send(&mut stream, &mut rest, &vec![0; 1 << 24], &mut cx).unwrap();
        assert!(!rest.is_empty());
        (stream, rest, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_left_after_a_few_seconds() {
        let (mut stream, rest, _theirs) = unread();
        let begun = Instant::now();

        write_last(&mut stream, &rest, &CancellationToken::new()).await;

        assert_eq!(begun.elapsed().as_secs(), FAREWELL_TIMEOUT.as_secs());
    }

    /// As it would be by what is left unread.
    #[tokio::test]
    async fn a_connection_is_not_reset_by_what_its_client_had_still_sent() {
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        theirs.write_all(b"too late").await.unwrap();
        ours.readable().await.unwrap();
        let mut stream = Stream::from(ours);
        stream.try_write_last(b"last words");

        discard(&mut stream);
        drop(stream);

        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_close_its_end_is_left_after_a_second() {
        let (mut stream, _, _theirs) = unread();
        let begun = Instant::now();

        read_to_end(&mut stream, &CancellationToken::new()).await;

        assert_eq!(begun.elapsed().as_secs(), LINGER.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_farewell_does_not_outlast_the_drain() {
        let (mut stream, rest, _theirs) = unread();
        let hard = CancellationToken::new();
        hard.cancel();
        let begun = Instant::now();

        write_last(&mut stream, &rest, &hard).await;
        read_to_end(&mut stream, &hard).await;

        assert!(begun.elapsed().is_zero());
    }
}
