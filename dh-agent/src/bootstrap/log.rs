//! `bootstrap.log`: a header for each stage, and all that it printed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dh_core::backend::local::map::io_error;
use dh_core::domain::{Result, StageName};
use dh_core::sensor::plain;
use jiff::Timestamp;

/// How much of a stage's log is read for its last lines.
const TAIL_BYTES: u64 = 64 << 10;

/// One stage's part of the log.
#[derive(Debug)]
pub struct StageLog {
    path: PathBuf,
    file: File,
    begin: u64,
}

impl StageLog {
    /// Opens the log and writes the stage's header.
    pub fn begin(path: &Path, name: StageName, now: Timestamp) -> Result<Self> {
        let failed = |source| io_error("cannot write", path, source);
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        let number = StageName::ALL.iter().position(|stage| *stage == name).map_or(0, |at| at + 1);
        writeln!(file, "=== {number}/{} {} {now:.0}", StageName::ALL.len(), name.as_str()).map_err(failed)?;
        let begin = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file, begin })
    }

    /// Writes a line. A log that cannot be written fails nothing.
    pub fn line(&self, text: &str) {
        if let Err(error) = writeln!(&self.file, "{}", plain(text)) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the bootstrap's log");
        }
    }

    /// Returns the file, for a program to write to by itself: it goes on when the agent is killed.
    pub fn share(&self) -> Result<File> {
        self.file.try_clone().map_err(|source| io_error("cannot open", &self.path, source))
    }

    /// Returns the stage's last lines, fit for a terminal.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.begin.max(end.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let text = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<String> = text.lines().map(|line| plain(line.trim_end())).collect();
        all[all.len().saturating_sub(lines)..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_stage_alone_and_holds_no_escapes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bootstrap.log");
        StageLog::begin(&path, StageName::InstanceRunning, Timestamp::UNIX_EPOCH).unwrap().line("of another stage");
        let log = StageLog::begin(&path, StageName::InstallingPackages, Timestamp::UNIX_EPOCH).unwrap();
        log.share().unwrap().write_all(b"one\n\x1b[31mtwo\xff\nthree\n").unwrap();
        let tail = log.tail(10);
        assert_eq!((tail.len(), tail[0].as_str()), (3, "one"));
        assert!(!tail[1].contains('\x1b'));
        assert_eq!(log.tail(1), ["three"]);
        let text = std::fs::read(&path).unwrap();
        assert!(String::from_utf8_lossy(&text).contains("=== 3/9 installing_packages 1970-01-01T00:00:00Z\none\n"));
    }

    #[test]
    fn of_a_long_log_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = StageLog::begin(&dir.path().join("log"), StageName::Ready, Timestamp::UNIX_EPOCH).unwrap();
        log.share().unwrap().write_all("x".repeat(80).as_bytes()).unwrap();
        for number in 0..20_000 {
            writeln!(&log.file, "line {number}").unwrap();
        }
        assert_eq!(log.tail(2), ["line 19998", "line 19999"]);
    }
}
