//! Why a connection is refused or a session ends: one table from cause to wire codes, log level and HTTP answer.
//!
//! RFC 9431 §2 asks for "not authorized" where a token does not carry the wish; MQTT 5 §3.2.2.2 and §3.14.2.1 and MQTT 3.1.1
//! §3.2.2.3 have the codes.

use mqtt_wire::ReasonCode;
use tracing::Level;

/// Why a connection is refused or a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Bytes that are no MQTT packet, with the code that says what is wrong.
    Malformed(mqtt_wire::Error),
    /// A packet that may not come now.
    OutOfOrder,
    /// No complete CONNECT within the time limit.
    ConnectTimeout,
    /// An empty client id where the version wants one (3.1.1 with a session to keep).
    ClientId,
    /// User name is not `Bearer`, or there is no token, or it has not the form of one.
    BadCredentials,
    /// The token's issuer tag is not among the configured ones.
    UnknownIssuer,
    /// An authentication method other than `Bearer`.
    AuthenticationMethod,
    /// The DIdP says that the token may not be used here.
    InactiveToken,
    /// Too many tokens from the peer's address were not good; this one was not asked about.
    TooManyFailures,
    /// The will is not covered by the grant.
    WillNotGranted,
    /// The will's Response Topic is not allowed.
    WillResponseTopic,
    /// The DIdP cannot be reached or answers nonsense.
    DidpUnavailable,
    /// The owner's PCM cannot be had.
    PcmUnavailable,
    /// As many PCMs run as the operator allows.
    PcmCapacity,
    /// The PCM refused the CONNECT for a reason of its own.
    PcmRefused(ReasonCode),
    /// The client sent DISCONNECT.
    ClientDisconnected,
    /// The connection broke or was closed without DISCONNECT.
    ClientGone,
    /// Nothing came for one and a half times the keep alive.
    KeepAlive,
    /// A packet that was begun did not end in time.
    PacketTimeout,
    /// The client does not take what is written to it.
    ClientBlocked,
    /// The token's time is over.
    TokenEnded,
    /// The grant or the token was revoked.
    Revoked,
    /// Something changed that this session may depend on, and what is granted now cannot be learned.
    Unchecked,
    /// Re-authentication with a token that is not good for this session.
    ReauthenticationRefused,
    /// Too much at once: subscriptions in flight.
    Quota,
    /// A topic alias that was not set, or beyond the maximum.
    TopicAlias,
    /// The PCM ended the session, with its reason.
    PcmEnded(ReasonCode),
    /// The PCM's connection broke.
    PcmGone,
    /// The gateway stops.
    Shutdown,
}

/// What a cause looks like on each surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// MQTT 5: the code of CONNACK before the session and of DISCONNECT in it.
    pub v5: ReasonCode,
    /// MQTT 3.1 and 3.1.1: the return code of CONNACK. In a session those versions say nothing and close.
    pub v3: u8,
    /// How loudly it is logged.
    pub level: Level,
    /// What is logged, and told to a developer where the protocol has room for it.
    pub text: &'static str,
    /// HTTP status of the API.
    pub http: u16,
}

impl Cause {
    /// The table.
    pub fn row(self) -> Row {
        use ReasonCode as R;
        let row = |v5, v3, level, http, text| Row { v5, v3, level, text, http };
        match self {
            Self::Malformed(error) => {
                let reason = error.reason();
                row(reason, reason.v311_connack(), Level::INFO, 400, error.message())
            }
            Self::OutOfOrder => row(R::PROTOCOL_ERROR, 3, Level::INFO, 400, "packet may not come now"),
            Self::ConnectTimeout => row(R::KEEP_ALIVE_TIMEOUT, 3, Level::INFO, 408, "no CONNECT in time"),
            Self::ClientId => {
                row(R::CLIENT_IDENTIFIER_NOT_VALID, 2, Level::INFO, 400, "client id is not valid")
            }
            Self::BadCredentials => {
                row(R::BAD_USER_NAME_OR_PASSWORD, 4, Level::INFO, 401, "no bearer token where one must be")
            }
            Self::UnknownIssuer => {
                row(R::BAD_USER_NAME_OR_PASSWORD, 4, Level::INFO, 401, "token of an unknown issuer")
            }
            Self::AuthenticationMethod => {
                row(R::BAD_AUTHENTICATION_METHOD, 5, Level::INFO, 400, "authentication method is not Bearer")
            }
            Self::InactiveToken => row(R::NOT_AUTHORIZED, 5, Level::INFO, 401, "token may not be used here"),
            Self::TooManyFailures => {
                row(R::CONNECTION_RATE_EXCEEDED, 3, Level::INFO, 429, "too many failed tokens of one address")
            }
            Self::WillNotGranted => row(R::NOT_AUTHORIZED, 5, Level::INFO, 403, "will is not granted"),
            Self::WillResponseTopic => {
                row(R::TOPIC_NAME_INVALID, 5, Level::INFO, 400, "will's response topic is not allowed")
            }
            Self::DidpUnavailable => row(R::SERVER_UNAVAILABLE, 3, Level::WARN, 503, "DIdP is not available"),
            Self::PcmUnavailable => row(R::SERVER_UNAVAILABLE, 3, Level::ERROR, 503, "PCM is not available"),
            Self::PcmCapacity => row(R::QUOTA_EXCEEDED, 3, Level::ERROR, 503, "no room for another PCM"),
            Self::PcmRefused(reason) => {
                row(reason, reason.v311_connack(), Level::WARN, 503, "PCM refused the session")
            }
            Self::ClientDisconnected => {
                row(R::NORMAL_DISCONNECTION, 0, Level::INFO, 200, "client disconnected")
            }
            Self::ClientGone => row(R::UNSPECIFIED_ERROR, 3, Level::INFO, 400, "client is gone"),
            Self::KeepAlive => row(R::KEEP_ALIVE_TIMEOUT, 3, Level::INFO, 408, "keep alive ran out"),
            Self::PacketTimeout => {
                row(R::KEEP_ALIVE_TIMEOUT, 3, Level::INFO, 408, "packet did not end in time")
            }
            Self::ClientBlocked => row(R::QUOTA_EXCEEDED, 3, Level::WARN, 408, "client does not read"),
            Self::TokenEnded => row(R::NOT_AUTHORIZED, 5, Level::INFO, 401, "token has ended"),
            Self::Revoked => row(R::NOT_AUTHORIZED, 5, Level::INFO, 401, "token or grant was revoked"),
            Self::Unchecked => row(R::SERVER_BUSY, 3, Level::WARN, 503, "grant cannot be checked"),
            Self::ReauthenticationRefused => {
                row(R::NOT_AUTHORIZED, 5, Level::INFO, 401, "re-authentication was refused")
            }
            Self::Quota => row(R::QUOTA_EXCEEDED, 3, Level::WARN, 429, "too much at once"),
            Self::TopicAlias => row(R::TOPIC_ALIAS_INVALID, 3, Level::INFO, 400, "topic alias is not valid"),
            Self::PcmEnded(reason) => {
                row(reason, reason.v311_connack(), Level::INFO, 503, "PCM ended the session")
            }
            Self::PcmGone => row(R::SERVER_SHUTTING_DOWN, 3, Level::WARN, 503, "PCM is gone"),
            Self::Shutdown => row(R::SERVER_SHUTTING_DOWN, 3, Level::INFO, 503, "gateway stops"),
        }
    }

