//! Marks that the deployment itself drew: read from where they are promised to be, so that they can be looked for elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use device::flash::FileFlash;
use device_client::record::Ownership;
use device_client::{Record, Slots};
use serde_json::Value;

use crate::capture::Stream;
use crate::matrix::{Kind, Mark, Party};
use crate::shell;

/// What a device has in its flash now.
///
/// # Errors
/// Nothing, or nothing that can be read.
pub fn record(volume: &Path) -> anyhow::Result<Record> {
    let mut slots = Slots::new(FileFlash::open(&volume.join("thermostat"))?);
    slots.load()?.context("a device without a record")
}

/// Secrets and tokens of a device's record.
#[must_use]
pub fn of_record(record: &Record, secret: Kind, owner: u8, party: Party) -> Vec<Mark> {
    let mark = |kind, what: &str, value: &str| {
        (!value.is_empty()).then(|| Mark::new(kind, format!("{what} of {party}"), value, [party]).of(owner))
    };
    let mut marks = vec![
        mark(Kind::ClientId, "client_id", record.client_id.as_str()),
        mark(secret, "client_secret", record.client_secret.as_str()),
    ];
    if let Ownership::Owned(grant) = &record.ownership {
        marks.push(mark(Kind::AccessToken, "access token", grant.access_token.as_str()));
        marks.push(mark(Kind::RefreshToken, "refresh token", grant.refresh_token.as_str()));
    }
    marks.into_iter().flatten().collect()
}

/// What an app has in its folder; `tokens` says which owner an access token is about.
///
/// # Errors
/// Its files are not what they should be.
pub fn of_app(volume: &Path, party: Party, tokens: &[(String, u8)]) -> anyhow::Result<Vec<Mark>> {
    let read = |name: &str| -> anyhow::Result<Value> {
        let text = std::fs::read(volume.join(name)).with_context(|| format!("{name} of {party}"))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let mut marks = Vec::new();
    let mut mark = |of: &Value, name: &str, kind, owner: Option<u8>| {
        if let Some(value) = of[name].as_str() {
            marks.push(Mark { owner, ..Mark::new(kind, format!("{name} of {party}"), value, [party]) });
        }
    };
    let (client, grants) = (read("client.json")?, read("grants.json")?);
    mark(&client, "client_id", Kind::AppId, None);
    mark(&client, "client_secret", Kind::AppSecret, None);
    for grant in with_member(&grants, "access_token") {
        let about = tokens.iter().find(|(token, _)| grant["access_token"] == token.as_str());
        let owner = about.map(|(_, owner)| *owner);
        mark(grant, "access_token", Kind::AccessToken, owner);
        mark(grant, "refresh_token", Kind::RefreshToken, owner);
    }
    Ok(marks)
}

/// Every object at any depth that has a member of that name.
fn with_member<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    let below: Vec<&Value> = match value {
        Value::Object(members) if members.contains_key(name) => return vec![value],
        Value::Object(members) => members.values().collect(),
        Value::Array(members) => members.iter().collect(),
        _ => Vec::new(),
    };
    below.into_iter().flat_map(|member| with_member(member, name)).collect()
}

/// Leaves each mark once; the first says what it is.
pub fn once(marks: &mut Vec<Mark>) {
    let mut seen = BTreeSet::new();
    marks.retain(|mark| seen.insert(mark.value.clone()));
}

