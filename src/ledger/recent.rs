//! What is remembered beside the work itself: applied states, reasons, replicas, uploads, cursors.
//!
//! Applied states and reasons are bounded, the oldest forgotten; uploads live as long as their upload; replicas stay.

use super::book::{Book, View};
use super::codec::{Decoder, Encoder, Read};
use super::layout::{Fields, Table, key_hash, lane_hash, unreadable, version_hash};
use super::names::Names;
use super::record::{AppliedRecord, NoteRecord, Record, ReplicaRecord, UploadRecord, Waiting, read_target};
use super::words::{Chapter, Control, GroupId, JobId, Limiting, Note, Replica, SentPart, Standing, Story, Upload};
use crate::model::fault::Fault;
use crate::model::job::{Applied, Job};
use crate::model::object::{ETag, Key, TargetId, Timestamp, VersionId};
use crate::ports::Ignored;

/// Reasons kept for one key: enough to see a pattern, and few enough to look through at each new one.
const NOTES_OF_A_KEY: usize = 32;
/// Jobs of one target key that a story tells.
const STORY_JOBS: usize = 1_000;

/// An entry of a table keyed by hash and mark.
type Marked<R> = (Vec<u8>, R);

/// Under which key an upload's parts lie.
fn parts_of(upload: &[u8]) -> Vec<u8> {
    Table::Part.key().raw(upload.get(1..).unwrap_or_default()).end()
}

