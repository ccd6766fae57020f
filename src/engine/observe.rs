//! The watch over a running engine: takes the figures of every interval, sends them, evaluates the alarms where nobody
//! else does, and has alerts delivered. Nothing here is waited for by replication.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::ledger::Ledger;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::Timestamp;
use crate::ports::{Alert, AlertSink, Clock, Datum, MetricSink};
use crate::watch::alarms::evaluate::Evaluator;
use crate::watch::alarms::record::{Letter, Record};
use crate::watch::alarms::{self, message};
use crate::watch::figures::{Figures, Intake, Settings};
use crate::watch::pulse::Pulse;

/// The name under which the ledger keeps what is remembered.
const RECORD: &str = "watch";
/// Letters kept at most; more than all alarms say in an hour of flapping. Beyond it the oldest are given up, and told.
const LETTERS: usize = 200;
/// Between tries of a way that failed: doubled from the first to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// How long the last interval, and the last tries to deliver, may take when the worker stops.
const LAST: Duration = Duration::from_secs(3);

/// The alarms, where this worker evaluates them.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarms {
    /// What they depend on.
    pub settings: alarms::Settings,
    /// How often people are reminded of one that lasts; `None` is never.
    pub reminder: Option<Duration>,
    /// The region that messages name.
    pub region: String,
}

/// Watches over one engine.
#[derive(Debug)]
pub struct Observer<C, M, A> {
    ledger: Ledger,
    pulse: Arc<Pulse>,
    clock: C,
    settings: Settings,
    metrics: Option<M>,
    alarms: Option<Alarms>,
    ways: Vec<A>,
    letters: Mutex<Vec<Letter>>,
    posted: Notify,
}

/// What goes from one interval to the next.
#[derive(Debug)]
struct Course {
    /// The last figures that were sent.
    sent: Figures,
    /// The last figures that were taken, where alarms are evaluated.
    taken: Figures,
    evaluator: Option<Evaluator>,
    remembered: Vec<u8>,
}

impl<C: Clock, M: MetricSink, A: AlertSink> Observer<C, M, A> {
    /// Puts the watch together; nothing is read or sent before [`Self::run`].
    #[must_use]
    pub fn new(ledger: Ledger, pulse: Arc<Pulse>, clock: C, settings: Settings) -> Self {
        let (letters, posted) = (Mutex::default(), Notify::new());
        Self { ledger, pulse, clock, settings, metrics: None, alarms: None, ways: Vec::new(), letters, posted }
    }

    /// Sends the metrics of every interval there.
    #[must_use]
    pub fn sending(mut self, metrics: M) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Evaluates the alarms here, and has them told on these ways.
    #[must_use]
    pub fn evaluating(mut self, alarms: Alarms, ways: Vec<A>) -> Self {
        (self.alarms, self.ways) = (Some(alarms), ways);
        self
    }

    /// Watches until `stop` comes, then sends what is left and ends within seconds.
    ///
    /// # Errors
    /// `Ledger` when the ledger cannot be read, or what it remembers of the alarms is not understood.
    pub async fn run(&self, stop: oneshot::Receiver<()>) -> Result<(), Fault> {
        let mut course = self.begin()?;
        tokio::select! {
            never = self.deliver() => match never {},
            ended = self.watch(&mut course) => return ended,
            // Also where whoever would stop us is gone.
            _ = stop => {}
        }
        self.end(course).await
    }

    /// What the figures are about.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Refuses what the ledger remembers where it is not understood, before anything runs.
    ///
    /// # Errors
    /// `Ledger`, with what to do.
    pub fn check(&self) -> Result<(), Fault> {
        self.record().map(drop)
    }

    fn record(&self) -> Result<Record, Fault> {
        let Some(bytes) = self.ledger.cursor(RECORD)? else { return Ok(Record::default()) };
        Record::read(&bytes).map_err(|why| Fault::new(FaultKind::Ledger, Side::Local, "remember the alarms", why))
    }

