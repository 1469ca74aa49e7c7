//! The broker's side of a Kafka connection, as far as a producer sees it: one broker that leads three
//! partitions, stores a batch of one sequence once, and fails when it is told to.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::{digest, hmac, pbkdf2};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::broker::Book;

/// The user and the password that are let in, where `Orders::login` says so.
pub const LOGIN: (&str, &str) = ("gate", "right-secret");

/// How a broker is to behave.
#[derive(Default)]
pub struct Orders {
    /// Answer the next batches with these codes, and store none of them.
    pub codes: VecDeque<i16>,
    /// Store so many batches and hang up instead of answering.
    pub lose: u32,
    /// Say so many milliseconds with the next answer.
    pub throttle: i32,
    /// Largest batch.
    pub most: Option<usize>,
    /// Demand a login.
    pub login: bool,
}

/// What a broker remembers of producers.
#[derive(Default)]
pub struct Producers {
    last: i64,
    seen: BTreeSet<(i64, i32, i32)>,
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

struct Frame<'f>(&'f [u8]);

impl<'f> Frame<'f> {
    fn take(&mut self, count: usize) -> &'f [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }
    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }
    fn text(&mut self) -> String {
        let length = self.i16().max(0) as usize;
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }
    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
        }
    }
}

/// Take every batch, as the broker called `host` at `port`.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    port: u16,
    book: Book,
) {
    let _ = talk(stream, host, port, book).await;
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    host: &str,
    port: u16,
    book: Book,
) -> io::Result<()> {
    let (mut scram, mut is_in) = (Scram::default(), !book.lock().unwrap().orders.login);
    loop {
        let mut frame = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut frame).await?;
        let mut frame = Frame(&frame);
        let (api, version, number) = (frame.i16(), frame.i16(), frame.i32());
        assert_eq!(frame.text(), "siemgate");
        let mut out = number.to_be_bytes().to_vec();
        if !is_in && !matches!(api, 17 | 36) {
            return Ok(());
        }
        match (api, version) {
            (3, 4) => metadata(&mut frame, &mut out, host, port),
            (22, 0) => {
                let mut book = book.lock().unwrap();
                book.producers.last += 1;
                out.extend([0; 6]);
                out.extend(book.producers.last.to_be_bytes());
                out.extend([0; 2]);
            }
            (0, 3) => {
                if !produce(&mut frame, &mut out, &book) {
                    return Ok(());
                }
            }
            (17, 1) => {
                scram.mechanism = frame.text();
                let known = ["PLAIN", "SCRAM-SHA-512"].contains(&&*scram.mechanism);
                out.extend(if known { 0i16 } else { 33 }.to_be_bytes());
                out.extend([0; 4]);
            }
            (36, 0) => {
                let length = frame.i32() as usize;
                let said = String::from_utf8(frame.take(length).to_vec()).unwrap();
                let answer = scram.answer(&said);
                is_in = answer.as_ref().is_some_and(|(done, _)| *done);
                out.extend(if answer.is_some() { 0i16 } else { 58 }.to_be_bytes());
                put(&mut out, "what the broker says");
                let words = answer.map(|(_, words)| words).unwrap_or_default();
                out.extend((words.len() as i32).to_be_bytes());
                out.extend(words.as_bytes());
            }
            other => panic!("not asked by a producer: {other:?}"),
        }
        stream.write_u32(out.len() as u32).await?;
        stream.write_all(&out).await?;
        stream.flush().await?;
    }
}

