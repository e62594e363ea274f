//! What browsers of this app were granted. A browser is known by a random session value in a cookie; at rest only its hash
//! stands beside the tokens. Renewal runs once at a time for each grant and is stored before the new tokens are used.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oauth2::{PkceCodeVerifier, TokenResponse as _};
use serde::{Deserialize, Serialize};
use service::{Clock, secret};

use crate::provider::{Detail, Gateway, Provider, ProviderError, Tokens};
use crate::store::{Store, StoreError};

const FILE: &str = "grants.json";

/// Connection attempts that may be under way at once; beyond it the oldest one ends.
const MOST_ATTEMPTS: usize = 1000;

/// Grants that are kept; beyond it the one that was renewed longest ago goes.
const MOST_GRANTS: usize = 10_000;

/// Seconds that an attempt may take at the DIdP.
const ATTEMPT_SECONDS: i64 = 600;

/// Life of an access token whose response does not say (RFC 6749 §5.1), in seconds.
const DEFAULT_LIFE: i64 = 300;

/// The hash of a browser's session value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Session(String);

impl Session {
    /// From the value in the cookie.
    pub fn of(value: &str) -> Self {
        Self(secret::encode(secret::sha256(value.as_bytes())))
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Grant {
    access_token: String,
    refresh_token: String,
    issued_at: i64,
    expires_at: i64,
    /// Counts renewals, so that a page can say which token was refused.
    generation: u64,
    gateway: Gateway,
    devices: Vec<Detail>,
}

impl Grant {
    /// `None` if the response holds no refresh token and there is no former one: such a grant could not live on.
    fn new(tokens: &Tokens, now: i64, former: Option<&Grant>) -> Option<Self> {
        let life =
            tokens.expires_in().and_then(|life| i64::try_from(life.as_secs()).ok()).unwrap_or(DEFAULT_LIFE);
        let refresh_token = match (tokens.refresh_token(), former) {
            (Some(token), _) => token.secret().clone(),
            (None, Some(former)) => former.refresh_token.clone(),
            (None, None) => return None,
        };
        let extra = tokens.extra_fields();
        Some(Self {
            access_token: tokens.access_token().secret().clone(),
            refresh_token,
            issued_at: now,
            expires_at: now.saturating_add(life),
            generation: former.map_or(1, |former| former.generation + 1),
            gateway: extra.gateway.clone(),
            devices: extra.authorization_details.clone(),
        })
    }

    fn is_fresh(&self, now: i64) -> bool {
        (self.expires_at - now) * 2 > self.expires_at - self.issued_at
    }
}

/// What the page needs to connect to the gateway.
#[derive(Debug, Serialize)]
pub struct Access {
    /// Bearer token; in the page's memory only.
    pub access_token: String,
    /// Seconds that it is good for.
    pub expires_in: i64,
    /// Which token it is; the page names it if the gateway refuses it.
    pub generation: u64,
    /// Where to connect.
    pub gateway: Gateway,
    /// What was granted.
    pub devices: Vec<Detail>,
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAccess {
    /// This browser was granted nothing, or gave it back.
    NotConnected,
    /// The owner withdrew what was granted; it is forgotten here now.
    Withdrawn,
    /// The DIdP does not answer and the old token has ended.
    ProviderAway,
}

/// Why a callback did not end in a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGrant {
    /// The owner said no.
    Declined,
    /// Unknown, ended or another browser's attempt; or an answer of another issuer.
    NotOurs,
    /// The DIdP refused or did not answer.
    Failed(ProviderError),
}

/// The callback's parameters (RFC 6749 §4.1.2, RFC 9207).
#[derive(Debug, Default, Deserialize)]
pub struct Callback {
    state: Option<String>,
    iss: Option<String>,
    code: Option<String>,
    error: Option<String>,
}

struct Attempt {
    session: Session,
    verifier: PkceCodeVerifier,
    ends_at: i64,
}

/// All grants and the attempts under way.
pub struct Grants {
    store: Arc<Store>,
    provider: Arc<Provider>,
    clock: Clock,
    attempts: Mutex<HashMap<String, Attempt>>,
    grants: Mutex<BTreeMap<Session, Grant>>,
    renewals: Mutex<HashMap<Session, Arc<tokio::sync::Mutex<()>>>>,
    /// Held while the file is replaced, so that an older state never follows a newer one.
    saving: tokio::sync::Mutex<()>,
}

impl Grants {
    /// Reads what was kept.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn load(store: Arc<Store>, provider: Arc<Provider>, clock: Clock) -> Result<Self, StoreError> {
        let grants = store.read(FILE)?.unwrap_or_default();
        Ok(Self {
            store,
            provider,
            clock,
            attempts: Mutex::default(),
            grants: Mutex::new(grants),
            renewals: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
        })
    }

    /// Begins an attempt of this browser; the answer is where to send it.
    ///
    /// # Errors
    /// [`ProviderError::Away`] if the app is not registered yet.
    pub fn begin(&self, session: Session) -> Result<url::Url, ProviderError> {
        let authorization = self.provider.authorization()?;
        let now = self.clock.now();
        let mut attempts = lock(&self.attempts);
        attempts.retain(|_, attempt| attempt.ends_at > now);
        if attempts.len() >= MOST_ATTEMPTS {
            let oldest =
                attempts.iter().min_by_key(|(_, attempt)| attempt.ends_at).map(|(state, _)| state.clone());
            attempts.remove(&oldest.unwrap_or_default());
        }
        let attempt = Attempt { session, verifier: authorization.verifier, ends_at: now + ATTEMPT_SECONDS };
        attempts.insert(authorization.state, attempt);
        Ok(authorization.url)
    }

    /// Ends an attempt. A grant is kept for `next`, a session value that the browser gets with the answer.
    ///
    /// # Errors
    /// Why there is no grant.
    pub async fn finish(&self, session: &Session, callback: Callback, next: Session) -> Result<(), NoGrant> {
        let verifier = self.attempt(session, callback.state.as_deref())?;
        // RFC 9207 §2.4: the answer must come from the issuer that was asked.
        if callback.iss.as_deref() != Some(self.provider.issuer()) {
            return Err(NoGrant::NotOurs);
        }
        let code = match (callback.code, callback.error.as_deref()) {
            (Some(code), None) => code,
            (_, Some("access_denied")) => return Err(NoGrant::Declined),
            (_, Some("temporarily_unavailable" | "server_error")) => {
                return Err(NoGrant::Failed(ProviderError::Away));
            }
            (_, Some(_)) => return Err(NoGrant::Failed(ProviderError::Refused)),
            (None, None) => return Err(NoGrant::NotOurs),
        };
        let tokens = self.provider.redeem(code, verifier).await.map_err(NoGrant::Failed)?;
        let grant =
            Grant::new(&tokens, self.clock.now(), None).ok_or(NoGrant::Failed(ProviderError::Refused))?;
        let former = {
            let mut grants = lock(&self.grants);
            if grants.len() >= MOST_GRANTS {
                let oldest = grants
                    .iter()
                    .min_by_key(|(_, grant)| grant.issued_at)
                    .map(|(session, _)| session.clone());
                oldest.and_then(|oldest| grants.remove(&oldest));
            }
            grants.insert(next, grant);
            grants.remove(session)
        };
        self.save().await.map_err(|_| NoGrant::Failed(ProviderError::Away))?;
        if let Some(former) = former {
            // The browser connected anew; nobody would use the former grant any more.
            let _ = self.provider.revoke(&former.refresh_token).await;
        }
        Ok(())
    }

    fn attempt(&self, session: &Session, state: Option<&str>) -> Result<PkceCodeVerifier, NoGrant> {
        let attempt = lock(&self.attempts).remove(state.unwrap_or_default()).ok_or(NoGrant::NotOurs)?;
        let same_browser = secret::equal(attempt.session.0.as_bytes(), session.0.as_bytes());
        if same_browser && attempt.ends_at > self.clock.now() {
            Ok(attempt.verifier)
        } else {
            Err(NoGrant::NotOurs)
        }
    }

    /// The gateway of this browser's grant, if there is one.
    pub fn gateway(&self, session: &Session) -> Option<Gateway> {
        lock(&self.grants).get(session).map(|grant| grant.gateway.clone())
    }

    /// A token for the page, renewed if half of its life is over or if the gateway refused the one of that generation.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn access(
        self: &Arc<Self>,
        session: Session,
        refused: Option<u64>,
    ) -> Result<Access, NoAccess> {
        // In a task of its own: a browser that goes away must not cut a renewal in half.
        let this = Arc::clone(self);
        let work = tokio::spawn(async move { this.access_now(&session, refused).await });
        work.await.unwrap_or(Err(NoAccess::ProviderAway))
    }