    /// True if a session ends because the right to it is over or in doubt, and not because somebody left.
    pub(crate) fn ends_the_right(self) -> bool {
        matches!(self, Self::Revoked | Self::Unchecked | Self::TokenEnded | Self::ReauthenticationRefused)
    }

    /// One log line, by the table's level, with the connection's random number and nothing about the client.
    pub fn log(self, event: &'static str, connection: &str) {
        let Row { v5, level, text, .. } = self.row();
        let code = v5.0;
        match level {
            Level::ERROR => tracing::error!(event, connection, code, "{text}"),
            Level::WARN => tracing::warn!(event, connection, code, "{text}"),
            Level::INFO => tracing::info!(event, connection, code, "{text}"),
            _ => tracing::debug!(event, connection, code, "{text}"),
        }
    }
}

/// What the gateway says about a code in an acknowledgement, whoever chose it: the PCM's own words stay with the PCM.
pub(crate) fn words(reason: ReasonCode) -> Option<&'static str> {
    Some(match reason {
        ReasonCode::UNSPECIFIED_ERROR => "something went wrong",
        ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR => "not the current version",
        ReasonCode::NOT_AUTHORIZED => "the grant does not cover this",
        ReasonCode::TOPIC_FILTER_INVALID => "the filter is too long or has too many levels",
        ReasonCode::TOPIC_NAME_INVALID => {
            "the topic is too long, or the response topic is not in the device's own data"
        }
        ReasonCode::PACKET_IDENTIFIER_IN_USE => "the packet identifier is in use",
        ReasonCode::QUOTA_EXCEEDED => "there is no room for it",
        ReasonCode::PAYLOAD_FORMAT_INVALID => "the payload is not of the form that it must have",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_wire::PacketType;

    /// Checklist 34: each kind of wrong credential has its code in both versions.
    #[test]
    fn credentials_have_their_codes() {
        let codes = |cause: Cause| (cause.row().v5.0, cause.row().v3);
        assert_eq!(codes(Cause::BadCredentials), (0x86, 4));
        assert_eq!(codes(Cause::InactiveToken), (0x87, 5));
        assert_eq!(codes(Cause::UnknownIssuer), (0x86, 4));
        assert_eq!(codes(Cause::AuthenticationMethod), (0x8C, 5));
        assert_eq!(codes(Cause::DidpUnavailable), (0x88, 3));
        assert_eq!(codes(Cause::PcmUnavailable), (0x88, 3));
    }

    #[test]
    fn codes_are_legal_where_they_are_sent() {
        let refusals = [
            Cause::OutOfOrder,
            Cause::ClientId,
            Cause::BadCredentials,
            Cause::UnknownIssuer,
            Cause::AuthenticationMethod,
            Cause::InactiveToken,
            Cause::TooManyFailures,
            Cause::WillNotGranted,
            Cause::WillResponseTopic,
            Cause::DidpUnavailable,
            Cause::PcmUnavailable,
            Cause::PcmCapacity,
        ];
        for cause in refusals {
            let row = cause.row();
            assert!(row.v5.is_allowed_in(PacketType::ConnAck) && (1..=5).contains(&row.v3), "{cause:?}");
        }
        let ends = [
            Cause::OutOfOrder,
            Cause::KeepAlive,
            Cause::PacketTimeout,
            Cause::ClientBlocked,
            Cause::TokenEnded,
            Cause::Revoked,
            Cause::Unchecked,
            Cause::ReauthenticationRefused,
            Cause::Quota,
            Cause::TopicAlias,
            Cause::PcmGone,
            Cause::Shutdown,
        ];
        for cause in ends {
            assert!(cause.row().v5.is_allowed_in(PacketType::Disconnect), "{cause:?}");
        }
    }
}
