//! Comparing bodies: both are read at once and compared piece by piece, so that memory holds one piece of each.

use bytes::{Buf as _, Bytes};

use super::range::{PATIENCE, TRIES};
use crate::model::fault::{Disposition, Fault, FaultKind, Side};
use crate::model::object::{Head, Key};
use crate::ports::{ByteStream, Fetched, ObjectStore, Pick, Read};

/// What reading both sides found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bodies {
    /// All bytes are equal.
    Equal,
    /// The first byte that differs, counted from 0.
    DifferAt(u64),
}

/// One body to read: exactly the version and content that the head tells of.
#[derive(Debug)]
pub(super) struct Body<'a, S> {
    pub(super) store: &'a S,
    pub(super) key: &'a Key,
    pub(super) head: &'a Head,
    pub(super) side: Side,
}

/// Compares two bodies of equal length. A broken connection is taken up again where it broke. `Raced` or `Gone` when an
/// object changed meanwhile; `Archived`, `KeyUnusable` and `Ineligible` where it cannot be read.
pub(super) async fn compare<S: ObjectStore>(one: &Body<'_, S>, other: &Body<'_, S>) -> Result<Bodies, Fault> {
    let (mut at, mut broken) = (0, 0);
    loop {
        let begun = at;
        match compare_from(one, other, &mut at).await {
            Err(fault) if fault.kind.disposition() == Disposition::Retry => {
                broken = if at > begun { 0 } else { broken + 1 };
                if broken + 1 >= TRIES {
                    return Err(fault);
                }
                tokio::time::sleep(PATIENCE.wait(fault.kind, broken, 0.5)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn compare_from<S: ObjectStore>(one: &Body<'_, S>, other: &Body<'_, S>, at: &mut u64) -> Result<Bodies, Fault> {
    let size = one.head.size.min(other.head.size);
    if *at >= size {
        return Ok(Bodies::Equal);
    }
    let (mut left, mut right) = tokio::try_join!(Pieces::open(one, *at), Pieces::open(other, *at))?;
    while *at < size {
        tokio::try_join!(left.fill(), right.fill())?;
        let common = left.piece.len().min(right.piece.len());
        let (a, b) = (left.piece.iter().take(common), right.piece.iter().take(common));
        // Slices compare at memory speed; the place is only looked for where there is one.
        if left.piece.get(..common) != right.piece.get(..common) {
            let place = a.zip(b).position(|(a, b)| a != b).unwrap_or_default();
            return Ok(Bodies::DifferAt(*at + place as u64));
        }
        left.piece.advance(common);
        right.piece.advance(common);
        *at += common as u64;
    }
    Ok(Bodies::Equal)
}

struct Pieces {
    body: ByteStream,
    piece: Bytes,
    side: Side,
}

impl Pieces {
    async fn open<S: ObjectStore>(of: &Body<'_, S>, from: u64) -> Result<Self, Fault> {
        let range = (from > 0).then(|| (from, of.head.size.saturating_sub(1)));
        let pick = Pick::Version(of.head.version.clone());
        let read = Read { pick, range, if_match: Some(of.head.etag.clone()) };
        match of.store.get(of.key, read).await? {
            Fetched::Object(got) => Ok(Self { body: got.body, piece: Bytes::new(), side: of.side }),
            Fetched::DeleteMarker | Fetched::Missing => {
                Err(Fault::new(FaultKind::Gone, of.side, "read object", "it was deleted meanwhile"))
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        while self.piece.is_empty() {
            self.piece = self.body.next().await.ok_or_else(|| {
                Fault::new(FaultKind::Transient, self.side, "read object", "the body ended before its length")
            })??;
        }
        Ok(())
    }
}
