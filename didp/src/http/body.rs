//! Reading request bodies: forms (RFC 6749 appendix B) and JSON, with the standard's errors for what is malformed.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use oauth_wire::{FormError, OAuthErrorCode};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::state::App;

/// The parameters of a form body.
pub(super) struct Form(oauth_wire::Form);

impl Form {
    /// The parameter of this name; an empty one counts as absent (RFC 6749 §3.2).
    ///
    /// # Errors
    /// `invalid_request` if it stands there twice.
    pub(super) fn optional(&self, name: &str) -> Result<Option<&str>, Problem> {
        Ok(self.0.optional(name)?)
    }

    /// The parameter of this name.
    ///
    /// # Errors
    /// `invalid_request` if it is missing or stands there twice.
    pub(super) fn required(&self, name: &str, missing: &'static str) -> Result<&str, Problem> {
        self.optional(name)?.ok_or(Problem::of(OAuthErrorCode::InvalidRequest, missing))
    }

    /// All parameters.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        self.0.pairs()
    }
}

impl From<FormError> for Problem {
    fn from(error: FormError) -> Self {
        let why = match error {
            FormError::NotText => "the body is not a form",
            FormError::Twice => "a parameter stands twice",
        };
        Self::of(OAuthErrorCode::InvalidRequest, why)
    }
}

impl FromRequest<App> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if request.uri().query().is_some() {
            return Err(Problem::of(
                OAuthErrorCode::InvalidRequest,
                "parameters belong into the body, not into the URL",
            ));
        }
        if !is_type(request.headers(), "application/x-www-form-urlencoded") {
            // RFC 6749 §5.2: malformed requests are 400.
            return Err(Problem::of(
                OAuthErrorCode::InvalidRequest,
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let bytes = read(request, app).await?;
        Ok(Self(oauth_wire::Form::parse(&bytes)?))
    }
}

/// A JSON body that is not parsed yet, so that each route can name its own error code.
pub(super) struct JsonBytes(Bytes);

impl JsonBytes {
    /// The parsed body.
    ///
    /// # Errors
    /// `invalid_client_metadata` (RFC 7591 §3.2.2): registration is the only API that takes JSON.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|_| {
            Problem::of(
                OAuthErrorCode::InvalidClientMetadata,
                "not JSON of known members; unknown ones are refused",
            )
        })
    }
}

impl FromRequest<App> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if !is_type(request.headers(), "application/json") {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::malformed(status, "the body must be application/json"));
        }
        read(request, app).await.map(Self)
    }
}

async fn read(request: Request, app: &App) -> Result<Bytes, Problem> {
    Bytes::from_request(request, app).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::malformed(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long")
        }
        _ => Problem::of(OAuthErrorCode::InvalidRequest, "the body cannot be read"),
    })
}

fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case(expected))
}
