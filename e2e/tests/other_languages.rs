//! paho-mqtt (Python) and mqtt.js (Node) as devices and as apps: every version, with and without TLS, over TCP and WebSocket.
//!
//! `OAUTHING_PYTHON` names a Python with paho-mqtt; mqtt.js is taken from `samples/tpa/web/node_modules`.

use std::process::Stdio;

use e2e::{Peer, Scene, Way, program, root, skip};
use tokio::process::Command;

/// What both have to see, whichever way they come.
async fn speaks(scene: &Scene, way: Way, driver: impl Fn() -> Command) -> anyhow::Result<()> {
    let ca = scene.stack.ca_file();
    let port = way.port(&scene.stack);
    let login = |token| ("Bearer", token);
    let refusal = if way.version == 5 { 0x87 } else { 0x80 };

    let mut stranger = Peer::start(driver())?;
    let refused = stranger.connect("localhost", port, way, &ca, login("demo.not-a-token")).await?;
    anyhow::ensure!(refused >= 4, "{way:?}: a wrong token is answered with {refused}");

    let mut device = Peer::start(driver())?;
    let mut app = Peer::start(driver())?;
    anyhow::ensure!(
        device.connect("localhost", port, way, &ca, login(&scene.owned.access_token)).await? == 0
    );
    anyhow::ensure!(app.connect("localhost", port, way, &ca, login(&scene.allowed.access_token)).await? == 0);
    anyhow::ensure!(device.subscribe("c/#").await? <= 2, "{way:?}: a device may not hear its commands");
    anyhow::ensure!(app.subscribe("d/#").await? <= 2, "{way:?}: an app may not hear readings");
    anyhow::ensure!(device.subscribe("d/#").await? == refusal, "{way:?}: a device hears readings");
    anyhow::ensure!(app.subscribe("c/#").await? == refusal, "{way:?}: an app hears commands");

    let handle = &scene.handle;
    anyhow::ensure!(device.publish("d/temperature", "21.5").await? == 0);
    let heard = app.message().await?;
    anyhow::ensure!(heard == (format!("d/{handle}/temperature"), "21.5".to_owned()), "{way:?}: {heard:?}");
    anyhow::ensure!(app.publish(&format!("c/{handle}/heater"), "true").await? == 0);
    let heard = device.message().await?;
    anyhow::ensure!(heard == ("c/heater".to_owned(), "true".to_owned()), "{way:?}: {heard:?}");

    // MQTT 3.1.1 has no code for a refused PUBLISH: it is acknowledged and goes nowhere.
    let refusal = if way.version == 5 { 0x87 } else { 0 };
    let code = app.publish(&format!("d/{handle}/temperature"), "99").await?;
    anyhow::ensure!(code == refusal, "{way:?}: an app may publish readings: {code}");
    let code = device.publish("c/heater", "false").await?;
    anyhow::ensure!(code == refusal, "{way:?}: a device may command: {code}");
    anyhow::ensure!(device.publish("d/temperature", "22.5").await? == 0);
    let heard = app.message().await?;
    anyhow::ensure!(heard.1 == "22.5", "{way:?}: a refused message arrives: {heard:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn paho_mqtt() -> anyhow::Result<()> {
    let Some(python) = std::env::var_os("OAUTHING_PYTHON") else {
        skip("no Python with paho-mqtt (OAUTHING_PYTHON)", "paho-mqtt into a virtual environment");
        return Ok(());
    };
    let scene = Scene::new().await?;
    let driver = || {
        let mut command = Command::new(&python);
        command.arg(root().join("e2e/tests/clients/paho_driver.py")).stderr(Stdio::inherit());
        command
    };
    for way in Way::TCP.into_iter().chain(Way::WEBSOCKET) {
        speaks(&scene, way, driver).await?;
    }
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_js() -> anyhow::Result<()> {
    let web = root().join("samples/tpa/web");
    let Some(node) = program("node").filter(|_| web.join("node_modules/mqtt").is_dir()) else {
        skip("no mqtt.js in samples/tpa/web/node_modules", "nodejs, then npm ci --ignore-scripts there");
        return Ok(());
    };
    let scene = Scene::new().await?;
    let driver = || {
        let mut command = Command::new(&node);
        command.arg(root().join("e2e/tests/clients/mqttjs_driver.mjs")).arg(&web).stderr(Stdio::inherit());
        command
    };
    for way in Way::TCP.into_iter().chain(Way::WEBSOCKET) {
        speaks(&scene, way, driver).await?;
    }
    outlives_its_token(scene, driver).await
}

/// A session that goes on with the next token (AUTH), and ends at one that is somebody else's.
async fn outlives_its_token(scene: Scene, driver: impl Fn() -> Command) -> anyhow::Result<()> {
    const HOUR: i64 = 60 * 60;
    let way = Way { version: 5, tls: true, websocket: true };
    let (ca, port) = (scene.stack.ca_file(), way.port(&scene.stack));
    let mut app = Peer::start(driver())?.with_method("Bearer");
    let login = ("Bearer", scene.allowed.access_token.as_str());
    anyhow::ensure!(app.connect("localhost", port, way, &ca, login).await? == 0);
    anyhow::ensure!(app.subscribe("d/#").await? <= 2);
    scene.stack.clock.advance(HOUR - 60);
    let renewed = scene.app.refresh(&scene.allowed.refresh_token).await?;
    let renewed = renewed.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    anyhow::ensure!(app.reauthenticate(&renewed.access_token).await? == 0);
    scene.stack.clock.advance(120);
    let mut device = Peer::start(driver())?;
    let login = ("Bearer", scene.owned.access_token.as_str());
    anyhow::ensure!(device.connect("localhost", port, way, &ca, login).await? == 0);
    anyhow::ensure!(device.publish("d/temperature", "20").await? == 0);
    let heard = app.message().await?;
    anyhow::ensure!(heard.1 == "20", "{heard:?}");
    let stranger = app.reauthenticate(&scene.owned.access_token).await?;
    anyhow::ensure!(stranger == 0x87, "{stranger:#x}");
    scene.stack.stop().await
}
