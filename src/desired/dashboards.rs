//! Two dashboards, made from the catalogue of metrics: one of all regions, one of the targets'.

use serde_json::{Value, json};

use super::escalation::Watcher;
use super::wish::{Want, Wish};
use super::{Accounts, Bucket, Settings};
use crate::ports::setup::{Dashboard, Document, Kind, Place, RequestMetrics, Resource};
use crate::watch::alarms;
use crate::watch::catalogue::{self, Dimension, Metric, MetricSide, Scope};

/// The id that the console gives to the configuration of a whole bucket; the dashboards ask for it by name.
const REQUEST_METRICS: &str = "EntireBucket";
/// A dashboard is 24 columns wide (aws-semantics 8): two widgets in a row.
const WIDTH: u32 = 12;
const HEIGHT: u32 = 6;
/// S3 reports storage once a day and requests once a minute (aws-semantics 8.3).
const DAY: u64 = 86_400;
const MINUTE: u64 = 60;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Both sides and the worker.
    Primary,
    /// What the targets' regions hold and refuse.
    Regional,
}

impl View {
    const ALL: [Self; 2] = [Self::Primary, Self::Regional];

    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Regional => "regional",
        }
    }
}

pub(super) fn wishes(settings: &Settings, accounts: &Accounts) -> Vec<Wish> {
    if settings.escalation.watcher == Watcher::Worker {
        let reason = "monitoring.cloudwatch is false: the worker's own page shows the figures".to_owned();
        return vec![Wish::new(resource(settings, View::Primary), Want::Unavailable(reason))];
    }
    let metrics = settings.buckets().map(|bucket| {
        let want = Document::RequestMetrics(RequestMetrics { filter: String::new() });
        Wish::new(request_metrics(bucket), Want::Exact(want))
    });
    let dashboards = View::ALL.map(|view| {
        let body = body(settings, accounts, view);
        Wish::new(resource(settings, view), Want::Exact(Document::Dashboard(Dashboard { body })))
    });
    metrics.chain(dashboards).collect()
}

pub(super) fn farewells(settings: &Settings) -> Vec<Wish> {
    let gone = |resource| {
        let made_by = Some(settings.prefix.clone());
        Wish::new(resource, Want::Gone { made_by, sid: String::new() })
    };
    let dashboards = View::ALL.map(|view| gone(resource(settings, view)));
    let shared = "S3 does not tell who made it: whoever else reads these metrics loses them, and apply makes it again";
    // Without CloudWatch there is less reason still to take them for ours.
    let buckets = settings.buckets().filter(|_| settings.escalation.watcher == Watcher::CloudWatch);
    let metrics = buckets.map(|bucket| gone(request_metrics(bucket)).noting(shared));
    dashboards.into_iter().chain(metrics).collect()
}

fn resource(settings: &Settings, view: View) -> Resource {
    Resource::new(Kind::Dashboard, Place::Monitoring, format!("{}-{}", settings.prefix, view.name()))
}

fn request_metrics(bucket: &Bucket) -> Resource {
    Resource::new(Kind::RequestMetrics, bucket.place.clone(), format!("{}/{REQUEST_METRICS}", bucket.bucket))
}

/// A widget without its place.
struct Widget {
    kind: &'static str,
    properties: Value,
}

fn body(settings: &Settings, accounts: &Accounts, view: View) -> Value {
    let mut widgets = Vec::new();
    widgets.extend((view == View::Primary).then(|| states(settings, accounts)));
    let sent = Metric::ALL.into_iter().filter(|metric| is_sent(settings, *metric));
    widgets.extend(sent.filter_map(|metric| own(settings, view, metric)));
    for bucket in settings.buckets().filter(|bucket| bucket.measured) {
        if view == View::Primary || bucket.place != Place::Source {
            widgets.extend(of_bucket(bucket));
        }
    }
    let placed: Vec<Value> = widgets
        .into_iter()
        .zip(0_u32..)
        .map(|(widget, nth)| {
            json!({
                "type": widget.kind, "x": nth % 2 * WIDTH, "y": nth / 2 * HEIGHT, "width": WIDTH, "height": HEIGHT,
                "properties": widget.properties,
            })
        })
        .collect();
    json!({"widgets": placed})
}

/// The state of every alarm of the monitoring region, composites first.
fn states(settings: &Settings, accounts: &Accounts) -> Widget {
    let (region, account) = (&settings.escalation.region, &accounts.monitoring);
    let definitions = &settings.escalation.definitions;
    let composites = definitions.composites.iter().map(|composite| &composite.name);
    let here = definitions.alarms.iter().filter(|alarm| alarm.place == alarms::Place::MonitoringRegion);
    let arns: Vec<String> = composites
        .chain(here.map(|alarm| &alarm.name))
        .map(|name| format!("arn:{}:cloudwatch:{region}:{account}:alarm:{name}", settings.partition))
        .collect();
    Widget { kind: "alarm", properties: json!({"title": format!("Alarms of {}", settings.prefix), "alarms": arns}) }
}

