//! The names of users, from `/etc/passwd`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// Names by number. Users that only a directory service knows keep their number: asking it could hang.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    read_at: Option<(SystemTime, u64)>,
    names: HashMap<u32, String>,
}

impl Users {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read_at: None, names: HashMap::new() }
    }

    /// Reads the file again when it has changed. One that cannot be read leaves the numbers, which serve as well.
    pub(super) fn refresh(&mut self) {
        let now = std::fs::metadata(&self.path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        if now == self.read_at && now.is_some() {
            return;
        }
        self.read_at = now;
        self.names = std::fs::read(&self.path).map(|bytes| parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
    }

    pub(super) fn name(&self, uid: u32) -> String {
        self.names.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

#[cfg(test)]
impl Users {
    pub(super) fn fresh_name(mut self, uid: u32) -> String {
        self.refresh();
        self.name(uid)
    }
}

/// Where a number has several names, the first is the one every tool shows.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_bad_lines_do_not() {
        let names = parse("root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:\n\nbroken\n+nis::x\nalice:x:1000:1000:,,,:/h:/b\n");
        assert_eq!(names, HashMap::from([(0, "root".to_owned()), (1000, "alice".to_owned())]));
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut users = Users::new(file.path());
        users.refresh();
        assert_eq!(users.name(7), "7");
        std::fs::write(file.path(), "grace:x:7:7::/:/bin/sh\n").unwrap();
        users.refresh();
        assert_eq!(users.name(7), "grace");
    }
}
