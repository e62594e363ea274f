//! Claims over random schedules of presses, answers, consents, redemptions, reports, losses and time (design §5.3): a device
//! never has two owners, and nothing half-done outlives its time.

use didp::flows::Refusal;
use didp::flows::claim::{self, Attempt, ClaimState};
use didp::flows::login::Session;
use didp::flows::token::{self, TokenRequest};
use didp::hub::ClaimMessage;
use didp::store::clients;
use oauth_wire::OAuthErrorCode;
use proptest::prelude::*;

use crate::harness::{Didp, challenge};

#[derive(Clone, Copy, Debug)]
enum Step {
    Press,
    Types { owner: usize, right: bool },
    Accepts(usize),
    Declines(usize),
    Redeems,
    Reports,
    Uses,
    Reconnects,
    Resets,
    Releases(usize),
    Waits(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Press),
        6 => (0..2_usize, proptest::bool::weighted(0.8)).prop_map(|(owner, right)| Step::Types { owner, right }),
        6 => (0..2_usize).prop_map(Step::Accepts),
        1 => (0..2_usize).prop_map(Step::Declines),
        5 => Just(Step::Redeems),
        5 => Just(Step::Reports),
        2 => Just(Step::Uses),
        1 => Just(Step::Reconnects),
        1 => Just(Step::Resets),
        1 => (0..2_usize).prop_map(Step::Releases),
        2 => prop_oneof![1..40_i64, 100..400_i64].prop_map(Step::Waits),
    ]
}

/// What the schedule knows from outside, as owners and device do.
#[derive(Default)]
struct Known {
    shown: String,
    tickets: [Option<String>; 2],
    code: Option<String>,
    access: Option<String>,
}

async fn play(didp: &Didp, confirm: &str, steps: Vec<Step>) {
    let owners: [Session; 2] = [didp.owner("anna").await, didp.owner("ben").await];
    let device = didp.device(confirm).await;
    let hub = didp.app.hub.clone();
    let mut seat = hub.enter(&device.client_id);
    let mut known = Known::default();
    for step in steps {
        match step {
            Step::Press => {
                let challenge = challenge(&device.verifier);
                let opened =
                    claim::open_window(&didp.app, &device.client_id, seat.connection, &challenge).await;
                if let Ok(window) = opened {
                    known.shown = window.user_code.unwrap_or_default();
                }
            }
            Step::Types { owner, right } => {
                let typed = if right { known.shown.as_str() } else { "wrong" };
                let attempt = claim::confirm(&didp.app, &owners[owner], &device.code, typed).await.unwrap();
                if let Attempt::Matched { ticket } = attempt {
                    known.tickets[owner] = Some(ticket);
                }
            }
            Step::Accepts(owner) => {
                if let Some(ticket) = &known.tickets[owner] {
                    answered(claim::accept(&didp.app, &owners[owner], ticket, Some("Name")).await);
                }
            }
            Step::Declines(owner) => {
                if let Some(ticket) = &known.tickets[owner] {
                    answered(claim::decline(&didp.app, &owners[owner], ticket).await);
                }
            }
            Step::Redeems => redeem(didp, &device.client_id, &device.verifier, &mut known).await,
            Step::Reports => {
                let _ = claim::done(&didp.app, &device.client_id).await;
            }
            Step::Uses => {
                if let Some(access) = &known.access {
                    didp.is_active(access).await;
                }
            }
            Step::Reconnects => {
                let before = seat.connection;
                seat = hub.enter(&device.client_id);
                claim::connection_lost(&didp.app, &device.client_id, before).await.unwrap();
            }
            Step::Resets => claim::reset(&didp.app, &device.client_id).await.unwrap(),
            Step::Releases(owner) => {
                let overview = didp::flows::account::overview(&didp.app, &owners[owner]).await.unwrap();
                for owned in overview.devices {
                    assert!(
                        didp::flows::account::release(&didp.app, &owners[owner], &owned.id).await.unwrap()
                    );
                }
            }
            Step::Waits(seconds) => {
                didp.clock.advance(seconds);
                didp.sweep().await;
            }
        }
        while let Ok(message) = seat.messages.try_recv() {
            if let ClaimMessage::Granted(code) = message {
                known.code = Some(code.to_string());
            }
        }
        let of_owner = async |owner: &Session| {
            let overview = didp::flows::account::overview(&didp.app, owner).await.unwrap();
            overview.devices.len()
        };
        assert!(of_owner(&owners[0]).await + of_owner(&owners[1]).await <= 1, "two owners");
    }
    didp.clock.advance(1_000);
    didp.sweep().await;
    let count = async |query: &'static str| -> i64 {
        didp::store::sql::query_scalar(query)
            .fetch_one(&mut didp.app.store.read().await.unwrap())
            .await
            .unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM ownerships WHERE state = 'pending'").await, 0);
    assert_eq!(count("SELECT count(*) FROM grants WHERE state = 'pending'").await, 0);
    let alive = "SELECT count(*) FROM claims WHERE state IN ('open', 'taken', 'granted', 'redeemed')";
    assert_eq!(count(alive).await, 0);
    let owned = "SELECT count(*) FROM ownerships WHERE state = 'active'";
    let granted =
        "SELECT count(*) FROM grants g JOIN ownerships o ON o.device = g.client_id AND o.user_id = g.user_id";
    assert_eq!(
        count(owned).await,
        count(granted).await,
        "owned devices have one grant each, and no others have any"
    );
}

/// A claim that is long over is unknown; nothing else may be refused.
fn answered(state: Result<ClaimState, Refusal>) {
    assert!(matches!(state, Ok(_) | Err(Refusal::OAuth(OAuthErrorCode::AccessDenied, _))), "{state:?}");
}

async fn redeem(didp: &Didp, client_id: &str, verifier: &str, known: &mut Known) {
    let Some(code) = known.code.clone() else { return };
    let client = clients::get(&mut didp.app.store.read().await.unwrap(), client_id).await.unwrap().unwrap();
    let request = TokenRequest::AuthorizationCode {
        code: &code,
        code_verifier: verifier,
        redirect_uri: None,
        resource: None,
    };
    if let Ok(tokens) = token::answer(&didp.app, &client, request).await {
        known.access = Some(tokens.access_token);
    }
}

fn over_schedules(confirm: &'static str) {
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let didp = runtime.block_on(Didp::start());
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&proptest::collection::vec(step(), 1..50), |steps| {
        runtime.block_on(async {
            // Owners of an earlier schedule's device give it up, so that each schedule starts clean.
            for name in ["anna", "ben"] {
                let owner = didp.owner(name).await;
                for owned in didp::flows::account::overview(&didp.app, &owner).await.unwrap().devices {
                    didp::flows::account::release(&didp.app, &owner, &owned.id).await.unwrap();
                }
            }
            play(&didp, confirm, steps).await;
        });
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn checklist_32_no_schedule_leaves_a_half_claim_of_a_device_with_a_display() {
    over_schedules("code");
}

#[test]
fn checklist_32_no_schedule_leaves_a_half_claim_of_a_device_with_a_button() {
    over_schedules("press");
}
