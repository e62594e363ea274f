//! Starts a whole OAuthing stack on free ports, for tests and the demo.
//!
//! A test reads as a story: a [`setup`] gives every part its secrets.

pub mod app;
pub mod browser;
pub mod html;
pub mod mqtt;
pub mod openid;
pub mod owner;
pub mod setup;
