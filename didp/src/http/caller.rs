//! Who asks: a client (RFC 6749 §2.3), a gateway, or the bearer of a registration token (RFC 6750 §2.1).

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, header};
use oauth_wire::OAuthErrorCode;
use zeroize::Zeroizing;

use super::body::Form;
use super::problem::Problem;
use crate::audit::{Audit, Via};
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
    Ok(clients::authenticate(app, address, Via::Http, credentials).await?)
}

fn credentials(headers: &HeaderMap, form: &Form) -> Result<Credentials, Problem> {
    let named = form.optional("client_id")?;
    let sent = form.optional("client_secret")?;
    if let Some(assertion) = assertion(form)? {
        if sent.is_some() || headers.contains_key(header::AUTHORIZATION) {
            return Err(several());
        }
        let assertion = Zeroizing::new(assertion.to_owned());
        return Ok(Credentials::Assertion { client_id: named.map(str::to_owned), assertion });
    }
    if headers.contains_key(header::AUTHORIZATION) {
        let (client_id, secret) = basic(headers).ok_or_else(wrong)?;
        if sent.is_some() || named.is_some_and(|named| named != client_id) {
            return Err(several());
        }
        return Ok(Credentials::Basic { client_id, secret });
    }
    let client_id = named.ok_or_else(wrong)?.to_owned();
    Ok(match sent {
        Some(secret) => Credentials::Post { client_id, secret: Zeroizing::new(secret.to_owned()) },
        None => Credentials::Public { client_id },
    })
}

/// The client assertion of a form (RFC 7523 §2.2), if there is one.
fn assertion(form: &Form) -> Result<Option<&str>, Problem> {
    match (form.optional("client_assertion_type")?, form.optional("client_assertion")?) {
        (None, None) => Ok(None),
        (Some(clients::assertion::TYPE), Some(assertion)) => Ok(Some(assertion)),
        _ => Err(Problem::of(OAuthErrorCode::InvalidClient, "client_assertion_type must be jwt-bearer")),
    }
}

/// The gateway that a request proves. Comparing costs nothing worth a limit, and a right secret is never made to wait for the
/// wrong ones of others; those are counted for their address.
pub(super) async fn gateway(
    app: &App,
    address: IpAddr,
    headers: &HeaderMap,
    form: Option<&Form>,
) -> Result<Arc<Gateway>, Problem> {
    let assertion = form.map(assertion).transpose()?.flatten();
    let proven = match assertion {
        Some(_) if headers.contains_key(header::AUTHORIZATION) => return Err(several()),
        Some(assertion) => introspection::gateway_by_assertion(app, assertion).await?,
        None => basic(headers)
            .and_then(|(client_id, secret)| introspection::gateway(app, &client_id, &secret))
            .ok_or("wrong credentials"),
    };
    proven.map_err(|why| match app.throttle.charge_address(address, app.clock.now_millis()) {
        Ok(()) => {
            Audit::GatewayRefused { why }.record();
            wrong()
        }
        Err(wait) => Refusal::TooMany(wait).into(),
    })
}

/// The bearer token of a request, if it has one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| oauth_wire::scheme(value, "bearer"));
    token.map(Some).ok_or(Problem::of(OAuthErrorCode::InvalidToken, "Authorization must be Bearer"))
}

fn several() -> Problem {
    // RFC 6749 §2.3: one method a request.
    Problem::of(OAuthErrorCode::InvalidRequest, "more than one client authentication")
}

fn wrong() -> Problem {
    Problem::of(OAuthErrorCode::InvalidClient, "client authentication failed")
}

/// User name and password of HTTP Basic.
fn basic(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let (user, password) = oauth_wire::basic(headers.get(header::AUTHORIZATION)?.to_str().ok()?)?;
    Some((user, Zeroizing::new(password)))
}
