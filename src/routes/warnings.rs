//! What a correct table is warned about: probably not meant, but nothing that stops a start.

use std::sync::Arc;

use crate::core::config::Problem;

use super::{Route, UNMATCHED};

/// Everything worth a second look.
pub(super) fn of(routes: &[Route], unmatched: Option<&Route>) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(no_catch_all(routes, unmatched));
    found.extend(unused_unmatched(routes, unmatched));
    found.extend(routes.iter().filter(|route| route.idle).map(excludes_itself));
    found.extend(covered(routes));
    found
}

fn no_catch_all(routes: &[Route], unmatched: Option<&Route>) -> Option<Problem> {
    let caught = unmatched.is_some() || routes.iter().any(|route| route.plain);
    (!caught).then(|| {
        Problem::new(UNMATCHED, "events that no route takes go nowhere")
            .help("add [unmatched] with sinks = [\"NAME\"], such as a file that keeps them")
    })
}

fn unused_unmatched(routes: &[Route], unmatched: Option<&Route>) -> Option<Problem> {
    let plain = routes.iter().find(|route| route.plain)?;
    unmatched.map(|_| {
        Problem::new(
            UNMATCHED,
            format!("is never used, because route `{}` takes every event", plain.name),
        )
        .help("give that route keys, or remove [unmatched]")
    })
}

fn excludes_itself(route: &Route) -> Problem {
    Problem::new(
        format!("routes.{}.except", route.name),
        "excludes exactly what the route asks for",
    )
    .help("remove `except`, or narrow it")
}

/// Routes whose sinks all get every event already, by a route that is asked before.
fn covered(routes: &[Route]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let covers = |before: &&Route| {
            before.plain && route.sinks.iter().all(|sink| before.sinks.contains(sink))
        };
        if let Some(before) = routes[..index].iter().find(covers) {
            let message =
                format!("has no effect: route `{}` gives its sinks every event", before.name);
            found.push(
                Problem::new(format!("routes.{}", route.name), message)
                    .help("remove one of the two"),
            );
        }
    }
    found
}

/// The sinks that no route names.
pub(super) fn unused_sinks(
    routes: &[Route],
    unmatched: Option<&Route>,
    sinks: &[Arc<str>],
) -> Vec<Arc<str>> {
    let used =
        |sink: &Arc<str>| routes.iter().chain(unmatched).any(|route| route.sinks.contains(sink));
    sinks.iter().filter(|sink| !used(sink)).cloned().collect()
}

/// A sink that nothing names.
pub(super) fn unused(sink: &Arc<str>) -> Problem {
    Problem::new(format!("sinks.{sink}"), "gets no events: no route names it")
        .help(format!("add \"{sink}\" to the sinks of a route or of [unmatched]"))
}
