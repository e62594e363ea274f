//! The three brokers side by side, without gateways: messages a core-second of the broker's own CPU time, and latency.
//!
//! Closed loop, 100-byte payloads, MQTT 3.1.1, plain TCP. Every run has a fresh broker process.

use std::time::Duration;

use mqtt_wire::QoS;
use serde_json::Value;

use super::{Settings, fresh, measure};
use crate::brokers::{Broker, System};
use crate::engine::{ClientPlan, Engine, Pace, Plan, StreamPlan, Target};
use crate::process;
use crate::results::{Results, Row, Table, float, params};

/// Clients that each get all retained messages, one after the other's connect.
const REPLAYS: u64 = 5;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Publishers with one receiver each.
    Pairs { pairs: u64, qos: QoS, window: u64 },
    /// One publisher, many receivers.
    FanOut { receivers: u64, qos: QoS },
    /// One pair, beside so many retained messages on other topics.
    BesideRetained { topics: u64 },
    /// Delivery of so many retained messages to new subscribers.
    Replay { topics: u64 },
    /// One pair, whose receiver has so many wildcard filters of which one matches.
    Filters { filters: u64 },
}

impl Case {
    fn all(quick: bool) -> Vec<Case> {
        let qualities = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        let mut cases = Vec::new();
        for pairs in if quick { vec![50] } else { vec![1, 50] } {
            for qos in qualities {
                for window in [1, 200] {
                    cases.push(Case::Pairs { pairs, qos, window });
                }
            }
        }
        cases.push(Case::FanOut { receivers: 100, qos: QoS::AtMostOnce });
        if !quick {
            cases.push(Case::FanOut { receivers: 100, qos: QoS::AtLeastOnce });
            cases.push(Case::BesideRetained { topics: 10_000 });
        }
        cases.push(Case::Replay { topics: 10_000 });
        cases.push(Case::Filters { filters: 1_000 });
        cases
    }

    /// Whether a system can do it. rumqttd 0.20 sends a new subscriber no more than its window of retained messages (200 of
    /// 10,000 came), so there is nothing to time.
    fn fits(self, system: System) -> bool {
        !(matches!(self, Case::Replay { .. }) && system == System::Rumqttd)
    }

    fn label(self) -> String {
        match self {
            Case::Pairs { pairs, qos, window } => format!("pairs{pairs}-q{}-w{window}", qos.bits()),
            Case::FanOut { receivers, qos } => format!("fanout{receivers}-q{}", qos.bits()),
            Case::BesideRetained { topics } => format!("beside-retained{topics}"),
            Case::Replay { topics } => format!("replay-retained{topics}"),
            Case::Filters { filters } => format!("filters{filters}"),
        }
    }

    fn params(self) -> Table<Value> {
        match self {
            Case::Pairs { pairs, qos, window } => params([
                ("load", "pairs".into()),
                ("pairs", pairs.into()),
                ("qos", qos.bits().into()),
                ("window", window.into()),
            ]),
            Case::FanOut { receivers, qos } => params([
                ("load", "fan-out".into()),
                ("receivers", receivers.into()),
                ("qos", qos.bits().into()),
                ("window", FAN_OUT_WINDOW.into()),
            ]),
            Case::BesideRetained { topics } => params([
                ("load", "beside retained".into()),
                ("topics", topics.into()),
                ("qos", 0.into()),
                ("window", WINDOW.into()),
            ]),
            Case::Replay { topics } => {
                params([("load", "replay of retained".into()), ("topics", topics.into())])
            }
            Case::Filters { filters } => params([
                ("load", "wildcard filters".into()),
                ("filters", filters.into()),
                ("qos", 0.into()),
                ("window", WINDOW.into()),
            ]),
        }
    }
}

const WINDOW: u64 = 200;
const FAN_OUT_WINDOW: u64 = 20;

