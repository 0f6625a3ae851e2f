//! What is mounted where, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::map::io_error;
use crate::domain::Result;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount of this process's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of the filesystem's device.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The filesystem's type.
    pub filesystem: String,
}

/// Returns all mounts, in the order in which they were made.
///
/// # Errors
/// `Storage` when `/proc` can't be read.
pub fn mounts() -> Result<Vec<Mount>> {
    let text = std::fs::read(MOUNTINFO).map_err(|source| io_error("cannot read", Path::new(MOUNTINFO), source))?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
}

/// Returns the mounts at or below a directory, in the order in which they were made. The path must have no symlink in it.
///
/// # Errors
/// As [`mounts`].
pub fn mounts_below(directory: &Path) -> Result<Vec<Mount>> {
    Ok(mounts()?.into_iter().filter(|mount| mount.mount_point.starts_with(directory)).collect())
}

/// Returns the mount that is visible at exactly this path; of several, one over the other, the last.
///
/// # Errors
/// As [`mounts`].
pub fn mounted_at(path: &Path) -> Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rfind(|mount| mount.mount_point == path))
}

/// Reads a line such as `36 35 98:0 /root /mnt rw,noatime shared:1 - ext4 /dev/sda rw`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let mount_point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let filesystem = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        mount_point,
        filesystem: String::from_utf8_lossy(filesystem).into_owned(),
    })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_optional_fields_are_read() {
        let line = b"36 35 7:12 / /data/my\\040studio rw,noatime shared:1 master:2 - ext4 /dev/loop12 rw";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.device, mount.filesystem.as_str()), ((7, 12), "ext4"));
        assert_eq!(mount.mount_point, Path::new("/data/my studio"));
        assert_eq!(parse_line(b"1 0 0:5 / / rw - tmpfs none rw").unwrap().filesystem, "tmpfs");
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"1 0 what / / rw"), None);
    }

    #[test]
    fn escapes_are_undone_and_other_backslashes_kept() {
        assert_eq!(unescape(b"a\\134b\\011c\\9"), b"a\\b\tc\\9");
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
    }
}
