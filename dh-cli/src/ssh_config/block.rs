//! Edits the managed block of an SSH configuration. Pure: bytes in, bytes out.
//!
//! Several environments share the block. Each has a section, headed by a comment; the entries before the first such
//! comment are those of `dev`, as older versions wrote them.

use std::ops::Range;

use dh_core::domain::{Error, ErrorKind, Result};
use dh_core::ports::SshEntry;

use super::{BEGIN, END, entry};

const HEADING: &str = "# Environment: ";
const ALL: &str = "all users";
const ADMIN: &str = "administrator";
const UNNAMED: &str = "dev";

/// One environment's part of the block, and how it was asked for: an automatic update asks the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The environment.
    pub environment: String,
    /// Whether it has the engines of all users.
    pub all: bool,
    /// Whether the administrator logs in.
    pub admin: bool,
}

impl Section {
    fn heading(&self) -> Option<String> {
        let options: Vec<&str> =
            [(self.all, ALL), (self.admin, ADMIN)].into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        match (self.environment.as_str(), options.as_slice()) {
            (UNNAMED, []) => None,
            (environment, []) => Some(format!("{HEADING}{environment}")),
            (environment, options) => Some(format!("{HEADING}{environment} ({})", options.join(", "))),
        }
    }

    fn unnamed() -> Self {
        Self { environment: UNNAMED.into(), all: false, admin: false }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?.trim().strip_prefix(HEADING)?;
        let (environment, options) = text.split_once(" (").unwrap_or((text, ""));
        let has = |word: &str| options.trim_end_matches(')').split(", ").any(|option| option == word);
        Some(Self { environment: environment.to_owned(), all: has(ALL), admin: has(ADMIN) })
    }
}

/// The lines of a text with where each lies, line break included.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text[start..];
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let range = start..start + length;
        start += length;
        (length > 0).then(|| (range.clone(), &text[range]))
    })
}

fn is_line(line: &[u8], marker: &str) -> bool {
    line.trim_ascii() == marker.as_bytes()
}

/// Finds the block, markers included.
///
/// # Errors
/// `Config` with the line numbers when markers are missing, doubled or in the wrong order.
pub(super) fn find(text: &[u8]) -> Result<Option<Range<usize>>> {
    let marked = |marker: &str| -> Vec<(usize, Range<usize>)> {
        lines(text)
            .enumerate()
            .filter(|(_, (_, line))| is_line(line, marker))
            .map(|(number, (range, _))| (number + 1, range))
            .collect()
    };
    let numbers = |found: &[(usize, Range<usize>)]| {
        found.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (begins, ends) = (marked(BEGIN), marked(END));
    let what = match (begins.as_slice(), ends.as_slice()) {
        ([], []) => return Ok(None),
        ([(first, begin)], [(last, end)]) if first < last => return Ok(Some(begin.start..end.end)),
        ([(first, _)], [(last, _)]) => format!("the block ends on line {last} before it begins on line {first}"),
        (begins, []) => format!("the block that begins on line {} does not end", numbers(begins)),
        ([], ends) => format!("the block that ends on line {} does not begin", numbers(ends)),
        (begins, ends) => {
            format!(
                "there is more than one block: '{BEGIN}' on line {}, '{END}' on line {}",
                numbers(begins),
                numbers(ends)
            )
        }
    };
    Err(Error::new(ErrorKind::Config, format!("the managed block of the SSH config is damaged: {what}"))
        .with_hint(format!(
            "nothing was changed; leave one '{BEGIN}' and, after it, one '{END}', or neither, then run: dh engine config-ssh"
        )))
}

/// The sections within a block, each with the bytes of its entries.
fn sections<'a>(text: &'a [u8], block: &Range<usize>) -> Vec<(Section, &'a [u8])> {
    let inner = &text[block.clone()];
    let mut found: Vec<(Section, Range<usize>)> = Vec::new();
    for (range, line) in lines(inner) {
        if is_line(line, BEGIN) || is_line(line, END) {
            continue;
        }
        match (Section::parse(line), found.last_mut()) {
            (Some(section), _) => found.push((section, range.end..range.end)),
            (None, Some((_, bytes))) => bytes.end = range.end,
            (None, None) => found.push((Section::unnamed(), range)),
        }
    }
    found
        .into_iter()
        .map(|(section, range)| (section, trim_blank_lines(&inner[range])))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect()
}

fn trim_blank_lines(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.trim_ascii_end();
    let blank = lines(bytes).take_while(|(_, line)| line.trim_ascii().is_empty()).last();
    blank.map_or(bytes, |(range, _)| &bytes[range.end..])
}

/// Returns how an environment's entries were asked for, if it has any.
pub fn section(text: &[u8], environment: &str) -> Result<Option<Section>> {
    let Some(block) = find(text)? else { return Ok(None) };
    Ok(sections(text, &block).into_iter().map(|(section, _)| section).find(|found| found.environment == environment))
}

