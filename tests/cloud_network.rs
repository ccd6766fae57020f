//! A network that breaks all the time, between the worker and its stores and queue: no wrong byte is ever visible at the
//! target, all is equal in the end, and nothing is left over (P2, P5, P9, P10).
//!
//! A seed draws the fate of every request from what it asks for and how often it was asked, so it meets the same fate
//! whatever else is under way. `REPL_NETWORK_SEEDS=50 cargo test --test cloud_network seeded` tries more seeds,
//! `REPL_NETWORK_FROM=N` begins at another one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and live in real time"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::ByteStream;
use support::compare::{compare, list};
use support::objects::{Multipart, bytes};
use support::pair::{Bucket, Pair, Setup};
use support::proxy::{Act, Framing, Moment, Proxy, Rule, Seen};
use support::servers::Server;
use support::worker::{Output, eventually, run_repl, spawn_repl};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// More than any of these waits can need.
const PATIENCE: Duration = Duration::from_secs(240);
/// What DESIGN promises for 48 MiB in flight, measured as in the tests of large objects.
const MEMORY: u64 = 96 << 20;
/// So often the same request may break; then it passes, so that every seed comes to an end.
const LIVES: u64 = 2;

/// What is written several times.
const AGAIN: &str = "again";

// The network ----------------------------------------------------------------------------------------------------------

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn of(seed: u64, what: &str, nth: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, what, nth).hash(&mut hasher);
        Self(hasher.finish() | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }
}

/// What a request is for, as far as its fate depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// An object's bytes to the client.
    Down,
    /// An object's bytes to the server.
    Up,
    /// A document, or nothing but a head.
    Words,
}

fn carries(seen: &Seen) -> Carries {
    let documents = ["tagging", "attributes", "acl", "versions", "retention", "legal-hold", "uploads", "list-type"];
    let of_object = seen.path.trim_matches('/').contains('/') && !documents.iter().any(|other| seen.asks(other));
    match seen.method.as_str() {
        "GET" if of_object && !seen.asks("uploadId") => Carries::Down,
        "PUT" if of_object && length(seen) > 0 => Carries::Up,
        _ => Carries::Words,
    }
}

fn length(seen: &Seen) -> u64 {
    seen.header("content-length").parse().unwrap_or(0)
}

/// The same for the same request of every run: neither buckets nor version ids are.
fn identity(seen: &Seen) -> String {
    let path = seen.plain_path();
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
    let asked: Vec<String> = seen
        .query
        .iter()
        .map(|(name, value)| if name == "partNumber" { format!("{name}={value}") } else { name.clone() })
        .collect();
    format!("{} {key} {asked:?} {} {}", seen.method, seen.header("range"), seen.header("x-amz-target"))
}

/// Breaks this share of all requests, each at most [`LIVES`] times; of an object's bytes a bit is flipped but once on
/// each side, as three in a row are a broken object and no noise.
fn breaking(seed: u64, percent: u64) -> impl FnMut(&Seen) -> Act + Send + 'static {
    let mut asked: BTreeMap<String, u64> = BTreeMap::new();
    let mut flipped: BTreeSet<String> = BTreeSet::new();
    move |seen| {
        let what = identity(seen);
        let nth = asked.entry(what.clone()).or_default();
        *nth += 1;
        let mut dice = Dice::of(seed, &what, *nth);
        if *nth > LIVES || dice.below(100) >= percent {
            return Act::Pass;
        }
        let carried = carries(seen);
        let length = if carried == Carries::Down { [64, 4 * KIB, MIB][at(&mut dice, 3)] as u64 } else { length(seen) };
        let place = dice.below(length);
        let framing = if dice.below(2) == 0 { Framing::Chunked } else { Framing::Closed };
        let first_flip = carried != Carries::Words && flipped.insert(seen.plain_path());
        match (dice.below(12), carried) {
            (0, _) => Act::HangUp,
            (1, _) => Act::LoseAnswer,
            (2 | 3, Carries::Down) | (2, Carries::Words) => Act::CutResponse(place),
            (2 | 3, Carries::Up) | (3, Carries::Words) if length > 0 => Act::CutRequest(place),
            (4..=6, Carries::Down) if first_flip => Act::FlipResponse(place),
            (4..=6, Carries::Up) if first_flip => Act::FlipRequest(place),
            (4 | 5, Carries::Down | Carries::Words) if seen.method == "GET" => Act::Shorten(place, framing),
            (6, Carries::Down | Carries::Words) if seen.method == "GET" => Act::Shorten(u64::MAX, framing),
            (7, _) => Act::Throttle(200 << 10),
            (8, _) => Act::Delay(Duration::from_millis(80 + dice.below(300))),
            (9, _) => Act::error(500, "InternalError"),
            _ => Act::error(503, "SlowDown"),
        }
    }
}

