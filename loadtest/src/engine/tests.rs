use super::{ClientPlan, Engine, Pace, Plan, Stop, StreamPlan, Target};
use crate::engine::tests_broker::broker;
use mqtt_wire::{QoS, Version};
use std::net::TcpListener;
use std::time::Duration;

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

/// The record of a device that somebody owns.
fn owned() -> Vec<u8> {
    use device_client::record::{Grant, MAX_RECORD, Ownership, Record, Server};
    use device_client::text::Text;
    let mut server = Server::new("localhost", 8883).expect("a short name");
    assert!(server.pin([7; 32]));
    let mut record = Record::new("id", "secret", server.clone()).expect("it is complete");
    record.ownership = Ownership::Owned(Grant {
        access_token: Text::new("demo.token").expect("it is short"),
        refresh_token: Text::new("refresh").expect("it is short"),
        expires_in: 86_400,
        gateway: server,
        done_pending: false,
    });
    let mut bytes = vec![0; MAX_RECORD];
    let length = record.encode(&mut bytes).expect("it fits");
    bytes.truncate(length);
    bytes
}

#[test]
fn a_device_speaks_for_itself_and_both_directions_are_apart() {
    let running = broker();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut plan = Plan::default();
        let device = plan.client(ClientPlan::device("d", owned()));
        let app = plan.client(ClientPlan::new("a").subscribing("d/#", qos));
        let pace = Pace::Closed { window: 1 };
        plan.stream(StreamPlan::new(device, "d/room/temperature", qos, pace).group(0));
        plan.stream(StreamPlan::new(app, "c/heater", qos, Pace::Closed { window: 3 }).group(1));
        let mut engine = Engine::new(Target::plain(running.address), plan).expect("an engine");
        assert_eq!(engine.connect(&Stop::default()).expect("both connect").len(), 2);
        engine.mark();
        engine.drive(Duration::from_millis(60), &Stop::default()).expect("it runs");
        engine.drain(Duration::from_secs(10)).expect("it ends");
        let outcome = engine.outcome();
        assert_eq!(
            (outcome.ended.0, outcome.counts.lost, outcome.counts.disordered),
            (0, 0, 0),
            "{outcome:?}"
        );
        for (counts, latency) in outcome.streams.iter().zip(&outcome.groups) {
            assert!(counts.sent >= 10 && counts.received == counts.sent, "{qos:?}: {counts:?}");
            assert_eq!(latency.len(), counts.received);
        }
        engine.disconnect();
    }
}
