//! One suite for each port, run on the fakes of the simulation and on the real adapters against real servers: so the fakes
//! tell the truth. What a server lacks of S3 is a [`Gap`] of its own, never a weaker case.
//!
//! The servers start by themselves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod adapters;
mod fakes;
mod keys;
mod queue;
mod servers;
mod sinks;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod watched;
#[path = "../support/world/mod.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use repl::aws::HotPath;
use repl::aws::kms::Kms;
use repl::aws::sqs::SqsQueue;
use repl::ports::{Content, ObjectStore};

use servers::{Server, Way};
use world::dice::Dice;
use world::keys::FakeKeys;
use world::queue::{FakeQueue, Order};
use world::weather::{Forecast, Weather};

/// What a server may lack of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// Lists directory by directory, not by bytes.
    ListsByPaths,
    /// Keeps no website redirect.
    NoWebsiteRedirect,
    /// Answers a HEAD of a delete marker as if nothing were there.
    MarkersLookMissing,
    /// Refuses the right checksum of a whole object that was written in parts.
    RefusesFullObjectOfParts,
    /// Tells part sizes only where each part has a checksum.
    TellsPartsByChecksum,
    /// Gives out what is archived.
    ReadsArchives,
    /// Copies what is archived.
    CopiesArchives,
    /// Its Object Lock is not tried here.
    NoLocks,
}

/// Where stores come from.
pub(crate) trait Subject {
    type Store: ObjectStore;

    /// Whether it lacks that.
    fn has(&self, gap: Gap) -> bool;
    /// A new bucket, with or without versions.
    async fn bucket(&self, versioned: bool) -> Self::Store;
    /// A new bucket with Object Lock, where there are some.
    async fn lockable(&self) -> Option<Self::Store>;
    /// What a bucket is called.
    fn name(&self, store: &Self::Store) -> String;
}

macro_rules! on_all_stores {
    ($($case:ident),* $(,)?) => {
        mod on_fakes {
            $(#[tokio::test]
            async fn $case() {
                super::store::$case(&super::fakes::Fakes::default()).await;
            })*
        }
        mod on_servers {
            $(#[tokio::test]
            async fn $case() {
                for way in super::servers::all_ways().await {
                    super::store::$case(&way).await;
                }
            })*
        }
    };
}

on_all_stores!(
    odd_keys_survive_every_call,
    everything_attached_to_an_object_comes_back,
    metadata_of_raw_utf8_is_signed_and_survives,
    conditions_are_kept,
    versions_and_markers_are_listed_in_order_within_one_second,
    the_null_version_of_a_bucket_without_versions_can_be_read,
    a_range_is_exact_even_where_the_server_ignores_it,
    a_wrong_checksum_is_refused_and_a_right_one_kept,
    a_piped_body_arrives_whole_or_not_at_all,
    multipart_keeps_attributes_parts_and_checksums,
    an_unknown_upload_is_gone_and_may_be_aborted,
    server_side_copies_take_odd_keys_and_everything_resent,
    lock_and_acl_can_be_set,
    an_archived_object_is_told_and_not_read,
);

fn clear() -> Arc<Weather> {
    Arc::new(Weather::new(Dice::new(0, "clear"), Forecast::CLEAR))
}

/// A queue of the fake that holds so many messages.
fn fake_queue(messages: u32) -> FakeQueue {
    let queue = FakeQueue::new(clear(), Duration::from_secs(2), 0, Order::Any);
    for n in 0..messages {
        queue.send(Content::Unreadable(format!("not json {n}")), Duration::ZERO);
    }
    queue
}

