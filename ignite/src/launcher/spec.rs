//! The container of a PCM as pure data: name, image and place in, the whole of Docker's request out.
//!
//! Every setting is compiled in. What is not written here, Docker's default stands: its seccomp profile above all, which is
//! kept, and on top of which the PCM puts its own, so that it can open no third file in the directory of its state. Talking to the engine is left to `docker`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use sha2::{Digest as _, Sha256};

use super::state::LONGEST_FILE;
use super::wire::PcmName;

/// Every PCM's container has it, with the value `1`.
pub(super) const LABEL_PCM: &str = "oauthing.pcm";
/// Which launcher a container belongs to: the host's path of the directory that it works in.
pub(super) const LABEL_PLACE: &str = "oauthing.place";
/// What the container was made from; another value means it is out of date.
pub(super) const LABEL_SPEC: &str = "oauthing.spec";
/// Where a PCM sees its own directory.
pub(super) const INSIDE: &str = "/run/pcm";
/// Where it sees the directory of what it keeps.
pub(super) const STATE_INSIDE: &str = "/var/lib/pcm";

/// The Compose project that a container belongs to.
pub(super) const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// The service of that project.
pub(super) const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_ONEOFF: &str = "com.docker.compose.oneoff";

const MEMORY: i64 = 64 << 20;
/// The PCM is one thread; the rest is for the runtime that starts it, which is counted too.
const PIDS: i64 = 32;
const OPEN_FILES: i64 = 4096;

/// What all containers of one launcher have in common.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The host's path of the directory that holds one directory a PCM.
    pub(super) host_dir: String,
    /// The host's path of the directory that holds one directory a PCM with what it keeps, if it keeps anything.
    pub(super) host_state_dir: Option<String>,
    /// The Compose project that the launcher belongs to.
    pub(super) project: Option<String>,
    /// The gateway's user, the only peer that a PCM accepts.
    pub(super) peer_uid: u32,
}

/// Docker's request, and the hash that stands in its labels.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) hash: String,
    pub(super) body: ContainerCreateBody,
}

/// The user and group of a PCM: between 2^30 and 2^31, far from every account, from the name alone. Two names may meet on
/// one number; they still have no file in common.
pub(super) fn pcm_uid(name: &PcmName) -> u32 {
    let digest = Sha256::digest(name.as_str());
    let low = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (1 << 30) | (low & ((1 << 30) - 1))
}

/// The container of `name`, made from the image with the id `image`.
pub(super) fn container(name: &PcmName, image: &str, place: &Place) -> Spec {
    let uid = pcm_uid(name);
    let mut command = vec![
        "--dir".into(),
        INSIDE.into(),
        "--peer-uid".into(),
        place.peer_uid.to_string(),
        "--sandbox".into(),
    ];
    if place.host_state_dir.is_some() {
        command.extend(["--state-dir".into(), STATE_INSIDE.into()]);
    }
    let mut body = ContainerCreateBody {
        hostname: Some("pcm".into()),
        user: Some(format!("{uid}:{uid}")),
        env: Some(Vec::new()),
        entrypoint: Some(vec!["/pcm".into()]),
        cmd: Some(command),
        image: Some(image.into()),
        working_dir: Some("/".into()),
        network_disabled: Some(true),
        host_config: Some(host_config(
            format!("{}/{name}", place.host_dir),
            place.host_state_dir.as_ref().map(|dir| format!("{dir}/{name}")),
        )),
        ..Default::default()
    };
    let mut labels = BTreeMap::from([(LABEL_PCM, "1"), (LABEL_PLACE, place.host_dir.as_str())]);
    if let Some(project) = &place.project {
        // A one-off container of the service `pcm`: shown with the project, and left alone by `up` and `restart`. `down` leaves it
        // alone too, so the launcher removes it then (`Containers::end`).
        labels.extend([
            (COMPOSE_PROJECT, project.as_str()),
            (COMPOSE_SERVICE, "pcm"),
            (COMPOSE_ONEOFF, "True"),
        ]);
    }
    let hash = hash(&body, &labels);
    let mut labels: HashMap<String, String> =
        labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    labels.insert(LABEL_SPEC.into(), hash.clone());
    body.labels = Some(labels);
    Spec { hash, body }
}

fn host_config(own_dir: String, state_dir: Option<String>) -> HostConfig {
    let longest_file = if state_dir.is_some() { LONGEST_FILE.cast_signed() } else { 0 };
    // The engine picks the propagation: below its own root, where volumes lie, it insists on one, elsewhere it is private.
    let mount = |inside: &str, source: String| Mount {
        target: Some(inside.into()),
        source: Some(source),
        typ: Some(MountType::BIND),
        read_only: Some(false),
        ..Default::default()
    };
    let mut mounts = vec![mount(INSIDE, own_dir)];
    mounts.extend(state_dir.map(|dir| mount(STATE_INSIDE, dir)));
    HostConfig {
        network_mode: Some("none".into()),
        ipc_mode: Some("none".into()),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        memory: Some(MEMORY),
        memory_swap: Some(MEMORY),
        pids_limit: Some(PIDS),
        ulimits: Some(vec![ulimit("nofile", OPEN_FILES), ulimit("fsize", longest_file), ulimit("core", 0)]),
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        mounts: Some(mounts),
        ..Default::default()
    }
}

fn ulimit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.into()), soft: Some(value), hard: Some(value) }
}

