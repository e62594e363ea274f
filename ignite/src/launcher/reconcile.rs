//! Compares what is there with what should be: at the launcher's start, when the engine says that something ended, and every
//! minute. And stops who is not needed.
//!
//! What a container and its directory are called tells how far a claim has come (`claim`), so whatever moment a launcher died
//! at, the next one finishes it or undoes it. A slot that somebody is at work on is left alone, and so is everything without
//! this launcher's labels. Each PCM is dealt with on its own and in bounded time: one that hangs holds up nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::docker::Event;
use super::slots::{Found, Slot};
use super::talk::{self, Retired};
use super::wire::PcmName;
use super::{Body, Engine, Failure, Launcher, Seen};

/// Longest time between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// Time for other containers to end as well, after one did: a shim takes its whole group along.
const GATHER: Duration = Duration::from_millis(100);
/// How old a look may be for somebody who has no place.
const FRESH: Duration = Duration::from_millis(500);
/// How long the engine may take to rename a container, when nobody waits for it.
const RENAME_LIMIT: Duration = Duration::from_secs(10);
/// First pause before it is tried again.
const NAME_AGAIN: Duration = Duration::from_secs(1);
/// PCMs that are dealt with at once.
const AT_ONCE: usize = 16;

/// Does all of this until `stop`.
pub(super) async fn keep_true(launcher: Arc<Launcher>, stop: CancellationToken) {
    let listening = async {
        match &launcher.engine {
            Engine::Docker(containers) => {
                containers.listen(&launcher.changed, |event, name| launcher.is_concerned(event, name)).await;
            }
            Engine::Process(_) => std::future::pending().await,
        }
    };
    let looking = async {
        let mut tick = interval(launcher.look_every());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = launcher.changed.notified() => sleep(GATHER).await,
            }
            if let Err(failure) = launcher.reconcile_except(None).await {
                tracing::warn!(event = "reconcile_failed", %failure, "what is there could not be compared with what should be");
            }
            launcher.retire_idle().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listening => {}
        () = looking => {}
        () = launcher.name_late() => {}
    }
}

/// What to do with a container, by what is known of its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Everything is as it should be, or somebody else's work.
    Leave,
    /// It ended, or nobody can ever use it.
    Remove,
    /// One of the pool that went out of date or ended.
    Drain,
    /// It has an owner by its directory, and nobody here knows of it.
    Settle(PcmName),
    /// It is nobody's, runs, and nobody here knows of it.
    Pool,
}

/// What is known of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Somebody is at work on it.
    AtWork,
    Pool,
    Claimed,
    Unknown,
}

/// Pure: a container, what is known of its slot, and what its directory says.
fn judge(seen: &Seen, standing: &Standing, directory: Option<&Found>) -> Verdict {
    let Some(slot) = seen.slot else { return Verdict::Remove };
    match (standing, directory) {
        (Standing::AtWork | Standing::Claimed, _) => Verdict::Leave,
        (Standing::Pool, _) if seen.running && !seen.outdated => Verdict::Leave,
        (Standing::Pool, _) => Verdict::Drain,
        (Standing::Unknown, Some(Found::Claimed(name, _))) => Verdict::Settle(name.clone()),
        (Standing::Unknown, Some(Found::Pool(_)))
            if seen.running && !seen.outdated && seen.container == slot.container() =>
        {
            Verdict::Pool
        }
        (Standing::Unknown, _) => Verdict::Remove,
    }
}

impl Launcher {
    /// The first look, before anybody is served.
    pub(super) async fn take_over(&self) -> Result<(), Failure> {
        if let Engine::Docker(containers) = &self.engine {
            // Without an image what runs is still served; only new ones are not.
            if let Err(failure) = containers.look_up_image().await {
                tracing::error!(event = "no_image", %failure, "PCMs cannot be started");
            }
            containers.count_groups(&self.engine.list().await?);
        }
        self.reconcile_except(None).await
    }

    /// Whether something is to be done: one ended that should run, or one came that nobody here makes. A launcher that was
    /// killed may have asked for it just before.
    fn is_concerned(&self, event: Event, container: &str) -> bool {
        let is_it = |body: &Body| body.container == container;
        match event {
            Event::Ended => self.pool().iter().any(is_it) || self.known().values().flatten().any(is_it),
            Event::Came => {
                !self.at_work().iter().any(|slot| slot.container() == container)
                    && !self.pool().iter().any(is_it)
                    && !self.known().keys().any(|name| name.as_str() == container)
            }
        }
    }

