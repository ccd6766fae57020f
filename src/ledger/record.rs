//! The records and their bytes. Every record begins with its version; an unknown one is refused, and so is every
//! record that is cut short or goes on too long. Golden bytes in the tests hold the format still.

use super::codec::{Decoder, Encoder, Read, Unreadable};
use super::names::Names;
use super::words::{KeptFault, PartSizes, Replica, Upload};
use crate::model::digest::{Algorithm, ChecksumType};
use crate::model::fault::{FaultKind, Side};
use crate::model::job::{Applied, ChangeKind, Job, Origin};
use crate::model::object::{ETag, Key, RuleId, Sequencer, TargetId, Timestamp, VersionId};
use crate::ports::UploadChecksum;

/// A job that is not done, with what was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) job: Job,
    pub(super) attempts: u32,
    /// Zero when it may be claimed at once.
    pub(super) not_before: Timestamp,
    pub(super) last_kind: Option<FaultKind>,
    /// Kept with jobs that fail each for itself; those of a group share the group's.
    pub(super) fault: Option<KeptFault>,
    /// A delete that the brake has counted, or an operator released: it is not judged again.
    pub(super) cleared: bool,
}

/// How a lane is entered in the indexes, so that the entry can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Nowhere (yet).
    Nowhere,
    /// In `Ready` under class and change.
    Ready(u8, Timestamp),
    /// In `Due` until a time, and in `Age` under the oldest change.
    Due(Timestamp, Timestamp),
}

/// The pending jobs of one target key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneRecord {
    pub(super) target: TargetId,
    pub(super) target_key: Key,
    pub(super) schedule: Schedule,
    /// Jobs beyond those here.
    pub(super) crowd: u64,
    /// How many of these are live ones.
    pub(super) crowd_events: u64,
    /// The first few jobs, in no order.
    pub(super) jobs: Vec<Waiting>,
}

/// A parked job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) waiting: Waiting,
    /// Probes of this job that failed, where it is probed for itself.
    pub(super) probes: u32,
    /// When it is probed next, where it is probed for itself; else zero.
    pub(super) next_probe: Timestamp,
}

/// Parked jobs of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupRecord {
    pub(super) target: TargetId,
    /// `None` where each job is probed for itself.
    pub(super) rule: Option<RuleId>,
    pub(super) fault: KeptFault,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) next_probe: Timestamp,
    pub(super) probes: u32,
    /// The cause is gone, or an operator says go: its jobs are on their way back, also after a restart.
    pub(super) releasing: bool,
    /// Deletes that the brake holds (P11): never probed, released by an operator only.
    pub(super) held: bool,
}

/// What was last applied to a target key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AppliedRecord {
    pub(super) target: TargetId,
    pub(super) target_key: Key,
    pub(super) applied: Applied,
}

/// A reason kept for a source key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoteRecord {
    pub(super) key: Key,
    pub(super) target: Option<TargetId>,
    pub(super) version: VersionId,
    pub(super) reason: String,
    pub(super) noted: Timestamp,
}

/// The mapping of an unstamped replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplicaRecord {
    pub(super) target: TargetId,
    pub(super) target_key: Key,
    pub(super) replica: Replica,
}

/// An open upload, and the job that opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UploadRecord {
    pub(super) target: TargetId,
    pub(super) target_key: Key,
    pub(super) job: u64,
    pub(super) upload: Upload,
}

fn kind_code(kind: FaultKind) -> u8 {
    match kind {
        FaultKind::Throttled => 1,
        FaultKind::Transient => 2,
        FaultKind::Raced => 3,
        FaultKind::Gone => 4,
        FaultKind::Denied => 5,
        FaultKind::KeyUnusable => 6,
        FaultKind::Archived => 7,
        FaultKind::Ineligible => 8,
        FaultKind::Foreign => 9,
        FaultKind::Corrupt => 10,
        FaultKind::Refused => 11,
        FaultKind::Ledger => 12,
    }
}

fn read_kind(from: &mut Decoder<'_>) -> Read<FaultKind> {
    let code = from.byte()?;
    FaultKind::ALL.into_iter().find(|kind| kind_code(*kind) == code).ok_or(Unreadable("its kind of fault is unknown"))
}

const SIDES: [Side; 6] = [Side::Source, Side::Target, Side::Queue, Side::Keys, Side::Monitoring, Side::Local];

