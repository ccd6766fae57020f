//! What the engine logs: warnings that the scenario did not declare fail it.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects warnings and errors; prints everything where asked.
#[derive(Clone)]
pub(super) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    aloud: bool,
    start: Instant,
}

impl Log {
    pub(super) fn new(aloud: bool) -> Self {
        Self { lines: Arc::default(), aloud, start: Instant::now() }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Says something of the scenario's own.
    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        if self.aloud {
            println!("{:>10.3} ---- {}", self.start.elapsed().as_secs_f64(), text());
        }
    }
}

/// What makes a key of the scenarios long.
pub(super) const LONG: &str =
    "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = if field.name() == "message" {
            write!(self.0, "{value:?} ")
        } else {
            write!(self.0, "{}={value:?} ", field.name())
        };
        written.unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = if self.aloud { Level::DEBUG } else { Level::WARN };
        metadata.target().starts_with("repl") && *metadata.level() <= most
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        let most = if self.aloud { Level::DEBUG } else { Level::WARN };
        Some(most.into())
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        if self.aloud {
            println!("{:>10.3} {level:5} {}", self.start.elapsed().as_secs_f64(), line.0.replace(LONG, "k…"));
        }
        if level <= Level::WARN {
            self.lines.lock().unwrap().push(line.0);
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}
