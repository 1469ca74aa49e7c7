//! What steers and what explains: reload, forgetting a sink, explanations, the journal.

use actix_web::web::{self, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::{Admin, Answer, Asked, Guarded, Told, guard, told, unreadable};
use crate::core::event::EventId;
use crate::core::log::LogError;
use crate::http::body::{self, BodyError};

/// The routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/-/reload", web::post().to(reload))
        .route("/api/v1/sinks/{name}/forget", web::post().to(sink_forget))
        .route("/api/v1/explain", web::post().to(explain))
        .route("/api/v1/journal", web::get().to(journal));
}

async fn reload((request, admin): Guarded) -> Answer {
    guard(&request, &admin).await?;
    match (admin.reload)().await {
        Ok(change) => Ok(HttpResponse::Ok().json(change)),
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let error = "the configuration is not used; the one before stays in force";
            Ok(HttpResponse::UnprocessableEntity()
                .json(json!({ "error": error, "problems": problems })))
        }
    }
}

async fn journal(request: HttpRequest, admin: Data<Admin>) -> Answer {
    guard(&request, &admin).await?;
    let text = admin.recent.text();
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text))
}

/// What to explain: the body as from this source, or the stored event with this id.
#[derive(Debug, Deserialize)]
struct Question {
    source: Option<String>,
    id: Option<EventId>,
}

async fn explain(
    (request, admin): Guarded,
    question: Query<Question>,
    payload: web::Payload,
) -> Answer {
    guard(&request, &admin).await?;
    let Question { source, id } = question.into_inner();
    // Holds the body's share of the budget until it is explained.
    let mut read = None;
    let asked = match id {
        Some(id) => {
            let found = admin.engine().log.find(id).await.map_err(unreadable)?;
            Asked::Event(found.ok_or_else(|| told(404, format!("the log has no event {id}")))?)
        }
        None => {
            let body = read.insert(read_body(&request, &admin, payload).await?).bytes.clone();
            Asked::Body { source, body }
        }
    };
    let answer = (admin.explain)(asked).map_err(|error| told(400, error))?;
    Ok(HttpResponse::Ok().json(answer))
}

/// Bounded and paid for like a webhook's.
async fn read_body(
    request: &HttpRequest,
    admin: &Admin,
    payload: web::Payload,
) -> Result<body::Body, Told> {
    let (ingress, settings) = (&admin.ingress, admin.ingress.settings.load_full());
    let limit = usize::try_from(settings.body_limit.0).unwrap_or(usize::MAX);
    let timeout = settings.body_timeout.0;
    let read =
        body::read(request, &mut payload.into_inner(), limit, timeout, &ingress.budget).await;
    read.map_err(|error| match error {
        BodyError::TooLarge { .. } => {
            told(413, format!("the body is larger than {}", settings.body_limit))
        }
        BodyError::Broken(error) => told(400, error),
        BodyError::Busy => told(503, "too many bodies at once; try again"),
        BodyError::Late => told(408, "the body did not arrive in time"),
    })
}

/// Delete the cursor of a sink that is not configured any more.
async fn sink_forget((request, admin): Guarded, name: web::Path<String>) -> Answer {
    guard(&request, &admin).await?;
    let log = &admin.engine().log;
    if !log.stats().deliveries.iter().any(|(known, _)| *known == **name) {
        return Err(told(404, format!("there is no cursor of a sink `{name}`")));
    }
    match log.forget(&name).await {
        Ok(()) => Ok(HttpResponse::Ok().json(json!({ "forgotten": *name }))),
        Err(LogError::Taken(_)) => Err(told(
            409,
            format!("sink `{name}` is configured; remove it from the configuration first"),
        )),
        Err(error) => Err(unreadable(error)),
    }
}
