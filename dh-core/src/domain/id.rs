//! Names and ids, checked where they come in.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind, Result};

/// The longest name, in characters.
pub const NAME_MAX_CHARS: usize = 63;

/// ASCII characters with a meaning to shells, paths, globs, SSH's `Host` patterns or URLs.
const RESERVED: &str = "/\\\"'`*?!,#%$;&|<>(){}[]=:~^";

/// Format characters that emoji are put together with; every other invisible one is refused.
fn is_emoji_joiner(c: char) -> bool {
    matches!(c, '\u{200d}' | '\u{fe0f}')
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        && !is_emoji_joiner(c)
}

fn check_name(what: &str, name: &str, also_reserved: &str) -> Result<()> {
    let refuse = |why: String| {
        Err(Error::new(ErrorKind::InvalidArgument, format!("{what} name {why}")).with_hint(format!(
            "choose a name of 1 to {NAME_MAX_CHARS} letters, digits, '-', '_', '.' or '+' that begins with a letter or digit, such as my-{what}"
        )))
    };
    if name.is_empty() {
        return refuse("is empty".into());
    }
    let chars = name.chars().count();
    if chars > NAME_MAX_CHARS || name.len() > 4 * NAME_MAX_CHARS {
        return refuse(format!("has {chars} characters; at most {NAME_MAX_CHARS} are allowed"));
    }
    if name.starts_with(['-', '.', '+']) {
        return refuse(format!("{name:?} begins with '{}'", &name[..1]));
    }
    match name.chars().find(|&c| {
        c.is_whitespace() || c.is_control() || is_invisible(c) || RESERVED.contains(c) || also_reserved.contains(c)
    }) {
        Some(c) if c.is_whitespace() => refuse(format!("{name:?} has a space in it")),
        Some(c) => refuse(format!("{name:?} has {c:?} in it")),
        None => Ok(()),
    }
}

/// Whether the text has the form of a machine id: `i-` and 8 or 17 hexadecimal digits.
fn looks_like_machine_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|hex| {
        matches!(hex.len(), 8 | 17) && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes the text.
            ///
            /// # Errors
            /// [`ErrorKind::InvalidArgument`] with the rule that the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                let check: fn(&str) -> Result<()> = $check;
                check(&text)?;
                Ok(Self(text))
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
    };
}

fn check_opaque(what: &'static str, text: &str) -> Result<()> {
    if !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidArgument, format!("{text:?} is not {what}")))
}

text_newtype!(
    /// An engine's name: unique among the living engines of an environment, fit for a path, a shell and SSH's `Host`.
    EngineName,
    |text| {
        check_name("engine", text, "@")?;
        if looks_like_machine_id(text) {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("engine name {text:?} has the form of a machine id"))
                .with_hint("choose a name that does not begin with 'i-' and hexadecimal digits"));
        }
        Ok(())
    }
);
text_newtype!(
    /// A person, as the operating system or the cloud account names them.
    UserName,
    |text| check_name("user", text, "")
);
text_newtype!(
    /// An environment: a backend, an account and defaults under one name (`dev`, `sand`, `prod`).
    EnvironmentName,
    |text| check_name("environment", text, "@")
);
text_newtype!(
    /// A machine's id, given by the backend (`i-` and hexadecimal digits on EC2 and on the local backend).
    MachineId,
    |text| check_opaque("a machine id", text)
);
text_newtype!(
    /// A volume's id, given by the backend (`vol-` and hexadecimal digits).
    VolumeId,
    |text| check_opaque("a volume id", text)
);
text_newtype!(
    /// An operation's id, made by dh (`op-` and 12 hexadecimal digits).
    OperationId,
    |text| check_opaque("an operation id", text)
);

/// Makes a provider call that creates something repeatable: the same key never creates twice. At most 64 ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Derives the key of one step of one operation, the same on every try and in every process.
    pub fn for_step(operation: &OperationId, step: &str) -> Self {
        Self(format!("dh-{operation}-{step}").chars().take(64).collect())
    }

    /// Returns the text that is sent to the provider.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_and_wide_names_are_accepted() {
        for name in ["a", "alice-work", "gpu_2.old", "実験-3", "🚀rocket", "👩\u{200d}🔬lab", &"x".repeat(63)] {
            assert!(EngineName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_break_paths_shells_or_ssh_are_refused_with_a_hint() {
        let long = "x".repeat(300);
        for name in [
            "",
            &long,
            "two words",
            "tab\there",
            "../up",
            "a/b",
            "a\\b",
            "-rf",
            ".hidden",
            "a*",
            "x?y",
            "!x",
            "a,b",
            "nul\0",
            "bell\u{7}",
            "rtl\u{202e}x",
            "zero\u{200b}width",
            "$(id)",
            "a;b",
            "user@host",
            "i-0123456789abcdef0",
            "i-0123abcd",
        ] {
            let error = EngineName::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}");
            assert!(error.hint().is_some(), "{name:?}");
        }
    }

    #[test]
    fn a_user_may_be_an_address() {
        assert!(UserName::new("alice@example.org").is_ok());
        assert!(UserName::new("../root").is_err());
    }

    #[test]
    fn stored_names_are_checked_too() {
        assert!(serde_json::from_str::<EngineName>("\"../x\"").is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_path_component_and_one_shell_word(name in "\\PC{0,80}") {
            if EngineName::new(name.clone()).is_ok() {
                prop_assert_eq!(std::path::Path::new(&name).components().count(), 1);
                prop_assert!(!name.contains(char::is_whitespace));
                prop_assert!(!name.starts_with('-'));
            }
        }
    }

    #[test]
    fn idempotency_keys_fit_the_strictest_provider() {
        let id = OperationId::new("op-0123456789ab").unwrap();
        let key = IdempotencyKey::for_step(&id, &"s".repeat(100));
        assert!(key.as_str().len() <= 64 && key.as_str().is_ascii());
    }
}
