//! Every sentence that a person reads on the pages, in one catalogue: a translation is another constant of the same type.
//! Templates take plain words as they are; sentences with a gap are filled by [`Sentence::with`].

use chrono::{DateTime, Datelike as _, Timelike as _};
use oauth_wire::Channel;

/// A sentence with one gap, written `{}`.
#[derive(Clone, Copy)]
pub(super) struct Sentence(&'static str);

impl Sentence {
    /// The sentence with its gap filled. Escaping is the template's work.
    pub(super) fn with(&self, what: impl std::fmt::Display) -> String {
        self.0.replacen("{}", &what.to_string(), 1)
    }
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident: $kind:ty,)*) => {
        /// The catalogue of one language.
        pub(super) struct Words {
            $($(#[$doc])* pub(super) $name: $kind,)*
        }
    };
}

type Text = &'static str;

catalogue! {
    /// BCP 47 tag for the `lang` attribute.
    lang: Text,
    months: [Text; 12],
    brand: Text,
    skip: Text,
    footer: Text,
    log_in: Text,
    log_out: Text,
    continue_: Text,
    optional: Text,
    save: Text,

    login_heading: Text,
    login_lead: Text,
    login_for_app_heading: Text,
    login_for_app_lead: Text,
    login_for_claim_heading: Text,
    login_for_claim_lead: Text,
    continue_with: Sentence,
    kept_question: Text,
    kept_answer: Text,
    login_denied: Text,
    login_away: Sentence,
    login_failed: Text,

    claim_title: Text,
    claim_heading: Text,
    press_step: Text,
    press_hint: Text,
    code_step: Text,
    code_hint: Text,
    code_aside: Text,
    no_match: Text,
    contested: Text,
    contested_heading: Text,
    your_device_is: Text,
    it_measures: Text,
    it_can_be_told: Text,
    name_label: Text,
    name_hint: Text,
    name_too_long: Text,
    claim_promise_1: Text,
    claim_promise_2: Text,
    claim_promise_3: Text,
    claim_button: Text,
    decline_button: Text,
    waiting_title: Text,
    waiting_heading: Text,
    waiting_text: Sentence,
    waiting_lost: Text,
    done_heading: Sentence,
    done_text: Text,
    gone_heading: Text,
    gone_text: Text,
    expired_heading: Text,
    expired_text: Text,
    declined_heading: Text,
    declined_text: Text,
    over_heading: Text,
    over_text: Text,
    to_my_devices: Text,

    consent_title: Text,
    consent_heading: Sentence,
    unverified: Text,
    unverified_text: Sentence,
    it_may: Text,
    may_read: Text,
    may_read_text: Text,
    may_command: Text,
    may_command_text: Text,
    with_devices: Text,
    how_exactly: Text,
    how_exactly_for: Sentence,
    how_exactly_later: Text,
    no_device_to_share: Text,
    channels_of: Sentence,
    a_reading: Text,
    a_command: Text,
    future_devices: Text,
    future_devices_text: Text,
    more_choices: Text,
    until_label: Text,
    until_withdrawn: Text,
    for_a_day: Text,
    for_a_week: Text,
    for_a_month: Text,
    for_a_year: Text,
    share_names: Text,
    share_names_text: Text,
    consent_promise_1: Sentence,
    consent_promise_2: Text,
    allow_button: Text,
    goes_back_to: Sentence,
    choose_something: Text,
    choose_an_action: Text,

    as_asked: Text,
    it_asks: Sentence,
    every_value: Text,
    rounded_to: Sentence,
    one_a_minute: Text,
    one_in: Sentence,
    only_above: Sentence,
    only_below: Sentence,
    or_above: Sentence,
    and_below: Sentence,
    only_changes: Sentence,
    average_over: Sentence,
    without_spread: Text,
    spread_over: Sentence,
    numbers_over: Sentence,
    exact_values: Sentence,
    lowest: Text,
    highest: Text,
    last_one: Text,
    how_often: Sentence,
    of_at_least: Sentence,
    of_field: Sentence,
    quoted: Sentence,
    without_fields: Sentence,
    hashed_fields: Sentence,
    /// One, and several.
    seconds: (Text, Sentence),
    minutes: (Text, Sentence),
    hours: (Text, Sentence),
    days: (Text, Sentence),

    account_title: Text,
    my_devices: Text,
    no_devices: Text,
    active: Text,
    suspended: Text,
    suspended_text: Text,
    yours_since: Sentence,
    rename: Text,
    release: Text,
    my_apps: Text,
    no_apps: Text,
    sees: Text,
    may_tell: Text,
    withdraw: Text,
    fact_since: Sentence,
    fact_until: Sentence,
    fact_until_withdrawn: Text,
    fact_future: Sentence,
    change_app: Text,
    change_app_hint: Text,
    stays_allowed: Sentence,
    nothing_left: Text,
    fact_names: Text,
    recent: Text,
    no_notices: Text,
    alarm_title: Text,
    alarm_text: Sentence,
    notice_alarm: Sentence,
    notice_claimed: Sentence,
    notice_released: Sentence,
    notice_allowed: Sentence,
    notice_withdrawn: Sentence,
    notice_changed: Sentence,
    notice_suspended: Sentence,
    release_title: Text,
    release_heading: Sentence,
    release_fact_1: Text,
    release_fact_2: Text,
    release_fact_3: Text,
    release_button: Text,
    keep_button: Text,
    done_released: Text,
    done_withdrawn: Text,
    done_renamed: Text,
    done_changed: Text,

    bad_request_heading: Text,
    bad_input_text: Text,
    forged_heading: Text,
    forged_text: Text,
    not_found_heading: Text,
    not_found_text: Text,
    wrong_app_heading: Text,
    unknown_app_text: Text,
    wrong_redirect_text: Text,
    malformed_app_text: Text,
    too_many_heading: Text,
    too_many_text: Text,
    unavailable_heading: Text,
    unavailable_text: Text,
    no_providers: Text,
}

/// English.
pub(super) static ENGLISH: Words = Words {
    lang: "en",
    months: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    brand: "OAuthing",
    skip: "Skip to the content",
    footer: "Your devices answer to you. This site keeps no name, no e-mail address and none of your devices’ data.",
    log_in: "Log in",
    log_out: "Log out",
    continue_: "Continue",
    optional: "(optional)",
    save: "Save",

    login_heading: "Log in",
    login_lead: "Use a login that you already have. There is nothing to sign up for.",
    login_for_app_heading: "An app wants to connect",
    login_for_app_lead: "Log in first. Then you see what the app asks for, and you decide.",
    login_for_claim_heading: "Make this device yours",
    login_for_claim_lead: "Log in with a login that you already have. Then the device shows you a code, so that nobody else can take it.",
    continue_with: Sentence("Continue with {}"),
    kept_question: "What is kept of my login?",
    kept_answer: "Only a one-way fingerprint that recognises you next time. Not your name, not your e-mail address, not your picture. Whoever you log in with does not learn which devices you have.",
    login_denied: "You were not logged in, because you said no there. You can try again, or choose another login.",
    login_away: Sentence("{} does not answer at the moment. Try again in a minute, or choose another login."),
    login_failed: "That login could not be completed. Please start it again here, in this browser.",

    claim_title: "Make this device yours",
    claim_heading: "Is the device in front of you?",
    press_step: "Press the button on the device",
    press_hint: "You then have two minutes.",
    code_step: "Type the code it shows",
    code_hint: "Four digits. If your device has no display and no lamp for it, leave this empty.",
    code_aside: "Only somebody at the device can press its button. That is how it knows that it is you.",
    no_match: "That did not work. Press the device’s button and type the code that it shows now; if it shows none, press and go on at once, and let nobody else try at the same moment. After three wrong tries, wait two minutes until the window ends, then press again. A device that already has an owner must be released by them first.",
    contested: "Somebody else is trying to take this device at the same moment, so neither of you got it. Press the button again when you are alone with it.",
    contested_heading: "Two at once",
    your_device_is: "You are about to claim",
    it_measures: "It measures",
    it_can_be_told: "It can be told",
    name_label: "Name",
    name_hint: "For you, like “Kitchen”. Apps see it only if you allow it.",
    name_too_long: "A name has at most 60 characters.",
    claim_promise_1: "Only you decide which apps see its readings or command it.",
    claim_promise_2: "Until you allow an app, nothing it measures is kept or shared.",
    claim_promise_3: "You can release it at any time.",
    claim_button: "Claim",
    decline_button: "Decline",
    waiting_title: "One moment",
    waiting_heading: "Waiting for the device",
    waiting_text: Sentence(
        "{} is getting its new keys. This takes a few seconds; with a device that shows no digits, up to half a minute.",
    ),
    waiting_lost: "The connection to this site is interrupted. The page goes on by itself as soon as it is back.",
    done_heading: Sentence("{} is yours"),
    done_text: "It has stored its new keys. What came from the factory no longer works.",
    gone_heading: "The device went away",
    gone_text: "It lost its connection before it was finished. Nothing was kept. Switch it on, press its button and scan its code again.",
    expired_heading: "Time ran out",
    expired_text: "The device did not finish in time. Nothing was kept. Press its button and scan its code again.",
    declined_heading: "Declined",
    declined_text: "Nothing was kept. The device stays without an owner.",
    over_heading: "This claim is over",
    over_text: "It was finished, it ran out, or it belongs to another login. To claim a device, scan its code again.",
    to_my_devices: "My devices",

    consent_title: "Connect an app",
    consent_heading: Sentence("Let {} use your devices?"),
    unverified: "unverified",
    unverified_text: Sentence(
        "Nobody has checked who is behind this app. Go on only if you came from {} and trust it.",
    ),
    it_may: "It may",
    may_read: "See readings",
    may_read_text: "What the devices measure, from now on.",
    may_command: "Send commands",
    may_command_text: "Switch and set what the devices can do.",
    with_devices: "With these devices",
    how_exactly: "How exactly?",
    how_exactly_for: Sentence("How exactly it sees {}"),
    how_exactly_later: "How exactly it sees those",
    no_device_to_share: "You have no device yet. You can allow future ones.",
    channels_of: Sentence("Choose for {}"),
    a_reading: "reading",
    a_command: "command",
    future_devices: "Devices that I add later",
    future_devices_text: "They join without another question.",
    more_choices: "How long, and names",
    until_label: "Allowed until",
    until_withdrawn: "I withdraw it",
    for_a_day: "tomorrow",
    for_a_week: "a week from now",
    for_a_month: "30 days from now",
    for_a_year: "a year from now",
    share_names: "Tell it my names for the devices",
    share_names_text: "Otherwise it sees only their models.",
    consent_promise_1: Sentence("{} does not learn who you are."),
    consent_promise_2: "You can withdraw this at any time. It then stops at once.",
    allow_button: "Allow",
    goes_back_to: Sentence("Either way you go back to {}."),
    choose_something: "Choose at least one device, or devices that you add later.",
    choose_an_action: "Choose what the app may do: see readings, send commands, or both.",

    as_asked: "as the app asks",
    it_asks: Sentence("It asks for: {}"),
    every_value: "every value as it is",
    rounded_to: Sentence("rounded to {}"),
    one_a_minute: "at most one a minute",
    one_in: Sentence("at most one in {}"),
    only_above: Sentence("only above {}"),
    only_below: Sentence("only below {}"),
    or_above: Sentence("or above {}"),
    and_below: Sentence("and below {}"),
    only_changes: Sentence("only changes of at least {}"),
    average_over: Sentence("average over {}"),
    without_spread: "without spread",
    spread_over: Sentence("spread over {}"),
    numbers_over: Sentence("number of values over {}"),
    exact_values: Sentence("exact values: {}"),
    lowest: "lowest",
    highest: "highest",
    last_one: "last",
    how_often: Sentence("how often below, between and above {}"),
    of_at_least: Sentence("from at least {} values"),
    of_field: Sentence("of “{}”"),
    quoted: Sentence("“{}”"),
    without_fields: Sentence("without {}"),
    hashed_fields: Sentence("{} replaced by a code"),
    seconds: ("a second", Sentence("{} seconds")),
    minutes: ("a minute", Sentence("{} minutes")),
    hours: ("an hour", Sentence("{} hours")),
    days: ("a day", Sentence("{} days")),

    account_title: "Your devices and apps",
    my_devices: "My devices",
    no_devices: "No device yet. Scan the code on a device to claim it.",
    active: "active",
    suspended: "suspended",
    suspended_text: "This device has no valid keys any more, and apps cannot reach it. Press its button and scan its code to bring it back.",
    yours_since: Sentence("Yours since {}"),
    rename: "Change the name",
    release: "Release",
    my_apps: "My apps",
    no_apps: "No app may see or command anything.",
    sees: "Sees",
    may_tell: "May command",
    withdraw: "Withdraw",
    fact_since: Sentence("Allowed on {}"),
    fact_until: Sentence("Ends on {}"),
    fact_until_withdrawn: "Until you withdraw it",
    fact_future: Sentence("Also devices that you add later: {}"),
    change_app: "Change what it sees",
    change_app_hint: "It holds at once. For other channels and devices the app has to ask you again.",
    stays_allowed: Sentence("What {} may see and do"),
    nothing_left: "Nothing would be left. To end an app’s access, withdraw it.",
    fact_names: "Knows your names for the devices",
    recent: "Recently",
    no_notices: "Nothing happened yet.",
    alarm_title: "Possible theft.",
    alarm_text: Sentence("An old key of {} was used again. All keys of it were withdrawn at once."),
    notice_alarm: Sentence("An old key of {} was used: all its keys were withdrawn"),
    notice_claimed: Sentence("You claimed {}"),
    notice_released: Sentence("{} was released"),
    notice_allowed: Sentence("You allowed {}"),
    notice_withdrawn: Sentence("{} lost its access"),
    notice_changed: Sentence("You changed what {} may see"),
    notice_suspended: Sentence("{} is suspended: its keys ended"),
    release_title: "Release a device",
    release_heading: Sentence("Release {}?"),
    release_fact_1: "All its keys end at once, and apps lose it.",
    release_fact_2: "Everything stored for it is deleted.",
    release_fact_3: "Whoever has the device can then claim it with its printed code.",
    release_button: "Release it",
    keep_button: "Keep it",
    done_released: "Released. The device has no owner now.",
    done_withdrawn: "Withdrawn. The app has no access any more.",
    done_renamed: "The name is changed.",
    done_changed: "Changed. The app sees only that from now on.",

    bad_request_heading: "That did not arrive as it should",
    bad_input_text: "Something in the request was missing or malformed. Go back and try again.",
    forged_heading: "Please try that again",
    forged_text: "The page was too old, or the request did not come from this site. Nothing was changed.",
    not_found_heading: "There is nothing here",
    not_found_text: "The address is wrong, or what was here is gone.",
    wrong_app_heading: "This app’s request cannot be trusted",
    unknown_app_text: "The app is not known here. Nothing was sent to it. Tell whoever runs the app.",
    wrong_redirect_text: "The app asked to be answered at an address that it did not register. Nothing was sent there. Tell whoever runs the app.",
    malformed_app_text: "The app’s request is malformed. Nothing was sent to it. Tell whoever runs the app.",
    too_many_heading: "Slow down, please",
    too_many_text: "There were too many tries. Wait a few minutes and try again.",
    unavailable_heading: "Not available at the moment",
    unavailable_text: "Something here does not answer. Nothing was changed. Try again in a minute.",
    no_providers: "No login is set up here yet. Whoever runs this site must configure one.",
};

impl Words {
    /// A day, such as `3 Nov 2026` (UTC).
    pub(super) fn day(&self, unix: i64) -> String {
        let Some(time) = DateTime::from_timestamp(unix, 0) else { return String::new() };
        format!("{} {} {}", time.day(), self.months[time.month0() as usize], time.year())
    }

    /// A moment, such as `3 Nov 2026, 17:05 UTC`.
    pub(super) fn moment(&self, unix: i64) -> String {
        let Some(time) = DateTime::from_timestamp(unix, 0) else { return String::new() };
        format!("{}, {:02}:{:02} UTC", self.day(unix), time.hour(), time.minute())
    }

    /// A channel in plain words: its title with its unit.
    pub(super) fn channel(&self, channel: &Channel) -> String {
        let title = channel.title.clone().unwrap_or_else(|| channel.name.clone());
        match channel.unit.as_deref() {
            Some(unit) if !unit.is_empty() => format!("{title} ({unit})"),
            _ => title,
        }
    }
}

/// Machine-readable UTC time for a `datetime` attribute.
pub(super) fn stamp(unix: i64) -> String {
    let Some(time) = DateTime::from_timestamp(unix, 0) else { return String::new() };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!(ENGLISH.moment(1_793_725_505), "3 Nov 2026, 17:05 UTC");
        assert_eq!(stamp(1_793_725_505), "2026-11-03T17:05:05Z");
        assert_eq!(ENGLISH.day(i64::MAX), "");
    }

    #[test]
    fn a_gap_is_filled_once_with_whatever_comes() {
        assert_eq!(Sentence("{} is yours").with("a {} b"), "a {} b is yours");
    }
}
