//! A source bucket, a target bucket in another region, a queue, keys, a config file and a ledger: one test's own world.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, Event, NotificationConfiguration,
    QueueConfiguration, VersioningConfiguration,
};
use aws_sdk_sqs::types::QueueAttributeName;
use tempfile::TempDir;

use super::servers::{Access, Server};

/// Where sources live.
pub(crate) const SOURCE_REGION: &str = "us-east-1";
/// Where targets live.
pub(crate) const TARGET_REGION: &str = "eu-west-2";

/// What `repl` wants to hear of.
const EVENTS: [&str; 6] = [
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectTagging:*",
    "s3:ObjectAcl:Put",
    "s3:ObjectRestore:Completed",
    "s3:LifecycleExpiration:*",
];

/// Whether buckets have versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    Enabled,
    Off,
}

/// Whether buckets have Object Lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locking {
    Enabled,
    Off,
}

/// What a pair is to be like.
///
/// In `rule` and `more`, `{source_key}` and `{target_key}` stand for the ARNs of the two KMS keys.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) source: Server,
    pub(crate) target: Server,
    pub(crate) source_versions: Versions,
    pub(crate) target_versions: Versions,
    pub(crate) locking: Locking,
    /// What the one rule says beyond its id and target; or whole `[[rules]]` tables if it begins with one.
    pub(crate) rule: String,
    /// What the queue's table says beyond its place.
    pub(crate) queue: String,
    /// More tables of the config, such as `[transfer]`.
    pub(crate) more: String,
    /// By what way the binary reaches the servers; `None` for the straight one.
    pub(crate) source_endpoint: Option<String>,
    pub(crate) target_endpoint: Option<String>,
    pub(crate) queue_endpoint: Option<String>,
}

impl Setup {
    /// Buckets with versions on these servers, and a rule that brings everything along, delete markers too.
    pub(crate) fn on(source: Server, target: Server) -> Self {
        Self {
            source,
            target,
            source_versions: Versions::Enabled,
            target_versions: Versions::Enabled,
            locking: Locking::Off,
            rule: "delete_markers = true".to_owned(),
            queue: String::new(),
            more: String::new(),
            source_endpoint: None,
            target_endpoint: None,
            queue_endpoint: None,
        }
    }

    /// Another rule.
    pub(crate) fn rule(mut self, rule: &str) -> Self {
        rule.clone_into(&mut self.rule);
        self
    }

    /// More tables of the config.
    pub(crate) fn more(mut self, tables: &str) -> Self {
        tables.clone_into(&mut self.more);
        self
    }

    /// Makes it all.
    pub(crate) async fn build(self) -> Pair {
        Pair::make(self).await
    }
}

/// One bucket with a client for it.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) region: &'static str,
    pub(crate) server: Server,
    pub(crate) s3: aws_sdk_s3::Client,
}

/// How the target is meant to differ from the source; the default says: not at all, delete markers included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// The target's KMS key by ARN; `None` if nothing is said about encryption.
    pub(crate) key: Option<String>,
    /// The storage class of all replicas; `None` for the source's.
    pub(crate) storage_class: Option<String>,
    /// Put before each key.
    pub(crate) target_prefix: String,
    /// Which versions are there.
    pub(crate) history: History,
    /// Whether the source's delete markers are there.
    pub(crate) markers: Markers,
}

/// Which versions the target is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum History {
    #[default]
    All,
    /// Only what is current at the source.
    Latest,
}

/// What becomes of delete markers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Markers {
    #[default]
    Replicated,
    LeftOut,
}

/// One test's world; its files go with it, its buckets with the server.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) source: Bucket,
    pub(crate) target: Bucket,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) queue_url: String,
    pub(crate) dead_letter_url: String,
    /// ARNs of a KMS key in each region.
    pub(crate) source_key: String,
    pub(crate) target_key: String,
    pub(crate) config: PathBuf,
    pub(crate) ledger: PathBuf,
    pub(crate) setup: Setup,
    pub(crate) directory: TempDir,
}

