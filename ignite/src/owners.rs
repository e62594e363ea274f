//! The owners' PCMs as this gateway knows them: ensured by the launcher, told the grants, opened for sessions.
//!
//! One control connection a PCM. No session is opened before the PCM has the grants that the session's introspection knew
//! of. An owner's lock makes launching single-flight: whoever comes while a PCM is being started waits for that one. The
//! control connection itself is `control`'s.

mod control;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oauth_wire::{GrantEntry, GrantList};
use pcm_wire::{Grants, Preamble, Rule, Verb, View};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::cause::Cause;
use crate::didp::Didp;
use crate::gateway::Gateway;
use crate::launcher::client::{ClientError, LauncherClient};
use crate::launcher::wire::{ErrorKind, PcmName, Ready};
use crate::live::OwnerId;
use crate::policy::Grant;
use crate::policy::grant::is_identifier;
use control::Control;

/// Time for a PCM to answer on its control connection or to accept a session.
const PCM_LIMIT: Duration = Duration::from_secs(5);
/// Waits between tries to have an erased owner's PCM removed.
const ERASE_RETRIES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// All owners who were here since the gateway started.
pub(crate) struct Owners {
    launcher: LauncherClient,
    launch_limit: Duration,
    owners: Mutex<HashMap<OwnerId, Arc<Owner>>>,
}

struct Owner {
    name: PcmName,
    link: tokio::sync::Mutex<Option<Link>>,
}

/// A PCM that runs and has grants.
struct Link {
    ready: Ready,
    control: Control,
    rev: i64,
}

impl Owners {
    pub(crate) fn new(launcher: LauncherClient, launch_limit: Duration) -> Self {
        Self { launcher, launch_limit, owners: Mutex::default() }
    }

