//! The container of a PCM as pure data: slot, image and place in, the whole of Docker's request out.
//!
//! Every setting is compiled in. A container is made before it is anybody's, so nothing of an owner is in it. The system calls
//! that it may make are `syscalls`'s; inside, the PCM allows itself fewer still. Talking to the engine is left to `docker`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use sha2::{Digest as _, Sha256};

use super::groups;
use super::slots::Slot;
use super::syscalls;

/// Every PCM's container has it, with the value `1`.
pub(super) const LABEL_PCM: &str = "oauthing.pcm";
/// Which launcher a container belongs to: the host's path of the directory that it works in.
pub(super) const LABEL_PLACE: &str = "oauthing.place";
/// The slot that it runs in.
pub(super) const LABEL_SLOT: &str = "oauthing.slot";
/// The group of containers that it shares a shim with, if the engine was asked for that.
pub(super) const LABEL_GROUP: &str = "oauthing.group";
/// What the container was made from; another value means it is out of date.
pub(super) const LABEL_SPEC: &str = "oauthing.spec";
/// Where a PCM sees its own directory.
pub(super) const INSIDE: &str = "/run/pcm";

/// The Compose project that a container belongs to.
pub(super) const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// The service of that project.
pub(super) const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_ONEOFF: &str = "com.docker.compose.oneoff";

/// The PCM is one thread; the rest is for the runtime that starts it, which is counted too.
const PIDS: i64 = 32;
const OPEN_FILES: i64 = 4096;

/// What all containers of one launcher have in common.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The host's path of the directory that holds one directory a PCM.
    pub(super) host_dir: String,
    /// The Compose project that the launcher belongs to.
    pub(super) project: Option<String>,
    /// The gateway's user, and the launcher's: the only peers that a PCM accepts.
    pub(super) peer_uid: u32,
    pub(super) launcher_uid: u32,
    /// Memory that each may use, in bytes.
    pub(super) memory: i64,
    /// Longest file that each may write, in bytes; 0 if it is to keep nothing.
    pub(super) longest_file: i64,
}

/// Docker's request, and the hash that stands in its labels.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) hash: String,
    pub(super) body: ContainerCreateBody,
}

