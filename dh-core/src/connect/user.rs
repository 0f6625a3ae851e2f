//! Who is calling.

use std::ffi::OsString;

use super::variables::{self, Variable};
use crate::domain::{Error, ErrorKind, Result, UserName};

/// Returns the caller's name: the one in `DH_USER`, `USER` or `LOGNAME`, else the one the machine knows this user by, else
/// `uid-` and the number. The variables go first because names from a directory service are in no file.
///
/// # Errors
/// `Config` when the name in a variable is not one dh can use.
pub fn current_user() -> Result<UserName> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    user_from(&|variable| variable.get(), &passwd, rustix::process::geteuid().as_raw())
}

fn user_from(get: &dyn Fn(&Variable) -> Option<OsString>, passwd: &str, uid: u32) -> Result<UserName> {
    for variable in [variables::DH_USER, variables::USER, variables::LOGNAME] {
        if let Some(name) = get(&variable) {
            return UserName::new(name.to_string_lossy()).map_err(|error| {
                Error::new(ErrorKind::Config, format!("{} is set to a name that cannot be used", variable.name))
                    .with_hint("set DH_USER to the name that dh should know you by")
                    .with_source(error)
            });
        }
    }
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    match name.map(UserName::new) {
        Some(Ok(name)) => Ok(name),
        _ => UserName::new(format!("uid-{uid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbob:x:1000:1000:Bob,,,:/home/bob:/bin/sh\nbroken\n";

    fn user(set: &[(&str, &str)], uid: u32) -> Result<String> {
        let set = set.to_vec();
        let get = move |variable: &Variable| {
            set.iter().find(|(name, _)| *name == variable.name).map(|(_, value)| OsString::from(value))
        };
        user_from(&get, PASSWD, uid).map(String::from)
    }

    #[test]
    fn variables_go_before_the_machines_list() {
        assert_eq!(user(&[("LOGNAME", "c"), ("USER", "b"), ("DH_USER", "a")], 1000).unwrap(), "a");
        assert_eq!(user(&[("LOGNAME", "c"), ("USER", "b")], 1000).unwrap(), "b");
        assert_eq!(user(&[], 1000).unwrap(), "bob");
        assert_eq!(user(&[], 0).unwrap(), "root");
        assert_eq!(user(&[], 4242).unwrap(), "uid-4242");
    }

    #[test]
    fn a_name_that_is_no_path_component_is_refused() {
        let error = user(&[("DH_USER", "../up")], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("DH_USER") && error.hint().is_some());
    }

    #[test]
    fn this_process_has_a_user() {
        assert!(!current_user().unwrap().as_str().is_empty());
    }
}
