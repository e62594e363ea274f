//! Who asks: a client (RFC 6749 §2.3), a gateway, or the bearer of a registration token (RFC 6750 §2.1).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use oauth_wire::OAuthErrorCode;
use zeroize::Zeroizing;

use super::body::Form;
use super::problem::Problem;
use crate::flows::clients::{self, Credentials};
use crate::flows::{Refusal, introspection};
use crate::state::{App, Gateway};
use crate::store::clients::Client;

/// The client that a request to the token or revocation endpoint proves.
pub(super) async fn client(
    app: &App,
    address: IpAddr,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Client, Problem> {
    let credentials = credentials(headers, form)?;
    Ok(clients::authenticate(app, address, credentials).await?)
}

fn credentials(headers: &HeaderMap, form: &Form) -> Result<Credentials, Problem> {
    let named = form.optional("client_id")?;
    let sent = form.optional("client_secret")?;
    if headers.contains_key(header::AUTHORIZATION) {
        let (client_id, secret) = basic(headers).ok_or_else(wrong)?;
        // RFC 6749 §2.3: one method a request.
        if sent.is_some() || named.is_some_and(|named| named != client_id) {
            return Err(Problem::of(OAuthErrorCode::InvalidRequest, "more than one client authentication"));
        }
        return Ok(Credentials::Basic { client_id, secret });
    }
    let client_id = named.ok_or_else(wrong)?.to_owned();
    Ok(match sent {
        Some(secret) => Credentials::Post { client_id, secret: Zeroizing::new(secret.to_owned()) },
        None => Credentials::Public { client_id },
    })
}

/// The gateway that a request proves. Comparing costs nothing worth a limit, and a right secret is never made to wait for the
/// wrong ones of others; those are counted for their address.
pub(super) fn gateway<'a>(
    app: &'a App,
    address: IpAddr,
    headers: &HeaderMap,
) -> Result<&'a Gateway, Problem> {
    let credentials = basic(headers);
    let proven = credentials.and_then(|(client_id, secret)| introspection::gateway(app, &client_id, &secret));
    match proven {
        Some(gateway) => Ok(gateway),
        None => match app.throttle.charge_address(address, app.clock.now_millis()) {
            Ok(()) => Err(wrong()),
            Err(wait) => Err(Refusal::TooMany(wait).into()),
        },
    }
}

/// The bearer token of a request, if it has one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| scheme(value, "bearer"));
    token.map(Some).ok_or(Problem::of(OAuthErrorCode::InvalidToken, "Authorization must be Bearer"))
}

fn wrong() -> Problem {
    Problem::of(OAuthErrorCode::InvalidClient, "client authentication failed")
}

fn scheme<'a>(value: &'a str, expected: &str) -> Option<&'a str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(expected).then(|| rest.trim())
}

/// User name and password of HTTP Basic, each form-decoded as RFC 6749 §2.3.1 asks.
fn basic(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let encoded = scheme(headers.get(header::AUTHORIZATION)?.to_str().ok()?, "basic")?;
    let decoded = Zeroizing::new(String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?);
    let (user, password) = decoded.split_once(':')?;
    Some((form_decoded(user)?, Zeroizing::new(form_decoded(password)?)))
}

fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(text)).parse().unwrap());
        headers
    }

    #[test]
    fn checklist_12_basic_credentials_are_form_decoded() {
        let (user, password) = basic(&headers("a%3Ab:p%2Bq+r%C3%A9")).unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("a:b", "p+q ré"));
        for bad in ["no colon", "a:%zz", "a:%4", "a:%ff"] {
            assert!(basic(&headers(bad)).is_none(), "{bad}");
        }
    }
}
