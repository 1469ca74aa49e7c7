//! The destination: reads what it is sent and is content with it, at once or after a while.

use std::time::Duration;

use actix_web::{HttpResponse, web};

/// How long the slow one takes.
const SLOW: Duration = Duration::from_millis(500);

/// `/slow/…` answers late, everything else at once.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/slow/{rest:.*}", web::to(slow)).default_service(web::to(content));
}

async fn content(body: web::Bytes) -> HttpResponse {
    // Each kind looks for its own word in it.
    let answer =
        format!("{{\"text\":\"Success\",\"code\":0,\"successCount\":1,\"bytes\":{}}}", body.len());
    HttpResponse::Ok().content_type("application/json").body(answer)
}

async fn slow(body: web::Bytes) -> HttpResponse {
    tokio::time::sleep(SLOW).await;
    content(body).await
}
