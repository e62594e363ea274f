//! Logging in at an OpenID provider that is not ours: npm's `oidc-provider`, as `samples/idp` runs it.
//!
//! Needs Node.js 20 and `npm ci` in `samples/idp`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{program, root, skip};
use testkit::setup::Setup;
use testkit::stack::Stack;
use tokio::process::{Child, Command};

/// The provider at the stack's address; it ends with this.
async fn provider(stack: &Stack, node: &Path, secrets: &Path) -> anyhow::Result<Child> {
    let deployment = stack.deployment();
    let process = Command::new(node)
        .arg(root().join("samples/idp/src/main.js"))
        .env("IDP_DIR", secrets)
        .env("IDP_LISTEN", format!("127.0.0.1:{}", deployment.ports.idp))
        .env("IDP_ISSUER", deployment.upstream())
        .env("DIDP_URL", stack.issuer())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start node")?;
    let (http, healthz) = (testkit::browser::http(), format!("{}/healthz", deployment.upstream()));
    let answers = async {
        while !http.get(&healthz).send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answers).await.context("the provider does not answer")?;
    Ok(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_at_oidc_provider_and_its_keys_may_change() -> anyhow::Result<()> {
    let Some(node) = program("node").filter(|_| root().join("samples/idp/node_modules").is_dir()) else {
        skip("oidc-provider cannot run", "Node.js 20, and run `npm ci` in samples/idp");
        return Ok(());
    };
    let mut stack = Stack::start().await?;
    stack.end_provider().await?;
    let secrets = stack.deployment().secrets.path("idp");
    let mut running = provider(&stack, &node, &secrets).await?;

    let alice = stack.owner("alice")?;
    stack.claimed(&alice, "Kitchen").await?;
    ensure!(alice.owns("Kitchen").await?);
    // The same person in another browser, and another person.
    ensure!(stack.owner("alice")?.owns("Kitchen").await?);
    ensure!(!stack.owner("bob")?.owns("Kitchen").await?);
    let cancelled = stack.owner("cancel")?.open("/account").await?;
    ensure!(cancelled.leads_to("/login/"), "{cancelled:?}");

    // Another key under another name: what it signs is checked with what the provider publishes now.
    running.kill().await?;
    let other = tempfile::tempdir()?;
    let other = Setup::new(other.path(), "localhost").write()?;
    std::fs::copy(other.path("idp/signing-key.pem"), secrets.join("signing-key.pem"))?;
    let _running = provider(&stack, &node, &secrets).await?;
    ensure!(stack.owner("alice")?.owns("Kitchen").await?, "not after the provider changed its key");
    stack.stop().await
}
