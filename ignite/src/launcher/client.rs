//! The gateway's side of the launcher's socket, and the way to a PCM that the launcher brought up.
//!
//! A call is a connection: a launcher that restarts costs the calls that were on their way and nothing else. Time limits
//! are the caller's.

use std::io;
use std::path::{Path, PathBuf};

use service::spans;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::wire::{Answer, Counts, ErrorKind, MAX_LINE, PcmName, Process, Ready, Reply, Request, Verb};

/// Where the launcher listens.
#[derive(Clone, Debug)]
pub struct LauncherClient {
    socket: PathBuf,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The launcher is not there, or went away.
    #[error("the launcher cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// It answered something that is no answer to the request.
    #[error("the launcher gave an answer that does not fit")]
    Protocol,
    /// It refused.
    #[error("the launcher refused ({kind:?}): {message}")]
    Refused {
        /// Why, for decisions.
        kind: ErrorKind,
        /// Why, for the log.
        message: String,
    },
}

impl LauncherClient {
    /// A client for the launcher at `socket`; nothing is opened yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// A running PCM of this name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ensure(&self, name: &PcmName) -> Result<Ready, ClientError> {
        // The launcher has no network, and so no collector: what it took is what this call took.
        match spans::call("launcher_ensure", self.call(Verb::Ensure { name: name.clone() })).await? {
            Answer::Ready(ready) if ready.name == *name => Ok(ready),
            _ => Err(ClientError::Protocol),
        }
    }

    /// Ends the PCM of this name, if there is one, and discards what it left.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove(&self, name: &PcmName) -> Result<(), ClientError> {
        match self.call(Verb::Remove { name: name.clone() }).await? {
            Answer::Removed {} => Ok(()),
            _ => Err(ClientError::Protocol),
        }
    }

    /// The running PCMs.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list(&self) -> Result<Vec<PcmName>, ClientError> {
        match self.call(Verb::List {}).await? {
            Answer::Pcms { names } => Ok(names),
            _ => Err(ClientError::Protocol),
        }
    }

    /// How many PCMs there are.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn counts(&self) -> Result<Counts, ClientError> {
        match self.call(Verb::Counts {}).await? {
            Answer::Counts(counts) => Ok(counts),
            _ => Err(ClientError::Protocol),
        }
    }

    /// The running PCMs with their processes, those in the pool too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn processes(&self) -> Result<Vec<Process>, ClientError> {
        match self.call(Verb::Processes {}).await? {
            Answer::Processes { pcms } => Ok(pcms),
            _ => Err(ClientError::Protocol),
        }
    }

    async fn call(&self, verb: Verb) -> Result<Answer, ClientError> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut line = serde_json::to_vec(&Request { id: 1, verb }).map_err(|_| ClientError::Protocol)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        BufReader::new(stream).take(MAX_LINE as u64).read_until(b'\n', &mut answer).await?;
        if answer.last() != Some(&b'\n') {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let reply: Reply = serde_json::from_slice(&answer).map_err(|_| ClientError::Protocol)?;
        match reply.answer {
            Answer::Error { kind, message } => Err(ClientError::Refused { kind, message }),
            answer if reply.id == 1 => Ok(answer),
            _ => Err(ClientError::Protocol),
        }
    }
}

impl Ready {
    /// Connects to the PCM and makes sure that it is this one: its directory belongs to it, so it could have put a link to
    /// another owner's socket there.
    ///
    /// # Errors
    /// The socket cannot be opened, or another user listens there (`PermissionDenied`).
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket).await?;
        if stream.peer_cred()?.uid() == self.uid {
            Ok(stream)
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens on the PCM's socket"))
        }
    }
}
