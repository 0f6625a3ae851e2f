//! The ledger: every look's readings, verdict and actions, one JSON line each, appended and never changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dh_core::backend::local::map::io_error;
use dh_core::domain::{Error, ErrorKind, Result};
use dh_core::logic::idle::LedgerEntry;

/// How large the ledger may grow before its older half is moved to `ledger.1.jsonl`, over the half moved before.
const MAX_BYTES: u64 = 8 << 20;

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    max_bytes: u64,
    open: Option<(File, u64)>,
}

impl Ledger {
    pub fn new(path: PathBuf) -> Self {
        Self { path, max_bytes: MAX_BYTES, open: None }
    }

    /// Appends a line. After a failure the file is looked at afresh: half of the line may be there.
    pub fn append(&mut self, entry: &LedgerEntry) -> Result<()> {
        let mut line = serde_json::to_vec(entry)
            .map_err(|source| Error::new(ErrorKind::Internal, "cannot serialize a ledger line").with_source(source))?;
        line.push(b'\n');
        self.write(&line).map_err(|source| {
            self.open = None;
            io_error("cannot write", &self.path, source)
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(_, size)| *size > self.max_bytes) {
            self.open = None;
            let (file, size) = open(&self.path)?;
            self.open = Some(if size > self.max_bytes { rotate(&self.path, file)? } else { (file, size) });
        }
        let Some((file, size)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        file.write_all(line)?;
        *size += line.len() as u64;
        Ok(())
    }
}

/// Opens the file at its end. A last line that a kill or a full disk has cut is closed, so that the next stands alone.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let mut size = file.metadata()?.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

/// Moves the older half away and goes on with the newer one. A kill in between leaves the older half in both files.
fn rotate(path: &Path, mut file: File) -> io::Result<(File, u64)> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    let middle = content.len() / 2;
    let cut = content[middle..].iter().position(|byte| *byte == b'\n').map_or(content.len(), |at| middle + at + 1);
    let new = path.with_extension("jsonl.new");
    for (half, target) in [(&content[..cut], path.with_extension("1.jsonl")), (&content[cut..], path.to_owned())] {
        std::fs::write(&new, half)?;
        std::fs::rename(&new, target)?;
    }
    open(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dh_core::logic::idle::{Decision, LEDGER_SCHEMA, PhaseName, Rule};
    use jiff::Timestamp;

    use super::*;

    fn entry(boot: u64) -> LedgerEntry {
        LedgerEntry {
            schema: LEDGER_SCHEMA,
            at: Timestamp::UNIX_EPOCH,
            boot: Duration::from_secs(boot),
            boot_id: "b".into(),
            decision: Decision { rule: Rule::Idle, sensor: None, reason: "all sensors idle".into() },
            idle_for: None,
            timeout: Duration::from_secs(600),
            phase: PhaseName::Watching,
            readings: Vec::new(),
            actions: Vec::new(),
        }
    }

    fn boots(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter_map(LedgerEntry::parse).map(|entry| entry.boot.as_secs()).collect()
    }

    #[test]
    fn lines_are_appended_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        for boot in 0..3 {
            Ledger::new(path.clone()).append(&entry(boot)).unwrap();
        }
        assert_eq!(boots(&path), [0, 1, 2]);
    }

    #[test]
    fn a_line_cut_by_a_kill_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        Ledger::new(path.clone()).append(&entry(1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], &whole[..30]].concat()).unwrap();
        Ledger::new(path.clone()).append(&entry(2)).unwrap();
        assert_eq!(boots(&path), [1, 2]);
    }

    #[test]
    fn it_is_bounded_and_the_newest_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let mut ledger = Ledger { max_bytes: 10_000, ..Ledger::new(path.clone()) };
        for boot in 0..1_000 {
            ledger.append(&entry(boot)).unwrap();
        }
        let (older, newer) = (boots(&dir.path().join("ledger.1.jsonl")), boots(&path));
        let all: Vec<u64> = older.into_iter().chain(newer).collect();
        assert_eq!(all, (all[0]..1_000).collect::<Vec<_>>(), "no line is lost or doubled in between");
        let bytes: u64 =
            std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 25_000, "{bytes}");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_the_next_line_is_tried_afresh() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        std::fs::create_dir(&path).unwrap();
        let mut ledger = Ledger::new(path.clone());
        assert_eq!(ledger.append(&entry(1)).unwrap_err().kind(), ErrorKind::Storage);
        std::fs::remove_dir(&path).unwrap();
        ledger.append(&entry(2)).unwrap();
        assert_eq!(boots(&path), [2]);
    }
}
