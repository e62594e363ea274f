//! What a device can ask for, and the flows behind it. How requests look is [`oauth_wire::DeviceRequest`]'s.

use oauth_wire::{DeviceRequest, OAuthError, OAuthErrorCode, RequestTopic, TokenResponse};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::flows::claim::{self, Window};
use crate::flows::token::{self, TokenRequest};
use crate::flows::{Refusal, refuse};
use crate::state::App;
use crate::store::clients::{self, Client};

#[derive(Serialize)]
struct WindowOpen {
    status: &'static str,
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_code: Option<String>,
}

#[derive(Serialize)]
struct Empty {}

/// The JSON answer to a request; an error's JSON where it was refused.
pub(super) async fn answer(
    app: &App,
    client_id: &str,
    connection: i64,
    topic: RequestTopic,
    payload: &[u8],
) -> Zeroizing<Vec<u8>> {
    let answer = match DeviceRequest::parse(topic, payload) {
        Err((code, why)) => refuse(code, why),
        Ok(DeviceRequest::Claim { code_challenge }) => {
            json(claim(app, client_id, connection, &code_challenge).await)
        }
        Ok(DeviceRequest::Redeem { code, code_verifier, resource }) => {
            let (code, code_verifier) = (Zeroizing::new(code), Zeroizing::new(code_verifier));
            let request = TokenRequest::AuthorizationCode {
                code: &code,
                code_verifier: &code_verifier,
                redirect_uri: None,
                resource: resource.as_deref(),
            };
            json(token(app, client_id, request).await)
        }
        Ok(DeviceRequest::Refresh { refresh_token, scope, resource }) => {
            let refresh_token = Zeroizing::new(refresh_token);
            let request = TokenRequest::RefreshToken {
                refresh_token: &refresh_token,
                scope: scope.as_deref(),
                resource: resource.as_deref(),
            };
            json(token(app, client_id, request).await)
        }
        Ok(DeviceRequest::ClaimDone) => json(claim::done(app, client_id).await.map(|()| Empty {})),
        Ok(DeviceRequest::Revoke { token }) => json(revoke(app, client_id, &Zeroizing::new(token)).await),
        Ok(DeviceRequest::Reset) => json(claim::reset(app, client_id).await.map(|()| Empty {})),
    };
    answer.unwrap_or_else(|refusal| {
        refusal.log("mqtt_request_refused");
        let error: OAuthError = refusal.answer();
        Zeroizing::new(serde_json::to_vec(&error).unwrap_or_default())
    })
}

fn json<T: Serialize>(answer: Result<T, Refusal>) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    serde_json::to_vec(&answer?)
        .map(Zeroizing::new)
        .map_err(|_| Refusal::OAuth(OAuthErrorCode::ServerError, "the answer cannot be written"))
}

async fn claim(
    app: &App,
    client_id: &str,
    connection: i64,
    code_challenge: &str,
) -> Result<WindowOpen, Refusal> {
    let Window { expires_in, user_code } =
        claim::open_window(app, client_id, connection, code_challenge).await?;
    Ok(WindowOpen { status: "window_open", expires_in, user_code })
}

async fn token(app: &App, client_id: &str, request: TokenRequest<'_>) -> Result<TokenResponse, Refusal> {
    token::answer(app, &client(app, client_id).await?, request).await
}

async fn revoke(app: &App, client_id: &str, token: &str) -> Result<Empty, Refusal> {
    token::revoke(app, &client(app, client_id).await?, token).await?;
    Ok(Empty {})
}

/// The client as it is now: it may have been disabled or deleted while its connection lived.
async fn client(app: &App, client_id: &str) -> Result<Client, Refusal> {
    match clients::get(&mut *app.store.read().await?, client_id).await?.filter(|client| !client.disabled) {
        Some(client) => Ok(client),
        None => refuse(OAuthErrorCode::InvalidClient, "the client is not registered any more"),
    }
}
