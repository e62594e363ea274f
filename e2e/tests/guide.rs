//! The apps of the developers' guide, which holds copies of `clients/guide/`: each as it stands there, over TLS, with a device at the
//! other end. What it shows is looked at, and what its command does.
//!
//! Needs what `other_languages` needs.

#[path = "clients/guide/app.rs"]
#[allow(unreachable_pub, reason = "it stands in the guide as in a program of its reader's own")]
mod app;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Scene, Way, program, root, skip};
use mqtt_wire::QoS;
use testkit::device::door;
use testkit::mqtt::Options;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(15);

/// What an app shows, line by line. A program dies with this.
enum Shown {
    Program { _process: Box<Child>, lines: Lines<BufReader<ChildStdout>> },
    Here(mpsc::UnboundedReceiver<String>),
}

impl Shown {
    /// Starts a program with the environment that the guide names.
    fn program(scene: &Scene, mut command: Command) -> anyhow::Result<Self> {
        let port = Way { version: 5, tls: true, websocket: false }.port(&scene.stack);
        command
            .env("GATEWAY_HOST", "localhost")
            .env("GATEWAY_PORT", port.to_string())
            .env("ACCESS_TOKEN", &scene.allowed.access_token)
            .env("CA_FILE", scene.stack.ca_file())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn().context("start the app")?;
        let output = process.stdout.take().context("the app's output")?;
        Ok(Self::Program { _process: Box::new(process), lines: BufReader::new(output).lines() })
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = match self {
            Self::Program { lines, .. } => {
                timeout(PATIENCE, lines.next_line()).await.context("nothing comes")??
            }
            Self::Here(lines) => timeout(PATIENCE, lines.recv()).await.context("nothing comes")?,
        };
        line.context("the app ended")
    }
}

/// What each app has to do.
async fn works(scene: &Scene, mut app: Shown) -> anyhow::Result<()> {
    let mut device =
        Options::new(&door(&scene.owned.gateway)?).bearer(&scene.owned.access_token).connect().await?;
    device.subscribe("c/#", QoS::AtLeastOnce).await?;
    let first = app.line().await?;
    ensure!(first == "listening", "{first}");
    for (degrees, is_cold) in [("21.5", false), ("19.5", true)] {
        device.publish("d/temperature", degrees.as_bytes(), QoS::AtLeastOnce).await?;
        let line = app.line().await?;
        ensure!(line == format!("d/{}/temperature {degrees}", scene.handle), "{line}");
        if is_cold {
            let command = device.message().await?;
            ensure!((command.topic.as_str(), command.text().as_str()) == ("c/heater", "true"), "{command:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_app_in_python() -> anyhow::Result<()> {
    let Some(python) = std::env::var_os("OAUTHING_PYTHON") else {
        skip("no Python with paho-mqtt (OAUTHING_PYTHON)", "paho-mqtt into a virtual environment");
        return Ok(());
    };
    let scene = Scene::new().await?;
    let mut command = Command::new(python);
    command.arg(root().join("e2e/tests/clients/guide/app.py"));
    works(&scene, Shown::program(&scene, command)?).await?;
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_app_in_javascript() -> anyhow::Result<()> {
    let web = root().join("samples/tpa/web");
    let Some(node) = program("node").filter(|_| web.join("node_modules/mqtt").is_dir()) else {
        skip("no mqtt.js in samples/tpa/web/node_modules", "nodejs, then npm ci --ignore-scripts there");
        return Ok(());
    };
    let scene = Scene::new().await?;
    let mut command = Command::new(node);
    command.arg(root().join("e2e/tests/clients/guide/app.mjs").canonicalize()?).current_dir(web);
    works(&scene, Shown::program(&scene, command)?).await?;
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_app_in_rust() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let port = Way { version: 5, tls: true, websocket: false }.port(&scene.stack);
    let ca = std::fs::read(scene.stack.ca_file())?;
    let token = scene.allowed.access_token.clone();
    let (show, shown) = mpsc::unbounded_channel();
    let running = tokio::spawn(async move {
        // Nobody looks any more when the test is over.
        app::run(("localhost", port), &token, ca, |line| drop(show.send(line))).await
    });
    works(&scene, Shown::Here(shown)).await?;
    running.abort();
    scene.stack.stop().await
}
