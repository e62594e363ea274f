//! The `docker` runtime: a container a PCM, without a network, reached by a Unix socket in a directory that both see.
//!
//! What a container looks like is `spec`'s; here it is created, started, renamed, listed and removed, and the engine's events
//! are heard. Only containers with this launcher's own labels are touched. When what is done is `Launcher`'s business.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
    StartContainerOptions,
};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::groups::Groups;
use super::slots::Slot;
use super::spec::{self, LABEL_GROUP, LABEL_PCM, LABEL_PLACE, LABEL_SLOT, LABEL_SPEC, Place, Spec};
use super::{Body, Failure, Seen, Started};
use crate::config::LauncherConfig;

/// Compose's list of the services that a container's service depends on: `service:condition:restart`, with commas.
const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Where an engine listens unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// Longest time for one request to the engine, in seconds.
const REQUEST_SECONDS: u64 = 30;
/// Longest time for a container to be removed.
const REMOVAL: Duration = Duration::from_secs(20);
/// Pause before events are asked for again.
const EVENTS_PAUSE: Duration = Duration::from_secs(1);
/// First version of the engine's API that hands annotations to the runtime.
const ANNOTATIONS_SINCE: (usize, usize) = (1, 43);

/// What the engine says of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Came,
    Ended,
}

/// The engine, and what all containers have in common.
pub(super) struct Containers {
    docker: Docker,
    image: String,
    /// The id that the image's name had when it was last looked up.
    image_id: Mutex<String>,
    place: Place,
    service: Option<String>,
    connected_at: SystemTime,
    /// Containers that share a shim at most; 0 if the engine cannot do that.
    group: usize,
    groups: Mutex<Groups>,
    said_ungrouped: std::sync::Once,
}

