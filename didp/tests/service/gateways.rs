//! What gateways may ask and what they hear: RFC 7662, grants, events; checklist 17, 21, 24, 33.

use std::time::Duration;

use didp::flows::account;
use didp::flows::operator::{self, NewGateway, Rotation};
use didp::store::events;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Didp, Events, GATEWAY, OTHER_GATEWAY, text};

#[tokio::test]
async fn checklist_17_only_gateways_introspect_and_only_for_themselves() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (device, _mqtt, tokens) = didp.claimed(&anna).await;
    let token = text(&tokens["access_token"]);
    for path in ["/introspect", "/introspect/grants"] {
        for basic in [
            None,
            Some((GATEWAY.0, "wrong")),
            Some((GATEWAY.0, OTHER_GATEWAY.1)),
            Some((device.client_id.as_str(), device.secret.as_str())),
        ] {
            let (status, answer) = didp.form(path, basic, &[("token", &token), ("sub", "x")]).await;
            assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")));
        }
    }
    let (_, elsewhere) = didp.form("/introspect", Some(OTHER_GATEWAY), &[("token", &token)]).await;
    assert_eq!(elsewhere, json!({"active": false}), "a token for another audience");
    assert_eq!(didp.introspect("unknown").await, json!({"active": false}));
    assert_eq!(didp.introspect(&text(&tokens["refresh_token"])).await, json!({"active": false}));
    assert!(didp.is_active(&token).await, "the other gateway did not use it up");
}

#[tokio::test]
async fn checklist_24_introspection_answers_exactly_what_a_gateway_needs() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (device, _mqtt, tokens) = didp.claimed(&anna).await;
    let (app, app_tokens) = didp.allowed(&anna, "none").await;
    let of_device = didp.introspect(&text(&tokens["access_token"])).await;
    let of_app = didp.introspect(&text(&app_tokens["access_token"])).await;
    let names = |answer: &Value| {
        let mut names: Vec<String> = answer.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let mut expected =
        ["active", "aud", "authorization_details", "exp", "iss", "rev", "scope", "sid", "state_share", "sub"]
            .to_vec();
    assert_eq!(names(&of_app), expected);
    expected.push("label");
    expected.sort_unstable();
    assert_eq!(names(&of_device), expected);
    assert_eq!(of_device["sub"], of_app["sub"]);
    assert_eq!(of_device["state_share"], of_app["state_share"]);
    assert_ne!(of_device["sid"], of_app["sid"]);
    assert_eq!(of_device["aud"], "http://ignite.test");
    assert_eq!((text(&of_device["sub"]).len(), text(&of_device["label"]).len()), (22, 11));
    let detail = &of_device["authorization_details"][0];
    assert_eq!(
        (&detail["identifier"], &detail["actions"]),
        (&of_device["label"], &json!(["publish", "subscribe"]))
    );
    for answer in [&of_device, &of_app] {
        let text = answer.to_string();
        assert!(
            !text.contains(&device.client_id) && !text.contains(&app.client_id) && !text.contains("Kitchen")
        );
    }
    let ben = didp.owner("ben").await;
    let (_device, _mqtt, others) = didp.claimed(&ben).await;
    assert_ne!(didp.introspect(&text(&others["access_token"])).await["sub"], of_device["sub"]);
}

#[tokio::test]
async fn grants_of_an_owner_are_listed_while_they_are_current() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, tokens) = didp.claimed(&anna).await;
    let (_app, app_tokens) = didp.allowed(&anna, "none").await;
    let device = didp.introspect(&text(&tokens["access_token"])).await;
    let app = didp.introspect(&text(&app_tokens["access_token"])).await;
    let sub = text(&device["sub"]);
    let grants = async |sub: &str| didp.form("/introspect/grants", Some(GATEWAY), &[("sub", sub)]).await.1;
    let list = grants(&sub).await;
    assert_eq!((&list["sub"], &list["rev"]), (&device["sub"], &app["rev"]));
    for (entry, token) in list["grants"].as_array().unwrap().iter().zip([&device, &app]) {
        assert_eq!(entry["sid"], token["sid"]);
        assert_eq!(entry["authorization_details"], token["authorization_details"]);
    }
    assert_eq!(grants("unknown").await["grants"], json!([]));
    let (_, elsewhere) = didp.form("/introspect/grants", Some(OTHER_GATEWAY), &[("sub", &sub)]).await;
    assert_eq!(elsewhere["grants"], json!([]), "pairwise: another gateway knows nobody of this name");

    let id = account::overview(&didp.app, &anna).await.unwrap().apps[0].id.clone();
    assert!(account::withdraw(&didp.app, &anna, &id).await.unwrap());
    let list = grants(&sub).await;
    assert_eq!(list["grants"].as_array().unwrap().len(), 1);
    assert!(list["rev"].as_i64() > app["rev"].as_i64());
}

