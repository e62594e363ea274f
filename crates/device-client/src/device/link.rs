//! The link: opening it, logging in, losing it, backing off.

use super::{ASK_AFTER, Closed, DELTA, Device, Goal, Link, Notice, PROVE_AGAIN, Peer, Random, Step, jitter};
use crate::Millis;
use crate::session::Event;

/// The MQTT client identifier at the gateway. It must not be the client_id, which the gateway is not to learn; the gateway
/// keeps sessions apart by grant.
const GATEWAY_CLIENT: &str = "device";

/// How long a link must last before the failures before it are forgotten.
const SETTLED: Millis = 30_000;

/// Refused credentials are tried again no sooner than after this many doublings of the first back-off.
const REFUSED_DOUBLINGS: u8 = 6;

impl<const RX: usize, const TX: usize> Device<RX, TX> {
    /// The answer to CONNECT.
    pub(super) fn greeted(&mut self, event: Event, random: &mut Random<'_>) -> Step {
        match (event, self.peer) {
            (Event::Accepted, peer) => {
                self.link = Link::Up { settled: self.now + SETTLED };
                if matches!(
                    self.notice,
                    Some(
                        Notice::Unreachable
                            | Notice::Untrusted
                            | Notice::CredentialsRefused
                            | Notice::StorageFailed
                    )
                ) {
                    self.notice = None;
                }
                match peer {
                    Peer::Didp => self.secret_accepted(),
                    Peer::Gateway => {
                        self.token.fresh = false;
                        let id = self.packet_id();
                        if self.session.subscribe(["c/#", DELTA], id).is_err() {
                            return self.give_up(Notice::Unreachable, random);
                        }
                    }
                }
                Step::Again
            }
            (Event::Refused(4 | 5), Peer::Didp) => {
                if self.record.former_secret.is_empty() {
                    self.failures = self.failures.max(REFUSED_DOUBLINGS);
                } else {
                    self.try_former = !self.try_former;
                }
                self.give_up(Notice::CredentialsRefused, random)
            }
            (Event::Refused(4 | 5), Peer::Gateway) => {
                self.token.usable = false;
                if self.token.fresh {
                    return self.give_up(Notice::Unreachable, random);
                }
                // Ended or revoked: the DIdP knows.
                self.drop_link();
                self.retry_at = self.now;
                Step::Close
            }
            (Event::Refused(_) | Event::Message { .. } | Event::Acknowledged(_) | Event::Broken, _) => {
                self.give_up(Notice::Unreachable, random)
            }
        }
    }

    /// The link is of no use: back off, or, if an early renewal failed, go on with the token that still serves.
    pub(super) fn give_up(&mut self, notice: Notice, random: &mut Random<'_>) -> Step {
        self.notice = Some(notice);
        self.failures = self.failures.saturating_add(1);
        let early = self.renews_early() && self.peer == Peer::Didp;
        let proving = self.goal() == Goal::Prove && self.token.usable;
        if self.peer == Peer::Gateway && self.failures.is_multiple_of(ASK_AFTER) {
            self.token.renew_at = self.now;
        }
        let had_link = self.link != Link::Down;
        self.drop_link();
        if early {
            let left = self.token.valid_until - self.now;
            let later = (left / 4).clamp(5_000, 600_000);
            self.token.renew_at = (self.now + jitter(later, random)).min(self.token.valid_until);
            self.retry_at = self.now;
        } else if proving {
            self.prove_at = self.now + jitter(PROVE_AGAIN, random);
            self.retry_at = self.now;
        } else {
            let doubled = self.options.backoff.saturating_mul(1 << (self.failures - 1).min(20));
            self.retry_at = self.now + jitter(doubled.min(self.options.backoff_max), random);
        }
        if had_link { Step::Close } else { Step::Again }
    }

    pub(super) fn drop_link(&mut self) {
        self.session.forget();
        self.link = Link::Down;
        self.awaiting = None;
        self.window = None;
        if let Some(kept) = &mut self.kept {
            // The second attempt is marked as one (DUP, MQTT 3.1.1 §3.3.1.1).
            kept.bytes[0] |= if kept.sent { 0x08 } else { 0 };
            kept.sent = false;
        }
    }

    /// The transport is open and the server's certificate has been checked.
    pub fn connected(&mut self) {
        let Link::Opening { by } = self.link else { return };
        let keep_alive = self.options.keep_alive;
        let opened = match (self.peer, self.record.grant()) {
            (Peer::Gateway, Some(grant)) => {
                // The session outlives the link, so that a command sent during a renewal is not lost.
                self.session.open(
                    GATEWAY_CLIENT,
                    "Bearer",
                    grant.access_token.as_str(),
                    false,
                    keep_alive,
                    self.now,
                )
            }
            (Peer::Gateway, None) | (Peer::Didp, _) => {
                let id = self.record.client_id.as_str();
                let secret =
                    if self.try_former { &self.record.former_secret } else { &self.record.client_secret };
                self.session.open(id, id, secret.as_str(), true, keep_alive, self.now)
            }
        };
        // CONNECT fits into any sensible buffer; without it the greeting times out.
        self.link = if opened.is_ok() { Link::Greeting { by } } else { Link::Opening { by: self.now } };
    }

    /// The transport ended, or never opened.
    pub fn closed(&mut self, how: Closed, random: &mut Random<'_>) {
        match self.link {
            Link::Down => {}
            Link::Closing => {
                self.drop_link();
                self.retry_at = self.now;
            }
            Link::Opening { .. } | Link::Greeting { .. } | Link::Up { .. } => {
                let notice = match how {
                    Closed::Lost => Notice::Unreachable,
                    Closed::Untrusted => Notice::Untrusted,
                };
                // The step says that the transport is to be closed, which it is.
                let _ = self.give_up(notice, random);
            }
        }
    }

    /// Takes what came from the server and returns how much of it; the rest has to be offered again after [`Device::poll`].
    pub fn received(&mut self, bytes: &[u8]) -> usize {
        match self.link {
            Link::Greeting { .. } | Link::Up { .. } => self.session.receive(bytes, self.now),
            // Nobody listens any more.
            Link::Down | Link::Opening { .. } | Link::Closing => bytes.len(),
        }
    }

    /// The first `n` bytes of the last [`Action::Send`](crate::Action::Send) were written.
    pub fn sent(&mut self, n: usize) {
        self.session.sent(n);
    }
}
