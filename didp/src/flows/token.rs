//! Tokens: redeeming codes (RFC 6749 §4.1.3, RFC 7636), refreshing (§6), revoking (RFC 7009).
//!
//! **The line of a grant.** A code or a refresh token that is presented mints a fresh pair, its child. Presenting it again
//! mints a sibling, because the first answer may have been lost. Every sibling is good until one of them is *used*: its
//! refresh token presented, or its access token accepted at introspection. The use makes it the current one and kills all
//! others of the grant in one statement. So at any time a grant holds one current node and its fresh children, and nothing
//! else that is alive. Presenting a dead handle means that two parties hold it: the grant ends, and the owner is told.
//! A device's code is the parent of its first pair; an app's code is good once (it can always ask the owner again).

use oauth_wire::{OAuthErrorCode, TokenResponse};
use service::secret;
use zeroize::Zeroizing;

use crate::audit::{Audit, By};
use crate::flows::account::NoticeKind;
use crate::flows::account::apps::end_app;
use crate::flows::change::Change;
use crate::flows::details::{self, Audience};
use crate::flows::{Refusal, device_authorization, ownership, refuse};
use crate::keys::Purpose;
use crate::state::App;
use crate::store::clients::{self, Client};
use crate::store::grants::{self, Grant};
use crate::store::notices;
use crate::store::tokens::{self, NewNode, Node};
use crate::store::{Conn, claims};

/// Fresh siblings at most; one more evicts the oldest.
pub const SIBLINGS: usize = 8;

/// A token request, after the client proved itself.
pub enum TokenRequest<'a> {
    /// RFC 6749 §4.1.3.
    AuthorizationCode {
        /// The code.
        code: &'a str,
        /// RFC 7636 §4.5.
        code_verifier: &'a str,
        /// An app's; a device has none.
        redirect_uri: Option<&'a str>,
        /// RFC 8707 §2.
        resource: Option<&'a str>,
    },
    /// RFC 6749 §6.
    RefreshToken {
        /// The refresh token.
        refresh_token: &'a str,
        /// Must lie within what was granted.
        scope: Option<&'a str>,
        /// RFC 8707 §2.
        resource: Option<&'a str>,
    },
    /// RFC 8628 §3.4.
    DeviceCode {
        /// The device_code.
        device_code: &'a str,
    },
}

/// Answers a token request.
///
/// # Errors
/// RFC 6749 §5.2.
pub async fn answer(app: &App, client: &Client, request: TokenRequest<'_>) -> Result<TokenResponse, Refusal> {
    match request {
        TokenRequest::AuthorizationCode { code, code_verifier, redirect_uri, resource } => {
            let proof = Proof { code_verifier, redirect_uri };
            present(app, client, Handle::Code(code, proof), None, resource).await
        }
        TokenRequest::RefreshToken { refresh_token, scope, resource } => {
            present(app, client, Handle::Refresh(refresh_token), scope, resource).await
        }
        TokenRequest::DeviceCode { device_code } => {
            device_authorization::poll(app, client, device_code).await
        }
    }
}

/// What a client presents for tokens.
#[derive(Clone, Copy)]
pub(crate) enum Handle<'a> {
    /// An authorization code.
    Code(&'a str, Proof<'a>),
    /// A refresh token.
    Refresh(&'a str),
    /// The device_code of RFC 8628, once its owner allowed.
    DeviceCode(&'a str),
}

impl<'a> Handle<'a> {
    /// What its keyed hash is of. A device_code is no refresh token, so it is looked for apart.
    pub(crate) fn parts(self) -> [&'a [u8]; 2] {
        match self {
            Self::Code(text, _) | Self::Refresh(text) => [b"", text.as_bytes()],
            Self::DeviceCode(text) => [b"device code ", text.as_bytes()],
        }
    }
}

/// What an authorization code is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Proof<'a> {
    code_verifier: &'a str,
    redirect_uri: Option<&'a str>,
}

