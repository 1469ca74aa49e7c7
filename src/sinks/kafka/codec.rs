//! Kafka's wire format: what a producer asks and is answered, and the batch that records travel in.
//!
//! Guarantees: pure; an answer that is cut off or lies about its lengths is an error, never a panic or
//! a large allocation. The versions are the oldest that all brokers from 1.0 to 4 speak, so nothing
//! is negotiated: Produce 3, Metadata 4, InitProducerId 0, SaslHandshake 1, SaslAuthenticate 0.
//! Facts: Kafka's protocol guide (messages, and the record batch of version 2).

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A question: its number and version.
#[derive(Clone, Copy, Debug)]
pub struct Api(pub i16, pub i16);

/// Store records.
pub const PRODUCE: Api = Api(0, 3);
/// Who leads which partition.
pub const METADATA: Api = Api(3, 4);
/// Choose a way to log in.
pub const SASL_HANDSHAKE: Api = Api(17, 1);
/// A producer's number, for sequences.
pub const INIT_PRODUCER_ID: Api = Api(22, 0);
/// Log in.
pub const SASL_AUTHENTICATE: Api = Api(36, 0);

/// Bytes before the records of a batch.
const BATCH: usize = 61;

/// What is written.
#[derive(Default)]
pub struct Out(pub Vec<u8>);

impl Out {
    pub fn i8(&mut self, value: i8) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    pub fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    pub fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    pub fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    /// A number of things, which our own limits keep small.
    pub fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX));
    }
    pub fn text(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend_from_slice(text.as_bytes());
    }
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }
    /// A number of variable length, small ones short.
    fn varint(&mut self, value: i64) {
        let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while left >= 0x80 {
            self.0.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.0.push(left as u8);
    }
    fn var_bytes(&mut self, bytes: &[u8]) {
        self.varint(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.0.extend_from_slice(bytes);
    }
}

/// What is read.
pub struct In<'b>(pub &'b [u8]);

impl<'b> In<'b> {
    fn take(&mut self, count: usize) -> io::Result<&'b [u8]> {
        let cut = || io::Error::new(io::ErrorKind::InvalidData, "the answer is cut off");
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }
    pub fn i8(&mut self) -> io::Result<i8> {
        self.array().map(i8::from_be_bytes)
    }
    pub fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }
    pub fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }
    pub fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }
    /// A text; none is an empty one.
    pub fn text(&mut self) -> io::Result<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
    pub fn bytes(&mut self) -> io::Result<&'b [u8]> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(length)
    }
    /// Each of a list by `one`. Memory grows with what is there, not with what is claimed.
    pub fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let mut list = Vec::new();
        for _ in 0..self.i32()?.max(0) {
            list.push(one(self)?);
        }
        Ok(list)
    }
}

/// A broker, as the cluster names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub node: i32,
    pub host: String,
    pub port: u16,
}

/// What a cluster says of a topic.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub brokers: Vec<Broker>,
    /// Why the topic cannot be used; 0 if it can.
    pub error: i16,
    /// The leader of each partition by its number; -1 where there is none.
    pub leaders: Vec<i32>,
}

/// Ask for `topic`, and do not create it.
pub fn metadata(topic: &str) -> Vec<u8> {
    let mut out = Out::default();
    out.count(1);
    out.text(topic);
    out.i8(0);
    out.0
}

/// The answer.
pub fn read_metadata(bytes: &[u8], topic: &str) -> io::Result<Metadata> {
    let mut from = In(bytes);
    from.i32()?;
    let brokers = from.list(|from| {
        let (node, host, port) = (from.i32()?, from.text()?, from.i32()?);
        from.text()?;
        Ok(Broker { node, host, port: u16::try_from(port).unwrap_or(0) })
    })?;
    from.text()?;
    from.i32()?;
    let topics = from.list(|from| {
        let (error, name) = (from.i16()?, from.text()?);
        from.i8()?;
        let partitions = from.list(|from| {
            let (_, index, leader) = (from.i16()?, from.i32()?, from.i32()?);
            from.list(In::i32)?;
            from.list(In::i32)?;
            Ok((index, leader))
        })?;
        Ok((error, name, partitions))
    })?;
    let found = topics.into_iter().find(|(_, name, _)| name == topic);
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "the answer lacks the topic");
    let (error, _, mut partitions) = found.ok_or_else(missing)?;
    partitions.sort_unstable();
    let dense = partitions.iter().zip(0..).all(|((index, _), number)| *index == number);
    match dense {
        true => Ok(Metadata {
            brokers,
            error,
            leaders: partitions.into_iter().map(|it| it.1).collect(),
        }),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer lacks partitions")),
    }
}

