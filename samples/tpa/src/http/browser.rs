//! The session cookie, and the check that a POST comes from one of the app's own pages.

use axum::http::{HeaderMap, HeaderValue, header};
use service::secret;

use crate::Config;
use crate::grants::Session;

const COOKIE: &str = "tpa_session";

/// Thirty days; a grant that is used is worth keeping longer than a browser window.
const SECONDS: u32 = 30 * 24 * 3600;

/// The session of the browser that sent these headers.
pub(super) fn session(headers: &HeaderMap) -> Option<Session> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, value)| *name == COOKIE && value.len() == 43)
        .map(|(_, value)| value);
    values.next().map(Session::of)
}

/// A new session and the Set-Cookie header that gives it to the browser.
pub(super) fn new_session(config: &Config) -> (Session, HeaderValue) {
    let value = secret::random_token::<32>();
    let secure = if config.public_url.scheme() == "https" { "; Secure" } else { "" };
    let line = format!("{COOKIE}={value}; Path=/; Max-Age={SECONDS}; HttpOnly; SameSite=Lax{secure}");
    (Session::of(&value), HeaderValue::from_str(&line).expect("base64url and fixed text fit a header"))
}

/// True if the browser says that one of our own pages sent this.
pub(super) fn is_own_page(config: &Config, headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes() == config.origin().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_cookie_among_others() {
        let value = "s".repeat(43);
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("didp_session=x; tpa_session={value}").parse().unwrap());
        assert_eq!(session(&headers), Some(Session::of(&value)));
        headers.insert(header::COOKIE, "tpa_session=short".parse().unwrap());
        assert_eq!(session(&headers), None);
    }
}
