//! One studio on this engine: mount it, unmount it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dh_core::backend::local::durable::lock;
use dh_core::backend::local::map::io_error;
use dh_core::backend::local::mountinfo::{mounted_at, mounts, mounts_below};
use dh_core::backend::local::volume::Filesystem;
use dh_core::domain::{Error, ErrorKind, Result, Retry, UserName, VolumeId};
use dh_core::wire::MountReply;
use rustix::fs::{Gid, Uid, syncfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{CapabilitySet, capabilities};

use super::MountArgs;
use super::decide::{Plan, check_epoch, check_size, decide, look_arguments, read_look};
use super::device::{self, Device, Found};
use super::holders::{describe, holders};
use super::place::Place;
use super::programs::{Program, Programs, failed, run_checked};
use super::state::{self, Mounted};

/// How long another mount or unmount of the same volume is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks at a device that seems blank.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// How often, and how far apart, something busy is tried: what was just killed takes a moment to let go.
const BUSY_TRIES: usize = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// One studio, by volume and owner.
pub struct Studio<'a> {
    place: &'a Place,
    programs: &'a dyn Programs,
    volume: &'a VolumeId,
    mount_point: PathBuf,
}

impl<'a> Studio<'a> {
    pub fn new(place: &'a Place, programs: &'a dyn Programs, volume: &'a VolumeId, user: &UserName) -> Self {
        Self { place, programs, volume, mount_point: place.studios().join(user.as_str()) }
    }

    /// Mounts the studio; formats it if it is blank, and grows its filesystem to the size of its volume.
    pub fn mount(&self, args: &MountArgs) -> Result<MountReply> {
        let _lock = self.lock()?;
        let seen = state::load(self.place)?;
        let record = device::attached_record(self.place, self.volume)?;
        let attached = record.as_ref().and_then(|record| record.attachment.as_ref()).map(|held| held.epoch);
        check_epoch(args.epoch, seen.epochs.get(self.volume).copied().max(attached))?;
        let found = device::find(self.place, self.volume, record.as_ref())?;
        if let Found::Block(device) = &found {
            check_size(device.bytes, args.size_gb)?;
        }
        let (formatted, grown) = match &found {
            Found::Directory(files) => self.link(files, args).map(|()| (false, false))?,
            Found::Block(device) => {
                let unfinished = seen.formatting.get(self.volume) == Some(&args.epoch);
                self.mount_device(device, args, unfinished)?
            }
        };
        Ok(self.reply(formatted, grown))
    }

    /// Unmounts the studio and forgets that it was mounted. One that is not mounted is left alone.
    pub fn unmount(&self) -> Result<MountReply> {
        let _lock = self.lock()?;
        match fs::read_link(&self.mount_point) {
            Ok(target) => self.unlink(&target)?,
            Err(_) => self.unmount_device()?,
        }
        state::update(self.place, |state| {
            state.mounts.remove(self.volume);
        })?;
        Ok(self.reply(false, false))
    }

    fn reply(&self, formatted: bool, grown: bool) -> MountReply {
        MountReply { mount_point: self.mount_point.display().to_string(), formatted, grown }
    }

    /// Two mounts of one volume at once would format it twice.
    fn lock(&self) -> Result<File> {
        let var = self.place.var();
        make_dir(&var)?;
        lock(&var.join(format!("mount-{}.lock", self.volume)), LOCK_PATIENCE)
    }

    /// Records what is about to be: from here on an older epoch is refused, and the next boot mounts the studio again.
    fn record(&self, args: &MountArgs) -> Result<()> {
        let MountArgs { user, epoch, size_gb, device, .. } = args.clone();
        state::update(self.place, |state| {
            state.mounts.insert(self.volume.clone(), Mounted { user, epoch, size_gb, device });
            state.epochs.insert(self.volume.clone(), epoch);
        })
    }

    fn link(&self, files: &Path, args: &MountArgs) -> Result<()> {
        let there = fs::read_link(&self.mount_point).is_ok_and(|target| target == files);
        if !there {
            self.clear_mount_point()?;
        }
        self.record(args)?;
        if there {
            return Ok(());
        }
        make_dir(&self.place.studios())?;
        symlink(files, &self.mount_point).map_err(|source| io_error("cannot make", &self.mount_point, source))
    }

