//! Receipt files as they travel: gzip.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

/// Packs a file; the same lines give the same bytes, as no time is written into the header.
pub fn pack(mut lines: impl Read) -> io::Result<Vec<u8>> {
    let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    io::copy(&mut lines, &mut packed)?;
    packed.finish()
}

/// Reads a packed file's lines without unpacking all of it at once.
pub fn unpack(packed: impl Read) -> impl BufRead {
    BufReader::new(MultiGzDecoder::new(packed))
}
