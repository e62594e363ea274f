//! A DIdP's event stream (server-sent events): read, and resumed by `seq`.
//!
//! When the stream is lost, an answer about a token counts for some seconds only: live sessions are asked about again and again,
//! and once more when it is back, since a lost stream may have lost anything. What an event does to sessions and PCMs is `changes`'s.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oauth_wire::{Event, EventKind};
use service::metrics::flag;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Didp, Unavailable};
use crate::changes;
use crate::gateway::Gateway;

/// Silence after which the stream counts as lost; the DIdP sends a comment every five seconds.
const SILENCE: Duration = Duration::from_secs(15);
/// First and longest wait before connecting again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Longest line of the stream.
const LONGEST_LINE: usize = 16 * 1024;

/// Listens until the gateway stops.
pub(crate) async fn listen(gateway: Arc<Gateway>, didp: Arc<Didp>) {
    tokio::select! {
        () = gateway.shutdown.begun() => {}
        () = reconnect(&gateway, &didp) => {}
    }
}

async fn reconnect(gateway: &Arc<Gateway>, didp: &Arc<Didp>) {
    let seconds = gateway.limits.unwatched_token_seconds;
    let recheck = Duration::from_secs(seconds);
    let mut wait = RETRY.0;
    let mut last_check = Instant::now();
    let mut is_first = true;
    loop {
        let ended = match follow(gateway, didp, &mut wait).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        if didp.listening.swap(false, Ordering::AcqRel) || is_first {
            is_first = false;
            flag(UP, "issuer", &didp.issuer, false);
            last_check = Instant::now();
            tracing::warn!(event = "events_lost", issuer = didp.issuer, reason = %ended, token_check_seconds = seconds,
                "revocations do not come in; live sessions are asked about one by one");
        } else {
            tracing::debug!(event = "events_unavailable", issuer = didp.issuer, reason = %ended);
        }
        sleep(wait.min(recheck.saturating_sub(last_check.elapsed()))).await;
        wait = (wait * 2).min(RETRY.1);
        if last_check.elapsed() >= recheck {
            changes::check_all(gateway, didp).await;
            last_check = Instant::now();
        }
    }
}

/// Whether a DIdP's stream is up.
const UP: &str = "ignite_event_stream_up";

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("silence")]
    Silence,
    #[error("the DIdP closed it")]
    Closed,
    #[error("a line is too long")]
    TooLong,
    #[error("a message cannot be read")]
    Malformed,
}

impl From<reqwest::Error> for Ended {
    fn from(error: reqwest::Error) -> Self {
        Self::Unavailable(error.without_url().into())
    }
}

/// One connection's life; it only ever ends with a reason.
async fn follow(gateway: &Arc<Gateway>, didp: &Arc<Didp>, wait: &mut Duration) -> Result<Infallible, Ended> {
    let mut request = didp
        .client()
        .get(didp.events.clone())
        .basic_auth(&didp.client_id, Some(didp.secret.as_str()))
        .header(reqwest::header::ACCEPT, "text/event-stream");
    let seen = didp.seen();
    if seen > 0 {
        request = request.header("Last-Event-ID", seen);
    }
    let mut response = timeout(SILENCE, request.send()).await.map_err(|_| Ended::Silence)??;
    if response.status() != reqwest::StatusCode::OK {
        return Err(Unavailable::Status(response.status()).into());
    }
    // A resumed stream begins with what was missed, perhaps nothing; a new one says first where it stands.
    let mut up = seen > 0;
    // They end with the stream, since the next one begins with the same.
    let mut checks = JoinSet::new();
    if up {
        is_up(didp, wait);
        checks.spawn(check_until_done(Arc::clone(gateway), Arc::clone(didp)));
    }
    let mut lines = Lines::default();
    loop {
        let chunk = timeout(SILENCE, response.chunk()).await.map_err(|_| Ended::Silence)??;
        lines.push(&chunk.ok_or(Ended::Closed)?)?;
        while let Some(data) = lines.next_message() {
            let event: Event = serde_json::from_str(&data).map_err(|_| Ended::Malformed)?;
            // Before anybody is told, so that a session that registers meanwhile can notice that it missed something.
            didp.seen.store(event.seq, Ordering::SeqCst);
            match event.kind {
                EventKind::Head if !up => {
                    up = true;
                    is_up(didp, wait);
                    checks.spawn(check_until_done(Arc::clone(gateway), Arc::clone(didp)));
                }
                EventKind::Head => {}
                EventKind::Gap => {
                    checks.spawn(check_until_done(Arc::clone(gateway), Arc::clone(didp)));
                }
                EventKind::Changed | EventKind::Revoked | EventKind::Erased => {
                    changes::react(gateway, didp, &event);
                }
            }
        }
    }
}

fn is_up(didp: &Didp, wait: &mut Duration) {
    *wait = RETRY.0;
    didp.listening.store(true, Ordering::Release);
    flag(UP, "issuer", &didp.issuer, true);
    tracing::info!(event = "events_up", issuer = didp.issuer);
}

/// Checks everything, beside the stream, which has to be read meanwhile; what could not be checked is tried again.
async fn check_until_done(gateway: Arc<Gateway>, didp: Arc<Didp>) {
    while !changes::check_all(&gateway, &didp).await {
        sleep(RETRY.1).await;
    }
}

/// Splits the stream into messages (WHATWG HTML §9.2.6); only `data` counts, `id` is in the data, too.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    data: String,
    ready: std::collections::VecDeque<String>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Result<(), Ended> {
        for &byte in chunk {
            if byte != b'\n' {
                self.bytes.push(byte);
                if self.bytes.len() > LONGEST_LINE || self.data.len() > LONGEST_LINE {
                    return Err(Ended::TooLong);
                }
                continue;
            }
            let line = std::mem::take(&mut self.bytes);
            let line = std::str::from_utf8(&line).map_err(|_| Ended::Malformed)?.trim_end_matches('\r');
            if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    self.ready.push_back(data);
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        Ok(())
    }

    fn next_message(&mut self) -> Option<String> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk).unwrap();
        }
        std::iter::from_fn(|| lines.next_message()).collect()
    }

    #[test]
    fn messages_come_whole_however_the_bytes_are_cut() {
        let text = b": hello\nid: 7\ndata: {\"seq\":7}\n\n:\n\ndata:{\"a\":\r\ndata: 1}\r\n\r\ndata: x";
        let expected = vec!["{\"seq\":7}".to_owned(), "{\"a\":\n1}".to_owned()];
        assert_eq!(messages(&[text]), expected);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(messages(&single), expected);
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; LONGEST_LINE + 1]).is_err());
    }
}
