//! What a scraper reads of the launcher and the PCMs, which it cannot reach itself.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use common::{Stack, app_detail, until};
use mqtt_wire::Version;
use serde_json::json;

async fn has(stack: &Stack, line: &str) -> bool {
    let text = reqwest::get(format!("http://{}/metrics", stack.metrics)).await.unwrap().text().await.unwrap();
    text.lines().any(|found| found == line)
}

#[tokio::test]
async fn launcher_and_pcms_are_counted_in_sums_that_name_nobody() {
    let stack = Stack::start().await;
    let mut clients = Vec::new();
    for owner in ["first-owner", "second-owner"] {
        let (label, sid) = (format!("{owner}-label"), format!("{owner}-device"));
        let device = stack.didp.add_device(owner, &sid, &label);
        let app = stack.didp.add_app(owner, &format!("{owner}-app"), json!([app_detail(&label, &["read"])]));
        for (id, token) in [("device", &device), ("app", &app)] {
            let mut client = stack.connect().await;
            client.log_in(Version::V5, id, token).await;
            clients.push(client);
        }
    }
    for line in [
        "ignite_launcher_up 1",
        "ignite_pcms{state=\"owned\"} 2",
        "ignite_pcms_counted 2",
        "ignite_pcms_not_counted 0",
        "ignite_pcm_connections 4",
        "ignite_pcm_sessions 4",
    ] {
        until(line, async || has(&stack, line).await).await;
    }
    let text = reqwest::get(format!("http://{}/metrics", stack.metrics)).await.unwrap().text().await.unwrap();
    assert!(!text.contains("-owner") && !text.contains("pcm-"), "{text}");

    drop(clients.pop());
    until("one connection less", async || has(&stack, "ignite_pcm_connections 3").await).await;
    stack.stop_launcher();
    until("a launcher that is away shows", async || has(&stack, "ignite_launcher_up 0").await).await;
}
