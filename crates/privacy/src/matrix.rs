//! Who may know what: the table of the design as data, and what is an excess over it.
//!
//! Rows are kinds of marks, columns parties. The rows up to `Uncovered` are the design's, but for presence, which has no value to look
//! for; those after it name what it implies. Finding marks is left to [`crate::search`], saying what two parties can join to
//! [`crate::pairs`].

use std::collections::BTreeSet;
use std::fmt;

/// Whose material it is. Devices and apps are several, and have nothing of each other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A provider that people log in with.
    Uidp,
    /// The authorization server.
    Didp,
    /// The factory.
    Manufacturer,
    /// A device.
    Device(u8),
    /// Gateway and launcher.
    Ignite,
    /// The owners' brokers.
    Pcm,
    /// An app.
    Tpa(u8),
    /// Whoever listens on a line that is encrypted.
    Eavesdropper,
}

/// Columns of the printed table.
pub const COLUMNS: [&str; 8] =
    ["UIdP", "DIdP", "manufacturer", "device", "IGNITE", "PCM", "TPA", "eavesdropper"];

impl Party {
    /// Its column.
    #[must_use]
    pub fn column(self) -> usize {
        match self {
            Self::Uidp => 0,
            Self::Didp => 1,
            Self::Manufacturer => 2,
            Self::Device(_) => 3,
            Self::Ignite => 4,
            Self::Pcm => 5,
            Self::Tpa(_) => 6,
            Self::Eavesdropper => 7,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(n) => write!(f, "device {n}"),
            Self::Tpa(n) => write!(f, "TPA {n}"),
            other => f.write_str(COLUMNS[other.column()]),
        }
    }
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Volumes and databases.
    Storage,
    /// Memory of a live process.
    Memory,
    /// Standard error and output.
    Log,
    /// What Prometheus is told.
    Metrics,
    /// What a trace collector is told.
    Traces,
    /// What passed a socket.
    Wire,
}

/// All places.
pub const PLACES: [Place; 6] =
    [Place::Storage, Place::Memory, Place::Log, Place::Metrics, Place::Traces, Place::Wire];

impl Place {
    /// As the table shows it.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Storage => 's',
            Self::Memory => 'm',
            Self::Log => 'L',
            Self::Metrics => 'M',
            Self::Traces => 'T',
            Self::Wire => 'w',
        }
    }
}

/// What a party may do with marks of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Know and keep.
    Keeps,
    /// See on the way: in memory and on the wire, never stored or logged. Cells "only as a hash" are such, too: the plain value passes.
    Passing,
    /// Know and keep its own, nobody else's.
    Own,
    /// Nothing.
    Never,
}

use Cell::{Keeps, Never, Own, Passing};

/// Kinds of marks: the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Name, e-mail, picture.
    Profile,
    /// Subject at the provider.
    Subject,
    /// Hardware id of a device.
    HardwareId,
    /// client_id of a device.
    ClientId,
    /// The client_secret that registration answered.
    FactorySecret,
    /// The one that the claim made.
    RenewedSecret,
    /// The registration code.
    Uru,
    /// Refresh token.
    RefreshToken,
    /// Access token.
    AccessToken,
    /// Pseudonym of the owner at the gateway.
    Pseudonym,
    /// Device label.
    Label,
    /// An app's handle of a device.
    Handle,
    /// Display name of a device.
    DisplayName,
    /// A channel's name, as what a consent is about.
    Channel,
    /// A topic with a label or a handle in it: which device talked to which app.
    Topic,
    /// Address of a browser.
    BrowserAddress,
    /// Address of a device's or an app's connection.
    ConnectionAddress,
    /// A value that a grant of somebody covers.
    Data,
    /// A command.
    Command,
    /// A value that no grant covers.
    Uncovered,
    /// client_id of an app.
    AppId,
    /// Secret of an app.
    AppSecret,
    /// A grant's `sid`.
    Sid,
    /// The DIdP's share of the key of what a PCM keeps.
    StateShare,
    /// Authorization code of an app.
    AppCode,
    /// The manufacturer's initial access token.
    InitialToken,
    /// A device's registration access token.
    RegistrationToken,
    /// A wrong secret or token that somebody tried.
    WrongCredential,
    /// An owner's session cookie at the DIdP.
    Session,
}

