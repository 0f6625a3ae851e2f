//! What people see: text, pure and without I/O.

mod engine;
mod operation;
mod paint;
mod studio;
mod table;
mod time;

use dh_core::domain::Error;

pub use engine::*;
pub use operation::*;
pub use paint::Paint;
pub use studio::*;
pub use table::{Column, Table};
pub use time::*;

/// Takes what would move the cursor or change the terminal's colours out of a text that came from elsewhere.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Begins a message or hint with a capital letter, unless it begins with something to type or a name.
pub fn sentence(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_word = word.trim_end_matches([',', ':', ';']).bytes().all(|byte| byte.is_ascii_lowercase());
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if is_word && word != "dh" => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// Draws an error: what went wrong, and below it what to do next.
pub fn error(error: &Error, paint: Paint) -> String {
    let mut text = paint.red(&format!("✗ {}", sentence(&plain(&error.full_message()))));
    for line in error.hint().into_iter().flat_map(str::lines) {
        text.push_str("\n  ");
        text.push_str(&sentence(&plain(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use dh_core::domain::ErrorKind;

    use super::*;

    #[test]
    fn an_error_is_drawn_as_specified() {
        let failure = Error::new(ErrorKind::Conflict, "studio must be detached before deletion")
            .with_hint("run: dh studio detach");
        assert_eq!(
            error(&failure, Paint::new(false)),
            "✗ Studio must be detached before deletion\n  Run: dh studio detach"
        );
    }

    #[test]
    fn sources_are_part_of_the_message() {
        let failure = Error::new(ErrorKind::Storage, "cannot write the state").with_source("disk full");
        assert_eq!(error(&failure, Paint::new(false)), "✗ Cannot write the state: disk full");
    }

    #[test]
    fn what_can_be_typed_or_is_a_name_keeps_its_case() {
        assert_eq!(sentence("dh ops list"), "dh ops list");
        assert_eq!(sentence("op-12 is over"), "op-12 is over");
        assert_eq!(sentence("detach first: dh studio detach"), "Detach first: dh studio detach");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\r"), "a\u{fffd}[31mb\u{fffd}");
    }
}
