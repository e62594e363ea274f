//! `GET` and `POST /introspect/events`: what gateways must hear, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::Stream;
use http::HeaderMap;
use oauth_wire::{Event, OAuthErrorCode};

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller};
use crate::flows::introspection::{self, Position};
use crate::state::App;

/// A comment that often; a gateway takes three times as long a silence for a lost stream.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

struct Feed {
    app: App,
    gateway: String,
    position: Position,
    ready: VecDeque<Event>,
}

/// Streams events from where the gateway stopped. Ends when the store cannot answer or the process stops.
pub(super) async fn get(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let gateway = caller::gateway(&app, peer.ip(), &headers, None).await?.client_id.clone();
    stream(app, gateway, &headers).await
}

/// The same for a gateway that proves itself by an assertion, which needs a body.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let gateway = caller::gateway(&app, peer.ip(), &headers, Some(&form)).await?.client_id.clone();
    stream(app, gateway, &headers).await
}

async fn stream(
    app: App,
    gateway: String,
    headers: &HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<>>, Problem> {
    let resume = match headers.get("last-event-id") {
        None => None,
        Some(value) => {
            let seq = value.to_str().ok().and_then(|text| text.parse().ok());
            Some(seq.ok_or(Problem::of(OAuthErrorCode::InvalidRequest, "Last-Event-ID is not a number"))?)
        }
    };
    let (position, first) = introspection::begin_stream(&app, resume).await?;
    let feed = Feed { app, gateway, position, ready: first.into_iter().collect() };
    Ok(Sse::new(futures_util::stream::unfold(feed, next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn next(mut feed: Feed) -> Option<(Result<sse::Event, Infallible>, Feed)> {
    loop {
        if let Some(event) = feed.ready.pop_front() {
            let message = sse::Event::default().id(event.seq.to_string()).json_data(&event).ok()?;
            return Some((Ok(message), feed));
        }
        let gateway = feed.app.gateway(&feed.gateway)?;
        let more = tokio::select! {
            more = introspection::next_events(&feed.app, &gateway, &mut feed.position) => more,
            () = feed.app.shutdown.begun() => return None,
        };
        match more {
            Ok(events) => feed.ready.extend(events),
            Err(refusal) => {
                refusal.log("event_stream_ended");
                return None;
            }
        }
    }
}
