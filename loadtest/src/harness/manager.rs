//! The manager's side: which drivers there are, what each is to do, and what came back.
//!
//! The scenario runs on the main thread and waits here; the drivers' requests are served by a runtime of its own.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use tokio::sync::Notify;

use super::{HOLD, Hello, LOST, Order, Ready, Report, Welcome};
use crate::engine::{Outcome, Plan, Stop, decode, histogram};
use crate::load::{self, Measured, Phases, Place};
use crate::meter::Meter;

/// Longest body of a driver: the histograms and counts of 100,000 streams.
const LONGEST: usize = 64 << 20;

/// Drivers at most.
const MOST: usize = 256;

/// One driver.
struct Driver {
    hello: Hello,
    seen: Instant,
    lost: bool,
    orders: VecDeque<Order>,
    ready: Option<Ready>,
    report: Option<Report>,
}

/// All drivers, and whom to wake.
struct Hall {
    drivers: Mutex<BTreeMap<u64, Driver>>,
    /// For the scenario, which waits for drivers.
    changed: Condvar,
    /// For drivers, which wait for orders.
    ordered: Notify,
    key: Option<String>,
}

/// The drivers of one `loadtest manager`.
pub struct Manager {
    hall: Arc<Hall>,
    address: SocketAddr,
    run: Mutex<u64>,
    _runtime: tokio::runtime::Runtime,
}

impl Hall {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Driver>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a driver spoke; what it said is taken in by `take`.
    fn heard(&self, id: u64, take: impl FnOnce(&mut Driver)) -> StatusCode {
        let mut drivers = self.lock();
        let Some(driver) = drivers.get_mut(&id) else { return StatusCode::NOT_FOUND };
        driver.seen = Instant::now();
        take(driver);
        self.changed.notify_all();
        StatusCode::OK
    }
}

