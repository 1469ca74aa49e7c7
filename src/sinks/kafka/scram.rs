//! Logging in without showing the password: SCRAM with SHA-256 or SHA-512 (RFC 5802 and 7677).
//!
//! Guarantees: pure; the broker must prove that it knows the password, too; it cannot make us count for
//! ever. Passwords are used as they are: beyond ASCII they must be normalised already.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// Rounds that a broker may ask for: what RFC 7677 demands at least, and a tenth of a second at most.
const ROUNDS: std::ops::RangeInclusive<u32> = 4_096..=100_000;

/// Which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
    fn derivation(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A conversation.
pub struct Scram {
    hash: Hash,
    nonce: String,
    /// Our first message, without its head.
    first: String,
}

impl Scram {
    /// For `user`, with a nonce that nobody can guess.
    pub fn new(hash: Hash, user: &str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}");
        Self { hash, nonce, first }
    }

    /// What is said first.
    pub fn greeting(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// What is answered to the broker's first message, and what it must say then.
    pub fn answer(&self, said: &str, password: &str) -> Result<(String, String), String> {
        let bad = |what: &str| Err(format!("its SCRAM {what}"));
        let part = |name: &str| said.split(',').find_map(|part| part.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (part("r="), part("s="), part("i=")) else {
            return bad("message cannot be read");
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return bad("nonce is not made of ours");
        }
        let Ok(salt) = STANDARD.decode(salt) else { return bad("salt cannot be read") };
        let rounds = rounds.parse().ok().filter(|rounds| ROUNDS.contains(rounds));
        let Some(rounds) = rounds.and_then(NonZeroU32::new) else {
            return bad("rounds are fewer than 4096, or too many");
        };
        let mut salted = vec![0; self.hash.digest().output_len()];
        pbkdf2::derive(self.hash.derivation(), rounds, &salt, password.as_bytes(), &mut salted);
        let mac =
            |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac(), key), text);
        let client = mac(&salted, b"Client Key");
        let stored = digest::digest(self.hash.digest(), client.as_ref());
        // `biws` is the head of our first message in base64: no channel binding.
        let last = format!("c=biws,r={nonce}");
        let whole = format!("{},{said},{last}", self.first);
        let signature = mac(stored.as_ref(), whole.as_bytes());
        let proof: Vec<u8> =
            client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server = mac(&salted, b"Server Key");
        let expected = mac(server.as_ref(), whole.as_bytes());
        let answer = format!("{last},p={}", STANDARD.encode(proof));
        Ok((answer, format!("v={}", STANDARD.encode(expected))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn it_says_what_the_standard_says() {
        let scram = Scram::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(scram.greeting(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let said = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (answer, expected) = scram.answer(said, "pencil").unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(expected, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_broker_that_cheats_is_found_out() {
        let scram = Scram::new(Hash::Sha512, "a=,b", "abc".into());
        assert_eq!(scram.greeting(), "n,,n=a=3D=2Cb,r=abc");
        for bad in [
            "",
            "r=abc,s=QQ==,i=4096",
            "r=xyzabc,s=QQ==,i=4096",
            "r=abcd,s=QQ==,i=1",
            "r=abcd,s=QQ==,i=4000000000",
            "r=abcd,s=!,i=4096",
        ] {
            assert!(scram.answer(bad, "p").is_err(), "{bad}");
        }
    }
}
