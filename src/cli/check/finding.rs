//! What a probe found, and how it is told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// No probe of one call or a few waits longer: above any ordinary answer, below what people call hung.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Outcome {
    /// It is as it must be.
    Pass,
    /// It must be mended.
    Fail,
    /// It was not looked at, or is not there and not needed.
    Skipped,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Finding {
    pub(in crate::cli) outcome: Outcome,
    pub(in crate::cli) reason: String,
    /// The statement or setting that mends it.
    pub(in crate::cli) fix: Option<String>,
}

impl Finding {
    pub(super) fn pass(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Pass, reason: reason.into(), fix: None }
    }

    pub(in crate::cli) fn fail(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, reason: reason.into(), fix: Some(fix.into()) }
    }

    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skipped, reason: reason.into(), fix: None }
    }

    pub(super) fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The same finding about something that the worker can do without.
    pub(super) fn dispensable(mut self, without: &str) -> Self {
        if self.outcome == Outcome::Fail {
            self.outcome = Outcome::Skipped;
            self.reason = format!("{}; {without}", self.reason);
        }
        self
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) side: String,
    pub(super) finding: Finding,
    pub(super) seconds: f64,
}

impl Check {
    /// What followed from another probe, and took no time of its own.
    pub(super) fn at_once(name: &str, side: &str, finding: Finding) -> Self {
        Self { name: name.to_owned(), side: side.to_owned(), finding, seconds: 0.0 }
    }

    /// Waits for a probe; one that hangs has failed.
    pub(super) async fn of(name: &str, side: &str, probe: impl Future<Output = Finding>) -> Self {
        Self::within(PATIENCE, name, side, probe).await
    }

    /// As [`Check::of`], with other patience.
    pub(super) async fn within(
        patience: Duration,
        name: &str,
        side: &str,
        probe: impl Future<Output = Finding>,
    ) -> Self {
        let began = Instant::now();
        let finding = tokio::time::timeout(patience, probe).await.unwrap_or_else(|_| hung(patience));
        Self { name: name.to_owned(), side: side.to_owned(), finding, seconds: began.elapsed().as_secs_f64() }
    }

    pub(super) fn failed(&self) -> bool {
        self.finding.outcome == Outcome::Fail
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "side": self.side,
            "outcome": self.finding.outcome.name(),
            "reason": self.finding.reason,
            "fix": self.finding.fix,
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
        })
    }
}

fn hung(patience: Duration) -> Finding {
    Finding::fail(
        format!("there was no answer within {} s, though the connection stayed open", patience.as_secs()),
        "see what holds the answers back between this machine and the endpoint (proxy, firewall, an overloaded store), \
         then check again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_hangs_has_failed() {
        let check = Check::of("write", "target dr", std::future::pending()).await;
        assert_eq!(check.finding.outcome, Outcome::Fail);
        assert_eq!(check.finding.reason, "there was no answer within 20 s, though the connection stayed open");
    }
}
