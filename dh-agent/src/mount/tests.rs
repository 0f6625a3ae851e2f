//! Real volumes, loop devices and filesystems, without the pauses.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dh_core::backend::local::volume::{Filesystem, Volumes, device_link, power_off, power_on};
use dh_core::backend::local::{loopdev, mountinfo};
use dh_core::domain::{Effect, EnvironmentName, IdempotencyKey, IdlePolicy, OperationId};
use dh_core::ports::{AttachVolume, CreateVolume};
use dh_core::wire::AgentStore;

use super::programs::{Output, Program, Programs};
use super::*;

const MACHINE: &str = "i-0123456789abcdef0";

/// A data directory with one engine. Leaves no mount and no loop device behind, also when a test panics.
struct Bench {
    dir: tempfile::TempDir,
    volumes: Volumes,
    place: Place,
}

impl Bench {
    fn new(filesystem: Filesystem) -> Self {
        Self::with(|data| Volumes::new(data, filesystem))
    }

    fn directories() -> Self {
        Self::with(|data| Volumes::new(data, Filesystem::Ext4).with_directories_only())
    }

    fn with(volumes: impl FnOnce(&Path) -> Volumes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("engines").join(MACHINE).join("disk");
        fs::create_dir_all(root.join("home")).unwrap();
        let config = AgentConfig {
            schema: 1,
            environment: "dev".parse().unwrap(),
            engine: "box".parse().unwrap(),
            machine: MACHINE.parse().unwrap(),
            user: "alice".parse().unwrap(),
            root,
            store: AgentStore::Sqlite { path: dir.path().join("dh.sqlite3") },
            power: dh_core::wire::AgentPower::Supervisor { socket: dir.path().join("control.sock") },
            policy: IdlePolicy::default(),
            setup_script: None,
            primordial: None,
            authorized_keys: Vec::new(),
        };
        Self { volumes: volumes(dir.path()), place: Place::of(&config).unwrap(), dir }
    }

    fn engine(&self) -> PathBuf {
        self.dir.path().join("engines").join(MACHINE)
    }

    fn create(&self, user: &str) -> VolumeId {
        let request = CreateVolume {
            key: IdempotencyKey::for_step(&OperationId::new("op-0123456789ab").unwrap(), user),
            user: user.parse().unwrap(),
            environment: EnvironmentName::new("dev").unwrap(),
            size_gb: SizeGb::new(1).unwrap(),
        };
        self.volumes.create(&request).unwrap().id
    }

    fn attach(&self, volume: &VolumeId, letter: char, epoch: u64) {
        let device = DeviceName::try_from(format!("/dev/sd{letter}")).unwrap();
        let machine = MACHINE.parse().unwrap();
        self.volumes.attach(&AttachVolume { volume: volume.clone(), machine, device, epoch }).unwrap();
    }

    fn detach(&self, volume: &VolumeId) -> Result<()> {
        self.volumes.detach(volume, &MACHINE.parse().unwrap())
    }

    fn image(&self, volume: &VolumeId) -> PathBuf {
        self.dir.path().join("volumes").join(volume.as_str()).join("image")
    }

    fn device(&self, volume: &VolumeId) -> PathBuf {
        device_link(&self.place.by_id, volume).canonicalize().unwrap()
    }

    fn mount_with(&self, programs: &dyn Programs, volume: &VolumeId, epoch: u64, gb: i64) -> Result<MountReply> {
        let args = MountArgs {
            volume: volume.clone(),
            epoch,
            user: "alice".parse().unwrap(),
            size_gb: SizeGb::new(gb).unwrap(),
            device: DeviceName::try_from("/dev/sdf".to_owned()).unwrap(),
        };
        Studio::new(&self.place, programs, volume, &args.user).mount(&args)
    }

    fn mount(&self, volume: &VolumeId, epoch: u64, gb: i64) -> Result<MountReply> {
        self.mount_with(&Quick::default(), volume, epoch, gb)
    }

    fn unmount(&self, volume: &VolumeId) -> Result<MountReply> {
        Studio::new(&self.place, &Quick::default(), volume, &"alice".parse().unwrap()).unmount()
    }

    fn studio(&self) -> PathBuf {
        self.place.studios().join("alice")
    }

