//! Killed over and over under load, at random and, in a build with the feature `fail-points`, at each named point: both
//! sides equal, no version too many, no orphaned upload, the ledger empty (P1, P2, P3).
//!
//! `REPL_KILL_ROUNDS` says how many rounds; ten without it. `REPL_TEST_BINARY` names another build to kill.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests panic, and live in real time"
)]

mod support;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use repl::fail::Point;
use support::aftermath::{assert_no_orphaned_parts, compare_in_spite_of_late_ones, ledger_is_empty};
use support::objects::{Multipart, bytes};
use support::pair::{Pair, Setup};
use support::servers::Server;
use support::worker::{Worker, catch_up, run_repl, spawn_doomed_repl, spawn_repl};

/// Of the large objects: the smallest that S3 takes, and a rest.
const PARTS: [usize; 3] = [5 << 20, 5 << 20, 100];
const PATIENCE: Duration = Duration::from_secs(240);
/// Rounds on one pair of buckets before both sides are compared and the next pair begins with nothing.
const ROUNDS_OF_A_PAIR: usize = 10;
/// How long a worker may take until it comes to its point; then it is killed as any other.
const DOOM: Duration = Duration::from_secs(15);

/// Who is killed, and between which stores.
#[derive(Clone, Copy, Debug)]
struct Scene {
    source: Server,
    target: Server,
    way: Way,
}

/// What the worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `repl run`: what the queue tells.
    Events,
    /// `repl sync --full --delete-markers`: what both listings tell.
    Listings,
}

/// How workers ended: at which point, or else how.
type Ends = BTreeMap<&'static str, usize>;

/// A number below `limit`.
fn dice(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

fn asked_rounds() -> usize {
    std::env::var("REPL_KILL_ROUNDS").map_or(10, |text| text.parse().unwrap())
}

/// The points that a worker of this scene passes, where its build has any.
fn points(scene: Scene) -> Vec<Point> {
    let elsewhere = match scene.way {
        Way::Events => Point::AfterPage,
        Way::Listings => Point::AfterAdmit,
    };
    let there = cfg!(feature = "fail-points");
    Point::ALL.into_iter().filter(|point| there && *point != elsewhere).collect()
}

/// How often a worker surely comes to a point in one life.
fn passes(point: Point) -> u64 {
    match point {
        Point::AfterCreate | Point::BeforeComplete | Point::AfterComplete | Point::AfterPage => 1,
        Point::AfterAdmit | Point::AfterGet | Point::AfterPut | Point::AfterMarker => 3,
        Point::AfterSettle | Point::AfterPart => 3,
        Point::WithinFlush => 6,
    }
}

/// Puts, overwrites, deletes, undeletes, empty and large objects; the changes of one key one after the other.
async fn load(pair: &Pair, turn: u64) {
    for number in 0..12 {
        pair.source.put(&format!("once/{turn}/{number}"), bytes(turn * 100 + number, 500)).await;
    }
    pair.source.put(&format!("empty/{turn}"), Vec::new()).await;
    for number in 0..4 {
        for version in 0..2 {
            pair.source.put(&format!("hot/{number}"), bytes(turn * 10 + version, 900)).await;
        }
    }
    for number in 0..2 {
        let (gone, back) = (format!("gone/{turn}/{number}"), format!("back/{turn}/{number}"));
        pair.source.put(&gone, bytes(turn, 40)).await;
        pair.source.delete(&gone).await;
        pair.source.put(&back, bytes(turn, 50)).await;
        pair.source.delete(&back).await;
        pair.source.put(&back, bytes(turn + 1, 60)).await;
    }
    if turn.is_multiple_of(2) {
        pair.source.put_multipart(&format!("parts/{turn}"), turn, &Multipart::of(&PARTS)).await;
    }
}

/// One worker's life under load; what it died of.
async fn life(pair: &Pair, scene: Scene, (turn, doom): (u64, Option<Point>)) -> &'static str {
    let args: &[&str] = match scene.way {
        Way::Events => &["run"],
        Way::Listings => &["sync", "--full", "--delete-markers"],
    };
    load(pair, turn).await;
    let mut worker = match doom {
        Some(point) => spawn_doomed_repl(pair, args, &format!("{}:{}", point.name(), 1 + dice(passes(point)))),
        None => spawn_repl(pair, args),
    };
    load(pair, turn + 1).await;
    let patience = if doom.is_some() { DOOM } else { Duration::from_millis(dice(2_500)) };
    let ended = ended_within(&mut worker, patience).await;
    match (ended, doom) {
        (false, _) => {
            worker.kill().await;
            "killed at random"
        }
        (true, point) => {
            let output = worker.end(PATIENCE).await;
            match (output.code, point) {
                (None, Some(point)) => point.name(),
                (Some(0), _) if scene.way == Way::Listings => "done before",
                _ => panic!("{doom:?}: {output:#?}"),
            }
        }
    }
}

