//! How a gateway tells a NATS server who it is: user and password, a token, an nkey, or a file of
//! credentials.
//!
//! Guarantees: pure; a seed never leaves this file, only its public key and signatures do; what cannot
//! be read is told without a letter of it. Facts: NATS' client protocol (CONNECT), and for nkeys the
//! form that `nk` writes: base32 of two bytes of prefix, the key, and a CRC16.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Map, Value, json};

use crate::core::config::Secret;

/// The prefix of a seed, in its upper five bits; the type follows in the next eight.
const SEED: u8 = 18 << 3;
/// The type of a user, and the prefix of its public key.
const USER: u8 = 20 << 3;
/// The letters of base32, by RFC 4648.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Who connects.
pub enum Login {
    /// Whoever may.
    Nobody,
    /// A user with a password.
    Password(String, Secret),
    /// A token.
    Token(Secret),
    /// A user's key.
    Key(Box<Seed>),
    /// A token that an operator has signed, and the key that it names.
    Credentials(String, Box<Seed>),
}

impl Login {
    /// From a file of credentials, as `nsc` writes it.
    pub fn credentials(text: &str) -> Result<Self, String> {
        let part = |name: &str| {
            let begin = format!("BEGIN {name}-");
            let mut lines = text.lines().skip_while(|line| !line.contains(&begin)).skip(1);
            let found = lines.find(|line| !line.trim().is_empty()).map(str::trim);
            found.ok_or_else(|| format!("has no {name}; name a file as `nsc` writes it"))
        };
        let (token, seed) = (part("NATS USER JWT")?, part("USER NKEY SEED")?);
        if token.split('.').count() != 3 {
            return Err("has something else than a JWT; name a file as `nsc` writes it".into());
        }
        Ok(Self::Credentials(token.to_owned(), Box::new(Seed::read(seed)?)))
    }

    /// The keys of CONNECT that say so, for a server that has sent `nonce`.
    pub fn claim(&self, nonce: &str) -> Map<String, Value> {
        let claim = match self {
            Self::Nobody => json!({}),
            Self::Password(user, password) => json!({ "user": user, "pass": password.expose() }),
            Self::Token(token) => json!({ "auth_token": token.expose() }),
            Self::Key(seed) => json!({ "nkey": seed.public(), "sig": seed.sign(nonce) }),
            Self::Credentials(jwt, seed) => json!({ "jwt": jwt, "sig": seed.sign(nonce) }),
        };
        claim.as_object().cloned().unwrap_or_default()
    }
}

/// The private key of a user.
pub struct Seed(Ed25519KeyPair);

impl Seed {
    /// From `SU…`.
    pub fn read(text: &str) -> Result<Self, String> {
        let bad =
            || "is no seed of an nkey for a user: it begins with SU, and `nk -gen user` makes one";
        let bytes = decoded(text).filter(|bytes| bytes.len() == 36).ok_or_else(bad)?;
        let (rest, sum) = bytes.split_at(34);
        let kind = (rest[0] & 7) << 5 | rest[1] >> 3;
        if crc16(rest).to_le_bytes() != sum || rest[0] & 0xf8 != SEED || kind != USER {
            return Err(bad().into());
        }
        Ed25519KeyPair::from_seed_unchecked(&rest[2..]).map(Self).map_err(|_| bad().into())
    }

    fn public(&self) -> String {
        let mut bytes = vec![USER];
        bytes.extend_from_slice(self.0.public_key().as_ref());
        let sum = crc16(&bytes).to_le_bytes();
        bytes.extend_from_slice(&sum);
        encoded(&bytes)
    }

    fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sign(nonce.as_bytes()))
    }
}

/// The checksum of XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| match sum & 0x8000 {
            0 => sum << 1,
            _ => sum << 1 ^ 0x1021,
        })
    })
}

/// Base32 without padding.
fn encoded(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let letter = |start: usize| (start..start + 5).fold(0, |letter, at| letter << 1 | bit(at));
    (0..bytes.len() * 8).step_by(5).map(|at| char::from(LETTERS[usize::from(letter(at))])).collect()
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u16, 0);
    for letter in text.bytes() {
        let value = LETTERS.iter().position(|known| *known == letter)?;
        held = held << 5 | u16::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A pair of the documents of NATS.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn a_seed_that_is_none_is_told_and_not_repeated() {
        let user = Seed::read(SEED).map(|seed| seed.public()).unwrap();
        assert_eq!(user, PUBLIC);
        let mut damaged = SEED.to_owned();
        damaged.replace_range(20..21, "A");
        for bad in ["", "secret", &SEED[..57], &damaged, &user] {
            let told = Seed::read(bad).err().unwrap();
            assert!(told.contains("nk -gen user") && (bad.is_empty() || !told.contains(bad)));
        }
    }

    #[test]
    fn credentials_are_read_as_nsc_writes_them() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\nNKEYs are sensitive.\n\n-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
        );
        let claim = Login::credentials(&text).unwrap().claim("n");
        assert_eq!(claim["jwt"], "a.b.c");
        assert_eq!(claim["sig"].as_str().map(str::len), Some(86));
        for bad in ["", "a.b.c", &text.replace("a.b.c", "hidden"), &text.replace("SU", "SX")] {
            let told = Login::credentials(bad).err().unwrap();
            assert!(!told.contains("hidden") && !told.contains(SEED), "{told}");
        }
    }

    proptest! {
        #[test]
        fn base32_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decoded(&encoded(&bytes)), Some(bytes));
        }
    }
}
