//! OAuth names shared by the services: scopes, authorization details, introspection, events, errors.
//!
//! Only shapes and pure rules live here. Who may see which of them is decided by the DIdP (what it answers)
//! and by IGNITE's `policy` (what it lets pass).

mod details;
mod error;
mod introspection;
mod scope;
mod token;

pub use details::{
    Action, AuthorizationDetail, AuthorizationRequest, Channel, Coarsening, Direction, Filter, Statistic,
    Summary, View, WINDOWS_S,
};
pub use error::{OAuthError, OAuthErrorCode};
pub use introspection::{ActiveToken, Event, EventKind, False, GrantEntry, GrantList, Introspection, True};
pub use scope::{Scope, ScopeToken, UnknownScope};
pub use token::{GatewayAddress, TokenResponse};
