//! Claiming a device, design §5; security checklist 29 to 33.

use std::time::Duration;

use didp::flows::account;
use didp::flows::claim::{self, Attempt, ClaimState};
use mqtt_wire::{ReasonCode, Version};
use serde_json::json;

use crate::harness::{Came, Didp, Mqtt, press, redemption, refreshing, text};

#[tokio::test]
async fn the_whole_claim_completes_only_when_the_device_reports() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let ticket = didp.matched(&anna, &device, &mut mqtt).await;
    let view = claim::describe(&didp.app, &anna, &ticket).await.unwrap().unwrap();
    assert_eq!(
        (view.model.as_str(), view.channels.len(), view.state),
        ("Thermostat T1", 2, ClaimState::Deciding)
    );

    assert_eq!(claim::accept(&didp.app, &anna, &ticket, Some("Kitchen")).await.unwrap(), ClaimState::Waiting);
    let code = text(&mqtt.message().await.1["code"]);
    let tokens = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
    assert_eq!(tokens["scope"], "data:publish command:subscribe");
    assert_eq!(tokens["gateway"]["host"], "ignite.test");
    assert!(text(&tokens["access_token"]).starts_with("test."));
    assert!(account::overview(&didp.app, &anna).await.unwrap().devices.is_empty(), "not before the report");

    let (app, waiting) = (didp.app.clone(), ticket.clone());
    let page = tokio::spawn(async move { claim::wait(&app, &anna, &waiting, &ClaimState::Waiting).await });
    assert_eq!(mqtt.ask("claim/done", &json!({})).await, json!({}));
    let view = tokio::time::timeout(Duration::from_secs(10), page).await.unwrap().unwrap().unwrap().unwrap();
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    assert_eq!(view.state, ClaimState::Done { device: overview.devices[0].id.clone() });
    assert_eq!(overview.devices[0].name.as_deref(), Some("Kitchen"));
    assert!(overview.devices[0].online);
    assert_eq!(mqtt.ask("claim/done", &json!({})).await, json!({}), "repeating it is fine");
}

#[tokio::test]
async fn checklist_30_unknown_owned_and_unpressed_codes_give_the_same_answer() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let (owned, _mqtt, _) = didp.claimed(&anna).await;
    let unpressed = didp.device("code").await;
    let _connected = didp.connect(&unpressed).await;
    for code in [owned.code.as_str(), &unpressed.code, "AAAAAAAAAAAAAAAAAAAAAA", "", "\0"] {
        for typed in ["", "0000"] {
            assert_eq!(claim::confirm(&didp.app, &ben, code, typed).await.unwrap(), Attempt::NoMatch);
        }
    }
}

#[tokio::test]
async fn checklist_29_a_login_has_three_tries_and_a_window_ten() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    let right = text(&window["user_code"]);
    assert!(right.len() == 4 && right.bytes().all(|b| b.is_ascii_digit()));
    let wrong = if right == "0000" { "0001" } else { "0000" };
    let anna = didp.owner("anna").await;
    let answer = |session, typed: &str| {
        let typed = typed.to_owned();
        let (app, code) = (didp.app.clone(), device.code.clone());
        async move { claim::confirm(&app, &session, &code, &typed).await.unwrap() }
    };
    for _ in 0..20 {
        assert_eq!(answer(anna, " ").await, Attempt::NoMatch, "nothing typed is no guess");
    }
    for _ in 0..3 {
        assert_eq!(answer(anna, wrong).await, Attempt::NoMatch);
    }
    assert_eq!(answer(anna, &right).await, Attempt::NoMatch, "a fourth try counts for nothing");
    for name in ["b", "c"] {
        let other = didp.owner(name).await;
        for _ in 0..3 {
            answer(other, wrong).await;
        }
    }
    answer(didp.owner("d").await, wrong).await;
    assert_eq!(
        mqtt.message().await.1,
        json!({"error": "access_denied"}),
        "ten wrong answers close the window"
    );
    assert_eq!(answer(didp.owner("e").await, &right).await, Attempt::NoMatch);
}

