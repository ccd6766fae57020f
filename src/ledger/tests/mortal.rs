//! The same losses on the real store: the script runs in a child process whose store dies at the n-th flush or batch, and
//! a third process opens what it left, as sled holds its lock for as long as a process lives.
//!
//! A process that dies leaves what it wrote in the page cache: what a loss of power leaves is for `power` to say.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::crash::{World, check, script};
use super::power::{Dice, asked};
use super::*;

/// What the child is to do, and where: `PART CUT N DIRECTORY`.
const PART: &str = "REPL_LEDGER_PART";
/// Children at once.
const AT_ONCE: usize = 4;

/// When the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Not at all: it tells how many flushes and batches there are.
    Never,
    /// Before the n-th flush, counted from 1.
    Flush,
    /// When it is done, and nobody knows it yet.
    Flushed,
    /// Before the n-th batch.
    Apply,
    /// When it is applied, and nobody knows it yet.
    Applied,
}

impl Cut {
    const ALL: [Self; 5] = [Self::Never, Self::Flush, Self::Flushed, Self::Apply, Self::Applied];

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|cut| format!("{cut:?}") == name).unwrap()
    }
}

/// The real store, which dies at one moment.
#[derive(Debug)]
struct MortalKv {
    sled: SledKv,
    cut: (Cut, usize),
    flushes: AtomicUsize,
    applies: AtomicUsize,
}

impl MortalKv {
    fn pass(&self, cut: Cut, count: usize) {
        if self.cut == (cut, count) {
            // No destructor runs: sled flushes nothing more.
            std::process::abort();
        }
    }
}

impl Kv for MortalKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.sled.get(key)
    }

    fn floor(&self, from: &[u8], upto: &[u8]) -> Result<Option<kv::Entry>, Fault> {
        self.sled.floor(from, upto)
    }

    fn next(&self, after: &[u8], end: &[u8]) -> Result<Option<kv::Entry>, Fault> {
        self.sled.next(after, end)
    }

    fn apply(&self, batch: kv::Batch) -> Result<(), Fault> {
        let count = self.applies.fetch_add(1, Ordering::Relaxed) + 1;
        self.pass(Cut::Apply, count);
        self.sled.apply(batch)?;
        self.pass(Cut::Applied, count);
        Ok(())
    }

    fn flush(&self) -> Result<(), Fault> {
        let count = self.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        self.pass(Cut::Flush, count);
        self.sled.flush()?;
        self.pass(Cut::Flushed, count);
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        self.sled.size_on_disk()
    }
}

/// Plays the part that the environment gives; without one there is nothing to play.
#[tokio::test]
#[ignore = "a part of nothing_acknowledged_is_lost_whenever_the_process_dies"]
#[allow(clippy::disallowed_methods, reason = "this is how the parent speaks to its child")]
async fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let words: Vec<&str> = part.splitn(4, ' ').collect();
    let [part, cut, number, directory] = *words.as_slice() else { panic!("{words:?}") };
    let directory = PathBuf::from(directory);
    match part {
        "write" => write(&directory, (Cut::named(cut), number.parse().unwrap())).await,
        "check" => {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let place = entry.unwrap().path();
                let world = World::left(&std::fs::read_to_string(place.join("testament")).unwrap());
                let ledger = Ledger::open(&place.join("ledger")).unwrap();
                check(&ledger, &world, &place.file_name().unwrap().to_string_lossy()).await;
            }
        }
        "churn" => churn(&directory).await,
        other => panic!("{other}"),
    }
}

async fn write(directory: &Path, cut: (Cut, usize)) {
    let sled = SledKv::open(&directory.join("ledger")).unwrap();
    let kv = Arc::new(MortalKv { sled, cut, flushes: 0.into(), applies: 0.into() });
    let ledger = Ledger::on(Arc::<MortalKv>::clone(&kv), Limits::default()).unwrap();
    let mut world = World::leaving(File::create(directory.join("testament")).unwrap());
    script(&ledger, &mut world).await.unwrap();
    assert_eq!(cut.0, Cut::Never, "the script never comes to {cut:?}");
    let (flushes, applies) = (kv.flushes.load(Ordering::Relaxed), kv.applies.load(Ordering::Relaxed));
    std::fs::write(directory.join("counts"), format!("{flushes} {applies}")).unwrap();
}