    async fn access_now(&self, session: &Session, refused: Option<u64>) -> Result<Access, NoAccess> {
        let turn = Arc::clone(lock(&self.renewals).entry(session.clone()).or_default());
        let answer = {
            let _turn = turn.lock().await;
            self.renew_if_needed(session, refused).await
        };
        let mut renewals = lock(&self.renewals);
        // One reference is here and one in the map: nobody waits for this turn.
        if Arc::strong_count(&turn) <= 2 {
            renewals.remove(session);
        }
        answer
    }

    async fn renew_if_needed(&self, session: &Session, refused: Option<u64>) -> Result<Access, NoAccess> {
        let now = self.clock.now();
        let grant = lock(&self.grants).get(session).cloned().ok_or(NoAccess::NotConnected)?;
        let was_refused = refused == Some(grant.generation);
        if grant.is_fresh(now) && !was_refused {
            return Ok(access(grant, now));
        }
        match self.provider.refresh(&grant.refresh_token).await {
            Ok(tokens) => {
                let renewed = Grant::new(&tokens, now, Some(&grant)).ok_or(NoAccess::ProviderAway)?;
                lock(&self.grants).insert(session.clone(), renewed.clone());
                self.save().await.map_err(|_| NoAccess::ProviderAway)?;
                Ok(access(renewed, now))
            }
            Err(ProviderError::Gone | ProviderError::Refused) => {
                lock(&self.grants).remove(session);
                let _ = self.save().await;
                tracing::info!(event = "grant_withdrawn");
                Err(NoAccess::Withdrawn)
            }
            Err(ProviderError::Away) if grant.expires_at > now && !was_refused => Ok(access(grant, now)),
            Err(ProviderError::Away) => Err(NoAccess::ProviderAway),
        }
    }

    /// Forgets this browser's grant and gives it back to the DIdP.
    pub async fn give_back(&self, session: &Session) {
        let grant = lock(&self.grants).remove(session);
        let Some(grant) = grant else { return };
        let _ = self.save().await;
        let _ = self.provider.revoke(&grant.refresh_token).await;
    }

    async fn save(&self) -> Result<(), StoreError> {
        let _saving = self.saving.lock().await;
        let grants = lock(&self.grants).clone();
        let saved = self.store.write(FILE, grants).await;
        if let Err(error) = &saved {
            tracing::error!(event = "store_failed", %error);
        }
        saved
    }
}

fn access(grant: Grant, now: i64) -> Access {
    Access {
        access_token: grant.access_token,
        expires_in: grant.expires_at - now,
        generation: grant.generation,
        gateway: grant.gateway,
        devices: grant.devices,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is one call on a map, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
