//! What the user's own lines hide from the managed entries: ssh takes the first value it finds for an option, and the
//! block is at the end of the file.

use super::block::{find, lines, names_in};
use super::{BEGIN, END};

/// The options without which an entry leads nowhere, or to another machine. `IdentityFile` is not among them: keys add up.
const VITAL: &[&str] = &["HostName", "User", "ProxyCommand", "ProxyJump", "IdentitiesOnly"];

/// A line of the user's that stands before the block and goes before its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden<'a> {
    /// The engines it matters to.
    pub names: Vec<&'a str>,
    /// The line, counted from one.
    pub line: usize,
    /// The option it sets.
    pub option: &'static str,
    /// The `Host` or `Match` it belongs to, with its line; none for what stands before the first of them.
    pub under: Option<(String, usize)>,
}

impl Hidden<'_> {
    /// Says what it does and what to do about it.
    pub fn message(&self) -> String {
        let Self { names, line, option, under } = self;
        let names = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        let of = under.as_ref().map_or_else(String::new, |(head, _)| format!(" (of '{head}')"));
        let advice = match under {
            Some((_, head)) => format!("move the lines from '{BEGIN}' to '{END}' above line {head}"),
            // Below the block it would belong to the block's last entry.
            None => format!("move it below '{END}', under a line 'Host *'"),
        };
        format!(
            "line {line} sets {option}{of} for {names} before dh's entries do, and ssh takes what comes first; {advice}"
        )
    }
}

/// Finds what goes before the entries of these engines. Entries of the user's own that name an engine are left to
/// `users_own_hosts`; files that the configuration includes are not looked into.
pub fn hidden<'a>(text: &[u8], names: &[&'a str]) -> Vec<Hidden<'a>> {
    let Some(block) = find(text).ok().flatten() else { return Vec::new() };
    let mut found = Vec::new();
    let mut under: Option<(String, usize)> = None;
    let mut applies: Vec<&str> = names.to_vec();
    for (number, (_, line)) in lines(&text[..block.start]).enumerate() {
        let line = String::from_utf8_lossy(line);
        let Some((keyword, values)) = words(&line) else { continue };
        let matches: fn(&[String], &str) -> bool = match keyword.to_ascii_lowercase().as_str() {
            "host" => host_applies,
            "match" => match_applies,
            _ => {
                let vital = VITAL.iter().find(|option| option.eq_ignore_ascii_case(&keyword));
                let said = |name: &&&str| !says_the_same(&text[block.clone()], name, &keyword, &values);
                let names: Vec<&str> = applies.iter().filter(said).copied().collect();
                if let Some(option) = vital.filter(|_| !names.is_empty()) {
                    found.push(Hidden { names, line: number + 1, option, under: under.clone() });
                }
                continue;
            }
        };
        applies = names.iter().filter(|name| matches(&values, name)).copied().collect();
        under = Some((line.trim().to_owned(), number + 1));
    }
    found
}

/// Returns the names of all entries in the block.
pub fn names(text: &[u8]) -> Vec<String> {
    let block = find(text).ok().flatten().unwrap_or(0..0);
    names_in(&text[block]).map(|(name, _)| name).collect()
}

/// Splits a line into its keyword and values; a comment and an empty line have none.
fn words(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '=' || c == '"').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    if keyword.is_empty() || keyword.starts_with('#') {
        return None;
    }
    let rest = rest.trim_start();
    let mut rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let mut values = Vec::new();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (value, left) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        values.push(value.to_owned());
        rest = left.trim_start();
    }
    Some((keyword.to_owned(), values))
}

/// Whether an entry has the very same option: what it hides is then nothing.
fn says_the_same(block: &[u8], name: &str, keyword: &str, values: &[String]) -> bool {
    let Some((_, start)) = names_in(block).find(|(found, _)| found == name) else { return false };
    let entry = lines(&block[start..]).skip(1).map_while(|(_, line)| words(&String::from_utf8_lossy(line)));
    let mut options = entry.take_while(|(key, _)| !key.eq_ignore_ascii_case("host"));
    options.any(|(key, own)| key.eq_ignore_ascii_case(keyword) && own == values)
}

