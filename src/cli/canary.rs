//! The canary: a tiny object at the source that goes the whole way, by event, queue and worker, and is looked for at the
//! targets. It tells that the way works while nobody writes.
//!
//! Any number of workers may have one: the object holds the time of its writing, and a later one that is seen proves the
//! way as well. Older versions are removed on both sides; where that is not permitted, a lifecycle rule has to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::fix;
use super::worker::Worker;
use crate::aws::s3::S3Bucket;
use crate::model::fault::Fault;
use crate::model::object::{Attributes, Key, Tags, TargetId, Timestamp};
use crate::model::reserved::CANARY;
use crate::plan::route::{self, Choice};
use crate::ports::{Clock, Condition, Fetched, NewObject, ObjectStore, Payload, Pick, Read, Sealing, World};

/// What the object begins with; the time of its writing in milliseconds follows.
const SONG: &str = "repl canary ";
/// The shortest wait before a canary is given up: events take "sometimes a minute or longer" (aws-semantics 1.5), so
/// that twice the interval is waited, and this at least where canaries are frequent.
const LEAST_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at the target: the first, and the longest.
const LOOK: Duration = Duration::from_millis(250);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Where the canary is to be seen.
struct Perch {
    target: TargetId,
    key: Key,
}

/// Sends canaries until it is dropped.
pub(super) async fn sing(worker: Arc<Worker>, every: Duration) {
    let perches = perches(&worker);
    if perches.is_empty() {
        let fault = format!("no rule brings {CANARY:?} to any target: add a rule with prefix = \".repl/\"");
        tracing::warn!(fault, "the canary is on and cannot arrive");
        worker.pulse.canary(|view| view.fault = Some(fault));
        return;
    }
    let wait = every.saturating_mul(2).max(LEAST_WAIT);
    let mut tidying = Tidying::default();
    loop {
        let began = Instant::now();
        // Held back by an operator, it would tell of nothing but that.
        if !is_paused(&worker) {
            tell(&worker, fly(&worker, &perches, wait).await);
            tidying.tidy(&worker, &perches).await;
        }
        tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
    }
}

fn is_paused(worker: &Worker) -> bool {
    let now = worker.world.clock().now();
    worker.ledger.control().is_ok_and(|control| control.is_paused(now))
}

/// The targets that a rule brings the canary to. It has no tags.
fn perches(worker: &Worker) -> Vec<Perch> {
    let (rules, key) = (&worker.config.rules, Key::new(CANARY));
    let claimed = route::targets(rules).into_iter().filter_map(|target| {
        match route::choose(rules, target, &key, Some(&Tags::new())) {
            Choice::Rule(rule) => Some(Perch { target: target.clone(), key: rule.target_key(&key) }),
            Choice::NeedsTags | Choice::Nothing(_) => None,
        }
    });
    claimed.collect()
}

/// Writes one and waits until it is at all targets: how long that took, or why it did not come.
async fn fly(worker: &Worker, perches: &[Perch], wait: Duration) -> Result<Duration, String> {
    let (began, now) = (Instant::now(), worker.world.clock().now());
    let object = NewObject {
        key: Key::new(CANARY),
        attributes: Attributes { content_type: Some("text/plain".to_owned()), ..Attributes::default() },
        tags: Tags::new(),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    };
    let payload = Payload::Whole(Bytes::from(format!("{SONG}{}\n", now.0)));
    let source = worker.world.source();
    source.put(&object, payload, None, &Condition::Any).await.map_err(|fault| unwritten(worker, &fault))?;
    for perch in perches {
        let Some(store) = worker.world.target(&perch.target) else { continue };
        let mut look = LOOK;
        loop {
            let seen = seen_at(store, &perch.key).await;
            if seen.as_ref().is_ok_and(|seen| seen.is_some_and(|seen| seen >= now)) {
                break;
            }
            if began.elapsed() >= wait {
                return Err(missing(perch, now, wait, seen.err().as_ref()));
            }
            tokio::time::sleep(look).await;
            look = look.saturating_mul(2).min(LONGEST_LOOK);
        }
    }
    Ok(began.elapsed())
}

fn unwritten(worker: &Worker, fault: &Fault) -> String {
    let source = &worker.config.source;
    let place = format!("arn:{}:s3:::{}/.repl/*", source.connection.partition(), source.bucket);
    let statement = fix::statement(&["s3:PutObject", "s3:DeleteObjectVersion"], &place);
    format!("the canary could not be written: {fault}; it needs {statement}")
}

fn missing(perch: &Perch, sent: Timestamp, wait: Duration, fault: Option<&Fault>) -> String {
    let seconds = wait.as_secs();
    let why = fault.map(|fault| format!(" ({fault})")).unwrap_or_default();
    format!(
        "the canary of {} was not at target {} within {seconds} s{why}: see `repl status` for the queue and `repl check` \
         for what its event needs",
        sent.rfc3339(),
        perch.target
    )
}

/// When the canary that a target has was written.
async fn seen_at(store: &S3Bucket, key: &Key) -> Result<Option<Timestamp>, Fault> {
    let read = Read { pick: Pick::Current, range: None, if_match: None };
    let Fetched::Object(mut got) = store.get(key, read).await? else { return Ok(None) };
    let mut bytes = Vec::new();
    // Somebody else's object under that key may be of any size.
    while bytes.len() < 64
        && let Some(piece) = got.body.next().await
    {
        bytes.extend_from_slice(&piece?);
    }
    Ok(written_at(&bytes))
}

fn written_at(bytes: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.strip_prefix(SONG)?.trim_end().parse().ok().map(Timestamp)
}

fn tell(worker: &Worker, flown: Result<Duration, String>) {
    let now = worker.world.clock().now();
    match flown {
        Ok(latency) => worker.pulse.canary(|view| {
            if view.fault.take().is_some() {
                tracing::info!(seconds = latency.as_secs_f64(), "the canary arrives again");
            }
            view.last_seen = Some(now);
            view.latency = Some(latency);
        }),
        Err(fault) => {
            tracing::warn!(fault, "the canary did not arrive");
            worker.pulse.canary(|view| {
                view.failed += 1;
                view.fault = Some(fault);
            });
        }
    }
}

/// Removes older versions, for as long as that is permitted.
#[derive(Default)]
struct Tidying {
    refused: bool,
}

impl Tidying {
    async fn tidy(&mut self, worker: &Worker, perches: &[Perch]) {
        if self.refused {
            return;
        }
        let key = Key::new(CANARY);
        let mut swept = remove_older(worker.world.source(), &key).await;
        for perch in perches {
            if let Some(store) = worker.world.target(&perch.target) {
                swept = swept.and(remove_older(store, &perch.key).await);
            }
        }
        if let Err(fault) = swept {
            self.refused = true;
            tracing::warn!(%fault, "old versions of the canary stay: allow s3:ListBucketVersions and \
                s3:DeleteObjectVersion on .repl/*, or have a lifecycle rule expire noncurrent versions under .repl/");
        }
    }
}

async fn remove_older(store: &S3Bucket, key: &Key) -> Result<(), Fault> {
    let page = store.list_versions(key.as_str(), None).await?;
    for entry in page.entries.iter().filter(|entry| entry.key == *key && !entry.latest) {
        store.erase(key, &entry.version).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_canary_is_read_as_one() {
        assert_eq!(written_at(b"repl canary 1732200000123\n"), Some(Timestamp(1_732_200_000_123)));
        for other in [&b""[..], b"repl canary ", b"repl canary x\n", b"something", b"\xff"] {
            assert_eq!(written_at(other), None);
        }
    }
}
