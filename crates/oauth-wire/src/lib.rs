//! OAuth names shared by the services: scopes, authorization details, registration, requests, introspection, events, errors.
//!
//! Only shapes and pure rules live here. Who may see which of them is decided by the DIdP (what it answers)
//! and by IGNITE's `policy` (what it lets pass).

mod details;
mod error;
mod form;
mod introspection;
mod registration;
mod request;
mod scope;
mod token;

pub use details::{
    Action, AuthorizationDetail, AuthorizationRequest, Channel, Coarsening, Direction, Filter, Statistic,
    Summary, View, WINDOWS_S,
};
pub use error::{OAuthError, OAuthErrorCode};
pub use form::{Form, FormError, basic, scheme};
pub use introspection::{ActiveToken, Event, EventKind, False, GrantEntry, GrantList, Introspection, True};
pub use registration::{Confirm, DEVICE_CODE, DeviceMetadata, Fault, Metadata, is_local};
pub use request::{DeviceRequest, RequestTopic};
pub use scope::{Scope, ScopeToken, UnknownScope};
pub use token::{GatewayAddress, TokenResponse};
