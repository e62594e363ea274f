//! From a finished upstream login to an owner and a browser session. Only a keyed hash of issuer and subject gets here.

use service::secret;

use crate::flows::Refusal;
use crate::keys::Purpose;
use crate::state::App;
use crate::store::{sessions, users};

/// A browser session of an owner who is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its number; one for each login.
    pub id: i64,
    /// The owner's number.
    pub user: i64,
}

/// Begins a session for the person whom an upstream provider named; makes the owner at the first login. Answers the
/// session token for the browser's cookie, 43 characters.
///
/// # Errors
/// The store cannot answer.
pub async fn sign_in(app: &App, issuer: &str, subject: &str) -> Result<String, Refusal> {
    let parts: [&[u8]; 3] = [issuer.as_bytes(), &[0], subject.as_bytes()];
    let candidates = app.keys.candidates(Purpose::User, &parts);
    let newest = &candidates[0];
    let now = app.clock.now();
    let mut tx = app.store.write().await?;
    let mut user = None;
    for candidate in &candidates {
        user = users::by_key(&mut tx, candidate.as_bytes()).await?;
        if user.is_some() {
            if candidate != newest {
                users::rewrap(&mut tx, candidate.as_bytes(), newest.as_bytes()).await?;
            }
            break;
        }
    }
    let user = match user {
        Some(user) => user,
        None => users::insert(&mut tx, newest.as_bytes(), now).await?,
    };
    let token = secret::random_token::<32>();
    let hash = app.keys.mac(Purpose::Session, &[token.as_bytes()]);
    let lifetimes = &app.config.lifetimes;
    let (idle, last) = (now + lifetimes.browser_session, now + lifetimes.browser_session_absolute);
    sessions::insert(&mut tx, hash.as_bytes(), user, idle, last).await?;
    tx.commit().await?;
    Ok(token)
}

/// The session of this token, if it is alive; using it keeps it alive, up to its last end.
///
/// # Errors
/// The store cannot answer.
pub async fn session(app: &App, token: &str) -> Result<Option<Session>, Refusal> {
    let now = app.clock.now();
    let life = app.config.lifetimes.browser_session;
    let candidates = app.keys.candidates(Purpose::Session, &[token.as_bytes()]);
    for candidate in &candidates {
        let found = sessions::get(&mut *app.store.read().await?, candidate.as_bytes(), now).await?;
        if let Some((id, user, expires_at, ends_at)) = found {
            // One write in a while is enough to tell an idle session from a used one.
            if expires_at < ends_at && expires_at - now < life - life / 12 {
                let mut tx = app.store.write().await?;
                sessions::extend(&mut tx, id, now + life).await?;
                sessions::rewrap(&mut tx, id, candidates[0].as_bytes()).await?;
                tx.commit().await?;
            }
            return Ok(Some(Session { id, user }));
        }
    }
    Ok(None)
}

/// Ends the session of this token.
///
/// # Errors
/// The store cannot answer.
pub async fn sign_out(app: &App, token: &str) -> Result<(), Refusal> {
    let mut tx = app.store.write().await?;
    for candidate in app.keys.candidates(Purpose::Session, &[token.as_bytes()]) {
        sessions::delete(&mut tx, candidate.as_bytes()).await?;
    }
    tx.commit().await?;
    Ok(())
}
