//! The launcher's Unix socket: who may speak, how long a line may be, and one answer a line.
//!
//! What the verbs do is left to [`Launcher`].

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::{Answer, MAX_REQUEST, Reply, Request};
use super::{Failure, Launcher};

/// Connections at once; more wait in the listener's queue.
const CONNECTIONS: usize = 512;
/// How long a connection may say nothing, and may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long requests that are under way may take at shutdown.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after accepting failed, for example because no descriptor was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on `path`, where a socket that nobody serves any more is replaced; only owner and `group` may open it.
///
/// # Errors
/// `AddrInUse` if a launcher answers there, or what the file system says.
pub(super) fn bind(path: &Path, group: u32) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another launcher answers there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    chown(path, None, Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Answers until `shutdown`; requests that are under way are finished.
pub(super) async fn serve(
    listener: UnixListener,
    launcher: Arc<Launcher>,
    peers: [u32; 2],
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            (permit, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    let launcher = Arc::clone(&launcher);
                    let shutdown = shutdown.clone();
                    tasks.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = converse(stream, &launcher, peers, &shutdown).await {
                            tracing::debug!(event = "launcher_connection_ended", %error, "a connection to the launcher ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(event = "accept_failed", %error, "accepting on the launcher's socket failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    tasks.close();
    if timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(event = "drain_deadline", "requests were cut off by the launcher's end");
    }
}

async fn converse(
    stream: UnixStream,
    launcher: &Launcher,
    peers: [u32; 2],
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if !peers.contains(&uid) {
        tracing::warn!(event = "launcher_stranger", uid, "a user that is not the gateway's was turned away");
        return Ok(());
    }
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut lines).take(MAX_REQUEST as u64 + 1);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            read = timeout(PATIENCE, bounded.read_until(b'\n', &mut line)) => { read??; }
        }
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.pop() == Some(b'\n');
        let reply = match request(&line) {
            Ok(request) if whole => Reply { id: request.id, answer: launcher.answer(request.verb).await },
            Ok(Request { id, .. }) => Reply { id, answer: refusal("the line has no end") },
            Err(reply) => reply,
        };
        let mut line = serde_json::to_vec(&reply).map_err(io::Error::other)?;
        line.push(b'\n');
        timeout(PATIENCE, write.write_all(&line)).await??;
        if !whole {
            return Ok(());
        }
    }
}

/// The request in a line, or what to answer to a line that is none.
fn request(line: &[u8]) -> Result<Request, Reply> {
    if line.len() > MAX_REQUEST {
        return Err(Reply { id: 0, answer: refusal("the line is too long") });
    }
    let refused = |id| Reply { id, answer: refusal("the line is no request") };
    let value: serde_json::Value = serde_json::from_slice(line).map_err(|_| refused(0))?;
    let id = value.get("id").and_then(serde_json::Value::as_u64).unwrap_or(0);
    serde_json::from_value(value).map_err(|_| refused(id))
}

fn refusal(message: &str) -> Answer {
    Failure::BadRequest(message.to_owned()).answer()
}
