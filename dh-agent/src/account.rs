//! Who runs this process, as the machine's list of users has it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A user's name and shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub shell: String,
}

impl Account {
    /// Returns the user that this process runs as. One without a usable shell gets `/bin/sh`.
    pub fn current() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let listed = shell_of(uid, &passwd).filter(|shell| Path::new(shell).is_file());
        Self { name: dh_core::backend::local::login_name(), shell: listed.unwrap_or_else(|| "/bin/sh".into()) }
    }
}

/// Returns the login shell of the user that this process runs as, where it is one that lets nobody in: OpenSSH's server
/// starts everything through it.
pub fn closed_login_shell() -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    closed_shell_of(rustix::process::getuid().as_raw(), &passwd)
}

fn closed_shell_of(uid: u32, passwd: &str) -> Option<String> {
    let runs = |shell: &str| {
        std::fs::metadata(shell).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    // Without any, the server takes /bin/sh.
    listed_shell(uid, passwd).filter(|shell| !shell.is_empty() && (is_closed(shell) || !runs(shell)))
}

fn shell_of(uid: u32, passwd: &str) -> Option<String> {
    listed_shell(uid, passwd).filter(|shell| !shell.is_empty() && !is_closed(shell))
}

fn listed_shell(uid: u32, passwd: &str) -> Option<String> {
    let mut fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    Some(fields.find(|fields| fields.get(2) == Some(&uid.to_string().as_str()))?.get(6)?.to_string())
}

fn is_closed(shell: &str) -> bool {
    ["nologin", "false", "sync"].iter().any(|name| shell.ends_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_lets_nobody_in_is_none() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\nx:x:7:7::/:\n";
        assert_eq!(shell_of(0, passwd).as_deref(), Some("/bin/bash"));
        assert_eq!((shell_of(65534, passwd), shell_of(7, passwd), shell_of(1, passwd)), (None, None, None));
    }

    #[test]
    fn the_ssh_server_gets_nowhere_with_a_shell_that_is_closed_or_missing() {
        let passwd = "a:x:1:1::/:/bin/sh\nb:x:2:2::/:/usr/sbin/nologin\nc:x:3:3::/:/bin/false\nd:x:4:4::/:/no/such\ne:x:5:5::/:\n";
        let closed = [1, 2, 3, 4, 5, 6].map(|uid| closed_shell_of(uid, passwd));
        let closed = closed.each_ref().map(Option::as_deref);
        assert_eq!(closed, [None, Some("/usr/sbin/nologin"), Some("/bin/false"), Some("/no/such"), None, None]);
    }
}