    fn mounted(&self) -> bool {
        mountinfo::mounted_at(&self.studio()).unwrap().is_some()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = power_off(&self.engine());
        let dir = self.dir.path().canonicalize().unwrap();
        for (device, file) in loopdev::all().unwrap() {
            if file.starts_with(&dir) {
                let _ = loopdev::release(&device);
            }
        }
    }
}

/// The installed programs, remembering what ran, without pauses.
#[derive(Default)]
struct Quick {
    ran: RefCell<Vec<Program>>,
    pauses: RefCell<usize>,
}

impl Programs for Quick {
    fn run(&self, program: Program, args: &[&OsStr]) -> Result<Output> {
        self.ran.borrow_mut().push(program);
        Installed.run(program, args)
    }

    fn pause(&self, _: Duration) {
        *self.pauses.borrow_mut() += 1;
    }
}

/// Whether images can be tested here. Says so where they can't, and fails where CI runs as root and they should.
fn images() -> bool {
    let usable = loopdev::usable();
    if !usable {
        let ci_as_root = std::env::var_os("CI").is_some_and(|ci| ci == "true") && rustix::process::geteuid().is_root();
        assert!(!ci_as_root, "CI runs as root, yet there are no loop devices");
        eprintln!("SKIPPED: needs root and loop devices");
    }
    usable
}

fn reason(error: &Error) -> &str {
    error.context().iter().find(|(key, _)| *key == "reason").map_or("", |(_, reason)| reason)
}

/// A shell script that has printed a line and now waits; ended when dropped.
struct Waiting(Child);

impl Waiting {
    fn start(script: &str, directory: &Path) -> Self {
        let mut child = Command::new("bash")
            .args(["-c", script])
            .env("DIR", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_studio_lives_through(filesystem: Filesystem, mkfs: Program) {
    if !images() {
        return;
    }
    let bench = Bench::new(filesystem);
    let volume = bench.create("alice");
    bench.attach(&volume, 'f', 1);

    let programs = Quick::default();
    let reply = bench.mount_with(&programs, &volume, 1, 1).unwrap();
    assert_eq!((reply.formatted, reply.grown), (true, false));
    assert_eq!(Path::new(&reply.mount_point), bench.studio());
    let mount = mountinfo::mounted_at(&bench.studio()).unwrap().unwrap();
    assert_eq!(mount.filesystem, filesystem.as_str());
    assert_eq!(programs.ran.borrow()[..4], [Program::Blkid, Program::Blkid, Program::Blkid, mkfs]);
    assert_eq!(*programs.pauses.borrow(), 2);

    // Mounted right already: nothing is looked at or made.
    let programs = Quick::default();
    assert!(!bench.mount_with(&programs, &volume, 1, 1).unwrap().formatted);
    assert!(!programs.ran.borrow().contains(&Program::Blkid));
    assert_eq!(mountinfo::mounts_below(&bench.studio()).unwrap().len(), 1);

    fs::write(bench.studio().join("thesis"), "six years of work").unwrap();
    let small = rustix::fs::statvfs(bench.studio()).unwrap().f_blocks;
    assert_eq!(reason(&bench.detach(&volume).unwrap_err()), "volume_busy");
    bench.unmount(&volume).unwrap();
    bench.unmount(&volume).unwrap();
    assert!(!bench.mounted() && !bench.studio().exists());
    bench.detach(&volume).unwrap();

    bench.volumes.grow(&volume, SizeGb::new(2).unwrap()).unwrap();
    bench.attach(&volume, 'f', 2);
    let reply = bench.mount(&volume, 2, 2).unwrap();
    assert_eq!((reply.formatted, reply.grown), (false, true));
    let large = rustix::fs::statvfs(bench.studio()).unwrap().f_blocks;
    assert!(large > small * 18 / 10, "{small} blocks before, {large} after");
    assert_eq!(fs::read_to_string(bench.studio().join("thesis")).unwrap(), "six years of work");

    // Power goes and comes; the agent mounts what was mounted.
    power_off(&bench.engine()).unwrap();
    assert!(!bench.mounted());
    assert_eq!(bench.mount(&volume, 2, 2).unwrap_err().kind(), ErrorKind::Conflict);
    power_on(&bench.engine()).unwrap();
    let record = state::load(&bench.place).unwrap().mounts.remove(&volume).unwrap();
    assert_eq!((record.epoch, record.size_gb.get()), (2, 2));
    assert!(!bench.mount(&volume, record.epoch, 2).unwrap().formatted);
    assert_eq!(fs::read_to_string(bench.studio().join("thesis")).unwrap(), "six years of work");
    bench.unmount(&volume).unwrap();
    assert!(state::load(&bench.place).unwrap().mounts.is_empty());
}

#[test]
fn an_ext4_studio_is_made_kept_grown_and_mounted_again() {
    a_studio_lives_through(Filesystem::Ext4, Program::MkfsExt4);
}

#[test]
fn an_xfs_studio_is_made_kept_grown_and_mounted_again() {
    let known = fs::read_to_string("/proc/filesystems").unwrap().contains("xfs");
    if !known && images() {
        eprintln!("SKIPPED: this kernel knows no xfs");
        return;
    }
    a_studio_lives_through(Filesystem::Xfs, Program::MkfsXfs);
}

/// Somebody who writes where the studio will be, while its filesystem is checked.
struct Meanwhile<'a>(&'a Bench);

impl Programs for Meanwhile<'_> {
    fn run(&self, program: Program, args: &[&OsStr]) -> Result<Output> {
        if program == Program::E2fsck {
            fs::create_dir_all(self.0.studio()).unwrap();
            fs::write(self.0.studio().join("notes"), "written meanwhile").unwrap();
        }
        Installed.run(program, args)
    }

    fn pause(&self, _: Duration) {}
}

#[test]
fn files_written_while_a_studio_is_checked_are_not_hidden() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    let volume = bench.create("alice");
    bench.attach(&volume, 'f', 1);
    bench.mount(&volume, 1, 1).unwrap();
    bench.unmount(&volume).unwrap();
    let error = bench.mount_with(&Meanwhile(&bench), &volume, 1, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.full_message().contains(bench.studio().to_str().unwrap()), "{error:?}");
    assert!(!bench.mounted());
    assert_eq!(fs::read_to_string(bench.studio().join("notes")).unwrap(), "written meanwhile");
    fs::remove_dir_all(bench.studio()).unwrap();
    bench.mount(&volume, 1, 1).unwrap();
}

