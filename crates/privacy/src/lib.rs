//! Looks for every mark of a played scenario in everything that each party of the deployment has.
//!
//! `matrix` is the promise, `form` the forms of a mark, `search` and `ledger` find them and add up, `pairs` says what two parties can
//! join. `memory`, `capture` and `calls` read what is searched; `listen` has it recorded.

pub mod calls;
pub mod capture;
pub mod form;
pub mod ledger;
pub mod listen;
pub mod matrix;
pub mod memory;
pub mod pairs;
pub mod search;
pub mod shell;
