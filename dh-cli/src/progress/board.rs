//! What is drawn of an operation: pure, from its events.

use std::time::Duration;

use dh_core::domain::{OperationStatus, ProgressBody, ProgressEvent, StageStatus, describe_duration, format_duration};

use crate::render::{Paint, plain};

/// How long the bar is.
const BAR: usize = 20;

/// Which of an operation's events become lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// The stages of a bootstrap, with when each began.
    Stages,
    /// The steps.
    Steps,
}

/// The state of the drawing.
#[derive(Debug)]
pub struct Board {
    show: Show,
    full: bool,
    percent: u8,
    elapsed: Duration,
    remaining: Option<Duration>,
    over: bool,
    lines: Vec<Line>,
    log: Vec<String>,
}

#[derive(Debug)]
struct Line {
    name: String,
    status: StageStatus,
    text: String,
}

impl Board {
    pub fn new(show: Show, full: bool) -> Self {
        Self {
            show,
            full,
            percent: 0,
            elapsed: Duration::ZERO,
            remaining: None,
            over: false,
            lines: Vec::new(),
            log: Vec::new(),
        }
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Takes an event in.
    pub fn apply(&mut self, event: &ProgressEvent) {
        // An undo must not let the bar run backwards and the reader wonder: it stands still then.
        self.percent = event.percent.min(100).max(self.percent);
        self.elapsed = event.elapsed;
        self.remaining = event.remaining;
        match &event.body {
            ProgressBody::Step { name, title, status } if self.show == Show::Steps => {
                self.line(name, title, *status, None);
            }
            ProgressBody::Stage { name, title, status, note } if self.show == Show::Stages => {
                self.line(name, title, *status, note.as_deref());
            }
            ProgressBody::Note { message } => self.always(format!("  {}", plain(message))),
            ProgressBody::Undo { name } => self.always(format!("  Undoing {}", title_of(name))),
            ProgressBody::Finished { status, .. } => {
                self.over = true;
                if *status == OperationStatus::Completed {
                    self.percent = 100;
                }
            }
            _ => {}
        }
    }

    fn line(&mut self, name: &str, title: &str, status: StageStatus, note: Option<&str>) {
        let title = plain(title);
        let when = match self.show {
            Show::Stages => format!("[{}] ", format_duration(self.elapsed)),
            Show::Steps => String::new(),
        };
        let skipped = note.map_or_else(|| " (skipped)".to_owned(), |note| format!(" (skipped: {})", plain(note)));
        let index = self.lines.iter().position(|line| line.name == name);
        match (index, status) {
            (None, StageStatus::Skipped) => self.add(name, status, format!("  {when}{title}{skipped}")),
            (None, _) => self.add(name, status, format!("  {when}{title}")),
            (Some(index), StageStatus::Skipped) if self.lines[index].status != status => {
                self.lines[index].text.push_str(&skipped);
                self.note(format!("  {when}{title}{skipped}"));
            }
            _ => {}
        }
        if status == StageStatus::Failed {
            self.note(format!("  {when}{title}: failed"));
        }
        if let Some(line) = self.lines.iter_mut().find(|line| line.name == name) {
            line.status = status;
        }
    }

    fn add(&mut self, name: &str, status: StageStatus, text: String) {
        self.note(text.clone());
        self.lines.push(Line { name: name.to_owned(), status, text });
    }

    fn note(&mut self, text: String) {
        if self.full {
            self.log.push(text);
        }
    }

    /// Adds a line that is worth telling even of an operation that is shown in brief.
    fn always(&mut self, text: String) {
        self.log.push(text.clone());
        self.lines.push(Line { name: String::new(), status: StageStatus::Completed, text });
    }

    /// Returns the lines that are new since the last call, for where nothing can be drawn over.
    pub fn log(&self, written: &mut usize) -> Vec<String> {
        let new = self.log[*written..].to_vec();
        *written = self.log.len();
        new
    }

    /// Returns the drawing: the bar and, below it, a line for each step.
    pub fn text(&self, paint: Paint, last: bool) -> Vec<String> {
        let mut text = vec![self.bar(paint, last)];
        text.extend(self.lines.iter().filter(|_| self.full).map(|line| match line.status {
            StageStatus::Failed => paint.red(&format!("{} ✗", line.text)),
            StageStatus::Skipped => paint.grey(&line.text),
            _ => line.text.clone(),
        }));
        text
    }

    fn bar(&self, paint: Paint, last: bool) -> String {
        let filled = usize::from(self.percent) * BAR / 100;
        let bar = format!("{}{}", paint.green(&"█".repeat(filled)), "░".repeat(BAR - filled));
        let mut text = format!("Progress {bar} {}%", self.percent);
        if !last && !self.over {
            text.push_str(&format!("  {} elapsed", format_duration(self.elapsed)));
            if let Some(remaining) = self.remaining.filter(|remaining| remaining.as_secs() > 0) {
                text.push_str(&format!(", about {} left", describe_duration(remaining)));
            }
        }
        text
    }
}

/// Writes a step's name for people: `attach_volume` as `Attach Volume`.
pub fn title_of(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    name.split('_').map(capital).collect::<Vec<String>>().join(" ")
}
