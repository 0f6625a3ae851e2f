//! Tables with full borders, as the specification draws them.
//!
//! Drawn here rather than by a library: those that were looked at break a cell that does not fit into several lines,
//! where this shortens it with an ellipsis, and they have no least width that gives way on a narrow terminal.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::{Paint, plain};

/// No column gets narrower than this.
const NARROWEST: usize = 3;

/// How the cells of a column are coloured, by their text.
pub type Colour = fn(Paint, &str, &str) -> String;

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    least: usize,
    colour: Colour,
}

impl Column {
    /// Makes a column that is at least so wide where there is room.
    pub fn new(title: &'static str, least: usize) -> Self {
        Self { title, least, colour: |_, _, shown| shown.to_owned() }
    }

    /// Colours the cells: the function gets the whole text and what is shown of it.
    pub fn with_colour(self, colour: Colour) -> Self {
        Self { colour, ..self }
    }
}

/// A table to draw.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table without rows.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn push(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells.iter().map(|cell| plain(cell).replace('\n', " ")).collect());
    }

    /// Draws it, into so many columns of a terminal where that is possible. The last line has no line break.
    pub fn draw(&self, paint: Paint, room: Option<usize>) -> String {
        let widths = self.widths(room);
        let rule = |left: char, middle: char, right: char| {
            let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            format!("{left}{}{right}", parts.join(&middle.to_string()))
        };
        let line = |cells: Vec<String>| format!("│ {} │", cells.join(" │ "));
        let mut lines = vec![rule('╭', '┬', '╮')];
        lines.push(line(
            self.columns
                .iter()
                .zip(&widths)
                .map(|(column, width)| pad(&shorten(column.title, *width), *width, |text| text.to_owned()))
                .collect(),
        ));
        lines.push(rule('├', '┼', '┤'));
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).zip(&widths).map(|((cell, column), width)| {
                pad(&shorten(cell, *width), *width, |shown| (column.colour)(paint, cell, shown))
            });
            lines.push(line(cells.collect()));
        }
        lines.push(rule('╰', '┴', '╯'));
        lines.join("\n")
    }

    fn widths(&self, room: Option<usize>) -> Vec<usize> {
        let needed: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let cells = self.rows.iter().map(|row| row[index].width());
                cells.chain([column.title.width()]).max().unwrap_or(0)
            })
            .collect();
        let mut widths: Vec<usize> =
            needed.iter().zip(&self.columns).map(|(needed, column)| (*needed).max(column.least)).collect();
        let Some(room) = room else { return widths };
        let room = room.saturating_sub(3 * widths.len() + 1);
        // First what is only there for looks, then the widest column, a cell at a time.
        while widths.iter().sum::<usize>() > room {
            let slack = (0..widths.len()).filter(|&i| widths[i] > needed[i]).max_by_key(|&i| widths[i] - needed[i]);
            let widest = || (0..widths.len()).filter(|&i| widths[i] > NARROWEST).max_by_key(|&i| widths[i]);
            match slack.or_else(widest) {
                Some(index) => widths[index] -= 1,
                None => break,
            }
        }
        widths
    }
}

/// Shortens a text to a width, the last cell then being an ellipsis. What belongs together (accents, emoji made of several
/// characters) is shown whole or not at all.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for cluster in text.graphemes(true) {
        if shown.width() + cluster.width() + 1 > width {
            break;
        }
        shown.push_str(cluster);
    }
    shown.push('…');
    shown
}

/// Fills up with spaces, outside the colour.
fn pad(shown: &str, width: usize, colour: impl Fn(&str) -> String) -> String {
    format!("{}{}", colour(shown), " ".repeat(width.saturating_sub(shown.width())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(rows: &[[&str; 2]]) -> Table {
        let mut table = Table::new(vec![Column::new("Name", 6), Column::new("State", 5)]);
        rows.iter().for_each(|row| table.push(row.iter().map(|cell| (*cell).to_owned()).collect()));
        table
    }

    #[test]
    fn wide_characters_keep_the_borders_straight() {
        let drawn =
            table(&[["実験-3", "up"], ["👩\u{200d}🔬lab", "up"], ["plain", "up"]]).draw(Paint::new(false), None);
        insta::assert_snapshot!(drawn, @r"
        ╭────────┬───────╮
        │ Name   │ State │
        ├────────┼───────┤
        │ 実験-3 │ up    │
        │ 👩‍🔬lab  │ up    │
        │ plain  │ up    │
        ╰────────┴───────╯
        ");
        assert!(drawn.lines().all(|line| line.width() == 18));
    }

    #[test]
    fn colour_does_not_change_the_width() {
        let mut table = Table::new(vec![Column::new("Name", 6).with_colour(|paint, _, shown| paint.blue(shown))]);
        table.push(vec!["ab".into()]);
        assert!(table.draw(Paint::new(true), None).contains("│ \u{1b}[34mab\u{1b}[0m     │"));
    }

    #[test]
    fn a_cell_cannot_break_the_table() {
        let drawn = table(&[["a\nb\u{1b}[2J", "up"]]).draw(Paint::new(false), None);
        assert!(drawn.contains("a b\u{fffd}[2J"), "{drawn}");
    }

    proptest! {
        #[test]
        fn every_line_is_as_wide_as_the_others_and_fits(
            rows in proptest::collection::vec(("[a-z0-9-]{0,40}|[実験室]{1,20}", "[a-z]{0,20}"), 0..5),
            room in 16usize..100,
        ) {
            let mut table = table(&[]);
            rows.into_iter().for_each(|(a, b)| table.push(vec![a, b]));
            let drawn = table.draw(Paint::new(false), Some(room));
            let widths: Vec<usize> = drawn.lines().map(UnicodeWidthStr::width).collect();
            prop_assert!(widths.iter().all(|width| *width == widths[0] && *width <= room), "{}", drawn);
        }
    }
}
