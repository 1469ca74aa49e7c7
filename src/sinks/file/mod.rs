//! A file: one JSON line an event, rotated, compressed and bounded.
//!
//! Guarantees: `send` returns after the data is on stable storage; lines never merge, whatever a
//! crash, a full disk or a cancelled call left behind (a torn line is cut, its event sent again:
//! at least once); a file that was moved or deleted is opened anew; nothing but its own rotated files is ever
//! deleted. Rotation happens at the next event, not by a clock. It is a copy for people and
//! tools, not the gateway's log.

mod rotated;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::Access;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Built, Kind, Proof, blocking, joined, line_within};
use crate::core::Timestamp;
use crate::core::config::{ByteSize, Problem, Problems, Section, Span};
use crate::core::route::Shaped;
use crate::core::sink::{
    Cause, Class, Fault, Idempotency, Limits, Outcome, Piece, Probe, Reply, Sink,
};
use rotated::Tidier;
use writer::Writer;

/// Files in the table of sinks.
pub const KIND: Kind = Kind {
    name: "file",
    about: "A file of JSON lines, rotated and compressed",
    sample: r#"[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#,
    class: Class::Archive,
    idempotency: Idempotency::None,
    formats: true,
    proof: Proof::Documented,
    proves: "that the line is in the file and on stable storage.",
    success: (0, ""),
    schema: || schemars::schema_for!(Settings),
    build,
};

/// A file with one event on each line.
#[derive(Clone, Deserialize, JsonSchema)]
struct Settings {
    /// The file. Its folders are created with the first event.
    path: PathBuf,
    /// Start a new file rather than let this one grow beyond this size. The old one stays beside
    /// it as `NAME-20260131T000000Z-000.EXT`.
    #[serde(default = "file_size")]
    rotate_bytes: ByteSize,
    /// Start a new file with the first event of each such period, counted from 1970 in UTC:
    /// `"1d"` is a file a day. Never unless set.
    rotate_every: Option<Span>,
    /// Most bytes of rotated files kept; the oldest are deleted. The current file comes on top.
    #[serde(default = "kept_size")]
    keep_bytes: ByteSize,
    /// Compress rotated files.
    #[serde(default = "yes")]
    gzip: bool,
}

fn file_size() -> ByteSize {
    ByteSize(64 << 20)
}

fn kept_size() -> ByteSize {
    ByteSize(1 << 30)
}

fn yes() -> bool {
    true
}

fn build(section: &Section) -> Result<Built, Problems> {
    let settings: Settings = section.read()?;
    let mut problems = Problems::new();
    let mut wrong = |name: &str, what: &str| {
        problems.push(Problem::new(format!("{}.{name}", section.key), what));
    };
    if settings.path.file_name().is_none() {
        wrong("path", "must name a file");
    }
    if settings.rotate_bytes.0 == 0 {
        wrong("rotate_bytes", "must be at least 1B");
    }
    if settings.rotate_every.is_some_and(|every| every.0 < Duration::from_secs(1)) {
        wrong("rotate_every", "must be at least 1s");
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // A lone event may exceed a batch: an archive takes whatever the doors took.
    let limits = Limits {
        event_bytes: 64 << 20,
        batch_events: 1_000,
        batch_bytes: 4 << 20,
        in_flight: 1,
        ordered: true,
    };
    Ok(Built::new(Arc::new(Lines::new(settings)), limits))
}

struct Lines {
    path: PathBuf,
    /// Locked by the thread that writes, not by the call that waits for it: a cancelled call
    /// leaves a whole batch, and whoever comes next waits for it.
    writer: Arc<Mutex<Writer>>,
    tidier: Arc<Tidier>,
}

impl Lines {
    fn new(settings: Settings) -> Self {
        let tidier = Tidier::new(settings.gzip, settings.keep_bytes.0);
        Self {
            path: settings.path.clone(),
            writer: Arc::new(Mutex::new(Writer::new(settings))),
            tidier: Arc::new(tidier),
        }
    }

    fn fault(&self, error: &io::Error) -> Fault {
        let (cause, advice) = advice(error);
        Fault::new(cause, format!("{}: {error}; {advice}", self.path.display()))
    }
}

#[async_trait]
impl Sink for Lines {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        line_within(event, room)
    }

    async fn send(&self, pieces: &[Piece], now: Timestamp) -> Outcome {
        let lines = joined(pieces);
        let mut writer = self.writer.clone().lock_owned().await;
        match blocking(move || writer.append(&lines, now)).await {
            Ok(untidy) => {
                if let Some(series) = untidy {
                    self.tidier.start(series);
                }
                // The only way a rotated file that cannot be compressed can make itself heard.
                Outcome::Delivered(Reply { excerpt: self.tidier.complaint(), ..Reply::default() })
            }
            Err(error) => Outcome::Failed(self.fault(&error)),
        }
    }

    async fn probe(&self, _: Timestamp) -> Result<Probe, Fault> {
        let path = self.path.clone();
        match blocking(move || writable(&path)).await {
            Ok(()) => Ok(Probe::Accepted),
            Err(error) => Err(self.fault(&error)),
        }
    }

    async fn close(&self, deadline: Instant) {
        // What is not compressed by then is compressed after the next start.
        let _ = tokio::time::timeout_at(deadline.into(), self.tidier.idle()).await;
    }
}

/// Whether the file could be written and rotated, without touching anything.
fn writable(path: &Path) -> io::Result<()> {
    if path.try_exists()? {
        writer::regular(path)?;
        rustix::fs::access(path, Access::WRITE_OK)?;
    }
    let mut folders = path.ancestors().skip(1);
    let folder = folders.find(|folder| folder.exists() || folder.as_os_str().is_empty());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// What an error asks for: a person, or time.
fn advice(error: &io::Error) -> (Cause, &'static str) {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::PermissionDenied => {
            (Cause::Setup, "let the gateway's user write to the file and its folder")
        }
        Kind::ReadOnlyFilesystem => {
            (Cause::Setup, "the file system is read-only; choose another path or mount it writable")
        }
        Kind::NotADirectory | Kind::IsADirectory | Kind::InvalidInput | Kind::InvalidFilename => {
            (Cause::Setup, "path must name a plain file in a folder")
        }
        Kind::StorageFull | Kind::QuotaExceeded => {
            (Cause::Down, "free some space, or lower keep_bytes")
        }
        _ => (Cause::Down, "the disk or the file system is in trouble"),
    }
}