impl Manager {
    /// Listens for drivers. With a key, only drivers that know it are let in.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn listen(address: SocketAddr, key: Option<String>) -> anyhow::Result<Manager> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let hall = Arc::new(Hall {
            drivers: Mutex::default(),
            changed: Condvar::new(),
            ordered: Notify::new(),
            key,
        });
        let router = Router::new()
            .route("/v1/drivers", post(register))
            .route("/v1/drivers/{id}/order", post(order))
            .route("/v1/drivers/{id}/alive", post(alive))
            .route("/v1/drivers/{id}/ready", post(ready))
            .route("/v1/drivers/{id}/report", post(report))
            .layer(DefaultBodyLimit::max(LONGEST))
            .layer(middleware::from_fn_with_state(Arc::clone(&hall), guard))
            .with_state(Arc::clone(&hall));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(address))
            .with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("loadtest: no driver is served any more: {error}");
            }
        });
        Ok(Manager { hall, address, run: Mutex::new(0), _runtime: runtime })
    }

    /// Where drivers find it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for so many drivers; with 0 for the first, and for those that come within `gather` after it.
    ///
    /// # Errors
    /// Nobody comes in two minutes, or somebody stopped it.
    pub fn gather(&self, wanted: usize, gather: Duration, stop: &Stop) -> anyhow::Result<usize> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut enough: Option<Instant> = None;
        let mut drivers = self.hall.lock();
        loop {
            let count = drivers.values().filter(|driver| !driver.lost).count();
            let now = Instant::now();
            if wanted > 0 && count >= wanted {
                return Ok(count);
            }
            if wanted == 0 && count > 0 && *enough.get_or_insert(now + gather) <= now {
                return Ok(count);
            }
            ensure!(!stop.is_set(), "stopped");
            ensure!(now < deadline, "{count} of {wanted} drivers came in two minutes");
            drivers = self.wait(drivers);
        }
    }

    fn wait<'a>(
        &self,
        drivers: MutexGuard<'a, BTreeMap<u64, Driver>>,
    ) -> MutexGuard<'a, BTreeMap<u64, Driver>> {
        let waited = self.hall.changed.wait_timeout(drivers, Duration::from_millis(100));
        let (mut drivers, _) = waited.unwrap_or_else(PoisonError::into_inner);
        for (id, driver) in drivers.iter_mut() {
            if !driver.lost && driver.seen.elapsed() > Duration::from_secs(LOST) {
                driver.lost = true;
                eprintln!("loadtest: driver {id} ({}) is lost", driver.hello.name);
            }
        }
        drivers
    }

    /// Waits until `done` holds for each of these drivers that is not lost, for at most so long.
    fn await_all(
        &self,
        ids: &[u64],
        patience: Duration,
        stop: &Stop,
        done: impl Fn(&Driver) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut drivers = self.hall.lock();
        loop {
            let waiting = ids
                .iter()
                .filter(|id| drivers.get(id).is_some_and(|driver| !driver.lost && !done(driver)))
                .count();
            if waiting == 0 {
                return Ok(());
            }
            ensure!(!stop.is_set(), "stopped");
            ensure!(Instant::now() < deadline, "{waiting} drivers give no answer");
            drivers = self.wait(drivers);
        }
    }

    fn order(&self, id: u64, order: Order) {
        if let Some(driver) = self.hall.lock().get_mut(&id) {
            driver.orders.push_back(order);
        }
        self.hall.ordered.notify_waiters();
    }

    /// One load, carried by all drivers: [`load::drive`] with the clients elsewhere.
    ///
    /// # Errors
    /// A driver cannot connect its share, or all are lost.
    pub fn drive(
        &self,
        place: &Place,
        plan: &Plan,
        phases: Phases,
        stop: &Stop,
        meter: &mut dyn FnMut() -> anyhow::Result<Meter>,
    ) -> anyhow::Result<(Measured, Drivers)> {
        let run = {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            *run += 1;
            *run
        };
        let ids: Vec<u64> =
            self.hall.lock().iter().filter(|(_, driver)| !driver.lost).map(|(id, _)| *id).collect();
        ensure!(!ids.is_empty(), "no driver is left");
        let shares = plan.split(ids.len());
        let ids: Vec<u64> = ids.into_iter().take(shares.len()).collect();
        for (id, plan) in ids.iter().zip(shares) {
            if let Some(driver) = self.hall.lock().get_mut(id) {
                (driver.ready, driver.report) = (None, None);
            }
            let plan = Box::new(plan);
            self.order(*id, Order::Prepare { run, place: place.clone(), plan, phases });
        }
        let done = self.carry_out(run, &ids, phases, stop, meter);
        if done.is_err() {
            for id in &ids {
                self.order(*id, Order::Forget { run });
            }
        }
        done
    }

    fn carry_out(
        &self,
        run: u64,
        ids: &[u64],
        phases: Phases,
        stop: &Stop,
        meter: &mut dyn FnMut() -> anyhow::Result<Meter>,
    ) -> anyhow::Result<(Measured, Drivers)> {
        let is = |ready: &Option<Ready>| ready.as_ref().is_some_and(|ready| ready.run == run);
        self.await_all(ids, Duration::from_secs(120), stop, |driver| is(&driver.ready))?;
        let mut connects = histogram();
        {
            let drivers = self.hall.lock();
            for (id, driver) in drivers.iter().filter(|(id, driver)| ids.contains(id) && is(&driver.ready)) {
                let Some(ready) = &driver.ready else { continue };
                if let Some(error) = &ready.error {
                    anyhow::bail!("driver {id} ({}): {error}", driver.hello.name);
                }
                connects.add(decode(&ready.connects)?).context("merge")?;
            }
        }
        let meter = meter()?;
        for id in ids {
            self.order(*id, Order::Go { run });
        }
        self.pause(phases.warm_up, stop)?;
        let before = meter.read()?;
        self.pause(phases.time, stop)?;
        let after = meter.read()?;
        let patience = load::DRAIN + Duration::from_secs(30);
        let last =
            |driver: &Driver| driver.report.as_ref().is_some_and(|report| report.run == run && report.last);
        self.await_all(ids, patience, stop, last)?;
        let mut outcome = Outcome::empty();
        let (mut load_cpu, mut whole, mut lost) = (0.0, 0, 0);
        for (id, driver) in self.hall.lock().iter().filter(|(id, _)| ids.contains(id)) {
            // What a lost driver had streamed is of another length of time, so it makes no rate together with the others'.
            let Some(report) = driver.report.as_ref().filter(|report| report.run == run && report.last)
            else {
                lost += 1;
                continue;
            };
            if let Some(error) = &report.error {
                anyhow::bail!("driver {id} ({}): {error}", driver.hello.name);
            }
            if let Some(sent) = &report.outcome {
                outcome.merge(&Outcome::receive(sent)?)?;
                whole += 1;
            }
            load_cpu += report.load_cpu;
        }
        ensure!(whole > 0, "every driver was lost");
        load::check(&outcome)?;
        let received = outcome.counts.received;
        let cpu = after.since(&before);
        Ok((Measured { outcome, connects, cpu, load_cpu, received }, Drivers { whole, lost }))
    }

    /// Lets time pass while the drivers are at work.
    fn pause(&self, time: Duration, stop: &Stop) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        let mut drivers = self.hall.lock();
        while Instant::now() < end {
            ensure!(!stop.is_set(), "stopped");
            drivers = self.wait(drivers);
        }
        Ok(())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let ids: Vec<u64> = self.hall.lock().keys().copied().collect();
        for id in &ids {
            self.order(*id, Order::End);
        }
        // They ask within a moment, if they are still there.
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut drivers = self.hall.lock();
        while Instant::now() < deadline
            && drivers.values().any(|driver| !driver.lost && !driver.orders.is_empty())
        {
            drivers = self.wait(drivers);
        }
    }
}

