//! A GELF message in datagrams: compressed where that is wanted, and cut into chunks where it is too long
//! for one.
//!
//! Guarantees: pure; a message that fits is one datagram without a header, else there are at most
//! [`MOST`] of at most `size` bytes; compression comes before cutting, and never makes a message longer;
//! the same message makes the same datagrams, so that one which is sent twice is put together all the
//! same. A receiver that lacks one of them for five seconds drops the others.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Most chunks of a message.
pub const MOST: usize = 128;
/// What stands before each: the magic bytes, the message's id, number and count.
pub const HEADER: usize = 12;
const MAGIC: [u8; 2] = [0x1e, 0x0f];

/// How a datagram's content is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// As it is: every receiver reads it.
    #[default]
    None,
    /// By gzip.
    Gzip,
    /// By zlib.
    Zlib,
}

/// How messages become datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    /// Largest datagram.
    pub size: usize,
    /// Compression.
    pub packing: Packing,
}

impl Chunks {
    /// Longest message that always fits.
    pub fn longest(self) -> usize {
        MOST * (self.size - HEADER)
    }

    /// The datagrams of `message`, which is no longer than [`Chunks::longest`].
    pub fn of(self, message: &Bytes) -> Vec<Bytes> {
        let packed = self.packed(message);
        if packed.len() <= self.size {
            return vec![packed];
        }
        let id = Sha256::digest(&packed);
        let parts = packed.chunks(self.size - HEADER);
        let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
        let whole = |(number, part): (u8, &[u8])| {
            [&MAGIC[..], &id[..8], &[number, count], part].concat().into()
        };
        (0..count).zip(parts).map(whole).collect()
    }

    fn packed(self, message: &Bytes) -> Bytes {
        let best = Compression::default();
        let packed = match self.packing {
            Packing::None => return message.clone(),
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), best);
                encoder.write_all(message).and_then(|()| encoder.finish())
            }
            Packing::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), best);
                encoder.write_all(message).and_then(|()| encoder.finish())
            }
        };
        // Writing to memory does not fail.
        match packed {
            Ok(packed) if packed.len() < message.len() => packed.into(),
            _ => message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    /// A message from its datagrams in whatever order, as a receiver puts it together: it knows what the
    /// standard says, and nothing of the code above.
    fn received(datagrams: &[Bytes]) -> Vec<u8> {
        let content = match datagrams {
            [one] if !one.starts_with(&[0x1e, 0x0f]) => one.to_vec(),
            several => {
                let mut slots = vec![None; usize::from(several[0][11])];
                for chunk in several {
                    assert_eq!(chunk[..2], [0x1e, 0x0f]);
                    assert_eq!(chunk[2..10], several[0][2..10], "one id");
                    assert!(usize::from(chunk[11]) == slots.len() && chunk[11] <= 128);
                    let slot = &mut slots[usize::from(chunk[10])];
                    assert!(slot.replace(&chunk[12..]).is_none(), "a number comes twice");
                }
                slots.into_iter().flat_map(|part| part.unwrap().to_vec()).collect()
            }
        };
        let mut plain = Vec::new();
        match content[..] {
            [0x1f, 0x8b, ..] => {
                flate2::read::GzDecoder::new(&content[..]).read_to_end(&mut plain).unwrap();
            }
            [0x78, ..] => {
                flate2::read::ZlibDecoder::new(&content[..]).read_to_end(&mut plain).unwrap();
            }
            _ => plain = content,
        }
        plain
    }

    proptest! {
        #[test]
        fn chunks_are_put_together_to_the_message(
            size in 40usize..3_000,
            share in 0.0f64..=1.0,
            noise: u64,
            monotone: bool,
            packing in prop::sample::select(vec![Packing::None, Packing::Gzip, Packing::Zlib]),
            turn in any::<prop::sample::Index>(),
        ) {
            let chunks = Chunks { size, packing };
            let length = (chunks.longest() as f64 * share) as usize;
            let mut random = fastrand::Rng::with_seed(noise);
            let byte = |_| if monotone { b'a' } else { random.u8(32..127) };
            let text: Vec<u8> = b"{".iter().copied().chain((1..length).map(byte)).collect();
            let message = Bytes::from(text);
            let mut datagrams = chunks.of(&message);
            prop_assert!(datagrams.len() <= MOST && datagrams.iter().all(|it| it.len() <= size));
            prop_assert_eq!(&datagrams, &chunks.of(&message));
            let turn = turn.index(datagrams.len());
            datagrams.rotate_left(turn);
            prop_assert_eq!(received(&datagrams), message);
        }
    }
}
