//! What the steps of the hot path cost, each by itself: `cargo bench`. Numbers of one run compare; those of two machines,
//! or of one machine at two times, do not. What a whole object costs is `bench/run`'s to say, and in instructions, which
//! are the same on every machine of a kind, `bench/instructions`'s.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement fails by panicking")]

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use repl::audit::compare::{self, Step};
use repl::audit::range::{Page, Pages, Piece, Ranges, Span};
use repl::aws::s3::S3Bucket;
use repl::aws::{Clients, Endpoint, notification};
use repl::ledger::{Admission, Ledger, Outcome, Settlement};
// `digest` is read from its own file below, and finds these words where it looks for them.
use repl::model;
use repl::model::digest::{Algorithm, Checksum};
use repl::model::fault::{Fault, Side};
use repl::model::job::{Applied, Change, ChangeKind, Job, Origin};
use repl::model::object::{
    Attributes, ETag, Encryption, Found, Head, Key, KeyOrder, Listed, Sequencer, Tags, Timestamp, VersionId,
};
use repl::model::stamp::Stamp;
use repl::plan::decide;
use repl::plan::route::{self, History, Rule};
use repl::ports::{Condition, Content, Fetched, ListFrom, NewObject, ObjectStore, Payload, Pick, Read, Sealing};
use tokio::runtime::Runtime;

/// No part of what the crate shows to others.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "only hashing is measured")]
#[path = "../src/engine/digest.rs"]
mod digest;

fn main() {
    divan::main();
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const SOURCE: &str = "acme-primary";

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000_000 + seconds * 1000)
}

