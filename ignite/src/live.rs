//! The sessions that are alive now, found by owner and grant, so that a change at a DIdP reaches them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service::metrics::Held;
use zeroize::Zeroizing;

use crate::cause::Cause;
use crate::policy::Grant;
use crate::relay::Orders;

/// One owner as one gateway knows them: issuer and pseudonym.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OwnerId {
    pub(crate) iss: String,
    pub(crate) sub: String,
}

impl OwnerId {
    pub(crate) fn of(grant: &Grant) -> Self {
        Self { iss: grant.iss.clone(), sub: grant.sub.clone() }
    }
}

/// One running session.
pub(crate) struct Live {
    number: u64,
    pub(crate) owner: OwnerId,
    pub(crate) sid: String,
    orders: Orders,
    /// The token in force. Whoever introspects for this session holds the lock meanwhile, so that a check of the old
    /// token cannot end a session that is going over to a new one.
    pub(crate) token: tokio::sync::Mutex<Zeroizing<String>>,
}

impl Live {
    /// The session goes on under `grant`.
    pub(crate) fn go_on(&self, grant: Arc<Grant>) {
        self.orders.go_on(grant);
    }

    /// The session ends; the first cause stays.
    pub(crate) fn end(&self, cause: Cause) {
        self.orders.end(cause);
    }

    /// Where the session hears its orders.
    pub(crate) fn orders(&self) -> &Orders {
        &self.orders
    }
}

type Sessions = HashMap<OwnerId, HashMap<u64, Arc<Live>>>;

/// All running sessions.
#[derive(Default)]
pub(crate) struct Registry {
    sessions: Mutex<Sessions>,
    numbers: AtomicU64,
}

impl Registry {
    /// Registers a session; it is forgotten when the answer is dropped. `None` if `most` of this grant are there already.
    pub(crate) fn register(
        self: &Arc<Self>,
        grant: Arc<Grant>,
        token: Zeroizing<String>,
        most: usize,
    ) -> Option<Registered> {
        let live = Arc::new(Live {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            owner: OwnerId::of(&grant),
            sid: grant.sid.clone(),
            orders: Orders::new(grant),
            token: tokio::sync::Mutex::new(token),
        });
        let mut sessions = self.lock();
        let own = sessions.entry(live.owner.clone()).or_default();
        if own.values().filter(|other| other.sid == live.sid).count() >= most {
            return None;
        }
        own.insert(live.number, Arc::clone(&live));
        let counted = Held::new("ignite_sessions");
        Some(Registered { live, registry: Arc::clone(self), _counted: counted })
    }

    /// The sessions of one owner.
    pub(crate) fn of_owner(&self, owner: &OwnerId) -> Vec<Arc<Live>> {
        self.lock().get(owner).map(|sessions| sessions.values().cloned().collect()).unwrap_or_default()
    }

    /// The sessions of one grant, whose owner is not known.
    pub(crate) fn of_grant(&self, iss: &str, sid: &str) -> Vec<Arc<Live>> {
        let sessions = self.lock();
        let all = sessions.iter().filter(|(owner, _)| owner.iss == iss).flat_map(|(_, live)| live.values());
        all.filter(|live| live.sid == sid).cloned().collect()
    }

    /// The sessions of one issuer.
    pub(crate) fn of_issuer(&self, iss: &str) -> Vec<Arc<Live>> {
        let sessions = self.lock();
        sessions
            .iter()
            .filter(|(owner, _)| owner.iss == iss)
            .flat_map(|(_, live)| live.values())
            .cloned()
            .collect()
    }

    /// Ends the sessions whose tokens have ended by `now`, Unix seconds. They notice it themselves when something moves; this is for
    /// those that are silent.
    pub(crate) fn end_with_tokens(&self, now: i64) {
        for owner in self.lock().values() {
            let ended = |live: &&Arc<Live>| live.orders.are_past(now);
            owner.values().filter(ended).for_each(|live| live.end(Cause::TokenEnded));
        }
    }

    /// Ends all.
    pub(crate) fn end_all(&self, cause: Cause) {
        self.lock().values().flat_map(HashMap::values).for_each(|live| live.end(cause));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(HashMap::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the registry.
pub(crate) struct Registered {
    live: Arc<Live>,
    registry: Arc<Registry>,
    _counted: Held,
}

impl std::ops::Deref for Registered {
    type Target = Arc<Live>;

    fn deref(&self) -> &Arc<Live> {
        &self.live
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut sessions = self.registry.lock();
        if let Some(own) = sessions.get_mut(&self.live.owner) {
            own.remove(&self.live.number);
            if own.is_empty() {
                sessions.remove(&self.live.owner);
            }
        }
    }
}