pub(crate) async fn present(
    app: &App,
    client: &Client,
    handle: Handle<'_>,
    scope: Option<&str>,
    resource: Option<&str>,
) -> Result<TokenResponse, Refusal> {
    // Anybody can send made-up handles; they must not queue for the writer, nor cost a hash.
    let Some((_, known)) = find(app, &mut *app.store.read().await?, handle).await? else {
        return invalid_grant();
    };
    // Hashing the renewed secret is slow, so it is done before the writer is held.
    let (proof, renewed) = match handle {
        Handle::Code(code, proof) if client.is_device() => {
            (Some(proof), Some(renewed_secret(app, code).await?))
        }
        Handle::Code(_, proof) => (Some(proof), None),
        Handle::Refresh(_) | Handle::DeviceCode(_) => (None, None),
    };
    let now = app.clock.now();
    let mut change = match &proof {
        Some(_) => Change::begin(app).await?,
        None => Change::of_grant(app, &known).await?,
    };
    let Some((node, grant)) = find(app, change.conn(), handle).await? else { return invalid_grant() };
    if grant.client_id != client.client_id || node.challenge.is_some() != proof.is_some() {
        return invalid_grant();
    }
    let retried_late = client.is_public()
        && node.presented_at.is_some_and(|first| now - first > app.config.lifetimes.public_retry);
    if node.state == "dead" || (node.state == "current" && retried_late) {
        return replayed(app, change, &grant).await;
    }
    if node.expires_at <= now || grant.expires_at.is_some_and(|end| end <= now) {
        return invalid_grant();
    }
    if let (Some(challenge), Some(proof)) = (&node.challenge, &proof) {
        let fits = is_verifier(proof.code_verifier)
            && secret::equal(
                secret::encode(secret::sha256(proof.code_verifier.as_bytes())).as_bytes(),
                challenge.as_bytes(),
            );
        if !fits || node.redirect_uri.as_deref() != proof.redirect_uri {
            return invalid_grant();
        }
    }
    if resource.is_some_and(|resource| {
        app.gateway(&grant.gateway).is_none_or(|gateway| gateway.resource != resource)
    }) {
        return refuse(OAuthErrorCode::InvalidTarget, "the grant is for another resource");
    }
    let granted = grant.scope.parse().unwrap_or(oauth_wire::Scope::EMPTY);
    if let Some(scope) = scope {
        match scope.parse::<oauth_wire::Scope>() {
            // An owner may have changed it since; the answer says what it is.
            Ok(asked) if asked == granted || asked == details::first_scope(&grant) => {}
            Ok(asked) if granted.includes(asked) => {
                return refuse(OAuthErrorCode::InvalidScope, "a narrower scope is the owner's to choose");
            }
            _ => return refuse(OAuthErrorCode::InvalidScope, "the scope is not within what was granted"),
        }
    }

    let first_use = node.state == "fresh";
    if first_use {
        used(app, &mut change, &node, &grant).await?;
    }
    if !matches!(handle, Handle::Refresh(_)) {
        redeemed(app, &mut change, &grant, renewed.as_ref()).await?;
    }
    // An app can always ask its owner again, so that its code is good once. A device_code is polled with, and its answer may be lost.
    if matches!(handle, Handle::Code(..)) && !grant.is_device() {
        tokens::kill(change.conn(), node.id).await?;
    }
    if !first_use {
        make_room(&mut change, &grant).await?;
    }
    tokens::note_presented(change.conn(), node.id, now).await?;
    if app.keys.has_older(Purpose::Token) {
        let newest = app.keys.mac(Purpose::Token, &handle.parts());
        tokens::rewrap(change.conn(), node.id, newest.as_bytes()).await?;
    }
    let response = mint(app, &mut change, &node, &grant, renewed.map(|(secret, _)| secret)).await?;
    change.commit(app).await?;
    Ok(response)
}

