//! The life of a device: claim, token, connect, publish; no_std and without I/O.
#![no_std]
