//! Hashing bytes as they pass by.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;

use crate::model::digest::{Algorithm, Checksum, ChecksumType};
use crate::model::object::ETag;

enum State {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

/// Takes bytes in and counts them.
pub(super) struct Hasher {
    algorithm: Algorithm,
    state: State,
    md5: Option<Md5>,
    length: u64,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("algorithm", &self.algorithm)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Whether an MD5 is wanted besides: only to compare with an ETag, as it is the dearest of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithMd5 {
    /// Yes.
    Yes,
    /// No.
    No,
}

impl Hasher {
    /// Starts.
    #[must_use]
    pub(super) fn new(algorithm: Algorithm, md5: WithMd5) -> Self {
        let state = match crc(algorithm) {
            Some(crc) => State::Crc(crc_fast::Digest::new(crc)),
            None if algorithm == Algorithm::Sha1 => State::Sha1(Sha1::new()),
            None => State::Sha256(Sha256::new()),
        };
        Self { algorithm, state, md5: (md5 == WithMd5::Yes).then(Md5::new), length: 0 }
    }

    /// Takes bytes in.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(digest) => digest.update(bytes),
            State::Sha1(digest) => digest.update(bytes),
            State::Sha256(digest) => digest.update(bytes),
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        self.length = self.length.saturating_add(bytes.len() as u64);
    }

    /// Ends.
    #[must_use]
    pub(super) fn finish(self) -> Hashed {
        let raw = match self.state {
            State::Crc(digest) => big_endian(self.algorithm, digest.finalize()),
            State::Sha1(digest) => digest.finalize().to_vec(),
            State::Sha256(digest) => digest.finalize().to_vec(),
        };
        Hashed { algorithm: self.algorithm, raw, md5: self.md5.map(|md5| md5.finalize().to_vec()), length: self.length }
    }
}

/// The hash of some bytes: a whole object or one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashed {
    algorithm: Algorithm,
    raw: Vec<u8>,
    md5: Option<Vec<u8>>,
    length: u64,
}

impl Hashed {
    /// Of bytes in memory.
    #[must_use]
    pub(super) fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm, WithMd5::No);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Rebuilt from what was written down; `None` where the text is no checksum of that algorithm.
    #[must_use]
    pub(super) fn recalled(algorithm: Algorithm, base64: &str, length: u64) -> Option<Self> {
        let raw = STANDARD.decode(base64).ok()?;
        (raw.len() == width(algorithm)).then_some(Self { algorithm, raw, md5: None, length })
    }

    /// How many bytes were hashed.
    #[must_use]
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The checksum of these bytes as one object, or as one part.
    #[must_use]
    pub(super) fn checksum(&self) -> Checksum {
        Checksum { algorithm: self.algorithm, kind: ChecksumType::FullObject, value: STANDARD.encode(&self.raw) }
    }

    /// The same with the MD5 that was written down, where there is one.
    #[must_use]
    pub(super) fn with_md5(self, base64: Option<&str>) -> Self {
        Self { md5: base64.and_then(|text| STANDARD.decode(text).ok()), ..self }
    }

    /// The same with the MD5 that a store tells as ETag; with none where that is no hexadecimal text.
    #[must_use]
    pub(super) fn with_etag(self, etag: &ETag) -> Self {
        Self { md5: bytes_of_hex(etag.as_str()), ..self }
    }

    /// The MD5 in base64, where it was taken.
    #[must_use]
    pub(super) fn md5_base64(&self) -> Option<String> {
        self.md5.as_ref().map(|md5| STANDARD.encode(md5))
    }

    /// The MD5 as an ETag spells it, where it was taken.
    #[must_use]
    pub(super) fn md5_hex(&self) -> Option<String> {
        self.md5.as_deref().map(hex)
    }
}

/// The checksum of the whole object from those of its parts, in order: CRCs combine, others do not.
#[must_use]
pub(super) fn combined(parts: &[Hashed]) -> Option<Checksum> {
    let algorithm = parts.first()?.algorithm;
    let kind = crc(algorithm)?;
    let sum = parts.iter().skip(1).try_fold(value(parts.first()?), |sum, part| {
        (part.algorithm == algorithm).then(|| crc_fast::checksum_combine(kind, sum, value(part), part.length))
    })?;
    Some(Checksum { algorithm, kind: ChecksumType::FullObject, value: STANDARD.encode(big_endian(algorithm, sum)) })
}

/// The composite checksum: the hash of the parts' hashes, with the number of parts.
#[must_use]
pub(super) fn composite(parts: &[Hashed]) -> Option<Checksum> {
    let algorithm = parts.first()?.algorithm;
    let joined: Vec<u8> = parts.iter().flat_map(|part| part.raw.iter().copied()).collect();
    let hash = Hashed::of(algorithm, &joined);
    let value = format!("{}-{}", STANDARD.encode(&hash.raw), parts.len());
    Some(Checksum { algorithm, kind: ChecksumType::Composite, value })
}

/// The ETag that S3 composes of the parts' MD5s, where all were taken.
#[must_use]
pub(super) fn composed_etag(parts: &[Hashed]) -> Option<String> {
    let mut joined = Md5::new();
    for part in parts {
        joined.update(part.md5.as_deref()?);
    }
    Some(format!("{}-{}", hex(&joined.finalize()), parts.len()))
}

fn crc(algorithm: Algorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    }
}

fn width(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c => 4,
        Algorithm::Crc64Nvme => 8,
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
    }
}

fn big_endian(algorithm: Algorithm, sum: u64) -> Vec<u8> {
    sum.to_be_bytes().iter().skip(8_usize.saturating_sub(width(algorithm))).copied().collect()
}

fn value(hashed: &Hashed) -> u64 {
    hashed.raw.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The same bytes in base64; `None` where the text is not hexadecimal.
pub(super) fn base64_of_hex(text: &str) -> Option<String> {
    bytes_of_hex(text).map(|bytes| STANDARD.encode(bytes))
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at.checked_add(2)?)?, 16).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Check values of the CRC catalogue and of FIPS 180 for "123456789".
    #[test]
    fn known_answers() {
        let check = |algorithm| Hashed::of(algorithm, b"123456789").checksum().value;
        assert_eq!(check(Algorithm::Crc32), STANDARD.encode(0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(check(Algorithm::Crc32c), STANDARD.encode(0xe306_9283_u32.to_be_bytes()));
        assert_eq!(check(Algorithm::Crc64Nvme), STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes()));
        assert_eq!(check(Algorithm::Sha1), "98O8HYCOBHMq32eZZczDTKeuNEE=");
        assert_eq!(check(Algorithm::Sha256), "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
        let mut hasher = Hasher::new(Algorithm::Crc32, WithMd5::Yes);
        hasher.update(b"hello");
        assert_eq!(hasher.finish().md5_hex().as_deref(), Some("5d41402abc4b2a76b9719d911017c592"));
    }

    proptest! {
        #[test]
        fn combined_parts_equal_the_whole(bytes in proptest::collection::vec(any::<u8>(), 1..4000), cut in 1usize..500) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let parts: Vec<Hashed> = bytes.chunks(cut).map(|part| Hashed::of(algorithm, part)).collect();
                prop_assert_eq!(combined(&parts), Some(Hashed::of(algorithm, &bytes).checksum()));
                let first = parts[0].checksum().value;
                prop_assert_eq!(Hashed::recalled(algorithm, &first, parts[0].length()), Some(parts[0].clone()));
            }
            prop_assert_eq!(combined(&[Hashed::of(Algorithm::Sha1, &bytes)]), None);
        }
    }
}
