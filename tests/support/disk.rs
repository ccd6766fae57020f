//! A disk that hangs while a test says so: a library before libc's whose flushes wait. What links Rust programs makes it.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static void wait_while_it_hangs(void) {
    const char *sign = getenv("REPL_TEST_HANG");
    while (sign && access(sign, F_OK) == 0) usleep(10000);
}
int fdatasync(int fd) { wait_while_it_hangs(); return (int)syscall(SYS_fdatasync, fd); }
int fsync(int fd) { wait_while_it_hangs(); return (int)syscall(SYS_fsync, fd); }
"#;

/// The disk of a program that is started in its environment.
#[derive(Debug)]
pub(crate) struct HangingDisk {
    library: PathBuf,
    sign: PathBuf,
}

impl HangingDisk {
    /// Makes one, with its files in this directory.
    pub(crate) fn new(directory: &Path) -> Self {
        let (source, library) = (directory.join("hang.c"), directory.join("hang.so"));
        std::fs::write(&source, SOURCE).unwrap();
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(made.expect("cc is needed, as for every Rust program").success());
        Self { library, sign: directory.join("hangs") }
    }

    /// What the program is to be started with.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("REPL_TEST_HANG", &self.sign)]
    }

    /// From now on no flush ends.
    pub(crate) fn hang(&self) {
        std::fs::write(&self.sign, "").unwrap();
    }

    /// All of them end.
    pub(crate) fn go_on(&self) {
        std::fs::remove_file(&self.sign).unwrap();
    }
}
