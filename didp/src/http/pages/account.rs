//! The owner's pages: the overview, the past, everything as a file, and the end. Single devices are in [`super::devices`], single
//! apps in [`super::apps`].

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, SET_COOKIE};
use oauth_wire::Direction;

use super::exactness;
use super::failure::Failure;
use super::form::Fields;
use super::language::Reader;
use super::session::{self, Owner, Posted};
use super::views::{
    Abilities, Account, Activity, Alarm, AppDevice, Delete, Frame, Message, Notice, OwnApp, OwnDevice,
    SeenBy, SeenChannel, render,
};
use super::words::{Words, stamp};
use crate::flows::account::{
    self, AppDeviceView, AppView, DeviceView, NoticeKind, NoticeView, erasure, export, past,
};
use crate::state::App;

/// A theft alarm stands on top of the page for so long, in seconds.
const ALARM: i64 = 30 * 86_400;

/// Entries of the past on the overview.
const RECENT: usize = 8;

/// `GET /`.
pub(super) async fn home() -> Redirect {
    Redirect::to("/account")
}

/// `GET /account`.
pub(super) async fn overview(
    State(app): State<App>,
    reader: Reader,
    owner: Owner,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let w = reader.w;
    let done = match query.as_deref() {
        Some("released") => Some(w.done_released),
        Some("undone") => Some(w.done_undone),
        Some("withdrawn") => Some(w.done_withdrawn),
        Some("renamed") => Some(w.done_renamed),
        Some("changed") => Some(w.done_changed),
        Some("logged-out-elsewhere") => Some(w.done_logged_out_elsewhere),
        _ => None,
    };
    let view = account::overview(&app, &owner.session).await?;
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
        // What was done is not done again in another language.
        frame: Frame::of(&reader.at("/account"), &owner),
        csrf: &owner.csrf,
        done,
        alarms,
        devices: view.devices.iter().map(|device| own_device(w, device, &view.apps)).collect(),
        apps: view.apps.iter().map(|app| own_app(w, app)).collect(),
        notices: view.notices.iter().take(RECENT).map(|notice| line(w, notice)).collect(),
        other_logins: match view.other_logins {
            0 => None,
            1 => Some(w.one_other_login.to_owned()),
            many => Some(w.other_logins.with(many)),
        },
    };
    render(StatusCode::OK, &page)
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

fn own_device(w: &Words, device: &DeviceView, apps: &[AppView]) -> OwnDevice {
    // Whether it is connected here says little: a running device talks to its gateway, not to this site.
    let (state, state_class) = if device.suspended { (w.suspended, "warn") } else { (w.active, "on") };
    let seen_by = apps.iter().filter_map(|app| {
        let held = app.devices.iter().find(|held| held.id == device.id)?;
        let titles: Vec<String> = held.channels.iter().map(|channel| w.channel(channel)).collect();
        Some(SeenBy { id: app.id.clone(), name: app.app_name.clone(), channels: titles.join(", ") })
    });
    OwnDevice {
        title: device.name.clone().unwrap_or_else(|| device.model.clone()),
        name: device.name.clone().unwrap_or_default(),
        abilities: Abilities::of(w, &device.channels),
        id: device.id.clone(),
        model: device.model.clone(),
        state,
        state_class,
        suspended: device.suspended,
        fresh: device.is_fresh,
        since: w.day(device.claimed_at),
        seen_by: seen_by.collect(),
    }
}

fn own_app(w: &Words, app: &AppView) -> OwnApp {
    OwnApp {
        devices: app.devices.iter().map(|device| app_device(w, device)).collect(),
        id: app.id.clone(),
        name: app.app_name.clone(),
        host: app.app_host.clone(),
        verified: app.verified,
        facts: facts(w, app),
    }
}

/// What holds of a consent beside its devices.
pub(super) fn facts(w: &Words, app: &AppView) -> Vec<String> {
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
    facts
}

/// What an app has of one device.
fn app_device(w: &Words, device: &AppDeviceView) -> AppDevice {
    let (mut readings, mut commands) = (Vec::new(), Vec::new());
    for channel in &device.channels {
        let title = w.channel(channel);
        match channel.direction {
            Direction::Command => commands.push(title),
            Direction::Data => {
                let exactly = exactness::of_channel(w, channel, &device.view_of(&channel.name));
                readings.push(SeenChannel { title, exactly });
            }
        }
    }
    AppDevice { title: device.title.clone(), readings, commands }
}

