//! The control connection of one PCM: one JSON line asked, one answered.

use std::io;
use std::time::Duration;

use pcm_wire::{Answer, MAX_LINE, Reply, Request, Stats, Verb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest answer; a PCM answers with counts at most.
const LONGEST_REPLY: usize = 16 * 1024;

/// A control connection. It takes no task and no buffer while nothing is asked: there is one for each owner.
pub(super) struct Control {
    stream: UnixStream,
    asked: u64,
    /// Each question has had its answer.
    in_step: bool,
}

impl Control {
    /// Takes over a stream whose preamble was sent.
    pub(super) const fn over(stream: UnixStream) -> Self {
        Self { stream, asked: 0, in_step: true }
    }

    /// False once the PCM has closed the connection, as far as that is known, or question and answer are out of step.
    pub(super) fn is_alive(&self) -> bool {
        // Nothing is said unasked: there is nothing to read until the end.
        let nothing_yet = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.in_step && self.stream.try_read(&mut [0]).is_err_and(nothing_yet)
    }

    /// Asks for something whose answer is `ok`.
    ///
    /// # Errors
    /// The connection broke, the time is over, or the PCM said no (`Other`).
    pub(super) async fn call(&mut self, verb: Verb, limit: Duration) -> io::Result<()> {
        match self.ask(verb, limit).await? {
            Answer::Ok {} => Ok(()),
            _ => Err(self.nonsense()),
        }
    }

    /// What the PCM counts.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) async fn stats(&mut self, limit: Duration) -> io::Result<Stats> {
        match self.ask(Verb::Stats {}, limit).await? {
            Answer::Stats(stats) => Ok(stats),
            _ => Err(self.nonsense()),
        }
    }

    fn nonsense(&mut self) -> io::Error {
        self.in_step = false;
        io::ErrorKind::InvalidData.into()
    }

    async fn ask(&mut self, verb: Verb, limit: Duration) -> io::Result<Answer> {
        if !std::mem::replace(&mut self.in_step, false) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.asked += 1;
        let asking = exchange(&mut self.stream, Request { id: self.asked, verb });
        let outcome = timeout(limit, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        // A refusal leaves the connection usable. Anything else, also a caller that does not wait, has lost the beat.
        self.in_step = outcome.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::Other, |_| true);
        outcome
    }
}

async fn exchange(stream: &mut UnixStream, request: Request) -> io::Result<Answer> {
    let id = request.id;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(io::Error::other("more grants than a PCM takes"));
    }
    stream.write_all(&line).await?;
    let mut input = Vec::new();
    while !input.ends_with(b"\n") {
        if input.len() > LONGEST_REPLY || stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let reply: Reply = serde_json::from_slice(&input)?;
    match reply.answer {
        _ if reply.id != id => Err(io::ErrorKind::InvalidData.into()),
        Answer::Error(message) => Err(io::Error::other(message)),
        answer => Ok(answer),
    }
}