    fn begin(&self) -> Result<Course, Fault> {
        let now = self.clock.now();
        let record = self.record()?;
        match record.clear {
            Some(clear) => self.pulse.queue_was_clear(clear),
            None if self.settings.queue == Intake::Queue => {
                self.pulse.queue_watched_since(record.begun.unwrap_or(now));
            }
            None => {}
        }
        *self.letters() = record.letters;
        if self.metrics.is_some() {
            self.pulse.metrics(|_| {});
        }
        let evaluator =
            self.alarms.as_ref().map(|alarms| Evaluator::new(&alarms.settings, alarms.reminder, record.alarms, now));
        if let Some(evaluator) = &evaluator {
            self.show(evaluator);
        }
        let figures = self.figures(now)?;
        Ok(Course { sent: figures.clone(), taken: figures, evaluator, remembered: Vec::new() })
    }

    fn figures(&self, now: Timestamp) -> Result<Figures, Fault> {
        Figures::take(&self.ledger, &self.pulse.snapshot(), &self.settings, now)
    }

    /// Ends each interval where the clock's own ends, so that every period of an alarm has its share of them.
    async fn watch(&self, course: &mut Course) -> Result<(), Fault> {
        let length = u64::try_from(self.settings.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut boundary = Timestamp(0);
        loop {
            let now = self.clock.now();
            let next = Timestamp((now.0 / length).saturating_add(1).saturating_mul(length));
            // A timer may be early by a trifle: then the same end would come twice.
            boundary = if next == boundary { next.plus(self.settings.interval) } else { next };
            tokio::time::sleep(boundary.since(now)).await;
            self.interval(course, boundary).await?;
        }
    }

    /// One interval, which ends at `boundary`.
    async fn interval(&self, course: &mut Course, boundary: Timestamp) -> Result<(), Fault> {
        self.pulse.heartbeat();
        let figures = self.figures(self.clock.now())?;
        let within = Timestamp(boundary.0.saturating_sub(1));
        if let Some(evaluator) = &mut course.evaluator {
            let data = figures.since(&course.taken, &self.settings);
            course.taken = figures.clone();
            self.evaluate(evaluator, &data, within, boundary);
        }
        self.remember(course).await?;
        // What was settled is flushed by the next event's admission, and an idle worker has none.
        self.ledger.flush().await?;
        self.send(course, figures, within).await;
        Ok(())
    }

    fn evaluate(&self, evaluator: &mut Evaluator, data: &[Datum], within: Timestamp, boundary: Timestamp) {
        let Some(alarms) = &self.alarms else { return };
        evaluator.take(within, data);
        for notice in evaluator.evaluate(boundary) {
            let (state, reason) = (notice.standing.state.name(), &notice.standing.reason);
            tracing::warn!(alarm = notice.id.name(), state, reason, "an alarm speaks");
            let now = self.clock.now();
            if let Some(alert) = message::alert(&notice, evaluator, &alarms.settings, &alarms.region, now) {
                self.post(alert);
            }
        }
        self.show(evaluator);
    }

    fn show(&self, evaluator: &Evaluator) {
        let waiting = self.letters().len() as u64;
        self.pulse.alarms(|view| {
            view.standings = evaluator.standings();
            view.waiting = waiting;
        });
    }

    fn post(&self, alert: Alert) {
        let ways: BTreeSet<String> =
            self.ways.iter().filter(|way| way.reaches(alert.tier)).map(|way| way.name().to_owned()).collect();
        if ways.is_empty() {
            tracing::warn!(tier = alert.tier.name(), alert.subject, "nobody hears of this: no way leads to that tier");
            return;
        }
        let mut letters = self.letters();
        letters.push(Letter { alert, ways });
        if letters.len() > LETTERS {
            let lost = letters.remove(0);
            tracing::error!(lost.alert.subject, "an alert is given up: too many wait to be delivered");
            self.pulse.alarms(|view| view.lost += 1);
        }
        drop(letters);
        self.posted.notify_one();
    }

    /// Keeps what a restart must know, where it has changed.
    async fn remember(&self, course: &mut Course) -> Result<(), Fault> {
        let queue = self.pulse.snapshot().queue;
        let record = Record {
            clear: queue.clear,
            begun: queue.begun,
            alarms: course.evaluator.as_ref().map(|evaluator| evaluator.remembered().clone()).unwrap_or_default(),
            letters: self.letters().clone(),
        };
        let bytes = record.bytes();
        if bytes != course.remembered {
            self.ledger.set_cursor(RECORD, Some(bytes.clone())).await?;
            course.remembered = bytes;
        }
        Ok(())
    }

    /// Sends an interval; what is not taken stays in the next one's difference.
    async fn send(&self, course: &mut Course, figures: Figures, within: Timestamp) {
        let Some(sink) = &self.metrics else { return };
        let data = figures.since(&course.sent, &self.settings);
        match sink.send(within, &data).await {
            Ok(()) => {
                course.sent = figures;
                let now = self.clock.now();
                self.pulse.metrics(|view| (view.last_sent, view.fault) = (Some(now), None));
            }
            Err(fault) => {
                tracing::warn!(%fault, "metrics were not taken; their counts go with the next interval");
                self.pulse.metrics(|view| {
                    view.missed += 1;
                    view.fault = Some(fault.to_string());
                });
            }
        }
    }

    /// Delivers what is posted, for ever.
    async fn deliver(&self) -> std::convert::Infallible {
        let mut pause = FIRST_RETRY;
        loop {
            if self.deliver_once().await {
                pause = FIRST_RETRY;
                self.posted.notified().await;
            } else {
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_RETRY),
                    // Another way may take the new one at once.
                    () = self.posted.notified() => {}
                }
            }
        }
    }

    /// Tries every letter on every way that it still has to go, in order; a way that fails is left until the next time.
    /// Whether all have gone.
    async fn deliver_once(&self) -> bool {
        let mut failed = BTreeSet::new();
        let waiting = self.letters().clone();
        for letter in waiting {
            for way in self.ways.iter().filter(|way| letter.ways.contains(way.name())) {
                if !failed.contains(way.name()) && !self.hand_over(way, &letter.alert).await {
                    failed.insert(way.name());
                }
            }
        }
        self.settle_letters();
        self.letters().is_empty()
    }

    async fn hand_over(&self, way: &A, alert: &Alert) -> bool {
        match way.deliver(alert).await {
            Ok(()) => {
                for letter in self.letters().iter_mut().filter(|letter| letter.alert == *alert) {
                    letter.ways.remove(way.name());
                }
                self.pulse.alarms(|view| {
                    view.delivered += 1;
                    view.faults.remove(way.name());
                });
                true
            }
            Err(fault) => {
                tracing::warn!(way = way.name(), %fault, "an alert could not be delivered; trying again");
                self.pulse.alarms(|view| drop(view.faults.insert(way.name(), fault.to_string())));
                false
            }
        }
    }

    /// Lets go of letters that have gone everywhere, and of ways that the config knows no more.
    fn settle_letters(&self) {
        let known: BTreeSet<&str> = self.ways.iter().map(AlertSink::name).collect();
        let mut letters = self.letters();
        for letter in letters.iter_mut() {
            letter.ways.retain(|way| known.contains(way.as_str()));
        }
        letters.retain(|letter| !letter.ways.is_empty());
        let waiting = letters.len() as u64;
        drop(letters);
        if self.alarms.is_some() {
            self.pulse.alarms(|view| view.waiting = waiting);
        }
    }

    /// The last interval, as far as it has come, and a last try to deliver.
    async fn end(&self, mut course: Course) -> Result<(), Fault> {
        let now = self.clock.now();
        self.pulse.heartbeat();
        let figures = self.figures(now)?;
        let last = async {
            self.send(&mut course, figures, now).await;
            self.deliver_once().await
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("the last metrics or alerts were not taken in time");
        }
        self.remember(&mut course).await
    }

    fn letters(&self) -> std::sync::MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
