//! Colours, where they are wanted.

use anstyle::{AnsiColor, Style};

/// Colours text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Makes one that colours or does not.
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// Returns whether it colours.
    pub fn is_on(self) -> bool {
        self.on
    }

    fn with(self, color: AnsiColor, text: &str) -> String {
        if !self.on {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(color.into()));
        format!("{}{text}{}", style.render(), style.render_reset())
    }

    /// Names.
    pub fn blue(self, text: &str) -> String {
        self.with(AnsiColor::Blue, text)
    }

    /// What is well.
    pub fn green(self, text: &str) -> String {
        self.with(AnsiColor::Green, text)
    }

    /// What is on its way.
    pub fn yellow(self, text: &str) -> String {
        self.with(AnsiColor::Yellow, text)
    }

    /// What rests, and ids.
    pub fn grey(self, text: &str) -> String {
        self.with(AnsiColor::BrightBlack, text)
    }

    /// Attached studios.
    pub fn purple(self, text: &str) -> String {
        self.with(AnsiColor::Magenta, text)
    }

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.with(AnsiColor::Red, text)
    }
}
