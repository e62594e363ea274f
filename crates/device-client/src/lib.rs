#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod blink;
pub mod button;
pub mod device;
pub mod json;
pub mod oauth;
pub mod record;
mod session;
pub mod storage;
pub mod text;

pub use device::{Action, Closed, Device, Lamp, Notice, Options, Phase, PublishError, Status};
pub use record::{Record, Server};
pub use storage::{Flash, SLOT_LEN, Slots};

/// Milliseconds on a clock of the caller that never goes back; where it starts does not matter.
pub type Millis = u64;
