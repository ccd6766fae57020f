//! MD5s of parts, where nothing but an ETag composed of them tells what the source holds.
//!
//! Most targets make the ETag of a part its MD5, and so tell of the bytes that they have, before they become visible, what
//! the worker would have to compute of those that pass: the dearest of all hashes, two thirds of what moving the bytes
//! costs. So the worker computes one, of the first part, and the target's answer to it shows whether the others are needed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::super::Shared;
use super::super::budget::PIPE;
use super::super::digest::Hashed;
use super::super::replicate::At;
use super::super::transfer::sealing;
use super::{Done, Running, engine_stopped, mismatch};
use crate::model::fault::Fault;
use crate::model::object::TargetId;
use crate::plan::parts;
use crate::ports::{Part, Sealing, World};

/// What a target was seen to make the ETag of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum PartEtag {
    /// Its MD5.
    Md5,
    /// Something else, as under a key of KMS.
    Other,
}

/// Who tells the MD5 of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Md5 {
    /// Nobody has to.
    Unwanted,
    /// The worker computes it.
    Computed,
    /// The target, which is known to.
    Told,
    /// The target or, if it turns out that it does not, the worker, who then reads the part once more.
    Awaited,
}

impl<W: World> Shared<W> {
    fn part_etags(&self) -> MutexGuard<'_, BTreeMap<TargetId, PartEtag>> {
        self.part_etags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tells_md5s(&self, at: &At<'_, W>, running: &Running<'_>) -> bool {
        sealing(at, running.head) == Sealing::BucketDefault
            && self.part_etags().get(&at.job().target) == Some(&PartEtag::Md5)
    }

    /// Who tells the MD5 of a part that is about to be sent.
    pub(super) fn whose_md5(&self, at: &At<'_, W>, running: &Running<'_>) -> Md5 {
        if !running.md5 {
            return Md5::Unwanted;
        }
        if sealing(at, running.head) != Sealing::BucketDefault {
            return Md5::Computed;
        }
        match self.part_etags().get(&at.job().target) {
            Some(PartEtag::Md5) => Md5::Told,
            Some(PartEtag::Other) => Md5::Computed,
            None if running.asking.swap(true, Ordering::Relaxed) => Md5::Awaited,
            None => Md5::Computed,
        }
    }

    /// What the answer to a part tells of its MD5, and of the target's ETags.
    pub(super) fn learn_md5(&self, at: &At<'_, W>, whose: Md5, (part, hashed): (Part, Hashed)) -> (Part, Hashed) {
        match whose {
            Md5::Unwanted | Md5::Awaited => (part, hashed),
            Md5::Told => {
                let hashed = hashed.with_etag(&part.etag);
                (part, hashed)
            }
            Md5::Computed => {
                self.learn(at, &part, &hashed);
                (part, hashed)
            }
        }
    }

    fn learn(&self, at: &At<'_, W>, part: &Part, hashed: &Hashed) {
        let same = hashed.md5_hex().as_deref() == Some(part.etag.as_str());
        let seen = if same { PartEtag::Md5 } else { PartEtag::Other };
        self.part_etags().insert(at.job().target.clone(), seen);
    }

    /// The parts with their MD5s: those of the bytes that the target has, where it tells them (what was hashed on the way
    /// is known to be the source's), else those that the worker has computed. What was left open until the target had
    /// shown whether it tells, and it does not, is read once more.
    pub(super) async fn with_md5s(
        &self,
        at: &At<'_, W>,
        running: &Running<'_>,
        mut done: BTreeMap<u32, Done>,
    ) -> Result<BTreeMap<u32, Done>, Fault> {
        if !running.md5 {
            return Ok(done);
        }
        for (range, (part, hashed)) in parts::ranges(&running.sizes).zip(done.values_mut()) {
            if self.tells_md5s(at, running) {
                break;
            }
            if let Some(before) = hashed.as_mut().filter(|hashed| hashed.md5_base64().is_none()) {
                let _memory = self.budget.memory_for_large(PIPE).await.ok_or_else(engine_stopped)?;
                let again = self.read_for_md5(at, running, range).await?;
                if again.checksum() != before.checksum() {
                    return Err(mismatch("checksum"));
                }
                self.learn(at, part, &again);
                *before = again;
            }
        }
        if self.tells_md5s(at, running) {
            for (part, hashed) in done.values_mut() {
                *hashed = hashed.take().map(|hashed| hashed.with_etag(&part.etag));
            }
        }
        Ok(done)
    }

