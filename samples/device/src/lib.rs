//! A sample thermostat: the `device-client` crate in a Linux process, with a panel page.
//!
//! A maker of devices finds here what the machine leaves open: TLS with pinned keys ([`transport`]), a file as flash
//! ([`flash`]), the loop that drives it ([`driver`]) and what the device is for ([`thermostat`]). Around it stand the parts
//! of a demonstration: credentials from the factory's floor ([`credentials`]), one process a device ([`child`]), and the panel
//! page with the button, the lamp and the display ([`panel`]).

mod cli;

pub mod child;
pub mod credentials;
pub mod driver;
pub mod flash;
pub mod panel;
pub mod state;
pub mod thermostat;
pub mod transport;

pub use child::Child;
pub use cli::main_with_args;
pub use panel::PanelConfig;
pub use state::{Lamp, Message, Phase, State};
pub use thermostat::{Settings, Thermostat};