    fn look_every(&self) -> Duration {
        match self.config.idle_seconds {
            0 => EVERY,
            idle => Duration::from_secs((idle / 2).max(1)).min(EVERY),
        }
    }

    /// Makes what is there what it should be, but for a name that the caller is at work on.
    pub(super) async fn reconcile_except(&self, mine: Option<&PcmName>) -> Result<(), Failure> {
        let mut last = self.reconciling.lock().await;
        if mine.is_some() && last.is_some_and(|last| last.elapsed() < FRESH) {
            // Many who are refused at once need not all look.
            return Ok(());
        }
        if let Engine::Docker(containers) = &self.engine {
            let _as_it_was = containers.look_up_image().await;
        }
        // In this order: a slot that is made after the first look is somebody's work until the last.
        let io = |error| Failure::Engine(format!("list directories: {error}"));
        let directories = self.slots.list().map_err(io)?;
        let seen = self.engine.list().await?;
        let by_slot: HashMap<Slot, &Found> = directories
            .iter()
            .filter_map(|found| match found {
                Found::Pool(slot) | Found::Claimed(_, Some(slot)) => Some((*slot, found)),
                Found::Claimed(_, None) | Found::Gone(_) => None,
            })
            .collect();
        stream::iter(&seen)
            .for_each_concurrent(AT_ONCE, async |seen| {
                let directory = seen.slot.and_then(|slot| by_slot.get(&slot).copied());
                if let Err(failure) = self.deal_with(seen, directory).await {
                    tracing::warn!(event = "reconcile_failed", container = seen.container, %failure, "one container could not be dealt with; it will be tried again");
                }
            })
            .await;
        self.check_owners(&seen, mine).await;
        for found in &directories {
            if let Err(error) = self.sweep(found, &seen, mine) {
                tracing::warn!(event = "sweep_failed", %error, "a directory that nobody uses could not be removed");
            }
        }
        self.taken.notify_one();
        *last = Some(Instant::now());
        Ok(())
    }

    fn standing(&self, slot: Slot) -> Standing {
        if self.at_work().contains(&slot) {
            Standing::AtWork
        } else if self.pool().iter().any(|body| body.slot == slot) {
            Standing::Pool
        } else if self.known().values().flatten().any(|body| body.slot == slot) {
            Standing::Claimed
        } else {
            Standing::Unknown
        }
    }

    async fn deal_with(&self, seen: &Seen, directory: Option<&Found>) -> Result<(), Failure> {
        let standing = seen.slot.map_or(Standing::Unknown, |slot| self.standing(slot));
        match judge(seen, &standing, directory) {
            Verdict::Leave => Ok(()),
            Verdict::Remove => {
                // A claim renames: what was seen may have another name, or be somebody's, by now.
                if !self.is_as_seen(seen).await? || seen.slot.is_some_and(|slot| self.has(slot)) {
                    return Ok(());
                }
                tracing::info!(
                    event = "pcm_swept",
                    container = seen.container,
                    "a container that nobody uses is removed"
                );
                self.engine.end(&seen.container, seen.slot).await?;
                if let (Some(slot), None | Some(Found::Pool(_))) = (seen.slot, directory) {
                    let _ = self.slots.remove(slot, None);
                }
                Ok(())
            }
            Verdict::Drain => {
                let body = {
                    let mut pool = self.pool();
                    let at = pool.iter().position(|body| Some(body.slot) == seen.slot);
                    at.and_then(|at| pool.remove(at))
                };
                match body {
                    Some(body) => self.give_up(&body).await,
                    None => Ok(()),
                }
            }
            Verdict::Settle(name) => {
                let Some(_flight) = self.try_enter(&name) else { return Ok(()) };
                if self.known().contains_key(&name) {
                    return Ok(());
                }
                if let Some(body) = self.settle(&name).await? {
                    tracing::info!(event = "pcm_adopted", %name, "a PCM that runs is taken over");
                    self.known().insert(name, Some(body));
                }
                Ok(())
            }
            Verdict::Pool => self.adopt_into_pool(seen).await,
        }
    }