    fn unlink(&self, target: &Path) -> Result<()> {
        // Another volume's files are not ours to hide.
        if target.parent().and_then(Path::file_name).is_none_or(|name| name != self.volume.as_str()) {
            return Ok(());
        }
        if let Ok(files) = target.canonicalize() {
            self.write_back(&files)?;
            self.refuse_holders(&files)?;
        }
        remove(fs::remove_file(&self.mount_point), &self.mount_point)
    }

    fn mount_device(&self, device: &Device, args: &MountArgs, unfinished: bool) -> Result<(bool, bool)> {
        if let Some(filesystem) = self.present(device)? {
            self.record(args)?;
            return Ok((false, self.finish(device, filesystem)?));
        }
        self.clear_mount_point()?;
        let plan = self.choose(device, unfinished)?;
        self.record(args)?;
        let (filesystem, formatted) = match plan {
            Plan::Mount(filesystem) => {
                self.check(device, filesystem)?;
                (filesystem, false)
            }
            Plan::Format { over_own_remains } => {
                self.format(device, args.epoch, over_own_remains)?;
                (device.filesystem, true)
            }
        };
        self.mount_filesystem(device, filesystem)?;
        Ok((formatted, self.finish(device, filesystem)?))
    }

    /// What follows a mount, and what a kill after it may have left undone. Returns whether the filesystem grew.
    fn finish(&self, device: &Device, filesystem: Filesystem) -> Result<bool> {
        let grown = self.grow(device, filesystem)?;
        self.give_to_owner()?;
        self.write_back(&self.mount_point)?;
        Ok(grown)
    }

