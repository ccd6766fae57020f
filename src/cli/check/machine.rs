//! This machine and the config: disk of the ledger, and rules that meet.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Probes;
use super::finding::{Check, Finding};
use crate::cli::beside;
use crate::plan::route::Rule;

/// A ledger on less is soon full: sled keeps segments of 4 MiB, receipts up to 16 MiB a file, a backlog grows.
const LEAST_FREE: u64 = 64 << 20;
/// Flushes that are timed; the median counts.
const FLUSHES: usize = 9;
/// A flush that takes longer admits fewer than 20 batches a second.
const SLOW: Duration = Duration::from_millis(50);

impl Probes<'_> {
    /// The rows of side `local`.
    pub(super) async fn machine(&self) -> Vec<Check> {
        let place = self.config.ledger.path.clone();
        let probe = if self.read_only { look } else { disk };
        let disk = Check::of("ledger-disk", "local", async move {
            match tokio::task::spawn_blocking(move || probe(&place)).await {
                Ok(finding) => finding,
                Err(error) => Finding::fail(format!("the disk could not be looked at: {error}"), "check again"),
            }
        });
        vec![disk.await, Check::at_once("rules", "local", overlaps(&self.config.rules))]
    }
}

/// Where the ledger is, or would be made.
fn nearest(place: &Path) -> PathBuf {
    let there = place.ancestors().find(|ancestor| ancestor.exists() && !ancestor.as_os_str().is_empty());
    there.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Writes nothing: what a flush takes is not known then.
fn look(place: &Path) -> Finding {
    let directory = nearest(place);
    match is_directory(&directory).and_then(|()| free(&directory)) {
        Ok(mib) => Finding::pass(format!(
            "{mib} MiB free in {}; whether it can be written was not tried, as --read-only was given",
            directory.display()
        )),
        Err(finding) => finding,
    }
}

fn disk(place: &Path) -> Finding {
    let directory = nearest(place);
    let shown = directory.display();
    if let Err(finding) = is_directory(&directory) {
        return finding;
    }
    let flushed = match flushes(&directory) {
        Ok(flushed) => flushed,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Finding::fail(
                format!("the ledger cannot be written in {shown}: {error}"),
                format!("sudo install -d -m 0700 -o \"$(id -un)\" {}, or correct [ledger] path", place.display()),
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            return Finding::fail(format!("the disk of the ledger in {shown} is full: {error}"), more_room());
        }
        Err(error) => {
            return Finding::fail(
                format!("the ledger cannot be written in {shown}: {error}"),
                "free or mend that disk, or correct [ledger] path in the config",
            );
        }
    };
    let mib = match free(&directory) {
        Ok(mib) => mib,
        Err(finding) => return finding,
    };
    let millis = flushed.as_secs_f64() * 1000.0;
    if flushed > SLOW {
        return Finding::fail(
            format!("a flush to disk in {shown} takes {millis:.0} ms, and every batch of events waits for one"),
            "put [ledger] path on a local disk, not on a network share or a worn-out card",
        );
    }
    Finding::pass(format!("{mib} MiB free in {shown}, a flush to disk takes {millis:.1} ms"))
}

fn is_directory(place: &Path) -> Result<(), Finding> {
    let correct = "correct [ledger] path in the config";
    let failed = || Err(Finding::fail(format!("{} is not a directory", place.display()), correct));
    if place.is_dir() { Ok(()) } else { failed() }
}

/// MiB that are free, if those suffice.
fn free(directory: &Path) -> Result<u64, Finding> {
    let shown = directory.display();
    let disk = rustix::fs::statvfs(directory)
        .map_err(|error| Finding::fail(format!("free space in {shown} is not told: {error}"), "mend that disk"))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mib = free >> 20;
    if free < LEAST_FREE {
        return Err(Finding::fail(format!("only {mib} MiB are free for the ledger in {shown}"), more_room()));
    }
    Ok(mib)
}

fn more_room() -> String {
    format!("free at least {} MiB there, or move [ledger] path to another disk", LEAST_FREE >> 20)
}

/// The median time of a flush of 4 KiB.
fn flushes(directory: &Path) -> std::io::Result<Duration> {
    let path = directory.join(format!(".repl-check-{}", std::process::id()));
    let timed = time_flushes(&path);
    let removed = std::fs::remove_file(&path);
    let mut times = timed?;
    removed?;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn time_flushes(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = beside::create(path)?;
    let page = [0_u8; 4096];
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.write_all(&page)?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Whether whoever checks may make the ledger's directory without taking it from the worker's user: root may not.
pub(super) fn may_make(place: &Path) -> bool {
    !place.exists() && beside::user() != 0
}

/// Rules of one target that meet, and those that can never hold.
fn overlaps(rules: &[Rule]) -> Finding {
    let enabled: Vec<&Rule> = rules.iter().filter(|rule| rule.enabled).collect();
    let (mut meeting, mut never) = (Vec::new(), Vec::new());
    for (nth, one) in enabled.iter().enumerate() {
        for other in enabled.iter().skip(nth + 1).filter(|other| other.target == one.target) {
            let (above, below) = if other.priority > one.priority { (*other, *one) } else { (*one, *other) };
            let covers = below.prefix.starts_with(&above.prefix);
            if covers && above.tags.iter().all(|(name, value)| below.tags.get(name) == Some(value)) {
                never.push(format!(
                    "rule {:?} can never hold: {:?} comes first for all of its keys",
                    below.id, above.id
                ));
            } else if above.meets(below) {
                meeting.push(format!("{:?} comes before {:?}", above.id, below.id));
            }
        }
    }
    if let Some(first) = never.first() {
        return Finding::fail(
            never.join("; ").clone(),
            format!(
                "give the narrower rule the higher priority, or remove it ({} in all; first: {first})",
                never.len()
            ),
        );
    }
    if meeting.is_empty() {
        return Finding::pass("no two rules of one target claim the same key");
    }
    Finding::pass(format!("where both claim a key, {}", meeting.join("; ")))
}
