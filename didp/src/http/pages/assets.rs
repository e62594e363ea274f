//! Style sheet, script and icon, built into the program. Pages ask for them with a version that changes with the content, so
//! that browsers may keep them.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::failure::Failure;
use super::segment::Segment;

const STYLE: &str = include_str!("../../../assets/style.css");
const WAITING: &str = include_str!("../../../assets/waiting.js");
const ICON: &str = include_str!("../../../assets/icon.svg");

/// Stands in the query of every asset's address.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = service::secret::sha256([STYLE, WAITING, ICON].concat().as_bytes());
    service::secret::encode(&hash[..6])
});

/// `GET /assets/{file}`.
pub(super) async fn file(Segment(file): Segment) -> Result<Response, Failure> {
    let (kind, text) = match file.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "waiting.js" => ("text/javascript; charset=utf-8", WAITING),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Failure::NotFound),
    };
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], text).into_response())
}
