//! `siemgate ledger`: whether every accepted event is accounted for, at every sink.
//!
//! Guarantees: the exit code is 0 only if every difference is 0. A difference counts when it lasts:
//! a worker publishes its books between two steps, so it is looked at again before it is believed.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::admin::Admin;
use super::explain::{list, text};
use super::{Exit, block_on, failed};

/// How often a difference is looked at, and how long apart.
const LOOKS: usize = 5;
const APART: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Path, arguments: &Arguments) -> Exit {
    let answer = match block_on(looked(config)) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    match arguments.json {
        true => println!("{answer:#}"),
        false => tell(&answer),
    }
    let wrong: Vec<String> = wrong(&answer).map(|ledger| text(&ledger["sink"])).collect();
    match wrong.is_empty() {
        true => Exit::Ok,
        false => failed(format!(
            "the ledger does not add up for {}: a bug; please report it with `siemgate support-bundle`",
            wrong.join(", ")
        )),
    }
}

async fn looked(config: &Path) -> Result<Value, Exit> {
    let admin = Admin::of(config)?;
    for _ in 1..LOOKS {
        let answer = admin.get("/api/v1/ledger").await?;
        if wrong(&answer).next().is_none() {
            return Ok(answer);
        }
        tokio::time::sleep(APART).await;
    }
    admin.get("/api/v1/ledger").await
}

/// The ledgers that do not add up.
fn wrong(answer: &Value) -> impl Iterator<Item = &Value> {
    list(&answer["sinks"]).iter().filter(|ledger| ledger["difference"] != 0)
}

fn tell(answer: &Value) {
    for ledger in list(&answer["sinks"]) {
        println!(
            "{}: head {} - start {} = {} delivered + {} dead + {} filtered + {} expired + {} damaged + {} queued; difference {}",
            text(&ledger["sink"]),
            ledger["head"],
            ledger["start"],
            ledger["delivered"],
            ledger["dead"],
            ledger["filtered"],
            ledger["expired"],
            ledger["damaged"],
            ledger["queued"],
            ledger["difference"],
        );
    }
    for left in list(&answer["without_worker"]) {
        println!(
            "{}: not configured; its cursor waits at {} (`siemgate sinks forget` deletes it)",
            text(&left["sink"]),
            left["mark"]
        );
    }
}
