//! Loop devices: an image file as a block device.
//!
//! A device is never remembered, always looked for by its backing file, so that one left by a killed process is found
//! again. Callers hold a lock: two devices on one image would each cache it and ruin it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};
use rustix::thread::CapabilitySet;

use super::map::io_error;
use crate::domain::{Error, ErrorKind, Result};

const CONTROL: &str = "/dev/loop-control";
const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;

/// The kernel's `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The kernel's `struct loop_config`: everything at once, so that no kill leaves a device half set up.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// Asks `/dev/loop-control` for the number of a free device, which the kernel makes if there is none.
struct GetFree;

// SAFETY: the request takes no argument and answers with the number as its return value.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut std::ffi::c_void) -> rustix::io::Result<u32> {
        u32::try_from(out).map_err(|_| Errno::INVAL)
    }
}

/// Returns whether this process can make loop devices and mount them.
pub fn usable() -> bool {
    let may_mount =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    may_mount && free_device().is_ok_and(|device| device.exists())
}

fn free_device() -> std::io::Result<PathBuf> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    // SAFETY: the file is the loop driver's control device.
    let number = unsafe { ioctl(&control, GetFree) }?;
    Ok(PathBuf::from(format!("/dev/loop{number}")))
}

/// Returns the file behind a block device, given its directory in `/sys` (`/sys/block/loop3`, `/sys/dev/block/7:3`).
/// A file that was removed meanwhile has ` (deleted)` at its end.
pub fn backing_file(sys_directory: &Path) -> Option<PathBuf> {
    let mut text = std::fs::read(sys_directory.join("loop/backing_file")).ok()?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Some(PathBuf::from(OsString::from_vec(text)))
}

/// Returns every loop device in use, with its backing file.
///
/// # Errors
/// `Storage` when `/sys` can't be read.
pub fn all() -> Result<Vec<(PathBuf, PathBuf)>> {
    let sys = Path::new("/sys/block");
    let entries = std::fs::read_dir(sys).map_err(|source| io_error("cannot read", sys, source))?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(b"loop")
            && let Some(file) = backing_file(&entry.path())
        {
            found.push((Path::new("/dev").join(entry.file_name()), file));
        }
    }
    found.sort();
    Ok(found)
}

fn devices_of(image: &Path) -> Result<Vec<PathBuf>> {
    Ok(all()?.into_iter().filter(|(_, file)| file == image).map(|(device, _)| device).collect())
}

/// Returns the loop device of an image, made if there is none, and lets it see the image's present size.
/// The path must be canonical.
///
/// # Errors
/// `Storage` when the image can't be opened; `Denied` without the right to make loop devices; `QuotaExceeded` when all
/// are in use.
pub fn ensure(image: &Path) -> Result<PathBuf> {
    if let Some(device) = devices_of(image)?.into_iter().next() {
        refresh_capacity(image)?;
        return Ok(device);
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(image)
        .map_err(|source| io_error("cannot open", image, source))?;
    // Others who make loop devices can be faster with the number that was free.
    for _ in 0..16 {
        let device = free_device().map_err(|source| refused(Path::new(CONTROL), source))?;
        let node =
            OpenOptions::new().read(true).write(true).open(&device).map_err(|source| refused(&device, source))?;
        match configure(&node, &file, image) {
            Ok(()) => return Ok(device),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(refused(&device, errno.into())),
        }
    }
    Err(Error::new(ErrorKind::QuotaExceeded, "no loop device is free on this machine")
        .with_hint("free some that nothing uses: `losetup --list` shows them, `losetup --detach` frees one"))
}

fn configure(node: &File, file: &File, image: &Path) -> Result<(), Errno> {
    let mut file_name = [0; 64];
    let name = image.as_os_str().as_bytes();
    let length = name.len().min(file_name.len() - 1);
    file_name[..length].copy_from_slice(&name[..length]);
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let config = Config { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the node is a loop device and the struct is laid out as LOOP_CONFIGURE reads it.
    unsafe { ioctl(node, Setter::<LOOP_CONFIGURE, Config>::new(config)) }
}

/// Lets the devices of an image see its present size. Without a device nothing happens.
///
/// # Errors
/// `Denied` without the right to.
pub fn refresh_capacity(image: &Path) -> Result<()> {
    for device in devices_of(image)? {
        let node =
            OpenOptions::new().read(true).write(true).open(&device).map_err(|source| refused(&device, source))?;
        // SAFETY: the node is a loop device; the request takes no argument.
        unsafe { ioctl(&node, NoArg::<LOOP_SET_CAPACITY>::new()) }.map_err(|errno| refused(&device, errno.into()))?;
    }
    Ok(())
}

/// Frees a loop device and waits until it is. A free one is left alone.
///
/// # Errors
/// `Conflict` while it is mounted or otherwise claimed; nothing has changed then.
pub fn release(device: &Path) -> Result<()> {
    let sys = Path::new("/sys/block").join(device.file_name().unwrap_or_default());
    let Some(file) = backing_file(&sys) else { return Ok(()) };
    // A filesystem, in whatever mount namespace, claims its device; so does an exclusive opening, and one shuts out the
    // other. Without it the kernel would free a mounted device as soon as it is unmounted, and say nothing.
    let node = match OpenOptions::new().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(device) {
        Ok(node) => node,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => return Err(busy(device)),
        Err(error) => return Err(refused(device, error)),
    };
    // SAFETY: the node is a loop device; the request takes no argument.
    match unsafe { ioctl(&node, NoArg::<LOOP_CLR_FD>::new()) } {
        Ok(()) | Err(Errno::NXIO) => drop(node),
        Err(errno) => return Err(refused(device, errno.into())),
    }
    // Whoever else has it open, such as udev taking a look, keeps it alive until it closes it.
    let deadline = Instant::now() + Duration::from_secs(2);
    while backing_file(&sys).as_ref() == Some(&file) {
        if Instant::now() > deadline {
            return Err(busy(device));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Frees every loop device of an image.
///
/// # Errors
/// As [`release`].
pub fn release_all(image: &Path) -> Result<()> {
    devices_of(image)?.iter().try_for_each(|device| release(device))
}

fn busy(device: &Path) -> Error {
    Error::new(ErrorKind::Conflict, format!("{} is still in use", device.display()))
        .with_context("reason", "volume_busy")
        .with_hint("unmount it first: `findmnt` shows where it is mounted")
}

fn refused(device: &Path, source: std::io::Error) -> Error {
    Error::new(ErrorKind::Denied, format!("cannot set up {}", device.display()))
        .with_context("path", device.display())
        .with_hint("loop devices need root: run dh as root, or create the studio as the user who runs dh")
        .with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structs_have_the_kernels_size() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
