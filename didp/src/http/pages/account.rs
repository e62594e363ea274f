//! The owner's pages: devices, apps, what happened; naming and releasing devices, withdrawing apps.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode};

use oauth_wire::Direction;

use super::exactness::{self, About};
use super::failure::Failure;
use super::form::{self, Fields};
use super::segment::Segment;
use super::session::{self, Owner};
use super::views::{
    Abilities, Account, Alarm, AppDevice, Frame, Notice, OwnApp, OwnDevice, Release, SeenChannel,
    ToldChannel, render,
};
use super::words::{ENGLISH, Words, stamp};
use crate::flows::account::{
    self, AppDeviceView, AppView, Changed, DeviceView, KeptDevice, Narrowing, NoticeKind, NoticeView,
};
use crate::flows::exactness::{offers, offers_for_later};
use crate::state::App;

/// A theft alarm stands on top of the page for so long, in seconds.
const ALARM: i64 = 30 * 86_400;

/// What the choice for devices that are added later begins with in a form.
const LATER: &str = "later";

/// `GET /`.
pub(super) async fn home() -> Redirect {
    Redirect::to("/account")
}

/// `GET /account`.
pub(super) async fn overview(
    State(app): State<App>,
    owner: Owner,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let w = &ENGLISH;
    let done = match query.as_deref() {
        Some("released") => Some(w.done_released),
        Some("withdrawn") => Some(w.done_withdrawn),
        Some("renamed") => Some(w.done_renamed),
        Some("changed") => Some(w.done_changed),
        _ => None,
    };
    page(&app, &owner, StatusCode::OK, done, None).await
}

async fn page(
    app: &App,
    owner: &Owner,
    status: StatusCode,
    done: Option<&str>,
    problem: Option<&str>,
) -> Result<Response, Failure> {
    let w = &ENGLISH;
    let view = account::overview(app, &owner.session).await?;
    let since = app.clock.now() - ALARM;
    let alarms = standing_alarm(&view.notices, since)
        .map(|notice| Alarm {
            title: w.alarm_title,
            text: w.alarm_text.with(&notice.subject),
            stamp: stamp(notice.at),
            when: w.moment(notice.at),
        })
        .into_iter()
        .collect();
    let page = Account {
        w,
        frame: Frame::of(owner),
        csrf: &owner.csrf,
        done,
        problem,
        alarms,
        devices: view.devices.into_iter().map(|device| own_device(w, device)).collect(),
        apps: view.apps.into_iter().enumerate().map(|(at, app)| own_app(w, at, app)).collect(),
        notices: view.notices.iter().take(20).map(|notice| line(w, notice)).collect(),
    };
    render(status, &page)
}

/// The latest theft alarm since then, unless what it concerns was claimed or allowed again after it. Newest notices first.
fn standing_alarm(notices: &[NoticeView], since: i64) -> Option<&NoticeView> {
    let at = notices.iter().position(|notice| notice.kind == NoticeKind::TheftAlarm && notice.at >= since)?;
    let alarm = &notices[at];
    let settled = notices[..at].iter().any(|later| {
        matches!(later.kind, NoticeKind::Claimed | NoticeKind::AppAllowed) && later.subject == alarm.subject
    });
    (!settled).then_some(alarm)
}

fn own_device(w: &Words, device: DeviceView) -> OwnDevice {
    // Whether it is connected here says little: a running device talks to its gateway, not to this site.
    let (state, state_class) = if device.suspended { (w.suspended, "warn") } else { (w.active, "on") };
    OwnDevice {
        title: device.name.clone().unwrap_or_else(|| device.model.clone()),
        name: device.name.unwrap_or_default(),
        abilities: Abilities::of(w, &device.channels),
        id: device.id,
        model: device.model,
        state,
        state_class,
        suspended: device.suspended,
        since: w.day(device.claimed_at),
    }
}

