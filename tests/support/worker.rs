//! The binary under test, run as a user runs it.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::pair::Pair;

/// How often a worker's memory is looked at, and a condition asked again.
const LOOK: Duration = Duration::from_millis(50);

/// What one run left.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The most memory it ever had resident, in bytes, as last seen before it ended.
    pub(crate) peak_rss: u64,
}

impl Output {
    /// The object that `--json` prints.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON on stdout: {self:#?}"))
    }

    /// Fails with everything that was said unless the exit code is this one.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// Runs `repl ARGS --config …` to its end; fails if that takes longer than `patience`.
pub(crate) async fn run_repl(pair: &Pair, args: &[&str], patience: Duration) -> Output {
    let mut worker = spawn_repl(pair, args);
    worker.end(patience).await
}

/// Works off what the queue holds, and ends once there has been nothing to do for a second.
pub(crate) async fn catch_up(pair: &Pair) -> Output {
    run_repl(pair, &["run", "--until-idle=1s", "--json"], Duration::from_secs(120)).await
}

/// Starts `repl ARGS --config …`; it is killed when the worker is dropped.
pub(crate) fn spawn_repl(pair: &Pair, args: &[&str]) -> Worker {
    let said = [pair.directory.path().join("stdout"), pair.directory.path().join("stderr")];
    spawn_repl_into(pair, args, said)
}

/// The binary under test; `REPL_TEST_BINARY` names another build of it, such as a release.
fn binary() -> PathBuf {
    std::env::var_os("REPL_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_repl").into(), PathBuf::from)
}

/// As [`spawn_repl`], for a build with the feature `fail-points`: it dies where `point` says, as `NAME:N`.
pub(crate) fn spawn_doomed_repl(pair: &Pair, args: &[&str], point: &str) -> Worker {
    let said = [pair.directory.path().join("stdout"), pair.directory.path().join("stderr")];
    let mut command = Command::new(binary());
    command.env("REPL_FAIL_POINT", point);
    start(command, pair, args, said)
}

/// As [`spawn_repl`], for a worker that will be [starved](Worker::fill_its_disk).
pub(crate) fn spawn_hardy_repl(pair: &Pair, args: &[&str]) -> Worker {
    // Ignored signals stay ignored over exec: a write beyond the limit fails instead of killing the worker.
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(binary());
    let said = [pair.directory.path().join("stdout"), pair.directory.path().join("stderr")];
    start(shell, pair, args, said)
}

/// As [`spawn_repl`], for several workers of one pair: each needs its own files for stdout and stderr.
pub(crate) fn spawn_repl_into(pair: &Pair, args: &[&str], said: [PathBuf; 2]) -> Worker {
    start(Command::new(binary()), pair, args, said)
}

fn start(mut command: Command, pair: &Pair, args: &[&str], said: [PathBuf; 2]) -> Worker {
    let [stdout, stderr] = &said;
    let access = pair.access();
    let child = command
        .args(args)
        .arg("--config")
        .arg(&pair.config)
        .env("AWS_ACCESS_KEY_ID", &access.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key)
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(stdout).unwrap())
        .stderr(std::fs::File::create(stderr).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Worker { child, said, peak_rss: 0 }
}

/// A running `repl`.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    said: [PathBuf; 2],
    peak_rss: u64,
}

impl Worker {
    /// Its process id; fails once it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("a worker that still runs")
    }

    /// The most memory it had resident so far, in bytes.
    pub(crate) fn peak_rss(&mut self) -> u64 {
        if let Some(peak) = self.child.id().and_then(peak_rss) {
            self.peak_rss = self.peak_rss.max(peak);
        }
        self.peak_rss
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.said[1]).unwrap()
    }

    /// From now on no write beyond 8 KiB of a file succeeds, as if the disk were full: none to a used ledger, while what
    /// the worker says still finds room.
    pub(crate) async fn fill_its_disk(&self) {
        let limit = format!("--fsize={}", 8 << 10);
        let set = Command::new("prlimit").args(["--pid", &self.pid().to_string(), &limit]).status().await.unwrap();
        assert!(set.success(), "prlimit of util-linux is needed");
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal by name, such as `TERM` or `STOP`.
    pub(crate) async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().await.unwrap();
        assert!(sent.success(), "kill -s {name}");
    }

    /// SIGTERM, and waits for the end; fails if that takes longer than `patience`.
    pub(crate) async fn terminate(&mut self, patience: Duration) -> Output {
        self.signal("TERM").await;
        self.end(patience).await
    }

    /// Waits for the end; fails if that takes longer than `patience`.
    pub(crate) async fn end(&mut self, patience: Duration) -> Output {
        let deadline = Instant::now() + patience;
        let status = loop {
            self.peak_rss();
            if let Ok(status) = tokio::time::timeout(LOOK, self.child.wait()).await {
                break status.unwrap();
            }
            assert!(Instant::now() < deadline, "repl still runs after {patience:?}; it said:\n{}", self.stderr());
        };
        self.output(status).await
    }

    async fn output(&self, status: ExitStatus) -> Output {
        let [stdout, stderr] = &self.said;
        let (stdout, stderr) = (text(stdout).await, text(stderr).await);
        Output { code: status.code(), stdout, stderr, peak_rss: self.peak_rss }
    }
}

async fn text(path: &std::path::Path) -> String {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The most memory a process ever had resident (`VmHWM`), in bytes; `None` if it is gone.
pub(crate) fn peak_rss(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Asks again and again until the answer is yes; fails with `what` if that takes longer than `patience`.
pub(crate) async fn eventually(what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// How long a run may take that ends by itself: generous, as the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the worker until there is nothing left to do, all well; its report.
pub(crate) async fn work_off(pair: &Pair) -> serde_json::Value {
    work_off_with(pair, 0).await
}

/// Runs the worker until there is nothing left to do; its report. Fails if it ends with another exit code.
pub(crate) async fn work_off_with(pair: &Pair, code: i32) -> serde_json::Value {
    run_repl(pair, &["run", "--until-idle=1s", "--json"], PATIENCE).await.expect_code(code).json()
}
