//! The Compose deployment that suites run against: a project of its own, so that a developer's stack keeps its containers,
//! volumes and images. The ports are the same, so only one of the two can be up.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::step::{Run, root};

/// Project and image prefix of the suites' deployment.
pub(crate) const PROJECT: &str = "oauthing-e2e";

/// Published ports, all on 127.0.0.1.
const PORTS: [u16; 11] = [8080, 1884, 8884, 1883, 8883, 8083, 8443, 8070, 8090, 8095, 8096];

/// Seconds until all services must be healthy.
const WAIT_SECONDS: &str = "240";

/// Where logs and screenshots of failed runs are kept.
pub(crate) fn artefacts() -> PathBuf {
    root().join("e2e/artefacts")
}

/// Builds all images, named `<prefix>-<service>`.
///
/// # Errors
/// A build that fails.
pub(crate) fn build(prefix: &str) -> anyhow::Result<()> {
    Run::new("docker", &["compose", "--progress", "plain", "build"])
        .env("OAUTHING_IMAGES", prefix)
        .env("DOCKER_BUILDKIT", "1")
        .go()
}

/// Where [`programs`] puts them, below the workspace.
pub(crate) const PROGRAMS: &str = "target/programs";

/// Takes the programs out of the images' build, to be measured on this host as they are shipped.
///
/// # Errors
/// A build that fails.
pub(crate) fn programs() -> anyhow::Result<()> {
    let to = root().join(PROGRAMS);
    let to = to.to_str().context("the workspace's path is no UTF-8")?;
    Run::new("docker", &["build", "--progress", "plain", "--target", "programs", "--output", to, "."])
        .env("DOCKER_BUILDKIT", "1")
        .go()
}

/// The running deployment; dropped, it is taken down with its volumes.
pub(crate) struct Stack {
    down: bool,
}

impl Stack {
    /// Brings it up and waits until every service is healthy. Images must have been built.
    ///
    /// # Errors
    /// A port that somebody else has, or a service that does not become healthy; its logs are among the artefacts then.
    pub(crate) fn up() -> anyhow::Result<Self> {
        compose(&["down", "-v", "--remove-orphans"]).go().context("take down what a former run left")?;
        for port in PORTS {
            TcpListener::bind(("127.0.0.1", port)).with_context(|| {
                format!("127.0.0.1:{port} is in use; is your own stack up? `docker compose stop` makes room")
            })?;
        }
        let stack = Self { down: false };
        let up = compose(&["up", "-d", "--no-build", "--wait", "--wait-timeout", WAIT_SECONDS]).go();
        if let Err(error) = up {
            stack.keep_logs();
            return Err(error);
        }
        Ok(stack)
    }

    /// Writes all services' logs into the artefacts.
    pub(crate) fn keep_logs(&self) {
        let file = artefacts().join("compose.log");
        let state = compose(&["ps", "-a"]).output().unwrap_or_else(|error| format!("{error:#}"));
        let logs = compose(&["logs", "--no-color", "--timestamps"])
            .output()
            .unwrap_or_else(|error| format!("{error:#}"));
        let wrote = std::fs::create_dir_all(artefacts())
            .and_then(|()| std::fs::write(&file, format!("{state}\n{logs}")));
        match wrote {
            Ok(()) => eprintln!("logs of all services: {}", file.display()),
            Err(error) => eprintln!("the logs could not be written to {}: {error}", file.display()),
        }
    }

    /// Takes it down with its volumes and looks whether anything of it is left, PCMs above all.
    ///
    /// # Errors
    /// If anything is.
    pub(crate) fn down(mut self) -> anyhow::Result<()> {
        self.down = true;
        compose(&["down", "-v"]).go()?;
        let label = format!("label=com.docker.compose.project={PROJECT}");
        let left = Run::new("docker", &["ps", "-aq", "--filter", &label]).output()?;
        if !left.trim().is_empty() {
            bail!(
                "`docker compose down` left containers behind: {}",
                left.split_whitespace().collect::<Vec<_>>().join(" ")
            );
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.down
            && let Err(error) = compose(&["down", "-v"]).go()
        {
            eprintln!("{error:#}");
        }
    }
}

/// `docker compose` on the suites' deployment. A developer's `OAUTHING_HOST` must not lead it elsewhere.
fn compose(arguments: &[&str]) -> Run {
    let mut all = vec!["compose", "--progress", "plain"];
    all.extend(arguments);
    Run::new("docker", &all)
        .env("COMPOSE_PROJECT_NAME", PROJECT)
        .env("OAUTHING_IMAGES", PROJECT)
        .env("OAUTHING_HOST", "")
        // Seconds; short, so that the suite sees apps renew.
        .env("DIDP_APP_ACCESS_TOKEN", "30")
}
