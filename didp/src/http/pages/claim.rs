//! Claiming a device: log in, press its button, type what it shows, see what it is, say yes or no, and watch it finish.
//! Who may take which device, and when, is the claim flow's decision.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;

use super::failure::Failure;
use super::form;
use super::language::Reader;
use super::login;
use super::segment::Segment;
use super::session::{Owner, Posted, Visitor};
use super::views::{Abilities, ClaimCode, ClaimDecide, ClaimOver, ClaimWaiting, Frame, Undo, render};
use crate::flows::Refusal;
use crate::flows::claim::{self, Attempt, ClaimState};
use crate::state::App;

/// `GET /r/{code}`: where the printed code leads. Asks nothing of the device and tells nothing about it: unknown, owned and
/// unpressed codes all give this page.
pub(super) async fn open(
    State(app): State<App>,
    Segment(code): Segment,
    reader: Reader,
    Visitor(visitor): Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let action = page(&code)?;
    let Some(owner) = visitor else { return login::choice(&app, &reader, &action, StatusCode::OK, None) };
    let w = reader.w;
    let problem = match query.as_deref() {
        Some("no-match") => Some(w.no_match),
        Some("contested") => Some(w.contested),
        _ => None,
    };
    let page = ClaimCode { w, frame: Frame::of(&reader, &owner), csrf: &owner.csrf, action, problem };
    render(StatusCode::OK, &page)
}

/// `POST /r/{code}`: the digits that the device shows, or nothing for a device that shows none.
pub(super) async fn confirm(
    State(app): State<App>,
    Segment(code): Segment,
    Posted { who: owner, fields }: Posted<Owner>,
) -> Result<Response, Failure> {
    let page = page(&code)?;
    let typed: String = fields.one("user_code")?.unwrap_or_default().split_whitespace().collect();
    let there = match claim::confirm(&app, &owner.session, &code, &typed).await? {
        Attempt::Matched { ticket } => format!("/claim/{ticket}"),
        Attempt::NoMatch => format!("{page}?no-match"),
        Attempt::Contested => format!("{page}?contested"),
    };
    Ok(Redirect::to(&there).into_response())
}

/// The page of a printed code. What could not be one is answered like any unknown one, but never echoed.
fn page(code: &str) -> Result<String, Failure> {
    let plain = code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain && (1..=64).contains(&code.len()) { Ok(format!("/r/{code}")) } else { Err(Failure::NotFound) }
}

/// `GET /claim/{ticket}`: the device in plain words, the waiting page, or how it ended.
pub(super) async fn show(
    State(app): State<App>,
    Segment(ticket): Segment,
    reader: Reader,
    owner: Owner,
) -> Result<Response, Failure> {
    let w = reader.w;
    let frame = Frame::of(&reader, &owner);
    let over = |status, heading: &str, text, done: Option<&str>| {
        let undo =
            done.map(|device| Undo { csrf: &owner.csrf, action: format!("/account/devices/{device}/undo") });
        let frame = Frame::of(&reader, &owner);
        render(status, &ClaimOver { w, frame, heading, text, good: done.is_some(), undo })
    };
    let Some(view) = claim::describe(&app, &owner.session, &ticket).await? else {
        return over(StatusCode::NOT_FOUND, w.over_heading, w.over_text, None);
    };
    match view.state {
        ClaimState::Deciding => {
            let page = ClaimDecide {
                w,
                frame,
                csrf: &owner.csrf,
                action: format!("/claim/{ticket}"),
                model: &view.model,
                abilities: Abilities::of(w, &view.channels),
            };
            render(StatusCode::OK, &page)
        }
        ClaimState::Waiting => {
            let state_url = format!("/claim/{ticket}/state");
            render(StatusCode::OK, &ClaimWaiting { w, frame, model: &view.model, state_url })
        }
        ClaimState::Done { device } => {
            over(StatusCode::OK, &w.done_heading.with(&view.model), w.done_text, Some(&device))
        }
        ClaimState::Gone => over(StatusCode::OK, w.gone_heading, w.gone_text, None),
        ClaimState::Expired => over(StatusCode::OK, w.expired_heading, w.expired_text, None),
        ClaimState::Declined => over(StatusCode::OK, w.declined_heading, w.declined_text, None),
        ClaimState::Contested => over(StatusCode::OK, w.contested_heading, w.contested, None),
    }
}

/// `POST /claim/{ticket}`: claim it, with a name or without, or decline.
pub(super) async fn decide(
    State(app): State<App>,
    Segment(ticket): Segment,
    Posted { who: owner, fields }: Posted<Owner>,
) -> Result<Response, Failure> {
    let decided = match fields.required("decision")? {
        "claim" => {
            let name = form::name(fields.one("name")?.unwrap_or_default())?;
            claim::accept(&app, &owner.session, &ticket, name.as_deref()).await
        }
        "decline" => claim::decline(&app, &owner.session, &ticket).await,
        _ => return Err(Failure::Malformed),
    };
    // A claim that is over refuses any decision; its page says how it ended.
    if let Err(refusal) = decided {
        let Refusal::OAuth(..) = refusal else { return Err(refusal.into()) };
        refusal.log("claim_decision_refused");
    }
    Ok(Redirect::to(&format!("/claim/{}", segment(&ticket))).into_response())
}

/// `GET /claim/{ticket}/state`: answers when the claim is decided, or `waiting` after a while.
pub(super) async fn state(
    State(app): State<App>,
    Segment(ticket): Segment,
    Visitor(visitor): Visitor,
) -> Result<Response, Failure> {
    let Some(owner) = visitor else { return Ok(StatusCode::UNAUTHORIZED.into_response()) };
    let Some(view) = claim::wait(&app, &owner.session, &ticket, &ClaimState::Waiting).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let name = match view.state {
        ClaimState::Deciding => "deciding",
        ClaimState::Waiting => "waiting",
        ClaimState::Done { .. } => "done",
        ClaimState::Gone => "gone",
        ClaimState::Expired => "expired",
        ClaimState::Declined => "declined",
        ClaimState::Contested => "contested",
    };
    Ok(Json(serde_json::json!({ "state": name })).into_response())
}

/// A path segment that cannot be anything else.
fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
