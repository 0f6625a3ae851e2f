//! Plain `ssh`, `scp` and `sftp` to an engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dh_core::domain::{Machine, MachineState, StopMode};
use dh_core::ports::{EngineBackend, RunCommand, SshTarget};

use crate::harness::{House, await_that};

/// Returns whether OpenSSH's client and server are here; says so when they are not, and fails where they must be.
pub fn is_installed() -> bool {
    let here = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"].iter().all(|path| Path::new(path).exists());
    assert!(here || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "OpenSSH must be installed in CI");
    if !here {
        println!("SKIPPED: OpenSSH's client or server is not installed");
    }
    here
}

fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

/// Writes a configuration as `dh engine config-ssh` does, and returns its path.
fn write_config(house: &House, name: &str, target: &SshTarget) -> PathBuf {
    let proxy: Vec<String> = target.proxy_command.iter().map(|word| format!("'{word}'")).collect();
    let mut lines = vec![
        format!("Host {name}"),
        format!("HostName {}", target.host_name),
        format!("User {}", target.user),
        format!("ProxyCommand {}", proxy.join(" ")),
    ];
    lines.extend(target.options.iter().map(|(key, value)| format!("{key} {}", quoted(value))));
    let path = house.path().join("ssh_config");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

async fn configured(house: &House, machine: &Machine) -> PathBuf {
    let request = RunCommand {
        machine: machine.id.clone(),
        argv: vec!["dh-agent".into(), "configure-ssh".into()],
        stdin: Vec::new(),
        timeout: Duration::from_secs(20),
    };
    let output = house.backend.run_command(request).await.unwrap();
    assert_eq!((output.exit_code, output.stdout.as_str()), (0, "ready\n"), "{output:?}");
    write_config(house, "work", &house.backend.ssh_target(machine, false).unwrap())
}

fn ssh(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(config).args(["-o", "BatchMode=yes"]).args(arguments).stdin(Stdio::null());
    command
}

/// What a login must do, as whoever this runs as.
pub async fn logs_in_and_copies(house: &House) {
    let machine = house.launch("work").await;
    let config = configured(house, &machine).await;
    let home = house.dir(&machine.id).home().canonicalize().unwrap();

    let script = "pwd; echo $HOME $DH_ENGINE $DH_SESSION; exit 5";
    let output = ssh(&config, &["work", script]).output().unwrap();
    let log = fs::read_to_string(house.dir(&machine.id).disk().join("log/ssh.log")).unwrap_or_default();
    let expected = format!("{0}\n{0} work ssh\n", home.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}\n{log}");
    assert_eq!(output.status.code(), Some(5));

    let marked = house.left(&machine.id);
    assert!(!marked.is_empty(), "the engine's processes are known by their mark");

    fs::write(house.path().join("up"), "carried\n").unwrap();
    let scp = |from: &Path, to: &str| {
        Command::new("scp").arg("-q").arg("-F").arg(&config).arg(from).arg(to).stdin(Stdio::null()).output().unwrap()
    };
    let output = scp(&house.path().join("up"), "work:copied");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(home.join("copied")).unwrap(), "carried\n");
    let down = house.path().join("down");
    let output = scp(Path::new("work:copied"), down.to_str().unwrap());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(down).unwrap(), "carried\n");

    // What a login leaves running ends with the engine.
    let begin = "nohup setsid sleep 1000 > /dev/null 2>&1 < /dev/null & echo $! > sleeper";
    assert!(ssh(&config, &["work", begin]).status().unwrap().success());
    let sleeper: i32 = fs::read_to_string(home.join("sleeper")).unwrap().trim().parse().unwrap();
    assert!(crate::harness::is_alive(sleeper));
    house.backend.stop_machine(&machine.id, StopMode::Stop).await.unwrap();
    house.await_state(&machine.id, MachineState::Stopped).await;
    assert!(!crate::harness::is_alive(sleeper));

    let output = ssh(&config, &["work", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("dh engine start"), "{output:?}");
}

#[tokio::test]
async fn ssh_and_scp_reach_the_engines_home() {
    if is_installed() {
        logs_in_and_copies(&House::new()).await;
    }
}

#[tokio::test]
async fn a_login_on_a_terminal_is_a_login_shell_and_ends_with_its_client() {
    if !is_installed() {
        return;
    }
    let house = House::new();
    let machine = house.launch("work").await;
    let config = configured(&house, &machine).await;
    let home = house.dir(&machine.id).home();
    fs::write(home.join(".profile"), "echo $$ > shell; tty > tty\n").unwrap();
    fs::write(home.join(".bash_profile"), ". ./.profile\n").unwrap();
    let mut child = ssh(&config, &["-tt", "work"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    await_that("the shell", || home.join("tty").exists());
    await_that("a terminal", || fs::read_to_string(home.join("tty")).unwrap().starts_with("/dev/pts/"));
    let shell: i32 = fs::read_to_string(home.join("shell")).unwrap().trim().parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    await_that("the shell ends", || !crate::harness::is_alive(shell));
}
