//! Every template with typical content.

use askama::Template as _;
use oauth_wire::{Channel, Direction};

use crate::flows::exactness::{Exactness, offers};
use crate::http::pages::exactness::{self, About};
use crate::http::pages::language::{ALL, Reader};
use crate::http::pages::qr::Qr;
use crate::http::pages::views::*;
use crate::http::pages::words::Words;

fn channel(name: &str, direction: Direction, title: &str, unit: Option<&str>) -> Channel {
    Channel {
        name: name.into(),
        direction,
        title: Some(title.into()),
        unit: unit.map(Into::into),
        value_type: Some(if direction == Direction::Data { "number" } else { "boolean" }.into()),
    }
}

fn thermostat() -> Vec<Channel> {
    vec![
        channel("temperature", Direction::Data, "Temperature", Some("°C")),
        channel("humidity", Direction::Data, "Humidity", Some("%")),
        channel("heater", Direction::Command, "Heater", None),
    ]
}

/// A weather station: too many readings to ask for each on one page.
fn station() -> Vec<Channel> {
    let mut channels = thermostat();
    channels.extend([
        channel("pressure", Direction::Data, "Pressure", Some("hPa")),
        channel("light", Direction::Data, "Light", Some("lx")),
    ]);
    channels
}

fn select(w: &Words, id: String, key: &str, channel: &Channel, now: &str) -> ViewSelect {
    let now = serde_json::from_str(now).unwrap();
    let unit = channel.unit.as_deref();
    let about = About { id, key, label: w.channel(channel), unit, wish: true };
    exactness::select(w, about, &offers(channel, &now), &now)
}

fn later(w: &Words, id: &str) -> ViewSelect {
    let about =
        About { id: id.into(), key: "later", label: w.how_exactly_later.into(), unit: None, wish: true };
    exactness::select_later(w, about, &Exactness::default(), &Exactness::default())
}

const ASKED: &str = r#"{"kind":"filter","above":30,"dead_band":0.5}"#;
const QUARTER: &str = r#"{"kind":"summary","window_s":900}"#;

fn reader(w: &'static Words) -> Reader {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::ACCEPT_LANGUAGE, w.lang.parse().unwrap());
    Reader::of(&headers, &http::Method::GET, &"/account".parse().unwrap())
}

fn anonymous(w: &'static Words) -> Frame {
    Frame::anonymous(&reader(w))
}

fn signed_in(w: &'static Words) -> Frame {
    Frame { csrf: Some("token".into()), ..anonymous(w) }
}

pub(super) fn offered(w: &Words, id: &str, title: &str, chosen: bool) -> OfferedDevice {
    offered_with(w, id, title, chosen, &thermostat())
}

fn offered_with(w: &Words, id: &str, title: &str, chosen: bool, channels: &[Channel]) -> OfferedDevice {
    let readings = channels.iter().filter(|channel| channel.direction == Direction::Data);
    OfferedDevice {
        id: id.into(),
        title: title.into(),
        model: "Thermostat T1".into(),
        chosen,
        summary: "Temperature (°C), Humidity (%), Heater".into(),
        selects: readings
            .enumerate()
            .map(|(nth, channel)| {
                let view = if nth == 0 { ASKED } else { QUARTER };
                select(w, format!("view-{id}-{nth}"), &format!("{id} d/{}", channel.name), channel, view)
            })
            .collect(),
        channels: channels
            .iter()
            .map(|channel| OfferedChannel {
                value: format!("{id} d/{}", channel.name),
                title: w.channel(channel),
                is_command: channel.direction == Direction::Command,
                chosen: true,
            })
            .collect(),
    }
}

fn terms(w: &Words, devices: Vec<OfferedDevice>) -> Terms {
    Terms {
        wants_read: true,
        wants_command: true,
        read: true,
        command: true,
        devices,
        future: true,
        later: Some(later(w, "later")),
        until: vec![
            UntilOption { value: "withdrawn", title: w.until_withdrawn.into(), chosen: true },
            UntilOption { value: "day", title: w.for_a_day.into(), chosen: false },
        ],
        share_names: false,
    }
}

pub(super) fn consent(
    w: &'static Words,
    verified: bool,
    devices: Vec<OfferedDevice>,
    problem: Option<&'static str>,
) -> String {
    asked(w, verified, devices, problem, None)
}

