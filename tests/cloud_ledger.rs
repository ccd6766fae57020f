//! The ledger's files in clumsy hands: copied from a running worker, cut off. Never a silent loss, never silent harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

mod support;

use std::path::Path;
use std::time::Duration;

use support::aftermath::{assert_no_uploads, compare_in_spite_of_late_ones, ledger_is_empty};
use support::compare::{compare, list};
use support::objects::{Multipart, bytes};
use support::pair::Setup;
use support::servers::Server;
use support::worker::{catch_up, eventually, run_repl, spawn_repl, spawn_repl_into};

const PATIENCE: Duration = Duration::from_secs(120);

/// As `cp -r` does it: file by file, while others write them.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, place) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &place);
        } else if kind.is_file() {
            // What went away meanwhile is not copied; what became shorter, in part.
            std::fs::copy(entry.path(), place).ok();
        }
    }
}

/// Copies are taken while a worker works, and a second worker runs on each beside the first: it opens the copy, or says
/// why not, and whatever both do the target is as one would have left it (P1, P2, P3).
#[tokio::test]
async fn a_copied_ledger_is_opened_or_refused_and_harms_nothing() {
    let mut pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    pair.hide_briefly().await;
    for number in 0..200 {
        pair.source.put(&format!("k/{number}"), bytes(number, 400)).await;
    }
    pair.source.put_multipart("large", 9, &Multipart::of(&[5 << 20, 5 << 20, 100])).await;
    let mut first = spawn_repl(&pair, &["run"]);
    eventually("it works", PATIENCE, async || !list(&pair.target).await.is_empty()).await;
    let own = std::mem::take(&mut pair.config);
    let (mut opened, mut refused) = (0, 0);
    for number in 0..3 {
        let place = pair.directory.path().join(format!("copy-{number}"));
        copy(&pair.ledger, &place);
        let text = std::fs::read_to_string(&own).unwrap();
        let (from, to) = (format!("path = {:?}", pair.ledger), format!("path = {place:?}"));
        assert!(text.contains(&from), "{text}");
        pair.config = pair.directory.path().join(format!("copy-{number}.toml"));
        std::fs::write(&pair.config, text.replace(&from, &to)).unwrap();
        for late in 0..20 {
            pair.source.put(&format!("late/{number}/{late}"), bytes(late, 300)).await;
        }
        let said = ["out", "err"].map(|name| pair.directory.path().join(format!("copy-{number}.{name}")));
        let output = spawn_repl_into(&pair, &["run", "--until-idle=1s"], said).end(PATIENCE).await;
        match output.code {
            Some(0) => opened += 1,
            Some(3) => {
                assert!(output.stderr.contains("move this directory aside"), "{}", output.stderr);
                refused += 1;
            }
            _ => panic!("{output:#?}"),
        }
    }
    pair.config = own;
    println!("{opened} copies opened, {refused} refused");
    eventually("nothing is left", PATIENCE, async || pair.queue_depth().await == 0).await;
    first.terminate(PATIENCE).await.expect_code(0);
    catch_up(&pair).await.expect_code(0);
    let (found, _late) = compare_in_spite_of_late_ones(&pair).await;
    assert_eq!(found, Vec::<String>::new());
    assert_no_uploads(&pair.target).await;
    ledger_is_empty(&pair).await;
}

/// A log that was cut off is refused by every command that needs it, with what to do; and that is enough: what the new
/// ledger is to hold the buckets alone tell.
#[tokio::test]
async fn a_truncated_ledger_is_refused_and_rebuilt_from_the_buckets() {
    let pair = Setup::on(Server::Ministack, Server::Ministack).build().await;
    for number in 0..40 {
        pair.source.put(&format!("k/{number}"), bytes(number, 400)).await;
    }
    pair.source.put("k/3", "again").await;
    pair.source.delete("k/4").await;
    catch_up(&pair).await.expect_code(0);
    for number in 0..5 {
        pair.source.put(&format!("missed/{number}"), bytes(number, 400)).await;
    }
    let log = std::fs::OpenOptions::new().write(true).open(pair.ledger.join("db")).unwrap();
    let length = log.metadata().unwrap().len();
    for left in [length - 1, length / 2, 4096, 0] {
        log.set_len(left).unwrap();
        for args in [&["run", "--until-idle=1s"] as &[&str], &["sync", "--full"]] {
            let refused = run_repl(&pair, args, PATIENCE).await.expect_code(3);
            let said = &refused.stderr;
            assert!(said.contains("was cut off") || said.contains("it is damaged"), "{left}: {said}");
            assert!(said.contains("move this directory aside and run `repl sync --full`"), "{left}: {said}");
        }
    }
    assert_eq!(list(&pair.target).await.len(), 42, "nothing was done on it");
    assert_eq!(pair.queue_depth().await, 5, "nor acknowledged");

    std::fs::rename(&pair.ledger, pair.directory.path().join("aside")).unwrap();
    let rebuilt = run_repl(&pair, &["sync", "--full", "--json"], PATIENCE).await.expect_code(0).json();
    assert_eq!(rebuilt["copied"], 5, "{rebuilt}");
    assert_eq!(compare(&pair).await, Vec::<String>::new());
    catch_up(&pair).await.expect_code(0);
    assert_eq!(compare(&pair).await, Vec::<String>::new(), "no version too many");
    ledger_is_empty(&pair).await;
}
