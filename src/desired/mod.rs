//! Floor 4: what AWS is to be like, against what it is like.
//!
//! *Secret kept:* which queues, notifications, rules, topics, alarms and dashboards a pair of buckets needs, under which
//! names, and which part of what is there is ours. *May touch:* the accounts, through the port [`Estate`]. *Must not
//! know:* any SDK, the config file, the terminal.
//!
//! [`survey`] reads and decides, changing nothing; [`carry_out`] does what it decided. What is there already is left
//! alone unless it is ours: by its name, and by a tag where the service has tags. A survey after a carry-out finds
//! nothing to do.

mod dashboards;
pub mod diff;
mod escalation;
mod lifecycle;
mod notifications;
mod wish;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::RuleId;
use crate::ports::setup::{Document, Estate, Held, Kind, Place, Queue, Resource};
pub use escalation::{EscalationSettings, Hears, SourceAlarms, Watcher};
pub use lifecycle::LifecycleSettings;
pub use notifications::QueueSettings;
use wish::{Judged, Obstacle, Want, Wish, judge};

/// Before another try of what was throttled, or has to wait for what was just made to be seen: SQS says that a policy
/// may take up to a minute, which seldom happens.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// What a pair of buckets is, and what is wanted for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Begins every name that is made.
    pub prefix: String,
    /// The AWS partition, as it stands in an ARN.
    pub partition: &'static str,
    /// The source bucket.
    pub source: Bucket,
    /// The account that owns it, where the config says.
    pub source_owner: Option<String>,
    /// The target buckets.
    pub targets: Vec<Bucket>,
    /// The region of the queue.
    pub queue_region: String,
    /// The queue; `None` where there is none.
    pub queue: Option<QueueSettings>,
    /// The prefixes of the rules that are in force.
    pub rule_prefixes: Vec<String>,
    /// Each rule with the bucket that it writes to.
    pub rules: Vec<(RuleId, String)>,
    /// How buckets age.
    pub lifecycle: LifecycleSettings,
    /// Alarms and who hears of them.
    pub escalation: EscalationSettings,
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Which side.
    pub place: Place,
    /// Its name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Whether CloudWatch has metrics of it.
    pub measured: bool,
}

impl Settings {
    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        std::iter::once(&self.source).chain(&self.targets)
    }

    /// The region of a place.
    fn region(&self, place: &Place) -> &str {
        match place {
            Place::Source | Place::SourceMonitoring => &self.source.region,
            Place::Target(_) => {
                self.targets.iter().find(|bucket| bucket.place == *place).map_or("", |bucket| &bucket.region)
            }
            Place::Queue => &self.queue_region,
            Place::Monitoring => &self.escalation.region,
        }
    }
}

/// A part of the set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Queue, dead letters, event notifications.
    Notifications,
    /// Lifecycle rules and Intelligent-Tiering.
    Lifecycle,
    /// Topics, alarms, forwarding.
    Escalation,
    /// Dashboards and the request metrics that they show.
    Dashboards,
}

impl Part {
    /// All, in the order in which they are set up.
    pub const ALL: [Self; 4] = [Self::Notifications, Self::Lifecycle, Self::Escalation, Self::Dashboards];
}

/// What is to become of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// They are there.
    There,
    /// They are gone.
    Gone(Queues),
}

/// Whether queues that were made are removed with the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// They stay, with what is in them.
    Stay,
    /// They go, if they are empty.
    Go,
}

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Made.
    Create,
    /// Changed.
    Update,
    /// Removed.
    Delete,
    /// Left as it is.
    None,
}

impl Action {
    /// The name in what `apply --json` prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::None => "none",
        }
    }
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be done.
    Equal,
    /// Is to be done.
    Planned,
    /// Done.
    Applied,
    /// Could not be done: why.
    Failed(String),
    /// Does not exist in this store: why.
    Skipped(String),
}

impl Outcome {
    /// The name in what `apply --json` prints.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Planned => "planned",
            Self::Applied => "applied",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }
}

