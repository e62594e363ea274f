//! A DIdP with its pages only, and a browser for it.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use service::{Clock, Shutdown};
use tower::ServiceExt as _;
use url::Url;

use crate::flows::device_authorization;
use crate::flows::registration::{self, Metadata};
use crate::flows::token::{self, TokenRequest};
use crate::http::pages;
use crate::hub::{ClaimMessage, Seat};
use crate::sample;
use crate::state::App;
use crate::upstream::tests::provider::Provider;

/// A DIdP with one OpenID provider, `demo`.
pub(super) struct Site {
    pub(super) app: App,
    pub(super) provider: Provider,
    router: Router,
    _dir: tempfile::TempDir,
}

/// A registered device.
pub(super) struct Device {
    pub(super) client_id: String,
    /// Path of its printed code.
    pub(super) page: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Page {
    /// Where a redirect leads.
    pub(super) fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// The value of a hidden field.
    pub(super) fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let rest = self.body.split(&start).nth(1).unwrap_or_else(|| panic!("no {name} in {}", self.body));
        unescape(rest.split('"').next().unwrap())
    }

    /// Asserts the status and a sentence in the body.
    pub(super) fn says(&self, status: StatusCode, sentence: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(unescape(&self.body).contains(sentence), "{sentence:?} is not in {}", self.body);
    }
}

fn unescape(text: &str) -> String {
    let entities = [("&#34;", "\""), ("&#38;", "&"), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">")];
    entities.iter().fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

impl Site {
    pub(super) async fn start() -> Self {
        Site::start_at("http://didp.localhost:8080").await
    }

    pub(super) async fn start_at(issuer: &str) -> Self {
        let provider = Provider::start().await;
        let upstream = json!([
            { "id": "demo", "name": "Demo Login", "kind": "openid-connect", "client_id": "didp", "issuer": provider.issuer() },
            { "id": "other", "name": "Other Login", "kind": "openid-connect", "client_id": "didp", "issuer": "https://other.example" },
        ]);
        Site::start_with(issuer, provider, upstream).await
    }

    pub(super) async fn start_with(issuer: &str, provider: Provider, upstream: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let developer = json!([{
            "id": "dev", "name": "Developer", "initial_access_token_file": dir.path().join("developer"),
        }]);
        let more = json!({ "developer": developer, "app_registration": "open", "upstream": upstream });
        let config = sample::config(dir.path(), issuer, more);
        let app = App::open(config, Clock::system(), Shutdown::new()).await.unwrap();
        let peer =
            axum::extract::connect_info::MockConnectInfo(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
        let router = pages::routes().layer(peer).with_state(app.clone());
        Site { app, provider, router, _dir: dir }
    }

    pub(super) fn browser(&self) -> Browser<'_> {
        Browser { site: self, cookies: BTreeMap::new() }
    }

    /// A browser in which somebody is logged in.
    pub(super) async fn owner(&self) -> Browser<'_> {
        let mut browser = self.browser();
        browser.log_in("/account").await;
        browser
    }

    /// An app without a browser, with its device authorization begun: its client_id, and what it shows.
    pub(super) async fn television(&self) -> (String, device_authorization::Begun) {
        let metadata = json!({
            "client_name": "Television",
            "grant_types": [oauth_wire::DEVICE_CODE, "refresh_token"],
            "token_endpoint_auth_method": "none",
        });
        let client_id = self.register(Some("the-token-of-the-developer"), metadata).await.client_id;
        let client = crate::store::clients::get(&mut self.app.store.read().await.unwrap(), &client_id).await;
        let begun = device_authorization::begin(&self.app, &client.unwrap().unwrap(), &[]).await.unwrap();
        (client_id, begun)
    }

    async fn register(&self, token: Option<&str>, metadata: Value) -> registration::Registered {
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        registration::register(&self.app, token, None, vec![metadata]).await.unwrap().remove(0)
    }

    /// A thermostat, fresh from the factory.
    pub(super) async fn device(&self, confirm: &str) -> Device {
        self.device_of(json!({
            "client_name": "Thermostat T1",
            "device": { "confirm": confirm, "channels": [
                { "name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number" },
                { "name": "heater", "direction": "command", "title": "Heater", "type": "boolean" },
            ] },
        }))
        .await
    }

    /// A device with this metadata, fresh from the factory.
    pub(super) async fn device_of(&self, metadata: Value) -> Device {
        let answer = self.register(Some("the-token-of-the-maker"), metadata).await;
        let page: Url = answer.user_registration_uri.unwrap().parse().unwrap();
        Device { client_id: answer.client_id, page: page.path().to_owned() }
    }

    /// An app; verified if it was registered with a developer's token. Its client_id.
    pub(super) async fn app(&self, verified: bool) -> String {
        let metadata = json!({
            "client_name": "Warm Home",
            "redirect_uris": ["https://warm.example/callback"],
            "token_endpoint_auth_method": "client_secret_basic",
        });
        self.register(verified.then_some("the-token-of-the-developer"), metadata).await.client_id
    }

    /// Connects a device and presses its button; answers its place in the hub and the digits that it shows.
    pub(super) async fn press(&self, device: &Device) -> (Seat<'_>, String) {
        let seat = self.app.hub.enter(&device.client_id);
        let window =
            crate::flows::claim::open_window(&self.app, &device.client_id, seat.connection, &challenge())
                .await;
        (seat, window.unwrap().user_code.unwrap_or_default())
    }

    /// The device redeems the code that the claim pushed to it, and reports done.
    pub(super) async fn finish(&self, device: &Device, seat: &mut Seat<'_>) {
        let code = loop {
            match seat.messages.recv().await {
                Some(ClaimMessage::Taken(_)) => {}
                Some(ClaimMessage::Granted(code)) => break code,
                other => panic!("no code but {other:?}"),
            }
        };
        self.redeem(&device.client_id, &code, None).await;
        crate::flows::claim::done(&self.app, &device.client_id).await.unwrap();
    }

    /// The app redeems the code that the browser brought to it.
    pub(super) async fn finish_app(&self, client_id: &str, callback: &str) {
        let url: Url = callback.parse().unwrap();
        let code = url.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
        self.redeem(client_id, &code, Some("https://warm.example/callback")).await;
    }

    async fn redeem(&self, client_id: &str, code: &str, redirect_uri: Option<&str>) {
        let mut conn = self.app.store.read().await.unwrap();
        let client = crate::store::clients::get(&mut conn, client_id).await.unwrap().unwrap();
        drop(conn);
        let request =
            TokenRequest::AuthorizationCode { code, code_verifier: VERIFIER, redirect_uri, resource: None };
        token::answer(&self.app, &client, request).await.unwrap();
    }

    /// A whole claim by this browser; the id of the device on the account pages.
    pub(super) async fn claim(&self, browser: &mut Browser<'_>, name: &str) -> String {
        let device = self.device("code").await;
        let (mut seat, digits) = self.press(&device).await;
        let ticket = browser.type_code(&device, &digits).await;
        browser.post(&ticket, &[("decision", "claim"), ("name", name)]).await.location();
        self.finish(&device, &mut seat).await;
        browser.get(&ticket).await.says(StatusCode::OK, "is yours");
        let account = browser.get("/account").await;
        let id = account.body.rsplit("/account/devices/").next().unwrap().split('/').next().unwrap();
        id.to_owned()
    }
}