impl Containers {
    /// Connects, and finds out where the launcher's own directory lies on the host.
    pub(super) async fn connect(
        config: &LauncherConfig,
        peer_uid: u32,
        launcher_uid: u32,
    ) -> anyhow::Result<Self> {
        let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| SOCKET.to_owned());
        let docker = match &config.engine {
            Some(socket) => connect(&socket.to_string_lossy()).await?,
            None => connect(&socket).await?,
        };
        let (host_dir, project, service) = find_place(&docker, config).await?;
        let longest_file = config.state_dir.as_ref().map_or(0, |_| config.longest_file().cast_signed());
        let memory = (config.owner_memory_mib << 20).cast_signed();
        let place = Place { host_dir, project, peer_uid, launcher_uid, memory, longest_file };
        let version = docker.client_version();
        let group = match config.group {
            most if (version.major_version, version.minor_version) >= ANNOTATIONS_SINCE => most,
            0 => 0,
            _ => {
                tracing::warn!(event = "shims_not_shared", api = %version, "this engine hands no annotations on: every container has a shim of its own");
                0
            }
        };
        tracing::info!(
            event = "runtime_docker",
            api = %version,
            host_dir = %place.host_dir,
            project = place.project.as_deref().unwrap_or("-"),
            image = %config.image,
            group,
            "PCMs run as containers without a network"
        );
        let containers = Self {
            docker,
            image: config.image.clone(),
            image_id: Mutex::default(),
            place,
            service,
            connected_at: SystemTime::now(),
            group,
            groups: Mutex::default(),
            said_ungrouped: std::sync::Once::new(),
        };
        Ok(containers)
    }

    /// Looks up what the image's name means now.
    pub(super) async fn look_up_image(&self) -> Result<(), Failure> {
        let id = match self.docker.inspect_image(&self.image).await {
            Ok(image) => {
                image.id.ok_or_else(|| Failure::engine("the engine told no id of the PCM's image"))?
            }
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {
                return Err(Failure::Engine(format!("there is no image {}: build it first", self.image)));
            }
            Err(error) => return Err(error.into()),
        };
        *lock(&self.image_id) = id;
        Ok(())
    }

    fn spec(&self, slot: Slot) -> Spec {
        spec::container(slot, &lock(&self.image_id), &self.place)
    }

    /// Makes and starts the container of a slot whose directory is there.
    pub(super) async fn start(&self, slot: Slot, name: &str) -> Result<Started, Failure> {
        if lock(&self.image_id).is_empty() {
            self.look_up_image().await?;
        }
        let group = (self.group > 0).then(|| lock(&self.groups).pick(self.group, rand::random()));
        match self.start_in(slot, name, group.clone()).await {
            Err(failure) if group.is_some() => {
                // The group's shim may be about to end, or broken: that must not keep anybody else from starting.
                if let Some(group) = &group {
                    lock(&self.groups).leave(group);
                    lock(&self.groups).close(group);
                }
                tracing::warn!(event = "pcm_start_retried", container = name, %failure, "a container could not be started in its group and is started in a new one");
                self.end(name).await?;
                let fresh = format!("{:016x}", rand::random::<u64>());
                lock(&self.groups).join(&fresh);
                self.start_in(slot, name, Some(fresh)).await
            }
            done => done,
        }
    }

    async fn start_in(&self, slot: Slot, name: &str, group: Option<String>) -> Result<Started, Failure> {
        let mut spec = self.spec(slot);
        if let Some(group) = &group {
            spec = spec.in_group(group);
        }
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let id = match self.docker.create_container(Some(options), spec.body).await {
            Ok(created) => created.id,
            Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => {
                return Ok(Started::Taken);
            }
            Err(DockerError::DockerResponseServerError { status_code: 404, message }) => {
                // The image of that id is gone; the name may have another one.
                lock(&self.image_id).clear();
                return Err(Failure::Engine(format!("Docker: {message}")));
            }
            Err(error) => return Err(error.into()),
        };
        self.docker.start_container(&id, None::<StartContainerOptions>).await?;
        let found = self.docker.inspect_container(&id, None::<InspectContainerOptions>).await?;
        let group = group.filter(|group| self.is_grouped(&found, group));
        Ok(Started::Running(Body {
            slot,
            pid: pid(&found),
            container: name.to_owned(),
            group,
            outdated: false,
        }))
    }

    /// Whether the engine took the annotation. One that dropped it started a shim for this container alone.
    fn is_grouped(&self, found: &ContainerInspectResponse, group: &str) -> bool {
        if annotated(found) == Some(group) {
            return true;
        }
        self.said_ungrouped.call_once(|| {
            tracing::warn!(
                event = "shims_not_shared",
                "the engine dropped the annotation: every container has a shim of its own"
            );
        });
        lock(&self.groups).leave(group);
        false
    }

    /// Gives a container another name; false if the name is taken.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<bool, Failure> {
        let options = RenameContainerOptionsBuilder::default().name(to).build();
        match self.docker.rename_container(from, options).await {
            Ok(()) => Ok(true),
            Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => Ok(false),
            // "Renaming a container with the same name as its current name".
            Err(DockerError::DockerResponseServerError { status_code: 400, .. }) if from == to => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Kills and removes the container of this name; one that is not there is fine.
    ///
    /// # Errors
    /// It is not ours, or the engine could not do it (in time).
    pub(super) async fn end(&self, name: &str) -> Result<(), Failure> {
        let Some(found) = self.find(name).await? else { return Ok(()) };
        let Some(seen) = found else {
            return Err(Failure::Engine(format!("the name {name} is taken by a container that is not ours")));
        };
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removal = self.docker.remove_container(name, Some(options));
        match timeout(REMOVAL, removal).await {
            Ok(Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 404, .. })) => {}
            // Somebody else removes it at this moment.
            Ok(Err(DockerError::DockerResponseServerError { status_code: 409, .. })) => {
                self.wait_gone(name).await?;
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                return Err(Failure::Engine(format!("the container {name} could not be removed in time")));
            }
        }
        if let Some(group) = &seen.group {
            lock(&self.groups).leave(group);
        }
        Ok(())
    }

    async fn wait_gone(&self, name: &str) -> Result<(), Failure> {
        let gone = async {
            while self.find(name).await?.is_some() {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        timeout(REMOVAL, gone).await.unwrap_or_else(|_| {
            Err(Failure::Engine(format!("the container {name} could not be removed in time")))
        })
    }

    /// The container of this name: `None` if there is none, `Some(None)` if it is not ours.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Option<Seen>>, Failure> {
        match self.docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(container) => {
                let config = container.config.as_ref();
                let labels = config.and_then(|config| config.labels.clone()).unwrap_or_default();
                let running = container.state.as_ref().and_then(|state| state.running).unwrap_or(false);
                let ours = self.is_ours(&labels);
                let name = container.name.as_deref().unwrap_or(name).trim_start_matches('/');
                let group = annotated(&container).map(str::to_owned);
                Ok(Some(ours.then(|| Seen { group, ..self.seen(name, &labels, running, pid(&container)) })))
            }
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// This launcher's containers.
    pub(super) async fn list(&self) -> Result<Vec<Seen>, Failure> {
        let labels = vec![format!("{LABEL_PCM}=1"), format!("{LABEL_PLACE}={}", self.place.host_dir)];
        let filters = HashMap::from([("label", labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await?;
        Ok(listed.into_iter().filter_map(|container| self.seen_in_list(container)).collect())
    }

    /// Counts who shares a shim with whom, before anything is started.
    pub(super) fn count_groups(&self, seen: &[Seen]) {
        *lock(&self.groups) = Groups::of(seen.iter().filter_map(|seen| seen.group.as_deref()));
    }

    fn seen_in_list(&self, container: ContainerSummary) -> Option<Seen> {
        let running = container.state == Some(ContainerSummaryStateEnum::RUNNING);
        let labels = container.labels.unwrap_or_default();
        // A container that others link to has more names than its own; none of ours has.
        let name = container.names.unwrap_or_default().into_iter().next()?;
        self.is_ours(&labels).then(|| self.seen(name.trim_start_matches('/'), &labels, running, 0))
    }

    fn is_ours(&self, labels: &HashMap<String, String>) -> bool {
        let label = |key: &str| labels.get(key).map(String::as_str);
        label(LABEL_PCM) == Some("1") && label(LABEL_PLACE) == Some(&self.place.host_dir)
    }

    fn seen(&self, name: &str, labels: &HashMap<String, String>, running: bool, pid: u32) -> Seen {
        let slot = labels.get(LABEL_SLOT).and_then(|number| Slot::parse(number));
        let current = slot.map(|slot| self.spec(slot).hash);
        let outdated = current.is_none() || labels.get(LABEL_SPEC) != current.as_ref();
        Seen {
            container: name.to_owned(),
            slot,
            running,
            outdated,
            pid,
            // What it was asked for; an engine that has dropped it once drops it always.
            group: labels.get(LABEL_GROUP).filter(|_| !self.said_ungrouped.is_completed()).cloned(),
        }
    }

    /// Notifies `changed` whenever one of this launcher's containers ends or comes that `concerns` somebody, and when the engine
    /// is there again.
    pub(super) async fn listen(&self, changed: &Notify, concerns: impl Fn(Event, &str) -> bool) {
        let filters = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("event", ["create", "die", "destroy", "oom"].map(str::to_owned).to_vec()),
            ("label", vec![format!("{LABEL_PLACE}={}", self.place.host_dir)]),
        ]);
        // What happened between the first look and the first event is told as well.
        let mut since = self.connected_at;
        loop {
            let options = EventsOptionsBuilder::default().filters(&filters).since(&seconds(since)).build();
            let mut events = self.docker.events(Some(options));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        let kind = if event.action.as_deref() == Some("create") {
                            Event::Came
                        } else {
                            Event::Ended
                        };
                        let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                        if attributes.get("name").is_none_or(|name| concerns(kind, name)) {
                            changed.notify_one();
                        }
                    }
                    Err(error) => {
                        tracing::warn!(event = "engine_lost", %error, "the engine's events do not come any more");
                        break;
                    }
                }
            }
            since = SystemTime::now();
            sleep(EVENTS_PAUSE).await;
            changed.notify_one();
        }
    }

    /// Whether nobody is left to use PCMs.
    ///
    /// Compose's `down` and `stop` end the services that depend on the launcher before the launcher itself; `restart`, `up` and a
    /// launcher that dies leave them running. So what still runs when the launcher is told to end tells which it is. Without
    /// Compose nobody can tell, and everything stays.
    pub(super) async fn is_unused(&self) -> Result<bool, Failure> {
        let (Some(project), Some(service)) = (&self.place.project, &self.service) else { return Ok(false) };
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
        Ok(!used)
    }
}

