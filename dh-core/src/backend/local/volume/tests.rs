use std::os::unix::fs::symlink;

use super::*;
use crate::domain::{OperationId, UserName};

/// A data directory with two machines. Leaves no mount and no loop device behind, also when a test panics.
struct Bench {
    dir: tempfile::TempDir,
}

const MACHINES: [&str; 2] = ["i-00000000000000001", "i-00000000000000002"];

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for machine in MACHINES {
            std::fs::create_dir_all(dir.path().join("engines").join(machine).join("disk/studios")).unwrap();
        }
        Self { dir }
    }

    fn volumes(&self) -> Volumes {
        Volumes::new(self.dir.path(), Filesystem::Ext4)
    }

    fn directories(&self) -> Volumes {
        self.volumes().with_directories_only()
    }

    fn engine(&self, index: usize) -> PathBuf {
        self.dir.path().join("engines").join(MACHINES[index])
    }

    fn loops(&self) -> Vec<PathBuf> {
        let dir = self.dir.path().canonicalize().unwrap();
        loopdev::all()
            .unwrap()
            .into_iter()
            .filter(|(_, file)| file.starts_with(&dir))
            .map(|(device, _)| device)
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for index in 0..MACHINES.len() {
            let _ = power_off(&self.engine(index));
        }
        for device in self.loops() {
            let _ = loopdev::release(&device);
        }
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

fn request(step: &str, user: &str) -> CreateVolume {
    CreateVolume {
        key: IdempotencyKey::for_step(&OperationId::new("op-0123456789ab").unwrap(), step),
        user: UserName::new(user).unwrap(),
        environment: EnvironmentName::new("dev").unwrap(),
        size_gb: SizeGb::new(1).unwrap(),
    }
}

fn machine(index: usize) -> MachineId {
    MachineId::new(MACHINES[index]).unwrap()
}

fn device(letter: char) -> DeviceName {
    DeviceName::try_from(format!("/dev/sd{letter}")).unwrap()
}

fn join(volume: &VolumeId, index: usize, letter: char, epoch: u64) -> AttachVolume {
    AttachVolume { volume: volume.clone(), machine: machine(index), device: device(letter), epoch }
}

fn reason(error: &Error) -> &str {
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
    &error.context().iter().find(|(key, _)| *key == "reason").unwrap().1
}

#[test]
fn the_same_key_creates_one_volume_and_never_another_ones() {
    let bench = Bench::new();
    let volumes = bench.directories();
    let first = volumes.create(&request("create", "alice")).unwrap();
    assert_eq!(volumes.create(&request("create", "alice")).unwrap(), first);
    assert_ne!(volumes.create(&request("create-2", "alice")).unwrap().id, first.id);
    assert_eq!(volumes.create(&request("create", "bob")).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(volumes.list(&EnvironmentName::new("dev").unwrap()).unwrap().len(), 2);
    assert!(volumes.list(&EnvironmentName::new("prod").unwrap()).unwrap().is_empty());
    assert!(first.caveat.unwrap().contains("not enforced"));
}

#[test]
fn ids_derived_from_keys_never_change() {
    // Volumes made by earlier versions are found again only under these.
    let id = volume_id(&request("create_volume", "alice").key).unwrap();
    assert_eq!(id.as_str(), "vol-3bafe1ce33e96aa42");
    assert!(is_hex_id(id.as_str(), "vol-"));
}

#[test]
fn an_unheard_of_volume_is_missing_and_no_path_leads_out() {
    let bench = Bench::new();
    let volumes = bench.directories();
    for id in ["vol-00000000000000000", "..", ".", "vol-0"] {
        let id = VolumeId::new(id).unwrap();
        assert_eq!(volumes.describe(&id).unwrap(), None);
        volumes.delete(&id).unwrap();
        volumes.detach(&id, &machine(0)).unwrap();
        assert_eq!(volumes.attach(&join(&id, 0, 'f', 1)).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(volumes.grow(&id, SizeGb::new(2).unwrap()).unwrap_err().kind(), ErrorKind::NotFound);
    }
    let id = volumes.create(&request("create", "alice")).unwrap().id;
    let nowhere = AttachVolume { machine: MachineId::new("..").unwrap(), ..join(&id, 0, 'f', 1) };
    assert_eq!(volumes.attach(&nowhere).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(bench.engine(0).exists());
}

#[test]
fn attach_refuses_what_would_share_a_volume_or_a_device() {
    let bench = Bench::new();
    let volumes = bench.directories();
    let alice = volumes.create(&request("a", "alice")).unwrap().id;
    let bob = volumes.create(&request("b", "bob")).unwrap().id;
    volumes.attach(&join(&alice, 0, 'f', 2)).unwrap();
    volumes.attach(&join(&alice, 0, 'f', 2)).unwrap();
    assert_eq!(reason(&volumes.attach(&join(&alice, 1, 'f', 3)).unwrap_err()), "volume_in_use");
    assert_eq!(reason(&volumes.attach(&join(&alice, 0, 'g', 3)).unwrap_err()), "volume_in_use");
    assert_eq!(reason(&volumes.attach(&join(&alice, 0, 'f', 1)).unwrap_err()), "stale_epoch");
    assert_eq!(reason(&volumes.attach(&join(&bob, 0, 'f', 1)).unwrap_err()), "device_in_use");
    volumes.attach(&join(&bob, 0, 'g', 1)).unwrap();
    assert_eq!(volumes.attached_to(&machine(0)).unwrap(), [(device('f'), alice.clone()), (device('g'), bob)]);
    assert_eq!(reason(&volumes.delete(&alice).unwrap_err()), "volume_in_use");

    // Detaching from where it is not changes nothing; the epoch outlives the attachment.
    volumes.detach(&alice, &machine(1)).unwrap();
    assert!(volumes.describe(&alice).unwrap().unwrap().attachment.is_some());
    volumes.detach(&alice, &machine(0)).unwrap();
    volumes.detach(&alice, &machine(0)).unwrap();
    assert_eq!(reason(&volumes.attach(&join(&alice, 1, 'f', 1)).unwrap_err()), "stale_epoch");
    volumes.attach(&join(&alice, 1, 'f', 3)).unwrap();
    assert_eq!(volumes.attachments().unwrap().len(), 2);
}

#[test]
fn of_many_who_attach_at_once_one_wins() {
    let bench = Bench::new();
    let id = bench.directories().create(&request("a", "alice")).unwrap().id;
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let tries: Vec<_> = DeviceName::all()
            .map(|device| {
                let (volumes, id) = (bench.directories(), id.clone());
                scope.spawn(move || volumes.attach(&AttachVolume { device, ..join(&id, 0, 'f', 1) }))
            })
            .collect();
        tries.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|error| reason(error) == "volume_in_use"));
}

#[test]
fn a_directory_is_linked_while_attached_and_hidden_while_not() {
    let bench = Bench::new();
    let volumes = bench.directories();
    let id = volumes.create(&request("a", "alice")).unwrap().id;
    volumes.attach(&join(&id, 0, 'f', 1)).unwrap();
    let link = device_link(&by_id(&bench.engine(0)), &id);
    let files = std::fs::read_link(&link).unwrap();
    std::fs::write(files.join("notes"), "kept").unwrap();
    let studio = bench.engine(0).join("disk/studios/alice");
    symlink(&files, &studio).unwrap();

    power_off(&bench.engine(0)).unwrap();
    power_off(&bench.engine(0)).unwrap();
    assert!(!link.is_symlink() && !studio.is_symlink());
    assert!(volumes.describe(&id).unwrap().unwrap().attachment.is_some());
    power_on(&bench.engine(0)).unwrap();
    assert_eq!(std::fs::read_to_string(link.join("notes")).unwrap(), "kept");

    symlink(&files, &studio).unwrap();
    volumes.detach(&id, &machine(0)).unwrap();
    assert!(!link.is_symlink() && !studio.is_symlink());
    volumes.delete(&id).unwrap();
    volumes.delete(&id).unwrap();
    assert!(!files.exists());
}

#[test]
fn growing_is_recorded_and_shrinking_is_not_done() {
    let bench = Bench::new();
    let volumes = bench.directories();
    let id = volumes.create(&request("a", "alice")).unwrap().id;
    for (asked, found) in [(3, 3), (2, 3), (3, 3)] {
        volumes.grow(&id, SizeGb::new(asked).unwrap()).unwrap();
        assert_eq!(volumes.describe(&id).unwrap().unwrap().size_gb.get(), found);
    }
}

#[test]
fn what_a_kill_leaves_of_a_creation_or_a_deletion_is_no_volume_and_is_swept() {
    let bench = Bench::new();
    let volumes = bench.directories();
    let id = volumes.create(&request("a", "alice")).unwrap().id;
    let dir = volumes_dir(bench.dir.path());
    let record = volumes.load(&id).unwrap().unwrap();
    // A deletion killed after its first step, and a creation killed before its last.
    record.retire(&dir).unwrap();
    let half = dir.join(".scratch-vol-0123456789abcdef0");
    std::fs::create_dir(&half).unwrap();
    assert!(volumes.list(&EnvironmentName::new("dev").unwrap()).unwrap().is_empty());
    volumes.delete(&id).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    assert_eq!(volumes.create(&request("a", "alice")).unwrap().id, id);
}

#[test]
fn a_damaged_or_newer_record_is_named() {
    let bench = Bench::new();
    let volumes = bench.directories();
    let id = volumes.create(&request("a", "alice")).unwrap().id;
    let path = volumes_dir(bench.dir.path()).join(id.as_str()).join("volume.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"schema\": 1", "\"schema\": 2")).unwrap();
    assert_eq!(volumes.describe(&id).unwrap_err().kind(), ErrorKind::Incompatible);
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let error = volumes.attach(&join(&id, 0, 'f', 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("volume.json"));
}

#[test]
fn the_stored_form_of_version_1_is_still_read() {
    let text = r#"{"schema":1,"id":"vol-0123456789abcdef0","key":"dh-op-0123456789ab-create_volume","user":"alice",
        "environment":"dev","size_gb":100,"backing":"image","filesystem":"xfs","epoch":7,
        "attachment":{"machine":"i-0123456789abcdef0","device":"/dev/sdf","epoch":7}}"#;
    let record: VolumeRecord = serde_json::from_str(text).unwrap();
    assert_eq!((record.backing, record.filesystem, record.epoch), (Backing::Image, Filesystem::Xfs, 7));
    assert_eq!(record.attachment.unwrap().device, device('f'));
}

#[test]
fn an_image_gets_one_loop_device_which_comes_and_goes_with_power() {
    if !images() {
        return;
    }
    let bench = Bench::new();
    let volumes = bench.volumes();
    let volume = volumes.create(&request("a", "alice")).unwrap();
    assert_eq!(volume.caveat, None);
    for _ in 0..2 {
        volumes.attach(&join(&volume.id, 0, 'f', 1)).unwrap();
        assert_eq!(bench.loops().len(), 1);
    }
    let link = device_link(&by_id(&bench.engine(0)), &volume.id);
    assert!(link.ends_with(format!("nvme-Amazon_Elastic_Block_Store_vol{}", &volume.id.as_str()[4..])));
    assert_eq!(std::fs::read_link(&link).unwrap(), bench.loops()[0]);

    volumes.grow(&volume.id, SizeGb::new(2).unwrap()).unwrap();
    let sectors = Path::new("/sys/block").join(bench.loops()[0].file_name().unwrap()).join("size");
    assert_eq!(std::fs::read_to_string(sectors).unwrap().trim(), (2u64 << 30 >> 9).to_string());

    for _ in 0..2 {
        power_off(&bench.engine(0)).unwrap();
        assert!(bench.loops().is_empty() && !link.is_symlink());
    }
    for _ in 0..2 {
        power_on(&bench.engine(0)).unwrap();
        assert_eq!(bench.loops(), [std::fs::read_link(&link).unwrap()]);
    }
    volumes.detach(&volume.id, &machine(0)).unwrap();
    assert!(bench.loops().is_empty() && !link.is_symlink());
    volumes.delete(&volume.id).unwrap();
    assert_eq!(volumes.describe(&volume.id).unwrap(), None);
}

#[test]
fn a_stale_link_goes_at_power_on() {
    let bench = Bench::new();
    std::fs::create_dir_all(by_id(&bench.engine(0))).unwrap();
    let stale = device_link(&by_id(&bench.engine(0)), &VolumeId::new("vol-0123456789abcdef0").unwrap());
    symlink("/dev/loop0", &stale).unwrap();
    bench.directories().create(&request("a", "alice")).unwrap();
    power_on(&bench.engine(0)).unwrap();
    assert!(!stale.is_symlink());
}

#[test]
fn a_device_left_by_a_kill_is_used_again_or_freed() {
    if !images() {
        return;
    }
    let bench = Bench::new();
    let volumes = bench.volumes();
    let alice = volumes.create(&request("a", "alice")).unwrap().id;
    let bob = volumes.create(&request("b", "bob")).unwrap().id;
    let image = |id: &VolumeId| {
        volumes.load(id).unwrap().unwrap().image(&volumes_dir(bench.dir.path())).canonicalize().unwrap()
    };
    let left = [loopdev::ensure(&image(&alice)).unwrap(), loopdev::ensure(&image(&bob)).unwrap()];
    assert_eq!(bench.loops().len(), 2);
    volumes.attach(&join(&alice, 0, 'f', 1)).unwrap();
    assert_eq!(bench.loops().len(), 1, "neither volume was attached, so both devices were freed: {left:?}");
    // Killed between the record and the device: repeating the call makes it.
    loopdev::release_all(&image(&alice)).unwrap();
    volumes.attach(&join(&alice, 0, 'f', 1)).unwrap();
    assert_eq!(bench.loops().len(), 1);
    // Killed before the record: the device is there already.
    let device = bench.loops();
    power_on(&bench.engine(0)).unwrap();
    assert_eq!(bench.loops(), device);
    loopdev::ensure(&image(&bob)).unwrap();
    volumes.delete(&bob).unwrap();
    assert_eq!(bench.loops(), device);
}

#[test]
fn a_claimed_device_is_neither_detached_nor_deleted() {
    if !images() {
        return;
    }
    let bench = Bench::new();
    let volumes = bench.volumes();
    let id = volumes.create(&request("a", "alice")).unwrap().id;
    volumes.attach(&join(&id, 0, 'f', 1)).unwrap();
    let claim = {
        use std::os::unix::fs::OpenOptionsExt;
        let excl = rustix::fs::OFlags::EXCL.bits() as i32;
        File::options().read(true).custom_flags(excl).open(&bench.loops()[0]).unwrap()
    };
    assert_eq!(reason(&volumes.detach(&id, &machine(0)).unwrap_err()), "volume_busy");
    assert!(volumes.describe(&id).unwrap().unwrap().attachment.is_some());
    power_off(&bench.engine(0)).unwrap();
    assert_eq!(bench.loops().len(), 1, "a claimed device stays");
    drop(claim);
    volumes.detach(&id, &machine(0)).unwrap();
    assert!(bench.loops().is_empty());
}

#[test]
fn filesystems_are_read_as_written() {
    assert_eq!("xfs".parse::<Filesystem>().unwrap(), Filesystem::Xfs);
    assert_eq!(Filesystem::default().to_string(), "ext4");
    assert_eq!("ntfs".parse::<Filesystem>().unwrap_err().kind(), ErrorKind::InvalidArgument);
}
