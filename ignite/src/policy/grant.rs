//! A grant as the gateway applies it: made once from an introspection answer, then only read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use oauth_wire::{Action, ActiveToken, AuthorizationDetail, Channel, ScopeToken, View};
use service::secret;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::keys::Keys;

/// What one token lets its holder do, in the client's own names and in the PCM's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Issuer of the token.
    pub iss: String,
    /// The owner's pseudonym at this gateway.
    pub sub: String,
    /// The grant's id.
    pub sid: String,
    /// End of the token, Unix seconds.
    pub exp: i64,
    /// `seq` of the last event that this answer knows of.
    pub rev: i64,
    /// Device or app.
    pub role: Role,
    /// The DIdP's share of the key of what the owner's PCM keeps, if it told one.
    pub state_share: Option<StateShare>,
}

/// A DIdP's share of a key, wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct StateShare(Vec<u8>);

impl StateShare {
    /// Reads it as the DIdP writes it, base64url; `None` for anything else, and for nothing.
    pub fn from_text(text: &str) -> Option<Self> {
        secret::decode(text).filter(|bytes| !bytes.is_empty()).map(Self)
    }

    /// As the DIdP writes it.
    pub fn to_text(&self) -> String {
        secret::encode(&self.0)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for StateShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateShare(…)")
    }
}

/// The two kinds of client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A device speaks for itself alone.
    Device(DeviceRole),
    /// An app sees the devices that the owner shared with it.
    App(AppRole),
}

/// A device's own grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRole {
    /// Its label, inserted into each of its topics.
    pub label: String,
    /// It may publish `d/<channel>`.
    pub publish: bool,
    /// It may subscribe to `c/<channel>`.
    pub subscribe: bool,
}

/// An app's grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRole {
    /// The token has `data:subscribe`: `d/#` is then a legal wish even while no device is shared yet.
    pub may_read: bool,
    /// The shared devices, in the DIdP's order.
    pub devices: Vec<SharedDevice>,
    by_handle: HashMap<String, usize>,
    by_label: HashMap<String, usize>,
    /// Every channel that may be read of some device, each once: what a filter with a wildcard for the device is judged by,
    /// however many devices there are.
    readable: BTreeSet<String>,
    /// Some device's shadow may be read.
    shadows: bool,
}

/// One device as shared with one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedDevice {
    /// The PCM's name for it.
    pub label: String,
    /// The app's name for it.
    pub handle: String,
    /// Joins what the DIdP told the app about it.
    pub reference: Option<String>,
    /// The model's name.
    pub title: Option<String>,
    /// What was consented.
    pub channels: Vec<Channel>,
    /// Channels whose values the app may receive.
    pub read: Vec<String>,
    /// Channels that it may command.
    pub command: Vec<String>,
    /// The app may read the device's shadow, which has only what it may read or command in it.
    pub shadow: bool,
    /// How coarse readings are, where `views` does not say otherwise. The PCM sees to it.
    pub view: View,
    /// How coarse the readings of single channels are, by name.
    pub views: BTreeMap<String, View>,
}

