//! A sample thermostat: the device-client crate in a Linux process, with a panel page.