impl Pair {
    async fn make(setup: Setup) -> Self {
        let name = unique_name();
        let source = Bucket::make(setup.source, &format!("{name}-src"), SOURCE_REGION, &setup).await;
        let target = Bucket::make(setup.target, &format!("{name}-dst"), TARGET_REGION, &setup).await;
        let cloud = setup.services().access();
        let sqs = cloud.sqs(SOURCE_REGION);
        let (queue_url, dead_letter_url, queue_arn) = make_queue(&sqs, &name).await;
        // SeaweedFS has no events, and the checking ministack asks for a queue policy first: a test that wants one makes it.
        if setup.source == Server::Ministack {
            notify(&source, &queue_arn).await;
        }
        let source_key = make_key(cloud, SOURCE_REGION).await;
        let target_key = make_key(cloud, TARGET_REGION).await;
        let directory = make_directory();
        let (config, ledger) = (directory.path().join("repl.toml"), directory.path().join("ledger"));
        let pair = Self {
            source,
            target,
            sqs,
            queue_url,
            dead_letter_url,
            source_key,
            target_key,
            config,
            ledger,
            setup,
            directory,
        };
        pair.write_config();
        pair
    }

    /// The same buckets and queue with a config, a ledger and a directory of its own: for a second worker.
    pub(crate) fn another_worker(&self) -> Self {
        self.with_queue(self.queue_url.clone(), self.dead_letter_url.clone())
    }

    fn with_queue(&self, queue_url: String, dead_letter_url: String) -> Self {
        let directory = make_directory();
        let (config, ledger) = (directory.path().join("repl.toml"), directory.path().join("ledger"));
        let pair = Self {
            source: self.source.clone(),
            target: self.target.clone(),
            sqs: self.sqs.clone(),
            queue_url,
            dead_letter_url,
            source_key: self.source_key.clone(),
            target_key: self.target_key.clone(),
            config,
            ledger,
            setup: self.setup.clone(),
            directory,
        };
        pair.write_config();
        pair
    }

    /// The other direction: from the target back to the source, with a queue and a worker of its own.
    pub(crate) async fn way_back(&self) -> Self {
        let sqs = self.setup.services().access().sqs(self.target.region);
        let (queue_url, dead_letter_url, arn) = make_queue(&sqs, &unique_name()).await;
        if self.setup.target != Server::Seaweedfs {
            notify(&self.target, &arn).await;
        }
        let mut back = self.with_queue(queue_url, dead_letter_url);
        std::mem::swap(&mut back.source, &mut back.target);
        std::mem::swap(&mut back.source_key, &mut back.target_key);
        std::mem::swap(&mut back.setup.source, &mut back.setup.target);
        std::mem::swap(&mut back.setup.source_endpoint, &mut back.setup.target_endpoint);
        back.sqs = sqs;
        back.write_config();
        back
    }

    /// One more bucket like the target.
    pub(crate) async fn another_target(&self) -> Bucket {
        Bucket::make(self.setup.target, &format!("{}-dst", unique_name()), TARGET_REGION, &self.setup).await
    }

    /// Writes the config file as the setup now says; change the setup first to change the config.
    pub(crate) fn write_config(&self) {
        std::fs::write(&self.config, self.config_text()).unwrap();
    }

    /// The config as the setup says.
    pub(crate) fn config_text(&self) -> String {
        let setup = &self.setup;
        let straight = |server: Server| server.access().endpoint.clone();
        let source_endpoint = setup.source_endpoint.clone().unwrap_or_else(|| straight(setup.source));
        let target_endpoint = setup.target_endpoint.clone().unwrap_or_else(|| straight(setup.target));
        let queue_endpoint = setup.queue_endpoint.clone().unwrap_or_else(|| straight(setup.services()));
        let mut text = String::new();
        bucket_table(&mut text, "source", &self.source, &source_endpoint);
        let queue = [&self.queue_url, &queue_endpoint, &setup.queue];
        write!(text, "[queue]\nurl = \"{}\"\nendpoint = \"{}\"\n{}\n\n", queue[0], queue[1], queue[2]).unwrap();
        bucket_table(&mut text, "targets.dr", &self.target, &target_endpoint);
        if setup.rule.trim_start().starts_with("[[rules]]") {
            writeln!(text, "{}\n", setup.rule).unwrap();
        } else {
            writeln!(text, "[[rules]]\nid = \"all\"\ntarget = \"dr\"\n{}\n", setup.rule).unwrap();
        }
        writeln!(text, "[ledger]\npath = {:?}\n", self.ledger).unwrap();
        // Tests run side by side: none may take the default port, nor speak to the real CloudWatch.
        for (table, quiet) in [("[web]", "listen = \"off\""), ("[monitoring]", "cloudwatch = false")] {
            if !setup.more.contains(table) {
                writeln!(text, "{table}\n{quiet}\n").unwrap();
            }
        }
        text.push_str(&setup.more);
        if let Ok(client) = std::env::var("REPL_TEST_CLIENT") {
            ask_for_client(&mut text, &client);
        }
        text.replace("{source_key}", &self.source_key).replace("{target_key}", &self.target_key)
    }