/// The beginning of an image, where every signature of interest has its place.
fn content(image: &Path) -> Vec<u8> {
    let file = File::open(image).unwrap();
    let mut bytes = vec![0; 4 << 20];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn is_blank(image: &Path) -> bool {
    content(image).iter().all(|&byte| byte == 0)
}

#[test]
fn a_device_with_a_foreign_signature_is_refused_and_untouched() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    let by = |program: &str, device: &Path| {
        let made = Command::new(program).arg("-q").arg(device).output().unwrap();
        assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
    };
    let partition_table = |device: &Path| {
        let mut sector = [0; 512];
        // One Linux partition from sector 2048 on, of as many sectors; then the table's signature.
        sector[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        File::options().write(true).open(device).unwrap().write_all_at(&sector, 0).unwrap();
    };
    type Maker<'a> = &'a dyn Fn(&Path);
    let makers: [(&str, char, Maker<'_>); 3] = [
        ("swap", 'f', &|device| by("mkswap", device)),
        ("ext2", 'g', &|device| by("mkfs.ext2", device)),
        ("dos", 'h', &partition_table),
    ];
    for (user, letter, make) in makers {
        let volume = bench.create(user);
        bench.attach(&volume, letter, 1);
        let device = bench.device(&volume);
        make(&device);
        File::open(&device).unwrap().sync_all().unwrap();
        let (before, blocks) = (content(&bench.image(&volume)), bench.image(&volume).metadata().unwrap().blocks());

        let programs = Quick::default();
        let error = bench.mount_with(&programs, &volume, 1, 1).unwrap_err();
        assert!(error.to_string().contains("likely the wrong device"), "{error}");
        assert!(error.hint().is_some());
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Failed, Effect::None));
        assert_eq!(*programs.ran.borrow(), [Program::Blkid], "{user}");
        assert!(content(&bench.image(&volume)) == before, "{user}: the device was written to");
        assert_eq!(bench.image(&volume).metadata().unwrap().blocks(), blocks);
        assert!(!bench.mounted());
        assert!(state::load(&bench.place).unwrap().mounts.is_empty(), "a refused mount is not tried at boot");
    }
}

