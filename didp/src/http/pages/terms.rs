//! The terms on which an app may use devices, as a form: on the consent page, and later on the app's own page, where the owner
//! narrows or extends them. What is not asked for is not offered; what the terms do is decided by the flows.

use std::collections::BTreeSet;

use oauth_wire::{Channel, Direction, View};

use super::exactness::{self, About};
use super::failure::Failure;
use super::form::{self, Fields};
use super::views::{OfferedChannel, OfferedDevice, Terms, UntilOption, ViewSelect};
use super::words::Words;
use crate::flows::account::AppView;
use crate::flows::authorize::{Choice, ChosenDevice, OwnedDevice};
use crate::flows::details::Asked;
use crate::flows::exactness::{Exactness, offers, offers_for_later};

const DAY: i64 = 86_400;

/// What the choice for devices that are added later begins with in the form.
const LATER: &str = "later";

/// One choice of "allowed until".
struct Span {
    /// What the form carries.
    value: &'static str,
    /// What it says.
    title: fn(&Words) -> &'static str,
    /// How long; none is until withdrawn.
    seconds: Option<i64>,
}

const UNTIL: [Span; 5] = [
    Span { value: "withdrawn", title: |w| w.until_withdrawn, seconds: None },
    Span { value: "day", title: |w| w.for_a_day, seconds: Some(DAY) },
    Span { value: "week", title: |w| w.for_a_week, seconds: Some(7 * DAY) },
    Span { value: "month", title: |w| w.for_a_month, seconds: Some(30 * DAY) },
    Span { value: "year", title: |w| w.for_a_year, seconds: Some(365 * DAY) },
];

/// The end stays as it is; offered only where there is one.
const AS_IT_IS: &str = "as-it-is";

/// What the form is about.
pub(super) struct Ground<'a> {
    /// What the app asked for.
    pub(super) asked: &'a Asked,
    /// What the owner can choose from.
    pub(super) devices: &'a [OwnedDevice],
    /// What holds now, if the app is allowed already.
    pub(super) now: Option<&'a AppView>,
}

impl Ground<'_> {
    /// The channels of a device that the app asks for.
    fn offered<'d>(&self, device: &'d OwnedDevice) -> Vec<&'d Channel> {
        device.channels.iter().filter(|channel| self.asked.asks_for(channel)).collect()
    }

    /// Each device of which the app asks for something, with those channels.
    fn fitting(&self) -> impl Iterator<Item = (&OwnedDevice, Vec<&Channel>)> {
        self.devices
            .iter()
            .map(|device| (device, self.offered(device)))
            .filter(|(_, channels)| !channels.is_empty())
    }

    /// How exactly the app sees the channel now; none if it does not.
    fn seen(&self, device: &OwnedDevice, channel: &Channel) -> Option<View> {
        let held = self.now?.devices.iter().find(|held| held.id == device.id)?;
        held.channels.contains(channel).then(|| held.view_of(&channel.name))
    }

    /// The view that is offered beside the usual ones: what holds, or else what the app wishes.
    fn special(&self, device: &OwnedDevice, channel: &Channel) -> View {
        self.seen(device, channel).unwrap_or_else(|| self.asked.exactness.of(channel))
    }

    /// The same for devices that are added later.
    fn special_later(&self) -> &Exactness {
        self.now.and_then(|app| app.future.as_ref()).unwrap_or(&self.asked.exactness)
    }
}

/// What is ticked.
pub(super) struct Picked {
    read: bool,
    command: bool,
    devices: BTreeSet<String>,
    /// Devices' channels, as [`form::channel`] writes them.
    channels: BTreeSet<String>,
    /// How exactly: such a pair and the id of an offer each. Where nothing is said, it is as [`Ground::special`] says.
    views: Vec<String>,
    future: bool,
    /// The same for devices that are added later: [`LATER`] and the id of an offer.
    later: Vec<String>,
    share_names: bool,
    until: &'static str,
}

