//! Devices over MQTT 3.1.1: held, or refreshing, each on its own connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mqtt_wire::{Connect, Packet, Properties, Publish, QoS, ReasonCode, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Arguments, Times, micros, resident, text};

/// Connections that are made at once.
const HANDS: usize = 16;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A device that is logged in.
struct Device {
    stream: Box<dyn Duplex>,
    line: Value,
}

/// How devices get to the server.
struct Way {
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Way {
    fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let tls = match &arguments.tls {
            Some(authority) => {
                service::tls::install_provider();
                let config = service::tls::client_config(authority)?;
                Some((TlsConnector::from(config), ServerName::try_from(arguments.name.clone())?))
            }
            None => None,
        };
        let address = arguments.mqtt.clone().context("--mqtt address:port")?;
        Ok(Self { address, tls })
    }

    async fn login(&self, line: Value) -> anyhow::Result<Device> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Duplex> = match &self.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
            None => Box::new(stream),
        };
        let mut device = Device { stream, line };
        let connect = Connect {
            version: Version::V311,
            clean_start: true,
            keep_alive: 600,
            properties: Properties::EMPTY,
            client_id: text(&device.line, "client_id"),
            will: None,
            username: Some(text(&device.line, "client_id")),
            password: Some(text(&device.line, "client_secret").as_bytes()),
        };
        let connect = Packet::Connect(connect).to_vec(Version::V311);
        device.stream.write_all(&connect).await?;
        let answer = device.receive().await?;
        match Packet::decode(&answer, Version::V311) {
            Ok(Packet::ConnAck(ack)) if ack.reason == ReasonCode::SUCCESS => Ok(device),
            other => bail!("not let in: {other:?}"),
        }
    }

    /// So many devices, logged in.
    async fn many(self: &Arc<Self>, lines: Vec<Value>) -> anyhow::Result<Vec<Device>> {
        let hands = Arc::new(Semaphore::new(HANDS));
        let mut coming = tokio::task::JoinSet::new();
        for line in lines {
            let (way, hands) = (Arc::clone(self), Arc::clone(&hands));
            coming.spawn(async move {
                let _hand = hands.acquire_owned().await?;
                way.login(line).await
            });
        }
        let mut devices = Vec::new();
        while let Some(device) = coming.join_next().await {
            devices.push(device??);
        }
        Ok(devices)
    }
}

impl Device {
    /// The bytes of the next packet, exactly: a server answers one at a time here.
    async fn receive(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            ensure!(self.stream.read_buf(&mut bytes).await? > 0, "the connection was closed");
            if let Ok(Some(length)) = mqtt_wire::frame_len(&bytes, 1 << 20)
                && bytes.len() >= length
            {
                ensure!(bytes.len() == length, "more came than was asked for");
                return Ok(bytes);
            }
        }
    }

    async fn refresh(&mut self) -> anyhow::Result<()> {
        let payload = json!({"grant_type": "refresh_token", "refresh_token": self.line["refresh_token"]});
        let payload = payload.to_string();
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "$oauth/token",
            packet_id: None,
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        self.stream.write_all(&Packet::Publish(publish).to_vec(Version::V311)).await?;
        let answer = self.receive().await?;
        let Ok(Packet::Publish(answer)) = Packet::decode(&answer, Version::V311) else { bail!("no answer") };
        let answer: Value = serde_json::from_slice(answer.payload)?;
        ensure!(answer["access_token"].is_string(), "{answer}");
        self.line["refresh_token"] = answer["refresh_token"].clone();
        Ok(())
    }
}

/// Connects devices and tells how the server's memory grows with them.
pub(super) async fn hold(arguments: &Arguments) -> anyhow::Result<()> {
    let way = Arc::new(Way::of(arguments)?);
    let pid = arguments.pid.context("--pid of the DIdP")?;
    let mut lines = arguments.lines(true)?;
    // What each first connection of a process costs is not what one more costs.
    let first = (arguments.connections / 10).max(1);
    ensure!(lines.len() >= first + arguments.connections, "too few devices in the credentials");
    lines.truncate(first + arguments.connections);
    let rest = lines.split_off(first);
    let mut held = way.many(lines).await?;
    let before = resident(pid)?;
    let began = Instant::now();
    held.extend(way.many(rest).await?);
    let took = began.elapsed().as_secs_f64();
    let after = resident(pid)?;
    for device in &mut held {
        device.stream.write_all(&Packet::PingReq.to_vec(Version::V311)).await?;
        ensure!(device.receive().await? == Packet::PingResp.to_vec(Version::V311), "one is gone");
    }
    let each = (after - before) as f64 * 1_024.0 / arguments.connections as f64;
    println!(
        "{first} connections: {before} kB; {} more: {after} kB; {each:.0} bytes each; all answer; {:.0} logins a second",
        arguments.connections,
        arguments.connections as f64 / took
    );
    Ok(())
}

/// Lets devices refresh, so many at once.
pub(super) async fn refresh(arguments: &Arguments) -> anyhow::Result<()> {
    let way = Arc::new(Way::of(arguments)?);
    let mut lines = arguments.lines(true)?;
    ensure!(lines.len() >= arguments.connections, "too few devices in the credentials");
    lines.truncate(arguments.connections);
    let devices = way.many(lines).await?;
    let (times, at_once) = (Times::default(), Arc::new(Semaphore::new(arguments.at_once)));
    let began = Instant::now();
    let end = began + Duration::from_secs(arguments.seconds);
    let mut drivers = tokio::task::JoinSet::new();
    for mut device in devices {
        let (times, at_once) = (times.clone(), Arc::clone(&at_once));
        drivers.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let _turn = at_once.acquire().await?;
                if Instant::now() >= end {
                    break;
                }
                let sent = Instant::now();
                device.refresh().await?;
                taken.push(micros(sent));
            }
            times.add(taken);
            anyhow::Ok(())
        });
    }
    while let Some(done) = drivers.join_next().await {
        done??;
    }
    times.tell(began.elapsed(), 1)
}
