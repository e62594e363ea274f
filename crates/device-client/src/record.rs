//! The one record that a device keeps: who it is, whom it trusts, and how far its life has come (design §5).
//!
//! Everything is in one record so that it changes atomically: both tokens, the renewed secret and the gateway appear
//! together or not at all. Where the bytes go is left to [`crate::storage`].

use core::fmt;

use crate::text::Text;

/// Longest host name or address, in bytes.
pub const MAX_HOST: usize = 96;
/// Most pins of one server.
pub const MAX_PINS: usize = 4;
/// Longest client_id or client_secret, in bytes.
pub const MAX_CREDENTIAL: usize = 96;
/// Longest token or authorization code, in bytes.
pub const MAX_TOKEN: usize = 128;
/// Longest encoded record, in bytes.
pub const MAX_RECORD: usize =
    1 + 1 + 3 * (1 + MAX_CREDENTIAL) + 3 * (1 + MAX_TOKEN) + 4 + 44 + 2 * (1 + MAX_HOST + 3 + 32 * MAX_PINS);

const FORMAT: u8 = 1;

/// Where a server is, and by which keys its certificate is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// DNS name or IP address.
    pub host: Text<MAX_HOST>,
    /// TCP port of MQTT over TLS.
    pub port: u16,
    pins: [[u8; 32]; MAX_PINS],
    pin_count: u8,
}

impl Server {
    /// A server without pins, which nothing will connect to until there are some; `None` if the name is too long.
    pub fn new(host: &str, port: u16) -> Option<Self> {
        Some(Self { host: Text::new(host)?, port, ..Self::default() })
    }

    /// Adds a pin: SHA-256 of the SubjectPublicKeyInfo of a key that must be in the server's certificate chain
    /// (RFC 7469 §2.4). False if there are [`MAX_PINS`] already.
    #[must_use]
    pub fn pin(&mut self, spki_sha256: [u8; 32]) -> bool {
        let Some(place) = self.pins.get_mut(usize::from(self.pin_count)) else { return false };
        *place = spki_sha256;
        self.pin_count += 1;
        true
    }

    /// The pins. A connection whose chain has none of them must not be used.
    pub fn pins(&self) -> &[[u8; 32]] {
        &self.pins[..usize::from(self.pin_count)]
    }

    /// True if there is somewhere to connect to and a way to tell that it is the right one.
    pub fn is_usable(&self) -> bool {
        !self.host.is_empty() && self.port != 0 && self.pin_count > 0
    }
}

/// What a device gets when it is owned.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// For the gateway. Empty once it is known to be of no use.
    pub access_token: Text<MAX_TOKEN>,
    /// For the next access token.
    pub refresh_token: Text<MAX_TOKEN>,
    /// Seconds that the access token had left when the record was written: an upper bound after a restart, because
    /// nobody counted while the device was off.
    pub expires_in: u32,
    /// The owner's gateway.
    pub gateway: Server,
    /// The DIdP has not been told yet that the record is stored (`$oauth/claim/done`).
    pub done_pending: bool,
}

/// An authorization code on its way to becoming a [`Grant`], kept so that neither a lost reply nor a power cut loses the claim.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub code: Text<MAX_TOKEN>,
    /// Its PKCE verifier (RFC 7636).
    pub verifier: Text<43>,
}

/// How far the device's life has come. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one record, and no heap to put the large variant on")]
pub enum Ownership {
    /// Nobody's; waits for a press.
    #[default]
    Waiting,
    /// An owner said yes; the code is to be redeemed.
    Granted(Code),
    /// Somebody's.
    Owned(Grant),
    /// Given up by a long press; the DIdP has not acknowledged it yet.
    ResetPending,
}