/// Every row: what it is called, and what is promised to UIdP, DIdP, manufacturer, device, IGNITE, PCM, TPA.
pub const ROWS: [(Kind, &str, [Cell; 7]); 29] = [
    (Kind::Profile, "owner's profile", [Keeps, Passing, Never, Never, Never, Never, Never]),
    (Kind::Subject, "UIdP subject", [Keeps, Passing, Never, Never, Never, Never, Never]),
    (Kind::HardwareId, "hardware id", [Never, Never, Keeps, Own, Never, Never, Never]),
    (Kind::ClientId, "client_id of a device", [Never, Keeps, Keeps, Own, Never, Never, Never]),
    (Kind::FactorySecret, "client_secret, first", [Never, Passing, Keeps, Own, Never, Never, Never]),
    (Kind::RenewedSecret, "client_secret, renewed", [Never, Passing, Never, Own, Never, Never, Never]),
    (Kind::Uru, "registration code (URU)", [Never, Passing, Keeps, Never, Never, Never, Never]),
    (Kind::RefreshToken, "refresh token", [Never, Passing, Never, Own, Never, Never, Own]),
    (Kind::AccessToken, "access token", [Never, Passing, Never, Own, Passing, Never, Own]),
    (Kind::Pseudonym, "pseudonym of the owner", [Never, Keeps, Never, Never, Keeps, Never, Never]),
    (Kind::Label, "device label", [Never, Keeps, Never, Never, Keeps, Keeps, Never]),
    (Kind::Handle, "handle of a device", [Never, Never, Never, Never, Passing, Never, Own]),
    (Kind::DisplayName, "display name of a device", [Never, Keeps, Never, Never, Never, Never, Own]),
    (Kind::Channel, "channel of a consent", [Never, Keeps, Keeps, Own, Keeps, Keeps, Own]),
    (Kind::Topic, "which device, which app", [Never, Never, Never, Never, Passing, Keeps, Own]),
    (Kind::BrowserAddress, "address of a browser", [Keeps, Passing, Never, Never, Never, Never, Keeps]),
    (Kind::ConnectionAddress, "address of a connection", [Never, Passing, Never, Own, Passing, Never, Own]),
    (Kind::Data, "data", [Never, Never, Never, Own, Passing, Keeps, Own]),
    (Kind::Command, "commands", [Never, Never, Never, Own, Passing, Keeps, Own]),
    (Kind::Uncovered, "data without a consent", [Never, Never, Never, Own, Passing, Passing, Never]),
    (Kind::AppId, "client_id of an app", [Never, Keeps, Never, Never, Never, Never, Own]),
    (Kind::AppSecret, "client_secret of an app", [Never, Passing, Never, Never, Never, Never, Own]),
    (Kind::Sid, "sid of a grant", [Never, Keeps, Never, Never, Keeps, Keeps, Never]),
    (Kind::StateShare, "share of the key of a PCM", [Never, Keeps, Never, Never, Passing, Never, Never]),
    (Kind::AppCode, "authorization code", [Never, Passing, Never, Never, Never, Never, Own]),
    (Kind::InitialToken, "initial access token", [Never, Keeps, Keeps, Never, Never, Never, Never]),
    (
        Kind::RegistrationToken,
        "registration access token",
        [Never, Passing, Keeps, Never, Never, Never, Never],
    ),
    (Kind::WrongCredential, "wrong secret or token", [Never, Passing, Never, Own, Passing, Never, Own]),
    (Kind::Session, "session cookie at the DIdP", [Never, Passing, Never, Never, Never, Never, Never]),
];

/// What is promised of a kind to a party.
#[must_use]
pub fn promised(kind: Kind, party: Party) -> Cell {
    let cells = ROWS.iter().find(|(row, ..)| *row == kind).map(|(_, _, cells)| cells);
    cells.and_then(|cells| cells.get(party.column())).copied().unwrap_or(Never)
}

/// A value that is looked for.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Its row.
    pub kind: Kind,
    /// What it is, for the report.
    pub what: String,
    /// The value.
    pub value: Vec<u8>,
    /// Whose it is, for cells that say "own".
    pub own: BTreeSet<Party>,
    /// Which owner it is about, if it is about one.
    pub owner: Option<u8>,
}

impl Mark {
    /// A mark of these parties' own.
    #[must_use]
    pub fn new(
        kind: Kind,
        what: impl Into<String>,
        value: impl Into<Vec<u8>>,
        own: impl IntoIterator<Item = Party>,
    ) -> Self {
        Self { kind, what: what.into(), value: value.into(), own: own.into_iter().collect(), owner: None }
    }

    /// About this owner.
    #[must_use]
    pub fn of(mut self, owner: u8) -> Self {
        self.owner = Some(owner);
        self
    }

    /// What is promised to a party of this one.
    #[must_use]
    pub fn promised(&self, party: Party) -> Cell {
        match promised(self.kind, party) {
            Own if self.own.contains(&party) => Keeps,
            Own => Never,
            cell => cell,
        }
    }

    /// Whether a party has more than was promised if it has the mark there.
    #[must_use]
    pub fn is_excess(&self, party: Party, place: Place) -> bool {
        match place {
            // But for the clients that the DIdP's security events name; these are left out before the search.
            Place::Log | Place::Metrics | Place::Traces => true,
            Place::Storage => self.promised(party) != Keeps,
            Place::Memory | Place::Wire => self.promised(party) == Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row() {
        let kinds: BTreeSet<Kind> = ROWS.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds.len(), ROWS.len());
        assert_eq!(promised(Kind::Session, Party::Didp), Passing);
        assert_eq!(promised(Kind::Profile, Party::Eavesdropper), Never);
    }

    #[test]
    fn an_empty_cell_allows_nothing_anywhere() {
        let mark = Mark::new(Kind::ClientId, "", "x", [Party::Device(1)]);
        for place in PLACES {
            assert!(mark.is_excess(Party::Ignite, place) && mark.is_excess(Party::Eavesdropper, place));
        }
    }

    #[test]
    fn what_passes_is_not_stored_and_nothing_is_logged() {
        let token = Mark::new(Kind::AccessToken, "", "x", [Party::Tpa(1)]);
        let excess = |party| PLACES.map(|place| token.is_excess(party, place));
        let [storage, memory, log, metrics, traces, wire] = excess(Party::Ignite);
        assert!(storage && log && metrics && traces && !memory && !wire);
        assert_eq!(excess(Party::Tpa(1)), [false, false, true, true, true, false]);
        assert_eq!(excess(Party::Tpa(2)), [true; 6]);
        assert!(Mark::new(Kind::ClientId, "", "x", []).is_excess(Party::Didp, Place::Log));
    }
}
