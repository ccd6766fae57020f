//! Where figures and messages about them leave: the ports of `watch`.

use std::future::Future;

use crate::model::fault::Fault;
use crate::model::object::Timestamp;

/// One dimension of a series of metrics: names and values are ASCII (aws-semantics 7.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimension {
    /// Its name.
    pub name: &'static str,
    /// Its value, never blank.
    pub value: String,
}

/// What one series of a metric came to in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// The metric's name.
    pub name: &'static str,
    /// CloudWatch's word for the unit of its values.
    pub unit: &'static str,
    /// What tells the series apart.
    pub dimensions: Vec<Dimension>,
    /// Each value with how often it came; never empty, every value finite, every count above zero.
    pub values: Vec<(f64, u64)>,
}

/// Where metrics are sent.
pub trait MetricSink: Send + Sync + 'static {
    /// Takes the data of one interval, which ended just after `at`; all or an error. If dropped, or if no answer came,
    /// some of it may have been taken: sent again, it counts twice.
    fn send(&self, at: Timestamp, data: &[Datum]) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// Who hears of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Who looks after it by day.
    Standard,
    /// Who is on call.
    Critical,
    /// Who answers for it.
    Management,
}

impl Tier {
    /// All, the mildest first.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Critical, Self::Management];

    /// The name in config, topics and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Critical => "critical",
            Self::Management => "management",
        }
    }
}

/// A message about an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Who hears of it.
    pub tier: Tier,
    /// Printable ASCII, below 100 characters, as SNS wants it (aws-semantics 7.4).
    pub subject: String,
    /// For people.
    pub text: String,
    /// For machines: JSON in the shape of CloudWatch's own message.
    pub json: String,
}

/// One way on which alerts leave.
pub trait AlertSink: Send + Sync + 'static {
    /// What it is called in status and log, without secrets.
    fn name(&self) -> &'static str;

    /// Whether it reaches anybody of that tier.
    fn reaches(&self, tier: Tier) -> bool;

    /// Hands an alert on. If dropped, or if no answer came, it may have been heard: given again, it is heard twice.
    fn deliver(&self, alert: &Alert) -> impl Future<Output = Result<(), Fault>> + Send;
}
