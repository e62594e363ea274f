//! How an owner gets a PCM: the one that runs, one of the pool, or a new one.
//!
//! A claim is three things. The slot's directory is renamed to the PCM's name, which only one can do: from then on the PCM is
//! this owner's or will be removed. The PCM is told whose it is and gets the files of its state; it takes no other name after
//! that. The container is renamed. The last two happen at once, and whoever finds a claim half done after a launcher died
//! finishes it (`reconcile`). An engine that does not answer is no reason to refuse: the container gets its name later.
//! An owner's flight is the caller's.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pcm_wire::Identity;
use tokio::time::{Instant, timeout};

use super::probe::Tries;
use super::slots::Slot;
use super::wire::{PcmName, Ready};
use super::{Body, Engine, Failure, Launcher, Started, Work, available_memory, talk};

/// Longest time from a request to a PCM that accepts.
const START_LIMIT: Duration = Duration::from_secs(25);
/// How long a running PCM may take to answer before it counts as dead.
const ADOPT_LIMIT: Duration = Duration::from_secs(3);
/// How long an owner waits for the container's name; after that the name comes later.
const RENAME_SOON: Duration = Duration::from_millis(8);
/// How long a PCM that is replaced may take to tell its clients.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Tries to start one, if a name is taken or a slot is not free.
const TRIES: usize = 3;

/// Why a slot could not be made an owner's.
enum NoClaim {
    /// This PCM does not do; another one may.
    Slot(String),
    /// No other one would do either.
    Failed(Failure),
}

impl Launcher {
    /// A running PCM of this name.
    pub(super) async fn ensure(&self, name: &PcmName) -> Result<Ready, Failure> {
        let _flight = self.enter(name).await;
        let began = Instant::now();
        if let Some(body) = self.body(name) {
            if !body.outdated {
                match self.wait(name, &body, Instant::now() + ADOPT_LIMIT).await {
                    Ok(()) => return Ok(self.ready(name, &body, false)),
                    Err(error) => {
                        tracing::warn!(event = "pcm_hangs", %name, %error, "a PCM does not answer and is replaced");
                    }
                }
            }
            self.replace(name, &body).await?;
        }
        self.reserve(name).await?;
        match self.bring_up(name).await {
            Ok((body, fresh)) => {
                let ready = self.ready(name, &body, fresh);
                self.known().insert(name.clone(), Some(body));
                let ms = began.elapsed().as_millis() as u64;
                tracing::info!(event = "pcm_ready", %name, fresh, ms, "PCM ready");
                Ok(ready)
            }
            Err(failure) => {
                self.known().remove(name);
                Err(failure)
            }
        }
    }

    fn ready(&self, name: &PcmName, body: &Body, fresh: bool) -> Ready {
        Ready { name: name.clone(), socket: self.socket(name), uid: self.engine.user(body.slot), fresh }
    }

    async fn replace(&self, name: &PcmName, body: &Body) -> Result<(), Failure> {
        if body.outdated {
            tracing::info!(event = "pcm_replaced", %name, "an outdated PCM is replaced");
            if talk::drain(&self.socket(name), self.engine.user(body.slot)).await.is_ok() {
                let ended = async {
                    while talk::whose(&self.socket(name), self.engine.user(body.slot)).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                // It is ended below in any case.
                let _ = timeout(DRAIN_LIMIT, ended).await;
            }
        }
        self.clear(name, Some(body)).await?;
        self.known().remove(name);
        Ok(())
    }

    /// Takes a place for `name`, if there is one and memory for it.
    async fn reserve(&self, name: &PcmName) -> Result<(), Failure> {
        if !self.try_reserve(name) {
            self.reconcile_except(Some(name)).await?;
            if !self.try_reserve(name) {
                return Err(Failure::Capacity);
            }
        }
        if self.lacks_memory(1) {
            self.known().remove(name);
            return Err(Failure::Memory);
        }
        Ok(())
    }

    fn try_reserve(&self, name: &PcmName) -> bool {
        let mut known = self.known();
        if !known.contains_key(name) && known.len() >= self.config.capacity {
            return false;
        }
        known.entry(name.clone()).or_insert(None);
        true
    }

    /// Whether the host has less memory left than so many times what it must have.
    pub(super) fn lacks_memory(&self, times: u64) -> bool {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let reserve = (self.config.reserve_memory_mib << 20).saturating_mul(times);
        available_memory(&meminfo).is_some_and(|available| available < reserve)
    }

    /// A PCM for a name that has none, and whether it is a new one.
    async fn bring_up(&self, name: &PcmName) -> Result<(Body, bool), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        if self.slots.is_taken(name)
            && let Some(body) = self.settle(name).await?
        {
            return Ok((body, false));
        }
        loop {
            let Some(body) = self.pool().pop_front() else { break };
            let _work = Work::on(self, body.slot);
            self.taken.notify_one();
            match self.claim(body.clone(), name).await {
                Ok(body) => return Ok((body, true)),
                Err(NoClaim::Slot(error)) => {
                    tracing::warn!(
                        event = "pool_lost",
                        container = body.container,
                        error,
                        "a PCM of the pool could not be claimed and is removed"
                    );
                    self.drop_claim(&body, name).await;
                }
                Err(NoClaim::Failed(failure)) => {
                    self.drop_claim(&body, name).await;
                    return Err(failure);
                }
            }
        }
        self.cold_starts.fetch_add(1, Ordering::AcqRel);
        let started = self.start_cold(name, deadline).await;
        self.cold_starts.fetch_sub(1, Ordering::AcqRel);
        self.taken.notify_one();
        started.map(|body| (body, true))
    }