/// The same, for an app on another device where `elsewhere` says so.
fn asked(
    w: &'static Words,
    verified: bool,
    devices: Vec<OfferedDevice>,
    problem: Option<&'static str>,
    elsewhere: Option<String>,
) -> String {
    Consent {
        w,
        frame: signed_in(w),
        csrf: "token",
        action: "/authorize",
        elsewhere,
        request: "client_id=x&state=\"><script>",
        seal: "seal".into(),
        app: AskingApp { name: "Warm Home", initial: "W".into(), host: "warm.example", verified },
        problem,
        terms: terms(w, devices),
    }
    .render()
    .unwrap()
}

fn own_device(w: &Words, title: &str, suspended: bool) -> OwnDevice {
    let (state, state_class) = if suspended { (w.suspended, "warn") } else { (w.active, "on") };
    let app = |name: &str| SeenBy {
        id: name.to_lowercase().replace(' ', "-"),
        name: name.into(),
        channels: "Temperature (°C), Humidity (%), Heater".into(),
    };
    OwnDevice {
        id: title.to_lowercase().replace(' ', "-"),
        title: title.into(),
        name: title.into(),
        model: "Thermostat T1".into(),
        state,
        state_class,
        suspended,
        fresh: title == "Kitchen",
        since: w.day(1_793_725_505),
        abilities: Abilities::of(w, &thermostat()),
        seen_by: if suspended { vec![] } else { vec![app("Warm Home"), app("Chart of a Stranger")] },
    }
}

fn notice(w: &Words, text: String, alarm: bool) -> Notice {
    Notice { text, alarm, stamp: "2026-11-03T14:25:05Z".into(), when: w.moment(1_793_725_505) }
}

fn notices(w: &Words) -> Vec<Notice> {
    vec![
        notice(w, w.notice_alarm.with("Cellar"), true),
        notice(w, w.notice_allowed.with("Warm Home"), false),
        notice(w, w.notice_claimed.with("Kitchen"), false),
    ]
}

