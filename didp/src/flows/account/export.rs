//! Everything that is kept of an owner, as JSON: for the owner, and for whoever builds what an owner moves to.
//!
//! Left out is what is no data of the owner but a key to it: hashes of tokens and secrets, and the share of the PCM's key.

use oauth_wire::AuthorizationDetail;
use serde::Serialize;

use super::app_host;
use super::past::{self, NoticeKind};
use crate::audit::Audit;
use crate::flows::Refusal;
use crate::flows::details::{self, Audience};
use crate::flows::exactness::Exactness;
use crate::flows::login::Session;
use crate::state::App;
use crate::store::{clients, grants, notices, ownerships, sessions, users};

/// Version of the form; a member that is added does not change it.
const VERSION: u32 = 1;

/// The whole.
#[derive(Debug, Serialize)]
pub struct Export {
    version: u32,
    issuer: String,
    exported_at: i64,
    account: Account,
    devices: Vec<Device>,
    apps: Vec<AppGrant>,
    activity: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Account {
    created_at: i64,
    /// Logins with an identity provider that lead to this account; of each only a one-way hash is kept.
    linked_logins: i64,
    /// How gateways call the owner.
    pseudonyms: Vec<Pseudonym>,
    browser_sessions: Vec<BrowserSession>,
}

#[derive(Debug, Serialize)]
struct Pseudonym {
    gateway: String,
    sub: String,
}

#[derive(Debug, Serialize)]
struct BrowserSession {
    expires_at: i64,
    this_one: bool,
}

#[derive(Debug, Serialize)]
struct Device {
    client_id: String,
    label: String,
    name: Option<String>,
    model: String,
    state: String,
    claimed_at: i64,
    channels: Vec<oauth_wire::Channel>,
}

#[derive(Debug, Serialize)]
struct AppGrant {
    client_id: String,
    name: String,
    host: String,
    verified: bool,
    gateway: String,
    sid: String,
    scope: String,
    granted_at: i64,
    expires_at: Option<i64>,
    shares_names: bool,
    future_devices: Option<Exactness>,
    authorization_details: Vec<AuthorizationDetail>,
}

#[derive(Debug, Serialize)]
struct Entry {
    at: i64,
    kind: &'static str,
    subject: String,
}

/// Gathers it, and notes that it was done.
///
/// # Errors
/// The store cannot answer.
pub async fn export(app: &App, session: &Session) -> Result<Export, Refusal> {
    let now = app.clock.now();
    let mut tx = app.store.write().await?;
    notices::insert(&mut tx, session.user, now, NoticeKind::Exported.name(), "").await?;
    let devices = ownerships::of_user(&mut tx, session.user).await?.into_iter().map(|row| Device {
        client_id: row.ownership.device,
        label: row.ownership.label,
        name: row.ownership.name,
        model: row.model,
        state: row.ownership.state,
        claimed_at: row.ownership.since,
        channels: details::channels(&row.channels),
    });
    let devices = devices.collect();
    let mut apps = Vec::new();
    for grant in grants::apps_of_user(&mut tx, session.user, now).await? {
        let Some(client) = clients::get(&mut tx, &grant.client_id).await? else { continue };
        apps.push(AppGrant {
            host: app_host(&client).unwrap_or_default(),
            verified: client.registrar.is_some(),
            name: client.name,
            client_id: client.client_id,
            authorization_details: details::of_grant(&mut tx, &grant, Audience::App).await?,
            future_devices: details::future(&grant),
            gateway: grant.gateway,
            sid: grant.sid,
            scope: grant.scope,
            granted_at: grant.created_at,
            expires_at: grant.expires_at,
            shares_names: grant.share_names,
        });
    }
    let since = now - app.config.lifetimes.notices;
    let entries = notices::before(&mut tx, session.user, since, i64::MAX, i64::MAX).await?;
    let activity = entries.into_iter().filter_map(past::view).map(|notice| Entry {
        at: notice.at,
        kind: notice.kind.name(),
        subject: notice.subject,
    });
    let activity = activity.collect();
    let pseudonyms = users::pseudonyms(&mut tx, session.user).await?;
    let browsers = sessions::of_user(&mut tx, session.user, now).await?;
    let account = Account {
        created_at: users::created_at(&mut tx, session.user).await?,
        linked_logins: users::count_identities(&mut tx, session.user).await?,
        pseudonyms: pseudonyms.into_iter().map(|(gateway, sub)| Pseudonym { gateway, sub }).collect(),
        browser_sessions: browsers
            .into_iter()
            .map(|(id, expires_at)| BrowserSession { expires_at, this_one: id == session.id })
            .collect(),
    };
    tx.commit().await?;
    Audit::AccountExported.record();
    let issuer = app.issuer_text().to_owned();
    Ok(Export { version: VERSION, issuer, exported_at: now, account, devices, apps, activity })
}
