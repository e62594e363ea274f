//! An emulated board: QEMU's `kc705-nommu` with an LX106, seen from the firmware.
//!
//! [`machine`] is the processor (clock, sleep, memory), [`console`] the serial line, [`flash`] a file that behaves like NOR flash,
//! [`card`] the network card, [`net`] TCP over it, [`emulated`] all of it as a [`device_link::Board`].

#![no_std]

pub mod card;
pub mod console;
pub mod emulated;
pub mod flash;
pub mod machine;
pub mod net;
pub mod product;