/// Whether the worker sends it: those of the canary only where there is one.
fn is_sent(settings: &Settings, metric: Metric) -> bool {
    let mut defined = settings.escalation.definitions.alarms.iter();
    let has_canary = defined.any(|alarm| alarm.id == alarms::AlarmId::CanaryFailed);
    has_canary || !matches!(metric, Metric::CanaryLatency | Metric::CanaryFailed)
}

/// One of our own metrics; `None` where the view has no series of it.
fn own(settings: &Settings, view: View, metric: Metric) -> Option<Widget> {
    let source = &settings.source.bucket;
    let whole = || vec![("all".to_owned(), catalogue::of_source(source))];
    let rules = settings
        .rules
        .iter()
        .map(|(rule, target)| (rule.as_str().to_owned(), catalogue::of_rule(source, target, rule)));
    let side = |side: MetricSide| (side.name().to_owned(), catalogue::of_side(source, side));
    let series: Vec<(String, Vec<Dimension>)> = match (metric.scope(), view) {
        (Scope::Rules, View::Primary) => whole().into_iter().chain(rules).collect(),
        (Scope::Rules, View::Regional) => rules.collect(),
        (Scope::Sides, View::Primary) => MetricSide::ALL.map(side).to_vec(),
        (Scope::Sides, View::Regional) => vec![side(MetricSide::Target)],
        (Scope::Whole, View::Primary) => whole(),
        (Scope::Whole, View::Regional) => return None,
    };
    let statistics: &[&str] = match metric.kind() {
        catalogue::Kind::Distribution => &["p50", "p99", "Maximum"],
        catalogue::Kind::Counter => &["Sum"],
        catalogue::Kind::Gauge => &["Maximum"],
    };
    let escalation = &settings.escalation;
    let mut metrics = Vec::new();
    for (label, dimensions) in &series {
        for statistic in statistics {
            let mut line = vec![json!(escalation.namespace), json!(metric.name())];
            line.extend(dimensions.iter().flat_map(|one| [json!(one.name), json!(one.value)]));
            let label = if statistics.len() > 1 { format!("{label} {statistic}") } else { label.clone() };
            line.push(json!({"stat": statistic, "label": label}));
            metrics.push(Value::Array(line));
        }
    }
    let mut properties = json!({
        "title": format!("{}: {}", metric.name(), metric.help()),
        "region": escalation.region, "view": "timeSeries", "period": escalation.period_seconds.max(MINUTE),
        "metrics": metrics,
        "yAxis": {"left": {"min": 0, "label": metric.unit().name(), "showUnits": false}},
    });
    if matches!(metric, Metric::ReplicationLatency | Metric::OldestPendingAge)
        && let Some(fields) = properties.as_object_mut()
    {
        let promise = json!({"horizontal": [{"label": "promised", "value": escalation.sla_seconds}]});
        fields.insert("annotations".to_owned(), promise);
    }
    Some(Widget { kind: "metric", properties })
}

/// What S3 itself tells of a bucket: storage by class, objects, requests, errors.
fn of_bucket(bucket: &Bucket) -> Vec<Widget> {
    let Bucket { bucket: name, region, .. } = bucket;
    let chart = |title: &str, period: u64, metrics: Value| Widget {
        kind: "metric",
        properties: json!({
            "title": format!("{name}: {title}"), "region": region, "view": "timeSeries", "period": period,
            "metrics": metrics, "yAxis": {"left": {"min": 0}},
        }),
    };
    let searched = |schema: &str, metric: &str, label: &str| {
        let expression = format!(
            "SEARCH('{{AWS/S3,BucketName,{schema}}} BucketName=\"{name}\" MetricName=\"{metric}\"', 'Average', {DAY})"
        );
        json!([[{"expression": expression, "id": "e1", "label": label}]])
    };
    let requests = |metrics: &[(&str, &str)]| {
        let line = |(metric, statistic): &(&str, &str)| json!(["AWS/S3", metric, "BucketName", name, "FilterId", REQUEST_METRICS, {"stat": statistic}]);
        Value::Array(metrics.iter().map(line).collect())
    };
    vec![
        chart("bytes by storage class", DAY, searched("StorageType", "BucketSizeBytes", "")),
        chart("objects and versions", DAY, searched("StorageType", "NumberOfObjects", "")),
        chart(
            "requests",
            MINUTE,
            requests(&[("AllRequests", "Sum"), ("BytesUploaded", "Sum"), ("BytesDownloaded", "Sum")]),
        ),
        chart("errors of all clients", MINUTE, requests(&[("4xxErrors", "Sum"), ("5xxErrors", "Sum")])),
    ]
}
