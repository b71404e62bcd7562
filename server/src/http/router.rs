//! Paths and methods, and what holds for every request: its size, one log line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use super::error::ApiError;
use super::{Service, chat, completions, models};

/// All routes.
pub(crate) fn router(service: Arc<Service>) -> Router {
    let (max_body, answered) = (service.max_body, Arc::clone(&service.answered));
    Router::new()
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(max_body))
        .layer(from_fn(move |request, next| refuse_announced_length(max_body, request, next)))
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed on this request").into_response()
        }))
        .layer(from_fn(move |request, next| log_request(Arc::clone(&answered), request, next)))
        .with_state(service)
}

/// Status 413.
pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("request body: found more than {limit} bytes, expected at most that"))
        .with_code("request_too_large")
}

/// Refuses a body by the length in its header, before any of it is read.
async fn refuse_announced_length(limit: usize, request: Request, next: Next) -> Response {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(length) if length > limit as u64 => too_large(limit).into_response(),
        _ => next.run(request).await,
    }
}

async fn no_such_path(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(80).collect();
    ApiError::new(StatusCode::NOT_FOUND, format!("no such path: {path}")).with_code("unknown_url")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{}: {method} is not allowed here", uri.path()))
        .with_code("method_not_allowed")
}

/// One line per request; never its text. A streamed answer is logged when it begins, its end by the engine.
async fn log_request(answered: Arc<AtomicU64>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    // Only models answer to POST.
    if method == Method::POST && response.status().is_success() {
        answered.fetch_add(1, Ordering::Relaxed);
    }
    tracing::info!(%method, path, status = response.status().as_u16(), seconds = start.elapsed().as_secs_f64(), "request");
    response
}
