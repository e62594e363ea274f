//! What all sessions share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use service::net::Admission;
use service::{Clock, Shutdown};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::cause::Cause;
use crate::config::Limits;
use crate::didp::Didp;
use crate::failures::Failures;
use crate::keys::Keys;
use crate::live::Registry;
use crate::owners::Owners;
use crate::policy::Grant;

/// What all sessions share.
pub(crate) struct Gateway {
    pub(crate) limits: Limits,
    pub(crate) keys: Arc<Keys>,
    pub(crate) didps: HashMap<String, Arc<Didp>>,
    pub(crate) owners: Owners,
    pub(crate) sessions: Arc<Registry>,
    pub(crate) admission: Admission,
    pub(crate) failures: Failures,
    /// Places for newcomers whose CONNECT is a long one.
    pub(crate) long_connects: Semaphore,
    /// The same for the WebSocket messages that it comes in: who has one of these may have to wait for one of those.
    pub(crate) long_messages: Arc<Semaphore>,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
}

/// Longest token that is worth asking about.
const LONGEST_TOKEN: usize = 256;

impl Gateway {
    /// The DIdP whose tag a token bears.
    ///
    /// # Errors
    /// [`Cause::BadCredentials`] if it has not the form of a token, [`Cause::UnknownIssuer`]; nothing was sent anywhere.
    pub(crate) fn issuer_of(&self, token: &str) -> Result<&Arc<Didp>, Cause> {
        let (tag, secret) = token.split_once('.').ok_or(Cause::BadCredentials)?;
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'=');
        if token.len() > LONGEST_TOKEN || secret.is_empty() || !token.bytes().all(plain) {
            return Err(Cause::BadCredentials);
        }
        self.didps.get(tag).ok_or(Cause::UnknownIssuer)
    }

    /// [`Self::introspect`] for a newcomer from `peer`: waits until there is a place to ask.
    ///
    /// # Errors
    /// As there; [`Cause::TooManyFailures`] if it was not asked.
    pub(crate) async fn introspect_new(&self, token: &str, peer: IpAddr) -> Result<Arc<Grant>, Cause> {
        let didp = self.issuer_of(token)?;
        self.may_ask(peer)?;
        let place = didp.place().await;
        let _place = place.map_err(|error| {
            tracing::warn!(event = "introspection_failed", %error);
            Cause::DidpUnavailable
        })?;
        // Others of this address may have failed while this one waited.
        self.may_ask(peer)?;
        let answer = self.introspect(token).await;
        if matches!(answer, Err(Cause::InactiveToken)) {
            self.failures.count(peer, self.clock.now_millis());
        }
        answer
    }

    fn may_ask(&self, peer: IpAddr) -> Result<(), Cause> {
        match self.failures.are_used_up(peer, self.clock.now_millis()) {
            true => Err(Cause::TooManyFailures),
            false => Ok(()),
        }
    }

    /// What a token lets its holder do now.
    ///
    /// # Errors
    /// [`Cause::InactiveToken`], [`Cause::DidpUnavailable`], or what [`Self::issuer_of`] says.
    pub(crate) async fn introspect(&self, token: &str) -> Result<Arc<Grant>, Cause> {
        let didp = self.issuer_of(token)?;
        let active = didp.introspect(token).await.map_err(|error| {
            tracing::warn!(event = "introspection_failed", issuer = didp.issuer, %error);
            Cause::DidpUnavailable
        })?;
        let active = active.ok_or(Cause::InactiveToken)?;
        let grant = Grant::from_token(&active, &self.keys).map_err(|error| {
            tracing::warn!(event = "introspection_failed", issuer = didp.issuer, %error);
            Cause::DidpUnavailable
        })?;
        if grant.has_ended(self.clock.now()) {
            return Err(Cause::InactiveToken);
        }
        Ok(Arc::new(grant))
    }

    /// Whether revocations reach this gateway from every DIdP.
    pub(crate) fn is_listening(&self) -> bool {
        self.didps.values().all(|didp| didp.is_listening())
    }
}

/// A bearer token, wiped when it is dropped.
pub(crate) type Token = Zeroizing<String>;
