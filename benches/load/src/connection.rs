//! A client's connection: log in, ask, wait for the answers.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Target, messages};

const HEAD: usize = 5;

/// One that is logged in, with nothing owed.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
    /// The rest of a message that is not looked at.
    skip: usize,
}

impl Connection {
    /// Logs in without a password.
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address)
            .await
            .with_context(|| format!("cannot connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, inbox: Vec::with_capacity(16 * 1024), skip: 0 };
        let startup = messages::startup(&target.user, &target.database);
        connection.ask(&startup, 1).await.context("cannot log in")?;
        Ok(connection)
    }

    /// Sends `bytes` and reads up to the `boundaries`th `ReadyForQuery`; an error that comes instead of an
    /// answer ends the load.
    pub(crate) async fn ask(&mut self, bytes: &[u8], boundaries: u32) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await?;
        let mut left = boundaries;
        while left > 0 {
            let n = self.stream.read_buf(&mut self.inbox).await?;
            ensure!(n > 0, "the connection was closed");
            left = left.saturating_sub(self.take_messages()?);
        }
        Ok(())
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.stream.write_all(&messages::terminate()).await?;
        Ok(())
    }

    /// Looks at what has come; how many `ReadyForQuery` were there.
    fn take_messages(&mut self) -> anyhow::Result<u32> {
        let mut at = self.skip.min(self.inbox.len());
        self.skip -= at;
        let mut boundaries = 0;
        while let Some(&[tag, a, b, c, d]) = self.inbox[at..].first_chunk::<HEAD>() {
            let len = u32::from_be_bytes([a, b, c, d]) as usize + 1;
            match tag {
                b'Z' => boundaries += 1,
                b'E' => bail!("refused: {}", String::from_utf8_lossy(&self.inbox[at + HEAD..])),
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