/// The DIdP's answer contradicts itself or holds a name that would break a topic. Treated as no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("introspection answer is not coherent: {0}")]
pub struct Incoherent(&'static str);

impl Grant {
    /// Reads an introspection answer.
    ///
    /// # Errors
    /// An identifier that could not stand as one topic level, a device answer without its own object, an app's object
    /// without a label.
    pub fn from_token(token: &ActiveToken, keys: &Keys) -> Result<Self, Incoherent> {
        if !is_identifier(&token.sub) || !is_identifier(&token.sid) {
            return Err(Incoherent("sub or sid"));
        }
        let role = match &token.label {
            Some(label) => Role::Device(device(token, label)?),
            None => Role::App(app(token, keys)?),
        };
        Ok(Self {
            iss: token.iss.clone(),
            sub: token.sub.clone(),
            sid: token.sid.clone(),
            exp: token.exp,
            rev: token.rev,
            role,
            state_share: StateShare::from_text(&token.state_share),
        })
    }

    /// True once `now` (Unix seconds) has reached the token's end.
    pub fn has_ended(&self, now: i64) -> bool {
        now >= self.exp
    }

    /// True if both came from the same grant of the same issuer: what a session may go over to.
    pub fn is_same_grant(&self, other: &Grant) -> bool {
        self.iss == other.iss && self.sub == other.sub && self.sid == other.sid
    }
}

impl AppRole {
    /// An app's view of `devices`.
    pub fn new(may_read: bool, devices: Vec<SharedDevice>) -> Self {
        let index = |name: fn(&SharedDevice) -> &String| {
            devices.iter().enumerate().map(|(index, device)| (name(device).clone(), index)).collect()
        };
        let (by_handle, by_label) = (index(|device| &device.handle), index(|device| &device.label));
        let readable = devices.iter().flat_map(|device| device.read.iter().cloned()).collect();
        let shadows = devices.iter().any(|device| device.shadow);
        Self { may_read, devices, by_handle, by_label, readable, shadows }
    }

    /// True if the shadow of some device may be read.
    pub const fn has_shadows(&self) -> bool {
        self.shadows
    }

    /// Channels that may be read of some device, each once.
    pub fn readable(&self) -> impl Iterator<Item = &str> {
        self.readable.iter().map(String::as_str)
    }

    /// The device that the app calls `handle`.
    pub fn by_handle(&self, handle: &str) -> Option<&SharedDevice> {
        self.by_handle.get(handle).map(|&index| &self.devices[index])
    }

    /// The device that the PCM calls `label`.
    pub fn by_label(&self, label: &str) -> Option<&SharedDevice> {
        self.by_label.get(label).map(|&index| &self.devices[index])
    }
}

/// True for what the DIdP draws as identifiers: 1 to 64 base64url characters.
pub fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn device(token: &ActiveToken, label: &str) -> Result<DeviceRole, Incoherent> {
    if !is_identifier(label) {
        return Err(Incoherent("label"));
    }
    let own = token
        .authorization_details
        .iter()
        .find(|detail| detail.identifier.as_deref() == Some(label))
        .ok_or(Incoherent("device without its own object"))?;
    let may = |scope, action| token.scope.contains(scope) && own.actions.contains(&action);
    Ok(DeviceRole {
        label: label.to_owned(),
        publish: may(ScopeToken::DataPublish, Action::Publish),
        subscribe: may(ScopeToken::CommandSubscribe, Action::Subscribe),
    })
}

fn app(token: &ActiveToken, keys: &Keys) -> Result<AppRole, Incoherent> {
    let may_read = token.scope.contains(ScopeToken::DataSubscribe);
    let may_command = token.scope.contains(ScopeToken::CommandPublish);
    let mut devices = Vec::with_capacity(token.authorization_details.len());
    for detail in &token.authorization_details {
        devices.push(shared_device(detail, &token.sid, may_read, may_command, keys)?);
    }
    Ok(AppRole::new(may_read, devices))
}

fn shared_device(
    detail: &AuthorizationDetail,
    sid: &str,
    may_read: bool,
    may_command: bool,
    keys: &Keys,
) -> Result<SharedDevice, Incoherent> {
    let label = detail.identifier.as_deref().ok_or(Incoherent("app's object without a label"))?;
    if !is_identifier(label) || detail.is_device() {
        return Err(Incoherent("app's object"));
    }
    if !detail.channels.iter().all(|channel| Channel::is_valid_name(&channel.name)) {
        return Err(Incoherent("channel name"));
    }
    let names = |granted: bool, names: Vec<&str>| match granted {
        true => names.into_iter().map(str::to_owned).collect(),
        false => Vec::new(),
    };
    let read = names(may_read, detail.readable().collect());
    let command = names(may_command, detail.commandable().collect());
    Ok(SharedDevice {
        label: label.to_owned(),
        handle: keys.handle(sid, label),
        reference: detail.reference.clone(),
        title: detail.title.clone(),
        shadow: may_read && !(read.is_empty() && command.is_empty()),
        read,
        command,
        channels: detail.channels.clone(),
        view: detail.view.clone(),
        views: detail.views.clone(),
    })
}