/// One resource, as it is and as it is to be.
#[derive(Clone, Debug)]
pub struct Change {
    resource: Resource,
    wanted: Option<Document>,
    held: Option<Document>,
    needs: Vec<Resource>,
    serves: Vec<Resource>,
    /// Its region.
    pub region: String,
    /// What happens to it.
    pub action: Action,
    /// What became of that.
    pub outcome: Outcome,
    /// What a person should know of it.
    pub notes: Vec<String>,
    /// How many of the notes were there before anything was done.
    pub surveyed_notes: usize,
}

impl Change {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.resource.kind.name()
    }

    /// Its name, as people know it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.resource.kind {
            Kind::Queue => self.resource.name.rsplit('/').next().unwrap_or_default(),
            Kind::Versioning
            | Kind::Notification
            | Kind::Lifecycle
            | Kind::IntelligentTiering
            | Kind::RequestMetrics
            | Kind::Topic
            | Kind::Alarm
            | Kind::CompositeAlarm
            | Kind::Role
            | Kind::EventRule
            | Kind::Dashboard => &self.resource.name,
        }
    }

    /// Our part of it as it was; `null` for nothing.
    #[must_use]
    pub fn before(&self) -> Value {
        shown(self.held.as_ref())
    }

    /// Our part of it as it is to be; `null` for nothing.
    #[must_use]
    pub fn after(&self) -> Value {
        shown(self.wanted.as_ref())
    }

    fn of(wish: Wish, judged: Judged, region: String) -> Self {
        let Judged { before, after, obstacle, notes } = judged;
        let (action, outcome) = match obstacle {
            Some(Obstacle::Skip(reason)) => (Action::None, Outcome::Skipped(reason)),
            Some(Obstacle::Fail(reason)) => (Action::None, Outcome::Failed(reason)),
            None => match (&before, &after) {
                (one, other) if one == other => (Action::None, Outcome::Equal),
                (None, _) => (Action::Create, Outcome::Planned),
                (Some(_), None) => (Action::Delete, Outcome::Planned),
                (Some(_), Some(_)) => (Action::Update, Outcome::Planned),
            },
        };
        let Wish { resource, needs, serves, want: _, notes: _ } = wish;
        let surveyed_notes = notes.len();
        Self { resource, wanted: after, held: before, needs, serves, region, action, outcome, notes, surveyed_notes }
    }
}

fn shown(document: Option<&Document>) -> Value {
    document.and_then(|document| serde_json::to_value(document).ok()).unwrap_or(Value::Null)
}

/// Whose accounts the places are.
#[derive(Clone, Debug, Default)]
struct Accounts {
    source: String,
    queue: String,
    monitoring: String,
    source_monitoring: String,
}

/// What is to be done to reach the goal, in the order of doing. Reads only; what cannot be read is a failed change.
pub async fn survey(
    estate: &impl Estate,
    settings: &Settings,
    parts: &BTreeSet<Part>,
    goal: Goal,
    mut tell: impl FnMut(&Change),
) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for wish in wishes(estate, settings, parts, goal).await {
        let held = match wish.want {
            Want::Unavailable(_) | Want::Impossible(_) => Ok(Held::Absent),
            _ => patiently(is_throttled, || estate.read(&wish.resource)).await,
        };
        let goes = matches!(wish.want, Want::Gone { .. });
        if goes && goal == Goal::There && held == Ok(Held::Absent) {
            // What nobody wants any more is told of only where it is.
            continue;
        }
        let judged = match held {
            Ok(held) => judge(&wish, &held),
            Err(fault) => Judged::failed(fault.to_string()),
        };
        let judged = if goes { staying(judged, &wish, &changes) } else { judged };
        let region = settings.region(&wish.resource.place).to_owned();
        let change = Change::of(wish, judged, region);
        tell(&change);
        changes.push(change);
    }
    changes
}

/// What something that stays needs, stays: a queue that is not empty keeps its dead-letter queue.
fn staying(judged: Judged, wish: &Wish, before: &[Change]) -> Judged {
    let stays = before.iter().find(|change| wish.needs.contains(&change.resource) && change.wanted.is_some());
    match stays {
        Some(other) if judged.before.is_some() && judged.after.is_none() => {
            let after = judged.before.clone();
            let notes = vec![format!("it stays, since {} {} does", other.kind(), other.name())];
            Judged { after, notes, ..judged }
        }
        Some(_) | None => judged,
    }
}

