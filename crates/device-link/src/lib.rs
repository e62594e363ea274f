#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod board;
pub mod certificate;
mod run;
pub mod signature;
mod tls;
pub mod trust;
mod wire;

pub use board::{Board, Event, Input, Lost};
pub use run::{Link, Records, run};
pub use tls::{Connection, RX_RECORD, TX_RECORD};
