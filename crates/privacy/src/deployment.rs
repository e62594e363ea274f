//! The Compose deployment that the scenario is played on: a project of its own, with nothing published on this machine.
//!
//! Everything is reached at the containers' own addresses, from addresses of the project's own network that only the scenario has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::matrix::Party;
use crate::people::Person;
use crate::shell;

/// Compose project.
pub const PROJECT: &str = "oauthing-privacy";

/// Seconds until all services must be healthy.
const WAIT_SECONDS: &str = "240";

/// What is started; the demonstration's panel is left out, its devices are services here.
const SERVICES: [&str; 9] =
    ["didp", "ignite", "ignite-launcher", "demo-idp", "factory", "tpa", "tpa-2", "device-1", "device-2"];

/// Names that browsers and apps use.
const NAMES: [(&str, &str); 6] = [
    ("didp.localhost", "didp"),
    ("ignite.localhost", "ignite"),
    ("idp.localhost", "demo-idp"),
    ("factory.localhost", "factory"),
    ("tpa.localhost", "tpa"),
    ("tpa-2.localhost", "tpa-2"),
];

/// Pools of this size: one PCM for each owner.
pub const POOL: usize = 2;

/// Last two numbers of the scenario's own addresses, at the upper end of the network.
const OWN: u8 = 255;

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub party: Party,
    /// All its processes, as this machine numbers them.
    pub processes: Vec<u32>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Folders of this machine that it keeps things in, by volume.
    pub volumes: Vec<(String, PathBuf)>,
}

/// The running deployment; dropped, it is taken down with its volumes.
pub struct Deployment {
    root: PathBuf,
    images: String,
    dir: tempfile::TempDir,
    /// Networks that are captured: the device of this machine.
    pub bridges: Vec<String>,
    web: (String, [u8; 2]),
    subnet: String,
    /// Where traces go.
    collector: String,
}

impl Deployment {
    /// Makes settings, networks and containers, and starts nothing yet: captures begin first.
    ///
    /// # Errors
    /// Compose fails, or the settings that are to be changed are no more what they were.
    pub fn create(
        root: &Path,
        images: &str,
        people: &[Person],
        channels: &[String; 3],
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("oauthing-privacy-").tempdir()?;
        let mut deployment = Self {
            root: root.to_owned(),
            images: images.to_owned(),
            dir,
            bridges: Vec::new(),
            web: (String::new(), [0; 2]),
            subnet: free(&shell::output("ip", &["-4", "route"])?)?,
            collector: String::new(),
        };
        deployment.settings(people, channels)?;
        deployment.compose(&["down", "-v", "--remove-orphans"])?;
        deployment.compose(&[&["create", "--no-build"][..], &SERVICES].concat())?;
        for network in ["web", "factory-devices"] {
            let described =
                shell::output("docker", &["network", "inspect", &format!("{PROJECT}_{network}")])?;
            let described: Value = serde_json::from_str(&described)?;
            let id = described[0]["Id"].as_str().context("a network without an id")?;
            let bridge = format!("br-{}", &id[..12]);
            if network == "web" {
                let subnet = described[0]["IPAM"]["Config"][0]["Subnet"].as_str().context("no subnet")?;
                deployment.web = (bridge.clone(), sixteen(subnet)?);
            }
            deployment.bridges.push(bridge);
        }
        Ok(deployment)
    }

    fn settings(&self, people: &[Person], channels: &[String; 3]) -> anyhow::Result<()> {
        let changed = |file: &str, changes: &[(&str, &str)]| -> anyhow::Result<String> {
            let mut text = std::fs::read_to_string(self.root.join(file)).with_context(|| file.to_owned())?;
            for (from, to) in changes {
                ensure!(text.contains(from), "{file} has no `{from}` any more");
                text = text.replacen(from, to, 1);
            }
            Ok(text)
        };
        let didp = changed("docker/didp.toml", &[("[listen]", "[listen]\nmetrics = \"0.0.0.0:9464\"")])?;
        let ignite = changed(
            "docker/ignite.toml",
            &[("[listen]", "[listen]\nmetrics = \"0.0.0.0:9465\""), ("pool = 8", &format!("pool = {POOL}"))],
        )?;
        // The page of the demonstration asks everybody whether they are well, which would say where the others are.
        let factory = changed("docker/factory.toml", &[])?;
        let factory = factory.split("# When all of these answer").next().unwrap_or_default().to_owned();
        let wanted = |names: &[&str]| format!("channels = {names:?}");
        // The second of the device's channels is one that nobody asks for.
        let own = channels.each_ref().map(String::as_str);
        let everything = "channels = [\"temperature\", \"heater\"]";
        let first = changed("docker/tpa.toml", &[(everything, everything)])?;
        let second = changed(
            "docker/tpa.toml",
            &[
                ("http://${TPA_HOST:-tpa.localhost}:8090", "http://tpa-2.localhost:8090"),
                ("http://${DIDP_HOST:-didp.localhost}:8080", "http://didp.localhost:8080"),
                (everything, &wanted(&["temperature", own[0], own[2]])),
            ],
        )?;
        let second = format!("{second}view = {{ kind = \"summary\", window_s = 10 }}\n");
        let files = [
            ("didp.toml", didp),
            ("ignite.toml", ignite),
            ("factory.toml", factory),
            ("tpa-1.toml", first),
            ("tpa-2.toml", second),
            ("people.js", crate::people::module(people)),
        ];
        for (name, text) in files {
            std::fs::write(self.dir.path().join(name), text)?;
        }
        // The services are other users.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        Ok(std::fs::set_permissions(self.dir.path(), open)?)
    }