impl View<'_> {
    fn marked<R: Record>(&self, prefix: &[u8]) -> Result<Vec<Marked<R>>, Fault> {
        let mut found = Vec::new();
        for (key, value) in self.pages.under(prefix, usize::MAX)? {
            let record = self.decode(&value)?;
            found.push((key, record));
        }
        Ok(found)
    }

    fn find_applied(&self, target: &TargetId, target_key: &Key) -> Result<Option<Marked<AppliedRecord>>, Fault> {
        let prefix = Table::Applied.key().long(lane_hash(target, target_key)).end();
        let mut found = self.marked::<AppliedRecord>(&prefix)?;
        found.retain(|(_, record)| record.target == *target && record.target_key == *target_key);
        Ok(found.pop())
    }

    pub(super) fn applied(&self, target: &TargetId, target_key: &Key) -> Result<Option<Applied>, Fault> {
        Ok(self.find_applied(target, target_key)?.map(|(_, record)| record.applied))
    }

    pub(super) fn replicas(&self, target: &TargetId, target_key: &Key) -> Result<Vec<Replica>, Fault> {
        let prefix = Table::Replica.key().long(lane_hash(target, target_key)).end();
        let mut found = self.marked::<ReplicaRecord>(&prefix)?;
        found.retain(|(_, record)| record.target == *target && record.target_key == *target_key);
        found.sort_by_key(|(_, record)| record.replica.modified);
        Ok(found.into_iter().map(|(_, record)| record.replica).collect())
    }

    fn uploads_of(&self, target: &TargetId, target_key: &Key) -> Result<Vec<Marked<UploadRecord>>, Fault> {
        let prefix = Table::Upload.key().long(lane_hash(target, target_key)).end();
        let mut found = self.marked::<UploadRecord>(&prefix)?;
        found.retain(|(_, record)| record.target == *target && record.target_key == *target_key);
        Ok(found)
    }

    /// The upload of a claim: the one of its job's version, else the one that its job opened.
    fn find_upload(&self, claim: &Waiting) -> Result<Option<Marked<UploadRecord>>, Fault> {
        let job = &claim.job;
        let mut found = self.uploads_of(&job.target, &job.target_key)?;
        let own = found
            .iter()
            .position(|(_, record)| record.upload.source_version == job.version)
            .or_else(|| found.iter().position(|(_, record)| record.job == claim.id));
        Ok(own.map(|at| found.swap_remove(at)))
    }

    pub(super) fn upload(&self, claim: &Waiting) -> Result<Option<Upload>, Fault> {
        Ok(self.find_upload(claim)?.map(|(_, record)| record.upload))
    }

    /// The parts noted of the claim's upload, ascending.
    pub(super) fn sent_parts(&self, claim: &Waiting) -> Result<Vec<SentPart>, Fault> {
        let Some((place, _)) = self.find_upload(claim)? else { return Ok(Vec::new()) };
        let mut parts = self.marked::<SentPart>(&parts_of(&place))?;
        parts.sort_by_key(|(_, part)| part.number);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }

    pub(super) fn uploads(&self) -> Result<Vec<(TargetId, Key, Upload)>, Fault> {
        let found = self.marked::<UploadRecord>(&Table::Upload.all())?;
        Ok(found.into_iter().map(|(_, record)| (record.target, record.target_key, record.upload)).collect())
    }

    pub(super) fn control(&self) -> Result<Control, Fault> {
        Ok(self.record(&Table::Control.all())?.unwrap_or_default())
    }

    pub(super) fn limiting(&self) -> Result<Limiting, Fault> {
        Ok(self.record(&Table::Limiting.all())?.unwrap_or_default())
    }

    pub(super) fn cursor(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let Some(value) = self.pages.get(&Table::Cursor.key().raw(name.as_bytes()).end())? else { return Ok(None) };
        let read = || {
            let mut from = Decoder::record(&value)?;
            let cursor = from.bytes()?.to_vec();
            from.end()?;
            Ok(cursor)
        };
        read().map(Some).map_err(|why| unreadable("cursor", why))
    }

    /// Uploads that no unfinished job needs any more.
    pub(super) fn orphans(&self) -> Result<Vec<(TargetId, Key, Upload)>, Fault> {
        let mut orphans = self.marked::<UploadRecord>(&Table::Upload.all())?;
        let mut kept = Vec::new();
        for (_, record) in orphans.drain(..) {
            let UploadRecord { target, target_key, job, upload } = record;
            let lane = self.find_lane(&target, &target_key)?;
            let pending = lane.map(|(id, lane)| self.source_order(id, &lane, usize::MAX)).transpose()?;
            let parked = self.parked_of(&target, &target_key, usize::MAX)?;
            let mut waiting = pending.into_iter().flatten().chain(parked.into_iter().map(|(_, parked)| parked.waiting));
            if !waiting.any(|waiting| waiting.id == job || waiting.job.version == upload.source_version) {
                kept.push((target, target_key, upload));
            }
        }
        Ok(kept)
    }

    /// All that is known of a source key.
    pub(super) fn story(&self, key: &Key) -> Result<Story, Fault> {
        let mut story = Story::default();
        for (target, target_key) in self.places(key) {
            if let Some((id, lane)) = self.find_lane(&target, &target_key)? {
                for waiting in self.source_order(id, &lane, STORY_JOBS)? {
                    let standing = match waiting.not_before {
                        Timestamp(0) => Standing::Ready,
                        later => Standing::Deferred(later),
                    };
                    story.jobs.push(chapter(waiting, standing));
                }
            }
            for (group, parked) in self.parked_of(&target, &target_key, STORY_JOBS)? {
                let mut waiting = parked.waiting;
                if waiting.fault.is_none() {
                    waiting.fault = self.group(group)?.map(|group| group.fault);
                }
                let held = self.group(group)?.is_some_and(|group| group.held);
                let standing = if held { Standing::Held } else { Standing::Parked(GroupId(group)) };
                story.jobs.push(chapter(waiting, standing));
            }
            if let Some(applied) = self.applied(&target, &target_key)? {
                story.applied.push((target, target_key, applied));
            }
        }
        story.jobs.retain(|chapter| chapter.job.key == *key);
        story.notes = self.notes(key)?.into_iter().map(|(_, record)| note(record)).collect();
        story.happenings = self.happenings(key)?;
        Ok(story)
    }

    fn notes(&self, key: &Key) -> Result<Vec<Marked<NoteRecord>>, Fault> {
        let mut found = self.marked::<NoteRecord>(&Table::Note.key().long(key_hash(key)).end())?;
        found.retain(|(_, record)| record.key == *key);
        Ok(found)
    }
}

fn chapter(waiting: Waiting, standing: Standing) -> Chapter {
    Chapter { id: JobId(waiting.id), job: waiting.job, standing, attempts: waiting.attempts, fault: waiting.fault }
}

fn note(record: NoteRecord) -> Note {
    Note { target: record.target, version: record.version, reason: record.reason, noted: record.noted }
}

/// The hash and mark of a key that has both.
fn hash_and_mark(key: &[u8]) -> Result<(u64, u64), Fault> {
    let mut fields = Fields::of(key);
    Ok((fields.long()?, fields.id()?))
}

