//! The last lines of a log that may be long.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const BLOCK: u64 = 16 << 10;

/// Returns the last lines of a file, oldest first; none when there is no file.
///
/// # Errors
/// Whatever reading says.
pub fn tail(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut begin = file.seek(SeekFrom::End(0))?;
    let mut tail: Vec<u8> = Vec::new();
    // One line end more than lines wanted: the last line has one too.
    while begin > 0 && tail.iter().filter(|&&byte| byte == b'\n').count() <= lines {
        let size = begin.min(BLOCK);
        begin -= size;
        let mut block = vec![0; size as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut block)?;
        block.extend_from_slice(&tail);
        tail = block;
    }
    let text = String::from_utf8_lossy(&tail);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_read_across_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(tail(&path, 5).unwrap().is_empty());
        let text: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, text + "unfinished").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), ["line 4999", "unfinished"]);
        assert_eq!(tail(&path, 4_000).unwrap().first().unwrap(), "line 1001");
        assert_eq!(tail(&path, 9_000).unwrap().len(), 5_001);
        assert!(tail(&path, 0).unwrap().is_empty());
    }
}
