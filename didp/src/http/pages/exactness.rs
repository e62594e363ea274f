//! How exactly an app sees a channel, in words and in forms. What can be chosen is decided by [`crate::flows::exactness`].

use oauth_wire::{Channel, Coarsening, Filter, Statistic, Summary, View};

use super::failure::Failure;
use super::views::{ViewOption, ViewSelect};
use super::words::Words;
use crate::flows::exactness::{Exactness, Offer, chosen, offers_for_later};

/// A number of values that is not worth a word.
const USUAL_SAMPLES: u32 = 5;

/// The offer that a form's field names for `key`: its value is `<key> <id>`. None if the field is not there at all; what was
/// not offered, or comes twice, is malformed.
pub(super) fn picked<'o>(
    offers: &'o [Offer],
    values: &[String],
    key: &str,
) -> Result<Option<&'o Offer>, Failure> {
    let mut ids = values.iter().filter_map(|value| value.strip_prefix(key)?.strip_prefix(' '));
    match (ids.next(), ids.next()) {
        (None, _) => Ok(None),
        (Some(id), None) => offers.iter().find(|offer| offer.id == id).map(Some).ok_or(Failure::Malformed),
        (Some(_), Some(_)) => Err(Failure::Malformed),
    }
}

/// What a select is for.
pub(super) struct About<'a> {
    /// Its id on the page.
    pub(super) id: String,
    /// What its options' values begin with.
    pub(super) key: &'a str,
    /// The channel, as a person calls it.
    pub(super) label: String,
    /// The unit of its numbers.
    pub(super) unit: Option<&'a str>,
    /// True if a view that is none of the usual ones is the app's wish.
    pub(super) wish: bool,
}

/// The choice between these offers, with `now` chosen.
pub(super) fn select(w: &Words, about: About<'_>, offers: &[Offer], now: &View) -> ViewSelect {
    let current = chosen(offers, now).map(|offer| offer.id);
    let unit = about.unit;
    choice(w, about, offers, current, |offer| in_words(w, &offer.view, unit))
}

/// The choice for devices that are added later: `special` is what the app asks for, or what was chosen before.
pub(super) fn select_later(w: &Words, about: About<'_>, special: &Exactness, now: &Exactness) -> ViewSelect {
    let offers = offers_for_later(special);
    let current =
        offers.iter().find(|offer| offer.for_later(special) == *now).or_else(|| chosen(&offers, &now.view));
    let current = current.map(|offer| offer.id);
    choice(w, about, &offers, current, |offer| of_later(w, &offer.for_later(special)))
}

fn choice(
    w: &Words,
    about: About<'_>,
    offers: &[Offer],
    current: Option<&'static str>,
    said: impl Fn(&Offer) -> String,
) -> ViewSelect {
    let mut note = None;
    let options = offers
        .iter()
        .map(|offer| {
            let words = said(offer);
            if about.wish && offer.id == Offer::SPECIAL {
                note = Some(w.it_asks.with(&words));
            }
            ViewOption {
                value: format!("{} {}", about.key, offer.id),
                title: capital(words),
                chosen: Some(offer.id) == current,
            }
        })
        .collect();
    ViewSelect { id: about.id, label: about.label, options, note }
}

/// How exactly a channel is seen.
pub(super) fn of_channel(w: &Words, channel: &Channel, view: &View) -> String {
    in_words(w, view, channel.unit.as_deref())
}

/// How exactly devices are seen that are added later.
pub(super) fn of_later(w: &Words, exactness: &Exactness) -> String {
    if exactness.differs() { w.as_asked.to_owned() } else { in_words(w, &exactness.view, None) }
}

fn in_words(w: &Words, view: &View, unit: Option<&str>) -> String {
    let parts = match view {
        View::Raw => vec![w.every_value.to_owned()],
        View::Filter(filter) => filter_in_words(w, filter, unit),
        View::Summary(summary) => summary_in_words(w, summary, unit),
        View::Coarsening(coarsening) => coarsening_in_words(w, coarsening, unit),
    };
    parts.join(", ")
}

fn filter_in_words(w: &Words, filter: &Filter, unit: Option<&str>) -> Vec<String> {
    let Filter { field, above, below, dead_band, interval_s } = filter;
    let mut parts = Vec::new();
    match (below, above) {
        (None, None) => {}
        (None, Some(above)) => parts.push(w.only_above.with(amount(w, *above, unit))),
        (Some(below), None) => parts.push(w.only_below.with(amount(w, *below, unit))),
        (Some(below), Some(above)) if above < below => {
            parts.push(w.only_above.with(amount(w, *above, unit)));
            parts.push(w.and_below.with(amount(w, *below, unit)));
        }
        (Some(below), Some(above)) => {
            parts.push(w.only_below.with(amount(w, *below, unit)));
            parts.push(w.or_above.with(amount(w, *above, unit)));
        }
    }
    // The two bounds are one condition.
    let mut parts = if parts.is_empty() { parts } else { vec![parts.join(" ")] };
    parts.extend(dead_band.map(|width| w.only_changes.with(amount(w, width, unit))));
    parts.extend(interval_s.map(|seconds| match seconds {
        60 => w.one_a_minute.to_owned(),
        _ => w.one_in.with(span(w, seconds)),
    }));
    parts.extend(field.as_ref().map(|field| w.of_field.with(field)));
    parts
}