impl Book<'_> {
    pub(super) fn remember_applied(&mut self, target: &TargetId, key: &Key, applied: &Applied) -> Result<(), Fault> {
        if let Some((old, _)) = self.view.find_applied(target, key)? {
            let (_, mark) = hash_and_mark(&old)?;
            self.view.pages.remove(&old)?;
            self.view.pages.remove(&Table::AppliedAge.key().id(mark).end())?;
        } else {
            self.state.tally.applied += 1;
        }
        let (hash, mark) = (lane_hash(target, key), self.next_mark());
        let record = AppliedRecord { target: target.clone(), target_key: key.clone(), applied: applied.clone() };
        self.put(Table::Applied.key().long(hash).id(mark).end(), &record)?;
        self.view.pages.put(Table::AppliedAge.key().id(mark).end(), hash.to_be_bytes().to_vec())?;
        while self.state.tally.applied > self.state.limits.applied {
            self.forget_oldest(Table::AppliedAge, Table::Applied)?;
            self.state.tally.applied -= 1;
        }
        Ok(())
    }

    fn forget_oldest(&mut self, ages: Table, records: Table) -> Result<(), Fault> {
        let Some((age, hash)) = self.view.pages.first(&ages.all())? else { return Ok(()) };
        let mark = Fields::of(&age).id()?;
        self.view.pages.remove(&age)?;
        self.view.pages.remove(&records.key().raw(&hash).id(mark).end())
    }

    /// A bucket without versions holds one replica of a key: what was sent there before is gone.
    pub(super) fn forget_replaced(&mut self, target: &TargetId, key: &Key) -> Result<(), Fault> {
        let prefix = Table::Replica.key().long(lane_hash(target, key)).end();
        for (place, record) in self.view.marked::<ReplicaRecord>(&prefix)? {
            let of_key = record.target == *target && record.target_key == *key;
            if of_key && record.replica.target_version.is_none() {
                self.view.pages.remove(&place)?;
                let unstamped = &mut self.state.tally.totals.unstamped;
                *unstamped = unstamped.saturating_sub(1);
            }
        }
        Ok(())
    }

    pub(super) fn remember_replica(&mut self, target: &TargetId, key: &Key, replica: &Replica) -> Result<(), Fault> {
        let prefix =
            Table::Replica.key().long(lane_hash(target, key)).group(version_hash(&replica.source_version)).end();
        let known = self.view.marked::<ReplicaRecord>(&prefix)?.into_iter().find(|(_, record)| {
            record.target == *target
                && record.target_key == *key
                && record.replica.source_version == replica.source_version
                // Written again behind a late one, a version has two replicas, and both stay there to be told apart. Of
                // what was sent and not answered each may be what is there.
                && record.replica.target_version == replica.target_version
                && (replica.target_version.is_some() || record.replica.target_etag == replica.target_etag)
        });
        let place = match known {
            Some((place, _)) => place,
            None => {
                self.state.tally.totals.unstamped += 1;
                let mut place = prefix;
                place.extend(self.next_mark().to_be_bytes());
                place
            }
        };
        let record = ReplicaRecord { target: target.clone(), target_key: key.clone(), replica: replica.clone() };
        self.put(place, &record)
    }

    pub(super) fn note_upload(&mut self, claim: &Waiting, upload: &Upload) -> Result<(), Fault> {
        let job = &claim.job;
        self.enter_names(job)?;
        let same = |record: &UploadRecord| record.upload.id == upload.id;
        let known = self.view.uploads_of(&job.target, &job.target_key)?.into_iter().find(|(_, record)| same(record));
        let place = match known {
            Some((place, _)) => place,
            None => {
                let mark = self.next_mark();
                Table::Upload.key().long(lane_hash(&job.target, &job.target_key)).id(mark).end()
            }
        };
        let record = UploadRecord {
            target: job.target.clone(),
            target_key: job.target_key.clone(),
            job: claim.id,
            upload: upload.clone(),
        };
        self.put(place, &record)
    }

    /// Notes a part of the claim's upload; without an upload there is nothing to note it under.
    pub(super) fn note_part(&mut self, claim: &Waiting, part: &SentPart) -> Result<(), Fault> {
        let Some((place, _)) = self.view.find_upload(claim)? else { return Ok(()) };
        let mut place = parts_of(&place);
        place.extend_from_slice(&part.number.to_be_bytes());
        self.put(place, part)
    }

    pub(super) fn forget_upload(&mut self, claim: &Waiting) -> Result<(), Fault> {
        match self.view.find_upload(claim)? {
            Some((place, _)) => self.forget_with_parts(&place),
            None => Ok(()),
        }
    }

    fn forget_with_parts(&mut self, upload: &[u8]) -> Result<(), Fault> {
        for (place, _) in self.view.pages.under(&parts_of(upload), usize::MAX)? {
            self.view.pages.remove(&place)?;
        }
        self.view.pages.remove(upload)
    }

    pub(super) fn forget_upload_of(&mut self, target: &TargetId, key: &Key, upload: &str) -> Result<(), Fault> {
        for (place, record) in self.view.uploads_of(target, key)? {
            if record.upload.id == upload {
                self.forget_with_parts(&place)?;
            }
        }
        Ok(())
    }

    pub(super) fn set_control(&mut self, control: Control) -> Result<(), Fault> {
        self.put(Table::Control.all(), &control)
    }

    pub(super) fn set_limiting(&mut self, limiting: Limiting) -> Result<(), Fault> {
        self.put(Table::Limiting.all(), &limiting)
    }

    pub(super) fn set_cursor(&mut self, name: &str, cursor: &[u8]) -> Result<(), Fault> {
        let mut out = Encoder::record();
        out.bytes(cursor);
        self.view.pages.put(Table::Cursor.key().raw(name.as_bytes()).end(), out.finish())
    }

    pub(super) fn forget_cursor(&mut self, name: &str) -> Result<(), Fault> {
        self.view.pages.remove(&Table::Cursor.key().raw(name.as_bytes()).end())
    }

    pub(super) fn note_ignored(&mut self, ignored: Ignored, now: Timestamp) -> Result<(), Fault> {
        let Some(key) = ignored.key else { return Ok(()) };
        self.note(NoteRecord { key, target: None, version: ignored.version, reason: ignored.reason, noted: now })
    }

    pub(super) fn note_reason(&mut self, job: &Job, reason: &str, now: Timestamp) -> Result<(), Fault> {
        self.enter_names(job)?;
        self.note(NoteRecord {
            key: job.key.clone(),
            target: Some(job.target.clone()),
            version: job.version.clone(),
            reason: reason.to_owned(),
            noted: now,
        })
    }

    /// Keeps a reason. The same one told again moves to the end.
    fn note(&mut self, record: NoteRecord) -> Result<(), Fault> {
        let notes = self.view.notes(&record.key)?;
        let told = notes.iter().find(|(_, old)| {
            old.target == record.target && old.version == record.version && old.reason == record.reason
        });
        let crowded = if notes.len() >= NOTES_OF_A_KEY { notes.first() } else { None };
        if let Some((old, _)) = told.or(crowded) {
            let (_, mark) = hash_and_mark(old)?;
            self.view.pages.remove(old)?;
            self.view.pages.remove(&Table::NoteAge.key().id(mark).end())?;
        } else {
            self.state.tally.notes += 1;
        }
        let (hash, mark) = (key_hash(&record.key), self.next_mark());
        self.put(Table::Note.key().long(hash).id(mark).end(), &record)?;
        self.view.pages.put(Table::NoteAge.key().id(mark).end(), hash.to_be_bytes().to_vec())?;
        while self.state.tally.notes > self.state.limits.notes {
            self.forget_oldest(Table::NoteAge, Table::Note)?;
            self.state.tally.notes -= 1;
        }
        Ok(())
    }
}

