//! An owner without hands: logs in, claims, consents, looks after the account, all through the DIdP's real pages.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use crate::browser::{Browser, Form, Page};
use crate::html;
use crate::mqtt::PATIENCE;

/// How often a waiting page asks how things stand. The page's own script does the same.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A person with a browser and an account at an identity provider.
#[derive(Debug, Clone)]
pub struct Owner {
    browser: Browser,
    didp: String,
    upstream: String,
    person: String,
}

/// What an owner allows an app.
#[derive(Debug, Clone)]
pub struct Consent {
    /// Names of the devices; everything if `None`.
    pub devices: Option<Vec<String>>,
    /// Readings.
    pub read: bool,
    /// Commands.
    pub command: bool,
    /// Names of channels that are left out.
    pub without: Vec<String>,
    /// How exactly readings are seen: names of channels and what the page's lists offer (`every`, `rounded`, `one-a-minute`,
    /// `mean-minute`, …, `special`). As the app asks, where nothing is said.
    pub exactly: Vec<(String, String)>,
    /// Devices that will be claimed later.
    pub future: bool,
    /// The devices' names.
    pub share_names: bool,
}

impl Default for Consent {
    /// Every device, readings and commands, no names, no future devices.
    fn default() -> Self {
        Self {
            devices: None,
            read: true,
            command: true,
            without: Vec::new(),
            exactly: Vec::new(),
            future: false,
            share_names: false,
        }
    }
}

impl Owner {
    /// `person` at the provider with the id `upstream` of the DIdP at `didp`; not logged in yet.
    ///
    /// # Errors
    /// As [`Browser::new`].
    pub fn new(didp: &str, upstream: &str, person: &str) -> anyhow::Result<Self> {
        Ok(Self::with(Browser::new()?, didp, upstream, person))
    }

    /// The same with a browser that is there already.
    #[must_use]
    pub fn with(browser: Browser, didp: &str, upstream: &str, person: &str) -> Self {
        Self {
            browser,
            didp: didp.trim_end_matches('/').to_owned(),
            upstream: upstream.to_owned(),
            person: person.to_owned(),
        }
    }

    /// The browser.
    #[must_use]
    pub fn browser(&self) -> &Browser {
        &self.browser
    }

    /// Opens a page, by its whole address or its path at the DIdP, and logs in if it asks.
    ///
    /// # Errors
    /// No connection, or a login that does not work.
    pub async fn open(&self, address: &str) -> anyhow::Result<Page> {
        let address =
            if address.starts_with('/') { format!("{}{address}", self.didp) } else { address.to_owned() };
        self.log_in(self.browser.open(&address).await?).await
    }

    async fn log_in(&self, page: Page) -> anyhow::Result<Page> {
        let login = format!("/login/{}", self.upstream);
        let page = if page.leads_to(&login) { page.follow(&login, "").await? } else { page };
        if !page.has("person") {
            return Ok(page);
        }
        page.form("person")?.press("person", &self.person).await
    }

    /// Opens the printed address and types what the device shows; gives the page after that, whatever it says.
    ///
    /// # Errors
    /// As [`Owner::open`], or there is nowhere to type.
    pub async fn type_code(&self, uru: &str, digits: &str) -> anyhow::Result<Page> {
        let page = self.open(uru).await?.good()?;
        page.form("user_code")?.set("user_code", digits)?.submit().await
    }

    /// Claims the device with that printed address and that code on its display, names it and waits until it is done.
    ///
    /// # Errors
    /// Any page says no, or the device does not finish.
    pub async fn claim(&self, uru: &str, digits: &str, name: &str) -> anyhow::Result<()> {
        let page = self.type_code(uru, digits).await?.good()?;
        let waiting = page.form("decision")?.set("name", name)?.press("decision", "claim").await?.good()?;
        self.wait_for_claim(&waiting, "done").await
    }

    /// Goes as far as the decision and says no.
    ///
    /// # Errors
    /// Any page says no, too.
    pub async fn decline_claim(&self, uru: &str, digits: &str) -> anyhow::Result<Page> {
        let page = self.type_code(uru, digits).await?.good()?;
        page.form("decision")?.press("decision", "decline").await
    }

    /// Waits on a page of a claim until the claim is in `state` (`done`, `gone`, `expired`, `declined`).
    ///
    /// # Errors
    /// It is done though it should not, or takes too long.
    pub async fn wait_for_claim(&self, waiting: &Page, state: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut address = waiting.url().clone();
        address.set_query(None);
        let address = format!("{}/state", address.as_str().trim_end_matches('/'));
        loop {
            let page = self.browser.open(&address).await?.good()?;
            let now: Value =
                serde_json::from_str(page.html()).with_context(|| format!("state on {page:?}"))?;
            match now["state"].as_str() {
                Some(now) if now == state => return Ok(()),
                Some(now) if now != "done" && Instant::now() < deadline => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                _ => bail!("the claim should be {state}, but {now}"),
            }
        }
    }

