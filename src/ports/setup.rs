//! What `apply` asks of the accounts: three verbs over the documents of what it sets up.
//!
//! A document holds what is compared, spelt in one way: lists sorted, defaults filled in, ARNs whole. Adapters bring
//! what a service tells into that form; what they leave out is neither compared nor changed.

use std::collections::BTreeMap;
use std::future::Future;

use serde::Serialize;
use serde_json::Value;

use crate::model::fault::Fault;
use crate::model::object::TargetId;

/// Whose account, and which region of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The source bucket's store.
    Source,
    /// A target bucket's store.
    Target(TargetId),
    /// Where the queue is.
    Queue,
    /// The monitoring region.
    Monitoring,
    /// CloudWatch and SNS in the source's region.
    SourceMonitoring,
}

/// What kind of thing a [`Resource`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An SQS queue with its policy; named by its URL.
    Queue,
    /// A bucket's versioning; named by the bucket, as are the next four.
    Versioning,
    /// A bucket's event notifications.
    Notification,
    /// A bucket's lifecycle rules.
    Lifecycle,
    /// One Intelligent-Tiering configuration.
    IntelligentTiering,
    /// One request-metrics configuration.
    RequestMetrics,
    /// An SNS topic with its policy and subscriptions.
    Topic,
    /// A metric alarm.
    Alarm,
    /// A composite alarm.
    CompositeAlarm,
    /// An IAM role for EventBridge.
    Role,
    /// An EventBridge rule on the default bus, with its target.
    EventRule,
    /// A CloudWatch dashboard.
    Dashboard,
}

impl Kind {
    /// The name in what `apply` prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Versioning => "versioning",
            Self::Notification => "notification",
            Self::Lifecycle => "lifecycle",
            Self::IntelligentTiering => "intelligent-tiering",
            Self::RequestMetrics => "request-metrics",
            Self::Topic => "topic",
            Self::Alarm => "alarm",
            Self::CompositeAlarm => "composite-alarm",
            Self::Role => "role",
            Self::EventRule => "event-rule",
            Self::Dashboard => "dashboard",
        }
    }
}

/// One thing in an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// Of what kind.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// Its name there; for a thing of a bucket the bucket's, with `/` and the configuration's id where it has one.
    pub name: String,
}

impl Resource {
    /// The thing of that name.
    #[must_use]
    pub fn new(kind: Kind, place: Place, name: impl Into<String>) -> Self {
        Self { kind, place, name: name.into() }
    }

    /// The configuration's id behind the bucket's name.
    #[must_use]
    pub fn id(&self) -> &str {
        self.name.split_once('/').map_or("", |(_, id)| id)
    }
}

/// What a resource is like.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Document {
    /// Of [`Kind::Queue`].
    Queue(Queue),
    /// Of [`Kind::Versioning`].
    Versioning(Versioned),
    /// Of [`Kind::Notification`].
    Notification(Notifications),
    /// Of [`Kind::Lifecycle`].
    Lifecycle(Lifecycle),
    /// Of [`Kind::IntelligentTiering`].
    IntelligentTiering(Tiering),
    /// Of [`Kind::RequestMetrics`].
    RequestMetrics(RequestMetrics),
    /// Of [`Kind::Topic`].
    Topic(Topic),
    /// Of [`Kind::Alarm`].
    Alarm(Alarm),
    /// Of [`Kind::CompositeAlarm`].
    CompositeAlarm(CompositeAlarm),
    /// Of [`Kind::Role`].
    Role(Role),
    /// Of [`Kind::EventRule`].
    EventRule(EventRule),
    /// Of [`Kind::Dashboard`].
    Dashboard(Dashboard),
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Queue {
    /// Its ARN.
    pub arn: String,
    /// How it is encrypted.
    pub encryption: QueueEncryption,
    /// How long it keeps a message, in seconds.
    pub retention_seconds: u32,
    /// Where messages go that were received too often.
    pub redrive: Option<Redrive>,
    /// Its policy; `null` for none.
    pub policy: Value,
    /// The prefix of the set-up that made it; `None` where `repl` did not.
    pub made_by: Option<String>,
    /// Messages in it, visible or not, as it tells; part of no comparison.
    #[serde(skip)]
    pub messages: Option<u64>,
}

/// How a queue is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueEncryption {
    /// Not at all.
    #[default]
    None,
    /// By SQS's own keys (SSE-SQS).
    Managed,
    /// Under this KMS key.
    Key(String),
}

/// Where messages go that were received too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redrive {
    /// The dead-letter queue's ARN.
    pub dead_letter: String,
    /// After so many receives.
    pub max_receives: u32,
}

/// A bucket's versioning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Versioned {
    /// `enabled`, `suspended` or `off`.
    pub state: &'static str,
}

/// A bucket's event notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notifications {
    /// Each configuration, by id.
    pub configurations: BTreeMap<String, Notification>,
}

/// Events that not every store knows: an adapter leaves them out where they are refused, and says so.
pub const NOVEL_EVENTS: [&str; 1] = ["s3:ObjectRetention:Put"];

/// One configuration of event notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notification {
    /// The queue, topic or function.
    pub destination: String,
    /// What it hears of, sorted: `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// Keys that begin so; empty for all. As S3 stores it.
    pub prefix: String,
    /// Keys that end so; empty for all.
    pub suffix: String,
}

/// A bucket's lifecycle rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lifecycle {
    /// Each rule, by id.
    pub rules: BTreeMap<String, LifecycleRule>,
}

