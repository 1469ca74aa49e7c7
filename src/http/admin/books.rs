//! The books: the ledger of every sink, and a report over a time.
//!
//! Guarantees: only reads; figures are the engine's own, see `Ledger` and `Report`.

use actix_web::web::{self, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Answer, Guarded, guard, unreadable};
use crate::core::Timestamp;
use crate::core::delivery::ledgers;
use crate::core::receipts::Report;

/// The routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/ledger", web::get().to(ledger))
        .route("/api/v1/report", web::get().to(report));
}

async fn ledger((request, admin): Guarded) -> Answer {
    guard(&request, &admin).await?;
    let engine = admin.engine();
    let sinks = ledgers(engine);
    let without = engine.log.stats().deliveries.into_iter();
    let without = without.filter(|(name, _)| !sinks.iter().any(|ledger| *ledger.sink == **name));
    let without: Vec<Value> =
        without.map(|(sink, standing)| json!({ "sink": sink, "mark": standing.mark })).collect();
    Ok(HttpResponse::Ok().json(json!({ "sinks": sinks, "without_worker": without })))
}

/// Over which time.
#[derive(Debug, Deserialize)]
struct Over {
    since: Timestamp,
}

async fn report(request: HttpRequest, admin: Data<Admin>, over: Query<Over>) -> Answer {
    guard(&request, &admin).await?;
    let engine = admin.engine();
    let report = Report::of(engine, over.since, (engine.clock)()).await.map_err(unreadable)?;
    let report = serde_json::to_value(report).unwrap_or_default();
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "config": engine.receipts.config(),
        "receipts": engine.receipts.are_kept(),
        "report": report,
        "ledger": ledgers(engine),
    })))
}
