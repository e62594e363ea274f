//! Pins of servers' public keys (RFC 7469 §2.4), gathered from the configuration and the files that it names.

use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// All pins, in base64 as answers give them, without doubles.
///
/// # Errors
/// A pin that is not 32 bytes, a file that cannot be read or parsed.
pub(crate) fn collect(
    listed: &[String],
    file: &Option<PathBuf>,
    authorities: &Option<PathBuf>,
) -> anyhow::Result<Vec<String>> {
    let mut pins = Vec::new();
    let mut add = |pin: String| {
        if !pins.contains(&pin) {
            pins.push(pin);
        }
    };
    for pin in listed {
        add(normal(pin).with_context(|| format!("spki_sha256: {pin} is not base64 of 32 bytes"))?);
    }
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| format!("spki_file {}", file.display()))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            add(normal(line)
                .with_context(|| format!("spki_file {}: not base64 of 32 bytes", file.display()))?);
        }
    }
    if let Some(authorities) = authorities {
        for certificate in service::tls::certificates(authorities)? {
            add(service::tls::spki_sha256(&certificate)?);
        }
    }
    Ok(pins)
}

fn normal(pin: &str) -> Option<String> {
    let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    let bytes = engines.iter().find_map(|engine| engine.decode(pin).ok())?;
    (bytes.len() == 32).then(|| STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alphabet_gives_the_same_pin_once() {
        let bytes = [0xfb; 32];
        let listed = [STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)];
        assert_eq!(collect(&listed, &None, &None).unwrap(), [STANDARD.encode(bytes)]);
        assert!(collect(&["c2hvcnQ".to_owned()], &None, &None).is_err());
    }
}
