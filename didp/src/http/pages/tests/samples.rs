//! Every template with typical content: they render, and what they render keeps to the rules (one heading, labels, nothing
//! inline, nothing from elsewhere). With `DIDP_PAGES_DIR` set, the pages are written there, to be looked at.

use askama::Template as _;
use oauth_wire::{Channel, Direction};

use crate::flows::exactness::{Exactness, offers};
use crate::http::pages::exactness::{self, About};
use crate::http::pages::views::*;
use crate::http::pages::words::ENGLISH;

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

fn select(id: String, key: &str, channel: &Channel, now: &str) -> ViewSelect {
    let now = serde_json::from_str(now).unwrap();
    let unit = channel.unit.as_deref();
    let about = About { id, key, label: ENGLISH.channel(channel), unit, wish: true };
    exactness::select(&ENGLISH, about, &offers(channel, &now), &now)
}

fn later(id: &str) -> ViewSelect {
    let about = About {
        id: id.into(),
        key: "later",
        label: ENGLISH.how_exactly_later.into(),
        unit: None,
        wish: true,
    };
    exactness::select_later(&ENGLISH, about, &Exactness::default(), &Exactness::default())
}

const ASKED: &str = r#"{"kind":"filter","above":30,"dead_band":0.5}"#;
const QUARTER: &str = r#"{"kind":"summary","window_s":900}"#;

fn signed_in() -> Frame {
    Frame { csrf: Some("token".into()), ..Frame::anonymous() }
}

fn offered(id: &str, title: &str, chosen: bool) -> OfferedDevice {
    offered_with(id, title, chosen, &thermostat())
}

fn offered_with(id: &str, title: &str, chosen: bool, channels: &[Channel]) -> OfferedDevice {
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
                select(format!("view-{id}-{nth}"), &format!("{id} d/{}", channel.name), channel, view)
            })
            .collect(),
        channels: channels
            .iter()
            .map(|channel| OfferedChannel {
                value: format!("{id} d/{}", channel.name),
                title: ENGLISH.channel(channel),
                is_command: channel.direction == Direction::Command,
                chosen: true,
            })
            .collect(),
    }
}

fn consent(verified: bool, devices: Vec<OfferedDevice>, problem: Option<&'static str>) -> String {
    Consent {
        w: &ENGLISH,
        frame: signed_in(),
        csrf: "token",
        request: "client_id=x&state=\"><script>",
        seal: "seal".into(),
        app: AskingApp { name: "Warm Home", initial: "W".into(), host: "warm.example", verified },
        problem,
        wants_read: true,
        wants_command: true,
        read: true,
        command: true,
        devices,
        future: true,
        later: Some(later("later")),
        until: vec![
            UntilOption { value: "withdrawn", title: ENGLISH.until_withdrawn, chosen: true },
            UntilOption { value: "day", title: ENGLISH.for_a_day, chosen: false },
        ],
        share_names: false,
    }
    .render()
    .unwrap()
}

fn own_device(title: &str, state: &'static str, class: &'static str, suspended: bool) -> OwnDevice {
    OwnDevice {
        id: title.to_lowercase(),
        title: title.into(),
        name: title.into(),
        model: "Thermostat T1".into(),
        state,
        state_class: class,
        suspended,
        since: "3 Nov 2026".into(),
        abilities: Abilities::of(&ENGLISH, &thermostat()),
    }
}

