//! The handshake: CONNECT within a time limit, credentials, CONNACK.

use std::net::SocketAddr;
use std::time::Duration;

use mqtt_wire::{ConnAck, Connect, Error, Packet, Properties, Property, QoS, ReasonCode, Version};
use oauth_wire::OAuthErrorCode;
use zeroize::Zeroizing;

use super::link::{End, Link};
use crate::audit::Via;
use crate::flows::Refusal;
use crate::flows::clients::{self, Credentials};
use crate::state::App;
use crate::store::clients::Client;

/// Seconds of keep-alive that the server imposes on clients that name none or a longer one (MQTT 5).
const KEEP_ALIVE: u16 = 600;
/// Requests that a client may have under way.
pub(super) const RECEIVE_MAXIMUM: u16 = 8;

/// What is known after a CONNECT.
pub(super) struct Accepted {
    /// Who it is.
    pub(super) client_id: String,
    /// After this time without a packet the client counts as gone.
    pub(super) patience: Duration,
}

/// Reads the CONNECT and answers it.
pub(super) async fn accept(app: &App, link: &mut Link, peer: SocketAddr) -> Result<Accepted, End> {
    let limit = Duration::from_secs(app.config.limits.connect);
    tokio::time::timeout(limit, link.receive()).await.map_err(|_| End::TimeLimit)??;
    let login = match Packet::decode(link.frame(), Version::V311) {
        Ok(Packet::Connect(connect)) => Login::of(&connect),
        Ok(_) => return Err(End::Reason(ReasonCode::PROTOCOL_ERROR)),
        Err(error) => return Err(malformed(link, error).await),
    };
    link.greeted = true;
    link.version = login.version;
    link.peer_packet = login.peer_packet;
    match authenticate(app, peer, &login).await {
        Ok(client) => {
            let patience = greet(app, link, &login).await?;
            Ok(Accepted { client_id: client.client_id, patience })
        }
        Err(reason) => {
            let packet = ConnAck { session_present: false, reason, properties: Properties::EMPTY };
            link.send(&Packet::ConnAck(packet)).await?;
            Err(End::Reason(reason))
        }
    }
}

/// What a CONNECT says, apart from the buffer that it stands in.
struct Login {
    version: Version,
    keep_alive: u16,
    unnamed: bool,
    keeps_session: bool,
    has_will: bool,
    has_method: bool,
    wants_expiry: bool,
    peer_packet: usize,
    credentials: Option<(String, Zeroizing<String>)>,
}

impl Login {
    fn of(connect: &Connect<'_>) -> Self {
        let password = connect.password.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let credentials = connect.username.zip(password).filter(|(name, _)| !name.is_empty());
        Self {
            version: connect.version,
            keep_alive: connect.keep_alive,
            unnamed: connect.client_id.is_empty(),
            keeps_session: !connect.clean_start,
            has_will: connect.will.is_some(),
            has_method: connect.properties.authentication_method().is_some(),
            wants_expiry: connect.properties.session_expiry_interval().is_some_and(|seconds| seconds > 0),
            peer_packet: connect
                .properties
                .maximum_packet_size()
                .and_then(|size| usize::try_from(size).ok())
                .unwrap_or(usize::MAX),
            credentials: credentials
                .map(|(name, password)| (name.to_owned(), Zeroizing::new(password.to_owned()))),
        }
    }
}

async fn authenticate(app: &App, peer: SocketAddr, login: &Login) -> Result<Client, ReasonCode> {
    match login.version {
        Version::V31 => return Err(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION),
        Version::V311 if login.unnamed && login.keeps_session => {
            return Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        }
        Version::V311 | Version::V5 => {}
    }
    if login.has_method {
        return Err(ReasonCode::BAD_AUTHENTICATION_METHOD);
    }
    // Nobody could receive a will here.
    if login.has_will {
        return Err(ReasonCode::NOT_AUTHORIZED);
    }
    let Some((client_id, secret)) = &login.credentials else {
        return Err(ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    };
    let credentials = Credentials::Mqtt { client_id: client_id.clone(), secret: secret.clone() };
    clients::authenticate(app, peer.ip(), Via::Mqtt, credentials).await.map_err(|refusal| {
        refusal.log("mqtt_login_refused");
        match refusal {
            Refusal::OAuth(OAuthErrorCode::InvalidClient, _) => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
            Refusal::OAuth(..) => ReasonCode::NOT_AUTHORIZED,
            Refusal::TooMany(_) => ReasonCode::CONNECTION_RATE_EXCEEDED,
            Refusal::Busy => ReasonCode::QUOTA_EXCEEDED,
            Refusal::Store(_) => ReasonCode::SERVER_UNAVAILABLE,
        }
    })
}

async fn greet(app: &App, link: &mut Link, login: &Login) -> Result<Duration, End> {
    let imposed = login.version == Version::V5 && (login.keep_alive == 0 || login.keep_alive > KEEP_ALIVE);
    let keep_alive = if imposed { KEEP_ALIVE } else { login.keep_alive };
    let assigned = service::secret::random_token::<16>();
    let mut properties = vec![
        Property::ReceiveMaximum(RECEIVE_MAXIMUM),
        Property::MaximumQos(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::MaximumPacketSize(u32::try_from(app.config.limits.packet).unwrap_or(u32::MAX)),
        Property::WildcardSubscriptionAvailable(false),
        Property::SubscriptionIdentifierAvailable(false),
        Property::SharedSubscriptionAvailable(false),
    ];
    if login.wants_expiry {
        properties.push(Property::SessionExpiryInterval(0));
    }
    if imposed {
        properties.push(Property::ServerKeepAlive(KEEP_ALIVE));
    }
    if login.unnamed {
        properties.push(Property::AssignedClientIdentifier(&assigned));
    }
    let properties = match login.version {
        Version::V5 => Properties::list(&properties),
        Version::V31 | Version::V311 => Properties::EMPTY,
    };
    let packet = ConnAck { session_present: false, reason: ReasonCode::SUCCESS, properties };
    link.send(&Packet::ConnAck(packet)).await?;
    // MQTT 5 §3.1.2.10: one and a half times. A 3.1.1 client without a keep-alive cannot be told one.
    Ok(match keep_alive {
        0 => Duration::from_secs(3 * u64::from(KEEP_ALIVE)),
        seconds => Duration::from_millis(u64::from(seconds) * 1_500),
    })
}

/// A CONNECT that cannot be read is not answered (MQTT 3.1.1 §3.1.4), but a version that is not spoken here is named.
async fn malformed(link: &mut Link, error: Error) -> End {
    let reason = error.reason();
    if reason == ReasonCode::UNSUPPORTED_PROTOCOL_VERSION {
        let packet = ConnAck { session_present: false, reason, properties: Properties::EMPTY };
        if let Err(end) = link.send(&Packet::ConnAck(packet)).await {
            return end;
        }
    }
    End::Reason(reason)
}
