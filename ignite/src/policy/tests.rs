//! One test a rule of design §7, named after it.

use mqtt_wire::{QoS, ReasonCode, Version};
use oauth_wire::{Action, ActiveToken, AuthorizationDetail, Channel, Direction, Scope, ScopeToken, True};
use service::secret::Key;

use super::grant::{Grant, Role};
use super::*;

const LONGEST: usize = 512;

fn keys() -> Keys {
    Keys::derive(&Key::new([1; 32]))
}

fn channel(name: &str, direction: Direction) -> Channel {
    Channel { name: name.to_owned(), direction, title: None, unit: None, value_type: None }
}

fn detail(label: &str, actions: &[Action]) -> AuthorizationDetail {
    AuthorizationDetail {
        kind: "mqtt".to_owned(),
        identifier: Some(label.to_owned()),
        title: None,
        name: None,
        actions: actions.to_vec(),
        channels: vec![
            channel("temperature", Direction::Data),
            channel("room/humidity", Direction::Data),
            channel("heater", Direction::Command),
        ],
        view: oauth_wire::View::Raw,
        views: std::collections::BTreeMap::new(),
        reference: None,
    }
}

fn token(label: Option<&str>, scope: Scope, details: Vec<AuthorizationDetail>) -> ActiveToken {
    ActiveToken {
        active: True,
        iss: "http://didp".to_owned(),
        sub: "owner".to_owned(),
        aud: "http://ignite".to_owned(),
        exp: 1_000,
        scope,
        authorization_details: details,
        sid: "sid".to_owned(),
        rev: 3,
        label: label.map(str::to_owned),
        state_share: String::new(),
    }
}

fn device() -> Grant {
    let details = vec![detail("lab1", &[Action::Publish, Action::Subscribe])];
    Grant::from_token(&token(Some("lab1"), Scope::DEVICE, details), &keys()).unwrap()
}

/// An app that may read and command lab1, and only read lab2.
fn app() -> Grant {
    let details = vec![detail("lab1", &[Action::Read, Action::Command]), detail("lab2", &[Action::Read])];
    Grant::from_token(&token(None, Scope::APP, details), &keys()).unwrap()
}

fn handle(label: &str) -> String {
    keys().handle("sid", label)
}

fn up(grant: &Grant, topic: &str) -> Result<String, ReasonCode> {
    publish(grant, topic, None, LONGEST).map(|names| names.topic.to_string())
}

fn filter(grant: &Grant, filter: &str) -> Result<String, ReasonCode> {
    subscribe(grant, &keys(), filter, LONGEST)
}

fn down(grant: &Grant, topic: &str) -> Option<String> {
    deliver(grant, topic, None).map(|names| names.topic.to_string())
}

/// What becomes of a Response Topic on its way up, and on its way down.
fn response_up(grant: &Grant, topic: &str, response: &str) -> Result<Option<String>, ReasonCode> {
    publish(grant, topic, Some(response), LONGEST).map(|names| names.response.map(|name| name.to_string()))
}

fn response_down(grant: &Grant, topic: &str, response: &str) -> Option<String> {
    deliver(grant, topic, Some(response)).unwrap().response.map(|name| name.to_string())
}

#[test]
fn a_device_publishes_its_data_under_its_own_label() {
    assert_eq!(up(&device(), "d/temperature").as_deref(), Ok("d/lab1/temperature"));
    assert_eq!(up(&device(), "d/a/b/c/e").as_deref(), Ok("d/lab1/a/b/c/e"));
}

