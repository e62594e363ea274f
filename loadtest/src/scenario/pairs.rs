//! Owners with a device and an app each, on the whole system; the same pairs of clients on a broker.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mqtt_wire::QoS;

use super::Settings;
use crate::bench::Bench;
use crate::brokers::{Broker, Listen, System};
use crate::engine::{ClientPlan, Pace, Plan, StreamPlan};
use crate::load::Place;
use crate::meter::Meter;
use crate::results::{Row, Table, params};
use crate::stack::provision::{self, COMMAND, Household, READING};
use crate::stack::{Options, Stack};

/// Group of the messages from devices to apps.
pub const READINGS: usize = 0;
/// Group of the messages from apps to devices.
pub const COMMANDS: usize = 1;

/// Both sides of a comparison, warm for the whole of it.
pub struct Sides {
    /// The whole system, if it is measured.
    pub stack: Option<Stack>,
    /// Its owners.
    pub households: Vec<Household>,
    /// Mosquitto, if it is measured.
    pub mosquitto: Option<Broker>,
    tls: bool,
    host: String,
}

/// What the pairs exchange.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Device to app.
    pub readings: Option<Pace>,
    /// App to device.
    pub commands: Option<Pace>,
    /// At which quality of service.
    pub qos: QoS,
}

impl Sides {
    /// Starts what the settings name, with so many owners.
    ///
    /// # Errors
    /// Something does not start, or an owner cannot be provisioned.
    pub fn start(settings: &Settings, owners: usize, bench: &mut Bench) -> anyhow::Result<Sides> {
        Sides::start_with(settings, settings.stack(owners), bench)
    }

    /// The same with more to say about the system.
    ///
    /// # Errors
    /// As [`Sides::start`].
    pub fn start_with(settings: &Settings, options: Options, bench: &mut Bench) -> anyhow::Result<Sides> {
        ensure!(
            !settings.systems.contains(&System::Rumqttd),
            "rumqttd is a baseline of the scenario `broker` only: it has no topic rules to compare with"
        );
        let owners = options.people;
        let host = options.host.clone();
        let mut sides =
            Sides { stack: None, households: Vec::new(), mosquitto: None, tls: settings.tls, host };
        // The certificates are the stack's, so with TLS it is started even if only the baseline is measured.
        if settings.systems.contains(&System::Oauthing) || settings.tls {
            bench.show("starting the system");
            sides.stack = Some(Stack::start(&settings.programs, options)?);
        }
        if settings.systems.contains(&System::Mosquitto) {
            let certificate = sides.stack.as_ref().filter(|_| settings.tls).map(Stack::certificate);
            let listen = Listen { tls: certificate, bind: settings.bind };
            sides.mosquitto = Some(Broker::open(System::Mosquitto, &settings.programs, &listen)?);
        }
        if let Some(stack) = sides.stack.as_ref().filter(|_| settings.systems.contains(&System::Oauthing)) {
            sides.households = provision(stack, owners, bench)?;
        }
        Ok(sides)
    }

    /// Where a system is reached.
    ///
    /// # Errors
    /// It is not measured.
    pub fn place(&self, system: System) -> anyhow::Result<Place> {
        let port = match system {
            System::Oauthing => self.stack()?.gateway(self.tls).port(),
            System::Mosquitto | System::Rumqttd => {
                self.mosquitto.as_ref().context("the baseline does not run")?.address.port()
            }
        };
        let authority = match &self.stack {
            Some(stack) if self.tls => Some(std::fs::read_to_string(stack.authority())?),
            _ => None,
        };
        Ok(Place { host: self.host.clone(), port, authority })
    }

    /// The whole system.
    ///
    /// # Errors
    /// It is not measured.
    pub fn stack(&self) -> anyhow::Result<&Stack> {
        self.stack.as_ref().context("the system does not run")
    }

    /// The processes of a system.
    ///
    /// # Errors
    /// They cannot be found.
    pub fn meter(&self, system: System) -> anyhow::Result<Meter> {
        match system {
            System::Oauthing => self.stack()?.meter(),
            System::Mosquitto | System::Rumqttd => {
                Ok(self.mosquitto.as_ref().context("the baseline does not run")?.meter())
            }
        }
    }

    /// The device of one owner, as a client of that system.
    ///
    /// # Errors
    /// There is no such owner.
    pub fn device(&self, system: System, number: usize) -> anyhow::Result<ClientPlan> {
        let id = format!("device{number}");
        if system == System::Oauthing {
            let device = ClientPlan::device(id, self.household(number)?.record()?);
            return Ok(ClientPlan { owner: number, ..device });
        }
        // What a device subscribes, and a session that outlives its connection as a device's does.
        let client = ClientPlan { clean: false, owner: number, ..self.login(ClientPlan::new(id))? };
        Ok(client
            .subscribing(format!("c/{number}/#"), QoS::AtLeastOnce)
            .subscribing(format!("s/{number}/delta"), QoS::AtLeastOnce))
    }