#[test]
fn a_link_to_another_volumes_device_is_refused() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    let (mine, other) = (bench.create("alice"), bench.create("bob"));
    bench.attach(&mine, 'f', 1);
    bench.attach(&other, 'g', 1);
    let link = device_link(&bench.place.by_id, &mine);
    let elsewhere = bench.device(&other);
    for target in [elsewhere.as_path(), Path::new("/dev/null"), bench.dir.path()] {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        let programs = Quick::default();
        let error = bench.mount_with(&programs, &mine, 1, 1).unwrap_err();
        assert!(error.to_string().contains("likely the wrong device"), "{error}");
        assert!(programs.ran.borrow().is_empty());
    }
    assert!(is_blank(&bench.image(&other)));
}

#[test]
fn a_device_of_another_size_is_refused() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    let volume = bench.create("alice");
    bench.attach(&volume, 'f', 1);
    let error = bench.mount(&volume, 1, 2).unwrap_err();
    assert_eq!(reason(&error), "wrong_size");
    assert!(is_blank(&bench.image(&volume)));
}

#[test]
fn a_stale_epoch_is_refused_also_after_the_unmount() {
    for bench in [Bench::directories(), Bench::new(Filesystem::Ext4)] {
        let volume = bench.create("alice");
        bench.attach(&volume, 'f', 5);
        bench.mount(&volume, 5, 1).unwrap();
        for _ in 0..2 {
            let error = bench.mount(&volume, 4, 1).unwrap_err();
            assert_eq!((error.kind(), reason(&error)), (ErrorKind::Conflict, "stale_epoch"));
            bench.unmount(&volume).unwrap();
        }
    }
}

#[test]
fn who_has_files_open_is_named() {
    for bench in [Bench::directories(), Bench::new(Filesystem::Ext4)] {
        let volume = bench.create("alice");
        bench.attach(&volume, 'f', 1);
        bench.mount(&volume, 1, 1).unwrap();
        let shell = Waiting::start("cd \"$DIR\"; echo; read x", &bench.studio());
        let writer = Waiting::start("exec 7>\"$DIR/results\"; echo; read x", &bench.studio());
        let error = bench.unmount(&volume).unwrap_err();
        assert_eq!((error.kind(), reason(&error)), (ErrorKind::Conflict, "studio_busy"));
        for pid in [shell.0.id(), writer.0.id()] {
            assert!(error.to_string().contains(&format!("bash (pid {pid})")), "{error}");
        }
        assert!(error.to_string().contains("open files: "), "{error}");
        assert!(error.hint().unwrap().contains("dh engine shell box"));
        assert!(bench.studio().join("results").exists(), "a refused unmount changes nothing");
        assert_eq!(state::load(&bench.place).unwrap().mounts.len(), 1);
        drop((shell, writer));
        bench.unmount(&volume).unwrap();
        assert!(!bench.studio().exists());
    }
}

#[test]
fn a_mount_below_the_studio_is_named() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    let volume = bench.create("alice");
    bench.attach(&volume, 'f', 1);
    bench.mount(&volume, 1, 1).unwrap();
    let below = bench.studio().join("scratch");
    fs::create_dir(&below).unwrap();
    rustix::mount::mount("none", &below, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let error = bench.unmount(&volume).unwrap_err();
    assert!(error.to_string().contains(below.to_str().unwrap()), "{error}");
    // Power-off unmounts whatever it is.
    power_off(&bench.engine()).unwrap();
    assert!(mountinfo::mounts_below(&bench.place.root).unwrap().is_empty());
}

#[test]
fn a_filesystem_left_half_made_is_made_anew_under_the_same_epoch_only() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Xfs);
    let volume = bench.create("alice");
    bench.attach(&volume, 'f', 1);
    // What a kill between the filesystem's first signature and the end of its making leaves.
    let half = Command::new("mkfs.xfs").args(["-q", "-K"]).arg(bench.device(&volume)).output().unwrap();
    assert!(half.status.success());
    state::update(&bench.place, |state| {
        state.formatting.insert(volume.clone(), 1);
    })
    .unwrap();
    assert!(bench.mount(&volume, 1, 1).unwrap().formatted);
    assert!(state::load(&bench.place).unwrap().formatting.is_empty());
    fs::write(bench.studio().join("thesis"), "six years of work").unwrap();
    bench.unmount(&volume).unwrap();

    // A marker of an earlier epoch says nothing about what lies there now.
    state::update(&bench.place, |state| {
        state.formatting.insert(volume.clone(), 1);
    })
    .unwrap();
    bench.attach(&volume, 'f', 2);
    assert!(!bench.mount(&volume, 2, 1).unwrap().formatted);
    assert_eq!(fs::read_to_string(bench.studio().join("thesis")).unwrap(), "six years of work");
}

