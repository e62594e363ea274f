//! A sheet of labels to print: what registration answered, as QR codes. This DIdP knows printed codes only as hashes, so that the
//! manufacturer brings them; nothing of them is kept.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::entry::Maker;
use super::frame;
use crate::flows::registration::BATCH;
use crate::http::pages::failure::Failure;
use crate::http::pages::language::Reader;
use crate::http::pages::qr::Qr;
use crate::http::pages::session::Posted;
use crate::http::pages::views::{Label, Labels, Sheet, render};
use crate::state::App;

/// What a label needs of a registration answer; the rest is not looked at.
#[derive(Debug, PartialEq, Deserialize)]
struct Printed {
    user_registration_uri: String,
    #[serde(default)]
    client_name: String,
    #[serde(default)]
    client_id: String,
}

/// `GET /manufacturer/labels`.
pub(super) async fn ask(reader: Reader, maker: Maker) -> Result<Response, Failure> {
    form(&reader, &maker, StatusCode::OK, None)
}

fn form(
    reader: &Reader,
    maker: &Maker,
    status: StatusCode,
    problem: Option<&str>,
) -> Result<Response, Failure> {
    let frame = frame(&reader.at("/manufacturer/labels"), maker);
    render(status, &Labels { w: reader.w, frame, csrf: &maker.csrf, problem })
}

/// `POST /manufacturer/labels`: the sheet.
pub(super) async fn sheet(
    State(app): State<App>,
    reader: Reader,
    Posted { who: maker, fields }: Posted<Maker>,
) -> Result<Response, Failure> {
    let start = app.url("/r/");
    let labels: Option<Vec<Label>> = read(fields.required("answers")?).and_then(|printed| {
        let inside = (1..=BATCH).contains(&printed.len());
        let own = printed.iter().all(|one| is_own(&start, &one.user_registration_uri));
        if !inside || !own {
            return None;
        }
        printed.into_iter().map(label).collect()
    });
    match labels {
        Some(labels) => render(
            StatusCode::OK,
            &Sheet { w: reader.w, frame: frame(&reader.at("/manufacturer/labels"), &maker), labels },
        ),
        None => form(&reader, &maker, StatusCode::UNPROCESSABLE_ENTITY, Some(reader.w.labels_unreadable)),
    }
}

fn label(one: Printed) -> Option<Label> {
    let end: Vec<char> = one.client_id.chars().rev().take(6).collect();
    Some(Label {
        qr: Qr::of(&one.user_registration_uri)?,
        model: one.client_name,
        short: end.into_iter().rev().collect(),
    })
}

/// Only addresses that this DIdP could have answered become labels.
fn is_own(start: &str, address: &str) -> bool {
    address.strip_prefix(start).is_some_and(|code| {
        (1..=64).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

/// Answers of `POST /register` or `/register/batch`, as JSON (one, an array, or one a line), or addresses, one a line.
fn read(text: &str) -> Option<Vec<Printed>> {
    let text = text.trim();
    if let Ok(all) = serde_json::from_str::<Vec<Printed>>(text) {
        return Some(all);
    }
    if let Ok(one) = serde_json::from_str::<Printed>(text) {
        return Some(vec![one]);
    }
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| match line.starts_with('{') {
            true => serde_json::from_str(line).ok(),
            false => Some(Printed {
                user_registration_uri: line.to_owned(),
                client_name: String::new(),
                client_id: String::new(),
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_however_they_come() {
        let uri = "http://d.test/r/abc";
        let one =
            format!(r#"{{"client_id":"x","client_name":"T1","user_registration_uri":"{uri}","mqtt":{{}}}}"#);
        for text in [one.clone(), format!("[{one}]"), format!("{one}\n\n{one}\n"), format!("{uri}\r\n")] {
            let read = read(&text).unwrap();
            assert!(read.iter().all(|printed| printed.user_registration_uri == uri), "{text}");
        }
        assert_eq!(read(&format!("{one}\n{one}")).unwrap().len(), 2);
        assert!(read("{not json").is_none());
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn only_own_addresses_become_labels() {
        assert!(is_own("http://d.test/r/", "http://d.test/r/abc_-9"));
        for bad in
            ["http://d.test/r/", "http://e.test/r/abc", "http://d.test/r/a?x", "http://d.test/r/a/b", "abc"]
        {
            assert!(!is_own("http://d.test/r/", bad), "{bad}");
        }
    }
}
