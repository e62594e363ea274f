//! Forms as browsers send them (`application/x-www-form-urlencoded`), read without trusting their shape.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::header;
use oauth_wire::{Channel, Direction};

use super::failure::Failure;
use crate::state::App;

/// The fields of a form or a query, in their order.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `name=value&…`; malformed escapes become replacement characters, as browsers do it.
    pub(super) fn parse(text: &[u8]) -> Self {
        Fields(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The one value of a field. Twice the same field is malformed.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Failure::Malformed),
        }
    }

    /// The one value of a field that has to be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.one(name)?.ok_or(Failure::Malformed)
    }

    /// All values of a field.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All fields.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

impl FromRequest<App> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Failure::Malformed);
        }
        let body = Bytes::from_request(request, app).await.map_err(|_| Failure::Malformed)?;
        Ok(Fields::parse(&body))
    }
}

/// A device's channel as a form carries it: like a topic, because a reading and a command may have the same name.
pub(super) fn channel(device: &str, channel: &Channel) -> String {
    let letter = match channel.direction {
        Direction::Data => 'd',
        Direction::Command => 'c',
    };
    format!("{device} {letter}/{}", channel.name)
}

/// A name as a person typed it: without white space around it and without control characters; `None` if nothing is left.
/// Longer than 60 characters is an error.
pub(super) fn name(typed: &str) -> Result<Option<String>, Failure> {
    let clean: String = typed.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim();
    match clean.chars().count() {
        0 => Ok(None),
        1..=60 => Ok(Some(clean.to_owned())),
        _ => Err(Failure::NameTooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_comes_twice_is_malformed() {
        let fields = Fields::parse(b"csrf=a&device=1&device=2&csrf=b");
        assert!(matches!(fields.one("csrf"), Err(Failure::Malformed)));
        assert_eq!(fields.all("device").collect::<Vec<_>>(), ["1", "2"]);
        assert!(fields.one("name").unwrap().is_none());
        assert!(matches!(fields.required("name"), Err(Failure::Malformed)));
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(name("  Küche\n").unwrap().as_deref(), Some("Küche"));
        assert_eq!(name(" \t").unwrap(), None);
        assert!(name(&"ä".repeat(60)).is_ok());
        assert!(name(&"ä".repeat(61)).is_err());
    }
}
