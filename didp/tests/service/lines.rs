//! Properties of the line of a grant (design §3) over random schedules of lost replies, retries, uses and thefts.

use std::collections::HashSet;

use didp::flows::token::{self, TokenRequest};
use didp::flows::{Refusal, claim, introspection};
use didp::state::App;
use didp::store::clients::{self, Client};
use oauth_wire::{Introspection, TokenResponse};
use proptest::prelude::*;
use serde_json::Value;

use crate::harness::{Didp, GATEWAY, text};

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
    /// Refreshes several times at once and keeps the last answer.
    Retries(u8),
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
    matches!(introspection::introspect(app, gateway, &pair.access).await.unwrap(), Introspection::Active(_))
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

/// Plays a schedule of an honest client that holds `held`; afterwards, one line lives.
async fn play(didp: &Didp, client: &Client, mut held: Pair, mut every: Vec<Pair>, steps: Vec<Step>) {
    every.push(held.clone());
    for step in steps {
        match step {
            Step::Refresh => held = refresh(&didp.app, client, &held).await.expect("stranded"),
            Step::LostReply => every.push(refresh(&didp.app, client, &held).await.expect("stranded")),
            Step::Retries(count) => {
                let mut kept = None;
                for _ in 0..count {
                    let answer = refresh(&didp.app, client, &held).await.expect("stranded");
                    every.push(answer.clone());
                    kept = Some(answer);
                }
                held = kept.unwrap_or(held);
            }
            Step::Use => {
                // A token that ended by time is renewed, as any client does.
                if !is_active(&didp.app, &held).await {
                    held = refresh(&didp.app, client, &held).await.expect("stranded");
                    assert!(is_active(&didp.app, &held).await, "a fresh token is accepted");
                }
            }
            Step::Wait(seconds) => didp.clock.advance(seconds),
        }
        every.push(held.clone());
    }
    held = refresh(&didp.app, client, &held).await.expect("stranded");
    assert!(is_active(&didp.app, &held).await);
    for other in every.iter().filter(|other| other.access != held.access) {
        assert!(!is_active(&didp.app, other).await, "two lines live");
    }
    assert!(is_active(&didp.app, &held).await);
}

#[test]
fn without_a_thief_no_schedule_strands_an_app() {
    let mut runner = proptest::test_runner::TestRunner::new(schedules(24));
    let outcome = runner.run(&steps(), |steps| {
        with_didp(async |didp| {
            let anna = didp.owner("anna").await;
            let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
            let client = client(&didp.app, &app.client_id).await;
            play(didp, &client, Pair::of(&tokens), Vec::new(), steps).await;
        });
        Ok(())
    });
    outcome.unwrap();
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
            play(didp, &client, held, lost, steps).await;
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

#[test]
fn a_thief_and_the_client_cannot_both_go_on_without_a_revocation() {
    let mut runner = proptest::test_runner::TestRunner::new(schedules(24));
    let outcome = runner.run(&(moves(), 0..4_usize), |(moves, head_start)| {
        with_didp(async |didp| {
            let anna = didp.owner("anna").await;
            let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
            let registered = client(&didp.app, &app.client_id).await;
            let mut clients = Pair::of(&tokens);
            for _ in 0..head_start {
                clients = refresh(&didp.app, &registered, &clients).await.unwrap();
            }
            let mut thiefs = clients.clone();
            // Accesses that were accepted after the theft, by who showed them; what both hold at first counts for none.
            let stolen = clients.access.clone();
            let mut accepted: [HashSet<String>; 2] = Default::default();
            let mut alive = [true, true];
            for step in moves {
                let (who, pair) = match step {
                    Move::ClientRefreshes | Move::ClientUses => (0, &mut clients),
                    Move::ThiefRefreshes | Move::ThiefUses => (1, &mut thiefs),
                };
                match step {
                    Move::ClientRefreshes | Move::ThiefRefreshes => {
                        match refresh(&didp.app, &registered, pair).await {
                            Ok(next) => *pair = next,
                            Err(_) => alive[who] = false,
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
            let client_goes_on = refresh(&didp.app, &registered, &clients).await;
            let client_used = match &client_goes_on {
                Ok(pair) => is_active(&didp.app, pair).await,
                Err(_) => false,
            };
            let thief_goes_on = refresh(&didp.app, &registered, &thiefs).await;
            let shared = clients.refresh == thiefs.refresh;
            if client_used && !shared {
                assert!(thief_goes_on.is_err(), "the thief's handle is dead once the client used its own");
            }
            if client_used && thief_goes_on.is_err() {
                let pair = client_goes_on.unwrap();
                assert!(!is_active(&didp.app, &pair).await, "the theft was noticed and everything revoked");
            }
        });
        Ok(())
    });
    outcome.unwrap();
}