/// Keys of 45 bytes, in the order of a listing.
fn key(n: u64) -> Key {
    Key::new(format!("photos/2026/11/{n:08}-{:016x}.jpg", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn etag(n: u64) -> ETag {
    ETag::new(format!("{:016x}{n:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn change(n: u64) -> Change {
    Change {
        bucket: SOURCE.to_owned(),
        key: key(n),
        kind: ChangeKind::Write,
        version: VersionId::new(format!("{n:032x}")),
        sequencer: Some(Sequencer::new(format!("0067{n:014X}"))),
        etag: Some(etag(n)),
        size: Some(4096),
        changed: at(n / 50),
        origin: Origin::Event,
    }
}

fn rule(n: usize, prefix: &str) -> Rule {
    Rule {
        id: format!("rule-{n}").as_str().into(),
        target: "dr".into(),
        priority: i64::try_from(n).unwrap(),
        prefix: prefix.to_owned(),
        tags: Tags::new(),
        delete_markers: true,
        enabled: true,
        history: History::All,
        storage_class: None,
        kms_key: None,
        kms_map: [].into(),
        owner_full_control: false,
        acl: false,
        target_prefix: String::new(),
        stamp: true,
    }
}

fn job(n: u64) -> Job {
    route::route(&[rule(0, "")], &change(n)).jobs.remove(0)
}

fn head(n: u64) -> Head {
    Head {
        version: change(n).version,
        etag: etag(n),
        size: 4096,
        modified: at(n / 50),
        attributes: Attributes { content_type: Some("image/jpeg".to_owned()), ..Attributes::default() },
        encryption: Encryption::S3,
        checksum: None,
        tag_count: None,
    }
}

fn applied(n: u64) -> Applied {
    Applied {
        version: change(n).version,
        marker: false,
        source_etag: Some(etag(n)),
        modified: at(n / 50),
        sequencer: change(n).sequencer,
        target_etag: Some(etag(n)),
        target_version: Some(VersionId::new(format!("{n:032x}"))),
    }
}

// Hashing --------------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Hashing {
    Crc64Nvme,
    Crc32,
    Sha256,
    /// CRC64NVME, and MD5 beside it: the source stores no checksum.
    WithMd5,
}

#[divan::bench(args = [Hashing::Crc64Nvme, Hashing::Crc32, Hashing::Sha256, Hashing::WithMd5], consts = [4 * KIB, 8 * MIB])]
fn hash<const SIZE: usize>(bencher: Bencher<'_, '_>, hashing: Hashing) {
    let bytes = vec![0xa5_u8; SIZE];
    let (algorithm, md5) = match hashing {
        Hashing::Crc64Nvme => (Algorithm::Crc64Nvme, digest::WithMd5::No),
        Hashing::Crc32 => (Algorithm::Crc32, digest::WithMd5::No),
        Hashing::Sha256 => (Algorithm::Sha256, digest::WithMd5::No),
        Hashing::WithMd5 => (Algorithm::Crc64Nvme, digest::WithMd5::Yes),
    };
    bencher.counter(BytesCount::new(SIZE)).bench(|| {
        let mut hasher = digest::Hasher::new(algorithm, md5);
        hasher.update(black_box(&bytes));
        hasher.finish().checksum()
    });
}

// Deciding -------------------------------------------------------------------------------------------------------------

#[divan::bench]
fn decide_what_to_read_and_write(bencher: Bencher<'_, '_>) {
    let (job, head, before) = (job(2), head(2), applied(1));
    bencher.bench(|| {
        let opening = decide::open(black_box(&job), History::All, Some(&before), false);
        (opening, decide::judge(&job, History::All, &Pick::Current, black_box(&head), Some(&before)))
    });
}

#[divan::bench]
fn decide_a_clash(bencher: Bencher<'_, '_>) {
    let (source, mut replica) = (head(1), head(2));
    Stamp::of(&source, SOURCE).put(&mut replica.attributes.metadata);
    let found = Found::Object(Box::new(replica));
    bencher.bench(|| decide::clash(black_box(&source), &found, Origin::Scan, decide::Overwriting::KeepsVersion));
}

#[divan::bench(args = [1, 10, 100])]
fn route_a_change(bencher: Bencher<'_, '_>, rules: usize) {
    let mut rules: Vec<Rule> = (1..rules).map(|n| rule(n, &format!("photos/{n}"))).collect();
    rules.push(rule(0, "photos/"));
    let change = change(7);
    bencher.bench(|| route::route(black_box(&rules), black_box(&change)));
}

// The ledger -----------------------------------------------------------------------------------------------------------

const JOBS: u64 = 1000;

/// Each in a ledger of its own on a disk: jobs admitted by tens, claimed and settled by as many at once as a worker has.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn ledger_admits_claims_and_settles(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let fresh = || {
        let place = tempfile::tempdir().unwrap();
        (Ledger::open(place.path()).unwrap(), place)
    };
    bencher.counter(ItemsCount::new(JOBS)).with_inputs(fresh).bench_values(|(ledger, place)| {
        runtime.block_on(async {
            for n in 0..JOBS / 10 {
                let jobs = (n * 10..n * 10 + 10).map(job).collect();
                ledger.admit(Admission { jobs, now: at(0), ..Admission::default() }).await.unwrap();
            }
            settle_all(&ledger).await;
        });
        drop(ledger);
        place
    });
}

async fn settle_all(ledger: &Ledger) {
    while ledger.totals().pending.operations > 0 {
        let mut lanes = tokio::task::JoinSet::new();
        for mut lane in ledger.claim(at(1_000_000), 32).await.unwrap() {
            let ledger = ledger.clone();
            lanes.spawn(async move {
                let settlement = Settlement {
                    outcome: Outcome::Replicated,
                    applied: Some(applied(1)),
                    replicas: Vec::new(),
                    bytes: 4096,
                    provable: true,
                    now: at(1_000_000),
                };
                ledger.settle(lane.take_all(), settlement).await.unwrap();
            });
        }
        while let Some(joined) = lanes.join_next().await {
            joined.unwrap();
        }
    }
}

// Reading --------------------------------------------------------------------------------------------------------------

#[divan::bench]
fn read_a_message_of_ten_events(bencher: Bencher<'_, '_>) {
    let record = |n: u64| {
        format!(
            r#"{{"eventVersion":"2.6","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-11-21T12:30:29.123Z","eventName":"ObjectCreated:Put","userIdentity":{{"principalId":"AWS:AIDA"}},"requestParameters":{{"sourceIPAddress":"10.0.0.1"}},"responseElements":{{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"FMyUVURIY8"}},"s3":{{"s3SchemaVersion":"1.0","configurationId":"c","bucket":{{"name":"{SOURCE}","ownerIdentity":{{"principalId":"A"}},"arn":"arn:aws:s3:::{SOURCE}"}},"object":{{"key":"{}","size":4096,"eTag":"{}","versionId":"{n:032x}","sequencer":"0067{n:014X}"}}}}}}"#,
            key(n),
            etag(n)
        )
    };
    let body = format!("{{\"Records\":[{}]}}", (0..10).map(record).collect::<Vec<_>>().join(","));
    bencher.counter(ItemsCount::new(10_u64)).bench(|| match notification::read(black_box(&body), SOURCE, at(0)) {
        content @ Content::Changes { .. } => content,
        Content::Unreadable(why) => panic!("{why}"),
    });
}

/// A server that gives every request one answer.
struct Canned {
    bucket: S3Bucket,
    runtime: Runtime,
}

impl Canned {
    fn new(answer: impl Fn(&str) -> Vec<u8> + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let answer = answer.clone();
                std::thread::spawn(move || converse(stream, answer));
            }
        });
        let runtime = runtime();
        let endpoint =
            Endpoint { endpoint: Some(url), path_style: true, ..Endpoint::in_region("us-east-1", Side::Source) };
        let keys = aws_credential_types::Credentials::for_tests();
        let keys = aws_credential_types::provider::SharedCredentialsProvider::new(keys);
        let config = runtime.block_on(Clients::new().sdk_config(&endpoint)).unwrap();
        let config = config.to_builder().credentials_provider(keys).build();
        Self { bucket: S3Bucket::new(&config, &endpoint, SOURCE), runtime }
    }
}

