//! The stage `configuring_ssh`: what OpenSSH's server needs to serve one engine, as root or not, without a port.
//!
//! The server runs in its inetd mode, on a connection that the supervisor hands to it. A login lands in the engine's home
//! with the engine's environment, for whatever it runs: shell, command, `scp` or `sftp`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dh_core::backend::local::map::io_error;
use dh_core::backend::local::process::ENGINE_ID_VARIABLE;
use dh_core::backend::local::{EngineDir, login_name};
use dh_core::domain::{Error, ErrorKind, Result};
use dh_core::wire::{AGENT_CONFIG_VARIABLE, AgentConfig};

const HOST_KEY: &str = "ssh_host_ed25519_key";
const CONFIGURATION: &str = "sshd_config";
const KEYS: &str = "authorized_keys";
const LOGIN: &str = "login";

const SERVERS: &[&str] = &["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"];
const SFTP_SERVERS: &[&str] = &[
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/lib/misc/sftp-server",
    "/usr/libexec/sftp-server",
];

/// How the stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    /// Logins work; what is worth knowing.
    Ready(Option<String>),
    /// There is nothing to configure, and why.
    Skipped(String),
}

/// Does the stage by itself, from the configuration the environment names.
pub fn run() -> Result<()> {
    let config = crate::layout::load_config()?;
    match configure(&config)? {
        Configured::Ready(None) => println!("ready"),
        Configured::Ready(Some(note)) => println!("ready: {note}"),
        Configured::Skipped(note) => println!("skipped: {note}"),
    }
    Ok(())
}

/// Writes keys and configuration, and has the server check them. Repeatable; the host key stays.
///
/// # Errors
/// `Storage`; `Failed` when the server refuses its configuration.
pub fn configure(config: &AgentConfig) -> Result<Configured> {
    configure_for(config, crate::account::closed_login_shell())
}

fn configure_for(config: &AgentConfig, closed_shell: Option<String>) -> Result<Configured> {
    let skipped = |why: &str| Ok(Configured::Skipped(why.to_owned()));
    if config.root == Path::new("/") {
        return Ok(Configured::Ready(Some("the machine's own SSH server is used".to_owned())));
    }
    if let Some(shell) = closed_shell {
        return skipped(&format!(
            "the login shell of {} is {shell}, with which OpenSSH's server lets nobody in; 'dh engine shell' and \
             'dh engine exec' work without it",
            login_name()
        ));
    }
    let Some(server) = find(SERVERS) else {
        return skipped("OpenSSH's server is not installed; 'dh engine shell' and 'dh engine exec' work without it");
    };
    if config.authorized_keys.is_empty() {
        return skipped("no key may log in: ssh-keygen was missing when the engine was launched");
    }
    let home = config.root.join("etc/ssh");
    fs::create_dir_all(&home).map_err(|source| io_error("cannot make", &home, source))?;
    if !make_host_key(&home)? {
        return skipped("ssh-keygen is not installed; 'dh engine shell' and 'dh engine exec' work without it");
    }
    let public = home.join(HOST_KEY).with_extension("pub");
    let host_key = fs::read_to_string(&public).map_err(|source| io_error("cannot read", &public, source))?;
    let sftp = find(SFTP_SERVERS);
    write(&home.join("known_hosts"), &format!("{} {}\n", config.machine, host_key.trim()), 0o600)?;
    write(&home.join(KEYS), &(config.authorized_keys.join("\n") + "\n"), 0o600)?;
    write(&home.join(LOGIN), &login_script(config, &std::env::var("PATH").unwrap_or_default()), 0o700)?;
    write(&home.join(CONFIGURATION), &server_configuration(&home, sftp, account_is_locked()), 0o600)?;
    check(server, &home.join(CONFIGURATION))?;
    Ok(Configured::Ready(match sftp {
        Some(_) => None,
        None => Some("sftp-server is not installed: use 'scp -O' to copy files".to_owned()),
    }))
}

/// Returns the command that serves one connection on its standard input and output.
///
/// # Errors
/// `Unsupported` when the engine has no SSH server.
pub fn server_command(dir: &EngineDir) -> Result<Command> {
    let configuration = dir.ssh().join(CONFIGURATION);
    let (Some(server), true) = (find(SERVERS), configuration.exists()) else {
        return Err(Error::new(ErrorKind::Unsupported, "this engine has no SSH server")
            .with_hint("run 'dh engine shell NAME', or install openssh-server and launch the engine anew"));
    };
    check(server, &configuration)?;
    let mut command = Command::new(server);
    command.arg("-i").arg("-f").arg(configuration).arg("-E").arg(dir.disk().join("log/ssh.log"));
    Ok(command)
}

