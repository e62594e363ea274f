//! From a finished upstream login to an owner and a browser session. Only a keyed hash of issuer and subject gets here.

use service::secret;

use crate::flows::Refusal;
use crate::flows::account::NoticeKind;
use crate::keys::{Mac, Purpose};
use crate::state::App;
use crate::store::{notices, sessions, users};

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
    let candidates = user_keys(app, issuer, subject);
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

/// What came of another login for an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// It is the owner's, or is not any more, as asked.
    Done,
    /// It was so before.
    Already,
    /// It is another owner's here. Two owners are not made one: their apps and gateways would learn of it.
    Anothers,
    /// It is the only one, without which nobody could log in.
    Last,
    /// There are as many as there may be.
    Full,
}

/// Logins that one owner may have.
const MOST_LOGINS: i64 = 8;

/// Lets the owner of `session` log in as this person as well, whom people know as `provider`'s. Whoever calls this has seen both: the session, and the provider's
/// word for the person, in the same browser.
///
/// # Errors
/// The store cannot answer.
pub async fn link(
    app: &App,
    session: &Session,
    issuer: &str,
    subject: &str,
    provider: &str,
) -> Result<Linked, Refusal> {
    let candidates = user_keys(app, issuer, subject);
    let mut tx = app.store.write().await?;
    for candidate in &candidates {
        if let Some(user) = users::by_key(&mut tx, candidate.as_bytes()).await? {
            return Ok(if user == session.user { Linked::Already } else { Linked::Anothers });
        }
    }
    if users::identities(&mut tx, session.user).await? >= MOST_LOGINS {
        return Ok(Linked::Full);
    }
    users::add_identity(&mut tx, candidates[0].as_bytes(), session.user).await?;
    let kind = NoticeKind::LoginAdded.name();
    notices::insert(&mut tx, session.user, app.clock.now(), kind, provider).await?;
    tx.commit().await?;
    Ok(Linked::Done)
}

/// Takes the way to log in as this person away from the owner of `session`, unless it is the last one.
///
/// # Errors
/// The store cannot answer.
pub async fn unlink(
    app: &App,
    session: &Session,
    issuer: &str,
    subject: &str,
    provider: &str,
) -> Result<Linked, Refusal> {
    let mut tx = app.store.write().await?;
    for candidate in user_keys(app, issuer, subject) {
        match users::by_key(&mut tx, candidate.as_bytes()).await? {
            None => {}
            Some(user) if user != session.user => return Ok(Linked::Anothers),
            Some(_) if users::identities(&mut tx, session.user).await? <= 1 => return Ok(Linked::Last),
            Some(_) => {
                users::drop_identity(&mut tx, candidate.as_bytes()).await?;
                let kind = NoticeKind::LoginRemoved.name();
                notices::insert(&mut tx, session.user, app.clock.now(), kind, provider).await?;
                tx.commit().await?;
                return Ok(Linked::Done);
            }
        }
    }
    Ok(Linked::Already)
}

/// How many ways to log in the owner has.
///
/// # Errors
/// The store cannot answer.
pub async fn logins(app: &App, session: &Session) -> Result<i64, Refusal> {
    Ok(users::identities(&mut *app.store.read().await?, session.user).await?)
}

/// The hashes under which a person may be known, the newest key's first.
fn user_keys(app: &App, issuer: &str, subject: &str) -> Vec<Mac> {
    app.keys.candidates(Purpose::User, &[issuer.as_bytes(), &[0], subject.as_bytes()])
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