fn account(full: bool) -> String {
    let w = &ENGLISH;
    let app = |name: &str, verified| OwnApp {
        id: name.into(),
        name: name.into(),
        host: "warm.example:8090".into(),
        verified,
        devices: vec![AppDevice {
            id: format!("{name} kitchen"),
            title: "Kitchen".into(),
            readings: [(&thermostat()[0], QUARTER), (&thermostat()[1], r#"{"kind":"raw"}"#)]
                .map(|(channel, view)| SeenChannel {
                    value: format!("kitchen d/{}", channel.name),
                    title: w.channel(channel),
                    exactly: exactness::of_channel(w, channel, &serde_json::from_str(view).unwrap()),
                    select: select(format!("{name}-{}", channel.name), "kitchen", channel, view),
                })
                .into(),
            commands: vec![ToldChannel { value: "kitchen c/heater".into(), title: "Heater".into() }],
        }],
        later: verified.then(|| later("later-app")),
        facts: vec![w.fact_since.with("3 Nov 2026"), w.fact_until_withdrawn.into()],
    };
    let notice = |text: String, alarm| Notice {
        text,
        alarm,
        stamp: "2026-11-03T14:25:05Z".into(),
        when: "3 Nov 2026, 14:25 UTC".into(),
    };
    Account {
        w,
        frame: signed_in(),
        csrf: "token",
        done: full.then_some(w.done_withdrawn),
        problem: full.then_some(w.nothing_left),
        alarms: if full {
            vec![Alarm {
                title: w.alarm_title,
                text: w.alarm_text.with("Cellar"),
                stamp: "2026-11-03T14:25:05Z".into(),
                when: "3 Nov 2026, 14:25 UTC".into(),
            }]
        } else {
            vec![]
        },
        devices: if full {
            vec![
                own_device("Kitchen", w.active, "on", false),
                own_device("Thermostat T1", w.active, "on", false),
                own_device("Cellar", w.suspended, "warn", true),
            ]
        } else {
            vec![]
        },
        apps: if full { vec![app("Warm Home", true), app("Chart of a Stranger", false)] } else { vec![] },
        notices: if full {
            vec![
                notice(w.notice_alarm.with("Cellar"), true),
                notice(w.notice_allowed.with("Warm Home"), false),
                notice(w.notice_claimed.with("Kitchen"), false),
            ]
        } else {
            vec![]
        },
    }
    .render()
    .unwrap()
}

fn login(heading: &'static str, lead: &'static str, problem: Option<String>) -> String {
    Login {
        w: &ENGLISH,
        frame: Frame::anonymous(),
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

fn code(problem: Option<&'static str>) -> String {
    ClaimCode { w: &ENGLISH, frame: signed_in(), csrf: "token", action: "/r/x".into(), problem }
        .render()
        .unwrap()
}

fn over(heading: &str, text: &'static str, good: bool) -> String {
    ClaimOver { w: &ENGLISH, frame: signed_in(), heading, text, good }.render().unwrap()
}

/// All pages, by file name.
fn pages() -> Vec<(&'static str, String)> {
    let w = &ENGLISH;
    vec![
        ("login", login(w.login_heading, w.login_lead, None)),
        ("login-claim", login(w.login_for_claim_heading, w.login_for_claim_lead, None)),
        (
            "login-away",
            login(w.login_for_app_heading, w.login_for_app_lead, Some(w.login_away.with("GitHub"))),
        ),
        ("code", code(None)),
        ("code-no-match", code(Some(w.no_match))),
        (
            "decide",
            ClaimDecide {
                w,
                frame: signed_in(),
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
                frame: signed_in(),
                model: "Thermostat T1",
                state_url: "/claim/x/state".into(),
            }
            .render()
            .unwrap(),
        ),
        ("done", over(&w.done_heading.with("Thermostat T1"), w.done_text, true)),
        ("gone", over(w.gone_heading, w.gone_text, false)),
        ("declined", over(w.declined_heading, w.declined_text, false)),
        (
            "consent",
            consent(true, vec![offered("a", "Kitchen", true), offered("b", "Thermostat T1", false)], None),
        ),
        (
            "consent-unverified",
            consent(false, vec![offered("a", "Kitchen", false)], Some(w.choose_something)),
        ),
        ("consent-many", consent(true, vec![offered_with("a", "Roof", true, &station())], None)),
        ("consent-no-device", consent(true, vec![], None)),
        ("account", account(true)),
        ("account-empty", account(false)),
        (
            "release",
            Release { w, frame: signed_in(), csrf: "token", title: "Kitchen", action: "/account/x".into() }
                .render()
                .unwrap(),
        ),
        (
            "message",
            Message {
                w,
                frame: Frame::anonymous(),
                heading: w.wrong_app_heading,
                text: w.wrong_redirect_text,
                link: Some(Link { href: "/account", title: w.to_my_devices }),
            }
            .render()
            .unwrap(),
        ),
    ]
}

#[test]
fn every_page_keeps_to_the_rules_of_its_policy() {
    for (name, page) in pages() {
        for forbidden in
            ["style=\"", " onclick", "<style", "javascript:", "src=\"http", "href=\"http", "{{", "{%"]
        {
            assert!(!page.contains(forbidden), "{name} holds {forbidden}");
        }
        assert!(!page.contains("<script>"), "{name} holds an inline script");
        assert_eq!(page.matches("<h1").count(), 1, "{name} has one heading");
        assert!(page.contains("<html lang=\"en\">") && page.contains("name=\"viewport\""), "{name}");
        for form in page.split("<form").skip(1) {
            assert!(form.contains("method=\"post\"") && form.contains("name=\"csrf\""), "{name}: {form}");
        }
    }
}

#[test]
fn every_field_that_a_person_fills_has_a_label() {
    for (name, page) in pages() {
        for part in page.split("<input").skip(1) {
            let tag = part.split('>').next().unwrap();
            if tag.contains("type=\"hidden\"") || tag.contains("type=\"checkbox\"") {
                continue;
            }
            let id = tag.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert!(page.contains(&format!("for=\"{id}\"")), "{name}: {id}");
        }
        for part in page.split("<select").skip(1) {
            let tag = part.split('>').next().unwrap();
            let id = tag.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert_eq!(page.matches(&format!("for=\"{id}\"")).count(), 1, "{name}: {id}");
            assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{name}: {id}");
            let options = part.split("</select>").next().unwrap();
            assert_eq!(options.matches(" selected").count(), 1, "{name}: {options}");
        }
        assert_eq!(
            page.matches("type=\"checkbox\"").count(),
            page.matches("<label class=\"check").count(),
            "{name}: each check box stands in its label"
        );
    }
}

/// Checklist 32: declining is as prominent as accepting: the same element of the same class, side by side.
#[test]
fn declining_is_as_prominent_as_accepting() {
    for (page, accept) in [("decide", "claim"), ("consent", "allow")] {
        let (_, text) = pages().into_iter().find(|(name, _)| *name == page).unwrap();
        for value in [accept, "decline"] {
            assert!(
                text.contains(&format!("<button name=\"decision\" value=\"{value}\">")),
                "{page}: {value}"
            );
        }
    }
}

#[test]
fn what_comes_from_outside_is_escaped() {
    let page = consent(true, vec![offered("a", "<b>Kitchen</b>", true)], None);
    assert!(!page.contains("<b>") && page.contains("&#60;b&#62;Kitchen"));
    assert!(page.contains("state=&#34;&#62;&#60;script&#62;"));
}

#[test]
fn pages_can_be_looked_at() {
    let Some(folder) = std::env::var_os("DIDP_PAGES_DIR").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(folder.join("assets")).unwrap();
    let assets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    for entry in std::fs::read_dir(assets).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join("assets").join(path.file_name().unwrap())).unwrap();
    }
    for (name, page) in pages() {
        std::fs::write(folder.join(format!("{name}.html")), page).unwrap();
    }
}