async fn wishes(estate: &impl Estate, settings: &Settings, parts: &BTreeSet<Part>, goal: Goal) -> Vec<Wish> {
    let mut wishes = Vec::new();
    let looks_at_buckets = parts.contains(&Part::Notifications) || parts.contains(&Part::Lifecycle);
    if goal == Goal::There && looks_at_buckets {
        wishes.extend(lifecycle::versions(settings));
    }
    for part in parts {
        wishes.extend(match goal {
            Goal::There => wishes_of(estate, settings, *part).await,
            Goal::Gone(queues) => farewells_of(estate, settings, *part, queues).await,
        });
    }
    if matches!(goal, Goal::Gone(_)) {
        // What looks at something goes before it.
        wishes.sort_by_key(|wish| std::cmp::Reverse(parts_order(wish)));
    }
    wishes
}

/// Dashboards last, queues first: the order of making.
fn parts_order(wish: &Wish) -> u8 {
    match wish.resource.kind {
        Kind::Versioning | Kind::Queue => 0,
        Kind::Lifecycle | Kind::IntelligentTiering | Kind::Notification => 1,
        Kind::Topic | Kind::Role => 2,
        Kind::Alarm | Kind::EventRule => 3,
        Kind::CompositeAlarm => 4,
        Kind::RequestMetrics | Kind::Dashboard => 5,
    }
}

/// What a part needs. Where the accounts or the queue cannot be learnt, all of it fails for that reason: nothing of it
/// could be named, or a dead-letter queue be made that nobody needs.
async fn wishes_of(estate: &impl Estate, settings: &Settings, part: Part) -> Vec<Wish> {
    let learnt = async {
        let queue = settings.queue.as_ref().filter(|_| part == Part::Notifications).map(QueueSettings::resource);
        let held = match &queue {
            Some(queue) => patiently(is_throttled, || estate.read(queue)).await?,
            None => Held::Absent,
        };
        Ok::<_, Fault>((accounts(estate, settings, part).await?, held))
    };
    let (accounts, held, unknown) = match learnt.await {
        Ok((accounts, held)) => (accounts, held, None),
        Err(fault) => (Accounts::default(), Held::Absent, Some(fault.to_string())),
    };
    let mut wishes = match part {
        Part::Notifications => notifications::wishes(settings, &accounts, &held),
        Part::Lifecycle => lifecycle::wishes(settings),
        Part::Escalation => escalation::wishes(settings, &accounts),
        Part::Dashboards => dashboards::wishes(settings, &accounts),
    };
    if let Some(reason) = unknown {
        for wish in wishes.iter_mut().filter(|wish| !matches!(wish.want, Want::Unavailable(_))) {
            wish.want = Want::Impossible(reason.clone());
        }
    }
    wishes
}

/// What is to be gone of a part.
async fn farewells_of(estate: &impl Estate, settings: &Settings, part: Part, queues: Queues) -> Vec<Wish> {
    let watching = match part {
        Part::Escalation => Some(Kind::Alarm),
        Part::Dashboards => Some(Kind::Dashboard),
        Part::Notifications | Part::Lifecycle => None,
    };
    if let Some(kind) = watching.filter(|_| settings.escalation.watcher == Watcher::Worker)
        && let Err(fault) = patiently(is_throttled, || estate.account(&Place::Monitoring)).await
    {
        return vec![escalation::unseen(settings, kind, &fault)];
    }
    match part {
        Part::Notifications => notifications::farewells(settings, queues),
        Part::Lifecycle => lifecycle::farewells(settings),
        Part::Escalation => escalation::farewells(settings),
        Part::Dashboards => dashboards::farewells(settings),
    }
}

