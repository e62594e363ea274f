//! Allowing an app: the page of `/authorize` (RFC 6749 §3.1). Which request is in order, and what a consent makes, is decided
//! by the authorization flow; here an owner reads it in plain words, narrows it, and says yes or no.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderMap, HeaderValue, StatusCode};
use oauth_wire::{Channel, Direction, View};
use service::secret;
use url::Url;

use super::POLICY;
use super::exactness::{self, About};
use super::failure::Failure;
use super::form::{self, Fields};
use super::session::{self, MAX_NEXT, Owner, Visitor};
use super::views::{
    AskingApp, Consent, Frame, OfferedChannel, OfferedDevice, UntilOption, ViewSelect, render,
};
use super::words::{ENGLISH, Words};
use crate::flows::authorize::{
    self, AuthorizeError, Choice, ChosenDevice, ConsentRequest, OwnedDevice, PageError,
};
use crate::flows::exactness::{Exactness, offers, offers_for_later};
use crate::state::App;

const DAY: i64 = 86_400;

/// What the choice for devices that are added later begins with in the form.
const LATER: &str = "later";

/// One choice of "allowed until".
struct Span {
    /// What the form carries.
    value: &'static str,
    /// What it says.
    title: fn(&Words) -> &'static str,
    /// How long; none is until withdrawn.
    seconds: Option<i64>,
}

const UNTIL: [Span; 5] = [
    Span { value: "withdrawn", title: |w| w.until_withdrawn, seconds: None },
    Span { value: "day", title: |w| w.for_a_day, seconds: Some(DAY) },
    Span { value: "week", title: |w| w.for_a_week, seconds: Some(7 * DAY) },
    Span { value: "month", title: |w| w.for_a_month, seconds: Some(30 * DAY) },
    Span { value: "year", title: |w| w.for_a_year, seconds: Some(365 * DAY) },
];

/// `GET /authorize`.
pub(super) async fn ask(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    // The request has to survive a login, which carries it in a cookie.
    if query.len() + "/authorize?".len() > MAX_NEXT {
        return Err(Failure::MalformedRequest);
    }
    let request = match authorize::check(&app, Fields::parse(query.as_bytes()).pairs()).await {
        Ok(request) => request,
        Err(error) => return refused(error),
    };
    let Some(owner) = visitor else { return Err(Failure::LogIn { next: format!("/authorize?{query}") }) };
    let devices = authorize::devices(&app, &owner.session).await?;
    page(&app, &owner, &request, &query, &Picked::proposal(&request, &devices), devices, None)
}

/// `POST /authorize`: yes or no.
pub(super) async fn decide(
    State(app): State<App>,
    owner: Owner,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    session::check_post(&app, &headers, &owner, &fields)?;
    let query = fields.required("request")?;
    let seal = session::seal(&app, &owner, query);
    if !secret::equal(seal.as_bytes(), fields.required("seal")?.as_bytes()) {
        return Err(Failure::Forged);
    }
    let request = match authorize::check(&app, Fields::parse(query.as_bytes()).pairs()).await {
        Ok(request) => request,
        Err(error) => return refused(error),
    };
    match fields.required("decision")? {
        "decline" => {
            let back = authorize::decline(&app, &request);
            Ok(send_back(&back))
        }
        "allow" => {
            let picked = Picked::read(&request, &fields)?;
            let devices = authorize::devices(&app, &owner.session).await?;
            let choice = picked.choice(&request, &devices, app.clock.now())?;
            if let Some(problem) = problem(&choice, &ENGLISH) {
                return page(&app, &owner, &request, query, &picked, devices, Some(problem));
            }
            match authorize::allow(&app, &owner.session, &request, choice).await {
                Ok(back) => Ok(send_back(&back)),
                Err(error) => refused(error),
            }
        }
        _ => Err(Failure::Malformed),
    }
}

/// Back to the app, by 303.
fn send_back(url: &Url) -> Response {
    Redirect::to(url.as_str()).into_response()
}

/// A request that is not in order: told to the app if its redirect URI is known to be right, otherwise only to the person.
fn refused(error: AuthorizeError) -> Result<Response, Failure> {
    match error {
        AuthorizeError::Page(PageError::UnknownClient) => Err(Failure::UnknownApp),
        AuthorizeError::Page(PageError::RedirectUri) => Err(Failure::WrongRedirect),
        AuthorizeError::Page(PageError::Duplicate) => Err(Failure::MalformedRequest),
        AuthorizeError::Redirect(url) => Ok(send_back(&url)),
        AuthorizeError::Refused(refusal) => Err(refusal.into()),
    }
}

