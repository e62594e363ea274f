//! Several DIdPs at one gateway: the issuer tag of a token picks who is asked, and their owners have nothing in common.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use common::client::{Client, bearer};
use common::didp::Didp;
use common::{Stack, app_detail, until};
use mqtt_wire::{QoS, Version};
use serde_json::json;

struct Two {
    stack: Stack,
    other: Didp,
}

impl Two {
    async fn start() -> Self {
        let other = Didp::start_as("other", "http://other.test").await;
        Self { stack: Stack::beside(&other).await, other }
    }

    async fn client(&self, id: &str, token: &str) -> Client {
        let mut client = self.stack.connect().await;
        client.log_in(Version::V5, id, token).await;
        client
    }
}

/// The same pseudonym, the same grant ids, the same label: two owners all the same, with a PCM each.
#[tokio::test]
async fn owners_of_two_issuers_never_share_a_pcm() {
    let two = Two::start().await;
    let (mut apps, mut devices, mut topics) = (Vec::new(), Vec::new(), Vec::new());
    for didp in [&two.stack.didp, &two.other] {
        let app = didp.add_app("owner", "s-app", json!([app_detail("label1", &["read", "command"])]));
        let device = didp.add_device("owner", "s-device", "label1");
        let mut client = two.client("app", &app).await;
        assert_eq!(client.subscribe(1, &["d/#"]).await, [2]);
        apps.push(client);
        devices.push(two.client("device", &device).await);
    }
    assert_eq!(two.stack.pcms().await, 2);
    for (index, payload) in [b"first's", b"other's"].into_iter().enumerate() {
        assert_eq!(devices[index].publish_acked(1, "d/temperature", payload).await, 0);
    }
    for (app, payload) in apps.iter_mut().zip([b"first's", b"other's"]) {
        // The first thing that each gets is its own, and the last.
        let message = app.message().await;
        assert_eq!(message.payload, payload);
        topics.push(message.topic);
        app.ping().await;
    }
    let command = topics[0].replace("d/", "c/").replace("temperature", "heater");
    assert_eq!(devices[1].subscribe(2, &["c/#"]).await, [2]);
    apps[0].publish(QoS::AtLeastOnce, 2, &command, b"true").await;
    assert_eq!(apps[0].puback(2).await, 0);
    devices[1].ping().await;
}

/// A token is asked about at the DIdP that its tag names, and at no other.
#[tokio::test]
async fn the_tag_picks_who_is_asked() {
    let two = Two::start().await;
    let token = two.other.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    two.client("app", &token).await;
    assert_eq!(two.other.facts().asked, [token.as_str()]);
    assert!(two.stack.didp.facts().asked.is_empty());
    // What one knows means nothing with the other's tag.
    let foreign = token.replacen("other.", "demo.", 1);
    let mut stranger = two.stack.connect().await;
    assert_eq!(stranger.connect(bearer(Version::V5, "c", &foreign)).await, 0x87);
    assert_eq!(two.stack.didp.facts().asked, [foreign]);
}

/// An issuer speaks for itself alone: an answer in the other's name is none.
#[tokio::test]
async fn an_issuer_cannot_speak_for_another() {
    let two = Two::start().await;
    let token = two.other.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    two.other.facts().tokens.get_mut(&token).unwrap()["iss"] = json!(two.stack.didp.issuer);
    let mut client = two.stack.connect().await;
    assert_eq!(client.connect(bearer(Version::V5, "c", &token)).await, 0x88);
}

/// A revocation concerns the issuer's own sessions, and one that is away keeps nobody else waiting.
#[tokio::test]
async fn what_one_issuer_says_or_does_not_say_is_nothing_to_the_other() {
    let two = Two::start().await;
    let details = || json!([app_detail("label1", &["read"])]);
    let first = two.stack.didp.add_app("owner", "s-app", details());
    let other = two.other.add_app("owner", "s-app", details());
    let mut first = two.client("app", &first).await;
    let mut second = two.client("app", &other).await;
    two.other.revoke("owner", "s-app");
    second.expect_disconnect(0x87).await;
    first.ping().await;
    two.other.set_down(true);
    until("the loss is seen", async || !two.stack.is_ready().await).await;
    let ready = reqwest::get(format!("http://{}/readyz", two.stack.http)).await.unwrap();
    let said: serde_json::Value = ready.json().await.unwrap();
    let of = |issuer: &str| {
        said["didp"].as_array().unwrap().iter().find(|one| one["issuer"] == issuer).unwrap()["events"].clone()
    };
    assert_eq!((of(two.stack.didp.issuer), of(two.other.issuer)), (json!("up"), json!("down")), "{said}");
    let newcomer = two.stack.didp.add_app("owner2", "s-app2", details());
    two.client("newcomer", &newcomer).await;
    first.ping().await;
}
