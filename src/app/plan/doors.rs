//! What is wrong with the listeners: addresses named twice, tokens in the open, sinks that lead back.

use std::net::{IpAddr, SocketAddr};

use super::reading::Named;
use super::{SinkPlan, SourcePlan};
use crate::core::config::{OneOrMany, Problem, Problems, ServerSettings};

pub(super) fn listener_problems(server: &ServerSettings) -> Problems {
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
pub(super) fn open_token(server: &ServerSettings) -> Option<Problem> {
    let exposed = !server.admin.ip().is_loopback() && server.admin_tls.is_none();
    (exposed && server.admin_token.is_some()).then(|| {
        Problem::new("server.admin", "the token crosses the network unencrypted")
            .help("set [server.admin_tls], or leave `admin` on 127.0.0.1 and show the network `metrics` only")
    })
}

/// Sources that want client certificates, which no listener asks for.
pub(super) fn without_certificates(
    server: &ServerSettings,
    sources: &Named<SourcePlan>,
) -> Problems {
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
pub(super) fn circles(server: &ServerSettings, sinks: &Named<SinkPlan>) -> Problems {
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
