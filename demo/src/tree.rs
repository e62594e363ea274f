//! The whole deployment as a process tree in a temporary folder.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use testkit::config::{Deployment, Ports, Toml};
use testkit::setup::Setup;

use crate::children::Children;

/// How long the parts may take to be ready.
const START: Duration = Duration::from_secs(15);

/// People that the demo's provider knows: id and name.
pub(crate) const PEOPLE: [(&str, &str); 3] =
    [("ann", "Ann Archer"), ("bob", "Bob Baker"), ("cleo", "Cleo Cook")];

/// Ports of the sample parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SamplePorts {
    tpa: u16,
    factory: u16,
    factory_floor: u16,
    panel: u16,
    panel_floor: u16,
}

/// Where everything is.
pub(crate) struct Tree {
    /// DIdP, gateway, provider.
    pub(crate) deployment: Deployment,
    samples: SamplePorts,
    children: Children,
    dir: TempDir,
}

/// Ports of the documentation, so that bookmarks work.
pub(crate) fn usual_ports() -> (Ports, SamplePorts) {
    let ports = Ports {
        didp_http: 8080,
        didp_mqtt: 1884,
        didp_mqtts: 8884,
        ignite_mqtt: 1883,
        ignite_mqtts: 8883,
        ignite_http: 8083,
        ignite_https: 8443,
        idp: 8070,
    };
    (ports, SamplePorts { tpa: 8090, factory: 8095, factory_floor: 8098, panel: 8096, panel_floor: 8097 })
}

/// Ports that nobody uses right now.
pub(crate) fn free_ports(bind: IpAddr) -> anyhow::Result<(Ports, SamplePorts)> {
    // All are held at once, so that none is given twice; the children bind them a moment later.
    let held: Vec<TcpListener> =
        (0..13).map(|_| TcpListener::bind((bind, 0))).collect::<Result<_, _>>().context("find free ports")?;
    let mut numbers = held.iter().map(|listener| listener.local_addr().map(|address| address.port()));
    let mut port = || numbers.next().unwrap_or_else(|| Err(std::io::ErrorKind::AddrNotAvailable.into()));
    let ports = Ports {
        didp_http: port()?,
        didp_mqtt: port()?,
        didp_mqtts: port()?,
        ignite_mqtt: port()?,
        ignite_mqtts: port()?,
        ignite_http: port()?,
        ignite_https: port()?,
        idp: port()?,
    };
    let samples = SamplePorts {
        tpa: port()?,
        factory: port()?,
        factory_floor: port()?,
        panel: port()?,
        panel_floor: port()?,
    };
    Ok((ports, samples))
}

