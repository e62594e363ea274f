//! The owners' PCMs as this gateway knows them: ensured by the launcher, told the grants, opened for sessions.
//!
//! One control connection a PCM. No session is opened before the PCM has the grants that the session's introspection knew
//! of; one that keeps its state on disk is told its key before. An owner's lock makes launching single-flight: whoever comes while a PCM is being started waits for that one. A PCM
//! whose owner has no grants any more is removed. The control connection itself is `control`'s, when and how often grants are
//! handed on is `changes`'s.

mod control;
pub(crate) mod counted;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oauth_wire::{GrantEntry, GrantList};
use pcm_wire::{Claim, Grants, Preamble, Rule, Verb};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::cause::Cause;
use crate::didp::Didp;
use crate::gateway::Gateway;
use crate::keys::Keys;
use crate::launcher::client::{ClientError, LauncherClient};
use crate::launcher::wire::{ErrorKind, PcmName, Ready};
use crate::live::OwnerId;
use crate::policy::Grant;
use crate::policy::grant::{StateShare, is_identifier};
use control::Control;

/// Time for a PCM to answer on its control connection or to accept a session.
const PCM_LIMIT: Duration = Duration::from_secs(5);
/// Waits before each try to reach a PCM that the launcher called ready.
const RELINK: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(200)];

/// All owners who were here since the gateway started.
pub(crate) struct Owners {
    launcher: LauncherClient,
    launch_limit: Duration,
    /// PCMs keep their state on disk, and so outlive themselves.
    lasting: bool,
    owners: Mutex<HashMap<OwnerId, Arc<Owner>>>,
    /// Owners whose PCM could not be told the current grants, and may still have others.
    overdue: Mutex<HashSet<OwnerId>>,
}

struct Owner {
    name: PcmName,
    link: tokio::sync::Mutex<Option<Link>>,
    /// When the first of the grants that the PCM has ends, Unix seconds; [`NEVER`] if none does.
    next_end: AtomicI64,
}

const NEVER: i64 = i64::MAX;

/// A PCM that runs and has grants.
struct Link {
    ready: Ready,
    control: Control,
    has: Kept,
}

/// The grants that a PCM has, as small as they can be kept: there is one for each owner, and they are rarely looked at.
struct Kept {
    rev: i64,
    json: Box<[u8]>,
}

impl Kept {
    fn of(list: &GrantList) -> Result<Self, Cause> {
        let json = serde_json::to_vec(list).map_err(|_| Cause::PcmUnavailable)?;
        Ok(Self { rev: list.rev, json: json.into_boxed_slice() })
    }

    fn list(&self) -> Result<GrantList, Cause> {
        serde_json::from_slice(&self.json).map_err(|_| Cause::PcmUnavailable)
    }
}

impl Owners {
    /// With `lasting`, PCMs are started with a directory for their state.
    pub(crate) fn new(launcher: LauncherClient, launch_limit: Duration, lasting: bool) -> Self {
        Self { launcher, launch_limit, lasting, owners: Mutex::default(), overdue: Mutex::default() }
    }