    /// Starts everything and waits until it is healthy; traces are told to that collector.
    ///
    /// # Errors
    /// Something is not.
    pub fn start(&mut self, collector: &str) -> anyhow::Result<()> {
        collector.clone_into(&mut self.collector);
        let wait = ["up", "-d", "--no-build", "--wait", "--wait-timeout", WAIT_SECONDS];
        self.compose(&[&wait[..], &SERVICES].concat())
    }

    fn compose(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let file = |name: &str| self.root.join(name).display().to_string();
        let files = [file("docker-compose.yml"), file("crates/privacy/compose.yml")];
        let status = std::process::Command::new("docker")
            .args(["compose", "--progress", "quiet", "-p", PROJECT, "-f", &files[0], "-f", &files[1]])
            .args(arguments)
            .env("OAUTHING_IMAGES", &self.images)
            .env("OAUTHING_HOST", "")
            .env("OAUTHING_LOG", "trace")
            .env("OAUTHING_LOG_FORMAT", "json")
            .env("PRIVACY_DIR", self.dir.path())
            .env("PRIVACY_SUBNET", &self.subnet)
            .env("PRIVACY_COLLECTOR", &self.collector)
            .stdin(std::process::Stdio::null())
            .status()
            .context("start docker compose")?;
        ensure!(status.success(), "docker compose {}: {status}", arguments.join(" "));
        Ok(())
    }

    /// The image of a service.
    #[must_use]
    pub fn image(&self, service: &str) -> String {
        format!("{}-{service}", self.images)
    }

