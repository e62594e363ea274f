//! What a device can ask for: topics, JSON payloads, and the flows behind them.

use oauth_wire::{OAuthError, OAuthErrorCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::flows::claim::{self, Window};
use crate::flows::token::{self, TokenRequest};
use crate::flows::{Refusal, refuse};
use crate::state::App;
use crate::store::clients::{self, Client};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Claim,
    Token,
    ClaimDone,
    Revoke,
    Reset,
}

const TOPICS: [(Topic, &str, &str); 5] = [
    (Topic::Claim, "$oauth/claim", "$oauth/claim/response"),
    (Topic::Token, "$oauth/token", "$oauth/token/response"),
    (Topic::ClaimDone, "$oauth/claim/done", "$oauth/claim/done/response"),
    (Topic::Revoke, "$oauth/revoke", "$oauth/revoke/response"),
    (Topic::Reset, "$oauth/reset", "$oauth/reset/response"),
];

impl Topic {
    /// The request topic of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        TOPICS.iter().find(|(_, request, _)| *request == name).map(|(topic, ..)| *topic)
    }

    /// The request topic whose response topic this is.
    pub(super) fn of_response(name: &str) -> Option<Self> {
        TOPICS.iter().find(|(_, _, response)| *response == name).map(|(topic, ..)| *topic)
    }

    /// Where answers go unless the request says otherwise.
    pub(super) fn response(self) -> &'static str {
        TOPICS.iter().find(|(topic, ..)| *topic == self).map_or("", |(_, _, response)| response)
    }
}

#[derive(Deserialize)]
struct ClaimRequest {
    code_challenge: String,
    code_challenge_method: String,
}

#[derive(Serialize)]
struct WindowOpen {
    status: &'static str,
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_code: Option<String>,
}

#[derive(Deserialize)]
struct TokenBody {
    grant_type: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    code_verifier: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    resource: Option<String>,
}

#[derive(Deserialize)]
struct RevokeBody {
    token: String,
}

#[derive(Deserialize, Serialize)]
struct Empty {}

/// The JSON answer to a request; an error's JSON where it was refused.
pub(super) async fn answer(
    app: &App,
    client_id: &str,
    connection: i64,
    topic: Topic,
    payload: &[u8],
) -> Zeroizing<Vec<u8>> {
    let answer = match topic {
        Topic::Claim => json(claim(app, client_id, connection, payload).await),
        Topic::Token => json(token(app, client_id, payload).await),
        Topic::ClaimDone => json(done(app, client_id, payload).await),
        Topic::Revoke => json(revoke(app, client_id, payload).await),
        Topic::Reset => json(reset(app, client_id, payload).await),
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

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(payload)
        .map_err(|_| Refusal::OAuth(OAuthErrorCode::InvalidRequest, "not the JSON object of this request"))
}

async fn claim(app: &App, client_id: &str, connection: i64, payload: &[u8]) -> Result<WindowOpen, Refusal> {
    let request: ClaimRequest = parse(payload)?;
    if request.code_challenge_method != "S256" {
        return refuse(OAuthErrorCode::InvalidRequest, "code_challenge_method must be S256");
    }
    let Window { expires_in, user_code } =
        claim::open_window(app, client_id, connection, &request.code_challenge).await?;
    Ok(WindowOpen { status: "window_open", expires_in, user_code })
}

async fn token(app: &App, client_id: &str, payload: &[u8]) -> Result<oauth_wire::TokenResponse, Refusal> {
    let body: TokenBody = parse(payload)?;
    let missing =
        Refusal::OAuth(OAuthErrorCode::InvalidRequest, "a parameter is missing, or does not belong here");
    let request = match (body.grant_type.as_str(), &body.code, &body.code_verifier, &body.refresh_token) {
        ("authorization_code", Some(code), Some(code_verifier), _) => TokenRequest::AuthorizationCode {
            code,
            code_verifier,
            redirect_uri: None,
            resource: body.resource.as_deref(),
        },
        ("refresh_token", _, None, Some(refresh_token)) => TokenRequest::RefreshToken {
            refresh_token,
            scope: body.scope.as_deref(),
            resource: body.resource.as_deref(),
        },
        ("authorization_code" | "refresh_token", ..) => return Err(missing),
        _ => {
            return refuse(
                OAuthErrorCode::UnsupportedGrantType,
                "authorization_code and refresh_token are supported",
            );
        }
    };
    token::answer(app, &client(app, client_id).await?, request).await
}

async fn done(app: &App, client_id: &str, payload: &[u8]) -> Result<Empty, Refusal> {
    let request: Empty = parse(payload)?;
    claim::done(app, client_id).await?;
    Ok(request)
}

async fn revoke(app: &App, client_id: &str, payload: &[u8]) -> Result<Empty, Refusal> {
    let request: RevokeBody = parse(payload)?;
    token::revoke(app, &client(app, client_id).await?, &request.token).await?;
    Ok(Empty {})
}

async fn reset(app: &App, client_id: &str, payload: &[u8]) -> Result<Empty, Refusal> {
    let request: Empty = parse(payload)?;
    claim::reset(app, client_id).await?;
    Ok(request)
}

/// The client as it is now: it may have been disabled or deleted while its connection lived.
async fn client(app: &App, client_id: &str) -> Result<Client, Refusal> {
    match clients::get(&mut *app.store.read().await?, client_id).await?.filter(|client| !client.disabled) {
        Some(client) => Ok(client),
        None => refuse(OAuthErrorCode::InvalidClient, "the client is not registered any more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_their_responses() {
        for (topic, request, response) in TOPICS {
            assert_eq!(Topic::of(request), Some(topic));
            assert_eq!(Topic::of(response), None);
            assert_eq!(Topic::of_response(response), Some(topic));
            assert_eq!(format!("{request}/response"), topic.response());
        }
        for stranger in ["$oauth", "$oauth/claim/", "$oauth/#", "oauth/claim", "$OAUTH/claim"] {
            assert_eq!(Topic::of(stranger), None);
        }
    }
}
