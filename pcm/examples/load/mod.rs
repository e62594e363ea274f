//! The clients of a measurement, all in one thread.

pub(crate) mod broker;
mod client;

use broker::Running;
use client::Client;
use mio::{Events, Interest, Poll, Token};
use std::time::{Duration, Instant};

/// What clients do.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Publishers, each with a topic and subscribers of its own.
    pub(crate) publishers: usize,
    /// Subscribers of each publisher.
    pub(crate) subscribers: usize,
    pub(crate) qos: u8,
    /// Messages of one publisher that may be under way.
    pub(crate) window: usize,
    pub(crate) payload: usize,
    /// Topics that a publisher goes round.
    pub(crate) topics: usize,
    pub(crate) retain: bool,
    /// Wildcard filters, of one more client, that match nothing.
    pub(crate) filters: usize,
}

impl Load {
    /// One pair, one message at a time.
    pub(crate) const ONE: Load = Load {
        name: "",
        publishers: 1,
        subscribers: 1,
        qos: 0,
        window: 1,
        payload: 100,
        topics: 1,
        retain: false,
        filters: 0,
    };
}

/// A publisher, and how far it is.
struct Source {
    client: usize,
    sent: usize,
    /// What was received, by all of its subscribers together.
    delivered: usize,
    acknowledged: usize,
    topics: Vec<Vec<u8>>,
}

/// A client's part.
#[derive(Clone, Copy)]
enum Role {
    Publisher(usize),
    Subscriber(usize),
}

struct Bench<'a> {
    load: &'a Load,
    clients: Vec<(Client, Role)>,
    sources: Vec<Source>,
}

/// Runs a load; answers messages delivered in a second of the broker's processor time.
pub(crate) fn run(load: &Load, broker: &Running, time: Duration) -> f64 {
    let mut poll = Poll::new().unwrap();
    let mut bench = Bench { load, clients: Vec::new(), sources: Vec::new() };
    let _idle = (load.filters > 0).then(|| {
        let mut client = Client::connect(broker.address, "filters");
        for at in 0..load.filters {
            client.subscribe(&format!("load/+/{at}/#"), 0);
        }
        client
    });
    for source in 0..load.publishers {
        for at in 0..load.subscribers {
            let mut client = Client::connect(broker.address, &format!("s{source}-{at}"));
            client.subscribe(&format!("load/{source}/#"), load.qos);
            bench.clients.push((client, Role::Subscriber(source)));
        }
        let client = Client::connect(broker.address, &format!("p{source}"));
        bench.clients.push((client, Role::Publisher(source)));
        bench.sources.push(Source {
            client: bench.clients.len() - 1,
            sent: 0,
            delivered: 0,
            acknowledged: 0,
            topics: (0..load.topics)
                .map(|at| client::publish(&format!("load/{source}/t{at}"), load))
                .collect(),
        });
    }
    for (at, (client, _)) in bench.clients.iter_mut().enumerate() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(client.begin(), Token(at), interest).unwrap();
    }
    for source in 0..bench.sources.len() {
        bench.send(source);
    }
    let mut events = Events::with_capacity(256);
    let warm = Instant::now() + time / 4;
    bench.drive(&mut poll, &mut events, warm);
    let (before, used) = (bench.delivered(), broker.processor_time());
    bench.drive(&mut poll, &mut events, warm + time);
    let delivered = bench.delivered() - before;
    delivered as f64 / (broker.processor_time() - used).as_secs_f64()
}

impl Bench<'_> {
    fn delivered(&self) -> usize {
        self.sources.iter().map(|source| source.delivered).sum()
    }

    fn drive(&mut self, poll: &mut Poll, events: &mut Events, until: Instant) {
        while Instant::now() < until {
            poll.poll(events, Some(Duration::from_millis(20))).unwrap();
            for event in events.iter() {
                if event.is_readable() {
                    self.read(event.token().0);
                }
                if let Some((client, _)) = self.clients.get_mut(event.token().0) {
                    client.flush();
                }
            }
        }
    }

    fn read(&mut self, at: usize) {
        let (client, role) = &mut self.clients[at];
        let role = *role;
        let counted = client.read();
        let source = match role {
            Role::Publisher(source) => {
                self.sources[source].acknowledged += counted.finished;
                source
            }
            Role::Subscriber(source) => {
                self.sources[source].delivered += counted.messages;
                source
            }
        };
        self.send(source);
    }

    /// Publishes as much as the window allows.
    fn send(&mut self, source: usize) {
        let load = self.load;
        let source = &mut self.sources[source];
        let (client, _) = &mut self.clients[source.client];
        let arrived = source.delivered / load.subscribers;
        let done = if load.qos == 0 { arrived } else { arrived.min(source.acknowledged) };
        while source.sent - done < load.window {
            let frame = &source.topics[source.sent % load.topics];
            client.publish(frame, load.qos, source.sent);
            source.sent += 1;
        }
        client.flush();
    }
}
