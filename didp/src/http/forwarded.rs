//! Whose request a proxy passes on (RFC 7239, or `X-Forwarded-For`). Believed only from proxies that the operator named, hop
//! by hop from the nearest one; what anybody else sends of this kind is not looked at.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;

use super::Peer;
use crate::config::ForwardedHeader;
use crate::state::App;

/// Puts the client's address in the place of the proxy's, for the handlers.
pub(super) async fn resolve(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if let Some(ConnectInfo(peer)) = request.extensions().get::<Peer>().copied()
        && app.config.is_trusted_proxy(peer.ip())
    {
        let hops = hops(request.headers(), app.config.forwarded_header);
        let client = client(peer.ip(), &hops, |address| app.config.is_trusted_proxy(address));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, peer.port())));
    }
    next.run(request).await
}

/// The nearest address that no trusted proxy has, or the farthest one that could be read. `hops` begins far away.
fn client(peer: IpAddr, hops: &[Option<IpAddr>], trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut nearest = peer;
    for hop in hops.iter().rev() {
        if !trusted(nearest) {
            break;
        }
        // Beyond what cannot be read nobody vouches for anything.
        let Some(address) = hop else { break };
        nearest = *address;
    }
    nearest
}

/// The addresses in the header, in their order; none for what is not an address.
fn hops(headers: &HeaderMap, header: ForwardedHeader) -> Vec<Option<IpAddr>> {
    let (name, address): (_, fn(&str) -> Option<IpAddr>) = match header {
        ForwardedHeader::XForwardedFor => ("x-forwarded-for", node),
        ForwardedHeader::Forwarded => ("forwarded", element),
    };
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| match line.to_str() {
            Ok(text) => text.split(',').map(|hop| address(hop.trim())).collect(),
            Err(_) => vec![None],
        })
        .collect()
}

/// A forwarded-element (RFC 7239 §4). A comma within quotes cannot stand in an address.
fn element(text: &str) -> Option<IpAddr> {
    let mut values = text.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    });
    match (values.next(), values.next()) {
        (Some(value), None) => node(value),
        _ => None,
    }
}

/// An address with or without a port, IPv6 with or without brackets (RFC 7239 §6).
fn node(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(bare);
    address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(header: ForwardedHeader, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let peer = "10.0.0.1".parse().unwrap();
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        client(peer, &hops(&headers, header), trusted).to_string()
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_is_the_clients() {
        let x = |value: &str| resolved(ForwardedHeader::XForwardedFor, &[("x-forwarded-for", value)]);
        assert_eq!(x("203.0.113.9"), "203.0.113.9");
        assert_eq!(
            x("192.0.2.66, 203.0.113.9, 10.0.0.2"),
            "203.0.113.9",
            "what is before it, the client made up"
        );
        assert_eq!(x("10.0.0.3, 10.0.0.2"), "10.0.0.3");
        assert_eq!(x("203.0.113.9:4711"), "203.0.113.9");
        assert_eq!(x("2001:db8::7"), "2001:db8::7");
        assert_eq!(x("[2001:db8::7]:99"), "2001:db8::7");
        for nonsense in ["", "unknown", "203.0.113.9, _hidden", "1.2.3", "203.0.113.9,"] {
            assert_eq!(x(nonsense), "10.0.0.1", "{nonsense:?}");
        }
    }

    #[test]
    fn forwarded_elements_are_read_as_rfc_7239_writes_them() {
        let f = |value: &str| resolved(ForwardedHeader::Forwarded, &[("forwarded", value)]);
        assert_eq!(f("for=203.0.113.9;proto=https;by=10.0.0.1"), "203.0.113.9");
        assert_eq!(f("For=\"[2001:db8::7]:4711\""), "2001:db8::7");
        assert_eq!(f("for=192.0.2.66, for=203.0.113.9, for=10.0.0.2"), "203.0.113.9");
        for nonsense in ["for=unknown", "for=_x", "proto=https", "for=192.0.2.1;for=192.0.2.2"] {
            assert_eq!(f(nonsense), "10.0.0.1", "{nonsense}");
        }
    }

    #[test]
    fn only_the_configured_header_counts_and_its_lines_are_one_list() {
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
        assert_eq!(resolved(ForwardedHeader::XForwardedFor, &both), "192.0.2.1");
        assert_eq!(resolved(ForwardedHeader::Forwarded, &both), "192.0.2.2");
        let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(resolved(ForwardedHeader::XForwardedFor, &lines), "192.0.2.1");
    }
}
