//! QR codes (ISO/IEC 18004), for pages and for terminals.

use qrcode::{
    EcLevel, QrCode,
    render::{svg, unicode},
};

fn code(text: &str) -> Option<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::M).ok()
}

/// An SVG image. Dark on light whatever the page's colours are, as many cameras read nothing else.
pub(super) fn svg(text: &str) -> Option<String> {
    let drawn = code(text)?.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
    Some(drawn.trim_start_matches(r#"<?xml version="1.0" standalone="yes"?>"#).to_owned())
}

/// Half blocks, two modules a character: light on dark, as terminals are.
pub fn text(text: &str) -> Option<String> {
    let code = code(text)?;
    Some(
        code.render::<unicode::Dense1x2>()
            .dark_color(unicode::Dense1x2::Light)
            .light_color(unicode::Dense1x2::Dark)
            .build(),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_for_pages_and_terminals() {
        let url = "otpauth://totp/Example:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Example";
        let image = svg(url).unwrap();
        assert!(image.starts_with("<svg") && image.ends_with("</svg>"), "{}", &image[..80]);
        let lines = text(url).unwrap();
        assert!(lines.lines().count() > 15 && lines.contains('█'));
        assert_eq!(text(&"x".repeat(5000)), None, "too long for any");
    }
}
