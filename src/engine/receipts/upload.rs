//! Closed receipt files go to the bucket, oldest first, and leave the disk when they are there.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::audit::receipts::pack;
use crate::model::digest::Algorithm;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Attributes, Key, Tags};
use crate::ports::{Condition, Fetched, NewObject, ObjectStore, Payload, Pick, Read, Sealing, World};

use super::super::Shared;
use super::super::digest::Hashed;
use super::spool::{self, Waiting};
use super::{Settings, blocking};

/// Between attempts while the worker ends: there is little time left.
const HURRY: Duration = Duration::from_millis(500);
/// How many characters of the last line's hash a name in the bucket carries: two chains, or two forks of one, never
/// meet in a name.
const HASH_IN_NAME: usize = 16;

/// Uploads what is closed, up to the number that `closed` tells, until its sender is gone and nothing is left.
pub(super) async fn upload<W: World>(
    shared: Arc<Shared<W>>,
    settings: Arc<Settings>,
    mut closed: watch::Receiver<u64>,
) {
    let mut failed = 0_u32;
    loop {
        // In this order: what was closed last is seen by the last look.
        let ending = closed.has_changed().is_err();
        let through = *closed.borrow_and_update();
        match upload_all(&shared, &settings, through).await {
            Ok(()) if ending => return,
            Ok(()) => {
                failed = 0;
                shared.pulse.receipts(|view| view.upload_fault = None);
                // An error means that the writer has ended: one last look.
                closed.changed().await.ok();
            }
            Err(fault) => {
                let usual = || shared.settings.retry.wait(fault.kind, failed, (shared.settings.chance)());
                let wait = if ending { HURRY } else { usual() };
                failed = failed.saturating_add(1);
                tracing::warn!(%fault, bucket = settings.bucket, attempts = failed, wait_ms = wait.as_millis(),
                    "receipts: could not be uploaded; they stay on the disk and are tried again");
                shared.pulse.receipts(|view| view.upload_fault = Some(fault.to_string()));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = gone(&mut closed), if !ending => {}
                }
            }
        }
    }
}

/// Returns when the writer has ended.
async fn gone(closed: &mut watch::Receiver<u64>) {
    while closed.changed().await.is_ok() {}
}

async fn upload_all<W: World>(shared: &Shared<W>, settings: &Arc<Settings>, through: u64) -> Result<(), Fault> {
    let directory = settings.directory.clone();
    let waiting = blocking("list the spool of receipts", move || spool::waiting(&directory, through)).await?;
    let mut left = waiting.len() as u64;
    shared.pulse.receipts(|view| view.waiting = left);
    let mut stuck = None;
    for file in waiting {
        match upload_one(shared, settings, &file).await {
            Ok(()) => {}
            // Somebody else's object in the way of one file says nothing about the others.
            Err(fault) if fault.kind == FaultKind::Foreign => {
                stuck = Some(fault);
                continue;
            }
            Err(fault) => return Err(fault),
        }
        left = left.saturating_sub(1);
        shared.pulse.receipts(|view| {
            view.waiting = left;
            view.uploaded += 1;
        });
    }
    stuck.map_or(Ok(()), Err)
}

async fn upload_one<W: World>(shared: &Shared<W>, settings: &Settings, file: &Waiting) -> Result<(), Fault> {
    let store = shared.world.receipts().ok_or_else(|| {
        Fault::new(FaultKind::Refused, Side::Local, "find the receipts' bucket", "there is none configured any more")
    })?;
    let (packed, hash) = packed(file.path.clone()).await?;
    let short: String = hash.chars().take(HASH_IN_NAME).collect();
    let key = Key::new(format!("{}dt={}/{}.{}.{short}.jsonl.gz", settings.prefix, file.day, file.day, file.number));
    let content_type = Some("application/gzip".to_owned());
    let object = NewObject {
        key: key.clone(),
        attributes: Attributes { content_type, ..Attributes::default() },
        tags: Tags::new(),
        sealing: Sealing::BucketDefault,
        owner_full_control: false,
    };
    let checksum = Hashed::of(Algorithm::Crc64Nvme, &packed).checksum();
    let payload = Payload::Whole(packed.clone());
    match store.put(&object, payload, Some(&checksum), &Condition::Absent).await {
        Ok(_) => {}
        // The answer of an earlier attempt may have been lost: then it is there as it is here.
        Err(fault) if fault.kind == FaultKind::Raced => same_there(store, &key, &packed).await?,
        Err(fault) => return Err(fault),
    }
    tracing::info!(key = %key, bytes = packed.len(), "receipts: uploaded");
    let path = file.path.clone();
    blocking("remove an uploaded file of receipts", move || fs::remove_file(path)).await
}

/// A file packed, with its last line's hash.
async fn packed(path: PathBuf) -> Result<(Bytes, String), Fault> {
    blocking("pack a file of receipts", move || {
        let hash = spool::last_hash(&path)?.unwrap_or_else(|| "unreadable".to_owned());
        Ok((Bytes::from(pack(std::io::BufReader::new(File::open(&path)?))?), hash))
    })
    .await
}

async fn same_there<S: ObjectStore>(store: &S, key: &Key, packed: &Bytes) -> Result<(), Fault> {
    let read = Read { pick: Pick::Current, range: None, if_match: None };
    let there = match store.get(key, read).await? {
        Fetched::Object(got) => {
            let (mut body, mut matched) = (got.body, 0_usize);
            let mut same = got.head.size == packed.len() as u64;
            while let (true, Some(piece)) = (same, body.next().await) {
                let piece = piece?;
                let end = matched.saturating_add(piece.len());
                same = packed.get(matched..end) == Some(&*piece);
                matched = end;
            }
            same
        }
        Fetched::DeleteMarker | Fetched::Missing => false,
    };
    if there {
        return Ok(());
    }
    let detail = format!(
        "{key:?} is there already with other content, and receipts are never overwritten: move that object away, then \
         this file is uploaded by itself"
    );
    Err(Fault::new(FaultKind::Foreign, Side::Target, "upload receipts", detail))
}
