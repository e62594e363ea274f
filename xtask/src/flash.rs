//! `cargo xtask flash-image`: from a registration's answer to what is flashed and what is printed.
//!
//! The credentials are one record in the first of two sectors, as the device will read and rewrite it; the second is erased.
//! They go to the place that the firmware's board module reads (docs/device.md), beside the firmware, never into it. The firmware's own
//! image is esptool's work (`crate::firmware::image`).

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use device_client::json::Object;
use device_client::text::Text;
use device_client::{SLOT_LEN, oauth, storage};
use qrcode::QrCode;
use qrcode::render::{svg, unicode};

/// Bytes of a sector of flash.
const SECTOR: usize = 4096;

/// Longest address that a label holds.
const MAX_URU: usize = 256;

/// Where the sketch and the firmware look for the credentials on a module with 4 MB.
const CREDENTIALS_AT: &str = "0x3F9000";

/// A registration's answer as an image and a label; with `firmware` (an ELF file), that program's image too.
///
/// # Errors
/// The answer is none, a file cannot be read or written, or esptool makes no image; no secret is shown.
pub(crate) fn flash_image(
    answer: &Path,
    out: &Path,
    label: Option<&Path>,
    firmware: Option<&Path>,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    if answer == Path::new("-") {
        std::io::stdin().read_to_end(&mut text)?;
    } else {
        text = fs::read(answer).with_context(|| format!("read {}", answer.display()))?;
    }
    let uru = uru(&text)?;
    let image = image(&text)?;
    write_secret(out, &image)?;
    let code = QrCode::new(uru.as_str().as_bytes()).context("the address does not fit into a QR code")?;
    println!("{}", code.render::<unicode::Dense1x2>().build());
    println!("{}", uru.as_str());
    if let Some(label) = label {
        let drawn = code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
        fs::write(label, drawn).with_context(|| format!("write {}", label.display()))?;
    }
    let mut command = String::from("esptool.py write_flash");
    if let Some(program) = firmware {
        let [memory, flash] = crate::firmware::image(program, &program.with_extension("bin"))?;
        command += &format!(" 0x00000 {} 0x10010 {}", memory.display(), flash.display());
    }
    eprintln!("{command} {CREDENTIALS_AT} {}", out.display());
    Ok(())
}

fn uru(answer: &[u8]) -> anyhow::Result<Text<MAX_URU>> {
    let read = || Object::parse(answer)?.text::<MAX_URU>("user_registration_uri");
    match read() {
        Ok(Some(uru)) => Ok(uru),
        Ok(None) | Err(_) => anyhow::bail!("the answer has no user_registration_uri"),
    }
}

fn image(answer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let record = oauth::read_registration(answer)
        .map_err(|_| anyhow::anyhow!("the answer lacks client_id, client_secret or mqtt with pins"))?;
    let mut slot = [0; SLOT_LEN];
    let len = storage::image(&record, &mut slot);
    ensure!(len > 0, "the record cannot be written");
    let mut image = vec![0xff; 2 * SECTOR];
    image[..len].copy_from_slice(&slot[..len]);
    Ok(image)
}

fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    // A file that was there before may be readable by others.
    let _ = fs::remove_file(path);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"client_id":"abc","client_secret":"s3cret","user_registration_uri":"https://didp.example/r/x",
        "mqtt":{"host":"didp.example","port":8884,"spki_sha256":["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]}}"#;

    #[test]
    fn the_image_holds_the_record_in_its_first_sector_and_nothing_in_the_second() {
        let image = image(ANSWER.as_bytes()).expect("an image");
        assert_eq!(image.len(), 2 * SECTOR);
        assert!(image.starts_with(b"OAD1") && image[SECTOR..].iter().all(|byte| *byte == 0xff));
        assert_eq!(uru(ANSWER.as_bytes()).expect("an address").as_str(), "https://didp.example/r/x");
    }

    #[test]
    fn what_is_no_answer_is_refused_without_its_secret() {
        let broken = ANSWER.replace("spki_sha256", "pins");
        let error = format!("{:#}", image(broken.as_bytes()).expect_err("no image"));
        assert!(!error.contains("s3cret"));
        assert!(uru(b"{}").is_err() && image(b"").is_err());
    }
}
