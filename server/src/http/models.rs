//! `/v1/models`: the base and its adapters.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Service;
use super::error::ApiError;

/// All models.
pub(crate) async fn list(State(service): State<Arc<Service>>) -> Json<Value> {
    let data: Vec<Value> = (0..service.names.len()).map(|position| card(&service, position)).collect();
    Json(json!({"object": "list", "data": data}))
}

/// One model.
pub(crate) async fn one(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(name) = name.map_err(|rejection| ApiError::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    Ok(Json(card(&service, service.model(&name)?)))
}

fn card(service: &Service, position: usize) -> Value {
    let parent = (position > 0).then(|| &service.names[0]);
    json!({
        "id": service.names[position],
        "object": "model",
        "created": service.started,
        "owned_by": "sirocco",
        "parent": parent,
        "max_model_len": service.context,
    })
}
