//! Drives many MQTT clients from one thread: publishers and receivers in one place, so that one clock times both ends.
//!
//! The order of calls is [`Engine::new`], [`Engine::connect`], [`Engine::drive`] for the warm-up, [`Engine::mark`],
//! [`Engine::drive`] for the measurement, [`Engine::outcome`], [`Engine::drain`]. Who is measured, for how long and how often
//! is the scenarios' business.
//!
//! A message's receipt is the return of the read that brought it; its start is taken just before its bytes are put together.

mod client;
mod device;
mod link;
mod outcome;
mod plan;
mod stamp;
mod stream;
mod timer;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use mqtt_wire::{Packet, QoS};

use client::{Client, Event, State};
pub use link::Target;
use link::{Got, Link};
use outcome::Tally;
pub use outcome::{Outcome, Sent, decode, encode, histogram};
pub use plan::{ClientPlan, GROUPS, Pace, Plan, StreamPlan};
pub use stamp::{LENGTH as STAMP_LENGTH, Stamp, Stopwatch};
pub use stream::Counts;
use stream::{Next, Stream};
use timer::Timer;

const TIMER: Token = Token(usize::MAX);

/// Longest sleep, so that a stop is noticed.
const NAP: Duration = Duration::from_millis(50);

/// Silence after which a closed loop gives its missing messages up.
const STALL: u64 = 2_000_000_000;

/// Messages put together before they are written.
const BATCH: usize = 256;

/// Bytes waiting for one socket, from which on nothing more is published there.
const BACKLOG: usize = 256 << 10;

/// Somebody pressed Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks everything to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody did.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Clients and streams of one thread.
pub struct Engine {
    poll: Poll,
    events: Events,
    target: Target,
    plan: Plan,
    watch: Stopwatch,
    clients: Vec<Client>,
    streams: Vec<Stream>,
    /// Streams of each client.
    published_by: Vec<Vec<u32>>,
    /// Streams to look at.
    hungry: Vec<u32>,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    timer: Timer,
    buffer: Vec<u8>,
    tally: Tally,
    flowing: bool,
    next_to_open: usize,
    opening: usize,
    ready: usize,
    looked: u64,
    marked: u64,
    base: Vec<Counts>,
}

impl Engine {
    /// Prepares everything; connects nothing.
    ///
    /// # Errors
    /// The kernel's, or a stream that cannot be encoded or names no client.
    pub fn new(target: Target, plan: Plan) -> anyhow::Result<Engine> {
        plan.check()?;
        let poll = Poll::new().context("epoll")?;
        let timer = Timer::new(poll.registry(), TIMER).context("timer")?;
        let mut streams = Vec::with_capacity(plan.streams.len());
        let mut published_by = vec![Vec::new(); plan.clients.len()];
        for (stream, number) in plan.streams.iter().zip(0..) {
            published_by.get_mut(stream.publisher).context("a stream without a client")?.push(number);
            let stream = Stream::new(number, stream, plan.version);
            streams.push(stream.map_err(|error| anyhow::anyhow!("a message cannot be encoded: {error:?}"))?);
        }
        Ok(Engine {
            poll,
            events: Events::with_capacity(1024),
            target,
            clients: plan.clients.iter().map(|_| Client::new()).collect(),
            base: vec![Counts::default(); streams.len()],
            streams,
            published_by,
            plan,
            watch: Stopwatch::start(),
            hungry: Vec::new(),
            due: BinaryHeap::new(),
            timer,
            buffer: vec![0; 256 << 10],
            tally: Tally::new(),
            flowing: false,
            next_to_open: 0,
            opening: 0,
            ready: 0,
            looked: 0,
            marked: 0,
        })
    }

    /// Connects and subscribes all clients; answers how long each took from opening to CONNACK, in nanoseconds.
    ///
    /// # Errors
    /// One is refused, or does not get ready in time, or somebody stopped it.
    pub fn connect(&mut self, stop: &Stop) -> anyhow::Result<Histogram<u64>> {
        let patience = u64::try_from(self.plan.patience.as_nanos()).unwrap_or(u64::MAX);
        let mut last_progress = (self.watch.now(), 0);
        while self.ready < self.clients.len() {
            while self.opening < self.plan.connecting.max(1) && self.next_to_open < self.clients.len() {
                let next = self.next_to_open;
                self.next_to_open += 1;
                self.open(next)?;
            }
            self.turn(NAP)?;
            if let Some(reason) = &self.tally.reason {
                bail!("{} of {} clients are ready; one ended: {reason}", self.ready, self.clients.len());
            }
            let now = self.watch.now();
            if self.ready > last_progress.1 {
                last_progress = (now, self.ready);
            }
            if now.saturating_sub(last_progress.0) > patience {
                bail!("{} of {} clients are ready, the others get no answer", self.ready, self.clients.len());
            }
            if stop.is_set() {
                bail!("stopped");
            }
        }
        Ok(std::mem::replace(&mut self.tally.connects, histogram()))
    }

