//! Inputs that are nearly right, so that chance gets beyond the first check.

use mqtt_fuzz::random::Random;

const WORDS: [&str; 34] = [
    "client_name",
    "redirect_uris",
    "https://app.example/cb",
    "http://127.0.0.1/cb",
    "http://app.example/",
    "grant_types",
    "authorization_code",
    "refresh_token",
    oauth_wire::DEVICE_CODE,
    "token_endpoint_auth_method",
    "none",
    "client_secret_basic",
    "private_key_jwt",
    "jwks",
    "device",
    "confirm",
    "code",
    "press",
    "channels",
    "name",
    "direction",
    "data",
    "command",
    "type",
    "mqtt",
    "actions",
    "read",
    "view",
    "kind",
    "summary",
    "window_s",
    "code_challenge_method",
    "S256",
    "grant_type",
];

const WHOLE: [&str; 9] = [
    r#"{"client_name":"T1","device":{"confirm":"code","channels":[{"name":"a/b","direction":"data","unit":"°C","type":"number"}]}}"#,
    r#"{"client_name":"App","redirect_uris":["https://app.example/cb","http://127.0.0.1/cb"],"scope":"data:subscribe"}"#,
    r#"{"client_name":"TV","grant_types":["urn:ietf:params:oauth:grant-type:device_code"],"token_endpoint_auth_method":"none"}"#,
    r#"[{"type":"mqtt","actions":["read"],"channels":["a"],"view":{"kind":"summary","window_s":60}}]"#,
    r#"{"grant_type":"authorization_code","code":"c","code_verifier":"v"}"#,
    r#"{"grant_type":"refresh_token","refresh_token":"r","scope":"data:publish"}"#,
    r#"{"code_challenge":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU","code_challenge_method":"S256"}"#,
    r#"{"token":"t"}"#,
    "grant_type=refresh_token&refresh_token=a%2Bb&client_id=c&client_secret=%C3%A9&scope=data%3Asubscribe+command%3Apublish",
];

const BITS: [&str; 24] = [
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\\ud800", "null", "true", "1e999", "-0", "&", "=",
    "%", "%00", "%ff", "+", ";", "\u{202e}", "\u{0}", "Og==",
];

/// Writes an input into `out`.
pub fn input(random: &mut Random, out: &mut Vec<u8>) {
    out.clear();
    match random.below(4) {
        0 => value(random, out, 4),
        1 => form(random, out),
        _ => out.extend_from_slice(random.one_of(&WHOLE).as_bytes()),
    }
    for _ in 0..random.one_of(&[0, 0, 1, 1, 2, 4, 8]) {
        change(random, out);
    }
}

fn value(random: &mut Random, out: &mut Vec<u8>, depth: usize) {
    match random.below(if depth == 0 { 3 } else { 6 }) {
        0 => out.extend_from_slice(
            random.one_of(&["null", "true", "0", "60", "-1.5", "18446744073709551616"]).as_bytes(),
        ),
        1 | 2 => text(random, out),
        3 => {
            out.push(b'[');
            for at in 0..random.below(4) {
                if at > 0 {
                    out.push(b',');
                }
                value(random, out, depth - 1);
            }
            out.push(b']');
        }
        _ => {
            out.push(b'{');
            for at in 0..random.below(6) {
                if at > 0 {
                    out.push(b',');
                }
                text(random, out);
                out.push(b':');
                value(random, out, depth - 1);
            }
            out.push(b'}');
        }
    }
}

fn text(random: &mut Random, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(random.one_of(&WORDS).as_bytes());
    out.push(b'"');
}

fn form(random: &mut Random, out: &mut Vec<u8>) {
    for at in 0..random.below(8) {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(random.one_of(&WORDS).as_bytes());
        out.push(b'=');
        out.extend_from_slice(random.one_of(&WORDS).as_bytes());
    }
}

/// Changes one place: bytes go, come, or turn into others.
pub fn change(random: &mut Random, out: &mut Vec<u8>) {
    let at = random.below(out.len() + 1).min(out.len());
    match random.below(6) {
        0 if at < out.len() => out[at] ^= 1 << random.below(8),
        1 if at < out.len() => {
            let end = (at + 1 + random.below(16)).min(out.len());
            out.drain(at..end);
        }
        2 => {
            let bit = random.one_of(&BITS).as_bytes().to_vec();
            out.splice(at..at, bit);
        }
        3 => {
            let word = random.one_of(&WORDS).as_bytes().to_vec();
            out.splice(at..at, word);
        }
        4 if at < out.len() => {
            let end = (at + 1 + random.below(32)).min(out.len());
            let again = out[at..end].to_vec();
            out.splice(at..at, again);
        }
        _ => out.insert(at, random.byte()),
    }
}

/// Writes a script for [`crate::device`] into `out`: mostly honest servers at first, so that a life begins.
pub fn script(random: &mut Random, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[random.byte(), random.byte()]);
    if !random.one_in(4) {
        // A press, which honest servers turn into an ownership.
        out.extend_from_slice(&[6, 0]);
    }
    for _ in 0..random.below(40) {
        out.push(random.one_of(&[0, 1, 1, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11, 11, 12]));
        for _ in 0..random.below(8) {
            out.push(random.byte());
        }
    }
}