    /// Starts one for this name, past the pool.
    async fn start_cold(&self, name: &PcmName, deadline: Instant) -> Result<Body, Failure> {
        let _permit = self.starts.acquire().await.map_err(|_| Failure::engine("the launcher stops"))?;
        for _try in 0..TRIES {
            let slot = Slot::random();
            let _work = Work::on(self, slot);
            let Some(body) = self.start_in(slot, name.as_str(), deadline).await? else {
                // Whoever has the name has not the directory, so nobody is served by it: it died, or lies about being ours.
                self.engine.end(name.as_str(), None).await?;
                continue;
            };
            return match self.claim(body.clone(), name).await {
                Ok(body) => Ok(body),
                Err(no) => {
                    self.drop_claim(&body, name).await;
                    Err(match no {
                        NoClaim::Slot(error) => {
                            Failure::Engine(format!("the PCM that was started is gone: {error}"))
                        }
                        NoClaim::Failed(failure) => failure,
                    })
                }
            };
        }
        Err(Failure::engine("the PCM's name stays taken"))
    }

    /// Starts what is to run in a slot and waits until it accepts; `None` if the container's name is taken. A failure leaves
    /// nothing.
    pub(super) async fn start_in(
        &self,
        slot: Slot,
        container: &str,
        deadline: Instant,
    ) -> Result<Option<Body>, Failure> {
        self.slots
            .make(slot)
            .map_err(|error| Failure::Engine(format!("prepare the directory of a slot: {error}")))?;
        let started = match self.engine.start(&self.slots, slot, container).await {
            Ok(Started::Running(body)) => self.wait_in_pool(&body, deadline).await.map(|()| Some(body)),
            Ok(Started::Taken) => Ok(None),
            Err(failure) => Err(failure),
        };
        if !matches!(started, Ok(Some(_))) {
            if started.is_err() {
                // A half-started one would only be in the way of the next try.
                let _ = self.engine.end(container, Some(slot)).await;
            }
            let _ = self.slots.remove(slot, None);
        }
        started
    }

    async fn wait_in_pool(&self, body: &Body, deadline: Instant) -> Result<(), Failure> {
        let socket = self.slots.pool_socket(body.slot);
        let mut tries = Tries::new(&socket, self.engine.user(body.slot), deadline);
        let failed = |error: io::Error| Failure::Engine(format!("the PCM does not accept: {error}"));
        while !tries.next().await.map_err(failed)? {
            self.must_run(body).await?;
        }
        Ok(())
    }

    /// Waits until the PCM of a name accepts.
    async fn wait(&self, name: &PcmName, body: &Body, deadline: Instant) -> Result<(), Failure> {
        let socket = self.socket(name);
        let mut tries = Tries::new(&socket, self.engine.user(body.slot), deadline);
        let failed = |error: io::Error| Failure::Engine(format!("the PCM does not accept: {error}"));
        while !tries.next().await.map_err(failed)? {
            self.must_run(body).await?;
        }
        Ok(())
    }

