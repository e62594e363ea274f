//! Looks for every mark of a played scenario in everything that each party of the deployment has.
//!
//! `story` plays on a `deployment` with the players of `cast`, `people` and `wrong`; `learn` gathers the marks that the deployment drew.
//! `matrix` is the promise, `form` the forms of a mark, `search` and `ledger` find them and add up, `pairs` says what two parties can
//! join, `report` puts it side by side. `look` goes through everything; `memory`, `capture` and `calls` read what is searched, `listen` has it
//! recorded, `collector` is told traces. `plant` is the check of the check.

pub mod calls;
pub mod capture;
pub mod cast;
pub mod collector;
pub mod deployment;
pub mod form;
pub mod learn;
pub mod ledger;
pub mod listen;
pub mod look;
pub mod matrix;
pub mod memory;
pub mod pairs;
pub mod people;
pub mod plant;
pub mod report;
pub mod search;
pub mod shell;
pub mod story;
mod wrong;
