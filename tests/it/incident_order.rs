//! Updates of one incident arrive one after the other, whatever happens in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::gateway::Gateway;
use super::outages::started;
use super::peer::{Answer, Peer, Request};

/// What the destination saw of one incident.
#[derive(Default)]
struct Incident {
    /// No answer has been given before this time.
    busy_until: Option<Instant>,
    overlaps: usize,
    taken: Vec<u64>,
    failures: usize,
}

type Incidents = Arc<Mutex<HashMap<String, Incident>>>;

/// A peer that is slow, and fails each incident's requests now and then with `fault`.
fn watch(peer: &Peer, fault: fn(usize) -> Option<Answer>) -> Incidents {
    let incidents = Incidents::default();
    let seen = incidents.clone();
    peer.answer(move |request: &Request| {
        if request.method != "POST" {
            return Answer::ok("");
        }
        let body = request.json();
        let mut seen = seen.lock().unwrap();
        let incident = seen.entry(body["id"].as_str().unwrap().to_owned()).or_default();
        let now = Instant::now();
        if incident.busy_until.is_some_and(|until| now < until) {
            incident.overlaps += 1;
        }
        let number = body["n"].as_u64().unwrap();
        let delay = Duration::from_millis(5 + number % 7 * 3);
        incident.busy_until = Some(now + delay);
        incident.failures += 1;
        let answer = fault(incident.failures).unwrap_or_else(|| {
            incident.taken.push(number);
            Answer::ok(r#"{"successCount":1}"#)
        });
        answer.after(delay)
    });
    incidents
}

async fn post_updates(gateway: &Gateway, incidents: usize, updates: usize) {
    for update in 0..updates {
        let lines: Vec<String> = (0..incidents)
            .map(|incident| {
                format!(r#"{{"id":"incident-{incident}","severity":"WARNING","state":"WARNING","n":{update}}}"#)
            })
            .collect();
        gateway.post("/webhook", lines.join("\n")).await.ids();
    }
}

fn assert_in_order(incidents: &Incidents, updates: u64) {
    for (name, incident) in incidents.lock().unwrap().iter() {
        assert_eq!(incident.overlaps, 0, "two updates of {name} were in flight together");
        let mut taken = incident.taken.clone();
        taken.dedup();
        assert_eq!(taken, (0..updates).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn updates_of_an_incident_arrive_in_order_while_incidents_go_side_by_side() {
    let peer = Peer::start().await;
    let incidents = watch(&peer, |_| None);
    let gateway = started(peer.port(), "in_flight = 4").await;
    post_updates(&gateway, 6, 20).await;
    gateway.until_settled("out", "delivered", 120).await;
    assert_in_order(&incidents, 20);
    gateway.finish().await;
}

#[tokio::test]
async fn failures_in_between_do_not_change_the_order() {
    let peer = Peer::start().await;
    let incidents = watch(&peer, |request| match request % 9 {
        2 => Some(Answer::new(503, "later")),
        5 => Some(Answer::new(429, "slowly").header("Retry-After", "0")),
        7 => Some(Answer::reset()),
        _ => None,
    });
    let gateway = started(peer.port(), "in_flight = 4").await;
    post_updates(&gateway, 5, 15).await;
    gateway.until_settled("out", "delivered", 75).await;
    assert_in_order(&incidents, 15);
    gateway.finish().await;
}
