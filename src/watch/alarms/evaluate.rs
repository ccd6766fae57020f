//! The definitions, evaluated by the worker itself where no CloudWatch does: by the rules that AWS documents under
//! "Configuring how CloudWatch alarms treat missing data" (user guide) and in aws-semantics 7.3.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Alarm, AlarmId, Comparison, Composite, Definitions, MissingData, Series, Settings, Signal, Standing, State,
    Statistic, definitions,
};
use crate::model::object::Timestamp;
use crate::ports::{Datum, Dimension};

/// How many periods beyond those asked for are looked at, in case some of them have no data. AWS does not tell its
/// number; its example looks at five for three.
const BEYOND: u32 = 2;

/// What the points of an evaluation range come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The state is this one.
    State(State),
    /// The state stays as it is.
    Retain,
}

/// Judges an evaluation range, the newest point last; `None` is a period without data, `Some(true)` a breach. `m` of
/// the `n` newest points that exist must breach; where fewer than `n` exist, the treatment fills up the rest.
#[must_use]
pub fn judge(range: &[Option<bool>], m: u32, n: u32, missing: MissingData) -> Judged {
    let (m, n) = (m as usize, n as usize);
    let existing: Vec<bool> = range.iter().rev().filter_map(|point| *point).take(n).collect();
    let breaching = existing.iter().filter(|breach| **breach).count();
    let filled = n - existing.len();
    let decided = |alarm: bool| Judged::State(if alarm { State::Alarm } else { State::Ok });
    if filled == 0 || breaching >= m || missing == MissingData::NotBreaching {
        return decided(breaching >= m);
    }
    if missing == MissingData::Breaching {
        return decided(breaching + filled >= m);
    }
    if breaching < existing.len() {
        return Judged::State(State::Ok);
    }
    // Nothing within the threshold, and too few beyond it: one that is as old as M points is no accident any more.
    let oldest = range.iter().position(|point| *point == Some(true)).map_or(0, |place| range.len() - place);
    match missing {
        MissingData::Missing if oldest >= m => Judged::State(State::Alarm),
        MissingData::Missing => Judged::State(State::InsufficientData),
        MissingData::Ignore | MissingData::Breaching | MissingData::NotBreaching => Judged::Retain,
    }
}

/// What one period of a series came to.
#[derive(Clone, Copy, Debug)]
struct Heap {
    max: f64,
    sum: f64,
    count: f64,
}

impl Heap {
    fn datapoint(self, statistic: Statistic) -> f64 {
        match statistic {
            Statistic::Maximum => self.max,
            Statistic::Sum => self.sum,
            Statistic::Average => self.sum / self.count,
        }
    }
}

/// Why an alarm speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Its state has changed.
    Transition,
    /// It is still in alarm.
    Reminder,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which alarm.
    pub id: AlarmId,
    /// Why now.
    pub occasion: Occasion,
    /// The state before.
    pub before: State,
    /// Where it is now.
    pub standing: Standing,
}

/// What is remembered of one alarm over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Where it is.
    pub standing: Standing,
    /// When people were last told that it is in alarm, unless they have been told since that it is not.
    pub told: Option<Timestamp>,
}

