//! What is fuzzed of the DIdP's parsers and of a device, and a deterministic driver for it (`cargo xtask fuzz`).
//!
//! [`targets`] take any bytes and panic if something is not as promised; what a device promises is in [`device`]. [`generate`] writes
//! forms, JSON and scripts that are nearly right, and changes them; chance is `mqtt_fuzz`'s, the same for the same seed.

pub mod device;
pub mod generate;
pub mod targets;
