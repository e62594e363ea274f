//! The gateway when what it depends on is slow, gone, full, or changes at the worst moment.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::time::Duration;

use common::client::{Client, bearer, lasting, publish};
use common::{DEADLINE, Stack, app_detail, timed, until};
use mqtt_wire::{
    Ack, Connect, Filters, Packet, Properties, Property, QoS, ReasonCode, Subscribe, Subscription, Version,
};
use serde_json::json;

async fn refused(stack: &Stack, token: &str) -> (u8, u8) {
    let mut codes = Vec::new();
    for version in [Version::V5, Version::V311] {
        let mut client = stack.connect().await;
        codes.push(client.connect(bearer(version, "c", token)).await);
        client.expect_end().await;
    }
    (codes[0], codes[1])
}

#[tokio::test]
async fn a_didp_that_hangs_is_given_up() {
    let stack = Stack::with(|config| config.limits.didp_seconds = 1).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    stack.didp.facts().hangs = true;
    let (codes, took) = timed(refused(&stack, &token)).await;
    assert_eq!(codes, (0x88, 3));
    assert!(took < Duration::from_secs(4), "{took:?}");
    stack.didp.facts().hangs = false;
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &token).await;
}

#[tokio::test]
async fn without_a_launcher_there_is_no_session_and_with_one_again_there_is() {
    let stack = Stack::start().await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &token).await;
    stack.stop_launcher();
    client.expect(|packet| assert!(matches!(packet, Packet::Disconnect(_)))).await;
    until("the launcher is gone", async || stack.launcher.list().await.is_err()).await;
    assert_eq!(refused(&stack, &token).await, (0x88, 3));
}

#[tokio::test]
async fn a_full_house_is_said() {
    let stack = Stack::with(|config| config.launcher.capacity = 1).await;
    let first = stack.didp.add_device("owner1", "s1", "label1");
    let second = stack.didp.add_device("owner2", "s2", "label2");
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &first).await;
    assert_eq!(refused(&stack, &second).await, (0x97, 3));
    client.ping().await;
    // The same where it is the host's memory that has no room.
    let stack = Stack::with(|config| config.launcher.reserve_memory_mib = 1 << 30).await;
    let token = stack.didp.add_device("owner", "s", "label");
    assert_eq!(refused(&stack, &token).await, (0x97, 3));
}

/// A token that is revoked while its introspection is under way: whichever way the answer and the event cross, no session
/// outlives it.
#[tokio::test]
async fn a_revocation_that_overtakes_the_introspection_counts() {
    let stack = Stack::start().await;
    for round in 0..5 {
        let sid = format!("s{round}");
        let token = stack.didp.add_app("owner", &sid, json!([app_detail("label1", &["read"])]));
        stack.didp.facts().revoke_next = true;
        let mut client = stack.connect().await;
        match client.connect(bearer(Version::V5, "c", &token)).await {
            0 => client.expect_disconnect(0x87).await,
            0x87 => client.expect_end().await,
            other => panic!("{other:#x}"),
        }
    }
}

/// Checklist 40: between registration and the first packet the PCM is connected, which takes a while; an order that comes
/// then is heard.
#[tokio::test]
async fn a_revocation_while_the_pcm_is_connected_counts() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    stack.didp.set_grants_wait(true);
    let mut client = stack.connect().await;
    client.version = Version::V5;
    client.send(&Packet::Connect(bearer(Version::V5, "c", &token))).await;
    until("the PCM is being connected", async || stack.didp.facts().grant_requests == 1).await;
    // Only the token: the PCM does not know that it is dead.
    stack.didp.kill(&token);
    stack.didp.say("changed", "sub", "owner");
    until("the session was asked about", async || stack.didp.facts().asked.len() == 2).await;
    stack.didp.set_grants_wait(false);
    assert_eq!(client.connack().await, 0);
    client.expect_disconnect(0x87).await;
}