    /// Returns the filesystem when the device is mounted where it belongs; refuses anything in its way.
    fn present(&self, device: &Device) -> Result<Option<Filesystem>> {
        match mounted_at(&self.mount_point)? {
            Some(mount) if mount.device == device.number => return mount.filesystem.parse().map(Some),
            Some(mount) => {
                return Err(
                    self.occupied(&format!("has another device mounted on it ({}:{})", mount.device.0, mount.device.1))
                );
            }
            None => {}
        }
        if let Some(elsewhere) = mounts()?.into_iter().find(|mount| mount.device == device.number) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("volume {} is mounted at {} already", self.volume, elsewhere.mount_point.display()),
            )
            .with_hint(format!("unmount it there first: `umount {}`", elsewhere.mount_point.display())));
        }
        Ok(None)
    }

    /// Looks at the device until it is clear what to do with it.
    fn choose(&self, device: &Device, unfinished: bool) -> Result<Plan> {
        let mut looks = Vec::new();
        loop {
            device::check_readable(device)?;
            looks.push(read_look(&self.programs.run(Program::Blkid, &look_arguments(&device.path))?)?);
            match decide(&looks, unfinished)? {
                Some(plan) => return Ok(plan),
                None => self.programs.pause(BETWEEN_LOOKS),
            }
        }
    }

    /// Makes the filesystem. That it has begun is recorded first, so that a repeated mount knows half of one as its own.
    fn format(&self, device: &Device, epoch: u64, over_own_remains: bool) -> Result<()> {
        state::update(self.place, |state| {
            state.formatting.insert(self.volume.clone(), epoch);
        })?;
        let mut args: Vec<&OsStr>;
        let program = match device.filesystem {
            // No room is kept for root, and what can be written later is: a terabyte formats in a second.
            Filesystem::Ext4 => {
                args =
                    ["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"].map(OsStr::new).into();
                Program::MkfsExt4
            }
            Filesystem::Xfs => {
                args = ["-q", "-K"].map(OsStr::new).into();
                // mkfs.xfs keeps its hands off any signature it knows: a last line of defence, lifted for our own only.
                if over_own_remains {
                    args.push(OsStr::new("-f"));
                }
                Program::MkfsXfs
            }
        };
        args.push(device.path.as_os_str());
        run_checked(self.programs, program, &args)?;
        File::open(&device.path)
            .and_then(|file| file.sync_all())
            .map_err(|source| io_error("cannot write to", &device.path, source))?;
        state::update(self.place, |state| {
            state.formatting.remove(self.volume);
        })
    }

    /// Mounts onto an empty directory made for it. Checks and repairs take long enough for somebody to write where the
    /// studio will be, so that each try looks anew.
    fn mount_filesystem(&self, device: &Device, filesystem: Filesystem) -> Result<()> {
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        for _ in 0..BUSY_TRIES {
            self.clear_mount_point()?;
            make_dir(&self.mount_point)?;
            match rustix::mount::mount(&device.path, &self.mount_point, filesystem.as_str(), flags, None) {
                Ok(()) => return Ok(()),
                // The mkfs of a mount that was killed may still be on its way out.
                Err(Errno::BUSY) => self.programs.pause(BETWEEN_TRIES),
                Err(errno) => return Err(self.cannot_mount(device, filesystem, errno)),
            }
        }
        Err(self.cannot_mount(device, filesystem, Errno::BUSY))
    }

    fn cannot_mount(&self, device: &Device, filesystem: Filesystem, errno: Errno) -> Error {
        let path = device.path.display();
        let hint = match (errno, filesystem) {
            (Errno::PERM | Errno::ACCESS, _) => "mounting needs root on the engine".to_owned(),
            (Errno::NODEV, _) => {
                format!("this kernel knows no {filesystem}: choose the other filesystem for new studios")
            }
            (Errno::BUSY, _) => format!("something else uses the device: `fuser -v {path}` on the engine names it"),
            (_, Filesystem::Ext4) => format!("check the filesystem on the engine: `e2fsck -f {path}`"),
            (_, Filesystem::Xfs) => format!("check the filesystem on the engine: `xfs_repair -n {path}`"),
        };
        let kind = if errno == Errno::BUSY { ErrorKind::Conflict } else { ErrorKind::Failed };
        Error::new(kind, format!("cannot mount {path} ({filesystem}) at {}", self.mount_point.display()))
            .with_hint(hint)
            .with_source(io::Error::from(errno))
    }

    /// Repairs what can be repaired without asking: after a power cut, or after a grow that was cut off. A clean
    /// filesystem takes no time. XFS does this as it mounts.
    fn check(&self, device: &Device, filesystem: Filesystem) -> Result<()> {
        if filesystem == Filesystem::Xfs {
            return Ok(());
        }
        self.e2fsck(device, &[])
    }

    fn e2fsck(&self, device: &Device, more: &[&str]) -> Result<()> {
        let mut args = vec![OsStr::new("-p")];
        args.extend(more.iter().map(OsStr::new));
        args.push(device.path.as_os_str());
        let output = self.programs.run(Program::E2fsck, &args)?;
        // 1: it had errors and has none now.
        if matches!(output.code(), Some(0 | 1)) {
            return Ok(());
        }
        Err(failed(Program::E2fsck, &output).with_hint(format!(
            "its filesystem needs a decision of yours: `e2fsck -f {}` on the engine, then repeat the command",
            device.path.display()
        )))
    }

    /// Grows the mounted filesystem to the size of its device; one that has it is left alone by the programs themselves.
    fn grow(&self, device: &Device, filesystem: Filesystem) -> Result<bool> {
        let before = self.blocks()?;
        match filesystem {
            Filesystem::Xfs => {
                run_checked(self.programs, Program::XfsGrowfs, &[OsStr::new("-d"), self.mount_point.as_os_str()])?;
            }
            Filesystem::Ext4 => {
                let output = self.programs.run(Program::Resize2fs, &[device.path.as_os_str()])?;
                if !output.success() {
                    // Growing ext4 while mounted takes a right that containers often lack.
                    if capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE)) {
                        return Err(failed(Program::Resize2fs, &output));
                    }
                    self.grow_unmounted(device)?;
                }
            }
        }
        Ok(self.blocks()? > before)
    }

    fn grow_unmounted(&self, device: &Device) -> Result<()> {
        self.refuse_holders(&self.mount_point)?;
        self.unmount_filesystem()?;
        let grown = self
            .e2fsck(device, &["-f"])
            .and_then(|()| run_checked(self.programs, Program::Resize2fs, &[device.path.as_os_str()]));
        self.mount_filesystem(device, Filesystem::Ext4)?;
        grown.map(drop)
    }

    fn blocks(&self) -> Result<u64> {
        rustix::fs::statvfs(&self.mount_point)
            .map(|stat| stat.f_blocks)
            .map_err(|errno| io_error("cannot look at", &self.mount_point, errno.into()))
    }

    /// Hands a filesystem without files to whoever owns this engine's home directory. Looks instead of remembering, so
    /// that a kill between format and here changes nothing.
    fn give_to_owner(&self) -> Result<()> {
        let give = || -> io::Result<()> {
            let home = self.place.root.join("home");
            let owner = home.metadata().or_else(|_| self.place.root.metadata())?;
            let studio = self.mount_point.metadata()?;
            let blank = fs::read_dir(&self.mount_point)?.flatten().all(|entry| entry.file_name() == "lost+found");
            if !blank || (studio.uid(), studio.gid()) != (0, 0) || (owner.uid(), owner.gid()) == (0, 0) {
                return Ok(());
            }
            rustix::fs::chown(&self.mount_point, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())))?;
            Ok(())
        };
        give().map_err(|source| io_error("cannot set the owner of", &self.mount_point, source))
    }

    fn unmount_device(&self) -> Result<()> {
        while let Some(mount) = mounted_at(&self.mount_point)? {
            let recorded = || state::load(self.place).map(|state| state.mounts.contains_key(self.volume));
            let ours = match device::is_of(self.place, mount.device, self.volume) {
                Some(ours) => ours,
                None => recorded()?,
            };
            if !ours {
                return Ok(());
            }
            self.write_back(&self.mount_point)?;
            self.refuse_holders(&self.mount_point)?;
            self.unmount_filesystem()?;
        }
        // Without its directory nobody writes into the place where the studio was and is not.
        match fs::remove_dir(&self.mount_point) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => remove(other, &self.mount_point),
        }
    }

    fn unmount_filesystem(&self) -> Result<()> {
        for _ in 0..BUSY_TRIES {
            match rustix::mount::unmount(&self.mount_point, UnmountFlags::NOFOLLOW) {
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY) => {
                    self.refuse_holders(&self.mount_point)?;
                    self.programs.pause(BETWEEN_TRIES);
                }
                Err(errno) => return Err(io_error("cannot unmount", &self.mount_point, errno.into())),
            }
        }
        Err(self.busy("the kernel says it is in use, by nothing that can be seen from here"))
    }

    fn refuse_holders(&self, files: &Path) -> Result<()> {
        let nested: Vec<String> = mounts_below(files)?
            .iter()
            .filter(|mount| mount.mount_point != files)
            .map(|mount| mount.mount_point.display().to_string())
            .collect();
        if !nested.is_empty() {
            return Err(self.busy(&format!("mounts below it: {}", nested.join(", "))));
        }
        match holders(files) {
            found if found.is_empty() => Ok(()),
            found => Err(self.busy(&format!("open files: {}", describe(&found)))),
        }
    }

    fn busy(&self, why: &str) -> Error {
        Error::new(ErrorKind::Conflict, format!("studio {} is in use: {why}", self.mount_point.display()))
            .with_context("reason", "studio_busy")
            .with_retry(Retry::Later)
            .with_hint(format!(
                "end what uses it (`dh engine shell {}` gets you there), then repeat `dh studio detach`",
                self.place.engine
            ))
    }

    fn occupied(&self, how: &str) -> Error {
        Error::new(ErrorKind::Conflict, format!("{} {how}", self.mount_point.display()))
            .with_hint("detach the studio that is there first: `dh studio detach`")
    }

    /// Removes an empty directory; refuses to hide files or to take another studio's place.
    fn clear_mount_point(&self) -> Result<()> {
        if let Ok(target) = fs::read_link(&self.mount_point) {
            return Err(self.occupied(&format!("leads to {}", target.display())));
        }
        match fs::remove_dir(&self.mount_point) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(Error::new(
                ErrorKind::Conflict,
                format!("{} has files in it, which the studio would hide", self.mount_point.display()),
            )
            .with_hint(format!("move them away on the engine: `dh engine shell {}`", self.place.engine))),
            other => remove(other, &self.mount_point),
        }
    }

    fn write_back(&self, files: &Path) -> Result<()> {
        File::open(files)
            .and_then(|dir| Ok(syncfs(&dir)?))
            .map_err(|source| io_error("cannot write back", files, source))
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|source| io_error("cannot make", dir, source))
}

fn remove(result: io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error("cannot remove", path, source)),
        _ => Ok(()),
    }
}
