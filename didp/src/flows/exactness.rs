//! How exactly an app may see a channel: what an owner can choose, and what an app's wish means for a channel.
//!
//! Pure. What is chosen is stored as a view for each readable channel, so that a change of the choices changes no grant. The
//! words are left to the pages, and what a view does with a value to the PCM.

use std::collections::BTreeMap;

use oauth_wire::{Channel, Coarsening, Filter, Statistic, Summary, View};
use serde::{Deserialize, Serialize};

const MINUTE: u32 = 60;
const HOUR: u32 = 3_600;
const DAY: u32 = 86_400;

/// Fewer values than these are shown by no average that is offered here.
const MIN_SAMPLES: u32 = 5;

/// The averages that are offered, by their windows in seconds; all are among [`oauth_wire::WINDOWS_S`].
const AVERAGES: [(&str, u32); 4] =
    [("mean-minute", MINUTE), ("mean-quarter", 15 * MINUTE), ("mean-hour", HOUR), ("mean-day", DAY)];

/// One choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// What a form carries.
    pub id: &'static str,
    /// What it stands for.
    pub view: View,
}

impl Offer {
    /// The id of a view that is none of the usual ones: the app's wish, or what was chosen before.
    pub const SPECIAL: &'static str = "special";

    /// What an offer for devices that are added later stands for.
    pub fn for_later(&self, special: &Exactness) -> Exactness {
        if self.id == Self::SPECIAL { special.clone() } else { Exactness::all(self.view.clone()) }
    }
}

/// How exactly devices are seen whose channels are not known yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exactness {
    /// Channels that are not named.
    pub view: View,
    /// Channels by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<String, View>,
}

impl Exactness {
    /// The view of every channel.
    pub fn all(view: View) -> Self {
        Self { view, views: BTreeMap::new() }
    }

    /// How a channel is seen: as it is said here, if that makes sense for the channel.
    pub fn of(&self, channel: &Channel) -> View {
        suited(channel, self.views.get(&channel.name).unwrap_or(&self.view))
    }

    /// True if some channels are seen otherwise than the others.
    pub fn differs(&self) -> bool {
        !self.views.is_empty()
    }
}

/// What can be chosen for a channel. `special` is there too: first, unless it is one of the usual choices.
pub fn offers(channel: &Channel, special: &View) -> Vec<Offer> {
    let mut usual = vec![Offer { id: "every", view: View::Raw }];
    if is_number(channel) {
        let round = Some(step(channel));
        usual.push(Offer {
            id: "rounded",
            view: View::Coarsening(Coarsening { round, ..Coarsening::default() }),
        });
    }
    usual.push(Offer { id: "one-a-minute", view: one_in(MINUTE) });
    if is_number(channel) {
        usual.extend(AVERAGES.iter().map(|(id, window)| Offer { id, view: average(*window) }));
    }
    with_special(usual, special)
}

/// What can be chosen for devices that are added later, whatever they measure; [`Offer::for_later`] says what it means.
pub fn offers_for_later(special: &Exactness) -> Vec<Offer> {
    let mut usual =
        vec![Offer { id: "every", view: View::Raw }, Offer { id: "one-a-minute", view: one_in(MINUTE) }];
    usual.extend(AVERAGES.iter().map(|(id, window)| Offer { id, view: average(*window) }));
    if special.differs() {
        usual.insert(0, Offer { id: Offer::SPECIAL, view: special.view.clone() });
        return usual;
    }
    with_special(usual, &special.view)
}

fn with_special(mut usual: Vec<Offer>, special: &View) -> Vec<Offer> {
    if chosen(&usual, special).is_none() {
        usual.insert(0, Offer { id: Offer::SPECIAL, view: special.clone() });
    }
    usual
}

/// The offer that stands for this view.
pub fn chosen<'o>(offers: &'o [Offer], view: &View) -> Option<&'o Offer> {
    offers.iter().find(|offer| is_same(&offer.view, view))
}

/// True if both show the same; the order of a list says nothing.
fn is_same(one: &View, other: &View) -> bool {
    match (one, other) {
        (View::Summary(one), View::Summary(other)) => {
            let sorted = |summary: &Summary| {
                let mut sorted = summary.clone();
                sorted.statistics.sort_unstable();
                sorted.statistics.dedup();
                sorted
            };
            sorted(one) == sorted(other)
        }
        _ => one == other,
    }
}

/// A view that was meant for many channels, for this one: numbers can be averaged and compared with bounds, anything else can
/// only come less often.
fn suited(channel: &Channel, view: &View) -> View {
    match view {
        View::Summary(summary) if !holds_number(channel, summary.field.as_deref()) => {
            one_in(summary.window_s.max(MINUTE))
        }
        View::Filter(filter) if needs_number(filter) && !holds_number(channel, filter.field.as_deref()) => {
            one_in(filter.interval_s.unwrap_or(MINUTE).max(MINUTE))
        }
        View::Raw | View::Filter(_) | View::Summary(_) | View::Coarsening(_) => view.clone(),
    }
}

fn one_in(seconds: u32) -> View {
    View::Filter(Filter { interval_s: Some(seconds), ..Filter::default() })
}

fn average(window_s: u32) -> View {
    View::Summary(Summary {
        field: None,
        window_s,
        min_samples: MIN_SAMPLES,
        statistics: vec![Statistic::Count, Statistic::Mean, Statistic::Std],
        histogram: Vec::new(),
    })
}

