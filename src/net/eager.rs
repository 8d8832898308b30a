//! A socket that is used first and waited for only if that was too early.
//!
//! tokio's own reads and writes take its lock and leave the task's waker with each wait. Here it is left
//! once, and known to be there still; a read or a write that can go on takes no lock.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::{has_budget_remaining, poll_proceed};

/// What tokio has for sockets of each kind.
pub trait Socket: AsyncWrite + Unpin {
    /// The socket for system calls.
    fn raw(&self) -> SockRef<'_>;

    /// Runs `operation` if the socket is ready for all that is known, and takes that back if it says
    /// `WouldBlock`.
    fn try_io<R>(
        &self,
        interest: Interest,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R>;

    /// Leaves the waker of `cx` until something can be read.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

macro_rules! socket {
    ($kind:ty) => {
        impl Socket for $kind {
            fn raw(&self) -> SockRef<'_> {
                SockRef::from(self)
            }

            fn try_io<R>(
                &self,
                interest: Interest,
                operation: impl FnOnce() -> io::Result<R>,
            ) -> io::Result<R> {
                Self::try_io(self, interest, operation)
            }

            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Self::poll_read_ready(self, cx)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// A socket, and what is known of who waits to read from it.
#[derive(Debug)]
pub struct Eager<S> {
    pub(super) socket: S,
    /// The address of the waker that was left and not called since; 0: none. As long as it is there, it
    /// keeps its task, so that no other can have this address.
    waiting: usize,
}

impl<S> From<S> for Eager<S> {
    fn from(socket: S) -> Self {
        Self { socket, waiting: 0 }
    }
}

impl<S: Socket> Eager<S> {
    /// Reads what is there into `buf`; 0 is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(poll_proceed(cx));
        loop {
            let mut was_ready = false;
            let mut read = Err(io::ErrorKind::WouldBlock.into());
            let _settled = self.socket.try_io(Interest::READABLE, || {
                was_ready = true;
                read = io::Read::read(&mut &*self.socket.raw(), buf);
                settle(&read, buf.len())
            });
            if was_ready {
                // Its waker was called when it became so.
                self.waiting = 0;
            }
            if !is_too_early(&read) {
                turn.made_progress();
                return Poll::Ready(read);
            }
            let me = cx.waker().data().addr();
            if !was_ready && self.waiting == me {
                return Poll::Pending;
            }
            // Who has had its turn is called at once, and leaves no waker.
            let is_left = has_budget_remaining();
            match self.socket.poll_read_ready(cx) {
                Poll::Pending => {
                    self.waiting = if is_left { me } else { 0 };
                    return Poll::Pending;
                }
                Poll::Ready(ready) => ready?,
            }
        }
    }

    /// Writes what the socket takes of `bytes`.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut written = Err(io::ErrorKind::WouldBlock.into());
        let turn = ready!(poll_proceed(cx));
        let _settled = self.socket.try_io(Interest::WRITABLE, || {
            written = io::Write::write(&mut &*self.socket.raw(), bytes);
            settle(&written, bytes.len())
        });
        if is_too_early(&written) {
            return Pin::new(&mut self.socket).poll_write(cx, bytes);
        }
        turn.made_progress();
        Poll::Ready(written)
    }
}

/// `WouldBlock` unless all that there was room for was moved: what is left comes with an event of its own,
/// and trying for it before that would be a system call for nothing.
fn settle(moved: &io::Result<usize>, room: usize) -> io::Result<()> {
    match moved {
        Ok(n) if *n > 0 && *n < room => Err(io::ErrorKind::WouldBlock.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.kind().into()),
    }
}

fn is_too_early(moved: &io::Result<usize>) -> bool {
    moved.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream as Other;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    impl Count {
        fn is(&self, times: usize) -> bool {
            self.0.load(Relaxed) == times
        }
    }

    fn pair() -> (Eager<UnixStream>, Other) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs = theirs.into_std().unwrap();
        theirs.set_nonblocking(false).unwrap();
        (ours.into(), theirs)
    }

    fn poll(stream: &mut Eager<UnixStream>, waker: &Arc<Count>) -> Poll<io::Result<Vec<u8>>> {
        let waker = Waker::from(Arc::clone(waker));
        let mut buf = [0; 4];
        let read = stream.poll_read(&mut Context::from_waker(&waker), &mut buf);
        read.map_ok(|n| buf[..n].to_vec())
    }

    fn read(stream: &mut Eager<UnixStream>, waker: &Arc<Count>) -> Vec<u8> {
        match poll(stream, waker) {
            Poll::Ready(bytes) => bytes.unwrap(),
            Poll::Pending => panic!("nothing is there"),
        }
    }

    /// Lets the runtime hear of what has happened to the socket.
    async fn until_woken(waker: &Count, times: usize) {
        let woken = async {
            while !waker.is(times) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), woken).await.expect("nobody was woken");
    }

