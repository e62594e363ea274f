use super::{ClientPlan, Engine, Pace, Plan, Stop, StreamPlan, Target};
use mqtt_broker::net::{Plain, Server};
use mqtt_broker::{Broker, Limits, Policy};
use mqtt_wire::{QoS, Version};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

/// The project's own broker in a thread; it stops when this goes.
struct Running {
    address: SocketAddr,
    _stop: UnixStream,
    _thread: JoinHandle<()>,
}

fn broker() -> Running {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let (stop, stopped) = UnixStream::pair().expect("a pair");
    let thread = std::thread::spawn(move || {
        let broker = Broker::new(Limits::PLAIN, Policy::Open, 1);
        let mut server = Server::new(broker, Plain).expect("a server");
        server.listen_tcp(listener).expect("listening");
        server.stop_on(OwnedFd::from(stopped)).expect("a way to stop");
        server.run().expect("it runs");
    });
    Running { address, _stop: stop, _thread: thread }
}

fn pairs(count: usize, qos: QoS, pace: Pace, version: Version) -> Plan {
    let mut plan = Plan { version, ..Plan::default() };
    for pair in 0..count {
        let topic = format!("t/{pair}");
        let publisher = plan.client(ClientPlan::new(format!("p{pair}")));
        plan.client(ClientPlan::new(format!("s{pair}")).subscribing(topic.clone(), qos));
        plan.stream(StreamPlan::new(publisher, topic, qos, pace));
    }
    plan
}

#[test]
fn every_quality_of_service_arrives_in_order_and_once() {
    let running = broker();
    for version in [Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let plan = pairs(3, qos, Pace::Closed { window: 20 }, version);
            let mut engine = Engine::new(Target::plain(running.address), plan).expect("an engine");
            let connects = engine.connect(&Stop::default()).expect("all connect");
            assert_eq!(connects.len(), 6);
            engine.mark();
            engine.drive(Duration::from_millis(50), &Stop::default()).expect("it runs");
            engine.drain(Duration::from_secs(10)).expect("it ends");
            let outcome = engine.outcome();
            assert!(outcome.counts.sent >= 60, "{qos:?}: {:?}", outcome.counts);
            assert_eq!(outcome.counts.received, outcome.counts.sent, "{qos:?}");
            assert_eq!((outcome.counts.lost, outcome.counts.disordered), (0, 0), "{qos:?}");
            assert_eq!(outcome.latency.len(), outcome.counts.received);
            assert_eq!((outcome.refused, outcome.foreign, outcome.ended.0), (0, 0, 0));
            assert!(outcome.streams.iter().all(|stream| stream.sent >= 20));
            engine.disconnect();
        }
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let running = broker();
    let pace = Pace::Open { interval: Duration::from_millis(2), offset: Duration::from_millis(1) };
    let plan = pairs(2, QoS::AtMostOnce, pace, Version::V311);
    let mut engine = Engine::new(Target::plain(running.address), plan).expect("an engine");
    engine.connect(&Stop::default()).expect("all connect");
    engine.mark();
    engine.drive(Duration::from_millis(200), &Stop::default()).expect("it runs");
    engine.drain(Duration::from_secs(10)).expect("it ends");
    let outcome = engine.outcome();
    // However late this thread is woken, what was due until the end is sent by then.
    assert!((198..=206).contains(&outcome.counts.sent), "{:?}", outcome.counts);
    assert_eq!(outcome.counts.received, outcome.counts.sent);
    assert!(outcome.latency.mean() >= outcome.service.mean());
}

#[test]
fn fan_out_counts_copies() {
    let running = broker();
    let mut plan = Plan::default();
    let publisher = plan.client(ClientPlan::new("p"));
    for receiver in 0..10 {
        plan.client(ClientPlan::new(format!("s{receiver}")).subscribing("all/#", QoS::AtMostOnce));
    }
    let pace = Pace::Once { messages: 7 };
    let stream = StreamPlan { receivers: 10, ..StreamPlan::new(publisher, "all/x", QoS::AtLeastOnce, pace) };
    plan.stream(stream);
    let mut engine = Engine::new(Target::plain(running.address), plan).expect("an engine");
    engine.connect(&Stop::default()).expect("all connect");
    while !engine.is_done() {
        engine.drive(Duration::from_millis(10), &Stop::default()).expect("it runs");
    }
    let counts = engine.outcome().counts;
    assert_eq!((counts.sent, counts.received, counts.lost), (7, 70, 0));
}

#[test]
fn a_broker_that_is_not_there_is_told() {
    let gone = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("its number");
    let plan = pairs(1, QoS::AtMostOnce, Pace::Once { messages: 1 }, Version::V311);
    let mut engine = Engine::new(Target::plain(gone), plan).expect("an engine");
    let error = engine.connect(&Stop::default()).expect_err("nobody listens");
    assert!(error.to_string().contains("refused"), "{error:#}");
}
