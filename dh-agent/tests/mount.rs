//! `dh-agent mount`, `unmount` and `remount` as programs: killed, without root, and with what they print.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dh_core::backend::local::volume::{Filesystem, Volumes, device_link, power_off, power_on};
use dh_core::backend::local::{loopdev, mountinfo};
use dh_core::domain::{
    DeviceName, EnvironmentName, ErrorKind, IdempotencyKey, IdlePolicy, OperationId, SizeGb, StoredError, VolumeId,
};
use dh_core::ports::{AttachVolume, CreateVolume};
use dh_core::wire::{AGENT_CONFIG_VARIABLE, AgentConfig, AgentPower, AgentStore, MountReply};

const MACHINE: &str = "i-0123456789abcdef0";
const NOBODY: u32 = 65534;

/// A data directory with one engine. Leaves no mount and no loop device behind, also when a test panics.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Self { dir };
        fs::create_dir_all(bench.root().join("home")).unwrap();
        let config = AgentConfig {
            schema: 1,
            environment: "dev".parse().unwrap(),
            engine: "box".parse().unwrap(),
            machine: MACHINE.parse().unwrap(),
            user: "alice".parse().unwrap(),
            root: bench.root(),
            store: AgentStore::Sqlite { path: bench.dir.path().join("dh.sqlite3") },
            power: AgentPower::Supervisor { socket: bench.engine().join("control.sock") },
            policy: IdlePolicy::default(),
            setup_script: None,
            primordial: None,
            authorized_keys: Vec::new(),
        };
        fs::write(bench.config(), serde_json::to_vec(&config).unwrap()).unwrap();
        bench
    }

    fn engine(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("engines").join(MACHINE)
    }

    fn root(&self) -> PathBuf {
        self.engine().join("disk")
    }

    fn config(&self) -> PathBuf {
        self.engine().join("agent.json")
    }

    fn studio(&self, user: &str) -> PathBuf {
        self.root().join("studios").join(user)
    }

    fn attached(&self, volumes: &Volumes, user: &str, letter: char) -> VolumeId {
        let request = CreateVolume {
            key: IdempotencyKey::for_step(&OperationId::new("op-0123456789ab").unwrap(), user),
            user: user.parse().unwrap(),
            environment: EnvironmentName::new("dev").unwrap(),
            size_gb: SizeGb::new(1).unwrap(),
        };
        let volume = volumes.create(&request).unwrap().id;
        let device = DeviceName::try_from(format!("/dev/sd{letter}")).unwrap();
        let machine = MACHINE.parse().unwrap();
        volumes.attach(&AttachVolume { volume: volume.clone(), machine, device, epoch: 1 }).unwrap();
        volume
    }

    fn images(&self, filesystem: Filesystem) -> Volumes {
        Volumes::new(self.dir.path(), filesystem)
    }

    fn directories(&self) -> Volumes {
        self.images(Filesystem::Ext4).with_directories_only()
    }

    fn agent(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env(AGENT_CONFIG_VARIABLE, self.config()).stdin(Stdio::null());
        command
    }

    fn mount(&self, volume: &VolumeId, user: &str) -> Command {
        let args = [
            "mount",
            "--volume",
            volume.as_str(),
            "--epoch",
            "1",
            "--user",
            user,
            "--size-gb",
            "1",
            "--device",
            "/dev/sdf",
        ];
        self.agent(agent(), &args)
    }

    fn unmount(&self, volume: &VolumeId, user: &str) -> Command {
        self.agent(agent(), &["unmount", "--volume", volume.as_str(), "--user", user])
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
        let _ = power_off(&self.engine());
        for device in self.loops() {
            let _ = loopdev::release(&device);
        }
    }
}

fn agent() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dh-agent"))
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

fn reply(output: Output) -> MountReply {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The last line of standard error as the error that it is, after checking that the exit code is the kind's.
fn error(output: Output) -> StoredError {
    let text = String::from_utf8(output.stderr).unwrap();
    let error: StoredError = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(error.kind.exit_code())), "{error:?}");
    assert!(output.stdout.is_empty());
    error
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain awaited: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that is killed when dropped.
struct Running(Child);