    async fn must_run(&self, body: &Body) -> Result<(), Failure> {
        let runs = match &self.engine {
            Engine::Process(processes) => processes.runs(body.slot),
            Engine::Docker(containers) => {
                containers.find(&body.container).await?.flatten().is_some_and(|seen| seen.running)
            }
        };
        if runs { Ok(()) } else { Err(Failure::engine("the PCM ended while it started")) }
    }

    /// Makes a PCM that is nobody's this owner's.
    async fn claim(&self, mut body: Body, name: &PcmName) -> Result<Body, NoClaim> {
        let files = self.files(name).await.map_err(NoClaim::Failed)?;
        match self.slots.claim(body.slot, name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(NoClaim::Failed(Failure::engine("the PCM's name has a directory")));
            }
            Err(error) => return Err(NoClaim::Slot(error.to_string())),
        }
        let (socket, user) = (self.socket(name), self.engine.user(body.slot));
        let told = talk::identify(&socket, user, self.identity(name), files.as_ref());
        let (told, named) = tokio::join!(told, self.give_name(&mut body, name, RENAME_SOON));
        told.map_err(|error| NoClaim::Slot(error.to_string()))?;
        if !named.map_err(NoClaim::Failed)? {
            self.unnamed().push(name.clone());
            self.to_name.notify_one();
        }
        Ok(body)
    }

    /// Calls the container by the PCM's name; false if the engine is not there, or not that quick.
    pub(super) async fn give_name(
        &self,
        body: &mut Body,
        name: &PcmName,
        limit: Duration,
    ) -> Result<bool, Failure> {
        for _try in 0..TRIES {
            if body.container == name.as_str() {
                return Ok(true);
            }
            match timeout(limit, self.engine.rename(body, name)).await {
                Ok(Ok(true)) => return Ok(true),
                // One of ours is dead: its directory is gone, or the claim would have failed. `end` refuses others' containers.
                Ok(Ok(false)) => self.engine.end(name.as_str(), None).await?,
                Ok(Err(failure)) => {
                    tracing::warn!(event = "pcm_unnamed", %name, %failure, "the engine does not rename the PCM's container; it will be tried again");
                    return Ok(false);
                }
                Err(_) => return Ok(false),
            }
        }
        Err(Failure::engine("the PCM's name stays taken"))
    }

    /// The files of what a PCM keeps.
    pub(super) async fn files(&self, name: &PcmName) -> Result<Option<[std::fs::File; 2]>, Failure> {
        let Some(states) = &self.states else { return Ok(None) };
        let files = states.open(name).await;
        files.map(Some).map_err(|error| Failure::Engine(format!("open the PCM's state: {error}")))
    }

    pub(super) fn identity(&self, name: &PcmName) -> Identity {
        let file_bytes = self.states.is_some().then(|| self.config.longest_file());
        Identity { name: name.to_string(), file_bytes, sync: self.config.state_sync }
    }

    /// Ends a PCM whose claim failed: it may know whose it was to be, so it is nobody's again never.
    async fn drop_claim(&self, body: &Body, name: &PcmName) {
        let mut done = self.engine.end(&body.container, Some(body.slot)).await;
        if done.is_ok() && matches!(self.engine, Engine::Docker(_)) && body.container != name.as_str() {
            // The rename may have been done although its answer did not come.
            let ours = match &self.engine {
                Engine::Docker(containers) => containers.find(name.as_str()).await,
                Engine::Process(_) => Ok(None),
            };
            if let Ok(Some(Some(seen))) = ours
                && seen.slot == Some(body.slot)
            {
                done = self.engine.end(name.as_str(), Some(body.slot)).await;
            }
        }
        if let Err(failure) = done {
            tracing::warn!(event = "pcm_stays", container = body.container, %failure, "a PCM that could not be claimed could not be removed; it will be tried again");
        }
        let _ = self.slots.remove(body.slot, None);
        if matches!(self.slots.slot_of(name), Ok(Some(slot)) if slot == body.slot)
            || matches!(self.engine, Engine::Process(_))
        {
            let _ = self.slots.remove(body.slot, Some(name));
        }
        self.changed.notify_one();
    }
}
