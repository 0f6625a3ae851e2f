//! The SSH sensor against a real OpenSSH server on loopback.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dh_core::domain::{Activity, MachineId, Reading};
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{SshSensor, Sweep};
use tempfile::TempDir;

use crate::support::{context, lines, until};

const SERVER: &str = "/usr/sbin/sshd";

/// A server of the test's own, with keys of its own, and clients of it. All end with it.
struct Sshd {
    dir: TempDir,
    server: Option<Child>,
    clients: Vec<Child>,
    port: u16,
    user: String,
}

impl Sshd {
    /// Makes keys and configuration; `None` where OpenSSH is not installed, which only CI may not have.
    fn configured() -> Option<Self> {
        if !Path::new(SERVER).exists() {
            assert!(std::env::var_os("CI").is_none(), "openssh-server is not installed");
            eprintln!("skipped: openssh-server is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]).status();
            assert!(made.unwrap().success());
        }
        std::fs::copy(path("client.pub"), path("authorized")).unwrap();
        std::fs::set_permissions(path("authorized"), std::fs::Permissions::from_mode(0o600)).unwrap();
        // Root's server wants its empty folder; whoever starts it at boot makes it.
        if rustix::process::getuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PrintMotd no\nPrintLastLog no\nSubsystem sftp internal-sftp\n",
            path("host"),
            path("authorized")
        );
        std::fs::write(path("config"), config).unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned();
        Some(Self { dir, server: None, clients: Vec::new(), port, user })
    }

    fn running() -> Option<Self> {
        let mut sshd = Self::configured()?;
        let log = std::fs::File::create(sshd.path("log")).unwrap();
        let server = Command::new(SERVER)
            .args(["-D", "-e", "-f"])
            .arg(sshd.path("config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        sshd.server = Some(server);
        Some(sshd)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a client; it stays until its input is closed or the test ends it.
    fn connect(&mut self, arguments: &[&str], command: &[&str]) {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectionAttempts=20", "-i"]);
        ssh.arg(self.path("client")).args(["-p", &self.port.to_string()]).args(arguments);
        ssh.arg(format!("{}@127.0.0.1", self.user)).args(command);
        ssh.env_remove("SSH_AUTH_SOCK").stdin(Stdio::piped()).stdout(Stdio::null());
        self.clients.push(ssh.spawn().unwrap());
    }

    fn hang_up(&mut self) {
        for mut client in self.clients.drain(..) {
            let _ = client.kill();
            let _ = client.wait();
        }
    }

    /// Returns what the sensor says of whatever descends from a process.
    fn engine(&self, of: u32) -> impl AsyncFn() -> Reading + use<> {
        let machine = MachineId::new("i-0123456789abcdef0").unwrap();
        let scope = Scope::Descendants { of, root: self.dir.path().into(), machine };
        let host = Arc::new(ProcHost::new(scope, self.path("coffee")));
        let sweep = Sweep::new(vec![Arc::new(SshSensor)]);
        async move || sweep.run(&context(host.clone())).await.remove(0)
    }

    fn server(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.hang_up();
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// Returns whether a server of this user can hand out terminals. One that is not root's needs them to belong to the group
/// `tty` from the start, as they do wherever an init system has mounted /dev/pts.
fn terminals_work() -> bool {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let works = rustix::process::getuid().is_root()
        || mounts.lines().any(|line| line.contains(" /dev/pts ") && line.contains("gid="));
    if !works {
        eprintln!("skipped: /dev/pts is mounted without gid=, so that only root's sshd can hand out terminals");
    }
    works
}

/// Connects, sees the sensor read active with this line, hangs up, and sees it read idle.
async fn holds_while_connected(arguments: &[&str], command: &[&str], line: &str) {
    let Some(mut sshd) = Sshd::running() else { return };
    let look = sshd.engine(sshd.server());
    assert_eq!(look().await.activity, Activity::Idle, "a server without clients");
    sshd.connect(arguments, command);
    let wanted = format!("{} {line}", sshd.user);
    let reading = until(&wanted, &look, |reading| {
        reading.is_active() && lines(reading, "sessions").iter().any(|session| session.starts_with(&wanted))
    })
    .await;
    assert_eq!(reading.reason, "1 SSH session(s)", "{reading:?}");
    assert!(lines(&reading, "sessions")[0].ends_with("(127.0.0.1)"), "{reading:?}");
    sshd.hang_up();
    until("its end", &look, |reading| reading.activity == Activity::Idle).await;
}

#[tokio::test]
async fn a_session_on_a_terminal_holds_until_it_ends() {
    if terminals_work() {
        holds_while_connected(&["-tt"], &["cat"], "pts/").await;
    }
}

#[tokio::test]
async fn a_session_without_a_terminal_holds_until_it_ends() {
    holds_while_connected(&["-T"], &["cat"], "notty").await;
}

#[tokio::test]
async fn a_port_forward_without_a_session_holds_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let forward = format!("{}:127.0.0.1:9", dir.path().join("forward").display());
    holds_while_connected(&["-N", "-L", &forward], &[], "forward").await;
}

#[tokio::test]
async fn a_copy_under_way_holds() {
    holds_while_connected(&["-s"], &["sftp"], "notty").await;
}

#[tokio::test]
async fn two_sessions_are_two() {
    if !terminals_work() {
        return;
    }
    let Some(mut sshd) = Sshd::running() else { return };
    let look = sshd.engine(sshd.server());
    sshd.connect(&["-tt"], &["cat"]);
    sshd.connect(&["-T"], &["cat"]);
    until("both", &look, |reading| reading.reason == "2 SSH session(s)").await;
}

#[tokio::test]
async fn somebody_who_has_not_logged_in_is_nobody() {
    let Some(sshd) = Sshd::running() else { return };
    let look = sshd.engine(sshd.server());
    let scanner = until(
        "the server",
        async || std::net::TcpStream::connect(("127.0.0.1", sshd.port)).ok(),
        |connected| connected.is_some(),
    )
    .await;
    // Its greeting has come, so that a process of its own looks after this stranger.
    let mut greeting = [0; 4];
    std::io::Read::read_exact(&mut scanner.as_ref().unwrap(), &mut greeting).unwrap();
    assert_eq!((&greeting, look().await.reason.as_str()), (b"SSH-", "No active SSH sessions"));
}

/// As the local backend lets people in: a server without a port, on a pipe, begun for this one connection.
#[tokio::test]
async fn a_session_through_a_server_on_a_pipe_holds_until_it_ends() {
    let Some(mut sshd) = Sshd::configured() else { return };
    let proxy = format!("ProxyCommand={SERVER} -i -e -f {} 2>/dev/null", sshd.path("config").display());
    for (arguments, line) in [(["-T", "-o", &proxy], "notty"), (["-tt", "-o", &proxy], "pts/")] {
        if line == "pts/" && !terminals_work() {
            continue;
        }
        sshd.connect(&arguments, &["cat"]);
        let look = sshd.engine(sshd.clients[0].id());
        let wanted = format!("{} {line}", sshd.user);
        let session =
            |reading: &Reading| lines(reading, "sessions").into_iter().find(|session| session.starts_with(&wanted));
        let seen = session(&until(&wanted, &look, |reading| session(reading).is_some()).await).unwrap();
        // Cut off from its client, the server is nobody's child for a moment; other tests have sessions meanwhile.
        let everywhere = sshd.engine(std::process::id());
        sshd.hang_up();
        let is_over =
            |reading: &Reading| reading.activity != Activity::Unknown && !lines(reading, "sessions").contains(&seen);
        until("its end", &everywhere, is_over).await;
    }
}
