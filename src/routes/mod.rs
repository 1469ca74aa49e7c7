//! The routing table: which sinks want an event, and in what shape.
//!
//! Guarantees: an event goes to each sink at most once, by the first route in name order that
//! names the sink; what no route takes goes to `[unmatched]`; the answer is pure, and computed
//! once per event and table. Filters fail open: see `keys.rs` for native keys; a `when` without an
//! answer takes the event. Transforms fail closed: an event whose `transform` has no result is
//! never sent as it was. A table is never changed: a reload builds another, with another generation.
//!
//! The gateway's own events pass all of this by: see `internal.rs`.
//!
//! Native keys are asked first, `when` last, so that a body is parsed only for a route that could
//! still take it, and once for all of them. What routes go by is what the source's decoder found in the
//! body as it was received; what a format writes is what it finds after the transform.

mod body;
mod build;
mod coverage;
mod explain;
mod fix;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod internal;
mod keys;
mod patterns;
mod program;
mod warnings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use build::{named_sinks, schema};
pub use coverage::{Gap, Reach};
pub use explain::{Answer, Verdict, WhenVerdict};
pub use fix::Fix;
pub use internal::{ALARMS, HEARTBEAT, Internal};
pub use program::function_names;

use bytes::Bytes;

use crate::core::config::{Problem, Problems, Section};
use crate::core::event::{Draft, Event};
use crate::core::finding::{Finding, Severity};
use crate::core::quiet::Quiet;
use crate::core::route::{Choice, Format, RouteId, Select, Shape, Shaped, Trouble};
use crate::core::sink::{Cause, Fault};
use crate::core::source::Decoders;
use build::Names;
use keys::{Doubt, Test};
use program::{Failure, Filter, Ran, Transform};

/// A rule that takes longer is told of: a filter takes some 5 us, a transform some 30.
const SLOW: Duration = Duration::from_millis(50);

/// The name of the catch-all, and of the section that fills it.
pub const UNMATCHED: &str = "unmatched";

/// All routes of one configuration.
pub struct Table {
    routes: Vec<Route>,
    unmatched: Option<Route>,
    internal: Internal,
    /// Sinks that no route names.
    unused: Vec<Arc<str>>,
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
    when: Option<Filter>,
    transform: Option<Transform>,
    sinks: Vec<Arc<str>>,
    /// How they write it, where the route says so.
    format: Option<&'static Format>,
    /// It takes every event.
    plain: bool,
    /// It excludes exactly what it asks for.
    idle: bool,
    /// Keeps the journal readable when every event is in trouble.
    quiet: Quiet,
}

impl Route {
    /// Whether the native keys take the event.
    fn admits(&self, source: &str, finding: &Finding) -> bool {
        let excluded = |except: &Test| except.holds(source, finding, Doubt::Fails);
        self.only.holds(source, finding, Doubt::Holds)
            && !self.except.as_ref().is_some_and(excluded)
    }

    /// Whether `when` takes the event as well; it does unless it says no.
    fn wants(&self, event: &Draft, troubles: &mut Vec<(RouteId, Trouble)>) -> bool {
        let Some(when) = &self.when else { return true };
        let ran = match event.parsed_by(|| body::parse(&event.body)) {
            Ok(value) => when.holds(&value),
            Err(why) => Ran { result: Err(Failure::Unreadable(why)), took: Duration::ZERO },
        };
        if ran.took > SLOW {
            troubles.push((self.name.clone(), Trouble::Slow));
            self.warn(event, "when", &format!("took {:?}", ran.took));
        }
        ran.result.unwrap_or_else(|failure| {
            troubles.push((self.name.clone(), Trouble::Failed));
            self.warn(event, "when", &format!("{failure}; the route takes the event"));
            true
        })
    }

    /// The body after `transform`.
    fn transformed(&self, transform: &Transform, event: &Draft) -> Result<Bytes, Fault> {
        let ran = match event.use_parsed(|| body::parse(&event.body)) {
            Ok(value) => transform.apply(value),
            Err(why) => Ran { result: Err(Failure::Unreadable(why)), took: Duration::ZERO },
        };
        if ran.took > SLOW {
            self.warn(event, "transform", &format!("took {:?}", ran.took));
        }
        let result = ran.result.map_err(|failure| failure.to_string());
        result.and_then(|value| body::write(&value)).map_err(|why| {
            self.warn(event, "transform", &format!("{why}; the event becomes a dead letter"));
            let note = format!("the transform of route `{}` failed: {why}", self.name);
            Fault::new(Cause::Refused, note)
        })
    }

    /// Tell the journal, without anything of the body.
    fn warn(&self, event: &Draft, key: &'static str, what: &str) {
        if let Some(left_out) = self.quiet.speaks() {
            tracing::warn!(route = %self.name, id = %event.id, left_out, "routes.{}.{key}: {what}", self.name);
        }
    }
}

