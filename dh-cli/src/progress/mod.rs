//! Shows the progress of an operation: a bar on a terminal, lines where output is redirected, JSON lines for programs.

mod board;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dh_core::domain::{OperationSpec, ProgressBody, ProgressEvent};
use dh_core::ports::ProgressSink;
use dh_core::wire::view::Body;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::Notify;

use board::Board;
pub use board::Show;
#[cfg(test)]
pub use board::title_of;

use crate::cli::Format;
use crate::render::plain;
use crate::screen::Screen;

/// A sink of progress events.
#[derive(Debug)]
pub struct Progress {
    screen: Arc<Screen>,
    mode: Mode,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
enum Mode {
    /// Drawn anew with every event.
    Bar(ProgressBar),
    /// A line for everything new.
    Lines,
    /// Every event, to standard output.
    Json,
    /// Nothing.
    Silent,
}

#[derive(Debug)]
struct State {
    board: Board,
    /// Lines are held back until the heading above them is written.
    open: bool,
    /// How many of the board's lines have been written.
    written: usize,
    begun: usize,
}

/// How much of an operation's progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything, and it stays on the screen.
    Full,
    /// Only while it runs; redirected, only what is out of the ordinary.
    Brief,
    /// Nothing.
    Silent,
}

/// Returns which lines are shown of an operation.
pub fn show_of(spec: &OperationSpec) -> Show {
    match spec {
        OperationSpec::Launch { .. } => Show::Stages,
        _ => Show::Steps,
    }
}

impl Progress {
    /// Makes a sink that fits the screen. It is closed: its lines are held back until [`Progress::open`].
    pub fn new(screen: &Arc<Screen>, show: Show, detail: Detail) -> Arc<Self> {
        let mode = match (screen.format(), detail) {
            (Format::Jsonl, Detail::Full | Detail::Brief) => Mode::Json,
            (_, Detail::Silent) => Mode::Silent,
            _ if screen.talks_to_terminal() => {
                Mode::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()))
            }
            _ => Mode::Lines,
        };
        Self::with_mode(screen, show, detail, mode)
    }

    fn with_mode(screen: &Arc<Screen>, show: Show, detail: Detail, mode: Mode) -> Arc<Self> {
        if let Mode::Bar(bar) = &mode {
            // Only the board's text: indicatif moves the cursor and cuts at the terminal's edge.
            bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is constant"));
        }
        let board = Board::new(show, detail == Detail::Full);
        let state = Mutex::new(State { board, open: false, written: 0, begun: 0 });
        Arc::new(Self { screen: screen.clone(), mode, state, changed: Notify::new() })
    }

    /// Begins to draw, with everything that has been held back but notes of what has been told above.
    pub fn open_below(&self, told: &str) {
        self.lock().board.told(told);
        self.open();
    }

    /// Begins to draw, with everything that has been held back.
    pub fn open(&self) {
        let mut state = self.lock();
        state.open = true;
        self.draw(&mut state);
    }

    /// Returns whether it draws.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Draws the end: what is shown in full stays, everything else goes.
    pub fn close(&self) {
        let mut state = self.lock();
        if !state.open {
            return;
        }
        state.open = false;
        if let Mode::Bar(bar) = &self.mode {
            bar.finish_and_clear();
            if state.board.is_full() && state.begun > 0 {
                self.screen.say(&state.board.text(self.screen.talk_paint(), true).join("\n"));
            }
        }
    }

    /// Waits for the next event.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, state: &mut State) {
        match &self.mode {
            Mode::Bar(bar) if state.begun > 0 => {
                bar.set_message(state.board.text(self.screen.talk_paint(), false).join("\n"));
                bar.tick();
            }
            Mode::Lines => {
                for line in state.board.log(&mut state.written) {
                    self.screen.say(&line);
                }
            }
            Mode::Bar(_) | Mode::Json | Mode::Silent => {}
        }
    }
}

impl ProgressSink for Progress {
    fn emit(&self, event: &ProgressEvent) {
        let mut state = self.lock();
        state.begun += 1;
        state.board.apply(event);
        match &self.mode {
            // A reader that has gone is noticed when the result is written.
            Mode::Json => drop(self.screen.line(Body::Event { event: event.clone() })),
            _ if state.open => self.draw(&mut state),
            _ => {}
        }
        drop(state);
        self.changed.notify_one();
    }
}

/// Tells of operations that others left and that must be finished first; in JSON, passes their events on.
#[derive(Debug)]
pub struct Earlier {
    screen: Arc<Screen>,
}

impl Earlier {
    /// Makes a sink on a screen.
    pub fn new(screen: &Arc<Screen>) -> Arc<Self> {
        Arc::new(Self { screen: screen.clone() })
    }
}

impl ProgressSink for Earlier {
    fn emit(&self, event: &ProgressEvent) {
        if self.screen.format() == Format::Jsonl {
            return drop(self.screen.line(Body::Event { event: event.clone() }));
        }
        let (id, kind) = (&event.operation, event.kind.replace('_', " "));
        match &event.body {
            ProgressBody::Started { resumed: true } => {
                self.screen.say(&format!("First there is an earlier {kind} to be ended ({id})..."))
            }
            ProgressBody::Started { resumed: false } => self.screen.say(&format!("First: {kind} ({id})...")),
            ProgressBody::Note { message } => self.screen.say(&format!("  {}", plain(message))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
