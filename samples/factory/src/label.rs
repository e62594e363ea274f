//! The label of a device: the user registration URI as a QR code, and in letters below it. Nothing else is printed on it: neither
//! the client_id nor the hardware id leaves the factory this way.

use std::fmt::Write as _;
use std::io::Cursor;

use anyhow::Context as _;
use image::{GrayImage, ImageFormat, Luma};
use qrcode::{Color, EcLevel, QrCode};

/// Modules of white around a code (ISO/IEC 18004).
const QUIET: usize = 4;

/// Pixels of one module in a PNG.
const PIXELS: u32 = 10;

/// The code of an address.
///
/// # Errors
/// The address is too long for any code.
pub fn code(uru: &str) -> anyhow::Result<QrCode> {
    QrCode::with_error_correction_level(uru, EcLevel::M).context("the address does not fit into a QR code")
}

/// The dark modules as one SVG path, `scale` units a module, with its upper left corner at `x`, `y`.
fn path(code: &QrCode, x: f64, y: f64, scale: f64) -> String {
    let width = code.width();
    let mut d = String::new();
    for (index, _) in code.to_colors().iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
        let (column, row) = ((index % width) as f64, (index / width) as f64);
        // Writing to a string does not fail.
        let _ =
            write!(d, "M{:.3} {:.3}h{scale:.3}v{scale:.3}h-{scale:.3}z", x + column * scale, y + row * scale);
    }
    d
}

/// The bare code as SVG.
///
/// # Errors
/// As [`code`].
pub fn qr_svg(uru: &str) -> anyhow::Result<String> {
    let code = code(uru)?;
    let side = code.width() + 2 * QUIET;
    let d = path(&code, QUIET as f64, QUIET as f64, 1.0);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\" role=\"img\">\
         <title>QR code of a device</title><rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\"{d}\" fill=\"#000\"/></svg>"
    ))
}

/// The bare code as PNG.
///
/// # Errors
/// As [`code`].
pub fn qr_png(uru: &str) -> anyhow::Result<Vec<u8>> {
    let code = code(uru)?;
    let (width, colors) = (code.width(), code.to_colors());
    let side = (width + 2 * QUIET) as u32 * PIXELS;
    let picture = GrayImage::from_fn(side, side, |x, y| {
        let module = |pixel: u32| ((pixel / PIXELS) as usize).checked_sub(QUIET).filter(|at| *at < width);
        match (module(x), module(y)) {
            (Some(column), Some(row)) if colors[row * width + column] == Color::Dark => Luma([0]),
            _ => Luma([255]),
        }
    });
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).context("write a PNG")?;
    Ok(png.into_inner())
}

/// The label as SVG, 70 by 42 millimetres: the code, and the address in letters for who cannot scan it.
///
/// # Errors
/// As [`code`].
pub fn label_svg(uru: &str) -> anyhow::Result<String> {
    let code = code(uru)?;
    let side = 32.0;
    let scale = side / (code.width() as f64);
    let d = path(&code, 5.0, 5.0, scale);
    let mut lines = String::new();
    for (index, line) in wrapped(uru, 18).iter().enumerate() {
        let y = 26.0 + 3.0 * index as f64;
        // Writing to a string does not fail.
        let _ = write!(
            lines,
            "<text x=\"41\" y=\"{y}\" font-family=\"monospace\" font-size=\"2.3\">{}</text>",
            escaped(line)
        );
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"70mm\" height=\"42mm\" viewBox=\"0 0 70 42\" role=\"img\">\
         <title>Label of a device</title>\
         <rect x=\".25\" y=\".25\" width=\"69.5\" height=\"41.5\" rx=\"3\" fill=\"#fff\" stroke=\"#000\" stroke-width=\".3\"/>\
         <path d=\"{d}\" fill=\"#000\" shape-rendering=\"crispEdges\"/>\
         <g fill=\"#000\"><text x=\"41\" y=\"10\" font-family=\"sans-serif\" font-size=\"5\" font-weight=\"bold\">Make it</text>\
         <text x=\"41\" y=\"15.5\" font-family=\"sans-serif\" font-size=\"5\" font-weight=\"bold\">yours</text>\
         <text x=\"41\" y=\"20.5\" font-family=\"sans-serif\" font-size=\"2.7\">Scan, log in, press.</text>{lines}</g></svg>"
    ))
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(width).take(5).map(|line| line.iter().collect()).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const URU: &str = "http://didp.localhost:8080/r/AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn the_label_shows_the_address_and_nothing_of_the_device() {
        let svg = label_svg(URU).unwrap();
        let text: String = wrapped(URU, 18).concat();
        assert_eq!(text, URU);
        assert!(wrapped(URU, 18).iter().all(|line| svg.contains(line.as_str())));
        assert!(!label_svg("http://x/<script>&").unwrap().contains("<script>"));
    }

    #[test]
    fn png_and_svg_show_the_same_modules() {
        let png = image::load_from_memory(&qr_png(URU).unwrap()).unwrap().into_luma8();
        let code = code(URU).unwrap();
        let side = (code.width() + 2 * QUIET) as u32 * PIXELS;
        assert_eq!(png.dimensions(), (side, side));
        let dark = code.to_colors().iter().filter(|color| **color == Color::Dark).count();
        assert_eq!(png.pixels().filter(|pixel| pixel.0 == [0]).count(), dark * (PIXELS * PIXELS) as usize);
        assert_eq!(qr_svg(URU).unwrap().matches('M').count(), dark);
    }
}
