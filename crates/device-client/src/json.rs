//! JSON (RFC 8259) as far as a device needs it: reading members of small objects, writing flat ones.
//!
//! [`Object::parse`] checks a whole document once (UTF-8, grammar, at most [`MAX_DEPTH`] levels); what it returns then
//! reads members in any order and ignores those that nobody asks for. Nothing is copied until a string is unescaped
//! into its bounded place. What the members mean is left to the caller.

use crate::text::Text;

/// Deepest nesting that is read.
pub const MAX_DEPTH: u8 = 8;

/// The document is not one JSON object within the bounds, or a member is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A checked JSON object.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a>(&'a str);

/// A member's value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A string, still escaped.
    String(Escaped<'a>),
    /// A number as it was written.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An object.
    Object(Object<'a>),
    /// An array.
    Array(Array<'a>),
}

/// The inside of a checked string.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a str);

/// A checked array.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a>(&'a str);

impl<'a> Object<'a> {
    /// Checks `document`, which must be one object with nothing but white space around it.
    pub fn parse(document: &'a [u8]) -> Result<Self, Malformed> {
        let text = core::str::from_utf8(document).map_err(|_| Malformed)?;
        let mut cursor = Cursor { rest: text };
        let value = cursor.value(0)?;
        cursor.space();
        match value {
            Value::Object(object) if cursor.rest.is_empty() => Ok(object),
            _ => Err(Malformed),
        }
    }

    /// The member called `name`; an error if there are two, because readers would disagree on which one counts.
    pub fn get(&self, name: &str) -> Result<Option<Value<'a>>, Malformed> {
        let mut cursor = Cursor { rest: self.0 };
        let mut found = None;
        cursor.expect('{')?;
        if cursor.take('}') {
            return Ok(None);
        }
        loop {
            let key = cursor.string()?;
            cursor.expect(':')?;
            let value = cursor.value(0)?;
            if key.is(name) && found.replace(value).is_some() {
                return Err(Malformed);
            }
            if !cursor.take(',') {
                return Ok(found);
            }
        }
    }

    /// The string member called `name`, unescaped; `None` if there is none or it is `null`; an error if it is something
    /// else, empty, or longer than `N` bytes.
    pub fn text<const N: usize>(&self, name: &str) -> Result<Option<Text<N>>, Malformed> {
        match self.get(name)? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(escaped)) => {
                escaped.unescape().filter(|t| !t.is_empty()).map(Some).ok_or(Malformed)
            }
            Some(_) => Err(Malformed),
        }
    }

    /// The member called `name` as a whole number that fits; `None` if there is none or it is `null`.
    pub fn number(&self, name: &str) -> Result<Option<u32>, Malformed> {
        match self.get(name)? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(digits)) => digits.parse().map(Some).map_err(|_| Malformed),
            Some(_) => Err(Malformed),
        }
    }
}

impl<'a> Array<'a> {
    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = Cursor { rest: self.0 };
        let mut more = cursor.take('[') && !cursor.peek(']');
        core::iter::from_fn(move || {
            if !more {
                return None;
            }
            let value = cursor.value(0).ok()?;
            more = cursor.take(',');
            Some(value)
        })
    }
}

impl<'a> Escaped<'a> {
    /// The characters behind the escapes; a lone surrogate becomes U+FFFD.
    pub fn chars(&self) -> impl Iterator<Item = char> + use<'a> {
        let mut rest = self.0.chars();
        core::iter::from_fn(move || match rest.next()? {
            '\\' => Some(match rest.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let high = hex4(&mut rest)?;
                    let mut ahead = rest.clone();
                    let low = (ahead.next() == Some('\\') && ahead.next() == Some('u'))
                        .then(|| hex4(&mut ahead))
                        .flatten()
                        .filter(|low| (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(low));
                    match low {
                        Some(low) => {
                            rest = ahead;
                            char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                        }
                        None => char::from_u32(high),
                    }
                    .unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                plain => plain,
            }),
            plain => Some(plain),
        })
    }

    /// True if it spells `text`.
    pub fn is(&self, text: &str) -> bool {
        self.chars().eq(text.chars())
    }

    /// The text itself, if it fits.
    pub fn unescape<const N: usize>(&self) -> Option<Text<N>> {
        let mut out = Text::EMPTY;
        self.chars().all(|c| out.push(c.encode_utf8(&mut [0; 4]))).then_some(out)
    }
}

