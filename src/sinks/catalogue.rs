//! The catalogue: every kind of sink there is, written in Rust, shipped as a preset, or added by the
//! user in `presets` of the configuration folder.
//!
//! Guarantees: one name means one kind; a user's preset cannot take a name that is shipped; a shipped
//! preset is read only when it is asked for. Parsing, `siemgate sinks`, the schema, the reference and
//! the conformance suite ask it, so what is in it has all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use schemars::Schema;

use super::carried::Carried;
use super::preset::Preset;
use super::proofs;
use super::{Built, KINDS, Kind, Proof};
use crate::core::config::{Problem, Problems, Section, is_layer, read_file};
use crate::core::sink::{Class, Idempotency};

/// The shipped presets: names and texts.
pub(super) const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/presets.rs"));

/// Where a user's presets are, in the configuration folder.
pub const FOLDER: &str = "presets";

/// One kind of sink.
#[derive(Clone)]
pub enum Entry {
    /// Written in Rust.
    Kind(&'static Kind),
    /// A preset that speaks HTTP.
    Preset(Arc<Preset>),
    /// A preset that a kind with a socket carries.
    Carried(Arc<Carried>),
}

/// See the module.
#[derive(Clone, Default)]
pub struct Catalogue {
    own: BTreeMap<String, Entry>,
}

impl Catalogue {
    /// With the presets of the configuration folder `dir`.
    pub fn of(dir: &Path) -> Result<Self, Problems> {
        let (mut catalogue, mut problems) = (Self::default(), Problems::new());
        let entries = std::fs::read_dir(dir.join(FOLDER)).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
        files.retain(|file| file.file_name().is_some_and(|name| is_layer(&name.to_string_lossy())));
        files.sort();
        for file in files {
            match read_file(&file).map_err(|problem| vec![problem]) {
                Ok(text) => match Entry::read(&file, &text) {
                    Ok(preset) => problems.extend(catalogue.add(&file, preset)),
                    Err(found) => problems.extend(found),
                },
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(catalogue) } else { Err(problems) }
    }

    fn add(&mut self, file: &Path, preset: Entry) -> Option<Problem> {
        let name = preset.name().to_owned();
        let taken = is_shipped(&name) || self.own.contains_key(&name);
        if taken {
            let message = format!("{}: there is a kind of sink `{name}` already", file.display());
            return Some(Problem::new("", message).help("give the preset another name"));
        }
        self.own.insert(name, preset);
        None
    }

    /// The kind called `name`.
    pub fn get(&self, name: &str) -> Result<Option<Entry>, Problems> {
        if let Some(kind) = KINDS.iter().find(|kind| kind.name == name) {
            return Ok(Some(Entry::Kind(kind)));
        }
        if let Some(preset) = self.own.get(name) {
            return Ok(Some(preset.clone()));
        }
        match SHIPPED.iter().find(|(known, _)| *known == name) {
            Some((name, text)) => shipped(name, text).map(Some),
            None => Ok(None),
        }
    }

    /// All names: those written in Rust, the shipped presets, the user's.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        let shipped = SHIPPED.iter().map(|(name, _)| *name);
        KINDS.iter().map(|kind| kind.name).chain(shipped).chain(self.own.keys().map(String::as_str))
    }