#[tokio::test]
async fn checklist_30_the_first_right_answer_takes_the_device() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    let typed = text(&window["user_code"]);
    let attempts = tokio::join!(
        claim::confirm(&didp.app, &anna, &device.code, &typed),
        claim::confirm(&didp.app, &ben, &device.code, &typed)
    );
    let won = [attempts.0.unwrap(), attempts.1.unwrap()];
    assert_eq!(won.iter().filter(|attempt| matches!(attempt, Attempt::Matched { .. })).count(), 1, "{won:?}");
    assert!(won.contains(&Attempt::NoMatch));
}

#[tokio::test]
async fn a_ticket_is_worth_nothing_to_another_login() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let ticket = didp.matched(&anna, &device, &mut mqtt).await;
    assert_eq!(claim::describe(&didp.app, &ben, &ticket).await.unwrap(), None);
    assert!(claim::accept(&didp.app, &ben, &ticket, None).await.is_err());
    assert!(claim::decline(&didp.app, &ben, &ticket).await.is_err());
    let elsewhere = didp.owner("anna").await;
    assert_eq!(
        claim::describe(&didp.app, &elsewhere, &ticket).await.unwrap(),
        None,
        "not even in another browser"
    );
}

#[tokio::test]
async fn checklist_32_declining_leaves_nothing_and_the_device_can_be_claimed_again() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let mut device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let ticket = didp.matched(&anna, &device, &mut mqtt).await;
    assert_eq!(claim::decline(&didp.app, &anna, &ticket).await.unwrap(), ClaimState::Declined);
    assert_eq!(mqtt.message().await.1, json!({"error": "access_denied"}));
    let view = claim::describe(&didp.app, &anna, &ticket).await.unwrap().unwrap();
    assert_eq!(view.state, ClaimState::Declined);
    assert_eq!(claim::accept(&didp.app, &anna, &ticket, None).await.unwrap(), ClaimState::Declined);
    didp.claim(&didp.owner("ben").await, &mut device, &mut mqtt).await;
}

#[tokio::test]
async fn a_window_closes_after_two_minutes_and_the_device_is_told() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    assert_eq!(window["expires_in"], 120);
    didp.clock.advance(120);
    let late = claim::confirm(&didp.app, &anna, &device.code, window["user_code"].as_str().unwrap()).await;
    assert_eq!(late.unwrap(), Attempt::NoMatch);
    assert_eq!(mqtt.message().await.1, json!({"error": "expired_token"}));
}

#[tokio::test]
async fn checklist_32_a_device_that_goes_away_takes_the_claim_with_it() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let ticket = didp.matched(&anna, &device, &mut mqtt).await;
    drop(mqtt);
    let seen = claim::wait(&didp.app, &anna, &ticket, &ClaimState::Deciding).await.unwrap().unwrap();
    assert_eq!(seen.state, ClaimState::Gone);
    assert_eq!(claim::accept(&didp.app, &anna, &ticket, None).await.unwrap(), ClaimState::Gone);
    assert!(account::overview(&didp.app, &anna).await.unwrap().devices.is_empty());
}

#[tokio::test]
async fn checklist_32_a_claim_that_is_not_reported_is_undone() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let mut device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;

    let code = didp.granted(&anna, &device, &mut mqtt).await;
    didp.clock.advance(61);
    didp.sweep().await;
    assert_eq!(mqtt.message().await.1, json!({"error": "expired_token"}));
    let refused = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
    assert_eq!(refused["error"], "invalid_grant");

    let code = didp.granted(&anna, &device, &mut mqtt).await;
    let tokens = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
    didp.clock.advance(121);
    didp.sweep().await;
    assert_eq!(mqtt.message().await.1, json!({"error": "expired_token"}));
    assert_eq!(mqtt.ask("claim/done", &json!({})).await["error"], "expired_token");
    assert!(!didp.is_active(&text(&tokens["access_token"])).await);

    // Both secrets still open the door: nobody knows which one the device kept.
    let address = didp.mqtt_address();
    let renewed = text(&tokens["client_secret"]);
    assert!(Mqtt::login(address, Version::V5, &device.client_id, &device.secret).await.is_ok());
    assert!(Mqtt::login(address, Version::V5, &device.client_id, &renewed).await.is_ok());
    device.secret = renewed;
    let mut mqtt = didp.connect(&device).await;
    didp.claim(&didp.owner("ben").await, &mut device, &mut mqtt).await;
}

