//! A plan: the whole configuration, read, checked and built, before anything is started.
//!
//! Guarantees: either a complete plan or every problem found, each with its file and line; making
//! a plan opens no socket and writes nothing. It is what `check` shows and what `run` starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::alarms::{Own, own};
use crate::core::Timestamp;
use crate::core::alarms::INTERNAL;
use crate::core::config::{
    DeliverySettings, GuardSettings, JournalSettings, Layers, LogSettings, OneOrMany, Pin, Pins,
    Place, Problem, Problems, QuarantineSettings, Section, ServerSettings, SinkPins, SourceDoor,
    StartSetting,
};
use crate::core::delivery::GuardRules;
use crate::core::finding::Finding;
use crate::core::log::Start;
use crate::core::sink::Class;
use crate::core::source::{Decoders, Source};
use crate::formats::FORMATS;
use crate::http::door::Door;
use crate::http::tls::Material;
use crate::routes::{ALARMS, Gap, HEARTBEAT, Table, UNMATCHED};
use crate::sinks::{self, Catalogue, Entry};
use crate::sources;

/// The tables of a configuration, and its only value outside a table.
const SECTIONS: [&str; 12] = [
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
    pub kind: &'static sources::Kind,
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
    pub built: sinks::Built,
    /// `[sinks.NAME.delivery]`
    pub delivery: DeliverySettings,
    /// `[sinks.NAME.guard]`, where people read.
    pub guard: Option<GuardRules>,
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

/// Collects problems while reading goes on.
struct Reading {
    problems: Problems,
}

impl Reading {
    fn keep<T>(&mut self, read: Result<T, Problems>) -> Option<T> {
        read.map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn section<T: DeserializeOwned + JsonSchema>(
        &mut self,
        root: &mut Section,
        name: &str,
    ) -> Option<T> {
        let section = self.table(root, name);
        self.keep(section.read())
    }

    /// The top-level truth value `name`, false when it is absent.
    fn flag(&mut self, root: &mut Section, name: &str) -> bool {
        let value = root.table.remove(name);
        if !matches!(value, None | Some(Value::Bool(_))) {
            self.problems.push(
                Problem::new(name, "must be true or false")
                    .help(format!("write {name} = true above the first [section] of a file")),
            );
        }
        value == Some(Value::Bool(true))
    }

    /// The table `name`, empty when it is absent (or wrong, which is reported).
    fn table(&mut self, root: &mut Section, name: &str) -> Section {
        self.keep(root.take(name)).unwrap_or_else(|| Section::new(name, serde_json::Map::new()))
    }

    /// The named tables of `[sinks]` and the like.
    fn named(&mut self, tables: Section) -> Vec<(Arc<str>, Section)> {
        let mut found = Vec::new();
        for (name, value) in tables.table {
            let key = format!("{}.{name}", tables.key);
            match value {
                Value::Object(_) if !is_name(&name) => self.problems.push(
                    Problem::new(key, format!("`{name}` cannot be a name"))
                        .help("use lower-case letters, digits, `-` and `_`"),
                ),
                Value::Object(table) => found.push((name.into(), Section::new(key, table))),
                _ => self.problems.push(Problem::no_table(key)),
            }
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    !name.is_empty() && name.len() <= 64 && name.chars().all(allowed)
}

impl Plan {
    /// Where the admin's Unix socket is, if there is one.
    pub fn admin_socket(&self) -> Option<PathBuf> {
        match &self.server.admin_socket {
            Some(path) if path.as_os_str().is_empty() => None,
            Some(path) => Some(path.clone()),
            None => Some(self.log.dir.with_file_name("admin.sock")),
        }
    }

    /// Read the configuration folder `dir` and the environment.
    pub fn read(dir: &Path) -> Result<Self, Problems> {
        let layers = Layers::read(dir)?;
        let catalogue = Catalogue::of(dir)?;
        let mut plan =
            Self::of(&layers, &catalogue).map_err(|problems| placed(problems, &layers))?;
        plan.warnings = placed(std::mem::take(&mut plan.warnings), &layers);
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
        let sources = sources_of(&mut reading, &mut root);
        let (pins, unusable) = pins_of(log.as_ref());
        let sinks = sinks_of(&mut reading, &mut root, &pins, catalogue);
        let (alarms, beats) =
            (reading.table(&mut root, ALARMS), reading.table(&mut root, HEARTBEAT));
        let own = reading.keep(own(&alarms, &beats, &names(&sinks)));
        let internal = own.as_ref().map(|own| own.internal.clone()).unwrap_or_default();
        let table = table_of(&mut reading, &mut root, &sources, &sinks);
        let table = table.map(|table| table.with_internal(internal));
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
        match (server, log, journal, dead_letters, quarantine, own, table) {
            (
                Some(server),
                Some(log),
                Some(journal),
                Some(dead_letters),
                Some(quarantine),
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

/// Names with what was built for them; `None` where that failed, so that routes may still name it.
type Named<T> = Vec<(Arc<str>, Option<T>)>;

fn built<T>(named: Named<T>) -> Vec<T> {
    named.into_iter().filter_map(|(_, built)| built).collect()
}

fn names<T>(named: &Named<T>) -> Vec<Arc<str>> {
    named.iter().map(|(name, _)| name.clone()).collect()
}

fn unknown_sections(root: &Section) -> Problems {
    let unknown = root.table.keys().filter(|name| !SECTIONS.contains(&name.as_str()));
    unknown.map(|name| Section::unknown_name(name, "section", name, SECTIONS.into_iter())).collect()
}

/// What would let critical events go nowhere. Nobody means that, and nobody would notice.
fn unrouted(sinks: &[Arc<str>], coverage: &[Gap]) -> Option<Problem> {
    if sinks.is_empty() {
        let help = "add one (`siemgate sinks` lists the kinds), such as [sinks.archive] with type = \"file\"; or write allow_unrouted = true above the first [section] of a file";
        return Some(
            Problem::new("sinks", "there is no sink: every event would go nowhere").help(help),
        );
    }
    let lost: Vec<String> = coverage
        .iter()
        .filter(|gap| gap.loses_critical())
        .map(|gap| format!("\n      {gap}"))
        .collect();
    (!lost.is_empty()).then(|| {
        Problem::new("routes", format!("critical events would go nowhere:{}", lost.concat()))
            .help("add a route that takes them, or [unmatched] with sinks = [\"NAME\"]; if it is meant, write allow_unrouted = true above the first [section] of a file")
    })
}

fn listener_problems(server: &ServerSettings) -> Problems {
    let mut problems = Problems::new();
    let own = |listen: &OneOrMany<SocketAddr>| listen.as_slice().to_vec();
    let tls = server.tls.as_ref().and_then(|tls| tls.listen.as_ref()).map(own);
    let lists = [("server.listen", Some(own(&server.listen))), ("server.tls.listen", tls)];
    if server.plain().is_empty() && server.secure().is_empty() {
        problems.push(Problem::new("server.listen", "there is no address to listen on"));
    }
    let mut known = Vec::new();
    for (key, list) in lists {
        for (index, address) in list.into_iter().flatten().enumerate() {
            if address.port() != 0 && known.contains(&address) {
                let key = format!("{key}[{index}]");
                let told = Problem::new(key, format!("{address} is named twice"));
                problems.push(told.help("remove one"));
            }
            known.push(address);
        }
    }
    for (key, address) in [("server.admin", Some(server.admin)), ("server.metrics", server.metrics)]
    {
        let Some(address) = address else { continue };
        if address.port() != 0 && known.contains(&address) {
            let other = match address == server.admin && key == "server.metrics" {
                true => "is also server.admin, which has the metrics anyway",
                false => "is also an address for webhooks",
            };
            problems.push(Problem::new(key, other).help("give it a port of its own"));
        }
        known.push(address);
    }
    problems
}

/// A token that everybody on the network could read.
fn open_token(server: &ServerSettings) -> Option<Problem> {
    let exposed = !server.admin.ip().is_loopback() && server.admin_tls.is_none();
    (exposed && server.admin_token.is_some()).then(|| {
        Problem::new("server.admin", "the token crosses the network unencrypted")
            .help("set [server.admin_tls], or leave `admin` on 127.0.0.1 and show the network `metrics` only")
    })
}

/// Sources that want client certificates, which no listener asks for.
fn without_certificates(server: &ServerSettings, sources: &Named<SourcePlan>) -> Problems {
    if server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some()) {
        return Problems::new();
    }
    let plans = sources.iter().filter_map(|(_, plan)| plan.as_ref());
    let wants = plans.filter(|plan| plan.door.ways.want_certificates());
    let told = |plan: &SourcePlan| {
        let key = format!("sources.{}.auth", plan.name);
        Problem::new(key, "wants client certificates, and no listener asks for them")
            .help("set client_ca_file in [server.tls]")
    };
    wants.map(told).collect()
}

/// Sinks that lead back to one of our own listeners.
fn circles(server: &ServerSettings, sinks: &Named<SinkPlan>) -> Problems {
    let tls = server.tls.iter().filter_map(|tls| tls.listen.as_ref()).flat_map(OneOrMany::as_slice);
    let webhooks = server.listen.as_slice().iter().chain(tls);
    let listeners: Vec<SocketAddr> =
        webhooks.chain([&server.admin]).chain(&server.metrics).copied().collect();
    let mut problems = Problems::new();
    for (name, plan) in sinks {
        let places = plan.iter().flat_map(|plan| plan.built.sink.reaches());
        let own = |(host, port): (String, u16)| {
            listeners.iter().find(|own| own.port() == port && is_at(own.ip(), &host))
        };
        if let Some(own) = places.filter_map(own).next() {
            let message = format!(
                "leads to this gateway's own listener {own}: events would go round in circles"
            );
            problems.push(
                Problem::new(format!("sinks.{name}.url"), message)
                    .help("put the destination's address there"),
            );
        }
    }
    problems
}

/// Whether `host` is certainly a way to a listener at `own`.
fn is_at(own: IpAddr, host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip == own || (own.is_unspecified() && (ip.is_loopback() || ip.is_unspecified())),
        Err(_) => host == "localhost" && (own.is_loopback() || own.is_unspecified()),
    }
}

fn sources_of(reading: &mut Reading, root: &mut Section) -> Named<SourcePlan> {
    let before = reading.problems.len();
    let tables = reading.table(root, "sources");
    let tables = reading.named(tables);
    if tables.is_empty() && reading.problems.len() == before {
        reading.problems.push(
            Problem::new("sources", "there is no source")
                .help("add [sources.superna] with type = \"superna\""),
        );
    }
    let mut paths = BTreeMap::new();
    let mut found = Vec::new();
    for (name, section) in tables {
        if *name == *INTERNAL {
            let message = format!("`{name}` cannot be the name of a source");
            let help = "alarms and heartbeats of the gateway itself have it; take another";
            reading.problems.push(Problem::new(section.key, message).help(help));
            continue;
        }
        let source = source_of(name.clone(), section);
        let source = reading.keep(source);
        if let Some((_, Some(path))) = &source
            && let Some(other) = paths.insert(path.clone(), name.clone())
        {
            let message = format!("{path} is already the path of source {other}");
            reading.problems.push(Problem::new(format!("sources.{name}.path"), message));
        }
        found.push((name, source.map(|(plan, _)| plan)));
    }
    found
}

fn source_of(
    name: Arc<str>,
    mut section: Section,
) -> Result<(SourcePlan, Option<String>), Problems> {
    let key = section.key.clone();
    let kind = section.take_text("type").map_err(|problem| {
        vec![problem.help(format!(
            "write type = \"{}\" (or another of: {})",
            sources::KINDS[0].name,
            kinds(sources::KINDS.iter().map(|k| k.name))
        ))]
    })?;
    let kind = sources::kind(&kind).ok_or_else(|| {
        let known = sources::KINDS.iter().map(|kind| kind.name);
        vec![Section::unknown_name(format!("{key}.type"), "type of source", &kind, known)]
    })?;
    let (door, own) = section.split::<SourceDoor>();
    let (door, source) = (door.read::<SourceDoor>(), (kind.build)(&own));
    let (door, decoder) = both(door, source)?;
    if let Some(path) = door.path.as_ref().filter(|path| !path.starts_with('/') || path.len() < 2) {
        return Err(vec![Problem::new(
            format!("{key}.path"),
            format!("`{path}` must begin with `/` and name something"),
        )]);
    }
    if door.expect_every.is_some_and(|every| every.0.is_zero()) {
        return Err(vec![
            Problem::new(format!("{key}.expect_every"), "must be longer than 0s")
                .help("leave it out if nothing is known of how often the source sends"),
        ]);
    }
    let path = door.path.clone();
    let door = Arc::new(Door::new(&key, name.clone(), door, kind.dedupe)?);
    Ok((SourcePlan { name, kind, door, decoder }, path))
}

/// What was pinned by hand. A record that cannot be used is no reason to stop: nothing is pinned.
fn pins_of(log: Option<&LogSettings>) -> (Pins, Option<Problem>) {
    match log.map(Pins::read) {
        Some(Ok(pins)) => (pins, None),
        Some(Err(problem)) => (Pins::none(), Some(problem)),
        None => (Pins::none(), None),
    }
}

fn sinks_of(
    reading: &mut Reading,
    root: &mut Section,
    pins: &Pins,
    catalogue: &Catalogue,
) -> Named<SinkPlan> {
    let tables = reading.table(root, "sinks");
    let tables = reading.named(tables);
    let now = Timestamp::now();
    let built = tables.into_iter().map(|(name, section)| {
        let section = section.pinned(SinkPins::new(pins.of(&name, now)));
        (name.clone(), reading.keep(sink_of(name, section, catalogue)))
    });
    built.collect()
}

fn sink_of(
    name: Arc<str>,
    mut section: Section,
    catalogue: &Catalogue,
) -> Result<SinkPlan, Problems> {
    let (fingerprint, pins) = (section.fingerprint(), section.pins().clone());
    let key = section.key.clone();
    let kind = section.take_text("type").map_err(|problem| {
        vec![problem.help("write type = \"…\"; `siemgate sinks` lists the kinds")]
    })?;
    let kind = catalogue.get(&kind)?.ok_or_else(|| {
        let problem =
            Section::unknown_name(format!("{key}.type"), "type of sink", &kind, catalogue.names());
        match problem.help.starts_with("known") {
            true => vec![problem.help("`siemgate sinks` lists the kinds")],
            false => vec![problem],
        }
    })?;
    let delivery = section.take("delivery").and_then(|section| section.read::<DeliverySettings>());
    let guard = guard_of(&mut section, &kind);
    let start = start_of(&mut section);
    let guards = is_read(kind.class()).then_some("guard");
    let section = section.beside(["type", "delivery", "start"].into_iter().chain(guards));
    let built = kind.build(&section).map_err(|problems| meant_for_delivery(&key, problems));
    let (((mut delivery, guard), start), built) = both(both(both(delivery, guard), start), built)?;
    delivery.rate = delivery.rate.or(built.rate);
    let fingerprint = mixed(fingerprint, kind.fingerprint());
    Ok(SinkPlan { name, kind, built, delivery, guard, pins, start, fingerprint })
}

/// Whether people read what sinks of this class deliver.
fn is_read(class: Class) -> bool {
    matches!(class, Class::People | Class::Incident)
}

/// `[sinks.NAME.guard]`: only where people read.
fn guard_of(section: &mut Section, kind: &Entry) -> Result<Option<GuardRules>, Problems> {
    let asked = section.table.contains_key("guard");
    let guard = section.take("guard")?;
    let key = guard.key.clone();
    let rules = GuardRules::of(kind.class(), &guard.read::<GuardSettings>()?);
    if rules.is_none() && asked {
        let message = format!("a sink of type {} has no guard: it gets every event", kind.name());
        let help = "remove this table; guards are for sinks that write to people or open tickets";
        return Err(vec![Problem::new(key, message).help(help)]);
    }
    Ok(rules)
}

/// Changes when either changes.
fn mixed(mut section: [u8; 32], kind: [u8; 32]) -> [u8; 32] {
    section.iter_mut().zip(kind).for_each(|(byte, other)| *byte ^= other);
    section
}

/// A key of `[sinks.NAME.delivery]` that stands one table too high is told where it belongs.
fn meant_for_delivery(section: &str, mut problems: Problems) -> Problems {
    let schema = schemars::schema_for!(DeliverySettings).to_value();
    for problem in problems.iter_mut().filter(|p| p.message.starts_with("unknown key")) {
        let name = problem.key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
        if name.is_some_and(|name| schema["properties"][name].is_object()) {
            problem.help = format!("it belongs below [{section}.delivery]");
        }
    }
    problems
}

/// `start = "now" | "24h" | "oldest"`; now unless set.
fn start_of(section: &mut Section) -> Result<Start, Problems> {
    let key = format!("{}.start", section.key);
    match section.table.remove("start") {
        None => Ok(Start::Now),
        Some(value) => {
            serde_json::from_value::<StartSetting>(value).map(|start| start.0).map_err(|error| {
                vec![
                    Problem::new(key, error.to_string())
                        .help("write \"now\", \"oldest\" or a time back such as \"24h\""),
                ]
            })
        }
    }
}

fn table_of(
    reading: &mut Reading,
    root: &mut Section,
    sources: &Named<SourcePlan>,
    sinks: &Named<SinkPlan>,
) -> Option<Table> {
    let routes = reading.table(root, "routes");
    let unmatched = reading.table(root, "unmatched");
    let mut decoders: BTreeMap<_, _> = sources
        .iter()
        .filter_map(|(name, plan)| Some((name.clone(), plan.as_ref()?.decoder.clone())))
        .collect();
    decoders.insert(INTERNAL.into(), sources::internal());
    let decoders = Decoders::new(decoders);
    let (sources, names) = (names(sources), names(sinks));
    let table = Table::build(&routes, &unmatched, &sources, &names, &FORMATS, decoders);
    let table = reading.keep(table)?;
    reading.problems.extend(formless(&table, sinks));
    Some(table)
}

/// Formats for sinks whose destination knows one form only.
fn formless(table: &Table, sinks: &Named<SinkPlan>) -> Problems {
    let mut problems = Problems::new();
    for (route, format, names) in table.formats() {
        let plans = sinks.iter().filter(|(name, _)| names.contains(name));
        let fixed = plans.filter_map(|(name, plan)| Some((name, &plan.as_ref()?.kind)));
        for (name, kind) in fixed {
            let Some(forms) = kind.forms() else { continue };
            if forms.contains(&format.name) {
                continue;
            }
            let section = if &**route == UNMATCHED {
                UNMATCHED.to_owned()
            } else {
                format!("routes.{route}")
            };
            let known = if forms.is_empty() { "one form".to_owned() } else { forms.join(", ") };
            let what = format!(
                "sink `{name}` cannot write {}: {} knows {known} only",
                format.name,
                kind.name()
            );
            problems.push(
                Problem::new(format!("{section}.format"), what)
                    .help("give that sink a route of its own without `format`"),
            );
        }
    }
    problems
}

fn kinds<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Both values, or the problems of both.
fn both<A, B>(a: Result<A, Problems>, b: Result<B, Problems>) -> Result<(A, B), Problems> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(mut a), Err(b)) => {
            a.extend(b);
            Err(a)
        }
        (Err(problems), _) | (_, Err(problems)) => Err(problems),
    }
}

fn placed(problems: Problems, layers: &Layers) -> Problems {
    let place = |problem: Problem| {
        let place = layers.place_of(&problem);
        let is_variable = matches!(place, Some(Place::Variable(_)));
        let meant = SECTIONS.iter().find(|name| problem.key.starts_with(&format!("{name}_")));
        match meant.filter(|_| is_variable) {
            Some(name) => {
                let key = problem.key[name.len()..].replacen('_', "__", 1);
                let meant = format!("SIEMGATE_{name}{key}").to_ascii_uppercase();
                problem.at(place).help(format!("two underscores stand between names: {meant}"))
            }
            None => problem.at(place),
        }
    };
    let mut problems: Problems = problems.into_iter().map(place).collect();
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    problems
}

impl SinkPlan {
    /// Whether the sink keeps copies rather than telling anybody.
    pub fn is_archive(&self) -> bool {
        self.kind.class() == Class::Archive
    }
}
