//! QR codes as one SVG path, for pages whose policy allows no styles and no pictures from elsewhere.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code (ISO/IEC 18004 asks for four).
const QUIET: usize = 4;

/// A code, ready for a template.
pub(super) struct Qr {
    /// Modules on each side, the quiet zone included.
    pub(super) size: usize,
    /// The dark modules: the `d` of a path in a view box of that size.
    pub(super) path: String,
}

impl Qr {
    /// The code that holds `text`; none if it is too long for any.
    pub(super) fn of(text: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
        let width = code.width();
        let mut path = String::new();
        for (y, row) in code.to_colors().chunks(width).enumerate() {
            let mut x = 0;
            while x < width {
                let run = row[x..].iter().take_while(|color| **color == Color::Dark).count();
                if run > 0 {
                    // Writing to a String cannot fail.
                    let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
                }
                x += run.max(1);
            }
        }
        Some(Qr { size: width + 2 * QUIET, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_has_every_dark_module_and_no_other() {
        let text = "http://didp.localhost:8080/r/0123456789abcdefghijkl";
        let code = QrCode::with_error_correction_level(text, EcLevel::M).unwrap();
        let qr = Qr::of(text).unwrap();
        let mut dark = 0;
        for run in qr.path.split('M').skip(1) {
            let length: usize = run.split('h').nth(1).unwrap().split('v').next().unwrap().parse().unwrap();
            dark += length;
        }
        assert_eq!(dark, code.to_colors().iter().filter(|color| **color == Color::Dark).count());
        assert_eq!(qr.size, code.width() + 8);
        assert!(qr.path.starts_with("M4 4h7v1h-7z"), "the finder's upper edge");
        assert!(Qr::of(&"x".repeat(3000)).is_none());
    }
}