/// Everything that a device keeps. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The client_id that registration gave.
    pub client_id: Text<MAX_CREDENTIAL>,
    /// The client_secret in force.
    pub client_secret: Text<MAX_CREDENTIAL>,
    /// The one before, until the new one has been accepted once: a claim that the DIdP took back leaves the old one valid.
    pub former_secret: Text<MAX_CREDENTIAL>,
    /// The DIdP.
    pub didp: Server,
    /// How far its life has come.
    pub ownership: Ownership,
}

/// Bytes that are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Record {
    /// The record of a device as it leaves the factory; `None` if a value is empty or too long, or the DIdP has no pin.
    pub fn new(client_id: &str, client_secret: &str, didp: Server) -> Option<Self> {
        let record = Self {
            client_id: Text::new(client_id)?,
            client_secret: Text::new(client_secret)?,
            didp,
            ..Self::default()
        };
        record.is_complete().then_some(record)
    }

    fn is_complete(&self) -> bool {
        !self.client_id.is_empty() && !self.client_secret.is_empty() && self.didp.is_usable()
    }

    /// The grant, if the device is owned.
    pub fn grant(&self) -> Option<&Grant> {
        match &self.ownership {
            Ownership::Owned(grant) => Some(grant),
            Ownership::Waiting | Ownership::Granted(_) | Ownership::ResetPending => None,
        }
    }

    pub(crate) fn grant_mut(&mut self) -> Option<&mut Grant> {
        match &mut self.ownership {
            Ownership::Owned(grant) => Some(grant),
            Ownership::Waiting | Ownership::Granted(_) | Ownership::ResetPending => None,
        }
    }

    /// Writes the record to `out`, which needs [`MAX_RECORD`] bytes at most, and returns its length; `None` if it does not fit.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut w = Writer { out, at: 0 };
        w.bytes(&[FORMAT])?;
        w.text(&self.client_id)?;
        w.text(&self.client_secret)?;
        w.text(&self.former_secret)?;
        w.server(&self.didp)?;
        match &self.ownership {
            Ownership::Waiting => w.bytes(&[0])?,
            Ownership::Granted(code) => {
                w.bytes(&[1])?;
                w.text(&code.code)?;
                w.text(&code.verifier)?;
            }
            Ownership::Owned(grant) => {
                w.bytes(&[if grant.done_pending { 3 } else { 2 }])?;
                w.text(&grant.access_token)?;
                w.text(&grant.refresh_token)?;
                w.bytes(&grant.expires_in.to_le_bytes())?;
                w.server(&grant.gateway)?;
            }
            Ownership::ResetPending => w.bytes(&[4])?,
        }
        Some(w.at)
    }

    /// Reads what [`Record::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut r = Reader { rest: bytes };
        if r.byte()? != FORMAT {
            return Err(Unreadable);
        }
        let mut record = Self::default();
        r.text(&mut record.client_id)?;
        r.text(&mut record.client_secret)?;
        r.text(&mut record.former_secret)?;
        r.server(&mut record.didp)?;
        record.ownership = match r.byte()? {
            0 => Ownership::Waiting,
            1 => {
                let mut code = Code::default();
                r.text(&mut code.code)?;
                r.text(&mut code.verifier)?;
                Ownership::Granted(code)
            }
            kind @ (2 | 3) => {
                let mut grant = Grant { done_pending: kind == 3, ..Grant::default() };
                r.text(&mut grant.access_token)?;
                r.text(&mut grant.refresh_token)?;
                grant.expires_in = u32::from_le_bytes(r.take(4)?.try_into().map_err(|_| Unreadable)?);
                r.server(&mut grant.gateway)?;
                Ownership::Owned(grant)
            }
            4 => Ownership::ResetPending,
            _ => return Err(Unreadable),
        };
        if r.rest.is_empty() && record.is_complete() { Ok(record) } else { Err(Unreadable) }
    }
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "Waiting",
            Self::Granted(_) => "Granted",
            Self::Owned(_) => "Owned",
            Self::ResetPending => "ResetPending",
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("client_id", &self.client_id)
            .field("didp", &self.didp.host)
            .field("ownership", &self.ownership)
            .finish_non_exhaustive()
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.get_mut(self.at..self.at + bytes.len())?.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }

    fn text<const N: usize>(&mut self, text: &Text<N>) -> Option<()> {
        let text = text.as_str();
        self.bytes(&[u8::try_from(text.len()).ok()?])?;
        self.bytes(text.as_bytes())
    }

    fn server(&mut self, server: &Server) -> Option<()> {
        self.text(&server.host)?;
        self.bytes(&server.port.to_le_bytes())?;
        self.bytes(&[server.pin_count])?;
        server.pins().iter().try_for_each(|pin| self.bytes(pin))
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        Ok(self.take(1)?[0])
    }

    fn text<const N: usize>(&mut self, into: &mut Text<N>) -> Result<(), Unreadable> {
        let len = usize::from(self.byte()?);
        let text = core::str::from_utf8(self.take(len)?).map_err(|_| Unreadable)?;
        if into.set(text) { Ok(()) } else { Err(Unreadable) }
    }

    fn server(&mut self, into: &mut Server) -> Result<(), Unreadable> {
        self.text(&mut into.host)?;
        into.port = u16::from_le_bytes([self.byte()?, self.byte()?]);
        for _ in 0..self.byte()? {
            let pin = self.take(32)?.try_into().map_err(|_| Unreadable)?;
            if !into.pin(pin) {
                return Err(Unreadable);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn server(host: &str, port: u16) -> Server {
        let mut server = Server::new(host, port).unwrap();
        assert!(server.pin([7; 32]));
        server
    }

    pub(crate) fn largest() -> Record {
        let long = |n| Text::new(&"x".repeat(n)).unwrap();
        let mut far =
            Server { host: Text::new(&"h".repeat(MAX_HOST)).unwrap(), port: 8884, ..Server::default() };
        for n in 0..MAX_PINS {
            assert!(far.pin([n as u8; 32]));
        }
        Record {
            client_id: long(MAX_CREDENTIAL),
            client_secret: long(MAX_CREDENTIAL),
            former_secret: long(MAX_CREDENTIAL),
            didp: far.clone(),
            ownership: Ownership::Owned(Grant {
                access_token: Text::new(&"a".repeat(MAX_TOKEN)).unwrap(),
                refresh_token: Text::new(&"r".repeat(MAX_TOKEN)).unwrap(),
                expires_in: 86_400,
                gateway: far,
                done_pending: true,
            }),
        }
    }

    #[test]
    fn every_kind_of_record_comes_back() {
        let mut record = Record::new("id", "secret", server("didp.localhost", 8884)).unwrap();
        let owned = largest().ownership;
        let code = Code { code: Text::new("c").unwrap(), verifier: Text::new("v").unwrap() };
        for ownership in [Ownership::Waiting, Ownership::Granted(code), owned, Ownership::ResetPending] {
            record.ownership = ownership;
            let mut bytes = [0; MAX_RECORD];
            let len = record.encode(&mut bytes).unwrap();
            assert_eq!(Record::decode(&bytes[..len]), Ok(record.clone()));
            for cut in 0..len {
                assert_eq!(Record::decode(&bytes[..cut]), Err(Unreadable), "cut at {cut}");
            }
        }
    }

    #[test]
    fn the_largest_record_fits() {
        let mut bytes = [0; MAX_RECORD];
        let len = largest().encode(&mut bytes).unwrap();
        assert_eq!(Record::decode(&bytes[..len]), Ok(largest()));
        assert_eq!(largest().encode(&mut [0; 100]), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let record = Record::new("id", "s3cret", server("didp.localhost", 1)).unwrap();
        assert!(!format!("{record:?}").contains("s3cret"));
    }

    #[test]
    fn credentials_without_a_pin_are_no_credentials() {
        assert_eq!(Record::new("id", "secret", Server::new("didp.localhost", 8884).unwrap()), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
        }
    }
}
