//! What the DIdP does, apart from the doorways (HTTP, MQTT) through which it is asked.
//!
//! Each flow decides with the clock and the store that [`crate::state::App`] carries, changes everything that belongs
//! together in one transaction, and tells gateways, devices and waiting pages only after the commit.

pub mod account;
pub mod authorize;
pub(crate) mod change;
pub mod claim;
pub mod clients;
pub(crate) mod details;
pub mod device_authorization;
pub mod exactness;
pub mod introspection;
pub mod login;
pub mod manufacturer;
pub mod operator;
pub mod ownership;
pub mod pushed;
pub mod registration;
pub mod token;
pub mod transfer;

use oauth_wire::{OAuthError, OAuthErrorCode};

/// Why a flow did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request is at fault; the code and the sentence go to whoever asked.
    #[error("{code}: {1}", code = .0.as_str())]
    OAuth(OAuthErrorCode, &'static str),
    /// Too many failures from this client or address; try again after so many seconds.
    #[error("too many attempts")]
    TooMany(u32),
    /// The queue for hashing is full.
    #[error("busy")]
    Busy,
    /// The database cannot answer.
    #[error("store: {0}")]
    Store(#[from] sqlx::Error),
}

impl Refusal {
    /// The answer for whoever asked; the database's own words stay here.
    pub fn answer(&self) -> OAuthError {
        match self {
            Self::OAuth(code, why) => OAuthError::new(*code, *why),
            Self::TooMany(_) => OAuthError::new(OAuthErrorCode::SlowDown, "too many attempts"),
            Self::Busy => OAuthError::new(OAuthErrorCode::SlowDown, "too many requests at once"),
            Self::Store(_) => {
                OAuthError::new(OAuthErrorCode::TemporarilyUnavailable, "the store cannot answer")
            }
        }
    }

    /// One log line, at the level that the cause deserves. Never holds a value that was sent.
    pub fn log(&self, event: &'static str) {
        match self {
            Self::OAuth(code, why) => tracing::info!(event, error = code.as_str(), why),
            Self::TooMany(_) => tracing::warn!(event, error = "slow_down"),
            Self::Busy => tracing::warn!(event, error = "busy"),
            Self::Store(error) => tracing::error!(event, %error),
        }
    }
}

/// Shorthand of the flows.
pub(crate) fn refuse<T>(code: OAuthErrorCode, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal::OAuth(code, why))
}
