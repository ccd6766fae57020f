//! Checksums and ETags as S3 makes them: computed here anew, so that the engine's are compared with others than its own.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use repl::model::digest::{Algorithm, Checksum, ChecksumType};
use repl::model::object::ETag;

fn raw(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let crc = |kind, width: usize| crc_fast::checksum(kind, bytes).to_be_bytes()[8 - width..].to_vec();
    match algorithm {
        Algorithm::Crc32 => crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc, 4),
        Algorithm::Crc32c => crc(crc_fast::CrcAlgorithm::Crc32Iscsi, 4),
        Algorithm::Crc64Nvme => crc(crc_fast::CrcAlgorithm::Crc64Nvme, 8),
        Algorithm::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
        Algorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
    }
}

/// Base64 of the checksum of some bytes.
pub(crate) fn value(algorithm: Algorithm, bytes: &[u8]) -> String {
    STANDARD.encode(raw(algorithm, bytes))
}

/// The checksum of a whole object.
pub(crate) fn full(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
    Checksum { algorithm, kind: ChecksumType::FullObject, value: value(algorithm, bytes) }
}

/// The checksum of an object's parts, one after the other.
pub(crate) fn composite(algorithm: Algorithm, parts: &[&[u8]]) -> Checksum {
    let joined: Vec<u8> = parts.iter().flat_map(|part| raw(algorithm, part)).collect();
    let value = format!("{}-{}", value(algorithm, &joined), parts.len());
    Checksum { algorithm, kind: ChecksumType::Composite, value }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The ETag of plain bytes in one part.
pub(crate) fn etag(bytes: &[u8]) -> ETag {
    ETag::new(hex(&md5::Md5::digest(bytes)))
}

/// Base64 of the MD5.
pub(crate) fn md5_base64(bytes: &[u8]) -> String {
    STANDARD.encode(md5::Md5::digest(bytes))
}

/// The ETag of plain bytes in parts.
pub(crate) fn etag_of_parts(parts: &[&[u8]]) -> ETag {
    let joined: Vec<u8> = parts.iter().flat_map(|part| md5::Md5::digest(part).to_vec()).collect();
    ETag::new(format!("{}-{}", hex(&md5::Md5::digest(&joined)), parts.len()))
}