    /// The app of one owner.
    ///
    /// # Errors
    /// There is no such owner.
    pub fn app(&self, system: System, number: usize, qos: QoS) -> anyhow::Result<ClientPlan> {
        let id = format!("app{number}");
        if system == System::Oauthing {
            let token = &self.household(number)?.app_tokens.access_token;
            let app = ClientPlan::new(id).login("Bearer", token).subscribing("d/#", qos);
            return Ok(ClientPlan { owner: number, ..app });
        }
        let app = self.login(ClientPlan::new(id))?.subscribing(format!("d/{number}/#"), qos);
        Ok(ClientPlan { owner: number, ..app })
    }

    fn login(&self, client: ClientPlan) -> anyhow::Result<ClientPlan> {
        let broker = self.mosquitto.as_ref().context("the baseline does not run")?;
        Ok(ClientPlan { login: broker.login(), ..client })
    }

    fn household(&self, number: usize) -> anyhow::Result<&Household> {
        self.households.get(number).with_context(|| format!("there is no owner {number}"))
    }

    /// Where a device's readings go, and an app's commands for it.
    ///
    /// # Errors
    /// There is no such owner.
    pub fn topics(&self, system: System, number: usize) -> anyhow::Result<(String, String)> {
        Ok(match system {
            System::Oauthing => {
                let handle = &self.household(number)?.handle;
                (format!("d/{READING}"), format!("c/{handle}/{COMMAND}"))
            }
            System::Mosquitto | System::Rumqttd => {
                (format!("d/{number}/{READING}"), format!("c/{number}/{COMMAND}"))
            }
        })
    }

    /// The first `owners` pairs.
    ///
    /// # Errors
    /// There are not so many.
    pub fn plan(&self, system: System, owners: usize, exchange: &Exchange) -> anyhow::Result<Plan> {
        let mut plan = Plan { connecting: 16, ..Plan::default() };
        for number in 0..owners {
            let device = plan.client(self.device(system, number)?);
            let app = plan.client(self.app(system, number, exchange.qos)?);
            let (reading, command) = self.topics(system, number)?;
            if let Some(pace) = exchange.readings {
                let pace = spread(pace, number, 0.0);
                plan.stream(StreamPlan::new(device, reading, exchange.qos, pace).group(READINGS));
            }
            if let Some(pace) = exchange.commands {
                let pace = spread(pace, number, 0.5);
                plan.stream(StreamPlan::new(app, command, exchange.qos, pace).group(COMMANDS));
            }
        }
        Ok(plan)
    }

    /// A row with what is the same for every run of this comparison.
    ///
    /// # Errors
    /// A time that is no number of milliseconds.
    pub fn row(&self, system: System, round: usize, settings: &Settings) -> anyhow::Result<Row> {
        let mut table: Table<serde_json::Value> = params([
            ("round", round.into()),
            ("tls", self.tls.into()),
            ("warm_up_ms", u64::try_from(settings.warm_up.as_millis())?.into()),
        ]);
        if system == System::Oauthing {
            table.insert("runtime".to_owned(), settings.runtime.name().into());
        }
        Ok(Row::new(system, table))
    }
}

/// Provisions the owners of a stack and shows how far it is.
///
/// # Errors
/// One cannot be provisioned.
pub fn provision(stack: &Stack, owners: usize, bench: &mut Bench) -> anyhow::Result<Vec<Household>> {
    let shown = |ready: usize| {
        if ready.is_multiple_of(10) {
            bench.show(&format!("{ready} of {owners} owners are provisioned"));
        }
    };
    stack.wait(provision::owners(stack, 0..owners, shown))
}

/// Starts open loops at times that are spread evenly over the interval, whatever the number of owners.
pub fn spread(pace: Pace, number: usize, shift: f64) -> Pace {
    match pace {
        Pace::Open { interval, offset } => {
            #[allow(clippy::cast_precision_loss, reason = "owners are few")]
            let part = (number as f64 * 0.618_033_988_75 + shift).fract();
            Pace::Open { interval, offset: offset + Duration::from_secs_f64(interval.as_secs_f64() * part) }
        }
        Pace::Closed { .. } | Pace::Once { .. } => pace,
    }
}

#[cfg(test)]
mod tests {
    use super::spread;
    use crate::engine::Pace;
    use std::time::Duration;

    #[test]
    fn the_clients_of_an_open_loop_do_not_start_together() {
        let pace = Pace::Open { interval: Duration::from_secs(1), offset: Duration::ZERO };
        let mut offsets: Vec<Duration> = (0..100)
            .map(|number| match spread(pace, number, 0.5) {
                Pace::Open { offset, .. } => offset,
                other => panic!("{other:?}"),
            })
            .collect();
        offsets.sort();
        assert!(offsets.iter().all(|offset| *offset < Duration::from_secs(1)));
        let widest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().expect("a hundred");
        assert!(widest < Duration::from_millis(25), "{widest:?}");
    }
}