/// Checklist 35.
#[test]
fn no_device_can_speak_for_another_or_leave_its_tree() {
    // Whatever a device writes stays below its own label, another's label included.
    assert_eq!(up(&device(), "d/lab2/temperature").as_deref(), Ok("d/lab1/lab2/temperature"));
    for topic in [
        "c/heater",
        "c/lab2/heater",
        "s/desired",
        "s/delta",
        "s",
        "$SYS/x",
        "$share/g/d/x",
        "d",
        "d/",
        "/d/x",
        "d//x",
    ] {
        assert_eq!(up(&device(), topic), Err(ReasonCode::NOT_AUTHORIZED), "{topic}");
    }
    assert_eq!(up(&device(), "d/a/b/c/e/f"), Err(ReasonCode::NOT_AUTHORIZED), "five levels");
    assert_eq!(up(&device(), "d/../lab2/temperature"), Err(ReasonCode::NOT_AUTHORIZED));
}

#[test]
fn a_device_receives_its_commands_without_its_label() {
    assert_eq!(filter(&device(), "c/heater").as_deref(), Ok("c/lab1/heater"));
    assert_eq!(filter(&device(), "c/#").as_deref(), Ok("c/lab1/#"));
    assert_eq!(filter(&device(), "c/+").as_deref(), Ok("c/lab1/+"));
    assert_eq!(down(&device(), "c/lab1/heater").as_deref(), Some("c/heater"));
}

/// Checklist 35.
#[test]
fn a_devices_wildcards_mean_its_own_commands() {
    // Its commands and its shadow's delta: the PCM delivers nothing else to it.
    assert_eq!(filter(&device(), "#").as_deref(), Ok("+/lab1/#"));
    assert_eq!(filter(&device(), "+/#").as_deref(), Ok("+/lab1/#"));
    assert_eq!(filter(&device(), "+/heater").as_deref(), Ok("c/lab1/heater"));
    assert_eq!(filter(&device(), "c/a/b/c/e/#").as_deref(), Ok("c/lab1/a/b/c/e/#"), "# includes its parent");
    for nothing in
        ["c", "+", "d/#", "d/temperature", "$SYS/#", "c/a/b/c/d/e", "c/a/b/c/d/e/#", "c//x", "c/", "/#"]
    {
        assert_eq!(filter(&device(), nothing), Err(ReasonCode::NOT_AUTHORIZED), "{nothing}");
    }
}

#[test]
fn a_delivery_for_another_device_is_dropped() {
    for topic in [
        "c/lab2/heater",
        "c/lab11/heater",
        "c/lab1",
        "s/lab2/delta",
        "s/lab1",
        "s/lab1/desired",
        "d/lab1/temperature",
        "c/lab1/a/b/c/d/e",
        "heater",
    ] {
        assert_eq!(down(&device(), topic), None, "{topic}");
    }
}

