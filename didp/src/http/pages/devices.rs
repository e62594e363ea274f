//! One device of the owner: naming it, giving it up, handing it over, and taking back a claim of the wrong one.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;

use super::failure::Failure;
use super::form;
use super::language::Reader;
use super::qr::Qr;
use super::segment::Segment;
use super::session::{Owner, Posted};
use super::views::{AskTransfer, Frame, Handover, Release, render};
use crate::flows::account::{self, DeviceView};
use crate::flows::transfer;
use crate::state::App;

async fn found(app: &App, owner: &Owner, id: &str) -> Result<DeviceView, Failure> {
    let view = account::overview(app, &owner.session).await?;
    view.devices.into_iter().find(|device| device.id == id).ok_or(Failure::NotFound)
}

/// `GET /account/devices/{id}/release`: asks whether that is meant.
pub(super) async fn ask_release(
    State(app): State<App>,
    Segment(id): Segment,
    reader: Reader,
    owner: Owner,
) -> Result<Response, Failure> {
    let device = found(&app, &owner, &id).await?;
    let page = Release {
        w: reader.w,
        frame: Frame::of(&reader, &owner),
        csrf: &owner.csrf,
        title: device.name.as_deref().unwrap_or(&device.model),
        action: format!("/account/devices/{}/release", device.id),
        transfer: format!("/account/devices/{}/transfer", device.id),
    };
    render(StatusCode::OK, &page)
}

/// `POST /account/devices/{id}/release`.
pub(super) async fn release(
    State(app): State<App>,
    Segment(id): Segment,
    Posted { who: owner, .. }: Posted<Owner>,
) -> Result<Response, Failure> {
    changed(account::release(&app, &owner.session, &id).await?, "released")
}

/// `POST /account/devices/{id}/undo`.
pub(super) async fn undo(
    State(app): State<App>,
    Segment(id): Segment,
    Posted { who: owner, .. }: Posted<Owner>,
) -> Result<Response, Failure> {
    changed(account::undo_claim(&app, &owner.session, &id).await?, "undone")
}

/// `GET /account/devices/{id}/transfer`: asks whether that is meant.
pub(super) async fn ask_transfer(
    State(app): State<App>,
    Segment(id): Segment,
    reader: Reader,
    owner: Owner,
) -> Result<Response, Failure> {
    let device = found(&app, &owner, &id).await?;
    let page = AskTransfer {
        w: reader.w,
        frame: Frame::of(&reader, &owner),
        csrf: &owner.csrf,
        title: device.name.as_deref().unwrap_or(&device.model),
        action: format!("/account/devices/{}/transfer", device.id),
    };
    render(StatusCode::OK, &page)
}

/// `POST /account/devices/{id}/transfer`: releases it, and shows the code for who gets it, this once.
pub(super) async fn transfer(
    State(app): State<App>,
    Segment(id): Segment,
    reader: Reader,
    Posted { who: owner, .. }: Posted<Owner>,
) -> Result<Response, Failure> {
    let handover = transfer::begin(&app, &owner.session, &id).await?.ok_or(Failure::NotFound)?;
    let page = Handover {
        w: reader.w,
        frame: Frame::of(&reader.at("/account"), &owner),
        title: &handover.title,
        qr: Qr::of(&handover.address).ok_or(Failure::Render)?,
        address: &handover.address,
        until: reader.w.day(handover.until),
    };
    render(StatusCode::OK, &page)
}

/// `POST /account/devices/{id}/name`.
pub(super) async fn rename(
    State(app): State<App>,
    Segment(id): Segment,
    Posted { who: owner, fields }: Posted<Owner>,
) -> Result<Response, Failure> {
    let name = form::name(fields.required("name")?)?;
    changed(account::rename(&app, &owner.session, &id, name.as_deref()).await?, "renamed")
}

/// Back to the overview, which says what was done.
pub(super) fn changed(done: bool, what: &str) -> Result<Response, Failure> {
    if done { Ok(Redirect::to(&format!("/account?{what}")).into_response()) } else { Err(Failure::NotFound) }
}
