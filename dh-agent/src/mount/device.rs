//! From a volume's id to its device, and the proof that it is that volume's.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use dh_core::backend::local::loopdev;
use dh_core::backend::local::map::io_error;
use dh_core::backend::local::volume::{Backing, Filesystem, VolumeRecord, device_link};
use dh_core::domain::{Error, ErrorKind, Result, Retry, VolumeId};

use super::decide::wrong_device;
use super::place::Place;

/// What a volume is on this engine.
#[derive(Debug)]
pub enum Found {
    /// A block device.
    Block(Device),
    /// A directory with its files.
    Directory(PathBuf),
}

/// A volume's block device, held open: until it is dropped, the kernel gives its name and number to no other volume, so
/// that what was verified stays true for programs that open it by name.
#[derive(Debug)]
pub struct Device {
    file: File,
    pub path: PathBuf,
    pub number: (u32, u32),
    pub bytes: u64,
    /// The filesystem to make on it when it is blank.
    pub filesystem: Filesystem,
}

/// Returns the local backend's record of a volume, which it keeps within sight of its engines; other backends do not.
///
/// # Errors
/// `Conflict` when it is not attached here.
pub fn attached_record(place: &Place, volume: &VolumeId) -> Result<Option<VolumeRecord>> {
    let Some(volumes) = &place.local_volumes else { return Ok(None) };
    let is_here = |record: &VolumeRecord| record.attachment.as_ref().is_some_and(|held| held.machine == place.machine);
    match VolumeRecord::load(volumes, volume)?.filter(is_here) {
        None => Err(not_attached(place, volume)),
        found => Ok(found),
    }
}

/// Finds a volume by the link that attaching it made, and checks that it is the right one.
///
/// # Errors
/// `Conflict` when it is not attached here; `Failed` when the link leads to something else.
pub fn find(place: &Place, volume: &VolumeId, record: Option<&VolumeRecord>) -> Result<Found> {
    let link = device_link(&place.by_id, volume);
    let target = match link.canonicalize() {
        Ok(target) => target,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(not_attached(place, volume).with_retry(Retry::Later).with_source(source));
        }
        Err(source) => return Err(io_error("cannot follow", &link, source)),
    };
    let record = record.zip(place.local_volumes.as_ref());
    let metadata = target.metadata().map_err(|source| io_error("cannot look at", &target, source))?;
    match &record {
        Some((record, volumes)) if record.backing == Backing::Directory => {
            let files = record.files(volumes);
            if metadata.is_dir() && files.canonicalize().is_ok_and(|files| files == target) {
                return Ok(Found::Directory(target));
            }
            return Err(wrong_serial(&target, volume));
        }
        _ if !metadata.file_type().is_block_device() => {
            return Err(wrong_device(format!("{} is not a block device", target.display())));
        }
        _ => {}
    }
    let number = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let file = File::open(&target).map_err(|source| cannot_open(&target, source))?;
    let sys = sys_directory(place, number);
    let right = match &record {
        Some((record, volumes)) => {
            let image = record.image(volumes).canonicalize().ok();
            image.is_some() && loopdev::backing_file(&sys) == image
        }
        None => serial(&sys).is_some_and(|serial| serial == plain(volume)),
    };
    if !right {
        return Err(wrong_serial(&target, volume));
    }
    let filesystem = record.map(|(record, _)| record.filesystem).unwrap_or_default();
    Ok(Found::Block(Device { file, bytes: size(&sys)?, path: target, number, filesystem }))
}

/// Returns whether a mounted device is this volume's, without its link, which may be gone already. `None` when the
/// device tells no serial.
pub fn is_of(place: &Place, number: (u32, u32), volume: &VolumeId) -> Option<bool> {
    let sys = sys_directory(place, number);
    if let Some(image) = loopdev::backing_file(&sys) {
        return Some(image.parent().and_then(Path::file_name).is_some_and(|name| name == volume.as_str()));
    }
    serial(&sys).map(|serial| serial == plain(volume))
}

