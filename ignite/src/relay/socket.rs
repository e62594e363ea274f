//! The socket to a PCM, watched for room only while it has none.
//!
//! A Unix socket tells its writer each time its peer has read something, and the runtime's own type always asks to be told: a
//! wake-up for each message that nobody waits for.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connection to a PCM.
pub(crate) struct PcmSocket {
    /// Always there, but for the moment in which what is watched changes.
    watched: Option<AsyncFd<UnixStream>>,
    watches_room: bool,
}

impl PcmSocket {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// The kernel does not watch it.
    pub(crate) fn new(stream: tokio::net::UnixStream) -> io::Result<Self> {
        Ok(Self { watched: Some(watch(stream.into_std()?, Interest::READABLE)?), watches_room: false })
    }

    fn watched(&self) -> io::Result<&AsyncFd<UnixStream>> {
        self.watched.as_ref().ok_or_else(|| io::Error::from(ErrorKind::NotConnected))
    }

    /// From now on the socket is also watched for room, or not any more.
    fn watch_room(&mut self, watches_room: bool, cx: &Context<'_>) -> io::Result<()> {
        let Some(watched) = self.watched.take() else { return Err(ErrorKind::NotConnected.into()) };
        let interest =
            if watches_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.watched = Some(watch(watched.into_inner(), interest)?);
        self.watches_room = watches_room;
        // Whoever waited to read waited at the old registration.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.watches_room {
                match write(self.watched()?.get_ref()) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.watch_room(true, cx)?,
                    done => return Poll::Ready(done),
                }
            }
            let mut room = ready!(self.watched()?.poll_write_ready(cx))?;
            if let Ok(done) = room.try_io(|watched| write(watched.get_ref())) {
                drop(room);
                if done.is_ok() {
                    self.watch_room(false, cx)?;
                }
                return Poll::Ready(done);
            }
        }
    }
}

#[allow(unsafe_code, reason = "the runtime cannot check that a type keeps its descriptor")]
fn watch(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a UnixStream has one descriptor, which is open for as long as the stream is there.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest)? })
}

impl AsyncRead for PcmSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let watched = self.watched()?;
        loop {
            let mut ready = ready!(watched.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            let length = room.len();
            match ready.try_io(|watched| watched.get_ref().read(room)) {
                Ok(Ok(count)) => {
                    // What did not fill the buffer has emptied the socket, and the next bytes will be told of (epoll(7)).
                    if 0 < count && count < length {
                        ready.clear_ready();
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for PcmSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |mut stream| stream.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.watched()?.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_is_written_to_a_full_socket_arrives_while_it_is_read_from() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut ours = PcmSocket::new(ours).unwrap();
        let much: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
        let sent = much.clone();
        let (mut from_theirs, mut to_theirs) = theirs.into_split();
        let peer = tokio::spawn(async move {
            // So full that the writer had to wait, before anything is read.
            to_theirs.write_all(b"begin").await.unwrap();
            let mut got = vec![0; much.len()];
            from_theirs.read_exact(&mut got).await.unwrap();
            assert!(got == much);
            to_theirs.write_all(b"end").await.unwrap();
        });
        let mut heard = [0; 5];
        ours.read_exact(&mut heard).await.unwrap();
        ours.write_all(&sent).await.unwrap();
        assert!(!ours.watches_room, "nobody waits for room any more");
        let mut last = [0; 3];
        ours.read_exact(&mut last).await.unwrap();
        assert_eq!((&heard, &last), (b"begin", b"end"));
        peer.await.unwrap();
        assert_eq!(ours.read(&mut last).await.unwrap(), 0, "the peer has gone");
    }
}
