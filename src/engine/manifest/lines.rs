//! The lines of a file, one after another: from S3 or from the disk, packed or not, in constant memory.

use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::audit::range::patiently;
use crate::engine::budget::Budget;
use crate::engine::digest::{Hasher, WithMd5};
use crate::model::digest::Algorithm;
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{ETag, Found, Key};
use crate::ports::{Fetched, ObjectStore, Pick, Read};

/// What is fetched from S3 at once: each piece is a request of its own, so that none is held open while work waits.
const PIECE: u64 = 4 << 20;
/// What is unpacked at once: a packed byte makes at most about a thousand.
const MORSEL: usize = 8 << 10;
/// The longest line: a key takes at most 3 KiB encoded, and all columns of an Inventory less than another 5.
const LONGEST: usize = 16 << 10;
/// How a gzip file begins (RFC 1952).
const PACKED: [u8; 2] = [0x1f, 0x8b];

/// A file in a bucket, as it was when it was first looked at.
#[derive(Debug)]
pub(super) struct Stored<'a, S> {
    store: &'a S,
    budget: &'a Budget,
    key: Key,
    etag: ETag,
    size: u64,
    at: u64,
}

impl<'a, S: ObjectStore> Stored<'a, S> {
    /// Looks at it. `Gone` where it is not there.
    pub(super) async fn open(store: &'a S, budget: &'a Budget, key: &Key) -> Result<Self, Fault> {
        budget.request().await;
        match patiently(|| store.head(key, &Pick::Current)).await? {
            Found::Object(head) => {
                Ok(Self { store, budget, key: key.clone(), etag: head.etag, size: head.size, at: 0 })
            }
            Found::DeleteMarker | Found::Missing => {
                Err(Fault::new(FaultKind::Gone, Side::Source, DURING, "it is not there"))
            }
        }
    }

    /// Reads all of it and compares its MD5, and begins anew. `Corrupt` when it is another one.
    pub(super) async fn check(&mut self, md5: &str) -> Result<(), Fault> {
        let mut hasher = Hasher::new(Algorithm::Crc64Nvme, WithMd5::Yes);
        loop {
            let piece = self.next().await?;
            if piece.is_empty() {
                break;
            }
            hasher.update(&piece);
        }
        self.at = 0;
        match hasher.finish().md5_hex() {
            Some(found) if found == md5 => Ok(()),
            found => {
                let detail = format!("its MD5 is {}, the manifest says {md5}", found.unwrap_or_default());
                Err(Fault::new(FaultKind::Corrupt, Side::Source, DURING, detail))
            }
        }
    }

    async fn next(&mut self) -> Result<Bytes, Fault> {
        if self.at >= self.size {
            return Ok(Bytes::new());
        }
        let last = self.size.min(self.at.saturating_add(PIECE)).saturating_sub(1);
        let piece = patiently(|| self.piece(self.at, last)).await?;
        self.at = last + 1;
        Ok(piece)
    }

    async fn piece(&self, first: u64, last: u64) -> Result<Bytes, Fault> {
        self.budget.request().await;
        let read = Read { pick: Pick::Current, range: Some((first, last)), if_match: Some(self.etag.clone()) };
        let broken = |kind, detail: &str| Fault::new(kind, Side::Source, DURING, detail);
        let mut body = match self.store.get(&self.key, read).await? {
            Fetched::Object(got) => got.body,
            Fetched::DeleteMarker | Fetched::Missing => {
                return Err(broken(FaultKind::Gone, "it was deleted meanwhile"));
            }
        };
        let wanted = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        let mut piece = Vec::new();
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            self.budget.bandwidth(bytes.len()).await;
            piece.extend_from_slice(&bytes);
            if piece.len() > wanted {
                return Err(broken(FaultKind::Refused, "the store sends more than was asked for"));
            }
        }
        if piece.len() < wanted {
            return Err(broken(FaultKind::Transient, "the body ended before its length"));
        }
        Ok(piece.into())
    }
}

