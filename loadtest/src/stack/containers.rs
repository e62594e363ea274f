//! The containers of one launcher, told from all others by the label that says in which directory it works; and what the engine needs
//! for a container of its own accord, to compare a launch with.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};

fn docker(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(args).output().context("start the docker command")?;
    ensure!(
        output.status.success(),
        "docker {}: {}",
        args.first().unwrap_or(&""),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ids of the containers of the launcher that works in `place`.
fn ids(place: &str) -> anyhow::Result<Vec<String>> {
    let filter = format!("label=oauthing.place={place}");
    let listed = docker(&["ps", "-aq", "--no-trunc", "--filter", &filter])?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}

/// Process ids of those that run.
pub(super) fn pids(place: &str) -> anyhow::Result<Vec<u32>> {
    let ids = ids(place)?;
    let mut pids = Vec::new();
    for chunk in ids.chunks(100) {
        let mut args = vec!["inspect", "-f", "{{.State.Pid}}"];
        args.extend(chunk.iter().map(String::as_str));
        let text = docker(&args)?;
        pids.extend(
            text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid != 0),
        );
    }
    Ok(pids)
}

/// Removes them all.
pub(super) fn remove(place: &str) -> anyhow::Result<()> {
    let ids = ids(place)?;
    for chunk in ids.chunks(50) {
        let mut args = vec!["rm", "-f"];
        args.extend(chunk.iter().map(String::as_str));
        docker(&args)?;
    }
    Ok(())
}

/// How long the engine takes to create and start a container of this image, without a network and with nothing of ours about it.
///
/// # Errors
/// The engine's.
pub(super) async fn create_and_start(image: &str, name: &str) -> anyhow::Result<Duration> {
    let docker = Docker::connect_with_local_defaults().context("the engine")?.negotiate_version().await?;
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()]),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let started = Instant::now();
    docker.create_container(Some(options), body).await.context("create a container")?;
    let start = docker.start_container(name, None::<StartContainerOptions>).await;
    let took = started.elapsed();
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(name, Some(options)).await.context("remove a container")?;
    start.context("start a container")?;
    Ok(took)
}
