//! The config as meant: every default filled in, every unit read, every name checked.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::object::TargetId;
use crate::model::region;
use crate::model::window::Window;
use crate::plan::route::Rule;
use crate::watch::alarms::{self, Thresholds};

/// All of a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The bucket that is replicated.
    pub source: Source,
    /// Where its events arrive; `None` where neither `run` nor `apply notifications` is wanted.
    pub queue: Option<Queue>,
    /// Where to, in the order of the file; at least one.
    pub targets: Vec<Target>,
    /// What is replicated, in the order of the file; at least one.
    pub rules: Vec<Rule>,
    /// The durable state.
    pub ledger: Ledger,
    /// The brake on mass deletes (P11).
    pub brake: Brake,
    /// Where receipts go; `None` is off.
    pub receipts: Option<Receipts>,
    /// The canary object; `None` is off.
    pub canary: Option<Canary>,
    /// Bounds of the transfer.
    pub transfer: Transfer,
    /// What was promised to the users of the target.
    pub sla: Sla,
    /// Where metrics and alarms live.
    pub monitoring: Monitoring,
    /// The page and its endpoints.
    pub web: Web,
    /// Alarms and the three tiers that hear of them.
    pub escalation: Escalation,
    /// Lifecycle of both buckets.
    pub lifecycle: Lifecycle,
}

impl Config {
    /// The target of that name.
    #[must_use]
    pub fn target(&self, id: &TargetId) -> Option<&Target> {
        self.targets.iter().find(|target| target.id == *id)
    }
}

/// How one side is reached and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The region that is signed for.
    pub region: String,
    /// An S3-compatible store or emulator, without a slash at the end; `None` for AWS itself.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name.
    pub path_style: bool,
    /// A profile of the AWS config files; `None` for the normal credential chain.
    pub profile: Option<String>,
    /// A role to assume on top of that.
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    pub external_id: Option<String>,
    /// The account that must own the bucket, sent with every request.
    pub expected_bucket_owner: Option<String>,
    /// Whether plain HTTP is accepted to a host that is not this machine.
    pub allow_http: bool,
}

impl Connection {
    /// Whether both sides act as one identity; region and endpoint may differ.
    #[must_use]
    pub fn same_identity(&self, other: &Self) -> bool {
        (&self.profile, &self.role_arn, &self.external_id) == (&other.profile, &other.role_arn, &other.external_id)
    }

    /// Whether both sides are one store, in which a bucket name means one bucket: one endpoint, or one AWS partition.
    #[must_use]
    pub fn same_store(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && (self.endpoint.is_some() || self.partition() == other.partition())
    }

    /// The AWS partition of the region, as it stands in an ARN.
    #[must_use]
    pub fn partition(&self) -> &'static str {
        region::partition(&self.region)
    }
}

/// The bucket that is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub bucket: String,
    /// How it is reached.
    pub connection: Connection,
}

/// A bucket that is kept equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in this file.
    pub id: TargetId,
    /// The bucket's name.
    pub bucket: String,
    /// How it is reached.
    pub connection: Connection,
}

/// The queue of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The queue's URL.
    pub url: String,
    /// When a message is deleted.
    pub ack: Ack,
    /// The KMS key that `apply` encrypts it under; `None` for SQS's own.
    pub kms_key: Option<String>,
    /// Receives until `apply` has a message given up into the dead-letter queue.
    pub max_receives: u32,
    /// How SQS is reached.
    pub connection: Connection,
}

/// When a message is deleted from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Once its work is on disk.
    Admitted,
    /// Once its work is done; until then its visibility is extended.
    Settled,
}

/// The durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Its directory.
    pub path: PathBuf,
}

/// Replicated deletes beyond either bound are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// Deletes in any one hour.
    pub deletes_per_hour: u64,
    /// Deletes as a share of the keys known at the target.
    pub share_of_keys: Share,
}

/// A part of a whole, exact to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// From millionths; `None` for more than the whole.
    #[must_use]
    pub const fn from_parts_per_million(parts: u32) -> Option<Self> {
        if parts <= 1_000_000 { Some(Self(parts)) } else { None }
    }

    /// From whole percent, capped at the whole.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        if percent >= 100 { Self(1_000_000) } else { Self(percent as u32 * 10_000) }
    }

    /// In millionths.
    #[must_use]
    pub const fn parts_per_million(self) -> u32 {
        self.0
    }
}

/// Where receipts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// The bucket.
    pub bucket: String,
    /// Put before every receipt's key.
    pub prefix: String,
    /// How it is reached; what the section leaves out is as at the first target.
    pub connection: Connection,
}

/// An object that is written to the source again and again, to see it arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// How often; at least a second.
    pub every: Duration,
}

/// Bounds of the transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Whether bytes pass through the worker.
    pub mode: TransferMode,
    /// Bytes in flight, a hard bound.
    pub memory: u64,
    /// Objects and parts at once.
    pub concurrency: Concurrency,
    /// Bytes per second; `None` is unlimited.
    pub bandwidth: Option<NonZeroU64>,
    /// Requests per second, both sides together; `None` is unlimited.
    pub requests_per_second: Option<NonZeroU32>,
    /// Other bounds at certain times, in the order of the file: of each bound the first that holds decides.
    pub windows: Vec<Window>,
    /// Who sends the requests of the hot path.
    pub client: TransferClient,
}

