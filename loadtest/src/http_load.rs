//! Closed loops over HTTP/1.1: so many connections, each with one request under way, from one thread.
//!
//! Small on purpose: a general client costs more than the requests that are measured here. Connections are kept; a redirect is
//! an answer like any other.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::engine::{Stop, histogram};
use crate::load::Phases;

/// Longest answer that is taken.
const LONGEST: usize = 8 << 20;

/// Longest time for one answer; registration at 600,000 iterations, queued, is the slowest.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection's part of the load.
pub trait Requests {
    /// Appends the next request, head and body.
    fn next(&mut self, out: &mut Vec<u8>);

    /// Takes the answer; how many units of work it stands for.
    ///
    /// # Errors
    /// An answer that this load must not get.
    fn answered(&mut self, status: u16, body: &[u8]) -> anyhow::Result<u64>;
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Answers {
    /// From the first byte out to the last byte in, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Units of work that were done.
    pub done: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Seconds that were measured.
    pub seconds: f64,
}

/// A POST with a body, ready to be sent.
pub fn post(out: &mut Vec<u8>, path: &str, authorization: &str, content_type: &str, body: &[u8]) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// Shared between the connections of one run; everything is on one thread.
struct Clock {
    /// What is answered before counts as warm-up.
    from: Instant,
    until: Instant,
    stop: Stop,
}

/// Runs the loops for warm-up and time. `at` is called, on the same thread, when warm-up ends and when the time ends: true then.
///
/// # Errors
/// A connection fails, or an answer is not what it should be.
pub fn run(
    address: SocketAddr,
    loops: Vec<Box<dyn Requests>>,
    phases: Phases,
    stop: &Stop,
    mut at: impl FnMut(bool) -> anyhow::Result<()>,
) -> anyhow::Result<Answers> {
    ensure!(!loops.is_empty(), "no connections");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut streams = Vec::with_capacity(loops.len());
        for _ in &loops {
            let stream = TcpStream::connect(address).await.context("connect")?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let from = Instant::now() + phases.warm_up;
        let clock = Rc::new(Clock { from, until: from + phases.time, stop: stop.clone() });
        let tasks: Vec<_> = loops
            .into_iter()
            .zip(streams)
            .map(|(requests, stream)| tokio::task::spawn_local(one(requests, stream, Rc::clone(&clock))))
            .collect();
        tokio::time::sleep_until(clock.from.into()).await;
        at(false)?;
        tokio::time::sleep_until(clock.until.into()).await;
        at(true)?;
        let mut all = Answers {
            latency: histogram(),
            done: 0,
            statuses: BTreeMap::new(),
            seconds: phases.time.as_secs_f64(),
        };
        for task in tasks {
            let part = task.await.context("a connection's loop")??;
            all.latency.add(&part.latency).context("merge")?;
            all.done += part.done;
            for (status, count) in part.statuses {
                *all.statuses.entry(status).or_default() += count;
            }
        }
        ensure!(!stop.is_set(), "stopped");
        ensure!(all.done > 0, "nothing was answered in time");
        Ok(all)
    })
}

async fn one(
    mut requests: Box<dyn Requests>,
    mut stream: TcpStream,
    clock: Rc<Clock>,
) -> anyhow::Result<Answers> {
    let mut answers = Answers { latency: histogram(), done: 0, statuses: BTreeMap::new(), seconds: 0.0 };
    let (mut out, mut input) = (Vec::new(), Vec::with_capacity(16 << 10));
    loop {
        let started = Instant::now();
        if started >= clock.until || clock.stop.is_set() {
            return Ok(answers);
        }
        out.clear();
        requests.next(&mut out);
        let asked = async {
            stream.write_all(&out).await?;
            read(&mut stream, &mut input).await
        };
        let answered = tokio::time::timeout(PATIENCE, asked).await.context("no answer in time")?;
        let Answer { status, body } = answered?;
        let took = started.elapsed();
        let done = requests.answered(status, input.get(body.clone()).unwrap_or_default())?;
        input.drain(..body.end);
        let now = started + took;
        if now >= clock.from && now < clock.until {
            answers.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
            answers.done += done;
            *answers.statuses.entry(status).or_default() += 1;
        }
    }
}

/// A whole answer at the front of the input.
struct Answer {
    status: u16,
    body: std::ops::Range<usize>,
}

async fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> anyhow::Result<Answer> {
    loop {
        if let Some(answer) = parse(input)? {
            return Ok(answer);
        }
        ensure!(input.len() < LONGEST, "an answer is too long");
        if stream.read_buf(input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof))
                .context("the server closed the connection");
        }
    }
}

/// The answer at the front of `input`, if it is all there.
fn parse(input: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(input.get(..end).unwrap_or_default()).context("an answer's head")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
        .context("an answer without a status")?;
    let mut length = 0;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { bail!("a header without a colon") };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("a length")?;
        }
        ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "an answer in chunks");
    }
    let body = end + 4..end + 4 + length;
    Ok((input.len() >= body.end).then_some(Answer { status, body }))
}

#[cfg(test)]
mod tests {
    use super::{Requests, parse, post, run};
    use crate::engine::Stop;
    use crate::load::Phases;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let whole = b"HTTP/1.1 201 Created\r\ncontent-LENGTH: 3\r\nx: y\r\n\r\nabcHTTP/1.1";
        for cut in 0..46 {
            assert!(parse(&whole[..cut]).expect("no mistake").is_none(), "{cut}");
        }
        let answer = parse(whole).expect("no mistake").expect("it is whole");
        assert_eq!((answer.status, &whole[answer.body]), (201, &b"abc"[..]));
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SIP/2.0 200 OK\r\n\r\n").is_err());
    }

    struct Count(u64);

    impl Requests for Count {
        fn next(&mut self, out: &mut Vec<u8>) {
            post(out, "/", "Bearer x", "text/plain", b"hello");
        }

        fn answered(&mut self, status: u16, body: &[u8]) -> anyhow::Result<u64> {
            assert_eq!((status, body), (200, &b"ok"[..]));
            self.0 += 1;
            Ok(2)
        }
    }

    #[test]
    fn a_loop_asks_again_when_it_was_answered() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its number");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut buffer = [0; 4096];
            while let Ok(1..) = stream.read(&mut buffer) {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("it is there");
            }
        });
        let phases = Phases { warm_up: Duration::from_millis(20), time: Duration::from_millis(80) };
        let mut moments = Vec::new();
        let answers = run(address, vec![Box::new(Count(0))], phases, &Stop::default(), |end| {
            moments.push(end);
            Ok(())
        })
        .expect("it runs");
        assert_eq!(moments, [false, true]);
        assert_eq!(answers.done, answers.latency.len() * 2);
        assert_eq!(answers.statuses.get(&200), Some(&answers.latency.len()));
    }
}
