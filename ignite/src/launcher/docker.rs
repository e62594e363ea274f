//! The `docker` runtime: a container a PCM, without a network, reached by a Unix socket in a directory that both see.
//!
//! What a container looks like is `spec`'s; here it is created, adopted, replaced and removed. Only containers with this
//! launcher's own labels are touched. Containers outlive a launcher that restarts, not a deployment that is taken down.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerInspectResponse, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::probe::Tries;
use super::spec::{self, LABEL_PCM, LABEL_PLACE, LABEL_SPEC, Place, Spec};
use super::state::States;
use super::wire::{PcmName, Ready};
use super::{Failure, Listed};
use crate::config::LauncherConfig;

/// Compose's list of the services that a container's service depends on: `service:condition:restart`, with commas.
const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Where an engine listens unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// Longest time for one request to the engine, in seconds.
const REQUEST_SECONDS: u64 = 30;
/// Longest time from a request to a PCM that accepts.
const START_LIMIT: Duration = Duration::from_secs(25);
/// How long a running PCM may take to answer before it counts as dead.
const ADOPT_LIMIT: Duration = Duration::from_secs(3);
/// Pause after the engine said that another operation on the same name is on its way.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Containers that are made at once; more only make the engine slower for each.
const STARTS_AT_ONCE: usize = 8;

/// The engine, and what all containers have in common.
pub(super) struct Containers {
    docker: Docker,
    dir: PathBuf,
    image: String,
    peer_gid: u32,
    states: Option<Arc<States>>,
    place: Place,
    service: Option<String>,
    starts: Semaphore,
}

/// A container that was found under a PCM's name.
struct Found {
    ours: bool,
    running: bool,
    hash: Option<String>,
}