const DURING: &str = "read a list of objects";

/// Where bytes come from.
#[derive(Debug)]
pub(super) enum Bytewise<'a, S> {
    Stored(Stored<'a, S>),
    Local(tokio::fs::File),
}

impl<S: ObjectStore> Bytewise<'_, S> {
    async fn next(&mut self) -> Result<Bytes, Fault> {
        match self {
            Self::Stored(stored) => stored.next().await,
            Self::Local(file) => {
                let mut piece = Vec::with_capacity(MORSEL);
                file.take(MORSEL as u64).read_to_end(&mut piece).await.map_err(|error| unreadable(&error))?;
                Ok(piece.into())
            }
        }
    }
}

/// Opens a file on this machine's disk.
pub(super) async fn open(path: &Path) -> Result<tokio::fs::File, Fault> {
    tokio::fs::File::open(path).await.map_err(|error| unreadable(&error))
}

fn unreadable(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Refused, Side::Local, DURING, error.to_string())
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// Longer than any line of a list of objects can be: what it holds is passed over.
    TooLong,
}

#[derive(Debug)]
enum Unpacking {
    Unknown,
    Plain,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
}

/// The lines of one file.
#[derive(Debug)]
pub(super) struct Lines<'a, S> {
    from: Bytewise<'a, S>,
    /// Fetched and not unpacked yet.
    packed: Bytes,
    unpacking: Unpacking,
    /// Unpacked and not handed out yet, from `begin` on.
    text: Vec<u8>,
    begin: usize,
    /// Whether a line too long is being passed over.
    passing: bool,
    ended: bool,
    number: u64,
}

impl<'a, S: ObjectStore> Lines<'a, S> {
    pub(super) fn new(from: Bytewise<'a, S>) -> Self {
        let (packed, text) = (Bytes::new(), Vec::new());
        let unpacking = Unpacking::Unknown;
        Self { from, packed, unpacking, text, begin: 0, passing: false, ended: false, number: 0 }
    }

    /// The next line and its number, counted from 1; `None` after the last. If dropped, some may be lost.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Line)>, Fault> {
        loop {
            let rest = self.text.get(self.begin..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.get(..length).unwrap_or_default().to_vec();
                self.begin += length + 1;
                return Ok(Some(self.told(line)));
            }
            if self.ended {
                let last = rest.to_vec();
                self.text.clear();
                self.begin = 0;
                return Ok((!last.is_empty() || self.passing).then(|| self.told(last)));
            }
            self.text.drain(..self.begin);
            self.begin = 0;
            if self.text.len() > LONGEST {
                self.passing = true;
                self.text.clear();
            }
            self.fill().await?;
        }
    }

    fn told(&mut self, line: Vec<u8>) -> (u64, Line) {
        self.number += 1;
        let too_long = std::mem::take(&mut self.passing) || line.len() > LONGEST;
        (self.number, if too_long { Line::TooLong } else { Line::Whole(line) })
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        if self.packed.is_empty() {
            self.packed = self.from.next().await?;
            self.ended = self.packed.is_empty();
        }
        if let Unpacking::Unknown = self.unpacking {
            let gzip = self.packed.starts_with(&PACKED);
            self.unpacking = if gzip {
                Unpacking::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new())))
            } else {
                Unpacking::Plain
            };
        }
        let damaged = |error: std::io::Error| {
            Fault::new(FaultKind::Corrupt, Side::Source, DURING, format!("it cannot be unpacked: {error}"))
        };
        let morsel = self.packed.split_to(self.packed.len().min(MORSEL));
        match &mut self.unpacking {
            Unpacking::Unknown | Unpacking::Plain => self.text.extend_from_slice(&morsel),
            Unpacking::Gzip(decoder) => {
                if self.ended {
                    decoder.try_finish().map_err(damaged)?;
                } else {
                    decoder.write_all(&morsel).map_err(damaged)?;
                }
                self.text.append(decoder.get_mut());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
