//! What an app asks for (RFC 6749 §3.3, RFC 8707, RFC 9396), wherever its request came in. Pure.

use oauth_wire::{
    Action, AuthorizationDetail, AuthorizationRequest, Channel, OAuthErrorCode, Scope, ScopeToken,
};

use super::Parameters;
use crate::flows::exactness::Exactness;

/// What an app asks for, scope and details taken together.
pub(crate) struct Wish {
    /// It asks for readings.
    pub(crate) wants_read: bool,
    /// It asks to send commands.
    pub(crate) wants_command: bool,
    /// The channels that it asks for; none means all.
    pub(crate) channels: Option<Vec<String>>,
    /// How exactly it asks to see them.
    pub(crate) exactness: Exactness,
    /// The one audience that it names.
    pub(crate) resource: Option<String>,
}

/// Judges what is asked for. `is_resource` knows the audiences that there are.
///
/// # Errors
/// `invalid_scope`, `invalid_target`, `invalid_authorization_details`; `invalid_request` for a parameter that stands twice.
pub(super) fn wish(
    parameters: Parameters<'_>,
    is_resource: impl Fn(&str) -> bool,
) -> Result<Wish, (OAuthErrorCode, &'static str)> {
    let one = |name| {
        parameters.only(name).map_err(|()| (OAuthErrorCode::InvalidRequest, "a parameter stands twice"))
    };
    // RFC 8707 §2 allows several; a token here has one audience.
    let resource = parameters
        .only("resource")
        .map_err(|()| (OAuthErrorCode::InvalidTarget, "one resource at a time"))?;
    if resource.is_some_and(|resource| !is_resource(resource)) {
        return Err((OAuthErrorCode::InvalidTarget, "no such resource"));
    }
    let scope = match one("scope")? {
        None => Scope::APP,
        Some(text) => text
            .parse::<Scope>()
            .ok()
            .filter(|scope| Scope::APP.includes(*scope) && !scope.is_empty())
            .ok_or((OAuthErrorCode::InvalidScope, "data:subscribe and command:publish are for apps"))?,
    };
    let wanted = match one("authorization_details")? {
        None => Wanted { actions: None, channels: None, exactness: Exactness::default() },
        Some(text) => wanted(text).map_err(|why| (OAuthErrorCode::InvalidAuthorizationDetails, why))?,
    };
    let asks = |action: Action| wanted.actions.as_ref().is_none_or(|actions| actions.contains(&action));
    let wants_read = scope.contains(ScopeToken::DataSubscribe) && asks(Action::Read);
    let wants_command = scope.contains(ScopeToken::CommandPublish) && asks(Action::Command);
    if !wants_read && !wants_command {
        return Err((OAuthErrorCode::InvalidScope, "scope and authorization_details have nothing in common"));
    }
    Ok(Wish {
        wants_read,
        wants_command,
        channels: wanted.channels,
        exactness: wanted.exactness,
        resource: resource.map(str::to_owned),
    })
}

struct Wanted {
    actions: Option<Vec<Action>>,
    channels: Option<Vec<String>>,
    exactness: Exactness,
}

/// What `authorization_details` asks for, all objects together.
fn wanted(text: &str) -> Result<Wanted, &'static str> {
    if text.len() > 16 * 1024 {
        return Err("too long");
    }
    let objects: Vec<AuthorizationRequest> = serde_json::from_str(text)
        .map_err(|_| "not an array of mqtt objects with actions, channels, view")?;
    let mut wanted = Wanted {
        actions: Some(Vec::new()),
        channels: Some(Vec::new()),
        exactness: wanted_exactness(&objects),
    };
    if objects.is_empty() {
        return Err("an empty array asks for nothing");
    }
    for object in objects {
        if object.kind != AuthorizationDetail::TYPE {
            return Err("the only type is mqtt");
        }
        let known = |action: &Action| matches!(action, Action::Read | Action::Command);
        if object.actions.as_ref().is_some_and(|actions| !actions.iter().all(known)) {
            return Err("actions are read and command");
        }
        let valid = |channels: &Vec<String>| channels.iter().all(|name| Channel::is_valid_name(name));
        if object.channels.as_ref().is_some_and(|channels| channels.len() > 64 || !valid(channels)) {
            return Err("not channel names");
        }
        wanted.actions = both(wanted.actions, object.actions);
        wanted.channels = both(wanted.channels, object.channels);
    }
    Ok(wanted)
}

