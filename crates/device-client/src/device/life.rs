//! The device's life (design §5): what presses and answers change in the record.
//!
//! Every change of ownership ends in [`Store::Due`], and nothing of the new state is used before it is stored.

use core::ops::Range;

use sha2::{Digest as _, Sha256};

use super::{Device, Goal, LATEST, Link, Notice, PRESS_KEPT, Random, Step, Store, Window, jitter};
use crate::Millis;
use crate::oauth::{self, Answer, Claim, Refusal, Request, Tokens};
use crate::record::{Code, Grant, Ownership};
use crate::text::{Text, base64url};

/// Longest claim window that is believed, in seconds.
const LONGEST_WINDOW: u32 = 600;

impl<const RX: usize, const TX: usize> Device<RX, TX> {
    /// The button was pressed: opens a claim window, as soon as the DIdP can be told; one that is open already is opened anew.
    /// Without effect while the device is owned.
    pub fn press(&mut self, now: Millis) {
        self.now = self.now.max(now.min(LATEST));
        // An open window is opened anew: somebody may have gone away with the old one half-way.
        if self.goal() != Goal::Wait || self.window.as_ref().is_some_and(|window| !window.open) {
            return;
        }
        self.pressed_until = Some(self.now + PRESS_KEPT);
        self.notice = None;
        if self.link == Link::Down {
            self.retry_at = self.now;
        }
    }

    /// The button was held: gives up ownership. The tokens are forgotten at once; the DIdP is told until it acknowledges.
    pub fn long_press(&mut self, now: Millis) {
        self.now = self.now.max(now.min(LATEST));
        self.change(Ownership::ResetPending);
        self.retry_at = self.now;
        self.pressed_until = None;
        if self.link != Link::Down {
            // Whatever was asked before is given up, and its connection with it.
            self.session.forget();
            self.awaiting = None;
            self.link = Link::Closing;
        }
    }

    fn change(&mut self, ownership: Ownership) {
        self.record.ownership = ownership;
        self.store = Store::Due(self.now);
        self.window = None;
        if self.record.grant().is_none() {
            self.token.usable = false;
            self.kept = None;
        }
    }

    /// How long a token found in flash is used before a new one is fetched: nobody knows how old it is, so it is renewed
    /// at about half of what it had left at most, and tried until then.
    pub(super) fn schedule_after_restart(&mut self, random: &mut Random<'_>) {
        if let Some(grant) = self.record.grant() {
            let left = Millis::from(grant.expires_in) * 1000;
            self.token.valid_until = self.now + left;
            self.token.renew_at = self.now + jitter(left, random) * 2 / 3;
        }
    }

    /// The clock went back, so that no deadline means anything any more: begin again at `now` with what is in the record, as
    /// after a restart, and without waiting for what was to be waited for.
    pub(super) fn clock_lied(&mut self, now: Millis) {
        self.now = now;
        self.started = false;
        (self.retry_at, self.prove_at) = (now, now);
        self.pressed_until = self.pressed_until.map(|_| now + PRESS_KEPT);
        self.window = None;
        self.failures = 0;
        if let Store::Due(_) = self.store {
            self.store = Store::Due(now);
        }
        if self.link != Link::Down {
            self.session.forget();
            self.awaiting = None;
            self.link = Link::Closing;
        }
    }

    /// The DIdP accepted a secret: the other one is of no use any more.
    pub(super) fn secret_accepted(&mut self) {
        if self.record.former_secret.is_empty() {
            return;
        }
        if self.try_former {
            // The DIdP took a claim back and the renewed secret with it.
            self.record.client_secret = self.record.former_secret.clone();
            self.try_former = false;
        }
        self.record.former_secret.clear();
        self.store = Store::Due(self.now);
    }

    /// Prepares what the goal has to ask, if anything.
    pub(super) fn ask(&mut self, goal: Goal, random: &mut Random<'_>) -> Option<Request> {
        let out = &mut self.request;
        let (request, fits) = match (goal, &self.record.ownership) {
            (Goal::Redeem, Ownership::Granted(code)) => {
                (Request::Token, oauth::redeem(out, code.code.as_str(), code.verifier.as_str()))
            }
            (Goal::Refresh, Ownership::Owned(grant)) => {
                (Request::Token, oauth::refresh(out, grant.refresh_token.as_str()))
            }
            (Goal::Done, _) => (Request::Done, out.set("{}")),
            (Goal::Reset, _) => (Request::Reset, out.set("{}")),
            (Goal::Wait, _) => {
                let pressed = self.pressed_until.take()?;
                if self.now >= pressed {
                    return None;
                }
                let mut seed = [0; 32];
                random(&mut seed);
                let verifier = base64url(&seed);
                let challenge = challenge(verifier.as_str());
                // Closed for the owner until the DIdP says otherwise.
                self.window = Some(Window { verifier, until: Millis::MAX, open: false, user_code: None });
                (Request::Claim, oauth::claim(out, challenge.as_str()))
            }
            (Goal::Serve | Goal::Prove | Goal::Redeem | Goal::Refresh, _) => return None,
        };
        // Codes and tokens are bounded so that they fit (tested), but what is escaped may be longer: then it is garbage.
        if !fits {
            self.change(Ownership::Waiting);
            self.notice = Some(Notice::ClaimFailed);
            return None;
        }
        Some(request)
    }