fn needs_number(filter: &Filter) -> bool {
    filter.field.is_some() || filter.above.is_some() || filter.below.is_some() || filter.dead_band.is_some()
}

/// True if a view with this field may find a number in the channel's values. A channel without a type may hold anything.
fn holds_number(channel: &Channel, field: Option<&str>) -> bool {
    match channel.value_type.as_deref() {
        None => true,
        Some("number" | "integer") => field.is_none(),
        Some("object" | "array") => field.is_some(),
        Some(_) => false,
    }
}

/// True if the channel's values are numbers, as far as its maker says.
fn is_number(channel: &Channel) -> bool {
    match channel.value_type.as_deref() {
        Some(kind) => matches!(kind, "number" | "integer"),
        None => channel.unit.as_deref().is_some_and(|unit| !unit.is_empty()),
    }
}

/// To what a channel's values are rounded: coarse enough to hide a moment, fine enough to be of use.
fn step(channel: &Channel) -> f64 {
    match channel.unit.as_deref().unwrap_or("").trim() {
        "%" | "hPa" | "mbar" | "V" | "dB" | "dBA" | "dB(A)" | "bpm" | "min" => 5.0,
        "mm" | "cm" | "m" | "km/h" | "µg/m³" | "μg/m³" | "l" | "L" | "mA" => 10.0,
        "s" => 60.0,
        "W" | "Wh" | "lx" | "lux" | "ppm" | "ppb" | "g" | "Pa" | "ml" | "mL" => 100.0,
        "" => {
            let title = channel.title.as_deref().unwrap_or(&channel.name).to_lowercase();
            if title.contains("humidity") { 5.0 } else { 1.0 }
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use oauth_wire::{Direction, WINDOWS_S};

    use super::*;

    fn channel(kind: Option<&str>, unit: Option<&str>) -> Channel {
        Channel {
            name: "x".into(),
            direction: Direction::Data,
            title: None,
            unit: unit.map(Into::into),
            value_type: kind.map(Into::into),
        }
    }

    fn ids(offers: &[Offer]) -> Vec<&str> {
        offers.iter().map(|offer| offer.id).collect()
    }

    fn view(json: &str) -> View {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_offer_is_a_view_that_others_accept_and_no_two_are_alike() {
        for channel in [channel(Some("number"), Some("°C")), channel(Some("boolean"), None)] {
            let offers = offers(&channel, &View::Raw);
            for (at, offer) in offers.iter().enumerate() {
                let text = serde_json::to_string(&offer.view).unwrap();
                assert_eq!(view(&text), offer.view);
                assert!(offers[..at].iter().all(|one| one.id != offer.id && one.view != offer.view));
            }
        }
        assert!(AVERAGES.iter().all(|(_, window)| WINDOWS_S.contains(window)));
    }

    #[test]
    fn numbers_can_be_rounded_and_averaged_and_other_values_only_come_less_often() {
        let number = offers(&channel(Some("number"), Some("%")), &View::Raw);
        assert_eq!(
            ids(&number),
            ["every", "rounded", "one-a-minute", "mean-minute", "mean-quarter", "mean-hour", "mean-day"]
        );
        assert_eq!(number[1].view, view(r#"{"kind":"coarsening","round":5}"#));
        assert_eq!(ids(&offers(&channel(Some("boolean"), None), &View::Raw)), ["every", "one-a-minute"]);
        assert_eq!(ids(&offers(&channel(None, Some("lx")), &View::Raw)).len(), 7);
    }

    #[test]
    fn a_wish_stands_first_unless_it_is_a_usual_choice() {
        let asked = view(r#"{"kind":"filter","above":30}"#);
        let offers = |asked: &View| offers(&channel(Some("number"), None), asked);
        assert_eq!(offers(&asked)[0], Offer { id: Offer::SPECIAL, view: asked.clone() });
        let hour = view(r#"{"kind":"summary","window_s":3600}"#);
        assert!(!ids(&offers(&hour)).contains(&Offer::SPECIAL));
        let later = Exactness::all(asked.clone());
        assert_eq!(offers_for_later(&later)[0].for_later(&later), later);
        let apart = Exactness { views: [("x".to_owned(), asked)].into(), ..Exactness::default() };
        assert_eq!(offers_for_later(&apart)[0].for_later(&apart), apart);
        assert_eq!(offers_for_later(&apart)[1].for_later(&apart), Exactness::default());
    }

    #[test]
    fn a_view_for_all_channels_is_suited_to_each() {
        let mean = Exactness::all(view(r#"{"kind":"summary","window_s":900}"#));
        assert_eq!(mean.of(&channel(Some("number"), None)), mean.view);
        assert_eq!(mean.of(&channel(None, None)), mean.view);
        let rare = view(r#"{"kind":"filter","interval_s":900}"#);
        assert_eq!(mean.of(&channel(Some("boolean"), None)), rare);
        assert_eq!(mean.of(&channel(Some("object"), None)), rare);
        let member = Exactness::all(view(r#"{"kind":"filter","field":"t","above":3}"#));
        assert_eq!(member.of(&channel(Some("object"), None)), member.view);
        assert_eq!(member.of(&channel(Some("number"), None)), view(r#"{"kind":"filter","interval_s":60}"#));
        let rounded = Exactness::all(view(r#"{"kind":"coarsening","round":1}"#));
        assert_eq!(rounded.of(&channel(Some("boolean"), None)), rounded.view);
    }
}