impl Picked {
    /// What a form shows at first: what holds, or everything that the app asks for on the devices of today.
    pub(super) fn proposal(ground: &Ground<'_>) -> Self {
        let Some(now) = ground.now else {
            return Picked {
                read: ground.asked.read,
                command: ground.asked.command,
                devices: ground.fitting().map(|(device, _)| device.id.clone()).collect(),
                channels: ground
                    .fitting()
                    .flat_map(|(device, channels)| {
                        channels.into_iter().map(|channel| form::channel(&device.id, channel))
                    })
                    .collect(),
                views: Vec::new(),
                future: false,
                later: Vec::new(),
                share_names: false,
                until: UNTIL[0].value,
            };
        };
        let held = |device: &OwnedDevice| now.devices.iter().any(|held| held.id == device.id);
        let mut channels = BTreeSet::new();
        for (device, offered) in ground.fitting() {
            // A device that the app has not is proposed whole as soon as it is ticked.
            let proposed = offered
                .into_iter()
                .filter(|channel| !held(device) || ground.seen(device, channel).is_some())
                .map(|channel| form::channel(&device.id, channel));
            channels.extend(proposed);
        }
        Picked {
            read: now.reads,
            command: now.commands,
            devices: now.devices.iter().map(|device| device.id.clone()).collect(),
            channels,
            views: Vec::new(),
            future: now.future.is_some(),
            later: Vec::new(),
            share_names: now.shares_names,
            until: if now.until.is_some() { AS_IT_IS } else { UNTIL[0].value },
        }
    }

    /// What a form carries.
    pub(super) fn read(ground: &Ground<'_>, fields: &Fields) -> Result<Self, Failure> {
        let all = |name| fields.all(name).map(str::to_owned);
        let may = |what| fields.all("may").any(|value| value == what);
        let until = fields.required("until")?;
        let has_end = ground.now.is_some_and(|app| app.until.is_some());
        let until = match UNTIL.iter().find(|span| span.value == until) {
            Some(span) => span.value,
            None if until == AS_IT_IS && has_end => AS_IT_IS,
            None => return Err(Failure::Malformed),
        };
        Ok(Picked {
            read: ground.asked.read && may("read"),
            command: ground.asked.command && may("command"),
            devices: all("device").collect(),
            channels: all("channel").collect(),
            views: all("view").collect(),
            later: all("later").collect(),
            future: fields.one("future")?.is_some(),
            share_names: fields.one("share_names")?.is_some(),
            until,
        })
    }

    /// What the ticks come to: of each ticked device the ticked channels that the app asked for and that the ticked kinds of
    /// access are about. A device without any is left out.
    pub(super) fn choice(&self, ground: &Ground<'_>, now: i64) -> Result<Choice, Failure> {
        let mut chosen = Vec::new();
        for (device, channels) in ground.fitting().filter(|(device, _)| self.devices.contains(&device.id)) {
            let mut one = ChosenDevice { id: device.id.clone(), ..ChosenDevice::default() };
            let (mut read, mut command) = (Vec::new(), Vec::new());
            for channel in channels {
                if !self.channels.contains(&form::channel(&device.id, channel)) {
                    continue;
                }
                match channel.direction {
                    Direction::Data if self.read => {
                        one.views.insert(channel.name.clone(), self.view(ground, device, channel)?);
                        read.push(channel.name.clone());
                    }
                    Direction::Command if self.command => command.push(channel.name.clone()),
                    Direction::Data | Direction::Command => {}
                }
            }
            if !read.is_empty() || !command.is_empty() {
                (one.read, one.command) = (Some(read), Some(command));
                chosen.push(one);
            }
        }
        let until = match UNTIL.iter().find(|span| span.value == self.until) {
            Some(span) => span.seconds.map(|seconds| now + seconds),
            None => ground.now.and_then(|app| app.until),
        };
        Ok(Choice {
            devices: chosen,
            read: self.read,
            command: self.command,
            future: self.future,
            future_exactness: self.future_exactness(ground)?,
            share_names: self.share_names,
            until,
        })
    }