/// This very executable, playing a part.
fn play(part: &str, cut: (Cut, usize), directory: &Path) -> Child {
    let part = format!("{part} {:?} {} {}", cut.0, cut.1, directory.display());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::tests::mortal::part", "--ignored", "--nocapture"])
        .env(PART, part)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn play_to_end(part: &str, cut: (Cut, usize), directory: &Path) {
    let output = play(part, cut, directory).wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "{cut:?}: {}", said.join("\n"));
    assert!(said[0].contains("1 passed"), "the part was not played: {}", said[0]);
}

/// P1, P2, P3, I5, I10, I11 on sled, for each flush and each batch, before it and after it.
#[test]
fn nothing_acknowledged_is_lost_whenever_the_process_dies() {
    let root = tempfile::tempdir().unwrap();
    let place = |name: String| {
        let place = root.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    };
    let whole = place("Never".to_owned());
    play_to_end("write", (Cut::Never, 0), &whole);
    let counts = std::fs::read_to_string(whole.join("counts")).unwrap();
    let (flushes, applies) = counts.split_once(' ').unwrap();
    // The release at the end takes as many batches as it happens to take.
    let (flushes, applies) = (flushes.parse::<usize>().unwrap() - 2, applies.parse::<usize>().unwrap() - 3);
    assert!(flushes > 10 && applies > 20, "the script does something: {counts}");
    let flushes = (1..=flushes).flat_map(|n| [(Cut::Flush, n), (Cut::Flushed, n)]);
    let applies = (1..=applies).flat_map(|n| [(Cut::Apply, n), (Cut::Applied, n)]);
    let cuts: Vec<(Cut, usize)> = flushes.chain(applies).collect();
    for cuts in cuts.chunks(AT_ONCE) {
        let children: Vec<Child> =
            cuts.iter().map(|(cut, n)| play("write", (*cut, *n), &place(format!("{cut:?}-{n}")))).collect();
        for (child, cut) in children.into_iter().zip(cuts) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.code().is_none(), "{cut:?}: {output:?}");
        }
    }
    play_to_end("check", (Cut::Never, 0), root.path());
    println!("{} deaths", cuts.len());
}

/// Opens what the one before left, looks whether all is there, and then grows and shrinks without end.
async fn churn(directory: &Path) {
    let testament = directory.join("testament");
    let mut world = World::left(&std::fs::read_to_string(&testament).unwrap_or_default());
    let kv = SledKv::shaped(&directory.join("ledger"), Shape::of_segments(64 << 10)).unwrap();
    let ledger = Ledger::on(Arc::new(kv), Limits::default()).unwrap();
    world.continues(File::options().append(true).create(true).open(&testament).unwrap());
    let there = ledger.claim(at(1_000_000), 1_000_000).await.unwrap();
    world.all_there(&there.into_iter().flat_map(|mut lane| lane.take_all()).map(|claim| claim.id()).collect());
    File::create(directory.join("opened")).unwrap();
    let mut wave = ledger.totals().admitted;
    loop {
        while ledger.totals().pending.operations < 1_500 {
            wave += 100;
            let jobs = (wave..wave + 100).map(bench::realistic).collect();
            let ids = ledger.admit(work(jobs)).await.unwrap().ids;
            ids.into_iter().for_each(|id| world.acknowledge(id));
        }
        while ledger.totals().pending.operations > 100 {
            for mut lane in ledger.claim(at(1_000_000), 20).await.unwrap() {
                let claims = lane.take_all();
                claims.iter().for_each(|claim| world.end(claim.id()));
                ledger.settle(claims, done(at(1_000_000))).await.unwrap();
            }
        }
    }
}

/// P1 where sled gives room back and takes it again all the time: whatever it was at when the process was killed, the
/// next one opens the log and finds all that was acknowledged.
#[test]
#[allow(clippy::disallowed_methods, reason = "kills come by the real clock, as they do")]
fn a_ledger_that_grows_and_shrinks_is_opened_after_each_kill() {
    let kills = asked("REPL_CHURN_KILLS", 40);
    let root = tempfile::tempdir().unwrap();
    let opened = root.path().join("opened");
    let mut dice = Dice(asked("REPL_CHURN_SEED", u64::from(std::process::id())));
    for kill in 0..kills {
        std::fs::remove_file(&opened).ok();
        let mut child = play("churn", (Cut::Never, 0), root.path());
        while !opened.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(dice.throw(200)));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
        assert!(output.status.code().is_none(), "it ended by itself after kill {kill}: {}", said.join("\n"));
    }
}
