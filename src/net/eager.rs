//! A socket that is used first and waited for only if that was too early.
//!
//! tokio's own reads and writes take its lock and leave the task's waker with each wait. Here it is left
//! once, and known to be there still; a read or a write that can go on takes no lock.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::ThreadId;

use rustix::net::{self, RecvFlags, SendFlags};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::poll_proceed;

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
    /// Reads what is there into `buf`; 0 is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let turn = ready!(poll_proceed(cx));
            let mut was_ready = false;
            let mut read = Err(io::ErrorKind::WouldBlock.into());
            let _settled = self.socket.try_io(Interest::READABLE, || {
                was_ready = true;
                read = receive(&self.socket, buf);
                settle(&read, buf.len())
            });
            if was_ready {
                // The waker that was there has been called for it, or will be.
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
            // What waits takes this step of the turn: without one it would leave no waker.
            drop(turn);
            match self.socket.poll_read_ready(cx) {
                Poll::Pending => {
                    self.waiting = if self.is_at_home() { me } else { 0 };
                    return Poll::Pending;
                }
                Poll::Ready(ready) => ready?,
            }
        }
    }

    /// Elsewhere the socket may become ready, be read, and be waited for, and only then is the waker called
    /// that is there by now: nobody can say that it still is.
    fn is_at_home(&self) -> bool {
        HERE.with(|here| *here == self.home)
    }

    /// Writes what the socket takes of `bytes`.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(poll_proceed(cx));
        let mut written = Err(io::ErrorKind::WouldBlock.into());
        let _settled = self.socket.try_io(Interest::WRITABLE, || {
            written = transmit(&self.socket, bytes);
            settle(&written, bytes.len())
        });
        if !is_too_early(&written) {
            turn.made_progress();
            return Poll::Ready(written);
        }
        drop(turn);
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }
}

// Of the C library each of these is a point where a thread may be cancelled, which costs two locked
// instructions.

fn receive(socket: &impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    Ok(net::recv(socket, buf, RecvFlags::empty())?.1)
}

fn transmit(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(net::send(socket, bytes, SendFlags::NOSIGNAL)?)
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

    use tokio::task::coop::has_budget_remaining;
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
