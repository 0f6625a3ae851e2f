//! Whether a device is mounted as it is, formatted, or left alone. Pure: what was seen goes in, what to do comes out.

use std::ffi::OsStr;
use std::path::Path;

use dh_core::backend::local::volume::Filesystem;
use dh_core::domain::{Effect, Error, ErrorKind, Result, SizeGb};

use super::programs::{Output, Program, failed};

/// How often a device must look blank before it is formatted.
const LOOKS: usize = 3;

/// What one look at a device found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// No signature of anything.
    Blank,
    /// A filesystem that studios may have.
    Filesystem(Filesystem),
    /// Something else, in words.
    Foreign(String),
}

/// What to do with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Mount what is there.
    Mount(Filesystem),
    /// Make a filesystem; over the remains of our own unfinished attempt if `over_own_remains`.
    Format { over_own_remains: bool },
}

/// Returns the arguments with which `blkid` looks at a device itself, not at what it remembers of it.
pub fn look_arguments(device: &Path) -> [&OsStr; 4] {
    [OsStr::new("-p"), OsStr::new("-o"), OsStr::new("export"), device.as_os_str()]
}

/// Reads what `blkid` said.
pub fn read_look(output: &Output) -> Result<Look> {
    let value = |key: &str| output.stdout.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    match output.code() {
        Some(2) if output.stdout.trim().is_empty() => Ok(Look::Blank),
        Some(0) => match (value("TYPE"), value("PTTYPE")) {
            (Some(found), None) => {
                Ok(found.parse().map_or_else(|_: Error| Look::Foreign(format!("{found} data")), Look::Filesystem))
            }
            (_, Some(table)) => Ok(Look::Foreign(format!("a {table} partition table"))),
            (None, None) => Ok(Look::Foreign("data of an unknown kind".into())),
        },
        Some(8) => Ok(Look::Foreign("several signatures at once".into())),
        _ => Err(failed(Program::Blkid, output).with_effect(Effect::None)),
    }
}

/// Decides from all looks so far, oldest first; `None` asks for another look, after a pause. `unfinished`: we began to format this volume, found blank then, under the
/// epoch that still lasts, and have never mounted it since.
pub fn decide(looks: &[Look], unfinished: bool) -> Result<Option<Plan>> {
    let Some((last, before)) = looks.split_last() else { return Ok(None) };
    match last {
        Look::Foreign(what) => Err(wrong_device(format!("it bears {what}"))),
        Look::Filesystem(_) if unfinished => Ok(Some(Plan::Format { over_own_remains: true })),
        Look::Filesystem(_) if before.iter().any(|look| look != last) => {
            Err(wrong_device("it was blank and no longer is: somebody else writes to it".into()))
        }
        Look::Filesystem(filesystem) => Ok(Some(Plan::Mount(*filesystem))),
        Look::Blank if before.iter().any(|look| look != last) => {
            Err(wrong_device("it bore a signature and no longer does: somebody else writes to it".into()))
        }
        Look::Blank if looks.len() < LOOKS => Ok(None),
        Look::Blank => Ok(Some(Plan::Format { over_own_remains: unfinished })),
    }
}

/// Refuses a device that is not as large as the studio.
pub fn check_size(bytes: u64, wanted: SizeGb) -> Result<()> {
    if bytes == wanted.bytes() {
        return Ok(());
    }
    let found = match bytes {
        0 => "it is empty".to_owned(),
        bytes => format!("it has {bytes} bytes where the studio has {wanted} ({} bytes)", wanted.bytes()),
    };
    Err(wrong_device(found).with_context("reason", "wrong_size"))
}

/// Refuses an epoch older than the last one seen here.
pub fn check_epoch(epoch: u64, seen: Option<u64>) -> Result<()> {
    match seen {
        Some(seen) if epoch < seen => Err(Error::new(
            ErrorKind::Conflict,
            format!("this engine has the studio under epoch {seen} already, {epoch} is older"),
        )
        .with_context("reason", "stale_epoch")
        .with_hint("another operation came first: see `dh studio status`")),
        _ => Ok(()),
    }
}

