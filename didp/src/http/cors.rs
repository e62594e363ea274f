//! Which pages may read an answer (checklist 15): those of the app itself, at the endpoints that it calls from a browser. The
//! authorization endpoint is none of them.

use axum::response::Response;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN, VARY};
use http::{HeaderMap, HeaderValue};
use url::Url;

use crate::flows::registration::redirect_uris;
use crate::store::clients::Client;

/// The answer, readable by pages from the origins of the client's redirect URIs.
pub(super) fn readable_by_pages_of(client: &Client, headers: &HeaderMap, mut response: Response) -> Response {
    response.headers_mut().insert(VARY, HeaderValue::from_name(ORIGIN));
    if let Some(origin) = headers.get(ORIGIN).filter(|origin| is_registered(client, origin)) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response
}

fn is_registered(client: &Client, origin: &HeaderValue) -> bool {
    redirect_uris(client)
        .iter()
        .filter_map(|uri| Url::parse(uri).ok())
        .any(|uri| uri.origin().ascii_serialization().as_bytes() == origin.as_bytes())
}
