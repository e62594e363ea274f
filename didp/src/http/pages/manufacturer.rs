//! The manufacturer's pages: its own login and cookie; counts by model and batch, its devices, withdrawing and replacing them, and
//! sheets of labels. What may be told is decided in [`crate::flows::manufacturer`].

mod entry;
mod labels;

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use zeroize::Zeroizing;

use self::entry::Maker;
use super::MAX_FORM;
use super::failure::Failure;
use super::form::Fields;
use super::language::Reader;
use super::segment::Segment;
use super::session::Posted;
use super::views::{
    Frame, MakerBatch, MakerCell, MakerDevice, MakerDevices, MakerModel, MakerOverview, MakerReplaced,
    Secret, render,
};
use super::words::Words;
use crate::flows::manufacturer::{self, Cell, ModelCounts, Withdrawn};
use crate::state::App;

/// Longest form of labels: a thousand registration answers.
const MAX_LABELS: usize = 4 * 1024 * 1024;

/// The manufacturer's routes.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/manufacturer", get(overview))
        .route("/manufacturer/login", get(entry::ask).post(entry::enter))
        .route("/manufacturer/logout", post(entry::leave))
        .route("/manufacturer/devices", get(devices))
        .route("/manufacturer/batch", get(ask_batch).post(withdraw_batch))
        .route("/manufacturer/devices/{client_id}/withdraw", post(withdraw))
        .route("/manufacturer/devices/{client_id}/restore", post(restore))
        .route("/manufacturer/devices/{client_id}/replace", post(replace))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .merge(
            Router::new()
                .route("/manufacturer/labels", get(labels::ask).post(labels::sheet))
                .layer(DefaultBodyLimit::max(MAX_LABELS)),
        )
}

/// `GET /manufacturer`.
async fn overview(
    State(app): State<App>,
    reader: Reader,
    maker: Maker,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let w = reader.w;
    let done = match query.as_deref() {
        Some("withdrawn") => Some(w.maker_done_withdrawn),
        Some("restored") => Some(w.maker_done_restored),
        _ => None,
    };
    let models = manufacturer::counts(&app, &maker.registrar).await?;
    let page = MakerOverview {
        w,
        frame: frame(&reader.at("/manufacturer"), &maker),
        name: &maker.registrar.name,
        done,
        models: models.into_iter().map(|model| shown(w, model)).collect(),
    };
    render(StatusCode::OK, &page)
}

fn frame(reader: &Reader, maker: &Maker) -> Frame {
    Frame {
        csrf: Some(maker.csrf.clone()),
        home: "/manufacturer",
        log_out: "/manufacturer/logout",
        ..Frame::anonymous(reader)
    }
}

fn shown(w: &Words, counts: ModelCounts) -> MakerModel {
    let model = counts.model;
    let cells = counts.cells.into_iter().map(|cell| cell_shown(w, &model, cell)).collect();
    MakerModel { cells, model }
}

fn cell_shown(w: &Words, model: &str, cell: Cell) -> MakerCell {
    let count = |number: Option<i64>| number.map_or_else(|| w.maker_too_few.to_owned(), |n| n.to_string());
    let query = cell.batch.as_ref().map(|batch| batch_query(model, batch));
    MakerCell {
        name: match &cell.batch {
            None => w.maker_small_batches.to_owned(),
            Some(batch) if batch.is_empty() => w.maker_no_batch.to_owned(),
            Some(batch) => batch.clone(),
        },
        registered: count(cell.registered),
        owned: cell.owned_at_least.map_or_else(|| w.maker_not_told.to_owned(), |n| w.maker_at_least.with(n)),
        state: match cell.withdrawn {
            Withdrawn::Nothing => w.maker_valid,
            Withdrawn::Some => w.maker_partly,
            Withdrawn::All => w.maker_withdrawn,
        },
        devices: query.as_ref().map(|query| format!("/manufacturer/devices?{query}")),
        change: query.map(|query| format!("/manufacturer/batch?{query}")),
    }
}

fn batch_query(model: &str, batch: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("model", model).append_pair("batch", batch).finish()
}