    async fn is_as_seen(&self, seen: &Seen) -> Result<bool, Failure> {
        let Engine::Docker(containers) = &self.engine else { return Ok(true) };
        Ok(matches!(containers.find(&seen.container).await?, Some(Some(now)) if now.slot == seen.slot))
    }

    async fn adopt_into_pool(&self, seen: &Seen) -> Result<(), Failure> {
        let Some(slot) = seen.slot else { return Ok(()) };
        let socket = self.slots.pool_socket(slot);
        let is_nobodys = matches!(talk::whose(&socket, self.engine.user(slot)).await, Ok(None));
        let pid = match &self.engine {
            Engine::Docker(containers) => {
                containers.find(&seen.container).await?.flatten().map_or(0, |now| now.pid)
            }
            Engine::Process(_) => seen.pid,
        };
        let body =
            Body { slot, pid, container: seen.container.clone(), group: seen.group.clone(), outdated: false };
        if is_nobodys && self.room_in_pool() > 0 {
            self.pool().push_back(body);
            return Ok(());
        }
        self.give_up(&body).await
    }

    /// What has the directory of this name and nobody here knows of: taken over if it can serve, else removed. The caller has
    /// the name's flight.
    pub(super) async fn settle(&self, name: &PcmName) -> Result<Option<Body>, Failure> {
        let found = self.body_by_directory(name).await?;
        let Some(mut body) = found else {
            self.clear(name, None).await?;
            return Ok(None);
        };
        // A launcher may have died while it had hidden the socket.
        if !self.socket(name).exists() {
            let _ = self.slots.hide(name, false);
        }
        let (socket, user) = (self.socket(name), self.engine.user(body.slot));
        let taken = match talk::whose(&socket, user).await {
            Ok(Some(whose)) => whose == name.as_str(),
            // Claimed by its directory, and not told so yet.
            Ok(None) => {
                let files = self.files(name).await?;
                talk::identify(&socket, user, self.identity(name), files.as_ref()).await.is_ok()
            }
            Err(_) => false,
        };
        if !taken {
            tracing::info!(event = "pcm_swept", %name, "a PCM that cannot be taken over is removed");
            self.clear(name, Some(&body)).await?;
            return Ok(None);
        }
        self.give_name(&mut body, name, RENAME_LIMIT).await?;
        Ok(Some(body))
    }

    /// The container in the slot that the name's directory is.
    async fn body_by_directory(&self, name: &PcmName) -> Result<Option<Body>, Failure> {
        let Engine::Docker(containers) = &self.engine else { return Ok(None) };
        let slot = self.slots.slot_of(name);
        let slot = slot.map_err(|error| Failure::Engine(format!("look at the PCM's directory: {error}")))?;
        let Some(slot) = slot else { return Ok(None) };
        for container in [name.as_str(), &slot.container()] {
            if let Some(Some(seen)) = containers.find(container).await?
                && seen.slot == Some(slot)
                && seen.running
            {
                let Seen { container, pid, group, outdated, .. } = seen;
                return Ok(Some(Body { slot, pid, container, group, outdated }));
            }
        }
        Ok(None)
    }

    /// Owners whose PCM ended, went out of date, or has not its name yet.
    async fn check_owners(&self, seen: &[Seen], mine: Option<&PcmName>) {
        let by_slot: HashMap<Slot, &Seen> = seen.iter().filter_map(|seen| Some((seen.slot?, seen))).collect();
        let known: Vec<(PcmName, Slot)> = {
            let known = self.known();
            known.iter().filter_map(|(name, body)| Some((name.clone(), body.as_ref()?.slot))).collect()
        };
        stream::iter(known)
            .for_each_concurrent(AT_ONCE, async |(name, slot)| {
                let seen = by_slot.get(&slot).copied();
                let is_well =
                    seen.is_some_and(|seen| seen.running && !seen.outdated && self.is_named(seen, &name));
                if is_well || mine == Some(&name) {
                    return;
                }
                let Some(_flight) = self.try_enter(&name) else { return };
                let Some(body) = self.body(&name).filter(|body| body.slot == slot) else { return };
                if let Err(failure) = self.check_owner(&name, body).await {
                    tracing::warn!(event = "reconcile_failed", %name, %failure, "one PCM could not be dealt with; it will be tried again");
                }
            })
            .await;
    }

