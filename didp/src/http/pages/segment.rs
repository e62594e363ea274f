//! The variable part of a page's address. One that is no text (RFC 3986 §2.1: bytes that are not UTF-8) leads nowhere.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::failure::Failure;

/// The segment, decoded.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(Failure::NotFound),
        }
    }
}
