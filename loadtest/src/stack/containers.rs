//! The containers of one launcher, told from all others by the label that says in which directory it works.

use std::process::Command;

use anyhow::{Context as _, ensure};

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