impl Record for NoteRecord {
    const NAME: &'static str = "note";

    fn write(&self, out: &mut Encoder, names: &Names) {
        out.text(self.key.as_str());
        out.option(self.target.as_ref(), |out, target| out.number(names.target_number(target)));
        out.packed(self.version.as_str());
        out.text(&self.reason);
        out.number(self.noted.0);
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        Ok(Self {
            key: Key::new(from.text()?),
            target: from.option(|from| read_target(from, names))?,
            version: VersionId::new(from.packed()?),
            reason: from.text()?.to_owned(),
            noted: Timestamp(from.number()?),
        })
    }
}

impl Record for SentPart {
    const NAME: &'static str = "part";

    fn write(&self, out: &mut Encoder, _names: &Names) {
        out.number(u64::from(self.number));
        out.packed(self.etag.as_str());
        out.number(self.size);
        out.text(&self.checksum);
        out.option(self.md5.as_deref(), Encoder::text);
    }

    fn read(from: &mut Decoder<'_>, _names: &Names) -> Read<Self> {
        Ok(Self {
            number: from.small()?,
            etag: ETag::new(from.packed()?),
            size: from.number()?,
            checksum: from.text()?.to_owned(),
            md5: from.option(Decoder::text)?.map(str::to_owned),
        })
    }
}
