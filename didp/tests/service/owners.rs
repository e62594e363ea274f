//! Owners and their sessions: design §2 and §3, checklist 28; what the account pages do.

use didp::flows::login::{Linked, Session};
use didp::flows::{account, login};

use crate::harness::{Didp, text};

#[tokio::test]
async fn checklist_28_an_owner_is_issuer_and_subject_and_only_as_a_keyed_hash() {
    let didp = Didp::start().await;
    let sign_in = async |issuer: &str, subject: &str| {
        let token = login::sign_in(&didp.app, issuer, subject).await.unwrap();
        assert_eq!(token.len(), 43);
        (login::session(&didp.app, &token).await.unwrap().unwrap(), token)
    };
    let (first, token) = sign_in("https://a.test", "subject-of-anna").await;
    let (again, _) = sign_in("https://a.test", "subject-of-anna").await;
    let (elsewhere, _) = sign_in("https://b.test", "subject-of-anna").await;
    let (shifted, _) = sign_in("https://a.tests", "ubject-of-anna").await;
    assert_eq!(first.user, again.user);
    assert_ne!(first.id, again.id, "each login is a session of its own");
    assert!(first.user != elsewhere.user && first.user != shifted.user);
    for secret in ["subject-of-anna", "https://a.test", &token] {
        assert!(!didp.holds(secret), "{secret}");
    }
}

#[tokio::test]
async fn sessions_end_by_idleness_and_by_signing_out() {
    let didp = Didp::start().await;
    let idle = login::sign_in(&didp.app, "https://a.test", "anna").await.unwrap();
    let used = login::sign_in(&didp.app, "https://a.test", "anna").await.unwrap();
    for _ in 0..4 {
        didp.clock.advance(4 * 3_600);
        assert!(login::session(&didp.app, &used).await.unwrap().is_some());
    }
    assert!(login::session(&didp.app, &idle).await.unwrap().is_none());
    login::sign_out(&didp.app, &used).await.unwrap();
    assert!(login::session(&didp.app, &used).await.unwrap().is_none());
    assert!(login::session(&didp.app, "unknown").await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_ends_after_thirty_days_however_much_it_is_used() {
    let didp = Didp::start().await;
    let token = login::sign_in(&didp.app, "https://a.test", "anna").await.unwrap();
    for _ in 0..59 {
        didp.clock.advance(12 * 3_600 - 60);
        assert!(login::session(&didp.app, &token).await.unwrap().is_some());
    }
    didp.clock.advance(12 * 3_600 + 3_600);
    assert!(login::session(&didp.app, &token).await.unwrap().is_none());
}

#[tokio::test]
async fn checklist_21_owners_change_only_what_is_theirs() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let (_device, _mqtt, tokens) = didp.claimed(&anna).await;
    let (_app, app_tokens) = didp.allowed(&anna, "none").await;
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    let (device, app) = (overview.devices[0].id.clone(), overview.apps[0].id.clone());
    assert!(
        (overview.apps[0].verified, overview.apps[0].future.is_some(), overview.apps[0].shares_names)
            == (true, true, true)
    );

    let bens = account::overview(&didp.app, &ben).await.unwrap();
    assert!(bens.devices.is_empty() && bens.apps.is_empty() && bens.notices.is_empty());
    assert!(!account::release(&didp.app, &ben, &device).await.unwrap());
    assert!(!account::rename(&didp.app, &ben, &device, Some("Mine")).await.unwrap());
    assert!(!account::withdraw(&didp.app, &ben, &app).await.unwrap());
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    assert!(didp.is_active(&text(&app_tokens["access_token"])).await);

    assert!(account::rename(&didp.app, &anna, &device, Some("  Hall ")).await.unwrap());
    assert!(account::withdraw(&didp.app, &anna, &app).await.unwrap());
    assert!(!account::withdraw(&didp.app, &anna, &app).await.unwrap(), "it is gone");
    assert!(!didp.is_active(&text(&app_tokens["access_token"])).await);
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    assert_eq!(overview.devices[0].name.as_deref(), Some("Hall"));
    let kinds: Vec<_> = overview.notices.iter().map(|notice| notice.kind).collect();
    use account::NoticeKind::{AppAllowed, AppWithdrawn, Claimed};
    assert_eq!(kinds, [AppWithdrawn, AppAllowed, Claimed]);
    didp.clock.advance(91 * 86_400);
    assert!(account::overview(&didp.app, &anna).await.unwrap().notices.is_empty(), "90 days");
}

#[tokio::test]
async fn two_consents_to_one_app_are_two_strangers_to_it() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    let client = didp.register_app("none").await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let verifier = service::secret::random_token::<32>();
        let code = didp.app_code(&anna, &client, &verifier).await;
        let (_, tokens) = didp.redeem(&client, &code, &verifier).await;
        let sid = didp.introspect(&text(&tokens["access_token"])).await["sid"].clone();
        seen.push((tokens["authorization_details"][0]["ref"].clone(), sid));
    }
    assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1);
    assert_eq!(account::overview(&didp.app, &anna).await.unwrap().apps.len(), 2);
}

/// Checklist 28: a second login is linked by having both in one browser, never by what a provider says of somebody.
#[tokio::test]
async fn checklist_28_an_owner_may_have_several_logins_and_each_is_one_owners() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let other = "https://other.test";
    let link = async |session: &Session, subject: &str| {
        login::link(&didp.app, session, other, subject, "Other").await.unwrap()
    };
    let unlink = async |issuer: &str, subject: &str| {
        login::unlink(&didp.app, &anna, issuer, subject, "Other").await.unwrap()
    };
    let user_of = async |issuer: &str, subject: &str| {
        let token = login::sign_in(&didp.app, issuer, subject).await.unwrap();
        login::session(&didp.app, &token).await.unwrap().unwrap().user
    };
    assert_eq!(unlink("https://people.test", "anna").await, Linked::Last);
    assert_eq!(link(&anna, "a-1").await, Linked::Done);
    assert_eq!(link(&anna, "a-1").await, Linked::Already);
    assert_eq!(link(&ben, "a-1").await, Linked::Anothers);
    assert_eq!(user_of(other, "a-1").await, anna.user, "the same owner by either");
    assert_ne!(user_of("https://third.test", "a-1").await, anna.user, "an issuer's subject, nobody else's");
    assert!(!didp.holds("a-1"), "only a keyed hash");
    assert_eq!(unlink("https://people.test", "ben").await, Linked::Anothers);
    assert_eq!(unlink("https://people.test", "anna").await, Linked::Done);
    assert_eq!(unlink("https://people.test", "anna").await, Linked::Already);
    assert_ne!(user_of("https://people.test", "anna").await, anna.user, "who comes that way is new now");
    assert_eq!(user_of(other, "a-1").await, anna.user);
    for n in 2..=8 {
        assert_eq!(link(&anna, &format!("a-{n}")).await, Linked::Done);
    }
    assert_eq!(link(&anna, "a-9").await, Linked::Full);
}
