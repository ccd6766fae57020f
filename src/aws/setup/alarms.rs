//! Alarms and composite alarms.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{
    AlarmType, ComparisonOperator, Dimension, Metric, MetricAlarm, MetricDataQuery, MetricStat, StandardUnit,
    Statistic as Known, Tag,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Endpoint, MADE_BY, Site, client, unless_absent};
use crate::model::fault::{Fault, Side};
use crate::ports::setup::{Actions, Alarm, CompositeAlarm, Document, Held, Measure, Query, Statistic};

/// Between two puts: CloudWatch takes three alarms a second (aws-semantics 7.3).
const BETWEEN_PUTS: Duration = Duration::from_millis(340);
/// What CloudWatch answers where there is no such alarm.
const NO_ALARM: [&str; 2] = ["ResourceNotFound", "ResourceNotFoundException"];

/// The alarms of one region.
pub(super) struct Alarms {
    client: Client,
    side: Side,
    prefix: String,
    pace: Pace,
}

/// Lets puts through one after the other, no faster than CloudWatch takes them.
#[derive(Default)]
struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits for this put's turn.
    async fn turn(&self) {
        let mut next = self.0.lock().await;
        if let Some(next) = *next {
            tokio::time::sleep_until(next).await;
        }
        *next = Some(Instant::now() + BETWEEN_PUTS);
    }
}

impl Alarms {
    pub(super) fn new(config: &SdkConfig, endpoint: &Endpoint, prefix: &str) -> Self {
        let client = client!(aws_sdk_cloudwatch, config);
        Self { client, side: endpoint.owner_side, prefix: prefix.to_owned(), pace: Pace::default() }
    }

    fn site(&self, during: &'static str) -> Site {
        Site::new(self.side, during)
    }

    fn made_by(&self) -> Tag {
        Tag::builder().key(MADE_BY).value(&self.prefix).build()
    }

    pub(super) async fn read(&self, name: &str) -> Result<Held, Fault> {
        let site = self.site("read the alarm");
        let request = self.client.describe_alarms().alarm_names(name).alarm_types(AlarmType::MetricAlarm);
        let answer = request.send().await.map_err(|error| site.explain(&error))?;
        let found = answer.metric_alarms().iter().find(|alarm| alarm.alarm_name() == Some(name));
        Ok(found.map_or(Held::Absent, |alarm| Held::Present(Document::Alarm(read_alarm(alarm)))))
    }

    pub(super) async fn read_composite(&self, name: &str) -> Result<Held, Fault> {
        let site = self.site("read the composite alarm");
        let request = self.client.describe_alarms().alarm_names(name).alarm_types(AlarmType::CompositeAlarm);
        let answer = request.send().await.map_err(|error| site.explain(&error))?;
        let found = answer.composite_alarms().iter().find(|alarm| alarm.alarm_name() == Some(name));
        Ok(found.map_or(Held::Absent, |alarm| {
            let rule = alarm.alarm_rule().unwrap_or_default();
            Held::Present(Document::CompositeAlarm(CompositeAlarm {
                description: alarm.alarm_description().unwrap_or_default().to_owned(),
                rule: rule.split_whitespace().collect::<Vec<_>>().join(" "),
                actions: Actions {
                    enabled: alarm.actions_enabled().unwrap_or(true),
                    alarm: sorted(alarm.alarm_actions()),
                    ok: sorted(alarm.ok_actions()),
                    insufficient: sorted(alarm.insufficient_data_actions()),
                },
            }))
        }))
    }

