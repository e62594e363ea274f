//! Proving which client asks (RFC 6749 §2.3, RFC 7523 §2.2), over HTTP and MQTT alike.

pub mod assertion;

use std::net::IpAddr;

use oauth_wire::OAuthErrorCode;
use openidconnect::core::CoreJsonWebKey;
use zeroize::Zeroizing;

use self::assertion::Assertion;
use crate::audit::{Audit, Via};
use crate::flows::{Refusal, refuse, registration};
use crate::keys::Purpose;
use crate::state::App;
use crate::store::clients::{self, Client};
use crate::store::requests;

/// How a client presented itself.
pub enum Credentials {
    /// RFC 6749 §2.3.1, HTTP Basic; both parts form-decoded.
    Basic {
        /// The client's id.
        client_id: String,
        /// Its secret.
        secret: Zeroizing<String>,
    },
    /// RFC 6749 §2.3.1, in the request body.
    Post {
        /// The client's id.
        client_id: String,
        /// Its secret.
        secret: Zeroizing<String>,
    },
    /// RFC 7523 §2.2: a JWT that the client signed.
    Assertion {
        /// The client's id, if it stands beside.
        client_id: Option<String>,
        /// The JWT.
        assertion: Zeroizing<String>,
    },
    /// A public client that only names itself.
    Public {
        /// The client's id.
        client_id: String,
    },
    /// User name and password of an MQTT CONNECT.
    Mqtt {
        /// The client's id.
        client_id: String,
        /// Its secret.
        secret: Zeroizing<String>,
    },
}

/// What proves it.
enum Proof<'a> {
    /// A secret, by this method; none is MQTT's.
    Secret(&'a str, Option<&'static str>),
    Assertion(Assertion<'a>),
    Nothing,
}

/// The client that these credentials prove. A renewed secret that is used for the first time takes the old one's place.
///
/// # Errors
/// `invalid_client`; [`Refusal::TooMany`] before anything is hashed; [`Refusal::Busy`].
pub async fn authenticate(
    app: &App,
    address: IpAddr,
    via: Via,
    credentials: Credentials,
) -> Result<Client, Refusal> {
    let (client_id, proof) = match &credentials {
        Credentials::Basic { client_id, secret } => {
            (client_id.as_str(), Proof::Secret(secret, Some("client_secret_basic")))
        }
        Credentials::Post { client_id, secret } => {
            (client_id.as_str(), Proof::Secret(secret, Some("client_secret_post")))
        }
        Credentials::Mqtt { client_id, secret } => (client_id.as_str(), Proof::Secret(secret, None)),
        Credentials::Public { client_id } => (client_id.as_str(), Proof::Nothing),
        Credentials::Assertion { client_id, assertion } => {
            let parsed = Assertion::parse(assertion).and_then(|parsed| match client_id {
                Some(named) if named != parsed.client_id() => Err("client_id is not the assertion's"),
                _ => Ok(parsed),
            });
            match parsed {
                Ok(parsed) => (client_id.as_deref().unwrap_or(""), Proof::Assertion(parsed)),
                Err(why) => {
                    app.throttle.charge_address(address, app.clock.now_millis()).map_err(Refusal::TooMany)?;
                    Audit::ClientRefused { via, client: None, why }.record();
                    return wrong();
                }
            }
        }
    };
    let client_id = match &proof {
        Proof::Assertion(assertion) => assertion.client_id().to_owned(),
        Proof::Secret(..) | Proof::Nothing => client_id.to_owned(),
    };
    let attempt = app.throttle.attempt(address, &client_id, &app.clock).await.map_err(|wait| {
        Audit::ClientLimited { via }.record();
        Refusal::TooMany(wait)
    })?;
    let judged = judge(app, &client_id, &proof).await;
    match &judged {
        Ok(Ok(_)) => attempt.succeeded(),
        Ok(Err(Wrong { known, why })) => {
            let client = known.then_some(client_id);
            Audit::ClientRefused { via, client, why }.record();
            drop(attempt);
        }
        Err(_) => attempt.undecided(),
    }
    judged?.or_else(|_| wrong())
}

/// Why credentials prove nothing; for the log only.
struct Wrong {
    /// There is such a client.
    known: bool,
    why: &'static str,
}

async fn judge(app: &App, client_id: &str, proof: &Proof<'_>) -> Result<Result<Client, Wrong>, Refusal> {
    let client = clients::get(&mut *app.store.read().await?, client_id).await?;
    let known = client.is_some();
    let wrong = |why| Ok(Err(Wrong { known, why }));
    let why = match &client {
        None => "unknown client",
        Some(client) if client.disabled => "disabled",
        Some(_) => "another method is registered",
    };
    let usable = client.filter(|client| !client.disabled).filter(|client| match proof {
        Proof::Secret(_, Some(method)) => client.auth_method == *method,
        Proof::Secret(_, None) => client.is_device(),
        Proof::Assertion(_) => client.auth_method == "private_key_jwt",
        Proof::Nothing => client.is_public(),
    });
    let Some(client) = usable else {
        // It takes as long as with a client that may come in.
        if let Proof::Secret(secret, _) = proof {
            app.hasher.verify(secret, Vec::new()).await?;
        }
        return wrong(why);
    };
    match proof {
        Proof::Nothing => Ok(Ok(client)),
        Proof::Assertion(assertion) => {
            let jwks = registration::metadata_of(&client).and_then(|metadata| metadata.jwks);
            let keys = jwks.and_then(|jwks| assertion::keys(&jwks).ok()).unwrap_or_default();
            match once(app, assertion, &keys).await? {
                Ok(()) => Ok(Ok(client)),
                Err(why) => wrong(why),
            }
        }
        Proof::Secret(secret, _) => {
            let hashes: Vec<String> = client.secret.iter().chain(&client.renewed_secret).cloned().collect();
            let Some(found) = app.hasher.verify(secret, hashes.clone()).await? else {
                return wrong("wrong secret");
            };
            let fitting = &hashes[found.index];
            let renewed = client.renewed_secret.as_ref() == Some(fitting);
            if found.outdated || renewed {
                let phc = if found.outdated { app.hasher.hash(secret).await? } else { fitting.clone() };
                let mut tx = app.store.write().await?;
                clients::settle_secret(&mut tx, client_id, fitting, &phc).await?;
                tx.commit().await?;
            }
            Ok(Ok(client))
        }
    }
}

/// Verifies an assertion with the keys of whoever it names, and sees to it that it is used once, here and at every replica.
pub(crate) async fn once(
    app: &App,
    assertion: &Assertion<'_>,
    keys: &[CoreJsonWebKey],
) -> Result<Result<(), &'static str>, Refusal> {
    let once = match assertion.verify(keys, app.issuer_text(), app.clock.now()) {
        Ok(once) => once,
        Err(why) => return Ok(Err(why)),
    };
    let parts: [&[u8]; 4] = [b"assertion ", assertion.client_id().as_bytes(), &[0], once.jti.as_bytes()];
    let id = app.keys.mac(Purpose::Token, &parts);
    let mut tx = app.store.write_beside().await?;
    let first = requests::use_assertion(&mut tx, id.as_bytes(), once.until).await?;
    tx.commit().await?;
    Ok(if first { Ok(()) } else { Err("assertion was used before") })
}

fn wrong<T>() -> Result<T, Refusal> {
    refuse(OAuthErrorCode::InvalidClient, "client authentication failed")
}
