//! A socket that is used first and waited for only if that was too early.
//!
//! tokio's own reads and writes take its lock and leave the task's waker with each wait. Here it is left
//! once, and known to be there still; a read or a write that can go on takes no lock.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::ThreadId;

use rustix::io::Errno;
// Of the C library, `recv` and `send` are points where a thread may be cancelled: two locked instructions
// each.
use rustix::net::{self, RecvFlags, SendFlags};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::has_budget_remaining;

/// What tokio has for sockets of each kind.
pub trait Socket: AsyncWrite + AsFd + Unpin {
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

thread_local! {
    /// This thread: `thread::current` counts its callers, which is a locked instruction each time.
    static HERE: ThreadId = std::thread::current().id();
}

/// A socket, and what is known of who waits to read from it.
#[derive(Debug)]
pub struct Eager<S> {
    pub(super) socket: S,
    /// The thread whose runtime hears of the socket: where this was made.
    home: ThreadId,
    /// The address of the waker that was left and not called since; 0: none, or nobody knows. As long as
    /// it is there, it keeps its task, so that no other can have this address.
    waiting: usize,
}

impl<S> From<S> for Eager<S> {
    fn from(socket: S) -> Self {
        Self { socket, home: HERE.with(|here| *here), waiting: 0 }
    }
}

impl<S: Socket> Eager<S> {
    /// Reads what is there into `buf`; 0 is the end of the stream. Takes no step of the task's turn: whoever
    /// reads on and on must.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Poll::Ready(read) = self.try_read(buf) {
                return Poll::Ready(read);
            }
            let me = cx.waker().data().addr();
            if self.waiting == me {
                return Poll::Pending;
            }
            // Without a step to take it would leave no waker, and have the task called again at once.
            let is_left = has_budget_remaining() && self.is_at_home();
            match self.socket.poll_read_ready(cx) {
                Poll::Pending => {
                    self.waiting = if is_left { me } else { 0 };
                    return Poll::Pending;
                }
                Poll::Ready(ready) => ready?,
            }
        }
    }

    /// Reads what is known to be there. `Pending`: nothing, and nobody waits for it.
    pub(super) fn try_read(&mut self, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = None;
        let _settled = self.socket.try_io(Interest::READABLE, || {
            let moved = net::recv(&self.socket, &mut *buf, RecvFlags::empty()).map(|(_, n)| n);
            read = Some(moved);
            settle(moved, buf.len())
        });
        let Some(read) = read else { return Poll::Pending };
        // The waker that was there has been called for it, or will be.
        self.waiting = 0;
        moved(read)
    }

    /// Elsewhere the socket may become ready, be read, and be waited for, and only then is the waker called
    /// that is there by now: nobody can say that it still is.
    fn is_at_home(&self) -> bool {
        HERE.with(|here| *here == self.home)
    }

    /// Writes what the socket takes of `bytes`. Takes no step of the task's turn if it takes something.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut written = None;
        let _settled = self.socket.try_io(Interest::WRITABLE, || {
            let moved = net::send(&self.socket, bytes, SendFlags::NOSIGNAL);
            written = Some(moved);
            settle(moved, bytes.len())
        });
        match written.map_or(Poll::Pending, moved) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => Pin::new(&mut self.socket).poll_write(cx, bytes),
        }
    }
}

/// `WouldBlock` unless all that there was room for was moved: what is left comes with an event of its own,
/// and trying for it before that would be a system call for nothing.
fn settle(moved: Result<usize, Errno>, room: usize) -> io::Result<()> {
    match moved {
        Ok(n) if n > 0 && n < room => Err(io::ErrorKind::WouldBlock.into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.kind().into()),
    }
}

/// What a call has moved. `Pending`: it came too early.
fn moved(moved: Result<usize, Errno>) -> Poll<io::Result<usize>> {
    match moved {
        Err(Errno::WOULDBLOCK) => Poll::Pending,
        moved => Poll::Ready(moved.map_err(io::Error::from)),
    }
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

    use tokio::task::coop::poll_proceed;
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
        assert!(poll(&mut stream, &waker).is_pending(), "nobody has heard of it yet");
        until_woken(&waker, 1).await;

        assert_eq!(read(&mut stream, &waker), b"abcd");
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

    /// Whose turn is over leaves no waker, and must not be taken to have.
    #[tokio::test]
    async fn who_has_had_its_turn_is_not_forgotten() {
        let (mut stream, mut theirs) = pair();
        let waker = Arc::new(Count::default());
        poll_fn(|cx| {
            while has_budget_remaining() {
                let Poll::Ready(turn) = poll_proceed(cx) else { break };
                turn.made_progress();
            }
            Poll::Ready(())
        })
        .await;
        assert!(poll(&mut stream, &waker).is_pending());
        until_woken(&waker, 1).await;
        assert!(poll(&mut stream, &waker).is_pending());

        theirs.write_all(b"abc").unwrap();
        until_woken(&waker, 2).await;
        assert_eq!(read(&mut stream, &waker), b"abc");
    }

    /// How many wakers of it there are besides the one that the test has.
    fn left(waker: &Arc<Count>) -> usize {
        Arc::strong_count(waker) - 1
    }

    /// As if the waker that is there had been called late, and for something that was read since.
    fn empty(stream: &Eager<UnixStream>) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stream.socket.poll_read_ready(&mut cx).is_pending());
    }

    #[tokio::test]
    async fn a_waker_that_is_there_is_not_left_once_more() {
        let (mut stream, _theirs) = pair();
        let waker = Arc::new(Count::default());
        assert!(poll(&mut stream, &waker).is_pending());
        assert_eq!(left(&waker), 1);

        empty(&stream);
        assert!(poll(&mut stream, &waker).is_pending());

        assert_eq!(left(&waker), 0);
    }

    #[tokio::test]
    async fn away_from_home_a_waker_is_left_each_time() {
        let (mut stream, mut theirs) = pair();
        let waker = Arc::new(Count::default());
        let away = Arc::clone(&waker);
        let mut stream = std::thread::spawn(move || {
            assert!(poll(&mut stream, &away).is_pending());
            empty(&stream);
            assert!(poll(&mut stream, &away).is_pending());
            stream
        })
        .join()
        .unwrap();

        theirs.write_all(b"abc").unwrap();
        until_woken(&waker, 1).await;

        assert_eq!(read(&mut stream, &waker), b"abc");
    }

    /// Trying once more what has just been emptied would be a system call for nothing.
    #[tokio::test]
    async fn behind_a_short_read_nothing_is_known_to_be_there() {
        let (mut stream, mut theirs) = pair();
        let waker = Arc::new(Count::default());
        assert!(poll(&mut stream, &waker).is_pending());
        theirs.write_all(b"abc").unwrap();
        until_woken(&waker, 1).await;
        assert_eq!(read(&mut stream, &waker), b"abc");

        let tried = stream.socket.try_io(Interest::READABLE, || Ok(()));

        assert_eq!(tried.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
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
            let written = poll_fn(|cx| stream.poll_write(cx, rest));
            let n = timeout(Duration::from_secs(20), written).await.expect("nobody was woken");
            rest = &rest[n.unwrap()..];
        }
        drop(stream);

        assert!(reader.join().unwrap() == bytes);
    }
}
