//! A disk that can be filled up and made read-only without harm to anybody.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small filesystem in memory, mounted while this lives. Only root can have one.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

fn succeeds(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl SmallDisk {
    /// Makes and mounts a disk of this many MiB.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn new(mib: u32) -> Self {
        Self::mount(mib).expect("a disk in memory can be mounted")
    }

    /// Whether such disks can be had here.
    pub fn works() -> bool {
        Self::mount(1).is_some()
    }

    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("dh-disk").tempdir().ok()?;
        let size = format!("size={mib}m,mode=0755");
        succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "dh-e2e"]).arg(dir.path()))
            .then_some(Self { dir })
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Fills it up to the last byte.
    ///
    /// # Panics
    /// When it takes more than it has room for.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).expect("the ballast");
        let error = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("no disk is endless");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Frees what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn relieve(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast");
    }

    /// Lets nobody write to it any more, or everybody again.
    ///
    /// # Panics
    /// When somebody has a file open for writing.
    pub fn set_read_only(&self, read_only: bool) {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        assert!(succeeds(Command::new("mount").args(["-o", option]).arg(self.path())), "{option} failed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("umount").arg("-l").arg(self.path()));
    }
}
