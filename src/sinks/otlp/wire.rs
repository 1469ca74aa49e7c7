//! The few forms of Protocol Buffers that OTLP's logs need, written and read by hand: a dozen fields are
//! no reason for a compiler of schemas.
//!
//! Guarantees: pure; what is written is what a generated encoder writes (fields in the order of their
//! numbers, empty ones left out); reading is total: any bytes give fields or `None`, without recursion.

/// A message under construction.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A number (int, enum), unless it is 0.
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.tag(field, 0);
            self.varint(value);
        }
        self
    }

    /// Eight bytes, unless they are 0.
    pub fn fixed64(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.tag(field, 1);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
        self
    }

    /// A text, unless it is empty.
    pub fn text(self, field: u32, text: &str) -> Self {
        if text.is_empty() { self } else { self.bytes(field, text.as_bytes()) }
    }

    /// A message inside this one, or one of several.
    pub fn message(self, field: u32, message: Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// Bytes with their length.
    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// What was written already, tags and all.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The message.
    pub fn done(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, field: u32, form: u32) {
        self.varint(u64::from(field << 3 | form));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'b> {
    /// A varint.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'b [u8]),
    /// Four or eight bytes, which no reply of ours has.
    Fixed,
}

/// The fields of a message in their order; `None` where the bytes are none.
pub fn read(mut bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => skip(&mut bytes, 8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(skip(&mut bytes, length)?)
            }
            5 => skip(&mut bytes, 4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        if tag >> 3 == 0 {
            return None;
        }
        fields.push((tag >> 3, value));
    }
    Some(fields)
}

fn skip<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = skip(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_of_the_specification() {
        // "Encoding", developers' guide of Protocol Buffers.
        assert_eq!(Writer::default().number(1, 150).done(), [0x08, 0x96, 0x01]);
        let text = Writer::default().text(2, "testing").done();
        assert_eq!(text, *b"\x12\x07testing");
        let inner = Writer::default().number(1, 150);
        assert_eq!(Writer::default().message(3, inner).done(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(read(b"\x08\x96\x01"), Some(vec![(1, Value::Number(150))]));
        for noise in [
            &b"OK"[..],
            b"\x00\x01",
            b"\x0b",
            b"\x12\x7fshort",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x09\x01",
        ] {
            assert_eq!(read(noise), None, "{noise:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_any_bytes_are_survived(
            number in 1u64..,
            text in ".{1,200}",
            noise in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let bytes = Writer::default().number(1, number).fixed64(2, 7).text(3, &text).done();
            let fields = vec![(1, Value::Number(number)), (2, Value::Fixed), (3, Value::Bytes(text.as_bytes()))];
            prop_assert_eq!(read(&bytes), Some(fields));
            let _ = read(&noise);
        }
    }
}