fn hex4(chars: &mut core::str::Chars<'_>) -> Option<u32> {
    let mut value = 0;
    for _ in 0..4 {
        value = value << 4 | chars.next()?.to_digit(16)?;
    }
    Some(value)
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn peek(&mut self, c: char) -> bool {
        self.space();
        self.rest.starts_with(c)
    }

    fn take(&mut self, c: char) -> bool {
        self.space();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), Malformed> {
        if self.take(c) { Ok(()) } else { Err(Malformed) }
    }

    fn value(&mut self, depth: u8) -> Result<Value<'a>, Malformed> {
        self.space();
        let start = self.rest;
        match start.bytes().next().ok_or(Malformed)? {
            b'{' | b'[' if depth == MAX_DEPTH => Err(Malformed),
            b'{' => {
                self.expect('{')?;
                if !self.take('}') {
                    loop {
                        self.string()?;
                        self.expect(':')?;
                        self.value(depth + 1)?;
                        if !self.take(',') {
                            break;
                        }
                    }
                    self.expect('}')?;
                }
                Ok(Value::Object(Object(self.since(start))))
            }
            b'[' => {
                self.expect('[')?;
                if !self.take(']') {
                    loop {
                        self.value(depth + 1)?;
                        if !self.take(',') {
                            break;
                        }
                    }
                    self.expect(']')?;
                }
                Ok(Value::Array(Array(self.since(start))))
            }
            b'"' => self.string().map(Value::String),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    /// What lies between `start` and here.
    fn since(&self, start: &'a str) -> &'a str {
        &start[..start.len() - self.rest.len()]
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Malformed> {
        self.rest = self.rest.strip_prefix(word).ok_or(Malformed)?;
        Ok(value)
    }

    fn string(&mut self) -> Result<Escaped<'a>, Malformed> {
        self.expect('"')?;
        let start = self.rest;
        let mut chars = start.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &start[at + 1..];
                    return Ok(Escaped(&start[..at]));
                }
                '\\' => match chars.next().ok_or(Malformed)?.1 {
                    '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => {}
                    'u' => {
                        for _ in 0..4 {
                            chars.next().filter(|(_, c)| c.is_ascii_hexdigit()).ok_or(Malformed)?;
                        }
                    }
                    _ => return Err(Malformed),
                },
                '\0'..='\x1f' => return Err(Malformed),
                _ => {}
            }
        }
        Err(Malformed)
    }

    fn number(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.rest;
        self.skip('-');
        match self.digits() {
            0 => return Err(Malformed),
            1 => {}
            // No leading zero.
            _ if self.since(start).trim_start_matches('-').starts_with('0') => return Err(Malformed),
            _ => {}
        }
        if self.skip('.') && self.digits() == 0 {
            return Err(Malformed);
        }
        if self.skip('e') || self.skip('E') {
            let _ = self.skip('+') || self.skip('-');
            if self.digits() == 0 {
                return Err(Malformed);
            }
        }
        Ok(Value::Number(self.since(start)))
    }

    fn skip(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn digits(&mut self) -> usize {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        before - self.rest.len()
    }
}

/// Writes a flat object of string members.
pub(crate) struct Writer<'a, const N: usize> {
    out: &'a mut Text<N>,
    fits: bool,
    separator: &'static str,
}

impl<'a, const N: usize> Writer<'a, N> {
    /// Begins an object in `out`.
    pub(crate) fn new(out: &'a mut Text<N>) -> Self {
        out.clear();
        let fits = out.push("{");
        Self { out, fits, separator: "" }
    }