fn host_applies(patterns: &[String], name: &str) -> bool {
    !patterns.iter().any(|pattern| pattern == name) && list_applies(patterns.iter().map(String::as_str), name)
}

/// Whether all criteria hold. Those that depend on more than the name count as not held: better silent than wrong.
fn match_applies(criteria: &[String], name: &str) -> bool {
    let mut criteria = criteria.iter();
    let mut any = false;
    while let Some(criterion) = criteria.next() {
        any = match criterion.to_ascii_lowercase().as_str() {
            "all" => true,
            "host" | "originalhost" => criteria.next().is_some_and(|list| list_applies(list.split(','), name)),
            _ => false,
        };
        if !any {
            return false;
        }
    }
    any
}

/// A list applies when one of its patterns does, and none of those after a `!`.
fn list_applies<'p>(patterns: impl Iterator<Item = &'p str>, name: &str) -> bool {
    let mut applies = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(excluded) if is_like(excluded.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => applies |= is_like(pattern.as_bytes(), name.as_bytes()),
        }
    }
    applies
}

/// Compares with a pattern in which `*` is anything and `?` one character.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, _) => name.is_empty(),
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| is_like(rest, &name[skipped..])),
        (Some((b'?', rest)), Some((_, left))) => is_like(rest, left),
        (Some((one, rest)), Some((other, left))) => one == other && is_like(rest, left),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# BEGIN DAYHOFF ENGINES\n\nHost abc\n    HostName i-1\n    User alice\n\nHost xyz\n    HostName i-2\n    User bob\n\n# END DAYHOFF ENGINES\n";

    fn found(before: &str) -> Vec<(Vec<&'static str>, usize, &'static str)> {
        let text = format!("{before}{BLOCK}Host *\n    User below\n");
        hidden(text.as_bytes(), &["abc", "xyz"]).into_iter().map(|it| (it.names, it.line, it.option)).collect()
    }

    #[test]
    fn patterns_that_match_an_engine_and_set_what_it_needs_are_found() {
        let both = vec!["abc", "xyz"];
        assert_eq!(found("Host *\n  ForwardAgent yes\n  user=carol\n"), [(both.clone(), 3, "User")]);
        assert_eq!(found("Host a* ?bc !xyz\n  ProxyJump \"gate\"\n"), [(vec!["abc"], 2, "ProxyJump")]);
        assert_eq!(found("# mine\nUser carol\nHost other\n  HostName x\n"), [(both.clone(), 2, "User")]);
        assert_eq!(found("Match all\n  ProxyCommand nc %h\n"), [(both, 2, "ProxyCommand")]);
        assert_eq!(found("Match host x*,y*\n\tIdentitiesOnly no\n"), [(vec!["xyz"], 2, "IdentitiesOnly")]);
    }

    #[test]
    fn what_hides_nothing_is_not_found() {
        for before in [
            "Host * !abc !xyz\n  User carol\n",
            "Host !abc\n  User carol\n",
            "Host other\n  User carol\n",
            "Host *\n  ForwardAgent yes\n  # User carol\n",
            "Match user root\n  ProxyJump gate\n",
            "Match host abc exec \"test -e /x\"\n  ProxyJump gate\n",
        ] {
            assert_eq!(found(before), [], "{before}");
        }
        assert_eq!(found("Host *\n  User alice\n"), [(vec!["xyz"], 2, "User")], "what abc has anyway");
    }

    #[test]
    fn the_message_names_line_option_and_way_out() {
        let text = format!("Host *\n  ProxyJump gate\n{BLOCK}");
        assert_eq!(
            hidden(text.as_bytes(), &["abc"])[0].message(),
            "line 2 sets ProxyJump (of 'Host *') for 'abc' before dh's entries do, and ssh takes what comes first; move the \
             lines from '# BEGIN DAYHOFF ENGINES' to '# END DAYHOFF ENGINES' above line 1"
        );
        let text = format!("User carol\n{BLOCK}");
        assert!(hidden(text.as_bytes(), &["abc"])[0].message().ends_with("under a line 'Host *'"));
    }
}