    fn is_named(&self, seen: &Seen, name: &PcmName) -> bool {
        matches!(self.engine, Engine::Process(_)) || seen.container == name.as_str()
    }

    async fn check_owner(&self, name: &PcmName, body: Body) -> Result<(), Failure> {
        // What was seen is some moments old, and a rename whose answer did not come may have been done.
        let now = match &self.engine {
            Engine::Docker(_) => self.body_by_directory(name).await?,
            Engine::Process(processes) => processes.runs(body.slot).then(|| body.clone()),
        };
        let Some(mut now) = now.filter(|now| now.slot == body.slot) else {
            tracing::info!(event = "pcm_swept", %name, "what a dead PCM left is removed");
            self.clear(name, Some(&body)).await?;
            self.known().remove(name);
            return Ok(());
        };
        if let Err(failure) = self.give_name(&mut now, name, RENAME_LIMIT).await {
            // Somebody else has the name: nobody is served by a PCM that is called otherwise.
            tracing::error!(event = "pcm_unnamed", %name, %failure, "a PCM that cannot get its name is removed");
            self.engine.end(&now.container, Some(now.slot)).await?;
            let gone = self.slots.put_away(name).ok().flatten();
            gone.map_or(Ok(()), std::fs::remove_dir_all)
                .map_err(|error| Failure::Engine(format!("remove the PCM's directory: {error}")))?;
            self.known().remove(name);
            return Ok(());
        }
        self.known().insert(name.clone(), Some(now));
        Ok(())
    }

    /// Names what could not be named at once.
    async fn name_late(&self) {
        let mut pause = NAME_AGAIN;
        loop {
            self.to_name.notified().await;
            let unnamed = std::mem::take(&mut *self.unnamed());
            let mut still = Vec::new();
            for name in unnamed {
                let _flight = self.enter(&name).await;
                let Some(body) = self.body(&name) else { continue };
                if let Err(failure) = self.check_owner(&name, body).await {
                    tracing::warn!(event = "pcm_unnamed", %name, %failure, "a PCM's container has not its name yet");
                    still.push(name);
                }
            }
            if still.is_empty() {
                pause = NAME_AGAIN;
                continue;
            }
            // The engine is away, or busy.
            sleep(pause).await;
            pause = (pause * 2).min(EVERY);
            self.unnamed().extend(still);
            self.to_name.notify_one();
        }
    }

    /// Removes a directory that nothing runs in.
    fn sweep(&self, found: &Found, seen: &[Seen], mine: Option<&PcmName>) -> std::io::Result<()> {
        let runs = |slot: Slot| seen.iter().any(|seen| seen.slot == Some(slot)) || self.has(slot);
        match found {
            Found::Gone(directory) => self.slots.remove_gone(directory),
            Found::Pool(slot) if runs(*slot) => Ok(()),
            Found::Pool(slot) => self.slots.remove(*slot, None),
            Found::Claimed(name, slot) => {
                let Some(_flight) = self.try_enter(name).filter(|_| mine != Some(name)) else {
                    return Ok(());
                };
                if slot.is_some_and(runs) || self.known().contains_key(name) {
                    return Ok(());
                }
                let gone = self.slots.put_away(name)?;
                gone.map_or(Ok(()), std::fs::remove_dir_all)
            }
        }
    }

    /// Stops the PCMs that nobody has needed for a while, and outdated ones that nobody needs at this moment.
    async fn retire_idle(&self) {
        let known: Vec<(PcmName, Body)> = {
            let known = self.known();
            known.iter().filter_map(|(name, body)| Some((name.clone(), body.clone()?))).collect()
        };
        stream::iter(known)
            .for_each_concurrent(AT_ONCE, async |(name, body)| {
                let enough = match (body.outdated, self.config.idle_seconds) {
                    (true, _) => Duration::ZERO,
                    (false, 0) => return,
                    (false, seconds) => Duration::from_secs(seconds),
                };
                match talk::idle(&self.socket(&name), self.engine.user(body.slot)).await {
                    Ok(Some(idle)) if idle >= enough => self.retire(&name, &body).await,
                    Ok(_) => {}
                    // Whoever needs it next finds out whether it hangs, and replaces it.
                    Err(error) => tracing::debug!(event = "pcm_silent", %name, %error),
                }
            })
            .await;
    }

