use std::io;
use std::time::Duration;

use dh_core::domain::{OperationId, OperationStatus, StageStatus, StoredError};
use indicatif::TermLike;

use super::*;
use crate::render::Paint;

fn event(elapsed: u64, percent: u8, remaining: Option<u64>, body: ProgressBody) -> ProgressEvent {
    ProgressEvent {
        operation: OperationId::new("op-1").unwrap(),
        kind: "attach".into(),
        at: "2025-11-10T14:30:00Z".parse().unwrap(),
        elapsed: Duration::from_secs(elapsed),
        percent,
        remaining: remaining.map(Duration::from_secs),
        body,
    }
}

fn step(name: &str, status: StageStatus) -> ProgressBody {
    ProgressBody::Step { name: name.into(), title: title_of(name), status }
}

fn drawn(board: &Board, last: bool) -> String {
    board.text(Paint::new(false), last).join("\n")
}

#[test]
fn the_bar_tells_percent_elapsed_and_remaining() {
    let mut board = Board::new(Show::Steps, true);
    board.apply(&event(22, 60, Some(15), step("attach_volume", StageStatus::InProgress)));
    assert_eq!(
        drawn(&board, false),
        "Progress ████████████░░░░░░░░ 60%  22s elapsed, about 15 seconds left\n  Attach Volume"
    );
}

#[test]
fn the_finished_bar_is_as_specified() {
    let mut board = Board::new(Show::Steps, true);
    board.apply(&event(1, 10, None, step("validate_engine", StageStatus::Completed)));
    board.apply(&event(20, 97, None, ProgressBody::Finished { status: OperationStatus::Completed, error: None }));
    assert_eq!(drawn(&board, true), "Progress ████████████████████ 100%\n  Validate Engine");
}

#[test]
fn a_failed_step_is_marked_and_the_bar_does_not_run_backwards() {
    let mut board = Board::new(Show::Steps, true);
    board.apply(&event(5, 60, None, step("mount_filesystem", StageStatus::InProgress)));
    board.apply(&event(9, 60, None, step("mount_filesystem", StageStatus::Failed)));
    board.apply(&event(9, 20, None, ProgressBody::Undo { name: "attach_volume".into() }));
    let error = StoredError { kind: dh_core::domain::ErrorKind::Failed, message: "x".into(), hint: None };
    board.apply(&event(10, 0, None, ProgressBody::Finished { status: OperationStatus::Failed, error: Some(error) }));
    assert_eq!(drawn(&board, true), "Progress ████████████░░░░░░░░ 60%\n  Mount Filesystem ✗\n  Undoing Attach Volume");
    let mut written = 0;
    assert_eq!(
        board.log(&mut written),
        ["  Mount Filesystem", "  Mount Filesystem: failed", "  Undoing Attach Volume"]
    );
    assert_eq!(board.log(&mut written), Vec::<String>::new());
}

#[test]
fn in_brief_only_the_unusual_is_logged() {
    let mut board = Board::new(Show::Steps, false);
    board.apply(&event(1, 10, None, step("stop_machine", StageStatus::InProgress)));
    board.apply(&event(1, 10, None, ProgressBody::Note { message: "waiting for 2 processes".into() }));
    assert_eq!(board.log(&mut 0), ["  waiting for 2 processes"]);
}

#[test]
fn bootstrap_stages_stand_with_the_time_of_their_beginning() {
    let stage = |status, note: Option<&str>| ProgressBody::Stage {
        name: "gpu_drivers".into(),
        title: "Installing GPU Drivers".into(),
        status,
        note: note.map(str::to_owned),
    };
    let mut board = Board::new(Show::Stages, true);
    board.apply(&event(1, 5, None, step("launch_machine", StageStatus::InProgress)));
    board.apply(&event(75, 50, None, stage(StageStatus::InProgress, None)));
    board.apply(&event(76, 55, None, stage(StageStatus::Skipped, Some("no GPU"))));
    assert_eq!(
        drawn(&board, true),
        "Progress ███████████░░░░░░░░░ 55%\n  [1m15s] Installing GPU Drivers (skipped: no GPU)"
    );
}

/// A terminal that remembers what was written on it.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<String>>);

impl TermLike for Recorder {
    fn width(&self) -> u16 {
        80
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push_str(&format!("{text}\n"));
        Ok(())
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push_str(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_terminal_gets_the_bar_only_once_it_is_opened() {
    let recorder = Recorder::default();
    let target = ProgressDrawTarget::term_like(Box::new(recorder.clone()));
    let screen = Arc::new(Screen::on(Format::Table, Box::new(io::sink()), Box::new(io::sink()), false, Some(80)));
    let mode = Mode::Bar(ProgressBar::with_draw_target(None, target));
    let progress = Progress::with_mode(&screen, Show::Steps, Detail::Full, mode);
    progress.emit(&event(1, 50, None, step("attach_volume", StageStatus::InProgress)));
    assert_eq!(recorder.0.lock().unwrap().as_str(), "");
    progress.open();
    let drawn = recorder.0.lock().unwrap().clone();
    assert!(drawn.contains("Progress ██████████░░░░░░░░░░ 50%") && drawn.contains("  Attach Volume"), "{drawn:?}");
}