/// Whoever only has bad tokens does not keep the DIdP busy: after some, an address is not asked about for a while.
#[tokio::test]
async fn failed_tokens_of_one_address_are_counted() {
    let stack = Stack::with(|config| config.limits.failed_tokens_per_address = 4).await;
    let token = stack.didp.add_app("owner", "s1", json!([app_detail("label1", &["read"])]));
    for _ in 0..5 {
        let mut good = stack.connect().await;
        good.log_in(Version::V5, "good", &token).await;
    }
    stack.didp.facts().asked.clear();
    for _ in 0..2 {
        assert_eq!(refused(&stack, "demo.wrong").await, (0x87, 5));
    }
    for token in ["demo.wrong", &token] {
        assert_eq!(refused(&stack, token).await, (0x9F, 3));
        let api = reqwest::Client::new();
        for path in ["devices", "events"] {
            let request = api.get(format!("http://{}/v1/{path}", stack.http)).bearer_auth(token);
            assert_eq!(request.send().await.unwrap().status(), 429);
        }
    }
    assert_eq!(stack.didp.facts().asked.len(), 4, "nobody asks");
    stack.clock.advance(5);
    let mut good = stack.connect().await;
    good.log_in(Version::V5, "good", &token).await;
}

/// PCMs outlive the gateway: a session that a client keeps is found again, and the PCM takes the new control connection.
#[tokio::test]
async fn a_restarted_gateway_finds_its_pcms() {
    let mut stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let keep = [Property::SessionExpiryInterval(600)];
    let connect = Connect {
        clean_start: false,
        properties: Properties::list(&keep),
        ..bearer(Version::V5, "app", &token)
    };
    let mut app = stack.connect().await;
    assert_eq!(app.connect(connect).await, 0);
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    stack.restart().await;
    app.expect_disconnect(0x8B).await;
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    assert_eq!(thermostat.publish_acked(1, "d/temperature", b"1").await, 0);
    let mut app = stack.connect().await;
    assert_eq!(app.connect(connect).await, 0);
    assert_eq!(app.message().await.payload, b"1");
    assert_eq!(stack.pcms().await, 1);
}

/// A grant that was revoked while the gateway was down is gone before any session of its owner begins.
#[tokio::test]
async fn what_changed_during_a_restart_counts_before_the_next_session() {
    let mut stack = Stack::start().await;
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    stack.shutdown.begin();
    assert!(stack.shutdown.drain(DEADLINE).await);
    stack.didp.revoke("owner", "s-app");
    stack.restart().await;
    assert_eq!(refused(&stack, &app).await, (0x87, 5));
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    assert_eq!(thermostat.publish_acked(1, "d/temperature", b"nobody's").await, 0);
}

/// A client that does not read is cut off; its owner's other sessions do not notice.
#[tokio::test]
async fn a_blocked_client_is_cut_off() {
    let stack = Stack::with(|config| config.limits.write_seconds = 1).await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut blocked = stack.connect().await;
    blocked.log_in(Version::V311, "blocked", &token).await;
    // With QoS 0, whose messages are not held back until others are acknowledged.
    let wish = [Subscription::new("d/#", QoS::AtMostOnce)];
    let (properties, filters) = (Properties::EMPTY, Filters::list(&wish));
    blocked.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties, filters })).await;
    blocked.expect(|packet| assert!(matches!(packet, Packet::SubAck(_)))).await;
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    let payload = vec![b'x'; 100_000];
    let sessions = async || {
        let ready = reqwest::get(format!("http://{}/readyz", stack.http)).await.unwrap();
        ready.json::<serde_json::Value>().await.unwrap()["sessions"].as_u64().unwrap()
    };
    assert_eq!(sessions().await, 2);
    let flooding = async {
        for number in 1_u32.. {
            // QoS 0, since the PCM stops sending what is not acknowledged long before the sockets' buffers are full.
            thermostat.publish(QoS::AtMostOnce, 0, "d/temperature", &payload).await;
            thermostat.ping().await;
            if number % 16 == 0 && sessions().await == 1 {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, flooding).await.expect("the blocked client is cut off");
    thermostat.ping().await;
}

/// The stream says that it cannot resume: everything is asked about again.
#[tokio::test]
async fn a_gap_has_every_session_checked() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let mut app: Client = stack.connect().await;
    app.log_in(Version::V5, "app", &token).await;
    stack.didp.kill(&token);
    app.ping().await;
    stack.didp.say("gap", "note", "");
    app.expect_disconnect(0x87).await;
}

