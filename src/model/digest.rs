//! Checksums as S3 stores them. Computing them is the engine's; here are their names and how they compare.

/// The algorithms whose value `repl` can compute itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `CRC32`
    Crc32,
    /// `CRC32C`
    Crc32c,
    /// `CRC64NVME`, what S3 adds by itself when the writer sends none.
    Crc64Nvme,
    /// `SHA1`
    Sha1,
    /// `SHA256`
    Sha256,
}

impl Algorithm {
    /// The name in S3's API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Whether a multipart object can carry one checksum over all its bytes: only CRCs combine (aws-semantics 4.2).
    #[must_use]
    pub fn full_object_multipart(self) -> bool {
        matches!(self, Self::Crc32 | Self::Crc32c | Self::Crc64Nvme)
    }
}

/// Over what a checksum was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// All bytes of the object.
    FullObject,
    /// The checksums of the parts, one after the other; displayed with `-N`.
    Composite,
}

/// A checksum of a stored object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Over what.
    pub kind: ChecksumType,
    /// Base64 of the big-endian bytes; a composite one ends in `-N`.
    pub value: String,
}

/// By what a replica was found to be that of its source version. The first three compare bytes; the others only tell
/// which version it is, and how its bytes were compared was told when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Means {
    /// The checksum that the source stores agrees with the bytes sent, or with the replica's own.
    Checksum,
    /// The bytes' MD5 is the plain `ETag`.
    Md5,
    /// The `ETag` composed from the parts' MD5s agrees.
    Parts,
    /// The replica's stamp names that version.
    Stamp,
    /// The ledger remembers that it brought that version.
    Ledger,
}

impl Means {
    /// The word in receipts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Checksum => "checksum",
            Self::Md5 => "md5",
            Self::Parts => "parts",
            Self::Stamp => "stamp",
            Self::Ledger => "ledger",
        }
    }
}
