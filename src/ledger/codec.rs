//! Bytes in and out: the primitives that every record is made of.
//!
//! Integers are variable-length (7 bits to a byte, low bits first), texts carry their length, and texts that are hex
//! digits of one case take half the room. Nothing depends on the machine's byte order.

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

/// What reading a record gives.
pub(super) type Read<T> = Result<T, Unreadable>;

/// The version that every record begins with.
pub(super) const VERSION: u8 = 1;

/// How a text is packed: two bits beside its length.
const RAW: u64 = 0;
const HEX_LOWER: u64 = 1;
const HEX_UPPER: u64 = 2;

/// Writes a record.
#[derive(Debug, Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    /// An encoder that begins with the record version.
    pub(super) fn record() -> Self {
        Self(vec![VERSION])
    }

    /// Makes room for so many bytes more.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.0.reserve(bytes);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn number(&mut self, mut value: u64) {
        loop {
            let low = u8::try_from(value & 0x7f).unwrap_or(0);
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// A text that is often hex: an ETag, a sequencer, a version id.
    pub(super) fn packed(&mut self, value: &str) {
        let length = value.len() as u64;
        if let Some(half) = pack_hex(value, HEX_LOWER) {
            self.number(length << 2 | HEX_LOWER);
            self.0.extend_from_slice(&half);
        } else if let Some(half) = pack_hex(value, HEX_UPPER) {
            self.number(length << 2 | HEX_UPPER);
            self.0.extend_from_slice(&half);
        } else {
            self.number(length << 2 | RAW);
            self.0.extend_from_slice(value.as_bytes());
        }
    }

    /// A presence byte, then the value where there is one.
    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => {
                self.byte(1);
                write(self, value);
            }
            None => self.byte(0),
        }
    }
}

/// Reads a record from its first byte to its last.
#[derive(Debug)]
pub(super) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// Starts a record: its version must be the known one.
    pub(super) fn record(bytes: &'a [u8]) -> Read<Self> {
        let mut decoder = Self(bytes);
        match decoder.byte()? {
            VERSION => Ok(decoder),
            _unknown => Err(Unreadable("its version is not known to this program")),
        }
    }

    /// Ends a record: nothing may be left.
    pub(super) fn end(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Unreadable("bytes are left over at its end")) }
    }

    pub(super) fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Read<u8> {
        let (first, rest) = self.0.split_first().ok_or(Unreadable("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err(Unreadable("a number is too large"));
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unreadable("a number is too long"))
    }

    pub(super) fn small(&mut self) -> Read<u32> {
        u32::try_from(self.number()?).map_err(|_too_large| Unreadable("a number is too large"))
    }

    pub(super) fn length(&mut self) -> Read<usize> {
        usize::try_from(self.number()?).map_err(|_too_large| Unreadable("a length is too large"))
    }

    pub(super) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_error| Unreadable("a text is not UTF-8"))
    }

    pub(super) fn packed(&mut self) -> Read<String> {
        let head = self.number()?;
        let length = usize::try_from(head >> 2).map_err(|_too_large| Unreadable("a length is too large"))?;
        match head & 3 {
            RAW => {
                let text = std::str::from_utf8(self.take(length)?).map_err(|_e| Unreadable("a text is not UTF-8"))?;
                Ok(text.to_owned())
            }
            HEX_LOWER => Ok(unpack_hex(self.take(length / 2)?, b"0123456789abcdef")),
            HEX_UPPER => Ok(unpack_hex(self.take(length / 2)?, b"0123456789ABCDEF")),
            _other => Err(Unreadable("a text is packed in an unknown way")),
        }
    }

    pub(super) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _other => Err(Unreadable("a presence byte is neither 0 nor 1")),
        }
    }

    pub(super) fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _other => Err(Unreadable("a flag is neither 0 nor 1")),
        }
    }

    /// A list with its length before it.
    pub(super) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let length = self.length()?;
        // Room is made as items arrive: a damaged length must not reserve memory.
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(read(self)?);
        }
        Ok(items)
    }
}

fn pack_hex(text: &str, case: u64) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' if case == HEX_LOWER => Some(byte - b'a' + 10),
        b'A'..=b'F' if case == HEX_UPPER => Some(byte - b'A' + 10),
        _other => None,
    };
    bytes
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _other => None,
        })
        .collect()
}

fn unpack_hex(bytes: &[u8], digits: &[u8; 16]) -> String {
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().map_or('0', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]).collect()
}