#[tokio::test]
async fn events_tell_each_change_and_a_stream_resumes() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let mut events = Events::open(&didp, None).await;
    assert_eq!(events.next().await, json!({"seq": 0, "kind": "head"}));

    let (_device, mut mqtt, tokens) = didp.claimed(&anna).await;
    let claimed = events.next().await;
    assert_eq!(claimed["kind"], "changed");
    let device = didp.introspect(&text(&tokens["access_token"])).await;
    assert_eq!((&claimed["sub"], &claimed["seq"]), (&device["sub"], &device["rev"]));

    let (_app, app_tokens) = didp.allowed(&anna, "none").await;
    let allowed = events.next().await;
    assert_eq!((&allowed["kind"], &allowed["sub"]), (&json!("changed"), &device["sub"]));
    let app = didp.introspect(&text(&app_tokens["access_token"])).await;
    let id = account::overview(&didp.app, &anna).await.unwrap().apps[0].id.clone();
    account::withdraw(&didp.app, &anna, &id).await.unwrap();
    let withdrawn = [events.next().await, events.next().await];
    assert_eq!((&withdrawn[0]["kind"], &withdrawn[0]["sid"]), (&json!("revoked"), &app["sid"]));
    assert_eq!((&withdrawn[1]["kind"], &withdrawn[1]["sub"]), (&json!("changed"), &device["sub"]));

    mqtt.ask("reset", &json!({})).await;
    let mut again = Events::open(&didp, withdrawn[0]["seq"].as_i64()).await;
    assert_eq!(again.next().await, withdrawn[1], "nothing is missed and nothing repeated");
    let reset = again.next().await;
    assert_eq!((&reset["kind"], &reset["sid"]), (&json!("revoked"), &device["sid"]));
    assert!(events.next().await == reset);

    for unknown in [9_999, -1] {
        assert_eq!(Events::open(&didp, Some(unknown)).await.next().await["kind"], "gap");
    }
}

#[tokio::test]
async fn a_stream_that_was_away_too_long_gets_a_gap() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, mut mqtt, _tokens) = didp.claimed(&anna).await;
    mqtt.ask("reset", &json!({})).await;
    didp.clock.advance(8 * 86_400);
    didp.sweep().await;
    assert_eq!(Events::open(&didp, Some(1)).await.next().await["kind"], "gap");
    let head = Events::open(&didp, None).await.next().await;
    assert_eq!(head["kind"], "head");
    assert!(head["seq"].as_i64().unwrap() > 1, "the count goes on");
}

#[tokio::test]
async fn a_grant_that_ends_by_time_is_told() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let client = didp.register_app("none").await;
    let verifier = service::secret::random_token::<32>();
    let until = didp.clock.now() + 600;
    let code = didp.app_code_until(&anna, &client, &verifier, Some(until)).await;
    let (_, tokens) = didp.redeem(&client, &code, &verifier).await;
    let sid = didp.introspect(&text(&tokens["access_token"])).await["sid"].clone();
    let mut events = Events::open(&didp, None).await;
    events.next().await;
    didp.clock.advance(600);
    let ended = events.next().await;
    assert_eq!((&ended["kind"], &ended["sid"]), (&json!("revoked"), &sid));
}

#[tokio::test]
async fn events_end_with_the_process_and_need_a_gateway() {
    let didp = Didp::start().await;
    let refused = didp.http.get(didp.url("/introspect/events")).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let mut events = Events::open(&didp, None).await;
    events.next().await;
    let stream = tokio::spawn(async move { events.response.bytes_stream().count().await });
    didp.restart().await;
    tokio::time::timeout(Duration::from_secs(20), stream).await.unwrap().unwrap();
}

/// Whoever has a secret that was replaced hears nothing more, on a stream that is open either.
#[tokio::test]
async fn a_stream_does_not_outlive_the_secret_that_opened_it() {
    let didp = Didp::start().await;
    let address =
        serde_json::from_value(json!({"host": "two.test", "port": 8883, "spki_sha256": []})).unwrap();
    let new = NewGateway { client_id: "two".into(), resource: "https://two.test".into(), address };
    let mut secret = operator::add_gateway(&didp.app, &new).await.unwrap();
    for disabled in [false, true] {
        let request = didp.http.get(didp.url("/introspect/events")).basic_auth("two", Some(&*secret));
        let mut stream = request.send().await.unwrap();
        assert_eq!(stream.status(), 200);
        let tell = async |sub: &str| {
            let mut tx = didp.app.store.write().await.unwrap();
            let seq =
                events::insert(&mut tx, "two", "changed", Some(sub), None, didp.clock.now()).await.unwrap();
            tx.commit().await.unwrap();
            didp.app.events.send_replace(seq);
        };
        tell("somebody").await;
        let mut heard = String::new();
        while !heard.contains("somebody") {
            heard.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
        }
        if disabled {
            operator::disable_gateway(&didp.app, "two", true).await.unwrap();
        } else {
            secret = operator::rotate_gateway(&didp.app, "two", &Rotation::default()).await.unwrap();
        }
        tell("another").await;
        let rest = tokio::time::timeout(Duration::from_secs(20), stream.bytes()).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("another"));
    }
}
