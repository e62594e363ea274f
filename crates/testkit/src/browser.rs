//! A browser without a screen: cookies, redirects, forms found by the names of their fields.
//!
//! It does what a person does who follows a page: nothing is sent that the page did not offer. Scripts do not run, so pages
//! have to work without them. Hosts below `.example` (RFC 2606) exist on paper only: a redirect to one is not followed, and
//! the [`Page`] tells where it would have led.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::{Client, ClientBuilder, Method, StatusCode, header, redirect};
use url::Url;

use crate::html::{self, Control, Form as Markup};

/// Redirects that are followed for one click.
const MOST_REDIRECTS: usize = 20;
/// Longest silence of a server in the middle of an answer, or before it. Event streams say something every fifteen seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// One person's browser: what it holds (cookies) no other has.
#[derive(Debug, Clone)]
pub struct Browser {
    client: Client,
}

impl Browser {
    /// A browser that has been nowhere yet.
    ///
    /// # Errors
    /// If no TLS provider is installed.
    pub fn new() -> anyhow::Result<Self> {
        Self::on(Client::builder().cookie_store(true).read_timeout(SILENCE))
    }

    /// The same on a client with settings of its own: where it keeps its cookies, which address it connects from.
    ///
    /// # Errors
    /// As [`Browser::new`].
    pub fn on(client: ClientBuilder) -> anyhow::Result<Self> {
        let client = client.no_proxy().redirect(redirect::Policy::none()).build()?;
        Ok(Self { client })
    }

    /// The client, with its cookies, for what a page's script would ask.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Opens a page.
    ///
    /// # Errors
    /// No connection, more than twenty redirects, or a body that is not text.
    pub async fn open(&self, url: &str) -> anyhow::Result<Page> {
        let url = Url::parse(url).with_context(|| format!("open {url}"))?;
        self.request(Method::GET, url, None, None).await
    }

    async fn request(
        &self,
        mut method: Method,
        mut url: Url,
        mut form: Option<Vec<(String, String)>>,
        mut from: Option<Url>,
    ) -> anyhow::Result<Page> {
        for _ in 0..MOST_REDIRECTS {
            if url.host_str().is_some_and(|host| host.ends_with(".example")) {
                return Ok(Page {
                    browser: self.clone(),
                    url,
                    status: StatusCode::SEE_OTHER,
                    html: String::new(),
                });
            }
            let mut request = self.client.request(method.clone(), url.clone());
            if let Some(form) = &form {
                request = request.form(form);
            }
            if method == Method::POST
                && let Some(page) = &from
            {
                request = request.header(header::ORIGIN, page.origin().ascii_serialization());
            }
            let answer = request.send().await.with_context(|| format!("{method} {}", shown(&url)))?;
            let status = answer.status();
            let target = answer.headers().get(header::LOCATION).filter(|_| status.is_redirection());
            let Some(target) = target else {
                let html = answer.text().await.with_context(|| format!("{method} {}", shown(&url)))?;
                return Ok(Page { browser: self.clone(), url, status, html });
            };
            let target = url.join(target.to_str()?).context("a redirect that leads nowhere")?;
            from = Some(std::mem::replace(&mut url, target));
            if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                method = Method::GET;
                form = None;
            }
        }
        bail!("more than {MOST_REDIRECTS} redirects, the last to {}", shown(&url))
    }
}

/// An HTTP client for what is no page: everything is on this machine, so a proxy of the environment is none of its business.
///
/// # Panics
/// If the TLS provider is not installed and cannot be.
#[must_use]
pub fn http() -> Client {
    service::tls::install_provider();
    let client = Client::builder().no_proxy().read_timeout(SILENCE);
    client.build().expect("a client without options can be made")
}

/// What the browser shows.
#[derive(Clone)]
pub struct Page {
    browser: Browser,
    url: Url,
    status: StatusCode,
    html: String,
}

impl Page {
    /// Where it is, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The answer's status; 303 for a redirect that was not followed.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The source of the page.
    #[must_use]
    pub fn html(&self) -> &str {
        &self.html
    }

    /// What a reader sees: the text without markup, white space collapsed.
    #[must_use]
    pub fn text(&self) -> String {
        html::text(&self.html)
    }

    /// A parameter of the page's address.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// As [`Browser::open`].
    pub async fn reload(&self) -> anyhow::Result<Self> {
        self.browser.request(Method::GET, self.url.clone(), None, None).await
    }

