//! Parameters in a form body (RFC 6749 appendix B) and credentials in HTTP Basic (§2.3.1), read without trusting their shape.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The parameters of a form, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

/// What is wrong with a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// The bytes are no text.
    NotText,
    /// A parameter that may stand once stands twice (RFC 6749 §3.2).
    Twice,
}

impl Form {
    /// Reads `name=value&…`.
    ///
    /// # Errors
    /// [`FormError::NotText`], also if escapes hide it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormError> {
        std::str::from_utf8(bytes).map_err(|_| FormError::NotText)?;
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(bytes).into_owned().collect();
        // The parser puts replacement characters in the place of bytes that are no text; nobody sends those.
        let broken = |text: &String| text.contains('\u{fffd}');
        if pairs.iter().any(|(name, value)| broken(name) || broken(value)) {
            return Err(FormError::NotText);
        }
        Ok(Self(pairs))
    }

    /// The parameter of this name; an empty one counts as absent (RFC 6749 §3.2).
    ///
    /// # Errors
    /// [`FormError::Twice`].
    pub fn optional(&self, name: &str) -> Result<Option<&str>, FormError> {
        let mut values = self.0.iter().filter(|(key, value)| key == name && !value.is_empty());
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|(_, value)| value.as_str())),
            _ => Err(FormError::Twice),
        }
    }

    /// All parameters.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// User name and password of an `Authorization: Basic` value, each form-decoded as RFC 6749 §2.3.1 asks.
pub fn basic(value: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(scheme(value, "basic")?).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((form_decoded(user)?, form_decoded(password)?))
}

/// What follows the scheme of this name in an `Authorization` value.
pub fn scheme<'a>(value: &'a str, expected: &str) -> Option<&'a str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(expected).then(|| rest.trim())
}

fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_stands_once_and_an_empty_one_is_none() {
        let form = Form::parse(b"a=1&b=x%26y+z&c=&d=1&d=2&e=&e=5").unwrap();
        assert_eq!(form.optional("a"), Ok(Some("1")));
        assert_eq!(form.optional("b"), Ok(Some("x&y z")));
        assert_eq!(form.optional("c"), Ok(None));
        assert_eq!(form.optional("d"), Err(FormError::Twice));
        assert_eq!(form.optional("e"), Ok(Some("5")));
        for bytes in [&b"a=\xff"[..], b"a=%ff", b"%c3=1"] {
            assert_eq!(Form::parse(bytes), Err(FormError::NotText));
        }
    }

    #[test]
    fn checklist_12_basic_credentials_are_form_decoded() {
        let value = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let (user, password) = basic(&value("a%3Ab:p%2Bq+r%C3%A9")).unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("a:b", "p+q ré"));
        for bad in ["no colon", "a:%zz", "a:%4", "a:%ff"] {
            assert!(basic(&value(bad)).is_none(), "{bad}");
        }
        assert!(basic("Bearer eDp5").is_none());
    }
}