#[tokio::test]
async fn using_the_token_completes_the_claim_when_the_report_is_lost() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let code = didp.granted(&anna, &device, &mut mqtt).await;
    let tokens = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    assert_eq!(account::overview(&didp.app, &anna).await.unwrap().devices.len(), 1);
    assert_eq!(mqtt.ask("claim/done", &json!({})).await, json!({}));
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_claim_leaves_a_clear_state() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let mut device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let ticket = didp.matched(&anna, &device, &mut mqtt).await;
    let didp = didp.restart().await;
    assert_eq!(mqtt.next().await, Came::Goodbye(ReasonCode::SERVER_SHUTTING_DOWN));
    let state = claim::describe(&didp.app, &anna, &ticket).await.unwrap().unwrap().state;
    assert_eq!(state, ClaimState::Gone);

    // After the consent, the device may still come back with its code.
    let mut mqtt = didp.connect(&device).await;
    let code = didp.granted(&anna, &device, &mut mqtt).await;
    let didp = didp.restart().await;
    let mut mqtt = didp.connect(&device).await;
    let tokens = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
    assert_eq!(mqtt.ask("claim/done", &json!({})).await, json!({}));
    device.secret = text(&tokens["client_secret"]);
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test]
async fn checklist_33_after_the_claim_the_makers_copy_of_the_secret_is_dead() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let mut device = didp.device("code").await;
    let makers = device.secret.clone();
    let mut mqtt = didp.connect(&device).await;
    didp.claim(&anna, &mut device, &mut mqtt).await;
    assert_ne!(makers, device.secret);
    let address = didp.mqtt_address();
    assert!(
        Mqtt::login(address, Version::V5, &device.client_id, &makers).await.is_ok(),
        "the new one was not used yet"
    );
    assert!(Mqtt::login(address, Version::V5, &device.client_id, &device.secret).await.is_ok());
    let refused = Mqtt::login(address, Version::V5, &device.client_id, &makers).await.err();
    assert_eq!(refused, Some(ReasonCode::BAD_USER_NAME_OR_PASSWORD));
    let refused = Mqtt::login(address, Version::V311, &device.client_id, &makers).await.err();
    assert_eq!(refused, Some(ReasonCode::BAD_USER_NAME_OR_PASSWORD));
}

#[tokio::test]
async fn checklist_31_a_code_is_worth_nothing_without_the_device_and_its_verifier() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("code").await;
    let other = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let mut others = didp.connect(&other).await;
    let code = didp.granted(&anna, &device, &mut mqtt).await;
    for (connection, verifier) in [(&mut others, &device.verifier), (&mut mqtt, &other.verifier)] {
        let refused = connection.ask("token", &redemption(&code, verifier)).await;
        assert_eq!(refused["error"], "invalid_grant");
    }
    assert!(mqtt.ask("token", &redemption(&code, &device.verifier)).await["access_token"].is_string());
}

#[tokio::test]
async fn a_device_that_redeems_again_gets_the_same_secret() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let code = didp.granted(&anna, &device, &mut mqtt).await;
    let lost = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
    let kept = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
    assert_eq!(lost["client_secret"], kept["client_secret"]);
    assert_ne!(lost["refresh_token"], kept["refresh_token"]);
    assert!(didp.is_active(&text(&kept["access_token"])).await);
    assert!(!didp.is_active(&text(&lost["access_token"])).await, "the sibling is dead");
}