    /// Whether there is a form with a field or button of that name.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        html::forms(&self.html).iter().any(|form| form.has(field))
    }

    /// The first form that has a field or button of that name.
    ///
    /// # Errors
    /// If the page has none; the error shows what a reader sees instead.
    pub fn form(&self, field: &str) -> anyhow::Result<Form> {
        self.form_where(&format!("a field `{field}`"), |form| form.has(field))
    }

    /// The first form whose address ends so and that has a button whose text contains `text`.
    ///
    /// # Errors
    /// As [`Page::form`].
    pub fn form_to(&self, end: &str, text: &str) -> anyhow::Result<Form> {
        self.form_where(&format!("a button `{text}` and an address that ends with `{end}`"), |form| {
            form.action.ends_with(end)
                && form.controls.iter().any(|c| c.is_button() && c.label.contains(text))
        })
    }

    fn form_where(&self, what: &str, wanted: impl Fn(&Markup) -> bool) -> anyhow::Result<Form> {
        let found = html::forms(&self.html).into_iter().find(wanted);
        let markup = found.with_context(|| format!("no form with {what} on {self:?}"))?;
        let action = self.url.join(&markup.action).context("a form that leads nowhere")?;
        Ok(Form { page: self.clone(), action, markup })
    }

    /// Follows the first link whose address contains `part` and whose text contains `text`.
    ///
    /// # Errors
    /// If there is none, or as [`Browser::open`].
    pub async fn follow(&self, part: &str, text: &str) -> anyhow::Result<Self> {
        let links = html::links(&self.html);
        let link = links.iter().find(|link| link.href.contains(part) && link.text.contains(text));
        let link = link.with_context(|| format!("no link `{text}` to `{part}` on {self:?}"))?;
        self.browser.request(Method::GET, self.url.join(&link.href)?, None, Some(self.url.clone())).await
    }

    /// Whether a link's address contains `part`.
    #[must_use]
    pub fn leads_to(&self, part: &str) -> bool {
        html::links(&self.html).iter().any(|link| link.href.contains(part))
    }

    /// This page, if its status is a success.
    ///
    /// # Errors
    /// If it is not; the error shows what a reader sees.
    pub fn good(self) -> anyhow::Result<Self> {
        ensure!(self.status.is_success(), "{self:?}");
        Ok(self)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text().chars().take(400).collect();
        write!(f, "{} ({}): \"{text}\"", shown(&self.url), self.status)
    }
}

/// A form that is being filled in.
#[derive(Debug, Clone)]
pub struct Form {
    page: Page,
    action: Url,
    markup: Markup,
}

impl Form {
    /// Types into a field, chooses an option of a list, or picks the radio button of that value.
    ///
    /// # Errors
    /// If the form has no such field or it does not offer the value.
    pub fn set(mut self, name: &str, value: &str) -> anyhow::Result<Self> {
        let mut set = false;
        for control in self.markup.controls.iter_mut().filter(|control| control.name == name) {
            match control.kind.as_str() {
                "radio" => control.on = control.value == value,
                "select" if !control.options.iter().any(|option| option == value) => {}
                "checkbox" | "submit" | "button" => {}
                _ => value.clone_into(&mut control.value),
            }
            set |= control.value == value;
        }
        ensure!(set, "field `{name}` does not take `{value}` in the form of {:?}", self.page);
        Ok(self)
    }

    /// Ticks (or clears) the box `name`; with several of that name, the one with that `value`.
    ///
    /// # Errors
    /// If there is no such box.
    pub fn tick(mut self, name: &str, value: Option<&str>, on: bool) -> anyhow::Result<Self> {
        let mut found = false;
        for control in &mut self.markup.controls {
            let wanted = value.is_none_or(|value| control.value == value);
            if control.name == name && control.kind == "checkbox" && wanted {
                control.on = on;
                found = true;
            }
        }
        ensure!(found, "no box `{name}` (value {value:?}) in the form of {:?}", self.page);
        Ok(self)
    }

    /// Chooses, in each list that offers one, the option whose value ends with a space and `choice`.
    ///
    /// # Errors
    /// If no list offers that.
    pub fn choose(mut self, choice: &str) -> anyhow::Result<Self> {
        let mut found = false;
        for control in self.markup.controls.iter_mut().filter(|control| control.kind == "select") {
            let offered = control
                .options
                .iter()
                .find(|option| option.strip_suffix(choice).is_some_and(|before| before.ends_with(' ')));
            if let Some(option) = offered {
                control.value.clone_from(option);
                found = true;
            }
        }
        ensure!(found, "no list offers `{choice}` in the form of {:?}", self.page);
        Ok(self)
    }

    /// The value of the box `name` whose label begins with `label`.
    ///
    /// # Errors
    /// If there is none.
    pub fn labelled(&self, name: &str, label: &str) -> anyhow::Result<String> {
        let found = self.markup.controls.iter().find(|c| c.name == name && c.label.starts_with(label));
        found
            .map(|control| control.value.clone())
            .with_context(|| format!("no box `{name}` is called `{label}` on {:?}", self.page))
    }

    /// The values that boxes, radio buttons or buttons of that name stand for, in the order of the page.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<String> {
        self.markup.controls.iter().filter(|c| c.name == name).map(|c| c.value.clone()).collect()
    }

    /// Names of all fields, in the order of the page.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.markup.controls.iter().map(|control| control.name.clone()).collect()
    }

    /// Sends the form as a press on Enter does, without the value of any button.
    ///
    /// # Errors
    /// As [`Browser::open`].
    pub async fn submit(self) -> anyhow::Result<Page> {
        self.send(None).await
    }

    /// Sends the form by the button with that name and value.
    ///
    /// # Errors
    /// If there is no such button, or as [`Browser::open`].
    pub async fn press(self, name: &str, value: &str) -> anyhow::Result<Page> {
        let offered =
            self.markup.controls.iter().any(|c| c.is_button() && c.name == name && c.value == value);
        ensure!(offered, "no button `{name}` = `{value}` in the form of {:?}", self.page);
        self.send(Some((name.to_owned(), value.to_owned()))).await
    }

    async fn send(self, button: Option<(String, String)>) -> anyhow::Result<Page> {
        let controls = self.markup.controls.iter().filter(|control| control.is_sent());
        let mut fields: Vec<_> = controls.map(|c: &Control| (c.name.clone(), c.value.clone())).collect();
        fields.extend(button);
        let browser = &self.page.browser;
        let from = Some(self.page.url.clone());
        if self.markup.method == "post" {
            return browser.request(Method::POST, self.action, Some(fields), from).await;
        }
        let mut target = self.action;
        target.query_pairs_mut().clear().extend_pairs(fields);
        browser.request(Method::GET, target, None, from).await
    }
}

/// An address without its query, which may hold codes.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}