/// How many drivers carried a run, and how many of them were lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drivers {
    /// Those whose results are in the row.
    pub whole: usize,
    /// Those whose results are not.
    pub lost: usize,
}

/// Lets only drivers in that know the key, if there is one.
async fn guard(State(hall): State<Arc<Hall>>, request: Request, next: Next) -> Result<Response, StatusCode> {
    if let Some(key) = &hall.key {
        let said = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let said = said.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let (said, key) = (service::secret::sha256(said.as_bytes()), service::secret::sha256(key.as_bytes()));
        if !service::secret::equal(&said, &key) {
            return Err(StatusCode::UNAUTHORIZED);
        }
    }
    Ok(next.run(request).await)
}

async fn register(
    State(hall): State<Arc<Hall>>,
    Json(hello): Json<Hello>,
) -> Result<Json<Welcome>, StatusCode> {
    let mut drivers = hall.lock();
    if drivers.len() >= MOST {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let id = drivers.keys().last().map_or(1, |last| last + 1);
    eprintln!("loadtest: driver {id}: {} with {} cores", hello.name, hello.cores);
    let driver = Driver {
        hello,
        seen: Instant::now(),
        lost: false,
        orders: VecDeque::new(),
        ready: None,
        report: None,
    };
    drivers.insert(id, driver);
    hall.changed.notify_all();
    Ok(Json(Welcome { id }))
}

async fn order(State(hall): State<Arc<Hall>>, Path(id): Path<u64>) -> Result<Json<Order>, StatusCode> {
    let hold = tokio::time::sleep(Duration::from_secs(HOLD));
    tokio::pin!(hold);
    loop {
        // Made before looking, so that an order that comes in between wakes it.
        let ordered = hall.ordered.notified();
        let mut found = None;
        let status = hall.heard(id, |driver| found = driver.orders.pop_front());
        if status != StatusCode::OK {
            return Err(status);
        }
        if let Some(order) = found {
            return Ok(Json(order));
        }
        tokio::select! {
            () = ordered => {}
            () = &mut hold => return Ok(Json(Order::Wait)),
        }
    }
}

async fn alive(State(hall): State<Arc<Hall>>, Path(id): Path<u64>) -> StatusCode {
    hall.heard(id, |_| {})
}

async fn ready(
    State(hall): State<Arc<Hall>>,
    Path(id): Path<u64>,
    Json(ready): Json<Ready>,
) -> (StatusCode, Json<()>) {
    (hall.heard(id, |driver| driver.ready = Some(ready)), Json(()))
}

async fn report(
    State(hall): State<Arc<Hall>>,
    Path(id): Path<u64>,
    Json(report): Json<Report>,
) -> (StatusCode, Json<()>) {
    let status = hall.heard(id, |driver| {
        // A report that was overtaken by the last one of its run says nothing new.
        let over = driver.report.as_ref().is_some_and(|known| known.run == report.run && known.last);
        if !over {
            driver.report = Some(report);
        }
    });
    (status, Json(()))
}
