//! Where output goes: results to standard output, everything said on the way there to standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dh_core::connect::variables;
use dh_core::wire::view::{Body, Document};

use crate::cli::{Format, When};
use crate::render::Paint;

/// Both standard streams, and how to write on them.
pub struct Screen {
    format: Format,
    out: Stream,
    err: Stream,
}

struct Stream {
    writer: Mutex<Box<dyn Write + Send>>,
    paint: Paint,
    /// The terminal's width; `None` where it is no terminal.
    columns: Option<usize>,
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut writer = self.lock();
        writer.write_all(text.as_bytes())?;
        writer.flush()
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("format", &self.format).finish_non_exhaustive()
    }
}

fn columns_of(fd: impl rustix::fd::AsFd) -> Option<usize> {
    // A terminal that does not know its width says 0.
    rustix::termios::tcgetwinsize(fd).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

impl Screen {
    /// Takes the process's own streams.
    pub fn of_process(format: Format, color: When) -> Self {
        let dumb = variables::TERM.get().is_some_and(|term| term == "dumb");
        let paint = |terminal: bool| {
            Paint::new(match color {
                When::Always => true,
                When::Never => false,
                When::Auto => terminal && !dumb && variables::NO_COLOR.get().is_none(),
            })
        };
        let (out, err) = (io::stdout(), io::stderr());
        let (out_terminal, err_terminal) = (out.is_terminal(), err.is_terminal() && !dumb);
        Self {
            format,
            out: Stream {
                paint: paint(out_terminal),
                columns: out_terminal.then(|| columns_of(&out).unwrap_or(80)),
                writer: Mutex::new(Box::new(out)),
            },
            err: Stream {
                paint: paint(err_terminal),
                columns: err_terminal.then(|| columns_of(&err).unwrap_or(80)),
                writer: Mutex::new(Box::new(err)),
            },
        }
    }

    /// Makes a screen on other writers: for tests.
    #[cfg(test)]
    pub fn on(
        format: Format,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        color: bool,
        columns: Option<usize>,
    ) -> Self {
        let stream = |writer| Stream { writer: Mutex::new(writer), paint: Paint::new(color), columns };
        Self { format, out: stream(out), err: stream(err) }
    }

    /// Returns how results are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns how results are coloured.
    pub fn paint(&self) -> Paint {
        self.out.paint
    }

    /// Returns the width that results must fit into, on a terminal.
    pub fn columns(&self) -> Option<usize> {
        self.out.columns
    }

    /// Returns whether talk goes to a terminal that can draw.
    pub fn talks_to_terminal(&self) -> bool {
        self.err.columns.is_some()
    }

    /// Returns how talk is coloured.
    pub fn talk_paint(&self) -> Paint {
        self.err.paint
    }

    /// Says something on the way, as one or more lines. Nobody may be listening; that is no failure.
    pub fn say(&self, text: &str) {
        let _ = self.err.write(&format!("{text}\n"));
    }

    /// Asks something, without a line break.
    pub fn ask(&self, text: &str) {
        let _ = self.err.write(text);
    }

    /// Writes lines of a result for people. Programs get [`Screen::document`] instead.
    pub fn result(&self, text: &str) -> io::Result<()> {
        match self.format {
            Format::Table => self.raw(&format!("{text}\n")),
            Format::Json | Format::Jsonl => Ok(()),
        }
    }

    /// Writes a result for programs. People get [`Screen::result`] instead.
    pub fn document(&self, body: impl FnOnce() -> Body) -> io::Result<()> {
        match self.format {
            Format::Table => Ok(()),
            Format::Json => self.raw(&format!("{}\n", to_json(&Document::from(body()), true))),
            Format::Jsonl => split(body()).into_iter().try_for_each(|body| self.line(body)),
        }
    }

    /// Writes one line of JSON.
    pub fn line(&self, body: Body) -> io::Result<()> {
        self.raw(&format!("{}\n", to_json(&Document::from(body), false)))
    }

    /// Writes to standard output as it is.
    pub fn raw(&self, text: &str) -> io::Result<()> {
        self.out.write(text)
    }
}

fn to_json(document: &Document, pretty: bool) -> String {
    let text = if pretty { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
    text.expect("views have string keys only")
}

/// Takes a list apart: in `jsonl`, each of its members is a line.
fn split(body: Body) -> Vec<Body> {
    match body {
        Body::Engines { engines, .. } => {
            engines.into_iter().map(|engine| Body::Engine { engine: Box::new(engine) }).collect()
        }
        Body::Studios { studios, .. } => {
            studios.into_iter().map(|studio| Body::Studio { studio: Box::new(studio) }).collect()
        }
        Body::Operations { operations, .. } => operations
            .into_iter()
            .map(|operation| Body::Operation { operation: Box::new(operation), engine: None, studio: None })
            .collect(),
        Body::Checks { checks } => checks.into_iter().map(|check| Body::Checks { checks: vec![check] }).collect(),
        other => vec![other],
    }
}