impl Running {
    fn kill_9(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mount_killed_while_it_formats_is_finished_by_the_next() {
    if !images() {
        return;
    }
    let real = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    // Two moments of mkfs that last until the kill: before it wrote anything, and after its signature is on the device.
    for (filesystem, before) in [(Filesystem::Ext4, true), (Filesystem::Ext4, false), (Filesystem::Xfs, false)] {
        let bench = Bench::new();
        let volume = bench.attached(&bench.images(filesystem), "alice", 'f');
        let bin = bench.dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let mkfs = bin.join(format!("mkfs.{filesystem}"));
        let make = if before { String::new() } else { format!("PATH={real} mkfs.{filesystem} \"$@\" || exit\n") };
        let pid_file = bench.dir.path().join("mkfs.pid");
        fs::write(
            &mkfs,
            format!("#!/bin/sh\n{make}echo $$ > {}.new\nmv {0}.new {0}\nexec sleep 600\n", pid_file.display()),
        )
        .unwrap();
        fs::set_permissions(&mkfs, fs::Permissions::from_mode(0o755)).unwrap();

        let path = format!("{}:{real}", bin.display());
        let running = Running(bench.mount(&volume, "alice").env("PATH", path).stdout(Stdio::null()).spawn().unwrap());
        await_that("mkfs runs", || pid_file.exists());
        running.kill_9();
        let pid = fs::read_to_string(&pid_file).unwrap();
        await_that("mkfs dies with the mount", || !is_running(pid.trim()));
        assert!(mountinfo::mounted_at(&bench.studio("alice")).unwrap().is_none());

        let reply = reply(bench.mount(&volume, "alice").output().unwrap());
        assert!(reply.formatted);
        assert_eq!(Path::new(&reply.mount_point), bench.studio("alice"));
        let mount = mountinfo::mounted_at(&bench.studio("alice")).unwrap().unwrap();
        assert_eq!(mount.filesystem, filesystem.as_str());
        fs::write(bench.studio("alice").join("thesis"), "six years of work").unwrap();
        assert_eq!(bench.loops().len(), 1);
    }
}

fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name in parentheses; a zombie is dead.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_mount_killed_as_it_begins_or_once_mounted_is_finished_by_the_next() {
    if !images() {
        return;
    }
    let bench = Bench::new();
    let volume = bench.attached(&bench.images(Filesystem::Ext4), "alice", 'f');
    let lock = bench.root().join(format!("var/mount-{volume}.lock"));
    let studio = bench.studio("alice");
    let moments: [(&str, &dyn Fn() -> bool); 2] = [
        ("the lock is taken", &|| lock.exists()),
        ("it is mounted", &|| mountinfo::mounted_at(&studio).unwrap().is_some()),
    ];
    for (what, moment) in moments {
        let running = Running(bench.mount(&volume, "alice").stdout(Stdio::null()).spawn().unwrap());
        await_that(what, moment);
        running.kill_9();
    }
    assert!(!reply(bench.mount(&volume, "alice").output().unwrap()).formatted);
    fs::write(studio.join("thesis"), "six years of work").unwrap();
    assert_eq!(mountinfo::mounts_below(&studio).unwrap().len(), 1);

    // An unmount killed at any moment is finished by the next, too.
    let running = Running(bench.unmount(&volume, "alice").spawn().unwrap());
    running.kill_9();
    for _ in 0..2 {
        assert!(bench.unmount(&volume, "alice").status().unwrap().success());
    }
    assert!(mountinfo::mounted_at(&studio).unwrap().is_none());
    assert!(!reply(bench.mount(&volume, "alice").output().unwrap()).formatted);
    assert_eq!(fs::read_to_string(studio.join("thesis")).unwrap(), "six years of work");
}

#[test]
fn remount_brings_back_what_it_can_and_names_what_it_cannot() {
    if !images() {
        return;
    }
    let bench = Bench::new();
    let alice = bench.attached(&bench.images(Filesystem::Ext4), "alice", 'f');
    let bob = bench.attached(&bench.directories(), "bob", 'g');
    for (volume, user) in [(&alice, "alice"), (&bob, "bob")] {
        reply(bench.mount(volume, user).output().unwrap());
        fs::write(bench.studio(user).join("thesis"), user).unwrap();
    }
    let remount = || bench.agent(agent(), &["remount"]).output().unwrap();
    power_off(&bench.engine()).unwrap();
    assert!(!bench.studio("alice").join("thesis").exists() && !bench.studio("bob").exists());
    power_on(&bench.engine()).unwrap();
    let output = remount();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for user in ["alice", "bob"] {
        assert_eq!(fs::read_to_string(bench.studio(user).join("thesis")).unwrap(), user);
    }

    power_off(&bench.engine()).unwrap();
    power_on(&bench.engine()).unwrap();
    fs::remove_file(device_link(&bench.root().join("dev/by-id"), &alice)).unwrap();
    let error = error(remount());
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains(alice.as_str()), "{error:?}");
    assert!(bench.studio("bob").join("thesis").exists(), "one failure holds up nothing else");
}

/// Runs as another user than root, with a copy of the agent that this user may run.
fn as_plain_user(bench: &Bench, command: &[&str]) -> Output {
    let mut command = if rustix::process::geteuid().is_root() {
        let copy = bench.dir.path().join("dh-agent");
        if !copy.exists() {
            fs::copy(agent(), &copy).unwrap();
        }
        give_away(bench.dir.path());
        let mut agent = bench.agent(&copy, command);
        agent.uid(NOBODY).gid(NOBODY);
        agent
    } else {
        bench.agent(agent(), command)
    };
    command.output().unwrap()
}

fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap().flatten().filter(|entry| !entry.path().is_symlink()) {
            give_away(&entry.path());
        }
    }
}

