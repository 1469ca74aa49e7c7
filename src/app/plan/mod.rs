//! A plan: the whole configuration, read, checked and built, before anything is started.
//!
//! Guarantees: either a complete plan or every problem found, each with its file and line; making
//! a plan opens no socket and writes nothing. It is what `check` shows and what `run` starts.

mod backing;
mod doors;
mod reading;
mod routes;
mod sinks;
mod sources;
mod whereabouts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::backing::backed;
use self::doors::{circles, listener_problems, open_token, without_certificates};
use self::reading::{Reading, built, names, placed};
use self::routes::{table_of, unrouted};
use self::sinks::{pins_of, sinks_of};
use self::sources::sources_of;
pub use self::whereabouts::Whereabouts;
use super::alarms::{Own, own};
use crate::core::Timestamp;
use crate::core::config::{
    DeliverySettings, JournalSettings, Layers, LogSettings, Pin, Problems, QuarantineSettings,
    ReceiptSettings, Section, ServerSettings, SinkPins,
};
use crate::core::delivery::{Backing, GuardRules};
use crate::core::finding::Finding;
use crate::core::log::Start;
use crate::core::sink::Class;
use crate::core::source::Source;
use crate::http::door::Door;
use crate::http::tls::Material;
use crate::routes::{ALARMS, Gap, HEARTBEAT, Table};
use crate::sinks::{Built, Catalogue, Entry};
use crate::sources::Kind as SourceKind;

/// The tables of a configuration, and its only value outside a table.
const SECTIONS: [&str; 13] = [
    ALLOW_UNROUTED,
    "server",
    "log",
    "journal",
    "sources",
    "routes",
    "unmatched",
    "sinks",
    "dead_letters",
    "quarantine",
    "receipts",
    ALARMS,
    HEARTBEAT,
];

/// Top-level key: critical events may go nowhere, and there may be no sink.
const ALLOW_UNROUTED: &str = "allow_unrouted";

/// Everything that `run` needs.
pub struct Plan {
    /// `[server]`
    pub server: ServerSettings,
    /// `[server.tls]`, read from its files.
    pub tls: Option<Arc<Material>>,
    /// `[server.admin_tls]`, read from its files.
    pub admin_tls: Option<Arc<Material>>,
    /// `[log]`
    pub log: LogSettings,
    /// `[journal]`
    pub journal: JournalSettings,
    /// `[dead_letters]`
    pub dead_letters: QuarantineSettings,
    /// `[quarantine]`
    pub quarantine: QuarantineSettings,
    /// `[receipts]`
    pub receipts: ReceiptSettings,
    /// `[alarms]` and `[heartbeat]`
    pub own: Own,
    /// `[sources.*]`
    pub sources: Vec<SourcePlan>,
    /// `[routes.*]` and `[unmatched]`
    pub table: Arc<Table>,
    /// `[sinks.*]`
    pub sinks: Vec<SinkPlan>,
    /// What is allowed but probably not meant.
    pub warnings: Problems,
    /// Sorts of events that do not all reach a sink.
    pub coverage: Vec<Gap>,
    /// Fingerprint of the effective values.
    pub hash: String,
}

/// One source, built.
pub struct SourcePlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: &'static SourceKind,
    /// Its door.
    pub door: Arc<Door>,
    decoder: Arc<dyn Source>,
}

/// One sink, built.
pub struct SinkPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: Entry,
    /// The sink and what the destination takes.
    pub built: Built,
    /// `[sinks.NAME.delivery]`
    pub delivery: DeliverySettings,
    /// `[sinks.NAME.guard]`, where people read.
    pub guard: Option<GuardRules>,
    /// The sinks that it stands in for.
    pub backing: Vec<Backing>,
    /// Certificates that were accepted by hand, and what its destination last showed.
    pub pins: Arc<SinkPins>,
    /// Where it begins when it has no cursor.
    pub start: Start,
    /// Changes when its section, a secret or a file it names, or a pin changes.
    pub fingerprint: [u8; 32],
}

impl SourcePlan {
    /// What the source reads from `body`.
    pub fn decode(&self, body: &[u8]) -> Finding {
        self.decoder.decode(body)
    }

    /// The keys of `body` that it makes nothing of.
    pub fn unread(&self, body: &[u8]) -> Vec<String> {
        self.decoder.unread(body)
    }
}

impl SinkPlan {
    /// Whether the sink keeps copies rather than telling anybody.
    pub fn is_archive(&self) -> bool {
        self.kind.class() == Class::Archive
    }
}

impl Plan {
    /// Where the admin's Unix socket is, if there is one.
    pub fn admin_socket(&self) -> Option<PathBuf> {
        whereabouts::admin_socket(&self.server, &self.log)
    }