/// The data of the last periods and the state of every alarm.
#[derive(Debug)]
pub struct Evaluator {
    definitions: Definitions,
    namespace: String,
    period: Duration,
    reminder: Option<Duration>,
    /// What the alarms look at, each with the periods of which there are data, by number.
    series: BTreeMap<(&'static str, Vec<Dimension>), BTreeMap<u64, Heap>>,
    /// The first period with data: before it nothing was watched, so nothing can be missing.
    first: Option<u64>,
    alarms: BTreeMap<AlarmId, Remembered>,
}

impl Evaluator {
    /// Begins with what was remembered; an alarm that is not remembered begins without data, at `now`. People are
    /// reminded of an alarm that lasts every `reminder`, where there is one.
    #[must_use]
    pub fn new(
        settings: &Settings,
        reminder: Option<Duration>,
        mut remembered: BTreeMap<AlarmId, Remembered>,
        now: Timestamp,
    ) -> Self {
        let definitions = definitions(settings);
        for id in AlarmId::ALL {
            remembered.entry(id).or_insert_with(|| Remembered {
                standing: Standing {
                    state: State::InsufficientData,
                    since: now,
                    reason: "It has not been evaluated yet.".to_owned(),
                },
                told: None,
            });
        }
        let wanted = definitions.alarms.iter().filter_map(|alarm| match &alarm.signal {
            Signal::Series(series) if series.namespace == settings.namespace => {
                Some(((series.metric, series.dimensions.clone()), BTreeMap::new()))
            }
            Signal::Series(_) | Signal::Math { .. } => None,
        });
        let series = wanted.collect();
        let (namespace, period) = (settings.namespace.clone(), settings.period);
        Self { definitions, namespace, period, reminder, series, first: None, alarms: remembered }
    }

    /// What is to be remembered.
    #[must_use]
    pub fn remembered(&self) -> &BTreeMap<AlarmId, Remembered> {
        &self.alarms
    }

    /// What is evaluated.
    #[must_use]
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Where every alarm is, by its full name.
    #[must_use]
    pub fn standings(&self) -> Vec<(String, Standing)> {
        let alarms = self.definitions.alarms.iter().map(|alarm| (alarm.id, &alarm.name));
        let all = alarms.chain(self.definitions.composites.iter().map(|composite| (composite.id, &composite.name)));
        all.filter_map(|(id, name)| Some((name.clone(), self.alarms.get(&id)?.standing.clone()))).collect()
    }

    /// Takes the data of an interval that ended just after `at`.
    pub fn take(&mut self, at: Timestamp, data: &[Datum]) {
        let number = self.number_of(at);
        self.first.get_or_insert(number);
        for datum in data {
            if let Some(periods) = self.series.get_mut(&(datum.name, datum.dimensions.clone())) {
                let heap = periods.entry(number).or_insert(Heap { max: f64::NEG_INFINITY, sum: 0.0, count: 0.0 });
                for (value, count) in &datum.values {
                    #[allow(clippy::cast_precision_loss, reason = "a weight")]
                    let count = *count as f64;
                    heap.max = heap.max.max(*value);
                    heap.sum += value * count;
                    heap.count += count;
                }
            }
        }
    }

    /// Evaluates every alarm over the periods that have ended by `now`; what there is to tell, in the order of the
    /// definitions. Asked again for the same periods, it has nothing new.
    pub fn evaluate(&mut self, now: Timestamp) -> Vec<Notice> {
        let last = self.number_of(now).saturating_sub(1);
        if self.first.is_none_or(|first| last < first) {
            return Vec::new();
        }
        let mut notices = Vec::new();
        for alarm in self.definitions.alarms.clone() {
            let (judged, reason) = self.look(&alarm, last);
            let state = match judged {
                Judged::State(state) => Some(state),
                Judged::Retain => None,
            };
            notices.extend(self.enter(alarm.id, state, reason, now));
        }
        for composite in self.definitions.composites.clone() {
            let (state, reason) = self.combine(&composite);
            notices.extend(self.enter(composite.id, Some(state), reason, now));
        }
        let longest = self.definitions.alarms.iter().map(|alarm| alarm.evaluation_periods).max().unwrap_or(1);
        let first = last.saturating_sub(u64::from(longest.saturating_add(BEYOND)));
        for periods in self.series.values_mut() {
            periods.retain(|number, _| *number >= first);
        }
        notices
    }

