//! A terminal at which a test sits and answers questions.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::worker::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program at a terminal: what it reads are a person's answers, and stdout is a file apart.
#[derive(Debug)]
pub(crate) struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    /// Starts a program with stdin and stderr on a new terminal.
    pub(crate) fn start(mut command: Command) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let screen = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let again = screen.as_fd().try_clone_to_owned().unwrap();
        command.stdin(Stdio::from(screen)).stderr(Stdio::from(again)).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        // Or the terminal would not end with the program.
        drop(command);
        let (keyboard, shown) = (File::from(keyboard), Arc::default());
        let (mut screen, kept) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // Once the program is gone, Linux answers a read with an error.
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..length]).into_owned();
                lock(&kept).push_str(&text);
            }
        });
        Self { keyboard, shown, child }
    }

    /// What the terminal shows, its answers included.
    pub(crate) fn shown(&self) -> String {
        lock(&self.shown).replace("\r\n", "\n")
    }

    /// Waits for a question, and answers it.
    pub(crate) async fn answer(&mut self, question: &str, answer: &str) {
        let asked = || lock(&self.shown).contains(question);
        eventually(&format!("it asks {question:?}"), PATIENCE, async || asked()).await;
        lock(&self.shown).clear();
        self.keyboard.write_all(answer.as_bytes()).unwrap();
    }

    /// Waits for the end: the exit code, what went to stdout, and what the terminal showed since the last answer.
    pub(crate) async fn end(mut self) -> (Option<i32>, String, String) {
        let mut status = None;
        eventually("it ends", PATIENCE, async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        (status.unwrap().code(), stdout, self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lock(shown: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}
