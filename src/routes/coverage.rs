//! Coverage: which sorts of events reach no sink, or reach one only sometimes.
//!
//! Guarantees: every severity, state and category that a source is known to send, every one that a
//! route names, another one where anything may come, and unknown and missing ones are run through
//! the table as it is; what is left is told in as few lines as read well. It does not know which
//! users, clusters, shares or addresses exist, so a route that asks for them counts as taking some
//! events and not all. Drills are left out: nobody is hurt when one goes nowhere.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::keys::Doubt;
use super::{Route, Table};
use crate::core::finding::{Finding, Severity, State};
use crate::core::source::Words;

/// A word that no product sends and no pattern but `*` matches: stands for all others.
const OTHER: &str = "(any other)";

/// All severities, worst first: that is what people look for.
const SEVERITIES: [Severity; 6] = [
    Severity::Critical,
    Severity::High,
    Severity::Medium,
    Severity::Low,
    Severity::Info,
    Severity::Unknown,
];

/// How many events of one sort reach a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// None at all.
    No,
    /// Only those whose user, cluster, share or address a route asks for.
    Named,
    /// Those that a route's `when` does not turn away, which cannot be told without an event.
    Asked,
    /// All but those that a route's `except` leaves out.
    Excepted,
    /// All.
    All,
}

/// Sorts of events that do not all reach a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many do.
    pub reach: Reach,
    severities: Vec<Severity>,
    sources: Vec<String>,
    /// `any state`, `state warning or missing`, and the same for categories.
    states: String,
    categories: Option<String>,
    /// It is so for every source.
    everywhere: bool,
    /// These are not events of a source, but alarms about this sink.
    alarms_about: Option<Arc<str>>,
}

impl Gap {
    /// Alarms about the only sink that gets alarms.
    pub(super) fn of_alarms(only: &Arc<str>) -> Self {
        Self {
            reach: Reach::No,
            severities: Vec::new(),
            sources: Vec::new(),
            states: String::new(),
            categories: None,
            everywhere: true,
            alarms_about: Some(only.clone()),
        }
    }

    /// Whether ordinary critical events reach no sink. What an `except` leaves out was meant.
    pub fn loses_critical(&self) -> bool {
        self.reach < Reach::Asked && self.severities.contains(&Severity::Critical)
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sink) = &self.alarms_about {
            return write!(
                f,
                "alarms about sink {sink}: no sink, as it is the only one of [alarms]"
            );
        }
        if !self.everywhere {
            write!(f, "{}: ", self.sources.join(", "))?;
        }
        match self.severities.len() == SEVERITIES.len() {
            true => f.write_str("any severity")?,
            false => f.write_str(&spoken(self.severities.iter().map(|step| step.as_str())))?,
        }
        write!(f, ", {}", self.states)?;
        if let Some(categories) = &self.categories {
            write!(f, ", {categories}")?;
        }
        f.write_str(match self.reach {
            Reach::No => ": no sink",
            Reach::Named => {
                ": no sink but for the users, clusters, shares or addresses that a route names"
            }
            Reach::Asked => ": a sink only if a `when` says so",
            Reach::Excepted => ": no sink for what an `except` leaves out",
            Reach::All => ": all covered",
        })
    }
}

impl Table {
    /// The sorts of events that do not all reach a sink, worst first; empty when all do.
    pub fn coverage(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (source, words) in self.decoders.words() {
            for severity in SEVERITIES {
                self.gaps(source, words, severity).into_iter().for_each(|gap| add(&mut gaps, gap));
            }
        }
        let mut merged = Vec::new();
        gaps.into_iter().for_each(|gap| add_source(&mut merged, gap));
        let sources = self.decoders.words().count();
        merged.iter_mut().for_each(|gap: &mut Gap| gap.everywhere = gap.sources.len() == sources);
        // Stable: worst severities stay first within one reach.
        merged.sort_by_key(|gap| gap.reach);
        merged.extend(self.internal.gaps());
        merged
    }