#[tokio::test]
async fn an_owned_device_opens_no_window_until_it_is_released_or_reset() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let (mut device, mut mqtt, tokens) = didp.claimed(&anna).await;
    assert_eq!(mqtt.ask("claim", &press(&device.verifier)).await["error"], "access_denied");

    let id = account::overview(&didp.app, &anna).await.unwrap().devices[0].id.clone();
    assert!(!account::release(&didp.app, &ben, &id).await.unwrap(), "not by somebody else");
    assert!(account::release(&didp.app, &anna, &id).await.unwrap());
    assert!(!didp.is_active(&text(&tokens["access_token"])).await);
    assert_eq!(mqtt.ask("token", &refreshing(&tokens)).await["error"], "invalid_grant");

    let tokens = didp.claim(&ben, &mut device, &mut mqtt).await;
    let label = didp.introspect(&text(&tokens["access_token"])).await["label"].clone();
    assert_eq!(mqtt.ask("reset", &json!({})).await, json!({}));
    assert_eq!(mqtt.ask("reset", &json!({})).await, json!({}), "repeating it is fine");
    assert!(!didp.is_active(&text(&tokens["access_token"])).await);

    let tokens = didp.claim(&ben, &mut device, &mut mqtt).await;
    assert_ne!(
        didp.introspect(&text(&tokens["access_token"])).await["label"],
        label,
        "a label is per ownership"
    );
}

#[tokio::test]
async fn a_suspended_device_comes_back_to_the_same_owner_only() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let (mut device, mut mqtt, tokens) = didp.claimed(&anna).await;
    let label = didp.introspect(&text(&tokens["access_token"])).await["label"].clone();
    let next = mqtt.ask("token", &refreshing(&tokens)).await;
    assert!(didp.is_active(&text(&next["access_token"])).await);
    assert_eq!(mqtt.ask("token", &refreshing(&tokens)).await["error"], "invalid_grant");
    assert!(!didp.is_active(&text(&next["access_token"])).await, "a replay ends the line for everybody");
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    assert!(overview.devices[0].suspended);
    assert_eq!(overview.notices[0].kind, account::NoticeKind::TheftAlarm);

    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    let typed = text(&window["user_code"]);
    assert_eq!(claim::confirm(&didp.app, &ben, &device.code, &typed).await.unwrap(), Attempt::NoMatch);
    let tokens = didp.claim(&anna, &mut device, &mut mqtt).await;
    assert_eq!(didp.introspect(&text(&tokens["access_token"])).await["label"], label);
    assert!(!account::overview(&didp.app, &anna).await.unwrap().devices[0].suspended);
}

#[tokio::test]
async fn a_suspended_device_stays_suspended_if_its_return_is_not_completed() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (device, mut mqtt, tokens) = didp.claimed(&anna).await;
    mqtt.ask("revoke", &json!({"token": tokens["refresh_token"]})).await;
    assert!(account::overview(&didp.app, &anna).await.unwrap().devices[0].suspended);
    didp.granted(&anna, &device, &mut mqtt).await;
    didp.clock.advance(61);
    didp.sweep().await;
    assert!(account::overview(&didp.app, &anna).await.unwrap().devices[0].suspended);
}

#[tokio::test]
async fn a_device_with_a_button_only_is_given_after_a_time_of_silence() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("press").await;
    let mut mqtt = didp.connect(&device).await;
    assert_eq!(claim::confirm(&didp.app, &anna, &device.code, "").await.unwrap(), Attempt::NoMatch);
    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    assert!(window.get("user_code").is_none());
    let attempt = claim::confirm(&didp.app, &anna, &device.code, "").await.unwrap();
    let Attempt::Matched { ticket } = attempt else { panic!("{attempt:?}") };
    assert_eq!(mqtt.message().await.1["expires_in"], 300);
    let phone = didp.owner("anna").await;
    let elsewhere = claim::confirm(&didp.app, &phone, &device.code, "").await.unwrap();
    assert_eq!(elsewhere, Attempt::NoMatch, "one person with two browsers is no contest");

    let accepted = claim::accept(&didp.app, &anna, &ticket, Some("Kitchen")).await.unwrap();
    assert_eq!(accepted, ClaimState::Waiting);
    didp.clock.advance(13);
    didp.sweep().await;
    let owned = async || sqlx_count(&didp, "SELECT count(*) FROM ownerships").await;
    assert_eq!(owned().await, 0, "nothing is given yet");
    assert_eq!(claim::describe(&didp.app, &anna, &ticket).await.unwrap().unwrap().state, ClaimState::Waiting);
    didp.clock.advance(2);
    didp.sweep().await;
    let granted = mqtt.message().await.1;
    assert_eq!(granted["status"], "granted");
    let tokens = mqtt.ask("token", &redemption(&text(&granted["code"]), &device.verifier)).await;
    assert!(tokens["access_token"].is_string(), "{tokens}");
    assert_eq!(mqtt.ask("claim/done", &json!({})).await, json!({}));
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    assert_eq!(overview.devices[0].name.as_deref(), Some("Kitchen"));
    assert_eq!(sqlx_count(&didp, "SELECT count(*) FROM claims WHERE chosen_name IS NOT NULL").await, 0);
}