/// Runs the scenario.
///
/// # Errors
/// A program is missing, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let cases: Vec<Case> =
        Case::all(settings.quick).into_iter().filter(|case| settings.wants(&case.label())).collect();
    anyhow::ensure!(!cases.is_empty(), "no case has such a label");
    let fitting = |case: Case| -> Vec<System> {
        settings.systems.iter().copied().filter(|system| case.fits(*system)).collect()
    };
    let steps = cases.iter().map(|case| fitting(*case).len()).sum::<usize>() * settings.rounds;
    for system in &settings.systems {
        settings.programs.ensure(*system)?;
    }
    let mut bench = settings.bench("broker", steps)?;
    for case in cases {
        let goes_on = bench.interleave(
            &fitting(case),
            settings.rounds,
            &case,
            &case.label(),
            |system, case, round| one(system, *case, round, settings).map(|row| vec![row]),
        )?;
        if !goes_on {
            break;
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

fn one(system: System, case: Case, round: usize, settings: &Settings) -> anyhow::Result<Row> {
    let broker = fresh(system, settings)?;
    let mut row = Row::new(system, case.params());
    row.params.insert("round".to_owned(), round.into());
    row.params.insert("warm_up_ms".to_owned(), u64::try_from(settings.warm_up.as_millis())?.into());
    if let Case::Replay { topics } = case {
        retain(&broker, topics, settings)?;
        return replay(&broker, topics, settings, row);
    }
    if let Case::BesideRetained { topics } = case {
        retain(&broker, topics, settings)?;
    }
    measure(&broker, plan(case, &broker), settings)?.describe(&mut row);
    Ok(row)
}

fn client(broker: &Broker, id: String) -> ClientPlan {
    ClientPlan { login: broker.login(), ..ClientPlan::new(id) }
}

fn plan(case: Case, broker: &Broker) -> Plan {
    let mut plan = Plan::default();
    let (pairs, qos, window) = match case {
        Case::Pairs { pairs, qos, window } => (pairs, qos, window),
        Case::FanOut { receivers, qos } => {
            let publisher = plan.client(client(broker, "p".to_owned()));
            for receiver in 0..receivers {
                plan.client(client(broker, format!("s{receiver}")).subscribing("all/news", qos));
            }
            let pace = Pace::Closed { window: FAN_OUT_WINDOW };
            plan.stream(StreamPlan { receivers, ..StreamPlan::new(publisher, "all/news", qos, pace) });
            return plan;
        }
        Case::Filters { filters } => {
            let publisher = plan.client(client(broker, "p".to_owned()));
            let mut receiver = client(broker, "s".to_owned());
            for number in 0..filters {
                receiver = receiver.subscribing(format!("+/{number}/#"), QoS::AtMostOnce);
            }
            plan.client(receiver);
            let topic = format!("f/{}/x", filters / 2);
            plan.stream(StreamPlan::new(publisher, topic, QoS::AtMostOnce, Pace::Closed { window: WINDOW }));
            return plan;
        }
        Case::BesideRetained { .. } | Case::Replay { .. } => (1, QoS::AtMostOnce, WINDOW),
    };
    for pair in 0..pairs {
        let topic = format!("d/device{pair}/temperature");
        let publisher = plan.client(client(broker, format!("p{pair}")));
        plan.client(client(broker, format!("s{pair}")).subscribing(topic.clone(), qos));
        plan.stream(StreamPlan::new(publisher, topic, qos, Pace::Closed { window }));
    }
    plan
}

/// Leaves a retained message on each of so many topics.
fn retain(broker: &Broker, topics: u64, settings: &Settings) -> anyhow::Result<()> {
    let mut plan = Plan::default();
    let publisher = plan.client(client(broker, "keeper".to_owned()));
    for number in 0..topics {
        let topic = format!("kept/{}/{}", number % 100, number / 100);
        let pace = Pace::Once { messages: 1 };
        let stream = StreamPlan::new(publisher, topic, QoS::AtLeastOnce, pace);
        plan.stream(StreamPlan { retain: true, receivers: 0, ..stream });
    }
    let mut engine = Engine::new(Target::plain(broker.address), plan)?;
    engine.connect(&settings.stop)?;
    for _ in 0..1000 {
        if engine.is_done() || settings.stop.is_set() {
            break;
        }
        engine.drive(Duration::from_millis(10), &settings.stop)?;
    }
    anyhow::ensure!(engine.is_done(), "the broker did not take all retained messages");
    let outcome = engine.outcome();
    anyhow::ensure!(outcome.refused == 0, "the broker refused {} retained messages", outcome.refused);
    engine.disconnect();
    Ok(())
}

/// New subscribers, one after the other, get everything that was retained.
fn replay(broker: &Broker, topics: u64, settings: &Settings, mut row: Row) -> anyhow::Result<Row> {
    let own = std::process::id();
    let before = (broker.cpu_seconds()?, process::cpu_seconds(own)?);
    let mut seconds = 0.0;
    for number in 0..REPLAYS {
        let mut plan = Plan::default();
        plan.client(client(broker, format!("reader{number}")).subscribing("kept/#", QoS::AtMostOnce));
        let mut engine = Engine::new(Target::plain(broker.address), plan)?;
        engine.connect(&settings.stop)?;
        let mut outcome = engine.outcome();
        for _ in 0..10_000 {
            if outcome.foreign >= topics || settings.stop.is_set() {
                break;
            }
            engine.drive(Duration::from_millis(1), &settings.stop)?;
            outcome = engine.outcome();
        }
        anyhow::ensure!(outcome.foreign == topics, "{} of {topics} retained messages came", outcome.foreign);
        seconds += outcome.seconds;
        engine.disconnect();
    }
    let after = (broker.cpu_seconds()?, process::cpu_seconds(own)?);
    let delivered = float(topics * REPLAYS);
    row.metric("per_second", delivered / seconds)
        .metric("per_core_second", delivered / (after.0 - before.0))
        .metric("cpu_seconds", after.0 - before.0)
        .metric("load_cpu_seconds", after.1 - before.1)
        .metric("seconds", seconds);
    Ok(row)
}