impl Tree {
    /// Writes secrets and configurations and starts the children; [`Tree::ready`] waits for them.
    pub(crate) fn start(host: &str, bind: IpAddr, ports: (Ports, SamplePorts)) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("oauthing-").tempdir().context("temporary folder")?;
        let (ports, samples) = ports;
        let deployment = Deployment {
            host: host.to_owned(),
            bind,
            ports,
            secrets: Setup::new(dir.path().join("secrets"), host).write()?,
            data: dir.path().to_owned(),
            run: dir.path().to_owned(),
            pcm: vec![std::env::current_exe().context("the path of this program")?, "pcm".into()],
        };
        let mut tree = Self { deployment, samples, children: Children::default(), dir };
        tree.start_children()?;
        Ok(tree)
    }

    fn start_children(&mut self) -> anyhow::Result<()> {
        let didp = self.write("didp.toml", &self.deployment.didp_toml())?;
        let ignite = self.write("ignite.toml", &self.deployment.ignite_toml())?;
        let idp = self.write("idp.toml", &self.idp_toml())?;
        let factory = self.write("factory.toml", &self.factory_toml())?;
        let device = self.write("device.toml", &self.device_toml())?;
        let tpa = self.write("tpa.toml", &self.tpa_toml())?;
        let logs = self.dir.path().join("logs");
        std::fs::create_dir(&logs).context("create the folder of logs")?;
        let parts: [(&'static str, &[&str], &Path); 7] = [
            ("idp", &["idp"], &idp),
            ("didp", &["didp", "serve"], &didp),
            ("launcher", &["ignite", "launcher"], &ignite),
            ("ignite", &["ignite", "serve"], &ignite),
            ("factory", &["factory", "serve"], &factory),
            ("device", &["device", "panel"], &device),
            ("tpa", &["tpa", "serve"], &tpa),
        ];
        for (name, role, config) in parts {
            self.children.start(name, role, config, &logs)?;
        }
        Ok(())
    }

    /// Waits until every part says that it is ready.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let deployment = &self.deployment;
        let urls = [
            format!("{}/readyz", deployment.issuer()),
            format!("{}/healthz", deployment.resource()),
            format!("{}/healthz", deployment.upstream()),
            format!("{}/healthz", self.factory()),
            format!("{}/healthz", self.panel()),
            format!("{}/healthz", self.url(self.samples.tpa)),
        ];
        let http = testkit::browser::http();
        let deadline = Instant::now() + START;
        for url in urls {
            loop {
                if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                self.children.check()?;
                ensure!(Instant::now() < deadline, "{url} does not get ready");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// Fails if a part has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.children.check()
    }

    /// Ends the children in good order and removes the folder.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.children.stop()?;
        self.dir.close().context("remove the temporary folder")
    }

    /// The factory's page, where the story begins.
    pub(crate) fn factory(&self) -> String {
        self.url(self.samples.factory)
    }

    /// The devices' panels.
    pub(crate) fn panel(&self) -> String {
        self.url(self.samples.panel)
    }

    fn url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.deployment.host)
    }

    fn listen(&self, port: u16) -> String {
        SocketAddr::new(self.deployment.bind, port).to_string()
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn idp_toml(&self) -> String {
        let secrets = &self.deployment.secrets;
        let mut toml = Toml::default();
        toml.text("listen", &self.listen(self.deployment.ports.idp))
            .text("issuer", &self.deployment.upstream())
            .text("client_id", testkit::config::UPSTREAM_CLIENT)
            .path("client_secret_file", &secrets.path("idp/client-oidc.secret"))
            .text("redirect_base", &format!("{}/login/", self.deployment.issuer()))
            .path("signing_key_file", &secrets.path("idp/signing-key.pem"));
        for (id, name) in PEOPLE {
            toml.table("[[people]]").text("id", id).text("name", name);
        }
        toml.into_text()
    }

    fn factory_toml(&self) -> String {
        let deployment = &self.deployment;
        let health: Vec<String> = [
            format!("{}/readyz", deployment.issuer()),
            format!("{}/healthz", deployment.resource()),
            format!("{}/healthz", self.url(self.samples.tpa)),
            format!("{}/healthz", deployment.upstream()),
            format!("{}/healthz", self.panel()),
        ]
        .into();
        let mut toml = Toml::default();
        toml.text("listen", &self.listen(self.samples.factory))
            .text("floor_listen", &SocketAddr::from(([127, 0, 0, 1], self.samples.factory_floor)).to_string())
            .path("directory", &self.dir.path().join("factory"))
            .text("public_url", &self.factory())
            .text("panel_url", &self.panel())
            .text("tpa_url", &self.url(self.samples.tpa))
            .text("account_url", &format!("{}/account", deployment.issuer()))
            .text("didp", &deployment.issuer())
            .path("initial_access_token_file", &deployment.secrets.path("factory/initial-access-token"))
            .text("device_floor", &format!("http://127.0.0.1:{}", self.samples.panel_floor))
            .texts("health", &health);
        toml.into_text()
    }

    fn device_toml(&self) -> String {
        let mut toml = Toml::default();
        toml.text("listen", &self.listen(self.samples.panel))
            .text("floor_listen", &SocketAddr::from(([127, 0, 0, 1], self.samples.panel_floor)).to_string())
            .path("directory", &self.dir.path().join("device"))
            .text("factory", &format!("http://127.0.0.1:{}", self.samples.factory_floor))
            .line("thermostats = 2")
            .texts("child", &["device".to_owned()]);
        toml.into_text()
    }

    fn tpa_toml(&self) -> String {
        let mut toml = Toml::default();
        toml.text("listen", &self.listen(self.samples.tpa))
            .text("public_url", &self.url(self.samples.tpa))
            .text("issuer", &self.deployment.issuer())
            .path("directory", &self.dir.path().join("tpa"))
            .path("web", &web());
        toml.into_text()
    }
}

/// The browser part of the sample app, in the source tree.
pub(crate) fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/tpa/web")
}
