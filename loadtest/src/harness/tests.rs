use super::manager::{Drivers, Manager};
use super::{Hello, LOST, driver};
use crate::engine::tests_broker::broker;
use crate::engine::{ClientPlan, Pace, Plan, Stop, StreamPlan};
use crate::load::{Phases, Place};
use crate::meter::Meter;
use mqtt_wire::QoS;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

fn plan(owners: usize) -> Plan {
    let mut plan = Plan::default();
    for owner in 0..owners {
        let topic = format!("t/{owner}");
        let publisher = plan.client(ClientPlan { owner, ..ClientPlan::new(format!("p{owner}")) });
        let receiver = ClientPlan::new(format!("s{owner}")).subscribing(topic.clone(), QoS::AtMostOnce);
        plan.client(ClientPlan { owner, ..receiver });
        let pace = Pace::Open { interval: Duration::from_millis(10), offset: Duration::ZERO };
        plan.stream(StreamPlan::new(publisher, topic, QoS::AtMostOnce, pace));
    }
    plan
}

fn start_driver(manager: SocketAddr, key: Option<&str>) -> std::thread::JoinHandle<anyhow::Result<()>> {
    let key = key.map(str::to_owned);
    std::thread::spawn(move || driver::run(&format!("http://{manager}"), key, &Stop::default()))
}

fn own_meter() -> anyhow::Result<Meter> {
    Ok(Meter::new(vec![("own", vec![std::process::id()])]))
}

fn listen(key: Option<&str>) -> Arc<Manager> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Arc::new(Manager::listen(address, key.map(str::to_owned)).expect("a manager"))
}

#[test]
fn two_drivers_carry_a_load_and_their_histograms_become_one() {
    let running = broker();
    let manager = listen(Some("a key"));
    let drivers =
        [start_driver(manager.address(), Some("a key")), start_driver(manager.address(), Some("a key"))];
    let stop = Stop::default();
    assert_eq!(manager.gather(2, Duration::ZERO, &stop).expect("they come"), 2);
    let phases = Phases { warm_up: Duration::from_millis(100), time: Duration::from_millis(1500) };
    for _ in 0..2 {
        let place = Place::plain(running.address);
        let (measured, crew) =
            manager.drive(&place, &plan(5), phases, &stop, &mut own_meter).expect("it is measured");
        assert_eq!(crew, Drivers { whole: 2, lost: 0 });
        assert_eq!((measured.connects.len(), measured.outcome.streams.len()), (10, 5));
        let counts = measured.outcome.counts;
        // Five owners, 150 messages each.
        assert!((700..=760).contains(&counts.sent), "{counts:?}");
        assert_eq!(measured.outcome.latency.len(), counts.received);
        assert!(measured.load_cpu > 0.0 && measured.cpu.total() > 0.0);
    }
    drop(manager);
    for driver in drivers {
        driver.join().expect("no panic").expect("it ends when the manager does");
    }
}

#[test]
fn who_does_not_know_the_key_is_no_driver() {
    let manager = listen(Some("a key"));
    for key in [None, Some("another")] {
        let refused = start_driver(manager.address(), key).join().expect("no panic");
        assert!(refused.expect_err("it is refused").to_string().contains("LOADTEST_KEY"));
    }
}

#[test]
fn a_lost_driver_is_said_and_the_others_go_on() {
    let running = broker();
    let manager = listen(None);
    let driver = start_driver(manager.address(), None);
    // One that registers, takes its order, says that it is ready, and is never heard of again.
    let said = |path: &str, body: &str| {
        let mut stream = TcpStream::connect(manager.address()).expect("the manager");
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
    };
    let stop = Stop::default();
    manager.gather(1, Duration::ZERO, &stop).expect("the good one comes");
    let hello = Hello { name: "frail".to_owned(), cores: 1, open_files: 100 };
    let welcome = said("/v1/drivers", &serde_json::to_string(&hello).expect("JSON"));
    assert_eq!(welcome, "{\"id\":2}");
    manager.gather(2, Duration::ZERO, &stop).expect("both are there");
    let phases = Phases { warm_up: Duration::ZERO, time: Duration::from_secs(LOST + 1) };
    let (place, worker) = (Place::plain(running.address), Arc::clone(&manager));
    let load =
        std::thread::spawn(move || worker.drive(&place, &plan(4), phases, &Stop::default(), &mut own_meter));
    let order = said("/v1/drivers/2/order", "null");
    assert!(order.contains("\"prepare\""), "{order}");
    let empty = crate::engine::encode(&crate::engine::histogram()).expect("it is encoded");
    said("/v1/drivers/2/ready", &format!("{{\"run\":1,\"connects\":\"{empty}\",\"error\":null}}"));
    let (measured, crew) = load.join().expect("no panic").expect("the other one's results");
    assert_eq!(crew, Drivers { whole: 1, lost: 1 });
    assert_eq!(measured.outcome.streams.len(), 2, "its share only");
    drop(manager);
    driver.join().expect("no panic").expect("it ends");
}