/// Ask for a producer's number.
pub fn init_producer_id() -> Vec<u8> {
    let mut out = Out::default();
    out.i16(-1);
    out.i32(60_000);
    out.0
}

/// The answer: an error, the number, its epoch.
pub fn read_producer_id(bytes: &[u8]) -> io::Result<(i16, i64, i16)> {
    let mut from = In(bytes);
    from.i32()?;
    Ok((from.i16()?, from.i64()?, from.i16()?))
}

/// Store a batch, on all replicas that are in step.
pub fn produce(topic: &str, partition: i32, batch: &[u8], patience: i32) -> Vec<u8> {
    let mut out = Out::default();
    out.i16(-1);
    out.i16(-1);
    out.i32(patience);
    out.count(1);
    out.text(topic);
    out.count(1);
    out.i32(partition);
    out.bytes(batch);
    out.0
}

/// What a broker says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub error: i16,
    pub offset: i64,
    /// For how many milliseconds it will not listen.
    pub throttled: i32,
}

/// The answer for the one batch that was sent.
pub fn read_produce(bytes: &[u8]) -> io::Result<Stored> {
    let mut from = In(bytes);
    let topics = from.list(|from| {
        from.text()?;
        from.list(|from| {
            let (_, error, offset) = (from.i32()?, from.i16()?, from.i64()?);
            from.i64()?;
            Ok((error, offset))
        })
    })?;
    let first = topics.into_iter().flatten().next();
    let (error, offset) = first
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer lacks the batch"))?;
    Ok(Stored { error, offset, throttled: from.i32().unwrap_or(0) })
}

/// One record.
pub struct Record<'r> {
    pub key: &'r str,
    pub value: &'r [u8],
    pub headers: &'r [(&'r str, &'r str)],
}

/// Who sends a batch, and its place among those sent to the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

/// A producer that counts nothing.
pub const ANYBODY: Sender = Sender { id: -1, epoch: -1, sequence: -1 };

/// `record`, the `index`th of a batch.
pub fn record(record: &Record<'_>, index: usize) -> Vec<u8> {
    let mut body = Out::default();
    body.i8(0);
    body.varint(0);
    body.varint(i64::try_from(index).unwrap_or(i64::MAX));
    body.var_bytes(record.key.as_bytes());
    body.var_bytes(record.value);
    body.varint(i64::try_from(record.headers.len()).unwrap_or(0));
    for (name, value) in record.headers {
        body.var_bytes(name.as_bytes());
        body.var_bytes(value.as_bytes());
    }
    let mut out = Out::default();
    out.var_bytes(&body.0);
    out.0
}

/// The batch of `records`, each written by [`record`].
pub fn batch(records: &[Vec<u8>], sender: Sender, time_ms: i64, gzip: bool) -> io::Result<Vec<u8>> {
    let plain = records.concat();
    let body = match gzip {
        false => plain,
        true => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&plain)?;
            encoder.finish()?
        }
    };
    let mut checked = Out::default();
    checked.i16(i16::from(gzip));
    checked.count(records.len().saturating_sub(1));
    checked.i64(time_ms);
    checked.i64(time_ms);
    checked.i64(sender.id);
    checked.i16(sender.epoch);
    checked.i32(sender.sequence);
    checked.count(records.len());
    checked.0.extend_from_slice(&body);
    let mut out = Out::default();
    out.i64(0);
    // What follows the length: epoch, version and checksum, and what is checked.
    out.count(checked.0.len() + 9);
    out.i32(-1);
    out.i8(2);
    out.0.extend_from_slice(&crc32c::crc32c(&checked.0).to_be_bytes());
    out.0.extend_from_slice(&checked.0);
    Ok(out.0)
}

/// Bytes of a batch of records with so many together, before compression.
pub fn batch_size(records: usize) -> usize {
    BATCH + records
}

/// Where a key belongs, as Java's and librdkafka's producers have it (murmur2).
pub fn partition(key: &[u8], count: usize) -> usize {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^= hash >> 15;
    (hash & 0x7fff_ffff) as usize % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the tests of Java's producer.
    #[test]
    fn keys_belong_where_other_producers_put_them() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            let hash: i32 = hash;
            let place = (hash & 0x7fff_ffff) as usize;
            assert_eq!(partition(key.as_bytes(), usize::MAX), place, "{key}");
        }
    }

    #[test]
    fn numbers_of_variable_length_are_as_written_elsewhere() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (300, &[0xd8, 4]),
        ] {
            let mut out = Out::default();
            out.varint(value);
            assert_eq!(out.0, bytes, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_broker_can_make_it_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read_metadata(&bytes, "t"), read_produce(&bytes), read_producer_id(&bytes));
        }
    }
}