/// Who sends the requests that every object costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferClient {
    /// The program's own client.
    Lean,
    /// The AWS SDK.
    Sdk,
}

/// Whether bytes pass through the worker (DESIGN 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferMode {
    /// Small objects are streamed, large ones copied by the store where that works.
    Auto,
    /// Always through the worker.
    Stream,
    /// Always by the store itself.
    ServerSide,
}

pub use crate::model::limits::Concurrency;

/// What was promised to the users of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sla {
    /// A change is at the target within this time.
    pub threshold: Duration,
}

/// Where metrics and alarms live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// How CloudWatch is reached.
    pub connection: Connection,
    /// The namespace of our metrics.
    pub namespace: String,
    /// How often metrics are sent; at least a second.
    pub interval: Duration,
    /// Whether they are sent to CloudWatch at all.
    pub cloudwatch: bool,
}

/// The page and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Where it listens; `None` is off.
    pub listen: Option<SocketAddr>,
    /// Names, beside `localhost` and the address, under which it may be asked for.
    pub hosts: Vec<String>,
    /// The bearer token of the endpoints that change state; `None` turns those off.
    pub token: Option<Secret>,
}

/// A secret, or where it is. Neither `Debug` nor any error shows its value.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself.
    Inline(String),
    /// The file that holds it (`file:/path` in the config).
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Alarms and the three tiers that hear of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// Begins every name that `apply` makes.
    pub prefix: String,
    /// Hears of single alarms.
    pub standard: Option<Tier>,
    /// Hears when replication itself is in danger.
    pub critical: Option<Tier>,
    /// Hears when both replication and infrastructure are.
    pub management: Option<Tier>,
    /// The KMS key that `apply` encrypts topics of the monitoring region under; `None` for none.
    pub kms_key: Option<String>,
    /// A role that lets EventBridge send alarms to the source's region; `None` has `apply` make one.
    pub forwarding_role_arn: Option<String>,
    /// Called by the worker itself where there is no CloudWatch.
    pub webhook: Option<Webhook>,
    /// Mailed through by the worker itself where there is no CloudWatch.
    pub smtp: Option<Smtp>,
    /// Length of one evaluation period of our own metrics.
    pub period: Duration,
    /// How often the worker itself reminds of an alarm that lasts; `None` is never.
    pub reminder: Option<Duration>,
    /// When each alarm fires.
    pub thresholds: Thresholds,
}

impl Escalation {
    /// Who hears of each tier, the mildest first; `None` for nobody.
    #[must_use]
    pub fn tiers(&self) -> [(alarms::Tier, Option<&Tier>); 3] {
        alarms::Tier::ALL.map(|tier| {
            let hears = match tier {
                alarms::Tier::Standard => &self.standard,
                alarms::Tier::Critical => &self.critical,
                alarms::Tier::Management => &self.management,
            };
            (tier, hears.as_ref())
        })
    }
}

/// Who hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A topic is made and these addresses are subscribed; never empty.
    Emails(Vec<String>),
    /// A topic that exists, by its ARN.
    Topic(String),
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where to POST.
    pub url: String,
    /// The key of the HMAC-SHA256 of the body.
    pub secret: Secret,
    /// Whether plain HTTP is accepted to a host that is not this machine.
    pub allow_http: bool,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The sender's address.
    pub from: String,
    /// User and password, where it asks for them.
    pub login: Option<(String, Secret)>,
}

/// Lifecycle of both buckets (DESIGN 5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// Which sides `apply` manages.
    pub apply_to: Vec<LifecycleSide>,
    /// The rules that `repl` writes; others in the bucket stay.
    pub rules: Vec<LifecycleRule>,
    /// Archiving within INTELLIGENT_TIERING; `None` is off.
    pub intelligent_tiering: Option<IntelligentTiering>,
}

/// A side that `apply lifecycle` manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleSide {
    /// The source bucket.
    Source,
    /// Every target bucket.
    Target,
}

/// One lifecycle rule. Days count from creation; at least one action is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its id.
    pub id: String,
    /// The keys it is about begin so; empty for all.
    pub prefix: String,
    /// Storage classes by age, ages ascending.
    pub transitions: Vec<Transition>,
    /// Days after which current versions expire.
    pub expire_days: Option<u32>,
    /// Days after which noncurrent versions are deleted.
    pub noncurrent_expire_days: Option<u32>,
    /// Days after which incomplete multipart uploads are aborted.
    pub abort_multipart_days: Option<u32>,
}

/// One step of a lifecycle rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Age in days.
    pub days: u32,
    /// The storage class from then on.
    pub storage_class: String,
}

/// Archiving within INTELLIGENT_TIERING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntelligentTiering {
    /// Days without access until archive access; 90 to 730.
    pub archive_days: u32,
    /// Days without access until deep archive access; 180 to 730.
    pub deep_archive_days: u32,
}