impl Containers {
    /// Connects, finds out where the launcher's own directory lies on the host, and gives it its owner and mode.
    pub(super) async fn connect(
        config: &LauncherConfig,
        peer_uid: u32,
        peer_gid: u32,
        states: Option<Arc<States>>,
    ) -> anyhow::Result<Self> {
        let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| SOCKET.to_owned());
        let docker = Docker::connect_with_unix(&socket, REQUEST_SECONDS, bollard::API_DEFAULT_VERSION)
            .with_context(|| format!("open the Docker socket {socket}"))?
            .negotiate_version()
            .await
            .context("ask the Docker engine for its version")?;
        std::fs::create_dir_all(&config.dir).with_context(|| format!("create {}", config.dir.display()))?;
        chown(&config.dir, None, Some(peer_gid))
            .with_context(|| format!("give {} its group", config.dir.display()))?;
        std::fs::set_permissions(&config.dir, std::fs::Permissions::from_mode(0o750))
            .with_context(|| format!("set the mode of {}", config.dir.display()))?;
        let (place, service) = find_place(&docker, config, peer_uid).await?;
        tracing::info!(
            event = "runtime_docker",
            api = %docker.client_version(),
            host_dir = %place.host_dir,
            host_state_dir = place.host_state_dir.as_deref().unwrap_or("-"),
            project = place.project.as_deref().unwrap_or("-"),
            image = %config.image,
            "PCMs run as containers without a network"
        );
        Ok(Self {
            docker,
            dir: config.dir.clone(),
            image: config.image.clone(),
            peer_gid,
            states,
            place,
            service,
            starts: Semaphore::new(STARTS_AT_ONCE),
        })
    }

    /// A running container of this name: adopted if it fits, else made.
    pub(super) async fn ensure(&self, name: &PcmName) -> Result<Ready, Failure> {
        let deadline = Instant::now() + START_LIMIT;
        let image = self.image_id().await?;
        let spec = spec::container(name, &image, &self.place);
        let uid = spec::pcm_uid(name);
        let ready = |fresh| Ready { name: name.clone(), socket: self.socket(name), uid, fresh };
        while Instant::now() < deadline {
            match self.inspect(name).await? {
                None => {
                    let _permit =
                        self.starts.acquire().await.map_err(|_| Failure::engine("the launcher stops"))?;
                    match self.start(name, spec.clone(), uid, deadline).await {
                        Ok(true) => return Ok(ready(true)),
                        Ok(false) => sleep(BUSY_PAUSE).await,
                        Err(error) => {
                            // A half-started one would only be in the way of the next try.
                            let _ = self.discard(name).await;
                            return Err(error);
                        }
                    }
                }
                Some(found) if !found.ours => {
                    return Err(Failure::Engine(format!(
                        "the name {name} is taken by a container that is not ours"
                    )));
                }
                Some(found) if found.running && found.hash.as_ref() == Some(&spec.hash) => {
                    let limit = deadline.min(Instant::now() + ADOPT_LIMIT);
                    match self.wait(name, uid, limit).await {
                        Ok(()) => return Ok(ready(false)),
                        Err(failure) => {
                            tracing::warn!(event = "pcm_hangs", %name, %failure, "a running PCM does not answer and is replaced");
                            self.discard(name).await?;
                        }
                    }
                }
                Some(found) => {
                    tracing::info!(event = "pcm_replaced", %name, running = found.running, "a dead or outdated PCM is replaced");
                    self.discard(name).await?;
                }
            }
        }
        Err(Failure::engine("the PCM did not start in time"))
    }

    /// Makes and starts the container and waits until it accepts; `false` if somebody else just took the name.
    async fn start(&self, name: &PcmName, spec: Spec, uid: u32, deadline: Instant) -> Result<bool, Failure> {
        self.make_dir(name, uid)
            .map_err(|error| Failure::Engine(format!("prepare the PCM's directory: {error}")))?;
        if let Some(states) = &self.states {
            states.prepare(name, Some(uid)).map_err(|error| {
                Failure::Engine(format!("prepare the directory of the PCM's state: {error}"))
            })?;
        }
        let options = CreateContainerOptionsBuilder::default().name(name.as_str()).build();
        match self.docker.create_container(Some(options), spec.body).await {
            Ok(_) => {}
            Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.docker.start_container(name.as_str(), None::<StartContainerOptions>).await?;
        self.wait(name, uid, deadline).await?;
        Ok(true)
    }

    /// Waits until the running container accepts.
    async fn wait(&self, name: &PcmName, uid: u32, deadline: Instant) -> Result<(), Failure> {
        let socket = self.socket(name);
        let mut tries = Tries::new(&socket, uid, deadline);
        while !tries
            .next()
            .await
            .map_err(|error| Failure::Engine(format!("the PCM does not accept: {error}")))?
        {
            if !self.inspect(name).await?.is_some_and(|found| found.running) {
                return Err(Failure::engine("the PCM ended while it started"));
            }
        }
        Ok(())
    }

    /// Removes the container and the directory of its socket, whatever is there of them.
    pub(super) async fn discard(&self, name: &PcmName) -> Result<(), Failure> {
        match self.inspect(name).await? {
            Some(found) if !found.ours => {
                return Err(Failure::Engine(format!(
                    "the name {name} is taken by a container that is not ours"
                )));
            }
            Some(_) => {
                let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
                match self.docker.remove_container(name.as_str(), Some(options)).await {
                    Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {}
                    // Somebody else removes it at this moment.
                    Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => {
                        sleep(BUSY_PAUSE).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            None => {}
        }
        self.remove_dir(name).map_err(|error| Failure::Engine(format!("remove the PCM's directory: {error}")))
    }

    /// Removes what is left of a PCM that runs no more; leaves a running one alone.
    pub(super) async fn remove_dead(&self, name: &PcmName) -> Result<(), Failure> {
        match self.inspect(name).await? {
            Some(found) if found.running || !found.ours => Ok(()),
            _ => self.discard(name).await,
        }
    }

    /// This launcher's containers, and directories that have none.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let labels = vec![format!("{LABEL_PCM}=1"), format!("{LABEL_PLACE}={}", self.place.host_dir)];
        let filters = HashMap::from([("label", labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let mut listed: Vec<Listed> = Vec::new();
        for container in self.docker.list_containers(Some(options)).await? {
            let running = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            let names = container.names.unwrap_or_default();
            let name = names.iter().find_map(|name| PcmName::new(name.trim_start_matches('/')).ok());
            listed.extend(name.map(|name| Listed { name, running }));
        }
        for name in super::directories(&self.dir)
            .map_err(|error| Failure::Engine(format!("list directories: {error}")))?
        {
            if listed.iter().all(|known| known.name != name) {
                listed.push(Listed { name, running: false });
            }
        }
        Ok(listed)
    }

    /// Removes every PCM if nobody is left to use them. What they keep stays.
    ///
    /// Compose's `down` and `stop` end the services that depend on the launcher before the launcher itself; `restart`, `up` and a
    /// launcher that dies leave them running. So what still runs when the launcher is told to end tells which it is. Without
    /// Compose nobody can tell, and everything stays.
    pub(super) async fn end(&self) -> Result<(), Failure> {
        let (Some(project), Some(service)) = (&self.place.project, &self.service) else { return Ok(()) };
        let filters = HashMap::from([("label", vec![format!("{}={project}", spec::COMPOSE_PROJECT)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let used = self.docker.list_containers(Some(options)).await?.iter().any(|container| {
            let labels = container.labels.as_ref();
            let needs = labels.and_then(|labels| labels.get(COMPOSE_DEPENDS_ON)).map_or("", String::as_str);
            let depends = needs.split(',').any(|need| need.split(':').next() == Some(service));
            let over = matches!(
                container.state,
                Some(
                    ContainerSummaryStateEnum::EXITED
                        | ContainerSummaryStateEnum::DEAD
                        | ContainerSummaryStateEnum::REMOVING
                )
            );
            depends && !over
        });
        if used {
            return Ok(());
        }
        tracing::info!(event = "pcms_end", "the services that use PCMs are down, so the PCMs are removed");
        let listed = self.list().await?;
        let removals: Vec<_> = listed.iter().map(|pcm| self.discard(&pcm.name)).collect();
        let removals = futures_util::stream::iter(removals).buffer_unordered(STARTS_AT_ONCE);
        removals.fold(Ok(()), async |all, one| all.and(one)).await
    }

    fn socket(&self, name: &PcmName) -> PathBuf {
        self.dir.join(name.as_str()).join("s")
    }

    async fn image_id(&self) -> Result<String, Failure> {
        match self.docker.inspect_image(&self.image).await {
            Ok(image) => image.id.ok_or_else(|| Failure::engine("the engine told no id of the PCM's image")),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {
                Err(Failure::Engine(format!("there is no image {}: build it first", self.image)))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn inspect(&self, name: &PcmName) -> Result<Option<Found>, Failure> {
        match self.docker.inspect_container(name.as_str(), None::<InspectContainerOptions>).await {
            Ok(container) => Ok(Some(self.judge(&container))),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn judge(&self, container: &ContainerInspectResponse) -> Found {
        let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
        Found {
            ours: label(LABEL_PCM) == Some("1") && label(LABEL_PLACE) == Some(&self.place.host_dir),
            running: container.state.as_ref().and_then(|state| state.running).unwrap_or(false),
            hash: label(LABEL_SPEC).map(str::to_owned),
        }
    }

    /// An empty directory that belongs to the PCM and that the gateway's group may use; what is made in it gets that group.
    fn make_dir(&self, name: &PcmName, uid: u32) -> io::Result<()> {
        self.remove_dir(name)?;
        let dir = self.dir.join(name.as_str());
        std::fs::create_dir(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        chown(&dir, Some(uid), Some(self.peer_gid))?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o2770))
    }

    fn remove_dir(&self, name: &PcmName) -> io::Result<()> {
        match std::fs::remove_dir_all(self.dir.join(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Where the launcher's directories lie on the host, to which Compose project the launcher belongs, and its service there.
async fn find_place(
    docker: &Docker,
    config: &LauncherConfig,
    peer_uid: u32,
) -> anyhow::Result<(Place, Option<String>)> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let text =
        |dir: &Path| dir.to_str().map(str::to_owned).context("a launcher's directory is no UTF-8 path");
    let Some(id) = spec::own_container_id(&mountinfo) else {
        let host_state_dir = config.state_dir.as_deref().map(text).transpose()?;
        return Ok((Place { host_dir: text(&config.dir)?, host_state_dir, project: None, peer_uid }, None));
    };
    let own = docker
        .inspect_container(id, None::<InspectContainerOptions>)
        .await
        .context("inspect the launcher's own container")?;
    let mounts = own.mounts.unwrap_or_default();
    let host_path = |dir: &Path| {
        let pairs =
            mounts.iter().filter_map(|mount| Some((mount.destination.as_deref()?, mount.source.as_deref()?)));
        spec::host_path(dir, pairs).with_context(|| {
            format!("{} is no volume, so no other container could see it: mount one there", dir.display())
        })
    };
    let host_dir = host_path(&config.dir)?;
    let host_state_dir = config.state_dir.as_deref().map(host_path).transpose()?;
    let labels = own.config.and_then(|config| config.labels).unwrap_or_default();
    let project = labels.get(spec::COMPOSE_PROJECT).cloned();
    let service = labels.get(spec::COMPOSE_SERVICE).cloned();
    Ok((Place { host_dir, host_state_dir, project, peer_uid }, service))
}

impl From<DockerError> for Failure {
    fn from(error: DockerError) -> Self {
        Failure::Engine(format!("Docker: {error}"))
    }
}
