//! What a gateway gets from the DIdP: introspection (RFC 7662), an owner's grants, events.

use serde::{Deserialize, Serialize};

use crate::{AuthorizationDetail, Scope};

/// Answer of `POST /introspect` (RFC 7662 §2.2). An inactive token answers `{"active":false}` and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Introspection {
    /// The token may be used at the gateway that asked.
    Active(Box<ActiveToken>),
    /// Unknown, ended, revoked, or for another audience; which one is not said.
    Inactive {
        /// Always false.
        active: False,
    },
}

impl Introspection {
    /// The one answer for every token that may not be used.
    pub const INACTIVE: Introspection = Introspection::Inactive { active: False };

    /// The active token, if it is one.
    pub fn active(self) -> Option<ActiveToken> {
        match self {
            Self::Active(token) => Some(*token),
            Self::Inactive { active: False } => None,
        }
    }
}

/// Exactly these members, never a client_id or user name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveToken {
    /// Always true.
    pub active: True,
    /// Issuer URL of the DIdP.
    pub iss: String,
    /// The owner's pseudonym at this gateway.
    pub sub: String,
    /// The gateway's resource URI.
    pub aud: String,
    /// End of the token, Unix seconds.
    pub exp: i64,
    /// Granted scopes.
    pub scope: Scope,
    /// One object for each device.
    pub authorization_details: Vec<AuthorizationDetail>,
    /// Random per grant and gateway.
    pub sid: String,
    /// `seq` of the last event that concerns this `sub`; 0 if none.
    pub rev: i64,
    /// A device's label; absent for an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// 32 bytes, base64url: the DIdP's share of the key of what the owner's PCM keeps.
    pub state_share: String,
}

/// Answer of `POST /introspect/grants`: every current grant of one owner at the gateway that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantList {
    /// The owner's pseudonym.
    pub sub: String,
    /// As in [`ActiveToken::rev`].
    pub rev: i64,
    /// Devices' and apps' grants alike.
    pub grants: Vec<GrantEntry>,
    /// As in [`ActiveToken::state_share`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_share: Option<String>,
}

/// One current grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantEntry {
    /// As in [`ActiveToken::sid`].
    pub sid: String,
    /// One object for each device.
    pub authorization_details: Vec<AuthorizationDetail>,
    /// `seq` of the last event that concerns this grant's owner.
    pub rev: i64,
    /// End of the grant, Unix seconds; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
}

/// One message of `GET /introspect/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by each event of this issuer and gateway; also the SSE `id`.
    pub seq: i64,
    /// The grant that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The owner that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// First message of a stream that does not resume: `seq` is where it stands.
    Head,
    /// The stream cannot resume where it was asked to: check every live session again.
    Gap,
    /// `sub`: this owner's grants changed.
    Changed,
    /// `sid`: this grant is gone.
    Revoked,
    /// `sub`: everything of this owner is gone.
    Erased,
}

macro_rules! constant_bool {
    ($name:ident, $value:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name;

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bool($value)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match bool::deserialize(deserializer)? {
                    $value => Ok($name),
                    _ => Err(serde::de::Error::custom(concat!("expected ", stringify!($value)))),
                }
            }
        }
    };
}

constant_bool!(True, true, "The JSON value `true` and no other.");
constant_bool!(False, false, "The JSON value `false` and no other.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inactive_says_nothing_else() {
        assert_eq!(serde_json::to_string(&Introspection::INACTIVE).unwrap(), r#"{"active":false}"#);
        assert_eq!(
            serde_json::from_str::<Introspection>(r#"{"active":false}"#).unwrap(),
            Introspection::INACTIVE
        );
    }

    #[test]
    fn active_needs_every_member() {
        assert!(serde_json::from_str::<Introspection>(r#"{"active":true,"sub":"x"}"#).is_err());
    }

    #[test]
    fn event_shape() {
        let event = Event { seq: 7, sid: None, sub: Some("p".into()), kind: EventKind::Changed };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"seq":7,"sub":"p","kind":"changed"}"#);
    }
}