fn at(dice: &mut Dice, places: u64) -> usize {
    usize::try_from(dice.below(places)).unwrap()
}

/// The worker reaches both stores and the queue through one of these each.
struct Network {
    pair: Pair,
    source: Proxy,
    target: Proxy,
    queue: Proxy,
}

impl Network {
    async fn between(server: Server, transfer: &str) -> Self {
        let setup = Setup::on(server, server).more(&format!("[transfer]\n{transfer}\n"));
        let source = Proxy::before(&server.access().endpoint);
        let target = Proxy::before(&server.access().endpoint);
        let queue = Proxy::before(&Server::Ministack.access().endpoint);
        let [source_endpoint, target_endpoint, queue_endpoint] =
            [&source, &target, &queue].map(|proxy| Some(proxy.endpoint()));
        let pair = Setup { source_endpoint, target_endpoint, queue_endpoint, ..setup }.build().await;
        // A message whose receipt got lost on the way comes again soon.
        pair.hide_briefly().await;
        Self { pair, source, target, queue }
    }

    fn clear(&self) {
        for proxy in [&self.source, &self.target, &self.queue] {
            proxy.clear();
        }
    }

    /// How many requests did not simply pass.
    fn broken(&self) -> usize {
        [&self.source, &self.target].iter().map(|proxy| proxy.count(|seen| seen.status.is_none_or(|s| s >= 500))).sum()
    }
}

// What must hold -------------------------------------------------------------------------------------------------------

/// Looks at the target all the time: every version that ever becomes visible must have the bytes of a source version.
struct Witness {
    target: Bucket,
    right: BTreeMap<String, BTreeSet<Vec<u8>>>,
    looked_at: BTreeSet<(String, String)>,
    wrong: Vec<String>,
}

impl Witness {
    /// Reads the source straight from its server.
    async fn of(pair: &Pair) -> Self {
        let mut right: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for version in list(&pair.source).await.into_iter().filter(|version| !version.marker) {
            let body = read(&pair.source, &version.key, &version.id).await.unwrap();
            right.entry(version.key).or_default().insert(body);
        }
        Self { target: pair.target.clone(), right, looked_at: BTreeSet::new(), wrong: Vec::new() }
    }

    async fn look(&mut self) {
        for version in list(&self.target).await.into_iter().filter(|version| !version.marker) {
            if self.looked_at.contains(&(version.key.clone(), version.id.clone())) {
                continue;
            }
            // One that is gone again was never the target's to lose.
            let Some(body) = read(&self.target, &version.key, &version.id).await else { continue };
            if !self.right.get(&version.key).is_some_and(|right| right.contains(&body)) {
                self.wrong.push(format!("{} {} ({} bytes)", version.key, version.id, body.len()));
            }
            self.looked_at.insert((version.key, version.id));
        }
    }