fn side_code(side: Side) -> u8 {
    match side {
        Side::Source => 1,
        Side::Target => 2,
        Side::Queue => 3,
        Side::Keys => 4,
        Side::Monitoring => 5,
        Side::Local => 6,
    }
}

fn read_side(from: &mut Decoder<'_>) -> Read<Side> {
    let code = from.byte()?;
    SIDES.into_iter().find(|side| side_code(*side) == code).ok_or(Unreadable("its side is unknown"))
}

pub(super) fn write_fault(out: &mut Encoder, fault: &KeptFault) {
    out.byte(kind_code(fault.kind));
    out.byte(side_code(fault.side));
    out.text(&fault.during);
    out.option(fault.code.as_deref(), |out, code| out.text(code));
    out.option(fault.status, |out, status| out.number(u64::from(status)));
    out.text(&fault.detail);
}

pub(super) fn read_fault(from: &mut Decoder<'_>) -> Read<KeptFault> {
    Ok(KeptFault {
        kind: read_kind(from)?,
        side: read_side(from)?,
        during: from.text()?.to_owned(),
        code: from.option(|from| from.text().map(str::to_owned))?,
        status: from
            .option(Decoder::number)?
            .map(|status| u16::try_from(status).map_err(|_too_large| Unreadable("a status is too large")))
            .transpose()?,
        detail: from.text()?.to_owned(),
    })
}

const ORIGIN_SCAN: u8 = 1 << 2;
const HAS_SEQUENCER: u8 = 1 << 3;
const HAS_ETAG: u8 = 1 << 4;
const HAS_SIZE: u8 = 1 << 5;
const KEY_IS_SUFFIX: u8 = 1 << 6;
/// The fifth kind, beside the four that two bits tell.
const KIND_MEND: u8 = 1 << 7;

pub(super) fn change_code(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::Write => 0,
        ChangeKind::DeleteMarker => 1,
        ChangeKind::Attributes => 2,
        ChangeKind::Restored => 3,
        ChangeKind::Mend => KIND_MEND,
    }
}

pub(super) fn read_change(code: u8) -> Read<ChangeKind> {
    match code {
        0 => Ok(ChangeKind::Write),
        1 => Ok(ChangeKind::DeleteMarker),
        2 => Ok(ChangeKind::Attributes),
        3 => Ok(ChangeKind::Restored),
        KIND_MEND => Ok(ChangeKind::Mend),
        _other => Err(Unreadable("its kind of change is unknown")),
    }
}

/// A job without its target and target key, which the record around it has.
fn write_job(out: &mut Encoder, job: &Job, names: &Names) {
    let prefix = job.target_key.as_str().strip_suffix(job.key.as_str());
    let mut flags = change_code(job.kind);
    for (set, bit) in [
        (job.origin == Origin::Scan, ORIGIN_SCAN),
        (job.sequencer.is_some(), HAS_SEQUENCER),
        (job.etag.is_some(), HAS_ETAG),
        (job.size.is_some(), HAS_SIZE),
        (prefix.is_some(), KEY_IS_SUFFIX),
    ] {
        flags |= if set { bit } else { 0 };
    }
    out.byte(flags);
    out.number(names.rule_number(&job.rule));
    match prefix {
        Some(prefix) => out.number(prefix.len() as u64),
        None => out.text(job.key.as_str()),
    }
    out.packed(job.version.as_str());
    if let Some(sequencer) = &job.sequencer {
        out.packed(sequencer.as_str());
    }
    if let Some(etag) = &job.etag {
        out.packed(etag.as_str());
    }
    if let Some(size) = job.size {
        out.number(size);
    }
    out.number(job.changed.0);
}