/// The refusal of a device that does not look like the studio's. Nothing was written to it.
pub fn wrong_device(why: String) -> Error {
    Error::new(ErrorKind::Failed, format!("likely the wrong device: {why}; nothing was written to it"))
        .with_hint("check what the device holds before anything else; then `dh studio reset` and attach again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(code: i32, stdout: &str) -> Look {
        read_look(&Output::of(code, stdout)).unwrap()
    }

    const EXT4: Look = Look::Filesystem(Filesystem::Ext4);
    const XFS: Look = Look::Filesystem(Filesystem::Xfs);

    #[test]
    fn what_blkid_says_is_read() {
        assert_eq!(seen(2, ""), Look::Blank);
        assert_eq!(seen(0, "DEVNAME=/dev/loop0\nUUID=1-2\nTYPE=ext4\nUSAGE=filesystem\n"), EXT4);
        assert_eq!(seen(0, "DEVNAME=/dev/loop0\nTYPE=xfs\n"), XFS);
        for (code, text) in [
            (0, "TYPE=ext3\n"),
            (0, "TYPE=crypto_LUKS\nUSAGE=crypto\n"),
            (0, "TYPE=LVM2_member\n"),
            (0, "PTTYPE=gpt\n"),
            (0, "TYPE=ext4\nPTTYPE=dos\n"),
            (0, ""),
            (8, ""),
        ] {
            assert!(matches!(seen(code, text), Look::Foreign(_)), "{code} {text:?}");
        }
        assert!(read_look(&Output::of(4, "")).is_err());
        assert!(read_look(&Output::of(2, "half a line")).is_err());
    }

    #[test]
    fn only_three_blank_looks_lead_to_a_format() {
        assert_eq!(decide(&[], false).unwrap(), None);
        for looks in 1..=2 {
            assert_eq!(decide(&vec![Look::Blank; looks], false).unwrap(), None);
            assert_eq!(decide(&vec![Look::Blank; looks], true).unwrap(), None);
        }
        assert_eq!(decide(&vec![Look::Blank; 3], false).unwrap(), Some(Plan::Format { over_own_remains: false }));
    }

    #[test]
    fn a_studios_filesystem_is_mounted_whichever_is_wanted() {
        assert_eq!(decide(&[EXT4], false).unwrap(), Some(Plan::Mount(Filesystem::Ext4)));
        assert_eq!(decide(&[XFS], false).unwrap(), Some(Plan::Mount(Filesystem::Xfs)));
    }

    #[test]
    fn foreign_or_changing_content_is_never_formatted() {
        let foreign = Look::Foreign("swap data".into());
        for looks in [
            vec![foreign.clone()],
            vec![Look::Blank, foreign.clone()],
            vec![Look::Blank, Look::Blank, foreign],
            vec![Look::Blank, EXT4],
            vec![EXT4, Look::Blank],
            vec![EXT4, XFS],
        ] {
            let error = decide(&looks, false).unwrap_err();
            assert!(error.to_string().contains("likely the wrong device"), "{looks:?}");
        }
        assert!(
            decide(&[Look::Foreign("swap data".into())], true).is_err(),
            "an unfinished format is no licence for that"
        );
    }

    #[test]
    fn our_own_unfinished_filesystem_is_made_anew() {
        assert_eq!(decide(&[EXT4], true).unwrap(), Some(Plan::Format { over_own_remains: true }));
        assert_eq!(decide(&vec![Look::Blank; 3], true).unwrap(), Some(Plan::Format { over_own_remains: true }));
    }

    #[test]
    fn sizes_and_epochs_must_match() {
        let two = SizeGb::new(2).unwrap();
        check_size(2 << 30, two).unwrap();
        for bytes in [0, (2 << 30) - 512, 1 << 30, 3 << 30] {
            assert!(check_size(bytes, two).is_err(), "{bytes}");
        }
        check_epoch(1, None).unwrap();
        check_epoch(2, Some(2)).unwrap();
        check_epoch(3, Some(2)).unwrap();
        assert_eq!(check_epoch(1, Some(2)).unwrap_err().kind(), ErrorKind::Conflict);
    }
}