/// What is ticked on the page.
struct Picked {
    read: bool,
    command: bool,
    devices: Vec<String>,
    /// Devices' channels, as [`form::channel`] writes them.
    channels: Vec<String>,
    /// How exactly: such a pair and the id of an offer each. Where nothing is said, it is as the app asks.
    views: Vec<String>,
    future: bool,
    /// The same for devices that are added later: [`LATER`] and the id of an offer.
    later: Vec<String>,
    share_names: bool,
    until: &'static str,
}

impl Picked {
    /// What the page proposes: everything that the app asks for, on the devices of today.
    fn proposal(request: &ConsentRequest, devices: &[OwnedDevice]) -> Self {
        let fitting = || {
            devices
                .iter()
                .map(|device| (device, offered(request, device)))
                .filter(|(_, channels)| !channels.is_empty())
        };
        Picked {
            read: request.wants_read,
            command: request.wants_command,
            devices: fitting().map(|(device, _)| device.id.clone()).collect(),
            channels: fitting()
                .flat_map(|(device, channels)| {
                    channels.into_iter().map(|channel| form::channel(&device.id, channel))
                })
                .collect(),
            views: Vec::new(),
            future: false,
            later: Vec::new(),
            share_names: false,
            until: UNTIL[0].value,
        }
    }

    fn read(request: &ConsentRequest, fields: &Fields) -> Result<Self, Failure> {
        let owned = |name| fields.all(name).map(str::to_owned).collect();
        let until = fields.required("until")?;
        Ok(Picked {
            read: request.wants_read && fields.all("may").any(|what| what == "read"),
            command: request.wants_command && fields.all("may").any(|what| what == "command"),
            devices: owned("device"),
            channels: owned("channel"),
            views: owned("view"),
            later: owned("later"),
            future: fields.one("future")?.is_some(),
            share_names: fields.one("share_names")?.is_some(),
            until: UNTIL.iter().find(|span| span.value == until).ok_or(Failure::Malformed)?.value,
        })
    }

    /// What the ticks come to: of each ticked device the ticked channels that the app asked for and that the ticked kinds of
    /// access are about. A device without any is left out.
    fn choice(&self, request: &ConsentRequest, devices: &[OwnedDevice], now: i64) -> Result<Choice, Failure> {
        let mut chosen = Vec::new();
        for device in devices.iter().filter(|device| self.devices.contains(&device.id)) {
            let mut one = ChosenDevice { id: device.id.clone(), ..ChosenDevice::default() };
            let (mut read, mut command) = (Vec::new(), Vec::new());
            for channel in offered(request, device) {
                if !self.channels.contains(&form::channel(&device.id, channel)) {
                    continue;
                }
                match channel.direction {
                    Direction::Data if self.read => {
                        one.views.insert(channel.name.clone(), self.view(request, device, channel)?);
                        read.push(channel.name.clone());
                    }
                    Direction::Command if self.command => command.push(channel.name.clone()),
                    Direction::Data | Direction::Command => {}
                }
            }
            if !read.is_empty() || !command.is_empty() {
                (one.read, one.command) = (Some(read), Some(command));
                chosen.push(one);
            }
        }
        let seconds = UNTIL.iter().find(|span| span.value == self.until).and_then(|span| span.seconds);
        Ok(Choice {
            devices: chosen,
            read: self.read,
            command: self.command,
            future: self.future,
            future_exactness: self.future_exactness(request)?,
            share_names: self.share_names,
            until: seconds.map(|seconds| now + seconds),
        })
    }

    /// How exactly a channel is to be seen.
    fn view(
        &self,
        request: &ConsentRequest,
        device: &OwnedDevice,
        channel: &Channel,
    ) -> Result<View, Failure> {
        let asked = request.wanted_exactness.of(channel);
        let offers = offers(channel, &asked);
        let picked = exactness::picked(&offers, &self.views, &form::channel(&device.id, channel))?;
        Ok(picked.map_or(asked, |offer| offer.view.clone()))
    }

    /// How exactly devices are to be seen that are added later.
    fn future_exactness(&self, request: &ConsentRequest) -> Result<Exactness, Failure> {
        let offers = offers_for_later(&request.wanted_exactness);
        let picked = exactness::picked(&offers, &self.later, LATER)?;
        let asked = &request.wanted_exactness;
        Ok(picked.map_or_else(|| asked.clone(), |offer| offer.for_later(asked)))
    }
}