fn summary_in_words(w: &Words, summary: &Summary, unit: Option<&str>) -> Vec<String> {
    let Summary { field, window_s, min_samples, statistics, histogram } = summary;
    let shows = |one: Statistic| statistics.contains(&one);
    let window = span(w, *window_s);
    let mut parts = Vec::new();
    match (shows(Statistic::Mean), shows(Statistic::Std)) {
        (true, true) => parts.push(w.average_over.with(&window)),
        (true, false) => parts.extend([w.average_over.with(&window), w.without_spread.to_owned()]),
        (false, true) => parts.push(w.spread_over.with(&window)),
        (false, false) => parts.push(w.numbers_over.with(&window)),
    }
    let exact: Vec<&str> =
        [(Statistic::Min, w.lowest), (Statistic::Max, w.highest), (Statistic::Last, w.last_one)]
            .into_iter()
            .filter_map(|(one, word)| shows(one).then_some(word))
            .collect();
    if !exact.is_empty() {
        parts.push(w.exact_values.with(exact.join(", ")));
    }
    if !histogram.is_empty() {
        let bounds: Vec<String> = histogram.iter().map(|bound| amount(w, *bound, unit)).collect();
        parts.push(w.how_often.with(bounds.join(", ")));
    }
    if *min_samples != USUAL_SAMPLES {
        parts.push(w.of_at_least.with(min_samples));
    }
    parts.extend(field.as_ref().map(|field| w.of_field.with(field)));
    parts
}

fn coarsening_in_words(w: &Words, coarsening: &Coarsening, unit: Option<&str>) -> Vec<String> {
    let Coarsening { round, drop, hash } = coarsening;
    let named = |names: &[String]| {
        let quoted: Vec<String> = names.iter().map(|name| w.quoted.with(name)).collect();
        quoted.join(", ")
    };
    let mut parts: Vec<String> = round.iter().map(|step| w.rounded_to.with(amount(w, *step, unit))).collect();
    if !drop.is_empty() {
        parts.push(w.without_fields.with(named(drop)));
    }
    if !hash.is_empty() {
        parts.push(w.hashed_fields.with(named(hash)));
    }
    parts
}

fn amount(w: &Words, number: f64, unit: Option<&str>) -> String {
    let number = w.number(number);
    match unit {
        Some(unit) if !unit.is_empty() => format!("{number} {unit}"),
        _ => number,
    }
}

/// A length of time in its largest whole unit.
fn span(w: &Words, seconds: u32) -> String {
    let units = [(86_400, w.days), (3_600, w.hours), (60, w.minutes), (1, w.seconds)];
    let (length, (one, many)) =
        units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length)).unwrap_or((1, w.seconds));
    match seconds / length {
        1 => one.to_owned(),
        count => many.with(count),
    }
}

fn capital(text: String) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::{ENGLISH, GERMAN};
    use super::*;

    fn said(json: &str, unit: Option<&str>) -> String {
        in_words(&ENGLISH, &serde_json::from_str(json).unwrap(), unit)
    }

    #[test]
    fn every_kind_of_view_is_said_in_words() {
        for (json, words) in [
            (r#"{"kind":"raw"}"#, "every value as it is"),
            (r#"{"kind":"filter","interval_s":60}"#, "at most one a minute"),
            (r#"{"kind":"filter","interval_s":7200}"#, "at most one in 2 hours"),
            (
                r#"{"kind":"filter","above":30,"dead_band":0.5}"#,
                "only above 30 °C, only changes of at least 0.5 °C",
            ),
            (r#"{"kind":"filter","below":5,"above":30}"#, "only below 5 °C or above 30 °C"),
            (r#"{"kind":"filter","above":5,"below":30}"#, "only above 5 °C and below 30 °C"),
            (
                r#"{"kind":"filter","field":"t","below":5,"interval_s":90}"#,
                "only below 5 °C, at most one in 90 seconds, of “t”",
            ),
            (r#"{"kind":"summary","window_s":900}"#, "average over 15 minutes"),
            (r#"{"kind":"summary","window_s":60}"#, "average over a minute"),
            (
                r#"{"kind":"summary","window_s":86400,"statistics":["mean"]}"#,
                "average over a day, without spread",
            ),
            (
                r#"{"kind":"summary","window_s":3600,"min_samples":2,"statistics":["min","max","last"],"field":"t"}"#,
                "number of values over an hour, exact values: lowest, highest, last, from at least 2 values, of “t”",
            ),
            (
                r#"{"kind":"summary","window_s":10,"statistics":["std"],"histogram":[20,25.5]}"#,
                "spread over 10 seconds, how often below, between and above 20 °C, 25.5 °C",
            ),
            (
                r#"{"kind":"coarsening","round":0.5,"drop":["serial","at"],"hash":["card"]}"#,
                "rounded to 0.5 °C, without “serial”, “at”, “card” replaced by a code",
            ),
        ] {
            assert_eq!(said(json, Some("°C")), words);
        }
        assert_eq!(said(r#"{"kind":"coarsening","round":5}"#, None), "rounded to 5");
        let half = serde_json::from_str(r#"{"kind":"coarsening","round":0.5}"#).unwrap();
        assert_eq!(in_words(&GERMAN, &half, Some("°C")), "gerundet auf 0,5 °C");
    }

    #[test]
    fn a_form_names_an_offer_or_nothing() {
        let offers = [Offer { id: "every", view: View::Raw }];
        let pick = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            picked(&offers, &values, "k a").map(|offer| offer.map(|offer| offer.id)).map_err(|_| ())
        };
        assert_eq!(pick(&["k a every", "k a/b other", "x"]), Ok(Some("every")));
        assert_eq!(pick(&["k a/b every", "k b every"]), Ok(None));
        for wrong in [&["k a other"][..], &["k a every", "k a every"], &["k a "], &["k a every "]] {
            assert_eq!(pick(wrong), Err(()), "{wrong:?}");
        }
    }
}
