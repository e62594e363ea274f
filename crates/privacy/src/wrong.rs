//! Everything that can be done wrong, so that errors are logged and answered: wrong secrets, codes and tokens, what is not granted, what
//! is no message at all. What somebody tried is marked, too.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use mqtt_wire::{QoS, Version};
use serde_json::json;
use service::secret::random_token;
use testkit::device::Device;
use testkit::mqtt::{Client, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::cast::{DIDP, GATEWAY, Network};
use crate::matrix::{Kind, Mark, Party};

/// Ports at which somebody says what is no message.
const DOORS: [(&str, u16); 7] = [
    ("didp.localhost", 8080),
    ("didp.localhost", 1884),
    ("didp.localhost", 8884),
    ("ignite.localhost", 1883),
    ("ignite.localhost", 8883),
    ("ignite.localhost", 8083),
    ("factory.localhost", 8095),
];

fn wrong(marks: &mut Vec<Mark>, what: &str, value: String, own: &[Party]) -> String {
    marks.push(Mark::new(Kind::WrongCredential, what, value.as_str(), own.iter().copied()));
    value
}

/// Errors of people, devices and apps that nothing belongs to.
///
/// # Errors
/// What should be refused is not.
pub(crate) async fn before_claims(
    network: &Network,
    from: IpAddr,
    device: &Device,
    marks: &mut Vec<Mark>,
) -> anyhow::Result<()> {
    let didp = network.door("didp.localhost", 1884, from)?;
    let secret = wrong(marks, "wrong secret of a device", random_token::<32>(), &[]);
    for version in [Version::V5, Version::V311] {
        Options::new(&didp).version(version).login(&device.client_id, &secret).refusal().await?;
    }
    Options::new(&didp).login(&random_token::<16>(), &secret).refusal().await?;
    let gateway = network.door("ignite.localhost", 1883, from)?;
    for tag in ["demo", "nobody"] {
        let token = format!("{tag}.{}", random_token::<32>());
        let token = wrong(marks, "wrong token", token, &[]);
        Options::new(&gateway).bearer(&token).refusal().await?;
        Options::new(&gateway).version(Version::V311).bearer(&token).refusal().await?;
        let websocket = network.door("ignite.localhost", 8083, from)?.websocket();
        Options::new(&websocket).bearer(&token).refusal().await?;
        let http = network.client(from).build()?;
        for path in ["/v1/devices", "/v1/events?filter=d/%23", "/v1/d/x/y"] {
            let answer = http.get(format!("{GATEWAY}{path}")).bearer_auth(&token).send().await?;
            ensure!(answer.status().is_client_error(), "{path} with a wrong token: {}", answer.status());
        }
    }
    requests(network, from, device, marks).await?;
    for (name, port) in DOORS {
        for noise in [&b"\x10\xff\xff\xff\xff\x7f"[..], b"GET / HTTP/9.9\r\n\r\n", &[0xff; 64]] {
            say(network, from, name, port, noise).await.with_context(|| format!("noise at {name}:{port}"))?;
        }
    }
    Ok(())
}

async fn requests(
    network: &Network,
    from: IpAddr,
    device: &Device,
    marks: &mut Vec<Mark>,
) -> anyhow::Result<()> {
    let http = network.client(from).redirect(reqwest::redirect::Policy::none()).build()?;
    let secret = wrong(marks, "wrong secret over HTTP", random_token::<32>(), &[]);
    let code = wrong(marks, "wrong code", random_token::<32>(), &[Party::Tpa(1)]);
    let form = |fields: &[(&str, &str)]| -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let posts = [
        (
            "/token",
            form(&[("grant_type", "authorization_code"), ("code", &code), ("code_verifier", &secret)]),
        ),
        ("/token", form(&[("grant_type", "refresh_token"), ("refresh_token", &code)])),
        ("/token", form(&[("grant_type", "password"), ("username", "a"), ("password", &code)])),
        ("/introspect", form(&[("token", &code)])),
        ("/introspect/grants", form(&[("sub", &code)])),
        ("/revoke", form(&[("token", &code)])),
        ("/par", form(&[("response_type", "token")])),
        ("/device_authorization", form(&[("scope", "x")])),
    ];
    for (path, fields) in &posts {
        for name in [device.client_id.as_str(), "ignite", "nobody"] {
            let request = http.post(format!("{DIDP}{path}")).basic_auth(name, Some(&secret)).form(fields);
            let status = request.send().await?.status();
            ensure!(status.is_client_error(), "{path} with a wrong secret: {status}");
        }
    }
    let register = http.post(format!("{DIDP}/register")).bearer_auth(&secret);
    let status =
        register.json(&json!({"client_name": "x", "device": {"confirm": "guess"}})).send().await?.status();
    ensure!(status.is_client_error(), "a wrong registration: {status}");
    for path in [
        format!("/register/{}", device.client_id),
        format!("/token?access_token={code}"),
        format!(
            "/authorize?client_id={}&response_type=token&redirect_uri=http://x.example",
            device.client_id
        ),
        "/nothing".to_owned(),
    ] {
        http.get(format!("{DIDP}{path}")).bearer_auth(&secret).send().await?.bytes().await?;
    }
    let stray = format!("http://tpa.localhost:8090/callback?code={code}&state={}", random_token::<16>());
    http.get(stray).send().await?.bytes().await?;
    Ok(())
}

/// Whatever the other side answers: it may only end this connection.
async fn say(network: &Network, from: IpAddr, name: &str, port: u16, noise: &[u8]) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect((network.address(name)?, port).into()).await?;
    stream.write_all(noise).await?;
    // The end of what is said: nobody has to wait for more.
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // An end by reset is an end as well.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(15), read).await.context("it hangs")?;
    Ok(())
}

/// Errors of clients that were let in: topics, filters, packets and patches that they have no right to.
///
/// # Errors
/// What should be refused is not.
pub(crate) async fn with_rights(
    network: &Network,
    from: IpAddr,
    app: &mut Client,
    device: &mut Client,
    marks: &mut Vec<Mark>,
) -> anyhow::Result<()> {
    for topic in ["d/x/temperature", "c/nobody/heater", "$SYS/x", "s/reported", "x"] {
        let reason = app.publish(topic, "1", QoS::AtLeastOnce).await?;
        ensure!(!reason.is_success(), "an app publishes to {topic}");
    }
    for filter in ["c/#", "d/nobody/#", "$SYS/#"] {
        let reason = app.subscribe(filter, QoS::AtLeastOnce).await?;
        ensure!(!reason.is_success(), "an app subscribes to {filter}");
    }
    let reason = device.publish("c/heater", "1", QoS::AtLeastOnce).await?;
    ensure!(!reason.is_success(), "a device commands");
    device.publish("s/reported", "no patch", QoS::AtLeastOnce).await?;
    let token = wrong(marks, "token of nobody", format!("demo.{}", random_token::<32>()), &[]);
    let http = network.client(from).build()?;
    let answer = http.post(format!("{GATEWAY}/v1/c/x/y")).bearer_auth(token).body("1").send().await?;
    ensure!(answer.status().is_client_error(), "a command with a wrong token: {}", answer.status());
    Ok(())
}
