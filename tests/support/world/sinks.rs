//! Where figures and alerts end: metrics that can be read back as CloudWatch keeps them, and the letters of each tier.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use repl::model::fault::{Fault, FaultKind, Side};
use repl::model::object::Timestamp;
use repl::ports::{Alert, AlertSink, Datum, Dimension, MetricSink, Tier};

/// What becomes of one interval's data; without any, they are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// They are refused: nothing of them is kept.
    Refuse,
    /// Nobody answers.
    Hang,
}

/// One interval as it was taken.
pub(crate) type Interval = (Timestamp, Vec<Datum>);

/// What one series came to within one minute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) sum: f64,
    pub(crate) count: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) unit: String,
}

/// Metrics of one namespace. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeMetrics(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    answers: VecDeque<Answer>,
    taken: Vec<Interval>,
}

impl FakeMetrics {
    /// Answers so first, then takes.
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let metrics = Self::default();
        metrics.0.lock().unwrap().answers.extend(answers);
        metrics
    }

    /// How many of its answers are still to come.
    pub(crate) fn answers_left(&self) -> usize {
        self.0.lock().unwrap().answers.len()
    }

    /// All intervals, in the order of their coming.
    pub(crate) fn taken(&self) -> Vec<Interval> {
        self.0.lock().unwrap().taken.clone()
    }

    /// What one series came to within the minute that begins at `minute`; `None` where nothing came.
    pub(crate) fn statistics(&self, name: &str, dimensions: &[Dimension], minute: Timestamp) -> Option<Statistics> {
        let mut found: Option<Statistics> = None;
        for (at, data) in &self.0.lock().unwrap().taken {
            let same = |datum: &&Datum| datum.name == name && same_dimensions(&datum.dimensions, dimensions);
            for datum in data.iter().filter(same).filter(|_| minute <= *at && *at < Timestamp(minute.0 + 60_000)) {
                let unit = datum.unit.to_owned();
                let sums =
                    found.get_or_insert(Statistics { sum: 0.0, count: 0.0, least: f64::MAX, most: f64::MIN, unit });
                for (value, count) in &datum.values {
                    let count = *count as f64;
                    (sums.sum, sums.count) = (sums.sum + value * count, sums.count + count);
                    (sums.least, sums.most) = (sums.least.min(*value), sums.most.max(*value));
                }
            }
        }
        found
    }
}

/// A series is told by its dimensions in whatever order.
fn same_dimensions(one: &[Dimension], other: &[Dimension]) -> bool {
    let sorted = |dimensions: &[Dimension]| {
        let mut sorted = dimensions.to_vec();
        sorted.sort();
        sorted
    };
    sorted(one) == sorted(other)
}

impl MetricSink for FakeMetrics {
    async fn send(&self, at: Timestamp, data: &[Datum]) -> Result<(), Fault> {
        let answer = self.0.lock().unwrap().answers.pop_front();
        match answer {
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Refuse) => Err(Fault::new(FaultKind::Transient, Side::Monitoring, "send metrics", "down")),
            None => {
                self.0.lock().unwrap().taken.push((at, data.to_vec()));
                Ok(())
            }
        }
    }
}

/// A way that fails so often and then delivers. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct FakePost {
    name: &'static str,
    letters: Arc<Mutex<Letters>>,
}

#[derive(Debug, Default)]
struct Letters {
    failing: u32,
    tries: u32,
    heard: Vec<Alert>,
}

impl FakePost {
    /// Whom it reaches.
    pub(crate) const REACHED: [Tier; 2] = [Tier::Standard, Tier::Critical];

    /// A way of that name on which the first so many alerts are lost.
    pub(crate) fn failing(name: &'static str, times: u32) -> Self {
        let letters = Letters { failing: times, ..Letters::default() };
        Self { name, letters: Arc::new(Mutex::new(letters)) }
    }

    /// Everything that was delivered, in order.
    pub(crate) fn heard(&self) -> Vec<Alert> {
        self.letters.lock().unwrap().heard.clone()
    }

    /// How often it was asked to deliver.
    pub(crate) fn tries(&self) -> u32 {
        self.letters.lock().unwrap().tries
    }
}

impl AlertSink for FakePost {
    fn name(&self) -> &'static str {
        self.name
    }

    fn reaches(&self, tier: Tier) -> bool {
        Self::REACHED.contains(&tier)
    }

    async fn deliver(&self, alert: &Alert) -> Result<(), Fault> {
        if !self.reaches(alert.tier) {
            return Ok(());
        }
        let mut letters = self.letters.lock().unwrap();
        letters.tries += 1;
        if letters.failing > 0 {
            letters.failing -= 1;
            return Err(Fault::new(FaultKind::Transient, Side::Monitoring, "deliver", "nobody there"));
        }
        letters.heard.push(alert.clone());
        Ok(())
    }
}