    /// Stops one, unless somebody has come meanwhile. While it is asked nobody finds its socket: who connected before is
    /// somebody who needs it, who comes now asks for it anew and waits until this is decided.
    async fn retire(&self, name: &PcmName, body: &Body) {
        let Some(_flight) = self.try_enter(name) else { return };
        if self.body(name).is_none_or(|known| known.slot != body.slot) || self.slots.hide(name, true).is_err()
        {
            return;
        }
        match talk::retire(&self.slots.hidden(name), self.engine.user(body.slot)).await {
            Ok(Retired::Yes) => {
                self.known().remove(name);
                match self.clear(name, Some(body)).await {
                    Ok(()) => tracing::info!(event = "pcm_idle", %name, "a PCM that nobody needs is stopped"),
                    Err(failure) => {
                        tracing::warn!(event = "pcm_stays", %name, %failure, "a PCM that has ended could not be removed; it will be tried again");
                    }
                }
            }
            Ok(Retired::Busy) => self.show(name),
            Err(error) => {
                tracing::debug!(event = "pcm_silent", %name, %error);
                self.show(name);
            }
        }
    }

    fn show(&self, name: &PcmName) {
        if let Err(error) = self.slots.hide(name, false) {
            tracing::warn!(event = "socket_hidden", %name, %error, "a PCM's socket could not be put back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot::of_user(1 << 30).unwrap()
    }

    fn name() -> PcmName {
        PcmName::new(format!("pcm-{}", "a".repeat(32))).unwrap()
    }

    fn seen(container: &str, running: bool, outdated: bool) -> Seen {
        Seen { container: container.to_owned(), slot: Some(slot()), running, outdated, pid: 1, group: None }
    }

    /// Every step of a claim that a launcher may die after, and what the next one makes of it.
    #[test]
    fn a_claim_cut_short_is_finished_or_undone() {
        let pool = slot().container();
        let pooled = Found::Pool(slot());
        let claimed = Found::Claimed(name(), Some(slot()));
        for (step, seen, directory, expected) in [
            ("the container was created", seen(&pool, false, false), Some(&pooled), Verdict::Remove),
            ("the container was started", seen(&pool, true, false), Some(&pooled), Verdict::Pool),
            ("the same for an owner", seen(name().as_str(), true, false), Some(&pooled), Verdict::Remove),
            ("the directory was claimed", seen(&pool, true, false), Some(&claimed), Verdict::Settle(name())),
            (
                "the container was renamed",
                seen(name().as_str(), true, false),
                Some(&claimed),
                Verdict::Settle(name()),
            ),
            (
                "it died after that",
                seen(name().as_str(), false, false),
                Some(&claimed),
                Verdict::Settle(name()),
            ),
            ("the directory was removed", seen(name().as_str(), true, false), None, Verdict::Remove),
            ("another image", seen(&pool, true, true), Some(&pooled), Verdict::Remove),
        ] {
            assert_eq!(judge(&seen, &Standing::Unknown, directory), expected, "{step}");
            assert_eq!(judge(&seen, &Standing::AtWork, directory), Verdict::Leave, "{step}");
        }
    }

    #[test]
    fn what_is_known_is_left_alone_unless_it_is_of_no_use() {
        let pool = slot().container();
        let pooled = Found::Pool(slot());
        assert_eq!(judge(&seen(&pool, true, false), &Standing::Pool, Some(&pooled)), Verdict::Leave);
        assert_eq!(judge(&seen(&pool, false, false), &Standing::Pool, Some(&pooled)), Verdict::Drain);
        assert_eq!(judge(&seen(&pool, true, true), &Standing::Pool, Some(&pooled)), Verdict::Drain);
        // Owners' own ones are looked at under their flight.
        assert_eq!(judge(&seen(&pool, false, true), &Standing::Claimed, Some(&pooled)), Verdict::Leave);
        // A container of an earlier version has no slot.
        let old = Seen { slot: None, ..seen(name().as_str(), true, false) };
        assert_eq!(judge(&old, &Standing::Unknown, None), Verdict::Remove);
    }
}