    /// How exactly a channel is to be seen.
    fn view(&self, ground: &Ground<'_>, device: &OwnedDevice, channel: &Channel) -> Result<View, Failure> {
        let special = ground.special(device, channel);
        let offers = offers(channel, &special);
        let picked = exactness::picked(&offers, &self.views, &form::channel(&device.id, channel))?;
        Ok(picked.map_or(special, |offer| offer.view.clone()))
    }

    /// How exactly devices are to be seen that are added later.
    fn future_exactness(&self, ground: &Ground<'_>) -> Result<Exactness, Failure> {
        let special = ground.special_later();
        let offers = offers_for_later(special);
        let picked = exactness::picked(&offers, &self.later, LATER)?;
        Ok(picked.map_or_else(|| special.clone(), |offer| offer.for_later(special)))
    }

    /// The form.
    pub(super) fn shown(&self, w: &'static Words, ground: &Ground<'_>) -> Result<Terms, Failure> {
        let mut devices = Vec::new();
        for (at, (device, channels)) in ground.fitting().enumerate() {
            let mut selects = Vec::new();
            for channel in channels.iter().filter(|channel| channel.direction == Direction::Data) {
                let about = About {
                    id: format!("view-{at}-{}", selects.len()),
                    key: &form::channel(&device.id, channel),
                    label: w.channel(channel),
                    unit: channel.unit.as_deref(),
                    wish: ground.seen(device, channel).is_none(),
                };
                let offers = offers(channel, &ground.special(device, channel));
                selects.push(exactness::select(w, about, &offers, &self.view(ground, device, channel)?));
            }
            devices.push(OfferedDevice {
                id: device.id.clone(),
                title: device.name.clone().unwrap_or_else(|| device.model.clone()),
                model: device.model.clone(),
                chosen: self.devices.contains(&device.id),
                summary: channels.iter().map(|channel| w.channel(channel)).collect::<Vec<_>>().join(", "),
                channels: channels
                    .into_iter()
                    .map(|channel| OfferedChannel {
                        value: form::channel(&device.id, channel),
                        title: w.channel(channel),
                        is_command: channel.direction == Direction::Command,
                        chosen: self.channels.contains(&form::channel(&device.id, channel)),
                    })
                    .collect(),
                selects,
            });
        }
        let as_it_is = ground.now.and_then(|app| app.until).map(|end| UntilOption {
            value: AS_IT_IS,
            title: w.until_as_it_is.with(w.moment(end)),
            chosen: self.until == AS_IT_IS,
        });
        let spans = UNTIL.iter().map(|span| UntilOption {
            value: span.value,
            title: (span.title)(w).to_owned(),
            chosen: span.value == self.until,
        });
        Ok(Terms {
            wants_read: ground.asked.read,
            wants_command: ground.asked.command,
            read: self.read,
            command: self.command,
            devices,
            future: self.future,
            later: self.later_select(w, ground)?,
            until: as_it_is.into_iter().chain(spans).collect(),
            share_names: self.share_names,
        })
    }

    /// The choice for devices that are added later, if the app asks for readings.
    fn later_select(&self, w: &Words, ground: &Ground<'_>) -> Result<Option<ViewSelect>, Failure> {
        if !ground.asked.read {
            return Ok(None);
        }
        let about = About {
            id: "later".to_owned(),
            key: LATER,
            label: w.how_exactly_later.to_owned(),
            unit: None,
            wish: ground.now.is_none_or(|app| app.future.is_none()),
        };
        let now = self.future_exactness(ground)?;
        Ok(Some(exactness::select_later(w, about, ground.special_later(), &now)))
    }
}

/// What has to be ticked beside, in words.
pub(super) fn problem(choice: &Choice, w: &Words) -> Option<&'static str> {
    if !choice.read && !choice.command {
        return Some(w.choose_an_action);
    }
    (choice.devices.is_empty() && !choice.future).then_some(w.choose_something)
}
