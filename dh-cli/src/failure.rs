//! How a command ends when it does not end well.

use std::io;

use dh_core::domain::{Error, ErrorKind, Operation, OperationId};
use dh_core::wire::view;

use crate::cli::Format;
use crate::render::{self, sentence};
use crate::screen::Screen;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// Something went wrong.
    Error(Error),
    /// An operation failed; the lines tell where.
    Operation {
        /// What failed, in a word or two: `Attachment failed`.
        title: String,
        /// Why.
        error: Error,
        /// Where, as lines for people.
        place: Vec<String>,
        /// Which.
        id: OperationId,
    },
    /// Ctrl-C while an operation ran; it is paused.
    Interrupted(Box<Operation>),
    /// The answer was no.
    Declined,
    /// `dh doctor` has told already what is wrong.
    Unhealthy,
    /// Whoever read our output has gone.
    NobodyReads,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Error(
                Error::new(ErrorKind::Storage, "cannot write the output")
                    .with_hint("look at where the output goes: is that disk full?")
                    .with_source(error),
            ),
        }
    }
}

impl Failure {
    /// Returns the process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Error(error) | Self::Operation { error, .. } => error.kind().exit_code(),
            Self::Interrupted(_) => ErrorKind::Interrupted.exit_code(),
            Self::Declined | Self::Unhealthy => 1,
            Self::NobodyReads => 0,
        }
    }

    /// Tells it: to people on standard error, to programs on standard output as well.
    pub fn report(&self, screen: &Screen) {
        let paint = screen.talk_paint();
        match self {
            Self::Error(error) => {
                screen.say(&render::error(error, paint));
                self.document(
                    screen,
                    error,
                    error.context().iter().find(|(key, _)| *key == "operation").map(|(_, id)| id.clone()),
                );
            }
            Self::Operation { title, error, place, id } => {
                let mut lines = vec![paint.red(&format!("✗ {title}: {}", error.full_message()))];
                if !place.is_empty() {
                    lines.push(String::new());
                    lines.extend(place.iter().cloned());
                }
                if let Some(hint) = error.hint() {
                    lines.extend([String::new(), sentence(hint)]);
                }
                screen.say(&lines.join("\n"));
                self.document(screen, error, Some(id.to_string()));
            }
            Self::Interrupted(operation) => {
                let id = &operation.id;
                screen.say(&format!(
                    "\nInterrupted. {} is paused and can be resumed.\n  Go on:  dh ops resume {id}\n  Undo:   dh ops cancel {id}",
                    sentence(&render::what(operation))
                ));
                let error = Error::new(ErrorKind::Interrupted, format!("{} is paused", render::what(operation)))
                    .with_hint(format!("go on with: dh ops resume {id}; undo with: dh ops cancel {id}"));
                self.document(screen, &error, Some(id.to_string()));
            }
            Self::Declined => screen.say("Aborted; nothing was done."),
            Self::Unhealthy | Self::NobodyReads => {}
        }
    }

    fn document(&self, screen: &Screen, error: &Error, operation: Option<String>) {
        if screen.format() != Format::Table {
            let failure = view::Failure { operation, ..view::Failure::from(error) };
            // The exit code tells it too, should nobody read.
            let _ = screen.document(|| view::Body::Error { error: failure });
        }
    }
}