async fn accounts(estate: &impl Estate, settings: &Settings, part: Part) -> Result<Accounts, Fault> {
    let mut accounts = Accounts::default();
    let ask = async |place: Place| patiently(is_throttled, || estate.account(&place)).await;
    match part {
        Part::Notifications => {
            if let Some(queue) = &settings.queue {
                accounts.source = match &settings.source_owner {
                    Some(owner) => owner.clone(),
                    None => ask(Place::Source).await?,
                };
                accounts.queue = match queue.account() {
                    Some(named) => named.to_owned(),
                    None => ask(Place::Queue).await?,
                };
            }
        }
        Part::Lifecycle => {}
        Part::Escalation | Part::Dashboards => {
            if settings.escalation.watcher == Watcher::CloudWatch || settings.escalation.has_topics() {
                accounts.monitoring = ask(Place::Monitoring).await?;
            }
            if settings.escalation.source_alarms == SourceAlarms::Apart {
                accounts.source_monitoring = ask(Place::SourceMonitoring).await?;
            }
        }
    }
    Ok(accounts)
}

/// Does what is planned, each change by itself: one that fails fails only those that need it. `tell` hears of each as
/// its outcome is known. If dropped, the change under way may be half done: a new survey shows it.
pub async fn carry_out(estate: &impl Estate, changes: &mut [Change], mut tell: impl FnMut(&Change)) {
    let mut failed: BTreeSet<Resource> = changes.iter().filter(|c| has_failed(c)).map(|c| c.resource.clone()).collect();
    for change in changes.iter_mut() {
        if change.outcome != Outcome::Planned {
            continue;
        }
        let named = |resource: &Resource| format!("{} {}", resource.kind.name(), resource.name);
        if let Some(missing) = change.needs.iter().find(|need| failed.contains(need)) {
            change.outcome = Outcome::Failed(format!("not tried, since {} failed", named(missing)));
        } else {
            change.outcome = match one(estate, change).await {
                Ok(remarks) => {
                    change.notes.extend(remarks);
                    Outcome::Applied
                }
                Err(fault) => Outcome::Failed(fault.to_string()),
            };
        }
        for unheard in change.serves.iter().filter(|resource| failed.contains(resource)) {
            change.notes.push(format!("nobody hears it by {} until that is mended: apply again", named(unheard)));
        }
        if has_failed(change) {
            failed.insert(change.resource.clone());
        }
        tell(change);
    }
}

fn has_failed(change: &Change) -> bool {
    matches!(change.outcome, Outcome::Failed(_))
}

async fn one(estate: &impl Estate, change: &Change) -> Result<Vec<String>, Fault> {
    let (resource, held) = (&change.resource, change.held.as_ref());
    match (&change.wanted, held) {
        (Some(wanted), held) => patiently(may_pass, || estate.write(resource, held, wanted)).await,
        (None, Some(held)) => {
            if matches!(held, Document::Queue(_)) {
                still_empty(estate, resource).await?;
            }
            patiently(may_pass, || estate.remove(resource, held)).await.map(|()| Vec::new())
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// Looks at a queue once more right before it goes: messages may have come while somebody was asked.
async fn still_empty(estate: &impl Estate, queue: &Resource) -> Result<(), Fault> {
    match patiently(is_throttled, || estate.read(queue)).await? {
        Held::Present(Document::Queue(Queue { messages: Some(0), .. })) | Held::Absent => Ok(()),
        Held::Present(_) | Held::Unsupported(_) => {
            let reason = "messages have come since it was looked at, or it does not tell any more: it stays";
            Err(Fault::new(FaultKind::Refused, Side::Queue, "delete the queue", reason))
        }
    }
}

fn is_throttled(kind: FaultKind) -> bool {
    kind == FaultKind::Throttled
}

/// A write that met a passing fault may have been done, and is safe to repeat.
fn may_pass(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Throttled | FaultKind::Transient | FaultKind::Raced)
}

/// Tries again after each of the pauses while the fault is one of these.
async fn patiently<T, F: Future<Output = Result<T, Fault>>>(
    passing: fn(FaultKind) -> bool,
    attempt: impl Fn() -> F,
) -> Result<T, Fault> {
    for pause in PAUSES {
        match attempt().await {
            Err(fault) if passing(fault.kind) => {
                tracing::info!("trying again in {} s: {fault}", pause.as_secs());
                tokio::time::sleep(pause).await;
            }
            ended => return ended,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests;
