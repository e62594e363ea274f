//! The gateway above PCMs in containers while what carries those is killed: the engine, a shim with its group. `cargo xtask test
//! --only launcher` runs this; it needs root.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;
mod engine;

use bollard::query_parameters::InspectContainerOptions;
use common::client::{Client, lasting};
use common::{Stack, app_detail, until};
use engine::{Engine, image, kill_pid, lives, parent};
use ignite::config::{LauncherConfig, Runtime};
use serde_json::json;

/// An owner's app and device, whose sessions are kept.
struct Owner {
    tokens: [String; 2],
    app: Client,
    device: Client,
    sent: u16,
}

impl Owner {
    async fn new(stack: &Stack, number: usize) -> Self {
        let (owner, label) = (format!("owner{number}"), format!("label{number}"));
        let app = stack.didp.add_app(&owner, &format!("app{number}"), json!([app_detail(&label, &["read"])]));
        let device = stack.didp.add_device(&owner, &format!("device{number}"), &label);
        let tokens = [app, device];
        let (mut app, device) = (connected(stack, &tokens[0]).await, connected(stack, &tokens[1]).await);
        assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
        Self { tokens, app, device, sent: 0 }
    }

    async fn connect_again(&mut self, stack: &Stack) {
        self.app = connected(stack, &self.tokens[0]).await;
        self.device = connected(stack, &self.tokens[1]).await;
    }

    /// Messages of QoS 1 and 2, each acknowledged.
    async fn publish(&mut self, count: u16) {
        for _ in 0..count {
            self.sent += 2;
            let [one, two] = [self.sent - 1, self.sent];
            assert_eq!(self.device.publish_acked(one, "d/temperature", &one.to_be_bytes()).await, 0);
            self.device.publish_completed(two, "d/temperature", &two.to_be_bytes()).await;
        }
    }

    /// All that was acknowledged arrives, and what is of QoS 2 once.
    async fn all_arrives(&mut self) {
        let sent = self.sent;
        let last = sent.to_be_bytes();
        let arrived = self.app.messages_until(|all| all.iter().any(|message| message.payload == last)).await;
        for number in 1..=sent {
            let count = arrived.iter().filter(|message| message.payload == number.to_be_bytes()).count();
            assert!(if number % 2 == 0 { count == 1 } else { count >= 1 }, "{number}: {count} times");
        }
        self.app.ping().await;
    }
}

async fn connected(stack: &Stack, token: &str) -> Client {
    let mut client = stack.connect().await;
    assert_eq!(client.connect(lasting("c", token)).await, 0);
    client
}

/// PCMs run in containers of this engine.
fn in_containers(launcher: &mut LauncherConfig, engine: &Engine) {
    launcher.runtime = Runtime::Docker;
    launcher.image = image();
    launcher.engine = Some(engine.socket());
    launcher.pool = 2;
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn what_was_acknowledged_arrives_whatever_is_killed_below() {
    let mut engine = Engine::start().await;
    let stack = Stack::with(|config| in_containers(&mut config.launcher, &engine)).await;
    let mut one = Owner::new(&stack, 1).await;
    let mut two = Owner::new(&stack, 2).await;
    let all = async || stack.launcher.processes().await.unwrap();
    until("the pool is filled", async || all().await.len() == 4).await;

    // Without its engine who is there goes on, who comes finds their PCM, and a newcomer gets one of the pool.
    engine.kill();
    one.publish(5).await;
    one.all_arrives().await;
    two.connect_again(&stack).await;
    let mut three = Owner::new(&stack, 3).await;
    for owner in [&mut two, &mut three] {
        owner.publish(5).await;
        owner.all_arrives().await;
    }
    engine.restart().await;
    one.app.ping().await;

    // A shim takes its whole group along, here everybody; what they acknowledged and nobody took yet waits in their files.
    for owner in [&mut one, &mut two, &mut three] {
        owner.sent = 0;
        owner.publish(5).await;
    }
    let dead = all().await;
    let shims: std::collections::BTreeSet<u32> = dead.iter().map(|pcm| parent(pcm.pid)).collect();
    assert_eq!(shims.len(), 1, "one group: {dead:?}");
    shims.into_iter().for_each(kill_pid);
    for owner in [&mut one, &mut two, &mut three] {
        owner.device.expect_disconnect(0x8B).await;
    }
    until("the group is dead", async || !dead.iter().any(|pcm| lives(pcm.pid))).await;
    for owner in [&mut one, &mut two, &mut three] {
        owner.connect_again(&stack).await;
        owner.all_arrives().await;
    }
    assert_eq!(stack.pcms().await, 3);
    until("nothing else is there", async || {
        let containers = engine.containers().await;
        containers.len() == all().await.len() && containers.iter().all(|(_, runs)| *runs)
    })
    .await;
}

/// Another image under the same name: the pool is renewed by itself, an owner's PCM when it is looked for anew, with what it kept.
#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn another_image_replaces_who_runs_and_nothing_is_lost() {
    const NAME: &str = "pcm-of-a-test";
    let engine = Engine::start().await;
    engine.another_image(NAME).await;
    let mut stack = Stack::with(|config| {
        in_containers(&mut config.launcher, &engine);
        NAME.clone_into(&mut config.launcher.image);
        // So it is looked every two seconds.
        config.launcher.idle_seconds = 4;
    })
    .await;
    let mut owner = Owner::new(&stack, 1).await;
    owner.publish(5).await;
    let pids = async |owned: bool| -> Vec<u32> {
        let all = stack.launcher.processes().await.unwrap();
        all.iter().filter(|pcm| pcm.name.is_some() == owned).map(|pcm| pcm.pid).collect()
    };
    until("the pool is filled", async || pids(false).await.len() == 2).await;
    let (owned, pool) = (pids(true).await[0], pids(false).await);
    let image = engine.another_image(NAME).await;
    until("the pool is renewed", async || {
        let now = pids(false).await;
        now.len() == 2 && now.iter().all(|pid| !pool.contains(pid))
    })
    .await;
    // Whoever is connected goes on.
    owner.device.ping().await;
    assert!(lives(owned));

    stack.restart().await;
    owner.connect_again(&stack).await;
    owner.all_arrives().await;
    let pcms = stack.launcher.list().await.unwrap();
    assert_eq!(pcms.len(), 1);
    let found = engine.docker.inspect_container(pcms[0].as_str(), None::<InspectContainerOptions>).await;
    assert_eq!(found.unwrap().image, Some(image));
    assert!(!lives(owned));
}