async fn connect(socket: &str) -> anyhow::Result<Docker> {
    Docker::connect_with_unix(socket, REQUEST_SECONDS, bollard::API_DEFAULT_VERSION)
        .with_context(|| format!("open the Docker socket {socket}"))?
        .negotiate_version()
        .await
        .context("ask the Docker engine for its version")
}

/// A time as the engine takes it: whole seconds, rounded down.
fn seconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string()
}

/// The group that the engine has kept of a container's annotations.
fn annotated(found: &ContainerInspectResponse) -> Option<&str> {
    let annotations = found.host_config.as_ref()?.annotations.as_ref()?;
    annotations.get(super::groups::ANNOTATION).map(String::as_str)
}

fn pid(container: &ContainerInspectResponse) -> u32 {
    let pid = container.state.as_ref().and_then(|state| state.pid);
    pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the launcher's directory lies on the host, to which Compose project the launcher belongs, and its service there.
async fn find_place(
    docker: &Docker,
    config: &LauncherConfig,
) -> anyhow::Result<(String, Option<String>, Option<String>)> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let text =
        |dir: &Path| dir.to_str().map(str::to_owned).context("a launcher's directory is no UTF-8 path");
    let Some(id) = spec::own_container_id(&mountinfo) else {
        return Ok((text(&config.dir)?, None, None));
    };
    let own = docker
        .inspect_container(id, None::<InspectContainerOptions>)
        .await
        .context("inspect the launcher's own container")?;
    let mounts = own.mounts.unwrap_or_default();
    let pairs =
        mounts.iter().filter_map(|mount| Some((mount.destination.as_deref()?, mount.source.as_deref()?)));
    let host_dir = spec::host_path(&config.dir, pairs).with_context(|| {
        format!("{} is no volume, so no other container could see it: mount one there", config.dir.display())
    })?;
    let labels = own.config.and_then(|config| config.labels).unwrap_or_default();
    let project = labels.get(spec::COMPOSE_PROJECT).cloned();
    let service = labels.get(spec::COMPOSE_SERVICE).cloned();
    Ok((host_dir, project, service))
}

impl From<DockerError> for Failure {
    fn from(error: DockerError) -> Self {
        Failure::Engine(format!("Docker: {error}"))
    }
}