    fn open(&mut self, number: usize) -> anyhow::Result<()> {
        let now = self.watch.now();
        let mut link =
            Link::open(&self.target).with_context(|| format!("connect to {}", self.target.address))?;
        link.register(self.poll.registry(), Token(number))?;
        if let (Some(client), Some(plan)) = (self.clients.get_mut(number), self.plan.clients.get(number)) {
            client.greet(link, plan, &self.plan, now)?;
            self.opening += 1;
        }
        Ok(())
    }

    /// Lets the streams flow for so long, or until somebody stops it.
    ///
    /// # Errors
    /// The kernel's. Connections that end are counted, not an error.
    pub fn drive(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<()> {
        let now = self.watch.now();
        if !self.flowing {
            self.flowing = true;
            self.looked = now;
            for (stream, number) in self.streams.iter_mut().zip(0..) {
                stream.start(now);
                stream.hungry = true;
                self.hungry.push(number);
            }
        }
        let end = now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        loop {
            self.send()?;
            let now = self.watch.now();
            if now >= end || stop.is_set() {
                return Ok(());
            }
            self.look_around(now)?;
            self.turn(NAP.min(Duration::from_nanos(end - now)))?;
        }
    }

    /// Publishes nothing more, until everything has come, or for at most so long; what is missing then is lost.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drain(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.flowing = false;
        let end = self.watch.now().saturating_add(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        loop {
            let missing: u64 = self.streams.iter().map(Stream::outstanding).sum();
            let open: u64 = self.clients.iter().map(|client| client.unacknowledged).sum();
            let now = self.watch.now();
            if (missing == 0 && open == 0) || now >= end {
                break;
            }
            self.turn(NAP.min(Duration::from_nanos(end - now)))?;
        }
        for stream in &mut self.streams {
            // Twice, because the first call only notes that something came before.
            if !stream.give_up_stalled() {
                stream.give_up_stalled();
            }
        }
        Ok(())
    }

    /// From here on everything counts anew.
    pub fn mark(&mut self) {
        self.marked = self.watch.now();
        self.tally.latency.reset();
        self.tally.service.reset();
        self.tally.groups.iter_mut().for_each(Histogram::reset);
        self.tally.refused = 0;
        self.tally.foreign = 0;
        for (base, stream) in self.base.iter_mut().zip(&self.streams) {
            *base = stream.counts;
        }
    }

    /// Copies received since the start, whatever was marked.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.streams.iter().map(|stream| stream.counts.received).sum()
    }

