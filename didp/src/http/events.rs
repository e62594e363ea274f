//! `GET` and `POST /introspect/events`: what gateways must hear, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
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
use crate::state::{App, Gateway};

/// A comment that often; a gateway takes three times as long a silence for a lost stream.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

struct Feed {
    app: App,
    /// As it proved itself.
    gateway: Arc<Gateway>,
    position: Position,
    ready: VecDeque<Event>,
}

impl Feed {
    /// False once the gateway was removed or disabled, or has another secret: a stream must not outlive what it was opened with.
    fn is_entitled(&self) -> bool {
        let now = self.app.gateway(&self.gateway.client_id);
        now.is_some_and(|now| !now.disabled && now.mark() == self.gateway.mark())
    }
}

/// Streams events from where the gateway stopped. Ends when the store cannot answer, the process stops, or the gateway may not
/// hear them any more.
pub(super) async fn get(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let gateway = caller::gateway(&app, peer.ip(), &headers, None).await?;
    stream(app, gateway, &headers).await
}

/// The same for a gateway that proves itself by an assertion, which needs a body.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let gateway = caller::gateway(&app, peer.ip(), &headers, Some(&form)).await?;
    stream(app, gateway, &headers).await
}

async fn stream(
    app: App,
    gateway: Arc<Gateway>,
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
        let more = tokio::select! {
            more = introspection::next_events(&feed.app, &feed.gateway, &mut feed.position) => more,
            () = feed.app.shutdown.begun() => return None,
        };
        match more {
            Ok(_) if !feed.is_entitled() => return None,
            Ok(events) => feed.ready.extend(events),
            Err(refusal) => {
                refusal.log("event_stream_ended");
                return None;
            }
        }
    }
}
