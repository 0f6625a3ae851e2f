//! The container sensor against a real podman and its service.
//!
//! A test program of its own: what podman leaves running descends from it, and would be in other tests' scope.

#[allow(dead_code)]
#[path = "sensors/support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dh_core::domain::{Activity, MachineId, Reading};
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{DockerSensor, Sweep};
use tempfile::TempDir;

use self::support::{context, lines, until};

/// What podman needs in a place without systemd, cgroup delegation and network devices.
const CONFIG: &str = r#"[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// A podman whose images, containers and socket are all the test's own. They end with it.
struct Podman {
    dir: TempDir,
    service: Option<Child>,
}

impl Podman {
    fn new() -> Option<Self> {
        let missing = ["podman", "runc"].into_iter().find(|program| {
            !["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
        });
        if let Some(program) = missing {
            assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
            eprintln!("skipped: {program} is not installed");
            return None;
        }
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: containers of the test's own take root");
            return None;
        }
        let podman = Self { dir: tempfile::tempdir().unwrap(), service: None };
        std::fs::create_dir_all(podman.path("run/podman")).unwrap();
        std::fs::create_dir_all(podman.path("empty/usr")).unwrap();
        std::fs::write(podman.path("containers.conf"), CONFIG).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(podman.path("empty")).arg("-cf").arg(podman.path("image.tar")).arg(".");
        assert!(tar.status().unwrap().success());
        podman.run(&["import", "-q", podman.path("image.tar").to_str().unwrap(), "test"]);
        Some(podman)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        for (option, below) in [("--root", "storage"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.path(below));
        }
        command.args(["--storage-driver", "vfs"]).env("CONTAINERS_CONF", self.path("containers.conf"));
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) {
        let output = self.command().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a container that does nothing, with this machine's own programs.
    fn start(&self, name: &str, options: &[&str]) {
        let mut arguments = vec!["run", "-d", "--name", name];
        let shared: Vec<String> = ["/usr", "/bin", "/lib", "/lib64"]
            .into_iter()
            .filter(|dir| Path::new(dir).exists())
            .map(|dir| format!("{dir}:{dir}:ro"))
            .collect();
        arguments.extend(shared.iter().flat_map(|volume| ["-v", volume]));
        arguments.extend(options);
        arguments.extend(["test", "/usr/bin/sleep", "600"]);
        self.run(&arguments);
    }

    fn serve(&mut self) {
        let socket = format!("unix://{}", self.path("run/podman/podman.sock").display());
        self.service = Some(self.command().args(["system", "service", "-t", "0", &socket]).spawn().unwrap());
    }

    fn stop_serving(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.stop_serving();
        let _ = self.command().args(["rm", "-f", "-a", "-t", "0"]).stdout(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_real_container_holds_until_it_ends() {
    let Some(mut podman) = Podman::new() else { return };
    // The test stands for the supervisor of an engine: what podman leaves running comes to it.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).unwrap();
    let machine = MachineId::new("i-0123456789abcdef0").unwrap();
    let scope = Scope::Descendants { of: std::process::id(), root: podman.dir.path().into(), machine };
    let host = Arc::new(ProcHost::new(scope, podman.path("coffee")));
    let sweep = Sweep::new(vec![Arc::new(DockerSensor)]);
    let look = async || -> Reading { sweep.run(&context(host.clone())).await.remove(0) };

    let reading = look().await;
    assert_eq!(reading.reason, "No workload containers", "{reading:?}");
    podman.serve();
    podman.start("editor", &["--label", "devcontainer.local_folder=/home/alice/project"]);
    let reading = until("the editor's container", look, |reading| !lines(reading, "ignored").is_empty()).await;
    assert_eq!((reading.activity, lines(&reading, "ignored")), (Activity::Idle, vec!["editor (dev-container)".into()]));

    podman.start("training", &[]);
    let holds = |line: &'static str| move |reading: &Reading| lines(reading, "containers") == [line];
    let reading = until("the training", look, holds("training (localhost/test:latest)")).await;
    assert_eq!((reading.reason.as_str(), reading.activity), ("1 workload container(s)", Activity::Active));

    podman.run(&["rm", "-f", "-t", "0", "editor"]);
    podman.stop_serving();
    until("the training without its service", look, holds("training (held by conmon)")).await;

    podman.run(&["rm", "-f", "-t", "0", "training"]);
    until("its end", look, |reading| reading.activity == Activity::Idle).await;
}