    /// What happened since the mark.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let streams: Vec<Counts> =
            self.streams.iter().zip(&self.base).map(|(stream, base)| stream.counts.since(base)).collect();
        let elapsed = Duration::from_nanos(self.watch.now().saturating_sub(self.marked));
        Outcome {
            seconds: elapsed.as_secs_f64(),
            latency: self.tally.latency.clone(),
            service: self.tally.service.clone(),
            groups: self.tally.groups.clone(),
            counts: streams.iter().fold(Counts::default(), |sum, one| sum.plus(one)),
            streams,
            refused: self.tally.refused,
            foreign: self.tally.foreign,
            ended: (self.tally.ended, self.tally.reason.clone()),
        }
    }

    /// Whether all that [`Pace::Once`] streams had to send has been sent, received and acknowledged.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.plan.streams.iter().zip(&self.streams).all(|(plan, stream)| match plan.pace {
            Pace::Once { messages } => {
                stream.counts.sent >= messages
                    && stream.outstanding() == 0
                    && self.clients.get(stream.publisher).is_none_or(|client| client.unacknowledged == 0)
            }
            Pace::Closed { .. } | Pace::Open { .. } => true,
        })
    }

    /// Ends all connections with a DISCONNECT.
    pub fn disconnect(&mut self) {
        let version = self.plan.version;
        for client in &mut self.clients {
            if client.link.is_some() {
                let normal = Packet::Disconnect(mqtt_wire::Disconnect::new(mqtt_wire::ReasonCode::SUCCESS));
                // The connection goes either way.
                let _ = client.send(&normal, version);
                if let Some(link) = &mut client.link {
                    let _ = link.flush();
                }
                client.link = None;
                client.state = State::Idle;
            }
        }
    }

    /// Serves what the kernel reports within `nap`.
    fn turn(&mut self, nap: Duration) -> anyhow::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(nap));
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error).context("epoll"),
            Ok(()) => {}
        }
        for event in &events {
            let Token(number) = event.token();
            if event.token() != TIMER && number < self.clients.len() {
                let served = self.serve(number, event.is_writable(), event.is_readable());
                if let Err(reason) = served {
                    self.end(number, reason);
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn serve(&mut self, number: usize, writable: bool, readable: bool) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        let Some(link) = &mut client.link else { return Ok(()) };
        let text = |error: io::Error| error.to_string();
        if writable {
            if client.state == State::Connecting && !link.established().map_err(text)? {
                return Ok(());
            }
            link.writable();
            link.flush().map_err(text)?;
            for stream in self.published_by.get(number).into_iter().flatten() {
                wake(&mut self.streams, &mut self.hungry, *stream);
            }
        }
        if readable {
            self.read(number)?;
        }
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        match &mut client.link {
            Some(link) => link.flush().map_err(text),
            None => Ok(()),
        }
    }

    fn read(&mut self, number: usize) -> Result<(), String> {
        let (Some(client), Some(plan)) = (self.clients.get_mut(number), self.plan.clients.get(number)) else {
            return Ok(());
        };
        let (streams, hungry, tally) = (&mut self.streams, &mut self.hungry, &mut self.tally);
        let (opening, ready) = (&mut self.opening, &mut self.ready);
        loop {
            let Some(link) = &mut client.link else { return Ok(()) };
            let got = link.read(&mut self.buffer).map_err(|error| error.to_string())?;
            let (length, more) = match got {
                Got::More(length) => (length, true),
                Got::Drained(length) => (length, false),
                Got::End => return Err("the broker closed the connection".to_owned()),
            };
            if length > 0 {
                let now = self.watch.now();
                let opened = client.opened;
                let bytes = self.buffer.get(..length).unwrap_or_default();
                client.feed(bytes, plan, self.plan.version, now, &mut |event| match event {
                    Event::Message(payload) => {
                        let stamp = Stamp::read(payload);
                        let found = stamp.and_then(|stamp| {
                            let stream = usize::try_from(stamp.stream).ok()?;
                            streams.get_mut(stream).map(|stream| (stream, stamp))
                        });
                        let Some((stream, stamp)) = found else {
                            tally.foreign += 1;
                            return;
                        };
                        stream.received(&stamp);
                        let took = now.saturating_sub(stamp.due).max(1);
                        tally.latency.saturating_record(took);
                        if let Some(group) = tally.groups.get_mut(stream.group) {
                            group.saturating_record(took);
                        }
                        tally.service.saturating_record(now.saturating_sub(stamp.sent).max(1));
                        if !stream.hungry {
                            stream.hungry = true;
                            hungry.push(stamp.stream);
                        }
                    }
                    Event::Acknowledged(taken) => {
                        tally.refused += u64::from(!taken);
                        for stream in self.published_by.get(number).into_iter().flatten() {
                            wake(streams, hungry, *stream);
                        }
                    }
                    Event::Connected => tally.connects.saturating_record(now.saturating_sub(opened).max(1)),
                    Event::Ready => {
                        *ready += 1;
                        *opening = opening.saturating_sub(1);
                    }
                })?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Publishes what may go on all streams that something happened to.
    fn send(&mut self) -> anyhow::Result<()> {
        let now = self.watch.now();
        while let Some(Reverse((due, number))) = self.due.peek().copied() {
            if due > now {
                break;
            }
            self.due.pop();
            if let Some(stream) = usize::try_from(number).ok().and_then(|at| self.streams.get_mut(at)) {
                stream.scheduled = false;
            }
            wake(&mut self.streams, &mut self.hungry, number);
        }
        let mut hungry = std::mem::take(&mut self.hungry);
        for number in hungry.drain(..) {
            self.feed_stream(number);
        }
        // What a stream may still send after its batch waits for the next turn.
        hungry.append(&mut self.hungry);
        self.hungry = hungry;
        let wait = match self.due.peek() {
            _ if !self.hungry.is_empty() => Some(1),
            Some(Reverse((due, _))) => Some(due.saturating_sub(self.watch.now())),
            None => None,
        };
        self.timer.set(wait).context("timer")
    }

    fn feed_stream(&mut self, number: u32) {
        let Some(stream) = usize::try_from(number).ok().and_then(|at| self.streams.get_mut(at)) else {
            return;
        };
        stream.hungry = false;
        let publisher = stream.publisher;
        let Some(client) = self.clients.get_mut(publisher) else { return };
        if !self.flowing || !client.is_ready() {
            return;
        }
        let now = self.watch.now();
        let mut batch = 0;
        loop {
            if client.link.as_mut().is_none_or(|link| link.output().len() > BACKLOG) {
                break;
            }
            match stream.next(now, client.unacknowledged, client.flight) {
                Next::Send(_) if batch == BATCH => {
                    stream.hungry = true;
                    self.hungry.push(number);
                    break;
                }
                Next::Send(due) if client.device.is_some() => {
                    let (Some(device), Some(link)) = (&mut client.device, &mut client.link) else { break };
                    let (qos, retain) = (stream.qos, stream.retain);
                    let (topic, payload) = stream.message(due, now);
                    let ran = device
                        .publish(topic, payload, qos, retain)
                        .and_then(|took| device.run(now, link.output(), &mut |_| {}).map(|()| took));
                    match ran {
                        Ok(true) => {
                            stream.went();
                            client.unacknowledged += u64::from(qos != QoS::AtMostOnce);
                            batch += 1;
                        }
                        Ok(false) => break,
                        Err(reason) => {
                            self.end(publisher, reason);
                            return;
                        }
                    }
                }
                Next::Send(due) => {
                    let packet_id = if stream.qos == QoS::AtMostOnce {
                        0
                    } else {
                        client.unacknowledged += 1;
                        client.next_packet_id()
                    };
                    if let Some(link) = &mut client.link {
                        stream.write(packet_id, due, now, link.output());
                    }
                    batch += 1;
                }
                Next::At(due) => {
                    if !stream.scheduled {
                        stream.scheduled = true;
                        self.due.push(Reverse((due, number)));
                    }
                    break;
                }
                Next::Wait => break,
            }
        }
        if batch > 0 {
            client.spoke = now;
            if let Some(link) = &mut client.link
                && let Err(error) = link.flush()
            {
                self.end(publisher, error.to_string());
            }
        }
    }

    /// Once in a while: closed loops that hang, clients that have been silent for long.
    fn look_around(&mut self, now: u64) -> anyhow::Result<()> {
        if now.saturating_sub(self.looked) < STALL {
            return Ok(());
        }
        self.looked = now;
        for (stream, number) in self.streams.iter_mut().zip(0_u32..) {
            let closed = self
                .plan
                .streams
                .get(usize::try_from(number).unwrap_or(usize::MAX))
                .is_some_and(|plan| matches!(plan.pace, Pace::Closed { .. }));
            if closed && stream.give_up_stalled() && !stream.hungry {
                stream.hungry = true;
                self.hungry.push(number);
            }
        }
        let silence = u64::from(self.plan.keep_alive) * 500_000_000;
        if silence == 0 {
            return Ok(());
        }
        for number in 0..self.clients.len() {
            let Some(client) = self.clients.get_mut(number) else { continue };
            if let (Some(device), Some(link)) = (&mut client.device, &mut client.link) {
                if device.wake.is_some_and(|at| at <= now / 1_000_000) {
                    let ran = device.run(now, link.output(), &mut |_| {});
                    if let Err(reason) = ran.and(link.flush().map_err(|error| error.to_string())) {
                        self.end(number, reason);
                    }
                }
                continue;
            }
            if client.is_ready() && now.saturating_sub(client.spoke) > silence {
                client.spoke = now;
                let sent = client.send(&Packet::PingReq, self.plan.version);
                let flushed = client.link.as_mut().map_or(Ok(()), Link::flush);
                if let Err(reason) = sent.and(flushed.map_err(|error| error.to_string())) {
                    self.end(number, reason);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, number: usize, reason: String) {
        let Some(client) = self.clients.get_mut(number) else { return };
        if matches!(client.state, State::Ended(_)) {
            return;
        }
        if let Some(mut link) = client.link.take() {
            // It is closed in any case.
            let _ = link.deregister(self.poll.registry());
        }
        match client.state {
            State::Ready => self.ready = self.ready.saturating_sub(1),
            State::Connecting | State::Subscribing(_) => self.opening = self.opening.saturating_sub(1),
            State::Idle | State::Ended(_) => {}
        }
        client.unacknowledged = 0;
        self.tally.ended += 1;
        let id = self.plan.clients.get(number).map_or("", |plan| plan.id.as_str());
        self.tally.reason.get_or_insert_with(|| format!("{id}: {reason}"));
        client.state = State::Ended(reason);
    }
}

fn wake(streams: &mut [Stream], hungry: &mut Vec<u32>, number: u32) {
    if let Some(stream) = usize::try_from(number).ok().and_then(|at| streams.get_mut(at))
        && !stream.hungry
    {
        stream.hungry = true;
        hungry.push(number);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tests_broker;