fn read_job(from: &mut Decoder<'_>, names: &Names, target: &TargetId, target_key: &Key) -> Read<Job> {
    let flags = from.byte()?;
    let kind = match (flags & KIND_MEND != 0, flags & 3) {
        (false, 0) => ChangeKind::Write,
        (false, 1) => ChangeKind::DeleteMarker,
        (false, 2) => ChangeKind::Attributes,
        (false, _three) => ChangeKind::Restored,
        (true, 0) => ChangeKind::Mend,
        (true, _other) => return Err(Unreadable("a job is of an unknown kind")),
    };
    let rule = names.rule(from.number()?).ok_or(Unreadable("its rule is not in the table of names"))?;
    let key = if flags & KEY_IS_SUFFIX == 0 {
        Key::new(from.text()?)
    } else {
        match from.length()? {
            0 => target_key.clone(),
            prefix => Key::new(target_key.as_str().get(prefix..).ok_or(Unreadable("a key's prefix is too long"))?),
        }
    };
    let present = |bit: u8| flags & bit != 0;
    Ok(Job {
        target: target.clone(),
        rule,
        key,
        target_key: target_key.clone(),
        kind,
        version: VersionId::new(from.packed()?),
        sequencer: present(HAS_SEQUENCER).then(|| from.packed()).transpose()?.map(Sequencer::new),
        etag: present(HAS_ETAG).then(|| from.packed()).transpose()?.map(ETag::new),
        size: present(HAS_SIZE).then(|| from.number()).transpose()?,
        changed: Timestamp(from.number()?),
        origin: if present(ORIGIN_SCAN) { Origin::Scan } else { Origin::Event },
    })
}

const WAS_TRIED: u8 = 1;
const IS_DEFERRED: u8 = 2;
const HAS_KIND: u8 = 4;
const HAS_FAULT: u8 = 8;
const IS_CLEARED: u8 = 16;

fn write_waiting(out: &mut Encoder, waiting: &Waiting, names: &Names) {
    out.number(waiting.id);
    write_job(out, &waiting.job, names);
    let mut flags = 0;
    for (set, bit) in [
        (waiting.attempts > 0, WAS_TRIED),
        (waiting.not_before.0 > 0, IS_DEFERRED),
        (waiting.last_kind.is_some(), HAS_KIND),
        (waiting.fault.is_some(), HAS_FAULT),
        (waiting.cleared, IS_CLEARED),
    ] {
        flags |= if set { bit } else { 0 };
    }
    out.byte(flags);
    if waiting.attempts > 0 {
        out.number(u64::from(waiting.attempts));
    }
    if waiting.not_before.0 > 0 {
        out.number(waiting.not_before.0);
    }
    if let Some(kind) = waiting.last_kind {
        out.byte(kind_code(kind));
    }
    if let Some(fault) = &waiting.fault {
        write_fault(out, fault);
    }
}

fn read_waiting(from: &mut Decoder<'_>, names: &Names, target: &TargetId, target_key: &Key) -> Read<Waiting> {
    let id = from.number()?;
    let job = read_job(from, names, target, target_key)?;
    let flags = from.byte()?;
    if flags > (WAS_TRIED | IS_DEFERRED | HAS_KIND | HAS_FAULT | IS_CLEARED) {
        return Err(Unreadable("a pending job has unknown flags"));
    }
    let present = |bit: u8| flags & bit != 0;
    Ok(Waiting {
        id,
        job,
        attempts: if present(WAS_TRIED) { from.small()? } else { 0 },
        not_before: Timestamp(if present(IS_DEFERRED) { from.number()? } else { 0 }),
        last_kind: present(HAS_KIND).then(|| read_kind(from)).transpose()?,
        fault: present(HAS_FAULT).then(|| read_fault(from)).transpose()?,
        cleared: present(IS_CLEARED),
    })
}

fn write_place(out: &mut Encoder, target: &TargetId, target_key: &Key, names: &Names) {
    out.number(names.target_number(target));
    out.text(target_key.as_str());
}

pub(super) fn read_target(from: &mut Decoder<'_>, names: &Names) -> Read<TargetId> {
    names.target(from.number()?).ok_or(Unreadable("its target is not in the table of names"))
}

fn read_place(from: &mut Decoder<'_>, names: &Names) -> Read<(TargetId, Key)> {
    Ok((read_target(from, names)?, Key::new(from.text()?)))
}

/// A record that can be written and read.
pub(super) trait Record: Sized {
    /// What it is called in a fault.
    const NAME: &'static str;
    /// Everything behind the version.
    fn write(&self, out: &mut Encoder, names: &Names);
    /// The same, read.
    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self>;

    /// The whole record.
    fn encode(&self, names: &Names) -> Vec<u8> {
        let mut out = Encoder::record();
        self.write(&mut out, names);
        out.finish()
    }