/// Answers until the other side hangs up.
fn converse(stream: TcpStream, answer: impl Fn(&str) -> Vec<u8>) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(told) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = told.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            if first.is_empty() {
                first = line;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        if reader.get_mut().write_all(&answer(&first)).is_err() {
            return;
        }
    }
}

fn answer(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 12:30:30 GMT\r\nLast-Modified: Sat, 21 Nov 2026 12:30:29 GMT\r\n\
         ETag: \"a6a8ca4b9ab5b6cd1f1f1cbc6b0d7b6c\"\r\nx-amz-request-id: C3D13FE58DE4C810\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// From the request to the last of its thousand entries; asking is a small part of it.
#[divan::bench]
fn list_a_page_of_a_thousand_keys(bencher: Bencher<'_, '_>) {
    let entry = |n: u64| {
        format!(
            "<Contents><Key>{}</Key><LastModified>2026-11-21T12:30:29.000Z</LastModified><ETag>&quot;{}&quot;</ETag>\
             <Size>4096</Size><StorageClass>STANDARD</StorageClass></Contents>",
            key(n),
            etag(n)
        )
    };
    let listing = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{SOURCE}</Name><IsTruncated>false</IsTruncated>\
         <EncodingType>url</EncodingType>{}</ListBucketResult>",
        (0..1000).map(entry).collect::<String>()
    );
    let page = answer("", listing.as_bytes());
    let canned = Canned::new(move |_| page.clone());
    bencher.counter(ItemsCount::new(1000_u64)).bench(|| {
        let asked = canned.bucket.list_objects("", &ListFrom::Start, None);
        let page = canned.runtime.block_on(asked).unwrap();
        assert_eq!(page.entries.len(), 1000);
        page
    });
}

