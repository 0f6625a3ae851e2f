//! How dh logs in to its own engines by SSH: one key pair, and what goes into a `Host` entry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::layout::{EngineDir, client_key};
use super::machine::random_hex;
use super::map::io_error;
use crate::domain::Result;
use crate::ports::SshTarget;

/// Returns the public keys that may log in, making the pair when there is none; nothing where `ssh-keygen` is missing.
///
/// # Errors
/// `Storage` when the key can't be written.
pub fn authorized_keys(data: &Path) -> Result<Vec<String>> {
    let private = client_key(data);
    let (public, home) = (private.with_extension("pub"), private.parent().unwrap_or(data));
    if !home.exists() {
        make_pair(data, home)?;
    }
    match fs::read_to_string(&public) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io_error("cannot read", &public, source)),
    }
}

/// Makes the pair in a directory of its own and renames that, so that two processes never mix their halves.
fn make_pair(data: &Path, home: &Path) -> Result<()> {
    let new = data.join(format!(".ssh-{}", random_hex(8)?));
    super::backend::make_private_dir(&new)?;
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "dh", "-f"])
        .arg(new.join(client_key(Path::new("")).file_name().unwrap_or_default()))
        .stdin(Stdio::null())
        .output();
    match made {
        Ok(output) if output.status.success() => {
            // Where another process was quicker, its pair stays.
            let _ = fs::rename(&new, home);
        }
        Ok(output) => {
            tracing::warn!(stderr = %String::from_utf8_lossy(&output.stderr), "ssh-keygen failed; SSH stays off");
        }
        Err(error) => tracing::info!(%error, "there is no ssh-keygen; SSH stays off"),
    }
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("cannot remove", &new, error)),
        _ => Ok(()),
    }
}

/// Returns the `Host` entry's content for a machine.
pub fn target(agent: &Path, dir: &EngineDir, id: &str, login: &str) -> SshTarget {
    let yes = || "yes".to_owned();
    let path = |path: PathBuf| escape(&path);
    SshTarget {
        host_name: id.to_owned(),
        user: login.to_owned(),
        proxy_command: vec![escape(agent), "session".into(), "--dir".into(), escape(dir.path()), "--ssh".into()],
        options: vec![
            ("IdentityFile".into(), path(client_key(dir.data()))),
            ("IdentitiesOnly".into(), yes()),
            ("UserKnownHostsFile".into(), path(dir.known_hosts())),
            ("GlobalKnownHostsFile".into(), "/dev/null".into()),
            ("StrictHostKeyChecking".into(), yes()),
            ("UpdateHostKeys".into(), "no".into()),
            ("CheckHostIP".into(), "no".into()),
        ],
    }
}

/// SSH expands `%` in all of these.
fn escape(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

/// Returns the name of the user that runs this process, whom the engines' SSH server knows.
pub fn login_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(uid, &passwd).or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| uid.to_string())
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MachineId;

    #[test]
    fn the_user_is_looked_up_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("alice"));
        assert_eq!(name_of(1, passwd), None);
    }

    #[test]
    fn the_host_entry_checks_the_host_key_and_escapes_percent_signs() {
        let id = MachineId::new("i-0123456789abcdef0").unwrap();
        let dir = EngineDir::of(Path::new("/50%/data"), &id);
        let target = target(Path::new("/bin/dh-agent"), &dir, id.as_str(), "alice");
        assert_eq!(target.proxy_command[3], "/50%%/data/engines/i-0123456789abcdef0");
        assert!(target.options.contains(&("StrictHostKeyChecking".into(), "yes".into())));
        assert!(target.options.contains(&("IdentityFile".into(), "/50%%/data/ssh/id_ed25519".into())));
    }

    #[test]
    fn the_key_pair_is_made_once() {
        let data = tempfile::tempdir().unwrap();
        let first = authorized_keys(data.path()).unwrap();
        if first.is_empty() {
            eprintln!("skipped: there is no ssh-keygen here");
            return;
        }
        assert!(first[0].starts_with("ssh-ed25519 "));
        assert_eq!(authorized_keys(data.path()).unwrap(), first);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
    }
}