    /// The whole record, read.
    fn decode(bytes: &[u8], names: &Names) -> Read<Self> {
        let mut from = Decoder::record(bytes)?;
        let record = Self::read(&mut from, names)?;
        from.end()?;
        Ok(record)
    }
}

impl Record for LaneRecord {
    const NAME: &'static str = "lane";

    fn write(&self, out: &mut Encoder, names: &Names) {
        write_place(out, &self.target, &self.target_key, names);
        match self.schedule {
            Schedule::Nowhere => out.byte(0),
            Schedule::Ready(class, changed) => {
                out.byte(1);
                out.byte(class);
                out.number(changed.0);
            }
            Schedule::Due(at, oldest) => {
                out.byte(2);
                out.number(at.0);
                out.number(oldest.0);
            }
        }
        out.number(self.crowd);
        out.number(self.crowd_events);
        out.number(self.jobs.len() as u64);
        for waiting in &self.jobs {
            write_waiting(out, waiting, names);
        }
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let (target, target_key) = read_place(from, names)?;
        let schedule = match from.byte()? {
            0 => Schedule::Nowhere,
            1 => Schedule::Ready(from.byte()?, Timestamp(from.number()?)),
            2 => Schedule::Due(Timestamp(from.number()?), Timestamp(from.number()?)),
            _other => return Err(Unreadable("its schedule is unknown")),
        };
        let (crowd, crowd_events) = (from.number()?, from.number()?);
        let jobs = from.list(|from| read_waiting(from, names, &target, &target_key))?;
        Ok(Self { target, target_key, schedule, crowd, crowd_events, jobs })
    }
}

impl Record for Waiting {
    const NAME: &'static str = "job";

    fn write(&self, out: &mut Encoder, names: &Names) {
        write_place(out, &self.job.target, &self.job.target_key, names);
        write_waiting(out, self, names);
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let (target, target_key) = read_place(from, names)?;
        read_waiting(from, names, &target, &target_key)
    }
}

impl Record for Parked {
    const NAME: &'static str = "parked job";

    fn write(&self, out: &mut Encoder, names: &Names) {
        self.waiting.write(out, names);
        out.number(u64::from(self.probes));
        out.number(self.next_probe.0);
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let waiting = Waiting::read(from, names)?;
        Ok(Self { waiting, probes: from.small()?, next_probe: Timestamp(from.number()?) })
    }
}

impl Record for GroupRecord {
    const NAME: &'static str = "group";

    fn write(&self, out: &mut Encoder, names: &Names) {
        out.number(names.target_number(&self.target));
        out.option(self.rule.as_ref(), |out, rule| out.number(names.rule_number(rule)));
        write_fault(out, &self.fault);
        out.number(self.count);
        out.number(self.bytes);
        out.number(self.next_probe.0);
        out.number(u64::from(self.probes));
        out.byte(u8::from(self.releasing) | u8::from(self.held) << 1);
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let group = Self {
            target: read_target(from, names)?,
            rule: from
                .option(Decoder::number)?
                .map(|number| names.rule(number).ok_or(Unreadable("its rule is not in the table of names")))
                .transpose()?,
            fault: read_fault(from)?,
            count: from.number()?,
            bytes: from.number()?,
            next_probe: Timestamp(from.number()?),
            probes: from.small()?,
            releasing: false,
            held: false,
        };
        match from.byte()? {
            flags @ 0..=3 => Ok(Self { releasing: flags & 1 != 0, held: flags & 2 != 0, ..group }),
            _other => Err(Unreadable("a group has unknown flags")),
        }
    }
}

impl Record for AppliedRecord {
    const NAME: &'static str = "applied state";

    fn write(&self, out: &mut Encoder, names: &Names) {
        write_place(out, &self.target, &self.target_key, names);
        out.packed(self.applied.version.as_str());
        out.byte(u8::from(self.applied.marker));
        out.option(self.applied.source_etag.as_ref(), |out, etag| out.packed(etag.as_str()));
        out.number(self.applied.modified.0);
        out.option(self.applied.sequencer.as_ref(), |out, sequencer| out.packed(sequencer.as_str()));
        out.option(self.applied.target_etag.as_ref(), |out, etag| out.packed(etag.as_str()));
        out.option(self.applied.target_version.as_ref(), |out, version| out.packed(version.as_str()));
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let (target, target_key) = read_place(from, names)?;
        let applied = Applied {
            version: VersionId::new(from.packed()?),
            marker: from.flag()?,
            source_etag: from.option(Decoder::packed)?.map(ETag::new),
            modified: Timestamp(from.number()?),
            sequencer: from.option(Decoder::packed)?.map(Sequencer::new),
            target_etag: from.option(Decoder::packed)?.map(ETag::new),
            target_version: from.option(Decoder::packed)?.map(VersionId::new),
        };
        Ok(Self { target, target_key, applied })
    }
}

