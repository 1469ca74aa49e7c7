//! Dead letters and the quarantine: listed, shown, dropped; quarantined bodies replayed.
//!
//! Guarantees: a list is bounded and shows no bodies. Replaying dead letters is `dead.rs`'s.

use std::borrow::Cow;

use actix_web::web::{self, Data, Json, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Admin, Answer, Guarded, Told, guard, told, unreadable};
use crate::core::Timestamp;
use crate::core::event::{EventId, Position};
use crate::core::letters::{Labelled, Letter, Letters};

/// The routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/dead", web::get().to(dead_list))
        .route("/api/v1/dead/{number}", web::get().to(dead_show))
        .route("/api/v1/dead/{number}/drop", web::post().to(dead_drop))
        .route("/api/v1/quarantine", web::get().to(quarantine_list))
        .route("/api/v1/quarantine/{number}", web::get().to(quarantine_show))
        .route("/api/v1/quarantine/{number}/replay", web::post().to(quarantine_replay))
        .route("/api/v1/quarantine/{number}/drop", web::post().to(quarantine_drop));
}

/// Which letters to list.
#[derive(Debug, Deserialize)]
struct Selection {
    /// Only this sink's dead letters.
    sink: Option<String>,
    /// Only this source's quarantined bodies.
    source: Option<String>,
    /// From this number on.
    #[serde(default)]
    from: Position,
    /// At most so many, 1,000 at the most.
    limit: Option<usize>,
}

impl Selection {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).min(1_000)
    }
    fn label(&self) -> Option<&str> {
        self.sink.as_deref().or(self.source.as_deref())
    }
}

/// A letter as the API shows it; the body only where one letter is asked for.
#[derive(Serialize)]
struct View<'l, N> {
    number: Position,
    id: EventId,
    source: &'l str,
    received: Timestamp,
    bytes: usize,
    #[serde(flatten)]
    note: &'l N,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'l, str>>,
}

fn view<N>(letter: &Letter<N>, with_body: bool) -> View<'_, N> {
    View {
        number: letter.number,
        id: letter.event.id,
        source: &letter.event.source,
        received: letter.event.received,
        bytes: letter.event.body.len(),
        note: &letter.note,
        body: with_body.then(|| String::from_utf8_lossy(&letter.event.body)),
    }
}

async fn list<N>(letters: &Letters<N>, selection: &Selection) -> Answer
where
    N: Labelled + Serialize + DeserializeOwned,
{
    let all = letters.list(selection.from, selection.label(), selection.limit()).await;
    let all = all.map_err(unreadable)?;
    let open: u64 = letters.counts().values().sum();
    let shown: Vec<_> = all.iter().map(|letter| view(letter, false)).collect();
    Ok(HttpResponse::Ok().json(json!({ "open": open, "letters": shown })))
}

pub(super) async fn one<N>(letters: &Letters<N>, number: u64) -> Result<Letter<N>, Told>
where
    N: Labelled + Serialize + DeserializeOwned,
{
    let found = letters.get(Position(number)).await.map_err(unreadable)?;
    found.ok_or_else(|| told(404, format!("there is no open letter {number}")))
}

async fn close<N>(letters: &Letters<N>, number: u64, how: &str, admin: &Admin) -> Answer
where
    N: Labelled + Serialize + DeserializeOwned,
{
    let now = (admin.engine().clock)();
    match letters.settle(Position(number), how, None, now).await {
        Ok(true) => Ok(HttpResponse::Ok().json(json!({ how: number }))),
        Ok(false) => Err(told(404, format!("there is no open letter {number}"))),
        Err(refusal) => Err(told(503, refusal)),
    }
}

async fn dead_list(
    request: HttpRequest,
    admin: Data<Admin>,
    selection: Query<Selection>,
) -> Answer {
    guard(&request, &admin).await?;
    list(&admin.engine().dead, &selection).await
}

async fn dead_show(request: HttpRequest, admin: Data<Admin>, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    let letter = one(&admin.engine().dead, *number).await?;
    Ok(HttpResponse::Ok().json(Json(view(&letter, true))))
}

async fn dead_drop((request, admin): Guarded, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    close(&admin.engine().dead, *number, "dropped", &admin).await
}

async fn quarantine_list(
    request: HttpRequest,
    admin: Data<Admin>,
    selection: Query<Selection>,
) -> Answer {
    guard(&request, &admin).await?;
    list(&admin.ingress.quarantine, &selection).await
}

async fn quarantine_show(
    request: HttpRequest,
    admin: Data<Admin>,
    number: web::Path<u64>,
) -> Answer {
    guard(&request, &admin).await?;
    let letter = one(&admin.ingress.quarantine, *number).await?;
    Ok(HttpResponse::Ok().json(Json(view(&letter, true))))
}

async fn quarantine_replay((request, admin): Guarded, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    let letter = one(&admin.ingress.quarantine, *number).await?;
    if letter.note.truncated {
        return Err(told(409, "only its beginning was kept; it cannot be replayed"));
    }
    let stored = admin.ingress.replay(&letter.note.source, letter.event.body.clone()).await;
    let accepted = stored.map_err(|error| told(409, error))?;
    close(&admin.ingress.quarantine, *number, "replayed", &admin).await?;
    Ok(HttpResponse::Ok().json(accepted))
}

async fn quarantine_drop((request, admin): Guarded, number: web::Path<u64>) -> Answer {
    guard(&request, &admin).await?;
    close(&admin.ingress.quarantine, *number, "dropped", &admin).await
}
