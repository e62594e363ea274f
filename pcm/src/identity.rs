//! Before a broker is anybody's: it waits for the launcher to say whose it is, and to hand over the files of its state.
//!
//! A launcher keeps some of these started. They have locked themselves in already, with the few calls more that this takes
//! (`sandbox::install_waiting`), and serve nobody: no buffer is made and no connection kept before the identity came.
//! Saying it again later is [`door`](crate::door)'s.

use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use pcm_wire::{Answer, Identity, Preamble, Reply, Request, Verb};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{kernel, log};

/// Longest preamble and line together, in bytes.
const LONGEST: usize = 4 << 10;
/// How long a launcher may be silent in the middle of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the launcher said.
pub(crate) struct Told {
    pub(crate) identity: Identity,
    /// The files of the state; without them nothing is kept.
    pub(crate) files: Option<[File; 2]>,
}

/// Waits until the launcher has said whose this is. `None` if the process is to stop before that.
///
/// # Errors
/// The kernel's, if it cannot be waited any more.
pub(crate) fn wait(listener: &UnixListener, launcher_uid: u32, stop: &OwnedFd) -> io::Result<Option<Told>> {
    listener.set_nonblocking(true)?;
    loop {
        let mut sources = [
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        match poll(&mut sources, None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        if !sources[0].revents().is_empty() {
            return Ok(None);
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        match kernel::peer_uid(&stream) {
            Ok(uid) if uid == launcher_uid => {}
            Ok(_) | Err(_) => {
                log::line(format_args!("refused a connection before it was said whose this is"));
                continue;
            }
        }
        match Conversation::with(stream).and_then(Conversation::lead) {
            Ok(Some(told)) => return Ok(Some(told)),
            Ok(None) => {}
            Err(error) => log::line(format_args!("the launcher was not understood: {error}")),
        }
    }
}

/// One connection of the launcher.
struct Conversation {
    stream: UnixStream,
    input: Vec<u8>,
    files: Vec<OwnedFd>,
}

impl Conversation {
    fn with(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, input: Vec::new(), files: Vec::new() })
    }

    /// Answers until the identity came, or the launcher has gone.
    fn lead(mut self) -> io::Result<Option<Told>> {
        let nonsense = |_| io::Error::from(io::ErrorKind::InvalidData);
        let length = loop {
            match Preamble::parse(&self.input).map_err(nonsense)? {
                Some((Preamble::Launcher {}, length)) => break length,
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None if !self.receive()? => return Ok(None),
                None => {}
            }
        };
        self.input.drain(..length);
        loop {
            let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
                if !self.receive()? {
                    return Ok(None);
                }
                continue;
            };
            let request: Request = serde_json::from_slice(self.input.get(..end).unwrap_or_default())?;
            self.input.drain(..=end);
            let (answer, told) = match request.verb {
                Verb::Identity(identity) => match self.take_files() {
                    Ok(files) => (Answer::Ok {}, Some(Told { identity, files })),
                    Err(error) => (error, None),
                },
                Verb::Whose {} => (Answer::Whose { name: None }, None),
                Verb::Claim(_) | Verb::Grants(_) | Verb::Stats {} | Verb::Drain {} | Verb::Retire {} => {
                    (Answer::Error("nobody's yet".to_owned()), None)
                }
            };
            let mut line = serde_json::to_vec(&Reply { id: request.id, answer })?;
            line.push(b'\n');
            let answered = self.stream.write_all(&line);
            if told.is_some() {
                // It was said, whether the answer is heard or not: another name is not taken any more.
                return Ok(told);
            }
            answered?;
        }
    }

    fn take_files(&mut self) -> Result<Option<[File; 2]>, Answer> {
        let files: Vec<File> = std::mem::take(&mut self.files).into_iter().map(File::from).collect();
        match <[File; 2]>::try_from(files) {
            Ok(files) => Ok(Some(files)),
            Err(none) if none.is_empty() => Ok(None),
            Err(_) => Err(Answer::Error("the state is two files".to_owned())),
        }
    }

    /// Takes what comes next, bytes and files; false at the end.
    fn receive(&mut self) -> io::Result<bool> {
        if self.input.len() >= LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.stream, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        self.input.extend_from_slice(bytes.get(..received.bytes).unwrap_or_default());
        Ok(received.bytes > 0)
    }
}