    /// Looks until the run has ended, and once more.
    async fn watch(&mut self, run: impl Future<Output = Output>) -> Output {
        let mut run = std::pin::pin!(run);
        let output = loop {
            let look = async {
                self.look().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            tokio::select! {
                output = &mut run => break output,
                () = look => {}
            }
        };
        let during = self.looked_at.len();
        self.look().await;
        assert_eq!(self.wrong, Vec::<String>::new(), "wrong bytes were visible");
        assert!(during > 0, "nothing was looked at while it ran");
        output
    }
}

async fn read(bucket: &Bucket, key: &str, version: &str) -> Option<Vec<u8>> {
    let got = bucket.s3.get_object().bucket(&bucket.name).key(key).version_id(version).send().await.ok()?;
    Some(got.body.collect().await.ok()?.to_vec())
}

/// Without the checksum that the SDK adds by itself, as objects were written for years.
async fn put_bare(source: &Bucket, key: &str, seed: u64, length: usize) {
    let bare =
        aws_sdk_s3::config::Builder::new().request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let put = source.s3.put_object().bucket(&source.name).key(key).body(ByteStream::from(bytes(seed, length)));
    put.customize().config_override(bare).send().await.unwrap();
}

/// Small, piped and in parts, with a checksum and with nothing but an ETag, written over and deleted.
async fn write_each(pair: &Pair, prefix: &str, seed: u64) {
    let source = &pair.source;
    source.put(&format!("{prefix}/empty"), "").await;
    source.put_adorned(&format!("{prefix}/adorned"), bytes(seed, 4 * KIB)).await;
    put_bare(source, &format!("{prefix}/bare"), seed + 1, 5 * KIB).await;
    put_bare(source, &format!("{prefix}/bare piped"), seed + 2, 2 * MIB).await;
    source.put(&format!("{prefix}/piped"), bytes(seed + 3, 3 * MIB)).await;
    source.put_multipart(&format!("{prefix}/parts"), seed + 4, &Multipart::of(&[5 * MIB, 5 * MIB, 100])).await;
    for again in 0..3 {
        source.put(&format!("{prefix}/{AGAIN}"), bytes(seed + 10 + again, KIB)).await;
    }
    // Of a version under a delete marker, ministack has no tags to tell to who must ask for them.
    if !pair.setup.more.contains("server-side") {
        source.put(&format!("{prefix}/deleted"), bytes(seed + 20, 10)).await;
        source.delete(&format!("{prefix}/deleted")).await;
    }
}

/// Whether the target's history of a key has the source's in order and ends as it does. Where a message came late, what
/// is newer was written once more behind it (P3): then that is all that may be too much.
async fn brings_the_history(pair: &Pair, key: &str) -> bool {
    let (source, target) = (pair.source.story(key).await, pair.target.story(key).await);
    let mut rest = source.iter().peekable();
    for version in &target {
        rest.next_if(|next| *next == version);
    }
    rest.peek().is_none() && source.last() == target.last()
}

/// Everything at the end: both sides equal, by our comparison and by the program's own that reads every byte; nothing
/// left open, waiting or given up; and the memory within its bound.
async fn assert_all_well(network: &Network, output: &Output, told: &str) {
    let pair = &network.pair;
    network.clear();
    assert_eq!(output.code, Some(0), "{told}: {output:#?}");
    assert!(output.peak_rss < MEMORY, "{told}: {} MiB resident", output.peak_rss >> 20);
    let mut found = compare(pair).await;
    // ministack's UploadPartCopy computes no checksum.
    found.retain(|line| !(told.contains("server-side") && line.contains(": checksum ")));
    let mut late = Vec::new();
    if network.queue.count(|seen| seen.status.is_none()) > 0 {
        late = pair.source.keys().await.into_iter().filter(|key| key.ends_with(AGAIN)).collect();
        found.retain(|line| !late.iter().any(|key| line.starts_with(&format!("{key}: source has"))));
    }
    assert_eq!(found, Vec::<String>::new(), "{told}: {}", output.stderr);
    for key in late {
        assert!(brings_the_history(pair, &key).await, "{told}: {key}");
    }
    let open = pair.target.s3.list_multipart_uploads().bucket(&pair.target.name).send().await.unwrap();
    assert_eq!(open.uploads().len(), 0, "{told}: orphaned uploads");
    assert_eq!((pair.queue_depth().await, pair.dead_letters().await), (0, 0), "{told}");
    let proof = run_repl(pair, &["verify", "--deep", "--json"], PATIENCE).await.expect_code(0).json();
    for count in ["missing", "different", "extra"] {
        assert_eq!(proof[count], 0, "{told}: {proof}");
    }
    assert!(proof["identical"].as_u64().unwrap() > 0, "{told}: {proof}");
}

async fn work_off(network: &Network) -> Output {
    // Longer than a message stays hidden whose receipt was lost.
    run_repl(&network.pair, &["run", "--until-idle=6s", "--json"], PATIENCE).await
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Everything breaks now and then, for each of the seeds.
async fn everything_breaks(server: Server, transfer: &str) {
    let first = number("REPL_NETWORK_FROM").unwrap_or(1);
    for seed in first..first + number("REPL_NETWORK_SEEDS").unwrap_or(1) {
        let told = format!("seed {seed} on {server:?} with {transfer}");
        let network = Network::between(server, transfer).await;
        for group in 0..2 {
            write_each(&network.pair, &format!("g{group}"), seed * 1000 + group * 100).await;
        }
        network.pair.announce().await;
        let mut witness = Witness::of(&network.pair).await;
        network.source.set_weather(breaking(seed, 30));
        network.target.set_weather(breaking(seed + 1_000_000, 30));
        if (seed % 2 == 1) == (server == Server::Ministack) {
            network.queue.set_weather(breaking(seed + 2_000_000, 30));
        }
        let output = witness.watch(work_off(&network)).await;
        assert!(network.broken() > 10, "{told}: only {} requests broke", network.broken());
        assert_all_well(&network, &output, &told).await;
    }
}

#[tokio::test]
async fn seeded_lean_streams_on_ministack() {
    everything_breaks(Server::Ministack, "mode = \"stream\"\nclient = \"lean\"").await;
}

#[tokio::test]
async fn seeded_lean_streams_on_seaweedfs() {
    everything_breaks(Server::Seaweedfs, "mode = \"stream\"\nclient = \"lean\"").await;
}

#[tokio::test]
async fn seeded_sdk_streams_on_ministack() {
    everything_breaks(Server::Ministack, "mode = \"stream\"\nclient = \"sdk\"").await;
}

#[tokio::test]
async fn seeded_sdk_streams_on_seaweedfs() {
    everything_breaks(Server::Seaweedfs, "mode = \"stream\"\nclient = \"sdk\"").await;
}

#[tokio::test]
async fn seeded_lean_copies_by_the_store() {
    everything_breaks(Server::Ministack, "mode = \"server-side\"\nclient = \"lean\"").await;
}

#[tokio::test]
async fn seeded_sdk_copies_by_the_store() {
    everything_breaks(Server::Ministack, "mode = \"server-side\"\nclient = \"sdk\"").await;
}

fn key_is(end: &'static str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    move |seen| carries(seen) != Carries::Words && seen.plain_path().ends_with(end)
}

/// P9: connections on which nothing moves any more, at every moment of a request, all at once: each is given up within
/// its time limit, and what it held up is done.
async fn silence_is_given_up(client: &str, slow_ones: bool) {
    let told = format!("mode = \"stream\"\nclient = \"{client}\"");
    let network = Network::between(Server::Ministack, &told).await;
    let silent = |proxy: &Proxy, end, moment| proxy.add(Rule::when(key_is(end), Act::Stall(moment)).times(1));
    for (number, end) in ["/get", "/down", "/answered", "/put", "/done"].into_iter().enumerate() {
        network.pair.source.put(&format!("silent{end}"), bytes(number as u64, 300 * KIB)).await;
    }
    silent(&network.source, "/get", Moment::Before);
    silent(&network.source, "/down", Moment::InResponse(100 << 10));
    silent(&network.source, "/answered", Moment::InResponse(0));
    silent(&network.target, "/put", Moment::Before);
    silent(&network.target, "/done", Moment::After);
    if slow_ones {
        // A piped body that is not taken, or not answered: minutes, as the other side may be slow.
        for end in ["/piped up", "/piped done"] {
            network.pair.source.put(&format!("silent{end}"), bytes(9, 8 * MIB)).await;
        }
        silent(&network.target, "/piped up", Moment::InRequest(64 << 10));
        silent(&network.target, "/piped done", Moment::After);
    }
    for lively in 0..20 {
        network.pair.source.put(&format!("lively/{lively}"), bytes(lively, KIB)).await;
    }
    let mut witness = Witness::of(&network.pair).await;
    let patience = if slow_ones { 5 * PATIENCE } else { PATIENCE };
    let pair = &network.pair;
    let run = run_repl(pair, &["run", "--until-idle=2s", "--json"], patience);
    let output = witness.watch(run).await;
    assert_all_well(&network, &output, &told).await;
    let stalled = if slow_ones { 7 } else { 5 };
    let gave_up = output.json()["faults"].as_array().unwrap().iter().map(|f| f["count"].as_u64().unwrap()).sum::<u64>();
    assert!(gave_up >= 1, "nothing was silent: {output:#?}");
    let unanswered = |proxy: &Proxy| proxy.count(|seen| seen.status.is_none());
    assert!(unanswered(&network.source) + unanswered(&network.target) + 2 >= stalled, "{output:#?}");
}

#[tokio::test]
async fn silence_is_given_up_by_the_lean_client() {
    silence_is_given_up("lean", false).await;
}

#[tokio::test]
async fn silence_is_given_up_by_the_sdk() {
    silence_is_given_up("sdk", false).await;
}

#[tokio::test]
#[ignore = "minutes of silence: cargo test --test cloud_network -- --ignored"]
async fn long_silence_is_given_up_too() {
    tokio::join!(silence_is_given_up("lean", true), silence_is_given_up("sdk", true));
}

/// P9, P10: a store that refuses everything for a while is asked less; afterwards more is under way at once again, and no
/// object costs more writes than it must.
async fn a_storm_passes(client: &str) {
    const OBJECTS: u64 = 600;
    const REFUSED: u64 = 120;
    let network = Network::between(Server::Ministack, &format!("mode = \"stream\"\nclient = \"{client}\"")).await;
    let refusal = || Rule::when(|seen| carries(seen) != Carries::Words, Act::error(503, "SlowDown")).times(REFUSED);
    network.source.add(refusal());
    network.target.add(refusal());
    network.target.add(Rule::when(|_| true, Act::Delay(Duration::from_millis(80))));
    for number in 0..OBJECTS {
        network.pair.source.put(&format!("k/{number}"), bytes(number, KIB)).await;
    }
    let mut worker = spawn_repl(&network.pair, &["run", "--until-idle=6s", "--json"]);
    let refused = |proxy: &Proxy| proxy.count(|seen| seen.status == Some(503)) as u64;
    eventually("the storm is over", PATIENCE, async || refused(&network.target) == REFUSED).await;
    let before = list(&network.pair.target).await.len() as u64;
    network.target.most_at_once();
    network.target.forget();
    let output = worker.end(PATIENCE).await;
    let puts = network.target.count(|seen| carries(seen) == Carries::Up) as u64;
    assert!(puts <= OBJECTS - before, "{puts} writes for {OBJECTS} objects of which {before} were there");
    let at_once = network.target.most_at_once();
    assert!(at_once > 2, "only {at_once} requests at once after the storm, which leaves two");
    assert_all_well(&network, &output, &format!("storm, {client}")).await;
}

#[tokio::test]
async fn a_storm_passes_with_the_lean_client() {
    a_storm_passes("lean").await;
}

#[tokio::test]
async fn a_storm_passes_with_the_sdk() {
    a_storm_passes("sdk").await;
}

/// Every request takes 80 ms longer, and of a hundred one is lost: it comes a retransmission later, its connection is
/// reset, or its answer never arrives. Enough is under way at once that the distance does not count.
async fn a_long_way_with_losses(client: &str) {
    const LATENCY: Duration = Duration::from_millis(80);
    let network = Network::between(Server::Ministack, &format!("mode = \"stream\"\nclient = \"{client}\"")).await;
    for proxy in [&network.source, &network.target, &network.queue] {
        let mut counted = 0_u64;
        proxy.set_weather(move |_| {
            counted += 1;
            match counted % 300 {
                17 => Act::Delay(LATENCY + Duration::from_secs(1)),
                117 => Act::HangUp,
                217 => Act::LoseAnswer,
                _ => Act::Delay(LATENCY),
            }
        });
    }
    for number in 0..250 {
        network.pair.source.put(&format!("k/{number}"), bytes(number, KIB)).await;
    }
    write_each(&network.pair, "each", 7).await;
    let mut witness = Witness::of(&network.pair).await;
    let output = witness.watch(work_off(&network)).await;
    assert!(network.target.most_at_once() >= 8, "the distance was waited for");
    assert!(network.target.count(|seen| seen.status.is_none()) >= 1, "nothing was lost");
    assert_all_well(&network, &output, &format!("latency, {client}")).await;
}

#[tokio::test]
async fn a_long_way_with_losses_for_the_lean_client() {
    a_long_way_with_losses("lean").await;
}

#[tokio::test]
async fn a_long_way_with_losses_for_the_sdk() {
    a_long_way_with_losses("sdk").await;
}
