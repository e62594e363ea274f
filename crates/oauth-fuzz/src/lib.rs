//! What is fuzzed of the DIdP's parsers, and a deterministic driver for it (`cargo xtask fuzz`).
//!
//! [`targets`] take any bytes and panic if something is not as promised. [`generate`] writes forms and JSON that are nearly
//! right, and changes them; chance is `mqtt_fuzz`'s, the same for the same seed.

pub mod generate;
pub mod targets;
