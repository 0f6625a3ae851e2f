//! Who runs this process, as the machine's list of users has it.

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

fn shell_of(uid: u32, passwd: &str) -> Option<String> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let shell = fields.into_iter().find(|fields| fields.get(2) == Some(&uid.to_string().as_str()))?.get(6)?.to_string();
    let closed = shell.is_empty() || ["nologin", "false", "sync"].iter().any(|name| shell.ends_with(name));
    (!closed).then_some(shell)
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
}