/// Reads a device's first and last bytes, which `blkid` would take for blank if they could not be read.
///
/// # Errors
/// `Storage` when the device fails.
pub fn check_readable(device: &Device) -> Result<()> {
    let mut block = [0; 4096];
    device
        .file
        .read_exact_at(&mut block, 0)
        .and_then(|()| device.file.read_exact_at(&mut block, device.bytes.saturating_sub(4096)))
        .map_err(|source| io_error("cannot read", &device.path, source))
}

fn cannot_open(path: &Path, source: io::Error) -> Error {
    if source.kind() != io::ErrorKind::PermissionDenied {
        return io_error("cannot open", path, source);
    }
    Error::new(ErrorKind::Denied, format!("only root can use {}, the studio's device", path.display()))
        .with_hint("run dh as root, as when the studio was created; a studio created without root is a directory")
        .with_source(source)
}

fn not_attached(place: &Place, volume: &VolumeId) -> Error {
    Error::new(ErrorKind::Conflict, format!("volume {volume} is not attached to {}", place.engine))
        .with_context("reason", "not_attached")
        .with_hint(format!("attach it: `dh studio attach {}`", place.engine))
}

fn sys_directory(place: &Place, (major, minor): (u32, u32)) -> PathBuf {
    place.sys.join(format!("dev/block/{major}:{minor}"))
}

/// The serial of an NVMe device: under EC2 its volume's id without the dash.
fn serial(sys: &Path) -> Option<String> {
    Some(std::fs::read_to_string(sys.join("device/serial")).ok()?.trim().to_owned())
}

fn plain(volume: &VolumeId) -> String {
    volume.as_str().replacen('-', "", 1)
}

fn size(sys: &Path) -> Result<u64> {
    let path = sys.join("size");
    let text = std::fs::read_to_string(&path).map_err(|source| io_error("cannot read", &path, source))?;
    let sectors: u64 = text.trim().parse().map_err(|source| {
        Error::new(ErrorKind::Failed, format!("{} holds no size", path.display())).with_source(source)
    })?;
    Ok(sectors * 512)
}

fn wrong_serial(target: &Path, volume: &VolumeId) -> Error {
    wrong_device(format!("{} is not volume {volume}", target.display())).with_context("reason", "wrong_serial")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_serial() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            engine: "e".parse().unwrap(),
            machine: "i-0123456789abcdef0".parse().unwrap(),
            root: dir.path().to_owned(),
            by_id: dir.path().to_owned(),
            sys: dir.path().to_owned(),
            local_volumes: None,
        };
        let nvme = dir.path().join("dev/block/259:3/device");
        let looped = dir.path().join("dev/block/7:1/loop");
        std::fs::create_dir_all(&nvme).unwrap();
        std::fs::create_dir_all(&looped).unwrap();
        std::fs::write(nvme.join("serial"), "vol0123456789abcdef0\n").unwrap();
        std::fs::write(looped.join("backing_file"), "/data/volumes/vol-0123456789abcdef0/image\n").unwrap();
        let (right, other) = (VolumeId::new("vol-0123456789abcdef0").unwrap(), VolumeId::new("vol-1").unwrap());
        for number in [(259, 3), (7, 1)] {
            assert_eq!(is_of(&place, number, &right), Some(true));
            assert_eq!(is_of(&place, number, &other), Some(false));
        }
        assert_eq!(is_of(&place, (8, 0), &right), None);
    }

    #[test]
    fn a_volume_without_a_link_is_not_attached() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            engine: "e".parse().unwrap(),
            machine: "i-0123456789abcdef0".parse().unwrap(),
            root: dir.path().to_owned(),
            by_id: dir.path().to_owned(),
            sys: dir.path().to_owned(),
            local_volumes: None,
        };
        let volume = VolumeId::new("vol-0123456789abcdef0").unwrap();
        assert_eq!(find(&place, &volume, None).unwrap_err().kind(), ErrorKind::Conflict);
        // A plain file is no device, whatever its name.
        std::fs::write(device_link(dir.path(), &volume), "").unwrap();
        assert!(find(&place, &volume, None).unwrap_err().to_string().contains("not a block device"));
    }
}