    /// Read the configuration folder `dir` and the environment.
    pub fn read(dir: &Path) -> Result<Self, Problems> {
        Self::of_layers(&Layers::read(dir)?, &Catalogue::of(dir)?)
    }

    /// What `layers` say, with the kinds of sinks in `catalogue`.
    pub(super) fn of_layers(layers: &Layers, catalogue: &Catalogue) -> Result<Self, Problems> {
        let mut plan = Self::of(layers, catalogue).map_err(|problems| placed(problems, layers))?;
        plan.warnings = placed(std::mem::take(&mut plan.warnings), layers);
        Ok(plan)
    }

    fn of(layers: &Layers, catalogue: &Catalogue) -> Result<Self, Problems> {
        let mut root = layers.root();
        let mut reading = Reading { problems: unknown_sections(&root) };
        let allow_unrouted = reading.flag(&mut root, ALLOW_UNROUTED);
        let server: Option<ServerSettings> = reading.section(&mut root, "server");
        let log: Option<LogSettings> = reading.section(&mut root, "log");
        let journal = reading.section(&mut root, "journal");
        let dead_letters = reading.section(&mut root, "dead_letters");
        let quarantine = reading.section(&mut root, "quarantine");
        let receipts: Option<ReceiptSettings> = reading.section(&mut root, "receipts");
        let sources = sources_of(&mut reading, &mut root);
        let (pins, unusable) = pins_of(log.as_ref());
        let mut sinks = sinks_of(&mut reading, &mut root, &pins, catalogue);
        reading.problems.extend(backed(&mut sinks));
        let (alarms, beats) =
            (reading.table(&mut root, ALARMS), reading.table(&mut root, HEARTBEAT));
        let own = reading.keep(own(&alarms, &beats, &names(&sinks)));
        let internal = own.as_ref().map(|own| own.internal.clone()).unwrap_or_default();
        let table = table_of(&mut reading, &mut root, &sources, &sinks);
        let stand_ins: Vec<Arc<str>> = stand_ins(&sinks);
        let table = table.map(|table| table.with_internal(internal).without_unused(&stand_ins));
        let coverage = table.as_ref().map(Table::coverage).unwrap_or_default();
        let (mut tls, mut admin_tls) = (None, None);
        if let Some(server) = &server {
            reading.problems.extend(listener_problems(server));
            reading.problems.extend(without_certificates(server, &sources));
            let files = server.tls.as_ref().map(Material::of_webhooks);
            tls = files.and_then(|read| reading.keep(read)).map(Arc::new);
            let files = server.admin_tls.as_ref().map(Material::of_admin);
            admin_tls = files.and_then(|read| reading.keep(read)).map(Arc::new);
            reading.problems.extend(circles(server, &sinks));
        }
        // Only of a table that is whole: a mistyped route is not also a missing one.
        if !allow_unrouted && reading.problems.is_empty() {
            reading.problems.extend(unrouted(&names(&sinks), &coverage));
        }
        match (server, log, journal, dead_letters, quarantine, receipts, own, table) {
            (
                Some(server),
                Some(log),
                Some(journal),
                Some(dead_letters),
                Some(quarantine),
                Some(receipts),
                Some(own),
                Some(table),
            ) if reading.problems.is_empty() => {
                let (sources, sinks) = (built(sources), built(sinks));
                let mut warnings = table.warnings();
                warnings.extend(own.warnings(&log));
                warnings.extend(layers.warnings());
                warnings.extend(unusable);
                let pinned = sinks.iter().flat_map(|sink: &SinkPlan| sink.pins.pins());
                warnings.extend(pinned.map(Pin::warning));
                let shown = [&tls, &admin_tls].into_iter().flatten();
                warnings.extend(shown.filter_map(|tls| tls.warning(Timestamp::now())));
                warnings.extend(open_token(&server));
                let hash = layers.hash();
                let table = Arc::new(table);
                Ok(Self {
                    server,
                    tls,
                    admin_tls,
                    log,
                    journal,
                    dead_letters,
                    quarantine,
                    receipts,
                    own,
                    sources,
                    table,
                    sinks,
                    warnings,
                    coverage,
                    hash,
                })
            }
            _ => Err(reading.problems),
        }
    }
}

/// The sinks that get others' events, if none of their own.
fn stand_ins(sinks: &[(Arc<str>, Option<SinkPlan>)]) -> Vec<Arc<str>> {
    let plans = sinks.iter().filter_map(|(_, plan)| plan.as_ref());
    plans.filter(|plan| !plan.backing.is_empty()).map(|plan| plan.name.clone()).collect()
}

fn unknown_sections(root: &Section) -> Problems {
    let unknown = root.table.keys().filter(|name| !SECTIONS.contains(&name.as_str()));
    unknown.map(|name| Section::unknown_name(name, "section", name, SECTIONS.into_iter())).collect()
}
