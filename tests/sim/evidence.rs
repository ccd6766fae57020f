//! What receipts say must have happened, and what happened must be in them.
//!
//! A receipt that is missing proves nothing where an attempt broke off behind its write, and only there: what was written is then
//! superseded or gone by the time of the next.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};

use repl::audit::receipts::{Reader, check, unpack};
use repl::model::object::{Key, VersionId, Versioning};
use repl::model::stamp::Stamp;
use serde_json::Value;

use super::machine::Machine;
use super::run::{Findings, Sim};
use super::scenario::Scenario;
use super::world::bucket::{Bucket, Stored};

/// One line of a receipt, by its path: `source.key`.
fn text<'v>(receipt: &'v Value, path: &str) -> Option<&'v str> {
    path.split('.').try_fold(receipt, |value, name| value.get(name))?.as_str()
}

/// Everything that is wrong with the receipts, or with what they say.
pub(super) fn broken(sim: &Sim, machines: &[Machine]) -> Findings {
    let files = files(sim, machines);
    let checked = check(files.iter().map(|(name, bytes)| Reader::read(name.clone(), bytes.as_slice())));
    let mut findings: Findings = checked.breaks.iter().map(|wrong| format!("receipts: {wrong:?}")).collect();
    if checked.lost > 0 || checked.chains.len() > machines.len() {
        findings.push(format!("receipts: {} lost, chains: {:?}", checked.lost, checked.chains));
    }
    let lines = files.iter().flat_map(|(_, bytes)| BufReader::new(bytes.as_slice()).lines().map(Result::unwrap));
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let receipts: Vec<Value> = lines.filter(|line| line.get("source").is_some()).collect();
    if receipts.len() as u64 != checked.receipts {
        findings.push(format!("receipts: {} of {} were looked at", receipts.len(), checked.receipts));
    }
    findings.extend(receipts.iter().filter_map(|receipt| untrue(sim, receipt)));
    let Scenario { crashes, workers, meddling, forecast, .. } = &sim.scenario;
    if *crashes + *meddling + forecast.faults == 0 && *workers == 1 {
        findings.extend(without(sim, &receipts));
    }
    findings
}

/// Every file, uploaded or not.
fn files(sim: &Sim, machines: &[Machine]) -> Vec<(String, Vec<u8>)> {
    let bucket = sim.receipts.lock().unwrap();
    let uploaded = bucket.keys.iter().map(|(key, all)| {
        let packed = &all.last().unwrap().object.as_ref().unwrap().bytes;
        let mut bytes = Vec::new();
        unpack(packed.as_ref()).read_to_end(&mut bytes).unwrap();
        (key.as_str().to_owned(), bytes)
    });
    let spools = machines.iter().filter_map(|machine| machine.spool.as_ref());
    let left = spools.flat_map(|spool| std::fs::read_dir(spool.path()).unwrap().map(|entry| entry.unwrap().path()));
    let left = left.filter(|path| path.extension().is_some_and(|name| name == "jsonl"));
    let left = left.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()));
    uploaded.chain(left).collect()
}

/// Why a receipt says what is not so; `None` where it is.
fn untrue(sim: &Sim, receipt: &Value) -> Option<String> {
    let wrong = |why: &str| Some(format!("receipts: {why}: {receipt}"));
    let (source, target_id) = (sim.source.lock().unwrap(), text(receipt, "target.name")?);
    let Some(target) = sim.targets.get(&target_id.into()) else { return wrong("there is no such target") };
    let target = target.lock().unwrap();
    let rules = sim.scenario.rules();
    let Some(rule) = rules.iter().find(|rule| text(receipt, "rule") == Some(rule.id.as_str())) else {
        return wrong("there is no such rule");
    };
    let key = Key::new(text(receipt, "source.key")?);
    let there = Key::new(text(receipt, "target.key")?);
    let lag = receipt["lag_seconds"].as_f64();
    if rule.target.as_str() != target_id || rule.target_key(&key) != there || lag.is_none_or(|lag| lag < 0.0) {
        return wrong("it contradicts itself");
    }
    if text(receipt, "target.bucket") != Some(&target.name) || text(receipt, "source.bucket") != Some(&source.name) {
        return wrong("these are not the buckets");
    }
    let is_marker = text(receipt, "kind") == Some("delete-marker");
    let originals = named(&source, &key, receipt, "source");
    let originals: Vec<&Stored> = originals.into_iter().filter(|one| one.object.is_none() == is_marker).collect();
    if originals.is_empty() {
        return wrong("the source never had that");
    }
    let unproved = text(receipt, "verified.means") == Some("unprovable");
    if unproved && !sim.scenario.cannot_prove() && !superseded(receipt) {
        return wrong("nothing keeps it from being proved");
    }
    if text(receipt, "target.version").or(text(receipt, "target.etag")).is_none() {
        // Only of what was not looked at, and of a delete where there was nothing to hide or nothing is left to name.
        let nothing = target.versioning == Versioning::Off || text(receipt, "outcome") == Some("already-equal");
        let untold = unproved || (is_marker && nothing);
        return if untold { None } else { wrong("it does not say what is at the target") };
    }
    let replicas = named(&target, &there, receipt, "target");
    let same = |replica: &&Stored| match &replica.object {
        None => is_marker,
        Some(copy) => originals.iter().any(|one| one.object.as_ref().is_some_and(|of| of.bytes == copy.bytes)),
    };
    if replicas.iter().any(same) { None } else { wrong("the target never had that") }
}

/// Whether a newer version was there already, so that this one was not looked at.
fn superseded(receipt: &Value) -> bool {
    text(receipt, "verified.reason").is_some_and(|reason| reason.contains("a newer version is there already"))
}

/// The versions of a bucket that one side of a receipt names, as far as it does.
fn named<'b>(bucket: &'b Bucket, key: &Key, receipt: &Value, side: &str) -> Vec<&'b Stored> {
    // What a listing of current objects brought up has no version.
    let version = text(receipt, &format!("{side}.version")).filter(|version| !version.is_empty()).map(VersionId::new);
    let etag = text(receipt, &format!("{side}.etag"));
    let size = receipt[side]["size"].as_u64();
    let is_named = |stored: &&Stored| {
        version.as_ref().is_none_or(|version| stored.version == *version)
            && stored.object.as_ref().is_none_or(|object| {
                etag.is_none_or(|etag| object.etag.as_str() == etag)
                    && size.is_none_or(|size| object.bytes.len() as u64 == size)
            })
    };
    bucket.ever.iter().filter(|(of, _)| of == key).map(|(_, stored)| stored).filter(is_named).collect()
}

/// Replicas that stand there without a receipt of their version.
fn without(sim: &Sim, receipts: &[Value]) -> Findings {
    let of = |receipt: &Value| {
        let path = |path| text(receipt, path).unwrap_or_default().to_owned();
        (path("target.name"), path("target.key"), path("source.version"))
    };
    let told: BTreeSet<(String, String, String)> = receipts.iter().map(of).collect();
    let mut findings = Findings::new();
    for (id, target) in &sim.targets {
        for (key, all) in &target.lock().unwrap().keys {
            let objects = all.iter().filter_map(|stored| stored.object.as_ref());
            for stamp in objects.filter_map(|object| Stamp::read(&object.attributes.metadata)) {
                let what = (id.as_str().to_owned(), key.as_str().to_owned(), stamp.version.as_str().to_owned());
                if !told.contains(&what) {
                    findings.push(format!("receipts: none tells of {what:?}"));
                }
            }
        }
    }
    findings
}
