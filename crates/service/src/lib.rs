//! What every OAuthing service shares: configuration, telemetry, listeners, graceful stop.
//!
//! Nothing in here knows OAuth or MQTT.

pub mod certificate;
pub mod clock;
pub mod config;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod proxy;
pub mod secret;
pub mod shutdown;
pub mod spans;
mod taking;
pub mod telemetry;
pub mod tls;
pub mod workers;

pub use clock::Clock;
pub use shutdown::Shutdown;
pub use workers::Workers;