    async fn read_for_md5(&self, at: &At<'_, W>, running: &Running<'_>, range: (u64, u64)) -> Result<Hashed, Fault> {
        let body = self.read_part(at, running, range).await?;
        self.hash(body, running.algorithm, range.1.saturating_sub(range.0) + 1).await
    }

    /// The parts' MD5s do not compose the source's ETag. Either bytes were broken on the way, or that store's ETags are
    /// not made of MD5s: reading once more tells, as what breaks on the way does not break twice alike. Or it is the
    /// target's ETags that are none any more: the next attempt finds out.
    pub(super) async fn read_again(
        &self,
        at: &At<'_, W>,
        running: &Running<'_>,
        done: &BTreeMap<u32, Done>,
    ) -> Result<(), Fault> {
        let _memory = self.budget.memory_for_large(PIPE).await.ok_or_else(engine_stopped)?;
        for (range, (_, before)) in parts::ranges(&running.sizes).zip(done.values()) {
            let hashed = self.read_for_md5(at, running, range).await?;
            if before.as_ref().and_then(Hashed::md5_base64) != hashed.md5_base64() {
                self.part_etags().remove(&at.job().target);
                return Err(mismatch("MD5"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::engine::Phase;
    use crate::engine::tests::world::{Small, Store};
    use crate::engine::tests::{Bench, job, rule, soon, until};
    use crate::ledger::Admission;
    use crate::model::job::{Job, Origin};
    use crate::plan::parts::MIN_PART;

    const PARTS: usize = 6;

    /// P5: where the target tells the MD5s of parts, none is read twice; where it turns out that it does not, those are
    /// that were sent until then, and of the next object none. All objects arrive, and count as proved.
    #[tokio::test]
    async fn who_tells_the_md5s_is_found_out_by_one_part() {
        for (opaque, again) in [(false, 0..1), (true, 1..PARTS)] {
            let bench = Bench::new(vec![rule("r", "t")]);
            let world = Small::new(Store::default());
            let cuts = [vec![MIN_PART; PARTS - 1], vec![9]].concat();
            let body: Vec<u8> = (0..cuts.iter().sum()).map(|at: u64| u8::try_from(at / 4096 % 251).unwrap()).collect();
            if opaque {
                world.target.seal();
            }
            let engine = bench.engine(&world);
            let bringing = async {
                let mut reads = 0;
                for (key, again) in [("first", again), ("second", 0..1)] {
                    let etag = Some(world.source.write_parts(key, Bytes::from(body.clone()), &cuts));
                    let size = Some(body.len() as u64);
                    let jobs = vec![Job { etag, size, ..job(key, Origin::Event) }];
                    bench.ledger.admit(Admission { jobs, ..Admission::default() }).await.unwrap();
                    engine.wake();
                    until(|| world.target.read(key).is_some()).await;
                    assert_eq!(world.target.read(key).unwrap(), body, "{key}");
                    let more = world.source.reads() - reads - PARTS;
                    assert!(
                        again.contains(&more),
                        "{more} parts of the {key} object were read again, opaque: {opaque}"
                    );
                    reads = world.source.reads();
                }
                until(|| bench.ledger.totals().pending.operations == 0).await;
                bench.phase.send_replace(Phase::Drain);
            };
            let (ended, ()) = soon(async { tokio::join!(engine.run(), bringing) }).await;
            assert_eq!((ended, bench.ledger.totals().unprovable), (Ok(()), 0));
        }
    }
}
