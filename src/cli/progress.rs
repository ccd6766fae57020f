//! How far a long command is: a bar on a terminal, a line in the log every ten seconds elsewhere.

use std::io::{IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior};

/// How often a line tells the progress where there is no terminal (DESIGN 2.1).
const TELL: Duration = Duration::from_secs(10);
/// How often the bar looks: often enough to seem to move.
const LOOK: Duration = Duration::from_millis(100);
/// Rates are of the time since this long ago.
const WINDOW: Duration = Duration::from_secs(5);

/// What is known of the work at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Objects done with.
    pub(super) done: u64,
    /// Objects in all; `None` while that is not known.
    pub(super) of: Option<u64>,
    /// Bytes brought, or foreseen.
    pub(super) bytes: u64,
    /// Bytes in all; `None` while that is not known.
    pub(super) bytes_of: Option<u64>,
    /// What failed, or differs.
    pub(super) failed: u64,
}

/// What `failed` means for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// What is going on: `sync`.
    pub(super) work: &'static str,
    /// What went wrong with those counted as such: `failed`.
    pub(super) wrong: &'static str,
}

/// The bar that is drawn now: whoever writes to stderr has it step aside.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// stderr, for logs: a bar that is drawn there steps aside for each write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let bar = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let line = on_one_line(bytes);
        let write = || std::io::stderr().write_all(&line);
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
        .map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// An event as one line: it comes as a whole, and a break within it, as of a store's answer, is spelled out.
fn on_one_line(event: &[u8]) -> Vec<u8> {
    let (body, end) = match event.split_last() {
        Some((b'\n', body)) => (body, &b"\n"[..]),
        Some(_) | None => (event, &b""[..]),
    };
    let spelled = |byte: &u8| match byte {
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        other => vec![*other],
    };
    [body.iter().flat_map(spelled).collect(), end.to_vec()].concat()
}

/// Shows the progress until it is dropped.
pub(super) async fn show(words: Words, figures: impl Fn() -> Figures) -> std::convert::Infallible {
    if std::io::stderr().is_terminal() {
        Bar::new(words).draw(&figures).await
    } else {
        lines(words, &figures, |line| tracing::info!("{line}")).await
    }
}

/// Says something to whoever reads stdout, in whole lines. Nobody there any more (a closed pipe) is no fault of the
/// command; that it cannot be written for another reason, as to a full disk, is told.
pub(super) fn say(text: impl std::fmt::Display) {
    let text = text.to_string();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    if let Err(error) = write!(std::io::stdout(), "{text}{end}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain(format_args!("repl: what it had to say could not be written to stdout: {error}"));
    }
}

/// Says something on stderr. There is nobody to tell that it cannot be written.
pub(super) fn complain(text: impl std::fmt::Display) {
    for line in text.to_string().lines() {
        Stderr.write_all(format!("{line}\n").as_bytes()).ok();
    }
}

async fn lines(words: Words, figures: &impl Fn() -> Figures, mut tell: impl FnMut(String)) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval_at(Instant::now() + TELL, TELL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace::begin(figures());
    loop {
        ticks.tick().await;
        let now = figures();
        tell(format!("{}: {}", words.work, pace.told(words, now, TELL)));
    }
}

/// Rates, from what was seen a while ago.
#[derive(Debug)]
struct Pace {
    since: Instant,
    then: Figures,
    /// Objects and bytes a second.
    rates: (f64, f64),
}

impl Pace {
    fn begin(figures: Figures) -> Self {
        Self { since: Instant::now(), then: figures, rates: (0.0, 0.0) }
    }

