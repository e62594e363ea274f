//! PROXY protocol, version 2 (HAProxy's specification of 2020, §2.2): who a connection that a load balancer passes on comes from.
//!
//! The header is expected from configured addresses and from nobody else, and from those it must come: guessing would let
//! anybody choose the address that limits count. Whatever is not understood ends the connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Time for the whole header, from the connection on.
pub const HEADER: Duration = Duration::from_secs(5);

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const FIXED: usize = 16;
/// Longest rest: an address and what type-length-values say about TLS, certificates included.
const LONGEST: usize = 16 * 1024;

/// The load balancers: addresses and networks (`"10.0.0.7"`, `"10.1.0.0/16"`, `"fd00::/8"`) that speak this protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// True if connections from `address` begin with the header.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromIterator<IpNet> for Trusted {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| network(text).map_err(serde::de::Error::custom)).collect()
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
    parsed.map_err(|_| format!("{text:?} is neither an address nor a network like 10.0.0.0/8"))
}

/// Reads the header that `stream` begins with and not a byte more: whom the connection is from, or `None` if the load balancer
/// speaks for itself (LOCAL, as for its health checks) or for a peer that has no IP address.
///
/// # Errors
/// `InvalidData` for anything that is no header of version 2 over a stream, `TimedOut` after [`HEADER`], the stream's own.
pub async fn read_header<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Option<SocketAddr>> {
    within(HEADER, stream).await
}

async fn within<R: AsyncRead + Unpin>(limit: Duration, stream: &mut R) -> io::Result<Option<SocketAddr>> {
    tokio::time::timeout(limit, header(stream)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn header<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let (rest, kind) = parse_fixed(&fixed)?;
    let mut address = [0; 36];
    let address = &mut address[..kind.len()];
    stream.read_exact(address).await?;
    // What follows says more than is asked here.
    let mut left = rest - address.len();
    let mut ignored = [0; 256];
    while left > 0 {
        let part = left.min(ignored.len());
        left -= stream.read_exact(&mut ignored[..part]).await?;
    }
    Ok(kind.source(address))
}

/// What addresses the header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// None that count.
    Unnamed,
    V4,
    V6,
}

impl Kind {
    /// Bytes of both addresses and ports.
    const fn len(self) -> usize {
        match self {
            Self::Unnamed => 0,
            Self::V4 => 12,
            Self::V6 => 36,
        }
    }

    /// The source in `bytes`, which are [`Self::len`] long: addresses come before ports, the source's before the destination's.
    fn source(self, bytes: &[u8]) -> Option<SocketAddr> {
        let part = |at: usize, length: usize| bytes.get(at..at + length);
        let address = match self {
            Self::Unnamed => return None,
            Self::V4 => IpAddr::from(<[u8; 4]>::try_from(part(0, 4)?).ok()?),
            Self::V6 => IpAddr::from(<[u8; 16]>::try_from(part(0, 16)?).ok()?),
        };
        let port = <[u8; 2]>::try_from(part(self.len() - 4, 2)?).ok()?;
        Some(SocketAddr::new(address.to_canonical(), u16::from_be_bytes(port)))
    }
}

