//! What device and DIdP say to each other on the `$oauth/…` topics (design §6): requests written, answers read.
//!
//! An answer is either understood completely or is `Answer::Unusable`; members that nobody asked for are ignored. What
//! follows from an answer is left to [`crate::device`].

use crate::json::{Malformed, Object, Value, Writer};
use crate::record::{MAX_CREDENTIAL, MAX_HOST, MAX_TOKEN, Record, Server};
use crate::text::{Text, base64_decode32};

/// Longest request payload, in bytes.
pub(crate) const MAX_REQUEST: usize = 512;

/// Longest code that a display shows.
pub const MAX_USER_CODE: usize = 8;

/// Longest time in seconds that is believed.
const MAX_SECONDS: u32 = 366 * 24 * 3600;

/// What a device asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Claim,
    Token,
    Done,
    Reset,
}

impl Request {
    pub(crate) fn topic(self) -> &'static str {
        match self {
            Self::Claim => "$oauth/claim",
            Self::Token => "$oauth/token",
            Self::Done => "$oauth/claim/done",
            Self::Reset => "$oauth/reset",
        }
    }

    /// True if `topic` is where answers to this request come.
    pub(crate) fn is_answered_on(self, topic: &str) -> bool {
        topic.strip_suffix("/response") == Some(self.topic())
    }
}

/// Payload of `$oauth/claim`; false if it does not fit, as for the others.
#[must_use]
pub(crate) fn claim(out: &mut Text<MAX_REQUEST>, challenge: &str) -> bool {
    Writer::new(out).member("code_challenge", challenge).member("code_challenge_method", "S256").end()
}

/// Payload of `$oauth/token` with an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5).
#[must_use]
pub(crate) fn redeem(out: &mut Text<MAX_REQUEST>, code: &str, verifier: &str) -> bool {
    Writer::new(out)
        .member("grant_type", "authorization_code")
        .member("code", code)
        .member("code_verifier", verifier)
        .end()
}

/// Payload of `$oauth/token` with a refresh token (RFC 6749 §6).
#[must_use]
pub(crate) fn refresh(out: &mut Text<MAX_REQUEST>, token: &str) -> bool {
    Writer::new(out).member("grant_type", "refresh_token").member("refresh_token", token).end()
}

/// An answer of any kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// The answer that was asked for.
    Ok(T),
    /// An error of the DIdP.
    Error(Refusal),
    /// Not JSON, or not what it should be.
    Unusable,
}

/// The errors that a device tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `invalid_grant`: code or refresh token are of no use any more.
    InvalidGrant,
    /// `access_denied`: the owner said no.
    AccessDenied,
    /// `expired_token`: the claim window is over.
    Expired,
    /// `server_error`, `temporarily_unavailable`, `slow_down`: the same question may be answered later.
    Later,
    /// Anything else.
    Other,
}

/// What an open claim window says next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The window is open for so many seconds; the code is there if the owner has to type it.
    Open { expires_in: u32, user_code: Option<Text<MAX_USER_CODE>> },
    /// The owner said yes.
    Granted(Text<MAX_TOKEN>),
}

/// A token response (RFC 6749 §5.1) with the gateway and, after a claim, the renewed secret.
#[derive(PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) access_token: Text<MAX_TOKEN>,
    pub(crate) refresh_token: Option<Text<MAX_TOKEN>>,
    pub(crate) expires_in: u32,
    pub(crate) gateway: Option<Server>,
    pub(crate) client_secret: Option<Text<MAX_CREDENTIAL>>,
}

/// Reads an answer on `$oauth/claim/response`.
pub(crate) fn read_claim(payload: &[u8]) -> Answer<Claim> {
    read(payload, |object| {
        let status = object.text::<16>("status")?.ok_or(Malformed)?;
        match status.as_str() {
            "window_open" => Ok(Claim::Open {
                expires_in: object.number("expires_in")?.unwrap_or(120).min(MAX_SECONDS),
                user_code: object.text("user_code")?,
            }),
            "granted" => object.text("code")?.map(Claim::Granted).ok_or(Malformed),
            _ => Err(Malformed),
        }
    })
}