/// An app and a device whose sessions are kept, as the tests below need them.
struct Kept {
    app: String,
    device: String,
}

impl Kept {
    fn of(stack: &Stack) -> Self {
        let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
        Self { app, device: stack.didp.add_device("owner", "s-device", "label1") }
    }

    async fn app(&self, stack: &Stack) -> Client {
        connected(stack, lasting("app", &self.app)).await
    }

    async fn device(&self, stack: &Stack) -> Client {
        connected(stack, lasting("device", &self.device)).await
    }
}

async fn connected(stack: &Stack, connect: Connect<'_>) -> Client {
    let mut client = stack.connect().await;
    assert_eq!(client.connect(connect).await, 0);
    client
}

/// kill -9 of the gateway, with messages on their way in all states.
#[tokio::test]
async fn a_killed_gateway_loses_nothing_that_was_acknowledged() {
    let stack = Stack::start().await;
    let kept = Kept::of(&stack);
    let mut gateway = stack.apart().await;
    let mut app = kept.app(&stack).await;
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    let mut device = kept.device(&stack).await;
    let payload = |id: u16| id.to_string().into_bytes();
    for id in 1..=10 {
        assert_eq!(device.publish_acked(id, "d/temperature", &payload(id)).await, 0);
        device.publish_completed(100 + id, "d/temperature", &payload(100 + id)).await;
    }
    // The app has taken a message and acknowledged none. The device has two halves of handshakes and one thing unanswered.
    app.expect(|packet| assert!(matches!(packet, Packet::Publish(_)))).await;
    device.publish(QoS::ExactlyOnce, 111, "d/temperature", &payload(111)).await;
    device.expect(|packet| assert!(matches!(packet, Packet::PubRec(_)))).await;
    device.publish(QoS::AtLeastOnce, 11, "d/temperature", &payload(11)).await;
    gateway.kill().await;
    let _gateway = gateway.start(&stack).await;

    let mut device = kept.device(&stack).await;
    let ok = Ack::new(111, ReasonCode::SUCCESS);
    device.send(&Packet::PubRel(ok)).await;
    device.expect(|packet| assert_eq!(packet, Packet::PubComp(ok))).await;
    assert_eq!(device.publish_acked(11, "d/temperature", &payload(11)).await, 0);
    device.publish_completed(112, "d/temperature", b"the end").await;
    let mut app = kept.app(&stack).await;
    let arrived = app.messages_until(|all| all.last().is_some_and(|last| last.payload == b"the end")).await;
    for id in 1..=11 {
        let count = |id| arrived.iter().filter(|message| message.payload == payload(id)).count();
        assert!(count(id) >= 1, "{id} of QoS 1");
        assert_eq!(count(100 + id), 1, "{id} of QoS 2");
    }
    assert_eq!(stack.pcms().await, 1);
}

/// kill -9 of the gateway while PCMs are being claimed: the next one finds them, and no owner has two.
#[tokio::test]
async fn a_gateway_killed_during_claims_leaves_one_pcm_for_each_owner() {
    let stack = Stack::start().await;
    let mut gateway = stack.apart().await;
    for round in 1..=4 {
        let tokens = [0; 5].map(|_| {
            let number = stack.didp.facts().tokens.len();
            let [owner, sid, label] = ["owner", "sid", "label"].map(|name| format!("{name}{number}"));
            stack.didp.add_device(&owner, &sid, &label)
        });
        let mut begun = Vec::new();
        for token in &tokens {
            let mut client = stack.connect().await;
            client.send(&Packet::Connect(bearer(Version::V5, "c", token))).await;
            begun.push(client);
        }
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        gateway.kill().await;
        gateway = gateway.start(&stack).await;
        for token in &tokens {
            let mut client = stack.connect().await;
            client.log_in(Version::V5, "c", token).await;
            assert_eq!(client.publish_acked(1, "d/temperature", b"1").await, 0);
        }
        assert_eq!(stack.pcms().await as u64, 5 * round);
    }
}

