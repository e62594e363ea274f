//! The log of security events: who was let in, who was not, what was given and taken away.
//!
//! Each event is one line of the target `audit`. Names and members are a contract with whoever watches them
//! (`docs/security-events.md`): they are added to, never changed. No line holds a secret, a token, an address, or anything that names
//! an owner, not even a number; a client is named only after it was found to exist, so that nothing that somebody sent can get
//! here.

/// A security event.
#[derive(Debug, Clone)]
pub(crate) enum Audit {
    /// Client authentication failed.
    ClientRefused { via: Via, client: Option<String>, why: &'static str },
    /// Client authentication was not tried: too many failures before.
    ClientLimited { via: Via },
    /// A gateway's authentication failed.
    GatewayRefused { why: &'static str },
    /// An initial or registration access token was not accepted, or a quota is used up.
    RegistrationRefused { registrar: Option<String>, why: &'static str },
    /// Clients were registered; without a registrar, nobody vouches for them.
    ClientsRegistered { registrar: Option<String>, count: i64 },
    /// A client's metadata was replaced.
    ClientChanged { client: String },
    /// A client is gone with all that it was granted.
    ClientDeleted { client: String },
    /// An owner logged in.
    OwnerSignedIn { upstream: String },
    /// An owner logged out.
    OwnerSignedOut,
    /// An owner ended all other sessions.
    OwnerSignedOutElsewhere,
    /// An owner took everything that is kept of them.
    AccountExported,
    /// Everything of an owner was deleted.
    AccountErased,
    /// A provider's answer was not accepted.
    OwnerRefused { upstream: String, why: &'static str },
    /// An owner can log in at another provider as well.
    ProviderLinked { upstream: String },
    /// An owner cannot log in there any more.
    ProviderUnlinked { upstream: String },
    /// A form did not come from a page of its session.
    FormForged,
    /// An owner allowed an app.
    AppAllowed { client: String },
    /// An owner changed what an app may do.
    AppChanged { client: String },
    /// An app's grant ended.
    AppEnded { client: String, by: By },
    /// A claim is complete: the device has an owner.
    DeviceClaimed { client: String },
    /// A device was given up.
    DeviceReleased { client: String, by: By },
    /// A device's tokens are dead, its owner stays.
    DeviceSuspended { client: String, by: By },
    /// A claim window had too many wrong answers.
    ClaimExhausted { client: String },
    /// Two people wanted a device without a display at the same time; nobody got it.
    ClaimContested { client: String },
    /// A dead code or refresh token was presented: somebody else may have had it. Its grant is over.
    TokenReplayed { client: String },
    /// Too many wrong user codes of one login (RFC 8628 §5.1).
    UserCodeLimited,
}

/// The doorway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The token endpoint and its like.
    Http,
    /// A CONNECT.
    Mqtt,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The owner.
    Owner,
    /// The device or app.
    Client,
    /// Its end had come.
    Time,
    /// A token was presented that was dead.
    Replay,
    /// Whoever runs this DIdP.
    Operator,
}

#[derive(Default)]
struct Line {
    event: &'static str,
    alarming: bool,
    client: Option<String>,
    registrar: Option<String>,
    upstream: Option<String>,
    via: Option<&'static str>,
    by: Option<&'static str>,
    why: Option<&'static str>,
    count: Option<u64>,
}

impl Audit {
    fn line(self) -> Line {
        let of = |event| Line { event, ..Line::default() };
        let alarm = |event| Line { event, alarming: true, ..Line::default() };
        match self {
            Self::ClientRefused { via, client, why } => {
                Line { via: Some(via.name()), client, why: Some(why), ..alarm("client_refused") }
            }
            Self::ClientLimited { via } => Line { via: Some(via.name()), ..alarm("client_limited") },
            Self::GatewayRefused { why } => Line { why: Some(why), ..alarm("gateway_refused") },
            Self::RegistrationRefused { registrar, why } => {
                Line { registrar, why: Some(why), ..alarm("registration_refused") }
            }
            Self::ClientsRegistered { registrar, count } => {
                Line { registrar, count: u64::try_from(count).ok(), ..of("clients_registered") }
            }
            Self::ClientChanged { client } => Line { client: Some(client), ..of("client_changed") },
            Self::ClientDeleted { client } => Line { client: Some(client), ..of("client_deleted") },
            Self::OwnerSignedIn { upstream } => Line { upstream: Some(upstream), ..of("owner_signed_in") },
            Self::OwnerSignedOut => of("owner_signed_out"),
            Self::OwnerSignedOutElsewhere => of("owner_signed_out_elsewhere"),
            Self::AccountExported => of("account_exported"),
            Self::AccountErased => of("account_erased"),
            Self::OwnerRefused { upstream, why } => {
                Line { upstream: Some(upstream), why: Some(why), ..alarm("owner_refused") }
            }
            Self::ProviderLinked { upstream } => Line { upstream: Some(upstream), ..of("provider_linked") },
            Self::ProviderUnlinked { upstream } => {
                Line { upstream: Some(upstream), ..of("provider_unlinked") }
            }
            Self::FormForged => alarm("form_forged"),
            Self::AppAllowed { client } => Line { client: Some(client), ..of("app_allowed") },
            Self::AppChanged { client } => Line { client: Some(client), ..of("app_changed") },
            Self::AppEnded { client, by } => {
                Line { client: Some(client), by: Some(by.name()), ..of("app_withdrawn") }
            }
            Self::DeviceClaimed { client } => Line { client: Some(client), ..of("claim_complete") },
            Self::DeviceReleased { client, by } => {
                Line { client: Some(client), by: Some(by.name()), ..of("device_released") }
            }
            Self::DeviceSuspended { client, by } => {
                Line { client: Some(client), by: Some(by.name()), ..of("device_suspended") }
            }
            Self::ClaimExhausted { client } => {
                Line { client: Some(client), ..alarm("claim_window_exhausted") }
            }
            Self::ClaimContested { client } => Line { client: Some(client), ..alarm("claim_contested") },
            Self::TokenReplayed { client } => Line { client: Some(client), ..alarm("token_replayed") },
            Self::UserCodeLimited => alarm("user_code_limited"),
        }
    }

    /// Writes the event's line: a warning if somebody should look, else for information.
    pub(crate) fn record(self) {
        let Line { event, alarming, client, registrar, upstream, via, by, why, count } = self.line();
        let (client, registrar, upstream) = (client.as_deref(), registrar.as_deref(), upstream.as_deref());
        if alarming {
            tracing::warn!(target: "audit", event, client, registrar, upstream, via, by, why, count);
        } else {
            tracing::info!(target: "audit", event, client, registrar, upstream, via, by, why, count);
        }
    }
}

impl Via {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Mqtt => "mqtt",
        }
    }
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Client => "client",
            Self::Time => "time",
            Self::Replay => "replay",
            Self::Operator => "operator",
        }
    }
}