    /// What to sign with: one identity for all servers, as the binary has one environment. ministack takes any.
    pub(crate) fn access(&self) -> &'static Access {
        let sides = [self.setup.source, self.setup.target];
        let checking = sides.into_iter().find(|side| *side != Server::Ministack);
        checking.unwrap_or(Server::Ministack).access()
    }

    /// KMS in a region.
    pub(crate) fn kms(&self, region: &str) -> aws_sdk_kms::Client {
        self.setup.services().access().kms(region)
    }

    /// Puts one message on the queue, as it is.
    pub(crate) async fn put_message(&self, body: &str) {
        self.sqs.send_message().queue_url(&self.queue_url).message_body(body).send().await.unwrap();
    }

    /// Puts an event in S3's own shape on the queue, for sources that send none. `name` is such as `ObjectCreated:Put`.
    pub(crate) async fn put_event(&self, name: &str, key: &str, version: Option<&str>) {
        self.put_message(&event(&self.source, name, key, version)).await;
    }

    /// Shortens for how long a message is hidden that was handed to a worker which then died, and has the queue give
    /// none up, however many die.
    pub(crate) async fn hide_briefly(&self) {
        let request = self.sqs.set_queue_attributes().queue_url(&self.queue_url);
        let request = request.attributes(QueueAttributeName::VisibilityTimeout, "5");
        let dead_arn = queue_arn(&self.sqs, &self.dead_letter_url).await;
        request.attributes(QueueAttributeName::RedrivePolicy, redrive(&dead_arn, 1_000)).send().await.unwrap();
    }

    /// How many messages the queue holds, waiting and in flight.
    pub(crate) async fn queue_depth(&self) -> u64 {
        queue_depth(&self.sqs, &self.queue_url).await
    }

    /// How many messages were given up into the dead-letter queue.
    pub(crate) async fn dead_letters(&self) -> u64 {
        queue_depth(&self.sqs, &self.dead_letter_url).await
    }
}

impl Setup {
    /// The server of queue and keys.
    fn services(&self) -> Server {
        if [self.source, self.target].contains(&Server::MinistackAuth) {
            Server::MinistackAuth
        } else {
            Server::Ministack
        }
    }
}

/// Has the whole suite run by the client that the environment names, where a test does not ask for one itself.
fn ask_for_client(text: &mut String, client: &str) {
    let line = format!("client = {client:?}\n");
    if text.contains("\nclient = ") {
        return;
    }
    match text.find("[transfer]\n") {
        Some(table) => text.insert_str(table + "[transfer]\n".len(), &line),
        None => text.push_str(&format!("\n[transfer]\n{line}")),
    }
}

/// A table of the config that names a bucket.
pub(crate) fn bucket_table(text: &mut String, table: &str, bucket: &Bucket, endpoint: &str) {
    let (name, region) = (&bucket.name, bucket.region);
    write!(
        text,
        "[{table}]\nbucket = \"{name}\"\nregion = \"{region}\"\nendpoint = \"{endpoint}\"\npath_style = true\n\n"
    )
    .unwrap();
}

impl Bucket {
    async fn make(server: Server, name: &str, region: &'static str, setup: &Setup) -> Self {
        let s3 = server.access().s3(region);
        let place = (region != SOURCE_REGION).then(|| {
            CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(region)).build()
        });
        s3.create_bucket()
            .bucket(name)
            .set_create_bucket_configuration(place)
            .set_object_lock_enabled_for_bucket((setup.locking == Locking::Enabled).then_some(true))
            .send()
            .await
            .unwrap();
        let versions = if region == SOURCE_REGION { setup.source_versions } else { setup.target_versions };
        let bucket = Self { name: name.to_owned(), region, server, s3 };
        if versions == Versions::Enabled {
            bucket.set_versioning(BucketVersioningStatus::Enabled).await;
        }
        bucket
    }

    /// Enables or suspends versioning.
    pub(crate) async fn set_versioning(&self, status: BucketVersioningStatus) {
        let versioning = VersioningConfiguration::builder().status(status).build();
        self.s3.put_bucket_versioning().bucket(&self.name).versioning_configuration(versioning).send().await.unwrap();
    }
}