/// What the DIdP's database says of owners: pseudonyms, shares, labels, grants. `owners` says whose a device is, by client_id, and
/// which channels it has.
///
/// # Errors
/// The database is not what it should be.
pub fn of_didp(volume: &Path, owners: &BTreeMap<String, (u8, Vec<String>)>) -> anyhow::Result<Vec<Mark>> {
    let file = volume.join("didp.db").display().to_string();
    let rows = |query: &str| -> anyhow::Result<Vec<Vec<String>>> {
        let text = shell::output("sqlite3", &["-readonly", "-separator", "\t", &file, query])?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    };
    let mut users: BTreeMap<String, u8> = BTreeMap::new();
    let mut marks = Vec::new();
    for row in rows("SELECT user_id, device, label FROM ownerships")? {
        let [user, device, label] = row.as_slice() else { continue };
        let (owner, channels) = owners.get(device).context("a device that nobody here made")?;
        users.insert(user.clone(), *owner);
        marks.push(Mark::new(Kind::Label, "label", label.as_str(), []).of(*owner));
        for channel in channels {
            let topic = format!("{label}/{channel}");
            marks.push(Mark::new(Kind::Topic, "topic at the PCM", topic, []).of(*owner));
        }
    }
    for row in rows("SELECT user_id, sub, hex(state_share) FROM pseudonyms")? {
        let [user, sub, share] = row.as_slice() else { continue };
        let owner = *users.get(user).context("a user who owns nothing")?;
        let share: Vec<u8> = (0..share.len() / 2)
            .filter_map(|at| u8::from_str_radix(share.get(at * 2..at * 2 + 2)?, 16).ok())
            .collect();
        marks.push(Mark::new(Kind::Pseudonym, "pseudonym", sub.as_str(), []).of(owner));
        marks.push(Mark::new(Kind::StateShare, "state_share", URL_SAFE_NO_PAD.encode(share), []).of(owner));
    }
    for row in rows("SELECT user_id, sid FROM grants")? {
        let [user, sid] = row.as_slice() else { continue };
        let owner = *users.get(user).context("a user who owns nothing")?;
        marks.push(Mark::new(Kind::Sid, "sid", sid.as_str(), []).of(owner));
    }
    Ok(marks)
}

/// What only passed a line: authorization codes of apps, registration access tokens.
#[must_use]
pub fn of_streams(streams: &[Stream]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for stream in streams {
        // As the DIdP sends the browser back with it.
        for (n, host) in [(1, "tpa.localhost"), (2, "tpa-2.localhost")] {
            let app = Party::Tpa(n);
            for code in after(&stream.bytes, format!("http://{host}:8090/callback?code=").as_bytes()) {
                marks.push(Mark::new(Kind::AppCode, format!("authorization code of {app}"), code, [app]));
            }
        }
        // An app manages its own registration with one of its own, which is no business of a manufacturer.
        if contains(&stream.bytes, b"\"user_registration_uri\"") {
            for token in after(&stream.bytes, b"\"registration_access_token\":\"") {
                marks.push(Mark::new(Kind::RegistrationToken, "registration access token", token, []));
            }
        }
    }
    marks
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The base64url values that stand behind each `before`.
fn after(bytes: &[u8], before: &[u8]) -> Vec<Vec<u8>> {
    let starts = bytes.windows(before.len()).enumerate().filter(|(_, window)| *window == before);
    let values = starts.map(|(at, _)| {
        let rest = &bytes[at + before.len()..];
        let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).count();
        rest[..length].to_vec()
    });
    values.filter(|value| value.len() >= 20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_registration_tokens_are_read_off_the_line() {
        let at = "10.0.0.1:1".parse().unwrap();
        let said = |bytes: &[u8]| Stream { from: at, to: at, bytes: bytes.to_vec(), missing: 0 };
        let streams = [
            said(b"location: http://tpa-2.localhost:8090/callback?code=AAAAAAAAAAAAAAAAAAAAAAAA&state=x\r\n"),
            said(b"location: http://didp.localhost:8080/login/callback?code=DDDDDDDDDDDDDDDDDDDDDDDD&state=x\r\n"),
            said(b"{\"registration_access_token\":\"BBBBBBBBBBBBBBBBBBBBBBBB\",\"user_registration_uri\":\"x\"}"),
            said(b"{\"registration_access_token\":\"CCCCCCCCCCCCCCCCCCCCCCCC\"}"),
        ];
        let marks = of_streams(&streams);
        let values: Vec<_> = marks.iter().map(|mark| (mark.kind, mark.value[0])).collect();
        assert_eq!(values, [(Kind::AppCode, b'A'), (Kind::RegistrationToken, b'B')]);
        assert!(marks[0].own.contains(&Party::Tpa(2)));
    }

    #[test]
    fn members_are_found_at_any_depth() {
        let value = serde_json::json!({"a": [{"token": "x"}, {"other": {"token": "y"}}], "token_type": "z"});
        let found: Vec<_> =
            with_member(&value, "token").iter().map(|object| object["token"].clone()).collect();
        assert_eq!(found, ["x", "y"]);
    }
}
