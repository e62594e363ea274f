//! Properties of the line of a grant (design §3) over random schedules of lost and late replies, retries, races, uses, waits,
//! revocations and thefts, over HTTP and over MQTT.

use std::collections::HashSet;

use didp::flows::account::NoticeKind;
use didp::flows::token::{self, TokenRequest};
use didp::flows::{Refusal, claim, introspection};
use didp::state::App;
use didp::store::clients::{self, Client};
use mqtt_wire::{Properties, Version};
use oauth_wire::{Introspection, TokenResponse};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::harness::{self, Came, Device, Didp, GATEWAY, Mqtt, text};

/// A pair of tokens that somebody holds.
#[derive(Clone, Debug)]
struct Pair {
    access: String,
    refresh: String,
}

impl Pair {
    fn of(tokens: &Value) -> Self {
        Self { access: text(&tokens["access_token"]), refresh: text(&tokens["refresh_token"]) }
    }
}

impl From<TokenResponse> for Pair {
    fn from(tokens: TokenResponse) -> Self {
        Self { access: tokens.access_token, refresh: tokens.refresh_token }
    }
}

/// What an honest client does, or what happens to it.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Refreshes and stores the answer.
    Refresh,
    /// Refreshes; the answer is lost on the way, and the client knows nothing of it.
    LostReply,
    /// Refreshes several times, one after the other, and keeps the last answer.
    Retries(u8),
    /// Refreshes several times at once and keeps one of the answers; the others come late, and are ignored.
    Race(u8),
    /// Connects to the gateway with what it has stored.
    Use,
    /// Time passes.
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Refresh),
        3 => Just(Step::LostReply),
        1 => (1..12_u8).prop_map(Step::Retries),
        1 => (2..8_u8).prop_map(Step::Race),
        3 => Just(Step::Use),
        1 => (1..7_200_i64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn refresh(app: &App, client: &Client, pair: &Pair) -> Result<Pair, Refusal> {
    let request = TokenRequest::RefreshToken { refresh_token: &pair.refresh, scope: None, resource: None };
    token::answer(app, client, request).await.map(Pair::from)
}

async fn is_active(app: &App, pair: &Pair) -> bool {
    let gateway = introspection::gateway(app, GATEWAY.0, GATEWAY.1).unwrap();
    matches!(introspection::introspect(app, &gateway, &pair.access).await.unwrap(), Introspection::Active(_))
}

async fn client(app: &App, client_id: &str) -> Client {
    clients::get(&mut app.store.read().await.unwrap(), client_id).await.unwrap().unwrap()
}

/// One store for all schedules of a test; each gets a grant of its own.
fn with_didp<T>(test: impl AsyncFnOnce(&Didp) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let didp = Didp::start().await;
        test(&didp).await
    })
}

fn schedules(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}

