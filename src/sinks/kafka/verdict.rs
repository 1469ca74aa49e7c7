//! What Kafka's error codes mean.
//!
//! Guarantees: pure; a code that is not known is `Down`, and may have stored the batch. Facts: Kafka's
//! protocol guide, table of error codes.

use crate::core::sink::{Cause, Fault};

/// The batch was there already.
pub const DUPLICATE: i16 = 46;

/// What is known of a code.
struct Known {
    code: i16,
    name: &'static str,
    cause: Cause,
    /// What to do; `{}` is the sink's section.
    advice: &'static str,
}

const fn known(code: i16, name: &'static str, cause: Cause, advice: &'static str) -> Known {
    Known { code, name, cause, advice }
}

const TABLE: &[Known] = &[
    known(2, "CORRUPT_MESSAGE", Cause::Down, ""),
    known(
        3,
        "UNKNOWN_TOPIC_OR_PARTITION",
        Cause::Setup,
        "create the topic, or check {}.topic; it is not created by itself",
    ),
    known(5, "LEADER_NOT_AVAILABLE", Cause::Down, ""),
    known(6, "NOT_LEADER_OR_FOLLOWER", Cause::Down, ""),
    known(7, "REQUEST_TIMED_OUT", Cause::Down, ""),
    known(8, "BROKER_NOT_AVAILABLE", Cause::Down, ""),
    known(
        10,
        "MESSAGE_TOO_LARGE",
        Cause::TooLarge,
        "lower {}.max_bytes, or raise the topic's max.message.bytes",
    ),
    known(17, "INVALID_TOPIC_EXCEPTION", Cause::Setup, "check {}.topic"),
    known(18, "RECORD_LIST_TOO_LARGE", Cause::TooLarge, "lower {}.max_bytes"),
    known(19, "NOT_ENOUGH_REPLICAS", Cause::Down, ""),
    known(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Cause::Down, ""),
    known(
        29,
        "TOPIC_AUTHORIZATION_FAILED",
        Cause::Setup,
        "allow the user of {} to describe the topic and to write to it",
    ),
    known(
        31,
        "CLUSTER_AUTHORIZATION_FAILED",
        Cause::Setup,
        "allow the user of {} to write idempotently, or set idempotence = false there",
    ),
    known(32, "INVALID_TIMESTAMP", Cause::Refused, "compare the clocks"),
    known(33, "UNSUPPORTED_SASL_MECHANISM", Cause::Setup, "check {}.sasl"),
    known(34, "ILLEGAL_SASL_STATE", Cause::Setup, "check {}.sasl and the listener's port"),
    known(
        35,
        "UNSUPPORTED_VERSION",
        Cause::Setup,
        "brokers from 1.0 are spoken to; for services like Kafka set idempotence = false in {}",
    ),
    known(
        43,
        "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        Cause::Setup,
        "the topic's message.format.version is too old for {}",
    ),
    known(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Cause::Down, ""),
    known(47, "INVALID_PRODUCER_EPOCH", Cause::Down, ""),
    known(56, "KAFKA_STORAGE_ERROR", Cause::Down, ""),
    known(58, "SASL_AUTHENTICATION_FAILED", Cause::Setup, "check {}.user and {}.password"),
    known(59, "UNKNOWN_PRODUCER_ID", Cause::Down, ""),
    known(
        65,
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        Cause::Setup,
        "check the permissions of the user of {}",
    ),
    known(76, "UNSUPPORTED_COMPRESSION_TYPE", Cause::Setup, "set gzip = false in {}"),
    known(87, "INVALID_RECORD", Cause::Refused, ""),
    known(89, "THROTTLING_QUOTA_EXCEEDED", Cause::Busy, ""),
];

/// What `code` means.
pub fn fault(code: i16, section: &str) -> Fault {
    let Some(known) = TABLE.iter().find(|known| known.code == code) else {
        return Fault::new(Cause::Down, format!("Kafka's error {code}"));
    };
    let advice = known.advice.replace("{}", section);
    let colon = if advice.is_empty() { "" } else { ": " };
    Fault::new(known.cause, format!("{}{colon}{advice}", known.name))
}

/// Whether the broker that said so has certainly not stored the batch.
pub fn is_certain(code: i16) -> bool {
    matches!(code, 2 | 3 | 6 | 10 | 17 | 18 | 19 | 29 | 31 | 32 | 35 | 43 | 76 | 87 | 89)
}

/// Whether the sequence can no longer be relied on.
pub fn ends_sequence(code: i16) -> bool {
    matches!(code, 45 | 47 | 59)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_cause() {
        for (code, cause) in [
            (10, Cause::TooLarge),
            (29, Cause::Setup),
            (3, Cause::Setup),
            (58, Cause::Setup),
            (19, Cause::Down),
            (7, Cause::Down),
            (-1, Cause::Down),
            (89, Cause::Busy),
            (87, Cause::Refused),
        ] {
            let fault = fault(code, "sinks.k");
            assert_eq!(fault.cause, cause, "{fault:?}");
            assert!(cause != Cause::Setup || fault.note.contains("sinks.k"), "{fault:?}");
        }
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code), "in order");
    }
}
