//! PEM files: certificates and keys, ours and others'.
//!
//! Guarantees: a file is bounded, every mistake says which setting, what is wrong with the file and what
//! to do; a key is never in an error. Whom to trust is for those who read them.

use std::io;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as Tls, InconsistentKeys};

use super::config::Problem;

/// Longest file of certificates that is read: the system's own have a tenth of it.
const MAX_BYTES: u64 = 4 << 20;

/// A chain with the key in the file `key_file`, which the setting `key` names. `cert` is the file of
/// the chain.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    cert: &Path,
    key_file: &Path,
    key: &str,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Problem> {
    let private = private_key(key_file, key)?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        Tls::InconsistentKeys(InconsistentKeys::KeyMismatch) => Problem::new(
            key,
            format!("{} is not the key of {}", key_file.display(), cert.display()),
        )
        .help("name the key that the certificate was made for; the certificate must stand first in its file"),
        _ => Problem::new(key, format!("the key in {} cannot be used", key_file.display()))
            .help("RSA (2048 to 8192 bits), ECDSA (P-256, P-384) and Ed25519 keys can be used"),
    })
}

/// All certificates of a PEM file; at least one.
pub fn certificates(
    file: &Path,
    key: &str,
    help: &str,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = read(file, key, help)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Problem::new(key, format!("{} holds no certificate", file.display())).help(help)),
    }
}

fn read(file: &Path, key: &str, help: &str) -> Result<Vec<u8>, Problem> {
    let told = |what: String| Problem::new(key, what).help(help);
    let unread = |error: io::Error| told(format!("cannot read {}: {error}", file.display()));
    let size = std::fs::metadata(file).map_err(unread)?.len();
    if size > MAX_BYTES {
        return Err(told(format!("{} has more than {MAX_BYTES} bytes", file.display())));
    }
    std::fs::read(file).map_err(unread)
}

fn private_key(file: &Path, key: &str) -> Result<PrivateKeyDer<'static>, Problem> {
    let help = "name a PEM file with the private key (BEGIN PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY)";
    let pem = read(file, key, help)?;
    if let Ok(found) = PrivateKeyDer::from_pem_slice(&pem) {
        return match is_encrypted(&pem) {
            true => Err(encrypted(file, key)),
            false => Ok(found),
        };
    }
    Err(match is_encrypted(&pem) {
        true => encrypted(file, key),
        false => Problem::new(key, format!("{} holds no private key", file.display())).help(help),
    })
}

/// Both ways of encrypting a PEM key say so in plain words.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |words: &[u8]| pem.windows(words.len()).any(|part| part == words);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn encrypted(file: &Path, key: &str) -> Problem {
    Problem::new(key, format!("the key in {} is encrypted", file.display())).help(
        "a gateway that starts by itself has nobody to type its passphrase: write it unencrypted (`openssl pkey -in FILE -out NEW`) into a file that only the gateway's user can read",
    )
}