    /// A connection to the PCM of the grant's owner, with the preamble of a session of `client` and its `hello` already sent.
    ///
    /// # Errors
    /// [`Cause::PcmUnavailable`], [`Cause::PcmCapacity`], [`Cause::DidpUnavailable`] if the grants cannot be learned.
    pub(crate) async fn open(
        &self,
        gateway: &Gateway,
        didp: &Didp,
        grant: &Grant,
        client: &str,
        hello: &[u8],
    ) -> Result<UnixStream, Cause> {
        let id = OwnerId::of(grant);
        let owner = self.owner(gateway, &id)?;
        // In one piece, so that the PCM is woken once.
        let mut first = Preamble::Session { sid: grant.sid.clone(), client: client.to_owned() }.to_bytes();
        first.extend_from_slice(hello);
        for _attempt in ["as known", "anew, if that PCM died"] {
            let mut link = owner.link.lock().await;
            let known =
                link.as_ref().is_some_and(|link| link.has.rev == grant.rev && link.control.is_alive());
            if !known || self.is_overdue(&id) {
                let mut list = current_grants(gateway, didp, &id).await?;
                list.state_share =
                    list.state_share.or_else(|| grant.state_share.as_ref().map(StateShare::to_text));
                self.hand_on(gateway, &id, &owner, &mut link, list).await?;
            }
            let Some(linked) = link.as_ref() else { continue };
            let opening = timeout(PCM_LIMIT, async {
                let mut stream = linked.ready.connect().await?;
                stream.write_all(&first).await?;
                Ok::<_, std::io::Error>(stream)
            });
            match opening.await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => tracing::warn!(event = "pcm_unreachable", %error),
                Err(_) => tracing::warn!(event = "pcm_unreachable", error = "time limit"),
            }
            *link = None;
        }
        Err(Cause::PcmUnavailable)
    }

    /// Hands the owner's current grants to the PCM, if it runs; if there are none, the PCM is removed with all that it kept. A PCM
    /// that does not run gets them before its next session.
    ///
    /// # Errors
    /// [`Cause::DidpUnavailable`] if the grants cannot be learned, another cause if the PCM cannot be told.
    pub(crate) async fn refresh(&self, gateway: &Gateway, didp: &Didp, id: &OwnerId) -> Result<(), Cause> {
        let owner = self.owner(gateway, id)?;
        let mut link = owner.link.lock().await;
        // It may run without a link, started before this gateway was or with a control connection that broke; and a link may be
        // to one that was idle and is stopped.
        let is_linked = link.as_ref().is_some_and(|link| link.control.is_alive());
        let runs = is_linked || self.runs(&owner.name).await?;
        if !runs && !self.lasting {
            *link = None;
            self.forget(id, &owner);
            return Ok(());
        }
        let list = current_grants(gateway, didp, id).await?;
        if list.grants.is_empty() {
            return self.remove(gateway, id, &owner, &mut link).await;
        }
        if !runs {
            *link = None;
            self.forget(id, &owner);
            return Ok(());
        }
        self.hand_on(gateway, id, &owner, &mut link, list).await
    }

    /// The owners of whose grants one has ended by `now`; each is named once.
    pub(crate) fn due(&self, now: i64) -> Vec<OwnerId> {
        let owners = self.lock();
        let due = owners.iter().filter(|(_, owner)| owner.next_end.load(Ordering::Acquire) <= now);
        due.map(|(id, owner)| {
            owner.next_end.store(NEVER, Ordering::Release);
            id.clone()
        })
        .collect()
    }

    /// Takes the grants that have ended from the owner's PCM, without asking the DIdP, and ends their sessions.
    ///
    /// # Errors
    /// The PCM cannot be told.
    pub(crate) async fn end_grants(&self, gateway: &Gateway, id: &OwnerId) -> Result<(), Cause> {
        let Some(owner) = self.lock().get(id).cloned() else { return Ok(()) };
        let mut link = owner.link.lock().await;
        let Some(known) = link.as_ref() else { return Ok(()) };
        let before = known.has.list()?;
        let list = without_ended(before.clone(), gateway.clock.now());
        let has = |list: &GrantList, sid: &str| list.grants.iter().any(|entry| entry.sid == sid);
        for live in gateway.sessions.of_owner(id) {
            // A grant that is newer than the list is none of those that ended.
            if has(&before, &live.sid) && !has(&list, &live.sid) {
                live.end(Cause::Revoked);
            }
        }
        if list.grants.is_empty() {
            return self.remove(gateway, id, &owner, &mut link).await;
        }
        if !known.control.is_alive() && !self.runs(&owner.name).await? {
            // Its next session begins with the grants of that time.
            *link = None;
            return Ok(());
        }
        self.hand_on(gateway, id, &owner, &mut link, list).await
    }

    /// From now on no session of this owner is opened before the PCM was told the current grants. False if that was so
    /// already.
    pub(crate) fn set_overdue(&self, id: &OwnerId) -> bool {
        self.overdue().insert(id.clone())
    }

    /// True until the PCM has been told the current grants, or is gone.
    pub(crate) fn is_overdue(&self, id: &OwnerId) -> bool {
        self.overdue().contains(id)
    }

    /// Everything of this owner goes: the PCM and what it kept.
    ///
    /// # Errors
    /// The launcher did not do it.
    pub(crate) async fn erase(&self, gateway: &Gateway, id: &OwnerId) -> Result<(), Cause> {
        let owner = self.owner(gateway, id)?;
        let mut link = owner.link.lock().await;
        *link = None;
        match timeout(self.launch_limit, self.launcher.remove(&owner.name)).await {
            Ok(Ok(())) => {
                self.forget(id, &owner);
                return Ok(());
            }
            Ok(Err(error)) => tracing::error!(event = "erase_failed", %error),
            Err(_) => tracing::error!(event = "erase_failed", error = "time limit"),
        }
        Err(Cause::PcmUnavailable)
    }

    /// The owners of one issuer whose PCMs this gateway knows.
    pub(crate) fn linked(&self, iss: &str) -> Vec<OwnerId> {
        self.lock().keys().filter(|id| id.iss == iss).cloned().collect()
    }

    /// Makes `link` a living one with these grants: by the control connection that there is, else by the launcher.
    async fn hand_on(
        &self,
        gateway: &Gateway,
        id: &OwnerId,
        owner: &Owner,
        link: &mut Option<Link>,
        mut list: GrantList,
    ) -> Result<(), Cause> {
        let grants = Verb::Grants(pcm_grants(&list, &gateway.keys));
        if let (None, Some(known)) = (&list.state_share, &*link) {
            list.state_share = known.has.list()?.state_share;
        }
        let next_end = list.grants.iter().filter_map(|entry| entry.exp).min().unwrap_or(NEVER);
        let told = match link {
            Some(known) => known.control.call(grants.clone(), PCM_LIMIT).await,
            None => Err(std::io::ErrorKind::NotConnected.into()),
        };
        if let (Some(known), Ok(())) = (&mut *link, &told) {
            known.has = Kept::of(&list)?;
        } else {
            if let (Some(_), Err(error)) = (&*link, told) {
                tracing::info!(event = "pcm_control_lost", %error);
            }
            *link = None;
            *link = Some(self.link(&gateway.keys, owner, grants, list).await?);
        }
        owner.next_end.store(next_end, Ordering::Release);
        self.overdue().remove(id);
        Ok(())
    }

    /// A PCM with these grants, started if it does not run. One that dies meanwhile is started anew: a process that was killed
    /// looks alive for some moments.
    async fn link(&self, keys: &Keys, owner: &Owner, grants: Verb, list: GrantList) -> Result<Link, Cause> {
        let claim = self.claim(keys, &owner.name, &list).map(Verb::Claim);
        for wait in RELINK {
            sleep(wait).await;
            let ready = self.ensure(&owner.name).await?;
            match introduce(&ready, claim.clone(), grants.clone()).await {
                Ok(control) => return Ok(Link { ready, control, has: Kept::of(&list)? }),
                // Its own word: what it finds on disk is not this key's or not this PCM's.
                Err((Asked::Claim, error)) if error.kind() == std::io::ErrorKind::Other => {
                    tracing::error!(event = "pcm_state_refused", name = %owner.name, %error);
                    return Err(Cause::PcmUnavailable);
                }
                Err((_, error)) => {
                    tracing::error!(event = "pcm_control_failed", %error);
                    // It lives and says no, or nothing.
                    if matches!(error.kind(), std::io::ErrorKind::Other | std::io::ErrorKind::TimedOut) {
                        return Err(Cause::PcmUnavailable);
                    }
                }
            }
        }
        Err(Cause::PcmUnavailable)
    }

    /// What a PCM that keeps its state must hear first. Without the DIdP's share nothing can be said: a PCM that was told by another
    /// gateway of the cluster, or by this one before it restarted, then takes grants as well.
    fn claim(&self, keys: &Keys, name: &PcmName, list: &GrantList) -> Option<Claim> {
        let share = list.state_share.as_deref().and_then(StateShare::from_text).filter(|_| self.lasting)?;
        let key = keys.pcm_state(share.bytes(), name.as_str());
        Some(Claim { name: name.to_string(), key: key.to_string() })
    }

    /// Has the PCM of an owner without grants removed, with all that it kept.
    async fn remove(
        &self,
        gateway: &Gateway,
        id: &OwnerId,
        owner: &Arc<Owner>,
        link: &mut Option<Link>,
    ) -> Result<(), Cause> {
        // Clients hear that it is their right that is over, and not their PCM.
        for live in gateway.sessions.of_owner(id) {
            live.end(Cause::Revoked);
        }
        *link = None;
        match timeout(self.launch_limit, self.launcher.remove(&owner.name)).await {
            Ok(Ok(())) => {
                tracing::info!(event = "pcm_removed", "its owner has no grants any more");
                self.forget(id, owner);
                return Ok(());
            }
            Ok(Err(error)) => tracing::error!(event = "pcm_removal_failed", %error),
            Err(_) => tracing::error!(event = "pcm_removal_failed", error = "time limit"),
        }
        Err(Cause::PcmUnavailable)
    }

    /// There is no PCM to be told anything.
    fn forget(&self, id: &OwnerId, owner: &Arc<Owner>) {
        owner.next_end.store(NEVER, Ordering::Release);
        self.overdue().remove(id);
        let mut owners = self.lock();
        // Whoever waits for this owner's lock holds it as the map and our caller do, and must not get another one beside it.
        if Arc::strong_count(owner) == 2 {
            owners.remove(id);
        }
    }

    async fn runs(&self, name: &PcmName) -> Result<bool, Cause> {
        match timeout(self.launch_limit, self.launcher.list()).await {
            Ok(Ok(names)) => return Ok(names.contains(name)),
            Ok(Err(error)) => tracing::warn!(event = "pcms_unknown", %error),
            Err(_) => tracing::warn!(event = "pcms_unknown", error = "time limit"),
        }
        Err(Cause::PcmUnavailable)
    }

    async fn ensure(&self, name: &PcmName) -> Result<Ready, Cause> {
        match timeout(self.launch_limit, self.launcher.ensure(name)).await {
            Ok(Ok(ready)) => Ok(ready),
            Ok(Err(error)) => {
                tracing::error!(event = "launch_failed", %error);
                Err(match error {
                    ClientError::Refused { kind: ErrorKind::Capacity, .. } => Cause::PcmCapacity,
                    ClientError::Refused { .. } | ClientError::Unreachable(_) | ClientError::Protocol => {
                        Cause::PcmUnavailable
                    }
                })
            }
            Err(_) => {
                tracing::error!(event = "launch_failed", error = "time limit");
                Err(Cause::PcmUnavailable)
            }
        }
    }

    fn owner(&self, gateway: &Gateway, id: &OwnerId) -> Result<Arc<Owner>, Cause> {
        if let Some(owner) = self.lock().get(id) {
            return Ok(Arc::clone(owner));
        }
        let name =
            PcmName::new(gateway.keys.pcm_name(&id.iss, &id.sub)).map_err(|_| Cause::PcmUnavailable)?;
        let mut owners = self.lock();
        let owner = owners.entry(id.clone()).or_insert_with(|| {
            let next_end = AtomicI64::new(NEVER);
            Arc::new(Owner { name, link: Default::default(), next_end })
        });
        Ok(Arc::clone(owner))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OwnerId, Arc<Owner>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overdue(&self) -> MutexGuard<'_, HashSet<OwnerId>> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was said to a PCM when it failed.
enum Asked {
    /// Whose it is.
    Claim,
    /// Anything else.
    Other,
}

/// A control connection on which the PCM took claim and grants.
async fn introduce(
    ready: &Ready,
    claim: Option<Verb>,
    grants: Verb,
) -> Result<Control, (Asked, std::io::Error)> {
    let other = |error| (Asked::Other, error);
    let mut stream = ready.connect().await.map_err(other)?;
    stream.write_all(&Preamble::Control {}.to_bytes()).await.map_err(other)?;
    let mut control = Control::over(stream);
    if let Some(claim) = claim {
        control.call(claim, PCM_LIMIT).await.map_err(|error| (Asked::Claim, error))?;
    }
    control.call(grants, PCM_LIMIT).await.map_err(other)?;
    Ok(control)
}

/// What the DIdP says is granted now.
async fn current_grants(gateway: &Gateway, didp: &Didp, id: &OwnerId) -> Result<GrantList, Cause> {
    let list = didp.grants(&id.sub).await.map_err(|error| {
        tracing::warn!(event = "grants_unavailable", issuer = didp.issuer, %error);
        Cause::DidpUnavailable
    })?;
    Ok(without_ended(list, gateway.clock.now()))
}

fn without_ended(mut list: GrantList, now: i64) -> GrantList {
    list.grants.retain(|entry| entry.exp.is_none_or(|exp| exp > now));
    list
}

/// The grants as the PCM takes them: as topics. An entry that is not coherent is no grant.
fn pcm_grants(list: &GrantList, keys: &Keys) -> Grants {
    let grants = list.grants.iter().filter_map(|entry| {
        let grant = pcm_grant(entry, keys);
        if grant.is_none() {
            tracing::warn!(event = "grant_not_coherent", "one grant is left out");
        }
        grant
    });
    Grants { rev: list.rev, grants: grants.collect() }
}

fn pcm_grant(entry: &GrantEntry, keys: &Keys) -> Option<pcm_wire::Grant> {
    let sid = entry.sid.clone();
    let details = &entry.authorization_details;
    let labels =
        || details.iter().map(|detail| detail.identifier.clone().filter(|label| is_identifier(label)));
    if !is_identifier(&sid) || labels().any(|label| label.is_none()) {
        return None;
    }
    if let [detail] = details.as_slice()
        && detail.is_device()
    {
        return Some(pcm_wire::Grant::Device { sid, label: detail.identifier.clone()? });
    }
    if details.iter().any(oauth_wire::AuthorizationDetail::is_device) {
        return None;
    }
    let rules = details.iter().zip(labels()).filter_map(|(detail, label)| {
        let owned = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
        Some(Rule {
            label: label?,
            read: owned(&mut detail.readable()),
            command: owned(&mut detail.commandable()),
            view: detail.view.clone(),
            views: detail.views.clone(),
        })
    });
    let key = Some(keys.view_hash(&sid));
    Some(pcm_wire::Grant::App { rules: rules.collect(), key, sid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::derive(&service::secret::Key::new([7; 32]))
    }

    fn list(json: &str) -> Grants {
        let list: GrantList = serde_json::from_str(json).unwrap();
        pcm_grants(&without_ended(list, 100), &keys())
    }

    #[test]
    fn devices_and_apps_become_topics() {
        let grants = list(
            r#"{"sub":"o","rev":5,"grants":[
            {"sid":"s1","rev":1,"authorization_details":[{"type":"mqtt","identifier":"L","actions":["publish","subscribe"],"channels":[]}]},
            {"sid":"s2","rev":5,"authorization_details":[{"type":"mqtt","identifier":"L","actions":["read"],"channels":[
                {"name":"temperature","direction":"data"},{"name":"heater","direction":"command"}],
                "view":{"kind":"coarsening","round":0.5},"views":{"temperature":{"kind":"summary","window_s":60}}}]},
            {"sid":"s3","rev":5,"authorization_details":[]}]}"#,
        );
        assert_eq!(grants.rev, 5);
        let view = |json: &str| serde_json::from_str::<pcm_wire::View>(json).unwrap();
        let rule = Rule {
            label: "L".into(),
            read: vec!["temperature".into()],
            command: vec![],
            view: view(r#"{"kind":"coarsening","round":0.5}"#),
            views: [("temperature".to_owned(), view(r#"{"kind":"summary","window_s":60}"#))].into(),
        };
        let key = |sid| Some(keys().view_hash(sid));
        assert_eq!(
            grants.grants,
            [
                pcm_wire::Grant::Device { sid: "s1".into(), label: "L".into() },
                pcm_wire::Grant::App { sid: "s2".into(), rules: vec![rule], key: key("s2") },
                pcm_wire::Grant::App { sid: "s3".into(), rules: vec![], key: key("s3") },
            ]
        );
    }

    #[test]
    fn ended_and_incoherent_grants_are_none() {
        let grants = list(
            r#"{"sub":"o","rev":5,"grants":[
            {"sid":"s1","rev":1,"exp":100,"authorization_details":[]},
            {"sid":"a/b","rev":1,"authorization_details":[]},
            {"sid":"s2","rev":1,"authorization_details":[{"type":"mqtt","actions":["read"],"channels":[]}]},
            {"sid":"s3","rev":1,"authorization_details":[
                {"type":"mqtt","identifier":"L","actions":["publish"],"channels":[]},
                {"type":"mqtt","identifier":"M","actions":["read"],"channels":[]}]}]}"#,
        );
        assert_eq!(grants.grants, []);
    }
}