    /// Where captures and records go; it is removed with the deployment.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// An address of the network that nobody else has, for one of the scenario's own.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn address(&self, number: u8) -> anyhow::Result<IpAddr> {
        let (bridge, [first, second]) = &self.web;
        let address = IpAddr::from([*first, *second, OWN, number]);
        let with_length = format!("{address}/32");
        shell::output("ip", &["address", "replace", &with_length, "dev", bridge])?;
        Ok(address)
    }

    /// The address of a name on the network `web`.
    ///
    /// # Errors
    /// There is no such name, or its container does not run.
    pub fn at(&self, name: &str) -> anyhow::Result<IpAddr> {
        let service = NAMES.iter().find(|(known, _)| *known == name).map_or(name, |(_, service)| service);
        let described = self.inspect(&format!("{PROJECT}-{service}-1"))?;
        let network = &described["NetworkSettings"]["Networks"][format!("{PROJECT}_web")];
        network["IPAddress"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .context("a container without an address")
    }

    /// Every name with its address, as a browser needs them.
    ///
    /// # Errors
    /// As [`Deployment::at`].
    pub fn names(&self) -> anyhow::Result<Vec<(&'static str, IpAddr)>> {
        NAMES.iter().map(|(name, _)| Ok((*name, self.at(name)?))).collect()
    }

    fn inspect(&self, name: &str) -> anyhow::Result<Value> {
        let described: Value = serde_json::from_str(&shell::output("docker", &["inspect", name])?)?;
        Ok(described[0].clone())
    }

    /// All containers as they are now, PCMs too.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn containers(&self) -> anyhow::Result<Vec<Container>> {
        let label = format!("label=com.docker.compose.project={PROJECT}");
        let names = shell::output("docker", &["ps", "--filter", &label, "--format", "{{.Names}}"])?;
        let mut containers = Vec::new();
        for name in names.lines() {
            let described = self.inspect(name)?;
            let party = if described["Config"]["Labels"]["oauthing.pcm"] == "1" {
                Party::Pcm
            } else {
                let service = described["Config"]["Labels"]["com.docker.compose.service"].as_str();
                party(service.unwrap_or_default())
                    .with_context(|| format!("{name} is nobody's that this knows"))?
            };
            let processes = shell::output("docker", &["top", name, "-o", "pid"])?;
            let networks = described["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
            let addresses =
                networks.values().filter_map(|network| network["IPAddress"].as_str()?.parse().ok());
            let mounts = described["Mounts"].as_array().cloned().unwrap_or_default();
            let volumes = mounts.iter().filter(|mount| mount["Type"] == "volume").filter_map(|mount| {
                let name = mount["Name"].as_str()?.trim_start_matches(&format!("{PROJECT}_"));
                Some((name.to_owned(), PathBuf::from(mount["Source"].as_str()?)))
            });
            containers.push(Container {
                name: name.to_owned(),
                party,
                processes: processes.lines().filter_map(|line| line.trim().parse().ok()).collect(),
                addresses: addresses.collect(),
                volumes: volumes.collect(),
            });
        }
        Ok(containers)
    }

    /// How many PCMs there are that are somebody's.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn owned_pcms(&self) -> anyhow::Result<usize> {
        let label = format!("label=com.docker.compose.project={PROJECT}");
        let filters = ["--filter", &label, "--filter", "label=oauthing.pcm=1", "--format", "{{.Names}}"];
        let names = shell::output("docker", &[&["ps", "-a"][..], &filters].concat())?;
        Ok(names.lines().filter(|name| !name.starts_with("pcm-pool-")).count())
    }

    /// The folder of a volume.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn volume(&self, name: &str) -> anyhow::Result<PathBuf> {
        let name = format!("{PROJECT}_{name}");
        let path = shell::output("docker", &["volume", "inspect", "--format", "{{.Mountpoint}}", &name])?;
        Ok(PathBuf::from(path.trim()))
    }

    /// Takes it down and looks whether anything of it is left.
    ///
    /// # Errors
    /// If anything is.
    pub fn down(&self) -> anyhow::Result<()> {
        self.compose(&["down", "-v", "--remove-orphans"])?;
        let label = format!("label=com.docker.compose.project={PROJECT}");
        let left = shell::output("docker", &["ps", "-aq", "--filter", &label])?;
        ensure!(left.trim().is_empty(), "containers are left: {left}");
        Ok(())
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            eprintln!("{error:#}");
        }
    }
}

fn party(service: &str) -> Option<Party> {
    Some(match service {
        "didp" => Party::Didp,
        "ignite" | "ignite-launcher" => Party::Ignite,
        "demo-idp" => Party::Uidp,
        "factory" => Party::Manufacturer,
        "tpa" => Party::Tpa(1),
        "tpa-2" => Party::Tpa(2),
        "device-1" => Party::Device(1),
        "device-2" => Party::Device(2),
        _ => return None,
    })
}

/// A private network with sixteen bits for hosts to which this machine has no route yet.
fn free(routes: &str) -> anyhow::Result<String> {
    let taken = |number: &u8| routes.lines().any(|route| route.starts_with(&format!("172.{number}.")));
    let number =
        (18..=31_u8).find(|number| !taken(number)).context("no network between 172.18 and 172.31 is free")?;
    Ok(format!("172.{number}.0.0/16"))
}

/// The first two numbers of a network with at least sixteen bits for hosts.
fn sixteen(subnet: &str) -> anyhow::Result<[u8; 2]> {
    let (address, length) = subnet.split_once('/').context("a subnet without a length")?;
    let length: u8 = length.parse().context("a subnet's length")?;
    if length > 16 {
        bail!("the network {subnet} is too small; give Docker pools of at least /16");
    }
    let IpAddr::V4(address) = address.parse()? else { bail!("{subnet} is not IPv4") };
    let [first, second, ..] = address.octets();
    Ok([first, second])
}

/// By name, for the report.
#[must_use]
pub fn by_address(containers: &[Container]) -> BTreeMap<IpAddr, Party> {
    containers
        .iter()
        .flat_map(|container| container.addresses.iter().map(|address| (*address, container.party)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::free;

    #[test]
    fn a_network_that_has_a_route_is_somebodys() {
        let routes = "default via 192.0.2.1 dev eth0\n172.17.0.0/16 dev docker0\n172.18.0.0/16 dev br-1\n";
        assert_eq!(free(routes).unwrap_or_default(), "172.19.0.0/16");
        let all: String = (16..32).map(|number| format!("172.{number}.0.0/16 dev x\n")).collect();
        assert!(free(&all).is_err());
    }
}