/// While the DIdP is away sessions go on; nobody new is let in, and that is what they are told.
#[tokio::test]
async fn a_didp_that_is_away_keeps_newcomers_out_and_nobody_else() {
    let stack = Stack::start().await;
    let kept = Kept::of(&stack);
    let mut app = kept.app(&stack).await;
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    let mut device = kept.device(&stack).await;
    stack.didp.set_down(true);
    until("the loss is seen", async || !stack.is_ready().await).await;
    device.publish_completed(1, "d/temperature", b"meanwhile").await;
    let arrived = app.messages_until(|all| !all.is_empty()).await;
    assert_eq!(arrived[0].payload, b"meanwhile");
    assert_eq!(refused(&stack, &kept.app).await, (0x88, 3));
    app.ping().await;
    stack.didp.set_down(false);
    until("it is back", async || stack.is_ready().await).await;
    let mut newcomer = stack.connect().await;
    newcomer.log_in(Version::V5, "newcomer", &kept.app).await;
    device.ping().await;
    app.ping().await;
}

/// A token that ends in the middle of a handshake ends the session there; the next token finds it where it was.
#[tokio::test]
async fn a_token_that_ends_mid_publish_costs_no_message_and_doubles_none() {
    let stack = Stack::start().await;
    let kept = Kept::of(&stack);
    stack.didp.set_end(&kept.app, 100_000);
    let mut app = kept.app(&stack).await;
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    let mut device = kept.device(&stack).await;
    device.publish(QoS::ExactlyOnce, 7, "d/temperature", b"twice begun").await;
    device.expect(|packet| assert!(matches!(packet, Packet::PubRec(_)))).await;
    stack.clock.advance(3_601);
    let ok = Ack::new(7, ReasonCode::SUCCESS);
    device.send(&Packet::PubRel(ok)).await;
    device.expect_disconnect(0x87).await;
    // What comes after the end is not taken at all.
    let next = stack.didp.another_token(&kept.device);
    stack.didp.set_end(&next, 100_000);
    let mut device = connected(&stack, lasting("device", &next)).await;
    device.send(&Packet::PubRel(ok)).await;
    device.expect(|packet| assert_eq!(packet, Packet::PubComp(ok))).await;
    let arrived = app.messages_until(|all| !all.is_empty()).await;
    assert_eq!((arrived.len(), arrived[0].payload.as_slice()), (1, &b"twice begun"[..]));
    // Its last word about it has been taken before its own token ends.
    app.ping().await;

    stack.clock.advance(100_000);
    device.publish(QoS::AtLeastOnce, 8, "d/temperature", b"too late").await;
    device.expect_disconnect(0x87).await;
    let (next, mut app_again) = (stack.didp.another_token(&next), stack.connect().await);
    let app_next = stack.didp.another_token(&kept.app);
    for token in [&next, &app_next] {
        stack.didp.set_end(token, 200_000);
    }
    assert_eq!(app_again.connect(lasting("app", &app_next)).await, 0);
    app_again.ping().await;
    let mut device = connected(&stack, lasting("device", &next)).await;
    assert_eq!(device.publish_acked(8, "d/temperature", b"in time").await, 0);
    let arrived = app_again.messages_until(|all| !all.is_empty()).await;
    assert_eq!(arrived[0].payload, b"in time");
    app_again.ping().await;
}

/// A PCM that goes away while somebody connects: whoever gets a session has one that works, or hears that it is over.
#[tokio::test]
async fn a_connect_while_the_pcm_goes_away_finds_one() {
    let stack = Stack::start().await;
    let kept = Kept::of(&stack);
    kept.device(&stack).await.ping().await;
    for round in 0..10_u16 {
        let going = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            stack.kill_pcms().await;
        };
        let (mut device, ()) = tokio::join!(kept.device(&stack), going);
        device.publish(QoS::AtLeastOnce, 1, "d/temperature", b"1").await;
        let works = device
            .expect(|packet| match packet {
                Packet::PubAck(ack) => ack.reason == ReasonCode::SUCCESS,
                Packet::Disconnect(disconnect) if disconnect.reason == ReasonCode::SERVER_SHUTTING_DOWN => {
                    false
                }
                other => panic!("{other:?}"),
            })
            .await;
        if !works {
            device.expect_end().await;
            let mut again = kept.device(&stack).await;
            assert_eq!(again.publish_acked(1, "d/temperature", b"1").await, 0);
        }
    }
    assert_eq!(stack.pcms().await, 1);
}