fn hash(body: &ContainerCreateBody, labels: &BTreeMap<&str, &str>) -> String {
    let mut digest = Sha256::new();
    // Without its labels the request has no map in it, so its JSON is always the same text.
    digest.update(serde_json::to_vec(body).expect("the request has only strings, numbers and lists"));
    for (key, value) in labels {
        digest.update(format!("\0{key}\0{value}"));
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The path of the host that `dir` is in a container with these mounts, as `(destination, source)`.
pub(super) fn host_path<'a>(dir: &Path, mounts: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    mounts
        .filter_map(|(destination, source)| {
            let rest = dir.strip_prefix(destination).ok()?;
            Some((destination.len(), Path::new(source).join(rest).to_str()?.trim_end_matches('/').to_owned()))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, path)| path)
}

/// The id of the container that this process runs in, from `/proc/self/mountinfo`: Docker mounts `hostname` and other files
/// from `…/containers/<id>/` into every container.
pub(super) fn own_container_id(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (_, rest) = line.split_once("/containers/")?;
        let id = rest.get(..64)?;
        (rest.as_bytes().get(64) == Some(&b'/') && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let host_state_dir = Some("/host/state".into());
        Place {
            host_dir: "/host/run".into(),
            host_state_dir,
            project: Some("oauthing".into()),
            peer_uid: 10002,
        }
    }

    fn name(last: char) -> PcmName {
        PcmName::new(format!("pcm-{}{last}", "0".repeat(31))).unwrap()
    }

    #[test]
    fn a_container_has_no_network_no_rights_and_its_own_mounts() {
        let body = container(&name('1'), "sha256:i", &place()).body;
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.privileged, Some(false));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.cap_add, None);
        assert_eq!(host.devices, None);
        assert_eq!(host.pid_mode, None);
        assert_eq!(host.userns_mode, None);
        assert_eq!(host.tmpfs, None);
        assert_eq!(host.binds, None);
        let security = host.security_opt.unwrap();
        assert_eq!(security, ["no-new-privileges:true"]);
        let mounts = host.mounts.unwrap();
        let mounts: Vec<_> =
            mounts.into_iter().map(|mount| (mount.source.unwrap(), mount.target.unwrap())).collect();
        let own = |dir: &str, inside: &str| (format!("{dir}/{}", name('1')), inside.to_owned());
        assert_eq!(mounts, [own("/host/run", "/run/pcm"), own("/host/state", "/var/lib/pcm")]);
        assert!(body.cmd.unwrap().ends_with(&["--state-dir".to_owned(), "/var/lib/pcm".to_owned()]));
        assert_eq!(body.exposed_ports, None);
        assert_eq!(body.env, Some(Vec::new()));
    }

    #[test]
    fn without_a_place_for_state_nothing_can_be_written() {
        let file = |place: &Place| {
            let body = container(&name('1'), "sha256:i", place).body;
            let host = body.host_config.unwrap();
            let limits = host.ulimits.unwrap();
            let limit = limits.into_iter().find(|limit| limit.name.as_deref() == Some("fsize")).unwrap();
            (limit.hard.unwrap(), host.mounts.unwrap().len(), body.cmd.unwrap().len())
        };
        assert_eq!(file(&place()), (48 << 20, 2, 7));
        assert_eq!(file(&Place { host_state_dir: None, ..place() }), (0, 1, 5));
    }

    #[test]
    fn everybody_has_an_own_user_that_is_nobody_elses() {
        let one = container(&name('1'), "sha256:i", &place()).body.user.unwrap();
        let two = container(&name('2'), "sha256:i", &place()).body.user.unwrap();
        assert_ne!(one, two);
        for last in "0123456789abcdef".chars() {
            assert!((1 << 30..1 << 31).contains(&pcm_uid(&name(last))));
        }
    }

    #[test]
    fn the_hash_is_stable_and_tells_every_difference() {
        let hash = |image: &str, place: &Place| container(&name('1'), image, place).hash;
        assert_eq!(hash("sha256:i", &place()), hash("sha256:i", &place()));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:j", &place()));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:i", &Place { project: None, ..place() }));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:i", &Place { peer_uid: 1, ..place() }));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:i", &Place { host_state_dir: None, ..place() }));
    }

    #[test]
    fn compose_sees_a_one_off_of_its_own_project_and_only_there() {
        let labels = container(&name('1'), "sha256:i", &place()).body.labels.unwrap();
        assert_eq!(labels["com.docker.compose.project"], "oauthing");
        assert_eq!(labels["com.docker.compose.service"], "pcm");
        assert_eq!(labels["com.docker.compose.oneoff"], "True");
        let labels =
            container(&name('1'), "sha256:i", &Place { project: None, ..place() }).body.labels.unwrap();
        assert!(labels.keys().all(|key| key.starts_with("oauthing.")));
    }

    #[test]
    fn the_deepest_mount_gives_the_hosts_path() {
        let mounts = [("/", "/overlay"), ("/run", "/tmpfs"), ("/run/ignite", "/vol/_data")];
        assert_eq!(host_path(Path::new("/run/ignite"), mounts.into_iter()).as_deref(), Some("/vol/_data"));
        assert_eq!(
            host_path(Path::new("/run/ignite/a"), mounts.into_iter()).as_deref(),
            Some("/vol/_data/a")
        );
        assert_eq!(
            host_path(Path::new("/run/ignited"), mounts.into_iter()).as_deref(),
            Some("/tmpfs/ignited")
        );
        assert_eq!(host_path(Path::new("/x"), [].into_iter()), None);
    }

    #[test]
    fn the_own_container_is_found_in_mountinfo() {
        let id = "a1".repeat(32);
        let info = format!(
            "1 0 0:1 / / rw - overlay overlay rw\n9 1 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(own_container_id(&info), Some(id.as_str()));
        assert_eq!(own_container_id("1 0 0:1 / / rw - overlay /containers/short rw"), None);
    }
}
