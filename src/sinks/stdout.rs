//! Standard output: one line an event, for trials and for containers whose platform collects it.
//!
//! Guarantees: lines never mix; a batch is written and flushed before it counts as delivered. What
//! the reader at the other end does with it cannot be known. The gateway's own journal goes to
//! standard error and does not disturb it.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Built, Kind, Proof, blocking, joined, line_within};
use crate::core::Timestamp;
use crate::core::config::{Problems, Section};
use crate::core::route::Shaped;
use crate::core::sink::{
    Cause, Class, Fault, Idempotency, Limits, Outcome, Piece, Probe, Reply, Sink,
};

/// Standard output in the table of sinks.
pub const KIND: Kind = Kind {
    name: "stdout",
    about: "Standard output, one JSON line an event",
    sample: "[sinks.console]\ntype = \"stdout\"\n",
    class: Class::Archive,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that the line was written. Whether anybody reads it shows at the other end.",
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// Standard output. It has no settings of its own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {}

/// As long as the largest body that a door may be set to take, with room for shaping.
const EVENT_BYTES: usize = 64 << 20;

fn build(section: &Section) -> Result<Built, Problems> {
    let Settings {} = section.read()?;
    let limits = Limits {
        event_bytes: EVENT_BYTES,
        batch_events: 1_000,
        batch_bytes: 1 << 20,
        in_flight: 1,
        ordered: true,
    };
    Ok(Built::new(Arc::new(Stdout::over(io::stdout())), limits))
}

struct Stdout<W> {
    out: Arc<Mutex<W>>,
}

impl<W: Write + Send + 'static> Stdout<W> {
    fn over(out: W) -> Self {
        Self { out: Arc::new(Mutex::new(out)) }
    }
}

#[async_trait]
impl<W: Write + Send + 'static> Sink for Stdout<W> {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        line_within(event, room)
    }

    async fn send(&self, pieces: &[Piece], _: Timestamp) -> Outcome {
        let bytes = joined(pieces);
        // The guard moves into the thread: a reader that has stopped reading holds one thread, and
        // whoever is cancelled while waiting for it holds none.
        let mut out = self.out.clone().lock_owned().await;
        match blocking(move || out.write_all(&bytes).and_then(|()| out.flush())).await {
            Ok(()) => Outcome::Delivered(Reply::default()),
            Err(error) => Outcome::Failed(Fault::new(
                Cause::Down,
                format!("standard output: {error}; whatever reads it is gone or broken"),
            )),
        }
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        Ok(Probe::Unknown)
    }

    async fn close(&self, _: Instant) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::EventId;
    use std::io::Read;

    fn pieces(lines: &[&'static str]) -> Vec<Piece> {
        let piece = |line: &&'static str| Piece {
            id: EventId::fresh(),
            incident: None,
            ended: false,
            bytes: Bytes::from_static(line.as_bytes()),
        };
        lines.iter().map(piece).collect()
    }

    #[tokio::test]
    async fn lines_come_out_whole_and_a_closed_pipe_is_down() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = Stdout::over(writer);
        let now = Timestamp::UNIX_EPOCH;
        let sent = sink.send(&pieces(&["{\"a\":1}\n", "\"\"\n"]), now).await;
        assert!(matches!(sent, Outcome::Delivered(_)));
        let mut read = [0; 11];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"{\"a\":1}\n\"\"\n");
        drop(reader);
        let sent = sink.send(&pieces(&["1\n"]), now).await;
        assert!(matches!(sent, Outcome::Failed(fault) if fault.cause == Cause::Down));
    }
}