fn metadata(frame: &mut Frame<'_>, out: &mut Vec<u8>, host: &str, port: u16) {
    assert_eq!(frame.i32(), 1);
    let topic = frame.text();
    let code = if topic == "missing" { 3i16 } else { 0 };
    out.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    put(out, host);
    out.extend(i32::from(port).to_be_bytes());
    out.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1]);
    out.extend(code.to_be_bytes());
    put(out, &topic);
    out.push(0);
    out.extend(if code == 0 { 3i32 } else { 0 }.to_be_bytes());
    // In no order, as brokers do it.
    for index in [1i32, 0, 2].into_iter().filter(|_| code == 0) {
        out.extend([0, 0]);
        out.extend(index.to_be_bytes());
        out.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

/// Whether there is an answer.
fn produce(frame: &mut Frame<'_>, out: &mut Vec<u8>, book: &Book) -> bool {
    assert_eq!((frame.i16(), frame.i16()), (-1, -1), "no transaction, and all replicas");
    frame.i32();
    assert_eq!(frame.i32(), 1);
    let topic = frame.text();
    assert_eq!(frame.i32(), 1);
    let (partition, length) = (frame.i32(), frame.i32() as usize);
    let batch = frame.take(length);
    let mut book = book.lock().unwrap();
    let mut code = book.orders.codes.pop_front().unwrap_or(0);
    if book.orders.most.is_some_and(|most| batch.len() > most) {
        code = 10;
    }
    if code == 0 {
        let (sender, values) = records(batch);
        let first = (sender.0, partition, sender.1);
        if sender.0 < 0 || book.producers.seen.insert(first) {
            book.messages.extend(values);
        }
        if book.orders.lose > 0 {
            book.orders.lose -= 1;
            return false;
        }
    }
    out.extend(1i32.to_be_bytes());
    put(out, &topic);
    out.extend(1i32.to_be_bytes());
    out.extend(partition.to_be_bytes());
    out.extend(code.to_be_bytes());
    out.extend([0; 8]);
    out.extend([0xff; 8]);
    out.extend(std::mem::take(&mut book.orders.throttle).to_be_bytes());
    true
}

/// Producer and sequence of a batch, and its values.
fn records(batch: &[u8]) -> ((i64, i32), Vec<Bytes>) {
    let mut frame = Frame(batch);
    frame.take(8);
    assert_eq!(frame.i32() as usize, batch.len() - 12);
    frame.take(4);
    assert_eq!(frame.take(1), [2]);
    assert_eq!(frame.i32().cast_unsigned(), crc32c::crc32c(frame.0));
    let (gzip, last) = (frame.i16(), frame.i32());
    frame.take(16);
    let id = i64::from_be_bytes(frame.take(8).try_into().unwrap());
    let _epoch = frame.i16();
    let (sequence, count) = (frame.i32(), frame.i32());
    assert_eq!(last, count - 1);
    let mut body = frame.0.to_vec();
    if gzip == 1 {
        let packed = std::mem::take(&mut body);
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut body).unwrap();
    }
    let mut frame = Frame(&body);
    let values = (0..count).map(|index| {
        frame.varint();
        frame.take(1);
        assert_eq!((frame.varint(), frame.varint()), (0, i64::from(index)));
        let key = frame.varint() as usize;
        frame.take(key);
        let value = frame.varint() as usize;
        let value = Bytes::copy_from_slice(frame.take(value));
        for _ in 0..2 * frame.varint() {
            let length = frame.varint() as usize;
            frame.take(length);
        }
        value
    });
    ((id, sequence), values.collect())
}

/// The broker's side of logging in.
#[derive(Default)]
struct Scram {
    mechanism: String,
    first: String,
}

impl Scram {
    /// Whether that was all, and what is answered; nothing to those who are not let in.
    fn answer(&mut self, said: &str) -> Option<(bool, String)> {
        let (user, password) = LOGIN;
        if self.mechanism == "PLAIN" {
            return (said == format!("\0{user}\0{password}")).then(|| (true, String::new()));
        }
        let salt = STANDARD.encode("salt");
        if let Some(first) = said.strip_prefix("n,,") {
            let nonce = first.strip_prefix(&format!("n={user},r="))?;
            let answer = format!("r={nonce}more,s={salt},i=4096");
            self.first = format!("{first},{answer}");
            return Some((false, answer));
        }
        let (last, proof) = said.split_once(",p=")?;
        let mut salted = [0; 64];
        let rounds = 4_096.try_into().unwrap();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA512,
            rounds,
            b"salt",
            password.as_bytes(),
            &mut salted,
        );
        let mac = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), text.as_bytes())
        };
        let stored = digest::digest(&digest::SHA512, mac(&salted, "Client Key").as_ref());
        let whole = format!("{},{last}", self.first);
        let signature = mac(stored.as_ref(), &whole);
        let proof = STANDARD.decode(proof).unwrap();
        let key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server = mac(mac(&salted, "Server Key").as_ref(), &whole);
        let good = digest::digest(&digest::SHA512, &key).as_ref() == stored.as_ref();
        good.then(|| (true, format!("v={}", STANDARD.encode(server))))
    }
}
