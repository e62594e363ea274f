//! What the templates are given: plain values, ready to be shown. How they came about is left to the handlers.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};
use http::StatusCode;
use oauth_wire::{Channel, Direction};
use zeroize::Zeroizing;

use super::assets;
use super::failure::Failure;
use super::language::{LanguageLink, Reader};
use super::qr::Qr;
use super::session::Owner;
use super::words::Words;

/// What surrounds every page.
pub(super) struct Frame {
    /// Version of the assets.
    pub(super) version: &'static str,
    /// For the log-out button, if somebody is logged in.
    pub(super) csrf: Option<String>,
    /// The same page in other languages.
    pub(super) languages: Vec<LanguageLink>,
    /// Where the brand leads.
    pub(super) home: &'static str,
    /// Where the log-out button leads.
    pub(super) log_out: &'static str,
}

impl Frame {
    /// Around a page for nobody in particular.
    pub(super) fn anonymous(reader: &Reader) -> Self {
        Frame {
            version: &assets::VERSION,
            csrf: None,
            languages: reader.languages(),
            home: "/account",
            log_out: "/logout",
        }
    }

    /// Around a page for a person who is logged in.
    pub(super) fn of(reader: &Reader, owner: &Owner) -> Self {
        Frame { csrf: Some(owner.csrf.clone()), ..Frame::anonymous(reader) }
    }
}

/// Renders a page.
pub(super) fn render(status: StatusCode, page: &impl Template) -> Result<Response, Failure> {
    let text = page.render().map_err(|_| Failure::Render)?;
    Ok((status, Html(text)).into_response())
}

/// A link that looks like a button.
pub(super) struct Link {
    /// An own path.
    pub(super) href: &'static str,
    /// What it says.
    pub(super) title: &'static str,
}

/// A message and a way on.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) heading: &'a str,
    pub(super) text: &'a str,
    pub(super) link: Option<Link>,
}

/// One provider to choose.
pub(super) struct Provider<'a> {
    pub(super) name: &'a str,
    pub(super) href: String,
}

/// The choice of a provider.
#[derive(Template)]
#[template(path = "login.html")]
pub(super) struct Login<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) heading: &'a str,
    pub(super) lead: &'a str,
    pub(super) problem: Option<String>,
    pub(super) providers: Vec<Provider<'a>>,
}

/// The ways to log in.
#[derive(Template)]
#[template(path = "logins.html")]
pub(super) struct Logins<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) count: String,
    pub(super) done: Option<&'static str>,
    pub(super) problem: Option<&'static str>,
    pub(super) ways: Vec<LoginWay<'a>>,
}

impl Logins<'_> {
    /// Another way would be left.
    fn can_remove(&self) -> bool {
        self.ways.iter().any(|way| way.remove.is_some())
    }
}

/// One provider, to be added or taken away.
pub(super) struct LoginWay<'a> {
    pub(super) name: &'a str,
    pub(super) add: String,
    /// None if the only way must stay.
    pub(super) remove: Option<String>,
}

/// Type the code that an app without a browser shows.
#[derive(Template)]
#[template(path = "device_code.html")]
pub(super) struct DeviceCode<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) typed: &'a str,
    pub(super) problem: Option<&'static str>,
}

/// Press the button, type the code.
#[derive(Template)]
#[template(path = "claim_code.html")]
pub(super) struct ClaimCode<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) action: String,
    pub(super) problem: Option<&'a str>,
}

/// What a device measures and can be told, in plain words.
pub(super) struct Abilities {
    pub(super) readings: Vec<String>,
    pub(super) commands: Vec<String>,
}

impl Abilities {
    /// Of a device with these channels.
    pub(super) fn of(w: &Words, channels: &[Channel]) -> Self {
        let titles = |direction| {
            channels.iter().filter(|channel| channel.direction == direction).map(|c| w.channel(c)).collect()
        };
        Abilities { readings: titles(Direction::Data), commands: titles(Direction::Command) }
    }
}

/// The device in plain words: claim it or not.
#[derive(Template)]
#[template(path = "claim_decide.html")]
pub(super) struct ClaimDecide<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) action: String,
    pub(super) model: &'a str,
    pub(super) abilities: Abilities,
}

/// Until the device reports that it is done.
#[derive(Template)]
#[template(path = "claim_waiting.html")]
pub(super) struct ClaimWaiting<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) model: &'a str,
    pub(super) state_url: String,
}

