//! A client's connection: log in, ask, wait for the answers.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{Target, messages};

const HEAD: usize = 5;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that is logged in, with nothing owed.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
    /// The rest of a message that is not looked at.
    skip: usize,
}

impl Connection {
    /// Logs in without a password, as this one of several clients.
    pub(crate) async fn open(target: &Target, number: u32) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address)
            .await
            .with_context(|| format!("cannot connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, inbox: Vec::with_capacity(16 * 1024), skip: 0 };
        let startup = messages::startup(&target.user, &target.database(number));
        connection.ask(&startup, 1).await.context("cannot log in")?;
        Ok(connection)
    }

    /// Sends `bytes` and reads up to the `boundaries`th `ReadyForQuery`; an error that comes instead of an
    /// answer ends the load.
    pub(crate) async fn ask(&mut self, bytes: &[u8], boundaries: u32) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await?;
        let mut left = boundaries;
        while left > 0 {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.inbox));
            let n = read.await.context("no answer in 60 s")??;
            ensure!(n > 0, "the connection was closed");
            left = left.saturating_sub(self.take_messages()?);
        }
        Ok(())
    }

    /// Asks for a result without end and reads it at a rate; returns when it ends all the same.
    pub(crate) async fn read_slowly(
        &mut self,
        text: &str,
        bytes_per_second: u32,
    ) -> anyhow::Result<()> {
        self.stream.write_all(&messages::query(text)).await?;
        let (begin, mut read) = (Instant::now(), 0.0);
        loop {
            self.inbox.clear();
            let n = self.stream.read_buf(&mut self.inbox).await?;
            ensure!(n > 0, "the slow reader's connection was closed");
            if read == 0.0 {
                ensure!(self.inbox.first() == Some(&b'T'), "the slow reader gets no rows");
            }
            read += n as f64;
            sleep_until(begin + Duration::from_secs_f64(read / f64::from(bytes_per_second))).await;
        }
    }

    /// Says goodbye, and waits until that was heard.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.stream.write_all(&messages::terminate()).await?;
        while self.stream.read_buf(&mut self.inbox).await? > 0 {}
        Ok(())
    }

    /// Looks at what has come; how many `ReadyForQuery` were there.
    fn take_messages(&mut self) -> anyhow::Result<u32> {
        let mut at = self.skip.min(self.inbox.len());
        self.skip -= at;
        let mut boundaries = 0;
        while let Some(&[tag, a, b, c, d]) = self.inbox[at..].first_chunk::<HEAD>() {
            let len = u32::from_be_bytes([a, b, c, d]) as usize + 1;
            if matches!(tag, b'E' | b'R') && self.inbox.len() < at + len {
                break;
            }
            match tag {
                b'Z' => boundaries += 1,
                b'E' => bail!("refused: {}", words(&self.inbox[at + HEAD..at + len])),
                b'R' if self.inbox.get(at + 8) != Some(&0) => bail!("a password is asked for"),
                _ => {}
            }
            let available = len.min(self.inbox.len() - at);
            at += available;
            self.skip = len - available;
        }
        self.inbox.drain(..at);
        Ok(boundaries)
    }
}

/// The words of an `ErrorResponse`.
fn words(body: &[u8]) -> String {
    let message = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(message.unwrap_or(b"without a word")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_error_are_its_message() {
        assert_eq!(words(b"SFATAL\0C28P01\0Mno such user\0\0"), "no such user");
        assert_eq!(words(b"\0"), "without a word");
    }
}