#[test]
fn a_devices_scopes_are_needed() {
    let details = || vec![detail("lab1", &[Action::Publish, Action::Subscribe])];
    let mute = token(Some("lab1"), Scope::EMPTY.with(ScopeToken::CommandSubscribe), details());
    let mute = Grant::from_token(&mute, &keys()).unwrap();
    assert_eq!(up(&mute, "d/temperature"), Err(ReasonCode::NOT_AUTHORIZED));
    assert!(filter(&mute, "c/#").is_ok());
    let deaf = token(Some("lab1"), Scope::EMPTY.with(ScopeToken::DataPublish), details());
    let deaf = Grant::from_token(&deaf, &keys()).unwrap();
    assert!(up(&deaf, "d/temperature").is_ok());
    assert_eq!(filter(&deaf, "c/#"), Err(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(down(&deaf, "c/lab1/heater"), None);
}

#[test]
fn an_app_knows_devices_by_its_own_handles() {
    let handle = handle("lab1");
    assert_eq!(down(&app(), "d/lab1/temperature"), Some(format!("d/{handle}/temperature")));
    assert_eq!(filter(&app(), &format!("d/{handle}/temperature")).as_deref(), Ok("d/lab1/temperature"));
    assert_eq!(filter(&app(), &format!("d/{handle}/#")).as_deref(), Ok("d/lab1/#"));
    assert_eq!(up(&app(), &format!("c/{handle}/heater")).as_deref(), Ok("c/lab1/heater"));
    assert_eq!(
        filter(&app(), "d/lab1/temperature"),
        Err(ReasonCode::NOT_AUTHORIZED),
        "a label is no name here"
    );
    assert_eq!(up(&app(), "c/lab1/heater"), Err(ReasonCode::NOT_AUTHORIZED));
}

#[test]
fn two_apps_cannot_join_their_views() {
    let mut other = token(None, Scope::APP, vec![detail("lab1", &[Action::Read])]);
    other.sid = "sid-2".to_owned();
    let other = Grant::from_token(&other, &keys()).unwrap();
    assert_ne!(down(&other, "d/lab1/temperature"), down(&app(), "d/lab1/temperature"));
}

#[test]
fn d_hash_stays_one_subscription_and_means_what_i_may_see() {
    assert_eq!(filter(&app(), "d/#").as_deref(), Ok("d/#"));
    assert_eq!(filter(&app(), "#").as_deref(), Ok("#"));
    assert_eq!(filter(&app(), "d/+/temperature").as_deref(), Ok("d/+/temperature"));
    assert_eq!(filter(&app(), "+/+/room/#").as_deref(), Ok("+/+/room/#"));
    assert_eq!(down(&app(), "d/lab3/temperature"), None, "a device that is not shared");
    assert_eq!(down(&app(), "d/lab1/pressure"), None, "a channel that is not shared");
    assert_eq!(down(&app(), "c/lab1/heater"), None, "commands are for the device");
}

#[test]
fn d_hash_is_a_legal_wish_before_the_first_device_is_shared() {
    let none_yet = Grant::from_token(&token(None, Scope::APP, Vec::new()), &keys()).unwrap();
    assert_eq!(filter(&none_yet, "d/#").as_deref(), Ok("d/#"));
    let commands = token(None, Scope::EMPTY.with(ScopeToken::CommandPublish), Vec::new());
    let commands = Grant::from_token(&commands, &keys()).unwrap();
    assert_eq!(filter(&commands, "d/#"), Err(ReasonCode::NOT_AUTHORIZED));
}

/// Checklist 35.
#[test]
fn a_filter_that_can_match_nothing_granted_is_refused() {
    let handle = handle("lab1");
    for nothing in [
        "c/#".to_owned(),
        format!("c/{handle}/heater"),
        format!("d/{handle}/pressure"),
        format!("d/{handle}"),
        format!("d/{handle}/temperature/x"),
        "d/+".to_owned(),
        "+".to_owned(),
        "$SYS/#".to_owned(),
        "s".to_owned(),
        format!("s/{handle}/desired"),
        format!("s/{handle}/reported"),
        "s/+/desired".to_owned(),
        format!("s/{}", self::handle("lab3")),
        "s/lab1".to_owned(),
        format!("d/{}/temperature", self::handle("lab3")),
    ] {
        assert_eq!(filter(&app(), &nothing), Err(ReasonCode::NOT_AUTHORIZED), "{nothing}");
    }
}

#[test]
fn an_app_commands_only_what_it_may() {
    assert_eq!(up(&app(), &format!("c/{}/heater", handle("lab2"))), Err(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(up(&app(), &format!("c/{}/temperature", handle("lab1"))), Err(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(up(&app(), &format!("d/{}/temperature", handle("lab1"))), Err(ReasonCode::NOT_AUTHORIZED));
    let reading = token(
        None,
        Scope::EMPTY.with(ScopeToken::DataSubscribe),
        vec![detail("lab1", &[Action::Read, Action::Command])],
    );
    let reading = Grant::from_token(&reading, &keys()).unwrap();
    assert_eq!(
        up(&reading, &format!("c/{}/heater", handle("lab1"))),
        Err(ReasonCode::NOT_AUTHORIZED),
        "scope"
    );
}

#[test]
fn a_device_reports_to_its_shadow_and_hears_the_delta() {
    assert_eq!(up(&device(), "s/reported").as_deref(), Ok("s/lab1/reported"));
    assert_eq!(filter(&device(), "s/delta").as_deref(), Ok("s/lab1/delta"));
    assert_eq!(filter(&device(), "s/+").as_deref(), Ok("s/lab1/+"));
    assert_eq!(filter(&device(), "s/#").as_deref(), Ok("s/lab1/#"));
    assert_eq!(filter(&device(), "+/delta").as_deref(), Ok("+/lab1/delta"), "or a command of that name");
    assert_eq!(down(&device(), "s/lab1/delta").as_deref(), Some("s/delta"));
    for nothing in ["s", "s/", "s/reported", "s/desired", "s/lab1", "s/delta/x", "s/+/x"] {
        assert_eq!(filter(&device(), nothing), Err(ReasonCode::NOT_AUTHORIZED), "{nothing}");
    }
    let details = || vec![detail("lab1", &[Action::Publish, Action::Subscribe])];
    let scoped = |scope| {
        let scope = Scope::EMPTY.with(scope);
        Grant::from_token(&token(Some("lab1"), scope, details()), &keys()).unwrap()
    };
    let (mute, deaf) = (scoped(ScopeToken::CommandSubscribe), scoped(ScopeToken::DataPublish));
    assert_eq!(up(&mute, "s/reported"), Err(ReasonCode::NOT_AUTHORIZED));
    assert!(filter(&mute, "s/delta").is_ok() && up(&deaf, "s/reported").is_ok());
    assert_eq!(filter(&deaf, "s/delta"), Err(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(down(&deaf, "s/lab1/delta"), None);
}

#[test]
fn an_app_reads_shadows_and_writes_what_it_may_command() {
    let (one, two) = (handle("lab1"), handle("lab2"));
    assert_eq!(filter(&app(), &format!("s/{one}")).as_deref(), Ok("s/lab1"));
    assert_eq!(filter(&app(), &format!("s/{one}/#")).as_deref(), Ok("s/lab1/#"), "# includes its parent");
    for wild in ["s/+", "s/#", "#", "+/+", "+/#", "s/+/#"] {
        assert_eq!(filter(&app(), wild).as_deref(), Ok(wild));
    }
    assert_eq!(filter(&app(), &format!("+/{one}")).as_deref(), Ok("+/lab1"));
    assert_eq!(down(&app(), "s/lab1"), Some(format!("s/{one}")));
    assert_eq!(down(&app(), "s/lab2"), Some(format!("s/{two}")), "reading is enough");
    for nothing in ["s/lab3", "s/lab1/desired", "s/lab1/reported", "s/lab1/delta", "s"] {
        assert_eq!(down(&app(), nothing), None, "{nothing}");
    }
    assert_eq!(up(&app(), &format!("s/{one}/desired")).as_deref(), Ok("s/lab1/desired"));
    for denied in [
        format!("s/{two}/desired"),
        format!("s/{one}"),
        format!("s/{one}/reported"),
        format!("s/{one}/delta"),
        "s/lab1/desired".to_owned(),
    ] {
        assert_eq!(up(&app(), &denied), Err(ReasonCode::NOT_AUTHORIZED), "{denied}");
    }
    let topic = format!("s/{one}/desired");
    let answer = response_up(&app(), &topic, &format!("d/{one}/answer"));
    assert_eq!(answer, Err(ReasonCode::TOPIC_NAME_INVALID), "a shadow answers nobody");
}

#[test]
fn a_shadow_needs_the_scopes_of_what_it_is() {
    let scoped = |scope| {
        let details = vec![detail("lab1", &[Action::Read, Action::Command])];
        Grant::from_token(&token(None, Scope::EMPTY.with(scope), details), &keys()).unwrap()
    };
    let (reading, commanding) = (scoped(ScopeToken::DataSubscribe), scoped(ScopeToken::CommandPublish));
    let (document, desired) = (format!("s/{}", handle("lab1")), format!("s/{}/desired", handle("lab1")));
    assert!(filter(&reading, &document).is_ok());
    assert_eq!(up(&reading, &desired), Err(ReasonCode::NOT_AUTHORIZED));
    assert!(up(&commanding, &desired).is_ok());
    for wish in [document.as_str(), "s/+", "s/#", "#"] {
        assert_eq!(filter(&commanding, wish), Err(ReasonCode::NOT_AUTHORIZED), "{wish}");
    }
    assert_eq!(down(&commanding, "s/lab1"), None);
    let none_yet = Grant::from_token(&token(None, Scope::APP, Vec::new()), &keys()).unwrap();
    assert_eq!(filter(&none_yet, "s/+").as_deref(), Ok("s/+"), "a legal wish, as d/# is");
    assert_eq!(down(&none_yet, "s/lab1"), None);
}

#[test]
fn what_waits_under_another_view_does_not_arrive() {
    let before = app();
    let mut coarse = detail("lab1", &[Action::Read, Action::Command]);
    let round = oauth_wire::View::Coarsening(serde_json::from_str(r#"{"round":5}"#).unwrap());
    coarse.views.insert("temperature".to_owned(), round);
    let after = Grant::from_token(&token(None, Scope::APP, vec![coarse]), &keys()).unwrap();
    assert_ne!(before.role, after.role);
    let topic = |channel: &str| format!("d/{}/{channel}", handle("lab1"));
    assert!(before.may_still_receive(&before, &topic("temperature")));
    assert!(!after.may_still_receive(&before, &topic("temperature")));
    assert!(after.may_still_receive(&before, &topic("room/humidity")), "its view is the same");
    assert!(!after.may_still_receive(&before, &format!("d/{}/temperature", handle("lab2"))), "gone");
    assert!(after.may_still_receive(&before, &format!("s/{}", handle("lab1"))));
    assert!(!after.may_still_receive(&before, &format!("s/{}", handle("lab2"))));
}

#[test]
fn a_shared_group_is_one_of_this_grant_alone() {
    let group = keys().group("sid", "g");
    assert_eq!(filter(&app(), "$share/g/d/#"), Ok(format!("$share/{group}/d/#")));
    assert_eq!(filter(&device(), "$share/g/c/heater"), Ok(format!("$share/{group}/c/lab1/heater")));
    assert_eq!(filter(&app(), "$share/g/c/#"), Err(ReasonCode::NOT_AUTHORIZED));
    assert_ne!(keys().group("sid-2", "g"), group);
}

#[test]
fn unsubscribe_finds_what_subscribe_made_after_a_narrowing_too() {
    for text in ["d/#", "$share/g/d/#", "d/+/temperature"] {
        assert_eq!(unsubscribe(&app(), &keys(), text), filter(&app(), text).ok(), "{text}");
    }
    let narrowed = Grant::from_token(&token(None, Scope::APP, vec![detail("lab1", &[])]), &keys()).unwrap();
    let text = format!("d/{}/temperature", handle("lab1"));
    assert!(filter(&narrowed, &text).is_err());
    assert_eq!(unsubscribe(&narrowed, &keys(), &text).as_deref(), Some("d/lab1/temperature"));
    assert_eq!(unsubscribe(&app(), &keys(), "c/#"), None);
}

#[test]
fn a_response_topic_lies_in_the_addressed_devices_data() {
    let (one, two) = (handle("lab1"), handle("lab2"));
    let command = format!("c/{one}/heater");
    let good = response_up(&app(), &command, &format!("d/{one}/answer"));
    assert_eq!(good, Ok(Some("d/lab1/answer".to_owned())));
    for bad in
        [format!("d/{two}/answer"), format!("c/{one}/heater"), "d/lab1/answer".to_owned(), "x".to_owned()]
    {
        let verdict = response_up(&app(), &command, &bad);
        assert_eq!(verdict, Err(ReasonCode::TOPIC_NAME_INVALID), "{bad}");
    }
    let arrived = response_down(&device(), "c/lab1/heater", "d/lab1/answer");
    assert_eq!(arrived.as_deref(), Some("d/answer"));
    let strange = response_down(&device(), "c/lab1/heater", "d/lab2/answer");
    assert_eq!(strange, None, "a name that means nothing here is left out");
}

#[test]
fn length_is_checked_after_translation() {
    assert!(publish(&device(), "d/temperature", None, "d/lab1/temperature".len()).is_ok());
    let short = "d/lab1/temperature".len() - 1;
    assert_eq!(publish(&device(), "d/temperature", None, short), Err(ReasonCode::TOPIC_NAME_INVALID));
    assert_eq!(
        subscribe(&device(), &keys(), "c/heater", "c/heater".len()),
        Err(ReasonCode::TOPIC_FILTER_INVALID)
    );
}

#[test]
fn a_denied_publish_is_said_in_v5_and_swallowed_before() {
    let no = ReasonCode::NOT_AUTHORIZED;
    for version in [Version::V31, Version::V311, Version::V5] {
        assert_eq!(refused(version, QoS::AtMostOnce, no), Refused::Silently);
    }
    assert_eq!(refused(Version::V5, QoS::AtLeastOnce, no), Refused::PubAck(no));
    assert_eq!(refused(Version::V5, QoS::ExactlyOnce, no), Refused::PubRec(no));
    assert_eq!(refused(Version::V311, QoS::AtLeastOnce, no), Refused::PubAck(ReasonCode::SUCCESS));
    assert_eq!(refused(Version::V311, QoS::ExactlyOnce, no), Refused::PubRecAndFinish);
}

#[test]
fn an_answer_that_contradicts_itself_is_no_grant() {
    let slash = token(Some("a/b"), Scope::DEVICE, vec![detail("a/b", &[Action::Publish])]);
    assert!(Grant::from_token(&slash, &keys()).is_err());
    let without = token(Some("lab1"), Scope::DEVICE, vec![detail("lab2", &[Action::Publish])]);
    assert!(Grant::from_token(&without, &keys()).is_err());
    let mut unnamed = detail("lab1", &[Action::Read]);
    unnamed.identifier = None;
    assert!(Grant::from_token(&token(None, Scope::APP, vec![unnamed]), &keys()).is_err());
    let mut wild = detail("lab1", &[Action::Read]);
    wild.channels[0].name = "#".to_owned();
    assert!(Grant::from_token(&token(None, Scope::APP, vec![wild]), &keys()).is_err());
    let device_as_app = token(None, Scope::APP, vec![detail("lab1", &[Action::Publish])]);
    assert!(Grant::from_token(&device_as_app, &keys()).is_err());
}

#[test]
fn an_app_cannot_use_device_scopes_nor_a_device_an_apps() {
    let grant =
        Grant::from_token(&token(None, Scope::DEVICE, vec![detail("lab1", &[Action::Read])]), &keys());
    let grant = grant.unwrap();
    assert!(matches!(grant.role, Role::App(_)));
    assert_eq!(down(&grant, "d/lab1/temperature"), None);
    assert_eq!(up(&grant, "d/temperature"), Err(ReasonCode::NOT_AUTHORIZED));
}

#[test]
fn a_name_is_as_long_as_what_it_is_put_together_to() {
    let mut buffer = "what was there".to_owned();
    let (device, app) = (device(), app());
    let own = handle("lab1");
    let (temperature, desired) = (format!("c/{own}/heater"), format!("s/{own}/desired"));
    for name in [
        device.publish_up("d/a/b"),
        device.publish_up("s/reported"),
        device.deliver_down("c/lab1/heater"),
        device.deliver_down("s/lab1/delta"),
        app.publish_up(&temperature),
        app.publish_up(&desired),
        app.deliver_down("d/lab1/room/humidity"),
        app.deliver_down("s/lab1"),
    ] {
        let name = name.unwrap();
        assert_eq!(name.in_buffer(&mut buffer), name.to_string());
        assert_eq!(name.len(), buffer.len());
        assert!(mqtt_wire::topic::is_valid_name(&buffer), "{buffer}");
    }
}