impl Record for ReplicaRecord {
    const NAME: &'static str = "replica";

    fn write(&self, out: &mut Encoder, names: &Names) {
        write_place(out, &self.target, &self.target_key, names);
        out.packed(self.replica.source_version.as_str());
        out.packed(self.replica.source_etag.as_str());
        out.number(self.replica.modified.0);
        out.option(self.replica.target_version.as_ref(), |out, version| out.packed(version.as_str()));
        out.packed(self.replica.target_etag.as_str());
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let (target, target_key) = read_place(from, names)?;
        let replica = Replica {
            source_version: VersionId::new(from.packed()?),
            source_etag: ETag::new(from.packed()?),
            modified: Timestamp(from.number()?),
            target_version: from.option(Decoder::packed)?.map(VersionId::new),
            target_etag: ETag::new(from.packed()?),
        };
        Ok(Self { target, target_key, replica })
    }
}

fn algorithm_code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Crc32 => 1,
        Algorithm::Crc32c => 2,
        Algorithm::Crc64Nvme => 3,
        Algorithm::Sha1 => 4,
        Algorithm::Sha256 => 5,
    }
}

fn read_checksum(from: &mut Decoder<'_>) -> Read<UploadChecksum> {
    let algorithm = match from.byte()? {
        1 => Algorithm::Crc32,
        2 => Algorithm::Crc32c,
        3 => Algorithm::Crc64Nvme,
        4 => Algorithm::Sha1,
        5 => Algorithm::Sha256,
        _other => return Err(Unreadable("its checksum algorithm is unknown")),
    };
    let kind = if from.flag()? { ChecksumType::Composite } else { ChecksumType::FullObject };
    Ok(UploadChecksum { algorithm, kind })
}

/// Parts of one upload, S3's own limit (aws-semantics 3.1).
const MOST_PARTS: u32 = 10_000;

impl Record for UploadRecord {
    const NAME: &'static str = "upload";

    fn write(&self, out: &mut Encoder, names: &Names) {
        write_place(out, &self.target, &self.target_key, names);
        out.number(self.job);
        out.text(&self.upload.id);
        out.packed(self.upload.source_version.as_str());
        out.packed(self.upload.source_etag.as_str());
        match &self.upload.part_sizes {
            PartSizes::Uniform { size, count, last } => {
                out.byte(0);
                out.number(*size);
                out.number(u64::from(*count));
                out.number(*last);
            }
            PartSizes::Explicit(sizes) => {
                out.byte(1);
                out.number(sizes.len() as u64);
                sizes.iter().for_each(|size| out.number(*size));
            }
        }
        out.option(self.upload.checksum, |out, checksum| {
            out.byte(algorithm_code(checksum.algorithm));
            out.byte(u8::from(checksum.kind == ChecksumType::Composite));
        });
        out.number(self.upload.opened.0);
        out.option(self.upload.over.as_ref(), |out, etag| out.packed(etag.as_str()));
    }

    fn read(from: &mut Decoder<'_>, names: &Names) -> Read<Self> {
        let (target, target_key) = read_place(from, names)?;
        let job = from.number()?;
        let upload = Upload {
            id: from.text()?.to_owned(),
            source_version: VersionId::new(from.packed()?),
            source_etag: ETag::new(from.packed()?),
            part_sizes: match from.byte()? {
                0 => PartSizes::Uniform { size: from.number()?, count: from.count(MOST_PARTS)?, last: from.number()? },
                1 => PartSizes::Explicit(from.list(Decoder::number)?),
                _other => return Err(Unreadable("its part sizes are in an unknown form")),
            },
            checksum: from.option(read_checksum)?,
            opened: Timestamp(from.number()?),
            over: from.option(Decoder::packed)?.map(ETag::new),
        };
        Ok(Self { target, target_key, job, upload })
    }
}
