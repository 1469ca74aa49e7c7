//! The routing table: which sinks want an event, and in what shape.
//!
//! Guarantees: an event goes to each sink at most once, by the first route in name order that
//! names the sink; what no route takes goes to `[unmatched]`; the answer is pure, and computed
//! once per event and table. Filters fail open: see `keys.rs`. A table is never changed: a reload
//! builds another, with another generation.

mod build;
mod coverage;
mod explain;
mod keys;
mod patterns;
mod warnings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use build::schema;
pub use coverage::{Gap, Reach};
pub use explain::{Answer, Verdict};

use crate::core::config::{Problem, Problems, Section};
use crate::core::event::{Draft, Event};
use crate::core::finding::Finding;
use crate::core::route::{Choice, RouteId, Select, Shape, Shaped};
use crate::core::sink::Fault;
use crate::core::source::Decoders;
use build::Names;
use keys::{Doubt, Test};

/// The name of the catch-all, and of the section that fills it.
pub const UNMATCHED: &str = "unmatched";

/// All routes of one configuration.
pub struct Table {
    routes: Vec<Route>,
    unmatched: Option<Route>,
    decoders: Decoders,
    /// Tells this table's answers from those of the tables before and after it.
    generation: u64,
    warnings: Vec<Problem>,
}

/// One `[routes.NAME]`, compiled.
struct Route {
    name: RouteId,
    only: Test,
    except: Option<Test>,
    sinks: Vec<Arc<str>>,
    /// It takes every event.
    plain: bool,
    /// It excludes exactly what it asks for.
    idle: bool,
}

impl Route {
    fn takes(&self, source: &str, finding: &Finding) -> bool {
        let excluded = |except: &Test| except.holds(source, finding, Doubt::Fails);
        self.only.holds(source, finding, Doubt::Holds)
            && !self.except.as_ref().is_some_and(excluded)
    }
}

impl Table {
    /// Build from the tables `[routes]` and `[unmatched]` (empty when absent) and the configured
    /// names of sources and sinks. `decoders` turns stored events back into findings.
    pub fn build(
        routes: &Section,
        unmatched: &Section,
        sources: &[Arc<str>],
        sinks: &[Arc<str>],
        decoders: Decoders,
    ) -> Result<Self, Problems> {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let names = Names { sources, sinks };
        let (routes, unmatched) =
            match (build::routes(routes, names), build::unmatched(unmatched, names)) {
                (Ok(routes), Ok(unmatched)) => (routes, unmatched),
                (routes, unmatched) => {
                    let found = routes.err().into_iter().chain(unmatched.err());
                    return Err(found.flatten().collect());
                }
            };
        let warnings = warnings::of(&routes, unmatched.as_ref(), sinks);
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { routes, unmatched, decoders, generation, warnings })
    }

    /// The answer for `finding` as it comes from `source`. `choose` is this, remembered.
    pub fn pick(&self, source: &str, finding: &Finding) -> Choice {
        let mut picks: Vec<(Arc<str>, RouteId)> = Vec::new();
        let mut taken = false;
        for route in self.routes.iter().filter(|route| route.takes(source, finding)) {
            taken = true;
            add(&mut picks, route);
        }
        if let Some(route) = self.unmatched.as_ref().filter(|_| !taken) {
            add(&mut picks, route);
        }
        Choice::new(picks)
    }

    /// The routes in the order in which they are asked, with their sinks; `unmatched` last.
    pub fn routes(&self) -> impl Iterator<Item = (&RouteId, &[Arc<str>])> {
        self.routes.iter().chain(&self.unmatched).map(|route| (&route.name, route.sinks.as_slice()))
    }

    /// What is correct but probably not meant, for `check`.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Unique among the tables of this process; later tables have higher numbers.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

fn add(picks: &mut Vec<(Arc<str>, RouteId)>, route: &Route) {
    for sink in &route.sinks {
        if !picks.iter().any(|(known, _)| known == sink) {
            picks.push((Arc::clone(sink), Arc::clone(&route.name)));
        }
    }
}

impl Select for Table {
    fn choose(&self, event: &Draft) -> Choice {
        event.chosen_by(self.generation, || self.pick(&event.source, self.decoders.finding(event)))
    }
}

impl Shape for Table {
    /// Raw: no route of this version changes a body.
    fn shape(&self, event: &Arc<Event>, _route: &RouteId) -> Result<Shaped, Fault> {
        // Sinks read the finding from the event; one that was read from disk may not have it yet.
        self.decoders.finding(event);
        Ok(Shaped { event: Arc::clone(event), body: event.body.clone() })
    }
}