#[test]
fn files_in_the_way_are_not_hidden() {
    for bench in [Bench::directories(), Bench::new(Filesystem::Ext4)] {
        let volume = bench.create("alice");
        bench.attach(&volume, 'f', 1);
        fs::create_dir_all(bench.studio()).unwrap();
        fs::write(bench.studio().join("left"), "here").unwrap();
        let error = bench.mount(&volume, 1, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("would hide"), "{error}");
        fs::remove_file(bench.studio().join("left")).unwrap();
        bench.mount(&volume, 1, 1).unwrap();
    }
}

#[test]
fn a_directory_studio_is_linked_and_kept() {
    let bench = Bench::directories();
    let volume = bench.create("alice");
    assert_eq!(bench.mount(&volume, 1, 1).unwrap_err().kind(), ErrorKind::Conflict);
    bench.attach(&volume, 'f', 1);
    for _ in 0..2 {
        let programs = Quick::default();
        let reply = bench.mount_with(&programs, &volume, 1, 1).unwrap();
        assert_eq!((reply.formatted, reply.grown), (false, false));
        assert!(programs.ran.borrow().is_empty());
    }
    fs::write(bench.studio().join("thesis"), "six years of work").unwrap();
    for _ in 0..2 {
        bench.unmount(&volume).unwrap();
        assert!(!bench.studio().is_symlink());
    }
    bench.mount(&volume, 1, 1).unwrap();
    assert_eq!(fs::read_to_string(bench.studio().join("thesis")).unwrap(), "six years of work");
    // Another volume is not unmounted by mistake, and does not take the place.
    let other = bench.create("bob");
    bench.attach(&other, 'g', 1);
    assert_eq!(bench.mount(&other, 1, 1).unwrap_err().kind(), ErrorKind::Conflict);
    bench.unmount(&other).unwrap();
    assert!(bench.studio().join("thesis").exists());
}

#[test]
fn another_volumes_mount_is_neither_covered_nor_unmounted() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    let (mine, other) = (bench.create("alice"), bench.create("bob"));
    bench.attach(&mine, 'f', 1);
    bench.attach(&other, 'g', 1);
    bench.mount(&mine, 1, 1).unwrap();
    assert_eq!(bench.mount(&other, 1, 1).unwrap_err().kind(), ErrorKind::Conflict);
    bench.unmount(&other).unwrap();
    assert!(bench.mounted());
}

#[test]
fn a_blank_filesystem_goes_to_the_owner_of_the_home_directory() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    std::os::unix::fs::chown(bench.place.root.join("home"), Some(1234), Some(2345)).unwrap();
    let volume = bench.create("alice");
    bench.attach(&volume, 'f', 1);
    bench.mount(&volume, 1, 1).unwrap();
    let owner = bench.studio().metadata().unwrap();
    assert_eq!((owner.uid(), owner.gid()), (1234, 2345));
    fs::write(bench.studio().join("file"), "").unwrap();
    std::os::unix::fs::chown(bench.studio(), Some(0), Some(0)).unwrap();
    bench.mount(&volume, 1, 1).unwrap();
    assert_eq!(bench.studio().metadata().unwrap().uid(), 0, "one with files is left as it is");
}

/// Parts the volume from the engine between two looks, and lets another volume take whatever device is free then.
struct Rival<'a> {
    bench: &'a Bench,
    mine: &'a VolumeId,
    other: &'a VolumeId,
}

impl Programs for Rival<'_> {
    fn run(&self, program: Program, args: &[&OsStr]) -> Result<Output> {
        Installed.run(program, args)
    }

    fn pause(&self, _: Duration) {
        let _ = self.bench.detach(self.mine);
        self.bench.attach(self.other, 'g', 1);
    }
}

#[test]
fn a_detach_in_the_middle_never_leads_to_another_volumes_format() {
    if !images() {
        return;
    }
    let bench = Bench::new(Filesystem::Ext4);
    let (mine, other) = (bench.create("alice"), bench.create("bob"));
    bench.attach(&mine, 'f', 1);
    let rival = Rival { bench: &bench, mine: &mine, other: &other };
    let _ = bench.mount_with(&rival, &mine, 1, 1);
    assert!(is_blank(&bench.image(&other)), "another volume was formatted");
}
