//! Pins for a while: certificates that a person accepted by hand, in one file beside the log.
//!
//! Guarantees: a pin names one sink and one certificate, and holds for seven days at most, whatever
//! the file says; who pinned what until when stays on record after its end; a file that others may
//! write, or that cannot be read, means that nothing is pinned. It judges no certificate: the sink's
//! TLS asks here.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::private;
use super::problem::Problem;
use super::settings::LogSettings;
use crate::core::Timestamp;
use crate::core::certificate::{Certificate, Fingerprint};

/// Most pins on record; the oldest go.
const MOST: usize = 100;
/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// One certificate accepted for one sink, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The sink's name.
    pub sink: String,
    /// Of the certificate.
    pub fingerprint: Fingerprint,
    /// Whom the certificate names.
    pub subject: String,
    /// Who accepted it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Who ended it before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

impl Pin {
    /// The longest that a pin may hold.
    pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

    /// Whether it holds.
    pub fn holds(&self, now: Timestamp) -> bool {
        let last = now.checked_add(Self::LONGEST).unwrap_or(Timestamp::MAX);
        now < self.until && self.until <= last
    }

    /// The warning that is told as long as it holds.
    pub fn warning(&self) -> Problem {
        let Self { sink, fingerprint, subject, by, until, .. } = self;
        let message = format!(
            "accepts the certificate {fingerprint} (`{subject}`) until {until} whatever is wrong with it: pinned by {by}"
        );
        Problem::new(format!("sinks.{sink}"), message)
            .help(format!("mend the certificate; `siemgate sinks pin {sink} --remove` ends it now"))
    }
}

/// All pins on record.
#[derive(Clone, Debug)]
pub struct Pins {
    path: PathBuf,
    list: Vec<Pin>,
}

impl Pins {
    /// What the file beside the log says; none if there is no file.
    pub fn read(log: &LogSettings) -> Result<Self, Problem> {
        let path = log.dir.with_file_name("pins.json");
        let list = match File::open(&path) {
            Ok(file) => list(&path, file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unusable(&path, &error.to_string())),
        };
        Ok(Self { path, list })
    }