async fn sqlx_count(didp: &Didp, query: &'static str) -> i64 {
    didp::store::sql::query_scalar(query).fetch_one(&mut didp.app.store.read().await.unwrap()).await.unwrap()
}

/// A thief with a photograph of the code is faster than the owner, and even says yes at once.
#[tokio::test]
async fn checklist_30_a_photographed_code_of_a_button_wins_nothing_while_the_owner_answers() {
    let didp = Didp::start().await;
    let (anna, thief) = (didp.owner("anna").await, didp.owner("thief").await);
    let device = didp.device("press").await;
    let mut mqtt = didp.connect(&device).await;
    let ticket = didp.matched(&thief, &device, &mut mqtt).await;
    assert_eq!(claim::accept(&didp.app, &thief, &ticket, None).await.unwrap(), ClaimState::Waiting);
    didp.clock.advance(13);
    didp.sweep().await;
    assert_eq!(claim::confirm(&didp.app, &anna, &device.code, "").await.unwrap(), Attempt::Contested);
    assert_eq!(mqtt.message().await.1, json!({"error": "access_denied"}));
    let page = claim::describe(&didp.app, &thief, &ticket).await.unwrap().unwrap();
    assert_eq!(page.state, ClaimState::Contested);
    didp.clock.advance(60);
    didp.sweep().await;
    assert_eq!(sqlx_count(&didp, "SELECT count(*) FROM ownerships").await, 0);
}

#[tokio::test]
async fn checklist_30_two_logins_for_a_button_cancel_both() {
    let didp = Didp::start().await;
    let (anna, thief) = (didp.owner("anna").await, didp.owner("thief").await);
    let device = didp.device("press").await;
    let mut mqtt = didp.connect(&device).await;

    // The second comes while the first decides.
    let ticket = didp.matched(&thief, &device, &mut mqtt).await;
    assert_eq!(claim::confirm(&didp.app, &anna, &device.code, "").await.unwrap(), Attempt::Contested);
    assert_eq!(mqtt.message().await.1, json!({"error": "access_denied"}));
    assert_eq!(claim::accept(&didp.app, &thief, &ticket, None).await.unwrap(), ClaimState::Contested);

    // Both wait for the press.
    for session in [&anna, &thief] {
        assert_eq!(claim::confirm(&didp.app, session, &device.code, "").await.unwrap(), Attempt::NoMatch);
    }
    assert_eq!(mqtt.ask("claim", &press(&device.verifier)).await["error"], "access_denied");

    // One waits, another is faster after the press.
    assert_eq!(claim::confirm(&didp.app, &anna, &device.code, "").await.unwrap(), Attempt::NoMatch);
    assert_eq!(mqtt.ask("claim", &press(&device.verifier)).await["status"], "window_open");
    assert_eq!(claim::confirm(&didp.app, &thief, &device.code, "").await.unwrap(), Attempt::Contested);
}

#[tokio::test]
async fn checklist_33_a_release_leaves_no_trace_of_label_and_name() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, tokens) = didp.claimed(&anna).await;
    let label = text(&didp.introspect(&text(&tokens["access_token"])).await["label"]);
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    let id = overview.devices[0].id.clone();
    assert!(account::rename(&didp.app, &anna, &id, Some("Anna's secret bedroom")).await.unwrap());
    assert!(didp.holds(&label) && didp.holds("Anna's secret bedroom"), "the search itself works");
    assert!(account::release(&didp.app, &anna, &id).await.unwrap());
    // Stopping folds the log into the file.
    let didp = didp.restart().await;
    assert!(!didp.holds(&label));
}