/// GET and PUT of 4 KiB, without ledger, decision and comparison: what lies below every small object.
#[divan::bench]
fn get_and_put_a_small_object(bencher: Bencher<'_, '_>) {
    let body = vec![0xa5; 4 * KIB];
    let got = answer("x-amz-version-id: 1\r\nContent-Type: image/jpeg\r\nx-amz-meta-camera: one\r\n", &body);
    let put = answer("x-amz-version-id: 2\r\n", b"");
    let canned = Canned::new(move |line| if line.starts_with("GET") { got.clone() } else { put.clone() });
    let (key, checksum) = (key(1), hashed(&body));
    bencher.bench(|| {
        canned.runtime.block_on(async {
            let read = Read { pick: Pick::Current, range: None, if_match: None };
            let Fetched::Object(got) = canned.bucket.get(&key, read).await.unwrap() else { panic!("nothing there") };
            let (head, mut bytes) = (got.head, got.body);
            let first: Bytes = bytes.next().await.unwrap().unwrap();
            let mut whole = first.to_vec();
            while let Some(more) = bytes.next().await {
                whole.extend_from_slice(&more.unwrap());
            }
            let mut attributes = head.attributes.clone();
            Stamp::of(&head, SOURCE).put(&mut attributes.metadata);
            let object = NewObject {
                key: key.clone(),
                attributes,
                tags: Tags::new(),
                sealing: Sealing::BucketDefault,
                owner_full_control: false,
            };
            let payload = Payload::Whole(whole.into());
            canned.bucket.put(&object, payload, Some(&checksum), &Condition::Absent).await.unwrap()
        })
    });
}

fn hashed(bytes: &[u8]) -> Checksum {
    digest::Hashed::of(Algorithm::Crc64Nvme, bytes).checksum()
}

// Merging --------------------------------------------------------------------------------------------------------------

const KEYS: u64 = 100_000;

/// Both sides of a second sync: every key is there, one in a hundred is missing.
#[divan::bench(sample_count = 20)]
fn merge_two_listings(bencher: Bencher<'_, '_>) {
    let source: Vec<Key> = (0..KEYS).map(key).collect();
    let target: Vec<Key> = (0..KEYS).filter(|n| n % 100 != 0).map(key).collect();
    bencher.counter(ItemsCount::new(KEYS)).bench(|| {
        let (mut left, mut right, mut alone) = (0, 0, 0_u64);
        loop {
            let (ours, theirs) = (source.get(left).map(Key::as_str), target.get(right).map(Key::as_str));
            match compare::step(KeyOrder::Bytes, ours, theirs) {
                Step::Source => (left, alone) = (left + 1, alone + 1),
                Step::Target => right += 1,
                Step::Both => (left, right) = (left + 1, right + 1),
                Step::End => return alone,
            }
        }
    });
}

/// A bucket in memory that answers at once.
#[derive(Clone, Debug)]
struct Listing(std::sync::Arc<Vec<Listed>>);

impl Pages for Listing {
    type Item = Listed;
    type From = usize;

    fn start(&self, after: Option<&Key>) -> usize {
        after.map_or(0, |after| self.0.partition_point(|listed| listed.key <= *after))
    }

    async fn page(&self, _prefix: &str, from: usize) -> Result<Page<Listed, usize>, Fault> {
        let end = self.0.len().min(from + 1000);
        let next = (end < self.0.len()).then_some(end);
        Ok(Page { items: self.0[from..end].to_vec(), next, order: KeyOrder::Bytes })
    }
}

#[divan::bench(sample_count = 20)]
fn list_in_ranges(bencher: Bencher<'_, '_>) {
    let listed =
        |n| Listed { key: key(n), size: 4096, etag: etag(n), modified: at(n), storage_class: None, checksum: None };
    let listing = Listing(std::sync::Arc::new((0..KEYS).map(listed).collect()));
    let runtime = runtime();
    bencher.counter(ItemsCount::new(KEYS)).bench(|| {
        runtime.block_on(async {
            let mut ranges = Ranges::over(listing.clone(), vec![Span::whole("")]);
            let mut seen = 0;
            while let Some(piece) = ranges.next().await {
                match piece {
                    Piece::Keys(keys) => seen += keys.len(),
                    Piece::Hole(_, hole) => panic!("{hole:?}"),
                }
            }
            assert_eq!(seen as u64, KEYS);
        });
    });
}