fn line(w: &Words, notice: &NoticeView) -> Notice {
    let subject = &notice.subject;
    let text = match notice.kind {
        NoticeKind::TheftAlarm => w.notice_alarm.with(subject),
        NoticeKind::Claimed => w.notice_claimed.with(subject),
        NoticeKind::ClaimUndone => w.notice_undone.with(subject),
        NoticeKind::Released => w.notice_released.with(subject),
        NoticeKind::HandedOver => w.notice_handed_over.with(subject),
        NoticeKind::AppAllowed => w.notice_allowed.with(subject),
        NoticeKind::AppWithdrawn => w.notice_withdrawn.with(subject),
        NoticeKind::AppChanged => w.notice_changed.with(subject),
        NoticeKind::DeviceSuspended => w.notice_suspended.with(subject),
        NoticeKind::LoggedIn => w.notice_logged_in.with(subject),
        NoticeKind::LoggedOutElsewhere => w.notice_logged_out_elsewhere.to_owned(),
        NoticeKind::Exported => w.notice_exported.to_owned(),
        NoticeKind::LoginAdded => w.notice_login_added.with(subject),
        NoticeKind::LoginRemoved => w.notice_login_removed.with(subject),
    };
    Notice {
        text,
        alarm: notice.kind == NoticeKind::TheftAlarm,
        stamp: stamp(notice.at),
        when: w.moment(notice.at),
    }
}

/// `GET /account/activity`: everything of the last ninety days, a page at a time.
pub(super) async fn activity(
    State(app): State<App>,
    reader: Reader,
    owner: Owner,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let before = query.one("before")?.map(|before| before.parse().map_err(|_| Failure::Malformed));
    let past = past::past(&app, &owner.session, before.transpose()?).await?;
    let w = reader.w;
    let page = Activity {
        w,
        frame: Frame::of(&reader, &owner),
        days: w.activity_lead.with(app.config.lifetimes.notices / 86_400),
        notices: past.notices.iter().map(|notice| line(w, notice)).collect(),
        older: past.older.map(|before| format!("/account/activity?before={before}")),
    };
    render(StatusCode::OK, &page)
}

/// `POST /account/export`: everything that is kept, as a file. A form, so that no other site can have it written to a disk.
pub(super) async fn export(
    State(app): State<App>,
    Posted { who: owner, .. }: Posted<Owner>,
) -> Result<Response, Failure> {
    let export = export::export(&app, &owner.session).await?;
    let text = serde_json::to_string_pretty(&export).map_err(|_| Failure::Render)?;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CONTENT_DISPOSITION, "attachment; filename=\"oauthing-account.json\""),
    ];
    Ok((headers, text).into_response())
}

/// `POST /account/sessions/end`: ends every login but this one.
pub(super) async fn log_out_elsewhere(
    State(app): State<App>,
    Posted { who: owner, .. }: Posted<Owner>,
) -> Result<Response, Failure> {
    account::log_out_elsewhere(&app, &owner.session).await?;
    Ok(Redirect::to("/account?logged-out-elsewhere").into_response())
}

/// `GET /account/delete`: asks whether that is meant.
pub(super) async fn ask_delete(reader: Reader, owner: Owner) -> Result<Response, Failure> {
    delete_page(&reader, &owner, StatusCode::OK, None)
}

fn delete_page(
    reader: &Reader,
    owner: &Owner,
    status: StatusCode,
    problem: Option<&str>,
) -> Result<Response, Failure> {
    let frame = Frame::of(&reader.at("/account/delete"), owner);
    render(status, &Delete { w: reader.w, frame, csrf: &owner.csrf, problem })
}

/// `POST /account/delete`.
pub(super) async fn delete(
    State(app): State<App>,
    reader: Reader,
    Posted { who: owner, fields }: Posted<Owner>,
) -> Result<Response, Failure> {
    let w = reader.w;
    if fields.one("sure")?.is_none() {
        return delete_page(&reader, &owner, StatusCode::UNPROCESSABLE_ENTITY, Some(w.delete_not_sure));
    }
    erasure::erase(&app, &owner.session).await?;
    let page = Message {
        w,
        frame: Frame::anonymous(&reader.at("/login")),
        heading: w.deleted_heading,
        text: w.deleted_text,
        link: None,
    };
    let mut response = render(StatusCode::OK, &page)?;
    response.headers_mut().append(SET_COOKIE, session::no_session_cookie(&app));
    Ok(response)
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