    /// The gaps of one source and severity: states with the same uncovered categories are one.
    fn gaps(&self, source: &str, words: Words, severity: Severity) -> Vec<Gap> {
        let (states, categories) = (self.states(words, severity), self.categories(words));
        let mut blocks: Vec<Block> = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let reach = |category: &Option<Cow<'static, str>>| {
                let (state, category) = (state.clone(), category.clone());
                self.reach(source, &Finding { severity, state, category, ..Finding::default() })
            };
            note(&mut blocks, index, &categories.iter().map(reach).collect::<Vec<_>>());
        }
        let states: Vec<&str> = states.iter().map(state_name).collect();
        let categories: Vec<&str> =
            categories.iter().map(|word| word.as_deref().unwrap_or("missing")).collect();
        let gap = |block: Block| Gap {
            reach: block.reach,
            severities: vec![severity],
            sources: vec![source.to_owned()],
            states: named("state", &states, &block.states).unwrap_or_else(|| "any state".into()),
            categories: named("category", &categories, &block.categories),
            everywhere: false,
            alarms_about: None,
        };
        blocks.into_iter().map(gap).collect()
    }

    fn reach(&self, source: &str, finding: &Finding) -> Reach {
        if self.unmatched.is_some() {
            return Reach::All;
        }
        let best = self.routes.iter().map(|route| route.reach(source, finding)).max();
        best.unwrap_or(Reach::No)
    }

    /// States that events of this severity can have. What ends an incident is always `info`.
    fn states(&self, words: Words, severity: Severity) -> Vec<State> {
        let mut known: Vec<Cow<'static, str>> =
            words.states.iter().copied().map(Cow::Borrowed).collect();
        for word in self.tests().flat_map(|test| test.states.iter().flatten()) {
            if !known.contains(&Cow::Borrowed(word.as_str())) {
                known.push(Cow::Owned(word.clone()));
            }
        }
        known.extend(words.states.is_empty().then_some(Cow::Borrowed(OTHER)));
        known.retain(|word| severity == Severity::Info || !words.ended.contains(&&**word));
        let known = known.into_iter().map(State::Known);
        known.chain([State::Unknown(OTHER.into()), State::Missing]).collect()
    }

    fn categories(&self, words: Words) -> Vec<Option<Cow<'static, str>>> {
        let mut known: Vec<Cow<'static, str>> =
            words.categories.iter().copied().map(Cow::Borrowed).collect();
        for pattern in self.tests().filter_map(|test| test.categories.as_ref()) {
            for word in pattern.texts().map(|word| word.replace('*', "")) {
                if !word.is_empty() && !known.contains(&Cow::Borrowed(word.as_str())) {
                    known.push(Cow::Owned(word));
                }
            }
        }
        known.extend(words.categories.is_empty().then_some(Cow::Borrowed(OTHER)));
        known.into_iter().map(Some).chain([None]).collect()
    }

    fn tests(&self) -> impl Iterator<Item = &super::Test> {
        self.routes.iter().flat_map(|route| std::iter::once(&route.only).chain(&route.except))
    }
}

impl Route {
    /// How many of the events like `finding`, which names nobody, the route takes.
    fn reach(&self, source: &str, finding: &Finding) -> Reach {
        if !self.only.sort_holds(source, finding, Doubt::Holds) {
            return Reach::No;
        }
        let excepted =
            self.except.as_ref().filter(|it| it.sort_holds(source, finding, Doubt::Fails));
        match excepted {
            Some(except) if !except.asks_names() => Reach::No,
            _ if self.only.asks_names() => Reach::Named,
            _ if self.when.is_some() => Reach::Asked,
            Some(_) => Reach::Excepted,
            None => Reach::All,
        }
    }
}

/// States and categories (by index) of which every pair has the same gap.
struct Block {
    reach: Reach,
    states: BTreeSet<usize>,
    categories: BTreeSet<usize>,
}

/// Add what the events of one state reach, by category.
fn note(blocks: &mut Vec<Block>, state: usize, reached: &[Reach]) {
    for reach in [Reach::No, Reach::Named, Reach::Asked, Reach::Excepted] {
        let categories: BTreeSet<usize> =
            (0..reached.len()).filter(|index| reached[*index] == reach).collect();
        let same = |block: &&mut Block| block.reach == reach && block.categories == categories;
        if categories.is_empty() {
            continue;
        }
        match blocks.iter_mut().find(same) {
            Some(block) => {
                block.states.insert(state);
            }
            None => blocks.push(Block { reach, states: BTreeSet::from([state]), categories }),
        }
    }
}

fn state_name(state: &State) -> &str {
    match state {
        State::Missing => "missing",
        State::Known(word) => word,
        State::Unknown(_) => "unknown",
    }
}

/// `state a or b`, `any state but c`; `None` when it is all of them.
fn named(what: &str, names: &[&str], of: &BTreeSet<usize>) -> Option<String> {
    let left: Vec<&str> =
        (0..names.len()).filter(|index| !of.contains(index)).map(|index| names[index]).collect();
    match left.len() {
        0 => None,
        few if few < of.len() && few <= 4 => Some(format!("any {what} but {}", spoken(left))),
        _ => Some(format!("{what} {}", spoken(of.iter().map(|index| names[*index])))),
    }
}

fn spoken<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => String::new(),
    }
}

/// Severities of one source with the same gap are one line.
fn add(gaps: &mut Vec<Gap>, gap: Gap) {
    let same = |known: &&mut Gap| {
        (known.reach, &known.states, &known.categories) == (gap.reach, &gap.states, &gap.categories)
            && known.sources == gap.sources
    };
    match gaps.iter_mut().find(same) {
        Some(known) => known.severities.extend(gap.severities),
        None => gaps.push(gap),
    }
}

/// So are sources.
fn add_source(gaps: &mut Vec<Gap>, gap: Gap) {
    let same = |known: &&mut Gap| {
        (known.reach, &known.states, &known.categories) == (gap.reach, &gap.states, &gap.categories)
            && known.severities == gap.severities
    };
    match gaps.iter_mut().find(same) {
        Some(known) => known.sources.extend(gap.sources),
        None => gaps.push(gap),
    }
}