    /// Adds a member. `name` is ours and needs no escaping.
    pub(crate) fn member(mut self, name: &str, value: &str) -> Self {
        for part in [self.separator, "\"", name, "\":\""] {
            self.fits &= self.out.push(part);
        }
        for c in value.chars() {
            self.fits &= match c {
                '"' => self.out.push("\\\""),
                '\\' => self.out.push("\\\\"),
                '\0'..='\x1f' => {
                    let nibble = |n: u32| {
                        char::from_digit(n & 15, 16).unwrap_or('0').encode_utf8(&mut [0; 4]).as_bytes()[0]
                    };
                    let digits = [nibble(c as u32 >> 4), nibble(c as u32)];
                    self.out.push("\\u00") && self.out.push(core::str::from_utf8(&digits).unwrap_or("20"))
                }
                c => self.out.push(c.encode_utf8(&mut [0; 4])),
            };
        }
        self.fits &= self.out.push("\"");
        self.separator = ",";
        self
    }

    /// Ends the object; false if it did not fit.
    #[must_use]
    pub(crate) fn end(self) -> bool {
        self.out.push("}") && self.fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> Result<Object<'_>, Malformed> {
        Object::parse(text.as_bytes())
    }

    #[test]
    fn members_in_any_order_with_unknown_ones_between() {
        let o = object(
            r#" {"x":[1,{"code":"no"}],"expires_in" : 120 ,"y":null,"code":"a\u0062\n\ud83d\ude00\"","z":-1.5e+3} "#,
        );
        let o = o.unwrap();
        assert_eq!(o.text::<16>("code").unwrap().unwrap().as_str(), "ab\n😀\"");
        assert_eq!(o.number("expires_in"), Ok(Some(120)));
        assert_eq!(o.number("absent"), Ok(None));
        assert_eq!(o.text::<16>("y").unwrap(), None);
        assert!(o.text::<16>("expires_in").is_err() && o.number("z").is_err() && o.number("code").is_err());
        assert!(o.text::<7>("code").is_err(), "does not fit");
        let Some(Value::Array(list)) = o.get("x").unwrap() else { panic!("an array") };
        assert_eq!(list.iter().count(), 2);
    }

    #[test]
    fn an_escaped_name_is_the_same_name_and_two_are_refused() {
        assert_eq!(object(r#"{"c\u006fde":"1"}"#).unwrap().text::<4>("code").unwrap().unwrap().as_str(), "1");
        assert!(object(r#"{"code":"1","c\u006fde":"2"}"#).unwrap().text::<4>("code").is_err());
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for bad in [
            "",
            "{",
            "[]",
            "1",
            "{}}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":tru}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"",
            "{\"a\":1e}",
            "{\"a\":[1,]}",
            "{} x",
            "{\"a\":-}",
        ] {
            assert!(object(bad).is_err(), "{bad}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(8), "]".repeat(8));
        assert!(object(&deep).is_err());
        let fits = format!("{{\"a\":{}{}}}", "[".repeat(7), "]".repeat(7));
        assert!(object(&fits).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            if let Ok(o) = Object::parse(&bytes) {
                let _ = (o.get("a"), o.text::<8>("a"), o.number("a"));
            }
        }

        #[test]
        fn nearly_json_does_not_panic(text in r#"[\{\}\[\]",:\\u0-9a-e\.\- tn]{0,60}"#) {
            if let Ok(o) = object(&text) {
                let _ = (o.get("a"), o.text::<8>("a"), o.number("a"));
            }
        }

        #[test]
        fn what_is_written_is_read_back(value in "[ -~\n\u{0}-\u{ff}\"\\\\]{1,30}", other: String) {
            let mut out = Text::<1024>::EMPTY;
            let fits = Writer::new(&mut out).member("a", &value).member("b", &other).end();
            prop_assume!(fits);
            let read = object(out.as_str()).unwrap();
            let a = read.text::<1024>("a").unwrap().unwrap();
            prop_assert_eq!(a.as_str(), value.as_str());
        }
    }
}
