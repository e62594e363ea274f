//! The paper's figures, as far as its text or its plots tell them (Annals of Telecommunications 73, 2018). Read from plots: everything
//! by number of clients.

/// One level of figures 10 and 11.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    /// Clients.
    pub(super) clients: u64,
    /// Mosquitto's mean.
    pub(super) mosquitto_ms: f64,
    /// IGNITE's mean.
    pub(super) ignite_ms: f64,
    /// IGNITE's 95 %.
    pub(super) p95_ms: f64,
    /// IGNITE's 99 %.
    pub(super) p99_ms: f64,
}

const fn level(clients: u64, mosquitto_ms: f64, ignite_ms: f64, p95_ms: f64, p99_ms: f64) -> Latency {
    Latency { clients, mosquitto_ms, ignite_ms, p95_ms, p99_ms }
}

/// Figures 10 and 11.
pub(super) const LATENCY: [Latency; 8] = [
    level(50, 1.1, 2.1, 4.6, 8.9),
    level(100, 1.3, 2.0, 4.0, 7.8),
    level(150, 1.1, 2.1, 4.5, 9.6),
    level(200, 1.1, 2.1, 4.2, 9.9),
    level(250, 1.0, 2.2, 5.0, 9.3),
    level(300, 1.1, 2.0, 4.6, 9.0),
    level(350, 1.0, 2.0, 4.4, 8.1),
    level(400, 1.1, 2.3, 5.5, 10.4),
];

/// Figure 12, milliseconds: Mosquitto, the owner's PCM running, the PCM to be launched.
pub(super) const CONNECT_MOSQUITTO_MS: f64 = 24.5;
/// See [`CONNECT_MOSQUITTO_MS`].
pub(super) const CONNECT_RUNNING_MS: f64 = 35.9;
/// See [`CONNECT_MOSQUITTO_MS`].
pub(super) const CONNECT_LAUNCHED_MS: f64 = 1294.0;

/// Figure 13: messages a second by clients.
pub(super) const STRESS: [(u64, f64); 2] = [(16, 5927.0), (400, 4806.0)];

/// Mean latency at 400 clients in figure 13, milliseconds.
pub(super) const STRESS_MEAN_MS: f64 = 83.3;

/// PCMs on 2 GB, and US$ for each user and month.
pub(super) const OWNERS: f64 = 400.0;
/// See [`OWNERS`].
pub(super) const USD: f64 = 0.05;
