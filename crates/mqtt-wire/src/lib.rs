//! MQTT 3.1, 3.1.1 and 5 packets: no_std, zero-copy, no panic on any input.
#![no_std]