/// How a claim ended.
#[derive(Template)]
#[template(path = "claim_over.html")]
pub(super) struct ClaimOver<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) heading: &'a str,
    pub(super) text: &'a str,
    pub(super) good: bool,
    /// How the claim can be taken back, if it was the wrong device.
    pub(super) undo: Option<Undo<'a>>,
}

/// Taking back a claim.
pub(super) struct Undo<'a> {
    pub(super) csrf: &'a str,
    pub(super) action: String,
}

/// The app that asks for consent.
pub(super) struct AskingApp<'a> {
    pub(super) name: &'a str,
    pub(super) initial: String,
    pub(super) host: &'a str,
    pub(super) verified: bool,
}

/// How exactly a channel is seen: one of the options.
pub(super) struct ViewSelect {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) options: Vec<ViewOption>,
    /// The app's wish in full, which an option may be too narrow for.
    pub(super) note: Option<String>,
}

/// One way to see a channel.
pub(super) struct ViewOption {
    pub(super) value: String,
    pub(super) title: String,
    pub(super) chosen: bool,
}

/// A device that may be shared.
pub(super) struct OfferedDevice {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) model: String,
    pub(super) chosen: bool,
    pub(super) summary: String,
    pub(super) channels: Vec<OfferedChannel>,
    /// One for each reading.
    pub(super) selects: Vec<ViewSelect>,
}

impl OfferedDevice {
    /// What is chosen, each thing once.
    pub(super) fn exactly(&self) -> String {
        let mut said: Vec<&str> = Vec::new();
        for option in self.selects.iter().flat_map(|select| &select.options).filter(|option| option.chosen) {
            if !said.contains(&option.title.as_str()) {
                said.push(&option.title);
            }
        }
        said.join(" · ")
    }
}

/// A channel that may be shared.
pub(super) struct OfferedChannel {
    /// What the form carries.
    pub(super) value: String,
    pub(super) title: String,
    pub(super) is_command: bool,
    pub(super) chosen: bool,
}

/// How long a consent may last.
pub(super) struct UntilOption {
    pub(super) value: &'static str,
    pub(super) title: String,
    pub(super) chosen: bool,
}

/// Allow an app or not.
#[derive(Template)]
#[template(path = "consent.html")]
pub(super) struct Consent<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    /// Where the form goes.
    pub(super) action: &'static str,
    /// For an app on another device: what it shows, and what that means.
    pub(super) elsewhere: Option<String>,
    pub(super) request: &'a str,
    pub(super) seal: String,
    pub(super) app: AskingApp<'a>,
    pub(super) problem: Option<&'a str>,
    pub(super) terms: Terms,
}

/// The terms on which an app may use devices, to be ticked.
pub(super) struct Terms {
    pub(super) wants_read: bool,
    pub(super) wants_command: bool,
    pub(super) read: bool,
    pub(super) command: bool,
    pub(super) devices: Vec<OfferedDevice>,
    pub(super) future: bool,
    /// How exactly devices are seen that are added later; none if the app asks for no readings.
    pub(super) later: Option<ViewSelect>,
    pub(super) until: Vec<UntilOption>,
    pub(super) share_names: bool,
}

impl Terms {
    /// True if the selects are too many to stand on the page at once.
    pub(super) fn folds(&self) -> bool {
        self.devices.iter().map(|device| device.selects.len()).sum::<usize>() > 3
    }
}

/// A theft alarm, big.
pub(super) struct Alarm {
    pub(super) title: &'static str,
    pub(super) text: String,
    pub(super) stamp: String,
    pub(super) when: String,
}

/// One device of the owner.
pub(super) struct OwnDevice {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) name: String,
    pub(super) model: String,
    pub(super) state: &'static str,
    pub(super) state_class: &'static str,
    pub(super) suspended: bool,
    /// The claim can still be undone.
    pub(super) fresh: bool,
    pub(super) since: String,
    pub(super) abilities: Abilities,
    pub(super) seen_by: Vec<SeenBy>,
}

/// An app that has something of a device.
pub(super) struct SeenBy {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) channels: String,
}

/// One app that the owner allowed.
pub(super) struct OwnApp {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) verified: bool,
    pub(super) devices: Vec<AppDevice>,
    pub(super) facts: Vec<String>,
}

/// What an app has of one device.
pub(super) struct AppDevice {
    pub(super) title: String,
    pub(super) readings: Vec<SeenChannel>,
    pub(super) commands: Vec<String>,
}

/// A channel that an app sees.
pub(super) struct SeenChannel {
    pub(super) title: String,
    /// How exactly, in words.
    pub(super) exactly: String,
}