/// One lifecycle rule; days count from creation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LifecycleRule {
    /// Whether it is in force.
    pub enabled: bool,
    /// The keys it is about begin so.
    pub prefix: String,
    /// Days and storage class, ages ascending.
    pub transitions: Vec<(u32, String)>,
    /// Current versions expire.
    pub expire_days: Option<u32>,
    /// Noncurrent versions are deleted.
    pub noncurrent_expire_days: Option<u32>,
    /// Incomplete multipart uploads are aborted.
    pub abort_multipart_days: Option<u32>,
    /// What else the rule says, as text: `repl` never writes that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub further: Option<String>,
}

/// An Intelligent-Tiering configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tiering {
    /// Whether it is in force.
    pub enabled: bool,
    /// The objects it is about: empty for all, else what its filter says.
    pub filter: String,
    /// Days without access, by access tier.
    pub tiers: BTreeMap<String, u32>,
}

/// A request-metrics configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestMetrics {
    /// The objects it is about: empty for all, else what its filter says.
    pub filter: String,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Topic {
    /// The KMS key it is encrypted under; `None` for none.
    pub kms_key: Option<String>,
    /// Its policy.
    pub policy: Value,
    /// Who hears by e-mail.
    pub emails: BTreeMap<String, Confirmation>,
    /// Whether anything else hears; part of no comparison.
    #[serde(skip)]
    pub others_hear: bool,
    /// The prefix of the set-up that made it; `None` where `repl` did not.
    pub made_by: Option<String>,
}

/// Whether a subscriber has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// The mail with the link has been sent, and the link not been opened.
    Pending,
    /// Hears.
    Confirmed,
}

/// A metric alarm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alarm {
    /// For people.
    pub description: String,
    /// What is measured; `None` where the service does not tell.
    pub measure: Option<Measure>,
    /// How many periods are looked at.
    pub evaluation_periods: u32,
    /// How many of them must breach.
    pub datapoints: u32,
    /// The bound.
    pub threshold: f64,
    /// `GreaterThanThreshold` and so on.
    pub comparison: String,
    /// What a missing datapoint counts as: `missing`, `notBreaching`, `breaching` or `ignore`.
    pub missing: String,
    /// Who hears.
    pub actions: Actions,
}

/// What an alarm measures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// One metric.
    Metric(Statistic),
    /// An expression over metrics: each query by its id.
    Math(BTreeMap<String, Query>),
}

/// A statistic of one metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistic {
    /// `AWS/S3`.
    pub namespace: String,
    /// `NumberOfObjects`.
    pub metric: String,
    /// Which of that name.
    pub dimensions: BTreeMap<String, String>,
    /// `Sum`, `Maximum`, `p99`.
    pub statistic: String,
    /// In seconds.
    pub period: u32,
}

/// One query of a metric-math alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Query {
    /// A metric that the expression uses.
    Metric(Statistic),
    /// The expression that is compared, and what its result is called.
    Expression {
        /// In CloudWatch's metric math.
        expression: String,
        /// For people.
        label: String,
    },
}

/// Who hears of an alarm: ARNs, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Actions {
    /// Whether they are carried out.
    pub enabled: bool,
    /// When it fires.
    pub alarm: Vec<String>,
    /// When it is over.
    pub ok: Vec<String>,
    /// When there is nothing to judge by.
    pub insufficient: Vec<String>,
}

/// A composite alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompositeAlarm {
    /// For people.
    pub description: String,
    /// In CloudWatch's grammar, with single spaces.
    pub rule: String,
    /// Who hears.
    pub actions: Actions,
}

/// A role for EventBridge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Role {
    /// Who may take it.
    pub trust: Value,
    /// What it may do.
    pub policy: Value,
    /// The prefix of the set-up that made it; `None` where `repl` did not.
    pub made_by: Option<String>,
}

/// An EventBridge rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRule {
    /// For people.
    pub description: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// What it matches.
    pub pattern: Value,
    /// Where it sends to, by the target's id.
    pub targets: BTreeMap<String, EventTarget>,
}

/// A target of an EventBridge rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventTarget {
    /// An event bus.
    pub arn: String,
    /// The role that EventBridge takes to send there.
    pub role: String,
}

/// A dashboard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dashboard {
    /// Its body.
    pub body: Value,
}

/// What is there of a resource.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and matched by what is inside")]
pub enum Held {
    /// Nothing.
    Absent,
    /// This.
    Present(Document),
    /// The store has no such thing at all: why, in one sentence.
    Unsupported(String),
}

/// The accounts that hold what is set up. `Denied`, `Throttled` and `Transient` can come from every method.
pub trait Estate: Send + Sync {
    /// The account's id, twelve digits.
    fn account(&self, place: &Place) -> impl Future<Output = Result<String, Fault>> + Send;

    /// What is there now. Changes nothing.
    fn read(&self, resource: &Resource) -> impl Future<Output = Result<Held, Fault>> + Send;

    /// Brings a resource from `before` to `after`, and leaves alone what neither names. Returns what the service had
    /// to remark. Safe to repeat; if it fails or is dropped, a part may have been done: read again.
    fn write(
        &self,
        resource: &Resource,
        before: Option<&Document>,
        after: &Document,
    ) -> impl Future<Output = Result<Vec<String>, Fault>> + Send;

    /// Removes a resource, or of a bucket's the parts that `before` names. One that is gone is no fault.
    fn remove(&self, resource: &Resource, before: &Document) -> impl Future<Output = Result<(), Fault>> + Send;
}