fn account(w: &'static Words, full: bool) -> String {
    let app = |name: &str, verified| OwnApp {
        id: name.to_lowercase().replace(' ', "-"),
        name: name.into(),
        host: "warm.example:8090".into(),
        verified,
        devices: vec![AppDevice {
            title: "Kitchen".into(),
            readings: [(&thermostat()[0], QUARTER), (&thermostat()[1], r#"{"kind":"raw"}"#)]
                .map(|(channel, view)| SeenChannel {
                    title: w.channel(channel),
                    exactly: exactness::of_channel(w, channel, &serde_json::from_str(view).unwrap()),
                })
                .into(),
            commands: vec!["Heater".into()],
        }],
        facts: vec![w.fact_since.with(w.day(1_793_725_505)), w.fact_until_withdrawn.into()],
    };
    Account {
        w,
        frame: signed_in(w),
        csrf: "token",
        done: full.then_some(w.done_withdrawn),
        alarms: if full {
            vec![Alarm {
                title: w.alarm_title,
                text: w.alarm_text.with("Cellar"),
                stamp: "2026-11-03T14:25:05Z".into(),
                when: w.moment(1_793_725_505),
            }]
        } else {
            vec![]
        },
        devices: if full {
            vec![
                own_device(w, "Kitchen", false),
                own_device(w, "Thermostat T1", false),
                own_device(w, "Cellar", true),
            ]
        } else {
            vec![]
        },
        apps: if full { vec![app("Warm Home", true), app("Chart of a Stranger", false)] } else { vec![] },
        notices: if full { notices(w) } else { vec![] },
        other_logins: full.then(|| w.other_logins.with(2)),
    }
    .render()
    .unwrap()
}

fn app_page(w: &'static Words) -> String {
    AppPage {
        w,
        frame: signed_in(w),
        csrf: "token",
        id: "warm-home",
        app: AskingApp { name: "Warm Home", initial: "W".into(), host: "warm.example", verified: false },
        facts: vec![w.fact_since.with(w.day(1_793_725_505)), w.fact_names.into()],
        problem: Some(w.nothing_left),
        terms: terms(w, vec![offered(w, "a", "Kitchen", true), offered(w, "b", "Thermostat T1", false)]),
    }
    .render()
    .unwrap()
}

fn activity(w: &'static Words) -> String {
    let mut notices = notices(w);
    notices.push(notice(w, w.notice_logged_in.with("Demo Login"), false));
    Activity {
        w,
        frame: signed_in(w),
        days: w.activity_lead.with(90),
        notices,
        older: Some("/account/activity?before=7".into()),
    }
    .render()
    .unwrap()
}

fn handover(w: &'static Words) -> String {
    let address = "http://didp.localhost:8080/r/0123456789abcdefghijkl";
    Handover {
        w,
        frame: signed_in(w),
        title: "Kitchen",
        qr: Qr::of(address).unwrap(),
        address,
        until: w.day(1_793_725_505),
    }
    .render()
    .unwrap()
}

fn maker(w: &'static Words) -> Frame {
    Frame { home: "/manufacturer", log_out: "/manufacturer/logout", ..signed_in(w) }
}

fn maker_pages(w: &'static Words) -> Vec<(&'static str, String)> {
    let cell = |name: &str, registered: &str, owned: String, open: bool| MakerCell {
        name: name.into(),
        registered: registered.into(),
        owned,
        state: if open { w.maker_valid } else { w.maker_partly },
        devices: open.then(|| "/manufacturer/devices?model=T1&batch=2026-11".into()),
        change: open.then(|| "/manufacturer/batch?model=T1&batch=2026-11".into()),
    };
    let cells = || {
        vec![
            cell("2026-10", "5000", w.maker_at_least.with(1980), true),
            cell("2026-11", "500", w.maker_not_told.into(), true),
            cell(w.maker_small_batches, w.maker_too_few, w.maker_not_told.into(), false),
        ]
    };
    let device = |client_id: &str, withdrawn| MakerDevice {
        client_id: client_id.into(),
        since: w.day(1_793_725_505),
        state: if withdrawn { w.maker_withdrawn } else { w.maker_valid },
        withdrawn,
    };
    let label = |short: &str| Label {
        qr: Qr::of("http://didp.localhost:8080/r/0123456789abcdefghijkl").unwrap(),
        model: "Thermostat T1".into(),
        short: short.into(),
    };
    let answer = "{\n  \"client_id\": \"0123456789abcdefghijkl\"\n}".to_owned();
    vec![
        (
            "maker-login",
            MakerLogin { w, frame: anonymous(w), csrf: "token".into(), problem: Some(w.maker_login_failed) }
                .render()
                .unwrap(),
        ),
        (
            "maker",
            MakerOverview {
                w,
                frame: maker(w),
                name: "Acme",
                done: Some(w.maker_done_withdrawn),
                models: ["Thermostat T1", "Lamp L1"]
                    .map(|model| MakerModel { model: model.into(), cells: cells() })
                    .into(),
            }
            .render()
            .unwrap(),
        ),
        (
            "maker-devices",
            MakerDevices {
                w,
                frame: maker(w),
                csrf: "token",
                model: "Thermostat T1",
                batch: "2026-11",
                devices: vec![
                    device("0123456789abcdefghijkl", false),
                    device("abcdefghijkl0123456789", true),
                ],
                more: Some("/manufacturer/devices?after=x".into()),
            }
            .render()
            .unwrap(),
        ),
        (
            "maker-batch",
            MakerBatch {
                w,
                frame: maker(w),
                csrf: "token",
                model: "Thermostat T1",
                batch: "2026-11",
                batch_shown: "2026-11",
            }
            .render()
            .unwrap(),
        ),
        (
            "maker-replaced",
            MakerReplaced {
                w,
                frame: maker(w),
                csrf: "token",
                model: "Thermostat T1",
                old: "0123456789abcdefghijkl",
                new: "abcdefghijkl0123456789",
                answer: Secret(answer.into()),
            }
            .render()
            .unwrap(),
        ),
        (
            "maker-labels",
            Labels { w, frame: maker(w), csrf: "token", problem: Some(w.labels_unreadable) }
                .render()
                .unwrap(),
        ),
        (
            "maker-sheet",
            Sheet {
                w,
                frame: maker(w),
                labels: ["abc123", "def456", "ghi789", "jkl012", "mno345"].map(label).into(),
            }
            .render()
            .unwrap(),
        ),
    ]
}

fn login(w: &'static Words, heading: &'static str, lead: &'static str, problem: Option<String>) -> String {
    Login {
        w,
        frame: anonymous(w),
        heading,
        lead,
        problem,
        providers: vec![
            Provider { name: "Demo Login", href: "/login/demo?next=%2Fr%2Fx".into() },
            Provider { name: "GitHub", href: "/login/github?next=%2Fr%2Fx".into() },
        ],
    }
    .render()
    .unwrap()
}

fn code(w: &'static Words, problem: Option<&'static str>) -> String {
    ClaimCode { w, frame: signed_in(w), csrf: "token", action: "/r/x".into(), problem }.render().unwrap()
}

fn over(w: &'static Words, heading: &str, text: &'static str, good: bool) -> String {
    let undo = good.then(|| Undo { csrf: "token", action: "/account/devices/a/undo".into() });
    ClaimOver { w, frame: signed_in(w), heading, text, good, undo }.render().unwrap()
}

/// All pages in English, by file name.
pub(super) fn pages() -> Vec<(&'static str, String)> {
    pages_in(ALL[0])
}

/// All pages in one language.
pub(super) fn pages_in(w: &'static Words) -> Vec<(&'static str, String)> {
    let mut pages = maker_pages(w);
    pages.extend(owner_pages(w));
    pages
}

fn owner_pages(w: &'static Words) -> Vec<(&'static str, String)> {
    vec![
        ("login", login(w, w.login_heading, w.login_lead, None)),
        ("login-claim", login(w, w.login_for_claim_heading, w.login_for_claim_lead, None)),
        (
            "login-away",
            login(w, w.login_for_app_heading, w.login_for_app_lead, Some(w.login_away.with("GitHub"))),
        ),
        ("code", code(w, None)),
        ("code-no-match", code(w, Some(w.no_match))),
        (
            "decide",
            ClaimDecide {
                w,
                frame: signed_in(w),
                csrf: "token",
                action: "/claim/x".into(),
                model: "Thermostat T1",
                abilities: Abilities::of(w, &thermostat()),
            }
            .render()
            .unwrap(),
        ),
        (
            "waiting",
            ClaimWaiting {
                w,
                frame: signed_in(w),
                model: "Thermostat T1",
                state_url: "/claim/x/state".into(),
            }
            .render()
            .unwrap(),
        ),
        ("done", over(w, &w.done_heading.with("Thermostat T1"), w.done_text, true)),
        ("gone", over(w, w.gone_heading, w.gone_text, false)),
        ("declined", over(w, w.declined_heading, w.declined_text, false)),
        (
            "consent",
            consent(
                w,
                true,
                vec![offered(w, "a", "Kitchen", true), offered(w, "b", "Thermostat T1", false)],
                None,
            ),
        ),
        (
            "consent-unverified",
            consent(w, false, vec![offered(w, "a", "Kitchen", false)], Some(w.choose_something)),
        ),
        ("consent-many", consent(w, true, vec![offered_with(w, "a", "Roof", true, &station())], None)),
        ("consent-no-device", consent(w, true, vec![], None)),
        (
            "consent-elsewhere",
            asked(
                w,
                true,
                vec![offered(w, "a", "Kitchen", true)],
                None,
                Some(w.device_warning.with("WDJB-MJHT")),
            ),
        ),
        (
            "device",
            DeviceCode { w, frame: signed_in(w), csrf: "token", typed: "", problem: Some(w.device_no_match) }
                .render()
                .unwrap(),
        ),
        (
            "logins",
            Logins {
                w,
                frame: signed_in(w),
                count: w.logins_many.with(2),
                done: None,
                problem: Some(w.login_anothers),
                ways: [("GitHub", 0), ("Google", 1)]
                    .map(|(name, at)| LoginWay {
                        name,
                        add: format!("/login/{at}?link=x"),
                        remove: Some(format!("/login/{at}?unlink=x")),
                    })
                    .into(),
            }
            .render()
            .unwrap(),
        ),
        ("account", account(w, true)),
        ("account-empty", account(w, false)),
        ("activity", activity(w)),
        ("app", app_page(w)),
        ("handover", handover(w)),
        (
            "transfer",
            AskTransfer {
                w,
                frame: signed_in(w),
                csrf: "token",
                title: "Kitchen",
                action: "/account/x".into(),
            }
            .render()
            .unwrap(),
        ),
        (
            "delete",
            Delete { w, frame: signed_in(w), csrf: "token", problem: Some(w.delete_not_sure) }
                .render()
                .unwrap(),
        ),
        (
            "release",
            Release {
                w,
                frame: signed_in(w),
                csrf: "token",
                title: "Kitchen",
                action: "/account/x".into(),
                transfer: "/account/y".into(),
            }
            .render()
            .unwrap(),
        ),
        (
            "message",
            Message {
                w,
                frame: anonymous(w),
                heading: w.wrong_app_heading,
                text: w.wrong_redirect_text,
                link: Some(Link { href: "/account", title: w.to_my_devices }),
            }
            .render()
            .unwrap(),
        ),
    ]
}
