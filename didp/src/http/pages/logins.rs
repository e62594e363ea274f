//! The ways in which an owner can log in. More than one, so that an account that is lost elsewhere does not take the devices along.
//! What is linked is what a provider says in this browser while the owner is logged in here, never an e-mail address. Which
//! providers these are is not kept: to take one away, one logs in there once more.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode};
use service::secret;

use super::failure::Failure;
use super::form::Fields;
use super::language::Reader;
use super::session::{self, Owner};
use super::views::{Frame, LoginWay, Logins, render};
use crate::audit::Audit;
use crate::flows::login::{self, Linked};
use crate::state::App;
use crate::upstream::pending::Purpose;
use crate::upstream::{Person, Upstream};

/// Where this page is.
pub(super) const PAGE: &str = "/account/logins";

/// `GET /account/logins`.
pub(super) async fn show(
    State(app): State<App>,
    reader: Reader,
    owner: Owner,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let w = reader.w;
    let (done, problem) = match query.as_deref() {
        Some("linked") => (Some(w.login_linked), None),
        Some("unlinked") => (Some(w.login_unlinked), None),
        Some("as-it-was") => (Some(w.login_as_it_was), None),
        Some("anothers") => (None, Some(w.login_anothers)),
        Some("last") => (None, Some(w.login_last)),
        Some("full") => (None, Some(w.login_full)),
        _ => (None, None),
    };
    let count = login::logins(&app, &owner.session).await?;
    let link = |upstream: &Upstream, word| {
        format!("/login/{}?{word}={}", upstream.id(), seal(&app, &owner, word, upstream))
    };
    let ways = app.upstreams.iter().map(|upstream| LoginWay {
        name: upstream.name(),
        add: link(upstream, "link"),
        remove: (count > 1).then(|| link(upstream, "unlink")),
    });
    let reader = reader.at(PAGE);
    let count = if count == 1 { w.logins_one.to_owned() } else { w.logins_many.with(count) };
    let page = Logins { w, frame: Frame::of(&reader, &owner), count, done, problem, ways: ways.collect() };
    render(StatusCode::OK, &page)
}

/// What else than logging in a link to a provider asks for. It stands on a page of the session that it is sealed for.
pub(super) fn purpose(
    app: &App,
    owner: Option<&Owner>,
    upstream: &Upstream,
    query: &Fields,
) -> Result<Option<Purpose>, Failure> {
    type Make = fn(String) -> Purpose;
    let purposes: [(&str, Make); 2] = [("link", Purpose::Link), ("unlink", Purpose::Unlink)];
    for (word, purpose) in purposes {
        let Some(sent) = query.one(word)? else { continue };
        let owner = owner.ok_or(Failure::Forged)?;
        if !secret::equal(sent.as_bytes(), seal(app, owner, word, upstream).as_bytes()) {
            return Err(Failure::Forged);
        }
        return Ok(Some(purpose(tag(app, owner))));
    }
    Ok(None)
}

/// Back from the provider: does what the login was for, if this is still the session that asked for it.
pub(super) async fn changed(
    app: &App,
    headers: &HeaderMap,
    upstream: &Upstream,
    purpose: &Purpose,
    person: &Person,
) -> Result<Response, Failure> {
    let (Purpose::Link(asked) | Purpose::Unlink(asked)) = purpose;
    let same = |owner: &Owner| secret::equal(asked.as_bytes(), tag(app, owner).as_bytes());
    let owner = Owner::find(app, headers).await?.filter(same).ok_or(Failure::Forged)?;
    let (session, issuer, subject) = (&owner.session, &person.issuer, &person.subject);
    let id = upstream.id().to_owned();
    let (linked, word, event) = match purpose {
        Purpose::Link(_) => {
            let linked = login::link(app, session, issuer, subject, upstream.name()).await?;
            (linked, "linked", Audit::ProviderLinked { upstream: id })
        }
        Purpose::Unlink(_) => {
            let linked = login::unlink(app, session, issuer, subject, upstream.name()).await?;
            (linked, "unlinked", Audit::ProviderUnlinked { upstream: id })
        }
    };
    let word = match linked {
        Linked::Done => {
            event.record();
            word
        }
        Linked::Already => "as-it-was",
        Linked::Anothers => "anothers",
        Linked::Last => "last",
        Linked::Full => "full",
    };
    Ok(Redirect::to(&format!("{PAGE}?{word}")).into_response())
}

fn seal(app: &App, owner: &Owner, word: &str, upstream: &Upstream) -> String {
    session::seal(app, owner, &format!("{word} {}", upstream.id()))
}

/// What names this session in the cookie of a login that is under way.
fn tag(app: &App, owner: &Owner) -> String {
    session::seal(app, owner, "another login")
}
