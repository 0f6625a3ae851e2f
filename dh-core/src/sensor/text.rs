//! Text that came from outside, made fit for a terminal and a log.

/// The longest piece of foreign text shown, in characters.
const SHOWN_MAX: usize = 200;

/// Returns the text with control and invisible direction characters escaped, and cut when it is long.
///
/// Names of users, containers and processes are chosen by others: shown as they are, one could move a cursor, forge a
/// line of the ledger, or hide what follows it.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(SHOWN_MAX));
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_MAX {
            shown.push('…');
            break;
        }
        if is_unfit(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Returns whether a character must not reach a terminal as it is.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_the_rest_kept() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(plain("Jürgen 日本 👩‍🔬"), "Jürgen 日本 👩‍🔬");
        assert_eq!(plain("evil\u{202e}txt"), "evil\\u{202e}txt");
    }

    #[test]
    fn long_text_is_cut_visibly() {
        assert_eq!(plain(&"x".repeat(500)), format!("{}…", "x".repeat(200)));
    }

    proptest! {
        #[test]
        fn nothing_unfit_is_left_and_twice_is_once(text in any::<String>()) {
            let once = plain(&text);
            prop_assert!(!once.chars().any(is_unfit));
            if text.chars().count() < 20 {
                prop_assert_eq!(plain(&once), once);
            }
        }
    }
}