    /// Opens an app's authorization request and allows it so; gives where the browser is sent back to.
    ///
    /// # Errors
    /// No consent page, or one that does not offer what is chosen.
    pub async fn consent(&self, request: &str, consent: &Consent) -> anyhow::Result<Page> {
        let page = self.open(request).await?.good()?;
        let mut form = page.form("decision")?;
        for (value, on) in [("read", consent.read), ("command", consent.command)] {
            if form.values("may").iter().any(|offered| offered == value) {
                form = form.tick("may", Some(value), on)?;
            }
        }
        let wanted = match &consent.devices {
            None => form.values("device"),
            Some(names) => {
                names.iter().map(|name| form.labelled("device", name)).collect::<anyhow::Result<Vec<_>>>()?
            }
        };
        for device in form.values("device") {
            form = form.tick("device", Some(&device), wanted.contains(&device))?;
        }
        form = choose(form, &consent.exactly, &consent.without)?;
        form = form.tick("future", None, consent.future)?.tick("share_names", None, consent.share_names)?;
        form.press("decision", "allow").await
    }

    /// Opens an app's authorization request and declines it; gives where the browser is sent back to.
    ///
    /// # Errors
    /// No consent page.
    pub async fn decline(&self, request: &str) -> anyhow::Result<Page> {
        self.open(request).await?.good()?.form("decision")?.press("decision", "decline").await
    }

    /// The account page.
    ///
    /// # Errors
    /// As [`Owner::open`].
    pub async fn account(&self) -> anyhow::Result<Page> {
        self.open("/account").await?.good()
    }

    /// Whether the account page lists a device of that name.
    ///
    /// # Errors
    /// As [`Owner::account`].
    pub async fn owns(&self, device: &str) -> anyhow::Result<bool> {
        let page = self.account().await?;
        Ok(html::links(page.html())
            .iter()
            .any(|link| link.href.ends_with("/release") && link.text.contains(device)))
    }

    /// Whether the account page lists an app of that name.
    ///
    /// # Errors
    /// As [`Owner::account`].
    pub async fn allows(&self, app: &str) -> anyhow::Result<bool> {
        Ok(self.account().await?.form_to("/withdraw", app).is_ok())
    }

    /// Withdraws what was allowed to the app of that name.
    ///
    /// # Errors
    /// There is no such app, or the account page does not open afterwards.
    pub async fn withdraw(&self, app: &str) -> anyhow::Result<Page> {
        let account = self.account().await?;
        let page = account.form_to("/withdraw", app)?.submit().await?.good()?;
        self.confirmed(page, "/withdraw").await
    }

    /// Changes what the app of that name has: how exactly it sees channels, and which it loses; both as in [`Consent`].
    ///
    /// # Errors
    /// There is no such app, or its form does not offer that.
    pub async fn change(
        &self,
        app: &str,
        exactly: &[(String, String)],
        without: &[String],
    ) -> anyhow::Result<Page> {
        let page = self.account().await?.follow("/account/apps/", app).await?.good()?;
        let form = choose(page.form_to("/change", "")?, exactly, without)?;
        form.submit().await?.good()
    }

    /// Gives up the device of that name.
    ///
    /// # Errors
    /// There is no such device, or the account page does not open afterwards.
    pub async fn release(&self, device: &str) -> anyhow::Result<Page> {
        let page = self.account().await?.follow("/release", device).await?.good()?;
        self.confirmed(page, "/release").await
    }

    /// Deletes the account.
    ///
    /// # Errors
    /// The page does not offer it, or does not say that it was done.
    pub async fn delete_account(&self) -> anyhow::Result<Page> {
        let page = self.account().await?.follow("/account/delete", "").await?.good()?;
        page.form_to("/account/delete", "")?.tick("sure", Some("yes"), true)?.submit().await?.good()
    }

    /// Says yes if the page asks once more, and expects the account page then.
    async fn confirmed(&self, page: Page, path: &str) -> anyhow::Result<Page> {
        let asks = page.url().path().ends_with(path);
        let page = if asks { page.form_to(path, "")?.submit().await? } else { page };
        let account = Url::parse(&self.didp)?.join("/account")?;
        ensure!(page.status() == StatusCode::OK && page.url().path() == account.path(), "{page:?}");
        Ok(page)
    }
}

/// Clears the boxes of channels that are left out, ticks the others, and chooses how exactly they are seen.
fn choose(mut form: Form, exactly: &[(String, String)], without: &[String]) -> anyhow::Result<Form> {
    for channel in form.values("channel") {
        let left_out = channel_of(&channel).is_some_and(|name| without.iter().any(|c| c == name));
        form = form.tick("channel", Some(&channel), !left_out)?;
    }
    for (channel, choice) in exactly {
        form = form.choose(&format!("d/{channel} {choice}"))?;
    }
    Ok(form)
}

/// The channel's name in what a box of the consent page stands for: `<device> <d or c>/<channel>`.
fn channel_of(value: &str) -> Option<&str> {
    value.split_once(' ')?.1.split_once('/').map(|(_, name)| name)
}
