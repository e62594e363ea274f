//! Proving which client asks (RFC 6749 §2.3), over HTTP and MQTT alike.

use std::net::IpAddr;

use oauth_wire::OAuthErrorCode;
use zeroize::Zeroizing;

use crate::flows::{Refusal, refuse};
use crate::state::App;
use crate::store::clients::{self, Client};

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

/// The client that these credentials prove. A renewed secret that is used for the first time takes the old one's place.
///
/// # Errors
/// `invalid_client`; [`Refusal::TooMany`] before anything is hashed; [`Refusal::Busy`].
pub async fn authenticate(app: &App, address: IpAddr, credentials: Credentials) -> Result<Client, Refusal> {
    let (client_id, secret, method) = match credentials {
        Credentials::Basic { client_id, secret } => (client_id, Some(secret), Some("client_secret_basic")),
        Credentials::Post { client_id, secret } => (client_id, Some(secret), Some("client_secret_post")),
        Credentials::Public { client_id } => (client_id, None, Some("none")),
        Credentials::Mqtt { client_id, secret } => (client_id, Some(secret), None),
    };
    let attempt =
        app.throttle.attempt(address, &client_id, app.clock.now_millis()).map_err(Refusal::TooMany)?;
    let known = clients::get(&mut *app.store.read().await?, &client_id).await?;
    let client = known.filter(|client| match method {
        Some(method) => client.auth_method == method,
        None => client.is_device(),
    });
    match (client, secret) {
        (Some(client), None) => {
            attempt.succeeded();
            usable(client)
        }
        (Some(client), Some(secret)) => {
            let hashes: Vec<String> = client.secret.iter().chain(&client.renewed_secret).cloned().collect();
            let Some(found) = app.hasher.verify(&secret, hashes.clone()).await? else { return wrong() };
            attempt.succeeded();
            let fitting = &hashes[found.index];
            let renewed = client.renewed_secret.as_ref() == Some(fitting);
            if found.outdated || renewed {
                let phc = if found.outdated { app.hasher.hash(&secret).await? } else { fitting.clone() };
                let mut tx = app.store.write().await?;
                clients::settle_secret(&mut tx, &client_id, fitting, &phc).await?;
                tx.commit().await?;
            }
            usable(client)
        }
        (None, Some(secret)) => {
            app.hasher.verify(&secret, Vec::new()).await?;
            wrong()
        }
        (None, None) => wrong(),
    }
}

fn usable(client: Client) -> Result<Client, Refusal> {
    if client.disabled { wrong() } else { Ok(client) }
}

fn wrong<T>() -> Result<T, Refusal> {
    refuse(OAuthErrorCode::InvalidClient, "client authentication failed")
}
