//! The one public error: what went wrong, whether a retry helps, whether something may have happened.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The result of everything in dh that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is. The slug, exit code and HTTP status follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's input is not of the accepted form.
    InvalidArgument,
    /// No such engine, studio, operation or environment.
    NotFound,
    /// The name or studio exists already.
    AlreadyExists,
    /// The thing is in a state in which this cannot be done, or somebody else is at it.
    Conflict,
    /// The backend cannot do this at all.
    Unsupported,
    /// The caller is known and may not.
    Denied,
    /// The caller is not known: no credentials, or expired ones.
    Unauthenticated,
    /// A quota or limit of the account or of dh is used up.
    QuotaExceeded,
    /// The provider has no machine of that type now.
    Capacity,
    /// Too many requests.
    Throttled,
    /// It took longer than it may.
    Timeout,
    /// The provider or the store cannot be reached.
    Unavailable,
    /// The disk is full, read-only, or its content damaged.
    Storage,
    /// State written by a newer dh.
    Incompatible,
    /// A configuration file is wrong.
    Config,
    /// A step on the engine failed: set-up script, mount, command.
    Failed,
    /// Ctrl-C or a signal; the operation can be resumed.
    Interrupted,
    /// A bug in dh.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: &'static [ErrorKind] = &[
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::Unsupported,
        Self::Denied,
        Self::Unauthenticated,
        Self::QuotaExceeded,
        Self::Capacity,
        Self::Throttled,
        Self::Timeout,
        Self::Unavailable,
        Self::Storage,
        Self::Incompatible,
        Self::Config,
        Self::Failed,
        Self::Interrupted,
        Self::Internal,
    ];

    /// Returns the stable name used in JSON, logs and by Python.
    pub fn slug(self) -> &'static str {
        self.facts().0
    }

    /// Returns the process exit code of a command that ends with this error.
    pub fn exit_code(self) -> u8 {
        self.facts().1
    }

    /// Returns the HTTP status of a response that carries this error.
    pub fn http_status(self) -> u16 {
        self.facts().2
    }

    fn facts(self) -> (&'static str, u8, u16) {
        match self {
            Self::InvalidArgument => ("invalid_argument", 2, 400),
            Self::NotFound => ("not_found", 3, 404),
            Self::AlreadyExists => ("already_exists", 4, 409),
            Self::Conflict => ("conflict", 5, 409),
            Self::Unsupported => ("unsupported", 6, 501),
            Self::Denied => ("denied", 7, 403),
            Self::Unauthenticated => ("unauthenticated", 8, 401),
            Self::QuotaExceeded => ("quota_exceeded", 9, 429),
            Self::Capacity => ("capacity", 10, 503),
            Self::Throttled => ("throttled", 11, 429),
            Self::Timeout => ("timeout", 12, 504),
            Self::Unavailable => ("unavailable", 13, 503),
            Self::Storage => ("storage", 14, 507),
            Self::Incompatible => ("incompatible", 15, 500),
            Self::Config => ("config", 16, 500),
            Self::Failed => ("failed", 17, 500),
            Self::Interrupted => ("interrupted", 130, 503),
            Self::Internal => ("internal", 70, 500),
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same call fails the same way.
    Never,
    /// The same call may succeed later.
    Later,
    /// It was tried again, and tries are used up.
    Exhausted,
}

/// Whether the failed call may have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing happened.
    None,
    /// It may have happened: look before doing it again.
    Unknown,
}

/// An error of dh. `Display` tells this layer only; walk [`std::error::Error::source`] for the rest.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    retry: Retry,
    effect: Effect,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error that no retry helps and that changed nothing. The message is a lowercase fragment.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retry = match kind {
            ErrorKind::Capacity | ErrorKind::Throttled | ErrorKind::Timeout | ErrorKind::Unavailable => Retry::Later,
            _ => Retry::Never,
        };
        let effect = if kind == ErrorKind::Timeout { Effect::Unknown } else { Effect::None };
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            retry,
            effect,
            context: Vec::new(),
            hint: None,
            source: None,
        }))
    }

    /// Adds what to do next: a sentence that names the next command.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a named fact (`engine`, `operation`, `backend`, `path`).
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds the error beneath.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether a retry can help.
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says whether an effect may have happened.
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message of this layer, without sources.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns what to do next, where dh knows.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns whether a retry can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Returns whether an effect may have happened.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Returns the named facts in the order they were added, innermost first.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// Returns this message and those of all sources, joined by `: `.
    pub fn full_message(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("retry", &self.0.retry)
            .field("effect", &self.0.effect)
            .field("context", &self.0.context)
            .field("hint", &self.0.hint)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// An error as stored with an operation: plain data that outlives the process that met it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredError {
    /// The kind.
    pub kind: ErrorKind,
    /// The whole message, sources included.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<&Error> for StoredError {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.full_message(), hint: error.hint().map(str::to_owned) }
    }
}

impl From<StoredError> for Error {
    fn from(stored: StoredError) -> Self {
        let error = Self::new(stored.kind, stored.message);
        match stored.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_slug_and_exit_code_of_its_own() {
        let slugs: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.slug()).collect();
        let codes: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!((slugs.len(), codes.len()), (ErrorKind::ALL.len(), ErrorKind::ALL.len()));
        assert!(!codes.contains(&0) && !codes.contains(&1), "0 is success and 1 is a panic's or a shell's");
    }

    #[test]
    fn slug_is_the_serialized_name() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.slug());
        }
    }

    #[test]
    fn http_statuses_are_errors() {
        assert!(ErrorKind::ALL.iter().all(|kind| (400..600).contains(&kind.http_status())));
    }

    #[test]
    fn display_leaves_the_source_to_the_reporter() {
        let error = Error::new(ErrorKind::Storage, "cannot write").with_source("disk full");
        assert_eq!(error.to_string(), "cannot write");
        assert_eq!(error.full_message(), "cannot write: disk full");
    }

    #[test]
    fn a_timeout_may_have_happened() {
        assert_eq!(Error::new(ErrorKind::Timeout, "x").effect(), Effect::Unknown);
    }
}
