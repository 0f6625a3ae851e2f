//! A person's terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::until;

/// A program on a terminal, with everything that it has shown so far.
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    /// Starts a program on a new terminal.
    ///
    /// # Panics
    /// When there is no terminal to be had, or the program cannot be started.
    pub fn start(mut command: Command) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).expect("the terminal is ours");
        unlockpt(&keyboard).expect("the terminal opens");
        let name = ptsname(&keyboard, Vec::new()).expect("the terminal has a name");
        let name = name.to_str().expect("in letters");
        let line = OpenOptions::new().read(true).write(true).open(name).expect("the terminal's other side");
        let copy = || Stdio::from(line.try_clone().expect("a copy"));
        let child = command.env("TERM", "xterm").stdin(copy()).stdout(copy()).stderr(copy()).spawn();
        let keyboard = File::from(keyboard);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut reader, shown) = (keyboard.try_clone().expect("a copy"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..count]);
                shown.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Self { keyboard, screen, child: child.expect("the program starts") }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Returns everything shown so far.
    pub fn shown(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a text has been shown.
    pub fn until_shown(&self, text: &str) {
        until(&format!("the terminal shows {text:?}"), || self.shown().contains(text).then_some(()));
    }

    /// Waits for the program's end.
    pub fn ended(&mut self) -> ExitStatus {
        until("the program on the terminal ends", || self.child.try_wait().expect("it is ours"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
