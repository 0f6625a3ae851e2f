//! One `Host` entry, quoted the way ssh and the shell it starts read it.

use dh_core::domain::{Error, ErrorKind, Result};
use dh_core::ports::SshEntry;

/// Writes the lines of an entry, each without its line break.
pub fn lines(entry: &SshEntry) -> Result<Vec<String>> {
    let target = &entry.target;
    let mut lines = vec![
        format!("Host {}", entry.engine),
        format!("    HostName {}", value(&target.host_name)?),
        format!("    User {}", value(&target.user)?),
    ];
    if !target.proxy_command.is_empty() {
        let words: Result<Vec<String>> = target.proxy_command.iter().map(|word| shell_word(word)).collect();
        lines.push(format!("    ProxyCommand {}", words?.join(" ")));
    }
    for (key, option) in &target.options {
        lines.push(format!("    {} {}", one_line(key)?, value(option)?));
    }
    Ok(lines)
}

fn one_line(text: &str) -> Result<&str> {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(text),
        Some(c) => Err(Error::new(ErrorKind::InvalidArgument, format!("{text:?} cannot go into the SSH config"))
            .with_hint(format!("it has {c:?} in it; choose a path without such characters for DH_HOME"))),
    }
}

/// Doubles every `%` that is not one of ssh's own `%h` and `%p`. Those are told by what follows: `%h` in `/data/%home`
/// is part of a name.
fn escape_percent(text: &str) -> String {
    let mut escaped = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        escaped.push(c);
        if c == '%' {
            let mut next = rest.clone();
            let token = matches!(next.next(), Some('h' | 'p')) && !next.next().is_some_and(char::is_alphanumeric);
            if !token {
                escaped.push('%');
            }
        }
    }
    escaped
}

/// Quotes an option's value: ssh takes double quotes, and within them a backslash before `"` and `\`.
fn value(text: &str) -> Result<String> {
    let text = escape_percent(one_line(text)?);
    let plain = !text.is_empty() && !text.contains([' ', '"', '\\', '#', '\'']);
    if plain { Ok(text) } else { Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))) }
}

/// Quotes one word of a `ProxyCommand`: ssh gives the line to the user's shell, after it has replaced its tokens.
fn shell_word(text: &str) -> Result<String> {
    let word = escape_percent(one_line(text)?);
    if matches!(text, "%h" | "%p") { Ok(word) } else { Ok(shell_quoted(&word)) }
}

/// Quotes a word for a shell, where it needs that.
pub fn shell_quoted(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:@+,".contains(c);
    let plain = !word.is_empty() && word.chars().all(safe);
    // Within single quotes every shell takes everything as it is, but for the quote itself.
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_commands_are_quoted_as_specified() {
        assert_eq!(shell_word("%h").unwrap(), "%h");
        assert_eq!(shell_word("portNumber=%p").unwrap(), "'portNumber=%p'");
        assert_eq!(shell_word("AWS-StartSSHSession").unwrap(), "AWS-StartSSHSession");
        assert_eq!(shell_word("/opt/my tools/dh").unwrap(), "'/opt/my tools/dh'");
        assert_eq!(shell_word("it's").unwrap(), "'it'\\''s'");
        assert_eq!(shell_word("").unwrap(), "''");
    }

    #[test]
    fn a_percent_sign_that_is_not_sshs_is_escaped() {
        assert_eq!(shell_word("/data/100%/dh").unwrap(), "'/data/100%%/dh'");
        assert_eq!(shell_word("/data/%home").unwrap(), "'/data/%%home'");
        assert_eq!(shell_word("%h:%p").unwrap(), "'%h:%p'");
        assert_eq!(value("/keys/50%").unwrap(), "/keys/50%%");
    }

    #[test]
    fn values_with_spaces_and_quotes_are_quoted() {
        assert_eq!(value("/my keys/id").unwrap(), "\"/my keys/id\"");
        assert_eq!(value("a\"b").unwrap(), "\"a\\\"b\"");
        assert_eq!(value("no").unwrap(), "no");
    }

    #[test]
    fn a_line_break_cannot_smuggle_in_an_option() {
        assert!(value("x\n    ProxyCommand evil").is_err());
        assert!(shell_word("x\ny").is_err());
    }
}