    /// All that is known as one line, rates taken anew after `window`.
    #[allow(clippy::cast_precision_loss, reason = "rates are for people")]
    fn told(&mut self, words: Words, now: Figures, window: Duration) -> String {
        let elapsed = self.since.elapsed();
        if elapsed >= window {
            let seconds = elapsed.as_secs_f64();
            let objects = now.done.saturating_sub(self.then.done) as f64 / seconds;
            let bytes = now.bytes.saturating_sub(self.then.bytes) as f64 / seconds;
            *self = Self { since: Instant::now(), then: now, rates: (objects, bytes) };
        }
        let objects = match now.of {
            Some(of) => format!("{} of {of} objects", now.done),
            None => format!("{} objects", now.done),
        };
        let left = self.left(now).map_or_else(String::new, |left| format!(", {} left", HumanDuration(left)));
        let (objects_a_second, bytes_a_second) = self.rates;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
        let rate = HumanBytes(bytes_a_second as u64);
        format!(
            "{objects}, {}, {objects_a_second:.0} objects/s, {rate}/s{left}, {} {}",
            HumanBytes(now.bytes),
            now.failed,
            words.wrong
        )
    }

    /// How long it still takes at the last rate: the longer of what objects and bytes tell; `None` where that is not
    /// known.
    #[allow(clippy::cast_precision_loss, reason = "rates are for people")]
    fn left(&self, now: Figures) -> Option<Duration> {
        let take = |left: u64, rate: f64| if left == 0 { Some(0.0) } else { (rate > 0.0).then(|| left as f64 / rate) };
        let objects = take(now.of?.saturating_sub(now.done), self.rates.0)?;
        let bytes = now.bytes_of.and_then(|of| take(of.saturating_sub(now.bytes), self.rates.1)).unwrap_or(0.0);
        Duration::try_from_secs_f64(objects.max(bytes)).ok()
    }
}

/// The bar; it goes when this is dropped.
struct Bar {
    bar: ProgressBar,
    words: Words,
}

impl Bar {
    fn new(words: Words) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_prefix(words.work);
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self { bar, words }
    }

    async fn draw(&self, figures: &impl Fn() -> Figures) -> std::convert::Infallible {
        // Both templates are constants: were one wrong, the bar would look plainer.
        let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let (unknown, known) = (style("{spinner} {prefix} {msg}"), style("{prefix} [{bar:24}] {percent}% {msg}"));
        self.bar.set_style(unknown);
        let mut pace = Pace::begin(figures());
        let mut is_known = false;
        loop {
            let now = figures();
            if let Some(of) = now.of {
                if !is_known {
                    self.bar.set_style(known.clone());
                    is_known = true;
                }
                self.bar.set_length(of);
            }
            self.bar.set_position(now.done);
            self.bar.set_message(pace.told(self.words, now, WINDOW));
            self.bar.tick();
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    const WORDS: Words = Words { work: "sync", wrong: "failed" };

    #[tokio::test(start_paused = true)]
    async fn a_line_every_ten_seconds() {
        let told = RefCell::new(Vec::new());
        let done = Cell::new(0);
        let figures = || {
            done.set(done.get() + 100);
            Figures { done: done.get() - 100, of: Some(1000), bytes: done.get() << 10, bytes_of: None, failed: 3 }
        };
        let lines = lines(WORDS, &figures, |line| told.borrow_mut().push(line));
        let ended = tokio::time::timeout(Duration::from_secs(35), lines).await;
        assert!(ended.is_err());
        let told = told.into_inner();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(
            told[1],
            "sync: 200 of 1000 objects, 300.00 KiB, 10 objects/s, 10.00 KiB/s, 80 seconds left, 3 failed"
        );
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(on_one_line(b"a\r\nb\n"), b"a\\r\\nb\n");
        assert_eq!(on_one_line(b"\n"), b"\n");
        assert_eq!(on_one_line(b""), b"");
    }

    #[tokio::test(start_paused = true)]
    async fn time_left_is_not_made_up() {
        let mut pace = Pace::begin(Figures::default());
        tokio::time::advance(WINDOW).await;
        let begun = Figures { done: 50, bytes: 500, ..Figures::default() };
        assert!(!pace.told(WORDS, begun, WINDOW).contains("left"), "how many there are is not known yet");
        let listed = Figures { of: Some(100), bytes_of: Some(5500), ..begun };
        assert_eq!(pace.left(listed), Some(Duration::from_secs(50)), "bytes take longer than objects");
        tokio::time::advance(WINDOW).await;
        assert!(!pace.told(WORDS, listed, WINDOW).contains("left"), "nothing moved");
    }
}
