//! Every sentence that a person reads on the pages, in one catalogue for each language: a translation is another constant of
//! the same type, so that none can lack a sentence. Templates hold no words of their own; they take plain words as they are,
//! and sentences with a gap are filled by [`Sentence::with`].

mod english;
mod german;

use chrono::{DateTime, Datelike as _, Timelike as _};
use oauth_wire::Channel;

pub(super) use english::ENGLISH;
pub(super) use german::GERMAN;

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

        #[cfg(test)]
        impl Words {
            /// Every entry: its name and its texts.
            fn entries(&self) -> Vec<(&'static str, Vec<&'static str>)> {
                vec![$((stringify!($name), tests::Texts::texts(&self.$name)),)*]
            }
        }
    };
}

type Text = &'static str;

catalogue! {
    /// BCP 47 tag for the `lang` attribute.
    lang: Text,
    /// What the language calls itself.
    language: Text,
    languages: Text,
    /// A day: its number, the month's name, the year.
    date: [Text; 2],
    /// What stands between a number's whole and its fraction.
    decimal: Text,
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
    undo_text: Text,
    undo_button: Text,
    gone_heading: Text,
    gone_text: Text,
    expired_heading: Text,
    expired_text: Text,
    declined_heading: Text,
    declined_text: Text,
    over_heading: Text,
    over_text: Text,
    to_my_devices: Text,

    logins_title: Text,
    logins_hint: Text,
    logins_one: Text,
    logins_many: Sentence,
    logins_text: Text,
    logins_remove_text: Text,
    login_add: Sentence,
    login_remove: Sentence,
    login_linked: Text,
    login_unlinked: Text,
    login_as_it_was: Text,
    login_anothers: Text,
    login_last: Text,
    login_full: Text,
    notice_login_added: Sentence,
    notice_login_removed: Sentence,

    device_title: Text,
    device_heading: Text,
    device_lead: Text,
    device_label: Text,
    device_hint: Text,
    device_no_match: Text,
    device_warning: Sentence,
    device_allowed_heading: Text,
    device_allowed_text: Text,
    device_declined_heading: Text,
    device_declined_text: Text,
    device_over_heading: Text,
    device_over_text: Text,

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
    until_as_it_is: Sentence,
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
    seen_by: Text,
    seen_by_nobody: Text,
    rename: Text,
    release: Text,
    hand_over: Text,
    undo_claim: Text,
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
    leave_as_it_is: Text,
    back_to_account: Text,
    change_app_hint: Text,
    stays_allowed: Sentence,
    nothing_left: Text,
    fact_names: Text,
    recent: Text,
    all_activity: Text,
    activity_title: Text,
    activity_lead: Sentence,
    older: Text,
    my_account: Text,
    one_other_login: Text,
    other_logins: Sentence,
    log_out_elsewhere: Text,
    export_text: Text,
    export: Text,
    delete_text: Text,
    delete_account: Text,
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
    notice_undone: Sentence,
    notice_handed_over: Sentence,
    notice_logged_in: Sentence,
    notice_logged_out_elsewhere: Text,
    notice_exported: Text,
    release_title: Text,
    release_heading: Sentence,
    release_fact_1: Text,
    release_fact_2: Text,
    release_fact_3: Text,
    release_button: Text,
    keep_button: Text,
    release_or_transfer: Text,
    transfer_title: Text,
    transfer_heading: Sentence,
    transfer_fact_1: Text,
    transfer_fact_2: Text,
    transfer_button: Text,
    handover_title: Text,
    handover_heading: Sentence,
    handover_done: Text,
    handover_text: Text,
    handover_code: Text,
    handover_until: Sentence,
    handover_once: Text,
    delete_title: Text,
    delete_fact_1: Text,
    delete_fact_2: Text,
    delete_fact_3: Text,
    delete_fact_4: Text,
    delete_sure: Text,
    delete_not_sure: Text,
    delete_button: Text,
    keep_account: Text,
    deleted_heading: Text,
    deleted_text: Text,
    done_released: Text,
    done_undone: Text,
    done_logged_out_elsewhere: Text,
    done_withdrawn: Text,
    done_renamed: Text,
    done_changed: Text,

    maker_login_title: Text,
    maker_login_lead: Text,
    maker_id: Text,
    maker_token: Text,
    maker_login_failed: Text,
    maker_title: Text,
    maker_lead: Text,
    maker_nothing: Text,
    maker_batch: Text,
    maker_registered: Text,
    maker_owned: Text,
    maker_state: Text,
    maker_actions: Text,
    maker_devices: Text,
    maker_leaked: Text,
    maker_valid: Text,
    maker_partly: Text,
    maker_withdrawn: Text,
    maker_too_few: Text,
    maker_not_told: Text,
    maker_at_least: Sentence,
    maker_small_batches: Text,
    maker_no_batch: Text,
    maker_counts_hint: Text,
    maker_since: Sentence,
    maker_withdraw: Text,
    maker_restore: Text,
    maker_replace: Text,
    maker_more: Text,
    maker_batch_title: Text,
    maker_batch_fact_1: Text,
    maker_batch_fact_2: Text,
    maker_batch_fact_3: Text,
    maker_withdraw_all: Text,
    maker_restore_all: Text,
    maker_done_withdrawn: Text,
    maker_done_restored: Text,
    maker_replaced_title: Text,
    maker_replaced_text: Sentence,
    maker_replaced_once: Text,
    maker_replaced_answer: Text,
    labels_title: Text,
    labels_answers: Text,
    labels_hint: Text,
    labels_make: Text,
    labels_unreadable: Text,
    labels_ready: Sentence,
    labels_print_hint: Text,
    labels_scan: Text,
    labels_code: Text,
    labels_print_this: Text,

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

impl Words {
    /// A day, such as `3 Nov 2026` (UTC).
    pub(super) fn day(&self, unix: i64) -> String {
        let Some(time) = DateTime::from_timestamp(unix, 0) else { return String::new() };
        let [after_day, after_month] = self.date;
        let month = self.months[time.month0() as usize];
        format!("{}{after_day}{month}{after_month}{}", time.day(), time.year())
    }

    /// A moment, such as `3 Nov 2026, 17:05 UTC`.
    pub(super) fn moment(&self, unix: i64) -> String {
        let Some(time) = DateTime::from_timestamp(unix, 0) else { return String::new() };
        format!("{}, {:02}:{:02} UTC", self.day(unix), time.hour(), time.minute())
    }

    /// A number as people write it.
    pub(super) fn number(&self, number: f64) -> String {
        number.to_string().replace('.', self.decimal)
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
    use super::super::language::ALL;
    use super::*;

    /// The texts of an entry, whatever its type.
    pub(super) trait Texts {
        fn texts(&self) -> Vec<&'static str>;
    }

    impl Texts for Text {
        fn texts(&self) -> Vec<&'static str> {
            vec![self]
        }
    }

    impl Texts for Sentence {
        fn texts(&self) -> Vec<&'static str> {
            vec![self.0]
        }
    }

    impl Texts for (Text, Sentence) {
        fn texts(&self) -> Vec<&'static str> {
            vec![self.0, self.1.0]
        }
    }

    impl<const N: usize> Texts for [Text; N] {
        fn texts(&self) -> Vec<&'static str> {
            self.to_vec()
        }
    }

    #[test]
    fn times_and_numbers_read_as_people_write_them() {
        assert_eq!(ENGLISH.moment(1_793_725_505), "3 Nov 2026, 17:05 UTC");
        assert_eq!(GERMAN.moment(1_793_725_505), "3. Nov. 2026, 17:05 UTC");
        assert_eq!(stamp(1_793_725_505), "2026-11-03T17:05:05Z");
        assert_eq!(ENGLISH.day(i64::MAX), "");
        assert_eq!((ENGLISH.number(0.5), GERMAN.number(0.5)), ("0.5".into(), "0,5".into()));
    }

    #[test]
    fn a_gap_is_filled_once_with_whatever_comes() {
        assert_eq!(Sentence("{} is yours").with("a {} b"), "a {} b is yours");
    }

    /// Same in every language because it is a name, a sign or a word that both have.
    const ALIKE: &[&str] = &["brand", "decimal", "months", "quoted", "date", "name_label"];

    #[test]
    fn every_catalogue_says_everything_with_the_same_gaps_in_words_of_its_own() {
        let english = ENGLISH.entries();
        for words in ALL {
            let entries = words.entries();
            assert_eq!(entries.len(), english.len());
            for ((name, texts), (same, known)) in entries.iter().zip(&english) {
                assert_eq!(name, same);
                for (text, known) in texts.iter().zip(known) {
                    let at = format!("{}: {name}: {text}", words.lang);
                    assert!(!text.trim().is_empty() || *name == "date", "{at}");
                    assert_eq!(text.matches("{}").count(), known.matches("{}").count(), "{at}");
                    let translated = words.lang == "en" || text != known || ALIKE.contains(name);
                    assert!(translated, "{at} stands there in English");
                }
            }
        }
    }

    #[test]
    fn what_the_catalogue_holds_is_used() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut all = String::new();
        for part in ["templates", "src/http/pages", "src/http/pages/manufacturer"] {
            let Ok(entries) = std::fs::read_dir(folder.join(part)) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_file() && !path.ends_with("words.rs") {
                    all.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        all.push_str("self.date self.decimal self.months");
        for (name, _) in ENGLISH.entries() {
            let used = ["w.", "words.", "self."].iter().any(|of| {
                all.match_indices(&format!("{of}{name}")).any(|(at, found)| {
                    let next = all[at + found.len()..].chars().next().unwrap_or(' ');
                    !next.is_alphanumeric() && next != '_'
                })
            });
            assert!(used, "{name} is never said");
        }
    }
}
