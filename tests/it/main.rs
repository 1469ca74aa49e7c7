//! Whole behaviours, in one binary so that it is linked once.

// A test says what went wrong by panicking, and its tasks end with its runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]
#![allow(clippy::disallowed_macros)]

mod certificates;
mod cli;
mod cli_tools;
mod config;
mod config_cases;
mod coverage;
mod crash;
mod dashboards;
mod dashboards_live;
mod dead_letters;
mod destination;
mod drain;
mod explain;
mod gateway;
mod guide;
mod handshakes;
mod house;
mod incident_order;
mod ingress_auth;
mod ingress_bodies;
mod ingress_doors;
mod ingress_duplicates;
mod ingress_tls;
mod log_common;
mod log_conformance;
mod log_damage;
mod log_faults;
mod log_full;
mod log_limits;
mod log_sim;
mod observed;
mod outages;
mod packaging;
mod peer;
mod pins;
mod poison;
mod presets;
mod products;
mod prometheus;
mod quarantine;
mod receiver;
mod reference;
mod reference_metrics;
mod reload;
mod routes;
mod scale;
mod scripted;
mod sinks;
mod sinks_conformance;
mod sinks_file;
mod sinks_socket;
mod sinks_taegis;
mod sinks_tls;
mod sources;
mod supervised;
mod syslog_servers;
mod vrl;
mod vrl_places;
mod waiting;
mod wire;
mod worker;
