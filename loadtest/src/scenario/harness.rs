//! Whether the harness is what is measured. Its engine against a null sink, in the load of `latency` and in that of `stress`; the
//! load of `latency` on Mosquitto twice, by the engine and by `rumqttc`, a client that is not ours; and how many connections one
//! driver carries: 20,000, or what the process's limit of open files leaves, each with a message every ten seconds.
//!
//! Rows of the sink have `params.server` = `null sink` and stand under this project's name, because the sink is a program of its own.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mqtt_wire::QoS;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions};
use tokio::sync::Notify;

use super::{Settings, fresh};
use crate::brokers::{Broker, System};
use crate::child::Process;
use crate::engine::{ClientPlan, Pace, Plan, STAMP_LENGTH, Stamp, Stopwatch, StreamPlan, histogram};
use crate::load::{self, Place};
use crate::meter::Meter;
use crate::process;
use crate::results::{Results, Row, float, params};

/// From one message of a client to its next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of a payload, as everywhere.
const PAYLOAD: usize = 100;

/// Connections that one driver is to carry.
const MANY: u64 = 20_000;

/// From one message of a client to its next, with so many.
const SELDOM: Duration = Duration::from_secs(10);

/// Open files of this process and of the sink that are no connections, with room.
const OTHER_FILES: u64 = 200;

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let pairs = settings.levels(&[400], &[400]).first().copied().unwrap_or(400);
    let open = Pace::Open { interval: INTERVAL, offset: Duration::ZERO };
    let seldom = Pace::Open { interval: SELDOM, offset: Duration::ZERO };
    let closed = Pace::Closed { window: 1 };
    let many = most_pairs()?;
    let cases: [(&str, System, Pace, usize); 5] = [
        ("sink-open", System::Oauthing, open, pairs),
        ("sink-closed", System::Oauthing, closed, pairs),
        ("sink-many", System::Oauthing, seldom, many),
        ("engine", System::Mosquitto, open, pairs),
        ("rumqttc", System::Mosquitto, open, pairs),
    ];
    let cases: Vec<_> = cases.into_iter().filter(|(label, ..)| settings.wants(label)).collect();
    anyhow::ensure!(!cases.is_empty(), "no case has such a label");
    let mut bench = settings.bench("harness", cases.len() * settings.rounds)?;
    'rounds: for round in 1..=settings.rounds {
        for (label, system, pace, pairs) in &cases {
            if settings.stop.is_set() {
                break 'rounds;
            }
            bench.show(&format!("{label}, round {round}"));
            let outcome = match *label {
                "rumqttc" => rumqttc_row(settings, *pairs),
                "engine" => fresh(System::Mosquitto, settings).and_then(|broker| {
                    let place = Place::plain(broker.address);
                    let plan = plan(*pairs, *pace, Some(&broker));
                    row(*system, settings, &place, plan, &mut || Ok(broker.meter()))
                }),
                _ => sink().and_then(|(sink, address, _dir)| {
                    let meter = Meter::new(vec![("sink", vec![sink.id()])]);
                    row(*system, settings, &Place::plain(address), plan(*pairs, *pace, None), &mut || {
                        Ok(meter.clone())
                    })
                }),
            };
            let rows = outcome.map(|mut row| {
                let (server, client) = match *label {
                    "rumqttc" => ("mosquitto", "rumqttc"),
                    "engine" => ("mosquitto", "engine"),
                    _ => ("null sink", "engine"),
                };
                let pace = match pace {
                    Pace::Closed { .. } => "closed loop",
                    _ if *pace == seldom => "one in ten seconds",
                    _ => "one a second",
                };
                row.params.extend(params([
                    ("server", server.into()),
                    ("client", client.into()),
                    ("pace", pace.into()),
                    ("pairs", (*pairs).into()),
                    ("round", round.into()),
                ]));
                vec![row]
            });
            bench.step(*system, label, rows)?;
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

fn row(
    system: System,
    settings: &Settings,
    place: &Place,
    plan: Plan,
    meter: &mut dyn FnMut() -> anyhow::Result<Meter>,
) -> anyhow::Result<Row> {
    let mut row = Row::new(system, params([]));
    load::drive(place, plan, settings.phases(), &settings.stop, meter)?.describe(&mut row);
    row.count("rss_load_bytes", process::rss_bytes(std::process::id())?);
    Ok(row)
}

/// Half the connections that one driver is to carry, or that the limit of open files lets it and the sink have.
fn most_pairs() -> anyhow::Result<usize> {
    let files = process::raise_open_files()?.saturating_sub(OTHER_FILES);
    Ok(usize::try_from(MANY.min(files) / 2)?)
}

/// Starts the sink.
fn sink() -> anyhow::Result<(Process, SocketAddr, tempfile::TempDir)> {
    let dir = tempfile::tempdir().context("temporary folder")?;
    let own = std::env::current_exe().context("the path of this program")?;
    let mut sink = Process::start(&own, &[Path::new("sink")], &dir.path().join("log"))?;
    let address = sink.first_line()?.parse().context("the address that the sink prints")?;
    Ok((sink, address, dir))
}

fn plan(pairs: usize, pace: Pace, broker: Option<&Broker>) -> Plan {
    let mut plan = Plan::default();
    for pair in 0..pairs {
        let client = |id: String| ClientPlan {
            login: broker.and_then(Broker::login),
            owner: pair,
            ..ClientPlan::new(id)
        };
        let topic = format!("t/{pair}");
        let publisher = plan.client(client(format!("p{pair}")));
        plan.client(client(format!("s{pair}")).subscribing(topic.clone(), QoS::AtMostOnce));
        let pace = super::pairs::spread(pace, pair, 0.0);
        plan.stream(StreamPlan::new(publisher, topic, QoS::AtMostOnce, pace));
    }
    plan
}

/// What the receivers of one run share; everything is on one thread.
struct Shared {
    watch: Stopwatch,
    ready: Cell<usize>,
    changed: Notify,
    /// When each message was due, and how long it took, in nanoseconds.
    samples: RefCell<Vec<(u64, u64)>>,
}

/// The same load by `rumqttc`: a publisher and a receiver a pair, one message a second.
fn rumqttc_row(settings: &Settings, pairs: usize) -> anyhow::Result<Row> {
    let broker = fresh(System::Mosquitto, settings)?;
    let meter = broker.meter();
    let own = std::process::id();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let phases = settings.phases();
    let shared = Rc::new(Shared {
        watch: Stopwatch::start(),
        ready: Cell::new(0),
        changed: Notify::new(),
        samples: RefCell::default(),
    });
    let mut readings = Vec::new();
    local.block_on(&runtime, async {
        for pair in 0..pairs {
            let options = options(&broker, &format!("s{pair}"));
            tokio::task::spawn_local(receive(options, format!("t/{pair}"), Rc::clone(&shared)));
        }
        let all = async {
            while shared.ready.get() < pairs {
                shared.changed.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.context("a receiver does not get ready")?;
        let start = Instant::now();
        for pair in 0..pairs {
            #[allow(clippy::cast_precision_loss, reason = "pairs are few")]
            let offset = INTERVAL.mul_f64((pair as f64 * 0.618_033_988_75).fract());
            let options = options(&broker, &format!("p{pair}"));
            tokio::task::spawn_local(send(options, format!("t/{pair}"), start + offset, Rc::clone(&shared)));
        }
        for moment in [phases.warm_up, phases.warm_up + phases.time] {
            tokio::time::sleep_until((start + moment).into()).await;
            readings.push((meter.read()?, process::cpu_seconds(own)?, shared.watch.now()));
        }
        anyhow::Ok(())
    })?;
    let [(before, load_before, from), (after, load_after, until)] = readings.as_slice() else {
        anyhow::bail!("it ended early");
    };
    let mut latency = histogram();
    for (due, took) in shared.samples.borrow().iter() {
        if due >= from && due < until {
            latency.saturating_record((*took).max(1));
        }
    }
    anyhow::ensure!(!latency.is_empty(), "nothing arrived");
    let mut row = Row::new(System::Mosquitto, params([]));
    row.latency("", &latency)
        .metric("per_second", float(latency.len()) / phases.time.as_secs_f64())
        .metric("load_cpu_seconds", load_after - load_before);
    after.since(before).describe(&mut row);
    Ok(row)
}

fn options(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.address.ip().to_string(), broker.address.port());
    options.set_keep_alive(Duration::from_secs(300));
    if let Some((name, password)) = broker.login() {
        options.set_credentials(name, password);
    }
    options
}

/// Subscribes and notes what comes, until the run ends or the connection does; then what is missing shows.
async fn receive(options: MqttOptions, topic: String, shared: Rc<Shared>) {
    let (client, mut connection) = AsyncClient::new(options, 16);
    if client.subscribe(topic, rumqttc::QoS::AtMostOnce).await.is_err() {
        return;
    }
    while let Ok(event) = connection.poll().await {
        match event {
            Event::Incoming(Incoming::SubAck(_)) => {
                shared.ready.set(shared.ready.get() + 1);
                shared.changed.notify_one();
            }
            Event::Incoming(Incoming::Publish(publish)) => {
                let now = shared.watch.now();
                if let Some(stamp) = Stamp::read(&publish.payload) {
                    shared.samples.borrow_mut().push((stamp.due, now.saturating_sub(stamp.due)));
                }
            }
            _ => {}
        }
    }
}

/// Publishes once in [`INTERVAL`], each message stamped with when it was due.
async fn send(options: MqttOptions, topic: String, first: Instant, shared: Rc<Shared>) {
    let (client, mut connection) = AsyncClient::new(options, 16);
    let polling = async { while connection.poll().await.is_ok() {} };
    let publishing = async {
        let mut every = tokio::time::interval_at(first.into(), INTERVAL);
        let mut payload = vec![b'.'; PAYLOAD.max(STAMP_LENGTH)];
        loop {
            let due = every.tick().await;
            // The tick's own time, on the clock of the stamps.
            let late = u64::try_from(due.elapsed().as_nanos()).unwrap_or(0);
            let now = shared.watch.now();
            Stamp { stream: 0, sequence: 0, due: now.saturating_sub(late), sent: now }.write(&mut payload);
            if client.publish(&topic, rumqttc::QoS::AtMostOnce, false, payload.clone()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = polling => {}
        () = publishing => {}
    }
}