const VERIFIER: &str = "a-verifier-of-the-device-with-at-least-43-characters";

/// The S256 challenge of [`VERIFIER`], for devices and apps alike.
pub(super) fn challenge() -> String {
    service::secret::encode(service::secret::sha256(VERIFIER.as_bytes()))
}

/// Keeps cookies, follows nothing by itself.
pub(super) struct Browser<'s> {
    site: &'s Site,
    pub(super) cookies: BTreeMap<String, String>,
}

impl Browser<'_> {
    pub(super) async fn get(&mut self, path: &str) -> Page {
        self.send(Request::builder().method(Method::GET).uri(path).body(Body::empty()).unwrap()).await
    }

    /// Gets a page as a browser whose owner reads that language.
    pub(super) async fn get_in(&mut self, language: &str, path: &str) -> Page {
        let request = Request::builder().uri(path).header(header::ACCEPT_LANGUAGE, language);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Posts a form as a page of ours does: with the token that the session's pages carry.
    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = self.csrf().await;
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        self.post_raw(path, &all, &[]).await
    }

    /// Posts exactly these fields, with exactly these headers.
    pub(super) async fn post_raw(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let body = serde_urlencoded::to_string(fields).unwrap();
        let mut request = Request::builder().method(Method::POST).uri(path).body(Body::from(body)).unwrap();
        let kind = (header::CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded");
        for (name, value) in [kind].iter().chain(headers) {
            request
                .headers_mut()
                .insert(header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        self.send(request).await
    }

    /// The token of this session's forms; empty if nobody is logged in.
    pub(super) async fn csrf(&mut self) -> String {
        let page = self.get("/account").await;
        if page.status == StatusCode::OK { page.hidden("csrf") } else { String::new() }
    }

    /// Logs in and goes to `next`; answers where the site sends the browser then.
    pub(super) async fn log_in(&mut self, next: &str) -> String {
        let callback = self.ask_provider("demo", next).await;
        let page = self.get(&callback).await;
        page.location().to_owned()
    }

    /// Begins a login and lets the provider grant it; the path that the provider would send the browser to.
    pub(super) async fn ask_provider(&mut self, upstream: &str, next: &str) -> String {
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let page = self.get(&format!("/login/{upstream}?next={next}")).await;
        let (code, state) = self.site.provider.grant(&page.location().parse().unwrap());
        let iss: String =
            url::form_urlencoded::byte_serialize(self.site.provider.issuer().as_bytes()).collect();
        format!("/login/{upstream}/callback?code={code}&state={state}&iss={iss}")
    }

    /// Types the digits of a device; the page of the claim.
    pub(super) async fn type_code(&mut self, device: &Device, digits: &str) -> String {
        let page = self.post(&device.page, &[("user_code", digits)]).await;
        assert!(page.location().starts_with("/claim/"), "{}", page.location());
        page.location().to_owned()
    }

    async fn send(&mut self, mut request: Request<Body>) -> Page {
        if !self.cookies.is_empty() {
            let line: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request.headers_mut().insert(header::COOKIE, line.join("; ").parse().unwrap());
        }
        let here = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(axum::extract::ConnectInfo(here));
        let response = self.site.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (name, rest) = text.split_once('=').unwrap();
            if text.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned());
            }
        }
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Page { status: parts.status, headers: parts.headers, body }
    }
}