impl Table {
    /// Build from the tables `[routes]` and `[unmatched]` (empty when absent) and the configured
    /// names of sources and sinks, and the formats there are. `decoders` turns stored events back into findings.
    pub fn build(
        routes: &Section,
        unmatched: &Section,
        sources: &[Arc<str>],
        sinks: &[Arc<str>],
        formats: &'static [&'static Format],
        decoders: Decoders,
    ) -> Result<Self, Problems> {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let names = Names { sources, sinks, formats };
        let ((routes, unmatched), noted) =
            match (build::routes(routes, names), build::unmatched(unmatched, names)) {
                (Ok((routes, noted)), Ok(unmatched)) => ((routes, unmatched), noted),
                (routes, unmatched) => {
                    let found = routes.err().into_iter().chain(unmatched.err());
                    return Err(found.flatten().collect());
                }
            };
        let mut warnings = warnings::of(&routes, unmatched.as_ref());
        warnings.extend(noted);
        let unused = warnings::unused_sinks(&routes, unmatched.as_ref(), sinks);
        let internal = Internal::default();
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { routes, unmatched, internal, unused, decoders, generation, warnings })
    }

    /// The answer of the native keys for `finding` as it comes from `source`, as if every `when`
    /// were true.
    pub fn pick(&self, source: &str, finding: &Finding) -> Choice {
        self.decide(source, finding, |_| true)
    }

    fn decide(
        &self,
        source: &str,
        finding: &Finding,
        mut wants: impl FnMut(&Route) -> bool,
    ) -> Choice {
        let mut picks: Vec<(Arc<str>, RouteId)> = Vec::new();
        let mut taken = false;
        for route in &self.routes {
            if !route.admits(source, finding) || !wants(route) {
                continue;
            }
            taken = true;
            add(&mut picks, route);
        }
        if let Some(route) = self.unmatched.as_ref().filter(|_| !taken) {
            add(&mut picks, route);
        }
        Choice::new(picks)
    }

    /// How many transforms will want the event's parsed body.
    fn uses(&self, choice: &Choice) -> usize {
        let chosen = |route: &&Route| choice.picks().any(|(_, of)| *of == route.name);
        let transforms = self.routes.iter().filter(|route| route.transform.is_some());
        transforms.filter(chosen).count()
    }

    /// The routes that name a format, with their sinks.
    pub fn formats(&self) -> impl Iterator<Item = (&RouteId, &'static Format, &[Arc<str>])> {
        let routes = self.routes.iter().chain(&self.unmatched);
        routes.filter_map(|route| Some((&route.name, route.format?, route.sinks.as_slice())))
    }

    /// The routes in the order in which they are asked, with their sinks; `unmatched` last.
    pub fn routes(&self) -> impl Iterator<Item = (&RouteId, &[Arc<str>])> {
        self.routes.iter().chain(&self.unmatched).map(|route| (&route.name, route.sinks.as_slice()))
    }

    /// What is correct but probably not meant, for `check`.
    pub fn warnings(&self) -> Vec<Problem> {
        let unused = self.unused.iter().filter(|sink| !self.internal.uses(sink));
        self.warnings.iter().cloned().chain(unused.map(warnings::unused)).collect()
    }

    /// The same, knowing that these sinks need no route.
    #[must_use]
    pub fn without_unused(mut self, sinks: &[Arc<str>]) -> Self {
        self.unused.retain(|sink| !sinks.contains(sink));
        self
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
        event.chosen_by(self.generation, || {
            let mut troubles = Vec::new();
            let finding = self.decoders.finding(event);
            if internal::is_internal(event) {
                return self.internal.choose(event);
            }
            let wants = |route: &Route| route.wants(event, &mut troubles);
            let choice = self.decide(&event.source, finding, wants).with_troubles(troubles);
            event.keep_parsed(self.uses(&choice));
            choice
        })
    }
}

impl Shape for Table {
    /// The bytes as they were received, or what the route's transform makes of them, for the
    /// route's format. What routes go by stays that of the received body.
    fn shape(&self, event: &Arc<Event>, route: &RouteId) -> Result<Shaped, Fault> {
        // Sinks read the finding from the event; one that was read from disk may not have it yet.
        let received = self.decoders.finding(event);
        let shaped = Shaped::unshaped(Arc::clone(event));
        if internal::is_internal(event) {
            return Ok(shaped);
        }
        let mut routes = self.routes.iter().chain(&self.unmatched);
        let Some(route) = routes.find(|known| known.name == *route) else { return Ok(shaped) };
        let shaped = shaped.in_format(route.format);
        let Some(transform) = &route.transform else { return Ok(shaped) };
        let make = || route.transformed(transform, event);
        let body = event.made_by(self.generation, &route.name, make)?;
        let finding = reread(received, self.decoders.decode(&event.source, &body));
        Ok(shaped.with_body(body, finding))
    }
}

/// What a transformed body says. It may say less than the event, but a drill stays one, an end too, and the
/// severity changes only where the transform wrote another: without the state that made an event
/// harmless it would look like an alarm.
fn reread(received: &Finding, shaped: Finding) -> Finding {
    let said = shaped.reported_severity;
    let changed = said != Severity::Unknown && said != received.reported_severity;
    Finding {
        severity: if changed { shaped.severity } else { received.severity },
        simulated: shaped.simulated || received.simulated,
        ended: shaped.ended || received.ended,
        ..shaped
    }
}
