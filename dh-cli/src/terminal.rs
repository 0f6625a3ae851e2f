//! Asking the person at the terminal.

use std::fmt::Debug;
use std::io::{self, BufRead, IsTerminal};

use dh_core::domain::{Error, ErrorKind};

use crate::failure::Failure;
use crate::screen::Screen;

/// Whoever may answer questions.
pub trait Terminal: Debug + Send + Sync {
    /// Returns whether somebody can see a question and answer it.
    fn is_interactive(&self) -> bool;

    /// Reads one line. At the end of input it is empty.
    fn read_line(&self) -> io::Result<String>;
}

/// The process's own terminal.
#[derive(Debug)]
pub struct OwnTerminal;

impl Terminal for OwnTerminal {
    fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn read_line(&self) -> io::Result<String> {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line)
    }
}

/// Asks a question that `y` or `yes` agrees to and everything else declines.
///
/// # Errors
/// `Declined`; `InvalidArgument` where nobody can answer, naming the option that answers beforehand.
pub fn confirm(screen: &Screen, terminal: &dyn Terminal, question: &str, option: &str) -> Result<(), Failure> {
    if !terminal.is_interactive() {
        let what = question.lines().last().unwrap_or(question).trim_end_matches('?');
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("this needs a confirmation, and there is no terminal to ask on: {what}"),
        )
        .with_hint(format!("nothing was done; to agree beforehand, run it again with {option}"))
        .into());
    }
    screen.ask(&format!("{question} [y/N]: "));
    let answer = terminal.read_line()?;
    if !answer.ends_with('\n') {
        screen.say("");
    }
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Declined),
    }
}