    /// A message of the DIdP.
    pub(super) fn answered(
        &mut self,
        topic: Range<usize>,
        payload: Range<usize>,
        random: &mut Random<'_>,
    ) -> Step {
        let topic = self.session.str(topic);
        let payload = self.session.bytes(payload);
        if self.window.is_some() && Request::Claim.is_answered_on(topic) {
            let answer = oauth::read_claim(payload);
            return self.claim_answered(answer, random);
        }
        let Some(awaiting) = self.awaiting.filter(|awaiting| awaiting.request.is_answered_on(topic)) else {
            // Nobody asked, or whoever asked gave up.
            return Step::Again;
        };
        match awaiting.request {
            Request::Claim => Step::Again,
            Request::Token => {
                let answer = oauth::read_tokens(payload);
                self.awaiting = None;
                self.tokens_answered(answer, awaiting.since, random)
            }
            Request::Done => {
                let answer = oauth::read_empty(payload);
                self.awaiting = None;
                self.done_answered(&answer, random)
            }
            Request::Reset => {
                let answer = oauth::read_empty(payload);
                self.awaiting = None;
                match answer {
                    // Nothing to give up is as good as given up.
                    Answer::Ok(()) | Answer::Error(Refusal::InvalidGrant) => {
                        self.change(Ownership::Waiting);
                        self.notice = Some(Notice::Released);
                        Step::Again
                    }
                    Answer::Error(_) | Answer::Unusable => self.give_up(Notice::Unreachable, random),
                }
            }
        }
    }

    fn claim_answered(&mut self, answer: Answer<Claim>, random: &mut Random<'_>) -> Step {
        let asked = self.window.as_ref().is_some_and(|window| !window.open);
        if asked
            && matches!(
                answer,
                Answer::Ok(Claim::Granted(_)) | Answer::Error(Refusal::AccessDenied | Refusal::Expired)
            )
        {
            // Nobody can have decided on a window that is not open yet: this is about the one before, which the DIdP undoes
            // when it reads the new request, and there is no verifier for it any more.
            return Step::Again;
        }
        self.awaiting = None;
        match (answer, self.window.take()) {
            (Answer::Ok(Claim::Open { expires_in, user_code }), Some(window)) => {
                let until = self.now + Millis::from(expires_in.min(LONGEST_WINDOW)) * 1000;
                self.window = Some(Window { until, open: true, user_code, ..window });
            }
            (Answer::Ok(Claim::Granted(code)), Some(window)) => {
                self.change(Ownership::Granted(Code { code, verifier: window.verifier }));
            }
            (Answer::Error(Refusal::AccessDenied), _) => self.notice = Some(Notice::Declined),
            (Answer::Error(Refusal::Expired), _) => self.notice = Some(Notice::WindowOver),
            (Answer::Error(Refusal::InvalidGrant | Refusal::Later | Refusal::Other), _) => {
                self.notice = Some(Notice::ClaimFailed);
            }
            (Answer::Unusable, _) | (Answer::Ok(_), None) => {
                return self.give_up(Notice::ClaimFailed, random);
            }
        }
        Step::Again
    }

    fn tokens_answered(&mut self, answer: Answer<Tokens>, asked_at: Millis, random: &mut Random<'_>) -> Step {
        let claiming = matches!(self.record.ownership, Ownership::Granted(_));
        match answer {
            Answer::Ok(tokens) => {
                let (expires_in, client_secret) = (tokens.expires_in, tokens.client_secret.clone());
                let Some(grant) = self.grant_of(tokens) else {
                    return self.give_up(Notice::ClaimFailed, random);
                };
                if let Some(renewed) = client_secret {
                    self.record.former_secret = core::mem::replace(&mut self.record.client_secret, renewed);
                }
                self.change(Ownership::Owned(grant));
                // Counted from the question: the token cannot be older than that.
                let life = Millis::from(expires_in) * 1000;
                self.token.usable = true;
                self.token.fresh = true;
                self.token.valid_until = asked_at + life;
                self.token.renew_at = asked_at + life / 2 + jitter(life / 3, random);
                Step::Again
            }
            Answer::Error(Refusal::InvalidGrant) => {
                self.change(Ownership::Waiting);
                self.notice = Some(if claiming { Notice::ClaimFailed } else { Notice::Released });
                Step::Again
            }
            Answer::Error(_) | Answer::Unusable => self.give_up(Notice::Unreachable, random),
        }
    }

    /// What the record holds of a token response; `None` if something is missing that nothing before it gave.
    fn grant_of(&self, tokens: Tokens) -> Option<Grant> {
        let former = self.record.grant();
        Some(Grant {
            access_token: tokens.access_token,
            refresh_token: tokens
                .refresh_token
                .or_else(|| former.map(|grant| grant.refresh_token.clone()))?,
            expires_in: tokens.expires_in,
            gateway: tokens.gateway.or_else(|| former.map(|grant| grant.gateway.clone()))?,
            done_pending: former.is_none_or(|grant| grant.done_pending),
        })
    }

    fn done_answered(&mut self, answer: &Answer<()>, random: &mut Random<'_>) -> Step {
        match answer {
            Answer::Error(Refusal::InvalidGrant) => {
                self.change(Ownership::Waiting);
                self.notice = Some(Notice::ClaimFailed);
                Step::Again
            }
            // An error that another try would meet again: the DIdP is not waiting for it, and the tokens decide.
            Answer::Ok(()) | Answer::Error(Refusal::Other | Refusal::AccessDenied | Refusal::Expired) => {
                if let Some(grant) = self.record.grant_mut() {
                    grant.done_pending = false;
                    self.store = Store::Due(self.now);
                    self.notice = None;
                }
                Step::Again
            }
            Answer::Error(Refusal::Later) | Answer::Unusable => self.give_up(Notice::Unreachable, random),
        }
    }
}

/// The challenge of a verifier (RFC 7636 §4.2, `S256`).
fn challenge(verifier: &str) -> Text<43> {
    base64url(&Sha256::digest(verifier.as_bytes()).into())
}