    /// All of them, in the order of [`Catalogue::names`].
    pub fn all(&self) -> Result<Vec<Entry>, Problems> {
        let entries = self.names().map(|name| self.get(name));
        Ok(entries.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

/// A sample with what stands behind `# documents: ` in place of its line: tests have no server of the
/// product at their end, and what they need instead is no example.
fn documented(sample: &str) -> String {
    let lines =
        sample.lines().map(|text| text.split_once("# documents: ").map_or(text, |(_, text)| text));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn is_shipped(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name) || SHIPPED.iter().any(|(known, _)| *known == name)
}

fn shipped(name: &str, text: &str) -> Result<Entry, Problems> {
    Entry::read(Path::new(&format!("the shipped preset {name}")), text)
}

impl Entry {
    /// Read the text of a preset's file; `place` names it in problems.
    fn read(place: &Path, text: &str) -> Result<Self, Problems> {
        match Carried::is_meant(text) {
            true => Carried::read(place, text).map(|it| Self::Carried(Arc::new(it))),
            false => Preset::read(place, text).map(|it| Self::Preset(Arc::new(it))),
        }
    }

    /// The `type` in `[sinks.NAME]`.
    pub fn name(&self) -> &str {
        match self {
            Self::Kind(kind) => kind.name,
            Self::Preset(preset) => preset.name(),
            Self::Carried(carried) => carried.name(),
        }
    }

    /// One line for lists.
    pub fn about(&self) -> &str {
        match self {
            Self::Kind(kind) => kind.about,
            Self::Preset(preset) => preset.about(),
            Self::Carried(carried) => carried.about(),
        }
    }

    /// What it is for.
    pub fn class(&self) -> Class {
        match self {
            Self::Kind(kind) => kind.class,
            Self::Preset(preset) => preset.class(),
            Self::Carried(carried) => carried.class(),
        }
    }

    /// Whether a repeated delivery is recognised by the destination.
    pub fn idempotency(&self) -> Idempotency {
        match self {
            Self::Kind(kind) => kind.idempotency,
            Self::Preset(preset) => preset.idempotency(),
            Self::Carried(carried) => carried.kind().idempotency,
        }
    }

    /// The only formats that it writes, none where its destination knows one form only; else all.
    pub fn forms(&self) -> Option<Vec<&'static str>> {
        match self {
            Self::Kind(kind) => (!kind.formats).then(Vec::new),
            Self::Preset(preset) => preset.forms(),
            Self::Carried(carried) => (!carried.kind().formats).then(Vec::new),
        }
    }

    /// The kind that carries it, for a product that is reached over a socket.
    pub fn carrier(&self) -> Option<&'static Kind> {
        match self {
            Self::Carried(carried) => Some(carried.kind()),
            Self::Kind(_) | Self::Preset(_) => None,
        }
    }

    /// What its wire facts rest on.
    pub fn proof(&self) -> Proof {
        let of = |is_unverified| match is_unverified {
            true => Proof::UnverifiedFacts,
            false => Proof::Documented,
        };
        match self {
            Self::Kind(kind) => kind.proof,
            Self::Preset(preset) => of(preset.is_unverified()),
            Self::Carried(carried) => of(carried.is_unverified()),
        }
    }

    /// The real servers that tests have delivered to with it.
    pub fn tried(&self) -> Vec<String> {
        proofs::of(self.name())
    }

    /// What a delivery proves, what it does not, and where the product then shows the event.
    pub fn proves(&self) -> &str {
        match self {
            Self::Kind(kind) => kind.proves,
            Self::Preset(preset) => preset.proves(),
            Self::Carried(carried) => carried.proves(),
        }
    }

    /// What to do in the product first.
    pub fn setup(&self) -> &str {
        match self {
            Self::Kind(_) => "",
            Self::Preset(preset) => preset.setup(),
            Self::Carried(carried) => carried.setup(),
        }
    }

    /// The page it was built from.
    pub fn docs(&self) -> &str {
        match self {
            Self::Kind(_) => "",
            Self::Preset(preset) => preset.docs(),
            Self::Carried(carried) => carried.docs(),
        }
    }

    /// A complete section, as TOML; `{{peer}}` stands for a base URL and `{{dir}}` for a folder.
    pub fn sample(&self) -> Cow<'static, str> {
        match self {
            Self::Kind(kind) => kind.sample.into(),
            Self::Preset(preset) => preset.sample().into(),
            Self::Carried(carried) => carried.sample().into(),
        }
    }

    /// A complete section for documents; `{{dir}}` stands for a folder.
    pub fn example(&self) -> String {
        match self {
            Self::Kind(kind) => {
                let sample = documented(kind.sample).replace("{{peer}}", "https://siem.example");
                sample.replace("{{host}}", "siem.example:514")
            }
            Self::Preset(preset) => preset.example(),
            Self::Carried(carried) => carried.example(),
        }
    }

    /// The sample with a destination's base URL and a folder in place of its placeholders.
    pub fn sample_with(&self, peer: &str, dir: &str) -> String {
        let host = peer.split_once("://").map_or(peer, |(_, host)| host);
        let port = if host.contains(':') { "" } else { ":514" };
        let sample = self.sample().replace("{{host}}", &format!("{host}{port}"));
        sample.replace("{{peer}}", peer).replace("{{dir}}", dir)
    }

    /// Its settings, without the keys that all sinks share.
    pub fn schema(&self) -> Schema {
        match self {
            Self::Kind(kind) => (kind.schema)(),
            Self::Preset(preset) => preset.schema(),
            Self::Carried(carried) => carried.schema(),
        }
    }

    /// Build from its settings. Pure but for reading files that the settings name.
    pub fn build(&self, section: &Section) -> Result<Built, Problems> {
        match self {
            Self::Kind(kind) => (kind.build)(section),
            Self::Preset(preset) => preset.build(section),
            Self::Carried(carried) => carried.build(section),
        }
    }

    /// What the destination answers to a good request of at most a thousand events.
    pub fn success(&self) -> (u16, String) {
        match self {
            Self::Kind(kind) => (kind.success.0, kind.success.1.to_owned()),
            Self::Preset(preset) => preset.success(),
            // A socket answers nothing.
            Self::Carried(_) => (0, String::new()),
        }
    }

    /// Changes when what is built from the same section would change.
    pub fn fingerprint(&self) -> [u8; 32] {
        match self {
            Self::Kind(_) => [0; 32],
            Self::Preset(preset) => preset.fingerprint(),
            Self::Carried(carried) => carried.fingerprint(),
        }
    }
}