/// The container in `slot`, made from the image with the id `image`.
pub(super) fn container(slot: Slot, image: &str, place: &Place) -> Spec {
    let uid = slot.user();
    let mut body = ContainerCreateBody {
        hostname: Some("pcm".into()),
        user: Some(format!("{uid}:{uid}")),
        env: Some(Vec::new()),
        entrypoint: Some(vec!["/pcm".into()]),
        cmd: Some(vec![
            "--dir".into(),
            INSIDE.into(),
            "--peer-uid".into(),
            place.peer_uid.to_string(),
            "--launcher-uid".into(),
            place.launcher_uid.to_string(),
            "--sandbox".into(),
        ]),
        image: Some(image.into()),
        working_dir: Some("/".into()),
        network_disabled: Some(true),
        host_config: Some(host_config(format!("{}/{}", place.host_dir, slot.directory()), place)),
        ..Default::default()
    };
    let number = slot.number();
    let mut labels = BTreeMap::from([
        (LABEL_PCM, "1"),
        (LABEL_PLACE, place.host_dir.as_str()),
        (LABEL_SLOT, number.as_str()),
    ]);
    if let Some(project) = &place.project {
        // A one-off container of the service `pcm`: shown with the project, and left alone by `up` and `restart`. `down` leaves it
        // alone too, so the launcher removes it then (`Containers::end_unused`).
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

impl Spec {
    /// The same, sharing a shim with others. Which ones is no part of the hash: it is chance.
    pub(super) fn in_group(mut self, group: &str) -> Self {
        self.body.labels.get_or_insert_default().insert(LABEL_GROUP.into(), group.into());
        if let Some(host) = &mut self.body.host_config {
            host.annotations = Some(HashMap::from([(groups::ANNOTATION.into(), group.into())]));
        }
        self
    }
}

fn host_config(own_dir: String, place: &Place) -> HostConfig {
    HostConfig {
        network_mode: Some("none".into()),
        ipc_mode: Some("none".into()),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges:true".into(), format!("seccomp={}", syscalls::profile())]),
        memory: Some(place.memory),
        memory_swap: Some(place.memory),
        pids_limit: Some(PIDS),
        ulimits: Some(vec![
            ulimit("nofile", OPEN_FILES),
            ulimit("fsize", place.longest_file),
            ulimit("core", 0),
        ]),
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        // The engine picks the propagation: below its own root, where volumes lie, it insists on one, elsewhere it is private.
        mounts: Some(vec![Mount {
            target: Some(INSIDE.into()),
            source: Some(own_dir),
            typ: Some(MountType::BIND),
            read_only: Some(false),
            ..Default::default()
        }]),
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
        Place {
            host_dir: "/host/run".into(),
            project: Some("oauthing".into()),
            peer_uid: 10002,
            launcher_uid: 0,
            memory: 64 << 20,
            longest_file: 16 << 20,
        }
    }

    fn slot(number: u32) -> Slot {
        Slot::of_user((1 << 30) + number).unwrap()
    }

    #[test]
    fn a_container_has_no_network_no_rights_and_its_own_mount() {
        let body = container(slot(1), "sha256:i", &place()).body;
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
        assert_eq!(security[0], "no-new-privileges:true");
        let profile = security[1].strip_prefix("seccomp=").unwrap();
        let profile: serde_json::Value = serde_json::from_str(profile).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(security.len(), 2);
        let mounts = host.mounts.unwrap();
        let mounts: Vec<_> =
            mounts.into_iter().map(|mount| (mount.source.unwrap(), mount.target.unwrap())).collect();
        assert_eq!(mounts, [("/host/run/pool-40000001".to_owned(), "/run/pcm".to_owned())]);
        assert_eq!(body.user.as_deref(), Some("1073741825:1073741825"));
        assert_eq!(body.exposed_ports, None);
        assert_eq!(body.env, Some(Vec::new()));
    }

    #[test]
    fn quotas_are_limits_of_the_container() {
        let host = container(slot(1), "sha256:i", &place()).body.host_config.unwrap();
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        let limits: HashMap<_, _> = host
            .ulimits
            .unwrap()
            .into_iter()
            .map(|limit| (limit.name.unwrap(), limit.hard.unwrap()))
            .collect();
        assert_eq!(limits["fsize"], 16 << 20);
        assert_eq!(limits["core"], 0);
    }

    #[test]
    fn the_hash_is_stable_and_tells_every_difference() {
        let hash = |image: &str, place: &Place| container(slot(1), image, place).hash;
        assert_eq!(hash("sha256:i", &place()), hash("sha256:i", &place()));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:j", &place()));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:i", &Place { project: None, ..place() }));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:i", &Place { peer_uid: 1, ..place() }));
        assert_ne!(hash("sha256:i", &place()), hash("sha256:i", &Place { memory: 32 << 20, ..place() }));
        assert_ne!(hash("sha256:i", &place()), container(slot(2), "sha256:i", &place()).hash);
    }

    #[test]
    fn a_group_is_an_annotation_and_no_part_of_the_hash() {
        let alone = container(slot(1), "sha256:i", &place());
        let grouped = alone.clone().in_group("g");
        assert_eq!(alone.hash, grouped.hash);
        assert_eq!(alone.body.host_config.unwrap().annotations, None);
        let annotations = grouped.body.host_config.unwrap().annotations.unwrap();
        assert_eq!(annotations["io.containerd.runc.v2.group"], "g");
        assert_eq!(grouped.body.labels.unwrap()[LABEL_GROUP], "g");
    }

    #[test]
    fn compose_sees_a_one_off_of_its_own_project_and_only_there() {
        let labels = container(slot(1), "sha256:i", &place()).body.labels.unwrap();
        assert_eq!(labels["com.docker.compose.project"], "oauthing");
        assert_eq!(labels["com.docker.compose.service"], "pcm");
        assert_eq!(labels["com.docker.compose.oneoff"], "True");
        let labels = container(slot(1), "sha256:i", &Place { project: None, ..place() }).body.labels.unwrap();
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
