//! What a request must pass before any work is done for it: its content type, a free place, its body in time.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use tokio::time::timeout;

use super::Service;
use super::error::ApiError;
use super::router::too_large;
use crate::engine::Place;

/// A request that has a place in the queue and is received as a whole.
pub(crate) struct Admitted {
    /// Held until the answer is complete.
    pub(crate) place: Place,
    /// The body.
    pub(crate) body: Bytes,
}

impl FromRequest<Arc<Service>> for Admitted {
    type Rejection = ApiError;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Admitted, ApiError> {
        expect_json(request.headers())?;
        let place = service.engine.admit()?;
        let patience = service.body_time;
        let body = timeout(patience, Bytes::from_request(request, service)).await.map_err(|_| {
            let message = format!("request body: not complete after {} seconds", patience.as_secs_f64());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, message).with_code("request_timeout")
        })?;
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(service.max_body),
            status => ApiError::new(status, format!("request body: {}", rejection.body_text())),
        })?;
        Ok(Admitted { place, body })
    }
}

/// A web page of another origin cannot send the content type of JSON unasked, so a page open in a browser cannot use a server
/// on its own machine.
fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("content-type: found {:.60}, expected application/json", kind.escape_debug().to_string());
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}
