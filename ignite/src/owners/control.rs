//! The control connection of one PCM: one JSON line asked, one answered.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use pcm_wire::{Answer, MAX_LINE, Reply, Request, Verb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Longest answer; a PCM answers with counts at most.
const LONGEST_REPLY: usize = 16 * 1024;

/// A control connection, served by a task of its own that notices when the PCM goes away.
pub(super) struct Control {
    asks: mpsc::Sender<Ask>,
}

struct Ask {
    verb: Verb,
    limit: Duration,
    answer: oneshot::Sender<io::Result<()>>,
}

impl Control {
    /// Takes over a stream whose preamble was sent.
    pub(super) fn over(stream: UnixStream) -> Self {
        let (asks, queue) = mpsc::channel(1);
        tokio::spawn(serve(stream, queue));
        Self { asks }
    }

    /// False once the PCM has closed the connection.
    pub(super) fn is_alive(&self) -> bool {
        !self.asks.is_closed()
    }

    /// Asks for something whose answer is `ok`.
    ///
    /// # Errors
    /// The connection broke, the time is over, or the PCM said no.
    pub(super) async fn call(&self, verb: Verb, limit: Duration) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask { verb, limit, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn serve(mut stream: UnixStream, mut queue: mpsc::Receiver<Ask>) {
    let mut input = BytesMut::new();
    let mut id = 0;
    loop {
        tokio::select! {
            ask = queue.recv() => {
                let Some(Ask { verb, limit, answer }) = ask else { return };
                id += 1;
                let asked = exchange(&mut stream, &mut input, Request { id, verb });
                let late = |_| Err(io::ErrorKind::TimedOut.into());
                let outcome = timeout(limit, asked).await.unwrap_or_else(late);
                // A refusal leaves the connection usable; anything else has lost the beat of question and answer.
                let usable = outcome.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::Other, |()| true);
                let _ = answer.send(outcome);
                if !usable {
                    return;
                }
            }
            // Nothing is said unasked: this only ever sees the end.
            _ = stream.read_u8() => return,
        }
    }
}

async fn exchange(stream: &mut UnixStream, input: &mut BytesMut, request: Request) -> io::Result<()> {
    let id = request.id;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(io::Error::other("more grants than a PCM takes"));
    }
    stream.write_all(&line).await?;
    input.clear();
    while !input.ends_with(b"\n") {
        if input.len() > LONGEST_REPLY || stream.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let reply: Reply = serde_json::from_slice(input)?;
    match reply.answer {
        _ if reply.id != id => Err(io::ErrorKind::InvalidData.into()),
        Answer::Ok {} => Ok(()),
        Answer::Error(message) => Err(io::Error::other(message)),
        Answer::Stats(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}