/// The node of a handle with its grant.
async fn find(app: &App, conn: &mut Conn, handle: Handle<'_>) -> Result<Option<(Node, Grant)>, Refusal> {
    for candidate in app.keys.candidates(Purpose::Token, &handle.parts()) {
        if let Some(found) = tokens::with_grant(conn, candidate.as_bytes()).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A fresh node is used: it becomes the current one, and all others of its grant die. A device that uses what it got has
/// stored it, so its claim is complete, even if its report was lost.
pub(crate) async fn used(
    app: &App,
    change: &mut Change,
    node: &Node,
    grant: &Grant,
) -> Result<bool, Refusal> {
    let won = tokens::take_over(change.conn(), node).await?;
    if won && grant.is_device() && grant.state == "pending" {
        ownership::complete(app, change, &grant.client_id).await?;
    }
    Ok(won)
}

/// What the redemption of a code changes beside the line.
async fn redeemed(
    app: &App,
    change: &mut Change,
    grant: &Grant,
    renewed: Option<&(Zeroizing<String>, String)>,
) -> Result<(), Refusal> {
    let now = app.clock.now();
    if grant.is_device() {
        if let Some((_, phc)) = renewed {
            clients::renew_secret(change.conn(), &grant.client_id, phc).await?;
        }
        clients::end_registration(change.conn(), &grant.client_id).await?;
        if let Some(claim) = claims::alive(change.conn(), &grant.client_id).await?
            && claim.grant_id == Some(grant.id)
        {
            let deadline = now + app.config.lifetimes.claim_completion;
            claims::advance(change.conn(), claim.id, "granted", "redeemed", deadline).await?;
            change.claim_changed();
        }
    } else if grants::activate(change.conn(), grant.id).await? {
        let name = clients::get(change.conn(), &grant.client_id).await?.map(|client| client.name);
        let name = name.unwrap_or_default();
        notices::insert(change.conn(), grant.user_id, now, NoticeKind::AppAllowed.name(), &name).await?;
        change.changed(grant.user_id, &grant.gateway, now).await?;
        change.note(Audit::AppAllowed { client: grant.client_id.clone() });
    }
    Ok(())
}

/// Evicts the oldest fresh siblings, so that one more has a place.
async fn make_room(change: &mut Change, grant: &Grant) -> Result<(), Refusal> {
    let fresh = tokens::fresh(change.conn(), grant.id).await?;
    for oldest in fresh.iter().take((fresh.len() + 1).saturating_sub(SIBLINGS)) {
        tokens::kill(change.conn(), *oldest).await?;
    }
    Ok(())
}

async fn mint(
    app: &App,
    change: &mut Change,
    parent: &Node,
    grant: &Grant,
    client_secret: Option<Zeroizing<String>>,
) -> Result<TokenResponse, Refusal> {
    let now = app.clock.now();
    let lifetimes = &app.config.lifetimes;
    let (access_life, idle, absolute) = if grant.is_device() {
        (lifetimes.device_access_token, lifetimes.device_refresh_idle, lifetimes.device_refresh_absolute)
    } else {
        (lifetimes.app_access_token, lifetimes.app_refresh_idle, lifetimes.app_refresh_absolute)
    };
    let grant_ends = grant.expires_at.unwrap_or(i64::MAX).min(grant.created_at + absolute);
    if grant_ends <= now {
        return invalid_grant();
    }
    let access_expires = (now + access_life).min(grant_ends);
    let access_token = format!("{}.{}", app.config.tag, secret::random_token::<32>());
    let refresh_token = secret::random_token::<32>();
    let access = app.keys.mac(Purpose::Token, &[access_token.as_bytes()]);
    let handle = app.keys.mac(Purpose::Token, &[refresh_token.as_bytes()]);
    let node = NewNode {
        grant_id: grant.id,
        parent: Some(parent.id),
        state: "fresh",
        handle: handle.as_bytes(),
        access: Some((access.as_bytes(), access_expires)),
        challenge: None,
        redirect_uri: None,
        expires_at: (now + idle).min(grant_ends),
    };
    tokens::insert(change.conn(), &node).await?;
    let Some(gateway) = app.gateway(&grant.gateway) else {
        return refuse(OAuthErrorCode::ServerError, "the grant's gateway is not configured any more");
    };
    let authorization_details = match grant.is_device() {
        true => None,
        false => Some(details::of_grant(change.conn(), grant, Audience::App).await?),
    };
    Ok(TokenResponse {
        access_token,
        token_type: "Bearer".into(),
        expires_in: access_expires - now,
        refresh_token,
        scope: grant.scope.parse().unwrap_or(oauth_wire::Scope::EMPTY),
        gateway: gateway.address.clone(),
        authorization_details,
        client_secret: client_secret.map(|secret| secret.to_string()),
    })
}

/// Somebody presented what is dead: the line ends for everybody, and the owner is told.
async fn replayed(app: &App, mut change: Change, grant: &Grant) -> Result<TokenResponse, Refusal> {
    if grant.is_device() {
        ownership::suspend(app, &mut change, grant, By::Replay).await?;
    } else {
        end_app(&mut change, grant, By::Replay, app.clock.now()).await?;
    }
    change.note(Audit::TokenReplayed { client: grant.client_id.clone() });
    change.commit(app).await?;
    invalid_grant()
}

/// Revokes a token of this client (RFC 7009 §2). A refresh token or a code ends the grant; an access token ends alone. A token that
/// is unknown, or another client's, changes nothing and is no error; the answer is false for one that nobody has.
///
/// # Errors
/// The store cannot answer.
pub async fn revoke(app: &App, client: &Client, token: &str) -> Result<bool, Refusal> {
    if !is_known(app, token).await? {
        return Ok(false);
    }
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    if let Some((_, grant)) = find(app, change.conn(), Handle::Refresh(token)).await? {
        if grant.client_id != client.client_id {
            return Ok(true);
        }
        if grant.is_device() {
            ownership::suspend(app, &mut change, &grant, By::Client).await?;
        } else {
            end_app(&mut change, &grant, By::Client, now).await?;
        }
        change.commit(app).await?;
        return Ok(true);
    }
    for candidate in app.keys.candidates(Purpose::Token, &[token.as_bytes()]) {
        if let Some(node) = tokens::by_access(change.conn(), candidate.as_bytes()).await?
            && let Some(grant) = grants::get(change.conn(), node.grant_id).await?
            && grant.client_id == client.client_id
        {
            tokens::kill_access(change.conn(), node.id).await?;
            // Gateways look at their live sessions again, and find this one's token gone.
            change.changed(grant.user_id, &grant.gateway, now).await?;
            change.commit(app).await?;
            return Ok(true);
        }
    }
    Ok(true)
}

/// True if this is, or lately was, a code, a refresh token or an access token of anybody; asked without the writer.
async fn is_known(app: &App, token: &str) -> Result<bool, Refusal> {
    let mut conn = app.store.read().await?;
    for candidate in app.keys.candidates(Purpose::Token, &[token.as_bytes()]) {
        if tokens::by_handle(&mut conn, candidate.as_bytes()).await?.is_some()
            || tokens::by_access(&mut conn, candidate.as_bytes()).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The secret that a claim gives a device, with its PHC string. Derived from the code, so that redeeming it again after a lost
/// answer tells the same secret; whoever made the device has neither the code nor the key.
async fn renewed_secret(app: &App, code: &str) -> Result<(Zeroizing<String>, String), Refusal> {
    let derived = Zeroizing::new(app.keys.key(Purpose::ClientSecret).hmac(&[b"renewed ", code.as_bytes()]));
    let secret = Zeroizing::new(secret::encode(*derived));
    let phc = app.hasher.hash(&secret).await?;
    Ok((secret, phc))
}

/// RFC 7636 §4.1: 43 to 128 unreserved characters.
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}

fn invalid_grant<T>() -> Result<T, Refusal> {
    refuse(
        OAuthErrorCode::InvalidGrant,
        "the code or refresh token is unknown, used, expired or another client's",
    )
}
