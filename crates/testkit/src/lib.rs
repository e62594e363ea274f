//! Starts a whole OAuthing stack on free ports, for tests and the demo.
//!
//! A test reads as a story: a [`Stack`](stack::Stack) runs, an [`Owner`](owner::Owner) claims a [`Device`](device::Device)
//! through the DIdP's real pages and allows an [`App`](app::App) something, and both talk to the gateway with an
//! [MQTT client](mqtt::Client). [`setup`] gives every part of a deployment its secrets, [`openid`] is a provider to log in with.

pub mod app;
pub mod browser;
pub mod config;
pub mod device;
pub mod html;
pub mod mqtt;
pub mod openid;
pub mod owner;
pub mod setup;
pub mod stack;