    /// None, for a record that cannot be used.
    pub fn none() -> Self {
        Self { path: PathBuf::new(), list: Vec::new() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All on record, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Pin> {
        self.list.iter()
    }

    /// Those of `sink` that hold.
    pub fn of(&self, sink: &str, now: Timestamp) -> Vec<Pin> {
        self.list.iter().filter(|pin| pin.sink == sink && pin.holds(now)).cloned().collect()
    }

    /// Add `pin`, in place of one of the same certificate, and store.
    pub fn add(&mut self, pin: Pin) -> io::Result<()> {
        let same = |other: &Pin| (&other.sink, other.fingerprint) == (&pin.sink, pin.fingerprint);
        self.list.retain(|other| !(same(other) && other.holds(pin.since)));
        self.list.push(pin);
        self.list.drain(..self.list.len().saturating_sub(MOST));
        self.write()
    }

    /// End those of `sink` that hold, and store; says how many.
    pub fn end(&mut self, sink: &str, by: &str, now: Timestamp) -> io::Result<usize> {
        let holding = self.list.iter_mut().filter(|pin| pin.sink == sink && pin.holds(now));
        let ended = holding.map(|pin| {
            pin.until = now;
            pin.ended_by = Some(by.to_owned());
        });
        let count = ended.count();
        if count > 0 {
            self.write()?;
        }
        Ok(count)
    }

    fn write(&self) -> io::Result<()> {
        private::make(private::above(&self.path))?;
        private::replace(&self.path, &serde_json::to_vec_pretty(&self.list)?)
    }
}

fn list(path: &Path, file: File) -> Result<Vec<Pin>, Problem> {
    let told = |error: io::Error| unusable(path, &error.to_string());
    let facts = file.metadata().map_err(told)?;
    let folder = std::fs::metadata(private::above(path)).map_err(told)?;
    let runner = rustix::process::geteuid().as_raw();
    // Whoever owns the folder can replace the file anyway.
    if ![0, runner, folder.uid()].contains(&facts.uid()) || facts.mode() & 0o022 != 0 {
        return Err(unusable(path, "others may write it"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(told)?;
    serde_json::from_str(&text).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, why: &str) -> Problem {
    let path = path.display();
    Problem::new("", format!("{path} cannot be used, so no pin in it holds: {why}"))
        .help(format!("remove it, and pin again what is still needed: rm '{path}'"))
}

/// What one sink's TLS may accept beside its own rules, and what it has last been shown.
#[derive(Debug, Default)]
pub struct SinkPins {
    pins: Vec<Pin>,
    served: Mutex<Option<Served>>,
}

/// A certificate that a destination showed.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// What it says, where it can be read.
    pub certificate: Option<Certificate>,
    /// The sink's own rules accept it.
    pub good: bool,
}

impl SinkPins {
    /// These pins.
    pub fn new(pins: Vec<Pin>) -> Arc<Self> {
        Arc::new(Self { pins, served: Mutex::default() })
    }

    /// The pins.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// Whether a pin of this certificate holds.
    pub fn accept(&self, fingerprint: Fingerprint, now: Timestamp) -> bool {
        self.pins.iter().any(|pin| pin.fingerprint == fingerprint && pin.holds(now))
    }

    /// Remember what was shown.
    pub fn saw(&self, served: Served) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(served);
    }

    /// What was last shown.
    pub fn served(&self) -> Option<Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn log(dir: &Path) -> LogSettings {
        serde_json::from_value(serde_json::json!({ "dir": dir.join("log") })).unwrap()
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3_600).unwrap()
    }

    fn pin(sink: &str, bytes: &[u8], hours: i64) -> Pin {
        Pin {
            sink: sink.into(),
            fingerprint: Fingerprint::of(bytes),
            subject: "CN=x".into(),
            by: "root".into(),
            since: at(0),
            until: at(hours),
            ended_by: None,
        }
    }

    #[test]
    fn a_pin_holds_for_its_time_and_never_longer_than_seven_days() {
        assert!(pin("s", b"", 4).holds(at(0)) && !pin("s", b"", 4).holds(at(4)));
        assert!(pin("s", b"", 168).holds(at(0)) && !pin("s", b"", 169).holds(at(0)));
    }

    #[test]
    fn pins_are_stored_for_the_owner_only_and_stay_on_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut pins = Pins::read(&log(dir.path())).unwrap();
        for new in [pin("s", b"a", 4), pin("s", b"a", 5), pin("t", b"a", 4)] {
            pins.add(new).unwrap();
        }
        let mode = std::fs::metadata(pins.path()).unwrap().mode();
        assert_eq!((mode & 0o777, pins.end("s", "me", at(1)).unwrap()), (0o600, 1));
        let read = Pins::read(&log(dir.path())).unwrap();
        assert_eq!((read.of("s", at(1)).len(), read.of("t", at(1)).len()), (0, 1));
        let kept: Vec<_> = read.iter().map(|pin| (&*pin.sink, pin.ended_by.as_deref())).collect();
        assert_eq!(kept, [("s", Some("me")), ("t", None)]);
        for number in 0..2 * MOST {
            pins.add(pin("s", number.to_string().as_bytes(), 4)).unwrap();
        }
        assert_eq!(Pins::read(&log(dir.path())).unwrap().iter().count(), MOST);
    }

    #[test]
    fn a_record_that_others_may_write_or_that_is_damaged_pins_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut pins = Pins::read(&log(dir.path())).unwrap();
        pins.add(pin("s", b"a", 4)).unwrap();
        std::fs::set_permissions(pins.path(), Permissions::from_mode(0o622)).unwrap();
        let problem = Pins::read(&log(dir.path())).unwrap_err();
        assert!(problem.message.ends_with("others may write it"), "{problem}");
        std::fs::remove_file(pins.path()).unwrap();
        std::fs::write(pins.path(), "[{").unwrap();
        std::fs::set_permissions(pins.path(), Permissions::from_mode(0o600)).unwrap();
        assert!(Pins::read(&log(dir.path())).is_err());
    }
}