/// Length of what follows, and what it begins with.
fn parse_fixed(fixed: &[u8; FIXED]) -> io::Result<(usize, Kind)> {
    let [signature @ .., version_command, family, high, low] = fixed;
    let rest = usize::from(u16::from_be_bytes([*high, *low]));
    let kind = match (version_command, family) {
        _ if *signature != SIGNATURE || rest > LONGEST => None,
        (0x20, _) => Some(Kind::Unnamed),
        (0x21, 0x11) => Some(Kind::V4),
        (0x21, 0x21) => Some(Kind::V6),
        // Unspecified, or a stream over a Unix socket.
        (0x21, 0x00 | 0x31) => Some(Kind::Unnamed),
        _ => None,
    };
    kind.filter(|kind| kind.len() <= rest)
        .map(|kind| (rest, kind))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no PROXY header of version 2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    async fn read(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut stream = bytes;
        let source = read_header(&mut stream).await;
        (source, stream.len())
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x22, 0xB3];

    #[tokio::test]
    async fn the_source_is_read_and_what_follows_the_header_is_not() {
        let mut v6 = Vec::from(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).octets());
        v6.extend([0; 16]);
        v6.extend([0x30, 0x39, 0, 1]);
        // Two type-length-values, one longer than any buffer here.
        let more = [&V4[..], &[0x04, 0, 1, 0], &[0x20, 0x03, 0xE8], &[7; 1000]].concat();
        for (family, rest, expected) in [
            (0x11, V4.to_vec(), "192.0.2.7:12345"),
            (0x21, v6, "[2001:db8::9]:12345"),
            (0x11, more, "192.0.2.7:12345"),
        ] {
            let bytes = [header_of(0x21, family, &rest), b"next".to_vec()].concat();
            let (source, left) = read(&bytes).await;
            assert_eq!((source.unwrap(), left), (Some(expected.parse().unwrap()), 4));
        }
    }

    #[tokio::test]
    async fn a_mapped_address_counts_as_what_it_maps() {
        let mut mapped = Vec::from(std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets());
        mapped.extend([0; 20]);
        let source = read(&header_of(0x21, 0x21, &mapped)).await.0.unwrap().unwrap();
        assert_eq!(source.ip(), IpAddr::from([192, 0, 2, 7]));
    }

    #[tokio::test]
    async fn local_and_nameless_connections_are_the_load_balancers_own() {
        for (version_command, family, rest) in
            [(0x20, 0x00, &[][..]), (0x20, 0x11, &V4), (0x21, 0x00, &[1, 2, 3]), (0x21, 0x31, &[0; 216])]
        {
            let (source, left) = read(&header_of(version_command, family, rest)).await;
            assert_eq!((source.unwrap(), left), (None, 0), "{version_command:x} {family:x}");
        }
    }

    #[tokio::test]
    async fn whatever_else_it_is_it_is_an_error() {
        let good = header_of(0x21, 0x11, &V4);
        let mut wrong = vec![
            header_of(0x11, 0x11, &V4),
            header_of(0x22, 0x11, &V4),
            header_of(0x21, 0x12, &V4),
            header_of(0x21, 0x41, &V4),
            header_of(0x21, 0x11, &V4[..11]),
            header_of(0x21, 0x21, &V4),
            header_of(0x21, 0x00, &vec![0; LONGEST + 1]),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 8883\r\n".to_vec(),
            b"\x10\x10\0\x04MQTT\x05\x02\0\0\0\0\x03abc".to_vec(),
        ];
        wrong.extend((0..12).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        }));
        for bytes in wrong {
            assert_eq!(read(&bytes).await.0.unwrap_err().kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut]).await.0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_header_that_does_not_end_is_given_up() {
        let (mut here, mut there) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut there, &SIGNATURE).await.unwrap();
        let given_up = within(Duration::from_millis(5), &mut here).await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn addresses_and_networks_are_told_apart_from_others() {
        #[derive(Deserialize)]
        struct Section {
            trusted: Trusted,
        }
        let trusted = |text: &str| toml::from_str::<Section>(text).map(|section| section.trusted);
        let some = trusted(r#"trusted = ["10.1.0.0/16", "192.0.2.1", "fd00::/8"]"#).unwrap();
        for (address, expected) in [
            ("10.1.200.3", true),
            ("10.2.0.1", false),
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("fd12::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(some.contains(address.parse().unwrap()), expected, "{address}");
        }
        for wrong in ["10.0.0.0/33", "localhost", "", "10.0.0"] {
            assert!(trusted(&format!("trusted = [{wrong:?}]")).is_err(), "{wrong}");
        }
    }
}