fn find(places: &[&'static str]) -> Option<&'static str> {
    places.iter().copied().find(|place| Path::new(place).is_file())
}

/// Makes the host key once; false where `ssh-keygen` is missing.
fn make_host_key(home: &Path) -> Result<bool> {
    let (key, new) = (home.join(HOST_KEY), home.join("new_host_key"));
    if key.exists() && key.with_extension("pub").exists() {
        return Ok(true);
    }
    for leftover in [new.clone(), new.with_extension("pub")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("cannot remove", &leftover, error));
            }
            _ => {}
        }
    }
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "dh", "-f"])
        .arg(&new)
        .stdin(Stdio::null())
        .output();
    match made {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(refused("ssh-keygen made no host key", &output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(io_error("cannot run", Path::new("ssh-keygen"), source)),
    }
    // The private one last: it is what says that the pair is whole.
    for (from, to) in [(new.with_extension("pub"), key.with_extension("pub")), (new, key)] {
        fs::rename(&from, &to).map_err(|source| io_error("cannot write", &to, source))?;
    }
    Ok(true)
}

fn server_configuration(home: &Path, sftp: Option<&str>, locked: bool) -> String {
    let path = |name: &str| home.join(name).display().to_string();
    let mut lines = vec![
        "# Written by dh-agent whenever the engine is set up; changes are lost.".to_owned(),
        format!("HostKey {}", quoted(&path(HOST_KEY))),
        format!("AuthorizedKeysFile {}", quoted(&path(KEYS).replace('%', "%%"))),
        // The directories above belong to whoever set DH_HOME; only the owner can reach the connection anyway.
        "StrictModes no".to_owned(),
        format!("UsePAM {}", if locked { "yes" } else { "no" }),
        "AuthenticationMethods publickey".to_owned(),
        "PermitRootLogin prohibit-password".to_owned(),
        "PidFile none".to_owned(),
        "PrintMotd no".to_owned(),
        "PrintLastLog no".to_owned(),
        "UseDNS no".to_owned(),
        "AcceptEnv LANG LC_* COLORTERM".to_owned(),
    ];
    lines.extend(sftp.map(|sftp| format!("Subsystem sftp {sftp}")));
    lines.push(format!("ForceCommand {}", shell_quoted(&path(LOGIN))));
    lines.join("\n") + "\n"
}

/// The script that everything a client asks for goes through.
fn login_script(config: &AgentConfig, search_path: &str) -> String {
    let dir = config.root.parent().unwrap_or(Path::new("/"));
    let set = [
        ("HOME", config.root.join("home").display().to_string()),
        ("PATH", search_path.to_owned()),
        ("DH_ENGINE", config.engine.to_string()),
        (ENGINE_ID_VARIABLE, config.machine.to_string()),
        (AGENT_CONFIG_VARIABLE, EngineDir::new(dir).agent_config().display().to_string()),
        ("DH_SESSION", "ssh".to_owned()),
    ];
    let exports: String = set
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("export {name}={}\n", shell_quoted(value)))
        .collect();
    format!(
        "#!/bin/sh\n# Every SSH login of this engine begins here. Written by dh-agent; changes are lost.\n{exports}\
         cd \"$HOME\" || exit 1\n\
         [ -x \"$SHELL\" ] || SHELL=/bin/sh\n\
         if [ -n \"${{SSH_ORIGINAL_COMMAND+set}}\" ]; then exec \"$SHELL\" -c \"$SSH_ORIGINAL_COMMAND\"; fi\n\
         exec \"$SHELL\" -l\n"
    )
}

/// Has the server read its configuration.
///
/// As root it also insists on an empty directory below `/run`, which the system's own SSH service makes whenever it is
/// started; where that service never ran, it is made here.
fn check(server: &str, configuration: &Path) -> Result<()> {
    const MISSING: &str = "Missing privilege separation directory: ";
    let test = || {
        Command::new(server)
            .args(["-t", "-f"])
            .arg(configuration)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| io_error("cannot run", Path::new(server), source))
    };
    let mut output = test()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let missing = said.lines().find_map(|line| line.trim().split_once(MISSING)).map(|(_, path)| PathBuf::from(path));
    if let Some(directory) = missing.filter(|path| path.is_absolute()) {
        fs::create_dir(&directory)
            .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)))
            .or_else(|error| if directory.is_dir() { Ok(()) } else { Err(error) })
            .map_err(|source| io_error("cannot make", &directory, source))?;
        output = test()?;
    }
    if output.status.success() { Ok(()) } else { Err(refused("the SSH server refuses its configuration", &output)) }
}

fn refused(what: &str, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    Error::new(ErrorKind::Failed, format!("{what}: {}", said.trim()))
        .with_hint("run 'dh engine logs NAME --source bootstrap' for the whole of it")
}

/// Without PAM the server turns away accounts whose password begins with `!`, as root's does on some systems.
fn account_is_locked() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    is_locked(&login_name(), &shadow) && Path::new("/etc/pam.d/sshd").exists()
}

fn is_locked(name: &str, shadow: &str) -> bool {
    shadow.lines().any(|line| line.starts_with(&format!("{name}:!")))
}

/// Replaces a file that only its owner may read.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| io_error("cannot write", path, source))
}

/// Quotes a value of the server's configuration.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Quotes a word for a shell.
fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_quotes_spaces_and_percent_signs_stay_one_value() {
        let text = server_configuration(Path::new("/a b/50%/it's"), Some("/usr/lib/sftp-server"), false);
        assert!(text.contains("HostKey \"/a b/50%/it's/ssh_host_ed25519_key\"\n"), "{text}");
        assert!(text.contains("AuthorizedKeysFile \"/a b/50%%/it's/authorized_keys\"\n"), "{text}");
        assert!(text.contains("ForceCommand '/a b/50%/it'\\''s/login'\n"), "{text}");
    }

    #[test]
    fn an_account_whose_shell_lets_nobody_in_skips_the_stage_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let configured = configure_for(&crate::testing::config(root.path()), Some("/usr/sbin/nologin".into())).unwrap();
        let Configured::Skipped(why) = configured else { panic!("{configured:?}") };
        assert!(why.contains("is /usr/sbin/nologin") && why.contains("dh engine shell"), "{why}");
        assert!(!root.path().join("etc/ssh").join(CONFIGURATION).exists());
    }

    #[test]
    fn a_locked_account_is_told_from_one_without_password() {
        let shadow = "root:!:19000::::::\nalice:*:19000::::::\nbob:!$6$x:19000::::::\n";
        assert_eq!(["root", "alice", "bob", "rob"].map(|name| is_locked(name, shadow)), [true, false, true, false]);
    }
}
