//! Whether a PCM accepts connections, found out by making one.
//!
//! A PCM ends a connection that says nothing: an end that arrives shows a living process, where a connection that merely
//! opens may still lie in the queue of a dead one.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Longest time for one connection to be opened and ended.
const ONE_TRY: Duration = Duration::from_secs(2);
/// Pauses between two tries, growing from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Tries until a deadline, with growing pauses.
pub(super) struct Tries<'a> {
    socket: &'a Path,
    uid: u32,
    deadline: Instant,
    pause: Option<Duration>,
}

impl<'a> Tries<'a> {
    /// Connections to `socket`, where `uid` should listen.
    pub(super) fn new(socket: &'a Path, uid: u32, deadline: Instant) -> Self {
        Self { socket, uid, deadline, pause: None }
    }

    /// Whether somebody accepts; `false` means to look whether somebody still may, and to call again.
    ///
    /// # Errors
    /// `TimedOut` after the deadline; `PermissionDenied` if another user listens.
    pub(super) async fn next(&mut self) -> io::Result<bool> {
        if let Some(pause) = self.pause {
            let next = Instant::now() + pause;
            if next >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep_until(next).await;
        }
        self.pause = Some(self.pause.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1)));
        match try_once(self.socket, self.uid, self.deadline.min(Instant::now() + ONE_TRY)).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            Err(_) => Ok(false),
        }
    }
}

/// One connection: opened, closed on our side, ended on the other.
async fn try_once(socket: &Path, uid: u32, deadline: Instant) -> io::Result<()> {
    let probe = async {
        let mut stream = UnixStream::connect(socket).await?;
        if stream.peer_cred()?.uid() != uid {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "another user listens on the PCM's socket",
            ));
        }
        // The other side may have ended it already, which is all that this asks for.
        let _ = stream.shutdown().await;
        match stream.read(&mut [0; 1]).await? {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the PCM spoke first")),
        }
    };
    timeout_at(deadline, probe).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