/// How exactly all objects together ask to see channels: the first that names a channel speaks for it, the first that names
/// none for the others.
fn wanted_exactness(objects: &[AuthorizationRequest]) -> Exactness {
    let reading = |object: &&AuthorizationRequest| {
        object.actions.as_ref().is_none_or(|actions| actions.contains(&Action::Read))
    };
    let mut exactness = Exactness::default();
    let mut spoken_for_others = false;
    for object in objects.iter().filter(reading) {
        let view = object.view.clone().unwrap_or_default();
        match &object.channels {
            Some(names) => {
                for name in names {
                    exactness.views.entry(name.clone()).or_insert_with(|| view.clone());
                }
            }
            None if !spoken_for_others => {
                exactness.view = view;
                spoken_for_others = true;
            }
            None => {}
        }
    }
    // All alike: then it is said of all.
    let mut views = exactness.views.values();
    if let Some(first) = views.next()
        && views.all(|view| view == first)
        && (!spoken_for_others || exactness.view == *first)
    {
        return Exactness::all(first.clone());
    }
    exactness
}

/// Lists that are asked for together; one without a bound makes the whole unbounded.
fn both<T: PartialEq>(known: Option<Vec<T>>, more: Option<Vec<T>>) -> Option<Vec<T>> {
    let (mut known, more) = (known?, more?);
    for item in more {
        if !known.contains(&item) {
            known.push(item);
        }
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use oauth_wire::View;

    use super::*;

    #[test]
    fn details_are_taken_together_and_strictly() {
        let some = wanted(r#"[{"type":"mqtt","actions":["read"],"channels":["a"]},{"type":"mqtt","actions":["command"],"channels":["b"]}]"#)
            .unwrap();
        assert_eq!(some.actions, Some(vec![Action::Read, Action::Command]));
        assert_eq!(some.channels, Some(vec!["a".into(), "b".into()]));
        assert_eq!(wanted(r#"[{"type":"mqtt"}]"#).unwrap().channels, None);
        assert_eq!(wanted(r#"[{"type":"mqtt"}]"#).unwrap().exactness, Exactness::default());
        for bad in [
            "",
            "[]",
            "{}",
            r#"[{"type":"other"}]"#,
            r#"[{"type":"mqtt","actions":["publish"]}]"#,
            r##"[{"type":"mqtt","channels":["#"]}]"##,
            r#"[{"type":"mqtt","identifier":"somebody-else"}]"#,
            r#"[{"type":"mqtt","view":{"kind":"blurred"}}]"#,
            r#"[{"type":"mqtt","view":{"kind":"summary","window_s":61}}]"#,
            r#"[{"type":"mqtt","view":{"kind":"filter"}}]"#,
            r#"[{"type":"mqtt","view":"raw"}]"#,
        ] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_object_that_names_a_channel_says_how_exactly_it_is_seen() {
        let exactness = |text: &str| wanted(text).unwrap().exactness;
        let rare = r#"{"kind":"filter","interval_s":60}"#;
        let view: View = serde_json::from_str(rare).unwrap();
        let alike = exactness(&format!(r#"[{{"type":"mqtt","channels":["a","b"],"view":{rare}}}]"#));
        assert_eq!(alike, Exactness::all(view.clone()));
        let apart = exactness(&format!(
            r#"[{{"type":"mqtt","channels":["a"],"view":{rare}}},{{"type":"mqtt","channels":["a","b"]}},
                {{"type":"mqtt","actions":["command"],"view":{rare}}}]"#
        ));
        assert_eq!(apart.views["a"], view);
        assert!(apart.views["b"].is_raw() && apart.view.is_raw());
        let others =
            exactness(&format!(r#"[{{"type":"mqtt","view":{rare}}},{{"type":"mqtt","channels":["a"]}}]"#));
        assert!(others.views["a"].is_raw());
        assert_eq!(others.view, view);
    }
}
