//! Which language a page speaks: the one that was chosen here, else the one of ours that the browser likes best (RFC 9110
//! §12.5.4), else English.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, RawQuery, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_TYPE, SET_COOKIE, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::failure::{Failure, Untold};
use super::form::Fields;
use super::segment::Segment;
use super::session;
use super::words::{ENGLISH, GERMAN, Words};
use crate::state::App;

/// The cookie that holds an explicit choice.
const COOKIE: &str = "didp_lang";

/// How long a choice is remembered, in seconds.
const REMEMBERED: i64 = 365 * 86_400;

/// Every catalogue there is, in the order in which pages offer them.
pub(super) static ALL: [&Words; 2] = [&ENGLISH, &GERMAN];

/// Who reads a page: in which words, and where they are, so that another language can be chosen for the same page.
pub(super) struct Reader {
    /// The catalogue.
    pub(super) w: &'static Words,
    here: String,
}

impl Reader {
    /// The reader that a request speaks of.
    pub(super) fn of(headers: &HeaderMap, method: &Method, uri: &Uri) -> Self {
        // An answer to a form has no address of its own to come back to.
        let here = if method == Method::GET { uri.path_and_query().map(|path| path.as_str()) } else { None };
        Reader { w: chosen(headers), here: here.unwrap_or("/account").to_owned() }
    }

    /// The same reader on another page.
    pub(super) fn at(&self, here: impl Into<String>) -> Self {
        Reader { w: self.w, here: here.into() }
    }

    /// For each language, where it can be chosen for this page.
    pub(super) fn languages(&self) -> Vec<LanguageLink> {
        ALL.iter()
            .map(|words| {
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                let query = query.append_pair("next", &self.here).finish();
                LanguageLink {
                    href: format!("/language/{}?{query}", words.lang),
                    name: words.language,
                    lang: words.lang,
                    current: words.lang == self.w.lang,
                }
            })
            .collect()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Reader::of(&parts.headers, &parts.method, &parts.uri))
    }
}

/// A language that can be chosen.
pub(super) struct LanguageLink {
    pub(super) href: String,
    /// What it calls itself.
    pub(super) name: &'static str,
    pub(super) lang: &'static str,
    pub(super) current: bool,
}

/// `GET /language/{lang}?next=…`: remembers a choice, and back to the page.
pub(super) async fn choose(
    State(app): State<App>,
    Segment(lang): Segment,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let words = by_tag(&lang).ok_or(Failure::NotFound)?;
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let mut response = Redirect::to(&session::any_page(&app, query.one("next")?)).into_response();
    let cookie = session::set_cookie(&app, COOKIE, words.lang, Some(REMEMBERED));
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

/// Says what went wrong in the reader's language, and which language a page is in.
pub(super) async fn speak(request: Request, next: Next) -> Response {
    let reader = Reader::of(request.headers(), request.method(), request.uri());
    tell(next.run(request).await, &reader)
}

/// As [`speak`], for a response that is there already.
pub(super) fn tell(mut response: Response, reader: &Reader) -> Response {
    if let Some(Untold(failure)) = response.extensions_mut().remove::<Untold>() {
        let mut page = failure.page(reader);
        page.headers_mut().extend(std::mem::take(response.headers_mut()));
        response = page;
    }
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind.is_some_and(|kind| kind.starts_with(b"text/html")) {
        let headers = response.headers_mut();
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(reader.w.lang));
        headers.append(VARY, HeaderValue::from_static("accept-language, cookie"));
    }
    response
}

fn by_tag(lang: &str) -> Option<&'static Words> {
    ALL.into_iter().find(|words| words.lang == lang)
}

fn chosen(headers: &HeaderMap) -> &'static Words {
    let explicit = session::cookie(headers, COOKIE).and_then(by_tag);
    explicit.unwrap_or_else(|| {
        let lines = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
        negotiated(&lines.collect::<Vec<_>>().join(","))
    })
}

/// The catalogue that an `Accept-Language` line likes best; the first of equals.
fn negotiated(line: &str) -> &'static Words {
    let mut best: (&'static Words, f32) = (&ENGLISH, 0.0);
    // Nobody likes more languages than this.
    for range in line.split(',').take(32) {
        let mut parts = range.split(';');
        let tag = parts.next().unwrap_or_default().trim();
        let primary = tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
        let words = if tag == "*" { Some(&ENGLISH) } else { by_tag(&primary) };
        let quality = parts
            .find_map(|part| part.trim().strip_prefix("q="))
            .map_or(1.0, |quality| quality.trim().parse::<f32>().unwrap_or(0.0));
        if let Some(words) = words
            && quality > best.1
        {
            best = (words, quality);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browsers_favourite_is_spoken_if_we_know_it() {
        for (line, lang) in [
            ("", "en"),
            ("de", "de"),
            ("de-CH, de;q=0.9, en;q=0.8", "de"),
            ("en-GB,en;q=0.9,de;q=0.8", "en"),
            ("fr, de;q=0.5, en;q=0.3", "de"),
            ("fr", "en"),
            ("de;q=0, en;q=0.1", "en"),
            ("*, de;q=0.5", "en"),
            ("DE-at", "de"),
            ("de;q=nonsense", "en"),
            ("den", "en"),
        ] {
            assert_eq!(negotiated(line).lang, lang, "{line}");
        }
    }

    #[test]
    fn a_choice_made_here_comes_before_the_browsers() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("de"));
        assert_eq!(chosen(&headers).lang, "de");
        headers.insert(http::header::COOKIE, HeaderValue::from_static("didp_lang=en"));
        assert_eq!(chosen(&headers).lang, "en");
        headers.insert(http::header::COOKIE, HeaderValue::from_static("didp_lang=xx"));
        assert_eq!(chosen(&headers).lang, "de");
    }

    #[test]
    fn a_link_leads_back_to_the_page() {
        let uri: Uri = "/authorize?client_id=a&state=%26x".parse().unwrap();
        let reader = Reader::of(&HeaderMap::new(), &Method::GET, &uri);
        let links = reader.languages();
        assert_eq!(links[1].href, "/language/de?next=%2Fauthorize%3Fclient_id%3Da%26state%3D%2526x");
        assert!(links[0].current && !links[1].current);
        let post = Reader::of(&HeaderMap::new(), &Method::POST, &uri);
        assert_eq!(post.languages()[0].href, "/language/en?next=%2Faccount");
    }
}