/// How a client's requests travel.
enum Way<'a> {
    /// To the flow behind both doorways.
    Flow(&'a Didp, Client),
    /// `POST /token`.
    Http(&'a Didp, harness::Client),
    /// `$oauth/token`, on a connection that is made anew when it was closed.
    Mqtt(&'a Didp, Device, Mutex<Option<Mqtt>>),
    /// Now over the one, now over the other, as a device may.
    Both(Box<[Way<'a>; 2]>, std::sync::atomic::AtomicUsize),
}

impl<'a> Way<'a> {
    fn both(didp: &'a Didp, device: Device) -> Self {
        let client = harness::Client {
            client_id: device.client_id.clone(),
            secret: Some(device.secret.clone()),
            method: "client_secret_basic".into(),
        };
        let ways = [Way::Http(didp, client), Way::Mqtt(didp, device, Mutex::default())];
        Way::Both(Box::new(ways), Default::default())
    }

    fn didp(&self) -> &'a Didp {
        match self {
            Way::Flow(didp, _) | Way::Http(didp, _) | Way::Mqtt(didp, ..) => didp,
            Way::Both(ways, _) => ways[0].didp(),
        }
    }

    async fn refresh(&self, pair: &Pair) -> Result<Pair, String> {
        match self {
            Way::Flow(didp, client) => refresh(&didp.app, client, pair)
                .await
                .map_err(|refusal| refusal.answer().error.as_str().into()),
            Way::Http(didp, client) => answered(didp.refresh(client, &pair.refresh).await.1),
            Way::Mqtt(didp, device, link) => {
                let request = json!({"grant_type": "refresh_token", "refresh_token": pair.refresh});
                answered(Self::ask(didp, device, link, "token", &request).await)
            }
            Way::Both(ways, turn) => {
                let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Box::pin(ways[turn % 2].refresh(pair)).await
            }
        }
    }

    async fn revoke(&self, token: &str) {
        match self {
            Way::Flow(didp, client) => assert!(token::revoke(&didp.app, client, token).await.unwrap()),
            Way::Http(didp, client) => {
                let secret = client.secret.as_deref().unwrap_or_default();
                let basic = Some((client.client_id.as_str(), secret));
                assert_eq!(didp.form("/revoke", basic, &[("token", token)]).await.0, 200);
            }
            Way::Mqtt(didp, device, link) => {
                let answer = Self::ask(didp, device, link, "revoke", &json!({"token": token})).await;
                assert_eq!(answer, json!({}));
            }
            Way::Both(ways, _) => Box::pin(ways[1].revoke(token)).await,
        }
    }

    /// Asks on the connection that there is; a closed one (requests have a rate there) is made anew.
    async fn ask(
        didp: &Didp,
        device: &Device,
        link: &Mutex<Option<Mqtt>>,
        what: &str,
        payload: &Value,
    ) -> Value {
        let mut link = link.lock().await;
        for _ in 0..3 {
            if link.is_none() {
                let login =
                    Mqtt::login(didp.mqtt_address(), Version::V5, &device.client_id, &device.secret).await;
                *link = Some(login.unwrap());
            }
            if let Some(mqtt) = link.as_mut() {
                let payload = payload.to_string();
                mqtt.publish(&format!("$oauth/{what}"), payload.as_bytes(), Properties::EMPTY).await;
                if let Came::Publish { payload, .. } = mqtt.next().await {
                    return payload;
                }
            }
            *link = None;
        }
        panic!("no connection gave an answer");
    }
}

fn answered(answer: Value) -> Result<Pair, String> {
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(Pair::of(&answer)),
    }
}

/// Plays a schedule of an honest client that holds `held`; afterwards, one line lives. Answers all pairs that there ever were,
/// the one that lives last.
async fn play(way: &Way<'_>, mut held: Pair, mut every: Vec<Pair>, steps: Vec<Step>) -> Vec<Pair> {
    let didp = way.didp();
    every.push(held.clone());
    for step in steps {
        match step {
            Step::Refresh => held = way.refresh(&held).await.expect("stranded"),
            Step::LostReply => every.push(way.refresh(&held).await.expect("stranded")),
            Step::Retries(count) => {
                let mut kept = None;
                for _ in 0..count {
                    let answer = way.refresh(&held).await.expect("stranded");
                    every.push(answer.clone());
                    kept = Some(answer);
                }
                held = kept.unwrap_or(held);
            }
            Step::Race(count) => {
                let tries = (0..count).map(|_| way.refresh(&held));
                let answers: Vec<Pair> = futures_util::future::join_all(tries)
                    .await
                    .into_iter()
                    .map(|answer| answer.expect("stranded"))
                    .collect();
                every.extend(answers.iter().cloned());
                held = answers[usize::from(count) / 2].clone();
            }
            Step::Use => {
                // A token that ended by time is renewed, as any client does.
                if !is_active(&didp.app, &held).await {
                    held = way.refresh(&held).await.expect("stranded");
                    assert!(is_active(&didp.app, &held).await, "a fresh token is accepted");
                }
            }
            Step::Wait(seconds) => didp.clock.advance(seconds),
        }
        every.push(held.clone());
    }
    held = way.refresh(&held).await.expect("stranded");
    assert!(is_active(&didp.app, &held).await);
    for other in every.iter().filter(|other| other.access != held.access) {
        assert!(!is_active(&didp.app, other).await, "two lines live");
    }
    assert!(is_active(&didp.app, &held).await);
    every.push(held);
    every
}

/// Once the grant is revoked, nothing that there ever was works any more.
async fn revoked(way: &Way<'_>, every: &[Pair], which: usize) {
    let didp = way.didp();
    let alive = every.last().unwrap();
    way.revoke(&alive.refresh).await;
    assert!(!is_active(&didp.app, alive).await);
    let other = &every[which % every.len()];
    for pair in [other, alive] {
        assert_eq!(way.refresh(pair).await.err().as_deref(), Some("invalid_grant"));
        assert!(!is_active(&didp.app, pair).await);
    }
}

#[test]
fn without_a_thief_no_schedule_strands_an_app() {
    let mut runner = proptest::test_runner::TestRunner::new(schedules(24));
    let outcome = runner.run(&steps(), |steps| {
        with_didp(async |didp| {
            let anna = didp.owner("anna").await;
            let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
            let client = client(&didp.app, &app.client_id).await;
            play(&Way::Flow(didp, client), Pair::of(&tokens), Vec::new(), steps).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn without_a_thief_no_schedule_strands_an_app_over_http_and_a_revocation_ends_it_all() {
    let mut runner = proptest::test_runner::TestRunner::new(schedules(10));
    let outcome = runner.run(&(steps(), any::<usize>()), |(steps, which)| {
        with_didp(async |didp| {
            let anna = didp.owner("anna").await;
            let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
            let way = Way::Http(didp, app);
            let every = play(&way, Pair::of(&tokens), Vec::new(), steps).await;
            revoked(&way, &every, which).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn without_a_thief_no_schedule_strands_a_device_over_http_and_mqtt_and_a_revocation_ends_it_all() {
    let mut runner = proptest::test_runner::TestRunner::new(schedules(10));
    let outcome = runner.run(&(steps(), any::<usize>()), |(steps, which)| {
        with_didp(async |didp| {
            let anna = didp.owner("anna").await;
            let (device, mqtt, tokens) = didp.claimed(&anna).await;
            drop(mqtt);
            let way = Way::both(didp, device);
            let every = play(&way, Pair::of(&tokens), Vec::new(), steps).await;
            revoked(&way, &every, which).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

/// A public client may retry for 60 seconds; within them no schedule strands it either.
#[test]
fn without_a_thief_no_schedule_strands_a_public_client_that_retries_in_time() {
    let step = prop_oneof![
        3 => Just(Step::Refresh),
        3 => Just(Step::LostReply),
        2 => (1..12_u8).prop_map(Step::Retries),
        1 => (2..8_u8).prop_map(Step::Race),
        3 => Just(Step::Use),
        2 => (1..5_i64).prop_map(Step::Wait),
    ];
    let mut runner = proptest::test_runner::TestRunner::new(schedules(10));
    let outcome = runner.run(&proptest::collection::vec(step, 1..12), |steps| {
        with_didp(async |didp| {
            let anna = didp.owner("anna").await;
            let (app, tokens) = didp.allowed(&anna, "none").await;
            play(&Way::Http(didp, app), Pair::of(&tokens), Vec::new(), steps).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

/// Of any number of siblings the newest eight are alive, and the first that is used is the only one.
#[tokio::test]
async fn of_many_siblings_eight_are_alive_until_one_is_used() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    for used in [0, 7] {
        let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
        let parent = Pair::of(&tokens);
        assert!(is_active(&didp.app, &parent).await);
        let mut siblings = Vec::new();
        for _ in 0..13 {
            siblings.push(answered(didp.refresh(&app, &parent.refresh).await.1).unwrap());
        }
        let alive = siblings.split_off(5);
        for dead in &siblings {
            assert!(!is_active(&didp.app, dead).await, "the oldest gave way");
        }
        assert!(is_active(&didp.app, &alive[used]).await, "the newest eight are good");
        for (at, other) in alive.iter().enumerate() {
            assert_eq!(is_active(&didp.app, other).await, at == used);
        }
        assert!(!is_active(&didp.app, &parent).await);
    }
}

#[test]
fn without_a_thief_no_schedule_strands_a_device_from_its_code_on() {
    let mut runner = proptest::test_runner::TestRunner::new(schedules(24));
    let outcome = runner.run(&(0..12_u8, any::<bool>(), steps()), |(lost_redemptions, reports, steps)| {
        with_didp(async |didp| {
            let anna = didp.owner("anna").await;
            let device = didp.device("code").await;
            let mut mqtt = didp.connect(&device).await;
            let code = didp.granted(&anna, &device, &mut mqtt).await;
            let client = client(&didp.app, &device.client_id).await;
            let redeem = async || {
                let request = TokenRequest::AuthorizationCode {
                    code: &code,
                    code_verifier: &device.verifier,
                    redirect_uri: None,
                    resource: None,
                };
                Pair::from(token::answer(&didp.app, &client, request).await.expect("stranded"))
            };
            let mut lost = Vec::new();
            for _ in 0..lost_redemptions {
                lost.push(redeem().await);
            }
            let held = redeem().await;
            if reports {
                claim::done(&didp.app, &device.client_id).await.unwrap();
            } else {
                // The report was lost, so the device's first step is to use what it stored.
                assert!(is_active(&didp.app, &held).await);
            }
            play(&Way::Flow(didp, client), held, lost, steps).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_end_with_one_line() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
    let mut refresh_token = text(&tokens["refresh_token"]);
    for _ in 0..5 {
        let tries = (0..8).map(|_| didp.refresh(&app, &refresh_token));
        let answers = futures_util::future::join_all(tries).await;
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        let access: Vec<String> = answers.iter().map(|(_, tokens)| text(&tokens["access_token"])).collect();
        let used = futures_util::future::join_all(access.iter().map(|token| didp.is_active(token))).await;
        assert_eq!(used.iter().filter(|active| **active).count(), 1, "exactly one sibling won");
        let winner = used.iter().position(|active| *active).unwrap();
        refresh_token = text(&answers[winner].1["refresh_token"]);
    }
}

/// Who moves in a schedule with a thief.
#[derive(Clone, Copy, Debug)]
enum Move {
    ClientRefreshes,
    ClientUses,
    ThiefRefreshes,
    ThiefUses,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        Just(Move::ClientRefreshes),
        Just(Move::ClientUses),
        Just(Move::ThiefRefreshes),
        Just(Move::ThiefUses),
    ];
    proptest::collection::vec(one, 1..30)
}

/// Plays a schedule of a client and a thief who took what it holds; whatever they do, both cannot go on without a revocation.
async fn rob(way: &Way<'_>, held: Pair, moves: Vec<Move>, head_start: usize) {
    let didp = way.didp();
    let mut clients = held;
    for _ in 0..head_start {
        clients = way.refresh(&clients).await.unwrap();
    }
    let mut thiefs = clients.clone();
    // Accesses that were accepted after the theft, by who showed them; what both hold at first counts for none.
    let stolen = clients.access.clone();
    let mut accepted: [HashSet<String>; 2] = Default::default();
    for step in moves {
        let (who, pair) = match step {
            Move::ClientRefreshes | Move::ClientUses => (0, &mut clients),
            Move::ThiefRefreshes | Move::ThiefUses => (1, &mut thiefs),
        };
        match step {
            Move::ClientRefreshes | Move::ThiefRefreshes => {
                if let Ok(next) = way.refresh(pair).await {
                    *pair = next;
                }
            }
            Move::ClientUses | Move::ThiefUses => {
                if is_active(&didp.app, pair).await && pair.access != stolen {
                    accepted[who].insert(pair.access.clone());
                }
            }
        }
        // As soon as both have used tokens of their own, both cannot be served any more.
        if accepted.iter().all(|own| !own.is_empty()) {
            let both = is_active(&didp.app, &clients).await && is_active(&didp.app, &thiefs).await;
            assert!(!both, "client and thief both go on");
        }
    }
    // Whoever presents a dead handle ends it for both.
    let client_goes_on = way.refresh(&clients).await;
    let client_used = match &client_goes_on {
        Ok(pair) => is_active(&didp.app, pair).await,
        Err(_) => false,
    };
    let thief_goes_on = way.refresh(&thiefs).await;
    let shared = clients.refresh == thiefs.refresh;
    if client_used && !shared {
        assert!(thief_goes_on.is_err(), "the thief's handle is dead once the client used its own");
    }
    if client_used && thief_goes_on.is_err() {
        let pair = client_goes_on.unwrap();
        assert!(!is_active(&didp.app, &pair).await, "the theft was noticed and everything revoked");
    }
}

fn robberies(cases: u32, play: impl AsyncFn(&Didp, Vec<Move>, usize)) {
    let mut runner = proptest::test_runner::TestRunner::new(schedules(cases));
    let outcome = runner.run(&(moves(), 0..4_usize), |(moves, head_start)| {
        with_didp(async |didp| play(didp, moves, head_start).await);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_thief_and_the_client_cannot_both_go_on_without_a_revocation() {
    robberies(24, async |didp, moves, head_start| {
        let anna = didp.owner("anna").await;
        let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
        let way = Way::Flow(didp, client(&didp.app, &app.client_id).await);
        rob(&way, Pair::of(&tokens), moves, head_start).await;
    });
}

#[test]
fn a_thief_and_an_app_cannot_both_go_on_over_http() {
    robberies(10, async |didp, moves, head_start| {
        let anna = didp.owner("anna").await;
        let (app, tokens) = didp.allowed(&anna, "client_secret_post").await;
        rob(&Way::Http(didp, app), Pair::of(&tokens), moves, head_start).await;
    });
}

/// The owner sees it: the device is suspended, and only the same owner can bring it back.
#[test]
fn a_thief_and_a_device_cannot_both_go_on_over_http_and_mqtt() {
    robberies(10, async |didp, moves, head_start| {
        let anna = didp.owner("anna").await;
        let (device, mqtt, tokens) = didp.claimed(&anna).await;
        drop(mqtt);
        let way = Way::both(didp, device);
        rob(&way, Pair::of(&tokens), moves, head_start).await;
        let overview = didp::flows::account::overview(&didp.app, &anna).await.unwrap();
        let alarmed = overview.notices.iter().any(|notice| notice.kind == NoticeKind::TheftAlarm);
        assert_eq!(overview.devices[0].suspended, alarmed, "what is suspended is told, and nothing else is");
    });
}