    #[tokio::test]
    async fn who_waits_is_woken_each_time_that_something_comes() {
        let (mut stream, mut theirs) = pair();
        let waker = Arc::new(Count::default());
        assert!(poll(&mut stream, &waker).is_pending());
        for times in 1..=3 {
            theirs.write_all(b"abc").unwrap();
            until_woken(&waker, times).await;
            assert_eq!(read(&mut stream, &waker), b"abc");
            // The second look leaves the waker, and the third finds it there.
            assert!(poll(&mut stream, &waker).is_pending());
            assert!(poll(&mut stream, &waker).is_pending());
        }
        drop(theirs);
        until_woken(&waker, 4).await;
        assert_eq!(read(&mut stream, &waker), b"");
    }

    #[tokio::test]
    async fn what_there_was_no_room_for_is_read_at_once() {
        let (mut stream, mut theirs) = pair();
        let waker = Arc::new(Count::default());
        theirs.write_all(b"abcdefghij").unwrap();
        if poll(&mut stream, &waker).is_pending() {
            until_woken(&waker, 1).await;
            assert_eq!(read(&mut stream, &waker), b"abcd");
        }

        assert_eq!(read(&mut stream, &waker), b"efgh");
        assert_eq!(read(&mut stream, &waker), b"ij");
        assert!(poll(&mut stream, &waker).is_pending());
    }

    /// A server goes from one session to the next.
    #[tokio::test]
    async fn whoever_looked_last_is_woken() {
        let (mut stream, mut theirs) = pair();
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        assert!(poll(&mut stream, &first).is_pending());
        assert!(poll(&mut stream, &second).is_pending());

        theirs.write_all(b"abc").unwrap();
        until_woken(&second, 1).await;

        assert!(first.is(0));
        assert_eq!(read(&mut stream, &second), b"abc");
        assert!(poll(&mut stream, &second).is_pending());
        assert!(poll(&mut stream, &first).is_pending());
        theirs.write_all(b"def").unwrap();
        until_woken(&first, 1).await;
        assert!(second.is(1));
    }

    /// Takes `steps` of this task's turn, or all of them; how many that were.
    async fn take_steps(steps: usize) -> usize {
        poll_fn(|cx| {
            let mut taken = 0;
            while taken < steps && has_budget_remaining() {
                let Poll::Ready(turn) = poll_proceed(cx) else { break };
                turn.made_progress();
                taken += 1;
            }
            Poll::Ready(taken)
        })
        .await
    }

    /// Whose turn is over is called at once and leaves no waker, and must not be taken to have.
    #[tokio::test]
    async fn who_has_had_its_turn_is_not_forgotten() {
        let (mut stream, mut theirs) = pair();
        let waker = Arc::new(Count::default());
        yield_now().await;
        let all = take_steps(usize::MAX).await;
        yield_now().await;
        take_steps(all - 1).await;

        // The look takes the last step, and has none for its wait.
        assert!(poll(&mut stream, &waker).is_pending());
        until_woken(&waker, 1).await;
        assert!(poll(&mut stream, &waker).is_pending());

        theirs.write_all(b"abc").unwrap();
        until_woken(&waker, 2).await;
        assert_eq!(read(&mut stream, &waker), b"abc");
    }

    #[tokio::test]
    async fn all_is_written_however_little_is_taken_at_a_time() {
        let (mut stream, mut theirs) = pair();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();

        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let n = poll_fn(|cx| stream.poll_write(cx, rest)).await.unwrap();
            rest = &rest[n..];
        }
        drop(stream);

        assert!(reader.join().unwrap() == bytes);
    }
}