fn own_app(w: &Words, at: usize, app: AppView) -> OwnApp {
    let mut facts = vec![w.fact_since.with(w.day(app.granted_at))];
    facts.push(match app.until {
        Some(until) => w.fact_until.with(w.moment(until)),
        None => w.fact_until_withdrawn.to_owned(),
    });
    if let Some(future) = &app.future {
        facts.push(w.fact_future.with(exactness::of_later(w, future)));
    }
    if app.shares_names {
        facts.push(w.fact_names.to_owned());
    }
    let later = app.future.as_ref().map(|future| {
        let about = About {
            id: format!("later-{at}"),
            key: LATER,
            label: w.how_exactly_later.to_owned(),
            unit: None,
            wish: false,
        };
        exactness::select_later(w, about, future, future)
    });
    let devices = app.devices.into_iter().enumerate().map(|(nth, device)| {
        let id = format!("view-{at}-{nth}");
        app_device(w, &id, device)
    });
    OwnApp {
        devices: devices.collect(),
        id: app.id,
        name: app.app_name,
        host: app.app_host,
        verified: app.verified,
        facts,
        later,
    }
}

/// What an app has of one device; `page_id` is where its selects' ids begin.
fn app_device(w: &Words, page_id: &str, device: AppDeviceView) -> AppDevice {
    let (mut readings, mut commands) = (Vec::new(), Vec::new());
    for channel in &device.channels {
        let (value, title) = (form::channel(&device.id, channel), w.channel(channel));
        if channel.direction == Direction::Command {
            commands.push(ToldChannel { value, title });
            continue;
        }
        let now = device.view_of(&channel.name);
        let about = About {
            id: format!("{page_id}-{}", readings.len()),
            key: &value,
            label: title.clone(),
            unit: channel.unit.as_deref(),
            wish: false,
        };
        readings.push(SeenChannel {
            select: exactness::select(w, about, &offers(channel, &now), &now),
            exactly: exactness::of_channel(w, channel, &now),
            value,
            title,
        });
    }
    AppDevice { id: device.id, title: device.title, readings, commands }
}

fn line(w: &Words, notice: &NoticeView) -> Notice {
    let sentence = match notice.kind {
        NoticeKind::TheftAlarm => w.notice_alarm,
        NoticeKind::Claimed => w.notice_claimed,
        NoticeKind::Released => w.notice_released,
        NoticeKind::AppAllowed => w.notice_allowed,
        NoticeKind::AppWithdrawn => w.notice_withdrawn,
        NoticeKind::AppChanged => w.notice_changed,
        NoticeKind::DeviceSuspended => w.notice_suspended,
    };
    Notice {
        text: sentence.with(&notice.subject),
        alarm: notice.kind == NoticeKind::TheftAlarm,
        stamp: stamp(notice.at),
        when: w.moment(notice.at),
    }
}

/// `GET /account/devices/{id}/release`: asks whether that is meant.
pub(super) async fn ask_release(
    State(app): State<App>,
    Segment(id): Segment,
    owner: Owner,
) -> Result<Response, Failure> {
    let view = account::overview(&app, &owner.session).await?;
    let device = view.devices.into_iter().find(|device| device.id == id).ok_or(Failure::NotFound)?;
    let page = Release {
        w: &ENGLISH,
        frame: Frame::of(&owner),
        csrf: &owner.csrf,
        title: device.name.as_deref().unwrap_or(&device.model),
        action: format!("/account/devices/{}/release", device.id),
    };
    render(StatusCode::OK, &page)
}

/// `POST /account/devices/{id}/release`.
pub(super) async fn release(
    State(app): State<App>,
    Segment(id): Segment,
    owner: Owner,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    session::check_post(&app, &headers, &owner, &fields)?;
    changed(account::release(&app, &owner.session, &id).await?, "released")
}