fn two_devices(stack: &Stack) -> (String, [String; 2]) {
    let details = json!([app_detail("label1", &["read"]), app_detail("label2", &["read"])]);
    let app = stack.didp.add_app("owner", "s-app", details);
    (app, [1, 2].map(|n| stack.didp.add_device("owner", &format!("s-device{n}"), &format!("label{n}"))))
}

/// Both devices speak while the app is away: one message each, of QoS 2.
async fn messages_wait(stack: &Stack, app: &str, devices: &[String; 2]) {
    let mut client = connected(stack, lasting("app", app)).await;
    assert_eq!(client.subscribe(1, &["d/#"]).await, [2]);
    client.disconnect().await;
    for (number, token) in devices.iter().enumerate() {
        let mut device = connected(stack, bearer(Version::V5, &format!("device{number}"), token)).await;
        device.publish_completed(1, "d/temperature", &[b'1' + u8::try_from(number).unwrap()]).await;
    }
}

/// Checklist 39: a grant that is narrowed while messages wait.
#[tokio::test]
async fn what_waits_obeys_the_narrowed_grant() {
    let stack = Stack::start().await;
    let (app, devices) = two_devices(&stack);
    messages_wait(&stack, &app, &devices).await;
    let before = stack.didp.facts().grant_answers;
    stack.didp.narrow("owner", "s-app", json!([app_detail("label2", &["read"])]));
    until("the gateway has learned it", async || stack.didp.facts().grant_answers > before).await;
    let mut client = connected(&stack, lasting("app", &app)).await;
    let arrived = client.messages_until(|all| !all.is_empty()).await;
    assert_eq!((arrived.len(), arrived[0].payload.as_slice()), (1, &b"2"[..]));
    client.ping().await;
}

/// Checklist 33: a device that is released while its owner's PCM does not run: nothing of it is there when it runs again.
#[tokio::test]
async fn a_release_while_the_pcm_is_stopped_counts_before_the_next_session() {
    let stack = Stack::start().await;
    let (app, devices) = two_devices(&stack);
    messages_wait(&stack, &app, &devices).await;
    assert_eq!(stack.kill_pcms().await, 1);
    {
        let mut facts = stack.didp.facts();
        facts.tokens.retain(|_, answer| answer["sid"] != "s-device1");
        facts.grants.get_mut("owner").unwrap().retain(|grant| grant["sid"] != "s-device1");
    }
    stack.didp.narrow("owner", "s-app", json!([app_detail("label2", &["read"])]));
    stack.didp.say("revoked", "sid", "s-device1");
    let mut client = connected(&stack, lasting("app", &app)).await;
    let arrived = client.messages_until(|all| !all.is_empty()).await;
    assert_eq!((arrived.len(), arrived[0].payload.as_slice()), (1, &b"2"[..]));
    assert_eq!(refused(&stack, &devices[0]).await, (0x87, 5));
    client.ping().await;
}

/// A PCM that is killed while half of a message is on its way to it: the message arrives once it is sent again, whole and once.
#[tokio::test]
async fn a_pcm_killed_mid_message_delivers_it_whole_or_not_at_all() {
    let stack = Stack::start().await;
    let kept = Kept::of(&stack);
    let mut app = kept.app(&stack).await;
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    let mut device = kept.device(&stack).await;
    let payload: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let whole =
        publish(QoS::ExactlyOnce, 1, "d/temperature", &payload, Properties::EMPTY).to_vec(Version::V5);
    device.ping().await;
    device.send_raw(&whole[..100_000]).await;
    assert_eq!(stack.kill_pcms().await, 1);
    device.expect_disconnect(0x8B).await;
    app.expect_disconnect(0x8B).await;
    let mut device = kept.device(&stack).await;
    device.publish_completed(1, "d/temperature", &payload).await;
    let mut app = kept.app(&stack).await;
    let arrived = app.messages_until(|all| !all.is_empty()).await;
    assert!(arrived.len() == 1 && arrived[0].payload == payload);
    app.ping().await;
}