/// What has to be ticked beside, in words.
fn problem(choice: &Choice, w: &'static Words) -> Option<&'static str> {
    if !choice.read && !choice.command {
        return Some(w.choose_an_action);
    }
    (choice.devices.is_empty() && !choice.future).then_some(w.choose_something)
}

/// The channels of a device that the app asks for.
fn offered<'d>(request: &ConsentRequest, device: &'d OwnedDevice) -> Vec<&'d Channel> {
    device
        .channels
        .iter()
        .filter(|channel| match channel.direction {
            Direction::Data => request.wants_read,
            Direction::Command => request.wants_command,
        })
        .filter(|channel| {
            request.wanted_channels.as_ref().is_none_or(|wanted| wanted.contains(&channel.name))
        })
        .collect()
}

/// The choice for devices that are added later, if the app asks for readings.
fn later(w: &Words, request: &ConsentRequest, picked: &Picked) -> Result<Option<ViewSelect>, Failure> {
    if !request.wants_read {
        return Ok(None);
    }
    let asked = &request.wanted_exactness;
    let about = About {
        id: "later".to_owned(),
        key: LATER,
        label: w.how_exactly_later.to_owned(),
        unit: None,
        wish: true,
    };
    let now = picked.future_exactness(request)?;
    Ok(Some(exactness::select_later(w, about, asked, &now)))
}

fn page(
    app: &App,
    owner: &Owner,
    request: &ConsentRequest,
    query: &str,
    picked: &Picked,
    devices: Vec<OwnedDevice>,
    problem: Option<&'static str>,
) -> Result<Response, Failure> {
    let w = &ENGLISH;
    let mut shown = Vec::new();
    for (at, device) in devices.iter().enumerate() {
        let channels = offered(request, device);
        if channels.is_empty() {
            continue;
        }
        let mut selects = Vec::new();
        for channel in channels.iter().filter(|channel| channel.direction == Direction::Data) {
            let about = About {
                id: format!("view-{at}-{}", selects.len()),
                key: &form::channel(&device.id, channel),
                label: w.channel(channel),
                unit: channel.unit.as_deref(),
                wish: true,
            };
            let offers = offers(channel, &request.wanted_exactness.of(channel));
            selects.push(exactness::select(w, about, &offers, &picked.view(request, device, channel)?));
        }
        shown.push(OfferedDevice {
            id: device.id.clone(),
            title: device.name.clone().unwrap_or_else(|| device.model.clone()),
            model: device.model.clone(),
            chosen: picked.devices.contains(&device.id),
            summary: channels.iter().map(|channel| w.channel(channel)).collect::<Vec<_>>().join(", "),
            channels: channels
                .into_iter()
                .map(|channel| OfferedChannel {
                    value: form::channel(&device.id, channel),
                    title: w.channel(channel),
                    is_command: channel.direction == Direction::Command,
                    chosen: picked.channels.contains(&form::channel(&device.id, channel)),
                })
                .collect(),
            selects,
        });
    }
    let view = Consent {
        w,
        frame: Frame::of(owner),
        csrf: &owner.csrf,
        request: query,
        seal: session::seal(app, owner, query),
        app: AskingApp {
            name: &request.app_name,
            initial: request
                .app_name
                .chars()
                .next()
                .map(|c| c.to_uppercase().to_string())
                .unwrap_or_default(),
            host: if request.app_host.is_empty() { request.redirect_uri.scheme() } else { &request.app_host },
            verified: request.verified,
        },
        problem,
        wants_read: request.wants_read,
        wants_command: request.wants_command,
        read: picked.read,
        command: picked.command,
        devices: shown,
        future: picked.future,
        later: later(w, request, picked)?,
        until: UNTIL
            .iter()
            .map(|span| UntilOption {
                value: span.value,
                title: (span.title)(w),
                chosen: span.value == picked.until,
            })
            .collect(),
        share_names: picked.share_names,
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let mut response = render(status, &view)?;
    // Chromium holds the redirect that answers this form against `form-action` too.
    if let Ok(policy) = HeaderValue::try_from(format!("{POLICY} {}", form_target(&request.redirect_uri))) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// The source expression (CSP 3 §2.3.1) of a redirect URI: its origin, or its scheme if that has no origin.
fn form_target(url: &Url) -> String {
    match url.origin() {
        url::Origin::Tuple(..) => url.origin().ascii_serialization(),
        url::Origin::Opaque(_) => format!("{}:", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_becomes_a_source_expression_that_cannot_carry_more() {
        for (uri, source) in [
            ("https://app.example/callback?x=1;script-src%20*", "https://app.example"),
            ("http://127.0.0.1:3000/cb", "http://127.0.0.1:3000"),
            ("com.example.app:/callback", "com.example.app:"),
        ] {
            assert_eq!(form_target(&uri.parse().unwrap()), source);
        }
    }
}
