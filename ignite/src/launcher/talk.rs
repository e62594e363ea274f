//! What the launcher says to a PCM, over the PCM's own socket: whose it is, whether it is still needed.
//!
//! Every conversation has a time limit, because a PCM that hangs must not hold up anybody else.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use pcm_wire::{Answer, Identity, Preamble, Reply, Request, Verb};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest answer, in bytes.
const LONGEST: u64 = 16 << 10;
/// Longest time for one question and its answer, the connection included.
const LIMIT: Duration = Duration::from_secs(3);

/// What a PCM says of whether it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retired {
    /// It is about to exit.
    Yes,
    /// Somebody needs it.
    Busy,
}

/// Says whose the PCM at `socket` is from now on, and hands over the files of its state.
pub(super) async fn identify(
    socket: &Path,
    uid: u32,
    identity: Identity,
    files: Option<&[File; 2]>,
) -> io::Result<()> {
    match ask(socket, uid, Verb::Identity(identity), files).await? {
        Answer::Ok {} => Ok(()),
        answer => Err(refused(answer)),
    }
}

/// Whose the PCM says it is.
pub(super) async fn whose(socket: &Path, uid: u32) -> io::Result<Option<String>> {
    match ask(socket, uid, Verb::Whose {}, None).await? {
        Answer::Whose { name } => Ok(name),
        answer => Err(refused(answer)),
    }
}

/// For how long nobody has needed it; `None` if somebody does.
pub(super) async fn idle(socket: &Path, uid: u32) -> io::Result<Option<Duration>> {
    match ask(socket, uid, Verb::Stats {}, None).await? {
        Answer::Stats(stats) => Ok(stats.idle_ms.map(Duration::from_millis)),
        answer => Err(refused(answer)),
    }
}

/// Has it exit unless it is needed. The caller has hidden its socket, which is at `socket` now.
pub(super) async fn retire(socket: &Path, uid: u32) -> io::Result<Retired> {
    match ask(socket, uid, Verb::Retire {}, None).await? {
        Answer::Ok {} => Ok(Retired::Yes),
        Answer::Busy {} => Ok(Retired::Busy),
        answer => Err(refused(answer)),
    }
}

/// Has it tell its clients that it ends, and exit.
pub(super) async fn drain(socket: &Path, uid: u32) -> io::Result<()> {
    match ask(socket, uid, Verb::Drain {}, None).await? {
        Answer::Ok {} => Ok(()),
        answer => Err(refused(answer)),
    }
}

fn refused(answer: Answer) -> io::Error {
    match answer {
        Answer::Error(message) => io::Error::other(message),
        _ => io::ErrorKind::InvalidData.into(),
    }
}

async fn ask(socket: &Path, uid: u32, verb: Verb, files: Option<&[File; 2]>) -> io::Result<Answer> {
    let asked = async {
        let stream = UnixStream::connect(socket).await?;
        if stream.peer_cred()?.uid() != uid {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "another user listens on the PCM's socket",
            ));
        }
        let mut bytes = Preamble::Launcher {}.to_bytes();
        serde_json::to_writer(&mut bytes, &Request { id: 1, verb })?;
        bytes.push(b'\n');
        send(&stream, &bytes, files).await?;
        let mut line = Vec::new();
        BufReader::new(stream).take(LONGEST).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reply: Reply = serde_json::from_slice(&line)?;
        if reply.id == 1 { Ok(reply.answer) } else { Err(io::ErrorKind::InvalidData.into()) }
    };
    timeout(LIMIT, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends everything in one message, so that the files come along with the first byte. A fresh socket has room for it.
async fn send(stream: &UnixStream, bytes: &[u8], files: Option<&[File; 2]>) -> io::Result<()> {
    let descriptors: Option<[BorrowedFd<'_>; 2]> = files.map(|files| [files[0].as_fd(), files[1].as_fd()]);
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if let Some(descriptors) = &descriptors {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
        })
        .await?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
