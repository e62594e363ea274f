//! What is fuzzed of [`mqtt_wire`] and [`mqtt_broker`], once for two drivers: libFuzzer (`crates/mqtt-wire/fuzz`) and the
//! program of this crate, which needs no nightly compiler (`cargo xtask fuzz`).
//!
//! [`codec`] and [`streams`] are the targets: they take any bytes and panic if something is not as promised.
//! [`generate`] writes packets byte by byte, without the encoder under test; [`mutate`] changes them, and knows where
//! lengths are; [`corpus`] reads the packet sequences of `../shared/mqtt-vectors`; [`random`] is where chance comes from,
//! the same for the same seed.

pub mod codec;
pub mod corpus;
pub mod generate;
pub mod mutate;
pub mod random;
pub mod streams;
