//! The device identity provider: an OAuth2 authorization server and identity broker for devices.

pub mod upstream;