/// One line of the past.
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) alarm: bool,
    pub(super) stamp: String,
    pub(super) when: String,
}

/// The owner's overview.
#[derive(Template)]
#[template(path = "account.html")]
pub(super) struct Account<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) done: Option<&'a str>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) devices: Vec<OwnDevice>,
    pub(super) apps: Vec<OwnApp>,
    pub(super) notices: Vec<Notice>,
    /// Where else the owner is logged in, in words.
    pub(super) other_logins: Option<String>,
}

/// What happened.
#[derive(Template)]
#[template(path = "activity.html")]
pub(super) struct Activity {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) days: String,
    pub(super) notices: Vec<Notice>,
    pub(super) older: Option<String>,
}

/// One app, with the terms that the owner can change.
#[derive(Template)]
#[template(path = "app.html")]
pub(super) struct AppPage<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) id: &'a str,
    pub(super) app: AskingApp<'a>,
    pub(super) facts: Vec<String>,
    pub(super) problem: Option<&'a str>,
    pub(super) terms: Terms,
}

/// Release a device or keep it.
#[derive(Template)]
#[template(path = "release.html")]
pub(super) struct Release<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) title: &'a str,
    pub(super) action: String,
    /// Where it can be handed over instead.
    pub(super) transfer: String,
}

/// Hand a device over or keep it.
#[derive(Template)]
#[template(path = "transfer.html")]
pub(super) struct AskTransfer<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) title: &'a str,
    pub(super) action: String,
}

/// The code for who gets a device.
#[derive(Template)]
#[template(path = "handover.html")]
pub(super) struct Handover<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) title: &'a str,
    pub(super) qr: Qr,
    pub(super) address: &'a str,
    pub(super) until: String,
}

/// Delete the account or keep it.
#[derive(Template)]
#[template(path = "delete.html")]
pub(super) struct Delete<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) problem: Option<&'a str>,
}

/// The manufacturer's login.
#[derive(Template)]
#[template(path = "maker_login.html")]
pub(super) struct MakerLogin<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: String,
    pub(super) problem: Option<&'a str>,
}

/// One row of a model's counts.
pub(super) struct MakerCell {
    pub(super) name: String,
    pub(super) registered: String,
    pub(super) owned: String,
    pub(super) state: &'static str,
    pub(super) devices: Option<String>,
    pub(super) change: Option<String>,
}

/// A model with its batches.
pub(super) struct MakerModel {
    pub(super) model: String,
    pub(super) cells: Vec<MakerCell>,
}

/// What a manufacturer made.
#[derive(Template)]
#[template(path = "maker.html")]
pub(super) struct MakerOverview<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) name: &'a str,
    pub(super) done: Option<&'a str>,
    pub(super) models: Vec<MakerModel>,
}

/// One device, as its manufacturer sees it.
pub(super) struct MakerDevice {
    pub(super) client_id: String,
    pub(super) since: String,
    pub(super) state: &'static str,
    pub(super) withdrawn: bool,
}

/// Devices of a batch.
#[derive(Template)]
#[template(path = "maker_devices.html")]
pub(super) struct MakerDevices<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) model: &'a str,
    pub(super) batch: &'a str,
    pub(super) devices: Vec<MakerDevice>,
    pub(super) more: Option<String>,
}

/// Withdraw a batch, or bring it back.
#[derive(Template)]
#[template(path = "maker_batch.html")]
pub(super) struct MakerBatch<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) model: &'a str,
    pub(super) batch: &'a str,
    pub(super) batch_shown: &'a str,
}

/// What is told once, and forgotten thoroughly.
pub(super) struct Secret(pub(super) Zeroizing<String>);

/// A unit that took the place of a broken one.
#[derive(Template)]
#[template(path = "maker_replaced.html")]
pub(super) struct MakerReplaced<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) model: &'a str,
    pub(super) old: &'a str,
    pub(super) new: &'a str,
    pub(super) answer: Secret,
}

/// What labels are made of.
#[derive(Template)]
#[template(path = "maker_labels.html")]
pub(super) struct Labels<'a> {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) csrf: &'a str,
    pub(super) problem: Option<&'a str>,
}

/// One label.
pub(super) struct Label {
    pub(super) qr: Qr,
    pub(super) model: String,
    /// The end of the client_id, to tell labels apart; may be empty.
    pub(super) short: String,
}

/// A sheet to print.
#[derive(Template)]
#[template(path = "maker_sheet.html")]
pub(super) struct Sheet {
    pub(super) w: &'static Words,
    pub(super) frame: Frame,
    pub(super) labels: Vec<Label>,
}
