//! New keys for every purpose: nobody is logged out, no printed code dies, and what is used goes over to the new keys.

use didp::flows::claim::{self, Attempt};
use didp::flows::login;
use serde_json::json;

use crate::harness::{BIG_MANUFACTURER, Didp, device_metadata, press, refreshing, text};

impl Didp {
    /// Gives every purpose a key of the next number and starts again with them.
    async fn rotated(self, number: u8) -> Self {
        let keys = self.dir().join("keys");
        for purpose in didp::keys::Purpose::ALL {
            let name = format!("{}.{number}.key", purpose.name());
            std::fs::write(keys.join(name), &*service::secret::Key::random().to_text()).unwrap();
        }
        self.restart().await
    }

    /// Takes the keys with this number away and starts again.
    async fn retired(self, number: u8) -> Self {
        let keys = self.dir().join("keys");
        for purpose in didp::keys::Purpose::ALL {
            std::fs::remove_file(keys.join(format!("{}.{number}.key", purpose.name()))).unwrap();
        }
        self.restart().await
    }
}

#[tokio::test]
async fn new_keys_log_nobody_out_and_kill_no_printed_code() {
    let didp = Didp::start().await;
    let session = login::sign_in(&didp.app, "https://people.test", "anna").await.unwrap();
    let anna = login::session(&didp.app, &session).await.unwrap().unwrap();
    let (device, mqtt, tokens) = didp.claimed(&anna).await;
    let printed = didp.device("code").await;
    let (app, app_tokens) = didp.allowed(&anna, "client_secret_basic").await;
    let batch = json!([device_metadata("code"), device_metadata("press")]);
    let register = async |didp: &Didp| {
        let request = didp.http.post(didp.url("/register/batch")).bearer_auth(BIG_MANUFACTURER);
        let answer = request.header("Idempotency-Key", "once").json(&batch).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.json::<serde_json::Value>().await.unwrap()
    };
    let registered = register(&didp).await;
    drop(mqtt);

    let didp = didp.rotated(2).await;
    assert_eq!(login::session(&didp.app, &session).await.unwrap(), Some(anna));
    assert_eq!(didp.owner("anna").await.user, anna.user, "the same person is the same owner");
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    let (status, app_tokens) = didp.refresh(&app, &text(&app_tokens["refresh_token"])).await;
    assert_eq!(status, 200);
    let mut mqtt = didp.connect(&device).await;
    let tokens = mqtt.ask("token", &refreshing(&tokens)).await;
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    assert_eq!(register(&didp).await, registered, "the same devices, with the same secrets");
    let management = didp.url(&format!("/register/{}", printed.client_id));
    let read = async |didp: &Didp| {
        didp.http.get(&management).bearer_auth(&printed.management).send().await.unwrap().status()
    };
    assert_eq!(read(&didp).await, 200);
    // Scanning the code without the digits is enough to bring it over.
    let mut waiting = didp.connect(&printed).await;
    assert_eq!(claim::confirm(&didp.app, &anna, &printed.code, "").await.unwrap(), Attempt::NoMatch);
    // Half of a session's life later, using it brings it over.
    didp.clock.advance(6 * 3_600);
    assert_eq!(login::session(&didp.app, &session).await.unwrap(), Some(anna));
    drop(mqtt);
    drop(waiting);

    // What was used since lives without the old keys.
    let management = |didp: &Didp| didp.url(&format!("/register/{}", printed.client_id));
    let didp = didp.retired(1).await;
    assert_eq!(login::session(&didp.app, &session).await.unwrap(), Some(anna));
    assert_eq!(didp.owner("anna").await.user, anna.user);
    let mut mqtt = didp.connect(&device).await;
    assert!(mqtt.ask("token", &refreshing(&tokens)).await["access_token"].is_string());
    assert_eq!(didp.refresh(&app, &text(&app_tokens["refresh_token"])).await.0, 200);
    let read = didp.http.get(management(&didp)).bearer_auth(&printed.management);
    assert_eq!(read.send().await.unwrap().status(), 200);
    waiting = didp.connect(&printed).await;
    let window = waiting.ask("claim", &press(&printed.verifier)).await;
    let typed = text(&window["user_code"]);
    let attempt = claim::confirm(&didp.app, &anna, &printed.code, &typed).await.unwrap();
    assert!(matches!(attempt, Attempt::Matched { .. }));
}