    /// A connection to the PCM of the grant's owner, with the preamble of a session of `client` already sent.
    ///
    /// # Errors
    /// [`Cause::PcmUnavailable`], [`Cause::PcmCapacity`], [`Cause::DidpUnavailable`] if the grants cannot be learned.
    pub(crate) async fn open(
        &self,
        gateway: &Gateway,
        didp: &Didp,
        grant: &Grant,
        client: &str,
    ) -> Result<UnixStream, Cause> {
        let id = OwnerId::of(grant);
        let owner = self.owner(gateway, &id)?;
        let preamble = Preamble::Session { sid: grant.sid.clone(), client: client.to_owned() }.to_bytes();
        for _attempt in ["as known", "anew, if that PCM died"] {
            let mut link = owner.link.lock().await;
            let known = link.as_ref().is_some_and(|link| link.rev == grant.rev && link.control.is_alive());
            if !known {
                self.link(gateway, didp, &id, &owner.name, &mut link).await?;
            }
            let Some(linked) = link.as_ref() else { continue };
            let opening = timeout(PCM_LIMIT, async {
                let mut stream = linked.ready.connect().await?;
                stream.write_all(&preamble).await?;
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

    /// Hands the owner's current grants to the PCM, if this gateway is linked with it. A PCM that is not linked gets them
    /// before its next session.
    ///
    /// # Errors
    /// [`Cause::DidpUnavailable`] if the grants cannot be learned, another cause if the PCM cannot be told.
    pub(crate) async fn refresh(&self, gateway: &Gateway, didp: &Didp, id: &OwnerId) -> Result<(), Cause> {
        let Some(owner) = self.lock().get(id).cloned() else { return Ok(()) };
        let mut link = owner.link.lock().await;
        if link.is_none() {
            return Ok(());
        }
        self.link(gateway, didp, id, &owner.name, &mut link).await
    }

    /// Everything of this owner goes: the PCM and what it kept.
    pub(crate) async fn erase(&self, gateway: &Gateway, id: &OwnerId) {
        let Ok(owner) = self.owner(gateway, id) else { return };
        let mut link = owner.link.lock().await;
        *link = None;
        for wait in ERASE_RETRIES {
            sleep(wait).await;
            match timeout(self.launch_limit, self.launcher.remove(&owner.name)).await {
                Ok(Ok(())) => {
                    self.lock().remove(id);
                    return;
                }
                Ok(Err(error)) => tracing::error!(event = "erase_failed", %error),
                Err(_) => tracing::error!(event = "erase_failed", error = "time limit"),
            }
        }
    }

    /// The owners of one issuer whose PCMs this gateway knows.
    pub(crate) fn linked(&self, iss: &str) -> Vec<OwnerId> {
        self.lock().keys().filter(|id| id.iss == iss).cloned().collect()
    }

    /// Makes `link` a living one with the current grants: by the control connection that there is, else by the launcher.
    async fn link(
        &self,
        gateway: &Gateway,
        didp: &Didp,
        id: &OwnerId,
        name: &PcmName,
        link: &mut Option<Link>,
    ) -> Result<(), Cause> {
        let list = didp.grants(&id.sub).await.map_err(|error| {
            tracing::warn!(event = "grants_unavailable", issuer = didp.issuer, %error);
            Cause::DidpUnavailable
        })?;
        let grants = Verb::Grants(pcm_grants(&list, gateway.clock.now()));
        if let Some(known) = link {
            match known.control.call(grants.clone(), PCM_LIMIT).await {
                Ok(()) => {
                    known.rev = list.rev;
                    return Ok(());
                }
                Err(error) => tracing::info!(event = "pcm_control_lost", %error),
            }
        }
        *link = None;
        let ready = self.ensure(name).await?;
        let failed = |error: std::io::Error| {
            tracing::error!(event = "pcm_control_failed", %error);
            Cause::PcmUnavailable
        };
        let mut stream = ready.connect().await.map_err(failed)?;
        stream.write_all(&Preamble::Control {}.to_bytes()).await.map_err(failed)?;
        let control = Control::over(stream);
        control.call(grants, PCM_LIMIT).await.map_err(failed)?;
        *link = Some(Link { ready, control, rev: list.rev });
        Ok(())
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
        let owner =
            owners.entry(id.clone()).or_insert_with(|| Arc::new(Owner { name, link: Default::default() }));
        Ok(Arc::clone(owner))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OwnerId, Arc<Owner>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The grants as the PCM takes them: as topics. An entry that is not coherent, or has ended at `now`, is no grant.
fn pcm_grants(list: &GrantList, now: i64) -> Grants {
    let current = |entry: &&GrantEntry| entry.exp.is_none_or(|exp| exp > now);
    let grants = list.grants.iter().filter(current).filter_map(|entry| {
        let grant = pcm_grant(entry);
        if grant.is_none() {
            tracing::warn!(event = "grant_not_coherent", "one grant is left out");
        }
        grant
    });
    Grants { rev: list.rev, grants: grants.collect() }
}

fn pcm_grant(entry: &GrantEntry) -> Option<pcm_wire::Grant> {
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
            view: match detail.view {
                oauth_wire::View::Raw => View::Raw,
            },
        })
    });
    Some(pcm_wire::Grant::App { sid, rules: rules.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> Grants {
        let list: GrantList = serde_json::from_str(json).unwrap();
        pcm_grants(&list, 100)
    }

    #[test]
    fn devices_and_apps_become_topics() {
        let grants = list(
            r#"{"sub":"o","rev":5,"grants":[
            {"sid":"s1","rev":1,"authorization_details":[{"type":"mqtt","identifier":"L","actions":["publish","subscribe"],"channels":[]}]},
            {"sid":"s2","rev":5,"authorization_details":[{"type":"mqtt","identifier":"L","actions":["read"],"channels":[
                {"name":"temperature","direction":"data"},{"name":"heater","direction":"command"}]}]},
            {"sid":"s3","rev":5,"authorization_details":[]}]}"#,
        );
        assert_eq!(grants.rev, 5);
        let rule =
            Rule { label: "L".into(), read: vec!["temperature".into()], command: vec![], view: View::Raw };
        assert_eq!(
            grants.grants,
            [
                pcm_wire::Grant::Device { sid: "s1".into(), label: "L".into() },
                pcm_wire::Grant::App { sid: "s2".into(), rules: vec![rule] },
                pcm_wire::Grant::App { sid: "s3".into(), rules: vec![] },
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
