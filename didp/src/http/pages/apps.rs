//! One app that the owner allowed: what it may, narrowing and extending it, withdrawing it.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::account::facts;
use super::consent::initial;
use super::devices::changed;
use super::failure::Failure;
use super::language::Reader;
use super::segment::Segment;
use super::session::{Owner, Posted};
use super::terms::{self, Ground, Picked};
use super::views::{AppPage, AskingApp, Frame, render};
use crate::flows::account::{AppView, Changed, apps};
use crate::flows::authorize;
use crate::state::App;

/// `GET /account/apps/{id}`.
pub(super) async fn show(
    State(app): State<App>,
    Segment(id): Segment,
    reader: Reader,
    owner: Owner,
) -> Result<Response, Failure> {
    let view = apps::app(&app, &owner.session, &id).await?.ok_or(Failure::NotFound)?;
    let devices = authorize::devices(&app, &owner.session).await?;
    let ground = Ground { asked: &view.asked, devices: &devices, now: Some(&view) };
    page(&reader, &owner, &view, &ground, &Picked::proposal(&ground), None)
}

/// `POST /account/apps/{id}/change`: the new terms.
pub(super) async fn change(
    State(app): State<App>,
    Segment(id): Segment,
    reader: Reader,
    Posted { who: owner, fields }: Posted<Owner>,
) -> Result<Response, Failure> {
    let view = apps::app(&app, &owner.session, &id).await?.ok_or(Failure::NotFound)?;
    let devices = authorize::devices(&app, &owner.session).await?;
    let ground = Ground { asked: &view.asked, devices: &devices, now: Some(&view) };
    let picked = Picked::read(&ground, &fields)?;
    let choice = picked.choice(&ground, app.clock.now())?;
    let again = |problem| page(&reader, &owner, &view, &ground, &picked, Some(problem));
    if let Some(problem) = terms::problem(&choice, reader.w) {
        return again(problem);
    }
    let shown: Vec<String> = fields.all("shown").map(str::to_owned).collect();
    match apps::change(&app, &owner.session, &id, &shown, &choice).await? {
        Changed::Done => changed(true, "changed"),
        Changed::Unknown => Err(Failure::NotFound),
        Changed::Nothing => again(reader.w.nothing_left),
    }
}

/// `POST /account/apps/{id}/withdraw`.
pub(super) async fn withdraw(
    State(app): State<App>,
    Segment(id): Segment,
    Posted { who: owner, .. }: Posted<Owner>,
) -> Result<Response, Failure> {
    changed(apps::withdraw(&app, &owner.session, &id).await?, "withdrawn")
}

fn page(
    reader: &Reader,
    owner: &Owner,
    view: &AppView,
    ground: &Ground<'_>,
    picked: &Picked,
    problem: Option<&'static str>,
) -> Result<Response, Failure> {
    let w = reader.w;
    let page = AppPage {
        w,
        frame: Frame::of(&reader.at(format!("/account/apps/{}", view.id)), owner),
        csrf: &owner.csrf,
        id: &view.id,
        app: AskingApp {
            name: &view.app_name,
            initial: initial(&view.app_name),
            host: &view.app_host,
            verified: view.verified,
        },
        facts: facts(w, view),
        problem,
        terms: picked.shown(w, ground)?,
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    render(status, &page)
}
