//! Service tests of the DIdP: real listeners on free ports, requests as clients send them. Owners act through the flows that
//! the pages call; the pages themselves are tested beside them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod abuse;
mod apps;
mod assertions;
mod checklist;
mod claims;
mod device_grant;
mod gateways;
mod harness;
mod lines;
mod mqtt;
mod openapi;
mod outage;
mod owners;
mod postgres;
mod program;
mod pushed;
mod registration;
mod replicas;
mod rotation;
mod schedules;
mod tokens;
mod transport;
mod upgrade;
mod views;
