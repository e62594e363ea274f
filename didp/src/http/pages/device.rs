//! Apps without a browser (RFC 8628 §3.3): type the code that the app shows. What it asks for is then shown and decided on the
//! consent page.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;

use super::consent;
use super::failure::Failure;
use super::form::Fields;
use super::language::Reader;
use super::session::{Owner, Posted};
use super::views::{DeviceCode, Frame, render};
use crate::flows::device_authorization;
use crate::http::Peer;
use crate::state::App;

/// `GET /device?user_code=…`: type the code, or see whether it is the one that the app shows.
pub(super) async fn ask(
    reader: Reader,
    owner: Owner,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let typed: String = query.one("user_code")?.unwrap_or_default().chars().take(20).collect();
    page(&reader, &owner, &typed, None)
}

/// `POST /device`: what the app with this code asks for. A wrong code counts, whether it is known or not.
pub(super) async fn enter(
    State(app): State<App>,
    peer: Peer,
    reader: Reader,
    Posted { who: owner, fields }: Posted<Owner>,
) -> Result<Response, Failure> {
    let typed = fields.one("user_code")?.unwrap_or_default();
    match device_authorization::enter(&app, &owner.session, peer.ip(), typed).await? {
        Some(request) => consent::show(&app, &reader, &owner, &request).await,
        None => page(&reader, &owner, "", Some(reader.w.device_no_match)),
    }
}

fn page(
    reader: &Reader,
    owner: &Owner,
    typed: &str,
    problem: Option<&'static str>,
) -> Result<Response, Failure> {
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let reader = reader.at("/device");
    let page =
        DeviceCode { w: reader.w, frame: Frame::of(&reader, owner), csrf: &owner.csrf, typed, problem };
    render(status, &page)
}
