//! Small files that are replaced whole at every tick.

use std::io;
use std::path::Path;

use dh_core::backend::local::map::io_error;
use dh_core::domain::{Error, ErrorKind, Result};
use serde::Serialize;

/// Replaces a file by the value as JSON, without waiting for the disk: a killed agent loses nothing, and after a loss of
/// power what it says would not hold any more.
pub fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(|source| Error::new(ErrorKind::Internal, "cannot serialize a record").with_source(source))?;
    replace(path, &text)
}

/// Replaces a file. Readers see the old content or the new one. Two writers at once each write a file of their own first.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let write = || -> io::Result<()> {
        std::fs::write(&new, content)?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&new);
        io_error("cannot write", path, source)
    })
}

/// Reads a text file; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("cannot read", path, source)),
    }
}