async fn ended_within(worker: &mut Worker, patience: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + patience;
    while worker.runs() {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// A worker that nobody kills does what is left.
async fn finish(pair: &Pair, scene: Scene) {
    match scene.way {
        Way::Events => drop(catch_up(pair).await.expect_code(0)),
        Way::Listings => {
            for _ in 0..5 {
                let sync = run_repl(pair, &["sync", "--full", "--delete-markers", "--json"], PATIENCE)
                    .await
                    .expect_code(0)
                    .json();
                if sync["copied"] == 0 {
                    return;
                }
            }
            panic!("a sync finds something to copy each time");
        }
    }
}

async fn rounds_on_one_pair(scene: Scene, rounds: &[Option<Point>], ends: &mut Ends) {
    let free = "[brake]\ndeletes_per_hour = 1000000\nshare_of_keys = \"100%\"\n";
    let pair = Setup::on(scene.source, scene.target).more(free).build().await;
    pair.hide_briefly().await;
    for (round, doom) in (0..).zip(rounds) {
        *ends.entry(life(&pair, scene, (2 * round, *doom)).await).or_default() += 1;
    }
    finish(&pair, scene).await;
    let (found, late) = compare_in_spite_of_late_ones(&pair).await;
    assert_eq!(found, Vec::<String>::new(), "after {rounds:?}");
    let empty = assert_no_orphaned_parts(&pair.target).await;
    assert!(empty <= rounds.len(), "{empty} uploads without a part");
    *ends.entry("(versions written again behind a late one)").or_default() += late;
    *ends.entry("(uploads left without a part)").or_default() += empty;
    ledger_is_empty(&pair).await;
}

async fn rounds(scene: Scene) {
    let rounds = asked_rounds().div_ceil(3);
    let points = points(scene);
    // Each point in turn, and one in four by chance alone.
    let mut next = points.iter().cycle();
    let dooms: Vec<Option<Point>> =
        (0..rounds).map(|round| if round % 4 == 3 { None } else { next.next().copied() }).collect();
    let mut ends = Ends::new();
    for rounds in dooms.chunks(ROUNDS_OF_A_PAIR) {
        rounds_on_one_pair(scene, rounds, &mut ends).await;
        println!("{scene:?}: so far {ends:?}");
    }
    // Some passes are not reached before the load is done; over so many rounds each point is.
    if rounds >= 4 * points.len() {
        let missed: Vec<&str> = points.iter().map(|point| point.name()).filter(|n| !ends.contains_key(n)).collect();
        assert_eq!(missed, Vec::<&str>::new(), "points at which nobody died");
    }
}

#[tokio::test]
async fn rounds_of_kills_between_regions_lose_nothing_and_double_nothing() {
    rounds(Scene { source: Server::Ministack, target: Server::Ministack, way: Way::Events }).await;
}

#[tokio::test]
async fn rounds_of_kills_between_stores_lose_nothing_and_double_nothing() {
    rounds(Scene { source: Server::Ministack, target: Server::Seaweedfs, way: Way::Events }).await;
}

#[tokio::test]
async fn rounds_of_kills_of_a_backfill_lose_nothing_and_double_nothing() {
    rounds(Scene { source: Server::Seaweedfs, target: Server::Seaweedfs, way: Way::Listings }).await;
}
