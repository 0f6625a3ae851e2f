//! A shell on a terminal, used as a person would.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use dh_core::domain::MachineId;
use dh_core::ports::SessionRequest;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{House, await_some, await_that, kill};

/// A person's terminal with a session on it.
struct Desk {
    keyboard: File,
    line: File,
    screen: Arc<Mutex<String>>,
    child: Child,
    /// As they were before the session.
    modes: LocalModes,
}

impl Desk {
    fn open(house: &House, id: &MachineId, rows: u16, columns: u16) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let line = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let keyboard = File::from(keyboard);
        resize(&keyboard, rows, columns);
        let modes = tcgetattr(&line).unwrap().local_modes;
        let copy = || Stdio::from(line.try_clone().unwrap());
        let mut command = house.session(id, SessionRequest::Shell);
        let child = command.env("TERM", "dumb").stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut reader, shown) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Self { keyboard, line, screen, child, modes }
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn await_screen(&self, wanted: &str) {
        await_that(&format!("{wanted:?} on the screen"), || self.screen.lock().unwrap().contains(wanted));
    }
}

fn resize(terminal: &File, ws_row: u16, ws_col: u16) {
    tcsetwinsize(terminal.as_fd(), Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[tokio::test]
async fn a_shell_has_a_terminal_of_the_callers_size_that_follows_it_and_heeds_ctrl_c() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let mut desk = Desk::open(&house, &id, 41, 97);
    let modes = desk.modes;
    desk.type_in("echo size $(stty size) in $DH_SESSION\r");
    desk.await_screen("size 41 97 in shell");
    assert!(
        !tcgetattr(&desk.line).unwrap().local_modes.contains(LocalModes::ECHO),
        "keys go to the engine as they are"
    );
    resize(&desk.keyboard, 52, 131);
    kill(desk.child.id() as i32, Signal::WINCH);
    desk.type_in("until [ \"$(stty size)\" = '52 131' ]; do sleep 0.02; done; echo resi''zed\r");
    desk.await_screen("resized");
    desk.type_in("trap 'echo inter''rupted' INT; sleep 1000; echo go''ing-on\r");
    desk.await_screen("sleep 1000");
    // The stand-in's agent sleeps too; what is interrupted must be there.
    await_that("the sleep to interrupt", || house.left(&id).iter().filter(|member| member.name == "sleep").count() > 1);
    desk.type_in("\x03");
    desk.await_screen("going-on");
    desk.type_in("exit 9\r");
    let status = await_some("the session's end", || desk.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(9));
    assert_eq!(tcgetattr(&desk.line).unwrap().local_modes, modes, "the terminal is as it was");
}

#[tokio::test]
async fn a_shell_whose_client_is_killed_is_hung_up_on() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let mut desk = Desk::open(&house, &id, 24, 80);
    desk.type_in("echo $$ > shell; echo re''ady\r");
    desk.await_screen("ready");
    let shell = std::fs::read_to_string(house.dir(&id).home().join("shell")).unwrap().trim().parse().unwrap();
    desk.child.kill().unwrap();
    desk.child.wait().unwrap();
    await_that("the shell ends", || !crate::harness::is_alive(shell));
}

#[tokio::test]
async fn a_shell_reads_a_script_from_a_pipe_and_shows_all_of_its_output() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let mut child =
        house.session(&id, SessionRequest::Shell).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"sleep 1000 &\nseq 1 2000; echo last-$((40+2)); exit 3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\n2000\r\n") && text.contains("last-42"), "{text}");
    assert_eq!(output.status.code(), Some(3));
}