/// `POST /account/devices/{id}/name`.
pub(super) async fn rename(
    State(app): State<App>,
    Segment(id): Segment,
    owner: Owner,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    session::check_post(&app, &headers, &owner, &fields)?;
    let name = form::name(fields.required("name")?)?;
    changed(account::rename(&app, &owner.session, &id, name.as_deref()).await?, "renamed")
}

/// `POST /account/apps/{id}/withdraw`.
pub(super) async fn withdraw(
    State(app): State<App>,
    Segment(id): Segment,
    owner: Owner,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    session::check_post(&app, &headers, &owner, &fields)?;
    changed(account::withdraw(&app, &owner.session, &id).await?, "withdrawn")
}

/// `POST /account/apps/{id}/change`: what the app keeps, and how exactly it sees it.
pub(super) async fn change_app(
    State(app): State<App>,
    Segment(id): Segment,
    owner: Owner,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    session::check_post(&app, &headers, &owner, &fields)?;
    let view = account::app(&app, &owner.session, &id).await?.ok_or(Failure::NotFound)?;
    let narrowing = narrowing(&view, &fields)?;
    match account::change_app(&app, &owner.session, &id, &narrowing).await? {
        Changed::Done => changed(true, "changed"),
        Changed::Unknown => Err(Failure::NotFound),
        Changed::Nothing => {
            page(&app, &owner, StatusCode::UNPROCESSABLE_ENTITY, None, Some(ENGLISH.nothing_left)).await
        }
    }
}

/// What a form leaves an app that has all this. Only what was offered for a channel is accepted for it.
fn narrowing(app: &AppView, fields: &Fields) -> Result<Narrowing, Failure> {
    let all = |name| -> Vec<String> { fields.all(name).map(str::to_owned).collect() };
    let (shown, ticked, channels, views) = (all("shown"), all("device"), all("channel"), all("view"));
    let mut narrowing = Narrowing::default();
    for device in app.devices.iter().filter(|device| shown.contains(&device.id)) {
        if !ticked.contains(&device.id) {
            narrowing.gone.push(device.id.clone());
            continue;
        }
        let mut kept = KeptDevice { id: device.id.clone(), ..KeptDevice::default() };
        for channel in &device.channels {
            let key = form::channel(&device.id, channel);
            if !channels.contains(&key) {
                continue;
            }
            match channel.direction {
                Direction::Command => kept.command.push(channel.name.clone()),
                Direction::Data => {
                    let now = device.view_of(&channel.name);
                    let offers = offers(channel, &now);
                    let picked = exactness::picked(&offers, &views, &key)?;
                    let view = picked.map_or(now, |offer| offer.view.clone());
                    kept.read.insert(channel.name.clone(), view);
                }
            }
        }
        narrowing.devices.push(kept);
    }
    if let (Some(now), true) = (&app.future, fields.one("future")?.is_some()) {
        let offers = offers_for_later(now);
        let picked = exactness::picked(&offers, &all("later"), LATER)?;
        narrowing.future = Some(picked.map_or_else(|| now.clone(), |offer| offer.for_later(now)));
    }
    Ok(narrowing)
}

/// Back to the overview, which says what was done.
fn changed(done: bool, what: &str) -> Result<Response, Failure> {
    if done { Ok(Redirect::to(&format!("/account?{what}")).into_response()) } else { Err(Failure::NotFound) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_stands_until_its_device_is_claimed_again() {
        let notice = |at, kind, subject: &str| NoticeView { at, kind, subject: subject.to_owned() };
        let alarm = notice(10, NoticeKind::TheftAlarm, "Cellar");
        let found = |newer: &[NoticeView], since| {
            let mut notices = newer.to_vec();
            notices.push(alarm.clone());
            standing_alarm(&notices, since).is_some()
        };
        assert!(found(&[], 0));
        assert!(!found(&[], 11));
        assert!(found(&[notice(11, NoticeKind::Claimed, "Kitchen")], 0));
        assert!(!found(&[notice(11, NoticeKind::Claimed, "Cellar")], 0));
    }
}