fn make_directory() -> TempDir {
    tempfile::Builder::new().prefix("repl-test-").tempdir().unwrap()
}

/// A name that no other test of any running binary has.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A queue with a dead-letter queue behind it: both URLs and the first one's ARN.
async fn make_queue(sqs: &aws_sdk_sqs::Client, name: &str) -> (String, String, String) {
    let dead = sqs.create_queue().queue_name(format!("{name}-dead")).send().await.unwrap().queue_url.unwrap();
    let dead_arn = queue_arn(sqs, &dead).await;
    let queue = sqs
        .create_queue()
        .queue_name(format!("{name}-events"))
        .attributes(QueueAttributeName::RedrivePolicy, redrive(&dead_arn, 5))
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap();
    let arn = queue_arn(sqs, &queue).await;
    (queue, dead, arn)
}

fn redrive(dead_arn: &str, receives: u32) -> String {
    format!(r#"{{"deadLetterTargetArn":"{dead_arn}","maxReceiveCount":"{receives}"}}"#)
}

async fn queue_arn(sqs: &aws_sdk_sqs::Client, url: &str) -> String {
    queue_attribute(sqs, url, QueueAttributeName::QueueArn).await
}

async fn queue_attribute(sqs: &aws_sdk_sqs::Client, url: &str, name: QueueAttributeName) -> String {
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone()).send().await.unwrap();
    answer.attributes.unwrap()[&name].clone()
}

async fn queue_depth(sqs: &aws_sdk_sqs::Client, url: &str) -> u64 {
    let waiting = queue_attribute(sqs, url, QueueAttributeName::ApproximateNumberOfMessages).await;
    let in_flight = queue_attribute(sqs, url, QueueAttributeName::ApproximateNumberOfMessagesNotVisible).await;
    waiting.parse::<u64>().unwrap() + in_flight.parse::<u64>().unwrap()
}

async fn notify(bucket: &Bucket, queue_arn: &str) {
    let queue = QueueConfiguration::builder()
        .id("repl")
        .queue_arn(queue_arn)
        .set_events(Some(EVENTS.map(Event::from).to_vec()))
        .build()
        .unwrap();
    bucket
        .s3
        .put_bucket_notification_configuration()
        .bucket(&bucket.name)
        .notification_configuration(NotificationConfiguration::builder().queue_configurations(queue).build())
        .send()
        .await
        .unwrap();
}

/// A KMS key with rotation on; its ARN.
pub(crate) async fn make_key(access: &Access, region: &str) -> String {
    let kms = access.kms(region);
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
    kms.enable_key_rotation().key_id(&key.key_id).send().await.unwrap();
    key.arn.unwrap()
}

/// An event of that bucket in S3's own shape, with a sequencer that rises from call to call.
pub(crate) fn event(source: &Bucket, name: &str, key: &str, version: Option<&str>) -> String {
    static SEQUENCE: AtomicU32 = AtomicU32::new(1);
    let sequencer = format!("0065{:016X}", SEQUENCE.fetch_add(1, Ordering::Relaxed));
    let mut object = serde_json::json!({ "key": form_encoded(key), "sequencer": sequencer });
    if let Some(version) = version {
        object["versionId"] = version.into();
    }
    let bucket = serde_json::json!({ "name": source.name, "arn": format!("arn:aws:s3:::{}", source.name) });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let time = aws_smithy_types::DateTime::from_millis(i64::try_from(now.as_millis()).unwrap());
    serde_json::json!({ "Records": [{
        "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": source.region, "eventName": name,
        "eventTime": time.fmt(aws_smithy_types::date_time::Format::DateTime).unwrap(),
        "s3": { "s3SchemaVersion": "1.0", "configurationId": "repl", "bucket": bucket, "object": object },
    }]})
    .to_string()
}

/// A key as events spell it: a space is `+`, all else that is not plain is percent-encoded.
pub(crate) fn form_encoded(key: &str) -> String {
    const PLAIN: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'*')
        .remove(b'/')
        .remove(b' ');
    percent_encoding::utf8_percent_encode(key, &PLAIN).to_string().replace(' ', "+")
}