/// A queue of SQS that holds so many messages.
async fn sqs_queue(name: &str, messages: u32) -> SqsQueue {
    use aws_sdk_sqs::types::QueueAttributeName;
    let way = Way::new(Server::Ministack, HotPath::Lean).await;
    let raw = aws_sdk_sqs::Client::new(&way.config);
    let made = raw.create_queue().queue_name(format!("{name}-{}", std::process::id()));
    let made = made.attributes(QueueAttributeName::VisibilityTimeout, "2").send().await.unwrap();
    let url = made.queue_url.unwrap();
    for n in 0..messages {
        raw.send_message().queue_url(&url).message_body(format!("not json {n}")).send().await.unwrap();
    }
    SqsQueue::new(&way.config, &way.endpoint, &url, "any-bucket")
}

#[tokio::test]
async fn messages_of_the_fake_come_until_they_are_acknowledged() {
    queue::messages_come_until_they_are_acknowledged(&fake_queue(12)).await;
}

#[tokio::test]
async fn messages_of_sqs_come_until_they_are_acknowledged() {
    queue::messages_come_until_they_are_acknowledged(&sqs_queue("contract", 12).await).await;
}

#[tokio::test]
async fn what_is_deleted_from_the_fake_stays_deleted() {
    queue::what_is_deleted_stays_deleted(&fake_queue(3)).await;
}

#[tokio::test]
async fn what_is_deleted_from_sqs_stays_deleted() {
    queue::what_is_deleted_stays_deleted(&sqs_queue("deleted", 3).await).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_clock_goes_with_tokios_time() {
    let clock = world::clock::FakeClock::new(tokio::time::Instant::now());
    world::clock::goes_with_tokios_time(&clock).await;
}

#[tokio::test]
async fn a_fake_key_is_usable_until_it_is_disabled() {
    const ARN: &str = "arn:aws:kms:eu-west-2:111122223333:key/1234";
    let keys = FakeKeys { keys: Arc::default(), weather: clear(), fuse: Arc::default() };
    keys.keys.lock().unwrap().insert(ARN.to_owned(), true);
    let disable = async || {
        keys.keys.lock().unwrap().insert(ARN.to_owned(), false);
    };
    keys::a_key_is_usable_until_it_is_disabled(&keys, ARN, disable).await;
}

#[tokio::test]
async fn a_key_of_kms_is_usable_until_it_is_disabled() {
    let way = Way::new(Server::Ministack, HotPath::Lean).await;
    let raw = aws_sdk_kms::Client::new(&way.config);
    let arn = raw.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let disable = async || drop(raw.disable_key().key_id(&arn).send().await.unwrap());
    keys::a_key_is_usable_until_it_is_disabled(&Kms::new(&way.config, &way.endpoint), &arn, disable).await;
}

/// One suite on one subject.
macro_rules! suite {
    ($name:ident, $make:expr => $($case:ident),* $(,)?) => {
        mod $name {
            use super::watched::*;

            $(#[tokio::test]
            async fn $case() {
                super::sinks::$case(&$make.await).await;
            })*
        }
    };
}

macro_rules! figures {
    ($name:ident, $make:expr) => {
        suite!($name, $make =>
            every_series_adds_up_for_itself,
            what_is_sent_twice_counts_twice,
            much_arrives_whole,
            figures_that_nobody_takes_are_told,
        );
    };
}

macro_rules! alerts {
    ($name:ident, $make:expr) => {
        suite!($name, $make =>
            an_alert_is_heard_by_its_tier_alone,
            an_alert_given_twice_is_heard_twice,
            an_alert_that_nobody_takes_is_told,
        );
    };
}

figures!(figures_of_the_fake, async { InMemory::default() });
figures!(figures_of_cloudwatch, InCloudWatch::new("Contract", repl::aws::cloudwatch::Resolution::Standard));
figures!(figures_by_the_second, InCloudWatch::new("ContractHigh", repl::aws::cloudwatch::Resolution::High));
alerts!(alerts_of_the_fake, async { ByFakePost::default() });
alerts!(alerts_by_sns, BySns::new());
alerts!(alerts_by_webhook, async { ByWebhook::default() });
alerts!(alerts_by_mail, async { ByMail::default() });
