//! Error answers of the API: JSON of RFC 6749 §5.2, one log line, never a value that was sent.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use oauth_wire::{OAuthError, OAuthErrorCode};

use crate::flows::Refusal;

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Problem {
    refusal: Refusal,
    status: Option<StatusCode>,
}

impl Problem {
    /// A problem with the code's own status.
    pub(super) fn of(code: OAuthErrorCode, why: &'static str) -> Self {
        Self { refusal: Refusal::OAuth(code, why), status: None }
    }

    /// A refusal of the token endpoint, where RFC 6749 §5.2 has 400 for all but a few.
    pub(super) fn of_token(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::OAuth(OAuthErrorCode::AccessDenied | OAuthErrorCode::SlowDown, _) => {
                Some(StatusCode::BAD_REQUEST)
            }
            _ => None,
        };
        Self { refusal, status }
    }

    /// A malformed request, with the status that HTTP has for it.
    pub(super) fn malformed(status: StatusCode, why: &'static str) -> Self {
        Self { refusal: Refusal::OAuth(OAuthErrorCode::InvalidRequest, why), status: Some(status) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, status: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.refusal.log("api_refused");
        let answer: OAuthError = self.refusal.answer();
        let status = self.status.or_else(|| StatusCode::from_u16(answer.error.status()).ok());
        let mut response = (status.unwrap_or(StatusCode::BAD_REQUEST), Json(answer)).into_response();
        let headers = response.headers_mut();
        match self.refusal {
            // RFC 6749 §5.2: a 401 names the scheme that the client can use.
            Refusal::OAuth(OAuthErrorCode::InvalidClient, _) => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"oauth\", charset=\"UTF-8\""),
                );
            }
            Refusal::OAuth(OAuthErrorCode::InvalidToken, _) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            }
            Refusal::TooMany(seconds) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Refusal::Busy | Refusal::Store(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1));
            }
            Refusal::OAuth(..) => {}
        }
        response
    }
}

/// Answers a known path with an unknown method.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::malformed(StatusCode::METHOD_NOT_ALLOWED, "this path does not know that method")
}
