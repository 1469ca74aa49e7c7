//! Which VRL functions routes may call.
//!
//! Guarantees: what is offered depends on the event alone, reaches nothing outside it, and ends:
//! the same event gets the same answer at the door, after a restart and in `explain`. A function
//! that is left out has its reason here; a test compares the offered names with a list, so that a
//! new version of VRL cannot add one unseen.

use std::sync::OnceLock;

use vrl::compiler::Function;

const CLOCK: &str = "its answer depends on when it is asked; the event has its own times";
const CHANCE: &str = "its answer differs from call to call";
const YEAR: &str = "it guesses a missing year from the clock; use parse_regex and parse_timestamp";
const SYSTEM: &str = "it reads the machine's environment or files";
const NETWORK: &str = "it asks the network";
const SECRET: &str = "routes see no secrets";
const TABLES: &str = "there are no enrichment tables";
const BACKTRACKS: &str = "its patterns may try for ever on a text made for that; use parse_regex";
const UNPACKS: &str = "a few packed bytes can become gigabytes";
const PACKS: &str = "what a sink sends is compressed by the sink";
const PATTERN: &str = "patterns are compiled when the configuration is read; write r'...'";
const DEPTH: &str = "a deeply nested text could exhaust the stack";
const SLOW: &str = "it may take many seconds for a text made for that";
const INDEX: &str = "an index from the event could ask for any amount of memory; assign to a path";
const CRYPTO: &str = "hashes and ciphers are not part of this version";
const JOURNAL: &str = "events are not written to the journal; use a sink";

/// Functions that exist in VRL, or in products that embed it, and are not offered: with reasons.
pub(super) const REFUSED: [(&str, &str); 60] = [
    ("now", CLOCK),
    ("uuid_v7", CLOCK),
    ("uuid_v4", CHANCE),
    ("random_bool", CHANCE),
    ("random_bytes", CHANCE),
    ("random_float", CHANCE),
    ("random_int", CHANCE),
    ("encrypt", CRYPTO),
    ("decrypt", CRYPTO),
    ("encrypt_ip", CRYPTO),
    ("decrypt_ip", CRYPTO),
    ("crc", CRYPTO),
    ("hmac", CRYPTO),
    ("md5", CRYPTO),
    ("seahash", CRYPTO),
    ("sha1", CRYPTO),
    ("sha2", CRYPTO),
    ("sha3", CRYPTO),
    ("xxhash", CRYPTO),
    ("parse_syslog", YEAR),
    ("parse_klog", YEAR),
    ("parse_linux_authorization", YEAR),
    ("log", JOURNAL),
    ("get_env_var", SYSTEM),
    ("get_hostname", SYSTEM),
    ("get_timezone_name", SYSTEM),
    ("encode_proto", SYSTEM),
    ("parse_proto", SYSTEM),
    ("parse_etld", SYSTEM),
    ("validate_json_schema", SYSTEM),
    ("dns_lookup", NETWORK),
    ("reverse_dns", NETWORK),
    ("http_request", NETWORK),
    ("get_secret", SECRET),
    ("set_secret", SECRET),
    ("remove_secret", SECRET),
    ("get_enrichment_table_record", TABLES),
    ("find_enrichment_table_records", TABLES),
    ("get_vector_metric", SYSTEM),
    ("find_vector_metrics", SYSTEM),
    ("aggregate_vector_metrics", SYSTEM),
    ("set_semantic_meaning", TABLES),
    ("parse_grok", BACKTRACKS),
    ("parse_groks", BACKTRACKS),
    ("to_regex", PATTERN),
    ("decode_gzip", UNPACKS),
    ("decode_zlib", UNPACKS),
    ("decode_zstd", UNPACKS),
    ("decode_lz4", UNPACKS),
    ("decode_snappy", UNPACKS),
    ("encode_gzip", PACKS),
    ("encode_zlib", PACKS),
    ("encode_zstd", PACKS),
    ("encode_lz4", PACKS),
    ("encode_snappy", PACKS),
    ("parse_ruby_hash", DEPTH),
    ("parse_xml", DEPTH),
    ("parse_cbor", DEPTH),
    ("parse_yaml", SLOW),
    ("set", INDEX),
];

/// Why `name` is not offered, if it is known at all.
pub(super) fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| *reason)
}

/// The functions that routes may call.
pub(super) fn offered() -> &'static [Box<dyn Function>] {
    static OFFERED: OnceLock<Vec<Box<dyn Function>>> = OnceLock::new();
    OFFERED.get_or_init(|| {
        let mut functions = vrl::stdlib::all();
        functions.retain(|function| refusal(function.identifier()).is_none());
        functions
    })
}

/// The names of the functions that routes may call, in order.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = offered().iter().map(|function| function.identifier()).collect();
    names.sort_unstable();
    names
}