/// Replaces one environment's entries and keeps those of the others; without a section, removes the whole block.
///
/// # Errors
/// Those of a damaged block, and of entries that no SSH config can hold.
pub fn edit(text: &[u8], new: Option<(&Section, &[SshEntry])>) -> Result<Vec<u8>> {
    let found = find(text)?;
    let line_break = line_break(text, found.as_ref());
    let mut body = Vec::new();
    if let Some((section, entries)) = new {
        let old = found.as_ref().map(|block| sections(text, block)).unwrap_or_default();
        let others = old.iter().filter(|(other, _)| other.environment != section.environment);
        let mut parts: Vec<(Option<String>, Vec<u8>)> =
            others.map(|(other, bytes)| (other.heading(), bytes.to_vec())).collect();
        if !entries.is_empty() {
            // In its old place, so that nothing moves when nothing changed.
            let place = old.iter().position(|(other, _)| other.environment == section.environment);
            let part = (section.heading(), entries_text(entries, line_break)?.into_bytes());
            parts.insert(place.unwrap_or(parts.len()).min(parts.len()), part);
        }
        // Entries without a heading are dev's, so they must come before any heading.
        parts.sort_by_key(|(heading, _)| heading.is_some());
        for (heading, bytes) in parts {
            if let Some(heading) = heading {
                body.extend_from_slice(format!("{heading}{line_break}").as_bytes());
            }
            body.extend_from_slice(&bytes);
            body.extend_from_slice(format!("{line_break}{line_break}").as_bytes());
        }
    }
    Ok(match (found, body.is_empty()) {
        (None, true) => text.to_vec(),
        (Some(block), true) => without(text, &block),
        (Some(block), false) => {
            let ending = if text[block.clone()].ends_with(b"\n") { line_break } else { "" };
            let block_text = framed(&body, line_break, ending);
            [&text[..block.start], &block_text, &text[block.end..]].concat()
        }
        // A last line without a line break lends its lack of one to the block, so that removing the block restores it.
        (None, false) if text.is_empty() || text.ends_with(b"\n") => {
            [text, &framed(&body, line_break, line_break)].concat()
        }
        (None, false) => [text, line_break.as_bytes(), &framed(&body, line_break, "")].concat(),
    })
}

/// How lines end: in the block, as they do there already; else as the file's first line does.
fn line_break(text: &[u8], block: Option<&Range<usize>>) -> &'static str {
    let first = lines(&text[block.map_or(0, |block| block.start)..]).next();
    if first.is_some_and(|(_, line)| line.ends_with(b"\r\n")) { "\r\n" } else { "\n" }
}

fn without(text: &[u8], block: &Range<usize>) -> Vec<u8> {
    let mut before = &text[..block.start];
    if !text[block.clone()].ends_with(b"\n") {
        before = before.strip_suffix(line_break(text, Some(block)).as_bytes()).unwrap_or(before);
    }
    [before, &text[block.end..]].concat()
}

fn framed(body: &[u8], line_break: &str, ending: &str) -> Vec<u8> {
    [format!("{BEGIN}{line_break}{line_break}").as_bytes(), body, format!("{END}{ending}").as_bytes()].concat()
}

fn entries_text(entries: &[SshEntry], line_break: &str) -> Result<String> {
    let blocks: Result<Vec<String>> = entries.iter().map(|entry| Ok(entry::lines(entry)?.join(line_break))).collect();
    Ok(blocks?.join(&line_break.repeat(2)))
}

/// Returns those of the names that have a `Host` entry outside the block, with the line it is on: ssh takes the first
/// value it finds for an option, so such an entry may hide ours.
pub fn users_own_hosts<'a>(text: &[u8], names: &[&'a str]) -> Vec<(&'a str, usize)> {
    let block = find(text).ok().flatten().unwrap_or(0..0);
    let mut found = Vec::new();
    for (number, (range, line)) in lines(text).enumerate() {
        if block.contains(&range.start) {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(|c: char| c.is_whitespace() || c == '=' || c == '"').filter(|word| !word.is_empty());
        if words.next().is_some_and(|word| word.eq_ignore_ascii_case("host")) {
            let patterns: Vec<&str> = words.collect();
            found.extend(names.iter().filter(|name| patterns.contains(name)).map(|name| (*name, number + 1)));
        }
    }
    found
}

/// Counts the entries of all environments in the block.
pub fn entries(text: &[u8]) -> Result<usize> {
    let block = find(text)?.unwrap_or(0..0);
    Ok(names_in(&text[block]).count())
}

/// The names of a block's entries, each with where it begins.
pub(super) fn names_in(block: &[u8]) -> impl Iterator<Item = (String, usize)> {
    lines(block).filter_map(|(range, line)| {
        let name = line.strip_prefix(b"Host ")?;
        Some((String::from_utf8_lossy(name).trim().to_owned(), range.start))
    })
}