/// A thousand devices of twenty owners at once, as after a power cut: the DIdP is asked about each token once, by few at a time,
/// and about each owner's grants no more often than needed; everybody gets in.
#[tokio::test]
async fn a_thousand_devices_at_once_are_let_in_few_at_a_time() {
    const OWNERS: usize = 20;
    const AT_ONCE: usize = 16;
    let stack = Stack::with(|config| {
        config.limits.connections_per_address = 2_000;
        config.limits.didp_requests = AT_ONCE;
        config.limits.didp_seconds = 20;
        config.limits.connect_seconds = 20;
    })
    .await;
    let tokens: Vec<String> = (0..1_000)
        .map(|n| {
            stack.didp.add_device(&format!("owner{}", n % OWNERS), &format!("s{n}"), &format!("label{n}"))
        })
        .collect();
    stack.didp.facts().takes = Duration::from_millis(1);
    let connecting = tokens.iter().enumerate().map(|(number, token)| {
        let stack = &stack;
        async move {
            let mut device = stack.connect().await;
            device.log_in(Version::V5, &format!("device{number}"), token).await;
            device
        }
    });
    let mut devices = futures_util::future::join_all(connecting).await;
    {
        let facts = stack.didp.facts();
        assert_eq!((facts.asked.len(), facts.under_way.1 <= AT_ONCE), (1_000, true), "{:?}", facts.under_way);
        assert!(facts.grant_requests <= 2 * OWNERS, "{}", facts.grant_requests);
    }
    assert_eq!(stack.pcms().await, OWNERS);
    for device in &mut devices {
        device.ping().await;
    }
}

/// What an app does not read is its own loss: its owner's device is answered as before, and another owner notices nothing.
#[tokio::test]
async fn a_slow_app_slows_neither_its_owners_device_nor_anybody_else() {
    let stack = Stack::with(|config| config.limits.write_seconds = 60).await;
    let kept = Kept::of(&stack);
    let mut slow = stack.connect().await;
    slow.log_in(Version::V311, "slow", &kept.app).await;
    let wish = [Subscription::new("d/#", QoS::AtMostOnce)];
    let (properties, filters) = (Properties::EMPTY, Filters::list(&wish));
    slow.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties, filters })).await;
    slow.expect(|packet| assert!(matches!(packet, Packet::SubAck(_)))).await;
    let mut device = kept.device(&stack).await;
    let other_app = stack.didp.add_app("other", "s-other-app", json!([app_detail("label2", &["read"])]));
    let other = stack.didp.add_device("other", "s-other", "label2");
    let mut other_app = connected(&stack, bearer(Version::V5, "app", &other_app)).await;
    assert_eq!(other_app.subscribe(1, &["d/#"]).await, [2]);
    let mut other = connected(&stack, bearer(Version::V5, "device", &other)).await;
    let payload = vec![b'x'; 100_000];
    // More than all buffers on the way together hold.
    for number in 1..=300_u16 {
        let code = device.publish_acked(number, "d/temperature", &payload).await;
        // There is no room left for the one who wants it; that is said, and said at once.
        assert!(matches!(code, 0 | 0x97), "{number}: {code:#x}");
        if number % 50 == 0 {
            other.publish_completed(number, "d/temperature", b"1").await;
            assert_eq!(other_app.messages_until(|all| !all.is_empty()).await.len(), 1);
        }
    }
    // It is still there, gets what waited for it, and has missed what did not fit.
    slow.send(&Packet::PingReq).await;
    let mut arrived = 0;
    loop {
        let is_answer = slow
            .expect(|packet| match packet {
                Packet::Publish(publish) => publish.payload != payload,
                Packet::PingResp => true,
                other => panic!("{other:?}"),
            })
            .await;
        if is_answer {
            break;
        }
        arrived += 1;
    }
    assert!((1..300).contains(&arrived), "{arrived}");
}