    /// Puts an alarm; its tag is taken only while it is made, and refused by no update.
    pub(super) async fn put(&self, name: &str, wanted: &Alarm, is_new: bool) -> Result<(), Fault> {
        let site = self.site("write the alarm");
        let mut request = self
            .client
            .put_metric_alarm()
            .alarm_name(name)
            .alarm_description(&wanted.description)
            .evaluation_periods(whole(wanted.evaluation_periods))
            .datapoints_to_alarm(whole(wanted.datapoints))
            .threshold(wanted.threshold)
            .comparison_operator(ComparisonOperator::from(wanted.comparison.as_str()))
            .treat_missing_data(&wanted.missing)
            .actions_enabled(wanted.actions.enabled)
            .set_alarm_actions(Some(wanted.actions.alarm.clone()))
            .set_ok_actions(Some(wanted.actions.ok.clone()))
            .set_insufficient_data_actions(Some(wanted.actions.insufficient.clone()))
            .set_tags(is_new.then(|| vec![self.made_by()]));
        match &wanted.measure {
            Some(Measure::Metric(series)) => {
                request = request
                    .namespace(&series.namespace)
                    .metric_name(&series.metric)
                    .set_dimensions(Some(dimensions(series)))
                    .period(whole(series.period));
                request = match Known::from(series.statistic.as_str()) {
                    known if Known::values().contains(&known.as_str()) => request.statistic(known),
                    _ => request.extended_statistic(&series.statistic),
                };
            }
            Some(Measure::Math(queries)) => request = request.set_metrics(Some(written(queries))),
            None => {}
        }
        self.pace.turn().await;
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    pub(super) async fn put_composite(&self, name: &str, wanted: &CompositeAlarm, is_new: bool) -> Result<(), Fault> {
        let site = self.site("write the composite alarm");
        let request = self
            .client
            .put_composite_alarm()
            .alarm_name(name)
            .alarm_description(&wanted.description)
            .alarm_rule(&wanted.rule)
            .actions_enabled(wanted.actions.enabled)
            .set_alarm_actions(Some(wanted.actions.alarm.clone()))
            .set_ok_actions(Some(wanted.actions.ok.clone()))
            .set_insufficient_data_actions(Some(wanted.actions.insufficient.clone()))
            .set_tags(is_new.then(|| vec![self.made_by()]));
        self.pace.turn().await;
        request.send().await.map(drop).map_err(|error| site.explain(&error))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), Fault> {
        let site = self.site("delete the alarm");
        let answer = self.client.delete_alarms().alarm_names(name).send().await;
        unless_absent(answer.map_err(|error| site.explain(&error)), &NO_ALARM).map(drop)
    }
}

fn sorted(arns: &[String]) -> Vec<String> {
    let mut arns = arns.to_vec();
    arns.sort();
    arns
}

fn whole(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn number(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn dimensions(series: &Statistic) -> Vec<Dimension> {
    series.dimensions.iter().map(|(name, value)| Dimension::builder().name(name).value(value).build()).collect()
}

fn read_dimensions(dimensions: &[Dimension]) -> BTreeMap<String, String> {
    let pair = |one: &Dimension| Some((one.name()?.to_owned(), one.value()?.to_owned()));
    dimensions.iter().filter_map(pair).collect()
}

fn written(queries: &BTreeMap<String, Query>) -> Vec<MetricDataQuery> {
    let one = |(id, query): (&String, &Query)| match query {
        Query::Metric(series) => {
            let metric = Metric::builder()
                .namespace(&series.namespace)
                .metric_name(&series.metric)
                .set_dimensions(Some(dimensions(series)))
                .build();
            let stat =
                MetricStat::builder().metric(metric).period(whole(series.period)).stat(&series.statistic).build();
            MetricDataQuery::builder().id(id).metric_stat(stat).return_data(false).build()
        }
        Query::Expression { expression, label } => {
            MetricDataQuery::builder().id(id).expression(expression).label(label).return_data(true).build()
        }
    };
    queries.iter().map(one).collect()
}

fn read_queries(queries: &[MetricDataQuery]) -> BTreeMap<String, Query> {
    let one = |query: &MetricDataQuery| {
        let id = query.id().unwrap_or_default().to_owned();
        if let Some(expression) = query.expression() {
            let label = query.label().unwrap_or_default().to_owned();
            return Some((id, Query::Expression { expression: expression.to_owned(), label }));
        }
        let stat = query.metric_stat()?;
        let metric = stat.metric()?;
        let series = Statistic {
            namespace: metric.namespace().unwrap_or_default().to_owned(),
            metric: metric.metric_name().unwrap_or_default().to_owned(),
            dimensions: read_dimensions(metric.dimensions()),
            statistic: stat.stat().unwrap_or_default().to_owned(),
            period: number(stat.period()),
        };
        Some((id, Query::Metric(series)))
    };
    queries.iter().filter_map(one).collect()
}

fn read_alarm(alarm: &MetricAlarm) -> Alarm {
    let measure = match alarm.metric_name() {
        Some(metric) if !metric.is_empty() => Some(Measure::Metric(Statistic {
            namespace: alarm.namespace().unwrap_or_default().to_owned(),
            metric: metric.to_owned(),
            dimensions: read_dimensions(alarm.dimensions()),
            statistic: alarm
                .statistic()
                .map(|known| known.as_str().to_owned())
                .or_else(|| alarm.extended_statistic().map(str::to_owned))
                .unwrap_or_default(),
            period: number(alarm.period()),
        })),
        _ if !alarm.metrics().is_empty() => Some(Measure::Math(read_queries(alarm.metrics()))),
        _ => None,
    };
    let periods = number(alarm.evaluation_periods());
    // An alarm with a unit sees only what was sent under it: it is not the one that is wanted.
    let unit = alarm.unit().map(StandardUnit::as_str).map(|unit| format!(" (unit {unit})"));
    Alarm {
        description: alarm.alarm_description().unwrap_or_default().to_owned() + unit.as_deref().unwrap_or_default(),
        measure,
        evaluation_periods: periods,
        // Left out it is all of them.
        datapoints: alarm.datapoints_to_alarm().map_or(periods, |count| number(Some(count))),
        threshold: alarm.threshold().unwrap_or_default(),
        comparison: alarm.comparison_operator().map(|operator| operator.as_str().to_owned()).unwrap_or_default(),
        missing: alarm.treat_missing_data().filter(|word| !word.is_empty()).unwrap_or("missing").to_owned(),
        actions: Actions {
            enabled: alarm.actions_enabled().unwrap_or(true),
            alarm: sorted(alarm.alarm_actions()),
            ok: sorted(alarm.ok_actions()),
            insufficient: sorted(alarm.insufficient_data_actions()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_than_three_puts() {
        let (pace, mut at) = (Pace::default(), Vec::new());
        for _ in 0..8 {
            pace.turn().await;
            at.push(Instant::now());
        }
        assert!(at.windows(4).all(|puts| puts[3] - puts[0] > Duration::from_secs(1)), "{at:?}");
    }
}