#[test]
fn without_root_a_directory_studio_mounts_and_names_its_holders() {
    let bench = Bench::new();
    let volume = bench.attached(&bench.directories(), "alice", 'f');
    let mount = [
        "mount",
        "--volume",
        volume.as_str(),
        "--epoch",
        "1",
        "--user",
        "alice",
        "--size-gb",
        "1",
        "--device",
        "/dev/sdf",
    ];
    for _ in 0..2 {
        let reply = reply(as_plain_user(&bench, &mount));
        assert_eq!((reply.formatted, reply.grown), (false, false));
        assert_eq!(Path::new(&reply.mount_point), bench.studio("alice"));
    }
    fs::write(bench.studio("alice").join("thesis"), "six years of work").unwrap();

    let mut sleep = Command::new("sleep");
    sleep.arg("600").current_dir(bench.studio("alice"));
    if rustix::process::geteuid().is_root() {
        sleep.uid(NOBODY).gid(NOBODY);
    }
    let sleeping = Running(sleep.spawn().unwrap());
    let unmount = ["unmount", "--volume", volume.as_str(), "--user", "alice"];
    let refusal = error(as_plain_user(&bench, &unmount));
    assert_eq!(refusal.kind, ErrorKind::Conflict);
    assert!(refusal.message.contains(&format!("open files: sleep (pid {})", sleeping.0.id())), "{refusal:?}");
    assert!(refusal.hint.unwrap().contains("dh engine shell box"));
    sleeping.kill_9();
    for _ in 0..2 {
        let output = as_plain_user(&bench, &unmount);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!bench.studio("alice").exists());
    let volumes = bench.dir.path().join("volumes");
    assert!(volumes.join(volume.as_str()).join("files/thesis").exists());
}

#[test]
fn without_root_an_image_studio_is_refused_in_a_sentence() {
    if !images() {
        return;
    }
    let bench = Bench::new();
    let volume = bench.attached(&bench.images(Filesystem::Ext4), "alice", 'f');
    let mount = [
        "mount",
        "--volume",
        volume.as_str(),
        "--epoch",
        "1",
        "--user",
        "alice",
        "--size-gb",
        "1",
        "--device",
        "/dev/sdf",
    ];
    let refusal = error(as_plain_user(&bench, &mount));
    assert_eq!(refusal.kind, ErrorKind::Denied, "{refusal:?}");
    assert!(refusal.hint.unwrap().contains("root"));
    assert!(mountinfo::mounted_at(&bench.studio("alice")).unwrap().is_none());
}

#[test]
fn wrong_arguments_and_a_missing_configuration_are_told_as_errors() {
    let bench = Bench::new();
    let usage = bench.agent(agent(), &["mount", "--device", "/dev/sda"]).output().unwrap();
    assert_eq!(error(usage).kind, ErrorKind::InvalidArgument);
    let mut unmount = bench.unmount(&VolumeId::new("vol-0123456789abcdef0").unwrap(), "alice");
    let missing = error(unmount.env(AGENT_CONFIG_VARIABLE, "/nonexistent/agent.json").output().unwrap());
    assert_eq!(missing.kind, ErrorKind::Config);
    assert!(missing.message.contains("/nonexistent/agent.json"));
    let version = bench.agent(agent(), &["--version"]).output().unwrap();
    assert!(version.status.success() && !version.stdout.is_empty());
}