/// `GET /manufacturer/devices?model=…&batch=…`: single devices, registered or withdrawn, and nothing else.
async fn devices(
    State(app): State<App>,
    reader: Reader,
    maker: Maker,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let (model, batch) = (query.required("model")?, query.required("batch")?);
    let after = query.one("after")?.unwrap_or_default();
    let made = manufacturer::made(&app, &maker.registrar, model, batch, after).await?;
    let w = reader.w;
    let page = MakerDevices {
        w,
        frame: frame(&reader, &maker),
        csrf: &maker.csrf,
        model,
        batch: if batch.is_empty() { w.maker_no_batch } else { batch },
        devices: made
            .devices
            .into_iter()
            .map(|device| MakerDevice {
                state: if device.withdrawn { w.maker_withdrawn } else { w.maker_valid },
                withdrawn: device.withdrawn,
                since: w.day(device.created_at),
                client_id: device.client_id,
            })
            .collect(),
        more: made
            .more_after
            .map(|after| format!("/manufacturer/devices?{}&after={after}", batch_query(model, batch))),
    };
    render(StatusCode::OK, &page)
}

/// `GET /manufacturer/batch?model=…&batch=…`: asks whether the whole batch is meant.
async fn ask_batch(reader: Reader, maker: Maker, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let (model, batch) = (query.required("model")?, query.required("batch")?);
    let page = MakerBatch {
        w: reader.w,
        frame: frame(&reader, &maker),
        csrf: &maker.csrf,
        model,
        batch,
        batch_shown: if batch.is_empty() { reader.w.maker_no_batch } else { batch },
    };
    render(StatusCode::OK, &page)
}

/// `POST /manufacturer/batch`.
async fn withdraw_batch(
    State(app): State<App>,
    Posted { who: maker, fields }: Posted<Maker>,
) -> Result<Response, Failure> {
    let (model, batch) = (fields.required("model")?, fields.required("batch")?);
    let withdrawn = match fields.required("decision")? {
        "withdraw" => true,
        "restore" => false,
        _ => return Err(Failure::Malformed),
    };
    let devices = manufacturer::withdraw_batch(&app, &maker.registrar, model, batch, withdrawn).await?;
    if devices == 0 {
        return Err(Failure::NotFound);
    }
    let done = if withdrawn { "withdrawn" } else { "restored" };
    Ok(Redirect::to(&format!("/manufacturer?{done}")).into_response())
}

/// `POST /manufacturer/devices/{client_id}/withdraw`.
async fn withdraw(
    State(app): State<App>,
    Segment(client_id): Segment,
    Posted { who: maker, .. }: Posted<Maker>,
) -> Result<Response, Failure> {
    one(&app, &client_id, &maker, true).await
}

/// `POST /manufacturer/devices/{client_id}/restore`.
async fn restore(
    State(app): State<App>,
    Segment(client_id): Segment,
    Posted { who: maker, .. }: Posted<Maker>,
) -> Result<Response, Failure> {
    one(&app, &client_id, &maker, false).await
}

async fn one(app: &App, client_id: &str, maker: &Maker, withdrawn: bool) -> Result<Response, Failure> {
    let device = manufacturer::one(app, &maker.registrar, client_id).await?.ok_or(Failure::NotFound)?;
    manufacturer::withdraw(app, &maker.registrar, client_id, withdrawn).await?;
    let query = batch_query(&device.model, &device.batch);
    Ok(Redirect::to(&format!("/manufacturer/devices?{query}")).into_response())
}

/// `POST /manufacturer/devices/{client_id}/replace`: tells what the new unit is flashed with, this once.
async fn replace(
    State(app): State<App>,
    Segment(client_id): Segment,
    reader: Reader,
    Posted { who: maker, .. }: Posted<Maker>,
) -> Result<Response, Failure> {
    let new = manufacturer::replace(&app, &maker.registrar, &client_id).await?.ok_or(Failure::NotFound)?;
    let answer = serde_json::to_string_pretty(&new).map_err(|_| Failure::Render)?;
    let page = MakerReplaced {
        w: reader.w,
        frame: frame(&reader.at("/manufacturer"), &maker),
        csrf: &maker.csrf,
        model: &new.metadata.client_name,
        old: &client_id,
        new: &new.client_id,
        answer: Secret(Zeroizing::new(answer)),
    };
    render(StatusCode::CREATED, &page)
}