    fn number_of(&self, at: Timestamp) -> u64 {
        at.0 / u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn look(&self, alarm: &Alarm, last: u64) -> (Judged, String) {
        let (n, m) = (alarm.evaluation_periods, alarm.datapoints_to_alarm);
        let own = match &alarm.signal {
            Signal::Series(series) if series.namespace == self.namespace => Some(series),
            Signal::Series(_) | Signal::Math { .. } => None,
        };
        let Some(series) = own else {
            let reason = "S3's own daily metrics exist in CloudWatch only: this alarm needs it.".to_owned();
            return (judge(&[], m, n, alarm.missing), reason);
        };
        let first = last.saturating_sub(u64::from(n.saturating_add(BEYOND)).saturating_sub(1));
        let range: Vec<Option<f64>> = (first..=last).map(|number| self.datapoint(series, number)).collect();
        let breach = |value: f64| alarm.comparison.breaches(value, alarm.threshold);
        let points: Vec<Option<bool>> = range.iter().map(|value| value.map(breach)).collect();
        (judge(&points, m, n, alarm.missing), reason(alarm, &range))
    }

    fn datapoint(&self, series: &Series, number: u64) -> Option<f64> {
        let heap = self.series.get(&(series.metric, series.dimensions.clone()))?.get(&number)?;
        Some(heap.datapoint(series.statistic))
    }

    fn combine(&self, composite: &Composite) -> (State, String) {
        let in_alarm = |id: AlarmId| self.alarms.get(&id).is_some_and(|alarm| alarm.standing.state == State::Alarm);
        let named: Vec<&str> =
            composite.rule.children().into_iter().filter(|id| in_alarm(*id)).map(AlarmId::name).collect();
        let which = if named.is_empty() { "none of its alarms".to_owned() } else { named.join(", ") };
        let state = if composite.rule.holds(&in_alarm) { State::Alarm } else { State::Ok };
        (state, format!("In alarm: {which}."))
    }

    /// Moves an alarm into a state, `None` for the one it has, and says what there is to tell.
    fn enter(&mut self, id: AlarmId, state: Option<State>, reason: String, now: Timestamp) -> Option<Notice> {
        let alarm = self.alarms.get_mut(&id)?;
        let before = alarm.standing.state;
        let state = state.unwrap_or(before);
        if state != before {
            alarm.standing = Standing { state, since: now, reason };
        }
        let changed = state != before;
        let due = alarm.told.zip(self.reminder).is_some_and(|(told, every)| now.since(told) >= every);
        let occasion = match (state, alarm.told) {
            (State::Alarm, _) if changed => Occasion::Transition,
            (State::Alarm, Some(_)) if due => Occasion::Reminder,
            // Also when it was not known for a while in between.
            (State::Ok, Some(_)) => Occasion::Transition,
            (State::Alarm | State::Ok | State::InsufficientData, _) => return None,
        };
        alarm.told = (state == State::Alarm).then_some(now);
        Some(Notice { id, occasion, before, standing: alarm.standing.clone() })
    }
}

/// What was seen, in CloudWatch's manner.
fn reason(alarm: &Alarm, range: &[Option<f64>]) -> String {
    let newest = range.iter().rev().filter_map(|value| *value).take(alarm.evaluation_periods as usize);
    let shown: Vec<String> = newest.map(|value| value.to_string()).collect();
    let compared = match alarm.comparison {
        Comparison::GreaterThan => "greater than",
        Comparison::LessThan => "less than",
        Comparison::LessThanOrEqual => "at most",
    };
    let missing = (alarm.evaluation_periods as usize).saturating_sub(shown.len());
    let asked =
        format!("{} of {} must be {compared} {}", alarm.datapoints_to_alarm, alarm.evaluation_periods, alarm.threshold);
    match (shown.is_empty(), missing) {
        (true, _) => {
            format!("No datapoint in {} periods ({asked}; missing ones are {}).", range.len(), alarm.missing.name())
        }
        (false, 0) => format!("Datapoints, the newest first: {} ({asked}).", shown.join(", ")),
        (false, _) => format!(
            "Datapoints, the newest first: {}, and {missing} missing, which are {} ({asked}).",
            shown.join(", "),
            alarm.missing.name()
        ),
    }
}

#[cfg(test)]
mod tests;