/// Reads an answer on `$oauth/token/response`.
pub(crate) fn read_tokens(payload: &[u8]) -> Answer<Tokens> {
    read(payload, |object| {
        let kind = object.text::<16>("token_type")?.ok_or(Malformed)?;
        if !kind.as_str().eq_ignore_ascii_case("bearer") {
            return Err(Malformed);
        }
        Ok(Tokens {
            access_token: object.text("access_token")?.ok_or(Malformed)?,
            refresh_token: object.text("refresh_token")?,
            // RFC 6749 §5.1 allows it to be missing; an hour is what most servers mean.
            expires_in: object.number("expires_in")?.unwrap_or(3600).min(MAX_SECONDS),
            gateway: match object.get("gateway")? {
                None | Some(Value::Null) => None,
                Some(Value::Object(gateway)) => Some(read_server(&gateway)?),
                Some(_) => return Err(Malformed),
            },
            client_secret: object.text("client_secret")?,
        })
    })
}

/// Reads an answer that says no more than yes: `{}`.
pub(crate) fn read_empty(payload: &[u8]) -> Answer<()> {
    read(payload, |_| Ok(()))
}

fn read<T>(payload: &[u8], ok: impl FnOnce(&Object<'_>) -> Result<T, Malformed>) -> Answer<T> {
    let Ok(object) = Object::parse(payload) else { return Answer::Unusable };
    match object.get("error") {
        Ok(None) => ok(&object).map_or(Answer::Unusable, Answer::Ok),
        Ok(Some(Value::String(error))) => Answer::Error(if error.is("invalid_grant") {
            Refusal::InvalidGrant
        } else if error.is("access_denied") {
            Refusal::AccessDenied
        } else if error.is("expired_token") {
            Refusal::Expired
        } else if ["server_error", "temporarily_unavailable", "slow_down"].iter().any(|later| error.is(later))
        {
            Refusal::Later
        } else {
            Refusal::Other
        }),
        Ok(Some(_)) | Err(Malformed) => Answer::Unusable,
    }
}

/// The record that a registration answer makes (RFC 7591 §3.2.1, with `client_id`, `client_secret` and `mqtt`): what is flashed
/// in the factory.
///
/// # Errors
/// Something is missing, too long or not what it should be.
pub fn read_registration(answer: &[u8]) -> Result<Record, Malformed> {
    let answer = Object::parse(answer)?;
    let Some(Value::Object(mqtt)) = answer.get("mqtt")? else { return Err(Malformed) };
    let id = answer.text::<MAX_CREDENTIAL>("client_id")?.ok_or(Malformed)?;
    let secret = answer.text::<MAX_CREDENTIAL>("client_secret")?.ok_or(Malformed)?;
    Record::new(id.as_str(), secret.as_str(), read_server(&mqtt)?).ok_or(Malformed)
}

/// Reads `{"host", "port", "spki_sha256": […]}`. Pins beyond the room for them are left out, unreadable ones are an error.
pub fn read_server(object: &Object<'_>) -> Result<Server, Malformed> {
    let host = object.text::<MAX_HOST>("host")?.ok_or(Malformed)?;
    let port = object.number("port")?.and_then(|port| u16::try_from(port).ok()).ok_or(Malformed)?;
    let mut server = Server::new(host.as_str(), port).ok_or(Malformed)?;
    let Some(Value::Array(pins)) = object.get("spki_sha256")? else { return Err(Malformed) };
    for pin in pins.iter() {
        let Value::String(pin) = pin else { return Err(Malformed) };
        let pin = pin.unescape::<44>().ok_or(Malformed)?;
        if !server.pin(base64_decode32(pin.as_str()).ok_or(Malformed)?) {
            break;
        }
    }
    if server.is_usable() { Ok(server) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn answers_of_a_claim() {
        let open = read_claim(br#"{"status":"window_open","expires_in":120,"user_code":"0427"}"#);
        assert_eq!(open, Answer::Ok(Claim::Open { expires_in: 120, user_code: Text::new("0427") }));
        let press = read_claim(br#"{"x":[{}],"status":"window_open","expires_in":90}"#);
        assert_eq!(press, Answer::Ok(Claim::Open { expires_in: 90, user_code: None }));
        let granted = read_claim(br#"{"code":"c0de","status":"granted"}"#);
        assert_eq!(granted, Answer::Ok(Claim::Granted(Text::new("c0de").unwrap())));
        assert_eq!(read_claim(br#"{"error":"access_denied"}"#), Answer::Error(Refusal::AccessDenied));
        assert_eq!(read_claim(br#"{"error":"expired_token"}"#), Answer::Error(Refusal::Expired));
        for bad in
            [&b"{}"[..], br#"{"status":"granted"}"#, br#"{"status":"soon"}"#, br#"{"error":1}"#, b"[]", b""]
        {
            assert_eq!(read_claim(bad), Answer::Unusable);
        }
    }

    #[test]
    fn a_token_response() {
        let text = format!(
            r#"{{"scope":"data:publish","gateway":{{"websocket":null,"spki_sha256":["{PIN}","{PIN}","{PIN}","{PIN}","{PIN}"],
            "port":8883,"host":"ignite.localhost"}},"token_type":"bearer","expires_in":86400,"refresh_token":"r","access_token":"demo.a",
            "client_secret":"s"}}"#
        );
        let Answer::Ok(tokens) = read_tokens(text.as_bytes()) else { panic!("a token response") };
        let gateway = tokens.gateway.unwrap();
        assert_eq!(
            (gateway.host.as_str(), gateway.port, gateway.pins().len()),
            ("ignite.localhost", 8883, 4)
        );
        assert_eq!(gateway.pins()[0][..3], [0, 1, 2]);
        assert_eq!((tokens.access_token.as_str(), tokens.expires_in), ("demo.a", 86400));
        assert_eq!(tokens.client_secret, Text::new("s"));
    }

    #[test]
    fn half_a_token_response_is_none() {
        let bad = |text: &str| assert!(matches!(read_tokens(text.as_bytes()), Answer::Unusable), "{text}");
        bad(r#"{"token_type":"Bearer","refresh_token":"r"}"#);
        bad(r#"{"access_token":"a","refresh_token":"r"}"#);
        bad(r#"{"access_token":"a","token_type":"mac"}"#);
        bad(r#"{"access_token":"","token_type":"Bearer"}"#);
        bad(r#"{"access_token":"a","token_type":"Bearer","expires_in":-1}"#);
        bad(r#"{"access_token":"a","token_type":"Bearer","gateway":{"host":"h","port":1,"spki_sha256":[]}}"#);
        bad(
            r#"{"access_token":"a","token_type":"Bearer","gateway":{"host":"h","port":70000,"spki_sha256":["x"]}}"#,
        );
        bad(&format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "a".repeat(MAX_TOKEN + 1)));
    }

    #[test]
    fn requests_fit_at_their_longest() {
        let mut out = Text::EMPTY;
        assert!(redeem(&mut out, &"c".repeat(MAX_TOKEN), &"v".repeat(43)));
        assert!(refresh(&mut out, &"r".repeat(MAX_TOKEN)));
        assert!(claim(&mut out, "x"));
        assert_eq!(out.as_str(), r#"{"code_challenge":"x","code_challenge_method":"S256"}"#);
        assert!(Request::Done.is_answered_on("$oauth/claim/done/response"));
        assert!(!Request::Claim.is_answered_on("$oauth/claim/done/response"));
    }

    proptest! {
        #[test]
        fn hostile_answers_do_not_panic(bytes: Vec<u8>) {
            let _ = (read_claim(&bytes), matches!(read_tokens(&bytes), Answer::Unusable), read_empty(&bytes));
        }

        #[test]
        fn hostile_members_do_not_panic(
            name in prop::sample::select(vec!["error", "gateway", "expires_in", "access_token", "status", "code", "spki_sha256"]),
            value in r#"(null|-?[0-9]{1,12}|"[a-z\\u0-9]{0,8}"|\[\]|\{\}|\{"host":"h","port":[0-9]{1,6},"spki_sha256":\[("[A-Za-z_=]{0,44}")?\]\})"#,
        ) {
            let text = format!(r#"{{"token_type":"Bearer","{name}":{value}}}"#);
            let _ = (read_claim(text.as_bytes()), matches!(read_tokens(text.as_bytes()), Answer::Unusable));
        }
    }
}
